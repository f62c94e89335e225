package master

import (
	"bytes"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/wire"
)

// maxCompletedTasks is how many tasks of a framework are remembered after their end, as in Mesos.
const maxCompletedTasks = 1000

var zeroTime time.Time

func terminal(s mesos.TaskState) bool {
	switch s {
	case mesos.TASK_FINISHED, mesos.TASK_FAILED, mesos.TASK_KILLED, mesos.TASK_ERROR, mesos.TASK_LOST, mesos.TASK_DROPPED,
		mesos.TASK_GONE, mesos.TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// lost is what a framework is told instead of a state that needs PARTITION_AWARE.
func (f *framework) lost(state mesos.TaskState) mesos.TaskState {
	if f.aware {
		return state
	}
	return mesos.TASK_LOST
}

// madeUp is a status that the master invents: it has no uuid and must not be acknowledged.
func (c *core) madeUp(t *task, state mesos.TaskState, message string, reason mesos.TaskStatus_Reason, unreachable *time.Time) mesos.TaskStatus {
	s := mesos.TaskStatus{
		TaskID: t.info.TaskID, State: state.Enum(), Message: &message, Source: mesos.SOURCE_MASTER.Enum(), Reason: reason.Enum(),
		AgentID: &t.info.AgentID, ExecutorID: t.info.ExecutorID, Timestamp: timestamp(c.now),
	}
	if unreachable != nil {
		s.UnreachableTime = timeInfo(*unreachable)
	}
	return s
}

func (c *core) sendStatus(f *framework, s mesos.TaskStatus) {
	if f.out != nil {
		f.out.Send(&scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: s}})
	}
}

// add appends to the history of a task; statuses that repeat the state replace the last one.
func (t *task) add(s mesos.TaskStatus) {
	s.Data = nil
	if n := len(t.info.Statuses); n > 0 && t.info.Statuses[n-1].GetState() == s.GetState() {
		t.info.Statuses = append(slices.Clone(t.info.Statuses[:n-1]), s)
		return
	}
	t.info.Statuses = append(slices.Clone(t.info.Statuses), s)
}

// update handles a status that an agent forwards. latest is the newest state the agent knows of the task: it frees
// resources although older updates are not acknowledged yet.
func (c *core) update(a *agent, frameworkID string, s mesos.TaskStatus, latest mesos.TaskState) {
	f := c.frameworks[frameworkID]
	if f == nil {
		return
	}
	if t := f.tasks[s.TaskID.Value]; t != nil && t.info.AgentID.Value == a.id {
		wasTerminal := terminal(t.info.GetState())
		if !wasTerminal {
			t.info.State = latest.Enum()
			c.freeIfOver(f, t)
		}
		t.info.StatusUpdateState, t.info.StatusUpdateUUID = s.State, s.UUID
		t.add(s)
		if !wasTerminal {
			c.tell(&masterpb.Event{Type: masterpb.Event_TASK_UPDATED, TaskUpdated: &masterpb.Event_TaskUpdated{
				FrameworkID: mesos.FrameworkID{Value: f.id}, Status: s, State: latest.Enum(),
			}})
		}
	}
	c.sendStatus(f, s)
}

// freeIfOver gives the resources of a terminal task back.
func (c *core) freeIfOver(f *framework, t *task) {
	if t.released || !terminal(t.info.GetState()) {
		return
	}
	t.released = true
	c.release(f, c.agents[t.info.AgentID.Value], t.resources)
}

// removeTask forgets a task; it is remembered as completed or as unreachable.
func (c *core) removeTask(f *framework, t *task, unreachable bool) {
	id := t.info.TaskID.Value
	a := c.agents[t.info.AgentID.Value]
	if !t.released {
		t.released = true
		c.release(f, a, t.resources)
	}
	delete(f.tasks, id)
	if a != nil {
		delete(a.tasks[f.id], id)
		delete(a.kills[f.id], id)
	}
	if unreachable {
		f.unreachable[id] = t
		return
	}
	f.completed = append(f.completed, t)
	if len(f.completed) > maxCompletedTasks {
		f.completed = f.completed[1:]
	}
}

// acknowledge passes an acknowledgement on to the agent, whatever the master knows of the task.
func (c *core) acknowledge(f *framework, call *scheduler.Call_Acknowledge) {
	a := c.agents[call.AgentID.Value]
	if a == nil || a.out == nil {
		return
	}
	if t := a.tasks[f.id][call.TaskID.Value]; t != nil {
		if len(t.info.StatusUpdateUUID) == 0 {
			return
		}
		if bytes.Equal(t.info.StatusUpdateUUID, call.UUID) && terminal(t.info.GetStatusUpdateState()) {
			c.removeTask(f, t, false)
		}
	}
	a.out.Send(wire.Frame{Kind: wire.Acknowledge, Framework: f.id, Task: call.TaskID.Value, UUID: call.UUID})
}

// kill forwards a KILL, or answers it as a reconciliation when the task is not known.
func (c *core) kill(f *framework, call *scheduler.Call_Kill) {
	id := call.TaskID.Value
	t := f.tasks[id]
	if t == nil {
		c.reconcileOne(f, id, call.AgentID.GetValue())
		return
	}
	a := c.agents[t.info.AgentID.Value]
	if a == nil || call.AgentID.GetValue() != "" && call.AgentID.GetValue() != a.id {
		c.log.Info("KILL ignored: task is on another agent", zap.String("task", id))
		return
	}
	// It is remembered even when the agent seems to be there: the loss of its link may not be noticed yet.
	if a.kills[f.id] == nil {
		a.kills[f.id] = map[string]*mesos.KillPolicy{}
	}
	a.kills[f.id][id] = call.KillPolicy
	if a.out != nil {
		c.sendKill(a, f.id, id, call.KillPolicy)
	}
}

func (c *core) sendKill(a *agent, frameworkID, id string, policy *mesos.KillPolicy) {
	frame := wire.Frame{Kind: wire.Kill, Framework: frameworkID, Task: id}
	if policy != nil {
		if b, err := policy.Marshal(); err == nil {
			frame.Bodies = [][]byte{b}
		}
	}
	a.out.Send(frame)
}

// reconcile answers with the state of the tasks, or of all that are known and reachable if none are named.
func (c *core) reconcile(f *framework, call *scheduler.Call_Reconcile) {
	if len(call.Tasks) == 0 {
		for _, t := range tasksByAge(f.tasks) {
			c.sendStatus(f, c.latest(t))
		}
		return
	}
	for _, ref := range call.Tasks {
		c.reconcileOne(f, ref.TaskID.Value, ref.AgentID.GetValue())
	}
}

// reconcileOne follows the rules of Mesos, among them: nothing is said about agents that are known from the registry
// but have not come back since the master started.
func (c *core) reconcileOne(f *framework, id, agentID string) {
	if t := f.tasks[id]; t != nil {
		c.sendStatus(f, c.latest(t))
		return
	}
	answer := func(state mesos.TaskState, message string, unreachable *time.Time) {
		t := &task{info: mesos.Task{TaskID: mesos.TaskID{Value: id}, AgentID: mesos.AgentID{Value: agentID}}}
		s := c.madeUp(t, f.lost(state), "Reconciliation: "+message, mesos.REASON_RECONCILIATION, unreachable)
		if agentID == "" {
			s.AgentID = nil
		}
		c.sendStatus(f, s)
	}
	if agentID == "" {
		if t := f.unreachable[id]; t != nil {
			agentID = t.info.AgentID.Value
		}
	}
	if agentID == "" {
		if len(c.recovered) == 0 {
			answer(mesos.TASK_UNKNOWN, "Task is unknown", nil)
		}
		return
	}
	if c.agents[agentID] != nil {
		answer(mesos.TASK_GONE, "Task is unknown to the agent", nil)
		return
	}
	if u, ok := c.unreachable[agentID]; ok {
		answer(mesos.TASK_UNREACHABLE, "Task is unreachable", &u.Since)
		return
	}
	if _, ok := c.gone[agentID]; ok {
		answer(mesos.TASK_GONE_BY_OPERATOR, "Task is gone", nil)
		return
	}
	if _, ok := c.recovered[agentID]; !ok {
		answer(mesos.TASK_UNKNOWN, "Task is unknown", nil)
	}
}

// latest is the state that reconciliation reports: that of the last update that was sent, not the newest one.
func (c *core) latest(t *task) mesos.TaskStatus {
	state := t.info.GetState()
	if t.info.StatusUpdateState != nil {
		state = *t.info.StatusUpdateState
	}
	s := c.madeUp(t, state, "Reconciliation: Latest task state", mesos.REASON_RECONCILIATION, nil)
	if n := len(t.info.Statuses); n > 0 {
		last := t.info.Statuses[n-1]
		s.Healthy, s.CheckStatus, s.ContainerStatus = last.Healthy, last.CheckStatus, last.ContainerStatus
	}
	return s
}
