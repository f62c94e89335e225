package core

import (
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// agent is a host, as far as it is known.
type agent struct {
	id, hostname, url string
	attributes        map[string]string
	// rec is what the ledger holds of it; nil unless an instance is or may be there.
	rec      *padisv1.AgentRecord
	executor *padisv1.ExecutorRecord
	// offers that are held, by id.
	offers map[string]heldOffer
	// slots that have a task there, or may have.
	slots map[record.Slot]bool
	// present: it was heard of in this subscription and not reported away since.
	present bool
	// leaving: maintenance or a drain is announced.
	leaving bool
	// info is what the operator API told last; nil before.
	info *mesos.Agent
	// talk is what is wanted of its executor beside its tasks, and what that says.
	talk talk
	// granted is when a renewal was answered last; zero if none was.
	granted time.Time
	// seen is what its executor saw of addresses.
	seen sighting
	// unheard is a task of the last launch there, until something is heard of it: before, an offer may be older than the launch.
	unheard string
	// vacant: an offer shows that no executor of ours runs there.
	vacant bool
	// shutdownAt is when an outdated executor was asked to end.
	shutdownAt time.Time
}

type heldOffer struct {
	mesos.Offer
	since time.Time
}

// agent returns the agent, making it if it is new.
func (c *Core) agent(id string) *agent {
	a := c.agents[id]
	if a == nil {
		a = &agent{id: id, offers: map[string]heldOffer{}, slots: map[record.Slot]bool{}}
		c.agents[id] = a
	}
	return a
}

func (a *agent) load(r *padisv1.AgentRecord) {
	a.rec, a.hostname, a.url, a.attributes, a.seen.hosts = r, r.GetHostname(), r.GetUrl(), r.GetAttributes(), r.GetAddresses()
}

// record is what the ledger shall hold of the agent.
func (a *agent) record() *padisv1.AgentRecord {
	return &padisv1.AgentRecord{AgentId: a.id, Hostname: a.hostname, Attributes: maps.Clone(a.attributes), Url: a.url, Addresses: a.seen.hosts}
}

// heard notes that the agent is there. What it may still run is asked for when it was away before.
func (c *Core) heard(now time.Time, a *agent) {
	if a.present {
		return
	}
	a.present = true
	c.turn.agents[a.id], c.turn.place, c.turn.heed[a.id] = true, true, true
	for _, key := range slices.SortedFunc(maps.Keys(a.slots), compareSlots) {
		s := c.slots[key]
		if s.rec.GetPhase() == padisv1.Phase_UNREACHABLE && s.rec.GetAgentId() == a.id {
			s.ask.start(now)
		}
		for i, id := range s.rec.GetHauntedTasks() {
			// Once it is said to be over, there is a pause before it is asked for again.
			if g := s.ghosts[id]; s.rec.GetHauntedAgents()[i] == a.id && g.over.IsZero() {
				g.ask.start(now)
			}
		}
		c.schedule(s)
	}
}

// away notes that the agent does not answer; its offers are void.
func (c *Core) away(a *agent) {
	if a.present || len(a.offers) > 0 {
		a.present, a.info = false, nil
		// Its executor may end and nobody be told.
		a.talk.sure, a.talk.shown, a.vacant = false, false, false
		c.turn.heed[a.id] = true
		clear(a.offers)
		c.turn.agents[a.id], c.turn.place = true, true
	}
}

// rehost keeps the agents' lists of slots true, and the slot's ghosts, after its record has changed.
func (c *Core) rehost(s *slot, before *padisv1.InstanceRecord) {
	if before == nil {
		before = &padisv1.InstanceRecord{}
	}
	for _, id := range hosts(before) {
		if a := c.agents[id]; a != nil {
			delete(a.slots, s.key)
			c.turn.agents[id] = true
		}
	}
	for _, id := range hosts(s.rec) {
		c.agent(id).slots[s.key] = true
		c.turn.agents[id] = true
	}
	for _, id := range hosts(before) {
		if a := c.agents[id]; a != nil && len(a.slots) == 0 && a.rec != nil {
			a.rec = nil
			c.turn.puts[record.AgentKey(id)] = nil
		}
	}
	c.conjure(s)
}

// conjure makes the slot's ghosts those of its record.
func (c *Core) conjure(s *slot) {
	tasks := s.rec.GetHauntedTasks()
	for id := range s.ghosts {
		if !slices.Contains(tasks, id) {
			delete(s.ghosts, id)
		}
	}
	for _, id := range tasks {
		if s.ghosts[id] == nil {
			if s.ghosts == nil {
				s.ghosts = map[string]*ghost{}
			}
			s.ghosts[id] = &ghost{}
			s.ghosts[id].ask.start(c.now.Add(ghostPause))
		}
	}
	for _, g := range instance.Ghosts(s.rec) {
		s.ghosts[g.Task].container = g.Container
	}
	c.possess(s)
}

// hosts are the agents on which the instance has a task, or may have.
func hosts(r *padisv1.InstanceRecord) []string {
	ids := r.GetHauntedAgents()
	if instance.HasTask(r.GetPhase()) && r.GetAgentId() != "" && !slices.Contains(ids, r.GetAgentId()) {
		ids = append(slices.Clone(ids), r.GetAgentId())
	}
	return ids
}

// offered takes in offers; those of other roles go back.
func (c *Core) offered(now time.Time, offers []mesos.Offer) {
	for _, o := range offers {
		if c.cfg.Role != "" && o.Role != "" && o.Role != c.cfg.Role {
			c.call(mesos.Decline{OfferIDs: []string{o.ID}, Refuse: c.cfg.RefuseLong})
			continue
		}
		a := c.agent(o.AgentID)
		a.hostname, a.url, a.attributes = o.Hostname, o.URL, o.Attributes
		a.leaving = !o.UnavailableFrom.IsZero()
		a.offers[o.ID] = heldOffer{o, now}
		c.manned(now, a, o.ExecutorIDs)
		c.turn.heed[a.id] = true
		c.heard(now, a)
		c.renew(a)
		c.turn.agents[a.id], c.turn.place = true, true
	}
}

// manned takes in which executors of ours the master believes on an agent. It knows of each that its agent knows; that one
// is missing from an offer which is younger than the last launch there means that it has ended, whatever was told of it.
func (c *Core) manned(now time.Time, a *agent, listed []string) {
	switch {
	case a.executor == nil:
	case slices.Contains(listed, a.executor.GetExecutorId()):
		a.talk.shown, a.vacant = true, false
	case !a.vacant && a.unheard == "" && !c.staged(a):
		c.lapse(a)
		a.vacant = true
		c.turn.agents[a.id] = true
		for _, key := range slices.SortedFunc(maps.Keys(a.slots), compareSlots) {
			if s := c.slots[key]; s.rec.GetAgentId() == a.id && s.rec.GetPhase() != padisv1.Phase_ADOPTING {
				s.ask.start(now)
				c.schedule(s)
			}
		}
	}
}

// outlived notes that the executor of a task has ended, as its agent says: nobody else may have said so.
func (c *Core) outlived(s *slot, st mesos.Status) {
	a := c.agents[st.AgentID]
	if s == nil || a == nil || st.Source != "SOURCE_AGENT" || st.Reason != "REASON_EXECUTOR_TERMINATED" && st.Reason != "REASON_EXECUTOR_REREGISTRATION_TIMEOUT" {
		return
	}
	own := s.rec.GetTaskId() == st.TaskID && s.rec.GetPhase() != padisv1.Phase_ADOPTING && s.rec.GetPhase() != padisv1.Phase_STAGING
	if g := s.ghosts[st.TaskID]; own || g != nil && !g.ended {
		c.lapse(a)
		c.turn.heed[a.id] = true
	}
}

// renew writes what has changed of an agent that the ledger knows.
func (c *Core) renew(a *agent) {
	if a.rec == nil || a.rec.GetHostname() == a.hostname && a.rec.GetUrl() == a.url && maps.Equal(a.rec.GetAttributes(), a.attributes) &&
		slices.EqualFunc(a.rec.GetAddresses(), a.seen.hosts, sameAddress) {
		return
	}
	c.moved(a)
	a.rec = a.record()
	c.turn.puts[record.AgentKey(a.id)] = a.rec
}

func (c *Core) rescinded(id string) {
	for _, a := range c.agents {
		if _, ok := a.offers[id]; ok {
			delete(a.offers, id)
			c.turn.agents[a.id] = true
		}
	}
}

// polled takes in what the operator API tells of all agents.
func (c *Core) polled(now time.Time, seen []mesos.Agent) {
	there := map[string]bool{}
	for _, info := range seen {
		there[info.ID] = true
		a := c.agent(info.ID)
		a.hostname, a.attributes = info.Hostname, info.Attributes
		if info.URL != "" {
			a.url = info.URL
		}
		if leaving := info.Drain != ""; leaving != a.leaving && len(a.offers) == 0 {
			a.leaving = leaving
		}
		if a.info == nil || !sameAgent(*a.info, info) {
			a.info = &info
			c.turn.agents[a.id] = true
		}
		if info.Active && c.link.connected {
			c.heard(now, a)
		}
		c.renew(a)
	}
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		if there[id] || len(a.offers) > 0 {
			continue
		}
		if a.info != nil {
			a.info = nil
			c.turn.agents[id] = true
		}
		if len(a.slots) > 0 {
			continue
		}
		// Nothing of ours is there and the master does not know it: should it come back, its executor is found anew.
		if a.executor != nil {
			c.turn.puts[record.ExecutorKey(id)] = nil
		}
		c.unsee(a)
		delete(c.agents, id)
		c.turn.agents[id] = true
	}
}

func sameAgent(a, b mesos.Agent) bool {
	return a.Hostname == b.Hostname && a.URL == b.URL && maps.Equal(a.Attributes, b.Attributes) && a.Total == b.Total &&
		a.Active == b.Active && a.Version == b.Version && a.Drain == b.Drain
}

// failed takes in the end of an executor or the removal of an agent. The updates of their tasks come by themselves;
// they are asked for in case they do not.
func (c *Core) failed(now time.Time, f mesos.Failure) {
	a := c.agents[f.AgentID]
	if a == nil {
		return
	}
	for id, o := range a.offers {
		o.ExecutorIDs = slices.DeleteFunc(slices.Clone(o.ExecutorIDs), func(e string) bool { return e == f.ExecutorID })
		a.offers[id] = o
	}
	if f.ExecutorID == "" {
		c.away(a)
	} else if a.executor.GetExecutorId() == f.ExecutorID {
		a.shutdownAt = time.Time{}
		c.lapse(a)
		c.turn.heed[a.id] = true
		a.vacant = false
		if !c.staged(a) {
			a.executor = nil
			c.turn.puts[record.ExecutorKey(a.id)] = nil
		}
		c.turn.agents[a.id], c.turn.place = true, true
	}
	for _, key := range slices.SortedFunc(maps.Keys(a.slots), compareSlots) {
		s := c.slots[key]
		if s.rec.GetAgentId() == a.id && (f.ExecutorID == "" || s.rec.GetExecutorId() == f.ExecutorID) {
			s.ask.start(now.Add(time.Second))
			c.schedule(s)
		}
	}
}

// staged tells whether a launch is on its way that may start the agent's executor again. Until that is known, no other
// executor is started there.
func (c *Core) staged(a *agent) bool {
	for key := range a.slots {
		if r := c.slots[key].rec; r.GetAgentId() == a.id && r.GetPhase() == padisv1.Phase_STAGING && r.GetExecutorId() == a.executor.GetExecutorId() {
			return true
		}
	}
	return false
}
