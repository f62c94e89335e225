package core

import (
	"fmt"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

func (c *Core) fromMesos(now time.Time, ev mesos.Event) {
	switch e := ev.(type) {
	case mesos.Subscribed:
		c.subscribed(now, e)
	case mesos.Disconnected:
		c.disconnected()
	case mesos.Offers:
		c.offered(now, e.Offers)
	case mesos.Rescind:
		c.rescinded(e.OfferID)
	case mesos.Update:
		c.update(now, e.Status)
	case mesos.Failure:
		c.failed(now, e)
	case mesos.InverseOffers:
		c.leave(e.Offers)
	case mesos.AgentsSeen:
		c.polled(now, e.Agents)
	case mesos.FromExecutor:
		c.said(now, e)
	case mesos.Failed:
		c.fail(fmt.Errorf("the Mesos master refused the framework: %s", e.Message))
	default:
		c.fail(fmt.Errorf("event %T of Mesos is not known to this version", ev))
	}
}

// subscribed starts anew: offers of the old subscription are void, and every task is asked for.
func (c *Core) subscribed(now time.Time, e mesos.Subscribed) {
	c.disconnected()
	c.link.connected = true
	if c.framework != e.FrameworkID {
		c.framework = e.FrameworkID
		c.turn.puts[record.KeyFramework] = &padisv1.FrameworkRecord{FrameworkId: e.FrameworkID}
	}
	c.link.round = now
	if c.begun.IsZero() {
		c.begun = now
	}
	for _, key := range c.Slots() {
		s := c.slots[key]
		c.foretell(s)
		if s.rec.GetPhase() == padisv1.Phase_STOPPING {
			s.kill.start(now)
		}
		c.schedule(s)
	}
	c.turn.place = true
	c.heedAll()
	c.stirAll()
	c.market.fresh = len(c.pending) > 0
}

// disconnected forgets what belonged to the subscription.
func (c *Core) disconnected() {
	c.link = link{}
	c.market = market{}
	clear(c.strays)
	for _, a := range c.agents {
		a.present, a.shutdownAt = false, time.Time{}
		a.talk.sure, a.talk.shown, a.vacant, a.unheard = false, false, false, ""
		clear(a.offers)
	}
	for _, key := range c.Slots() {
		s := c.slots[key]
		for _, g := range s.ghosts {
			g.doubt()
		}
		c.possess(s)
		c.schedule(s)
	}
	for _, b := range c.balancers {
		for _, d := range b.relays {
			d.since = time.Time{}
		}
		for _, d := range b.directs {
			d.since = time.Time{}
		}
	}
	c.stirAll()
	c.turn.place = true
}

// round asks for the state of every task that is or may be, and of all others that the master knows. Silence is no
// answer: what is not answered is asked for again.
func (c *Core) round(now time.Time) {
	c.link.round = now.Add(c.cfg.ReconcileInterval)
	c.call(mesos.Reconcile{})
	for _, key := range c.Slots() {
		s := c.slots[key]
		if instance.HasTask(s.rec.GetPhase()) {
			s.ask.start(now)
			c.wake(now, s)
			if c.slots[key] == s {
				c.schedule(s)
			}
		}
	}
}

// leave notes announced maintenance. Nothing new is put there; what runs is left alone.
func (c *Core) leave(offers []mesos.InverseOffer) {
	var ids []string
	for _, o := range offers {
		ids = append(ids, o.ID)
		if a := c.agents[o.AgentID]; a != nil && !a.leaving {
			a.leaving = true
			c.turn.agents[a.id] = true
		}
	}
	if len(ids) > 0 {
		c.call(mesos.AcceptInverse{IDs: ids})
	}
}

// update takes in a status. The acknowledgement goes out after what the status changed is durable.
func (c *Core) update(now time.Time, st mesos.Status) {
	if len(st.UUID) > 0 {
		c.turn.acks = append(c.turn.acks, mesos.Acknowledge{AgentID: st.AgentID, TaskID: st.TaskID, UUID: st.UUID})
	}
	if a := c.agents[st.AgentID]; a != nil {
		if st.Source == "SOURCE_AGENT" || st.Source == "SOURCE_EXECUTOR" || st.Reason == "REASON_AGENT_REREGISTERED" {
			c.heard(now, a)
		}
		if st.State == mesos.TaskUnreachable {
			c.away(a)
		}
	}
	key, _, _ := instance.TaskKey(st.TaskID)
	s := c.tasks[key]
	if a := c.agents[st.AgentID]; a != nil && a.unheard == st.TaskID {
		a.unheard = ""
	}
	c.outlived(s, st)
	if s == nil || s.rec.GetTaskId() != st.TaskID || !instance.HasTask(s.rec.GetPhase()) {
		c.foreign(now, s, st)
		return
	}
	s.ask.stop()
	c.current(now, s, st)
	if c.slots[s.key] == s {
		c.askLater(now, s)
		c.schedule(s)
	}
}

// askLater decides when the slot's task is asked for if nothing more is heard.
func (c *Core) askLater(now time.Time, s *slot) {
	switch s.rec.GetPhase() {
	case padisv1.Phase_STAGING:
		s.ask.start(now.Add(c.cfg.LaunchTimeout))
	case padisv1.Phase_UNREACHABLE:
		// What its agent does not have may be a container without a task: that it is one should be known before it is replaced.
		if s.rec.GetReason() == padisv1.ReasonTaskLost {
			s.ask.start(now.Add(min(c.cfg.AskMax, c.cfg.UnknownReplaceAfter/3)))
			return
		}
		s.ask.start(now.Add(c.cfg.AskMax))
	case padisv1.Phase_ADOPTING:
		s.ask.start(now.Add(c.cfg.AskMax))
	}
}

// current takes in the status of the slot's own task.
func (c *Core) current(now time.Time, s *slot, st mesos.Status) {
	phase := s.rec.GetPhase()
	switch {
	case st.State == mesos.TaskStaging || st.State == mesos.TaskStarting:
		if phase == padisv1.Phase_RUNNING || phase == padisv1.Phase_STOPPING || phase == padisv1.Phase_STAGING && st.State == mesos.TaskStaging {
			return // An update that is older than what is known.
		}
		rep := c.report(st)
		n, err := instance.Start(s.rec, rep)
		if phase == padisv1.Phase_STARTING && rep.GetReason() == "" || sameNews(s.rec, n) {
			return
		}
		if c.put(s, n, err) {
			c.align(now, s)
		}
	case st.State == mesos.TaskRunning:
		c.running(now, s, st)
	case st.State == mesos.TaskKilling:
		if phase != padisv1.Phase_STOPPING {
			n, err := instance.Stop(s.rec, false, padisv1.ReasonStopping, "is stopped by its agent")
			if c.put(s, n, err) {
				s.kill.start(now.Add(c.cfg.KillRetry))
				c.align(now, s)
			}
		}
	case st.State == mesos.TaskUnreachable:
		c.lose(now, s, padisv1.ReasonAgentUnreachable, noAnswer(s.rec))
	case st.State == mesos.TaskUnknown:
		c.unknown(now, s)
	case st.State.Terminal():
		e := instance.Verdict(st)
		if e.Cause == instance.Collapsed && s.rec.GetRunningMs() == 0 {
			e.Cause = instance.Dropped
		}
		e.Report = c.report(st)
		if e.Report.GetReason() == padisv1.ReasonContainerGone {
			e.Cause = instance.Collapsed
		}
		c.end(now, s, e)
	default:
		c.fail(fmt.Errorf("task %s: state %s is not known to this version", st.TaskID, st.State))
	}
}

func (c *Core) running(now time.Time, s *slot, st mesos.Status) {
	before := s.rec
	if before.GetPhase() == padisv1.Phase_STOPPING {
		return
	}
	rep := c.report(st)
	ready := st.Healthy
	if rep != nil {
		is := rep.GetReady()
		ready = &is
	}
	n, err := instance.Run(before, rep, ready, now)
	if err == nil && rep == nil && before.GetPhase() == padisv1.Phase_RUNNING && n.GetReady() == before.GetReady() {
		return // Reconciliation found it as it was; what its executor said of it stays.
	}
	if sameNews(before, n) {
		return
	}
	if c.put(s, n, err) {
		c.align(now, s)
	}
}

// sameNews tells whether a transition changed nothing that is worth a write.
func sameNews(a, b *padisv1.InstanceRecord) bool {
	return a.GetPhase() == b.GetPhase() && a.GetReason() == b.GetReason() && a.GetMessage() == b.GetMessage() && a.GetReady() == b.GetReady() &&
		a.GetRunningMs() == b.GetRunningMs() && a.GetReadyMs() == b.GetReadyMs() && len(a.GetHauntedTasks()) == len(b.GetHauntedTasks()) &&
		a.GetImageDigest() == b.GetImageDigest()
}

// mayConfigure tells whether the task may still configure addresses that it has not configured yet. One that said that
// its address is answered probes before it does.
func mayConfigure(r *padisv1.InstanceRecord) bool {
	return len(r.GetAddresses()) > 0 && r.GetRunningMs() == 0 && r.GetReason() != padisv1.ReasonAddressAnswered
}

// unknown takes in that the master does not know the slot's task. It says so of tasks on agents that have not come back
// to it yet, when it has lost its memory, and in answer to every KILL; of a task that a registered agent does not have
// it says GONE when it is asked.
func (c *Core) unknown(now time.Time, s *slot) {
	r := s.rec
	away := r.GetPhase() == padisv1.Phase_UNREACHABLE
	settled := !c.fenced(s) && (!mayConfigure(r) || !now.Before(c.bound(r)))
	if r.GetContainer() != "" && (r.GetPhase() == padisv1.Phase_STOPPING || instance.Adopted(r)) {
		settled = settled && away
	}
	switch {
	case settled && away && !s.wanted():
		c.finish(now, s, instance.Ending{Cause: instance.Dropped, Reason: padisv1.ReasonTaskLost, Message: notKnown})
	case settled && (r.GetPhase() == padisv1.Phase_STAGING || r.GetPhase() == padisv1.Phase_STOPPING):
		c.end(now, s, instance.Ending{Cause: instance.Dropped, Reason: padisv1.ReasonTaskLost, Message: notKnown})
	case !away:
		c.missed(now, s, notKnown)
	}
}

// missed notes that nobody seems to have the slot's task, and asks once more.
func (c *Core) missed(now time.Time, s *slot, message string) {
	if s.rec.GetPhase() == padisv1.Phase_UNREACHABLE {
		return
	}
	if c.lose(now, s, padisv1.ReasonTaskLost, message) {
		s.kill.stop()
		c.turn.asks = append(c.turn.asks, mesos.TaskRef{TaskID: s.rec.GetTaskId(), AgentID: s.rec.GetAgentId()})
	}
}

// end takes in the end of the slot's task. If its container goes on, it waits for adoption.
func (c *Core) end(now time.Time, s *slot, e instance.Ending) {
	switch {
	case e.Reason == padisv1.ReasonTaskLost && !e.Certain && c.fenced(s):
		// Its executor may have it for all that, and its lease is not over.
		c.missed(now, s, e.Message)
	case !instance.Outlives(s.rec, e):
		c.finish(now, s, e)
	case e.Reason == padisv1.ReasonTaskLost && !e.Never:
		// That is also said of tasks that their executors have, which then must not be given to another task.
		c.missed(now, s, e.Message)
	case s.rec.GetPhase() != padisv1.Phase_ADOPTING:
		n, err := instance.Orphan(s.rec, e.Message, c.policy(s), now)
		s.kill.stop()
		c.put(s, n, err)
	}
}

// policy is that of the revision that is wanted, or else of the one that runs.
func (c *Core) policy(s *slot) *padisv1.RestartPolicy {
	if p := s.app.revisions[s.revision]; p != nil {
		return p.GetRestart()
	}
	return s.app.revisions[s.rec.GetRevision()].GetRestart()
}

// finish ends the slot's task and all that belonged to it.
func (c *Core) finish(now time.Time, s *slot, e instance.Ending) {
	n, err := instance.End(s.rec, e, s.wanted(), c.policy(s), now)
	id := s.rec.GetTaskId()
	s.ask.stop()
	s.kill.stop()
	if c.put(s, n, err) && err == nil && c.slots[s.key] == s {
		if g := s.ghosts[id]; g != nil {
			g.over = now
			g.ended = e.Reason != padisv1.ReasonTaskLost
			c.possess(s)
		}
		c.align(now, s)
	}
}

// foreign takes in the status of a task that is not its slot's task now, or that belongs to no slot: an earlier attempt
// that lives is killed, one that is over haunts no longer.
func (c *Core) foreign(now time.Time, s *slot, st mesos.Status) {
	if st.State == mesos.TaskUnreachable {
		delete(c.strays, st.TaskID)
		if s != nil && s.ghosts[st.TaskID] != nil {
			s.ghosts[st.TaskID].doubt()
			s.ghosts[st.TaskID].away, c.turn.place = true, true
			c.possess(s)
			c.schedule(s)
		}
		return
	}
	if st.State.Terminal() || st.State == mesos.TaskUnknown {
		delete(c.strays, st.TaskID)
		if s != nil && s.ghosts[st.TaskID] != nil {
			c.laid(now, s, st)
		}
		return
	}
	if s != nil {
		if c.reclaimed(now, s, st) {
			return
		}
		// What it was launched with is not known any more; what the App demands is the best guess.
		lease := s.app.rec.GetUnreachable().GetLeaseMs()
		c.put(s, instance.Haunt(s.rec, instance.Ghost{Agent: st.AgentID, Task: st.TaskID, Container: c.report(st).GetContainer(), LeaseMs: lease}), nil)
		if g := s.ghosts[st.TaskID]; g != nil {
			g.doubt()
			g.away = false
			c.possess(s)
			coming := st.State == mesos.TaskStaging || st.State == mesos.TaskStarting
			if coming && c.reclaimable(s, st.TaskID) {
				c.schedule(s)
				return // It is to adopt a container, and is taken back when it has.
			}
			if g.container != "" && g.container != st.TaskID && st.State == mesos.TaskStarting {
				return // It was sent to take the container over, and is killed when it has done so; or if it never gets there.
			}
		}
	}
	t := c.strays[st.TaskID]
	if t == nil {
		t = &stray{agentID: st.AgentID}
		c.strays[st.TaskID] = t
	}
	t.agentID = st.AgentID
	if t.kill.at.IsZero() && st.State != mesos.TaskKilling {
		t.kill.start(now)
	}
}

// laid takes in the end of a ghost, or that the master does not know it.
func (c *Core) laid(now time.Time, s *slot, st mesos.Status) {
	g := s.ghosts[st.TaskID]
	certain := false
	if st.State.Terminal() {
		e := instance.Verdict(st)
		e.Report = c.report(st)
		// The container that it took over stays where nobody had the task, or could look after containers.
		certain = e.Certain && (g.container == "" || g.container == st.TaskID || !e.Never && e.Report.GetReason() != padisv1.ReasonRuntimeUnavailable)
	}
	if !certain {
		if g.over.IsZero() {
			g.over = now
			g.ask.start(now.Add(ghostPause))
		}
		switch st.State {
		case mesos.TaskGone, mesos.TaskFailed, mesos.TaskKilled, mesos.TaskFinished:
			// Not LOST and DROPPED: those are also said of tasks that their executors have.
			g.ended = true
		}
		// GONE: its agent is registered and does not have it. UNKNOWN, of an agent that is not: it may come back with it.
		pause := c.cfg.GhostPatience
		if st.State == mesos.TaskGone && st.Reason == "REASON_RECONCILIATION" && g.container == "" {
			pause = ghostPause
		}
		// That a registered agent does not have the task says nothing of its container.
		certain = now.Sub(g.over) >= pause && (g.container == "" || st.State == mesos.TaskUnknown)
	}
	if certain {
		c.put(s, instance.Release(s.rec, st.TaskID), nil)
	} else {
		c.turn.place = true
		c.possess(s)
		c.schedule(s)
	}
}

// report decodes what the executor says; nil if it says nothing that can be read.
func (c *Core) report(st mesos.Status) *padisv1.InstanceReport {
	if len(st.Data) == 0 {
		return nil
	}
	rep := &padisv1.InstanceReport{}
	if err := padisv1.Decode(st.Data, rep); err != nil {
		c.fail(fmt.Errorf("report of task %s: %w", st.TaskID, err))
		return nil
	}
	return rep
}
