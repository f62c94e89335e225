package gitops_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// change patches the spec of the Sync, and gives the generation that has it.
func (b *bed) change(f func(*v1alpha1.SyncSpec)) int64 {
	b.Helper()
	y := b.sync()
	was := y.DeepCopy()
	f(&y.Spec)
	if err := api.Patch(context.Background(), y, client.MergeFrom(was)); err != nil {
		b.Fatal(err)
	}
	return y.Generation
}

// goBack rolls the Sync back, and waits until the commit is in force.
func (b *bed) goBack(rollback *v1alpha1.SyncRollback) *v1alpha1.Sync {
	b.Helper()
	g := b.change(func(s *v1alpha1.SyncSpec) { s.Rollback = rollback })
	return b.until("rolled back to "+rollback.To, func(y *v1alpha1.Sync) bool {
		return y.Status.ObservedGeneration >= g && y.Status.LastAppliedCommit == rollback.To && ready(y).Reason == "RolledBack" && ready(y).Status == "True"
	})
}

// undo has ConfigMaps left as they are, and waits until the Sync knows.
func (b *bed) undo(from string, names ...string) {
	b.Helper()
	g := b.change(func(s *v1alpha1.SyncSpec) {
		s.Undo = nil
		for _, n := range names {
			s.Undo = append(s.Undo, v1alpha1.SyncUndo{Kind: "ConfigMap", Namespace: b.ns, Name: n, From: from})
		}
	})
	b.until("undone", func(y *v1alpha1.Sync) bool {
		return y.Status.ObservedGeneration >= g && len(y.Status.Undone) == len(names)
	})
}

// put writes a ConfigMap as padis rollback does.
func (b *bed) put(name string, data map[string]string) {
	b.Helper()
	m, err := b.config(name)
	if err != nil {
		b.Fatal(err)
	}
	m.Data = data
	if err := api.Update(context.Background(), m, client.FieldOwner(v1alpha1.UndoManager)); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) has(name string, want map[string]string) *corev1.ConfigMap {
	b.Helper()
	m, err := b.config(name)
	if err != nil || fmt.Sprint(m.Data) != fmt.Sprint(want) {
		b.Errorf("%s is %v, not %v (%v)", name, m.Data, want, err)
	}
	return m
}

func TestWhatWasUndoneStaysUntilACommitSaysSomethingElse(t *testing.T) {
	for _, drift := range []string{v1alpha1.DriftCorrect, v1alpha1.DriftReport} {
		t.Run(drift, func(t *testing.T) {
			t.Parallel()
			b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Prune: true, Drift: drift})
			b.applied(b.git("rev-parse", "HEAD"))
			bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "b.yaml": configMap("b", "2")})
			b.applied(bad)

			old := map[string]string{"key": "1", "more": "old"}
			b.undo(bad, "a")
			b.put("a", old)
			// What others change, and what commits say of other objects, is no reason to come back to it.
			b.put("b", map[string]string{"key": "x"})
			y := b.applied(b.push(map[string]string{"b.yaml": configMap("b", "3")}))
			b.has("a", old)
			b.has("b", map[string]string{"key": "3"})
			if m := ready(y).Message; !strings.Contains(m, "configmap/"+b.ns+"/a") || !strings.Contains(m, "spec.undo") || !slices.Equal(y.Status.Undone, []string{"configmap/" + b.ns + "/a"}) {
				t.Errorf("it is not said: %q, %v", m, y.Status.Undone)
			}
			if y.Status.Objects != 2 {
				t.Errorf("the inventory has %d objects", y.Status.Objects)
			}

			y = b.applied(b.push(map[string]string{"a.yaml": configMap("a", "4")}))
			m := b.has("a", map[string]string{"key": "4"})
			if len(y.Status.Undone)+len(y.Status.Drift)+len(y.Status.Conflicts) > 0 {
				t.Errorf("status is %+v", y.Status)
			}
			for _, f := range m.ManagedFields {
				if f.Manager == v1alpha1.UndoManager {
					t.Errorf("fields are still of %s: %s", f.Manager, f.FieldsV1)
				}
			}
			// What the bad commit says is not applied, from whichever commit it comes; and nothing is pruned that a commit does not say.
			b.applied(b.push(map[string]string{"a.yaml": configMap("a", "2")}))
			b.has("a", map[string]string{"key": "4"})
			b.applied(b.push(map[string]string{"a.yaml": ""}))
			if _, err := b.config("a"); !apierrors.IsNotFound(err) {
				t.Errorf("a has left the repository and is there: %v", err)
			}
		})
	}
}

func TestWithoutItsEntryAnUndoneObjectIsAppliedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	bad := b.git("rev-parse", "HEAD")
	b.applied(bad)
	b.undo(bad, "a")
	b.put("a", map[string]string{"key": "0", "more": "old"})
	b.undo(bad)
	b.wait("applied again", func() string {
		m, err := b.config("a")
		if err != nil || fmt.Sprint(m.Data) != "map[key:1]" {
			return fmt.Sprint(m.Data, err)
		}
		return ""
	})
}

func TestWhatABadCommitSaidCannotBeToldAnyMore(t *testing.T) {
	t.Parallel()
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Prune: true})
	b.applied(b.git("rev-parse", "HEAD"))
	gone := strings.Repeat("0123456789", 4)
	b.undo(gone, "a", "b")
	b.put("a", map[string]string{"key": "0"})
	b.applied(b.push(map[string]string{"a.yaml": configMap("a", "2"), "b.yaml": ""}))
	b.has("a", map[string]string{"key": "0"})
	y := b.sync()
	if m := ready(y).Message; !strings.Contains(m, "what commit "+gone+" says of it cannot be told") || !strings.Contains(m, "remove it from spec.undo") {
		t.Errorf("it is not said: %q", m)
	}
	if _, err := b.config("b"); err != nil || y.Status.Objects != 2 {
		t.Errorf("b is pruned, or forgotten: %v, %d objects", err, y.Status.Objects)
	}
}

func TestRollbackIsAtOnceAndLeadsNeverToWhatWasLeft(t *testing.T) {
	t.Parallel()
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{})
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	second := b.push(map[string]string{"a.yaml": configMap("a", "2")})
	b.applied(second)
	history := func(y *v1alpha1.Sync) string {
		var out []string
		for _, c := range y.Status.History {
			s := c.Commit
			if c.RolledBack {
				s += " back"
			}
			out = append(out, s)
		}
		return strings.Join(out, ", ")
	}
	y := b.goBack(&v1alpha1.SyncRollback{To: first, From: second})
	b.has("a", map[string]string{"key": "1"})
	if got, want := history(y), second+" back, "+first; got != want {
		t.Errorf("history is %s, not %s", got, want)
	}
	if y.Status.History[1].Author != "Test <test@example.com>" {
		t.Errorf("the author is lost: %+v", y.Status.History[1])
	}
	// What changes something else does not end it, but waits until it has ended; what changes the same does.
	other := b.push(map[string]string{"b.yaml": configMap("b", "2")})
	b.until("seen", func(y *v1alpha1.Sync) bool { return y.Status.SeenCommit == other && ready(y).Reason == "RolledBack" })
	b.has("b", map[string]string{"key": "1"})
	fix := b.push(map[string]string{"a.yaml": configMap("a", "3")})
	y = b.applied(fix)
	if got, want := history(y), fix+", "+second+" back, "+first; got != want {
		t.Errorf("history is %s, not %s", got, want)
	}

	// A commit that cannot be applied is left at once, while it is tried again; the next one that can be read ends it.
	bad := b.push(map[string]string{"b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [\n"})
	b.until("broken", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "ManifestsBroken" && y.Status.Incomplete })
	b.goBack(&v1alpha1.SyncRollback{To: fix, From: bad})
	good := b.push(map[string]string{"b.yaml": configMap("b", "4")})
	b.applied(good)
	b.has("b", map[string]string{"key": "4"})

	// So is one that the API server refuses.
	bad = b.push(map[string]string{"b.yaml": configMap("Not_A_Name", "1")})
	b.until("refused", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "Refused" && y.Status.Failures > 0 })
	b.goBack(&v1alpha1.SyncRollback{To: good, From: bad, Pinned: true})
	pushed := b.push(map[string]string{"b.yaml": configMap("b", "5")})
	b.until("pinned", func(y *v1alpha1.Sync) bool { return y.Status.SeenCommit == pushed && ready(y).Reason == "RolledBack" })
	b.has("b", map[string]string{"key": "4"})
	b.change(func(s *v1alpha1.SyncSpec) { s.Rollback = nil })
	b.applied(pushed)
}
