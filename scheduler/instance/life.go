package instance

import (
	"fmt"
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// New is a slot that is wanted for the first time. Attempts are counted on from floor.
func New(app *padisv1.WantedApp, index int32, floor int64, now time.Time) *padisv1.InstanceRecord {
	return &padisv1.InstanceRecord{
		AppUid: app.GetUid(), Namespace: app.GetNamespace(), App: app.GetName(), Slot: index, Tenant: app.GetTenant(),
		Phase: padisv1.Phase_PENDING, Attempt: floor, CreatedMs: now.UnixMilli(),
		Reason: padisv1.ReasonNoOffers, Message: "waits for its first offer",
	}
}

// Lease notes the addresses that were leased for the slot.
func Lease(r *padisv1.InstanceRecord, addresses []string) *padisv1.InstanceRecord {
	if slices.Equal(r.GetAddresses(), addresses) {
		return r
	}
	n := clone(r)
	n.Addresses = slices.Clone(addresses)
	return n
}

// Refuse says why a pending instance has no agent. It returns r itself when nothing changed.
func Refuse(r *padisv1.InstanceRecord, reason, message string) (*padisv1.InstanceRecord, error) {
	if r.GetReason() == reason && r.GetMessage() == message {
		return r, nil
	}
	if r.GetPhase() == padisv1.Phase_UNREACHABLE {
		// It waits for a replacement; what it says of itself stays the truth.
		return r, nil
	}
	to := padisv1.Phase_PENDING
	if r.GetPhase() == padisv1.Phase_ADOPTING {
		to = padisv1.Phase_ADOPTING
		reason, message = padisv1.ReasonAdopting, "its executor ended, its container goes on and waits for the next executor: "+message
		if r.GetReason() == reason && r.GetMessage() == message {
			return r, nil
		}
	}
	n, err := move(r, to, "refused")
	if err != nil {
		return r, err
	}
	n.Reason, n.Message = reason, message
	return n, nil
}

// Placement is the decision for one launch.
type Placement struct {
	Revision, AgentID, Hostname, ExecutorID string
	// Container tells that an image is run, whose container may outlive its executor.
	Container bool
	// Configs are the hashes of what the container's files are made of, by name.
	Configs map[string]string
	// LeaseMs is how long it may use its addresses without the scheduler; 0 is for ever.
	LeaseMs int64
}

// Place gives the instance an agent and a task id that was never used. An unreachable task that is replaced haunts
// the slot from now on.
func Place(r *padisv1.InstanceRecord, p Placement, now time.Time) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_STAGING, "placed")
	if err != nil {
		return r, err
	}
	if r.GetPhase() == padisv1.Phase_UNREACHABLE {
		n = terminated(n, &padisv1.Termination{
			TaskId: r.GetTaskId(), Hostname: r.GetHostname(), Reason: padisv1.ReasonAgentUnreachable,
			Message: "its agent does not answer; it was replaced and may still run there", FinishedMs: now.UnixMilli(),
			StartedMs: r.GetRunningMs(), Revision: r.GetRevision(), Container: r.GetContainer(),
		})
		n = Haunt(n, Ghost{r.GetAgentId(), r.GetTaskId(), r.GetContainer(), r.GetLeaseMs()})
		n.Restarts++
	}
	n.Attempt++
	n.TaskId = TaskID(n)
	n.Revision, n.AgentId, n.Hostname, n.ExecutorId = p.Revision, p.AgentID, p.Hostname, p.ExecutorID
	n.Container, n.ConfigHashes, n.ImageDigest, n.LeaseMs = "", nil, "", p.LeaseMs
	if p.Container {
		n.Container, n.ConfigHashes = n.TaskId, p.Configs
	}
	n.LaunchedMs, n.RunningMs, n.ReadyMs, n.NotBeforeMs, n.KillSentMs = now.UnixMilli(), 0, 0, 0, 0
	n.Ready, n.StopWanted, n.Prepulling = false, false, false
	n.Reason, n.Message = padisv1.ReasonPlaced, "was sent to "+p.Hostname
	return n, nil
}

// Start notes that the executor has the task and prepares it; the report says how far it is.
func Start(r *padisv1.InstanceRecord, rep *padisv1.InstanceReport) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_STARTING, "starting")
	if err != nil {
		return r, err
	}
	n.NotBeforeMs = 0
	if !Adopted(r) {
		n.Ready, n.StopWanted = false, false
	}
	n.Reason, n.Message = or(rep.GetReason(), padisv1.ReasonStarting), or(rep.GetMessage(), "prepares its network and files")
	return n, nil
}

// Run notes that the program runs. Ready is nil when the news does not tell; then it is as it was before.
func Run(r *padisv1.InstanceRecord, rep *padisv1.InstanceReport, ready *bool, now time.Time) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_RUNNING, "running")
	if err != nil {
		return r, err
	}
	is := n.ReadyMs != 0
	if ready != nil {
		is = *ready
	}
	n.NotBeforeMs, n.StopWanted = 0, false
	n.ImageDigest = or(rep.GetImageDigest(), n.ImageDigest)
	if n.RunningMs == 0 {
		n.RunningMs = now.UnixMilli()
	}
	switch {
	case is && n.ReadyMs == 0:
		n.ReadyMs = now.UnixMilli()
	case !is:
		n.ReadyMs = 0
	}
	n.Ready = is
	runs(n)
	n.Reason, n.Message = or(rep.GetReason(), n.GetReason()), or(rep.GetMessage(), n.GetMessage())
	return n, nil
}

// Stop makes the instance wait for the end of its task. Wanted tells that the stop is our wish, so that its end is no failure.
func Stop(r *padisv1.InstanceRecord, wanted bool, reason, message string) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_STOPPING, "stop")
	if err != nil {
		return r, err
	}
	n.StopWanted = n.StopWanted || wanted
	n.Ready, n.NotBeforeMs, n.Prepulling = false, 0, false
	n.Reason, n.Message = reason, message
	return n, nil
}

// KillSent notes when the kill was sent last; it is repeated until the end is known.
func KillSent(r *padisv1.InstanceRecord, now time.Time) *padisv1.InstanceRecord {
	n := clone(r)
	n.KillSentMs = now.UnixMilli()
	return n
}

// Lose notes that nothing can be known of the task any more. Not_before_ms says since when; when it is replaced is
// for the App's policy to say.
func Lose(r *padisv1.InstanceRecord, reason, message string, now time.Time) (*padisv1.InstanceRecord, error) {
	if r.GetPhase() == padisv1.Phase_UNREACHABLE && r.GetReason() == reason {
		return r, nil
	}
	n, err := move(r, padisv1.Phase_UNREACHABLE, "lost")
	if err != nil {
		return r, err
	}
	n.Ready, n.Prepulling = false, false
	if r.GetPhase() != padisv1.Phase_UNREACHABLE {
		n.NotBeforeMs = now.UnixMilli()
	}
	n.Reason, n.Message = reason, message
	return n, nil
}

// Say changes the sentence of an instance that cannot be reached: when it will be replaced is not known for good. It
// returns r itself when nothing changed.
func Say(r *padisv1.InstanceRecord, message string) *padisv1.InstanceRecord {
	if r.GetPhase() != padisv1.Phase_UNREACHABLE || r.GetMessage() == message {
		return r
	}
	n := clone(r)
	n.Message = message
	return n
}

// Dispute notes that somebody else uses an address of an instance that runs, or with an empty message that nobody does
// any more. It is as ready as its checks say. It returns r itself when nothing changed.
func Dispute(r *padisv1.InstanceRecord, message string) *padisv1.InstanceRecord {
	disputed := r.GetReason() == padisv1.ReasonAddressConflict
	if r.GetPhase() != padisv1.Phase_RUNNING || r.GetPrepulling() || message == "" && !disputed || disputed && r.GetMessage() == message {
		return r
	}
	n := clone(r)
	if n.Reason, n.Message = padisv1.ReasonAddressConflict, message; message == "" {
		runs(n)
	}
	return n
}

// runs says of an instance that runs what its executor does not say.
func runs(n *padisv1.InstanceRecord) {
	n.Reason, n.Message = padisv1.ReasonRunning, "runs; its health checks have not passed yet"
	if n.GetReady() {
		n.Reason, n.Message = padisv1.ReasonReady, "runs and is ready"
	}
}

// End moves the instance on after the end of its task: to RETIRED if the slot is not wanted, to PENDING if the stop was
// ours, else to BACKOFF.
func End(r *padisv1.InstanceRecord, e Ending, wanted bool, policy *padisv1.RestartPolicy, now time.Time) (*padisv1.InstanceRecord, error) {
	to := padisv1.Phase_BACKOFF
	switch {
	case !wanted:
		to = padisv1.Phase_RETIRED
	case r.GetStopWanted():
		to = padisv1.Phase_PENDING
	}
	n, err := move(r, to, "ended")
	if err != nil {
		return r, err
	}
	reason, message := or(e.Report.GetReason(), e.Reason), or(e.Report.GetMessage(), e.Message)
	n = terminated(n, &padisv1.Termination{
		TaskId: r.GetTaskId(), Hostname: r.GetHostname(), ExitCode: e.Report.GetExitCode(), Signal: e.Report.GetSignal(),
		Reason: reason, Message: message, FinishedMs: now.UnixMilli(), OomKilled: e.Report.GetOomKilled(),
		StartedMs: r.GetRunningMs(), Revision: r.GetRevision(), Container: r.GetContainer(),
	})
	if !e.Certain {
		n = Haunt(n, Ghost{r.GetAgentId(), r.GetTaskId(), haunting(r), r.GetLeaseMs()})
	}
	n.TaskId, n.AgentId, n.Hostname, n.ExecutorId, n.LeaseMs = "", "", "", "", 0
	n.Container, n.ConfigHashes, n.ImageDigest, n.Prepulling = "", nil, "", false
	n.Ready, n.StopWanted, n.KillSentMs, n.NotBeforeMs = false, false, 0, 0
	n.RunningMs, n.ReadyMs = 0, 0
	if to == padisv1.Phase_RETIRED {
		return retired(n), nil
	}
	if to == padisv1.Phase_PENDING {
		n.Failures = 0
		n.Reason, n.Message = padisv1.ReasonUpdating, "waits for its agent, to start with the new template"
		return n, nil
	}
	n.Failures = r.GetFailures()
	if Stable(r, policy, now) {
		n.Failures = 0
	}
	n.Failures++
	if e.Cause == Exited || e.Cause == Collapsed {
		n.Restarts++
	}
	wait := Delay(e.Cause, n.Failures, policy, SlotOf(n), n.GetAttempt())
	n.NotBeforeMs = now.Add(wait).UnixMilli()
	n.Reason = padisv1.ReasonBackOff
	n.Message = fmt.Sprintf("%s (%s); starts again in %s", or(message, "it ended"), reason, wait.Round(time.Millisecond))
	return n, nil
}

// Wake ends a back-off, because its time has come or because there is a new revision to try. Fresh forgets past failures.
func Wake(r *padisv1.InstanceRecord, fresh bool) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_PENDING, "waited")
	if err != nil {
		return r, err
	}
	n.NotBeforeMs = 0
	if fresh {
		n.Failures = 0
	}
	n.Reason, n.Message = padisv1.ReasonNoOffers, "waits for an offer"
	return n, nil
}

// Retire ends a slot that has no task.
func Retire(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_RETIRED, "retired")
	if err != nil {
		return r, err
	}
	return retired(n), nil
}

func retired(n *padisv1.InstanceRecord) *padisv1.InstanceRecord {
	n.NotBeforeMs, n.StopWanted = 0, false
	n.Reason, n.Message = padisv1.ReasonScaledIn, "is removed"
	if Haunted(n) {
		n.Reason = padisv1.ReasonAwaitingRelease
		n.Message = fmt.Sprintf("its addresses may still be in use on agent %s, where an earlier run of it may go on; bring the agent back or mark it gone", n.GetHauntedAgents()[0])
	}
	return n
}

// Revive wants a slot again that was ended but not yet removed.
func Revive(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
	n, err := move(r, padisv1.Phase_PENDING, "wanted")
	if err != nil {
		return r, err
	}
	n.Failures, n.StopWanted = 0, false
	n.Reason, n.Message = padisv1.ReasonNoOffers, "waits for an offer"
	return n, nil
}

// Released tells whether the record, in its phase, may be deleted together with its leases.
func Released(r *padisv1.InstanceRecord) bool {
	return r.GetPhase() == padisv1.Phase_RETIRED && !Haunted(r)
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
