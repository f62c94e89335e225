package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/place"
	"padis.io/padis/scheduler/record"
)

// candidate is a pending slot that could be launched if an agent had room.
type candidate struct {
	s        *slot
	revision *padisv1.Revision
	leases   []*padisv1.LeaseRecord
	links    []*padisv1.Attachment
	// ghost is the task whose container is to be taken over, so that it can be ended; empty but for the possessed.
	ghost, ghostAgent, container string
}

// pin is the agent on which the candidate is already; empty if it may go anywhere.
func (c candidate) pin() string {
	if c.ghost != "" {
		return c.ghostAgent
	}
	if c.s.rec.GetPhase() == padisv1.Phase_ADOPTING {
		return c.s.rec.GetAgentId()
	}
	return ""
}

// place runs placement once, if anything that it depends on has changed and somebody needs an agent.
func (c *Core) place(now time.Time) {
	if !c.turn.place || len(c.pending) == 0 && len(c.possessed) == 0 {
		return
	}
	waiting := slices.SortedFunc(maps.Values(c.pending), urgency)
	if !c.link.connected {
		for _, s := range waiting {
			c.refuse(s, padisv1.ReasonMesosDisconnected, "there is no Mesos master to ask for offers; see the scheduler's log", nil)
		}
		return
	}
	var able []candidate
	stuck := 0
	for _, s := range waiting {
		take := c.prepare
		if s.rec.GetPhase() == padisv1.Phase_ADOPTING {
			take = c.adoptee
		}
		if cand, ok := take(now, s); ok {
			able = append(able, cand)
		} else if s.rec.GetPhase() == padisv1.Phase_ADOPTING {
			stuck++
		}
	}
	able = append(able, c.exorcisms()...)
	before := c.market.unplaced
	c.market.unplaced = stuck
	if len(able) == 0 {
		return
	}
	launches := map[string][]candidate{}
	for i, d := range place.Decide(c.snapshot(now, able)) {
		if d.AgentID == "" {
			if able[i].ghost == "" {
				c.refuse(able[i].s, d.Reason, d.Message, d.Refusals)
			}
			c.market.unplaced++
			continue
		}
		launches[d.AgentID] = append(launches[d.AgentID], able[i])
	}
	for _, id := range slices.Sorted(maps.Keys(launches)) {
		c.launch(now, c.agents[id], launches[id])
	}
	if before == 0 && c.market.unplaced > 0 {
		// Offers are needed again, also by what was pending before for want of an address.
		c.market.fresh = true
	}
}

// urgency orders by age, so that who waits longest is served first; before all others those whose containers run without
// a task, because the resources that these take must not be given to others.
func urgency(a, b *slot) int {
	adopting := func(s *slot) int {
		if s.rec.GetPhase() == padisv1.Phase_ADOPTING {
			return 0
		}
		return 1
	}
	return cmp.Or(cmp.Compare(adopting(a), adopting(b)), cmp.Compare(a.rec.GetCreatedMs(), b.rec.GetCreatedMs()), cmp.Compare(a.rec.GetNamespace(), b.rec.GetNamespace()),
		cmp.Compare(a.rec.GetApp(), b.rec.GetApp()), compareSlots(a.key, b.key))
}

// refuse says why the slot has no agent. The sentence is for the view only: it changes often and is found again by
// the next run of placement.
func (c *Core) refuse(s *slot, reason, message string, counts map[string]int32) {
	n, err := instance.Refuse(s.rec, reason, message)
	if err != nil {
		c.fail(err)
		return
	}
	if n != s.rec || !maps.Equal(s.refusals, counts) {
		s.refusals = counts
		c.show(s, n)
	}
	c.hunger(s)
}

// prepare leases the slot's addresses and resolves them. The leases are written in the same commit as the record that
// lists them, and stay with the slot until it is scaled in.
func (c *Core) prepare(now time.Time, s *slot) (candidate, bool) {
	rev := s.app.revisions[s.revision]
	if rev == nil {
		c.refuse(s, padisv1.ReasonInvalidLaunch, fmt.Sprintf("revision %q is not among those of the App; apply the App again", s.revision), nil)
		return candidate{}, false
	}
	if id := c.lingers(s); id != "" {
		c.refuse(s, padisv1.ReasonAwaitingRelease, fmt.Sprintf("%s was to replace it, is killed and has not ended yet; look at its executor if that takes long", id), nil)
		return candidate{}, false
	}
	stale := c.book.Stale(s.key, rev.GetNetworks())
	if len(stale) > 0 && (instance.Haunted(s.rec) || instance.HasTask(s.rec.GetPhase())) {
		c.refuse(s, padisv1.ReasonAwaitingRelease, fmt.Sprintf("%s must be given up first, but may still be in use on an agent that does not answer; bring the agent back or mark it gone",
			stale[0].GetAddress()), nil)
		return candidate{}, false
	}
	leases, no := c.lease(now, s, rev)
	if no != nil {
		c.refuse(s, no.Reason, no.Message, map[string]int32{no.Reason: 1})
		return candidate{}, false
	}
	c.hold(s, leases, stale)
	cand := candidate{s: s, revision: rev, leases: leases}
	for i, l := range leases {
		link, ok := c.attachment(s.app.rec, rev, i, l)
		if !ok {
			c.refuse(s, padisv1.ReasonNetworkNotFound, fmt.Sprintf("pool %q or its network is not declared any more; create it, or correct the App's networks", rev.GetNetworks()[i].GetPool()), nil)
			return candidate{}, false
		}
		cand.links = append(cand.links, link)
	}
	return cand, true
}

// snapshot is what placement sees.
func (c *Core) snapshot(now time.Time, able []candidate) place.Snapshot {
	snap := place.Snapshot{Now: now, Seed: c.cfg.Seed, Tenants: c.cluster.GetTenants(), Executor: c.cfg.Executor}
	byHost := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		pa := place.Agent{ID: id, Hostname: a.hostname, Attributes: a.attributes, HasOffer: len(a.offers) > 0, HasExecutor: c.runsExecutor(a), Unavailable: a.leaving || !a.present || c.departing(a)}
		for _, o := range a.offers {
			pa.Offered = pa.Offered.Add(mesos.Sum(o.Resources))
		}
		if pa.HasOffer && c.retireExecutor(now, a) {
			pa.Unavailable = true
		}
		if a.present {
			byHost[a.hostname] = id
		}
		snap.Agents = append(snap.Agents, pa)
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.slots), compareSlots) {
		s := c.slots[key]
		for _, id := range hosts(s.rec) {
			snap.Occupants = append(snap.Occupants, place.Occupant{Slot: key, Tenant: s.rec.GetTenant(), AgentID: id, Ports: listening(s, id)})
		}
	}
	for _, cand := range able {
		r := cand.s.rec
		w := place.Want{
			Slot: cand.s.key, Tenant: r.GetTenant(), Needs: amounts(cand.revision.GetTemplate().GetResources()),
			Constraints: cand.revision.GetConstraints(), Prefer: byHost[r.GetLastTermination().GetHostname()], Pin: cand.pin(),
			Ports: ports(cand.revision),
		}
		if r.GetPhase() == padisv1.Phase_UNREACHABLE {
			w.Prefer, w.Avoid = "", []string{r.GetAgentId()}
		}
		snap.Wants = append(snap.Wants, w)
	}
	return snap
}

// launch sends all tasks of one agent with all of its offers: one commit, one ACCEPT, one executor.
func (c *Core) launch(now time.Time, a *agent, cands []candidate) {
	var pool []mesos.Resource
	ids := slices.Sorted(maps.Keys(a.offers))
	for _, id := range ids {
		pool = append(pool, a.offers[id].Resources...)
	}
	running := c.runsExecutor(a)
	exec := a.executor
	if next := c.cfg.newExecutor(a.id); exec == nil || !running && (exec.GetExecutorId() != next.GetExecutorId() || exec.GetLeaving()) {
		exec = next
	}
	if !running {
		c.lapse(a)
		rest, ok := unreserved(pool, amounts(exec.GetResources()))
		if !ok {
			for _, cand := range cands {
				c.deny(cand, padisv1.ReasonInsufficientCPU, fmt.Sprintf("agent %s has no unreserved resources left for the executor", a.hostname))
				c.market.unplaced++
			}
			return
		}
		pool = rest
	}
	acc := mesos.Accept{OfferIDs: ids, Refuse: c.cfg.RefuseLong}
	if c.market.unplaced > 0 {
		acc.Refuse = 0
	}
	info := c.cfg.executorInfo(exec)
	for _, cand := range cands {
		taken, rest, ok := mesos.Carve(pool, amounts(cand.revision.GetTemplate().GetResources()))
		if !ok {
			c.deny(cand, padisv1.ReasonInsufficientCPU, fmt.Sprintf("agent %s has not enough left", a.hostname))
			c.market.unplaced++
			continue
		}
		task, n, err := c.task(now, a, exec, cand)
		if err != nil {
			c.deny(cand, padisv1.ReasonInvalidLaunch, err.Error())
			continue
		}
		adopted := cand.pin() != ""
		if !c.put(cand.s, n, nil) {
			continue
		}
		if cand.ghost == "" && len(c.balancers) > 0 {
			cand.s.launchedWith(c.loopbacks(cand.s, cand.links), adopted)
		}
		pool = rest
		task.Resources, task.Executor = taken, info
		acc.Tasks = append(acc.Tasks, task)
		if cand.ghost == "" {
			cand.s.ask.start(now.Add(c.cfg.LaunchTimeout))
		}
		c.schedule(cand.s)
	}
	if len(acc.Tasks) == 0 {
		return
	}
	if a.executor != exec {
		a.executor = exec
		c.turn.puts[record.ExecutorKey(a.id)] = exec
	}
	if a.rec == nil {
		a.rec = a.record()
		c.turn.puts[record.AgentKey(a.id)] = a.rec
	}
	clear(a.offers)
	a.talk.mute, a.vacant, a.unheard = false, false, acc.Tasks[0].ID
	c.turn.agents[a.id] = true
	c.call(acc)
}

// unreserved takes want out of the entries that are reserved to nobody, because an ExecutorInfo must be the same at
// each launch and so cannot name a reservation. It returns what remains of all entries.
func unreserved(from []mesos.Resource, want mesos.Amounts) (rest []mesos.Resource, ok bool) {
	var open, other []mesos.Resource
	for _, r := range from {
		if r.ReservedTo == "" {
			open = append(open, r)
		} else {
			other = append(other, r)
		}
	}
	_, left, ok := mesos.Carve(open, want)
	return append(other, left...), ok
}

// runsExecutor tells whether the executor of the agent's record runs there, so that it costs nothing more.
func (c *Core) runsExecutor(a *agent) bool {
	id := a.executor.GetExecutorId()
	if id == "" {
		return false
	}
	for _, o := range a.offers {
		if slices.Contains(o.ExecutorIDs, id) {
			return true
		}
	}
	for key := range a.slots {
		r := c.slots[key].rec
		// That of an instance that waits for adoption has ended.
		ended := r.GetPhase() == padisv1.Phase_ADOPTING || r.GetPhase() == padisv1.Phase_UNREACHABLE && a.vacant
		if r.GetAgentId() == a.id && r.GetExecutorId() == id && !ended {
			return true
		}
	}
	return false
}

// retireExecutor ends an executor of an earlier version that has nothing to do. Until it is gone, nothing is launched
// on its agent: two executors would both believe that the host's network is theirs.
func (c *Core) retireExecutor(now time.Time, a *agent) bool {
	id := c.stranger(a)
	if id == "" && a.executor != nil && len(a.slots) == 0 && a.executor.GetExecutorId() != c.cfg.newExecutor(a.id).GetExecutorId() && c.runsExecutor(a) {
		id = a.executor.GetExecutorId()
	}
	if id == "" {
		return false
	}
	if a.shutdownAt.IsZero() || now.Sub(a.shutdownAt) >= c.cfg.KillRetry {
		a.shutdownAt = now
		c.call(mesos.ShutdownExecutor{AgentID: a.id, ExecutorID: id})
	}
	return true
}

// stranger is an executor that an offer lists and that is not the one to be used there; empty if there is none. Nothing
// of ours is in it: what it ran was ended or given to another one.
func (c *Core) stranger(a *agent) string {
	known := a.executor.GetExecutorId()
	if known == "" {
		known = c.cfg.newExecutor(a.id).GetExecutorId()
	}
	for _, offer := range slices.Sorted(maps.Keys(a.offers)) {
		for _, id := range a.offers[offer].ExecutorIDs {
			if id != known {
				return id
			}
		}
	}
	return ""
}
