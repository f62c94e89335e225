// Package notify decides what the receivers of a Sync's notifications are to be told, what a message says, when it is sent
// again, and whither no message goes. Pure.
//
// What holds is compared with what was told of it, so that nothing is told twice because a status was written twice. Messages
// wait in the status until they were taken: they are there before they are sent.
package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/v1alpha1"
)

const (
	// maxMessage bounds the message of a message, in bytes.
	maxMessage = 1024
	// maxCorrections is how many corrections of drift are told in an hour; all of them are events of the Sync.
	maxCorrections = 10
)

// News is what the status of a Sync does not say, or not in this way.
type News struct {
	// Failure is the event that the reason of a condition Ready that is false stands for: Failed, Refused, or empty if there
	// is nothing to tell.
	Failure string
	// Corrected says which fields of others were put back just now; empty if none were.
	Corrected string
	// Recurring says of those of them that are changed again as soon as they are put back how often that was, and by whom.
	Recurring string
	// Source is why the source does not vouch for its newest commit; nil if it does.
	Source *Refusal
}

// Refusal is a commit that is not believed.
type Refusal struct{ Commit, Reason, Message string }

// fact is something that holds, and of may be told.
type fact struct {
	event, of, commit, author, reason, message string
}

// Next gives what is told, and what waits to be taken, with a status that is about to be written. lost is how many messages
// had to make room.
func Next(y *v1alpha1.Sync, st *v1alpha1.SyncStatus, news News, now time.Time) (told []v1alpha1.ToldEvent, telling []v1alpha1.Message, lost int) {
	if len(y.Spec.Notifications) == 0 {
		return nil, nil, 0
	}
	told, telling = slices.Clone(st.Told), slices.Clone(st.Telling)
	facts := facts(y, st, news, now)
	told = slices.DeleteFunc(told, func(t v1alpha1.ToldEvent) bool { return over(t, y, st, news, facts) })
	for _, f := range facts {
		if strings.HasPrefix(f.of, ofCorrected) && corrections(told) >= maxCorrections {
			continue
		}
		key := v1alpha1.ToldEvent{Event: f.event, Of: f.of}
		if slices.Contains(told, key) || !Wanted(y, f.event) {
			continue
		}
		told = append(told, key)
		m := v1alpha1.Message{Event: f.event, Commit: f.commit, Author: f.author, Reason: f.reason, Message: cut(f.message), Time: metav1.NewTime(now.UTC().Truncate(time.Second))}
		m.ID = id(y, f, now)
		// The same that has not been taken yet would come out of order, and before what is true now.
		telling = slices.DeleteFunc(telling, func(o v1alpha1.Message) bool {
			return o.Event == m.Event && o.Commit == m.Commit && o.Reason == m.Reason && m.Event != v1alpha1.NotifyDrift
		})
		telling = append(telling, m)
	}
	if lost = len(telling) - v1alpha1.MaxTelling; lost > 0 {
		telling = slices.Delete(telling, 0, lost)
	}
	return told, telling, max(lost, 0)
}

// Prefixes of what facts are of, where several of one event may hold side by side.
const (
	ofSource    = "source "
	ofCorrected = "corrected "
)

func facts(y *v1alpha1.Sync, st *v1alpha1.SyncStatus, news News, now time.Time) []fact {
	var out []fact
	ready := metav1.Condition{}
	for _, c := range st.Conditions {
		if c.Type == v1alpha1.ConditionReady {
			ready = c
		}
	}
	if c := st.LastAppliedCommit; c != "" {
		out = append(out, fact{v1alpha1.NotifyApplied, c, c, st.Author, "", fmt.Sprintf("commit %s is applied: %s", c, plural(int(st.Objects), "object", "objects"))})
	}
	if r := y.Spec.Rollback; r != nil {
		switch end := st.ReleasedRollback; {
		case end != nil && end.To == r.To && end.From == r.From && !r.Pinned:
			out = append(out, fact{v1alpha1.NotifyRollback, "ended by " + end.By, end.By, "", "RollbackEnded", fmt.Sprintf("commit %s has ended the rollback from %s to %s", end.By, end.From, end.To)})
		case st.LastAppliedCommit == r.To && !st.Incomplete:
			m := fmt.Sprintf("commit %s is in force by spec.rollback", r.To)
			if r.From != "" {
				m += " in place of " + r.From
			}
			out = append(out, fact{v1alpha1.NotifyRollback, "to " + r.To + " from " + r.From, r.To, st.Author, "RolledBack", m})
		}
	}
	switch {
	case ready.Status == metav1.ConditionTrue && st.LastAppliedCommit != "":
		out = append(out, fact{v1alpha1.NotifyHealthy, st.LastAppliedCommit, st.LastAppliedCommit, st.Author, "Healthy", ready.Message})
	case ready.Status == metav1.ConditionFalse && news.Failure != "":
		commit := st.LastAttemptedCommit
		if st.Failures == 0 && st.LastAppliedCommit != "" {
			commit = st.LastAppliedCommit
		}
		out = append(out, fact{news.Failure, strings.TrimSpace(commit + " " + ready.Reason), commit, "", ready.Reason, ready.Message})
	}
	if s := news.Source; s != nil {
		out = append(out, fact{v1alpha1.NotifyRefused, ofSource + s.Commit + " " + s.Reason, s.Commit, "", s.Reason, s.Message})
	}
	if len(st.Drift) > 0 && !y.Spec.Corrects() {
		var fields []string
		for _, d := range st.Drift {
			fields = append(fields, strings.TrimSpace(d.Object+" "+d.Path+by(d.By)))
		}
		text := fmt.Sprintf("%s changed by others, and only reported: %s", plural(len(fields), "field was", "fields were"), some(fields))
		out = append(out, fact{v1alpha1.NotifyDrift, digest(strings.Join(fields, "\n")), st.LastAppliedCommit, "", "Drifted", text})
	}
	if news.Corrected != "" {
		// Who changes a field again and again is told of once an hour.
		of := ofCorrected + now.UTC().Format("2006-01-02T15") + " " + digest(news.Corrected)
		reason, text := "DriftCorrected", "fields that were changed by others are put back: "+news.Corrected
		if news.Recurring != "" {
			of += " again"
			reason, text = "DriftContested", text+"; "+news.Recurring
		}
		out = append(out, fact{v1alpha1.NotifyDrift, of, st.LastAppliedCommit, "", reason, text})
	}
	return out
}

// over tells whether something that was told does not hold any more, so that it would be news again. What only pauses, as a
// failure does while it is tried again, is not over.
func over(t v1alpha1.ToldEvent, y *v1alpha1.Sync, st *v1alpha1.SyncStatus, news News, now []fact) bool {
	is := func(event string) bool {
		return slices.ContainsFunc(now, func(f fact) bool { return f.event == event && !strings.HasPrefix(f.of, ofSource) && f.of != t.Of })
	}
	failed := is(v1alpha1.NotifyFailed) || is(v1alpha1.NotifyRefused)
	switch t.Event {
	case v1alpha1.NotifyApplied:
		return is(v1alpha1.NotifyApplied)
	case v1alpha1.NotifyRollback:
		return is(v1alpha1.NotifyRollback) || y.Spec.Rollback == nil
	case v1alpha1.NotifyHealthy:
		return failed || st.LastAppliedCommit != t.Of
	case v1alpha1.NotifyDrift:
		if told, corrected := strings.CutPrefix(t.Of, ofCorrected); corrected {
			return slices.ContainsFunc(now, func(f fact) bool {
				hour, ok := strings.CutPrefix(f.of, ofCorrected)
				return ok && hour[:min(len(hour), 13)] != told[:min(len(told), 13)]
			})
		}
		return is(v1alpha1.NotifyDrift) || len(st.Drift) == 0
	case v1alpha1.NotifyRefused:
		if strings.HasPrefix(t.Of, ofSource) {
			return news.Source == nil || ofSource+news.Source.Commit+" "+news.Source.Reason != t.Of
		}
	}
	return failed || is(v1alpha1.NotifyHealthy)
}

func corrections(told []v1alpha1.ToldEvent) int {
	n := 0
	for _, t := range told {
		if strings.HasPrefix(t.Of, ofCorrected) {
			n++
		}
	}
	return n
}

// Wanted tells whether anybody is to be told of an event.
func Wanted(y *v1alpha1.Sync, event string) bool { return len(Receivers(y, event)) > 0 }

// Receivers are the names of the Secrets of those who are told of an event, each once.
func Receivers(y *v1alpha1.Sync, event string) []string {
	var out []string
	for _, n := range y.Spec.Notifications {
		if (len(n.Events) == 0 || slices.Contains(n.Events, event)) && !slices.Contains(out, n.SecretRef.Name) {
			out = append(out, n.SecretRef.Name)
		}
	}
	return out
}

func id(y *v1alpha1.Sync, f fact, now time.Time) string {
	return digest(strings.Join([]string{string(y.UID), f.event, f.of, now.UTC().Format(time.RFC3339Nano)}, "\n"))
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

func by(manager string) string {
	if manager == "" {
		return ""
	}
	return " by " + manager
}

// some joins the first lines of a list, and counts the rest.
func some(lines []string) string {
	const most = 5
	if len(lines) <= most {
		return strings.Join(lines, "; ")
	}
	return fmt.Sprintf("%s; and %d more", strings.Join(lines[:most], "; "), len(lines)-most)
}

// cut shortens a text to what a message may have.
func cut(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage] + "..."
	}
	return strings.ToValidUTF8(s, "")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
