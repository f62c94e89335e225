package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"
)

// Kinds of journal records.
const (
	recAgent     = "agent"     // Agent, Boot, Body: AgentInfo
	recFramework = "framework" // Body: FrameworkInfo
	recExecutor  = "executor"  // Body: ExecutorInfo, Container, Dir
	recProcess   = "process"   // Container, PID, Start
	recTask      = "task"      // Body: TaskInfo
	recUpdate    = "update"    // Body: TaskStatus
	recAck       = "ack"       // UUID
	recExited    = "exited"    // Container
	recForget    = "forget"    // the framework has nothing here any more
)

// record is one line of the journal: what an agent must know after its own death.
type record struct {
	Kind      string `json:"k"`
	Framework string `json:"f,omitempty"`
	Executor  string `json:"e,omitempty"`
	Task      string `json:"t,omitempty"`
	Container string `json:"c,omitempty"`
	Dir       string `json:"d,omitempty"`
	PID       int    `json:"p,omitempty"`
	Start     uint64 `json:"s,omitempty"` // start time of the process in clock ticks since boot: tells reused pids apart
	Agent     string `json:"a,omitempty"`
	Boot      string `json:"o,omitempty"`
	UUID      []byte `json:"u,omitempty"`
	Body      []byte `json:"b,omitempty"`
}

func (c *core) note(r record) { c.journal = append(c.journal, r) }

func (c *core) noteFramework(f *framework) {
	if body, err := f.info.Marshal(); err == nil {
		c.note(record{Kind: recFramework, Framework: f.id, Body: body})
	}
}

// noteExecutor remembers every executor, also of frameworks that do not checkpoint: a later agent has to kill those.
func (c *core) noteExecutor(e *executor) {
	if body, err := e.info.Marshal(); err == nil {
		c.note(record{Kind: recExecutor, Framework: e.framework.id, Executor: e.id, Container: e.container, Dir: e.dir, Body: body})
	}
}

func (c *core) noteAgent() {
	if body, err := c.info.Marshal(); err == nil {
		c.note(record{Kind: recAgent, Agent: c.id, Boot: c.cfg.BootID, Body: body})
	}
}

// snapshot is a journal that leads to the present state.
func (c *core) snapshot(processes map[string]record) []record {
	saved := c.journal
	c.journal = nil
	c.noteAgent()
	for _, id := range slices.Sorted(maps.Keys(c.frameworks)) { // also those that only updates are left of
		c.noteFramework(c.frameworks[id])
	}
	for _, e := range c.executors() {
		c.noteExecutor(e)
		if p, ok := processes[e.container]; ok {
			c.note(p)
		}
		if !e.framework.info.GetCheckpoint() {
			continue
		}
		for _, t := range e.byAge() {
			if body, err := t.info.Marshal(); err == nil {
				c.note(record{Kind: recTask, Framework: e.framework.id, Executor: e.id, Task: t.info.TaskID.Value, Body: body})
			}
			c.noteLastAcknowledged(e, t)
		}
	}
	for _, key := range sortedKeys(c.updates) {
		s := c.updates[key]
		for _, u := range s.pending {
			if body, err := u.Marshal(); err == nil && s.checkpoint {
				c.note(record{Kind: recUpdate, Framework: key.framework, Executor: s.executor, Task: key.task, Body: body})
			}
		}
	}
	for _, e := range c.executors() { // last: an executor that has ended and has no tasks is forgotten
		if e.state == terminated {
			c.note(record{Kind: recExited, Framework: e.framework.id, Executor: e.id, Container: e.container})
		}
	}
	out := c.journal
	c.journal = saved
	return out
}

// noteLastAcknowledged remembers the state that the scheduler knows of a task; what is pending follows by itself.
func (c *core) noteLastAcknowledged(e *executor, t *task) {
	pending := c.updates[taskKey{e.framework.id, t.info.TaskID.Value}]
	for _, s := range slices.Backward(t.statuses) {
		if pending != nil && slices.ContainsFunc(pending.pending, func(p mesos.TaskStatus) bool { return bytes.Equal(p.UUID, s.UUID) }) {
			continue
		}
		if terminal(s.GetState()) {
			return // more follows it, or the task would be forgotten; it must not be forgotten by the replay
		}
		if body, err := s.Marshal(); err == nil {
			c.note(record{Kind: recUpdate, Framework: e.framework.id, Executor: e.id, Task: t.info.TaskID.Value, Body: body})
			c.note(record{Kind: recAck, Framework: e.framework.id, Executor: e.id, Task: t.info.TaskID.Value, UUID: s.UUID})
		}
		return
	}
}

// replay rebuilds the state from a journal. Records that make no sense are skipped: the journal was cut by a crash.
func (c *core) replay(records []record) (boot string, processes map[string]record) {
	processes = map[string]record{}
	for _, r := range records {
		f := c.frameworks[r.Framework]
		var e *executor
		if f != nil {
			e = f.executors[r.Executor]
		}
		switch r.Kind {
		case recAgent:
			c.id, boot = r.Agent, r.Boot
			for _, f := range c.frameworks {
				f.terminating = f.terminating || r.Agent == "" // the agent was leaving
			}
		case recFramework:
			var info mesos.FrameworkInfo
			if info.Unmarshal(r.Body) == nil && info.GetID().GetValue() == r.Framework && r.Framework != "" {
				c.framework(info)
			}
		case recExecutor:
			var info mesos.ExecutorInfo
			if f != nil && info.Unmarshal(r.Body) == nil && r.Executor != "" {
				f.executors[r.Executor] = &executor{seq: c.seq(), framework: f, id: r.Executor, info: info, container: r.Container,
					dir: r.Dir, recovered: true, tasks: map[string]*task{}}
			}
		case recProcess:
			if e != nil && e.container == r.Container {
				e.pid = r.PID
				processes[r.Container] = r
			}
		case recTask:
			var info mesos.TaskInfo
			if e != nil && info.Unmarshal(r.Body) == nil {
				e.tasks[r.Task] = &task{seq: c.seq(), info: info, state: mesos.TASK_STAGING}
			}
		case recUpdate:
			c.replayUpdate(f, e, r)
		case recAck:
			c.schedulerAcknowledged(r.Framework, r.Task, r.UUID)
		case recExited:
			if e != nil && e.container == r.Container {
				e.state = terminated
				c.reap(e)
			}
		case recForget:
			delete(c.frameworks, r.Framework)
		}
	}
	c.journal, c.outbox = nil, nil
	return boot, processes
}

func (c *core) replayUpdate(f *framework, e *executor, r record) {
	var s mesos.TaskStatus
	if f == nil || s.Unmarshal(r.Body) != nil || s.State == nil {
		return
	}
	key := taskKey{r.Framework, r.Task}
	stream := c.updates[key]
	if stream == nil {
		stream = &updateStream{executor: r.Executor, checkpoint: true}
		c.updates[key] = stream
	}
	if slices.ContainsFunc(stream.seen, func(u []byte) bool { return bytes.Equal(u, s.UUID) }) {
		return
	}
	stream.pending = append(stream.pending, s)
	stream.seen = append(stream.seen, s.UUID)
	if e == nil {
		return
	}
	if t := e.tasks[r.Task]; t != nil && !terminal(t.state) {
		t.state = *s.State
		t.statuses = append(t.statuses, s)
	}
}

// recover decides what becomes of the executors of an earlier agent process on this work directory.
func (c *core) recover(boot string, processes map[string]record) {
	rebooted := boot != c.cfg.BootID
	for _, e := range c.executors() {
		if e.state == terminated {
			continue
		}
		if rebooted {
			c.ended(e.container, -1, "")
			continue
		}
		p, container, dir := processes[e.container], e.container, e.dir
		c.say(func() { c.cfg.Launcher.Adopt(container, p.PID, p.Start, dir) })
		if !e.framework.info.GetCheckpoint() || e.framework.terminating {
			e.framework.terminating = true
			c.kill(e)
			continue
		}
		e.giveUp = c.now.Add(c.cfg.ExecutorReregistrationTimeout)
		c.reconnectBy = e.giveUp
	}
	for _, f := range c.frameworks {
		c.cleanUp(f)
	}
	if c.id == "" {
		return // a new work directory
	}
	c.log.Info("recovered", zap.String("agent", c.id), zap.Bool("rebooted", rebooted), zap.Int("executors", len(c.executors())))
}

// logFile is the journal on disk.
type logFile struct {
	path string
	file *os.File
	size int64
}

// compactAbove is the size at which the journal is written anew from the present state.
const compactAbove = 8 << 20

func journalPath(workDir string) string { return filepath.Join(workDir, "meta", "journal") }

// readJournal returns the records up to the first one that is damaged.
func readJournal(path string) ([]record, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return decodeJournal(f)
}

func decodeJournal(r io.Reader) ([]record, error) {
	reader := bufio.NewReaderSize(r, 64<<10)
	var out []record
	for {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return out, nil // a line without its end was cut by a crash
			}
			return out, err
		}
		var rec record
		if json.Unmarshal(line, &rec) != nil {
			return out, nil
		}
		out = append(out, rec)
	}
}

// openJournal starts a journal that contains these records, replacing the one that is there.
func openJournal(path string, records []record) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l := &logFile{path: path, file: f}
	err = l.append(records)
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("journal: %w", err)
	}
	return l, nil
}

// append makes records durable: one write and one sync for all of them.
func (l *logFile) append(records []record) error {
	if len(records) == 0 {
		return nil
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	for _, r := range records {
		if err := encoder.Encode(r); err != nil {
			return err
		}
	}
	n, err := l.file.Write(buffer.Bytes())
	l.size += int64(n)
	if err != nil {
		return err
	}
	return l.file.Sync()
}

func (l *logFile) close() error { return l.file.Close() }
