package gitops_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func inNamespace(ns, yaml string) string {
	return strings.Replace(yaml, "metadata: {", "metadata: {namespace: "+ns+", ", 1)
}

func (b *bed) namespace(suffix string) string {
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.ns + suffix}})
	return b.ns + suffix
}

func TestServiceAccountsMayWhatTheirRolesSay(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{ServiceAccount: "deployer", Suspend: true})
	theirs, others := b.namespace("-theirs"), b.namespace("-others")
	for _, ns := range []string{b.ns, theirs} {
		b.allow("deployer", ns, "", "configmaps", "get,create,patch,delete")
	}
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	good := b.push(map[string]string{"there.yaml": inNamespace(theirs, configMap("there", "1"))})
	b.applied(good)
	b.heard(" UpToDate ", good)
	m := &corev1.ConfigMap{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: theirs, Name: "there"}, m); err != nil {
		t.Error(err)
	}
	b.audit(good, "test@example.com", "system:serviceaccount:"+b.ns+":deployer", `"there"`)

	// What another tenant has is neither written nor told, whether it is there or not; and nothing else is written.
	b.create(&corev1.ConfigMap{ObjectMeta: meta(others, "hidden"), Data: map[string]string{"key": "nobody-shall-know"}})
	bad := b.push(map[string]string{"a.yaml": configMap("a", "2"), "hidden.yaml": inNamespace(others, configMap("hidden", "x")), "new.yaml": inNamespace(others, configMap("new", "x"))})
	y := b.reason("Refused", bad, "hidden.yaml:1: configmap/"+others+"/hidden", "forbidden")
	if says(ready(y).Message, "nobody-shall-know") {
		t.Errorf("the message tells what another tenant has: %s", ready(y).Message)
	}
	b.push(map[string]string{"hidden.yaml": ""})
	b.reason("Refused", "new.yaml:1: configmap/"+others+"/new", "forbidden")
	if b.value("a") != "1" || b.sync().Status.LastAppliedCommit != good {
		t.Errorf("a is %q", b.value("a"))
	}
	b.applied(b.push(map[string]string{"new.yaml": ""}))
	b.holds("a", "2")
}

func TestSourceOfAnotherNamespaceMustBeReadable(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{})
	b.applied(b.git("rev-parse", "HEAD"))
	other := &bed{t, b.namespace("-other"), b.dir}
	other.create(&v1alpha1.Sync{ObjectMeta: meta(other.ns, "shop"), Spec: v1alpha1.SyncSpec{SourceRef: v1alpha1.SourceReference{Namespace: b.ns, Name: "shop"}}})
	other.reason("SourceNotReady", "spec.sourceRef.namespace", "set spec.serviceAccount")
	other.account("deployer")
	other.want(func(y *v1alpha1.Sync) { y.Spec.ServiceAccount = "deployer" })
	other.reason("SourceNotReady", "gitsource "+b.ns+"/shop", "forbidden")
	other.allow("deployer", other.ns, "", "configmaps", "get,create,patch")
	other.allow("deployer", b.ns, "padis.io", "gitsources", "get")
	other.applied(b.git("rev-parse", "HEAD"))
	other.holds("a", "1")
	other.applied(b.push(map[string]string{"a.yaml": configMap("a", "2")}))
}

// Bindings stay when the service account that they name is removed: the Sync writes nothing all the same, until it is there again.
func TestWithoutItsServiceAccountASyncWritesNothing(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{ServiceAccount: "deployer"})
	b.reason("Refused", "spec.serviceAccount", b.ns+"/deployer", "create it")
	b.allow("deployer", b.ns, "", "configmaps", "get,create,patch")
	b.applied(b.git("rev-parse", "HEAD"))
	gone := &corev1.ServiceAccount{ObjectMeta: meta(b.ns, "deployer")}
	if err := api.Delete(context.Background(), gone); err != nil {
		t.Fatal(err)
	}
	b.reason("Refused", "spec.serviceAccount")
	next := b.push(map[string]string{"a.yaml": configMap("a", "2")})
	b.wait("fetched", func() string {
		s := &v1alpha1.GitSource{}
		if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop"}, s); err != nil || s.Status.Commit != next {
			return fmt.Sprint(s.Status, err)
		}
		return ""
	})
	b.hand("a", "by hand")
	b.account("deployer")
	b.applied(next)
	b.holds("a", "2")
}

// What the API server refuses is told in order, with what to do, and without the values.
func TestRefusalsSayWhatToDo(t *testing.T) {
	var bad string
	for i := range 11 {
		bad += fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d}\ndata: {a: 4711}\n", i)
	}
	b := newBed(t, map[string]string{"a.yaml": strings.Replace(app("web"), "spec:", "spec:\n  replicaz: 4711", 1), "b.yaml": bad}, v1alpha1.SyncSpec{ServiceAccount: "deployer"})
	b.allow("deployer", b.ns, "padis.io", "apps", "get,create,patch")
	b.allow("deployer", b.ns, "", "configmaps", "get,create,patch")
	m := ready(b.reason("Refused", "a.yaml:1: app/"+b.ns+"/web: spec.replicaz: there is no such field", "b.yaml:2: configmap/"+b.ns+"/c0: data.a: must be a text: put it in quotes")).Message
	if says(m, "4711") || strings.Index(m, "b.yaml:7:") > strings.Index(m, "b.yaml:12:") {
		t.Error(m)
	}
	b.push(map[string]string{"a.yaml": "apiVersion: padis.io/v1alpha1\nkind: Network\nmetadata: {name: x}\nspec: {}\n", "b.yaml": ""})
	m = ready(b.reason("Refused", "forbidden", "bind a Role that allows it to the service account")).Message
	if says(m, "tokens.csv") {
		t.Error(m)
	}
}

func TestWhatAnEarlierServiceAccountHasAppliedStays(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1"), "b.yaml": configMap("b", "1")}, v1alpha1.SyncSpec{ServiceAccount: "deployer", Prune: true, Suspend: true})
	theirs := b.namespace("-theirs")
	for _, ns := range []string{b.ns, theirs} {
		b.allow("deployer", ns, "", "configmaps", "get,list,create,patch,delete")
	}
	b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
	b.applied(b.push(map[string]string{"there.yaml": inNamespace(theirs, configMap("there", "1"))}))
	b.want(func(y *v1alpha1.Sync) { y.Spec.ServiceAccount = "" })
	b.applied(b.push(map[string]string{"there.yaml": "", "b.yaml": ""}))
	b.holds("b", "")
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: theirs, Name: "there"}, &corev1.ConfigMap{}); err != nil {
		t.Error("it was deleted by rights that the Sync has not: ", err)
	}
}

func TestDeletedSyncs(t *testing.T) {
	keep := strings.Replace(configMap("keep", "1"), "{name: keep}", "{name: keep, annotations: {padis.io/prune: disabled}}", 1)
	files := map[string]string{"a.yaml": configMap("a", "1"), "keep.yaml": keep}
	end := func(b *bed) {
		if err := api.Delete(context.Background(), b.sync()); err != nil {
			b.Fatal(err)
		}
	}
	gone := func(b *bed) {
		b.Helper()
		b.wait("gone", func() string {
			y := &v1alpha1.Sync{}
			if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop"}, y); client.IgnoreNotFound(err) == nil && err != nil {
				return ""
			}
			return ready(y).Message
		})
	}
	t.Run("with prune", func(t *testing.T) {
		b := newBed(t, files, v1alpha1.SyncSpec{Prune: true})
		b.applied(b.git("rev-parse", "HEAD"))
		end(b)
		gone(b)
		if b.value("a") != "" || b.value("keep") != "1" {
			t.Errorf("a is %q, keep %q", b.value("a"), b.value("keep"))
		}
		b.heard(" Pruned ", "1 object")
	})
	t.Run("without prune", func(t *testing.T) {
		b := newBed(t, files, v1alpha1.SyncSpec{})
		b.applied(b.git("rev-parse", "HEAD"))
		end(b)
		gone(b)
		if b.value("a") != "1" {
			t.Error("a is gone")
		}
	})
	t.Run("refused, then suspended", func(t *testing.T) {
		b := newBed(t, files, v1alpha1.SyncSpec{Prune: true, ServiceAccount: "deployer", Suspend: true})
		b.allow("deployer", b.ns, "", "configmaps", "get,create,patch")
		b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
		b.applied(b.git("rev-parse", "HEAD"))
		end(b)
		b.reason("Refused", "delete configmap/"+b.ns+"/a", "forbidden", "set spec.suspend")
		b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = true })
		gone(b)
		if b.value("a") != "1" {
			t.Error("a is gone")
		}
	})
	t.Run("with its namespace", func(t *testing.T) {
		b := newBed(t, files, v1alpha1.SyncSpec{Prune: true, ServiceAccount: "deployer", Suspend: true})
		b.allow("deployer", b.ns, "", "configmaps", "get,create,patch")
		b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = false })
		b.applied(b.git("rev-parse", "HEAD"))
		if err := api.Delete(context.Background(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.ns}}); err != nil {
			t.Fatal(err)
		}
		gone(b)
	})
}

func TestPruneLimitsCountWhatWasThere(t *testing.T) {
	files := map[string]string{}
	for _, n := range []string{"a", "b", "c", "d"} {
		files[n+".yaml"] = configMap(n, "1")
	}
	half := int32(50)
	b := newBed(t, files, v1alpha1.SyncSpec{Prune: true, PruneLimit: &v1alpha1.PruneLimit{Percent: &half}})
	first := b.git("rev-parse", "HEAD")
	b.applied(first)
	commit := b.push(map[string]string{"a.yaml": "", "b.yaml": "", "c.yaml": "", "e.yaml": configMap("e", "1"), "f.yaml": configMap("f", "1"), "g.yaml": configMap("g", "1")})
	refused := []string{"3 of 4 objects", "50 %", v1alpha1.AnnotationConfirmPrune + "=" + commit}
	b.reason("PruneLimit", refused...)
	b.holds("e", "1")
	// Looking again finds more objects than there were before, and asks all the same.
	for _, wrong := range []string{"yes", first} {
		b.want(func(y *v1alpha1.Sync) { y.Annotations = map[string]string{v1alpha1.AnnotationConfirmPrune: wrong} })
		b.hand("e", wrong)
		b.holds("e", "1")
		if y := b.reason("PruneLimit", refused...); y.Status.PendingPrune != 3 {
			t.Errorf("%d are pending", y.Status.PendingPrune)
		}
	}
	for _, n := range []string{"a", "b", "c"} {
		if b.value(n) != "1" {
			t.Fatalf("%s is gone", n)
		}
	}
	b.want(func(y *v1alpha1.Sync) { y.Annotations[v1alpha1.AnnotationConfirmPrune] = commit })
	b.applied(commit)
	for _, n := range []string{"a", "b", "c"} {
		b.holds(n, "")
	}
}

func TestSyncThatIsInItsRepository(t *testing.T) {
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Prune: true, HealthTimeout: &metav1.Duration{Duration: time.Second}})
	b.applied(b.push(map[string]string{"self.yaml": "apiVersion: padis.io/v1alpha1\nkind: Sync\nmetadata: {name: shop}\nspec: {sourceRef: {name: shop}, prune: true, healthTimeout: 1s}\n"}))
	b.applied(b.push(map[string]string{"self.yaml": ""}))
	if y := b.sync(); y.DeletionTimestamp != nil {
		t.Error("the Sync has deleted itself")
	}
}
