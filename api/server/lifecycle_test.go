package server

import (
	"context"
	"strings"
	"testing"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"padis.io/padis/api/runtime"
)

func clients(t *testing.T, s *instance) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(s.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func namedInstance(namespace, name string) *runtime.Instance {
	return &runtime.Instance{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Status: runtime.InstanceStatus{App: "web", Phase: "Running"}}
}

func TestNamespaceIsEmptiedAndGone(t *testing.T) {
	c := clients(t, shared)
	kc(t, "", "create", "namespace", "doomed")
	kc(t, strings.NewReplacer("default", "doomed").Replace(appYAML), "apply", "-f", "-")
	kc(t, "", "create", "configmap", "settings", "-n", "doomed")
	kc(t, "", "patch", "configmap", "settings", "-n", "doomed", "-p", `{"metadata":{"finalizers":["example.org/hold"]}}`)
	kc(t, "", "delete", "namespace", "doomed", "--wait=false")
	eventually(t, "the namespace says what is left", func() (bool, error) {
		ns, err := c.CoreV1().Namespaces().Get(t.Context(), "doomed", metav1.GetOptions{})
		return err == nil && ns.Status.Phase == corev1.NamespaceTerminating && len(ns.Status.Conditions) == 1 &&
			strings.Contains(ns.Status.Conditions[0].Message, "ConfigMap settings is still there: it waits for [example.org/hold]"), err
	})
	contains(t, kc(t, "", "get", "namespace", "doomed"), "Terminating")
	refused(t, "", []string{`namespace "doomed" is being deleted`, "wait until it is gone"}, "create", "configmap", "late", "-n", "doomed")
	kc(t, "", "patch", "configmap", "settings", "-n", "doomed", "-p", `{"metadata":{"finalizers":null}}`)
	kc(t, "", "wait", "namespace/doomed", "--for=delete", "--timeout=20s")
	// The name is free again, and nothing of the old one is left.
	kc(t, "", "create", "namespace", "doomed")
	if out := kc(t, "", "get", "apps,configmaps", "-n", "doomed", "-o", "name"); out != "" {
		t.Errorf("left over: %s", out)
	}
	for _, name := range systemNamespaces {
		refused(t, "", []string{"always there"}, "delete", "namespace", name)
	}
	refused(t, "", []string{`namespace "nowhere" does not exist`, "padis create namespace nowhere"}, "create", "configmap", "a", "-n", "nowhere")
}

func configMap(t *testing.T, c kubernetes.Interface, namespace, name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
	t.Helper()
	out, err := c.CoreV1().ConfigMaps(namespace).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ownerRef(c *corev1.ConfigMap, block bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: c.Name, UID: c.UID, BlockOwnerDeletion: ptr.To(block)}
}

func TestGarbageCollection(t *testing.T) {
	c := clients(t, shared)
	kc(t, "", "create", "namespace", "garbage")
	maps := c.CoreV1().ConfigMaps("garbage")
	gone := func(name string) func() (bool, error) {
		return func() (bool, error) {
			_, err := maps.Get(t.Context(), name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), err
		}
	}
	remove := func(name string, policy metav1.DeletionPropagation) {
		t.Helper()
		if err := maps.Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("background", func(t *testing.T) {
		owner := configMap(t, c, "garbage", "b-owner")
		child := configMap(t, c, "garbage", "b-child", ownerRef(owner, false))
		configMap(t, c, "garbage", "b-grandchild", ownerRef(child, false))
		other := configMap(t, c, "garbage", "b-other")
		configMap(t, c, "garbage", "b-shared", ownerRef(owner, false), ownerRef(other, false))
		remove("b-owner", metav1.DeletePropagationBackground)
		eventually(t, "the grandchild goes", gone("b-grandchild"))
		eventually(t, "the shared child loses one owner", func() (bool, error) {
			m, err := maps.Get(t.Context(), "b-shared", metav1.GetOptions{})
			return err == nil && len(m.OwnerReferences) == 1 && m.OwnerReferences[0].UID == other.UID, err
		})
	})
	t.Run("foreground", func(t *testing.T) {
		owner := configMap(t, c, "garbage", "f-owner")
		child := configMap(t, c, "garbage", "f-child", ownerRef(owner, true))
		configMap(t, c, "garbage", "f-grandchild", ownerRef(child, true))
		kc(t, "", "delete", "configmap", "f-owner", "-n", "garbage", "--cascade=foreground", "--timeout=20s")
		for _, name := range []string{"f-owner", "f-child", "f-grandchild"} {
			if ok, err := gone(name)(); !ok {
				t.Errorf("%s is still there after the foreground deletion: %v", name, err)
			}
		}
	})
	t.Run("orphan", func(t *testing.T) {
		owner := configMap(t, c, "garbage", "o-owner")
		configMap(t, c, "garbage", "o-child", ownerRef(owner, true))
		remove("o-owner", metav1.DeletePropagationOrphan)
		eventually(t, "the owner goes", gone("o-owner"))
		m, err := maps.Get(t.Context(), "o-child", metav1.GetOptions{})
		if err != nil || len(m.OwnerReferences) != 0 {
			t.Errorf("the orphan: %v %v", m.OwnerReferences, err)
		}
	})
	t.Run("owner that never was", func(t *testing.T) {
		configMap(t, c, "garbage", "n-child", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "never", UID: types.UID("0-0")})
		eventually(t, "the child goes", gone("n-child"))
		configMap(t, c, "garbage", "u-child", metav1.OwnerReference{APIVersion: "example.org/v1", Kind: "Thing", Name: "x", UID: types.UID("0-1")})
		configMap(t, c, "garbage", "u-probe", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "never", UID: types.UID("0-2")})
		eventually(t, "a later one goes", gone("u-probe"))
		if ok, _ := gone("u-child")(); ok {
			t.Error("a child of an owner of an unknown kind was deleted")
		}
	})
	t.Run("kind of a new definition", func(t *testing.T) {
		kc(t, `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.test.padis.io}
spec:
  group: test.padis.io
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
`, "apply", "-f", "-")
		kc(t, "", "wait", "crd/things.test.padis.io", "--for=condition=Established", "--timeout=20s")
		owner := configMap(t, c, "garbage", "t-owner")
		thing := "apiVersion: test.padis.io/v1\nkind: Thing\nmetadata: {name: t, namespace: garbage, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: t-owner, uid: " + string(owner.UID) + "}]}\n"
		eventually(t, "the new kind is served", func() (bool, error) {
			return kubectlAs(t, shared.Kubeconfig(), thing, "apply", "-f", "-").code == 0, nil
		})
		remove("t-owner", metav1.DeletePropagationBackground)
		kc(t, "", "wait", "things.test.padis.io/t", "-n", "garbage", "--for=delete", "--timeout=20s")
		kc(t, "", "delete", "crd", "things.test.padis.io", "--timeout=20s")
	})
}

func TestLeasesAreTyped(t *testing.T) {
	// client-go sends these as protobuf.
	c := clients(t, shared)
	lease := &coordv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "leader"}, Spec: coordv1.LeaseSpec{HolderIdentity: ptr.To("me"), LeaseDurationSeconds: ptr.To[int32](15)}}
	if _, err := c.CoordinationV1().Leases("kube-system").Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	contains(t, kc(t, "", "get", "leases", "-n", "kube-system"), "HOLDER", "me")
	lease.Name, lease.Spec.LeaseDurationSeconds = "bad", ptr.To[int32](0)
	if _, err := c.CoordinationV1().Leases("kube-system").Create(t.Context(), lease, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
		t.Errorf("a lease without duration: %v, want invalid", err)
	}
}

func TestRestartKeepsObjectsAndKeys(t *testing.T) {
	dir := t.TempDir()
	first, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err := clients(t, first).CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	version := first.live.Instances
	version.Set(namedInstance("kept", "web-0"))
	before, _ := version.Get("kept", "web-0")
	if err := first.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	second, err := start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	if _, err := clients(t, second).CoreV1().Namespaces().Get(ctx, "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("the namespace did not survive: %v", err)
	}
	r := kubectlAs(t, second.Kubeconfig(), "", "get", "apps", "-A")
	if r.code != 0 {
		t.Errorf("get apps after a restart: %s", r.stderr)
	}
	second.live.Instances.Set(namedInstance("kept", "web-0"))
	after, _ := second.live.Instances.Get("kept", "web-0")
	if len(after.ResourceVersion) < len(before.ResourceVersion) || after.ResourceVersion <= before.ResourceVersion {
		t.Errorf("versions went back from %s to %s", before.ResourceVersion, after.ResourceVersion)
	}
}
