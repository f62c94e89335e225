package core

import (
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	"padis.io/padis/scheduler/instance"
)

// market is what was agreed with the master about offers.
//
// While nothing is wanted no offers are held, and none are sent: REVIVE brings them within milliseconds, so a stock
// would gain nothing and starve other frameworks. While something is wanted that no offer fits, offers are held for a
// bounded time, because several of them together may fit what comes next.
type market struct {
	// unplaced is how many instances the last run of placement refused for want of a fitting offer.
	unplaced int
	// fresh: something new is wanted since the last REVIVE.
	fresh bool
	// suppressed: the master was told to send no offers.
	suppressed bool
	revivedAt  time.Time
	// revive is when REVIVE is repeated, in case it was lost.
	revive repeat
	// owed are offers whose decline may not have arrived; settle is when it is repeated.
	owed   []string
	settle time.Time
	// quiet is until when SUPPRESS and REVIVE rest, after one could not be sent.
	quiet time.Time
}

// revivePause is the least time between two REVIVEs: each makes the master run an allocation.
const revivePause = time.Second

func (c *Core) roles() []string {
	if c.cfg.Role == "" {
		return nil
	}
	return []string{c.cfg.Role}
}

// trade gives back offers and tells the master whether more are wanted.
func (c *Core) trade(now time.Time) {
	m := &c.market
	if !c.link.connected {
		return
	}
	if len(c.pending) == 0 && len(c.possessed) == 0 {
		m.unplaced, m.fresh = 0, false
	}
	if len(m.owed) > 0 && !m.settle.After(now) {
		c.call(mesos.Decline{OfferIDs: m.owed, Refuse: c.cfg.RefuseShort})
		m.owed = nil
	}
	if m.unplaced == 0 {
		c.close(now)
		return
	}
	var old []string
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		for _, o := range slices.Sorted(maps.Keys(a.offers)) {
			if now.Sub(a.offers[o].since) >= c.cfg.OfferHold {
				old = append(old, o)
				delete(a.offers, o)
			}
		}
	}
	if len(old) > 0 {
		c.call(mesos.Decline{OfferIDs: old, Refuse: c.cfg.RefuseShort})
	}
	fresh := m.fresh && now.Sub(m.revivedAt) >= revivePause
	if !m.quiet.After(now) && (m.suppressed || fresh || m.revive.due(now)) {
		if m.suppressed || fresh {
			m.revive.stop()
		}
		m.suppressed, m.fresh, m.revivedAt = false, false, now
		m.revive.again(now, 5*time.Second, c.cfg.AskMax)
		c.call(mesos.Revive{Roles: c.roles()})
	}
}

// close gives back all offers and asks for no more.
func (c *Core) close(now time.Time) {
	m := &c.market
	m.revive.stop()
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		ids = append(ids, slices.Sorted(maps.Keys(a.offers))...)
		clear(a.offers)
	}
	if len(ids) > 0 {
		c.call(mesos.Decline{OfferIDs: ids, Refuse: c.cfg.RefuseLong})
		m.suppressed = false // Offers that come in spite of it tell that the SUPPRESS was lost.
	}
	if !m.suppressed && !m.quiet.After(now) {
		m.suppressed = true
		c.call(mesos.Suppress{Roles: c.roles()})
	}
}

// next is when trade is needed again; zero if never.
func (m *market) next(now time.Time, c *Core) time.Time {
	var at time.Time
	consider := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if len(m.owed) > 0 {
		consider(m.settle)
	}
	if m.unplaced == 0 {
		if !m.suppressed {
			consider(m.quiet)
		}
		return at
	}
	for _, a := range c.agents {
		for _, o := range a.offers {
			consider(o.since.Add(c.cfg.OfferHold))
		}
	}
	later := func(t time.Time) time.Time {
		if t.Before(m.quiet) {
			return m.quiet
		}
		return t
	}
	if m.fresh {
		consider(later(m.revivedAt.Add(revivePause)))
	}
	if !m.revive.at.IsZero() {
		consider(later(m.revive.at))
	}
	if m.suppressed {
		consider(later(now))
	}
	return at
}

// unsent takes in that a call was not sent, or may not have been. What is repeated anyhow (KILL, questions about
// tasks) needs nothing; offers must not stay in the master's books for ever.
func (c *Core) unsent(now time.Time, call mesos.Call) {
	if !c.link.connected {
		return
	}
	m := &c.market
	owe := func(ids []string) {
		m.owed = append(m.owed, ids...)
		m.settle = now.Add(time.Second)
	}
	switch e := call.(type) {
	case mesos.Decline:
		owe(e.OfferIDs)
	case mesos.Accept:
		// If it arrives late, the decline has made its offers void. The tasks are asked for after that.
		owe(e.OfferIDs)
		for _, t := range e.Tasks {
			key, _, _ := instance.TaskKey(t.ID)
			if s := c.tasks[key]; s != nil && s.rec.GetTaskId() == t.ID {
				s.ask.start(now.Add(2 * time.Second))
				c.schedule(s)
			}
		}
	case mesos.Suppress:
		m.suppressed, m.quiet = false, now.Add(time.Second)
	case mesos.Revive:
		m.suppressed, m.quiet = true, now.Add(time.Second)
	case mesos.Reconcile:
		if len(e.Tasks) == 0 {
			c.link.round = now.Add(time.Second)
		}
	}
}
