package master

import (
	"fmt"
	"maps"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
	"padis.io/padis/mesos/local/words"
)

// register admits an agent or takes it back. The registry is durable before the agent hears of its id.
func (c *core) register(out link, r wire.Registration) (*agent, error) {
	var info mesos.AgentInfo
	if err := info.Unmarshal(r.Info); err != nil {
		return nil, fmt.Errorf("agent info: %w", err)
	}
	if _, gone := c.gone[r.AgentID]; gone {
		out.Send(wire.Frame{Kind: wire.ShutdownAgent, Text: "Agent has been marked gone"})
		return nil, fmt.Errorf("agent %s has been marked gone", r.AgentID)
	}
	id := r.AgentID
	if id == "" {
		id = fmt.Sprintf("%s-S%d", c.id, c.nextAgent)
		c.nextAgent++
	}
	info.ID = &mesos.AgentID{Value: id}
	a := c.agents[id]
	_, unreachable := c.unreachable[id]
	_, recovered := c.recovered[id]
	returns := "" // what the frameworks are told about its tasks; empty if they need not be told
	switch {
	case a != nil && a.out != nil:
		c.log.Info("agent opened a second link", zap.String("agent", id))
		a.out.Close()
		c.cut(a, a.out)
	case a == nil && unreachable:
		returns = "Unreachable agent re-reregistered"
	case a == nil && !recovered && r.AgentID != "":
		returns = "Unknown agent reregistered"
	}
	fresh := a == nil
	if fresh {
		a = &agent{seq: c.seq(), id: id, tasks: map[string]map[string]*task{}, executors: map[string]map[string]*executor{},
			kills: map[string]map[string]*mesos.KillPolicy{}, registered: c.now}
		a.total = amount.WithRole(info.Resources)
		a.available = a.total
	}
	if r.AgentID != "" {
		a.reregistered = c.now
	}
	a.info, a.version, a.address, a.out, a.connected = info, r.Version, r.IP, out, c.now
	a.nextPing, a.missed, a.heard = c.now.Add(c.cfg.AgentPingTimeout), 0, true
	c.agents[id] = a
	delete(c.unreachable, id)
	delete(c.recovered, id)
	if len(c.recovered) == 0 {
		c.agentsExpected = zeroTime
	}
	if fresh {
		if err := c.save(c.registry()); err != nil {
			delete(c.agents, id)
			return nil, fmt.Errorf("registry: %w", err)
		}
	}
	welcome := wire.Welcome{AgentID: id, Silence: c.cfg.AgentPingTimeout * time.Duration(c.cfg.MaxAgentPingTimeouts)}
	changed := c.takeOver(a, r, &welcome, returns != "")
	out.Send(wire.Frame{Kind: wire.Registered, Data: mustJSON(welcome)})
	c.log.Info("agent registered", zap.String("agent", id), zap.String("hostname", info.Hostname), zap.Bool("new", fresh))
	for _, t := range changed {
		f := c.frameworks[t.info.FrameworkID.Value]
		s := c.latest(t)
		s.State, s.Message, s.Reason = t.info.State, &returns, mesos.REASON_AGENT_REREGISTERED.Enum()
		c.sendStatus(f, s)
	}
	c.greet(a)
	if fresh {
		c.tell(&masterpb.Event{Type: masterpb.Event_AGENT_ADDED, AgentAdded: &masterpb.Event_AgentAdded{Agent: c.describeAgent(a)}})
		c.allocate([]*agent{a})
	}
	c.alloc.dirty = true
	return a, nil
}

// greet brings an agent up to date after its registration: schedulers that are connected, frameworks that have gone,
// kills that waited.
func (c *core) greet(a *agent) {
	known := map[string]bool{}
	for id := range a.tasks {
		known[id] = len(a.tasks[id]) > 0
	}
	for id := range a.executors {
		known[id] = known[id] || len(a.executors[id]) > 0
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		f := c.frameworks[id]
		if f == nil || f.out == nil || !known[id] {
			continue
		}
		if body, err := f.info.Marshal(); err == nil {
			a.out.Send(wire.Frame{Kind: wire.UpdateFramework, Framework: id, Bodies: [][]byte{body}})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(a.kills)) {
		for _, taskID := range slices.Sorted(maps.Keys(a.kills[id])) {
			c.sendKill(a, id, taskID, a.kills[id][taskID])
		}
	}
}

// takeOver makes the master's view of an agent equal to what the agent said. It returns the tasks of connected
// frameworks that are new to the master.
func (c *core) takeOver(a *agent, r wire.Registration, welcome *wire.Welcome, announce bool) []*task {
	for _, body := range r.Frameworks {
		var info mesos.FrameworkInfo
		if info.Unmarshal(body) != nil || info.GetID().GetValue() == "" {
			continue
		}
		id := info.ID.Value
		switch {
		case c.findCompleted(id) != nil:
			a.out.Send(wire.Frame{Kind: wire.ShutdownFramework, Framework: id})
		case c.frameworks[id] == nil:
			f := c.addFramework(info)
			f.recovered = true
			f.failover = c.now.Add(seconds(info.GetFailoverTimeout()))
		}
	}
	c.takeOverExecutors(a, r.Executors)
	listed := map[string]bool{}
	var changed []*task
	for _, body := range r.Tasks {
		var info mesos.Task
		if info.Unmarshal(body) != nil || info.State == nil {
			continue
		}
		f := c.frameworks[info.FrameworkID.Value]
		if f == nil {
			continue
		}
		id := info.TaskID.Value
		listed[f.id+"\x00"+id] = true
		info.AgentID.Value = a.id
		if t := f.tasks[id]; t != nil {
			if !terminal(t.info.GetState()) {
				t.info.State = info.State
				c.freeIfOver(f, t)
			}
			continue
		}
		delete(f.unreachable, id)
		t := &task{seq: c.seq(), info: info, resources: amount.Sum(info.Resources), released: terminal(*info.State)}
		c.own(f, a, t)
		if !t.released {
			c.take(f, a, t.resources)
		}
		if announce {
			changed = append(changed, t)
		}
	}
	for _, f := range c.byAge() {
		for _, t := range tasksByAge(a.tasks[f.id]) {
			if !listed[f.id+"\x00"+t.info.TaskID.Value] && !terminal(t.info.GetState()) {
				welcome.Unknown = append(welcome.Unknown, wire.UnknownTask{Framework: f.id, Task: t.info.TaskID.Value, PartitionAware: f.aware})
			}
		}
	}
	return changed
}

func (c *core) takeOverExecutors(a *agent, list []wire.RegisteredExecutor) {
	alive := map[string]bool{}
	for _, e := range list {
		var info mesos.ExecutorInfo
		f := c.frameworks[e.Framework]
		if f == nil || info.Unmarshal(e.Info) != nil {
			continue
		}
		id := info.ExecutorID.Value
		alive[f.id+"\x00"+id] = true
		if a.executors[f.id][id] == nil {
			c.addExecutor(f, a, info)
			a.available = amount.Minus(a.available, amount.Unallocated(info.Resources))
		}
	}
	for fid, executors := range a.executors {
		for id, e := range executors {
			if !alive[fid+"\x00"+id] {
				delete(executors, id)
				c.release(c.frameworks[fid], a, e.resources)
			}
		}
	}
}

// frame handles what an agent says after its registration.
func (c *core) frame(a *agent, f wire.Frame) {
	a.heard = true
	switch f.Kind {
	case wire.Update:
		var s mesos.TaskStatus
		if len(f.Bodies) != 1 || s.Unmarshal(f.Bodies[0]) != nil || s.State == nil {
			c.log.Warn("bad update from agent", zap.String("agent", a.id))
			return
		}
		c.update(a, f.Framework, s, mesos.TaskState(f.State))
	case wire.FromExecutor:
		if fw := c.frameworks[f.Framework]; fw != nil && fw.out != nil && len(f.Bodies) == 1 {
			fw.out.Send(&scheduler.Event{Type: scheduler.Event_MESSAGE, Message: &scheduler.Event_Message{
				AgentID: mesos.AgentID{Value: a.id}, ExecutorID: mesos.ExecutorID{Value: f.Executor}, Data: f.Bodies[0],
			}})
		}
	case wire.ExecutorExited:
		c.executorExited(a, f)
	case wire.Unregister:
		c.log.Info("agent unregistered", zap.String("agent", a.id))
		c.removeAgent(a, "Agent "+a.info.Hostname+" removed: the agent unregistered", mesos.TASK_LOST, mesos.REASON_AGENT_REMOVED, nil)
		if err := c.save(c.registry()); err != nil {
			c.log.Error("registry not written", zap.Error(err))
		}
	case wire.Pong:
	default:
		c.log.Warn("unknown frame from agent", zap.String("agent", a.id), zap.String("kind", string(f.Kind)))
	}
}

func (c *core) executorExited(a *agent, f wire.Frame) {
	e := a.executors[f.Framework][f.Executor]
	if e == nil {
		return
	}
	delete(a.executors[f.Framework], f.Executor)
	fw := c.frameworks[f.Framework]
	c.release(fw, a, e.resources)
	if fw != nil && fw.out != nil {
		fw.out.Send(&scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{
			AgentID: &mesos.AgentID{Value: a.id}, ExecutorID: &mesos.ExecutorID{Value: f.Executor}, Status: new(f.Status),
		}})
	}
}

// cut handles the end of an agent's link: offers are rescinded at once, tasks of frameworks that do not checkpoint
// are lost at once, the rest waits for the pings to run out.
func (c *core) cut(a *agent, out link) {
	if a.out != out {
		return
	}
	a.out = nil
	c.log.Info("agent disconnected", zap.String("agent", a.id))
	c.rescindAll(a)
	for _, f := range c.byAge() {
		if f.info.GetCheckpoint() {
			continue
		}
		for _, t := range tasksByAge(a.tasks[f.id]) {
			if !terminal(t.info.GetState()) {
				c.end(f, t, f.lost(mesos.TASK_GONE), "Agent "+a.info.Hostname+" disconnected", mesos.REASON_AGENT_DISCONNECTED, nil, false)
			}
		}
		for _, e := range executorsByAge(a.executors[f.id]) {
			c.release(f, a, e.resources)
		}
		delete(a.executors, f.id)
	}
}

func (c *core) rescindAll(a *agent) {
	for _, o := range c.offersByAge() {
		if o.agent == a {
			c.rescind(o)
			c.recover(o, 0)
		}
	}
}

// end transitions a task by the master's own decision and forgets it.
func (c *core) end(f *framework, t *task, state mesos.TaskState, message string, reason mesos.TaskStatus_Reason, unreachable *time.Time, keep bool) {
	s := c.madeUp(t, state, message, reason, unreachable)
	t.info.State = state.Enum()
	t.info.StatusUpdateState, t.info.StatusUpdateUUID = state.Enum(), nil
	t.add(s)
	c.removeTask(f, t, keep)
	c.sendStatus(f, s)
	c.tell(&masterpb.Event{Type: masterpb.Event_TASK_UPDATED, TaskUpdated: &masterpb.Event_TaskUpdated{
		FrameworkID: mesos.FrameworkID{Value: f.id}, Status: s, State: state.Enum(),
	}})
}

// ping counts pings without answer; any frame of the agent counts as an answer.
func (c *core) ping(a *agent) {
	if c.now.Before(a.nextPing) {
		return
	}
	a.nextPing = c.now.Add(c.cfg.AgentPingTimeout)
	if a.heard {
		a.missed = 0
	} else {
		a.missed++
	}
	a.heard = false
	if a.missed >= c.cfg.MaxAgentPingTimeouts {
		c.markUnreachable(a)
		return
	}
	if a.out != nil {
		a.out.Send(wire.Frame{Kind: wire.Ping})
	}
}

func (c *core) markUnreachable(a *agent) {
	c.log.Info("agent is unreachable", zap.String("agent", a.id))
	since := c.now
	c.unreachable[a.id] = admitted{ID: a.id, Hostname: a.info.Hostname, State: stateUnreachable, Since: since}
	c.removeAgent(a, "health check timed out", mesos.TASK_UNREACHABLE, mesos.REASON_AGENT_REMOVED, &since)
	if err := c.save(c.registry()); err != nil {
		c.log.Error("registry not written", zap.Error(err))
	}
}

// removeAgent takes an agent out: updates first, then RESCIND, then FAILURE, in this order.
func (c *core) removeAgent(a *agent, message string, state mesos.TaskState, reason mesos.TaskStatus_Reason, unreachable *time.Time) {
	if a.out != nil {
		a.out.Close()
		a.out = nil
	}
	for _, f := range c.byAge() {
		for _, t := range tasksByAge(a.tasks[f.id]) {
			if terminal(t.info.GetState()) {
				c.removeTask(f, t, false)
				continue
			}
			c.end(f, t, f.lost(state), message, reason, unreachable, unreachable != nil)
		}
		for _, e := range executorsByAge(a.executors[f.id]) {
			c.release(f, a, e.resources)
		}
	}
	c.rescindAll(a)
	delete(c.agents, a.id)
	for _, f := range c.byAge() {
		if f.out != nil {
			f.out.Send(&scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{AgentID: &mesos.AgentID{Value: a.id}}})
		}
	}
	c.tell(&masterpb.Event{Type: masterpb.Event_AGENT_REMOVED, AgentRemoved: &masterpb.Event_AgentRemoved{AgentID: mesos.AgentID{Value: a.id}}})
}

// markGone is the operator's word that an agent will not return.
func (c *core) markGone(id string) error {
	a := c.agents[id]
	_, unreachable := c.unreachable[id]
	_, recovered := c.recovered[id]
	if _, gone := c.gone[id]; gone {
		return nil
	}
	if a == nil && !unreachable && !recovered {
		return words.Errorf("Agent '%s' not found", id)
	}
	c.gone[id] = admitted{ID: id, State: stateGone, Since: c.now}
	delete(c.unreachable, id)
	delete(c.recovered, id)
	if err := c.save(c.registry()); err != nil {
		return err
	}
	const message = "Agent has been marked gone"
	for _, f := range c.byAge() {
		for _, t := range tasksByAge(f.unreachable) {
			if t.info.AgentID.Value == id {
				delete(f.unreachable, t.info.TaskID.Value)
				c.end(f, t, f.lost(mesos.TASK_GONE_BY_OPERATOR), message, f.goneReason(), nil, false)
			}
		}
	}
	if a != nil {
		if a.out != nil {
			a.out.Send(wire.Frame{Kind: wire.ShutdownAgent, Text: message})
		}
		for _, f := range c.byAge() {
			for _, t := range tasksByAge(a.tasks[f.id]) {
				if !terminal(t.info.GetState()) {
					c.end(f, t, f.lost(mesos.TASK_GONE_BY_OPERATOR), message, f.goneReason(), nil, false)
				}
			}
		}
		c.removeAgent(a, message, mesos.TASK_GONE_BY_OPERATOR, mesos.REASON_AGENT_REMOVED, nil)
	}
	return nil
}

func (f *framework) goneReason() mesos.TaskStatus_Reason {
	if f.aware {
		return mesos.REASON_AGENT_REMOVED_BY_OPERATOR
	}
	return mesos.REASON_AGENT_REMOVED
}

// giveUpRecovered declares the agents unreachable that did not return after the master's restart.
func (c *core) giveUpRecovered() {
	c.agentsExpected = zeroTime
	for id, a := range c.recovered {
		a.State, a.Since = stateUnreachable, c.now
		c.unreachable[id] = a
		delete(c.recovered, id)
		for _, f := range c.byAge() {
			if f.out != nil {
				f.out.Send(&scheduler.Event{Type: scheduler.Event_FAILURE, Failure: &scheduler.Event_Failure{AgentID: &mesos.AgentID{Value: id}}})
			}
		}
	}
	if err := c.save(c.registry()); err != nil {
		c.log.Error("registry not written", zap.Error(err))
	}
}
