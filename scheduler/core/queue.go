package core

import (
	"container/heap"
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// queue holds when a slot must be looked at again. An entry counts only if the slot still says the same time.
type queue []entry

type entry struct {
	at  time.Time
	key record.Slot
}

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return compareSlots(q[i].key, q[j].key) < 0
}
func (q *queue) Push(x any) { *q = append(*q, x.(entry)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// schedule enters the earliest time at which something is due for the slot.
func (c *Core) schedule(s *slot) {
	due := c.due(s)
	if due.Equal(s.due) {
		return
	}
	s.due = due
	if !due.IsZero() {
		heap.Push(&c.queue, entry{due, s.key})
	}
}

// due is the earliest time at which something must be done for the slot; zero if never. What needs the master is not
// due while there is none.
func (c *Core) due(s *slot) time.Time {
	var at time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	r := s.rec
	switch r.GetPhase() {
	case padisv1.Phase_BACKOFF:
		consider(time.UnixMilli(r.GetNotBeforeMs()))
	case padisv1.Phase_UNREACHABLE:
		if s.wanted() && !s.overdue {
			if at, ever := c.replaceAt(s, r); ever {
				consider(at)
			}
		}
	case padisv1.Phase_ADOPTING:
		if !s.overdue {
			consider(time.UnixMilli(r.GetNotBeforeMs()))
		}
		if !s.hungry.IsZero() && !s.starved {
			consider(s.hungry.Add(patience))
		}
		if over, leased := c.leaseOver(r); leased && r.GetReady() {
			consider(over)
		}
	}
	if !c.link.connected {
		return at
	}
	switch r.GetPhase() {
	case padisv1.Phase_STOPPING:
		consider(s.kill.at)
	case padisv1.Phase_STAGING:
		consider(time.UnixMilli(r.GetLaunchedMs()).Add(c.cfg.LaunchGiveUp))
	}
	consider(s.ask.at)
	for _, g := range s.ghosts {
		consider(g.ask.at)
	}
	return at
}

// pass lets time pass: it does all that is due.
func (c *Core) pass(now time.Time) {
	for len(c.queue) > 0 && !c.queue[0].at.After(now) {
		e := heap.Pop(&c.queue).(entry)
		s := c.slots[e.key]
		if s == nil || !s.due.Equal(e.at) {
			continue
		}
		s.due = time.Time{}
		c.wake(now, s)
		if c.slots[e.key] == s {
			c.schedule(s)
		}
	}
	if !c.link.connected {
		return
	}
	if !c.link.round.After(now) {
		c.round(now)
	}
	for _, id := range slices.Sorted(maps.Keys(c.strays)) {
		if t := c.strays[id]; t.kill.due(now) {
			t.kill.again(now, c.cfg.KillRetry, c.cfg.AskMax)
			c.call(mesos.Kill{TaskID: id, AgentID: t.agentID})
		}
	}
	if asks := c.turn.asks; len(asks) > 0 {
		slices.SortFunc(asks, func(a, b mesos.TaskRef) int { return compareStrings(a.TaskID, b.TaskID) })
		c.call(mesos.Reconcile{Tasks: slices.CompactFunc(asks, func(a, b mesos.TaskRef) bool { return a == b })})
		c.turn.asks = nil
	}
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// wake does what is due for one slot.
func (c *Core) wake(now time.Time, s *slot) {
	r := s.rec
	switch r.GetPhase() {
	case padisv1.Phase_BACKOFF:
		if now.UnixMilli() >= r.GetNotBeforeMs() {
			n, err := instance.Wake(r, false)
			c.put(s, n, err)
		}
	case padisv1.Phase_UNREACHABLE:
		c.index(s)
	case padisv1.Phase_ADOPTING:
		if !s.overdue && now.UnixMilli() >= r.GetNotBeforeMs() {
			c.index(s)
		}
		if !s.hungry.IsZero() && !s.starved && now.Sub(s.hungry) >= patience {
			s.starved = true
			c.turn.heed[r.GetAgentId()] = true
		}
		if over, leased := c.leaseOver(r); leased && !now.Before(over) {
			c.put(s, instance.Expire(s.rec), nil)
		}
	case padisv1.Phase_STOPPING:
		if c.link.connected && s.kill.due(now) {
			s.kill.again(now, c.cfg.KillRetry, c.cfg.AskMax)
			n := instance.KillSent(r, now)
			c.put(s, n, nil)
			c.call(mesos.Kill{TaskID: n.GetTaskId(), AgentID: n.GetAgentId(), Grace: c.grace(s)})
		}
	case padisv1.Phase_STAGING:
		if c.link.connected && !now.Before(time.UnixMilli(r.GetLaunchedMs()).Add(c.cfg.LaunchGiveUp)) {
			n, err := instance.Stop(r, false, padisv1.ReasonTaskLost, "was never heard of; it is killed and started again")
			if c.put(s, n, err) {
				c.killNow(now, s)
			}
		}
	}
	if !c.link.connected {
		return
	}
	if s.ask.due(now) && instance.HasTask(s.rec.GetPhase()) {
		s.ask.again(now, time.Second, c.cfg.AskMax)
		c.turn.asks = append(c.turn.asks, mesos.TaskRef{TaskID: s.rec.GetTaskId(), AgentID: s.rec.GetAgentId()})
	}
	for i, id := range s.rec.GetHauntedTasks() {
		if g := s.ghosts[id]; g.ask.due(now) {
			g.ask.again(now, ghostPause, c.cfg.AskMax)
			c.turn.asks = append(c.turn.asks, mesos.TaskRef{TaskID: id, AgentID: s.rec.GetHauntedAgents()[i]})
		}
	}
}

// ghostPause is the least time between the first word that a task is no more and the one that is believed: by then a
// kernel has taken down what a dead executor left.
const ghostPause = 5 * time.Second

// next is when Step is needed again if nothing happens before.
func (c *Core) next(now time.Time) time.Time {
	var at time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for len(c.queue) > 0 {
		if s := c.slots[c.queue[0].key]; s != nil && s.due.Equal(c.queue[0].at) {
			consider(s.due)
			break
		}
		heap.Pop(&c.queue)
	}
	for _, b := range c.balancers {
		consider(b.due)
	}
	if c.cooling != never {
		consider(c.cooling)
	}
	if c.link.connected {
		consider(c.link.round)
		for _, t := range c.strays {
			consider(t.kill.at)
		}
		for _, a := range c.talking {
			consider(a.talk.again.at)
		}
		consider(c.market.next(now, c))
		consider(c.nextTell())
	}
	return at
}
