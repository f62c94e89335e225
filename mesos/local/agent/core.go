package agent

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/wire"
)

// stream is where events for an executor go. Send never blocks.
type stream interface {
	Send(event proto.Message)
	Close()
}

// core decides everything the agent does. It is driven by one goroutine and is told the time with every event. What
// it decides to remember goes to journal, what it decides to say to outbox: the shell makes the first durable before
// it does the second.
type core struct {
	cfg  Config
	info mesos.AgentInfo
	id   string
	log  *zap.Logger
	now  time.Time

	frameworks map[string]*framework
	updates    map[taskKey]*updateStream
	master     *wire.Link // nil while not registered
	joined     bool       // the master has answered on this link
	sequence   int

	journal []record
	outbox  []func()

	reconnectBy time.Time // while recovered executors may still come back
	leaving     bool      // the agent shuts down when the last executor is gone
	exits       []exit    // ends of executors that the master has not been told of
}

// exit is the end of an executor while there was no link to the master.
type exit struct {
	executor wire.RegisteredExecutor
	frame    wire.Frame
}

type taskKey struct{ framework, task string }

// framework is what the agent knows of one.
type framework struct {
	seq         int
	id          string
	info        mesos.FrameworkInfo
	executors   map[string]*executor
	terminating bool
}

func (f *framework) aware() bool {
	return slices.ContainsFunc(f.info.Capabilities, func(c mesos.FrameworkInfo_Capability) bool {
		return c.Type == mesos.FrameworkInfo_Capability_PARTITION_AWARE
	})
}

// lost is what a framework is told instead of a state that needs PARTITION_AWARE.
func (f *framework) lost(state mesos.TaskState) mesos.TaskState {
	if f.aware() {
		return state
	}
	return mesos.TASK_LOST
}

// executorState is where an executor is in its life: registering -> running -> terminating -> terminated.
type executorState int

const (
	registering executorState = iota // started (or found again), has not subscribed to this agent process
	running                          // subscribed
	terminating                      // told to shut down, or being killed
	terminated                       // its processes are gone; it waits for acknowledgements
)

func (s executorState) String() string {
	return [...]string{"registering", "running", "terminating", "terminated"}[s]
}

// executor is one run of an executor.
type executor struct {
	seq        int
	framework  *framework
	id         string
	info       mesos.ExecutorInfo
	container  string
	dir        string
	state      executorState
	out        stream // nil while not connected
	pid        int
	recovered  bool // started by an earlier agent process
	subscribed bool // at least once
	tasks      map[string]*task

	giveUp time.Time // when it must have subscribed
	killAt time.Time // when a shutdown becomes a kill
	end    ending    // what its tasks are told when it ends
}

// ending is the terminal state of the tasks of an executor that ends.
type ending struct {
	state   mesos.TaskState
	reason  mesos.TaskStatus_Reason
	message string
}

// task is one task of an executor.
type task struct {
	seq      int
	info     mesos.TaskInfo
	queued   bool // not yet sent to the executor
	state    mesos.TaskState
	statuses []mesos.TaskStatus
}

func terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_ERROR, mesos.TASK_LOST, mesos.TASK_DROPPED,
		mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

func newCore(cfg Config, info mesos.AgentInfo, now time.Time) *core {
	return &core{cfg: cfg, info: info, log: cfg.Log, now: now, frameworks: map[string]*framework{}, updates: map[taskKey]*updateStream{}}
}

func (c *core) seq() int { c.sequence++; return c.sequence }

// say queues something to be done once the journal is durable.
func (c *core) say(f func()) { c.outbox = append(c.outbox, f) }

func (c *core) toMaster(f wire.Frame) {
	if link := c.master; link != nil && c.joined {
		c.say(func() { link.Send(f) })
	}
}

func (c *core) toExecutor(e *executor, event proto.Message) {
	if out := e.out; out != nil {
		c.say(func() { out.Send(event) })
	}
}

// tick does what is due at this moment.
func (c *core) tick(now time.Time) {
	c.now = now
	for _, e := range c.executors() {
		if !e.giveUp.IsZero() && !now.Before(e.giveUp) {
			e.giveUp = time.Time{}
			c.registrationTimedOut(e)
		}
		if !e.killAt.IsZero() && !now.Before(e.killAt) {
			e.killAt = time.Time{}
			c.log.Info("executor did not shut down in time", zap.String("executor", e.id))
			c.kill(e)
		}
	}
	if !c.reconnectBy.IsZero() && !now.Before(c.reconnectBy) {
		c.reconnectBy = time.Time{}
	}
	for _, key := range slices.SortedFunc(maps.Keys(c.updates), compareKeys) {
		if s := c.updates[key]; !s.retryAt.IsZero() && !now.Before(s.retryAt) {
			c.forward(key, s)
		}
	}
}

func compareKeys(a, b taskKey) int {
	return cmp.Or(cmp.Compare(a.framework, b.framework), cmp.Compare(a.task, b.task))
}

// deadline is the next moment at which tick has something to do; zero if none.
func (c *core) deadline() time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, e := range c.executors() {
		sooner(e.giveUp)
		sooner(e.killAt)
	}
	for _, s := range c.updates {
		sooner(s.retryAt)
	}
	sooner(c.reconnectBy)
	return due
}

// executors lists all of them, oldest first.
func (c *core) executors() []*executor {
	var out []*executor
	for _, f := range c.frameworks {
		for _, e := range f.executors {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *executor) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

func (e *executor) byAge() []*task {
	return slices.SortedFunc(maps.Values(e.tasks), func(a, b *task) int { return cmp.Compare(a.seq, b.seq) })
}

// ready tells whether the agent may register: all executors of an earlier agent are back or given up.
func (c *core) ready() bool { return c.reconnectBy.IsZero() }

// finished tells whether a leaving agent has nothing left to wait for.
func (c *core) finished() bool {
	if !c.leaving {
		return false
	}
	for _, e := range c.executors() {
		if e.state != terminated {
			return false
		}
	}
	return true
}

func (c *core) framework(info mesos.FrameworkInfo) *framework {
	id := info.GetID().GetValue()
	f := c.frameworks[id]
	if f == nil {
		f = &framework{seq: c.seq(), id: id, executors: map[string]*executor{}}
		c.frameworks[id] = f
	}
	f.info = info
	return f
}

// cleanUp forgets a framework that has nothing here any more.
func (c *core) cleanUp(f *framework) {
	if len(f.executors) > 0 {
		return
	}
	if !f.terminating {
		for key := range c.updates {
			if key.framework == f.id {
				return
			}
		}
	}
	delete(c.frameworks, f.id)
	c.note(record{Kind: recForget, Framework: f.id})
}
