// Package executor is the loop that runs the instances of one framework on one host: events of the Mesos agent and
// outcomes of actions in, statuses and actions out. Edge: talks to whatever it is wired with.
//
// One goroutine owns the state of all instances. What is to be done with each is decided by package instance; each
// action that takes time is carried out by a goroutine of its own, whose outcome comes back as an event.
package executor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// agent is the client of the Mesos agent. Update queues and never blocks; Flush waits for acknowledgement.
type agent interface {
	Update(mesos.Status)
	Flush(context.Context) error
}

// networker configures the networks of instances.
type networker interface {
	Probe(context.Context, network.Wanted) ([]network.Answer, error)
	Attach(namespace int, w network.Wanted) error
	Announce(network.Wanted) error
	Detach(network.Wanted) error
}

// fetcher brings an artifact into a directory.
type fetcher interface {
	Fetch(ctx context.Context, a *padisv1.Artifact, dir string) error
}

// prober makes one health probe.
type prober interface {
	Probe(h *padisv1.HealthCheck, t probe.Target, timeout time.Duration) error
}

// Config is what an executor is wired with; all of it is required.
type Config struct {
	Host      instance.Host
	Agent     agent
	Network   networker
	Runtime   runtime.Runtime
	Artifacts fetcher
	Prober    prober
	// ShutdownGrace is the time that Mesos gives between SHUTDOWN and SIGKILL; programs get a little less.
	ShutdownGrace time.Duration
	// Parallel bounds how many instances are made at the same time.
	Parallel int
	Log      *zap.Logger
}

// DefaultShutdownGrace is what Mesos gives if the framework says nothing.
const DefaultShutdownGrace = 5 * time.Second

func (c *Config) validate() error {
	switch {
	case c.Agent == nil, c.Network == nil, c.Runtime == nil, c.Artifacts == nil, c.Prober == nil, c.Log == nil:
		return errors.New("executor: something it needs was not wired")
	case c.Host.Owner == "" || c.Host.Name == "" || c.Host.Sandbox == "":
		return fmt.Errorf("executor: its host is not described: %+v", c.Host)
	}
	if c.ShutdownGrace <= 0 {
		c.ShutdownGrace = DefaultShutdownGrace
	}
	c.Parallel = max(c.Parallel, 1)
	return nil
}

// Executor runs instances.
type Executor struct {
	Config
	events chan func(time.Time)
	// done is closed when Run returns: late outcomes are dropped.
	done chan struct{}
	// slots bounds the making of instances.
	slots chan struct{}

	// Owned by Run:
	lives   map[string]*life
	ended   memory
	closing bool
}

// New checks the wiring.
func New(c Config) (*Executor, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Executor{
		Config: c, events: make(chan func(time.Time), 64), done: make(chan struct{}), slots: make(chan struct{}, c.Parallel),
		lives: map[string]*life{}, ended: memory{known: map[string]bool{}},
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

// Run owns the state until the agent, or the end of ctx, asked for the end and all instances have ended.
func (e *Executor) Run(ctx context.Context) error {
	defer close(e.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for !e.closing || len(e.lives) > 0 {
		if next := e.next(); !next.IsZero() {
			timer.Reset(time.Until(next))
		} else {
			timer.Stop()
		}
		select {
		case f := <-e.events:
			f(time.Now())
		case <-timer.C:
			now := time.Now()
			for _, l := range e.lives {
				if n := l.state.Next(); !n.IsZero() && !n.After(now) {
					e.step(now, l, instance.Tick{})
				}
			}
		case <-stop:
			stop = nil
			e.shutdown(time.Now())
		}
	}
	// The agent must hear of the ends before we go, or it makes up its own.
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	if err := e.Agent.Flush(flush); err != nil {
		e.Log.Warn("the agent did not acknowledge the last statuses", zap.Error(err))
	}
	return nil
}

const flushTimeout = time.Second

func (e *Executor) next() time.Time {
	var next time.Time
	for _, l := range e.lives {
		if n := l.state.Next(); !n.IsZero() && (next.IsZero() || n.Before(next)) {
			next = n
		}
	}
	return next
}

func (e *Executor) handle(now time.Time, ev mesos.ExecutorEvent) {
	switch ev := ev.(type) {
	case mesos.ExecutorSubscribed:
		// What the framework calls this host is what the agent says.
		if ev.Hostname != "" {
			e.Host.Name = ev.Hostname
		}
		e.Log.Info("subscribed", zap.String("agent", ev.AgentID), zap.String("executor", ev.ExecutorID), zap.Int("instances", len(e.lives)))
	case mesos.ExecutorDisconnected:
		e.Log.Warn("the agent is away; instances go on", zap.Error(ev.Err))
	case mesos.LaunchTask:
		e.launch(now, ev.Task)
	case mesos.KillTask:
		e.kill(now, ev)
	case mesos.Shutdown:
		e.shutdown(now)
	case mesos.Acknowledged:
	case mesos.FromScheduler:
		e.Log.Warn("a message of the scheduler was not understood; is the scheduler newer than this executor?", zap.Int("bytes", len(ev.Data)))
	case mesos.ExecutorFailed:
		e.Log.Error("the agent reported an error", zap.String("message", ev.Message))
	}
}

func (e *Executor) launch(now time.Time, t mesos.Task) {
	if e.lives[t.ID] != nil || e.ended.has(t.ID) {
		e.Log.Warn("a task was launched twice; the second launch is ignored", zap.String("task", t.ID))
		return
	}
	if e.closing {
		e.refuse(t.ID, mesos.TaskKilled, padisv1.ReasonKilled, "The executor is shutting down.")
		return
	}
	p, f := instance.Understand(t, e.Host)
	if f != nil {
		e.refuse(t.ID, mesos.TaskFailed, f.Reason, f.Message)
		return
	}
	l := &life{executor: e, plan: p, state: instance.State{Plan: p}}
	e.lives[t.ID] = l
	e.step(now, l, instance.Begun{})
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

func (e *Executor) shutdown(now time.Time) {
	if e.closing {
		return
	}
	e.closing = true
	e.Log.Info("shutting down", zap.Int("instances", len(e.lives)))
	// Mesos kills us after its grace; the instances' ends must be reported before that.
	bound := e.ShutdownGrace * 3 / 4
	for _, l := range e.lives {
		grace := min(l.state.Grace(), bound)
		e.step(now, l, instance.KillWanted{Grace: &grace})
	}
}

// step lets one event happen to one instance and carries out what follows.
func (e *Executor) step(now time.Time, l *life, ev instance.Event) {
	before := l.state.Phase
	next, actions, err := instance.Step(now, l.state, ev)
	if err != nil {
		e.Log.Error("an event was refused; this is a bug", zap.Error(err))
		return
	}
	l.state = next
	if next.Phase != before {
		e.Log.Debug("phase", zap.String("task", next.TaskID), zap.Stringer("from", before), zap.Stringer("to", next.Phase))
	}
	for _, a := range actions {
		l.carryOut(a)
	}
	if _, ok := ev.(instance.Started); ok {
		l.awaitExit()
	}
	if next.Phase == instance.Ended {
		delete(e.lives, next.TaskID)
		e.ended.add(next.TaskID)
	}
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
