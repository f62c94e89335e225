package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	executorpb "github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
)

// reconnectAfter is the pause between attempts to reach the master.
const reconnectAfter = 100 * time.Millisecond

// Agent runs the core: one goroutine takes events, makes what they decide durable, then acts.
type Agent struct {
	cfg       Config
	info      mesos.AgentInfo
	events    chan func(*core)
	ready     chan struct{} // closed when the recovered executors are back or given up
	server    *http.Server
	done      chan struct{}
	processes map[string]record // for the compaction of the journal
}

// New makes an agent; Run starts it.
func New(cfg Config) (*Agent, error) {
	info, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	if u, err := url.Parse(cfg.Master); err != nil || u.Host == "" {
		return nil, fmt.Errorf("agent: master %q: expecting http://host:port", cfg.Master)
	}
	if cfg.Launcher == nil {
		p := newProcesses(cfg.Log, cfg.Subreaper)
		if cfg.Subreaper {
			if err := p.becomeSubreaper(); err != nil {
				return nil, fmt.Errorf("agent: subreaper: %w", err)
			}
		}
		cfg.Launcher = p
	}
	a := &Agent{cfg: cfg, info: info, events: make(chan func(*core), 256), ready: make(chan struct{}), done: make(chan struct{})}
	cfg.Launcher.Bind(reports{a})
	a.server = &http.Server{Handler: a.handler(), ErrorLog: zap.NewStdLog(zap.NewNop()), ReadHeaderTimeout: 30 * time.Second}
	return a, nil
}

// URL is where clients reach the agent.
func (a *Agent) URL() string { return "http://" + a.cfg.endpoint(a.info) }

// reports brings what the launcher saw into the core's goroutine.
type reports struct{ a *Agent }

func (r reports) Started(container string, pid int, start uint64) {
	r.a.post(func(c *core) { c.started(container, pid, start) })
}

func (r reports) Ended(container string, status int, failure string) {
	r.a.post(func(c *core) { c.ended(container, status, failure) })
}

// Run recovers what an earlier agent on this work directory left, and serves until the context ends or the master
// or Leave sends the agent away. Executors survive the end of the context.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.done)
	defer a.server.Close()
	c := newCore(a.cfg, a.info, time.Now())
	log, err := a.recover(c)
	if err != nil {
		return err
	}
	defer func() { log.close() }()
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.cfg.Listener) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go a.talk(ctx)
	announced := false
	for {
		if log, err = a.settle(c, log); err != nil {
			return err
		}
		if c.finished() {
			if c.master != nil {
				c.master.Close()
			}
			return nil
		}
		if !announced && c.ready() {
			announced = true
			close(a.ready)
		}
		if err := a.wait(ctx, c, served); err != nil {
			if c.master != nil {
				c.master.Close()
			}
			if errors.Is(err, errEnd) {
				return nil
			}
			return err
		}
	}
}

var errEnd = errors.New("end")

// wait handles the next event and all that are queued behind it.
func (a *Agent) wait(ctx context.Context, c *core, served <-chan error) error {
	var due <-chan time.Time
	if at := c.deadline(); !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return errEnd
	case err := <-served:
		return fmt.Errorf("agent: serve: %w", err)
	case <-due:
	case event := <-a.events:
		c.now = time.Now()
		event(c)
		for range cap(a.events) {
			select {
			case event := <-a.events:
				event(c)
				continue
			default:
			}
			break
		}
	}
	c.tick(time.Now())
	return nil
}

// settle makes the decisions of a turn durable, then acts on them.
func (a *Agent) settle(c *core, log *logFile) (*logFile, error) {
	for len(c.journal) > 0 || len(c.outbox) > 0 {
		journal, outbox := c.journal, c.outbox
		c.journal, c.outbox = nil, nil
		for _, r := range journal {
			if r.Kind == recProcess {
				a.processes[r.Container] = r
			}
			if r.Kind == recExited {
				delete(a.processes, r.Container)
			}
		}
		if err := log.append(journal); err != nil {
			return log, fmt.Errorf("agent: journal: %w", err)
		}
		for _, act := range outbox {
			act()
		}
	}
	if log.size > compactAbove {
		fresh, err := openJournal(log.path, c.snapshot(a.processes))
		if err != nil {
			return log, err
		}
		log.close()
		log = fresh
		log.size = 0
	}
	return log, nil
}

func (a *Agent) recover(c *core) (*logFile, error) {
	path := journalPath(a.cfg.WorkDir)
	records, err := readJournal(path)
	if err != nil {
		return nil, fmt.Errorf("agent: journal: %w", err)
	}
	var last []byte
	for _, r := range records {
		if r.Kind == recAgent {
			last = r.Body
		}
	}
	if err := a.compatible(last); err != nil {
		return nil, err
	}
	boot, processes := c.replay(records)
	a.processes = processes
	if c.id != "" {
		c.info.ID = &mesos.AgentID{Value: c.id}
	}
	log, err := openJournal(path, c.snapshot(processes))
	if err != nil {
		return nil, err
	}
	c.recover(boot, processes)
	c.checkReady()
	return log, nil
}

// compatible refuses a changed agent on an old work directory, as --reconfiguration_policy=equal does.
func (a *Agent) compatible(body []byte) error {
	var old mesos.AgentInfo
	if len(body) == 0 || old.Unmarshal(body) != nil {
		return nil
	}
	same := old.Hostname == a.info.Hostname && amount.Contains(old.Resources, a.info.Resources) && amount.Contains(a.info.Resources, old.Resources)
	same = same && slices.EqualFunc(old.Attributes, a.info.Attributes, func(x, y mesos.Attribute) bool { return x.Equal(y) })
	if !same {
		return fmt.Errorf("agent: hostname, resources or attributes differ from those that %s was made with; restore them or use an empty work directory", a.cfg.WorkDir)
	}
	return nil
}

// Leave shuts all executors down, unregisters and ends Run, as SIGUSR1 does with a real agent.
func (a *Agent) Leave() {
	a.post(func(c *core) {
		c.toMaster(wire.Frame{Kind: wire.Unregister})
		c.note(record{Kind: recAgent}) // the next agent on this work directory is a new one
		c.leave("asked to leave")
	})
}

// do runs a function in the core's goroutine and waits until what it decided is durable and done.
func (a *Agent) do(f func(*core)) bool {
	finished := make(chan struct{})
	if !a.post(func(c *core) { f(c); c.say(func() { close(finished) }) }) {
		return false
	}
	select {
	case <-finished:
		return true
	case <-a.done:
		return false
	}
}

func (a *Agent) post(f func(*core)) bool {
	select {
	case a.events <- f:
		return true
	case <-a.done:
		return false
	}
}

// talk keeps a link to the master.
func (a *Agent) talk(ctx context.Context) {
	select {
	case <-a.ready:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		err := a.session(ctx)
		if err != nil {
			a.cfg.Log.Debug("no link to the master", zap.Error(err))
		}
		select {
		case <-time.After(reconnectAfter):
		case <-ctx.Done():
		}
	}
}

// session is one link from its begin to its end.
func (a *Agent) session(ctx context.Context) error {
	u, err := url.Parse(a.cfg.Master)
	if err != nil {
		return err
	}
	conn, err := a.cfg.Dial(ctx, u.Host)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	link, err := wire.Open(conn, u.Host)
	if err != nil {
		return err
	}
	defer link.Close()
	if !a.do(func(c *core) { c.connect(link) }) {
		return nil
	}
	defer a.post(func(c *core) { c.cut(link) })
	silence := time.AfterFunc(time.Minute, func() { conn.Close() })
	defer silence.Stop()
	quiet := time.Minute
	for {
		f, err := link.Receive()
		if err != nil {
			return err
		}
		if f.Kind == wire.Registered {
			var w wire.Welcome
			if json.Unmarshal(f.Data, &w) == nil && w.Silence > 0 {
				quiet = w.Silence + w.Silence/2
			}
		}
		silence.Reset(quiet)
		if !a.post(func(c *core) {
			if c.master == link {
				c.frame(f)
			}
		}) {
			return nil
		}
	}
}

// connect introduces the agent on a new link.
func (c *core) connect(link *wire.Link) {
	c.master, c.joined = link, false
	r := wire.Registration{AgentID: c.id, Version: Version, IP: c.cfg.IP}
	var err error
	if r.Info, err = c.info.Marshal(); err != nil {
		c.log.Error("agent info cannot be encoded", zap.Error(err))
	}
	for _, f := range c.frameworks {
		if body, err := f.info.Marshal(); err == nil && !f.terminating {
			r.Frameworks = append(r.Frameworks, body)
		}
	}
	for _, e := range c.executors() {
		if e.framework.terminating {
			continue
		}
		if body, err := e.info.Marshal(); err == nil && e.state != terminated {
			r.Executors = append(r.Executors, wire.RegisteredExecutor{Framework: e.framework.id, Info: body})
		}
		for _, t := range e.byAge() {
			m := t.wire(e)
			if body, err := m.Marshal(); err == nil {
				r.Tasks = append(r.Tasks, body)
			}
		}
	}
	for _, x := range c.exits {
		r.Executors = append(r.Executors, x.executor)
	}
	data, err := json.Marshal(r)
	if err != nil {
		c.log.Error("registration cannot be encoded", zap.Error(err))
		return
	}
	c.say(func() { link.Send(wire.Frame{Kind: wire.Register, Data: data}) })
}

// wire is the task in the form the master keeps.
func (t *task) wire(e *executor) mesos.Task {
	m := mesos.Task{
		Name: t.info.Name, TaskID: t.info.TaskID, FrameworkID: mesos.FrameworkID{Value: e.framework.id}, ExecutorID: &e.info.ExecutorID,
		AgentID: t.info.AgentID, State: t.state.Enum(), Resources: t.info.Resources, Labels: t.info.Labels, Discovery: t.info.Discovery,
		Container: t.info.Container, HealthCheck: t.info.HealthCheck, KillPolicy: t.info.KillPolicy,
	}
	if n := len(t.statuses); n > 0 {
		last := t.statuses[n-1]
		last.Data = nil
		m.Statuses = []mesos.TaskStatus{last}
	}
	return m
}

// cut handles the loss of the master.
func (c *core) cut(link *wire.Link) {
	if c.master != link {
		return
	}
	c.master, c.joined = nil, false
	for _, s := range c.updates {
		s.retryAt = time.Time{}
	}
	c.log.Info("link to the master lost")
}

// frame handles what the master says.
func (c *core) frame(f wire.Frame) {
	switch f.Kind {
	case wire.Registered:
		c.registered(f)
	case wire.Refused:
		c.log.Warn("the master refuses this agent", zap.String("why", f.Text))
	case wire.Run:
		c.runFrame(f)
	case wire.Kill:
		var policy *mesos.KillPolicy
		if len(f.Bodies) == 1 {
			policy = &mesos.KillPolicy{}
			if policy.Unmarshal(f.Bodies[0]) != nil {
				policy = nil
			}
		}
		c.killTask(f.Framework, f.Task, policy)
	case wire.ShutdownExecutor:
		if e, refusal := c.find(f.Framework, f.Executor); refusal == nil {
			c.shutdown(e)
		}
	case wire.ShutdownFramework:
		c.shutdownFramework(f.Framework)
	case wire.ShutdownAgent:
		c.leave(f.Text)
	case wire.Acknowledge:
		c.schedulerAcknowledged(f.Framework, f.Task, f.UUID)
	case wire.ToExecutor:
		if e, refusal := c.find(f.Framework, f.Executor); refusal == nil && e.state == running && len(f.Bodies) == 1 {
			c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_MESSAGE, Message: &executorpb.Event_Message{Data: f.Bodies[0]}})
		}
	case wire.UpdateFramework:
		var info mesos.FrameworkInfo
		if known := c.frameworks[f.Framework]; known != nil && len(f.Bodies) == 1 && info.Unmarshal(f.Bodies[0]) == nil {
			known.info = info
			c.noteFramework(known)
		}
		c.resend(f.Framework)
	case wire.Ping:
		c.toMaster(wire.Frame{Kind: wire.Pong})
	default:
		c.log.Warn("unknown frame from master", zap.String("kind", string(f.Kind)))
	}
}

func (c *core) registered(f wire.Frame) {
	var w wire.Welcome
	if err := json.Unmarshal(f.Data, &w); err != nil || w.AgentID == "" {
		c.log.Warn("bad welcome from master", zap.Error(err))
		return
	}
	c.joined = true
	if c.id != w.AgentID {
		c.id = w.AgentID
		c.info.ID = &mesos.AgentID{Value: w.AgentID}
		c.noteAgent()
	}
	c.log.Info("registered with the master", zap.String("agent", c.id))
	for _, x := range c.exits {
		c.toMaster(x.frame)
	}
	c.exits = nil
	c.resend("")
	for _, u := range w.Unknown {
		f := c.frameworks[u.Framework]
		if f == nil {
			f = c.framework(mesos.FrameworkInfo{ID: &mesos.FrameworkID{Value: u.Framework}})
			if u.PartitionAware {
				f.info.Capabilities = []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_PARTITION_AWARE}}
			}
		}
		known := false
		for _, e := range f.executors {
			known = known || e.tasks[u.Task] != nil
		}
		if _, pending := c.updates[taskKey{u.Framework, u.Task}]; !known && !pending {
			c.update(f, nil, c.own(nil, mesos.TaskID{Value: u.Task}, f.lost(mesos.TASK_DROPPED), mesos.REASON_RECONCILIATION,
				"Reconciliation: task unknown to the agent"), false)
		}
	}
}

func (c *core) runFrame(f wire.Frame) {
	var info mesos.FrameworkInfo
	if len(f.Bodies) < 1 || info.Unmarshal(f.Bodies[0]) != nil || info.GetID().GetValue() == "" {
		c.log.Warn("bad run frame from master")
		return
	}
	var tasks []mesos.TaskInfo
	for _, body := range f.Bodies[1:] {
		var t mesos.TaskInfo
		if err := t.Unmarshal(body); err != nil {
			c.log.Warn("bad task from master", zap.Error(err))
			return
		}
		tasks = append(tasks, t)
	}
	c.run(info, tasks, f.Launch)
}
