package wanted

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

const full = `
metadata: {name: web, namespace: shop, uid: u1, generation: 7, labels: {team: red}}
spec:
  replicas: 3
  template:
    labels: {tier: front, zone: a}
    command: [shop, --listen, ":8080"]
    env: [{name: A, value: "1"}, {name: B}]
    workingDir: /srv
    user: nobody
    artifacts: [{uri: "http://files/x.tar.gz", sha256: "00", path: x, extract: true, executable: true}]
    resources: {cpu: 50m, memory: 16Mi, disk: 1Gi}
    ports: [{name: http, port: 8080}]
    healthChecks:
    - http: {port: 8080, bodyContains: ok, headers: {Host: a, Accept: b}, statuses: [200]}
      gracePeriod: 1500us
    - tcp: {port: 8080}
      interval: 1s
      timeout: 500ms
      failureThreshold: 5
      successThreshold: 2
    - command: {command: [true]}
    stop: {signal: SIGINT, gracePeriod: 3s}
    logs: {maxSize: 1Mi, maxFiles: 2}
  networks:
  - {pool: shop, addresses: [10.44.1.1, 10.44.1.2]}
  - {pool: back}
  placement: {constraints: [{attribute: hostname, operator: MaxPer, value: "2"}]}
  restart: {initialDelay: 2s, maxDelay: 1m, stableAfter: 10s}
`

func read(t testing.TB, text string) *v1alpha1.App {
	t.Helper()
	var a v1alpha1.App
	if err := yaml.UnmarshalStrict([]byte(strings.Replace(text, "[true]", `["true"]`, 1)), &a); err != nil {
		t.Fatal(err)
	}
	return &a
}

func revision(a *v1alpha1.App) (*padisv1.Revision, error) {
	return Revision(a, v1alpha1.Resources{}, nil)
}

func TestRevisionOfAFullApp(t *testing.T) {
	r, err := revision(read(t, full))
	if err != nil {
		t.Fatal(err)
	}
	want := &padisv1.Revision{}
	if err := protojson.Unmarshal([]byte(`{
		"hash": "19e55e38ce",
		"template": {
			"command": ["shop", "--listen", ":8080"], "env": [{"name": "A", "value": "1"}, {"name": "B"}],
			"workingDir": "/srv", "user": "nobody", "labels": {"tier": "front", "zone": "a"},
			"artifacts": [{"uri": "http://files/x.tar.gz", "sha256": "00", "path": "x", "extract": true, "executable": true}],
			"resources": {"cpuMilli": 50, "memoryMib": 16, "diskMib": 1024},
			"ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
			"healthChecks": [
				{"http": {"port": 8080, "path": "/", "statuses": [200], "bodyContains": "ok", "headers": {"Host": "a", "Accept": "b"}},
				 "gracePeriodMs": 2, "intervalMs": 5000, "timeoutMs": 2000, "failureThreshold": 3, "successThreshold": 1},
				{"tcp": {"port": 8080}, "gracePeriodMs": 30000, "intervalMs": 1000, "timeoutMs": 500, "failureThreshold": 5, "successThreshold": 2},
				{"command": {"command": ["true"]}, "gracePeriodMs": 30000, "intervalMs": 5000, "timeoutMs": 2000, "failureThreshold": 3, "successThreshold": 1}],
			"stop": {"signal": "SIGINT", "gracePeriodMs": 3000}, "logs": {"maxBytes": 1048576, "maxFiles": 2}},
		"constraints": [{"attribute": "hostname", "operator": "MAX_PER", "value": "2"}],
		"networks": [{"pool": "shop", "addresses": ["10.44.1.1", "10.44.1.2"]}, {"pool": "back"}],
		"restart": {"initialDelayMs": 2000, "maxDelayMs": 60000, "stableAfterMs": 10000}}`), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(r, want) {
		t.Errorf("got\n%s\nwant\n%s\nIf only the hash differs: an upgrade would restart every instance there is. Do not change how it is made.", protojson.Format(r), protojson.Format(want))
	}
}

func TestDefaultsOfAnAppThatSaysNothing(t *testing.T) {
	r, err := revision(read(t, `{metadata: {name: a}, spec: {template: {command: [x]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &padisv1.Revision{Hash: r.Hash, Restart: &padisv1.RestartPolicy{InitialDelayMs: 1000, MaxDelayMs: 300000, StableAfterMs: 60000},
		Template: &padisv1.Template{Command: []string{"x"}, Resources: &padisv1.Resources{CpuMilli: 100, MemoryMib: 32},
			Stop: &padisv1.Stop{Signal: "SIGTERM", GracePeriodMs: 10000}, Logs: &padisv1.LogPolicy{MaxBytes: 10 << 20, MaxFiles: 3}}}
	if !proto.Equal(r, want) {
		t.Errorf("got %s", protojson.Format(r))
	}
}

func TestWhatChangesTheHash(t *testing.T) {
	base, err := revision(read(t, full))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to string
		restarts bool
	}{
		{"replicas: 3", "replicas: 50", false},
		{"team: red", "team: blue", false},
		{`value: "2"}`, `value: "3"}`, false},
		{"10.44.1.2]", "10.44.1.2, 10.44.1.3]", false},
		{"initialDelay: 2s", "initialDelay: 9s", false},
		{"generation: 7", "generation: 8", false},
		{"{tier: front, zone: a}", "{zone: a, tier: front}", false},
		{"{name: http, port: 8080}", "{name: http, port: 8080, protocol: TCP}", false},
		{"cpu: 50m", "cpu: 0.05", false},
		{"- {pool: back}", "- {pool: back, bandwidth: {ingress: 1M}}", false},
		{"- {pool: back}", "- {pool: back}\n  loopbackAddresses: [192.0.2.1]", false},
		{"- {pool: back}", "- {pool: back}\n  unreachable: {replace: Lease, lease: 30s}", false},
		{"pool: back", "pool: other", true},
		{"- {pool: back}", "- {pool: back}\n  - {pool: third}", true},
		{"tier: front", "tier: back", true},
		{`":8080"`, `":8081"`, true},
		{`value: "1"`, `value: "2"`, true},
		{"cpu: 50m", "cpu: 51m", true},
		{"bodyContains: ok", "bodyContains: fine", true},
		{"signal: SIGINT", "signal: SIGTERM", true},
		{"maxFiles: 2", "maxFiles: 3", true},
		{"name: B", "name: C", true},
	} {
		r, err := revision(read(t, strings.Replace(full, c.from, c.to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if restarts := r.Hash != base.Hash; restarts != c.restarts {
			t.Errorf("%s -> %s: restarts instances is %v, want %v", c.from, c.to, restarts, c.restarts)
		}
	}
}

func TestRefusals(t *testing.T) {
	pool := func(name, cidr, network string, namespaces ...string) v1alpha1.IPPool {
		return v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.IPPoolSpec{
			Network: network, CIDR: cidr, Gateway: strings.Replace(cidr, ".0.0/16", ".0.1", 1), Namespaces: namespaces}}
	}
	gone := metav1.NewTime(time.Unix(1, 0))
	leaving := pool("leaving", "10.47.0.0/16", "data")
	leaving.DeletionTimestamp = &gone
	view := declared.Build(declared.Input{
		Networks: []v1alpha1.Network{{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: v1alpha1.NetworkSpec{Bridge: "padis0"}}},
		Pools: []v1alpha1.IPPool{
			pool("shop", "10.44.0.0/16", "data"), pool("back", "10.45.0.0/16", "data"),
			pool("bank", "10.46.0.0/16", "data", "bank"), pool("lost", "10.48.0.0/16", "nowhere"), leaving,
		},
		Tenants: []v1alpha1.Tenant{{ObjectMeta: metav1.ObjectMeta{Name: "retail"}, Spec: v1alpha1.TenantSpec{Namespaces: []string{"shop"}}}},
		Holders: map[string][]declared.Holder{"leaving": {{Address: "10.47.0.9", Namespace: "a", Instance: "b-0"}}},
	})
	for _, c := range []struct{ from, to, reason, message string }{
		{"", "", "", ""},
		{"pool: back", "pool: none", "PoolNotFound", `spec.networks[1].pool: there is no IPPool "none": create it, or name another`},
		{"pool: back", "pool: lost", "PoolNotFound", `spec.networks[1].pool: IPPool lost is not in force: there is no Network "nowhere": create it, or make the pool anew with another spec.network`},
		{"pool: back", "pool: bank", "PoolForbidden", `spec.networks[1].pool: "bank" may not be used by namespace shop: choose another pool, or add the namespace to spec.namespaces of the pool`},
		{"pool: back", "pool: leaving", "PoolNotFound", `spec.networks[1].pool: IPPool leaving is being deleted: name another`},
		{"10.44.1.2", "10.45.1.2", "AddressOutsidePool", `spec.networks[0].addresses[1]: "10.45.1.2" is not within 10.44.0.0/16 of pool shop: use an address of the subnet, or another pool`},
		{"10.44.1.2", "10.44.0.1", "AddressReserved", `spec.networks[0].addresses[1]: "10.44.0.1" is the gateway of pool shop: choose another address`},
		{"10.44.1.2", "10.44.1.1", "Invalid", `spec.networks[0].addresses[1]: "10.44.1.1" is already given at spec.networks[0].addresses[0]: each instance needs an address of its own`},
		{"10.44.1.2", "here", "Invalid", `spec.networks[0].addresses[1]: "here" must be an IP address, for example 10.44.0.10 or fd00:44::10`},
		{`MaxPer, value: "2"`, `Like, value: "("`, "Invalid", `spec.placement.constraints[0].value: "(" is not a regular expression: missing closing ): ` + "`(`" + `; see https://golang.org/s/re2syntax`},
		{`MaxPer, value: "2"`, `MaxPer, value: "few"`, "Invalid", `spec.placement.constraints[0].value: "few" is no whole number above 0, which MaxPer needs`},
		{`MaxPer, value: "2"`, `Best`, "Invalid", `spec.placement.constraints[0].operator: "Best" is none of Unique, MaxPer, Cluster, GroupBy, Like and Unlike`},
		{"cpu: 50m", "cpu: -1", "Invalid", `spec.template.resources.cpu: -1 is negative`},
		{"memory: 16Mi", "memory: 9E", "Invalid", `spec.template.resources.memory: 9E is more than any host has`},
		{"gracePeriod: 3s", "gracePeriod: -3s", "Invalid", `spec.template.stop.gracePeriod: -3s is negative`},
		{"tcp: {port: 8080}", "tcp: {port: 8080}\n      http: {port: 1}", "Invalid", `spec.template.healthChecks[1]: has 2 of tcp, http and command: set exactly one`},
		{"- {pool: back}", `- {pool: ""}`, "Invalid", `spec.networks[1].pool: is empty: name an IPPool, or a Network with the driver host in network`},
	} {
		id, _, refusal := App(read(t, strings.Replace(full, c.from, c.to, 1)), view, nil, nil)
		if refusal == nil && c.reason == "" {
			if id.Tenant != "retail" || id.Uid != "u1" || id.Generation != 7 || id.Labels["team"] != "red" || len(id.Slots) != 0 {
				t.Errorf("identity is %v", id)
			}
			continue
		}
		if refusal == nil || refusal.Reason != c.reason || refusal.Message != c.message {
			t.Errorf("%s -> %s: %+v", c.from, c.to, refusal)
		}
	}

	// An App that is on a pool already goes on while the pool is being deleted.
	on := &padisv1.WantedApp{Revisions: []*padisv1.Revision{{Networks: []*padisv1.NetworkWish{{Pool: "leaving"}}}}}
	if _, _, refusal := App(read(t, strings.Replace(full, "pool: back", "pool: leaving", 1)), view, nil, on); refusal != nil {
		t.Errorf("refused on its own pool: %+v", refusal)
	}
	huge := read(t, full)
	huge.Spec.Template.Env[0].Value = strings.Repeat("x", padisv1.MaxSize)
	if _, _, refusal := App(huge, view, nil, nil); refusal == nil || !strings.Contains(refusal.Message, "move large values of env into artifacts") {
		t.Errorf("too large: %+v", refusal)
	}
}

// Amounts are rounded up, never down, and by less than one unit.
func TestAmountsAreRoundedUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := *resource.NewQuantity(rapid.Int64Range(0, 1<<50).Draw(t, "bytes"), resource.BinarySI)
		mib, err := amount("x", q, 0, 1<<20)
		if err != nil || mib<<20 < q.Value() || (mib-1)<<20 >= q.Value() && mib > 0 {
			t.Fatalf("%s is %d MiB, %v", q.String(), mib, err)
		}
		d := time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "nanoseconds"))
		ms, err := milliseconds("x", d)
		if err != nil || ms < int64(d/time.Millisecond) || ms > int64(d/time.Millisecond)+1 || d > 0 && ms == 0 || d == 0 && ms != 0 {
			t.Fatalf("%s is %d ms, %v", d, ms, err)
		}
		if tiny, err := amount("x", resource.MustParse("1n"), resource.Milli, 1); err != nil || tiny != 1 {
			t.Fatalf("1n CPU is %d milli, %v", tiny, err)
		}
	})
}

// Whatever the bytes of a manifest say, converting it ends in a revision or in an error that says something.
func FuzzRevision(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(`{spec: {template: {resources: {cpu: 1e30, memory: -9E, disk: 1n}}, restart: {maxDelay: 2562047h}}}`))
	f.Add([]byte(`{spec: {networks: [{pool: a, addresses: ["", x]}], placement: {constraints: [{operator: Like, value: "("}]}}}`))
	view := declared.Build(declared.Input{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a v1alpha1.App
		if yaml.Unmarshal(b, &a) != nil {
			return
		}
		id, rev, refusal := App(&a, view, nil, nil)
		if id == nil || refusal == nil && rev == nil || refusal != nil && (refusal.Reason == "" || refusal.Message == "") {
			t.Fatalf("%v, %v, %+v", id, rev, refusal)
		}
		if rev != nil {
			if again, _ := revision(&a); !proto.Equal(rev, again) || len(rev.Hash) != hashLength {
				t.Fatalf("two revisions of one App: %s and %s", rev.Hash, fmt.Sprint(again))
			}
			if r := rev.Template.Resources; r.CpuMilli < 0 || r.MemoryMib < 0 || r.DiskMib < 0 {
				t.Fatalf("negative resources: %v", r)
			}
		}
	})
}
