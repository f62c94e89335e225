package decide

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"padis.io/padis/api/v1alpha1"
)

var begin = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

// story tells events as lines and gives what came of them.
type story struct {
	s   State
	now time.Time
}

func (y *story) tell(line string) string {
	var e Event
	f := strings.Fields(line)
	switch f[0] {
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			panic(err)
		}
		y.now = y.now.Add(d)
	case "seen":
		e = Event{Kind: Seen, Commit: f[1], Ends: slices.Contains(f, "ends")}
	case "settings":
		e = Event{Kind: SettingsChanged, Settings: f[1]}
	case "rollback":
		e = Event{Kind: RollbackChanged}
		if f[1] != "none" {
			e.Rollback = &v1alpha1.SyncRollback{To: f[1], From: f[2], Pinned: slices.Contains(f, "pinned")}
		}
	case "close":
		e = Event{Kind: GateChanged, Gate: &Refusal{Reason: f[1], Message: "closed"}}
	case "open":
		e = Event{Kind: GateChanged}
	case "write":
		e = Event{Kind: Writing, Commit: f[1]}
	case "ok":
		e = Event{Kind: Succeeded, Commit: f[1]}
	case "broke":
		e = Event{Kind: Broke, Commit: f[1], Final: slices.Contains(f, "final")}
	}
	e.At = y.now
	var step Step
	y.s, step = Next(y.s, e)
	out := step.Reason
	if step.Apply != "" {
		out = "apply " + step.Apply
	}
	if step.Abandon != "" {
		out += " abandon " + step.Abandon
	}
	if step.After > 0 {
		out += " after " + step.After.String()
	}
	return out
}

func TestNext(t *testing.T) {
	for name, lines := range map[string][][2]string{
		"a first commit": {{"wait 0s", "NoCommit"}, {"seen a", "apply a"}, {"wait 1s", "Applying"}, {"ok a", "UpToDate"}, {"seen a", "UpToDate"}},
		"retries": {{"seen a", "apply a"}, {"broke a", "BackOff after 5s"}, {"wait 4s", "BackOff after 1s"}, {"wait 1s", "apply a"},
			{"broke a", "BackOff after 10s"}, {"wait 10s", "apply a"}, {"broke a", "BackOff after 20s"}, {"wait 20s", "apply a"},
			{"broke a", "BackOff after 30s"}, {"wait 30s", "apply a"}, {"broke a", "BackOff after 30s"}, {"wait 30s", "apply a"}, {"ok a", "UpToDate"}},
		"a clock that was ahead":               {{"seen a", "apply a"}, {"broke a", "BackOff after 5s"}, {"wait -1000h", "BackOff after 5s"}, {"wait 4s", "BackOff after 1s"}, {"wait 1s", "apply a"}},
		"a newer commit beats a failing retry": {{"seen a", "apply a"}, {"broke a", "BackOff after 5s"}, {"seen b", "apply b"}, {"broke b", "BackOff after 5s"}},
		"a newer commit ends an attempt":       {{"seen a", "apply a"}, {"seen b", "apply b abandon a"}, {"broke a", "Applying"}, {"ok a", "Applying"}, {"ok b", "UpToDate"}},
		"what cannot work is not repeated":     {{"seen a", "apply a"}, {"broke a final", "Stalled"}, {"wait 1h", "Stalled"}, {"seen a", "Stalled"}, {"seen b", "apply b"}},
		"settings are a new wish":              {{"seen a", "apply a"}, {"broke a final", "Stalled"}, {"settings x", "apply a"}, {"ok a", "UpToDate"}, {"settings y", "apply a"}, {"settings z", "apply a abandon a"}},
		"half of another commit is live":       {{"seen a", "apply a"}, {"ok a", "UpToDate"}, {"seen b", "apply b"}, {"seen a", "apply a abandon b"}, {"ok a", "UpToDate"}},
		"closed": {{"close Suspended", "NoCommit"}, {"seen a", "Suspended"}, {"open", "apply a"}, {"close OutsideWindow", "Applying"}, {"seen b", "OutsideWindow"},
			{"ok a", "OutsideWindow"}, {"open", "apply b"}, {"ok b", "UpToDate"}, {"close Suspended", "UpToDate"}},
		"a rollback": {{"seen a", "apply a"}, {"ok a", "UpToDate"}, {"seen bad", "apply bad"}, {"ok bad", "UpToDate"}, {"rollback a bad", "apply a"}, {"ok a", "RolledBack"},
			{"seen bad ends", "RolledBack"}, {"seen c", "RolledBack"}, {"seen d ends", "apply d"}, {"ok d", "UpToDate"}, {"seen e", "apply e"}, {"ok e", "UpToDate"},
			{"rollback a bad", "UpToDate"}, {"rollback none", "UpToDate"}, {"rollback a bad", "apply a"}},
		"a pinned rollback": {{"seen bad", "apply bad"}, {"rollback a bad pinned", "apply a abandon bad"}, {"ok a", "RolledBack"}, {"seen d ends", "RolledBack"},
			{"rollback none", "apply d"}},
	} {
		t.Run(name, func(t *testing.T) {
			y := &story{now: begin, s: State{Initial: 5 * time.Second, Longest: 30 * time.Second}}
			for i, l := range lines {
				if got := y.tell(l[0]); got != l[1] {
					t.Fatalf("line %d, %s: %s, want %s\n%+v", i, l[0], got, l[1], y.s)
				}
			}
		})
	}
}

func TestUnknownEventsAreRefused(t *testing.T) {
	defer func() {
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "EventKind(99)") {
			t.Errorf("said %v", r)
		}
	}()
	Next(State{}, Event{Kind: 99})
}

func someEvent(t *rapid.T, now time.Time) Event {
	commit := rapid.SampledFrom([]string{"a", "b", "c", "d"})
	e := Event{Kind: EventKind(rapid.IntRange(int(Tick), int(Broke)).Draw(t, "kind")), At: now}
	switch e.Kind {
	case Seen:
		e.Commit, e.Ends = commit.Draw(t, "commit"), rapid.Bool().Draw(t, "ends")
	case SettingsChanged:
		e.Settings = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "settings")
	case RollbackChanged:
		if rapid.Bool().Draw(t, "rollback") {
			e.Rollback = &v1alpha1.SyncRollback{To: commit.Draw(t, "to"), From: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "from"), Pinned: rapid.Bool().Draw(t, "pinned")}
		}
	case GateChanged:
		if rapid.Bool().Draw(t, "closed") {
			e.Gate = &Refusal{Reason: "Suspended"}
		}
	case Succeeded, Broke:
		e.Commit, e.Final = commit.Draw(t, "commit"), rapid.Bool().Draw(t, "final")
	}
	return e
}

// Whatever happens: what is begun is what shall be in force, a new wish never waits for a failed one, nothing is begun twice,
// and nothing behind a closed gate; a state survives a restart; and when all goes well from then on, the wish is in force.
func TestNextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := State{Initial: 5 * time.Second, Longest: time.Minute}
		now := begin
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			e := someEvent(t, now)
			before := s
			var step Step
			s, step = Next(s, e)
			if step.Apply != "" && (step.Apply != s.Target() || step.Apply != s.Running || s.Gate != nil || step.After != 0) {
				t.Fatalf("%s: %+v begun in %+v", e.Kind, step, s)
			}
			if step.Abandon != "" && step.Abandon != before.Running {
				t.Fatalf("%s: abandons %s, running was %s", e.Kind, step.Abandon, before.Running)
			}
			if late := e.Commit != before.Running; (e.Kind == Succeeded || e.Kind == Broke) && late && (s.Applied != before.Applied || s.Failures > before.Failures) {
				t.Fatalf("%s of %s was heard while %q was running", e.Kind, e.Commit, before.Running)
			}
			if e.Kind == Seen && !s.RolledBack() && s.Gate == nil && e.Commit != before.Head && e.Commit != before.Attempt && e.Commit != s.Applied && s.Running != e.Commit {
				t.Fatalf("the new commit %s waits: %+v", e.Commit, step)
			}
			if step.After < 0 || step.After > s.Longest {
				t.Fatalf("waits %s", step.After)
			}
			if _, again := Next(s, Event{Kind: Tick, At: now}); again.Apply != "" {
				t.Fatalf("begins with %s twice", again.Apply)
			}
			sync := &v1alpha1.Sync{}
			sync.Spec.Rollback = s.Rollback
			sync.Spec.Retry = v1alpha1.SyncRetry{Interval: &metav1.Duration{Duration: s.Initial}, Max: &metav1.Duration{Duration: s.Longest}}
			s.Save(&sync.Status)
			back, want := Restore(sync, s.Settings), s
			want.Running, want.RunningSettings, want.Gate = "", "", nil
			if !reflect.DeepEqual(back, want) {
				t.Fatalf("after a restart\n%+v\nwas\n%+v", back, want)
			}
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				gate := s.Gate
				s = back
				s.Gate = gate
			}
		}
		if s.Head == "" {
			return
		}
		s, step := Next(s, Event{Kind: GateChanged, At: now})
		for n := 0; step.Reason != ReasonUpToDate && step.Reason != ReasonRolledBack && step.Reason != ReasonStalled; n++ {
			if n > 5 {
				t.Fatalf("never ends: %+v", s)
			}
			if s.Running != "" {
				s, step = Next(s, Event{Kind: Succeeded, Commit: s.Running, At: now})
				continue
			}
			now = now.Add(step.After)
			s, step = Next(s, Event{Kind: Tick, At: now})
		}
		if step.Reason != ReasonStalled && (s.Applied != s.Target() || s.Dirty || s.AppliedSettings != s.Settings) {
			t.Fatalf("is content with %+v", s)
		}
	})
}

func TestWhatEndsARollback(t *testing.T) {
	app, db, cm, lb := ID{Kind: "App", Name: "app"}, ID{Kind: "App", Name: "db"}, ID{Kind: "ConfigMap", Name: "cm"}, ID{Kind: "LoadBalancer", Name: "lb"}
	to := map[ID]string{app: "1", db: "1", cm: "1"}
	// The bad commit changes app, adds lb and removes cm.
	from := map[ID]string{app: "2", db: "1", lb: "1"}
	for name, c := range map[string]struct {
		head map[ID]string
		want []ID
	}{
		"the bad commit itself":  {from, nil},
		"something else changes": {map[ID]string{app: "2", db: "9", lb: "1"}, nil},
		"what it had changed":    {map[ID]string{app: "3", db: "1", lb: "1"}, []ID{app}},
		"it is reverted":         {to, []ID{app, cm, lb}},
		"what it had added goes": {map[ID]string{app: "2", db: "1"}, []ID{lb}},
		"what it removed comes":  {map[ID]string{app: "2", db: "1", lb: "1", cm: "7"}, []ID{cm}},
	} {
		if got := Ends(to, from, c.head); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
