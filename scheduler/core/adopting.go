package core

import (
	"maps"
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// adoptee prepares the adoption of a container that runs without a task. It keeps all that it has. An executor that was
// told to leave and does not answer may never have started, because its launch was lost; the adoption then starts it.
func (c *Core) adoptee(_ time.Time, s *slot) (candidate, bool) {
	if a := c.agents[s.rec.GetAgentId()]; a != nil && (c.departing(a) && !a.talk.mute || c.stranger(a) != "") {
		c.refuse(s, padisv1.ReasonAdopting, "an earlier executor on "+a.hostname+" has not ended", nil)
		return candidate{}, false
	}
	cand := candidate{s: s, revision: c.present(s)}
	cand.leases = assign(cand.revision.GetNetworks(), s.key.Index, s.leases)
	for i, l := range cand.leases {
		// A pool that is not declared any more is no reason to forget a container; its executor knows its links.
		if link, ok := c.attachment(s.app.rec, cand.revision, i, l); ok {
			cand.links = append(cand.links, link)
		}
	}
	return cand, true
}

// departing tells whether an executor runs that was told to leave. Nothing is launched there before it has ended.
func (c *Core) departing(a *agent) bool { return a.executor.GetLeaving() && c.runsExecutor(a) }

// present is the revision of the container that runs. If the App has forgotten it, the executor still knows what it
// runs; what it takes is then taken from the revision that is wanted.
func (c *Core) present(s *slot) *padisv1.Revision {
	if rev := s.app.revisions[s.rec.GetRevision()]; rev != nil {
		return rev
	}
	t := &padisv1.Template{Resources: &padisv1.Resources{CpuMilli: 10, MemoryMib: 32}}
	if next := s.app.revisions[s.revision]; next != nil {
		t.Resources, t.Stop = next.GetTemplate().GetResources(), next.GetTemplate().GetStop()
	}
	return &padisv1.Revision{Hash: s.rec.GetRevision(), Template: t}
}

// possess keeps possessed true: the slot is in it if a container haunts it whose task is over.
func (c *Core) possess(s *slot) {
	over := false
	for _, g := range instance.Ghosts(s.rec) {
		if g.Container != "" && s.ghosts[g.Task].ended {
			over = true
			c.turn.heed[g.Agent] = true
		}
	}
	switch {
	case over && c.possessed[s.key] == nil:
		c.possessed[s.key] = s
		c.turn.place, c.market.fresh = true, true
	case over:
		c.turn.place = true
	default:
		delete(c.possessed, s.key)
	}
}

// exorcisms are launches that take over containers which haunt instances, where no executor runs that could discard
// them. As foreign tasks they are killed as soon as they run.
func (c *Core) exorcisms() []candidate {
	var out []candidate
	for _, key := range slices.SortedFunc(maps.Keys(c.possessed), compareSlots) {
		s := c.possessed[key]
		for _, g := range instance.Ghosts(s.rec) {
			a := c.agents[g.Agent]
			if g.Container == "" || !s.ghosts[g.Task].ended || c.reclaimable(s, g.Task) || a == nil || !a.present || c.stranger(a) != "" || !a.talk.mute && (c.runsExecutor(a) || c.listens(a)) {
				continue
			}
			rev := c.present(s)
			t := &padisv1.Template{Image: rev.GetTemplate().GetImage(), Resources: rev.GetTemplate().GetResources(), Stop: rev.GetTemplate().GetStop()}
			out = append(out, candidate{s: s, revision: &padisv1.Revision{Hash: rev.GetHash(), Template: t}, ghost: g.Task, ghostAgent: g.Agent, container: g.Container})
			break // One launch of a slot in a turn: each is a new record.
		}
	}
	return out
}

// deny is refuse for any candidate; that something haunts an instance is not why it is where it is.
func (c *Core) deny(cand candidate, reason, message string) {
	if cand.ghost == "" {
		c.refuse(cand.s, reason, message, map[string]int32{reason: 1})
	}
}

// patience is how long an instance waits for room for its adoption before its executor is asked for its container. Less
// than that is the usual wait for an offer; and what is not wanted is rather adopted and stopped, with its grace, than
// discarded.
const patience = 10 * time.Second

// hunger keeps hungry and starved true after a refusal. An agent that is full to the last CPU or byte makes no offer at
// all, so that no offer for long counts like one that is too small.
func (c *Core) hunger(s *slot) {
	lacks := int32(0)
	for _, reason := range []string{padisv1.ReasonNoOffers, padisv1.ReasonInsufficientCPU, padisv1.ReasonInsufficientMemory, padisv1.ReasonInsufficientDisk} {
		lacks += s.refusals[reason]
	}
	switch {
	case s.rec.GetPhase() != padisv1.Phase_ADOPTING || lacks == 0:
		s.hungry, s.starved = time.Time{}, false
	case s.hungry.IsZero():
		s.hungry = c.now
	}
	c.schedule(s)
}

// inquire marks the starved instances of an agent that have not been asked for; false if there are none. What was said
// before may be the word of an executor that had the container itself.
func (c *Core) inquire(a *agent, generation int64) bool {
	found := false
	for key := range a.slots {
		if s := c.slots[key]; s.rec.GetAgentId() == a.id && s.starved && s.asked == 0 {
			s.asked, found = generation, true
		}
	}
	return found
}

// answered tells whether the executor has said, since it was asked, that the container is not there which waits for
// adoption. One that cannot look after containers does not know of those that are wanted.
func answered(a *agent, s *slot) bool {
	said := a.talk.said
	return s.rec.GetPhase() == padisv1.Phase_ADOPTING && s.rec.GetAgentId() == a.id && s.asked > 0 && said.GetGeneration() >= s.asked &&
		(said.GetNoContainers() == "" || !s.wanted()) && !slices.Contains(said.GetOrphans(), s.rec.GetContainer())
}
