package master

import (
	"fmt"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	masterpb "github.com/mesos/mesos-go/api/v1/lib/master"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
	"padis.io/padis/mesos/local/words"
)

// accept launches tasks with offers. One bad offer spoils the whole call: its tasks are lost, its good offers return.
func (c *core) accept(f *framework, call *scheduler.Call_Accept) {
	offers, err := c.redeem(f, call.OfferIDs)
	if err != nil {
		for _, o := range offers {
			c.recover(o, 0)
		}
		for _, t := range tasksOf(call.Operations) {
			c.refuseTask(f, t, f.lost(mesos.TASK_DROPPED), "Task launched with invalid offers: "+err.Error(), mesos.REASON_INVALID_OFFERS)
		}
		return
	}
	a, role := offers[0].agent, offers[0].role
	var free amount.List
	for _, o := range offers {
		c.dropOffer(o)
		free = amount.Sum(free, o.resources)
	}
	free = amount.Ordered(free, a.total)
	for i := range call.Operations {
		op := &call.Operations[i]
		switch {
		case op.Type == mesos.Offer_Operation_LAUNCH && op.Launch != nil:
			free = c.launch(f, a, role, op.Launch.TaskInfos, free)
		case op.Type == mesos.Offer_Operation_LAUNCH_GROUP && op.LaunchGroup != nil:
			c.refuseGroup(f, op.LaunchGroup)
		default:
			c.log.Info("operation ignored", zap.String("framework", f.id), zap.Stringer("type", op.Type))
		}
	}
	c.giveBack(f, a, role, free, refusal(call.Filters))
}

// redeem finds the offers of a call. With an error it returns those that were valid.
func (c *core) redeem(f *framework, ids []mesos.OfferID) ([]*offer, error) {
	var good []*offer
	seen := map[string]bool{}
	var err error
	fail := func(format string, args ...any) {
		if err == nil {
			err = fmt.Errorf(format, args...)
		}
	}
	for _, id := range ids {
		if seen[id.Value] {
			err = words.Errorf("Duplicate offer %s in offer list", id.Value)
			continue
		}
		seen[id.Value] = true
		o := c.offers[id.Value]
		switch {
		case o == nil:
			fail("Offer %s is no longer valid", id.Value)
			continue
		case o.framework != f:
			fail("Offer %s has invalid framework %s while framework %s is expected", id.Value, o.framework.id, f.id)
			continue
		case len(good) > 0 && o.role != good[0].role:
			fail("Aggregated offers must be allocated to the same role. Offer %s uses role '%s' but another is using role '%s'", id.Value, o.role, good[0].role)
		case len(good) > 0 && o.agent != good[0].agent:
			fail("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s", id.Value, o.agent.id, good[0].agent.id)
		}
		good = append(good, o)
	}
	if len(ids) == 0 {
		fail("No offers specified")
	}
	return good, err
}

// launch starts the valid ones of some tasks and returns what is left of the offered resources.
func (c *core) launch(f *framework, a *agent, role string, tasks []mesos.TaskInfo, free amount.List) amount.List {
	run := wire.Frame{Kind: wire.Run, Framework: f.id}
	for _, info := range tasks {
		fill(&info, f.id, role)
		need, fresh, err := c.validate(f, a, &info, free)
		if err != nil {
			c.refuseTask(f, info, mesos.TASK_ERROR, err.Error(), mesos.REASON_TASK_INVALID)
			continue
		}
		body, err := info.Marshal()
		if err != nil {
			c.refuseTask(f, info, mesos.TASK_ERROR, "Task cannot be encoded: "+err.Error(), mesos.REASON_TASK_INVALID)
			continue
		}
		free = amount.Minus(free, need)
		if fresh {
			c.addExecutor(f, a, *info.Executor)
		}
		c.addTask(f, a, info)
		run.Bodies = append(run.Bodies, body)
		run.Launch = append(run.Launch, fresh)
	}
	if len(run.Bodies) == 0 {
		return free
	}
	info, err := f.info.Marshal()
	if err != nil {
		c.log.Error("framework info cannot be encoded", zap.String("framework", f.id), zap.Error(err))
		return free
	}
	run.Bodies = append([][]byte{info}, run.Bodies...)
	if a.out != nil {
		a.out.Send(run)
	}
	return free
}

// fill completes a task as the master of Mesos does: allocation role, framework id of the executor.
func fill(info *mesos.TaskInfo, frameworkID, role string) {
	info.Resources = amount.Allocated(info.Resources, role)
	if info.Executor == nil {
		return
	}
	e := *info.Executor
	e.Resources = amount.Allocated(e.Resources, role)
	if e.FrameworkID == nil {
		e.FrameworkID = &mesos.FrameworkID{Value: frameworkID}
	}
	info.Executor = &e
}

func (c *core) addExecutor(f *framework, a *agent, info mesos.ExecutorInfo) {
	if a.executors[f.id] == nil {
		a.executors[f.id] = map[string]*executor{}
	}
	e := &executor{seq: c.seq(), info: info, resources: amount.Sum(info.Resources)}
	a.executors[f.id][info.ExecutorID.Value] = e
	f.charge(e.resources, 1)
}

func (c *core) addTask(f *framework, a *agent, info mesos.TaskInfo) {
	t := &task{
		seq: c.seq(), resources: amount.Sum(info.Resources),
		info: mesos.Task{
			Name: info.Name, TaskID: info.TaskID, FrameworkID: mesos.FrameworkID{Value: f.id}, AgentID: info.AgentID,
			State: mesos.TASK_STAGING.Enum(), Resources: info.Resources, Labels: info.Labels, Discovery: info.Discovery,
			Container: info.Container, HealthCheck: info.HealthCheck, KillPolicy: info.KillPolicy,
		},
	}
	if info.Executor != nil {
		t.info.ExecutorID = &info.Executor.ExecutorID
	}
	c.own(f, a, t)
	f.charge(t.resources, 1)
	c.tell(&masterpb.Event{Type: masterpb.Event_TASK_ADDED, TaskAdded: &masterpb.Event_TaskAdded{Task: t.info}})
}

// own files a task under its framework and its agent.
func (c *core) own(f *framework, a *agent, t *task) {
	if a.tasks[f.id] == nil {
		a.tasks[f.id] = map[string]*task{}
	}
	a.tasks[f.id][t.info.TaskID.Value] = t
	f.tasks[t.info.TaskID.Value] = t
}

// refuseTask tells the framework that a task was not launched.
func (c *core) refuseTask(f *framework, info mesos.TaskInfo, state mesos.TaskState, message string, reason mesos.TaskStatus_Reason) {
	t := &task{info: mesos.Task{TaskID: info.TaskID, AgentID: info.AgentID}}
	c.sendStatus(f, c.madeUp(t, state, message, reason, nil))
}

// refuseGroup refuses a task group; there are no nested containers here.
func (c *core) refuseGroup(f *framework, group *mesos.Offer_Operation_LaunchGroup) {
	message := "LAUNCH_GROUP is not supported by this master"
	if e := group.Executor; amount.Milli(e.Resources, "disk") == 0 && len(e.Resources) > 0 {
		message = "Executor '" + e.ExecutorID.Value + "' uses no disk"
	}
	for _, t := range group.TaskGroup.Tasks {
		c.refuseTask(f, t, mesos.TASK_ERROR, message, mesos.REASON_TASK_GROUP_INVALID)
	}
}

func tasksOf(operations []mesos.Offer_Operation) []mesos.TaskInfo {
	var out []mesos.TaskInfo
	for _, op := range operations {
		switch {
		case op.Type == mesos.Offer_Operation_LAUNCH && op.Launch != nil:
			out = append(out, op.Launch.TaskInfos...)
		case op.Type == mesos.Offer_Operation_LAUNCH_GROUP && op.LaunchGroup != nil:
			out = append(out, op.LaunchGroup.TaskGroup.Tasks...)
		}
	}
	return out
}

// decline gives offers back; unknown ones are ignored.
func (c *core) decline(f *framework, ids []mesos.OfferID, refuse time.Duration) {
	for _, id := range ids {
		if o := c.offers[id.Value]; o != nil && o.framework == f {
			c.recover(o, refuse)
		}
	}
}
