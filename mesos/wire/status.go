package wire

import (
	"fmt"
	"math"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"

	"padis.io/padis/mesos"
)

// seconds turns the wire's seconds since the epoch into a time, exact to the microsecond: a double has no more.
// 0, and what no clock can say, is the zero time.
func seconds(s float64) time.Time {
	if math.IsNaN(s) || s <= 0 || s > math.MaxInt64/1e7 {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6))).UTC()
}

func toSeconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// nanos turns a TimeInfo into a time.
func nanos(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// Status converts a task status. A state that mesos-go has no name for becomes TASK_UNKNOWN: it is an absence of
// knowledge and ends nothing.
func Status(s *mesosgo.TaskStatus) mesos.Status {
	out := mesos.Status{
		TaskID:     s.TaskID.Value,
		State:      mesos.TaskUnknown,
		Message:    s.GetMessage(),
		AgentID:    s.GetAgentID().GetValue(),
		ExecutorID: s.GetExecutorID().GetValue(),
		Data:       s.Data,
		Healthy:    s.Healthy,
		Timestamp:  seconds(s.GetTimestamp()),
		UUID:       s.UUID,
	}
	if s.State != nil {
		if name, ok := mesosgo.TaskState_name[int32(*s.State)]; ok {
			out.State = mesos.TaskState(name)
		}
	}
	if s.Source != nil {
		out.Source = s.Source.String()
	}
	if s.Reason != nil {
		out.Reason = s.Reason.String()
	}
	return out
}

// ToStatus is the inverse of Status. It fails for a state, source or reason that is not on the wire.
func ToStatus(s mesos.Status) (mesosgo.TaskStatus, error) {
	out := mesosgo.TaskStatus{TaskID: mesosgo.TaskID{Value: s.TaskID}, Data: s.Data, Healthy: s.Healthy, UUID: s.UUID}
	state, ok := mesosgo.TaskState_value[string(s.State)]
	if !ok {
		return out, fmt.Errorf("status of task %q: no such state %q", s.TaskID, s.State)
	}
	out.State = mesosgo.TaskState(state).Enum()
	if s.Source != "" {
		source, ok := mesosgo.TaskStatus_Source_value[s.Source]
		if !ok {
			return out, fmt.Errorf("status of task %q: no such source %q", s.TaskID, s.Source)
		}
		out.Source = mesosgo.TaskStatus_Source(source).Enum()
	}
	if s.Reason != "" {
		reason, ok := mesosgo.TaskStatus_Reason_value[s.Reason]
		if !ok {
			return out, fmt.Errorf("status of task %q: no such reason %q", s.TaskID, s.Reason)
		}
		out.Reason = mesosgo.TaskStatus_Reason(reason).Enum()
	}
	if s.Message != "" {
		out.Message = &s.Message
	}
	if s.AgentID != "" {
		out.AgentID = &mesosgo.AgentID{Value: s.AgentID}
	}
	if s.ExecutorID != "" {
		out.ExecutorID = &mesosgo.ExecutorID{Value: s.ExecutorID}
	}
	if !s.Timestamp.IsZero() {
		ts := toSeconds(s.Timestamp)
		out.Timestamp = &ts
	}
	return out, nil
}
