package decide

import (
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/v1alpha1"
)

// State is how far a Sync is.
type State struct {
	// Head is the newest commit of the source that may be believed.
	Head string
	// Settings is a digest of all else that the result depends on: spec, variables, decryption keys.
	Settings string
	// Applied is the last commit all of which was applied, and AppliedSettings with which settings.
	Applied, AppliedSettings string
	// Dirty: an attempt has begun since, so that what is live may be a part of each.
	Dirty bool
	// Written is the commit of which a part was written since; empty if nothing was.
	Written string
	// Running is the commit that is being applied, and RunningSettings with which settings; empty if none is.
	Running, RunningSettings string
	// Attempt is the commit that has failed last, AttemptSettings with which settings, and Failures how often in a row.
	Attempt, AttemptSettings string
	Failures                 int
	// NotBefore is when it is tried again. Stalled: not before a commit or the settings change.
	NotBefore time.Time
	Stalled   bool
	// Rollback is the one of the spec; nil without. Released is the last one that a commit has ended.
	Rollback *v1alpha1.SyncRollback
	Released *v1alpha1.ReleasedRollback
	// Gate is why nothing new may begin: suspended, outside its windows, or waiting for others; nil if it may.
	Gate *Refusal
	// Initial and Longest bound the wait before a repetition.
	Initial, Longest time.Duration
}

// EventKind is what has happened.
type EventKind int

// What may happen.
const (
	// Tick: time has passed.
	Tick EventKind = iota
	// Seen: the source is at Commit. Ends says whether that ends the rollback: see Ends.
	Seen
	// SettingsChanged: Settings is their digest now.
	SettingsChanged
	// RollbackChanged: Rollback is that of the spec now, nil if there is none.
	RollbackChanged
	// GateChanged: Gate is why nothing new may begin, nil if it may.
	GateChanged
	// Writing: something of Commit is about to be written.
	Writing
	// Succeeded: all of Commit is applied and healthy.
	Succeeded
	// Broke: the attempt to apply Commit has failed. Final says that to repeat it would be of no use.
	Broke
)

// String is the name of the event.
func (k EventKind) String() string {
	names := [...]string{"Tick", "Seen", "SettingsChanged", "RollbackChanged", "GateChanged", "Writing", "Succeeded", "Broke"}
	if k < 0 || int(k) >= len(names) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return names[k]
}

// Event is what has happened, at a time. Which fields count is said at its kind.
type Event struct {
	Kind        EventKind
	At          time.Time
	Commit      string
	Ends, Final bool
	Settings    string
	Rollback    *v1alpha1.SyncRollback
	Gate        *Refusal
}

// Reasons of steps.
const (
	ReasonNoCommit   = "NoCommit"
	ReasonApplying   = "Applying"
	ReasonBackOff    = "BackOff"
	ReasonUpToDate   = "UpToDate"
	ReasonRolledBack = "RolledBack"
	ReasonStalled    = "Stalled"
)

// Step is what to do now.
type Step struct {
	// Apply is the commit to begin with; empty to begin with none.
	Apply string
	// Abandon is the commit whose attempt ends now, because a newer wish has come; empty to end none.
	Abandon string
	// After is when to come back with a Tick; 0 is when something happens.
	After time.Duration
	// Reason and Message say why.
	Reason, Message string
}

// Target is the commit that shall be in force: that of the rollback, as long as no commit has ended it, or the newest.
func (s *State) Target() string {
	if s.RolledBack() {
		return s.Rollback.To
	}
	return s.Head
}

// RolledBack tells whether a rollback is in force: one that no commit has ended.
func (s *State) RolledBack() bool {
	r := s.Rollback
	return r != nil && (r.Pinned || s.Released == nil || s.Released.To != r.To || s.Released.From != r.From)
}

// Next takes what has happened and says what to do. A newer commit never waits for an older one; words about attempts
// that were abandoned are not heard.
func Next(s State, e Event) (State, Step) {
	switch e.Kind {
	case Tick:
	case Seen:
		s.Head = e.Commit
		if r := s.Rollback; s.RolledBack() && !r.Pinned && r.From != "" && e.Commit != r.From && e.Ends {
			s.Released = &v1alpha1.ReleasedRollback{To: r.To, From: r.From, By: e.Commit}
		}
	case SettingsChanged:
		s.Settings = e.Settings
	case RollbackChanged:
		s.Rollback = e.Rollback
		if e.Rollback == nil {
			// The same rollback may be wanted again.
			s.Released = nil
		}
	case GateChanged:
		s.Gate = e.Gate
	case Writing:
		if e.Commit == s.Running {
			s.Written = e.Commit
		}
	case Succeeded:
		if e.Commit == s.Running && s.Running != "" {
			s.Applied, s.AppliedSettings, s.Dirty = s.Running, s.RunningSettings, false
			s.Written = ""
			s.endAttempt()
			s.forget()
		}
	case Broke:
		if e.Commit == s.Running && s.Running != "" {
			if s.Attempt != s.Running || s.AttemptSettings != s.RunningSettings {
				s.Attempt, s.AttemptSettings, s.Failures = s.Running, s.RunningSettings, 0
			}
			s.Failures++
			s.NotBefore, s.Stalled = e.At.Add(s.backOff()), e.Final
			if s.Stalled {
				s.NotBefore = time.Time{}
			}
			s.endAttempt()
		}
	default:
		panic(fmt.Sprintf("gitops: unknown event %s", e.Kind))
	}
	step := s.step(e.At)
	return s, step
}

func (s *State) endAttempt() { s.Running, s.RunningSettings = "", "" }

// forget drops what failed: it is done, or of no interest any more.
func (s *State) forget() {
	s.Attempt, s.AttemptSettings, s.Failures, s.NotBefore, s.Stalled = "", "", 0, time.Time{}, false
}

// backOff is the wait after the last failure: twice as long each time.
func (s *State) backOff() time.Duration {
	d := max(s.Initial, time.Second)
	longest := max(s.Longest, d)
	for range s.Failures - 1 {
		if d >= longest/2 {
			return longest
		}
		d *= 2
	}
	return min(d, longest)
}

// step begins what is to begin.
func (s *State) step(now time.Time) Step {
	target := s.Target()
	switch {
	case target == "":
		return Step{Reason: ReasonNoCommit, Message: "the source has no commit yet"}
	case s.Running == target && s.RunningSettings == s.Settings:
		return Step{Reason: ReasonApplying, Message: "commit " + target + " is being applied"}
	case s.Running == "" && s.Applied == target && s.AppliedSettings == s.Settings && !s.Dirty:
		return s.settled(target)
	case s.Gate != nil:
		return Step{Reason: s.Gate.Reason, Message: s.Gate.Message}
	}
	if s.Running == "" && s.Attempt == target && s.AttemptSettings == s.Settings {
		if s.Stalled {
			return Step{Reason: ReasonStalled, Message: "commit " + target + " cannot be applied: it is not tried again before a commit or the settings change"}
		}
		// A clock that was ahead when the status was written, and is right by now, would have it wait for as long.
		if latest := now.Add(s.backOff()); s.NotBefore.After(latest) {
			s.NotBefore = latest
		}
		if wait := s.NotBefore.Sub(now); wait > 0 {
			return Step{After: wait, Reason: ReasonBackOff, Message: fmt.Sprintf("commit %s has failed %s and is tried again at %s", target, Plural(s.Failures, "time", "times"), s.NotBefore.UTC().Format(time.RFC3339))}
		}
	}
	out := Step{Apply: target, Abandon: s.Running, Reason: ReasonApplying, Message: "commit " + target + " is being applied"}
	if s.Attempt != target || s.AttemptSettings != s.Settings {
		s.forget()
	}
	s.Running, s.RunningSettings, s.Dirty = target, s.Settings, true
	return out
}

func (s *State) settled(target string) Step {
	if s.RolledBack() {
		m := fmt.Sprintf("commit %s is in force by spec.rollback", target)
		if s.Rollback.Pinned || s.Rollback.From == "" {
			return Step{Reason: ReasonRolledBack, Message: m + " until that is removed"}
		}
		return Step{Reason: ReasonRolledBack, Message: m + " until a commit changes what " + s.Rollback.From + " has changed"}
	}
	return Step{Reason: ReasonUpToDate, Message: "commit " + target + " is applied"}
}

// Ends tells which objects end a rollback: those that the bad commit (from) has otherwise than the one that was gone back to
// (to), and head otherwise than the bad one. Without any, the rollback stays. All three are Digests of what the commits
// render to with the same settings.
func Ends(to, from, head map[ID]string) []ID {
	var out []ID
	for id, digest := range from {
		if to[id] != digest && head[id] != digest {
			out = append(out, id)
		}
	}
	for id := range to {
		if from[id] == "" && head[id] != "" {
			out = append(out, id)
		}
	}
	slices.SortFunc(out, compareIDs)
	return out
}

// Restore makes the state of a Sync from its spec and status, after a start. settings is their digest now. What was running
// has ended.
func Restore(y *v1alpha1.Sync, settings string) State {
	st := &y.Status
	s := State{
		Head: st.SeenCommit, Settings: settings, Applied: st.LastAppliedCommit, AppliedSettings: st.AppliedSettings,
		Dirty: st.Incomplete, Written: st.PartlyAppliedCommit,
		Rollback: y.Spec.Rollback.DeepCopy(), Released: st.ReleasedRollback.DeepCopy(), Failures: int(st.Failures),
	}
	s.Initial, s.Longest = y.Spec.Retry.Times()
	if st.Failures > 0 {
		s.Attempt, s.AttemptSettings, s.Stalled = st.LastAttemptedCommit, st.Settings, st.NextAttemptTime == nil
		if st.NextAttemptTime != nil {
			s.NotBefore = st.NextAttemptTime.Time
		}
	}
	return s
}

// Save writes a state into a status. It must be stored before Step.Apply is begun with: what was begun and not stored would
// pass for what was applied before.
func (s *State) Save(st *v1alpha1.SyncStatus) {
	st.SeenCommit, st.LastAppliedCommit, st.AppliedSettings = s.Head, s.Applied, s.AppliedSettings
	st.ReleasedRollback, st.Incomplete, st.PartlyAppliedCommit = s.Released.DeepCopy(), s.Dirty, s.Written
	switch {
	case s.Running != "":
		st.LastAttemptedCommit, st.Settings = s.Running, s.RunningSettings
	case s.Attempt != "":
		st.LastAttemptedCommit, st.Settings = s.Attempt, s.AttemptSettings
	}
	st.Failures, st.NextAttemptTime = int32(s.Failures), nil
	if s.Failures > 0 && !s.Stalled {
		at := metav1.NewTime(s.NotBefore)
		st.NextAttemptTime = &at
	}
}
