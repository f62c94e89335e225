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

// configMaps is a file of many.
func configMaps(prefix string, n int) string {
	var out []string
	for i := range n {
		out = append(out, configMap(fmt.Sprintf("%s-%04d", prefix, i), "1"))
	}
	return strings.Join(out, "---\n")
}

// count tells how many ConfigMaps there are whose names begin with a prefix.
func (b *bed) count(prefix string) int {
	b.Helper()
	var all corev1.ConfigMapList
	if err := api.List(context.Background(), &all, client.InNamespace(b.ns)); err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, m := range all.Items {
		if strings.HasPrefix(m.Name, prefix+"-") {
			n++
		}
	}
	return n
}

// Who suspends a Sync need not wait until all of a commit is written, or deleted.
func TestSuspendIsHeededWhileMuchIsWritten(t *testing.T) {
	const many = 2000
	b := newBed(t, map[string]string{"few.yaml": configMaps("few", 2)}, v1alpha1.SyncSpec{Prune: true})
	b.applied(b.git("rev-parse", "HEAD"))
	suspend := func(yes bool) {
		b.Helper()
		b.want(func(y *v1alpha1.Sync) { y.Spec.Suspend = yes })
	}
	head := b.push(map[string]string{"many.yaml": configMaps("many", many)})
	b.wait("begun with", func() string {
		if b.value("many-0000") == "" {
			return "nothing is there"
		}
		return ""
	})
	suspend(true)
	y := b.reason("Suspended", "not all of commit "+head)
	n := b.count("many")
	if n == 0 || n == many {
		t.Errorf("%d of %d objects were written", n, many)
	}
	if y.Status.Objects != many+2 {
		t.Errorf("%d objects are in the inventory", y.Status.Objects)
	}
	suspend(false)
	b.applied(head)
	if again := b.count("many"); n > again || again != many {
		t.Errorf("%d objects were there, and now %d", n, again)
	}

	head = b.push(map[string]string{"many.yaml": ""})
	b.wait("begun with", func() string {
		if b.value("many-0000") != "" && b.value(fmt.Sprintf("many-%04d", many-1)) != "" {
			return "all are there"
		}
		return ""
	})
	suspend(true)
	b.reason("Suspended", "not all of commit "+head)
	if n = b.count("many"); n == 0 || n == many {
		t.Errorf("%d of %d objects are left", n, many)
	}
	suspend(false)
	y = b.applied(head)
	if n = b.count("many"); n != 0 || y.Status.Objects != 2 {
		t.Errorf("%d objects are left, %d in the inventory", n, y.Status.Objects)
	}

	// So it is while a Sync is deleted: who suspends it keeps the rest.
	b.applied(b.push(map[string]string{"many.yaml": configMaps("many", many)}))
	if err := api.Delete(context.Background(), b.sync()); err != nil {
		t.Fatal(err)
	}
	b.wait("begun with", func() string {
		if b.value("many-0000") != "" && b.value(fmt.Sprintf("many-%04d", many-1)) != "" {
			return "all are there"
		}
		return ""
	})
	suspend(true)
	b.wait("gone", func() string {
		err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop"}, &v1alpha1.Sync{})
		if client.IgnoreNotFound(err) == nil && err != nil {
			return ""
		}
		return fmt.Sprint(err)
	})
	if n = b.count("many"); n == 0 || n == many {
		t.Errorf("%d of %d objects are left", n, many)
	}
}

// What may not be deleted is named, all of it that is found at once.
func TestDeletionsThatAreRefusedAreNamed(t *testing.T) {
	// The account is there before what it may do.
	soon := v1alpha1.SyncRetry{Interval: &metav1.Duration{Duration: time.Second}, Max: &metav1.Duration{Duration: time.Second}}
	b := newBed(t, map[string]string{"a.yaml": configMap("a", "1")}, v1alpha1.SyncSpec{Prune: true, Retry: soon, ServiceAccount: "deployer"})
	b.allow("deployer", b.ns, "", "configmaps", "get,list,create,patch")
	b.applied(b.git("rev-parse", "HEAD"))
	b.applied(b.push(map[string]string{"many.yaml": configMaps("many", 3)}))
	b.push(map[string]string{"many.yaml": ""})
	b.reason("Refused", "delete configmap/"+b.ns+"/many-0000: ", "delete configmap/"+b.ns+"/many-0001: ", "delete configmap/"+b.ns+"/many-0002: ", "bind a Role")
	b.declare(fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: %[1]s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\nsubjects: [{kind: ServiceAccount, namespace: %[1]s, name: deployer}]", b.ns))
	b.applied(b.push(map[string]string{"a.yaml": configMap("a", "2")}))
	if n := b.count("many"); n != 0 {
		t.Errorf("%d are left", n)
	}
}
