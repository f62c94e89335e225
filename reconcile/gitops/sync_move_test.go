package gitops_test

import (
	"context"
	"slices"
	"testing"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pair is a bed with a second Sync, of the same source but another path. Both prune.
func pair(t *testing.T, files map[string]string, other v1alpha1.SyncSpec) *bed {
	t.Helper()
	b := newBed(t, files, v1alpha1.SyncSpec{Path: "a", Prune: true})
	b.second(other)
	return b
}

func (b *bed) second(spec v1alpha1.SyncSpec) {
	b.Helper()
	if spec.SourceRef.Name == "" {
		spec.SourceRef.Name = "shop"
	}
	spec.Path, spec.Prune = "b", true
	b.create(&v1alpha1.Sync{ObjectMeta: meta(b.ns, "other"), Spec: spec})
}

// untilOf waits for something of a Sync.
func (b *bed) untilOf(name, what string, f func(y *v1alpha1.Sync) bool) *v1alpha1.Sync {
	b.Helper()
	var y *v1alpha1.Sync
	b.wait(name+" "+what, func() string {
		if y = b.syncOf(name); f(y) {
			return ""
		}
		return ready(y).Message
	})
	return y
}

func (b *bed) appliedBy(name, commit string) {
	b.Helper()
	b.untilOf(name, "has applied "+commit, func(y *v1alpha1.Sync) bool {
		return y.Status.LastAppliedCommit == commit && ready(y).Status == metav1.ConditionTrue && ready(y).Reason == "UpToDate"
	})
}

// handingOver waits until a Sync says that it keeps something for another one; it is ready all the same.
func (b *bed) handingOver(name string, words ...string) {
	b.Helper()
	b.untilOf(name, "hands over", func(y *v1alpha1.Sync) bool {
		c := ready(y)
		return c.Status == metav1.ConditionTrue && c.Reason == "HandingOver" && says(c.Message, words...)
	})
}

// owned waits until a ConfigMap is of a Sync, and has not been deleted in between.
func (b *bed) owned(was *corev1.ConfigMap, sync string) {
	b.Helper()
	b.wait(was.Name+" is of "+sync, func() string {
		m, err := b.config(was.Name)
		if err != nil || m.UID != was.UID {
			b.Fatalf("%s was deleted: %v, %v", was.Name, err, m.UID)
		}
		if of := m.Annotations[v1alpha1.AnnotationSync]; of != b.ns+"/"+sync {
			return "it is of " + of
		}
		return ""
	})
}

func (b *bed) there(name string) *corev1.ConfigMap {
	b.Helper()
	m, err := b.config(name)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func (b *bed) lists(name, object string) bool {
	for _, g := range b.syncOf(name).Status.Inventory {
		if slices.Contains(g.List(), object) {
			return true
		}
	}
	return false
}

func TestAppThatMovesToAnotherSyncLives(t *testing.T) {
	b := pair(t, map[string]string{"a/web.yaml": app("web"), "a/stay.yaml": configMap("stay", "1"), "b/b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{})
	was := b.fares("web", true)
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	b.appliedBy("other", first)
	next := b.push(map[string]string{"a/web.yaml": "", "b/web.yaml": app("web")})
	b.applied(next)
	b.appliedBy("other", next)
	b.wait("forgotten", func() string {
		if b.lists("shop", "web") || !b.lists("other", "web") {
			return "it is in the wrong inventory"
		}
		return ""
	})
	now := b.fares("web", true)
	if now.UID != was.UID || now.Annotations[v1alpha1.AnnotationSync] != b.ns+"/other" {
		t.Errorf("uid was %s and is %s, of %s", was.UID, now.UID, now.Annotations[v1alpha1.AnnotationSync])
	}
	// And back, with another spec.
	back := b.push(map[string]string{"a/web.yaml": app("web") + "    env: [{name: A, value: \"1\"}]\n", "b/web.yaml": ""})
	b.wait("changed", func() string {
		if now = b.fares("web", true); len(now.Spec.Template.Env) == 0 {
			return "it is as it was"
		}
		return ""
	})
	// What was said of it may have been of the generation before.
	b.fares("web", true)
	b.applied(back)
	b.appliedBy("other", back)
	if now.UID != was.UID {
		t.Errorf("uid was %s and is %s", was.UID, now.UID)
	}
	// What nobody declares goes, as ever.
	b.push(map[string]string{"a/web.yaml": ""})
	b.wait("deleted", func() string {
		if err := api.Get(context.Background(), client.ObjectKeyFromObject(was), &v1alpha1.App{}); client.IgnoreNotFound(err) != nil || err == nil {
			return "it is there"
		}
		return ""
	})
}

func TestWhatIsMovedWaitsForASyncThatIsHeldUp(t *testing.T) {
	b := pair(t, map[string]string{"a/m.yaml": configMap("m", "1"), "a/gone.yaml": configMap("gone", "1"), "b/b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{})
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	b.appliedBy("other", first)
	was := b.there("m")

	// Suspended: what it does not declare goes, what it declares waits, and nobody who depends on the Sync does.
	b.wantOf("other", func(y *v1alpha1.Sync) {
		y.Spec.Suspend, y.Spec.DependsOn = true, []v1alpha1.SyncReference{{Name: "shop"}}
	})
	moved := b.push(map[string]string{"a/m.yaml": "", "a/gone.yaml": "", "a/stay.yaml": configMap("stay", "1"), "b/m.yaml": configMap("m", "2")})
	b.handingOver("shop", "configmap/"+b.ns+"/m", b.ns+"/other declares it", "`padis why sync/other -n "+b.ns+"`")
	b.heard(" HandingOver ", "configmap/"+b.ns+"/m")
	b.holds("gone", "")
	b.owned(was, "shop")
	if err := restart(); err != nil {
		t.Fatal(err)
	}
	b.handingOver("shop", "configmap/"+b.ns+"/m")
	b.wantOf("other", func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.owned(was, "other")
	b.holds("m", "2")
	b.appliedBy("other", moved)
	b.appliedBy("shop", moved)

	// Broken: nobody knows what it declares, so everything that it might waits.
	was = b.there("stay")
	b.push(map[string]string{"a/stay.yaml": "", "a/README.md": "empty", "b/b.yaml": "kind: ["})
	b.handingOver("shop", "configmap/"+b.ns+"/stay", b.ns+"/other of the same repository may declare it")
	b.owned(was, "shop")
	mended := b.push(map[string]string{"b/b.yaml": configMap("stay", "2")})
	b.owned(was, "other")
	b.appliedBy("shop", mended)
	b.appliedBy("other", mended)
}

func TestWhatIsDeclaredTwiceIsNotTakenBeforeItIsLetGo(t *testing.T) {
	b := pair(t, map[string]string{"a/m.yaml": configMap("m", "1"), "a/stay.yaml": configMap("stay", "1"), "b/b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Retry: never})
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	b.appliedBy("other", first)
	was := b.there("m")
	both := b.push(map[string]string{"b/m.yaml": configMap("m", "2")})
	b.untilOf("other", "is in conflict", func(y *v1alpha1.Sync) bool {
		return ready(y).Reason == "Conflict" && says(ready(y).Message, "b/m.yaml:1", "is of the Sync "+b.ns+"/shop, which declares it")
	})
	b.applied(both)
	b.owned(was, "shop")
	b.holds("m", "1")
	// It does not wait for the repetition once the other one has let go.
	let := b.push(map[string]string{"a/m.yaml": ""})
	b.owned(was, "other")
	b.holds("m", "2")
	b.appliedBy("shop", let)
	b.appliedBy("other", let)
}

// Two repositories, or two sources of one, are seen at different times.
func TestObjectsMoveBetweenSources(t *testing.T) {
	b := newBed(t, map[string]string{"a/m.yaml": configMap("m", "1"), "a/stay.yaml": configMap("stay", "1"), "b/b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Path: "a", Prune: true})
	twin := &v1alpha1.GitSource{ObjectMeta: meta(b.ns, "twin"), Spec: v1alpha1.GitSourceSpec{URL: "file://" + b.dir}}
	b.create(twin)
	b.second(v1alpha1.SyncSpec{SourceRef: v1alpha1.SourceReference{Name: "twin"}, Retry: never})
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	b.appliedBy("other", first)
	was := b.there("m")

	// The other source does not know of the commit yet.
	b.wait("suspended", func() string {
		if err := api.Patch(context.Background(), twin.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"suspend":true}}`))); err != nil {
			return err.Error()
		}
		return ""
	})
	moved := b.push(map[string]string{"a/m.yaml": "", "b/m.yaml": configMap("m", "2")})
	b.handingOver("shop", "configmap/"+b.ns+"/m", b.ns+"/other declares it")
	b.owned(was, "shop")
	b.wait("resumed", func() string {
		if err := api.Patch(context.Background(), twin.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"suspend":false}}`))); err != nil {
			return err.Error()
		}
		return ""
	})
	b.owned(was, "other")
	b.appliedBy("shop", moved)
	b.appliedBy("other", moved)

	// Another repository, which declares it before this one lets go.
	far := newBed(t, map[string]string{"m.yaml": inNamespace(b.ns, configMap("stay", "3"))}, v1alpha1.SyncSpec{Retry: never, ServiceAccount: "deployer", Prune: true})
	far.allow("deployer", b.ns, "", "configmaps", "get,create,patch,delete")
	far.reason("Conflict", "is of the Sync "+b.ns+"/shop, which declares it")
	was = b.there("stay")
	let := b.push(map[string]string{"a/stay.yaml": "", "a/README.md": "empty"})
	b.wait("taken over", func() string {
		m := b.there("stay")
		if m.UID != was.UID {
			t.Fatal("it was deleted")
		}
		if of := m.Annotations[v1alpha1.AnnotationSync]; of != far.ns+"/shop" {
			return "it is of " + of
		}
		return ""
	})
	b.appliedBy("shop", let)
	far.applied(far.git("rev-parse", "HEAD"))
}

func TestSyncThatMayNotWriteIsNotWaitedFor(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "m.yaml": configMap("m", "1")}, v1alpha1.SyncSpec{Prune: true})
	b.applied(b.git("rev-parse", "HEAD"))
	far := newBed(t, map[string]string{"m.yaml": inNamespace(b.ns, configMap("m", "3"))}, v1alpha1.SyncSpec{ServiceAccount: "deployer"})
	far.account("deployer")
	far.reason("Refused", "m.yaml:1", "forbidden")
	b.applied(b.push(map[string]string{"m.yaml": ""}))
	b.holds("m", "")
}

func TestWhatADeletedSyncHasGoesToWhoDeclaresIt(t *testing.T) {
	b := pair(t, map[string]string{"a/m.yaml": configMap("m", "1"), "a/gone.yaml": configMap("gone", "1"), "b/b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{Retry: never})
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	b.appliedBy("other", first)
	was := b.there("m")
	b.push(map[string]string{"b/m.yaml": configMap("m", "2")})
	b.untilOf("other", "is in conflict", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "Conflict" })
	if err := api.Delete(context.Background(), b.sync()); err != nil {
		t.Fatal(err)
	}
	b.owned(was, "other")
	b.holds("gone", "")
	b.heard(" Pruned ", "1 object stays", b.ns+"/other")
	// A Sync that is renamed, or given another namespace, is deleted and declared anew.
	b.create(&v1alpha1.Sync{ObjectMeta: meta(b.ns, "renamed"), Spec: v1alpha1.SyncSpec{SourceRef: v1alpha1.SourceReference{Name: "shop"}, Path: "b", Prune: true, Suspend: true}})
	if err := api.Delete(context.Background(), b.syncOf("other")); err != nil {
		t.Fatal(err)
	}
	b.wait("gone", func() string {
		if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "other"}, &v1alpha1.Sync{}); err == nil {
			return "the Sync is there"
		}
		return ""
	})
	b.wantOf("renamed", func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.owned(was, "renamed")
}
