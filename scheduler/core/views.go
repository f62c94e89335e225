package core

import (
	"maps"
	"slices"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// AgentView is what is known of an agent.
type AgentView struct {
	// Record is what offers, polls or the ledger told last; of an agent that is known only from tasks it has only the id.
	Record *padisv1.AgentRecord
	// Seen is what the operator API told last; nil while the master does not list the agent.
	Seen *mesos.Agent
	// Present agents were heard of in this subscription and not reported away since.
	Present bool
	// Used is what the instances take, without the executor.
	Used      mesos.Amounts
	Instances int32
	// Executor is the id of the executor there; empty if there is none.
	Executor string
	// Says is the last word of the executor there; nil before the first.
	Says *padisv1.FromExecutor
}

// Stats are counts for metrics.
type Stats struct {
	// Phases counts instances.
	Phases map[padisv1.Phase]int
	// Haunted slots, pending ones that no offer fits, tasks that run and should not, offers held.
	Haunted, Unplaced, Strays, Offers int
	Connected                         bool
}

// FrameworkID is the id that the master gave; empty before the first subscription.
func (c *Core) FrameworkID() string { return c.framework }

// Connected tells whether there is a subscription.
func (c *Core) Connected() bool { return c.link.connected }

// Instance returns the record of a slot; nil if there is none.
func (c *Core) Instance(key record.Slot) *padisv1.InstanceRecord {
	if s := c.slots[key]; s != nil {
		return s.rec
	}
	return nil
}

// Instances returns the records of one App by slot.
func (c *Core) Instances(appUID string) []*padisv1.InstanceRecord {
	a := c.apps[appUID]
	if a == nil {
		return nil
	}
	var rs []*padisv1.InstanceRecord
	for _, i := range slices.Sorted(maps.Keys(a.slots)) {
		rs = append(rs, a.slots[i].rec)
	}
	return rs
}

// Slots returns all slots, sorted.
func (c *Core) Slots() []record.Slot { return slices.SortedFunc(maps.Keys(c.slots), compareSlots) }

// Labels returns the labels of the template that the slot runs, or shall run while it runs nothing.
func (c *Core) Labels(key record.Slot) map[string]string {
	s := c.slots[key]
	if s == nil {
		return nil
	}
	rev := s.app.revisions[s.rec.GetRevision()]
	if rev == nil || !instance.HasTask(s.rec.GetPhase()) && s.wanted() {
		rev = s.app.revisions[s.revision]
	}
	return rev.GetTemplate().GetLabels()
}

// App returns what is wanted of an App; nil if nothing ever was.
func (c *Core) App(uid string) *padisv1.WantedApp {
	if a := c.apps[uid]; a != nil {
		return a.rec
	}
	return nil
}

// Apps lists the uids of the Apps that are wanted.
func (c *Core) Apps() []string { return slices.Sorted(maps.Keys(c.apps)) }

// Cluster returns the declared networks, pools and tenants.
func (c *Core) Cluster() *padisv1.Cluster { return c.cluster }

// Refusals counts, by reason, the agents that refused the slot at the last run of placement; nil if it is not pending.
func (c *Core) Refusals(key record.Slot) map[string]int32 {
	if s := c.slots[key]; s != nil {
		return maps.Clone(s.refusals)
	}
	return nil
}

// Agents returns all agents that are known, by id.
func (c *Core) Agents() []AgentView {
	var vs []AgentView
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		v, _ := c.Agent(id)
		vs = append(vs, v)
	}
	return vs
}

// Agent returns one agent.
func (c *Core) Agent(id string) (AgentView, bool) {
	a := c.agents[id]
	if a == nil {
		return AgentView{}, false
	}
	v := AgentView{Record: a.record(), Seen: a.info, Present: a.present, Executor: a.executor.GetExecutorId(), Says: a.talk.said}
	for key := range a.slots {
		s := c.slots[key]
		if s.rec.GetAgentId() != id || !instance.HasTask(s.rec.GetPhase()) {
			continue
		}
		v.Instances++
		v.Used = v.Used.Add(amounts(s.app.revisions[s.rec.GetRevision()].GetTemplate().GetResources()))
	}
	return v, true
}

// Leases returns all leases that are held, by slot.
func (c *Core) Leases() []*padisv1.LeaseRecord {
	var ls []*padisv1.LeaseRecord
	for _, key := range c.Slots() {
		ls = append(ls, c.slots[key].leases...)
	}
	return ls
}

// SlotLeases returns the leases of one slot.
func (c *Core) SlotLeases(key record.Slot) []*padisv1.LeaseRecord {
	if s := c.slots[key]; s != nil {
		return s.leases
	}
	return nil
}

// Lease returns the lease of an address; nil if nobody holds it, also while it cools.
func (c *Core) Lease(at Address) *padisv1.LeaseRecord {
	if l := c.leases[at]; l.GetReleasedMs() == 0 {
		return l
	}
	return nil
}

// Stats counts.
func (c *Core) Stats() Stats {
	st := Stats{Phases: map[padisv1.Phase]int{}, Unplaced: c.market.unplaced, Strays: len(c.strays), Connected: c.link.connected}
	for _, s := range c.slots {
		st.Phases[s.rec.GetPhase()]++
		if instance.Haunted(s.rec) {
			st.Haunted++
		}
	}
	for _, a := range c.agents {
		st.Offers += len(a.offers)
	}
	return st
}
