package gitops_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestSyncAppliesAndThenWritesNothing(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "${WHO}")}, v1alpha1.SyncSpec{Variables: []v1alpha1.SyncVariable{{Name: "WHO", Value: "me"}}})
	y := b.applied(b.git("rev-parse", "HEAD"))
	if y.Status.Objects != 2 || y.Status.Author != "Test <test@example.com>" {
		t.Errorf("status is %+v", y.Status)
	}
	before, err := b.config("b")
	if err != nil || before.Data["key"] != "me" {
		t.Fatalf("b is %v, %v", before.Data, err)
	}
	// A commit that changes nothing of what is declared.
	b.applied(b.push(map[string]string{"README.md": "hello"}))
	if after, err := b.config("b"); err != nil || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("b was written: %s, before %s (%v)", after.ResourceVersion, before.ResourceVersion, err)
	}
	b.applied(b.push(map[string]string{"a.yaml": configMap("a", "2")}))
	a, err := b.config("a")
	if err != nil || a.Data["key"] != "2" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
	if after, err := b.config("b"); err != nil || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("b was written with a: %s, before %s (%v)", after.ResourceVersion, before.ResourceVersion, err)
	}
}

func TestBrokenManifestAppliesNothing(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	good := b.applied(b.git("rev-parse", "HEAD")).Status.LastAppliedCommit
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "dir/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [\n"})
	y := b.until("broken", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "ManifestsBroken" })
	if m := ready(y).Message; !strings.Contains(m, "dir/bad.yaml:") || !strings.Contains(m, bad) || y.Status.LastAppliedCommit != good {
		t.Errorf("message is %q, applied %s", m, y.Status.LastAppliedCommit)
	}
	if a, err := b.config("a"); err != nil || a.Data["key"] != "1" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
	// An object that only the API server refuses, with others that it takes.
	b.push(map[string]string{"dir/bad.yaml": strings.Replace(configMap("Not_A_Name", "x"), "data:", "data:", 1)})
	y = b.until("refused", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "Refused" })
	if m := ready(y).Message; !strings.Contains(m, "dir/bad.yaml:1") {
		t.Errorf("message is %q", m)
	}
	if a, err := b.config("a"); err != nil || a.Data["key"] != "1" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
	b.applied(b.push(map[string]string{"dir/bad.yaml": ""}))
}

func TestPruneAndItsProtection(t *testing.T) {
	keep := strings.Replace(configMap("keep", "1"), "{name: keep}", "{name: keep, annotations: {padis.io/prune: disabled}}", 1)
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1"), "keep.yaml": keep}, v1alpha1.SyncSpec{Prune: true})
	b.applied(b.git("rev-parse", "HEAD"))
	b.applied(b.push(map[string]string{"b.yaml": "", "keep.yaml": ""}))
	if _, err := b.config("b"); !apierrors.IsNotFound(err) {
		t.Errorf("b is there: %v", err)
	}
	if _, err := b.config("keep"); err != nil {
		t.Errorf("keep is not: %v", err)
	}
	// Everything but what is protected is gone from the repository; a limit refuses.
	y := b.sync()
	zero := int32(0)
	y.Spec.PruneLimit = &v1alpha1.PruneLimit{Count: &zero}
	if err := api.Patch(context.Background(), y, client.MergeFrom(b.sync())); err != nil {
		t.Fatal(err)
	}
	commit := b.push(map[string]string{"a.yaml": "", "README.md": "empty"})
	b.until("refused", func(y *v1alpha1.Sync) bool {
		return y.Status.LastAppliedCommit == commit && ready(y).Reason == "PruneLimit" && y.Status.PendingPrune == 1
	})
	if _, err := b.config("a"); err != nil {
		t.Fatalf("a is gone: %v", err)
	}
	y = b.sync()
	was := y.DeepCopy()
	y.Annotations = map[string]string{v1alpha1.AnnotationConfirmPrune: commit}
	if err := api.Patch(context.Background(), y, client.MergeFrom(was)); err != nil {
		t.Fatal(err)
	}
	b.wait("pruned", func() string {
		if _, err := b.config("a"); apierrors.IsNotFound(err) {
			return ""
		}
		return "a is there"
	})
	b.applied(commit)
}

func TestDriftIsCorrected(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	a, err := b.config("a")
	if err != nil {
		t.Fatal(err)
	}
	a.Data["key"] = "other"
	start := time.Now()
	if err := api.Update(context.Background(), a, client.FieldOwner("hand")); err != nil {
		t.Fatal(err)
	}
	b.wait("put back", func() string {
		if a, err := b.config("a"); err != nil || a.Data["key"] != "1" {
			return fmt.Sprint(a.Data, err)
		}
		return ""
	})
	t.Logf("corrected after %s", time.Since(start))
	gone, err := b.config("b")
	if err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(context.Background(), gone); err != nil {
		t.Fatal(err)
	}
	b.wait("made again", func() string {
		if m, err := b.config("b"); err != nil || m.UID == gone.UID {
			return fmt.Sprint("b is not there: ", err)
		}
		return ""
	})
}

func TestConflictIsReportedAndNotStolen(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	b.create(&corev1.ConfigMap{TypeMeta: typeMeta("ConfigMap"), ObjectMeta: meta(b.ns, "theirs"), Data: map[string]string{"key": "theirs"}})
	theirs, err := b.config("theirs")
	if err != nil {
		t.Fatal(err)
	}
	b.push(map[string]string{"a.yaml": configMap("a", "2"), "theirs.yaml": configMap("theirs", "ours")})
	y := b.until("in conflict", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "Conflict" })
	if len(y.Status.Conflicts) != 1 || y.Status.Conflicts[0].Path != "data.key" || !strings.Contains(ready(y).Message, "theirs.yaml:1") {
		t.Errorf("conflicts are %+v, message %q", y.Status.Conflicts, ready(y).Message)
	}
	now, err := b.config("theirs")
	if err != nil || now.ResourceVersion != theirs.ResourceVersion {
		t.Errorf("theirs was written: %v %v", now, err)
	}
	if a, err := b.config("a"); err != nil || a.Data["key"] != "1" {
		t.Errorf("a was written, although not all could be: %v, %v", a.Data, err)
	}
}

func TestOtherNamespacesNeedAServiceAccount(t *testing.T) {
	b := newBed(t, map[string]string{
		"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n",
		"b.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: all}\nrules: []\n",
	}, v1alpha1.SyncSpec{})
	y := b.until("refused", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "ManifestsBroken" })
	if m := ready(y).Message; !strings.Contains(m, "a.yaml:1") || !strings.Contains(m, "b.yaml:1: role") || !strings.Contains(m, "spec.serviceAccount") {
		t.Errorf("message is %q", m)
	}
}

func TestUnsignedCommitIsNotRead(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	good := b.git("rev-parse", "HEAD")
	b.applied(good)
	s := b.vouch()
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2")})
	b.wait("refused", func() string {
		if err := api.Get(context.Background(), client.ObjectKeyFromObject(s), s); err != nil || s.Status.Refused != bad || s.Status.Commit != good {
			return fmt.Sprintf("%v %+v", err, s.Status)
		}
		return ""
	})
	if a, err := b.config("a"); err != nil || a.Data["key"] != "1" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
}

// A thousand Apps, from the commit's verification to the last one applied.
func TestThousandApps(t *testing.T) {
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("apps/%04d.yaml", i)] = fmt.Sprintf("apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: app-%04d}\nspec:\n  replicas: 1\n  template:\n    command: [sleep, \"1000\"]\n", i)
	}
	start := time.Now()
	b := newBed(t, files, v1alpha1.SyncSpec{})
	t.Logf("pushed and declared after %s", time.Since(start))
	start = time.Now()
	var list v1alpha1.AppList
	b.wait("applied", func() string {
		if err := api.List(context.Background(), &list, client.InNamespace(b.ns)); err != nil || len(list.Items) < 1000 {
			return fmt.Sprintf("%d apps, %v, %+v", len(list.Items), err, b.sync().Status.Conditions)
		}
		return ""
	})
	t.Logf("1000 apps after %s", time.Since(start))
	// Nobody runs them: they are waited for.
	b.until("waiting", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "WaitingForHealth" && y.Status.Objects == 1000 })
}
