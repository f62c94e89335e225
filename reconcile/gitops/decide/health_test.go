package decide

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"padis.io/padis/api/v1alpha1"
)

// read makes an object as clients do: whole numbers are int64.
func read(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestHealth(t *testing.T) {
	for _, c := range []struct{ name, kind, rest, want string }{
		{"all ready", "App", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True"}, {type: Available, status: "True", reason: Ready, message: 3 ready}, {type: Progressing, status: "False", reason: Complete}]}`, "Healthy Ready 3 ready"},
		{"starting", "App", `status: {observedGeneration: 2, conditions: [{type: Available, status: "False", reason: Starting, message: 1 of 3}]}`, "Progressing Starting 1 of 3"},
		{"updating", "App", `status: {observedGeneration: 2, conditions: [{type: Available, status: "True"}, {type: Progressing, status: "True", reason: Updating}]}`, "Progressing Updating"},
		{"paused", "App", `status: {observedGeneration: 2, conditions: [{type: Available, status: "True"}, {type: Progressing, status: "False", reason: Paused}]}`, "Progressing Paused"},
		{"refused", "App", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "False", reason: PoolForbidden, message: choose another}, {type: Available, status: "True"}]}`, "Failed PoolForbidden choose another"},
		{"not looked at", "App", `status: {observedGeneration: 1, conditions: [{type: Available, status: "True"}]}`, "Progressing NotSeen"},
		{"without status", "App", ``, "Progressing NotSeen"},
		{"announced", "LoadBalancer", `status: {observedGeneration: 2, conditions: [{type: Announced, status: "True", reason: Ready}, {type: ServersReady, status: "True"}, {type: Redundant, status: "False"}, {type: ConnectionsKept, status: "False"}]}`, "Healthy Ready"},
		{"servers not ready", "LoadBalancer", `status: {observedGeneration: 2, conditions: [{type: Announced, status: "True"}, {type: ServersReady, status: "False", reason: NotReady}]}`, "Progressing NotReady"},
		{"no condition yet", "LoadBalancer", `status: {observedGeneration: 2, conditions: [{type: Announced, status: "True"}]}`, "Progressing NotSeen the condition ServersReady"},
		{"hosts", "Network", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True", reason: Accepted}, {type: HostsReady, status: "False", reason: Broken}]}`, "Progressing Broken"},
		{"no hosts", "Network", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True", reason: Accepted}]}`, "Healthy Accepted"},
		{"foreign addresses", "IPPool", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True", reason: Accepted}, {type: ForeignAddresses, status: "True"}]}`, "Healthy Accepted"},
		{"no router", "BGPPeer", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True"}, {type: PeersUp, status: "Unknown"}]}`, "Healthy"},
		{"router down", "BGPPeer", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True"}, {type: PeersUp, status: "False", reason: PeerDown}]}`, "Progressing PeerDown"},
		{"upgrade that nobody offers", "ExecutorUpgrade", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True"}, {type: Progressing, status: "False", reason: Invalid}]}`, "Failed Invalid"},
		{"upgraded", "ExecutorUpgrade", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True", reason: Accepted}, {type: Progressing, status: "False", reason: Complete}]}`, "Healthy Accepted"},
		{"pulls", "ImagePrepull", `status: {observedGeneration: 2, conditions: [{type: Accepted, status: "True"}, {type: Present, status: "False", reason: Pulling}]}`, "Progressing Pulling"},
		{"stalled", "Sync", `status: {observedGeneration: 2, conditions: [{type: Ready, status: "False", reason: Invalid}, {type: Stalled, status: "True", reason: Invalid, message: web.yaml}]}`, "Failed Invalid web.yaml"},
		{"sync with trouble", "Sync", `status: {observedGeneration: 2, conditions: [{type: Ready, status: "True"}, {type: Healthy, status: "False", reason: Starting}]}`, "Progressing Starting"},
		{"source", "GitSource", `status: {observedGeneration: 2, conditions: [{type: Ready, status: "True", reason: Fetched}]}`, "Healthy Fetched"},
		{"broken status", "App", `status: {observedGeneration: 2, conditions: [7, {status: "True"}, {type: 3}]}`, "Progressing NotSeen"},
	} {
		t.Run(c.kind+" "+c.name, func(t *testing.T) {
			u := read(t, "apiVersion: padis.io/v1alpha1\nkind: "+c.kind+"\nmetadata: {name: a, generation: 2}\n"+c.rest)
			v := HealthOf(u)
			if got := strings.TrimSpace(fmt.Sprint(v.Health, " ", v.Reason, " ", v.Message)); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
			now := metav1.Now()
			u.SetDeletionTimestamp(&now)
			u.SetFinalizers([]string{"padis.io/app"})
			if v := HealthOf(u); v.Health != Progressing || v.Reason != ReasonDeleting || !strings.Contains(v.Message, "padis.io/app") {
				t.Errorf("while it is deleted: %+v", v)
			}
		})
	}
	for _, c := range []struct{ object, want string }{
		{"{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}", "Healthy"},
		{"{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}}", "Healthy"},
		{"{apiVersion: v1, kind: Namespace, metadata: {name: a}, status: {phase: Active}}", "Healthy"},
		{"{apiVersion: v1, kind: Namespace, metadata: {name: a}}", "Progressing"},
		{"{apiVersion: example.com/v1, kind: Database, metadata: {name: a}}", "Unknown"},
		{"{apiVersion: example.com/v1, kind: Database, metadata: {name: a, generation: 3}, status: {conditions: [{type: Ready, status: 'True'}]}}", "Healthy"},
		{"{apiVersion: example.com/v1, kind: Database, metadata: {name: a, generation: 3}, status: {observedGeneration: 2, conditions: [{type: Ready, status: 'True'}]}}", "Progressing"},
	} {
		u := read(t, c.object)
		if got := HealthOf(u); got.Health.String() != c.want {
			t.Errorf("%s: %+v", c.object, got)
		}
	}
	if got := HealthOf(nil); got.Health != Progressing || got.Reason != ReasonAbsent {
		t.Error(got)
	}
}

// A kind that is added to the API gets a rule and a place in the order.
func TestEveryKindIsUnderstood(t *testing.T) {
	s := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	for kind := range s.KnownTypes(v1alpha1.GroupVersion) {
		if _, list := s.KnownTypes(v1alpha1.GroupVersion)[kind+"List"]; !list {
			continue
		}
		if _, known := rules[v1alpha1.GroupVersion.Group+"/"+kind]; !known {
			t.Errorf("health.go has no rule for %s", kind)
		}
		if rank(kind) == otherKinds {
			t.Errorf("order.go has no place for %s", kind)
		}
	}
}

func TestOrder(t *testing.T) {
	var in []Rendered
	for _, o := range []string{"App web", "LoadBalancer web", "Namespace shop", "Secret s", "Network net 5", "IPPool p", "Tenant t", "Database d", "ConfigMap c -1", "App first -1", "RoleBinding b", "Role r", "App a"} {
		f := strings.Fields(o)
		text := "apiVersion: v1\nkind: " + f[0] + "\nmetadata: {name: " + f[1]
		if len(f) > 2 {
			text += ", annotations: {padis.io/wave: '" + f[2] + "'}"
		}
		in = append(in, prepare(t, text+"}\n"))
	}
	var out []string
	for _, w := range Order(in) {
		out = append(out, fmt.Sprint(w.Number, ":"))
		for _, r := range w.Objects {
			out = append(out, r.ID.String())
		}
	}
	want := "-1: configmap/c app/first 0: namespace/shop tenant/t ippool/p secret/s role/r rolebinding/b app/a app/web loadbalancer/web database/d 5: network/net"
	if got := strings.Join(out, " "); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	for _, text := range []string{"padis.io/wave: later", "padis.io/wave: '1.5'", "padis.io/wave: '99999999999'", "padis.io/prune: no way"} {
		u := read(t, "apiVersion: v1\nkind: App\nmetadata: {name: a, annotations: {"+text+"}}")
		name, _, _ := strings.Cut(text, ":")
		if _, err := Prepare(u, ours); err == nil || !strings.Contains(err.Error(), "metadata.annotations["+name+"]") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// However objects come in, they come out in the same order, each once, and none before what it needs.
func TestOrderProperties(t *testing.T) {
	names := slices.Collect(func(yield func(string) bool) {
		for k := range kinds {
			if !yield(k) {
				return
			}
		}
	})
	slices.Sort(names)
	rapid.Check(t, func(t *rapid.T) {
		var in []Rendered
		for i := range rapid.IntRange(0, 30).Draw(t, "objects") {
			in = append(in, Rendered{ID: ID{Kind: rapid.SampledFrom(names).Draw(t, "kind"), Name: fmt.Sprint(i)}, Wave: int32(rapid.IntRange(-2, 2).Draw(t, "wave"))})
		}
		waves := Order(in)
		var flat []Rendered
		for i, w := range waves {
			if i > 0 && waves[i-1].Number >= w.Number || len(w.Objects) == 0 {
				t.Fatal("waves are not in order, or empty")
			}
			for j, r := range w.Objects {
				if r.Wave != w.Number || j > 0 && rank(w.Objects[j-1].ID.Kind) > rank(r.ID.Kind) {
					t.Fatalf("%s is out of place", r.ID)
				}
			}
			flat = append(flat, w.Objects...)
		}
		if len(flat) != len(in) {
			t.Fatalf("%d objects of %d", len(flat), len(in))
		}
		if again := Order(rapid.Permutation(in).Draw(t, "other")); fmt.Sprint(again) != fmt.Sprint(waves) {
			t.Fatal("depends on the order of objects")
		}
	})
}
