// Package rollout decides which slots of an App are wanted with which revision, one step at a time, and says why. Pure.
//
// The rules, in the order in which they apply:
//
//   - The slots of an App are 0 to replicas-1. Scaling out adds the missing ones at once, at the newest revision; scaling in
//     drops the highest ones at once.
//   - An outdated slot that is not ready is replaced at once: that costs nothing.
//   - An outdated slot that is ready is replaced only while fewer than MaxUnavailable of the slots that want the newest
//     revision are not ready at it. So an update that goes wrong stops after MaxUnavailable instances, and a newer
//     revision that arrives in between goes straight to all of them.
//   - Replacing happens in place: the slot keeps its name and its addresses. Fixed addresses are not part of a revision, so
//     that editing the list restarts nobody else; a slot that holds another address than the one that is fixed for it is
//     taken out of what is wanted until its instance is gone and its address free, and then put back.
//
// After what is wanted was handed over, an instance that is to stop must not be shown as Running any more: what is
// replaced counts as not ready from then on. One whose new image is still on its way to its agent runs on as it is, and is
// ready; but it holds its place among the MaxUnavailable, so that not everything stops at once when the images arrive, and
// an image that cannot be pulled stops the update before anything has ended.
package rollout

import (
	"fmt"
	"strings"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Snapshot is all that a decision depends on. It is not mutated.
type Snapshot struct {
	// App is the identity of the App: uid, namespace, name, labels, tenant and generation. Its slots and revisions are
	// not read.
	App *padisv1.WantedApp
	// Newest is the revision that is declared; nil only with a Refusal.
	Newest *padisv1.Revision
	// Replicas is the number of slots that are declared.
	Replicas int32
	// MaxUnavailable is the number of slots that may be not ready because of an update; less than 1 counts as 1.
	MaxUnavailable int32
	// Paused holds back replacements; scaling goes on.
	Paused bool
	// Refusal is set when the declaration cannot be put in force. What was wanted stays wanted.
	Refusal *Refusal
	// Leaving is set when the App is being deleted.
	Leaving bool
	// Current is what was wanted until now; nil if nothing was.
	Current *padisv1.WantedApp
	// Instances are all instances of the App, at most one for each slot.
	Instances []Instance
}

// Refusal says why a declaration is not in force.
type Refusal struct {
	// Reason is a padisv1.Reason constant, Message a sentence with the remedy.
	Reason, Message string
	// Revoked is set when the declaration may not be in force any more although it was: what runs goes on, but nothing
	// of the newest revision is started, not even again.
	Revoked bool
}

// Phases of an instance, as the projection prints them.
const (
	phasePending     = "Pending"
	phaseBackOff     = "BackOff"
	phaseStaging     = "Staging"
	phaseStarting    = "Starting"
	phaseRunning     = "Running"
	phaseAdopting    = "Adopting"
	phaseStopping    = "Stopping"
	phaseUnreachable = "Unreachable"
	phaseRetired     = "Retired"
)

// Instance is what a decision needs to know of one instance.
type Instance struct {
	Slot int32
	// Phase as in runtime.InstanceStatus.
	Phase string
	// Ready is what the scheduler says; an instance counts as ready only while it also is Running, or on its way from one
	// executor to the next.
	Ready bool
	// Revision of the task that was launched last; empty before the first launch.
	Revision  string
	Addresses []string
	Restarts  int64
	// Why it is where it is, and the remedy.
	Reason, Message string
}

// Observe picks what a decision needs from the projections.
func Observe(is []*runtime.Instance) []Instance {
	out := make([]Instance, 0, len(is))
	for _, i := range is {
		s := &i.Status
		out = append(out, Instance{
			Slot: s.Slot, Phase: s.Phase, Ready: s.Ready, Revision: s.Revision,
			Addresses: s.Addresses, Restarts: s.Restarts, Reason: s.Reason, Message: s.Message,
		})
	}
	return out
}

func (i *Instance) ready() bool {
	if i == nil || !i.Ready {
		return false
	}
	switch i.Phase {
	case phaseRunning, phaseAdopting, phaseStaging, phaseStarting:
		return true
	}
	return false
}

// lives tells whether the instance runs, or is about to, so that it needs no further start.
func (i *Instance) lives() bool {
	return i != nil && i.Phase != phasePending && i.Phase != phaseBackOff && i.Phase != phaseRetired
}

// Verb is what a step does to a slot.
type Verb string

// Verbs.
const (
	// Create adds the slot.
	Create Verb = "create"
	// Remove drops the slot: it is beyond the declared replicas.
	Remove Verb = "remove"
	// Replace gives the slot the newest revision in place.
	Replace Verb = "replace"
	// Release drops the slot until its instance has given its addresses back.
	Release Verb = "release"
	// Bar drops the slot until its revision may be started again.
	Bar Verb = "bar"
	// Relocate leaves instances where they are although the placement constraints changed under them.
	Relocate Verb = "leave in place"
)

// Step is one change of what is wanted.
type Step struct {
	Verb Verb
	Slot int32
	// From and To are revisions; empty where there is none.
	From, To string
}

// Plan is what is wanted from now on, and what there is to say about it.
type Plan struct {
	// Wanted is nil when nothing has ever been accepted, and when the App is leaving.
	Wanted *padisv1.WantedApp
	// Refused is set when the declaration is not in force.
	Refused bool
	// Steps are the changes from Snapshot.Current to Wanted, by slot.
	Steps []Step
	// Waiting are the slots that are outdated and not replaced yet, and Because says why; empty if there are none.
	Waiting []int32
	Because string
	// Status is complete but for the times of its conditions.
	Status v1alpha1.AppStatus
	// After is the time after which to look again even if nothing was heard; zero when all is as declared.
	After time.Duration
}

// Slots prints what is wanted, for example "0-6=a1 7=b2".
func (p Plan) Slots() fmt.Stringer { return slots{p.Wanted} }

type slots struct{ wanted *padisv1.WantedApp }

func (s slots) String() string { return describeWanted(s.wanted) }

// String gives the steps and the conditions, one to a line.
func (p Plan) String() string {
	var b strings.Builder
	for n := 0; n < len(p.Steps); {
		s, m := p.Steps[n], n+1
		for m < len(p.Steps) && p.Steps[m].follows(p.Steps[m-1]) {
			m++
		}
		fmt.Fprintf(&b, "%s %s", s.Verb, span(s.Slot, p.Steps[m-1].Slot))
		switch {
		case s.From != "" && s.To != "":
			fmt.Fprintf(&b, " %s -> %s", s.From, s.To)
		case s.To != "":
			fmt.Fprintf(&b, " at %s", s.To)
		}
		b.WriteByte('\n')
		n = m
	}
	if len(p.Waiting) > 0 {
		fmt.Fprintf(&b, "wait %s: %s\n", spans(p.Waiting), p.Because)
	}
	fmt.Fprintf(&b, "want %s\n", describeWanted(p.Wanted))
	s := p.Status
	fmt.Fprintf(&b, "status %s, %d exist, %d running, %d updated, %d pending, %d restarts\n",
		s.Summary, s.Replicas, s.RunningReplicas, s.UpdatedReplicas, s.PendingReplicas, s.Restarts)
	for _, c := range s.Conditions {
		fmt.Fprintf(&b, "%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	if p.After > 0 {
		fmt.Fprintf(&b, "look again after %s\n", p.After)
	}
	return b.String()
}

func (s Step) follows(t Step) bool {
	return s.Verb == t.Verb && s.From == t.From && s.To == t.To && s.Slot == t.Slot+1
}

func span(from, to int32) string {
	if from == to {
		return fmt.Sprint(from)
	}
	return fmt.Sprintf("%d-%d", from, to)
}

// spans prints ascending slots, for example "0-3,7".
func spans(slots []int32) string {
	var parts []string
	for n := 0; n < len(slots); {
		m := n + 1
		for m < len(slots) && slots[m] == slots[m-1]+1 {
			m++
		}
		parts = append(parts, span(slots[n], slots[m-1]))
		n = m
	}
	return strings.Join(parts, ",")
}

func describeWanted(w *padisv1.WantedApp) string {
	if w == nil {
		return "nothing"
	}
	if len(w.Slots) == 0 {
		return "no slots"
	}
	var parts []string
	for n := 0; n < len(w.Slots); {
		m := n + 1
		for m < len(w.Slots) && w.Slots[m].Revision == w.Slots[n].Revision && w.Slots[m].Index == w.Slots[m-1].Index+1 {
			m++
		}
		parts = append(parts, span(w.Slots[n].Index, w.Slots[m-1].Index)+"="+w.Slots[n].Revision)
		n = m
	}
	return strings.Join(parts, " ")
}
