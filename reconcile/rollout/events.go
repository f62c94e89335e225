package rollout

import (
	"fmt"
	"time"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Event is something worth telling a person, in the words of the conditions.
type Event struct {
	// Warning events call for a look.
	Warning bool
	// Reason is a padisv1.Reason constant.
	Reason, Message string
}

// String gives the event as one line.
func (e Event) String() string {
	kind := "Normal"
	if e.Warning {
		kind = "Warning"
	}
	return kind + " " + e.Reason + ": " + e.Message
}

// Done tells what a plan changed when it was put in force in place of current (nil: nothing was).
func Done(current *padisv1.WantedApp, p Plan) []Event {
	if p.Wanted == nil {
		return nil
	}
	var events []Event
	before, after := len(current.GetSlots()), len(p.Wanted.Slots)
	n := map[Verb]int{}
	for _, s := range p.Steps {
		n[s.Verb]++
	}
	// A slot that comes back after its addresses were released was not scaled.
	redeclared := current.GetGeneration() != p.Wanted.Generation
	switch {
	case current == nil:
		events = append(events, Event{Reason: padisv1.ReasonScaledOut, Message: fmt.Sprintf("starts with %s at revision %s", instances(int32(after)), p.Status.Revision)})
	case n[Create] > 0 && after > before && redeclared:
		events = append(events, Event{Reason: padisv1.ReasonScaledOut, Message: fmt.Sprintf("from %d to %s", before, instances(int32(after)))})
	case n[Remove] > 0:
		events = append(events, Event{Reason: padisv1.ReasonScaledIn, Message: fmt.Sprintf("from %d to %s", before, instances(int32(after)))})
	}
	if from, to := outgoing(current, p), p.Status.Revision; from != "" && !knows(current, to) {
		events = append(events, Event{Reason: padisv1.ReasonUpdating, Message: fmt.Sprintf("from revision %s to %s", from, to)})
	}
	if n[Release] > 0 {
		events = append(events, Event{Reason: padisv1.ReasonReaddressing, Message: fmt.Sprintf("%s to give addresses back and to start again with the declared ones", instances(int32(n[Release])))})
	}
	if n[Relocate] > 0 {
		events = append(events, Event{Reason: padisv1.ReasonPlacementChanged, Message: fmt.Sprintf(
			"%s: placed under the former constraints, left where they are; to place them anew, change a label of spec.template", instances(int32(n[Relocate])))})
	}
	return events
}

// outgoing is the revision of the first slot that an update has replaced or has yet to replace; empty if there is none.
func outgoing(current *padisv1.WantedApp, p Plan) string {
	stays := map[int32]bool{}
	for _, s := range p.Wanted.Slots {
		stays[s.Index] = true
	}
	for _, s := range current.GetSlots() {
		if stays[s.Index] && s.Revision != p.Status.Revision {
			return s.Revision
		}
	}
	return ""
}

func knows(w *padisv1.WantedApp, hash string) bool {
	for _, r := range w.GetRevisions() {
		if r.Hash == hash {
			return true
		}
	}
	return false
}

// Transitions tells what is new in a status compared with the one that was shown before.
func Transitions(before, after v1alpha1.AppStatus) []Event {
	var events []Event
	was, is := find(before, v1alpha1.ConditionAccepted), find(after, v1alpha1.ConditionAccepted)
	switch {
	case is.Status == metav1.ConditionFalse && (was.Status != is.Status || was.Reason != is.Reason):
		events = append(events, Event{Warning: true, Reason: is.Reason, Message: is.Message})
	case is.Status == metav1.ConditionTrue && was.Status == metav1.ConditionFalse:
		events = append(events, Event{Reason: is.Reason, Message: is.Message})
	}
	was, is = find(before, v1alpha1.ConditionAvailable), find(after, v1alpha1.ConditionAvailable)
	// Each step of an update ends with all instances ready; only the last is worth telling.
	if is.Status == metav1.ConditionTrue && was.Status != is.Status && !updating(after) {
		events = append(events, Event{Reason: is.Reason, Message: is.Message})
	}

	was, is = find(before, v1alpha1.ConditionProgressing), find(after, v1alpha1.ConditionProgressing)
	switch {
	case is.Reason == padisv1.ReasonPaused && was.Reason != is.Reason:
		events = append(events, Event{Reason: is.Reason, Message: is.Message})
	case is.Reason == padisv1.ReasonComplete && (updating(before) || was.Reason == padisv1.ReasonPaused):
		events = append(events, Event{Reason: padisv1.ReasonUpdated, Message: is.Message})
	}
	return events
}

func updating(s v1alpha1.AppStatus) bool {
	c := find(s, v1alpha1.ConditionProgressing)
	return c.Reason == padisv1.ReasonUpdating || c.Reason == padisv1.ReasonReaddressing || halted(c)
}

// halted tells whether an update waits for an image that cannot be had.
func halted(progressing metav1.Condition) bool {
	switch progressing.Reason {
	case padisv1.ReasonUpdating, padisv1.ReasonReaddressing, padisv1.ReasonStarting, padisv1.ReasonScaledIn, padisv1.ReasonStopping:
		return false
	}
	return progressing.Status == metav1.ConditionTrue
}

// patience is how long instances may be not ready for one and the same reason before a person is told. Every instance
// waits a moment for an offer or for the release of its address.
const patience = 2 * time.Second

// Worry is a reason for which instances are not ready, or not updated, and whether a person was told.
type Worry struct {
	reason string
	since  time.Time
	told   bool
}

// Next is the worry about a status at the time now. It gives the event to tell if there is one, and the time after which
// to ask again if nothing else happens; zero if there is no need.
func (w Worry) Next(s v1alpha1.AppStatus, now time.Time) (next Worry, event *Event, after time.Duration) {
	c := find(s, v1alpha1.ConditionAvailable)
	refused := find(s, v1alpha1.ConditionAccepted).Status == metav1.ConditionFalse
	reason, message := c.Reason, c.Message
	if c.Status != metav1.ConditionFalse || passing(reason) || refused {
		reason = ""
	}
	if p := find(s, v1alpha1.ConditionProgressing); reason == "" && !refused && halted(p) {
		reason, message = p.Reason, p.Message
	}
	if reason != w.reason {
		w = Worry{reason: reason, since: now}
	}
	if reason == "" || w.told {
		return w, nil, 0
	}
	if left := w.since.Add(patience).Sub(now); left > 0 {
		return w, nil, left
	}
	w.told = true
	return w, &Event{Warning: true, Reason: reason, Message: message}, 0
}

func find(s v1alpha1.AppStatus, kind string) metav1.Condition {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}
