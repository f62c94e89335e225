package core

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
	"padis.io/padis/scheduler/instance"
)

// duty is that an agent shall be told a number, until it says that it has it.
type duty struct {
	again repeat
	// since is when it began, in this subscription; zero while there is none.
	since time.Time
	// mark is what it is told; another is told at once.
	mark string
}

const (
	balanceFirst = 500 * time.Millisecond
	balanceMost  = 30 * time.Second
	// strangePatience is for agents of which it is not known that an executor listens there.
	strangePatience = 10 * time.Second
)

// acquit ends the duties of those who have the number; the next one is another duty.
func (c *Core) acquit(b *balancer) {
	n := b.rec.GetNumber()
	for id := range b.relays {
		if c.agents[id].balanceState(b.uid).GetNumber() >= n {
			delete(b.relays, id)
		}
	}
	for id := range b.directs {
		st := c.agents[id].balanceState(b.uid)
		behind := func(task string) bool {
			return !slices.ContainsFunc(st.GetDirectors(), func(d *padisv1.DirectorState) bool { return d.GetTaskId() == task && d.GetNumber() >= n })
		}
		if tasks := c.directing(b, c.agents[id]); len(tasks) > 0 && !slices.ContainsFunc(tasks, behind) {
			delete(b.directs, id)
		}
	}
}

// owe makes the duties those of these agents.
func (c *Core) owe(now time.Time, duties map[string]*duty, agents []string, mark func(agent string) string) {
	for id := range duties {
		if _, ok := slices.BinarySearch(agents, id); !ok {
			delete(duties, id)
		}
	}
	for _, id := range agents {
		d := duties[id]
		if d == nil {
			d = &duty{}
			duties[id] = d
		}
		if d.since.IsZero() && c.link.connected {
			d.since = now
		}
		// An executor that was not heard yet says first what it has: after a restart that is most often all.
		sure := c.agents[id] != nil && c.agents[id].talk.sure
		if m := fmt.Sprint(sure, " ", mark(id)); d.mark != m {
			d.mark = m
			if d.again.start(now); !sure {
				d.again.start(now.Add(balanceFirst))
			}
		}
	}
}

// lateAt is when an agent counts as silent; zero if it does not, because nothing can be said to it.
func (c *Core) lateAt(id string, d *duty) time.Time {
	switch a := c.agents[id]; {
	case d == nil || d.since.IsZero() || !c.link.connected:
		return time.Time{}
	case a != nil && c.listens(a):
		return d.since.Add(balance.Patience)
	}
	return d.since.Add(strangePatience)
}

// tell sends the Balances that are due.
func (c *Core) tell(now time.Time) {
	for _, uid := range slices.Sorted(maps.Keys(c.owing)) {
		b := c.owing[uid]
		for _, id := range slices.Sorted(maps.Keys(b.relays)) {
			if c.tellNow(now, id, b.relays[id]) {
				c.sendBalance(b, id, balance.Relay(b.wanted, b.rec))
			}
		}
		for _, id := range slices.Sorted(maps.Keys(b.directs)) {
			a := c.agents[id]
			tasks := c.directing(b, a)
			if len(tasks) == 0 {
				b.directs[id].again.stop() // They are out of reach; when one is there, it is another mark.
			} else if c.tellNow(now, id, b.directs[id]) {
				c.sendBalance(b, id, balance.Direct(b.wanted, b.rec, tasks, func(sel []*padisv1.AgentSelector) bool { return Selects(sel, a.hostname, a.attributes) }))
			}
		}
	}
}

// tellNow tells whether something is due for an agent, and sets the time of its repetition.
func (c *Core) tellNow(now time.Time, id string, d *duty) bool {
	a := c.agents[id]
	if a == nil || !d.again.due(now) || !c.listens(a) {
		return false
	}
	d.again.again(now, balanceFirst, balanceMost)
	return true
}

func (c *Core) sendBalance(b *balancer, id string, m *padisv1.Balance) {
	a := c.agents[id]
	data, err := padisv1.Encode(&padisv1.ToExecutor{Balance: m})
	if err != nil {
		c.fail(fmt.Errorf("load balancer %s/%s for agent %s: %w; its tableSize is %d", b.wanted.GetNamespace(), b.wanted.GetName(), a.hostname, err, b.wanted.GetTableSize()))
		return
	}
	c.call(mesos.ToExecutor{AgentID: id, ExecutorID: a.executor.GetExecutorId(), Data: data})
}

// nextTell is when a Balance is due for somebody who listens; zero if none is.
func (c *Core) nextTell() time.Time {
	var at time.Time
	for _, b := range c.owing {
		for _, duties := range []map[string]*duty{b.relays, b.directs} {
			for id, d := range duties {
				a := c.agents[id]
				if a == nil || d.again.at.IsZero() || !at.IsZero() && !d.again.at.Before(at) || !c.listens(a) {
					continue
				}
				at = d.again.at
			}
		}
	}
	return at
}

// directing are the tasks of a LoadBalancer's directors on an agent, sorted.
func (c *Core) directing(b *balancer, a *agent) []string {
	if a == nil {
		return nil
	}
	var tasks []string
	for key := range a.slots {
		s := c.slots[key]
		if key.AppUID == b.uid && s.app.rec.GetDirectors() && s.rec.GetAgentId() == a.id && instance.HasTask(s.rec.GetPhase()) {
			tasks = append(tasks, s.rec.GetTaskId())
		}
	}
	slices.Sort(tasks)
	return tasks
}

// balancersOf are the uids of the LoadBalancers that concern real servers on an agent, and directors there.
func (c *Core) balancersOf(a *agent) (relayed, directed []string) {
	if len(c.balancers) == 0 {
		return nil, nil
	}
	for uid, b := range c.balancers {
		if b.agents[a.id] {
			relayed = append(relayed, uid)
		}
	}
	for key := range a.slots {
		if s := c.slots[key]; s.app.rec.GetDirectors() && s.rec.GetAgentId() == a.id && instance.HasTask(s.rec.GetPhase()) && c.balancers[key.AppUID] != nil {
			directed = append(directed, key.AppUID)
		}
	}
	slices.Sort(relayed)
	slices.Sort(directed)
	return relayed, slices.Compact(directed)
}

// balanceState is what the executor on an agent says of a LoadBalancer; nil if it says nothing.
func (a *agent) balanceState(uid string) *padisv1.BalanceState {
	if a == nil || !a.talk.sure {
		return nil
	}
	for _, st := range a.talk.said.GetBalances() {
		if st.GetUid() == uid {
			return st
		}
	}
	return nil
}
