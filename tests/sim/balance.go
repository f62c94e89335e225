package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/record"
)

// balancing is the one LoadBalancer of a world that has one.
type balancing struct {
	wanted *padisv1.WantedBalancer
	// directors are among the user's apps.
	directors *padisv1.WantedApp
	forgotten bool
}

// createBalancer makes one in namespace ns1, with its directors on the first network.
func (u *user) createBalancer() {
	w := u.w
	u.cluster.Networks = append(u.cluster.Networks, &padisv1.Network{Name: "edge", Driver: "virtual"})
	u.cluster.Pools = append(u.cluster.Pools, &padisv1.Pool{Name: "vips", Network: "edge", Cidr: "192.0.2.0/24", ReuseDelayMs: []int64{0, 3000}[w.rng.IntN(2)]})
	uid := fmt.Sprintf("%08x-0000-4000-9000-%012x", w.rng.Uint32(), 1)
	u.balancing = &balancing{wanted: &padisv1.WantedBalancer{
		Uid: uid, Namespace: "ns1", Name: "front", TableSize: 53, Seed: w.rng.Uint64(), Scheduler: "maglev", DrainMs: int64(w.rng.IntN(5)) * 1000, MinServers: 1, Dataplane: "auto",
		Listeners: []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: 80, LastPort: 80}}, Vips: []*padisv1.VirtualAddress{{Pool: "vips"}},
	}}
	d := &padisv1.WantedApp{Uid: uid, Namespace: "ns1", Name: "front-director", Directors: true, Revisions: []*padisv1.Revision{{
		Hash: "d1", Template: &padisv1.Template{Director: true, Command: []string{"/proc/self/exe", "director"}, Resources: &padisv1.Resources{CpuMilli: 100, MemoryMib: 32}, Stop: &padisv1.Stop{GracePeriodMs: 2000}},
		Networks: []*padisv1.NetworkWish{{Pool: "pool1"}}, Restart: &padisv1.RestartPolicy{InitialDelayMs: 300, MaxDelayMs: 5000, StableAfterMs: 10000},
	}}}
	scale(d, 1+w.rng.IntN(2))
	u.balancing.directors = d
	u.apps = append(u.apps, d)
	u.rebalance()
}

// rebalance changes what is wanted of the LoadBalancer.
func (u *user) rebalance() {
	rng, n := u.w.rng, proto.CloneOf(u.balancing.wanted)
	n.Vips, n.Backends = nil, nil
	for i := range 1 + rng.IntN(2) {
		v := &padisv1.VirtualAddress{Pool: "vips"}
		if rng.IntN(2) == 0 {
			v.Address = "192.0.2." + strconv.Itoa(10*(i+1)+rng.IntN(3))
		}
		n.Vips = append(n.Vips, v)
	}
	for i := range 8 { // In ns1 are app1, app4, app7 ...
		if rng.IntN(4) != 0 {
			n.Backends = append(n.Backends, &padisv1.Backend{App: "app" + strconv.Itoa(3*i+1), Weight: int32(50 * (1 + rng.IntN(3)))})
		}
	}
	n.Listeners[0].FirstPort = int32(80 + rng.IntN(2))
	n.Listeners[0].LastPort = 90
	u.balancing.wanted = n
	u.tellBalancer()
}

// tellBalancer tells the scheduler of it, as reconcilers do again and again.
func (u *user) tellBalancer() {
	switch b := u.balancing; {
	case b == nil:
	case b.forgotten:
		u.w.sched.take(core.ForgetBalancer{UID: b.wanted.GetUid()})
	default:
		u.w.sched.take(core.WantBalancer{Balancer: b.wanted})
	}
}

// vipsOf are the VIPs that the instances of an app shall have on their loopback.
func (u *user) vipsOf(a *padisv1.WantedApp) []string {
	b := u.balancing
	if b == nil || b.forgotten || a.Directors || a.Namespace != "ns1" || !slices.ContainsFunc(b.wanted.Backends, func(k *padisv1.Backend) bool { return k.App == a.Name }) {
		return nil
	}
	var out []string
	v, _ := u.w.sched.loop.Core().Balance(b.wanted.GetUid())
	for _, x := range v.VIPs {
		if x.Address != "" {
			out = append(out, x.Address)
		}
	}
	return out
}

// instructed takes in a Balance.
func (ex *executor) instructed(b *padisv1.Balance) {
	w := ex.agent.host.w
	least := w.between(time.Millisecond, 60*time.Millisecond)
	ex.after(least, func() {
		if ex.dead {
			return
		}
		if b.GetDirector() != nil {
			if b.GetNumber() >= ex.directs.GetNumber() {
				ex.directs = b
			}
			ex.direct()
		} else if b.GetNumber() >= ex.relayed {
			ex.relayed = b.GetNumber()
			// What it has in the kernel survives it.
			ex.agent.host.relayed = max(ex.agent.host.relayed, b.GetNumber())
		}
		ex.report()
	})
}

// direct hands the newest Balance to the directors that are there.
func (ex *executor) direct() {
	for _, task := range ex.directs.GetDirector().GetTasks() {
		if r := ex.runs[task]; r != nil && r.running && !r.ended && r.balance.GetNumber() < ex.directs.GetNumber() {
			r.balance = ex.directs
			ex.agent.host.w.truth.directs(r)
		}
	}
}

// balances is what the executor says of it.
func (ex *executor) balances() []*padisv1.BalanceState {
	b := ex.agent.host.w.user.balancing
	if b == nil {
		return nil
	}
	ex.direct()
	st := &padisv1.BalanceState{Uid: b.wanted.GetUid(), Number: ex.relayed}
	for _, id := range slices.Sorted(maps.Keys(ex.runs)) {
		if r := ex.runs[id]; r.launch.GetTemplate().GetDirector() && r.running {
			st.Directors = append(st.Directors, &padisv1.DirectorState{TaskId: id, Number: r.balance.GetNumber()})
		}
	}
	return []*padisv1.BalanceState{st}
}

// undirected drops what the executor is not told to have any more.
func (ex *executor) undirected(wish *padisv1.ToExecutor) {
	if len(wish.GetBalancers()) == 0 {
		ex.relayed = 0
	}
	if len(wish.GetDirected()) == 0 {
		ex.directs = nil
	}
}

// directs checks what a director has just put in force: whoever flows may be sent to has a host that can send them on, and the VIPs.
func (t *truth) directs(r *run) {
	b := r.balance
	t.w.note("director %s has number %d", r.id, b.GetNumber())
	if len(b.GetTcp()) == 0 {
		return
	}
	g, err := lb.Decode(b.GetTcp())
	if err != nil {
		t.w.violate("table %d: %v", b.GetNumber(), err)
		return
	}
	for _, s := range g.Servers {
		h, real := t.host(s.ID)
		if h == nil || s.State == lb.Suspect {
			continue
		}
		if h.relayed < b.GetNumber() {
			t.w.violate("director %s has number %d, and %s of %s server %s only %d", r.id, b.GetNumber(), h.name, s.State, s.ID, h.relayed)
		}
		for _, x := range b.GetServices() {
			if s.State == lb.Serving && real != nil && !slices.Contains(real.shape.loopbacks, x.GetVip()) {
				t.w.violate("director %s has number %d with server %s, which does not have %s", r.id, b.GetNumber(), s.ID, x.GetVip())
			}
		}
	}
}

// host is where something runs, and its run, if it has one; nil if nowhere.
func (t *truth) host(id string) (*host, *run) {
	for _, h := range t.w.hosts {
		if ex := h.agent.exec; ex != nil && !ex.dead {
			for _, key := range slices.Sorted(maps.Keys(ex.runs)) {
				if r := ex.runs[key]; r.running && !r.ended && r.owner() == id {
					return h, r
				}
			}
		}
		if h.containers[id] != nil && !h.containers[id].exited {
			return h, nil
		}
	}
	return nil, nil
}

// unlooped checks that nothing takes a VIP from an instance that a director may still send to for it.
func (t *truth) unlooped(r *run, now []string) {
	for _, h := range t.w.hosts {
		ex := h.agent.exec
		if ex == nil || ex.dead {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(ex.runs)) {
			d := ex.runs[id]
			if d.ended || len(d.balance.GetTcp()) == 0 {
				continue
			}
			g, err := lb.Decode(d.balance.GetTcp())
			if err != nil {
				t.w.violate("table: %v", err)
				return
			}
			for _, x := range d.balance.GetServices() {
				serves := slices.ContainsFunc(g.Servers, func(s lb.Server) bool { return s.ID == r.owner() && s.State == lb.Serving })
				if serves && slices.Contains(r.shape.loopbacks, x.GetVip()) && !slices.Contains(now, x.GetVip()) {
					t.w.violate("%s is taken from %s, and director %s sends to it by number %d", x.GetVip(), r.owner(), d.id, d.balance.GetNumber())
				}
			}
		}
	}
}

// unbalanced says what of the LoadBalancer is not as it is wanted; empty if all is.
func (u *user) unbalanced() string {
	b := u.balancing
	if b == nil {
		return ""
	}
	uid := b.wanted.GetUid()
	v, ok := u.w.sched.loop.Core().Balance(uid)
	if b.forgotten {
		if ok || u.w.store.data[record.BalanceKey(uid)] != nil || u.w.store.data[record.BalancerKey(uid)] != nil {
			return "the LoadBalancer is not forgotten"
		}
		return ""
	}
	rec, _ := u.w.store.data[record.BalanceKey(uid)].(*padisv1.BalanceRecord)
	if !ok || rec.GetNumber() != v.Record.GetNumber() || v.Problem != "" {
		return "nothing is decided: " + v.Problem
	}
	for _, x := range v.VIPs {
		if x.Reason != "" {
			return fmt.Sprintf("VIP %s: %s: %s", x.Address, x.Reason, x.Message)
		}
	}
	if len(rec.GetServices()) != len(v.VIPs) || len(rec.GetFormer()) > 0 || len(rec.GetVips()) != len(v.VIPs) {
		return fmt.Sprintf("services %v, former %v, VIPs %v", rec.GetServices(), rec.GetFormer(), rec.GetVips())
	}
	for _, s := range v.Servers {
		if s.Phase == padisv1.Phase_RUNNING && s.Ready && s.Backend >= 0 && s.Address != "" && (!s.InTable || s.State != lb.Serving) {
			return fmt.Sprintf("real server %s is %s in the table %v: %s: %s", s.Instance, s.State, s.InTable, s.Why, s.Say)
		}
		if s.InTable && s.Backend < 0 {
			return fmt.Sprintf("%s is in the table, and nobody selects it", s.Instance)
		}
	}
	for _, s := range rec.GetServers() {
		if h, _ := u.w.truth.host(s.GetId()); h == nil || h.relayed < rec.GetNumber() {
			return fmt.Sprintf("real server %s is nowhere, or its host has not number %d", s.GetId(), rec.GetNumber())
		}
	}
	for _, h := range u.w.hosts {
		ex := h.agent.exec
		if ex == nil || ex.dead {
			continue
		}
		for _, r := range ex.runs {
			if r.launch.GetTemplate().GetDirector() && r.running && r.balance.GetNumber() != rec.GetNumber() {
				return fmt.Sprintf("director %s has number %d instead of %d", r.id, r.balance.GetNumber(), rec.GetNumber())
			}
		}
	}
	return ""
}

// isVIP tells whether a lease is one of the LoadBalancer's.
func (u *user) isVIP(key string) bool {
	l, _ := u.w.store.data[key].(*padisv1.LeaseRecord)
	if u.balancing == nil || u.balancing.forgotten || l.GetAppUid() != record.VIPs(u.balancing.wanted.GetUid()).AppUID {
		return false
	}
	v, _ := u.w.sched.loop.Core().Balance(u.balancing.wanted.GetUid())
	return cmp.Or(l.GetReleasedMs(), 0) == 0 && len(v.VIPs) > 0 && slices.ContainsFunc(v.Record.GetVips(), func(a string) bool { return a == l.GetAddress() })
}
