package planner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/fake"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/proposed"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/forecast"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// oneHost is a scheduler with an agent on which nothing runs, and one address that is held.
type oneHost struct{}

func (oneHost) Snapshot(context.Context) (core.Snapshot, error) {
	return core.Snapshot{Config: core.Config{Role: "padis", Artifact: core.Artifact{URI: "http://padis/executor", SHA256: strings.Repeat("ab", 32)}}, Connected: true,
		Records: record.Snapshot{Framework: &padisv1.FrameworkRecord{FrameworkId: "F"}},
		Agents: []core.AgentState{{AgentView: core.AgentView{
			Record: &padisv1.AgentRecord{AgentId: "A1", Hostname: "host-1"}, Present: true,
			Seen: &mesos.Agent{ID: "A1", Hostname: "host-1", Active: true, Total: mesos.Amounts{CPUMilli: 4000, MemoryMilli: 4096 * 1000, DiskMilli: 100_000_000}},
		}}}}, nil
}

func (oneHost) Addresses(pool string) []*runtime.Address {
	if pool != "front" {
		return nil
	}
	return []*runtime.Address{{Status: runtime.AddressStatus{Address: "10.44.0.9", Pool: pool, State: runtime.AddressAllocated, Namespace: "shop", Instance: "web-0"}}}
}

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

func stored(t testing.TB, text string) *unstructured.Unstructured {
	o := object(t, text)
	o.SetUID(types.UID("u-" + o.GetName()))
	o.SetGeneration(1)
	return o
}

const (
	lan   = "apiVersion: padis.io/v1alpha1\nkind: Network\nmetadata: {name: lan}\nspec: {driver: bridge, bridge: padis0}"
	front = "apiVersion: padis.io/v1alpha1\nkind: IPPool\nmetadata: {name: front}\nspec: {network: lan, cidr: 10.44.0.0/24}"
	web   = "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 1, template: {command: [x], resources: {cpu: 100m, memory: 16Mi}}, networks: [{pool: front}]}"
)

func planner(objects ...*unstructured.Unstructured) *Planner {
	lists := map[schema.GroupVersionResource]string{}
	for _, k := range kinds {
		lists[k] = "List"
	}
	var there []kruntime.Object
	for _, o := range objects {
		there = append(there, o)
	}
	return &Planner{
		objects:   fake.NewSimpleDynamicClientWithCustomListKinds(kruntime.NewScheme(), lists, there...),
		scheduler: oneHost{}, now: func() time.Time { return time.UnixMilli(1_700_000_000_000) }, turn: make(chan struct{}, 1),
	}
}

func TestRefusalsThatOtherChangesRemedyDoNotCount(t *testing.T) {
	no := func(reason metav1.StatusReason) []plan.Refusal {
		return []plan.Refusal{{Reason: string(reason), Message: "no"}}
	}
	ns := object(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
	outside := strings.Replace(web, "{pool: front}", "{pool: front, addresses: [10.99.0.1]}", 1)
	at := func(name, address string) string {
		return strings.NewReplacer("name: web", "name: "+name, "{pool: front}", "{pool: front, addresses: ["+address+"]}").Replace(web)
	}
	holder, taker, leaver := stored(t, at("holder", "10.44.0.10")), at("taker", "10.44.0.10"), at("holder", "10.44.0.11")
	for name, c := range map[string]struct {
		changes []Change
		refused []bool
	}{
		"a namespace that comes":    {[]Change{{After: ns}, {After: object(t, web), Refusals: no(metav1.StatusReasonNotFound)}}, []bool{false, false}},
		"a namespace that does not": {[]Change{{After: object(t, web), Refusals: no(metav1.StatusReasonNotFound)}}, []bool{true}},
		"a namespace that cannot":   {[]Change{{After: ns, Refusals: no(metav1.StatusReasonForbidden)}, {After: object(t, web), Refusals: no(metav1.StatusReasonNotFound)}}, []bool{true, true}},
		"an address that is let go": {[]Change{{After: object(t, taker), Refusals: no(metav1.StatusReasonInvalid)}, {Before: holder, After: object(t, leaver)}}, []bool{false, false}},
		"an address that is not":    {[]Change{{After: object(t, taker), Refusals: no(metav1.StatusReasonInvalid)}, {Before: holder, After: holder}}, []bool{true, false}},
		"still outside of it":       {[]Change{{After: object(t, outside), Refusals: no(metav1.StatusReasonInvalid)}}, []bool{true}},
		"what only the API knows":   {[]Change{{After: object(t, web), Refusals: no(metav1.StatusReasonInvalid)}}, []bool{true}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := planner(stored(t, lan), stored(t, front), holder).Plan(t.Context(), c.changes)
			if err != nil {
				t.Fatal(err)
			}
			for i, o := range p.Objects {
				if refused := len(o.Refusals) > 0; refused != c.refused[i] {
					t.Errorf("%s %s: %+v", o.Kind, o.Name, o.Refusals)
				}
			}
		})
	}
}

// What is in a namespace goes with it; a deletion that the API refused stays refused if nothing else remedies it.
func TestDeletions(t *testing.T) {
	ns, pool, app := stored(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}"), stored(t, front), stored(t, web)
	config := stored(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: shop}")
	p := planner(stored(t, lan), pool, app, config)
	got, err := p.Plan(t.Context(), []Change{{Before: ns}, {Before: app}})
	if err != nil {
		t.Fatal(err)
	}
	told := ""
	for _, o := range got.Objects {
		told += fmt.Sprintf("%s %s %s %q\n", o.Action, o.Kind, o.Name, o.Because)
	}
	if want := "delete Namespace shop \"\"\ndelete App web \"\"\ndelete ConfigMap settings \"goes with Namespace shop\"\n"; told != want {
		t.Errorf("%s instead of\n%s", told, want)
	}
	no := []plan.Refusal{{Reason: string(metav1.StatusReasonForbidden), Message: "no"}}
	got, err = p.Plan(t.Context(), []Change{{Before: ns, Refusals: no}})
	if err != nil || len(got.Objects) != 1 || len(got.Objects[0].Refusals) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	newer := app.DeepCopy()
	newer.SetGeneration(7)
	if _, err := p.Plan(t.Context(), []Change{{Before: newer}}); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
}

func TestAPlanStartsFromWhatIsThere(t *testing.T) {
	pool, app := stored(t, front), stored(t, web)
	p := planner(stored(t, lan), pool, app)
	more := app.DeepCopy()
	if err := unstructured.SetNestedField(more.Object, int64(2), "spec", "replicas"); err != nil {
		t.Fatal(err)
	}
	got, err := p.Plan(t.Context(), []Change{{Before: app, After: more}})
	if err != nil || len(got.Apps) != 1 || len(got.Apps[0].Instances) != 2 || got.World == "" || len(got.Parts) == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	other, newer := app.DeepCopy(), app.DeepCopy()
	other.SetUID("another")
	newer.SetGeneration(2)
	for what, before := range map[string]*unstructured.Unstructured{"gone": nil, "another": other, "newer": newer} {
		if _, err := p.Plan(t.Context(), []Change{{Before: before, After: more}}); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "App shop/web") {
			t.Errorf("%s: %v", what, err)
		}
	}
	// Kinds that plans know nothing of are not looked for.
	ns := object(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}")
	if _, err := p.Plan(t.Context(), []Change{{Before: ns, After: ns}}); err != nil {
		t.Error(err)
	}
	// Who holds addresses of a pool keeps it from being made smaller.
	small := pool.DeepCopy()
	if err := unstructured.SetNestedField(small.Object, "10.44.0.0/29", "spec", "cidr"); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Plan(t.Context(), []Change{{Before: pool, After: small}}); err != nil || !got.Refused() || !strings.Contains(fmt.Sprint(got.Objects[0].Refusals), "10.44.0.9") {
		t.Errorf("%+v, %v", got, err)
	}
	// Who waits too long for his turn goes.
	p.turn <- struct{}{}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Plan(late, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Whatever makes another world of it is in a part that has a name.
func TestPartsAreTheWholeWorld(t *testing.T) {
	names := rapid.SampledFrom([]string{"", "a", "b"})
	draw := func(t *rapid.T, of string) (core.Snapshot, *proposed.State) {
		n := func(what string) string { return names.Draw(t, of+what) }
		m := func(what string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: n(what)} }
		return core.Snapshot{
				Config: core.Config{Role: n("role")}, Connected: n("connected") == "",
				Rotations: []ipam.Rotation{{Pool: n("rotation")}},
				Agents:    []core.AgentState{{AgentView: core.AgentView{Record: &padisv1.AgentRecord{AgentId: n("agent")}}}},
				Records: record.Snapshot{
					Cluster: &padisv1.Cluster{Pools: []*padisv1.Pool{{Name: n("pool in force")}}}, Apps: []*padisv1.WantedApp{{Uid: n("wanted")}},
					Balancers: []*padisv1.WantedBalancer{{Uid: n("balancer")}}, Instances: []*padisv1.InstanceRecord{{AppUid: n("instance")}},
					Leases: []*padisv1.LeaseRecord{{Address: n("lease")}},
				},
			}, &proposed.State{
				Apps: []v1alpha1.App{{ObjectMeta: m("app")}}, Balancers: []v1alpha1.LoadBalancer{{ObjectMeta: m("lb")}},
				Objects: config.Objects{{Kind: config.Secret, Name: n("secret")}: {}, {Kind: config.ConfigMap, Name: n("config")}: {}},
				Cluster: declared.Input{
					Networks: []v1alpha1.Network{{ObjectMeta: m("network")}}, Pools: []v1alpha1.IPPool{{ObjectMeta: m("pool")}},
					Tenants: []v1alpha1.Tenant{{ObjectMeta: m("tenant")}}, Registries: []v1alpha1.Registry{{ObjectMeta: m("registry")}},
					Upgrades: []v1alpha1.ExecutorUpgrade{{ObjectMeta: m("upgrade")}}, Peers: []v1alpha1.BGPPeer{{ObjectMeta: m("peer")}},
					Prepulls: []v1alpha1.ImagePrepull{{ObjectMeta: m("prepull")}},
				},
			}
	}
	rapid.Check(t, func(t *rapid.T) {
		s1, d1 := draw(t, "1 ")
		s2, d2 := draw(t, "2 ")
		worlds, whole := forecast.World(s1, d1) == forecast.World(s2, d2), maps.Equal(parts(s1, d1), parts(s2, d2))
		if worlds != whole {
			t.Fatalf("worlds are equal: %v; parts are: %v", worlds, whole)
		}
	})
}
