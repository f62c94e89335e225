package why

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var update = flag.Bool("update", false, "write testdata")

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func before(d time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-d)} }

func app(replicas int32, conditions ...metav1.Condition) *v1alpha1.App {
	return &v1alpha1.App{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 3},
		Spec: v1alpha1.AppSpec{
			Replicas: &replicas,
			Networks: []v1alpha1.NetworkAttachment{{Pool: "shop"}},
		},
		Status: v1alpha1.AppStatus{ObservedGeneration: 3, Conditions: conditions},
	}
}

func condition(kind, status, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(status), Reason: reason, Message: message, LastTransitionTime: *before(150 * time.Second)}
}

func inst(slot int32, status runtime.InstanceStatus) runtime.Instance {
	status.App, status.Slot = "web", slot
	return runtime.Instance{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-" + strconv.Itoa(int(slot))},
		Status:     status,
	}
}

func ready(slot int32) runtime.Instance {
	return inst(slot, runtime.InstanceStatus{
		Phase: "Running", Ready: true, Host: "host-1", Agent: "a1", Addresses: []string{"10.44.0." + strconv.Itoa(int(slot)+2)},
		Reason: padisv1.ReasonReady, ReadyAt: before(time.Hour), StartedAt: before(time.Hour),
	})
}

func pool(free int64) v1alpha1.IPPool {
	return v1alpha1.IPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "shop"},
		Spec:       v1alpha1.IPPoolSpec{CIDR: "10.44.0.0/24", Network: "lan"},
		Status:     v1alpha1.IPPoolStatus{Allocated: 253 - free, Free: free, Conditions: []metav1.Condition{condition("Accepted", "True", "Accepted", "")}},
	}
}

func agents() []runtime.Agent {
	agent := func(id, host string, cpu int64, state string) runtime.Agent {
		return runtime.Agent{Status: runtime.AgentStatus{
			ID: id, Hostname: host, State: state, Attributes: map[string]string{"zone": "z1", "rack": "r" + id},
			Total: runtime.Amounts{CPUMilli: 4000, MemoryMiB: 4096, DiskMiB: 10240}, Used: runtime.Amounts{CPUMilli: cpu, MemoryMiB: 96},
		}}
	}
	return []runtime.Agent{agent("a2", "host-2", 0, "Unreachable"), agent("a1", "host-1", 3750, "Active")}
}

func scenarios() map[string]string {
	manyPending := Snapshot{Now: now, App: app(16), Pools: []v1alpha1.IPPool{pool(0)}}
	for i := range int32(14) {
		manyPending.Instances = append(manyPending.Instances, inst(13-i, runtime.InstanceStatus{
			Phase: "Pending", Reason: padisv1.ReasonPoolExhausted, Message: "pool shop has no free address",
		}))
	}
	allReady := Snapshot{Now: now, App: app(12, condition("Available", "True", "AllReady", "12 of 12 instances are ready")), Pools: []v1alpha1.IPPool{pool(241)}, Agents: agents()}
	for i := range int32(12) {
		allReady.Instances = append(allReady.Instances, ready(i))
	}
	mixed := Snapshot{
		Now:   now,
		App:   app(5, condition("Available", "False", "InstancesNotReady", "1 of 5 instances are ready"), condition("Progressing", "True", padisv1.ReasonStarting, "")),
		Pools: []v1alpha1.IPPool{pool(250)}, Agents: agents(),
		Instances: []runtime.Instance{
			ready(0),
			inst(1, runtime.InstanceStatus{
				Phase: "Pending", Reason: padisv1.ReasonNoOffers, Message: "no agent fits", Addresses: []string{"10.44.0.3"},
				Refusals: map[string]int32{padisv1.ReasonInsufficientCPU: 2, padisv1.ReasonConstraintUnique: 1, padisv1.ReasonAgentUnavailable: 1},
			}),
			inst(2, runtime.InstanceStatus{
				Phase: "BackOff", Reason: padisv1.ReasonBackOff, Message: "restarts 4 s after the last failure", Restarts: 3, NotBefore: &metav1.Time{Time: now.Add(2500 * time.Millisecond)},
				Addresses: []string{"10.44.0.4"},
				LastTermination: &runtime.Termination{
					Host: "host-1", ExitCode: 127, Reason: padisv1.ReasonCommandNotFound, Message: "no program /bin/wbe", FinishedAt: before(1500 * time.Millisecond),
				},
			}),
			inst(3, runtime.InstanceStatus{
				Phase: "Running", Host: "host-1", Agent: "a1", Addresses: []string{"10.44.0.5"}, Reason: padisv1.ReasonUnhealthy, Message: "http :8080/: status 500",
				LastTermination: &runtime.Termination{Host: "host-2", Signal: "SIGKILL", ExitCode: 137, FinishedAt: before(3 * time.Hour)},
			}),
			inst(4, runtime.InstanceStatus{Phase: "Unreachable", Host: "host-2", Agent: "a2", Addresses: []string{"10.44.0.6"}, Reason: padisv1.ReasonAgentUnreachable}),
		},
		Events: []Event{
			{Object: "Instance/web-2", Type: "Warning", Reason: padisv1.ReasonCommandNotFound, Message: "no program /bin/wbe", Count: 4, Last: now.Add(-time.Second)},
			{Object: "App/web", Type: "Normal", Reason: "Scaled", Message: "from 1 to 5", Count: 1, Last: now.Add(-72 * time.Hour)},
		},
	}
	containers := Snapshot{
		Now: now, App: app(4, condition("Progressing", "True", padisv1.ReasonImageNotFound, "1 of 4 instances at revision b2")), Agents: agents(),
		Instances: []runtime.Instance{ready(0), ready(1), ready(2), ready(3)},
	}
	moving := containers.Instances
	moving[1].Status.Phase, moving[1].Status.Reason, moving[1].Status.Message = "Adopting", padisv1.ReasonAdopting, "the next executor on host-1 takes its container over"
	moving[1].Status.Container = "shop.web-1.u.3"
	moving[2].Status.Reason, moving[2].Status.Message = padisv1.ReasonPrepulling, "Prepulling shop:2: 10 of 40 MiB"
	moving[3].Status.Reason, moving[3].Status.Message = padisv1.ReasonImageNotFound, "registry.example.com has no shop:3"
	killed := inst(4, runtime.InstanceStatus{
		Phase: "BackOff", Reason: padisv1.ReasonBackOff, Message: "restarts 4 s after the last failure", Restarts: 2, NotBefore: &metav1.Time{Time: now.Add(time.Second)},
		Container: "shop.web-4.u.9", ImageDigest: "sha256:0123",
		Terminations: []runtime.Termination{
			{Host: "host-1", ExitCode: 137, Signal: "SIGKILL", Reason: padisv1.ReasonOOMKilled, OOMKilled: true, FinishedAt: before(3 * time.Second)},
			{Host: "host-2", ExitCode: 1, Reason: padisv1.ReasonExited, Message: "exited with code 1", FinishedAt: before(time.Hour)},
		},
	})
	killed.Status.LastTermination = &killed.Status.Terminations[0]
	strange := Snapshot{Now: now, App: app(2), Pools: nil}
	strange.App.Generation = 4
	strange.App.DeletionTimestamp = before(time.Minute)
	nothing := Snapshot{Now: now, App: app(3), Pools: []v1alpha1.IPPool{pool(253)}}
	nothing.Pools[0].Status.Conditions[0] = condition("Accepted", "False", "Overlap", "overlaps pool other")
	orphan := mixed
	orphan.App = nil
	return map[string]string{
		"many-pending":     App(manyPending).String(),
		"all-ready":        App(allReady).String(),
		"mixed":            App(mixed).String(),
		"deleted":          App(strange).String(),
		"nothing-yet":      App(nothing).String(),
		"instance-ready":   Instance(mixed, mixed.Instances[0]).String(),
		"instance-pending": Instance(mixed, mixed.Instances[1]).String(),
		"instance-backoff": Instance(mixed, mixed.Instances[2]).String(),
		"instance-orphan":  Instance(orphan, mixed.Instances[4]).String(),

		"instance-director": Instance(Snapshot{Now: now, DirectorOf: "web", Instances: []runtime.Instance{ready(0)}}, ready(0)).String(),

		"balance-fine":    LoadBalancer(balanced()).String(),
		"balance-unknown": LoadBalancer(BalanceSnapshot{Now: now, LoadBalancer: balanced().LoadBalancer}).String(),
		"balance-trouble": LoadBalancer(troubled()).String(),

		"sync-fine":        Sync(gitFine(), "shop/web").String(),
		"sync-chain":       Sync(gitTrouble(), "shop/web").String(),
		"sync-fields":      Sync(gitFields(), "shop/web").String(),
		"gitsource-users":  GitSource(gitFields(), "shop/repo").String(),
		"gitsource-unsure": GitSource(gitTrouble(), "shop/repo").String(),

		"containers":          App(containers).String(),
		"instance-adopting":   Instance(containers, moving[1]).String(),
		"instance-prepulling": Instance(containers, moving[2]).String(),
		"instance-oom-killed": Instance(containers, killed).String(),
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, got := range scenarios() {
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Each reason has a remedy, or is known to be one where only time helps.
func TestEveryReasonIsConsidered(t *testing.T) {
	t.Parallel()
	patience := []string{
		padisv1.ReasonAwaitingRelease, padisv1.ReasonPlaced, padisv1.ReasonStarting, padisv1.ReasonRunning, padisv1.ReasonReady, padisv1.ReasonKilled,
		padisv1.ReasonBackOff, padisv1.ReasonStopping, padisv1.ReasonUpdating, padisv1.ReasonScaledIn, padisv1.ReasonAgentGone, padisv1.ReasonTaskLost,
		padisv1.ReasonAccepted, padisv1.ReasonComplete, padisv1.ReasonScaledOut, padisv1.ReasonScaledToZero, padisv1.ReasonUpdated,
		padisv1.ReasonReaddressing, padisv1.ReasonPlacementChanged, padisv1.ReasonContainerGone,
		padisv1.ReasonAnnounced, padisv1.ReasonAwaitingVIP, padisv1.ReasonJoining, padisv1.ReasonDraining,
	}
	for _, reason := range reasons(t) {
		if has, waits := Remedy(reason) != "", slices.Contains(patience, reason); has == waits {
			t.Errorf("reason %s: remedy %q, listed as one that needs none: %v", reason, Remedy(reason), waits)
		}
	}
	if Remedy("Nonsense") != "" {
		t.Error("an unknown reason has a remedy")
	}
}

// reasons reads the constants from their source: there is no list of them at run time.
func reasons(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../proto/padis/v1/reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for _, v := range spec.Values {
				if lit, ok := v.(*ast.BasicLit); ok {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, text)
				}
			}
		}
		return true
	})
	if len(out) < 40 {
		t.Fatalf("only %d reasons found", len(out))
	}
	return out
}

// Whatever the snapshot holds, the answer comes, names each instance that is not ready or counts it, is the same for
// the same snapshot, and has one line per node.
func TestAnySnapshot(t *testing.T) {
	t.Parallel()
	status := rapid.Custom(func(t *rapid.T) runtime.InstanceStatus {
		st := runtime.InstanceStatus{
			Phase:  rapid.SampledFrom([]string{"", "Pending", "BackOff", "Staging", "Starting", "Running", "Stopping", "Unreachable", "Adopting", "Retired", "New"}).Draw(t, "phase"),
			Ready:  rapid.Bool().Draw(t, "ready"),
			Reason: rapid.SampledFrom([]string{"", padisv1.ReasonNoOffers, padisv1.ReasonBackOff, "New"}).Draw(t, "reason"),
		}
		if rapid.Bool().Draw(t, "refused") {
			st.Refusals = rapid.MapOf(rapid.SampledFrom([]string{padisv1.ReasonInsufficientCPU, "New", ""}), rapid.Int32()).Draw(t, "refusals")
		}
		if rapid.Bool().Draw(t, "terminated") {
			st.LastTermination = &runtime.Termination{Reason: rapid.SampledFrom([]string{"", padisv1.ReasonExited}).Draw(t, "termination")}
		}
		if rapid.Bool().Draw(t, "delayed") {
			st.NotBefore = before(time.Duration(rapid.Int64().Draw(t, "delay")))
		}
		return st
	})
	rapid.Check(t, func(t *rapid.T) {
		s := Snapshot{Now: now, App: app(rapid.Int32().Draw(t, "replicas")), Agents: agents()}
		for i, st := range rapid.SliceOfN(status, 0, 30).Draw(t, "instances") {
			s.Instances = append(s.Instances, inst(int32(i), st))
		}
		root := App(s)
		text := root.String()
		if text != App(s).String() {
			t.Fatal("two answers to one question")
		}
		if got := strings.Count(text, "\n"); got != count(root) {
			t.Fatalf("%d lines for %d nodes", got, count(root))
		}
		named, names := 0, map[string]bool{}
		for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ':' || r == '\n' }) {
			names[word] = true
		}
		for _, i := range s.Instances {
			if !i.Status.Ready && names[i.Name] {
				named++
			}
			Instance(s, i)
		}
		if missing := len(s.Instances) - readyCount(s.Instances) - named; missing > 0 && !strings.Contains(text, " more") {
			t.Fatalf("%d instances that are not ready are not mentioned:\n%s", missing, text)
		}
	})
}

func count(n Node) int {
	total := 1
	for _, c := range n.Children {
		total += count(c)
	}
	return total
}

func TestPaint(t *testing.T) {
	t.Parallel()
	n := Node{Text: "a", Children: []Node{{Text: "b", Tone: Bad}}}
	got := n.Render(func(tone Tone, text string) string { return strconv.Itoa(int(tone)) + text })
	if got != "0a\n└─ 3b\n" {
		t.Errorf("got %q", got)
	}
}

// Addresses that rest or that others use are said, and do not make a pool that works look as if it did not.
func TestWhatThereIsToSayOfNetworks(t *testing.T) {
	p := pool(5)
	p.Status.Cooling = 3
	p.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionForeignAddresses, "True", padisv1.ReasonForeignAddresses, "1 address is used by others: 10.44.0.9")}
	a := app(1)
	a.Spec.Networks = append(a.Spec.Networks, v1alpha1.NetworkAttachment{Network: "metal"})
	node := App(Snapshot{Now: now, App: a, Instances: []runtime.Instance{ready(0)}, Pools: []v1alpha1.IPPool{p}})
	text := node.Render(func(_ Tone, s string) string { return s })
	for _, want := range []string{"5 free, 3 rest before they are given to others", "1 address is used by others: 10.44.0.9", "network metal: that of the host"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "does not exist") || strings.Contains(text, "(ForeignAddresses)") {
		t.Error(text)
	}
}
