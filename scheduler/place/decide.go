package place

import (
	"slices"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// Decide answers each Want of the snapshot, in order. It performs no I/O, changes nothing that it is given, and equal
// snapshots give equal decisions.
//
// What one decision takes is gone for those after it: resources, values of constrained attributes, the host of a tenant.
// What a new executor takes is charged to the first instance on an agent that has none.
//
// The agents are asked in a fixed order of checks, and a refusal is counted by the first check that fails: is the
// declaration readable, does the agent take anything, is it dedicated, Like, Unlike, Cluster, tenant isolation, Unique,
// MaxPer, GroupBy, are its ports of the host free, is there an offer, CPU, memory, disk. So what waiting cannot cure comes first. Refusals are counted
// only when no agent fits.
//
// Of the agents that fit, Prefer is taken first, then one with the fewest instances of the App, then the one with the
// most left of what it has least (CPU or memory, as a share of the largest offer), then the one that Seed draws.
//
// A Want with a Pin goes to that agent if its offer is large enough, and nowhere else.
//
// Agents have distinct IDs and Occupants distinct pairs of slot and agent. An instance is its slot: two tasks of one
// slot, the older of which may still run where nobody can see it, count once for a value of an attribute, and not at
// all against the slot itself, nor do its ports. For the isolation of tenants and for the spread each of them counts.
func Decide(s Snapshot) []Decision {
	if len(s.Wants) == 0 {
		return nil
	}
	w := newWorld(s)
	out := make([]Decision, len(s.Wants))
	for i := range s.Wants {
		out[i] = w.decide(&s.Wants[i])
	}
	return out
}

// decide answers one Want and books what it takes.
func (w *world) decide(want *Want) Decision {
	if want.Pin != "" {
		return w.pinned(want)
	}
	q := w.query(want)
	if at := w.choose(q); at >= 0 {
		w.book(q, at)
		return Decision{Slot: want.Slot, AgentID: w.agents[at].ID}
	}
	return w.refuse(q)
}

// choose finds the best agent that fits; -1 if none does.
func (w *world) choose(q *query) int {
	if at, ok := w.byID[q.want.Prefer]; ok {
		if c, _ := w.check(q, at); c == fits {
			return at
		}
	}
	best, fewest := -1, int32(0)
	// The order is by free share and draw, so that the first agent without an instance of the App is the best one.
	for _, at := range w.order {
		n := q.app.onAgent[at]
		if best >= 0 && n >= fewest {
			continue
		}
		if c, _ := w.check(q, int(at)); c != fits {
			continue
		}
		if best, fewest = int(at), n; n == 0 {
			break
		}
	}
	return best
}

// book enters a placement into all indexes.
func (w *world) book(q *query, at int) {
	w.charge(q.want, at)
	w.occupy(q.app, occupancy{q.want.Slot, w.tenant(q.want.Tenant), at})
	w.listen(q.want.Slot, q.want.Ports, at)
}

// charge takes what the instance needs of the agent.
func (w *world) charge(want *Want, at int) {
	state := &w.free[at]
	state.amounts = state.amounts.Sub(w.needs(want, at))
	state.hasExecutor = true
	w.reorder(at)
	w.version++
}

// pinned answers a Want that is on its agent already: it is among the Occupants, so only its resources are booked.
func (w *world) pinned(want *Want) Decision {
	at, known := w.byID[want.Pin]
	why := noOffer
	if known && w.agents[at].HasOffer {
		if why = w.room(want, at); why == fits {
			w.charge(want, at)
			return Decision{Slot: want.Slot, AgentID: want.Pin}
		}
	}
	return w.stuck(want, why)
}

// needs is what the instance takes of the agent, with an executor if there is none.
func (w *world) needs(want *Want, at int) mesos.Amounts {
	if w.free[at].hasExecutor {
		return want.Needs
	}
	return want.Needs.Add(w.executor)
}

// check returns why the agent refuses the instance, or fits. by is the constraint that refused, if one did.
func (w *world) check(q *query, at int) (c code, by *padisv1.Constraint) {
	if q.broken != nil {
		return invalid, q.broken
	}
	if slices.Contains(q.avoid, at) {
		return unavailable, nil
	}
	if c, by := q.static.verdict(at); c != fits {
		return c, by
	}
	isolated := false
	for i := range q.rules {
		r := &q.rules[i]
		// Tenant isolation is asked between Cluster and the constraints that count.
		if r.code != cluster && !isolated {
			if isolated = true; q.foes.on(w.hosts.of[at]) {
				return isolation, nil
			}
		}
		if !r.allows(at) {
			return r.code, r.spec
		}
	}
	if !isolated && q.foes.on(w.hosts.of[at]) {
		return isolation, nil
	}
	if len(w.taken(q.want, at)) > 0 {
		return portInUse, nil
	}
	if !w.agents[at].HasOffer {
		return noOffer, nil
	}
	return w.room(q.want, at), nil
}

// room tells whether what is left of the agent's offers is enough.
func (w *world) room(want *Want, at int) code {
	needs, free := w.needs(want, at), &w.free[at].amounts
	switch {
	case needs.CPUMilli > free.CPUMilli:
		return noCPU
	case needs.MemoryMilli > free.MemoryMilli:
		return noMemory
	case needs.DiskMilli > free.DiskMilli:
		return noDisk
	}
	return fits
}

// query is one Want with everything that it is checked against.
type query struct {
	want   *Want
	app    *app
	static *static
	foes   *presence
	rules  []rule
	avoid  []int
	// broken is a constraint that cannot be read.
	broken *padisv1.Constraint
}

// query prepares a Want. The rules are in the order in which they are checked.
func (w *world) query(want *Want) *query {
	q := &query{want: want, app: w.app(want.Slot.AppUID), static: w.static(want), foes: w.foes(w.tenant(want.Tenant))}
	for _, id := range want.Avoid {
		if at, ok := w.byID[id]; ok {
			q.avoid = append(q.avoid, at)
		}
	}
	for _, spec := range want.Constraints {
		if q.broken == nil && w.fault(spec) != "" {
			q.broken = spec
		}
	}
	if q.broken != nil {
		return q
	}
	for _, c := range []code{cluster, unique, maxPer, groupBy} {
		for _, spec := range want.Constraints {
			if codeOf(spec) == c && !isStatic(spec) {
				q.rules = append(q.rules, w.rule(q, c, spec))
			}
		}
	}
	return q
}

// occupancy is an Occupant by index.
type occupancy struct {
	slot   record.Slot
	tenant int32
	agent  int
}
