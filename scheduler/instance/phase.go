// Package instance is the life of one instance: its phases, what moves it from one to the next, how long it waits
// after a failure, and how its tasks are called. Pure.
//
// Records are values: a transition returns a changed copy and leaves its argument alone, so that a record that was
// handed to the ledger or to a view never changes under it. docs/states.md draws the phases.
package instance

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// Transition is one arrow of the diagram.
type Transition struct {
	From, To padisv1.Phase
	// On is what happened, in the words of the diagram.
	On string
}

func (t Transition) String() string {
	return fmt.Sprintf("%s -> %s: %s", Name(t.From), Name(t.To), t.On)
}

// Transitions are all arrows that exist, in the order of the diagram in docs/states.md. UNSPECIFIED is the state before
// and after the record's existence.
func Transitions() []Transition {
	return []Transition{
		{padisv1.Phase_PHASE_UNSPECIFIED, padisv1.Phase_PENDING, "wanted"},
		{padisv1.Phase_PENDING, padisv1.Phase_PENDING, "refused"},
		{padisv1.Phase_PENDING, padisv1.Phase_STAGING, "placed"},
		{padisv1.Phase_PENDING, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_PENDING, padisv1.Phase_RETIRED, "retired"},
		{padisv1.Phase_BACKOFF, padisv1.Phase_PENDING, "waited"},
		{padisv1.Phase_BACKOFF, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_BACKOFF, padisv1.Phase_RETIRED, "retired"},
		{padisv1.Phase_STAGING, padisv1.Phase_STARTING, "starting"},
		{padisv1.Phase_STAGING, padisv1.Phase_RUNNING, "running"},
		{padisv1.Phase_STAGING, padisv1.Phase_STOPPING, "stop"},
		{padisv1.Phase_STAGING, padisv1.Phase_UNREACHABLE, "lost"},
		{padisv1.Phase_STAGING, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_STAGING, padisv1.Phase_ADOPTING, "orphaned"},
		{padisv1.Phase_STAGING, padisv1.Phase_PENDING, "ended"},
		{padisv1.Phase_STAGING, padisv1.Phase_BACKOFF, "ended"},
		{padisv1.Phase_STAGING, padisv1.Phase_RETIRED, "ended"},
		{padisv1.Phase_STARTING, padisv1.Phase_STARTING, "starting"},
		{padisv1.Phase_STARTING, padisv1.Phase_RUNNING, "running"},
		{padisv1.Phase_STARTING, padisv1.Phase_STOPPING, "stop"},
		{padisv1.Phase_STARTING, padisv1.Phase_UNREACHABLE, "lost"},
		{padisv1.Phase_STARTING, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_STARTING, padisv1.Phase_ADOPTING, "orphaned"},
		{padisv1.Phase_STARTING, padisv1.Phase_PENDING, "ended"},
		{padisv1.Phase_STARTING, padisv1.Phase_BACKOFF, "ended"},
		{padisv1.Phase_STARTING, padisv1.Phase_RETIRED, "ended"},
		{padisv1.Phase_RUNNING, padisv1.Phase_RUNNING, "running"},
		{padisv1.Phase_RUNNING, padisv1.Phase_RUNNING, "prepulling"},
		{padisv1.Phase_RUNNING, padisv1.Phase_STOPPING, "stop"},
		{padisv1.Phase_RUNNING, padisv1.Phase_UNREACHABLE, "lost"},
		{padisv1.Phase_RUNNING, padisv1.Phase_ADOPTING, "orphaned"},
		{padisv1.Phase_RUNNING, padisv1.Phase_PENDING, "ended"},
		{padisv1.Phase_RUNNING, padisv1.Phase_BACKOFF, "ended"},
		{padisv1.Phase_RUNNING, padisv1.Phase_RETIRED, "ended"},
		{padisv1.Phase_STOPPING, padisv1.Phase_STOPPING, "stop"},
		{padisv1.Phase_STOPPING, padisv1.Phase_UNREACHABLE, "lost"},
		{padisv1.Phase_STOPPING, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_STOPPING, padisv1.Phase_ADOPTING, "orphaned"},
		{padisv1.Phase_STOPPING, padisv1.Phase_PENDING, "ended"},
		{padisv1.Phase_STOPPING, padisv1.Phase_BACKOFF, "ended"},
		{padisv1.Phase_STOPPING, padisv1.Phase_RETIRED, "ended"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_UNREACHABLE, "lost"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_ADOPTING, "orphaned"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_STAGING, "placed"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_STARTING, "starting"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_RUNNING, "running"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_STOPPING, "stop"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_PENDING, "ended"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_BACKOFF, "ended"},
		{padisv1.Phase_UNREACHABLE, padisv1.Phase_RETIRED, "ended"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_ADOPTING, "refused"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_STAGING, "adopted"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_STARTING, "starting"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_RUNNING, "running"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_STOPPING, "stop"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_UNREACHABLE, "lost"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_UNREACHABLE, "reclaimed"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_PENDING, "ended"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_BACKOFF, "ended"},
		{padisv1.Phase_ADOPTING, padisv1.Phase_RETIRED, "ended"},
		{padisv1.Phase_RETIRED, padisv1.Phase_PENDING, "wanted"},
		{padisv1.Phase_RETIRED, padisv1.Phase_PHASE_UNSPECIFIED, "released"},
	}
}

// arrows indexes Transitions.
var arrows = func() map[Transition]bool {
	m := map[Transition]bool{}
	for _, t := range Transitions() {
		m[t] = true
	}
	return m
}()

// Name is the phase as people read it, for example "Running" or "BackOff".
func Name(p padisv1.Phase) string {
	switch p {
	case padisv1.Phase_PENDING:
		return "Pending"
	case padisv1.Phase_BACKOFF:
		return "BackOff"
	case padisv1.Phase_STAGING:
		return "Staging"
	case padisv1.Phase_STARTING:
		return "Starting"
	case padisv1.Phase_RUNNING:
		return "Running"
	case padisv1.Phase_STOPPING:
		return "Stopping"
	case padisv1.Phase_UNREACHABLE:
		return "Unreachable"
	case padisv1.Phase_RETIRED:
		return "Retired"
	case padisv1.Phase_ADOPTING:
		return "Adopting"
	case padisv1.Phase_PHASE_UNSPECIFIED:
		return "None"
	}
	return fmt.Sprintf("Phase(%d)", int32(p))
}

// HasTask tells whether a task of the instance, or what it left running, may exist in this phase.
func HasTask(p padisv1.Phase) bool {
	switch p {
	case padisv1.Phase_STAGING, padisv1.Phase_STARTING, padisv1.Phase_RUNNING, padisv1.Phase_STOPPING, padisv1.Phase_UNREACHABLE, padisv1.Phase_ADOPTING:
		return true
	}
	return false
}

// SlotOf names the slot of a record.
func SlotOf(r *padisv1.InstanceRecord) record.Slot {
	return record.Slot{AppUID: r.GetAppUid(), Index: r.GetSlot()}
}

// Haunted tells whether an earlier task of the slot may still hold its addresses.
func Haunted(r *padisv1.InstanceRecord) bool { return len(r.GetHauntedAgents()) > 0 }

// TransitionError is a transition that the diagram does not have. It means a bug or a history that Mesos does not
// document: the record stays as it was.
type TransitionError struct {
	Slot record.Slot
	Transition
}

func (e *TransitionError) Error() string {
	return fmt.Sprintf("instance %s: no transition %s; the record was left as it is, please report this", e.Slot, e.Transition)
}

// move returns a copy of r in phase to, or a TransitionError.
func move(r *padisv1.InstanceRecord, to padisv1.Phase, on string) (*padisv1.InstanceRecord, error) {
	t := Transition{From: r.GetPhase(), To: to, On: on}
	if !arrows[t] {
		return r, &TransitionError{Slot: SlotOf(r), Transition: t}
	}
	n := clone(r)
	n.Phase = to
	return n, nil
}

func clone(r *padisv1.InstanceRecord) *padisv1.InstanceRecord {
	return proto.Clone(r).(*padisv1.InstanceRecord)
}

// Haunt notes that a task, or its container if it has one, may still run on an agent and hold the slot's addresses there.
func Haunt(r *padisv1.InstanceRecord, g Ghost) *padisv1.InstanceRecord {
	at := slices.Index(r.GetHauntedTasks(), g.Task)
	if g.Agent == "" || g.Task == "" || at >= 0 && (g.Container == "" || Ghosts(r)[at].Container == g.Container) {
		return r
	}
	n := clone(r)
	// Records of earlier versions do not list them.
	for len(n.HauntedContainers) < len(n.HauntedTasks) {
		n.HauntedContainers = append(n.HauntedContainers, "")
	}
	for len(n.HauntedLeases) < len(n.HauntedTasks) {
		n.HauntedLeases = append(n.HauntedLeases, 0)
	}
	if at >= 0 {
		n.HauntedContainers[at] = g.Container
		return n
	}
	n.HauntedAgents = append(n.HauntedAgents, g.Agent)
	n.HauntedTasks = append(n.HauntedTasks, g.Task)
	n.HauntedContainers = append(n.HauntedContainers, g.Container)
	n.HauntedLeases = append(n.HauntedLeases, g.LeaseMs)
	return n
}

// Ghost is a task of the slot whose end is uncertain.
type Ghost struct {
	Agent, Task, Container string
	// LeaseMs is that of its launch; 0 if it was launched without a lease.
	LeaseMs int64
}

// Ghosts lists what haunts the slot.
func Ghosts(r *padisv1.InstanceRecord) []Ghost {
	gs := make([]Ghost, len(r.GetHauntedTasks()))
	for i, id := range r.GetHauntedTasks() {
		gs[i] = Ghost{Agent: r.GetHauntedAgents()[i], Task: id}
		if i < len(r.GetHauntedContainers()) {
			gs[i].Container = r.GetHauntedContainers()[i]
		}
		if i < len(r.GetHauntedLeases()) {
			gs[i].LeaseMs = r.GetHauntedLeases()[i]
		}
	}
	return gs
}

// Release notes that the end of these tasks is certain. It returns r itself when none of them haunted the slot.
func Release(r *padisv1.InstanceRecord, taskIDs ...string) *padisv1.InstanceRecord {
	hit := func(id string) bool { return slices.Contains(taskIDs, id) }
	if !slices.ContainsFunc(r.GetHauntedTasks(), hit) {
		return r
	}
	n := clone(r)
	n.HauntedAgents, n.HauntedTasks, n.HauntedContainers, n.HauntedLeases = nil, nil, nil, nil
	for _, g := range Ghosts(r) {
		if !hit(g.Task) {
			n.HauntedAgents = append(n.HauntedAgents, g.Agent)
			n.HauntedTasks = append(n.HauntedTasks, g.Task)
			n.HauntedContainers = append(n.HauntedContainers, g.Container)
			n.HauntedLeases = append(n.HauntedLeases, g.LeaseMs)
		}
	}
	return n
}
