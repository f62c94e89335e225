package core

import (
	"fmt"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// renewed answers a request for renewal, at once, and notes when. The executor counts from when it asked, which was
// before. So what it was granted is over there before it is here.
//
// It is refused while a ghost that had a lease may still be in that executor: its slot may have been given to another
// agent because its lease was over, and must not get its addresses back. A renewal is for all that the executor runs, so
// the others there wait, too, until the ghost was killed or its end is known.
func (c *Core) renewed(now time.Time, a *agent, r *padisv1.Renewal) {
	if c.revenant(a) {
		return
	}
	data, err := padisv1.Encode(&padisv1.ToExecutor{Renewed: r})
	if err != nil {
		c.fail(fmt.Errorf("renewal for executor %s on agent %s: %w", a.executor.GetExecutorId(), a.id, err))
		return
	}
	a.granted = now
	c.call(mesos.ToExecutor{AgentID: a.id, ExecutorID: a.executor.GetExecutorId(), Data: data})
	for key := range a.slots {
		if s := c.slots[key]; s.rec.GetAgentId() == a.id && s.rec.GetPhase() == padisv1.Phase_UNREACHABLE {
			c.foretell(s)
		}
	}
}

// revenant tells whether an executor on the agent may have a task with a lease that its slot has given up.
func (c *Core) revenant(a *agent) bool {
	for key := range a.slots {
		s := c.slots[key]
		for _, g := range instance.Ghosts(s.rec) {
			if g.Agent == a.id && g.LeaseMs > 0 && !s.ghosts[g.Task].ended {
				return true
			}
		}
	}
	return false
}

// leaseOver is when the lease of what an instance runs, or may run, is certainly over; false if it has none. Neither what
// was granted before this scheduler subscribed nor when an executor got a launch is known, so that both count from the
// latest time that is possible. Kernels take addresses down by the second or two, and no two clocks go at the same rate:
// hence the margin.
func (c *Core) leaseOver(r *padisv1.InstanceRecord) (time.Time, bool) {
	if r.GetLeaseMs() == 0 {
		return time.Time{}, false
	}
	last := c.begun
	if last.IsZero() {
		last = c.now
	}
	consider := func(t time.Time) {
		if t.After(last) {
			last = t
		}
	}
	if a := c.agents[r.GetAgentId()]; a != nil {
		consider(a.granted)
	}
	consider(time.UnixMilli(r.GetLaunchedMs()))
	consider(time.UnixMilli(r.GetRunningMs()))
	lease := time.Duration(r.GetLeaseMs()) * time.Millisecond
	return last.Add(lease + lease/10 + 3*time.Second), true
}

// fenced tells whether the slot must not be started elsewhere, because the lease of what it runs is not over.
func (c *Core) fenced(s *slot) bool {
	over, leased := c.leaseOver(s.rec)
	return leased && s.app.rec.GetUnreachable().GetReplace() == padisv1.UnreachablePolicy_LEASE && c.now.Before(over)
}

// replaceAt is when an instance that cannot be reached may be started elsewhere; false is never. It is found anew each
// time, since renewals and the App's policy change it. r is the slot's record, or the one that it will have.
func (c *Core) replaceAt(s *slot, r *padisv1.InstanceRecord) (at time.Time, ever bool) {
	lost := time.UnixMilli(r.GetNotBeforeMs())
	at = lost.Add(c.cfg.UnreachableReplaceAfter)
	switch policy := s.app.rec.GetUnreachable(); policy.GetReplace() {
	case padisv1.UnreachablePolicy_NEVER:
		return time.Time{}, false
	case padisv1.UnreachablePolicy_AFTER:
		at = lost.Add(time.Duration(policy.GetAfterMs()) * time.Millisecond)
	case padisv1.UnreachablePolicy_LEASE:
		// Without an address there is nothing to lease.
		if len(r.GetAddresses()) > 0 {
			if at, ever = c.leaseOver(r); !ever {
				return time.Time{}, false
			}
		}
	}
	later := func(t time.Time) {
		if t.After(at) {
			at = t
		}
	}
	if r.GetReason() == padisv1.ReasonTaskLost {
		later(lost.Add(c.cfg.UnknownReplaceAfter))
	}
	if mayConfigure(r) && !s.answered {
		later(c.bound(r))
	}
	return at, true
}

// bound is until when a launch of which nothing was heard may still configure its addresses without a probe.
func (c *Core) bound(r *padisv1.InstanceRecord) time.Time {
	return time.UnixMilli(r.GetLaunchedMs()).Add(c.cfg.StartBound)
}

// lose notes that nothing can be known of the slot's task, and says when it is replaced.
func (c *Core) lose(now time.Time, s *slot, reason, why string) bool {
	n, err := instance.Lose(s.rec, reason, why, now)
	if err != nil {
		c.fail(err)
		return false
	}
	if n == s.rec {
		return false
	}
	if s.rec.GetPhase() != padisv1.Phase_UNREACHABLE {
		s.answered = s.rec.GetReason() == padisv1.ReasonAddressAnswered
	}
	s.lost = why
	return c.put(s, instance.Say(n, why+"; "+c.fate(s, n)), nil)
}

// foretell brings up to date when an instance that cannot be reached is replaced, and what it says of that.
func (c *Core) foretell(s *slot) {
	if s.rec.GetPhase() != padisv1.Phase_UNREACHABLE {
		return
	}
	why := s.lost
	switch {
	case why != "":
	case s.rec.GetReason() == padisv1.ReasonTaskLost:
		why = notKnown
	default:
		why = noAnswer(s.rec)
	}
	if n := instance.Say(s.rec, why+"; "+c.fate(s, s.rec)); n != s.rec {
		c.show(s, n)
		return
	}
	c.index(s)
	c.schedule(s)
}

const notKnown = "the Mesos master does not know the task"

func noAnswer(r *padisv1.InstanceRecord) string {
	return fmt.Sprintf("agent %s does not answer, and the instance may still run there", r.GetHostname())
}

// fate says when an instance that cannot be reached is started elsewhere, or why it is not.
func (c *Core) fate(s *slot, r *padisv1.InstanceRecord) string {
	const remedy = "bring the agent back, or mark it gone"
	at, ever := c.replaceAt(s, r)
	leased := s.app.rec.GetUnreachable().GetReplace() == padisv1.UnreachablePolicy_LEASE && len(r.GetAddresses()) > 0
	from := at.Add(time.Second - 1).UTC().Truncate(time.Second).Format(time.RFC3339)
	switch {
	case !s.wanted():
		return "it is not wanted any more, but keeps its addresses until its end is certain: " + remedy
	case !ever && leased:
		return "it is not started elsewhere, because it was launched without the lease that its App demands now: " + remedy
	case !ever:
		return "it is not started elsewhere, because its App says never: " + remedy
	case leased:
		return "it is started elsewhere from " + from + " on, when its lease is certainly over, if it is not back by then"
	}
	return "it is started elsewhere from " + from + " on, if it is not back by then"
}
