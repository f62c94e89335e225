package agent

import (
	"bytes"
	"slices"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	executorpb "github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/wire"
)

// Unacknowledged updates are sent again after 10 s, 20 s, 40 s ... 10 min, as Mesos does.
const (
	firstRetry = 10 * time.Second
	lastRetry  = 10 * time.Minute
)

// updateStream holds the updates of one task that the scheduler has not acknowledged; only the oldest is sent.
type updateStream struct {
	executor   string
	checkpoint bool
	pending    []mesos.TaskStatus
	seen       [][]byte // uuids of all updates of the stream
	retryAt    time.Time
	interval   time.Duration
}

// update takes a status of a task, from an executor (fromExecutor) or made by the agent.
func (c *core) update(f *framework, e *executor, s mesos.TaskStatus, fromExecutor bool) {
	s.AgentID = &mesos.AgentID{Value: c.id}
	var t *task
	if e != nil {
		t = e.tasks[s.TaskID.Value]
	}
	known := t != nil && !terminal(t.state)
	key := taskKey{f.id, s.TaskID.Value}
	stream := c.updates[key]
	if stream != nil && slices.ContainsFunc(stream.seen, func(u []byte) bool { return bytes.Equal(u, s.UUID) }) {
		c.acknowledged(e, s)
		return
	}
	if known && fromExecutor {
		c.complete(e, &s)
	}
	if known {
		t.state = *s.State
		t.queued = false
		t.statuses = append(t.statuses, s)
	}
	if stream == nil {
		stream = &updateStream{checkpoint: f.info.GetCheckpoint()}
		if e != nil {
			stream.executor = e.id
		}
		c.updates[key] = stream
	}
	stream.pending = append(stream.pending, s)
	stream.seen = append(stream.seen, s.UUID)
	if stream.checkpoint {
		if body, err := s.Marshal(); err == nil {
			c.note(record{Kind: recUpdate, Framework: f.id, Executor: stream.executor, Task: key.task, Body: body})
		}
	}
	if known && fromExecutor {
		c.acknowledged(e, s)
	}
	if len(stream.pending) == 1 {
		stream.interval = 0
		c.forward(key, stream)
	}
}

// complete adds what the agent knows of the container.
func (c *core) complete(e *executor, s *mesos.TaskStatus) {
	status := mesos.ContainerStatus{}
	if s.ContainerStatus != nil {
		status = *s.ContainerStatus
	}
	status.ContainerID = &mesos.ContainerID{Value: e.container}
	status.ExecutorPID = new(uint32(e.pid))
	if len(status.NetworkInfos) == 0 {
		status.NetworkInfos = []mesos.NetworkInfo{{IPAddresses: []mesos.NetworkInfo_IPAddress{{
			Protocol: mesos.IPv4.Enum(), IPAddress: new(c.cfg.IP),
		}}}}
	}
	s.ContainerStatus = &status
}

// acknowledged tells the executor that the agent has the update.
func (c *core) acknowledged(e *executor, s mesos.TaskStatus) {
	if e != nil {
		c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_ACKNOWLEDGED, Acknowledged: &executorpb.Event_Acknowledged{TaskID: s.TaskID, UUID: s.UUID}})
	}
}

// forward sends the oldest update of a stream and arms its retry.
func (c *core) forward(key taskKey, s *updateStream) {
	s.retryAt = time.Time{}
	if c.master == nil || !c.joined || len(s.pending) == 0 {
		return
	}
	oldest := s.pending[0]
	body, err := oldest.Marshal()
	if err != nil {
		c.log.Error("update cannot be encoded", zap.String("task", key.task), zap.Error(err))
		return
	}
	latest := s.pending[len(s.pending)-1].GetState()
	c.toMaster(wire.Frame{Kind: wire.Update, Framework: key.framework, Task: key.task, State: int32(latest), Bodies: [][]byte{body}})
	s.interval = min(max(2*s.interval, firstRetry), lastRetry)
	s.retryAt = c.now.Add(s.interval)
}

// resend sends the oldest update of each stream at once: a master or a scheduler has newly connected.
func (c *core) resend(framework string) {
	for _, key := range sortedKeys(c.updates) {
		if framework == "" || key.framework == framework {
			c.updates[key].interval = 0
			c.forward(key, c.updates[key])
		}
	}
}

func sortedKeys(m map[taskKey]*updateStream) []taskKey {
	out := make([]taskKey, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.SortFunc(out, compareKeys)
	return out
}

// schedulerAcknowledged drops the oldest update if it is the one that is meant, and sends the next.
func (c *core) schedulerAcknowledged(framework, id string, u []byte) {
	key := taskKey{framework, id}
	s := c.updates[key]
	if s == nil || len(s.pending) == 0 || !bytes.Equal(s.pending[0].UUID, u) {
		return
	}
	done := s.pending[0]
	s.pending = s.pending[1:]
	if s.checkpoint {
		c.note(record{Kind: recAck, Framework: framework, Executor: s.executor, Task: id, UUID: u})
	}
	c.forgetAcknowledged(key, s, done)
	if len(s.pending) > 0 {
		s.interval = 0
		c.forward(key, s)
	}
}

// forgetAcknowledged ends a stream and its task when nothing can follow.
func (c *core) forgetAcknowledged(key taskKey, s *updateStream, done mesos.TaskStatus) {
	if len(s.pending) == 0 {
		s.retryAt = time.Time{}
	}
	f := c.frameworks[key.framework]
	var e *executor
	if f != nil {
		e = f.executors[s.executor]
	}
	var t *task
	if e != nil {
		t = e.tasks[key.task]
	}
	if len(s.pending) > 0 || t != nil && !terminal(done.GetState()) {
		return
	}
	delete(c.updates, key)
	if t != nil {
		delete(e.tasks, key.task)
		c.reap(e)
	}
	if f != nil {
		c.cleanUp(f)
	}
}

// own makes a status in the name of the agent.
func (c *core) own(e *executor, id mesos.TaskID, state mesos.TaskState, reason mesos.TaskStatus_Reason, message string) mesos.TaskStatus {
	u := uuid.MustParse(c.cfg.NewUUID())
	s := mesos.TaskStatus{
		TaskID: id, State: &state, Message: &message, Source: mesos.SOURCE_AGENT.Enum(), Reason: &reason,
		Timestamp: timestamp(c.now), UUID: u[:],
	}
	if e != nil {
		s.ExecutorID = &mesos.ExecutorID{Value: e.id}
	}
	return s
}

func timestamp(t time.Time) *float64 { return new(float64(t.UnixMicro()) / 1e6) }
