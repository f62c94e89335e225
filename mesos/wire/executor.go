package wire

import (
	"fmt"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"

	"padis.io/padis/mesos"
)

// ExecutorEvent converts an event of the executor API. It gives nil for heartbeats, for task groups (which only the
// default executor of Mesos is sent), for unknown types and for types whose body is missing.
func ExecutorEvent(e *executor.Event) mesos.ExecutorEvent {
	switch e.Type {
	case executor.Event_SUBSCRIBED:
		if e.Subscribed == nil {
			return nil
		}
		return mesos.ExecutorSubscribed{
			AgentID:     e.Subscribed.AgentInfo.GetID().GetValue(),
			Hostname:    e.Subscribed.AgentInfo.Hostname,
			FrameworkID: e.Subscribed.FrameworkInfo.GetID().GetValue(),
			ExecutorID:  e.Subscribed.ExecutorInfo.ExecutorID.Value,
		}
	case executor.Event_LAUNCH:
		if e.Launch == nil {
			return nil
		}
		return mesos.LaunchTask{Task: Task(&e.Launch.Task)}
	case executor.Event_KILL:
		if e.Kill == nil {
			return nil
		}
		out := mesos.KillTask{TaskID: e.Kill.TaskID.Value}
		if g := e.Kill.GetKillPolicy().GetGracePeriod(); g != nil {
			grace := time.Duration(g.Nanoseconds)
			out.Grace = &grace
		}
		return out
	case executor.Event_ACKNOWLEDGED:
		if e.Acknowledged == nil {
			return nil
		}
		return mesos.Acknowledged{TaskID: e.Acknowledged.TaskID.Value, UUID: e.Acknowledged.UUID}
	case executor.Event_MESSAGE:
		if e.Message == nil {
			return nil
		}
		return mesos.FromScheduler{Data: e.Message.Data}
	case executor.Event_SHUTDOWN:
		return mesos.Shutdown{}
	case executor.Event_ERROR:
		if e.Error == nil {
			return nil
		}
		return mesos.ExecutorFailed{Message: e.Error.Message}
	}
	return nil
}

// ToExecutorEvent is the inverse of ExecutorEvent, for whoever plays the agent. ExecutorDisconnected is not on the wire.
func ToExecutorEvent(e mesos.ExecutorEvent, frameworkID string) (*executor.Event, error) {
	switch e := e.(type) {
	case mesos.ExecutorSubscribed:
		return &executor.Event{Type: executor.Event_SUBSCRIBED, Subscribed: &executor.Event_Subscribed{
			ExecutorInfo:  mesosgo.ExecutorInfo{Type: mesosgo.ExecutorInfo_CUSTOM, ExecutorID: mesosgo.ExecutorID{Value: e.ExecutorID}},
			FrameworkInfo: mesosgo.FrameworkInfo{ID: &mesosgo.FrameworkID{Value: e.FrameworkID}},
			AgentInfo:     mesosgo.AgentInfo{ID: &mesosgo.AgentID{Value: e.AgentID}, Hostname: e.Hostname},
		}}, nil
	case mesos.LaunchTask:
		t, err := ToTask(e.Task, frameworkID)
		if err != nil {
			return nil, err
		}
		return &executor.Event{Type: executor.Event_LAUNCH, Launch: &executor.Event_Launch{Task: t}}, nil
	case mesos.KillTask:
		k := &executor.Event_Kill{TaskID: mesosgo.TaskID{Value: e.TaskID}}
		if e.Grace != nil {
			k.KillPolicy = &mesosgo.KillPolicy{GracePeriod: &mesosgo.DurationInfo{Nanoseconds: int64(*e.Grace)}}
		}
		return &executor.Event{Type: executor.Event_KILL, Kill: k}, nil
	case mesos.Acknowledged:
		return &executor.Event{Type: executor.Event_ACKNOWLEDGED, Acknowledged: &executor.Event_Acknowledged{
			TaskID: mesosgo.TaskID{Value: e.TaskID}, UUID: notNil(e.UUID)}}, nil
	case mesos.FromScheduler:
		return &executor.Event{Type: executor.Event_MESSAGE, Message: &executor.Event_Message{Data: notNil(e.Data)}}, nil
	case mesos.Shutdown:
		return &executor.Event{Type: executor.Event_SHUTDOWN}, nil
	case mesos.ExecutorFailed:
		return &executor.Event{Type: executor.Event_ERROR, Error: &executor.Event_Error{Message: e.Message}}, nil
	}
	return nil, fmt.Errorf("executor event %T is not on the wire", e)
}
