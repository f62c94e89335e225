package main

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/v1alpha1"
)

// hash is a commit that begins with what is given.
func hash(begin string) string { return begin + strings.Repeat("0", 40-len(begin)) }

// syncWith is a Sync that has applied commits, the newest first; an asterisk marks what is rolled back.
func syncWith(history ...string) *v1alpha1.Sync {
	y := &v1alpha1.Sync{ObjectMeta: metav1.ObjectMeta{Namespace: "ops", Name: "shop"}}
	for _, c := range history {
		begin, back := strings.CutSuffix(c, "*")
		y.Status.History = append(y.Status.History, v1alpha1.AppliedCommit{Commit: hash(begin), RolledBack: back})
		if !back && y.Status.LastAppliedCommit == "" {
			y.Status.LastAppliedCommit = hash(begin)
			y.Status.LastAttemptedCommit = hash(begin)
		}
	}
	return y
}

func TestChooseRollback(t *testing.T) {
	failing := func(commit string, history ...string) *v1alpha1.Sync {
		y := syncWith(history...)
		y.Status.LastAttemptedCommit, y.Status.Incomplete = hash(commit), true
		return y
	}
	back := func(to, from string, y *v1alpha1.Sync) *v1alpha1.Sync {
		y.Spec.Rollback = &v1alpha1.SyncRollback{To: hash(to), From: hash(from)}
		return y
	}
	released := func(y *v1alpha1.Sync) *v1alpha1.Sync {
		y.Status.ReleasedRollback = &v1alpha1.ReleasedRollback{To: y.Spec.Rollback.To, From: y.Spec.Rollback.From, By: hash("d")}
		return y
	}
	for _, c := range []struct {
		name string
		y    *v1alpha1.Sync
		to   string
		pin  bool
		want string
	}{
		{"the one before", syncWith("c", "b", "a"), "", false, "c -> b"},
		{"what fails is left for what was applied", failing("c", "b", "a"), "", false, "c -> b"},
		{"once more, from the same bad one", back("b", "c", syncWith("c*", "b", "a")), "", false, "c -> a"},
		{"not to what was rolled back before", released(back("b", "c", syncWith("d", "c*", "b", "a"))), "", false, "d -> b"},
		{"nothing before", syncWith("a"), "", false, "no commit is known that was applied before"},
		{"nothing at all", syncWith(), "", false, "has applied nothing yet"},
		{"the beginning of a hash", syncWith("c", "b1", "b2", "a"), "b2", false, "c -> b2"},
		{"in capitals", syncWith("c", "b1", "b2", "a"), "B2", false, "c -> b2"},
		{"too short", syncWith("c", "b1", "b2", "a"), "b", false, "more than one commit"},
		{"unknown", syncWith("c", "b"), "f", false, "no applied commit begins so"},
		{"a whole hash", syncWith("c", "b"), hash("f"), false, "c -> f"},
		{"in force", syncWith("c", "b"), "c", false, "is in force"},
		{"in force, and to stay", syncWith("c", "b"), "c", true, " -> c pinned"},
		{"the one before, to stay", syncWith("c", "b"), "", true, "c -> b pinned"},
		{"rolled back, and now to stay", back("b", "c", syncWith("c*", "b", "a")), "b", true, "c -> b pinned"},
		{"forward to the bad one", back("b", "c", syncWith("c*", "b", "a")), "c", false, "--resume"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := chooseRollback(c.y, c.to, c.pin)
			got := ""
			if err != nil {
				got = err.Error()
				if len(c.y.Status.History) > 0 && strings.Contains(got, "--to") && !strings.Contains(got, c.y.Status.LastAppliedCommit+"  ") {
					t.Errorf("the applied commits are not listed: %s", got)
				}
			} else {
				got = strings.TrimRight(r.From, "0") + " -> " + strings.TrimRight(r.To, "0")
				if r.Pinned {
					got += " pinned"
				}
			}
			if err == nil && got != c.want || !strings.Contains(got, c.want) {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestUndoWith(t *testing.T) {
	entry := func(name, from string) v1alpha1.SyncUndo {
		return v1alpha1.SyncUndo{Group: "padis.io", Kind: "App", Namespace: "shop", Name: name, From: hash(from)}
	}
	y := syncWith("c", "b")
	y.Spec.Undo = []v1alpha1.SyncUndo{entry("web", "b"), entry("db", "b")}
	if got, want := fmt.Sprint(undoWith(y, "shop", "web")), fmt.Sprint([]v1alpha1.SyncUndo{entry("db", "b"), entry("web", "c")}); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	y.Status.LastAppliedCommit = hash("b")
	if got, want := fmt.Sprint(undoWith(y, "shop", "web")), fmt.Sprint(y.Spec.Undo); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// What has ended goes when there are too many.
	for i := range maxUndo {
		y.Spec.Undo = append(y.Spec.Undo, entry(fmt.Sprint("app", i), "a"))
	}
	y.Status.Undone = []string{"app/shop/app3"}
	if got := undoWith(y, "shop", "new"); len(got) != 2 || got[0].Name != "app3" || got[1].Name != "new" {
		t.Errorf("got %+v", got)
	}
}

const rollbackSyncManifest = `
apiVersion: padis.io/v1alpha1
kind: Sync
metadata: {name: back}
spec: {sourceRef: {name: back}}
`

func TestRollbackSync(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, rollbackSyncManifest)).expect(t, exitOK)
	t.Cleanup(func() { padis("delete", "sync", "back") })
	padis("rollback", "sync", "nobody").expect(t, exitError, "not found")
	padis("rollback", "sync", "back").expect(t, exitError, "has applied nothing yet")
	a, b, c := hash("a"), hash("b"), hash("c")
	padis("patch", "sync", "back", "--subresource=status", "--type=merge", "-p", fmt.Sprintf(
		`{"status":{"observedGeneration":100,"seenCommit":%[1]q,"lastAttemptedCommit":%[1]q,"lastAppliedCommit":%[1]q,"history":[{"commit":%[1]q,"time":"2026-01-03T00:00:00Z","author":"Zoe"},{"commit":%[2]q,"time":"2026-01-02T00:00:00Z"},{"commit":%[3]q,"time":"2026-01-01T00:00:00Z"}]}}`, c, b, a)).expect(t, exitOK)
	padis("rollback", "sync", "back", "--to", "f").expect(t, exitUsage, "no applied commit begins so", c+"  2026-01-03T00:00:00Z  Zoe  (in force)")
	padis("rollback", "sync", "back", "--resume").expect(t, exitOK, "follows its source")
	padis("rollback", "sync", "back").expect(t, exitOK, "goes back from commit "+c+" to "+b, "padis rollback sync back -n default --resume")
	rollback := func(want string) {
		t.Helper()
		padis("get", "sync", "back", "-o", "jsonpath={.spec.rollback}").expect(t, exitOK, want)
	}
	rollback(fmt.Sprintf(`{"from":%q,"to":%q}`, c, b))
	padis("rollback", "sync", "back", "--to", "a", "--pin").expect(t, exitOK, "whatever is pushed")
	rollback(fmt.Sprintf(`{"from":%q,"pinned":true,"to":%q}`, c, a))
	padis("rollback", "sync", "back", "--to", "a", "--wait", "--timeout", "1s").expect(t, exitError, "not done after")
	rollback(fmt.Sprintf(`{"from":%q,"to":%q}`, c, a))
	padis("rollback", "sync", "back", "--resume", "--wait").expect(t, exitOK, "follows its source, which is at commit "+c)
	if out := padis("get", "sync", "back", "-o", "jsonpath={.spec.rollback}").out; out != "" {
		t.Errorf("the rollback is still there: %s", out)
	}
}

const rollbackAppManifest = `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: undone}
spec:
  replicas: 2
  template: {command: [sleep, "%s"]}
`

func TestRollbackApp(t *testing.T) {
	useAPI(t)
	apply := func(command string) {
		padis("apply", "-f", manifest(t, fmt.Sprintf(rollbackAppManifest, command))).expect(t, exitOK)
	}
	command := func(want string) {
		t.Helper()
		padis("get", "app", "undone", "-o", "jsonpath={.spec.template.command[1]} {.spec.replicas}").expect(t, exitOK, want)
	}
	t.Cleanup(func() { padis("delete", "app", "undone"); padis("delete", "sync", "back") })
	apply("1")
	padis("rollback", "app", "undone").expect(t, exitError, "it was not changed")
	apply("2")
	apply("3")
	padis("scale", "app/undone", "--replicas", "5").expect(t, exitOK)
	padis("rollback", "app", "undone", "--list").expect(t, exitOK, "GENERATION", "\n2 ", "\n1 ", "padis-admin")
	padis("rollback", "app", "undone", "--to", "9").expect(t, exitUsage, "the generations 2, 1 are known")
	padis("rollback", "app", "undone").expect(t, exitOK, "as it was in generation 2", "padis-admin", `~ spec.template.command[1]: "3" -> "2"`)
	command("2 5")
	padis("rollback", "app", "undone").expect(t, exitOK, `"2" -> "3"`)
	command("3 5")
	padis("rollback", "app", "undone", "--to", "1").expect(t, exitOK, `"3" -> "1"`)
	command("1 5")
	padis("rollback", "app", "undone", "--to", "1").expect(t, exitOK, "nothing is changed")

	// One that a Sync applies: that is told first.
	padis("annotate", "app", "undone", "padis.io/sync=default/back").expect(t, exitOK)
	padis("rollback", "app", "undone").expect(t, exitOK, `"1" -> "3"`) // there is no such Sync
	padis("apply", "-f", manifest(t, rollbackSyncManifest)).expect(t, exitOK)
	padis("patch", "sync", "back", "--subresource=status", "--type=merge", "-p", fmt.Sprintf(`{"status":{"observedGeneration":1,"lastAppliedCommit":%q}}`, hash("b"))).expect(t, exitOK)
	padis("rollback", "app", "undone", "--timeout", "1s").expect(t, exitError, "sync default/back does not leave the App alone yet")
	command("3 5")
	padis("patch", "sync", "back", "--subresource=status", "--type=merge", "-p", `{"status":{"observedGeneration":2}}`).expect(t, exitOK)
	padis("rollback", "app", "undone").expect(t, exitOK, `"3" -> "1"`, "sync default/back leaves it as it is")
	command("1 5")
	padis("get", "sync", "back", "-o", "jsonpath={.spec.undo}").expect(t, exitOK, `"from":"`+hash("b")+`"`, `"kind":"App"`, `"namespace":"default"`, `"name":"undone"`)
	padis("explain", "sync.spec.undo").expect(t, exitOK, "padis rollback app")
	padis("explain", "apprevision.spec").expect(t, exitOK, "replacedBy")
}
