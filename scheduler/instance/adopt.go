package instance

import (
	"fmt"
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Adopted tells whether the task took over a container that an earlier task made, or is to do so.
func Adopted(r *padisv1.InstanceRecord) bool {
	return r.GetContainer() != "" && r.GetContainer() != r.GetTaskId()
}

// Outlives tells whether the container of the task may run on after such an end. Only its executor, or an operator who
// marks the agent gone, can say that it does not; and of a task that never reached an executor there is none, unless it
// was sent to adopt one.
func Outlives(r *padisv1.InstanceRecord, e Ending) bool {
	switch {
	case r.GetContainer() == "":
		return false
	case Adopted(r):
		return !e.Certain || e.Never || e.Report.GetReason() == padisv1.ReasonRuntimeUnavailable
	}
	return !e.Certain && r.GetPhase() != padisv1.Phase_STAGING
}

// Orphan notes that the task has ended and its container goes on. The next executor on the agent adopts it; at once, but
// for adoptions that fail one after the other.
func Orphan(r *padisv1.InstanceRecord, message string, policy *padisv1.RestartPolicy, now time.Time) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_ADOPTING, "orphaned")
	if err != nil {
		return r, err
	}
	n.NotBeforeMs, n.KillSentMs, n.Prepulling = 0, 0, false
	if Adopted(r) && (r.GetPhase() == padisv1.Phase_STAGING || r.GetPhase() == padisv1.Phase_STARTING) {
		n.Failures++
		n.NotBeforeMs = now.Add(Delay(Collapsed, n.Failures, policy, SlotOf(n), n.GetAttempt())).UnixMilli()
	}
	n.Reason = padisv1.ReasonAdopting
	n.Message = fmt.Sprintf("its executor on %s ended (%s); its container goes on and waits for the next executor", r.GetHostname(), message)
	return n, nil
}

// Expire notes that the lease of a container that waits for adoption is over: it does not serve, though its executor has
// not said so. It returns r itself when nothing changed.
func Expire(r *padisv1.InstanceRecord) *padisv1.InstanceRecord {
	if r.GetPhase() != padisv1.Phase_ADOPTING || !r.GetReady() {
		return r
	}
	n := clone(r)
	n.Ready = false
	return n
}

// Adopt gives the container that runs a new task on its agent. All that is known of the run stays true.
func Adopt(r *padisv1.InstanceRecord, executorID string, now time.Time) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_STAGING, "adopted")
	if err != nil {
		return r, err
	}
	n.Attempt++
	n.TaskId = TaskID(n)
	n.ExecutorId = executorID
	n.LaunchedMs, n.NotBeforeMs = now.UnixMilli(), 0
	n.Reason, n.Message = padisv1.ReasonAdopting, "the next executor on "+n.GetHostname()+" takes its container over"
	return n, nil
}

// Prepull notes how far the image of the next revision is on the agent of the task that runs. It returns r itself when
// nothing changed.
func Prepull(r *padisv1.InstanceRecord, reason, message string) (*padisv1.InstanceRecord, error) {
	if r.GetPrepulling() && r.GetReason() == reason && r.GetMessage() == message {
		return r, nil
	}
	n, err := move(r, padisv1.Phase_RUNNING, "prepulling")
	if err != nil {
		return r, err
	}
	n.Prepulling, n.Reason, n.Message = true, reason, message
	return n, nil
}

// Abandon ends the wait for an image that is not wanted any more.
func Abandon(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_RUNNING, "prepulling")
	if err != nil {
		return r, err
	}
	n.Prepulling = false
	runs(n)
	return n, nil
}

// Exorcise gives a container that haunts the slot a new task, which is to take it over so that it can be ended.
func Exorcise(r *padisv1.InstanceRecord, taskID string) *padisv1.InstanceRecord {
	i := slices.Index(r.GetHauntedTasks(), taskID)
	if i < 0 {
		return r
	}
	n := clone(r)
	n.Attempt++
	n.HauntedTasks[i] = TaskID(n)
	if i < len(n.HauntedLeases) {
		n.HauntedLeases[i] = 0 // It is launched without one, so that nothing renews it.
	}
	return n
}
