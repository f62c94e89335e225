package instance

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

var (
	now = time.UnixMilli(1_700_000_000_000)
	app = &padisv1.WantedApp{Uid: "11112222-3333-4444-8555-666677778888", Namespace: "shop", Name: "web", Tenant: "t"}
)

// in is a record in a phase, as its history would have left it.
func in(p padisv1.Phase) *padisv1.InstanceRecord {
	r := New(app, 3, 4, now)
	if p == padisv1.Phase_PENDING {
		return r
	}
	r.Phase = p
	r.Attempt = 5
	if HasTask(p) {
		r.TaskId, r.AgentId, r.Hostname, r.ExecutorId, r.Revision = TaskID(r), "a1", "host1", "e1", "r1"
		r.LaunchedMs = now.UnixMilli()
	}
	return r
}

// deeds are all transitions, by the word of the diagram.
var deeds = []struct {
	on string
	do func(*padisv1.InstanceRecord) (*padisv1.InstanceRecord, error)
}{
	{"refused", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Refuse(r, "X", "y") }},
	{"placed", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
		return Place(r, Placement{Revision: "r2", AgentID: "a2", Hostname: "host2", ExecutorID: "e2", Container: true}, now)
	}},
	{"starting", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Start(r, nil) }},
	{"running", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Run(r, nil, nil, now) }},
	{"stop", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Stop(r, true, "X", "y") }},
	{"lost", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Lose(r, "X", "y", now) }},
	{"reclaimed", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
		was := r
		if !slices.ContainsFunc(r.GetHauntedTasks(), func(id string) bool { return replaced(r, id) >= 0 }) {
			r = terminated(Haunt(clone(r), Ghost{"a0", "t0", "c0", 0}), &padisv1.Termination{TaskId: "t0", Hostname: "host0", Revision: "r0", Reason: padisv1.ReasonAgentUnreachable, StartedMs: 1})
		}
		i := slices.IndexFunc(r.GetHauntedTasks(), func(id string) bool { return replaced(r, id) >= 0 })
		n, err := Reclaim(r, r.GetHauntedTasks()[i], "e0", now)
		if err != nil {
			return was, err
		}
		return n, nil
	}},
	{"orphaned", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Orphan(r, "y", nil, now) }},
	{"adopted", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Adopt(r, "e3", now) }},
	{"prepulling", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Prepull(r, "X", "y") }},
	{"prepulling", Abandon},
	{"ended", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
		return End(r, Ending{}, true, nil, now)
	}},
	{"ended", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
		r = proto.Clone(r).(*padisv1.InstanceRecord)
		r.StopWanted = true
		return End(r, Ending{}, true, nil, now)
	}},
	{"ended", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) {
		return End(r, Ending{}, false, nil, now)
	}},
	{"waited", func(r *padisv1.InstanceRecord) (*padisv1.InstanceRecord, error) { return Wake(r, false) }},
	{"retired", Retire},
	{"wanted", Revive},
}

// Every deed in every phase either takes an arrow of the diagram or is refused and changes nothing; and every arrow is
// taken by some deed.
func TestTransitions(t *testing.T) {
	taken := map[Transition]bool{
		{padisv1.Phase_PHASE_UNSPECIFIED, padisv1.Phase_PENDING, "wanted"}:   New(app, 0, 0, now).GetPhase() == padisv1.Phase_PENDING,
		{padisv1.Phase_RETIRED, padisv1.Phase_PHASE_UNSPECIFIED, "released"}: Released(in(padisv1.Phase_RETIRED)),
	}
	for p := range padisv1.Phase_name {
		if p == 0 {
			continue
		}
		for _, d := range deeds {
			r := in(padisv1.Phase(p))
			before := proto.Clone(r)
			n, err := d.do(r)
			if !proto.Equal(before, r) {
				t.Errorf("%s in %s changed its argument", d.on, Name(r.GetPhase()))
			}
			var te *TransitionError
			switch {
			case errors.As(err, &te):
				if n != r && !proto.Equal(n, r) && !n.GetStopWanted() {
					t.Errorf("%s in %s was refused and returned another record", d.on, Name(r.GetPhase()))
				}
				if !strings.Contains(err.Error(), Name(r.GetPhase())) {
					t.Errorf("error does not name the phase: %v", err)
				}
			case err != nil:
				t.Errorf("%s in %s: %v", d.on, Name(r.GetPhase()), err)
			case proto.Equal(n, r):
				// Nothing new: an unreachable instance that is refused stays what it is.
			default:
				tr := Transition{r.GetPhase(), n.GetPhase(), d.on}
				if !arrows[tr] {
					t.Errorf("%s is not in the diagram", tr)
				}
				taken[tr] = true
			}
		}
	}
	for _, tr := range Transitions() {
		if !taken[tr] {
			t.Errorf("%s is in the diagram and nothing takes it", tr)
		}
	}
}

// docs/states.md draws exactly these arrows.
func TestDiagram(t *testing.T) {
	text, err := os.ReadFile("../../docs/states.md")
	if err != nil {
		t.Fatal(err)
	}
	name := func(p padisv1.Phase) string {
		if p == padisv1.Phase_PHASE_UNSPECIFIED {
			return "[*]"
		}
		return Name(p)
	}
	var want []string
	for _, tr := range Transitions() {
		want = append(want, fmt.Sprintf("%s --> %s: %s", name(tr.From), name(tr.To), tr.On))
	}
	// The first diagram of the file is that of instances.
	_, diagram, _ := strings.Cut(string(text), "```mermaid\n")
	diagram, _, _ = strings.Cut(diagram, "```")
	got := regexp.MustCompile(`(?m)^ +(\S+ --> \S+: \w+)$`).FindAllStringSubmatch(diagram, -1)
	if len(got) != len(want) {
		t.Errorf("the diagram has %d arrows, the code %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		if got[i][1] != want[i] {
			t.Errorf("arrow %d: the diagram says %q, the code %q", i, got[i][1], want[i])
		}
	}
	for p := range padisv1.Phase_name {
		if p != 0 && !strings.Contains(string(text), "\n| "+Name(padisv1.Phase(p))+" | ") {
			t.Errorf("phase %s is not in the table", Name(padisv1.Phase(p)))
		}
	}
}

// A random life: attempts only grow, no task id comes twice, a record without a task names none, and only a retired
// record without ghosts may be deleted.
func TestLives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := New(app, 1, 0, now)
		ids := map[string]bool{}
		for range rapid.IntRange(1, 60).Draw(t, "deeds") {
			d := deeds[rapid.IntRange(0, len(deeds)-1).Draw(t, "deed")]
			n, err := d.do(r)
			if err != nil {
				continue
			}
			if n.GetAttempt() < r.GetAttempt() {
				t.Fatalf("attempt went back from %d to %d", r.GetAttempt(), n.GetAttempt())
			}
			if n.GetTaskId() != r.GetTaskId() && n.GetTaskId() != "" {
				if ids[n.GetTaskId()] && d.on != "reclaimed" {
					t.Fatalf("task id %s came twice", n.GetTaskId())
				}
				ids[n.GetTaskId()] = true
			}
			if has := HasTask(n.GetPhase()); has != (n.GetTaskId() != "") || has != (n.GetAgentId() != "") {
				t.Fatalf("%s with task %q on agent %q", Name(n.GetPhase()), n.GetTaskId(), n.GetAgentId())
			}
			if n.GetReason() == "" || n.GetMessage() == "" {
				t.Fatalf("%s says no reason", Name(n.GetPhase()))
			}
			if len(n.GetHauntedAgents()) != len(n.GetHauntedTasks()) || len(n.GetHauntedContainers()) != len(n.GetHauntedTasks()) {
				t.Fatal("ghosts without an agent")
			}
			if len(n.GetTerminations()) > keptTerminations || len(n.GetTerminations()) > 0 && !proto.Equal(n.GetTerminations()[0], n.GetLastTermination()) {
				t.Fatal("more ends than are kept, or not the last one first")
			}
			if n.GetContainer() != "" && !HasTask(n.GetPhase()) || n.GetPrepulling() && n.GetPhase() != padisv1.Phase_RUNNING {
				t.Fatalf("%s with container %q, prepulling %v", Name(n.GetPhase()), n.GetContainer(), n.GetPrepulling())
			}
			if Released(n) && (n.GetPhase() != padisv1.Phase_RETIRED || Haunted(n)) {
				t.Fatal("released too early")
			}
			r = n
		}
	})
}
