package core

import (
	"cmp"
	"slices"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// Snapshot is all that a core knows which matters to what it decides next: another one can be made from it, with Clone and
// the agents' last words. It shares its records with the core; they must not be changed.
type Snapshot struct {
	// Config with which a core decides alike.
	Config  Config
	Records record.Snapshot
	Agents  []AgentState
	// Rotations are which free addresses come next, by pool.
	Rotations []ipam.Rotation
	// Connected tells whether there is a subscription.
	Connected bool
}

// Clone makes another core that decides as the one did which the snapshot is of, once it is told what agents there are.
func Clone(s Snapshot) (*Core, error) {
	c, err := New(s.Config, s.Records)
	if err != nil {
		return nil, err
	}
	c.book.Resume(s.Rotations)
	return c, nil
}

// AgentState is what is known of an agent, with what it has left.
type AgentState struct {
	AgentView
	// Offered is the sum of the offers that are held.
	Offered mesos.Amounts
	// Manned: the executor runs there. Leaving: maintenance or a drain is announced.
	Manned, Leaving bool
	// Charged is what the executor takes there, if it runs.
	Charged mesos.Amounts
}

// Snapshot hands out what is known now. It copies no record, and gives all in no order: Sort brings it into one.
func (c *Core) Snapshot() Snapshot {
	s := Snapshot{Config: c.cfg, Connected: c.link.connected, Rotations: c.book.Rotations()}
	r := &s.Records
	r.Framework, r.Cluster = &padisv1.FrameworkRecord{FrameworkId: c.framework}, c.cluster
	r.Apps = make([]*padisv1.WantedApp, 0, len(c.apps))
	for _, a := range c.apps {
		r.Apps = append(r.Apps, a.rec)
	}
	r.Instances = make([]*padisv1.InstanceRecord, 0, len(c.slots))
	for _, x := range c.slots {
		r.Instances = append(r.Instances, x.rec)
	}
	r.Leases = make([]*padisv1.LeaseRecord, 0, len(c.leases))
	for _, l := range c.leases {
		r.Leases = append(r.Leases, l)
	}
	for _, b := range c.balancers {
		r.Balancers = append(r.Balancers, b.wanted)
		if b.rec.GetNumber() > 0 {
			r.Balances = append(r.Balances, b.rec)
		}
	}
	for id, a := range c.agents {
		if a.rec != nil {
			r.Agents = append(r.Agents, a.rec)
		}
		if a.executor != nil {
			r.Executors = append(r.Executors, a.executor)
		}
		st := AgentState{Leaving: a.leaving, Manned: c.runsExecutor(a)}
		st.AgentView, _ = c.Agent(id)
		for _, o := range a.offers {
			st.Offered = st.Offered.Add(mesos.Sum(o.Resources))
		}
		if st.Manned {
			st.Charged = amounts(a.executor.GetResources())
		}
		s.Agents = append(s.Agents, st)
	}
	return s
}

// Sort brings all lists into the one order that they have in equal snapshots.
func (s *Snapshot) Sort() {
	r := &s.Records
	slices.SortFunc(r.Apps, func(a, b *padisv1.WantedApp) int { return cmp.Compare(a.GetUid(), b.GetUid()) })
	slices.SortFunc(r.Instances, func(a, b *padisv1.InstanceRecord) int {
		return cmp.Or(cmp.Compare(a.GetAppUid(), b.GetAppUid()), cmp.Compare(a.GetSlot(), b.GetSlot()))
	})
	slices.SortFunc(r.Leases, func(a, b *padisv1.LeaseRecord) int {
		return cmp.Or(cmp.Compare(a.GetNetwork(), b.GetNetwork()), cmp.Compare(a.GetAddress(), b.GetAddress()))
	})
	slices.SortFunc(r.Balancers, func(a, b *padisv1.WantedBalancer) int { return cmp.Compare(a.GetUid(), b.GetUid()) })
	slices.SortFunc(r.Balances, func(a, b *padisv1.BalanceRecord) int { return cmp.Compare(a.GetUid(), b.GetUid()) })
	slices.SortFunc(r.Agents, func(a, b *padisv1.AgentRecord) int { return cmp.Compare(a.GetAgentId(), b.GetAgentId()) })
	slices.SortFunc(r.Executors, func(a, b *padisv1.ExecutorRecord) int { return cmp.Compare(a.GetAgentId(), b.GetAgentId()) })
	slices.SortFunc(s.Agents, func(a, b AgentState) int { return cmp.Compare(a.Record.GetAgentId(), b.Record.GetAgentId()) })
}
