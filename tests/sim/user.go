package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/api/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// user is everybody who declares something, and the reconcilers, which repeat it until it is heard.
type user struct {
	w       *World
	cluster *padisv1.Cluster
	// accepted is the cluster as the ledger has it: what launches are held to.
	accepted *padisv1.Cluster
	apps     []*padisv1.WantedApp
	deleted  []string
	serial   int
	// balancing is the LoadBalancer; nil if there is none.
	balancing *balancing
}

func newUser(w *World) *user {
	return &user{w: w, cluster: &padisv1.Cluster{}, accepted: &padisv1.Cluster{}}
}

// returned is called when a scheduler has started: the reconcilers tell it everything again.
func (u *user) returned() {
	u.w.sched.take(core.Declare{Cluster: u.cluster})
	u.tellBalancer()
	for _, a := range u.apps {
		u.w.sched.take(core.Want{App: a})
	}
	for _, uid := range u.deleted {
		u.w.sched.take(core.Forget{AppUID: uid})
	}
}

// resync repeats what is wanted now and then, as level-triggered reconcilers do.
func (u *user) resync() {
	u.w.after(7*time.Second, func() {
		u.returned()
		u.resync()
	})
}

// wants tells the scheduler what is wanted of one app.
func (u *user) wants(a *padisv1.WantedApp) {
	a.Generation++
	u.w.note("user wants %s: %d slots, revisions %s", a.GetName(), len(a.GetSlots()), hashes(a))
	u.w.sched.take(core.Want{App: a})
}

func hashes(a *padisv1.WantedApp) string {
	var hs []string
	for _, r := range a.GetRevisions() {
		hs = append(hs, r.GetHash())
	}
	return strings.Join(hs, ",")
}

func (u *user) declare() {
	u.w.note("user declares networks and tenants")
	u.w.sched.take(core.Declare{Cluster: proto.Clone(u.cluster).(*padisv1.Cluster)})
}

func (u *user) forget(a *padisv1.WantedApp) {
	u.w.note("user deletes %s", a.GetName())
	u.apps = slices.DeleteFunc(u.apps, func(o *padisv1.WantedApp) bool { return o == a })
	u.deleted = append(u.deleted, a.GetUid())
	u.w.sched.take(core.Forget{AppUID: a.GetUid()})
}

// scale sets the number of slots; all of them want the newest revision.
func scale(a *padisv1.WantedApp, n int) {
	rev := a.Revisions[len(a.Revisions)-1].Hash
	old := a.Slots
	a.Slots = nil
	for i := range n {
		r := rev
		if i < len(old) {
			r = old[i].Revision
		}
		a.Slots = append(a.Slots, &padisv1.WantedSlot{Index: int32(i), Revision: r})
	}
}

// change gives the app a new template, and the first n slots of it.
func (u *user) change(a *padisv1.WantedApp, n int) {
	u.serial++
	next := proto.Clone(a.Revisions[len(a.Revisions)-1]).(*padisv1.Revision)
	next.Hash = "r" + strconv.Itoa(u.serial)
	if next.Template.Image != "" && u.w.rng.IntN(2) == 0 {
		next.Template.Image = "registry/app:" + strconv.Itoa(u.serial)
	}
	next.Template.Env = []*padisv1.EnvVar{{Name: "REVISION", Value: next.Hash}}
	a.Revisions = append(a.Revisions, next)
	if len(a.Revisions) > 3 {
		a.Revisions = a.Revisions[1:]
		for _, s := range a.Slots {
			if !slices.ContainsFunc(a.Revisions, func(r *padisv1.Revision) bool { return r.Hash == s.Revision }) {
				s.Revision = next.Hash
			}
		}
	}
	for i, s := range a.Slots {
		if i < n {
			s.Revision = next.Hash
		}
	}
}

// create makes an app of random wishes.
func (u *user) create() *padisv1.WantedApp {
	w := u.w
	u.serial++
	uid := fmt.Sprintf("%08x-0000-4000-8000-%012x", w.rng.Uint32(), u.serial)
	a := &padisv1.WantedApp{Uid: uid, Namespace: "ns" + strconv.Itoa(u.serial%3), Name: "app" + strconv.Itoa(u.serial)}
	rev := &padisv1.Revision{
		Hash:     "r" + strconv.Itoa(u.serial),
		Template: &padisv1.Template{Command: []string{"serve"}, Resources: &padisv1.Resources{CpuMilli: 100 + 100*int64(w.rng.IntN(4)), MemoryMib: 32 << w.rng.IntN(3)}, Stop: &padisv1.Stop{GracePeriodMs: 2000}},
		Restart:  &padisv1.RestartPolicy{InitialDelayMs: 300, MaxDelayMs: 5000, StableAfterMs: 10000},
	}
	if w.rng.IntN(3) != 0 {
		rev.Template.Image = "registry/app:" + strconv.Itoa(u.serial)
	}
	n := 1 + w.rng.IntN(5)
	if names := len(u.cluster.GetTenants()); names > 0 && w.rng.IntN(2) == 0 {
		a.Tenant = u.cluster.Tenants[w.rng.IntN(names)].Name
	}
	if pools := u.pools(); pools > 0 && w.rng.IntN(8) != 0 {
		rev.Networks = []*padisv1.NetworkWish{{Pool: u.cluster.Pools[w.rng.IntN(pools)].Name}}
		if pools > 1 && w.rng.IntN(6) == 0 {
			rev.Networks = append(rev.Networks, &padisv1.NetworkWish{Pool: u.cluster.Pools[w.rng.IntN(pools)].Name})
		}
	}
	if len(rev.Networks) == 0 && w.rng.IntN(2) == 0 {
		rev.Networks = []*padisv1.NetworkWish{{Network: "host"}}
		rev.Template.Ports = []*padisv1.Port{{Name: "web", Port: int32(8000 + w.rng.IntN(2))}}
	}
	u.live(a)
	u.policy(a)
	switch w.rng.IntN(9) {
	case 0:
		rev.Constraints = []*padisv1.Constraint{{Attribute: "hostname", Operator: padisv1.Constraint_UNIQUE}}
	case 1:
		rev.Constraints = []*padisv1.Constraint{{Attribute: "rack", Operator: padisv1.Constraint_MAX_PER, Value: "2"}}
	case 2:
		rev.Constraints = []*padisv1.Constraint{{Attribute: "rack", Operator: padisv1.Constraint_CLUSTER}}
	case 3:
		rev.Constraints = []*padisv1.Constraint{{Attribute: "hostname", Operator: padisv1.Constraint_GROUP_BY}}
	case 4:
		rev.Constraints = []*padisv1.Constraint{{Attribute: "rack", Operator: padisv1.Constraint_LIKE, Value: "r1|r2"}}
	case 5:
		rev.Constraints = []*padisv1.Constraint{{Attribute: "hostname", Operator: padisv1.Constraint_UNLIKE, Value: "host1"}}
	}
	a.Revisions = []*padisv1.Revision{rev}
	scale(a, n)
	u.apps = append(u.apps, a)
	return a
}

// pools counts those for instances, which come first.
func (u *user) pools() int {
	n := len(u.cluster.GetPools())
	if u.balancing != nil {
		n--
	}
	return n
}

// live changes what changes without a restart.
func (u *user) live(a *padisv1.WantedApp) {
	rng := u.w.rng
	a.LoopbackAddresses, a.Bandwidths = nil, nil
	if rng.IntN(3) == 0 {
		a.LoopbackAddresses = []string{"10.9.0." + strconv.Itoa(1+rng.IntN(9))}
	}
	if rng.IntN(3) == 0 {
		a.Bandwidths = []*padisv1.Bandwidth{{Ingress: int64(1+rng.IntN(9)) * 1e6}}
	}
}

// policy says what becomes of instances on agents that do not answer.
func (u *user) policy(a *padisv1.WantedApp) {
	rng := u.w.rng
	a.Unreachable = nil
	switch rng.IntN(6) {
	case 0:
		a.Unreachable = &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_NEVER}
	case 1:
		a.Unreachable = &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_AFTER, AfterMs: int64(rng.IntN(20)) * 1000}
	case 2, 3:
		a.Unreachable = &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_LEASE, LeaseMs: int64(4+rng.IntN(7)) * 1000}
	}
}

// act does something random now and then, while faults happen.
func (u *user) act() {
	w := u.w
	w.after(w.between(500*time.Millisecond, 6*time.Second), func() {
		if !w.chaos {
			return
		}
		u.once()
		u.act()
	})
}

func (u *user) once() {
	w := u.w
	if len(u.apps) == 0 || w.rng.IntN(12) == 0 && len(u.apps) < 6 {
		u.wants(u.create())
		return
	}
	a := u.apps[w.rng.IntN(len(u.apps))]
	if b := u.balancing; b != nil && !b.forgotten {
		switch n := w.rng.IntN(30); {
		case n < 4:
			u.rebalance()
			return
		case n == 4:
			b.forgotten = true
			u.tellBalancer()
			return
		}
	}
	switch n := w.rng.IntN(25); {
	case n >= 24 && len(u.cluster.Tenants) > 0:
		u.cluster.Tenants[0].AddressQuotas = []*padisv1.AddressQuota{{Max: int64(2 + w.rng.IntN(6))}}
		u.declare()
	case n >= 22:
		u.policy(a)
		u.wants(a)
	case n >= 20:
		u.live(a)
		u.wants(a)
	case n < 8:
		scale(a, w.rng.IntN(8))
		u.wants(a)
	case n < 13:
		u.change(a, w.rng.IntN(len(a.Slots)+1))
		u.wants(a)
	case n < 15:
		u.forget(a)
	case n < 17:
		u.readdress(a)
		u.wants(a)
	case n < 18 && len(u.cluster.Tenants) > 1:
		t := u.cluster.Tenants[w.rng.IntN(len(u.cluster.Tenants))]
		if len(t.NotColocatedWith) > 0 {
			t.NotColocatedWith = nil
		} else {
			t.NotColocatedWith = []string{u.cluster.Tenants[0].Name}
		}
		u.declare()
	case n == 19:
		u.serial++
		u.cluster.Prepulls = []*padisv1.Prepull{{Namespace: "ns1", Name: "early", Images: []string{"registry/app:" + strconv.Itoa(u.serial+1)}, Agents: []*padisv1.AgentSelector{{Attribute: "rack", Value: "r1"}}}}
		u.declare()
	case n < 19 && len(u.cluster.Pools) > 0:
		// The pool runs out: there is hardly more than what is leased.
		p := u.cluster.Pools[w.rng.IntN(len(u.cluster.Pools))]
		p.Ranges = []*padisv1.AddressRange{{From: strings.Replace(p.Cidr, "0/24", "10", 1), To: strings.Replace(p.Cidr, "0/24", strconv.Itoa(12+w.rng.IntN(10)), 1)}}
		u.declare()
	}
}

// readdress wishes for fixed addresses, some of which others may have.
func (u *user) readdress(a *padisv1.WantedApp) {
	u.change(a, len(a.Slots))
	rev := a.Revisions[len(a.Revisions)-1]
	for _, n := range rev.Networks {
		for _, p := range u.cluster.Pools {
			if p.Name == n.Pool {
				n.Addresses = []string{strings.Replace(p.Cidr, "0/24", strconv.Itoa(10+u.w.rng.IntN(40)), 1)}
			}
		}
	}
	if u.w.rng.IntN(2) == 0 {
		for _, n := range rev.Networks {
			n.Addresses = nil
		}
	}
}

// finally wishes for something that can be had: wide pools, no address twice, no more than fits. What can be had
// already is left alone, so that nothing but the scheduler's own persistence brings it about.
func (u *user) finally() {
	for _, p := range u.cluster.Pools {
		p.Ranges = nil
	}
	for _, t := range u.cluster.Tenants {
		t.AddressQuotas = nil
	}
	if u.cluster.ExecutorUpgrade != nil {
		u.cluster.ExecutorUpgrade.Paused = false
	}
	u.declare()
	for _, a := range u.apps {
		fixed := slices.ContainsFunc(a.Revisions, func(r *padisv1.Revision) bool {
			return slices.ContainsFunc(r.Networks, func(n *padisv1.NetworkWish) bool { return len(n.Addresses) > 0 })
		})
		if fixed {
			u.change(a, len(a.Slots))
			for _, rev := range a.Revisions {
				for _, n := range rev.Networks {
					n.Addresses = nil
				}
			}
		}
		if len(a.Slots) > 4 {
			scale(a, 4)
		}
		u.wants(a)
	}
}

// unmet says what is not yet as it is wanted; empty when all is.
func (u *user) unmet() string {
	w := u.w
	if !w.sched.alive || w.sched.conn == nil || !w.sched.conn.confirmed || !w.sched.conn.open {
		return "the scheduler is away"
	}
	wanted := map[record.Slot]string{}
	for _, a := range u.apps {
		for _, s := range a.Slots {
			wanted[record.Slot{AppUID: a.Uid, Index: s.Index}] = s.Revision
			if why := u.missing(a, s); why != "" {
				return why
			}
		}
	}
	current := map[string]bool{}
	leases := map[string]bool{}
	for _, r := range w.store.instances() {
		if wanted[instance.SlotOf(r)] == "" {
			return "record of " + r.GetApp() + "-" + strconv.Itoa(int(r.GetSlot())) + ", which is not wanted, is " + instance.Name(r.GetPhase())
		}
		current[r.GetContainer()] = true
		if instance.Haunted(r) {
			return r.GetApp() + "-" + strconv.Itoa(int(r.GetSlot())) + " is haunted"
		}
		current[r.GetTaskId()] = true
		for _, l := range w.sched.loop.Core().SlotLeases(instance.SlotOf(r)) {
			leases[record.LeaseKey(l.GetNetwork(), l.GetAddress())] = true
		}
	}
	for _, f := range w.truth.beings() {
		if !current[f.id] {
			return f.id + " is a stray"
		}
	}
	if up := w.sched.loop.UpgradeStatus(); up.Message != "" || up.Updated+len(up.Skipped) != up.Total && !u.halted(up) {
		return fmt.Sprintf("executors are not upgraded: %+v", up)
	}
	for k := range w.store.data {
		if strings.HasPrefix(k, record.PrefixLease) && !leases[k] && !u.cools(k) && !u.isVIP(k) {
			return k + " is leaked"
		}
		if strings.HasPrefix(k, record.PrefixApp) && !slices.ContainsFunc(u.apps, func(a *padisv1.WantedApp) bool { return record.AppKey(a.Uid) == k }) {
			return k + " is not wanted"
		}
	}
	if why := u.unbalanced(); why != "" {
		return why
	}
	if why := w.unwired(); why != "" {
		return why
	}
	if id := w.mesos.hoarded(); id != "" {
		return "offer " + id + " is hoarded"
	}
	if n := w.sched.loop.Core().Stats().Strays; n > 0 {
		return "strays are still killed"
	}
	return ""
}

// cools tells whether a lease rests for no longer than it must.
func (u *user) cools(key string) bool {
	l, _ := u.w.store.data[key].(*padisv1.LeaseRecord)
	for _, p := range u.cluster.Pools {
		if p.GetName() == l.GetPool() {
			return l.GetReleasedMs() != 0 && u.w.now.UnixMilli() < l.GetReleasedMs()+p.GetReuseDelayMs()+1000
		}
	}
	return false
}

// shape is what the network of an instance of the revision shall be.
func (u *user) shape(a *padisv1.WantedApp, rev *padisv1.Revision) shape {
	var out shape
	for i, n := range rev.GetNetworks() {
		b := &padisv1.Bandwidth{}
		for _, p := range u.cluster.Pools {
			for _, network := range u.cluster.Networks {
				if p.Name == n.Pool && network.Name == p.Network {
					if out.loopbacks = a.LoopbackAddresses; len(u.vipsOf(a)) > 0 {
						out.loopbacks = slices.Compact(slices.Sorted(slices.Values(slices.Concat(a.LoopbackAddresses, u.vipsOf(a)))))
					}
					b = network.Bandwidth
					if i < len(a.Bandwidths) {
						b = a.Bandwidths[i]
					}
				}
			}
		}
		out.bandwidths = append(out.bandwidths, b)
	}
	return out
}

// missing says why a wanted slot is not what it shall be; empty if it is, or if it truly fits nowhere and says so.
func (u *user) missing(a *padisv1.WantedApp, s *padisv1.WantedSlot) string {
	w := u.w
	name := a.Name + "-" + strconv.Itoa(int(s.Index))
	slot := record.Slot{AppUID: a.Uid, Index: s.Index}
	r := w.store.instance(slot)
	if r == nil {
		return name + " does not exist"
	}
	live := w.sched.loop.Core().Instance(slot)
	if r.GetPhase() == padisv1.Phase_RUNNING && r.GetReady() && r.GetRevision() == s.Revision {
		f := w.truth.tasks[r.GetTaskId()]
		if f == nil || !f.running {
			return name + " is said to run and does not"
		}
		rev := a.Revisions[slices.IndexFunc(a.Revisions, func(r *padisv1.Revision) bool { return r.Hash == s.Revision })]
		if ex := f.host.agent.exec; ex == nil || ex.runs[f.id] == nil || !ex.runs[f.id].shape.equal(u.shape(a, rev)) {
			return name + " does not have the bandwidths and loopback addresses that it shall have"
		}
		return ""
	}
	if r.GetPhase() == padisv1.Phase_ADOPTING && w.full(r, live) {
		return "" // Others took what its container needs while Mesos did not know of it.
	}
	if r.GetPhase() == padisv1.Phase_PENDING {
		rev := a.Revisions[slices.IndexFunc(a.Revisions, func(r *padisv1.Revision) bool { return r.Hash == s.Revision })]
		if live.GetReason() == "" || live.GetMessage() == "" {
			return name + " is pending and does not say why"
		}
		if u.nowhere(slot, a, rev, live.GetReason()) {
			return ""
		}
	}
	return fmt.Sprintf("%s is %s (%s: %s)", name, instance.Name(r.GetPhase()), live.GetReason(), live.GetMessage())
}

// halted tells whether the upgrade of executors rightly goes no further: on all hosts where it is under way, and these are
// as many as may be or the last ones, containers wait for adoption that truly have no room.
func (u *user) halted(up runtime.Upgrade) bool {
	full := map[string]bool{}
	for _, r := range u.w.store.instances() {
		if r.GetPhase() == padisv1.Phase_ADOPTING && u.w.full(r, u.w.sched.loop.Core().Instance(instance.SlotOf(r))) {
			full[r.GetHostname()] = true
		}
	}
	all := len(up.Upgrading) >= int(u.cluster.GetExecutorUpgrade().GetMaxParallel()) || up.Updated+len(up.Skipped)+len(up.Upgrading) == up.Total
	return all && len(up.Upgrading) > 0 && !slices.ContainsFunc(up.Upgrading, func(host string) bool { return !full[host] })
}

// full tells whether the host of a container that waits for adoption truly lacks the resources, and the record says so.
func (w *World) full(r, live *padisv1.InstanceRecord) bool {
	m := w.mesos.agents[r.GetAgentId()]
	if m == nil || m.agent.host.containers[r.GetContainer()] == nil || !strings.Contains(live.GetMessage(), "free resources") {
		return false
	}
	left := w.mesos.free(r.GetAgentId())
	for _, o := range w.mesos.offers {
		if o.agent == r.GetAgentId() {
			left = left.Add(o.what)
		}
	}
	t := m.agent.host.containers[r.GetContainer()].launch.GetTemplate().GetResources()
	return !left.Fits(mesos.Amounts{CPUMilli: t.GetCpuMilli(), MemoryMilli: t.GetMemoryMib() * 1000})
}

// nowhere tells whether an instance truly fits on no host.
func (u *user) nowhere(slot record.Slot, a *padisv1.WantedApp, rev *padisv1.Revision, reason string) bool {
	w := u.w
	for _, c := range rev.GetConstraints() {
		if c.GetOperator() == padisv1.Constraint_GROUP_BY && reason == padisv1.ReasonConstraintGroupBy ||
			c.GetOperator() == padisv1.Constraint_CLUSTER && reason == padisv1.ReasonConstraintCluster {
			return true // The host that is best for all others may be full; these cannot be judged one by one.
		}
	}
	needs := mesos.Amounts{CPUMilli: rev.GetTemplate().GetResources().GetCpuMilli(), MemoryMilli: rev.GetTemplate().GetResources().GetMemoryMib() * 1000}
	for _, h := range w.hosts {
		m := w.mesos.agents[h.agent.id]
		if m == nil {
			continue
		}
		left := w.mesos.free(h.agent.id)
		for _, o := range w.mesos.offers {
			if o.agent == h.agent.id {
				left = left.Add(o.what)
			}
		}
		if len(m.executors) == 0 {
			left = left.Sub(mesos.Amounts{CPUMilli: 100, MemoryMilli: 64000})
		}
		if left.Fits(needs) && w.truth.forbidden(slot, a.GetTenant(), rev, h) == "" && !u.clustered(slot, rev, h) {
			return false
		}
	}
	return true
}

// clustered tells whether a Cluster constraint keeps the instance from the host.
func (u *user) clustered(slot record.Slot, rev *padisv1.Revision, h *host) bool {
	for _, c := range rev.GetConstraints() {
		if c.GetOperator() != padisv1.Constraint_CLUSTER && c.GetOperator() != padisv1.Constraint_GROUP_BY {
			continue
		}
		for _, o := range u.w.truth.beings() {
			if o.slot.AppUID == slot.AppUID && o.slot != slot && (c.GetOperator() == padisv1.Constraint_GROUP_BY || o.host.value(c.GetAttribute()) != h.value(c.GetAttribute())) {
				return true
			}
		}
	}
	return false
}
