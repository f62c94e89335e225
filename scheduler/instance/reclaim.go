package instance

import (
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Reclaimable tells whether a task that haunts the slot may be taken back as if it had never been replaced: it was given
// up because nothing could be known of it, it runs the revision, and nothing that was launched in its place was ever seen
// to run. What was launched with a lease is replaced only when that is over: it has been silent, and the replacement goes on.
func Reclaimable(r *padisv1.InstanceRecord, taskID, revision string) bool {
	at := replaced(r, taskID)
	ghost := slices.IndexFunc(Ghosts(r), func(g Ghost) bool { return g.Task == taskID })
	if at < 0 || ghost < 0 || Ghosts(r)[ghost].LeaseMs != 0 || revision == "" || r.GetRunningMs() != 0 || r.GetPhase() == padisv1.Phase_RETIRED {
		return false
	}
	old := r.GetTerminations()[at]
	return old.GetRevision() == revision && old.GetStartedMs() != 0 &&
		!slices.ContainsFunc(r.GetTerminations()[:at], func(t *padisv1.Termination) bool { return t.GetStartedMs() != 0 })
}

// replaced is the index of the end that was entered when the task was replaced; -1 if it was not, or if that is too long
// ago.
func replaced(r *padisv1.InstanceRecord, taskID string) int {
	return slices.IndexFunc(r.GetTerminations(), func(t *padisv1.Termination) bool {
		return t.GetTaskId() == taskID && t.GetReason() == padisv1.ReasonAgentUnreachable
	})
}

// Reclaim takes a task back that was replaced, see Reclaimable: it is Unreachable as it was before, and what is known of
// it leads on from there. What was launched in its place haunts the slot until it was killed. ExecutorID is the executor
// of the task's agent.
func Reclaim(r *padisv1.InstanceRecord, taskID, executorID string, now time.Time) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_UNREACHABLE, "reclaimed")
	if err != nil {
		return r, err
	}
	at := replaced(r, taskID)
	old := r.GetTerminations()[at]
	// Its end and its restart are taken back with it.
	n.Terminations = slices.Delete(n.Terminations, at, at+1)
	n.Restarts = max(0, n.Restarts-1)
	n.LastTermination = nil
	if len(n.Terminations) > 0 {
		n.LastTermination = n.Terminations[0]
	}
	if HasTask(r.GetPhase()) {
		n = terminated(n, &padisv1.Termination{
			TaskId: r.GetTaskId(), Hostname: r.GetHostname(), Reason: padisv1.ReasonKilled,
			Message: "was to replace " + taskID + ", which is back, and never ran", FinishedMs: now.UnixMilli(),
			Revision: r.GetRevision(), Container: r.GetContainer(),
		})
		n = Haunt(n, Ghost{r.GetAgentId(), r.GetTaskId(), haunting(r), r.GetLeaseMs()})
	}
	ghosts := Ghosts(n)
	ghost := ghosts[slices.IndexFunc(ghosts, func(g Ghost) bool { return g.Task == taskID })]
	n = Release(n, taskID)
	n.TaskId, n.AgentId, n.Hostname, n.ExecutorId = taskID, ghost.Agent, old.GetHostname(), executorID
	n.Revision, n.Container, n.LeaseMs = old.GetRevision(), ghost.Container, 0
	// What its files were made of is not known any more: it is told again.
	n.ConfigHashes, n.ImageDigest = nil, ""
	n.LaunchedMs, n.RunningMs, n.ReadyMs, n.KillSentMs = old.GetStartedMs(), old.GetStartedMs(), 0, 0
	n.NotBeforeMs = old.GetFinishedMs()
	n.Ready, n.StopWanted, n.Prepulling = false, false, false
	n.Reason, n.Message = padisv1.ReasonAgentUnreachable, "its agent is back, and so is it"
	return n, nil
}

// Superseded are the tasks that haunt the slot because what they were to replace was taken back. They never ran; they may
// yet, until their end is known.
func Superseded(r *padisv1.InstanceRecord) []string {
	var out []string
	for _, t := range r.GetTerminations() {
		if t.GetReason() == padisv1.ReasonKilled && t.GetStartedMs() == 0 && slices.Contains(r.GetHauntedTasks(), t.GetTaskId()) {
			out = append(out, t.GetTaskId())
		}
	}
	return out
}
