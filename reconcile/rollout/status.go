package rollout

import (
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// maxNamed bounds how many instances a message names, maxQuoted how much of an instance's message it quotes.
	maxNamed  = 3
	maxQuoted = 400
)

// trouble is why one slot is not ready.
type trouble struct {
	slot            int32
	reason, message string
}

// passing are the reasons that go away by themselves. Others call for a look.
func passing(reason string) bool {
	switch reason {
	case padisv1.ReasonStarting, padisv1.ReasonPlaced, padisv1.ReasonRunning, padisv1.ReasonReady, padisv1.ReasonStopping,
		padisv1.ReasonUpdating, padisv1.ReasonScaledIn, padisv1.ReasonAwaitingRelease, padisv1.ReasonReaddressing,
		padisv1.ReasonPulling, padisv1.ReasonPrepulling, padisv1.ReasonAdopting, padisv1.ReasonUpgrading:
		return true
	}
	return false
}

// trouble finds the words for a slot that is not ready.
func (d *decision) trouble(s *slot) trouble {
	t := trouble{slot: s.index}
	in := s.instance
	switch {
	case s.state == releasing:
		t.reason, t.message = padisv1.ReasonReaddressing, "stops and gives its addresses back before it starts with the declared ones"
	case s.state == barred:
		t.reason, t.message = d.Refusal.Reason, "is not started"
	case in == nil:
		t.reason = padisv1.ReasonStarting
	case in.ready() && (in.Reason == "" || in.Reason == padisv1.ReasonReady || in.Reason == padisv1.ReasonRunning):
		// Still ready at the revision that it is about to leave.
		t.reason = padisv1.ReasonUpdating
	case in.ready():
		// The same, and its next image is not there yet.
		t.reason, t.message = in.Reason, in.Message
	case in.Phase == phaseRunning && slices.Contains([]string{"", padisv1.ReasonRunning, padisv1.ReasonReady}, in.Reason):
		t.reason, t.message = padisv1.ReasonStarting, "runs, but its health checks have not passed yet"
	case in.Reason != "":
		t.reason, t.message = in.Reason, in.Message
	default:
		t.reason, t.message = map[string]string{
			phaseBackOff: padisv1.ReasonBackOff, phaseStopping: padisv1.ReasonStopping, phaseRetired: padisv1.ReasonStopping,
			phaseUnreachable: padisv1.ReasonAgentUnreachable,
		}[in.Phase], in.Message
		if t.reason == "" {
			t.reason = padisv1.ReasonStarting
		}
	}
	return t
}

// ranked sorts reasons: those that do not pass by themselves first, then the commonest, then the one of the lowest slot.
func ranked(ts []trouble) []string {
	count, first := map[string]int{}, map[string]int32{}
	var reasons []string
	for _, t := range ts {
		if count[t.reason]++; count[t.reason] == 1 {
			first[t.reason] = t.slot
			reasons = append(reasons, t.reason)
		}
	}
	slices.SortFunc(reasons, func(a, b string) int {
		if pa, pb := passing(a), passing(b); pa != pb {
			if pa {
				return 1
			}
			return -1
		}
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return int(first[a] - first[b])
	})
	return reasons
}

// tell names the slots with the foremost reason and counts the others:
// "web-7, web-9 and 4 more PoolExhausted: the pool is full; 2 Starting".
func (d *decision) tell(ts []trouble) string {
	var parts []string
	for n, reason := range ranked(ts) {
		var names []string
		count, message := 0, ""
		for _, t := range ts {
			if t.reason != reason {
				continue
			}
			if count++; count <= maxNamed {
				names = append(names, d.name(t.slot))
			}
			if message == "" {
				message = t.message
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count, reason))
			continue
		}
		text := strings.Join(names, ", ")
		if count > maxNamed {
			text += fmt.Sprintf(" and %d more", count-maxNamed)
		}
		text += " " + reason
		if message != "" {
			text += ": " + shorten(message)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}

func shorten(s string) string {
	s = strings.ToValidUTF8(strings.TrimRight(s, ". \n"), "?")
	if r := []rune(s); len(r) > maxQuoted {
		return string(r[:maxQuoted]) + "..."
	}
	return s
}

func (d *decision) name(slot int32) string { return fmt.Sprintf("%s-%d", d.App.Name, slot) }

// status counts and explains.
func (d *decision) status(p Plan) v1alpha1.AppStatus {
	st := d.counts()
	if d.Newest != nil {
		st.Revision = d.Newest.Hash
	} else if revisions := d.Current.GetRevisions(); len(revisions) > 0 {
		st.Revision = revisions[0].Hash
	}
	var not []trouble
	for n := range d.slots {
		s := &d.slots[n]
		if s.instance.ready() {
			st.ReadyReplicas++
		} else {
			not = append(not, d.trouble(s))
		}
		if s.instance != nil && s.instance.Revision == st.Revision && st.Revision != "" {
			st.UpdatedReplicas++
		}
	}
	wanted := int32(len(d.slots))
	st.Summary = fmt.Sprintf("%d/%d", st.ReadyReplicas, wanted)
	st.Conditions = []metav1.Condition{d.accepted(), d.available(wanted, not), d.progressing(p, st, not)}
	for n := range st.Conditions {
		st.Conditions[n].ObservedGeneration = st.ObservedGeneration
	}
	return st
}

func (d *decision) counts() v1alpha1.AppStatus {
	st := v1alpha1.AppStatus{
		ObservedGeneration: d.App.Generation,
		Replicas:           int32(len(d.instances)),
		Selector:           v1alpha1.LabelApp + "=" + d.App.Name,
	}
	for _, in := range d.instances {
		st.Restarts += in.Restarts
		switch {
		case in.Phase == phaseRunning, in.Phase == phaseAdopting, in.ready():
			st.RunningReplicas++
		case in.Phase == phasePending:
			st.PendingReplicas++
		}
	}
	return st
}

func condition(kind string, true_ bool, reason, format string, args ...any) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if true_ {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func (d *decision) accepted() metav1.Condition {
	if r := d.Refusal; r != nil {
		tail := "nothing is started until then"
		switch {
		case d.Current != nil && d.revoked(d.Newest.GetHash()) && d.wants(d.Newest.GetHash()):
			tail = "what runs goes on, and nothing is started until then"
		case d.Current != nil:
			tail = "the last accepted declaration stays in force until then"
		}
		return condition(v1alpha1.ConditionAccepted, false, r.Reason, "%s; %s", strings.TrimRight(r.Message, ". "), tail)
	}
	return condition(v1alpha1.ConditionAccepted, true, padisv1.ReasonAccepted, "the declaration is in force")
}

func (d *decision) available(wanted int32, not []trouble) metav1.Condition {
	switch {
	case d.Refusal != nil && d.Current == nil:
		return condition(v1alpha1.ConditionAvailable, false, d.Refusal.Reason, "no instance was started: %s", d.Refusal.Message)
	case wanted == 0:
		return condition(v1alpha1.ConditionAvailable, true, padisv1.ReasonScaledToZero, "no instances are wanted")
	case len(not) == 0:
		return condition(v1alpha1.ConditionAvailable, true, padisv1.ReasonReady, "%s ready", instances(wanted))
	}
	verb := "are"
	if len(not) == 1 {
		verb = "is"
	}
	return condition(v1alpha1.ConditionAvailable, false, ranked(not)[0], "%d of %s %s not ready: %s; see padis why app/%s -n %s",
		len(not), instances(wanted), verb, d.tell(not), d.App.Name, d.App.Namespace)
}

// instances counts them in words.
func instances(n int32) string {
	if n == 1 {
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}

func (d *decision) progressing(p Plan, st v1alpha1.AppStatus, not []trouble) metav1.Condition {
	const kind = v1alpha1.ConditionProgressing
	wanted := int32(len(d.slots))
	updated := fmt.Sprintf("%d of %s at revision %s", st.UpdatedReplicas, instances(wanted), st.Revision)
	declared := map[int32]bool{}
	updating := false
	var released, held []trouble
	for n := range d.slots {
		s := &d.slots[n]
		declared[s.index] = true
		if s.state == releasing {
			released = append(released, d.trouble(s))
		}
		if s.state == starting && s.instance != nil && s.instance.Revision != "" && s.instance.Revision != s.revision {
			updating = true
			if t := d.trouble(s); s.instance.ready() && t.reason != padisv1.ReasonUpdating {
				held = append(held, t)
			}
		}
	}
	reason := padisv1.ReasonUpdating
	if ranks := ranked(held); len(ranks) > 0 && !passing(ranks[0]) {
		// What is to be replaced runs on, so that nothing else shows that the update has come to a halt.
		reason = ranks[0]
	}
	var leaving []int32
	for i := range d.instances {
		if !declared[i] {
			leaving = append(leaving, i)
		}
	}
	slices.Sort(leaving)
	switch {
	case d.Refusal != nil:
		return condition(kind, false, d.Refusal.Reason, "waits for a declaration that can be put in force")
	case d.Paused && len(p.Waiting) > 0:
		return condition(kind, false, padisv1.ReasonPaused, "%s; %s", updated, p.Because)
	case len(p.Waiting) > 0:
		return condition(kind, true, reason, "%s; %s", updated, p.Because)
	case len(released) > 0:
		return condition(kind, true, padisv1.ReasonReaddressing, "%s; %s", updated, d.tell(released))
	case len(held) > 0:
		return condition(kind, true, reason, "%s; %s", updated, d.tell(held))
	case updating:
		return condition(kind, true, padisv1.ReasonUpdating, "%s", updated)
	case len(not) > 0:
		return condition(kind, true, padisv1.ReasonStarting, "%d of %s ready", st.ReadyReplicas, instances(wanted))
	case len(leaving) > 0:
		return condition(kind, true, padisv1.ReasonScaledIn, "%s to stop: slots %s", instances(int32(len(leaving))), spans(leaving))
	}
	return condition(kind, false, padisv1.ReasonComplete, "%s", updated)
}

// leavingStatus is the status of an App that is being deleted.
func (d *decision) leavingStatus() v1alpha1.AppStatus {
	st := d.counts()
	st.Summary = "0/0"
	var left []int32
	for i, in := range d.instances {
		left = append(left, i)
		if in.ready() {
			st.ReadyReplicas++
		}
	}
	slices.Sort(left)
	why := "all instances have ended"
	if len(left) > 0 {
		why = fmt.Sprintf("waits for the end of %s: slots %s; see padis why app/%s -n %s", instances(int32(len(left))), spans(left), d.App.Name, d.App.Namespace)
	}
	st.Conditions = []metav1.Condition{
		condition(v1alpha1.ConditionAccepted, true, padisv1.ReasonAccepted, "the App is being deleted"),
		condition(v1alpha1.ConditionAvailable, false, padisv1.ReasonStopping, "the App is being deleted"),
		condition(v1alpha1.ConditionProgressing, true, padisv1.ReasonStopping, "%s", why),
	}
	for n := range st.Conditions {
		st.Conditions[n].ObservedGeneration = st.ObservedGeneration
	}
	return st
}
