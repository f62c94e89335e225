package balanced

import (
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

func parse[T any](t testing.TB, text string) T {
	t.Helper()
	var out T
	if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func objects[T any](t testing.TB, texts ...string) []T {
	t.Helper()
	var out []T
	for _, text := range texts {
		out = append(out, parse[T](t, text))
	}
	return out
}

// cluster is what the tests' LoadBalancers are declared in.
func cluster(t testing.TB) declared.Input {
	return declared.Input{
		Networks: objects[v1alpha1.Network](t, `{metadata: {name: data}, spec: {bridge: padis0}}`, `{metadata: {name: virtual}, spec: {driver: virtual}}`),
		Pools: objects[v1alpha1.IPPool](t,
			`{metadata: {name: shop}, spec: {network: data, cidr: 10.44.0.0/16}}`,
			`{metadata: {name: vips}, spec: {network: virtual, cidr: 198.51.100.0/24}}`,
			`{metadata: {name: lost}, spec: {network: nowhere, cidr: 203.0.113.0/24}}`,
			`{metadata: {name: going, deletionTimestamp: "2026-01-01T00:00:00Z"}, spec: {network: virtual, cidr: 192.0.2.0/24}}`),
		Tenants: objects[v1alpha1.Tenant](t, `{metadata: {name: retail}, spec: {namespaces: [shop]}}`),
		Peers: objects[v1alpha1.BGPPeer](t,
			`{metadata: {name: r1}, spec: {address: 10.44.0.1, asn: 64500, maximumPaths: 2, bfd: {interval: 50ms}, passwordSecret: {namespace: infra, name: bgp, key: r1}}}`,
			`{metadata: {name: r2}, spec: {address: 10.44.0.2, asn: 64500, bothFamilies: true, holdTime: 9s, agents: [{attribute: rack, value: b}]}}`,
			`{metadata: {name: r3}, spec: {address: 10.44.0.3, asn: 64500, passwordSecret: {namespace: infra, name: bgp, key: absent}}}`),
		Secrets: config.Objects{{Kind: config.Secret, Namespace: "infra", Name: "bgp"}: {Data: map[string][]byte{"r1": []byte("hunter2")}}},
		Holders: map[string][]declared.Holder{"going": {{Address: "192.0.2.1", Namespace: "shop", Instance: "web"}}},
	}
}

const good = `
metadata: {namespace: shop, name: web, uid: u1, generation: 3}
spec:
  vips: [{pool: vips, address: 198.51.100.10}, {pool: vips}]
  listeners: [{name: http, port: 80, sourceRanges: [203.0.113.0/24, 192.0.2.0/24]}, {name: game, protocol: UDP, port: 5000, endPort: 5009}]
  backends: [{app: web}, {selector: {matchLabels: {tier: canary}}, percent: 5}, {app: old, weight: 0}]
  directors: {networks: [{pool: shop}]}
  healthChecks: [{tcp: {port: 80}}, {http: {port: 80, bodyContains: open}, interval: 1s, timeout: 500ms, failureThreshold: 2}]
  bgp: {asn: 64512, communities: [no-export, "64512:100"], med: 7}
`

func input(t testing.TB, changes ...string) Input {
	b := parse[v1alpha1.LoadBalancer](t, good)
	for _, c := range changes {
		// Lists that a change has are replaced, not merged.
		change := parse[v1alpha1.LoadBalancer](t, c)
		if change.Spec.Listeners != nil {
			b.Spec.Listeners = nil
		}
		if err := yaml.Unmarshal([]byte(c), &b); err != nil {
			t.Fatal(err)
		}
	}
	return Input{Balancer: &b, View: declared.Build(cluster(t)), Seed: 42}
}

func TestWhatIsWanted(t *testing.T) {
	got, refusal := Wanted(input(t))
	if refusal != nil {
		t.Fatal(refusal)
	}
	want := &padisv1.WantedBalancer{}
	if err := prototext.Unmarshal([]byte(`
		uid: "u1" namespace: "shop" name: "web" tenant: "retail" generation: 3
		vips { pool: "vips" address: "198.51.100.10" } vips { pool: "vips" }
		listeners { name: "http" protocol: "tcp" first_port: 80 last_port: 80 source_ranges: "192.0.2.0/24" source_ranges: "203.0.113.0/24" }
		listeners { name: "game" protocol: "udp" first_port: 5000 last_port: 5009 }
		backends { app: "web" weight: 100 } backends { labels { key: "tier" value: "canary" } percent: 5 } backends { app: "old" }
		scheduler: "maglev" table_size: 4093 seed: 42 drain_ms: 30000 min_servers: 1 dataplane: "auto"
		checks { tcp { port: 80 } interval_ms: 2000 timeout_ms: 1000 failure_threshold: 3 success_threshold: 1 }
		checks { http { port: 80 path: "/" body_contains: "open" } interval_ms: 1000 timeout_ms: 500 failure_threshold: 2 success_threshold: 1 }
		announcement {
			asn: 64512 communities: 4227858532 communities: 4294967041 med: 7
			peers { name: "r1" router { address: "10.44.0.1" asn: 64500 hold_ms: 3000 password: "hunter2" } bfd_interval_ms: 50 bfd_multiplier: 3 }
			peers { name: "r2" router { address: "10.44.0.2" asn: 64500 hold_ms: 9000 agents { attribute: "rack" value: "b" } } both_families: true }
		}`), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWhatIsRefused(t *testing.T) {
	other := parse[v1alpha1.LoadBalancer](t, good)
	other.Name, other.UID = "older", "u0"
	other.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	for _, c := range []struct {
		change          string
		prepare         func(*Input)
		reason, message string
	}{
		{`{spec: {listeners: [{name: a, port: 80}, {name: b, port: 80}]}}`, nil, padisv1.ReasonInvalid, "spec.listeners[1].port: \"80\" TCP 80 overlaps"},
		{`{spec: {vips: [{pool: absent}]}}`, nil, padisv1.ReasonPoolNotFound, `spec.vips[0].pool: there is no IPPool "absent": create it, or name another`},
		{`{spec: {vips: [{pool: lost}]}}`, nil, padisv1.ReasonPoolNotFound, "spec.vips[0].pool: IPPool lost is not in force: there is no Network"},
		{`{spec: {vips: [{pool: going}]}}`, nil, padisv1.ReasonPoolNotFound, "IPPool going is being deleted: name another"},
		{`{spec: {vips: [{pool: shop}]}}`, nil, padisv1.ReasonPoolForbidden, "name a pool of a Network with the driver virtual"},
		{`{spec: {vips: [{pool: vips, address: 10.44.0.9}]}}`, nil, padisv1.ReasonAddressOutsidePool, "is not within 198.51.100.0/24 of pool vips"},
		{`{spec: {bgp: {peers: [r9]}}}`, nil, padisv1.ReasonPeerNotFound, `spec.bgp.peers: there is no BGPPeer "r9": create it, or name another`},
		{`{spec: {bgp: {peers: [r1, r3]}}}`, nil, padisv1.ReasonPeerNotFound, `BGPPeer r3 is not in force: spec.passwordSecret.key: Secret "bgp" in namespace infra has no key "absent"`},
		{``, func(in *Input) { in.NameTaken = true }, padisv1.ReasonInvalid, `metadata.name: "web" needs the name web-director for its directors`},
		{``, func(in *Input) { in.Others = []v1alpha1.LoadBalancer{other} }, padisv1.ReasonAddressInUse, "is wanted by LoadBalancer older in namespace shop too"},
	} {
		in := input(t, c.change)
		in.Balancer.CreationTimestamp = metav1.NewTime(time.Unix(2, 0))
		if c.prepare != nil {
			c.prepare(&in)
		}
		got, refusal := Wanted(in)
		if refusal == nil || got != nil || refusal.Reason != c.reason || !strings.Contains(refusal.Message, c.message) {
			t.Errorf("%s: %v %+v\nwant %s %s", c.change, got, refusal, c.reason, c.message)
		}
	}
	in := input(t)
	in.Balancer.CreationTimestamp, in.Others = metav1.NewTime(time.Unix(0, 0)), []v1alpha1.LoadBalancer{other}
	if _, refusal := Wanted(in); refusal != nil {
		t.Errorf("the older of two is refused: %v", refusal)
	}
}

// What was chosen once stays, whatever else changes: another table or seed would move every connection. Routers that were told
// are told on.
func TestWhatIsKept(t *testing.T) {
	in := input(t)
	in.Current, _ = Wanted(in)
	in.Seed = 7
	in.Balancer.Spec.TableSize = 65537
	changed := cluster(t)
	changed.Secrets = nil
	in.View = declared.Build(changed)
	got, refusal := Wanted(in)
	if refusal != nil || got.Seed != 42 || got.TableSize != 4093 {
		t.Fatalf("%v, %v", got, refusal)
	}
	if !proto.Equal(got.Announcement, in.Current.Announcement) {
		t.Errorf("told to %v", got.Announcement.Peers)
	}
	in.Current = nil
	if got, _ = Wanted(in); len(got.Announcement.Peers) != 1 || got.TableSize != 65537 {
		t.Errorf("new: %v", got)
	}
}

// Equal inputs give equal wishes, nothing of the input is changed, and a wish that is in force gives itself.
func TestWishesAreStable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := input(t)
		s := &in.Balancer.Spec
		s.TableSize = rapid.SampledFrom([]int32{0, 4093, 16381}).Draw(rt, "size")
		s.Scheduler = rapid.SampledFrom([]string{"", v1alpha1.SchedulerMaglev, v1alpha1.SchedulerSourceHash}).Draw(rt, "scheduler")
		s.Dataplane = rapid.SampledFrom([]string{"", "Auto", "TCX", "XDP", "IPVS", "NFT"}).Draw(rt, "dataplane")
		s.MinServers = rapid.Int32Range(0, 9).Draw(rt, "min")
		s.BGP.Peers = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"r1", "r2"}), 0, 2, rapid.ID).Draw(rt, "peers")
		before := in.Balancer.DeepCopy()
		first, refusal := Wanted(in)
		if refusal != nil {
			rt.Fatal(refusal)
		}
		if !equality.Semantic.DeepEqual(in.Balancer, before) {
			rt.Fatal("the input was changed")
		}
		in.Current, in.Seed = proto.CloneOf(first), 9
		if second, _ := Wanted(in); !proto.Equal(first, second) {
			rt.Fatalf("%v\nthen %v", first, second)
		}
		if first.MinServers < 1 || first.TableSize == 0 || first.Scheduler == "" || first.Dataplane == "" || first.Dataplane != strings.ToLower(first.Dataplane) {
			rt.Fatalf("%v", first)
		}
	})
}
