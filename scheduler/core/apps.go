package core

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

func newApp(rec *padisv1.WantedApp) *app {
	a := &app{slots: map[int32]*slot{}}
	a.set(rec)
	return a
}

// set takes over what is wanted; nothing is, of an App that was forgotten.
func (a *app) set(rec *padisv1.WantedApp) {
	a.rec, a.revisions, a.wants = rec, map[string]*padisv1.Revision{}, map[int32]string{}
	for _, r := range rec.GetRevisions() {
		a.revisions[r.GetHash()] = r
	}
	if rec.GetForgotten() {
		return
	}
	for _, s := range rec.GetSlots() {
		a.wants[s.GetIndex()] = s.GetRevision()
	}
}

// start brings the instances of the ledger in line with its Apps, in case a crash came between their commits.
func (c *Core) start(now time.Time) {
	c.started = true
	for _, uid := range slices.Sorted(maps.Keys(c.apps)) {
		if a := c.apps[uid]; a != nil {
			c.follow(now, a)
		}
	}
}

// want replaces what is wanted of one App.
func (c *Core) want(now time.Time, rec *padisv1.WantedApp) {
	if rec.GetUid() == "" {
		c.fail(fmt.Errorf("app %s/%s has no uid; it was ignored", rec.GetNamespace(), rec.GetName()))
		return
	}
	n := proto.Clone(rec).(*padisv1.WantedApp)
	n.Forgotten = false
	a := c.apps[n.GetUid()]
	if a == nil {
		a = newApp(n)
		c.apps[n.GetUid()] = a
	} else {
		n.AttemptFloor = a.rec.GetAttemptFloor()
		if proto.Equal(a.rec, n) {
			return
		}
		a.set(n)
	}
	c.book.SetApp(n)
	c.attach(a)
	c.turn.puts[record.AppKey(n.GetUid())] = n
	c.turn.place = true
	for _, s := range a.slots {
		c.turn.heed[s.rec.GetAgentId()] = true
	}
	c.follow(now, a)
}

// forget ends an App. The record stays until the last instance is gone, so that a restart goes on with it.
func (c *Core) forget(now time.Time, uid string) {
	a := c.apps[uid]
	if a == nil || a.rec.GetForgotten() {
		return
	}
	n := proto.Clone(a.rec).(*padisv1.WantedApp)
	n.Forgotten = true
	a.set(n)
	c.book.ForgetApp(uid)
	c.turn.puts[record.AppKey(uid)] = n
	c.follow(now, a)
	c.settle(a)
}

// settle removes the record of an App that was forgotten and has no instances left.
func (c *Core) settle(a *app) {
	if uid := a.rec.GetUid(); a.rec.GetForgotten() && len(a.slots) == 0 && c.apps[uid] == a {
		for _, b := range a.balancers {
			delete(b.apps, uid)
			c.turn.balancers[b.uid] = true
		}
		delete(c.apps, uid)
		c.turn.puts[record.AppKey(uid)] = nil
	}
}

// declare replaces all networks, pools and tenants.
func (c *Core) declare(cluster *padisv1.Cluster) {
	n := proto.Clone(cluster).(*padisv1.Cluster)
	if proto.Equal(c.cluster, n) {
		return
	}
	c.cluster = n
	c.book.SetCluster(n)
	c.overlaid()
	c.chart()
	c.stirAll()
	c.cooling = time.Time{} // For how long is what the pools say now.
	c.turn.puts[record.KeyCluster] = n
	c.turn.place = true
	c.heedAll()
}

// follow creates the slots that are wanted and missing and brings all others in line, the highest first: that is the
// order in which an App is scaled in.
func (c *Core) follow(now time.Time, a *app) {
	for _, i := range slices.Sorted(maps.Keys(a.wants)) {
		if a.slots[i] == nil && a.wants[i] != "" {
			c.create(now, a, i)
		}
	}
	for _, i := range slices.Backward(slices.Sorted(maps.Keys(a.slots))) {
		s := a.slots[i]
		if s.revision != a.wants[i] {
			s.revision = a.wants[i]
			c.index(s)
		}
		if s.wanted() && s.rec.GetTenant() != a.rec.GetTenant() {
			n := proto.Clone(s.rec).(*padisv1.InstanceRecord)
			n.Tenant = a.rec.GetTenant()
			c.put(s, n, nil)
		}
		c.align(now, s)
	}
}

func (c *Core) create(now time.Time, a *app, index int32) {
	s := &slot{key: record.Slot{AppUID: a.rec.GetUid(), Index: index}, app: a, revision: a.wants[index]}
	r := instance.New(a.rec, index, a.rec.GetAttemptFloor(), now)
	c.slots[s.key], a.slots[index] = s, s
	key, _, _ := instance.TaskKey(instance.TaskID(r))
	c.tasks[key] = s
	c.put(s, r, nil)
}

// align starts what brings the slot from where it is to what is wanted of it.
func (c *Core) align(now time.Time, s *slot) {
	r := s.rec
	outdated := s.wanted() && r.GetRevision() != s.revision
	switch r.GetPhase() {
	case padisv1.Phase_PENDING:
		if !s.wanted() {
			n, err := instance.Retire(r)
			c.put(s, n, err)
		}
	case padisv1.Phase_BACKOFF:
		switch {
		case !s.wanted():
			n, err := instance.Retire(r)
			c.put(s, n, err)
		case outdated:
			n, err := instance.Wake(r, true)
			c.put(s, n, err)
		}
	case padisv1.Phase_STAGING, padisv1.Phase_STARTING, padisv1.Phase_RUNNING:
		switch {
		case instance.Adopted(r) && r.GetPhase() != padisv1.Phase_RUNNING:
			// First it is taken over, then it can be stopped: a KILL that comes before would leave its container behind.
		case !s.wanted():
			c.stop(now, s)
		case outdated:
			c.replace(now, s)
		case r.GetPrepulling():
			n, err := instance.Abandon(r)
			c.put(s, n, err)
		}
	case padisv1.Phase_STOPPING:
		if (!s.wanted() || outdated) && !r.GetStopWanted() {
			c.stop(now, s)
		}
	case padisv1.Phase_UNREACHABLE:
		// It is stopped when it comes back. Until then its addresses stay with it.
		c.foretell(s)
	case padisv1.Phase_ADOPTING:
		// It is stopped when it was adopted.
	case padisv1.Phase_RETIRED:
		if s.wanted() {
			n, err := instance.Revive(r)
			c.put(s, n, err)
		}
	}
}

// stop kills the task of a slot that is not wanted, or wanted otherwise.
func (c *Core) stop(now time.Time, s *slot) {
	reason, message := padisv1.ReasonUpdating, "is stopped, to start again with the new template"
	if !s.wanted() {
		reason, message = padisv1.ReasonScaledIn, "is stopped; it is not wanted any more"
	}
	n, err := instance.Stop(s.rec, true, reason, message)
	if c.put(s, n, err) && err == nil {
		c.killNow(now, s)
	}
}

// killNow sends the KILL, or leaves it to the next subscription.
func (c *Core) killNow(now time.Time, s *slot) {
	s.kill.start(now)
	if c.link.connected {
		s.kill.again(now, c.cfg.KillRetry, c.cfg.AskMax)
		n := instance.KillSent(s.rec, now)
		c.put(s, n, nil)
		c.call(mesos.Kill{TaskID: n.GetTaskId(), AgentID: n.GetAgentId(), Grace: c.grace(s)})
	}
	c.schedule(s)
}

// grace is the stop time of the revision that runs; 0, which leaves it to the executor, if that is not known any more.
func (c *Core) grace(s *slot) time.Duration {
	ms := s.app.revisions[s.rec.GetRevision()].GetTemplate().GetStop().GetGracePeriodMs()
	return time.Duration(ms) * time.Millisecond
}
