package sim

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
)

// shape is what may change of an instance's network while it runs.
type shape struct {
	loopbacks  []string
	bandwidths []*padisv1.Bandwidth
}

func launchedShape(l *padisv1.Launch) shape {
	s := shape{loopbacks: l.GetLoopbackAddresses()}
	for _, at := range l.GetAttachments() {
		s.bandwidths = append(s.bandwidths, at.GetBandwidth())
	}
	return s
}

func (s shape) equal(o shape) bool {
	return slices.Equal(s.loopbacks, o.loopbacks) && slices.EqualFunc(s.bandwidths, o.bandwidths, func(x, y *padisv1.Bandwidth) bool {
		return x.GetIngress() == y.GetIngress() && x.GetEgress() == y.GetEgress()
	})
}

// after lets the executor do something later; not while it is stalled, and not when it is dead.
func (ex *executor) after(d time.Duration, do func()) {
	ex.agent.host.w.after(d, func() { ex.when(do) })
}

// when does something now, or as soon as the executor goes on.
func (ex *executor) when(do func()) {
	switch {
	case ex.dead:
	case ex.stalled:
		ex.missed = append(ex.missed, do)
	default:
		do()
	}
}

// stall stops the executor's process for a while. The kernel goes on.
func (h *host) stall(d time.Duration) {
	ex := h.agent.exec
	if h.off || ex == nil || ex.dead || ex.stalled {
		return
	}
	h.w.fault("executor on %s stalls for %s", h.name, d)
	ex.stalled = true
	h.w.after(d, func() {
		if ex.dead {
			return
		}
		h.w.note("executor on %s goes on", h.name)
		ex.stalled = false
		missed := ex.missed
		ex.missed = nil
		for _, do := range missed {
			ex.when(do)
		}
	})
}

// configure puts an address on the host. With a lease the kernel takes it away by itself.
func (h *host) configure(addr, owner string, until time.Time) {
	h.w.truth.configured(h, addr, owner, !until.IsZero())
	h.addresses[addr] = owner
	delete(h.valid, addr)
	if !until.IsZero() {
		h.extend(addr, owner, until)
	}
}

// extend sets the lifetime of an address that is there.
func (h *host) extend(addr, owner string, until time.Time) {
	h.valid[addr] = until
	// Kernels look by the second or so.
	h.w.after(until.Sub(h.w.now)+h.w.between(0, 2*time.Second), func() {
		if v, leased := h.valid[addr]; leased && h.addresses[addr] == owner && !v.After(h.w.now) {
			h.w.note("the kernel of %s takes %s away", h.name, addr)
			h.unconfigure(addr)
		}
	})
}

func (h *host) unconfigure(addr string) {
	h.w.truth.deconfigured(h, addr, h.addresses[addr])
	delete(h.addresses, addr)
	delete(h.valid, addr)
}

// lease is how long a launch may use its addresses; 0 is for ever.
func lease(l *padisv1.Launch) time.Duration { return time.Duration(l.GetLeaseMs()) * time.Millisecond }

// covered tells until when a launch may use its addresses; the zero time is for ever.
func (ex *executor) covered(l *padisv1.Launch) (until time.Time, ok bool) {
	if lease(l) == 0 {
		return time.Time{}, true
	}
	until = ex.granted.Add(lease(l))
	return until, !ex.granted.IsZero() && ex.agent.host.w.now.Before(until)
}

// leased are the runs with a lease, by id.
func (ex *executor) leased() []*run {
	var rs []*run
	for _, id := range slices.Sorted(maps.Keys(ex.runs)) {
		if r := ex.runs[id]; !r.ended && lease(r.launch) > 0 {
			rs = append(rs, r)
		}
	}
	return rs
}

// renew asks for a renewal now, and again as long as there are leases.
func (ex *executor) renew() {
	ex.ask()
	if ex.renewing {
		return
	}
	ex.renewing = true
	ex.renewLater()
}

func (ex *executor) renewLater() {
	all := ex.leased()
	if len(all) == 0 {
		ex.renewing = false
		return
	}
	least := lease(all[0].launch)
	for _, r := range all {
		least = min(least, lease(r.launch))
	}
	ex.after(least/3, func() {
		ex.ask()
		ex.renewLater()
	})
}

// ask sends a request for renewal.
func (ex *executor) ask() {
	w := ex.agent.host.w
	// It grows from one executor to the next, so that none takes the answer to another for its own.
	ex.serial = max(ex.serial+1, w.now.UnixNano())
	ex.asked[ex.serial] = w.now
	data, err := padisv1.Encode(&padisv1.FromExecutor{Renew: &padisv1.Renewal{Serial: ex.serial}})
	if err != nil {
		w.violate("request for renewal: %v", err)
		return
	}
	ex.speak(data)
}

// speak sends a message to the scheduler. It may be lost.
func (ex *executor) speak(data []byte) {
	a, w := ex.agent, ex.agent.host.w
	if !a.hears() || w.chance(0.02) {
		return
	}
	a.link.send(w, func() {
		if a.hears() {
			w.mesos.tell(mesos.FromExecutor{AgentID: a.id, ExecutorID: ex.id, Data: data})
		}
	})
}

// renewed takes in a renewal: it counts from when it was asked for.
func (ex *executor) renewed(serial int64) {
	sent, ok := ex.asked[serial]
	if !ok {
		return // An earlier executor asked, or a later answer came first.
	}
	maps.DeleteFunc(ex.asked, func(n int64, _ time.Time) bool { return n <= serial })
	ex.granted = sent
	for _, r := range ex.leased() {
		until, ok := ex.covered(r.launch)
		switch {
		case !ok || r.stopping:
		case r.waits:
			r.waits = false
			ex.attach(r)
		case r.running && ex.complete(r) && !r.silenced:
			for _, addr := range r.addresses {
				ex.agent.host.extend(addr, r.owner(), until)
			}
			ex.expireLater(r)
		case r.running:
			ex.recover(r)
		}
	}
}

// complete tells whether all addresses of a run are on its host.
func (ex *executor) complete(r *run) bool {
	return !slices.ContainsFunc(r.addresses, func(addr string) bool { return ex.agent.host.addresses[addr] != r.owner() })
}

// expireLater makes the executor take the addresses of a run down when its lease is over.
func (ex *executor) expireLater(r *run) {
	w := ex.agent.host.w
	until, _ := ex.covered(r.launch)
	wait := until.Sub(w.now)
	if ex.granted.IsZero() {
		wait = lease(r.launch)
	}
	ex.after(wait, func() {
		if _, ok := ex.covered(r.launch); ok || r.ended || r.silenced || !r.running {
			return
		}
		r.silenced = true
		w.note("lease of %s is over", r.id)
		for _, addr := range r.addresses {
			if ex.agent.host.addresses[addr] == r.owner() {
				ex.agent.host.unconfigure(addr)
			}
		}
		ex.agent.update(r.id, mesos.TaskRunning, "SOURCE_EXECUTOR", "", &padisv1.InstanceReport{Reason: padisv1.ReasonLeaseExpired, Message: "its lease is over", Container: r.launch.GetContainer()})
	})
}

// recover gives a run its addresses back, after a probe.
func (ex *executor) recover(r *run) {
	h := ex.agent.host
	until, ok := ex.covered(r.launch)
	if !ok || r.ended || r.stopping || !r.running || ex.complete(r) && !r.silenced {
		return
	}
	for _, addr := range r.addresses {
		if h.addresses[addr] != r.owner() && h.w.truth.answers(h, addr) {
			ex.after(time.Second, func() { ex.recover(r) })
			return
		}
	}
	for _, addr := range r.addresses {
		if h.addresses[addr] == r.owner() {
			h.extend(addr, r.owner(), until)
		} else {
			h.configure(addr, r.owner(), until)
		}
	}
	r.silenced = false
	ex.expireLater(r)
	ex.becomeReady(r)
	ex.reportSoon()
}

// reportSoon is for what often changes several times in a row.
func (ex *executor) reportSoon() {
	if ex.reporting {
		return
	}
	ex.reporting = true
	ex.after(50*time.Millisecond, func() {
		ex.reporting = false
		ex.report()
	})
}

// own are the addresses of the host's own interfaces.
func (h *host) own() []*padisv1.HostAddress {
	out := []*padisv1.HostAddress{{Interface: "lo", Address: "127.0.0.1/8"}, {Interface: "eth0", Address: h.endpoint() + "/24"}}
	if h.stray != "" {
		out = append(out, &padisv1.HostAddress{Interface: "br9", Address: h.stray + "/24"})
	}
	return out
}

// endpoint is where the tunnels of the host end.
func (h *host) endpoint() string { return "192.168.0." + strconv.Itoa(h.index+1) }

// used are the addresses of the instances on the host.
func (h *host) used() []*padisv1.UsedAddress {
	var out []*padisv1.UsedAddress
	for _, addr := range slices.Sorted(maps.Keys(h.addresses)) {
		out = append(out, &padisv1.UsedAddress{Container: h.addresses[addr], Network: h.w.network(addr), Address: addr})
	}
	return out
}

// network is the name of the network of an address: no two pools overlap.
func (w *World) network(addr string) string {
	for _, p := range w.user.cluster.GetPools() {
		if i := len(p.Cidr) - len("0/24"); len(addr) > i && addr[:i] == p.Cidr[:i] {
			return p.Network
		}
	}
	return ""
}

// clash lets executors notice, after a network is whole again, that others use addresses of theirs.
func (w *World) clash() {
	w.after(w.between(10*time.Millisecond, 300*time.Millisecond), func() {
		for _, h := range w.hosts {
			ex := h.agent.exec
			if ex == nil || ex.dead || !ex.ready {
				continue
			}
			for _, addr := range slices.Sorted(maps.Keys(h.addresses)) {
				for _, o := range w.hosts {
					if _, has := o.addresses[addr]; !has || o == h || !o.reaches(h) || ex.conflicts[addr] {
						continue
					}
					w.note("%s sees %s on the wire, which it has itself", h.name, addr)
					ex.conflicts[addr] = true
					ex.reportSoon()
					ex.after(20*time.Second, func() {
						delete(ex.conflicts, addr)
						ex.reportSoon()
					})
				}
			}
		}
	})
}

// rewire takes in what is wanted of the networks of what runs.
func (ex *executor) rewire(wish *padisv1.ToExecutor) {
	for _, n := range wish.GetNetworks() {
		for _, r := range ex.runs {
			if r.running && !r.ended && r.owner() == n.GetContainer() {
				ex.agent.host.w.truth.unlooped(r, n.GetLoopbackAddresses())
				r.shape = shape{n.GetLoopbackAddresses(), n.GetBandwidths()}
			}
		}
	}
	for _, o := range wish.GetOverlays() {
		ex.overlays[o.GetNetwork()] = o
	}
}

// unwired says what is not as it is wanted in the networks of what runs; empty if all is.
func (w *World) unwired() string {
	at := map[string]map[*host][]string{}
	for _, h := range w.hosts {
		for _, addr := range h.seats() {
			n := w.network(addr)
			if at[n] == nil {
				at[n] = map[*host][]string{}
			}
			at[n][h] = append(at[n][h], addr)
		}
	}
	for _, n := range w.user.cluster.GetNetworks() {
		if n.GetDriver() != "vxlan" {
			continue
		}
		for _, h := range w.hosts {
			if len(at[n.GetName()][h]) == 0 {
				continue
			}
			want := &padisv1.Overlay{Network: n.GetName()}
			for _, o := range w.hosts {
				if list := at[n.GetName()][o]; o != h && len(list) > 0 {
					want.Hosts = append(want.Hosts, &padisv1.OverlayHost{Endpoint: o.endpoint(), Addresses: list})
				}
			}
			slices.SortFunc(want.Hosts, func(x, y *padisv1.OverlayHost) int { return compare(x.GetEndpoint(), y.GetEndpoint()) })
			if ex := h.agent.exec; ex == nil || !proto.Equal(ex.overlays[n.GetName()], want) {
				return "the overlay of " + n.GetName() + " on " + h.name + " is not what it shall be"
			}
		}
	}
	return w.alien()
}

// seats are the addresses of what runs on the host, whether its lease lets it use them or not.
func (h *host) seats() []string {
	var out []string
	for _, b := range h.containers {
		out = append(out, b.addresses...)
	}
	if ex := h.agent.exec; ex != nil {
		for _, r := range ex.runs {
			if r.box == nil {
				out = append(out, r.addresses...)
			}
		}
	}
	slices.Sort(out)
	return out
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// alien says which address that hosts have themselves is not known to be foreign, of those where something runs, or said to be in conflict without
// being so; empty if none is.
func (w *World) alien() string {
	c := w.sched.loop.Core()
	for _, h := range w.hosts {
		if ex := h.agent.exec; h.stray == "" || ex == nil || len(ex.runs) == 0 || w.network(h.stray) == "" {
			continue
		}
		st, _ := c.AddressState(core.Address{Network: w.network(h.stray), Address: h.stray})
		if st.State != "foreign" && !(st.State == "allocated" && st.Conflict != "") {
			return h.stray + ", which " + h.name + " has itself, is " + string(st.State)
		}
	}
	for _, at := range c.Addresses() {
		st, _ := c.AddressState(at)
		own := slices.ContainsFunc(w.hosts, func(h *host) bool { return h.stray == at.Address })
		if !own && (st.State == "foreign" || st.Conflict != "") {
			return at.Address + " is " + string(st.State) + ": " + st.Note + st.Conflict
		}
	}
	return ""
}
