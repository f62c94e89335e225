package executor

import (
	"bytes"
	"maps"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// progressPause is the least time between two messages that only tell how far a pull is.
const progressPause = 2 * time.Second

// told is what the scheduler was told, and what it wants beside tasks.
type told struct {
	connected bool
	// said is the last message since the subscription, at its time. due is when the next one is, zero if none is wanted.
	said   []byte
	saidAt time.Time
	due    time.Time
	// generation is the newest that is applied; held is one that counts as applied as soon as it is known which containers
	// there are. applying: one is being applied; waiting is the newest that came since.
	generation int64
	held       int64
	applying   bool
	waiting    *padisv1.ToExecutor
	clientCA   string
}

// tell sends what is true now, unless the scheduler has heard just that since the subscription.
func (e *Executor) tell(now time.Time) {
	e.due = time.Time{}
	if !e.connected || e.course != serving {
		return
	}
	data, err := padisv1.Encode(e.statement())
	if err != nil {
		e.Log.Error("a message cannot be encoded; this is a bug", zap.Error(err))
		return
	}
	if e.said != nil && bytes.Equal(data, e.said) {
		return
	}
	e.said, e.saidAt = data, now
	e.Agent.Message(data)
}

// tellSoon is for what changes often.
func (e *Executor) tellSoon(now time.Time) {
	if e.due.IsZero() {
		e.due = e.saidAt.Add(progressPause)
		if e.due.Before(now) {
			e.due = now
		}
	}
}

func (e *Executor) statement() *padisv1.FromExecutor {
	s := &padisv1.FromExecutor{
		Generation: e.generation, Version: e.Version, Endpoint: e.Access.Endpoint, Certificate: e.Access.Certificate, Orphans: e.orphans(),
	}
	if host, port, err := net.SplitHostPort(s.Endpoint); err == nil && host == "" {
		s.Endpoint = net.JoinHostPort(e.Host.Name, port)
	}
	if e.Containers == nil {
		s.NoContainers = e.NoContainers
	}
	for _, image := range slices.Sorted(maps.Keys(e.images)) {
		s.Images = append(s.Images, e.images[image].state)
	}
	e.seen(s)
	e.balanced(s)
	return s
}

// hear takes what the scheduler wants. The newest word counts; what is applied already is done again, and changes nothing.
func (e *Executor) hear(now time.Time, data []byte) {
	want := &padisv1.ToExecutor{}
	if err := padisv1.Decode(data, want); err != nil {
		e.Log.Warn("a message of the scheduler was not understood; is the scheduler newer than this executor?", zap.Int("bytes", len(data)), zap.Error(err))
		return
	}
	switch {
	case want.GetRenewed() != nil:
		e.renewal(now, want.GetRenewed())
	case e.course != serving:
	case want.GetBalance() != nil:
		e.balance(now, want.GetBalance())
	case e.applying:
		e.waiting = want
	default:
		e.apply(now, want)
	}
}

// apply does what takes no time at once, and the rest one after the other on a goroutine of its own. What could not be
// done leaves the generation as it was: the scheduler asks again.
func (e *Executor) apply(now time.Time, want *padisv1.ToExecutor) {
	e.applying = true
	e.list(now, want.GetBalancers(), want.GetDirected())
	trusted := e.trust(want.GetClientCa())
	e.wish(want.GetImages())
	go func() {
		ok := trusted
		for _, c := range want.GetDiscard() {
			ok = e.discardOrphan(c) && ok
		}
		for _, c := range want.GetConfigs() {
			ok = e.reconfigure(c) && ok
		}
		for _, c := range want.GetNetworks() {
			ok = e.rewire(c) && ok
		}
		e.announcer.declare(want.GetAnnounced())
		if err := e.overlays.tell(want.GetOverlays()); err != nil {
			e.Log.Error("a network cannot be told of its other hosts", zap.Error(err))
			ok = false
		}
		e.post(func(now time.Time) { e.applied(now, want, ok) })
	}()
}

func (e *Executor) applied(now time.Time, want *padisv1.ToExecutor, ok bool) {
	e.applying = false
	// As long as it is not known what there is, the list of orphans is empty, and would read as if all were gone.
	e.held = 0
	switch {
	case ok && e.knows():
		e.generation = want.GetGeneration()
	case ok:
		e.held = want.GetGeneration()
	}
	// The answer may be what was said before: then the scheduler has not heard it.
	e.said = nil
	e.tell(now)
	if next := e.waiting; next != nil {
		e.waiting = nil
		if e.course == serving {
			e.apply(now, next)
		}
		return
	}
	// What could not be done is asked of the next executor; the programs get all of their graces.
	if want.GetLeave() {
		e.leave(now, forever)
	}
}

// forever is longer than any grace.
const forever = time.Duration(1<<63 - 1)

func (e *Executor) trust(ca string) bool {
	if ca == "" || ca == e.clientCA || e.Access.Clients == nil {
		return true
	}
	if err := e.Access.Clients.SetClientCA([]byte(ca)); err != nil {
		e.Log.Error("nobody can be let in", zap.Error(err))
		return false
	}
	e.clientCA = ca
	return true
}

// reconfigure brings changed files to a container that runs. One that is being made is asked for again later; of what
// is not here there is nothing to be done.
func (e *Executor) reconfigure(c *padisv1.ConfigChange) bool {
	var l *life
	var runs bool
	if !e.ask(func(time.Time) {
		if l = e.holder(c.GetContainer()); l != nil {
			runs = l.state.Runs()
		}
	}) {
		return false
	}
	if l == nil || l.plan.Image == "" || !runs {
		return l == nil || l.plan.Image == ""
	}
	log := e.Log.With(zap.String("container", l.plan.Container))
	signals, err := e.Volumes.Update(l.plan.Files.Dir, l.plan.Launch, c.GetConfigs())
	if err != nil {
		log.Error("changed files could not be brought to a container", zap.Error(err))
	}
	ok := err == nil
	for _, s := range signals {
		// A container that has just ended needs no signal.
		if err := l.instance.Stop(s); err != nil {
			log.Warn("a container could not be told of its changed files", zap.String("signal", s), zap.Error(err))
		} else {
			log.Info("files have changed", zap.String("signal", s))
		}
	}
	return ok
}

// discardOrphan removes a container that no task claims. It tells whether the container is gone: not while a task has it.
func (e *Executor) discardOrphan(container string) bool {
	var claimed, known, orphan bool
	var host instance.Host
	if !e.ask(func(time.Time) {
		claimed, known = e.holder(container) != nil, e.knows()
		orphan, host = !claimed && e.found[container], e.Host
	}) {
		return false
	}
	if !orphan {
		return known && !claimed
	}
	if err := e.discard(host, container); err != nil {
		e.Log.Error("a container that nobody wants could not be removed", zap.String("container", container), zap.Error(err))
		return false
	}
	e.Log.Info("removed a container that nobody wants", zap.String("container", container))
	e.post(func(now time.Time) { e.gone(container); e.tell(now) })
	return true
}
