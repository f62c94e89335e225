// Package executor is the loop that runs the instances of one framework on one host: events of the Mesos agent and
// outcomes of actions in, statuses and actions out. Edge: talks to whatever it is wired with.
//
// One goroutine owns the state of all instances. What is to be done with each is decided by package instance; each
// action that takes time is carried out by a goroutine of its own, whose outcome comes back as an event.
//
// Who ends a container: a kill of its task, the SHUTDOWN event of Mesos, or ToExecutor.discard if no task claims it.
// Nothing else does: at a SIGTERM, when the agent is gone and when the scheduler asks it to leave, the executor stops
// the plain programs, which would die with it, and containers that do not run yet; containers that run are left to the
// next executor, and nothing is reported of their tasks, which Mesos ends in its own words.
package executor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/logs"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/usage"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// agent is the client of the Mesos agent. Update and Message queue and never block; messages may be lost. Flush waits for acknowledgement.
type agent interface {
	Update(mesos.Status)
	Message([]byte)
	Flush(context.Context) error
}

// networker configures the networks of instances.
type networker interface {
	Probe(context.Context, network.Wanted) ([]network.Answer, error)
	Attach(namespace int, w network.Wanted) error
	Adjust(namespace int, w network.Wanted) error
	Renew(namespace int, w network.Wanted) error
	Announce(network.Wanted) error
	Detach(namespace int, w network.Wanted) error
	SetOverlay(network.Segment, []network.Remote) error
	RemoveSurplus([]network.Segment) error
	SetRelays(segments []network.Segment, prune bool) (map[string]int, error)
	RelayPort(namespace int, hostEnd string) (kernel.RelayPort, error)
	Addresses() ([]kernel.InterfaceAddress, error)
	Used(namespace int) ([]kernel.InterfaceAddress, error)
	Watch(context.Context, func(kernel.Conflict))
}

// fetcher brings an artifact into a directory.
type fetcher interface {
	Fetch(ctx context.Context, a *padisv1.Artifact, dir string) error
}

// prober makes one health probe.
type prober interface {
	Probe(h *padisv1.HealthCheck, t probe.Target, timeout time.Duration) error
}

// volumes makes what instances see beside their images. Update writes what the configs contain now and tells which
// signals the program is to get; Release takes away what any executor prepared.
type volumes interface {
	Prepare(ctx context.Context, dir string, l *padisv1.Launch) ([]runtime.Mount, error)
	Update(dir string, l *padisv1.Launch, configs []*padisv1.ConfigData) (signals []string, err error)
	Release(dir string) error
}

// Config is what an executor is wired with; what has no default is required.
type Config struct {
	Host      instance.Host
	Agent     agent
	Network   networker
	Runtime   runtime.Runtime
	Artifacts fetcher
	Prober    prober
	// Containers runs images. If it is nil, NoContainers says why, and what to do.
	Containers   runtime.Keeper
	NoContainers string
	// Volumes is required with Containers.
	Volumes volumes
	Access  Access
	// Speaker may be nil: then nothing is announced.
	Speaker Speaker
	// Relay may be nil: then a change of a load balancer may break connections of real servers here.
	Relay Relay
	// Clients tells whom an instance serves at some of its addresses, by its process; nil is package usage.
	Clients func(pid int, addresses []netip.Addr) (usage.Clients, error)
	// Boot is the time since the start of the host, its sleep included; nil is the kernel's.
	Boot func() time.Duration
	// Version of the executor, as the scheduler is told.
	Version string
	Keep    Keep
	// ShutdownGrace is the time that Mesos gives between SHUTDOWN and SIGKILL; programs get a little less.
	ShutdownGrace time.Duration
	// Parallel bounds how many instances are made at the same time.
	Parallel int
	Log      *zap.Logger
}

// Access is how people reach instances of this host; the zero value is not at all.
type Access struct {
	// Endpoint is HOST:PORT; without a host it is the one that the agent calls its own.
	Endpoint string
	// Certificate of the endpoint, as DER.
	Certificate []byte
	// Clients is told who signs the certificates of those who may come.
	Clients interface{ SetClientCA(pem []byte) error }
}

// DefaultShutdownGrace is what Mesos gives if the framework says nothing.
const DefaultShutdownGrace = 5 * time.Second

func (c *Config) validate() error {
	switch {
	case c.Agent == nil, c.Network == nil, c.Runtime == nil, c.Artifacts == nil, c.Prober == nil, c.Log == nil:
		return errors.New("executor: something it needs was not wired")
	case c.Host.Owner == "" || c.Host.Name == "" || c.Host.Sandbox == "":
		return fmt.Errorf("executor: its host is not described: %+v", c.Host)
	case c.Containers != nil && (c.Volumes == nil || c.Host.State == ""):
		return errors.New("executor: containers need volumes and a state directory")
	case c.Containers == nil && c.NoContainers == "":
		c.NoContainers = "this executor runs programs, not images; use template.command and template.artifacts"
	}
	c.Keep.defaults()
	if c.Boot == nil {
		c.Boot = sinceBoot
	}
	if c.Clients == nil {
		c.Clients = usage.ClientsOf
	}
	if c.ShutdownGrace <= 0 {
		c.ShutdownGrace = DefaultShutdownGrace
	}
	c.Parallel = max(c.Parallel, 1)
	return nil
}

// course is what the executor is about.
type course int

const (
	serving course = iota
	// leaving: programs end, containers are left to the next executor.
	leaving
	// ending: everything ends.
	ending
)

// Executor runs instances.
type Executor struct {
	Config
	events chan func(time.Time)
	// done is closed when Run returns: late outcomes are dropped.
	done chan struct{}
	// slots bounds the making of instances.
	slots chan struct{}
	// background ends with Run; closing are those who free what ended instances held.
	background context.Context
	closing    sync.WaitGroup
	// open and openPipe keep output; tests put something there that needs no clock but theirs.
	open     func(dir, name string, l logs.Limits) (stream, error)
	openPipe func(dir, name, pipe string, l logs.Limits) (stream, error)

	// Owned by Run:
	lives  map[string]*life
	ended  memory
	course course
	told
	containers
	tally
	leases
	sight
	*balancing
	images map[string]*wish

	overlays  *overlays
	announcer *announcer
}

// New checks the wiring.
func New(c Config) (*Executor, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Executor{
		Config: c, events: make(chan func(time.Time), 64), done: make(chan struct{}), slots: make(chan struct{}, c.Parallel),
		sight: newSight(), balancing: newBalancing(), overlays: newOverlays(c.Network), announcer: newAnnouncer(c.Speaker, c.Log),
		lives: map[string]*life{}, ended: memory{known: map[string]bool{}}, images: map[string]*wish{},
		open:     func(dir, name string, l logs.Limits) (stream, error) { return logs.Open(dir, name, l) },
		openPipe: func(dir, name, pipe string, l logs.Limits) (stream, error) { return logs.OpenPipe(dir, name, pipe, l) },
	}, nil
}

// Handle takes an event of the agent. It waits at most for a decision, never for an action.
func (e *Executor) Handle(ev mesos.ExecutorEvent) {
	e.post(func(now time.Time) { e.handle(now, ev) })
}

func (e *Executor) post(f func(time.Time)) {
	select {
	case e.events <- f:
	case <-e.done:
	}
}

// ask has f called by the loop and waits for it. It tells whether it was: not after the end.
func (e *Executor) ask(f func(time.Time)) bool {
	called := make(chan struct{})
	e.post(func(now time.Time) { f(now); close(called) })
	select {
	case <-called:
		return true
	case <-e.done:
		return false
	}
}

// Run owns the state until the agent, the scheduler or the end of ctx asked for the end, and all that had to end has.
func (e *Executor) Run(ctx context.Context) error {
	defer close(e.done)
	var over context.CancelFunc
	e.background, over = context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	e.begin(time.Now())
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for e.course == serving || len(e.lives) > 0 || e.discards > 0 {
		if next := e.next(); !next.IsZero() {
			timer.Reset(time.Until(next))
		} else {
			timer.Stop()
		}
		select {
		case f := <-e.events:
			f(time.Now())
		case <-timer.C:
			e.tick(time.Now())
		case <-stop:
			stop = nil
			e.leave(time.Now(), e.bound())
		}
	}
	// The agent must hear of the ends before we go, or it makes up its own.
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := e.Agent.Flush(flush); err != nil {
		e.Log.Warn("the agent did not acknowledge the last statuses", zap.Error(err))
	}
	e.relayEnd(flush)
	closed, late := make(chan struct{}), time.NewTimer(flushTimeout)
	defer late.Stop()
	go func() { e.closing.Wait(); close(closed) }()
	select {
	case <-closed:
	case <-late.C:
	}
	return nil
}

// flushTimeout bounds each of the things that are done after the last instance has ended.
const flushTimeout = time.Second

// begin finds out what there is.
func (e *Executor) begin(now time.Time) {
	e.find()
	go e.watch()
	if e.Speaker != nil {
		e.holdUntil = now.Add(holdTime)
		go e.listen()
	}
	if e.Relay != nil {
		go e.listenToRelay()
	}
	e.audit(now)
}

// listen tells of changes of the sessions with routers.
func (e *Executor) listen() {
	for {
		select {
		case <-e.Speaker.Changed():
			e.post(func(now time.Time) { e.tellSoon(now) })
		case <-e.background.Done():
			return
		}
	}
}

// listenToRelay tells what was put in force, at once: directors wait for it.
func (e *Executor) listenToRelay() {
	for {
		select {
		case <-e.Relay.Changed():
			e.post(e.tell)
		case <-e.background.Done():
			return
		}
	}
}

func (e *Executor) next() time.Time {
	next := e.due
	for _, at := range [...]time.Time{e.keepAt, e.leaseAt, e.auditAt, e.surplusAt, e.holdUntil, e.relayAt} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	for _, l := range e.lives {
		if n := l.state.Next(); !n.IsZero() && (next.IsZero() || n.Before(next)) {
			next = n
		}
	}
	return next
}

func (e *Executor) tick(now time.Time) {
	for _, l := range e.lives {
		if n := l.state.Next(); !n.IsZero() && !n.After(now) {
			e.step(now, l, instance.Tick{})
		}
	}
	is := func(at time.Time) bool { return !at.IsZero() && !at.After(now) }
	if is(e.leaseAt) {
		e.look(now)
	}
	if is(e.due) {
		e.tell(now)
	}
	if is(e.keepAt) {
		e.keep(now)
	}
	if is(e.auditAt) {
		e.audit(now)
	}
	if is(e.surplusAt) {
		e.tidy()
	}
	if is(e.holdUntil) {
		e.settle(now)
	}
	if is(e.relayAt) {
		e.relay(now)
	}
}

func (e *Executor) handle(now time.Time, ev mesos.ExecutorEvent) {
	switch ev := ev.(type) {
	case mesos.ExecutorSubscribed:
		// What the framework calls this host is what the agent says.
		if ev.Hostname != "" {
			e.Host.Name = ev.Hostname
		}
		e.Log.Info("subscribed", zap.String("agent", ev.AgentID), zap.String("executor", ev.ExecutorID), zap.Int("instances", len(e.lives)))
		if e.subscriptions++; e.subscriptions > 1 {
			e.Reconnects++
		}
		e.connected, e.said, e.soon = true, nil, true
		e.lookBy(now)
		e.tell(now)
	case mesos.ExecutorDisconnected:
		e.connected = false
		e.Log.Warn("the agent is away; instances go on", zap.Error(ev.Err))
	case mesos.LaunchTask:
		e.launch(now, ev.Task)
	case mesos.KillTask:
		e.kill(now, ev)
	case mesos.Shutdown:
		e.shutdown(now)
	case mesos.Acknowledged:
	case mesos.FromScheduler:
		e.hear(now, ev.Data)
	case mesos.ExecutorFailed:
		e.Log.Error("the agent reported an error", zap.String("message", ev.Message))
	}
}

func (e *Executor) launch(now time.Time, t mesos.Task) {
	if e.lives[t.ID] != nil || e.ended.has(t.ID) {
		e.Log.Warn("a task was launched twice; the second launch is ignored", zap.String("task", t.ID))
		return
	}
	p, f := instance.Understand(t, e.Host)
	switch {
	case f != nil:
		e.refuse(t.ID, mesos.TaskFailed, f.Reason, f.Message)
		return
	case e.course != serving && p.Launch.GetAdopt():
		// The next executor's to do: this one's end is what Mesos will say of the task.
		e.Log.Info("a container is not taken over by an executor that leaves", zap.String("task", t.ID), zap.String("container", p.Container))
		return
	case e.course != serving:
		e.refuse(t.ID, mesos.TaskKilled, padisv1.ReasonKilled, "The executor is shutting down.")
		return
	case p.Image != "" && e.Containers == nil && !p.Launch.GetAdopt():
		e.refuse(t.ID, mesos.TaskFailed, padisv1.ReasonRuntimeUnavailable, e.NoContainers)
		return
	}
	if other := e.holder(p.Container); other != nil {
		e.refuse(t.ID, mesos.TaskFailed, padisv1.ReasonInvalidLaunch, fmt.Sprintf("container %s belongs to task %s, which has not ended; kill that first", p.Container, other.plan.TaskID))
		return
	}
	l := &life{executor: e, plan: p, wire: wire{wanted: p.Wanted}, state: instance.State{Plan: p}, ended: make(chan struct{})}
	e.lives[t.ID] = l
	if p.Leased() {
		e.soon = true
		e.lookBy(now)
	}
	e.step(now, l, instance.Begun{})
	if e.found[p.Container] {
		e.tell(now) // it is no orphan any more
	}
}

// settle has routers hear of what is announced, once all that an earlier executor announced is taken over.
func (e *Executor) settle(now time.Time) {
	if e.holdUntil.IsZero() {
		return
	}
	if now.Before(e.holdUntil) {
		if !e.knows() {
			return
		}
		for c := range e.found {
			if l := e.holder(c); l == nil || l.state.Phase < instance.Running {
				return
			}
		}
	}
	e.holdUntil = time.Time{}
	e.announcer.complete()
}

// holder is the instance whose container it is.
func (e *Executor) holder(container string) *life {
	for _, l := range e.lives {
		if l.plan.Container == container {
			return l
		}
	}
	return nil
}

func (e *Executor) refuse(task string, s mesos.TaskState, reason, message string) {
	e.ended.add(task)
	e.report(task, instance.Report{State: s, Report: &padisv1.InstanceReport{Reason: reason, Message: message}})
}

func (e *Executor) kill(now time.Time, k mesos.KillTask) {
	if l := e.lives[k.TaskID]; l != nil {
		e.step(now, l, instance.KillWanted{Grace: k.Grace})
		return
	}
	if !e.ended.has(k.TaskID) {
		// It can only have been launched at an executor that is no more; that it does not run is the truth.
		e.refuse(k.TaskID, mesos.TaskKilled, padisv1.ReasonKilled, "It does not run here.")
	}
}

// bound is the grace that programs get when Mesos or the system will kill us after its own: their ends must be reported
// before that.
func (e *Executor) bound() time.Duration { return e.ShutdownGrace * 3 / 4 }

// shutdown ends everything, containers without a task included.
func (e *Executor) shutdown(now time.Time) {
	if e.course == ending {
		return
	}
	e.course = ending
	e.Log.Info("shutting down", zap.Int("instances", len(e.lives)))
	for _, l := range e.lives {
		grace := min(l.state.Grace(), e.bound())
		e.step(now, l, instance.KillWanted{Grace: &grace, Hurry: true})
	}
	for _, c := range e.orphans() {
		e.discardAtEnd(c)
	}
}

// leave ends what would not outlive us, each within at most bound, and lets go of the rest. The second time it hurries.
func (e *Executor) leave(now time.Time, bound time.Duration) {
	if e.course == ending {
		return
	}
	e.course = leaving
	e.Log.Info("leaving; containers go on", zap.Int("instances", len(e.lives)))
	for id, l := range e.lives {
		if l.state.Outlives() {
			l.letGo()
			delete(e.lives, id)
			e.present(l.plan.Container)
			continue
		}
		grace := min(l.state.Grace(), bound)
		e.step(now, l, instance.KillWanted{Grace: &grace, Hurry: bound != forever})
	}
}

// step lets one event happen to one instance and carries out what follows.
func (e *Executor) step(now time.Time, l *life, ev instance.Event) {
	if l.left || l.state.Phase == instance.Ended { // a probe may answer after the end
		return
	}
	before := l.state.Phase
	next, actions, err := instance.Step(now, l.state, ev)
	if err != nil {
		e.Log.Error("an event was refused; this is a bug", zap.Error(err))
		return
	}
	l.state = next
	e.note(now, l, ev)
	e.noteNetwork(now, l, ev)
	e.noteBalance(now, l, ev)
	if next.Phase != before {
		e.Log.Debug("phase", zap.String("task", next.TaskID), zap.Stringer("from", before), zap.Stringer("to", next.Phase))
	}
	if before == instance.Draining && next.Phase != before {
		l.cancel()
	}
	for _, a := range actions {
		l.carryOut(a)
	}
	if next.AwaitsExit() {
		l.awaitExit()
	}
	if next.Phase == instance.Ended {
		delete(e.lives, next.TaskID)
		e.ended.add(next.TaskID)
		e.spare(now, l)
		if l.remains.Load() {
			e.orphaned(now, l.plan.Container)
		} else {
			e.gone(l.plan.Container)
		}
		e.settle(now)
		close(l.ended)
		return
	}
	if l.exit != nil && next.AwaitsExit() {
		exit := *l.exit
		l.exit = nil
		e.step(now, l, exit)
		return
	}
	e.leaseOf(now, l)
}

func (e *Executor) report(task string, r instance.Report) {
	data, err := padisv1.Encode(r.Report)
	if err != nil {
		e.Log.Error("a report cannot be encoded; this is a bug", zap.Error(err))
		return
	}
	e.Log.Info("status", zap.String("task", task), zap.String("state", string(r.State)), zap.String("reason", r.Report.GetReason()), zap.String("message", r.Report.GetMessage()))
	e.Agent.Update(mesos.Status{TaskID: task, State: r.State, Message: r.Report.GetMessage(), Data: data, Healthy: r.Healthy})
}

// memory knows the newest of the tasks that have ended, so that a repeated launch or kill of one is recognised.
type memory struct {
	known map[string]bool
	order []string
}

const memorySize = 4096

func (m *memory) has(task string) bool { return m.known[task] }

func (m *memory) add(task string) {
	if m.known[task] {
		return
	}
	if len(m.order) == memorySize {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
	m.known[task] = true
	m.order = append(m.order, task)
}
