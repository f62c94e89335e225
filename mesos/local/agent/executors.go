package agent

import (
	"fmt"
	"maps"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	executorpb "github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/wire"
	"padis.io/padis/mesos/local/words"
)

// run takes tasks from the master. launch tells for each whether the master expects a new executor for it.
func (c *core) run(info mesos.FrameworkInfo, tasks []mesos.TaskInfo, launch []bool) {
	f := c.framework(info)
	if f.info.GetCheckpoint() {
		c.noteFramework(f)
	}
	for i, t := range tasks {
		if t.Executor == nil {
			continue // the master does not let these through
		}
		c.runTask(f, t, i < len(launch) && launch[i])
	}
	c.cleanUp(f)
}

func (c *core) runTask(f *framework, info mesos.TaskInfo, launch bool) {
	drop := func(reason mesos.TaskStatus_Reason, message string) {
		s := c.own(nil, info.TaskID, f.lost(mesos.TASK_DROPPED), reason, message)
		s.ExecutorID = &info.Executor.ExecutorID
		c.update(f, nil, s, false)
	}
	if f.terminating || c.leaving {
		drop(mesos.REASON_FRAMEWORK_REMOVED, "Framework is being removed or the agent is shutting down")
		return
	}
	id := info.Executor.ExecutorID.Value
	e := f.executors[id]
	if e != nil && e.state == terminated && launch {
		// Its last updates wait for acknowledgements; a new run may begin beside them.
		delete(f.executors, id)
		e = nil
	}
	switch {
	case e == nil && !launch:
		drop(mesos.REASON_EXECUTOR_TERMINATED, "No executor is expected to launch and there is none running")
		return
	case e == nil:
		e = c.startExecutor(f, *info.Executor)
	case e.state == terminating || e.state == terminated:
		drop(mesos.REASON_EXECUTOR_TERMINATED, "Executor "+e.state.String())
		return
	}
	t := &task{seq: c.seq(), info: info, queued: true, state: mesos.TASK_STAGING}
	e.tasks[info.TaskID.Value] = t
	if f.info.GetCheckpoint() {
		if body, err := info.Marshal(); err == nil {
			c.note(record{Kind: recTask, Framework: f.id, Executor: id, Task: info.TaskID.Value, Body: body})
		}
	}
	if e.state == running {
		c.deliver(e, t)
	}
}

func (c *core) deliver(e *executor, t *task) {
	t.queued = false
	c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_LAUNCH, Launch: &executorpb.Event_Launch{Task: t.info}})
}

func (c *core) startExecutor(f *framework, info mesos.ExecutorInfo) *executor {
	e := &executor{
		seq: c.seq(), framework: f, id: info.ExecutorID.Value, info: info, container: c.cfg.NewUUID(), tasks: map[string]*task{},
		giveUp: c.now.Add(c.cfg.ExecutorRegistrationTimeout),
	}
	e.dir = runDir(c.cfg.WorkDir, c.id, f.id, e.id, e.container)
	f.executors[e.id] = e
	c.noteFramework(f)
	c.noteExecutor(e)
	c.log.Info("starting executor", zap.String("executor", e.id), zap.String("framework", f.id), zap.String("container", e.container))
	launch := Launch{
		Container: e.container, Framework: f.id, Executor: e.id, Dir: e.dir, Env: c.environment(e), Cache: fetchDir(c.cfg.WorkDir),
	}
	if info.Command != nil {
		launch.Command = *info.Command
	}
	c.say(func() { c.cfg.Launcher.Start(launch) })
	return e
}

// environment is what an executor of Mesos finds in its environment: MESOS_*, PATH, what the agent was told to add, and
// what the command asks for.
func (c *core) environment(e *executor) []string {
	endpoint := c.cfg.endpoint(c.info)
	checkpoint := "0"
	if e.framework.info.GetCheckpoint() {
		checkpoint = "1"
	}
	env := []string{
		"LIBPROCESS_IP=" + c.cfg.IP, "LIBPROCESS_PORT=0",
		"MESOS_AGENT_ENDPOINT=" + endpoint,
		"MESOS_CHECKPOINT=" + checkpoint,
		"MESOS_DIRECTORY=" + e.dir,
		"MESOS_EXECUTOR_ID=" + e.id,
		"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD=" + durationText(c.grace(e)),
		"MESOS_FRAMEWORK_ID=" + e.framework.id,
		"MESOS_HTTP_COMMAND_EXECUTOR=0",
		"MESOS_SANDBOX=" + e.dir,
		"MESOS_SLAVE_ID=" + c.id,
		"MESOS_SLAVE_PID=slave(1)@" + endpoint,
	}
	if _, told := c.cfg.ExecutorEnvironment["PATH"]; !told {
		env = append(env, "PATH="+executorPath)
	}
	for _, name := range slices.Sorted(maps.Keys(c.cfg.ExecutorEnvironment)) {
		env = append(env, name+"="+c.cfg.ExecutorEnvironment[name])
	}
	if checkpoint == "1" {
		env = append(env, "MESOS_RECOVERY_TIMEOUT="+durationText(defaultRecoveryTimeout),
			"MESOS_SUBSCRIPTION_BACKOFF_MAX="+durationText(c.cfg.ExecutorReregistrationTimeout))
	}
	for _, v := range e.info.GetCommand().GetEnvironment().GetVariables() {
		if v.Value != nil {
			env = append(env, v.Name+"="+*v.Value)
		}
	}
	return env
}

func (c *core) grace(e *executor) time.Duration {
	if g := e.info.ShutdownGracePeriod; g != nil && g.Nanoseconds >= 0 {
		return time.Duration(g.Nanoseconds)
	}
	return c.cfg.ExecutorShutdownGrace
}

// find returns an executor of the current run, or the refusal of Mesos.
func (c *core) find(frameworkID, executorID string) (*executor, *wire.Refusal) {
	f := c.frameworks[frameworkID]
	if f == nil {
		return nil, wire.Refuse(400, "Framework cannot be found")
	}
	e := f.executors[executorID]
	if e == nil {
		return nil, wire.Refuse(400, "Executor cannot be found")
	}
	return e, nil
}

// subscribe connects an executor. A second connection replaces the first.
func (c *core) subscribe(e *executor, call *executorpb.Call_Subscribe, out stream) {
	if old := e.out; old != nil {
		c.say(old.Close)
	}
	e.out = out
	if e.state == terminating || e.state == terminated {
		c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_SHUTDOWN})
		return
	}
	if e.state == registering && !e.recovered && !e.subscribed && len(e.tasks) == 0 {
		c.log.Info("executor has no task left", zap.String("executor", e.id))
		c.shutdown(e)
		return
	}
	e.state, e.giveUp, e.subscribed = running, time.Time{}, true
	info := c.info
	c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_SUBSCRIBED, Subscribed: &executorpb.Event_Subscribed{
		ExecutorInfo: e.info, FrameworkInfo: e.framework.info, AgentInfo: info, ContainerID: &mesos.ContainerID{Value: e.container},
	}})
	unacknowledged := map[string]bool{}
	for _, t := range call.UnacknowledgedTasks {
		unacknowledged[t.TaskID.Value] = true
	}
	for _, u := range call.UnacknowledgedUpdates {
		if refuseStatus(e.framework.id, e.id, u.Status) == nil {
			c.update(e.framework, e, u.Status, true)
		}
	}
	for _, t := range e.byAge() {
		switch {
		case t.queued:
			c.deliver(e, t)
		case t.state == mesos.TASK_STAGING && !unacknowledged[t.info.TaskID.Value]:
			c.update(e.framework, e, c.own(e, t.info.TaskID, e.framework.lost(mesos.TASK_DROPPED), mesos.REASON_AGENT_RESTARTED,
				"Task launched during agent restart"), false)
		}
	}
	c.checkReady()
}

// checkReady ends the recovery early when all executors of the earlier agent have come back.
func (c *core) checkReady() {
	if c.reconnectBy.IsZero() {
		return
	}
	for _, e := range c.executors() {
		if e.recovered && e.state == registering {
			return
		}
	}
	c.reconnectBy = time.Time{}
}

// refuseStatus finds what is wrong with an update of an executor, in the words of Mesos.
func refuseStatus(frameworkID, executorID string, s mesos.TaskStatus) error {
	switch {
	case len(s.UUID) == 0:
		return words.Errorf("Expecting 'uuid' to be present")
	case len(s.UUID) != 16:
		return words.Errorf("Not a valid UUID")
	case s.ExecutorID != nil && s.ExecutorID.Value != executorID:
		return fmt.Errorf("ExecutorID in Call: %s does not match ExecutorID in TaskStatus: %s", executorID, s.ExecutorID.Value)
	case s.GetSource() != mesos.SOURCE_EXECUTOR:
		return words.Errorf("Received Call from executor %s of framework %s with invalid source, expecting 'SOURCE_EXECUTOR'", executorID, frameworkID)
	case s.State == nil:
		return words.Errorf("Expecting 'state' to be present")
	case *s.State == mesos.TASK_STAGING:
		return words.Errorf("Received TASK_STAGING from executor %s of framework %s which is not allowed", executorID, frameworkID)
	}
	return nil
}

// disconnected handles the end of an executor's stream. Whether it is dead only its process tells.
func (c *core) disconnected(e *executor, out stream) {
	if e.out == out {
		e.out = nil
	}
}

// killTask passes a KILL on; a task that has not been sent to its executor is killed here.
func (c *core) killTask(frameworkID, id string, policy *mesos.KillPolicy) {
	f := c.frameworks[frameworkID]
	if f == nil {
		return
	}
	for _, e := range f.executors {
		t := e.tasks[id]
		switch {
		case t == nil || terminal(t.state):
		case t.queued:
			c.update(f, e, c.own(e, t.info.TaskID, mesos.TASK_KILLED, mesos.REASON_TASK_KILLED_DURING_LAUNCH,
				"Killed before delivery to the executor"), false)
			delete(e.tasks, id)
		default:
			c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_KILL, Kill: &executorpb.Event_Kill{TaskID: t.info.TaskID, KillPolicy: policy}})
		}
	}
}

// shutdown asks an executor to end, and kills it when the grace period is over.
func (c *core) shutdown(e *executor) {
	if e.state == terminating || e.state == terminated {
		return
	}
	e.state, e.giveUp = terminating, time.Time{}
	e.killAt = c.now.Add(c.grace(e))
	c.toExecutor(e, &executorpb.Event{Type: executorpb.Event_SHUTDOWN})
	c.checkReady()
}

// kill ends the processes of an executor; what follows comes with ended.
func (c *core) kill(e *executor) {
	if e.state == terminated {
		return
	}
	e.state, e.giveUp = terminating, time.Time{}
	container := e.container
	c.say(func() { c.cfg.Launcher.Kill(container) })
}

func (c *core) shutdownFramework(id string) {
	f := c.frameworks[id]
	if f == nil {
		return
	}
	f.terminating = true
	for key := range c.updates {
		if key.framework == id {
			delete(c.updates, key)
		}
	}
	for _, e := range c.executors() {
		if e.framework == f {
			c.shutdown(e)
			c.reap(e)
		}
	}
	c.cleanUp(f)
}

// leave shuts everything down; Run returns when the last executor is gone.
func (c *core) leave(why string) {
	c.log.Info("agent shuts down", zap.String("why", why))
	c.leaving = true
	for _, f := range c.frameworks {
		c.shutdownFramework(f.id)
	}
}

func (c *core) registrationTimedOut(e *executor) {
	if e.state != registering {
		return
	}
	c.log.Info("executor did not subscribe", zap.String("executor", e.id), zap.Bool("recovered", e.recovered))
	e.end = ending{mesos.TASK_FAILED, mesos.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
		"Executor did not register within " + durationText(c.cfg.ExecutorRegistrationTimeout)}
	if e.recovered {
		e.end = ending{e.framework.lost(mesos.TASK_GONE), mesos.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
			"Executor did not reregister within " + durationText(c.cfg.ExecutorReregistrationTimeout)}
	}
	c.kill(e)
}

// started notes the process of an executor.
func (c *core) started(container string, pid int, startTime uint64) {
	if e := c.byContainer(container); e != nil {
		e.pid = pid
		c.note(record{Kind: recProcess, Framework: e.framework.id, Executor: e.id, Container: container, PID: pid, Start: startTime})
	}
}

func (c *core) byContainer(container string) *executor {
	for _, e := range c.executors() {
		if e.container == container {
			return e
		}
	}
	return nil
}

// ended handles the death of an executor: nothing of its process tree is left. status is the raw wait status, or -1
// if this agent is not the parent. failure tells why it could not be started at all.
func (c *core) ended(container string, status int, failure string) {
	e := c.byContainer(container)
	if e == nil || e.state == terminated {
		return
	}
	f := e.framework
	c.log.Info("executor ended", zap.String("executor", e.id), zap.Int("status", status), zap.String("failure", failure))
	e.state, e.giveUp, e.killAt = terminated, time.Time{}, time.Time{}
	if out := e.out; out != nil {
		c.say(out.Close)
		e.out = nil
	}
	c.note(record{Kind: recExited, Framework: f.id, Executor: e.id, Container: container})
	if !f.terminating {
		c.report(e, wire.Frame{Kind: wire.ExecutorExited, Framework: f.id, Executor: e.id, Status: int32(status)})
	}
	end := e.end
	switch {
	case failure != "":
		end = ending{mesos.TASK_FAILED, mesos.REASON_CONTAINER_LAUNCH_FAILED, "Failed to launch container: " + failure}
	case end.message == "":
		end = ending{mesos.TASK_FAILED, mesos.REASON_EXECUTOR_TERMINATED, "Executor terminated"}
	}
	for _, t := range e.byAge() {
		if !terminal(t.state) && !f.terminating {
			c.update(f, e, c.own(e, t.info.TaskID, end.state, end.reason, end.message), false)
		}
	}
	c.reap(e)
	c.checkReady()
}

// report tells the master of the end of an executor, now or at the next registration. Of those that an earlier agent
// started, and that died while there was none, it is not told: they are not in the registration.
func (c *core) report(e *executor, f wire.Frame) {
	if c.joined {
		c.toMaster(f)
		return
	}
	if e.recovered && !e.subscribed && e.end.message == "" {
		return
	}
	if body, err := e.info.Marshal(); err == nil {
		c.exits = append(c.exits, exit{wire.RegisteredExecutor{Framework: e.framework.id, Info: body}, f})
	}
}

// reap forgets an executor that has ended and whose updates are all acknowledged.
func (c *core) reap(e *executor) {
	if e.state != terminated || len(e.tasks) > 0 && !e.framework.terminating {
		return
	}
	if e.framework.executors[e.id] == e {
		delete(e.framework.executors, e.id)
	}
	c.cleanUp(e.framework)
}
