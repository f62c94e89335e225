package proposed

import (
	"encoding/json"
	"strings"
	"testing"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/declared"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const base = `
kind: Network
metadata: {name: lan, uid: n1, generation: 1}
spec: {driver: bridge, bridge: padis0}
---
kind: IPPool
metadata: {name: front, uid: p1, generation: 1}
spec: {network: lan, cidr: 10.44.0.0/24, gateway: 10.44.0.1}
---
kind: IPPool
metadata: {name: spare, uid: p2, generation: 1}
spec: {network: lan, cidr: 10.45.0.0/24}
---
kind: App
metadata: {name: web, namespace: shop, uid: a1, generation: 3}
spec: {replicas: 1, template: {command: [serve], resources: {cpu: 100m, memory: 32Mi}}, networks: [{pool: front, addresses: [10.44.0.10]}]}`

func read(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, doc := range strings.Split(text, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		o.SetAPIVersion("padis.io/v1alpha1")
		if kind := o.GetKind(); kind == "Secret" || kind == "ConfigMap" {
			o.SetAPIVersion("v1")
		}
		b, err := json.Marshal(o.Object)
		if err == nil {
			err = o.UnmarshalJSON(b) // With whole numbers, as from the API server.
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}

func change(t *testing.T, from []*unstructured.Unstructured, text string) Change {
	t.Helper()
	o := read(t, text)[0]
	for _, old := range from {
		if old.GetKind() == o.GetKind() && old.GetName() == o.GetName() && old.GetNamespace() == o.GetNamespace() {
			return Change{Before: old, After: Merge(old, o)}
		}
	}
	return Change{After: o}
}

const another = `kind: App
metadata: {name: %, namespace: shop}
spec: {replicas: 1, template: {command: [x], resources: {cpu: 100m, memory: 32Mi}}, networks: [{pool: front, addresses: [10.44.0.20]}]}`

// What admission would refuse is refused, in its words, and stays as it is; changes are seen beside each other.
func TestRefusals(t *testing.T) {
	from := read(t, base)
	gone := func(kind, name string) Change {
		for _, o := range from {
			if o.GetKind() == kind && o.GetName() == name {
				return Change{Before: o}
			}
		}
		t.Fatal(name)
		return Change{}
	}
	for _, c := range []struct {
		name    string
		changes []Change
		// want is for each change what its first refusal says; empty if there is none.
		want []string
	}{
		{"nothing", []Change{change(t, from, "kind: IPPool\nmetadata: {name: front}")}, []string{""}},
		{"pool in use", []Change{gone("IPPool", "front"), gone("IPPool", "spare")}, []string{"used by apps shop/web", "still held (10.45.0.9 by shop/old-0)"}},
		{"pool and its user", []Change{gone("IPPool", "front"), gone("App", "web")}, []string{"", ""}},
		{"network in use", []Change{gone("Network", "lan")}, []string{"used by ippools front, spare"}},
		{"same address", []Change{change(t, from, strings.Replace(another, "%", "one", 1)), change(t, from, strings.Replace(another, "%", "two", 1))}, []string{"is wanted by app two", "is wanted by app one"}},
		{"address is free now", []Change{change(t, from, strings.NewReplacer("%", "one", ".20", ".10").Replace(another)), gone("App", "web")}, []string{"", ""}},
		{"pools overlap", []Change{change(t, from, "kind: IPPool\nmetadata: {name: new}\nspec: {network: lan, cidr: 10.44.0.128/25}")}, []string{"front"}},
		{"pool without a held address", []Change{change(t, from, "kind: IPPool\nmetadata: {name: spare}\nspec: {ranges: [{from: 10.45.0.20, to: 10.45.0.30}]}")}, []string{"10.45.0.9"}},
		{"bad cidr", []Change{change(t, from, "kind: IPPool\nmetadata: {name: new}\nspec: {network: lan, cidr: 10.60.0.1/24}")}, []string{"without bits behind the prefix"}},
		{"wrong type", []Change{change(t, from, "kind: App\nmetadata: {name: web, namespace: shop}\nspec: {replicas: many}")}, []string{"App shop/web: "}},
		{"namespaces of two", []Change{change(t, from, "kind: Tenant\nmetadata: {name: red}\nspec: {namespaces: [shop]}"), change(t, from, "kind: Tenant\nmetadata: {name: blue}\nspec: {namespaces: [shop]}")}, []string{"blue", "red"}},
		{"two registries", []Change{change(t, from, "kind: Registry\nmetadata: {name: a}\nspec: {host: r.example}"), change(t, from, "kind: Registry\nmetadata: {name: b}\nspec: {host: r.example}")}, []string{"Registry b", "Registry a"}},
		{"a bad peer", []Change{change(t, from, "kind: BGPPeer\nmetadata: {name: a}\nspec: {address: nowhere, asn: 64512}")}, []string{"IP address"}},
		{"a VIP on a segment", []Change{change(t, from, "kind: LoadBalancer\nmetadata: {name: lb, namespace: shop}\nspec: {vips: [{pool: front}], bgp: {asn: 64512}, listeners: [{name: http, port: 80}], backends: [{app: web}], directors: {replicas: 1, networks: [{pool: front}]}}")}, []string{"virtual"}},
		{"a dry run said so", []Change{{After: read(t, strings.Replace(another, "%", "one", 1))[0], Refusals: []plan.Refusal{{Message: "quota"}}}}, []string{"quota"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Read(from)
			if err != nil {
				t.Fatal(err)
			}
			s.Cluster.Holders = map[string][]declared.Holder{"spare": {{Address: "10.45.0.9", Namespace: "shop", Instance: "old-0"}}}
			before := text(t, s)
			after, objects := s.Apply(c.changes)
			if text(t, s) != before {
				t.Error("the state was changed")
			}
			refused := 0
			for i, want := range c.want {
				got := ""
				if len(objects[i].Refusals) > 0 {
					got, refused = objects[i].Refusals[0].String(), refused+1
				}
				if want == "" && got != "" || !strings.Contains(got, want) {
					t.Errorf("%s %s: %q instead of %q", objects[i].Kind, objects[i].Name, got, want)
				}
			}
			if refused == len(c.changes) && text(t, after) != before {
				t.Errorf("all was refused, and it is\n%s\ninstead of\n%s", text(t, after), before)
			}
		})
	}
}

func text(t *testing.T, s *State) string {
	t.Helper()
	b, err := json.Marshal([]any{s.Apps, s.Balancers, s.Cluster.Networks, s.Cluster.Pools, s.Cluster.Tenants, s.Cluster.Registries})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What changes keeps its uid and gets a generation; what is new is younger than all others, and has a uid of its own.
func TestIdentities(t *testing.T) {
	from := read(t, base)
	s, err := Read(from)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := s.Apply([]Change{
		change(t, from, "kind: App\nmetadata: {name: web, namespace: shop, labels: {a: b}}"),
		change(t, from, "kind: App\nmetadata: {name: api, namespace: shop}\nspec: {template: {command: [x]}}"),
		change(t, from, "kind: IPPool\nmetadata: {name: spare}\nspec: {reserved: [{from: 10.45.0.2}]}"),
	})
	if len(after.Apps) != 2 {
		t.Fatalf("%d apps", len(after.Apps))
	}
	for _, a := range after.Apps {
		switch a.Name {
		case "web":
			if a.UID != "a1" || a.Generation != 3 || a.Labels["a"] != "b" || a.Spec.Networks[0].Pool != "front" {
				t.Errorf("%+v", a)
			}
		case "api":
			if a.UID == "" || strings.Contains(string(a.UID), "/") || a.Generation != 1 || !a.CreationTimestamp.Equal(&youngest) {
				t.Errorf("%+v", a.ObjectMeta)
			}
		}
	}
	for _, p := range after.Cluster.Pools {
		if p.Name == "spare" && (p.UID != "p2" || p.Generation != 2 || p.Spec.CIDR != "10.45.0.0/24") {
			t.Errorf("%+v", p)
		}
	}
}

// Contents of ConfigMaps and Secrets are those that the API server would keep.
func TestContents(t *testing.T) {
	s, err := Read(read(t, `
kind: Secret
metadata: {name: keys, namespace: shop}
type: Opaque
data: {a: YQ==, b: Yg==}
stringData: {b: c}
---
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {mode: x}`))
	if err != nil {
		t.Fatal(err)
	}
	for ref, o := range s.Objects {
		switch string(ref.Kind) + " " + ref.Namespace + "/" + ref.Name {
		case "Secret shop/keys":
			if string(o.Data["a"]) != "a" || string(o.Data["b"]) != "c" || o.Type != "Opaque" {
				t.Errorf("%q", o.Data)
			}
		case "ConfigMap shop/settings":
			if string(o.Data["mode"]) != "x" {
				t.Errorf("%q", o.Data)
			}
		default:
			t.Error(ref)
		}
	}
	if len(s.Objects) != 2 {
		t.Errorf("%d objects", len(s.Objects))
	}
}

func TestMerge(t *testing.T) {
	old := read(t, "kind: App\nmetadata: {name: a, labels: {x: z}}\nspec: {replicas: 3, list: [1, 2], map: {a: 1, b: 2}}")[0]
	was := old.DeepCopy()
	got := Merge(old, read(t, "kind: App\nmetadata: {name: a}\nspec: {list: [3], map: {a: null, c: 3}}")[0])
	b, err := json.Marshal(got.Object["spec"])
	if err != nil || string(b) != `{"list":[3],"map":{"b":2,"c":3},"replicas":3}` || got.GetLabels()["x"] != "z" {
		t.Errorf("%s %v", b, err)
	}
	if x, y := len(plan.Diff(was.Object, old.Object)), len(plan.Diff(old.Object, Merge(old, old).Object)); x+y != 0 {
		t.Errorf("%d %d", x, y)
	}
}
