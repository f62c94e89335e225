package core

import (
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// reclaimable tells whether a ghost may be taken back. One that was told to end may not.
func (c *Core) reclaimable(s *slot, taskID string) bool {
	return c.strays[taskID] == nil && s.ghosts[taskID] != nil && instance.Reclaimable(s.rec, taskID, s.revision)
}

// reclaimed takes back a task of which the master says that it runs.
func (c *Core) reclaimed(now time.Time, s *slot, st mesos.Status) bool {
	a := c.agents[st.AgentID]
	if st.State != mesos.TaskRunning || a == nil || a.executor == nil || !c.reclaimable(s, st.TaskID) || !c.reclaim(now, s, st.TaskID, a) {
		return false
	}
	c.current(now, s, st)
	if c.slots[s.key] == s {
		if st.Healthy == nil && len(st.Data) == 0 {
			s.ask.start(now) // Whether it is ready is not known.
		}
		c.schedule(s)
	}
	return true
}

// reclaim makes a ghost the slot's own task again, and kills what was launched in its place.
func (c *Core) reclaim(now time.Time, s *slot, taskID string, a *agent) bool {
	before := s.rec
	n, err := instance.Reclaim(before, taskID, a.executor.GetExecutorId(), now)
	if !c.put(s, n, err) || err != nil {
		return false
	}
	s.ask.stop()
	s.kill.stop()
	// What it was told of its network, and why it was lost, is forgotten.
	s.shaped, s.lost, s.answered = true, "", false
	if id := before.GetTaskId(); id != "" && before.GetPhase() != padisv1.Phase_ADOPTING {
		t := &stray{agentID: before.GetAgentId()}
		t.kill.start(now)
		c.strays[id] = t
	}
	return true
}

// regain takes back the containers that haunt instances and whose tasks are over, as soon as it is known that they go
// on: they wait for adoption.
func (c *Core) regain(now time.Time) {
	for _, key := range slices.SortedFunc(maps.Keys(c.possessed), compareSlots) {
		s := c.slots[key]
		for _, g := range instance.Ghosts(s.rec) {
			a := c.agents[g.Agent]
			if g.Container == "" || !s.ghosts[g.Task].ended || a == nil || !a.present || !c.reclaimable(s, g.Task) || !c.goesOn(now, a, s, g) {
				continue
			}
			if c.reclaim(now, s, g.Task, a) {
				n, err := instance.Orphan(s.rec, "its agent was away", c.policy(s), now)
				c.put(s, n, err)
			}
			break
		}
	}
}

// lists tells whether an executor runs there that says which containers have no task.
func (a *agent) lists() bool {
	return a.talk.sure && !a.talk.mute && a.talk.said.GetNoContainers() == ""
}

// goesOn tells whether a container whose task is over is there: its executor lists it; or the address that it has is
// answered; or nothing speaks against it and there is nothing to lose, because nothing was launched in its place, or that
// has not come up for long.
func (c *Core) goesOn(now time.Time, a *agent, s *slot, g instance.Ghost) bool {
	switch {
	case a.lists():
		return slices.Contains(a.talk.said.GetOrphans(), g.Container)
	case s.rec.GetReason() == padisv1.ReasonAddressAnswered:
		return true
	case c.listens(a) && !a.talk.mute:
		return false // It is asked.
	}
	return !instance.HasTask(s.rec.GetPhase()) || now.Sub(s.ghosts[g.Task].over) >= patience
}

// lingers is a task that was to replace one which was taken back, and of which nothing was said since it is killed. Until
// then nothing else is launched: it might find the address free at the very moment at which another does. Empty if there
// is none.
func (c *Core) lingers(s *slot) string {
	for _, id := range instance.Superseded(s.rec) {
		if g := s.ghosts[id]; g != nil && g.over.IsZero() && !g.away {
			return id
		}
	}
	return ""
}
