package executor

import (
	"time"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/metrics"
	"padis.io/padis/mesos"
)

// tally is what metrics show of the time since the start.
type tally struct {
	metrics.Counters
	// subscriptions made so far.
	subscriptions uint64
}

// counted is what is known of one instance until it tally.
type counted struct {
	begun time.Time
	// pulled bytes of its image; runs or ran.
	pulled uint64
	ran    bool
}

// note takes down an event that has happened to an instance.
func (c *tally) note(now time.Time, l *life, ev instance.Event) {
	switch ev := ev.(type) {
	case instance.Begun:
		l.begun = now
	case instance.PullProgress:
		l.pulled = uint64(max(ev.Done, 0))
	case instance.Pulled:
		c.pull(l.pulled, ev.Failure != nil)
	case instance.Adopted:
		if ev.Failure == nil && ev.Ended == nil {
			l.ran = true
			c.Adoptions++
		}
	case instance.Started:
		if ev.Failure == nil {
			l.ran = true
			c.Starts++
			c.StartDuration.Observe(now.Sub(l.begun))
		}
	}
	if _, ok := ev.(instance.Attached); ok && l.wire.took > 0 {
		c.AttachDuration.Observe(l.wire.took)
		l.wire.took = 0
	}
	if l.state.Phase != instance.Ended {
		return
	}
	if !l.ran && l.state.Reported().State == mesos.TaskFailed {
		c.StartFailures++
	}
	c.output(l)
}

func (c *tally) pull(bytes uint64, failed bool) {
	c.Pulls++
	c.PullBytes += bytes
	if failed {
		c.PullFailures++
	}
}

func (c *tally) output(l *life) {
	for _, s := range l.output {
		read, lost := s.Totals()
		c.LogBytes += read
		c.LogDroppedBytes += lost
	}
}

// Counters are what happened since the start.
func (e *Executor) Counters() metrics.Counters {
	var out tally
	e.ask(func(time.Time) {
		out = e.tally
		for c, all := range e.used {
			if l := e.holder(c); l != nil {
				out.Interfaces += uint64(len(l.plan.Wanted.Interfaces))
				out.Addresses += uint64(len(all))
			}
		}
		for _, l := range e.lives {
			if l.state.Runs() {
				out.output(l)
			}
		}
	})
	out.Version = e.Version
	return out.Counters
}

// Measured lists all instances, as metrics show them.
func (e *Executor) Measured() []metrics.Instance {
	var out []metrics.Instance
	e.ask(func(time.Time) {
		for _, l := range e.lives {
			launch := l.plan.Launch
			i := metrics.Instance{
				Namespace: launch.GetNamespace(), App: launch.GetApp(), Name: l.plan.Name(), Tenant: launch.GetTenant(), Container: l.plan.Container,
				Phase: l.state.Phase.String(), Ready: l.state.Reported().Report.GetReady(),
			}
			if l.state.Runs() {
				i.PID = l.instance.PID()
			}
			out = append(out, i)
		}
	})
	return out
}
