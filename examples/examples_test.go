// Package examples_test holds the manifests of this folder against the kinds that they declare and against each other.
package examples_test

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/balanced"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/wanted"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// manifest is what one file declares.
type manifest struct {
	namespaces map[string]bool
	cluster    declared.Input
	apps       []v1alpha1.App
	balancers  []v1alpha1.LoadBalancer
	objects    config.Objects
}

func read(t *testing.T, file string) manifest {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := manifest{namespaces: map[string]bool{metav1.NamespaceDefault: true}, objects: config.Objects{}}
	docs := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(b)))
	defer docs.Close()
	buffer := make([]byte, len(b))
	for {
		n, err := docs.Read(buffer)
		if errors.Is(err, io.EOF) {
			return m
		} else if err != nil {
			t.Fatal(err)
		}
		doc := buffer[:n]
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		strict := func(into any) {
			t.Helper()
			if err := yaml.UnmarshalStrict(doc, into); err != nil {
				t.Fatalf("%s: %v", kind.Kind, err)
			}
		}
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 Namespace":
			var o corev1.Namespace
			strict(&o)
			m.namespaces[o.Name] = true
		case "v1 ConfigMap":
			var o corev1.ConfigMap
			strict(&o)
			m.objects[config.Ref{Kind: config.ConfigMap, Namespace: o.Namespace, Name: o.Name}] = config.OfConfigMap(&o)
		case "v1 Secret":
			var o corev1.Secret
			strict(&o)
			o.Data = map[string][]byte{}
			for k, v := range o.StringData {
				o.Data[k] = []byte(v)
			}
			m.objects[config.Ref{Kind: config.Secret, Namespace: o.Namespace, Name: o.Name}] = config.OfSecret(&o)
		case "padis.io/v1alpha1 Tenant":
			var o v1alpha1.Tenant
			strict(&o)
			m.cluster.Tenants = append(m.cluster.Tenants, o)
		case "padis.io/v1alpha1 Network":
			var o v1alpha1.Network
			strict(&o)
			m.cluster.Networks = append(m.cluster.Networks, o)
		case "padis.io/v1alpha1 IPPool":
			var o v1alpha1.IPPool
			strict(&o)
			m.cluster.Pools = append(m.cluster.Pools, o)
		case "padis.io/v1alpha1 BGPPeer":
			var o v1alpha1.BGPPeer
			strict(&o)
			m.cluster.Peers = append(m.cluster.Peers, o)
		case "padis.io/v1alpha1 LoadBalancer":
			var o v1alpha1.LoadBalancer
			strict(&o)
			m.balancers = append(m.balancers, o)
		case "padis.io/v1alpha1 App":
			var o v1alpha1.App
			strict(&o)
			if !m.namespaces[o.Namespace] {
				t.Errorf("app %s is in namespace %q, which is not declared before it", o.Name, o.Namespace)
			}
			m.apps = append(m.apps, o)
		default:
			t.Errorf("what is %s %s?", kind.APIVersion, kind.Kind)
		}
	}
}

// Each file by itself, and all of them together, can be put in force.
func TestExamplesFitTogether(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	all := manifest{objects: config.Objects{}}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			m := read(t, file)
			check(t, m)
			for i := range m.cluster.Networks {
				// Fields that a driver has no use for do no harm, and have no place in an example.
				if errs := v1alpha1.ValidateNetwork(&m.cluster.Networks[i]); len(errs) > 0 {
					t.Errorf("network %s: %v", m.cluster.Networks[i].Name, errs)
				}
			}
			all.apps = append(all.apps, m.apps...)
			maps.Copy(all.objects, m.objects)
			all.cluster.Tenants = append(all.cluster.Tenants, m.cluster.Tenants...)
			all.cluster.Pools = append(all.cluster.Pools, m.cluster.Pools...)
			for _, n := range m.cluster.Networks {
				if same := find(all.cluster.Networks, n.Name); same == nil {
					all.cluster.Networks = append(all.cluster.Networks, n)
				} else if !equality.Semantic.DeepEqual(same.Spec, n.Spec) {
					t.Errorf("network %s is declared differently elsewhere", n.Name)
				}
			}
		})
	}
	t.Run("all", func(t *testing.T) { check(t, all) })
}

// What stands in front of the web shop goes with it.
func TestALoadBalancerForTheWebShop(t *testing.T) {
	shop, lb := read(t, "web-shop.yaml"), read(t, "balanced/web-shop.yaml")
	if len(lb.balancers) == 0 {
		t.Fatal("no LoadBalancer is declared")
	}
	shop.balancers = lb.balancers
	shop.cluster.Networks = append(shop.cluster.Networks, lb.cluster.Networks...)
	shop.cluster.Pools = append(shop.cluster.Pools, lb.cluster.Pools...)
	shop.cluster.Peers = lb.cluster.Peers
	check(t, shop)
}

func find(networks []v1alpha1.Network, name string) *v1alpha1.Network {
	for i := range networks {
		if networks[i].Name == name {
			return &networks[i]
		}
	}
	return nil
}

func check(t *testing.T, m manifest) {
	t.Helper()
	m.cluster.Secrets = m.objects
	view := declared.Build(m.cluster)
	for kind, verdicts := range map[string]map[string]declared.Verdict{"network": view.Networks, "pool": view.Pools, "tenant": view.Tenants, "peer": view.Peers} {
		for name, v := range verdicts {
			if !v.Accepted {
				t.Errorf("%s %s: %s", kind, name, v.Message)
			}
		}
	}
	for i := range m.balancers {
		b := &m.balancers[i]
		if w, refusal := balanced.Wanted(balanced.Input{Balancer: b, View: view, Others: m.balancers}); refusal != nil || len(w.Announcement.Peers) == 0 {
			t.Errorf("loadbalancer %s/%s: %+v", b.Namespace, b.Name, refusal)
		}
		if _, _, refusal := wanted.Directors(b, view, nil); refusal != nil {
			t.Errorf("directors of loadbalancer %s/%s: %s", b.Namespace, b.Name, refusal.Message)
		}
		for _, k := range b.Spec.Backends {
			if k.App != "" && !slices.ContainsFunc(m.apps, func(a v1alpha1.App) bool { return a.Namespace == b.Namespace && a.Name == k.App }) {
				t.Errorf("loadbalancer %s/%s: there is no App %s", b.Namespace, b.Name, k.App)
			}
		}
	}
	for i := range m.apps {
		a := &m.apps[i]
		if _, _, refusal := wanted.App(a, view, m.objects, nil); refusal != nil {
			t.Errorf("app %s/%s: %s", a.Namespace, a.Name, refusal.Message)
		}
		for _, n := range a.Spec.Networks {
			if owner := cmp.Or(view.TenantOf(a.Namespace), a.Namespace); owner != a.Namespace {
				t.Errorf("app %s/%s on pool %s belongs to tenant %s", a.Namespace, a.Name, n.Pool, owner)
			}
		}
	}
}
