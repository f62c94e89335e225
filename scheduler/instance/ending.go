package instance

import (
	"fmt"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Cause says why a task ended, which decides how soon the next one starts.
type Cause int

// Causes of an end.
const (
	// Exited: the program ended by itself or failed its checks. Restart policy, counts as restart.
	Exited Cause = iota
	// Killed: asked for.
	Killed
	// Dropped: the task never ran or its end has nothing to do with the program. Starts again soon, no restart.
	Dropped
	// Collapsed: the ground under a running program gave way (executor, agent). Starts again soon, counts as restart.
	Collapsed
	// Rejected: the master or the executor refuses such a launch. Restart policy, no restart.
	Rejected
)

func (c Cause) String() string {
	names := [...]string{"exited", "killed", "dropped", "collapsed", "rejected"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("Cause(%d)", int(c))
	}
	return names[c]
}

// Ending is how a task ended.
type Ending struct {
	Cause Cause
	// Certain: the addresses that the task configured are free. Otherwise the task haunts the slot.
	Certain bool
	// Never: no executor ever had the task, so that it changed nothing on its host.
	Never           bool
	Reason, Message string
	Report          *padisv1.InstanceReport
}

// keptTerminations is how many ends a record keeps.
const keptTerminations = 5

// terminated enters an end. It changes n, which is the caller's own.
func terminated(n *padisv1.InstanceRecord, t *padisv1.Termination) *padisv1.InstanceRecord {
	n.LastTermination = t
	n.Terminations = append([]*padisv1.Termination{t}, n.GetTerminations()...)
	n.Terminations = n.Terminations[:min(len(n.Terminations), keptTerminations)]
	return n
}

// haunting is the container that may be there after an uncertain end: none of a task whose executor never spoke.
func haunting(r *padisv1.InstanceRecord) string {
	if r.GetPhase() == padisv1.Phase_STAGING && !Adopted(r) {
		return ""
	}
	return r.GetContainer()
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
		e.Never = e.Certain && !byExecutor
	case mesos.TaskError:
		e.Cause, e.Reason, e.Certain = Rejected, padisv1.ReasonInvalidLaunch, true
		e.Never = !byExecutor
	case mesos.TaskDropped:
		// The agent may say so of a task that its executor still has (agent restart with a forgetful executor).
		e.Cause, e.Reason, e.Certain = Dropped, padisv1.ReasonTaskLost, st.Source == "SOURCE_MASTER" && st.Reason == "REASON_INVALID_OFFERS"
		e.Never = e.Certain
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
