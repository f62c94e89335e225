package instance

import (
	"fmt"
	"strconv"
	"strings"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Hostname is the name of an instance and of its host name: APP-SLOT.
func Hostname(r *padisv1.InstanceRecord) string {
	return r.GetApp() + "-" + strconv.FormatInt(int64(r.GetSlot()), 10)
}

// TaskID is the id of the attempt that the record counts: NAMESPACE.APP-SLOT.UID8.ATTEMPT. The App's uid makes it
// differ from the tasks of an earlier App of the same name.
func TaskID(r *padisv1.InstanceRecord) string {
	uid := strings.ReplaceAll(r.GetAppUid(), "-", "")
	return fmt.Sprintf("%s.%s.%s.%d", r.GetNamespace(), Hostname(r), uid[:min(8, len(uid))], r.GetAttempt())
}

// TaskKey is the part of a task id that all attempts of a slot share, and ok tells whether id has the form of a task id.
func TaskKey(id string) (key string, attempt int64, ok bool) {
	i := strings.LastIndexByte(id, '.')
	if i <= 0 {
		return "", 0, false
	}
	attempt, err := strconv.ParseInt(id[i+1:], 10, 64)
	if err != nil || attempt < 0 || strings.Count(id[:i], ".") < 2 {
		return "", 0, false
	}
	return id[:i], attempt, true
}

// Verdict is what a terminal status means.
func Verdict(st mesos.Status) Ending {
	e := Ending{Reason: padisv1.ReasonExited, Message: st.Message, Cause: Exited}
	byExecutor := st.Source == "SOURCE_EXECUTOR"
	switch st.State {
	case mesos.TaskFinished:
		e.Certain = byExecutor
	case mesos.TaskFailed:
		e.Certain = byExecutor
		if !byExecutor {
			e.Cause, e.Reason = Collapsed, padisv1.ReasonExecutorLost
		}
	case mesos.TaskKilled:
		// From the agent it means that the task was killed before the executor had it.
		e.Cause, e.Reason, e.Certain = Killed, padisv1.ReasonKilled, byExecutor || st.Source == "SOURCE_AGENT"
	case mesos.TaskError:
		e.Cause, e.Reason, e.Certain = Rejected, padisv1.ReasonInvalidLaunch, true
	case mesos.TaskDropped:
		// The agent may say so of a task that its executor still has (agent restart with a forgetful executor).
		e.Cause, e.Reason, e.Certain = Dropped, padisv1.ReasonTaskLost, st.Source == "SOURCE_MASTER" && st.Reason == "REASON_INVALID_OFFERS"
	case mesos.TaskGone:
		e.Cause, e.Reason = Collapsed, padisv1.ReasonExecutorLost
	case mesos.TaskGoneByOp:
		// The operator's word: the agent will not come back.
		e.Cause, e.Reason, e.Certain = Collapsed, padisv1.ReasonAgentGone, true
	default:
		e.Cause, e.Reason = Dropped, padisv1.ReasonTaskLost
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("%s by %s", st.State, or(st.Source, "the master"))
	}
	return e
}
