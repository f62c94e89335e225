package wanted

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// wires is a cluster with a network of both families, which has a bandwidth, and one of the hosts.
func wires(t testing.TB) *declared.View {
	t.Helper()
	network := func(name, spec string) v1alpha1.Network {
		n := v1alpha1.Network{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := yaml.UnmarshalStrict([]byte(spec), &n.Spec); err != nil {
			t.Fatal(err)
		}
		return n
	}
	pool := func(name, network, cidr string) v1alpha1.IPPool {
		return v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.IPPoolSpec{Network: network, CIDR: cidr}}
	}
	return declared.Build(declared.Input{
		Networks: []v1alpha1.Network{network("data", `{bridge: padis0, bandwidth: {ingress: 10M, egress: 20M}}`), network("plain", `{driver: vxlan, vni: 7}`),
			network("hosts", `{driver: host}`), network("half", `{driver: vlan}`)},
		Pools: []v1alpha1.IPPool{pool("four", "data", "10.44.0.0/16"), pool("six", "data", "fd00:44::/64"), pool("plain", "plain", "10.45.0.0/16")},
	})
}

func TestWhatTravelsBesideTheRevision(t *testing.T) {
	view := wires(t)
	var base *padisv1.Revision
	for _, c := range []struct{ spec, want string }{
		{`networks: [{pool: four}, {pool: six}]`, `{}`},
		{`networks: [{pool: four, bandwidth: {ingress: 5M}}, {pool: six}]`,
			`{"bandwidths": [{"ingress": "5000000", "egress": "20000000"}, {"ingress": "10000000", "egress": "20000000"}]}`},
		{`{networks: [{pool: four}, {pool: six}], loopbackAddresses: ["FD00::1", 192.0.2.9, 192.0.2.10]}`, `{"loopbackAddresses": ["192.0.2.10", "192.0.2.9", "fd00::1"]}`},
		{`{networks: [{pool: four}, {pool: six}], unreachable: {replace: Default}}`, `{}`},
		{`{networks: [{pool: four}, {pool: six}], unreachable: {replace: Never}}`, `{"unreachable": {"replace": "NEVER"}}`},
		{`{networks: [{pool: four}, {pool: six}], unreachable: {replace: After, after: 5m}}`, `{"unreachable": {"replace": "AFTER", "afterMs": "300000"}}`},
		{`{networks: [{pool: four}, {pool: six}], unreachable: {replace: Lease, lease: 10s}}`, `{"unreachable": {"replace": "LEASE", "leaseMs": "10000"}}`},
	} {
		a := read(t, "metadata: {namespace: shop}\nspec: {template: {command: [x]}}")
		if err := yaml.Unmarshal([]byte(c.spec), &a.Spec); err != nil {
			t.Fatal(err)
		}
		id, rev, refusal := App(a, view, nil, nil)
		if refusal != nil {
			t.Fatalf("%s: %+v", c.spec, refusal)
		}
		if base == nil {
			base = rev
		}
		if !proto.Equal(rev, base) {
			t.Errorf("%s makes another revision: %v", c.spec, rev)
		}
		want := &padisv1.WantedApp{Namespace: "shop"}
		if err := protojson.Unmarshal([]byte(c.want), want); err != nil {
			t.Fatal(err)
		}
		want.Namespace = "shop"
		if !proto.Equal(id, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.spec, protojson.Format(id), protojson.Format(want))
		}
	}
	// On a network that says nothing, what the App does not say is without a limit.
	a := read(t, "spec: {template: {command: [x]}, networks: [{pool: plain, bandwidth: {egress: 1M}}]}")
	if id, _, _ := App(a, view, nil, nil); len(id.Bandwidths) != 1 || id.Bandwidths[0].Ingress != 0 || id.Bandwidths[0].Egress != 1e6 {
		t.Errorf("bandwidths %v", id.Bandwidths)
	}
}

func TestWishes(t *testing.T) {
	view := wires(t)
	for _, c := range []struct{ networks, want string }{
		{`[{pool: six, addresses: ["FD00:44::A", "fd00:44:0::b"]}]`, `pool:"six" addresses:"fd00:44::a" addresses:"fd00:44::b"`},
		{`[{network: hosts}]`, `network:"hosts"`},
		{`[{network: nowhere}]`, `NetworkNotFound: spec.networks[0].network: there is no Network "nowhere": create it, or name another`},
		{`[{network: half}]`, `NetworkNotFound: spec.networks[0].network: Network half is not in force: spec.parent: Required value`},
		{`[{network: data}]`, `Invalid: spec.networks[0].network: "data" has the driver bridge`},
		{`[{pool: four}, {network: hosts}]`, `Invalid: spec.networks[1].network: an instance that has the network of its host has no other interfaces`},
		{`[{network: hosts, pool: four}]`, `Invalid: spec.networks[0]: has both pool and network: set exactly one`},
		{`[{network: hosts, addresses: [10.44.0.1]}]`, `Invalid: spec.networks[0]: an instance that has the network of its host has neither addresses nor bandwidth`},
		{`[{}]`, `Invalid: spec.networks[0].pool: is empty`},
		{`[{pool: four, addresses: ["fd00:44::a"]}]`, `AddressOutsidePool: spec.networks[0].addresses[0]: "fd00:44::a" is an IPv6 address, and 10.44.0.0/16 of pool four is IPv4`},
		{`[{pool: six, addresses: [10.44.0.7]}]`, `AddressOutsidePool: spec.networks[0].addresses[0]: "10.44.0.7" is an IPv4 address`},
	} {
		a := read(t, "spec: {template: {command: [x]}, networks: "+c.networks+"}")
		_, rev, refusal := App(a, view, nil, nil)
		got := ""
		if refusal != nil {
			got = refusal.Reason + ": " + refusal.Message
		} else {
			// The encoding as text is not stable in its spaces.
			got = strings.Join(strings.Fields(fmt.Sprint(rev.Networks[0])), " ")
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s", c.networks, got)
		}
	}
	for spec, want := range map[string]string{
		`unreachable: {replace: After}`:                               `spec.unreachable.after: is needed with replace: After`,
		`unreachable: {replace: Lease}`:                               `spec.unreachable.lease: is needed with replace: Lease`,
		`unreachable: {replace: Lease, lease: 9s}`:                    `spec.unreachable.lease: 9s is too short`,
		`unreachable: {replace: Soon}`:                                `spec.unreachable.replace: "Soon" is none of`,
		`unreachable: {replace: After, after: -1s}`:                   `spec.unreachable.after: -1s is negative`,
		`loopbackAddresses: [10.44.0.9]`:                              `spec.loopbackAddresses[0]: "10.44.0.9" is handed out to instances by pool four: reserve it first (padis ip reserve four 10.44.0.9)`,
		`{networks: [{pool: plain}], loopbackAddresses: [10.44.0.9]}`: `spec.loopbackAddresses[0]: "10.44.0.9" is handed out to instances by pool four`,
	} {
		a := read(t, "spec: {template: {command: [x]}}")
		if err := yaml.Unmarshal([]byte(spec), &a.Spec); err != nil {
			t.Fatal(err)
		}
		if _, _, refusal := App(a, view, nil, nil); refusal == nil || !strings.HasPrefix(refusal.Message, want) {
			t.Errorf("%s: %+v, want %s", spec, refusal, want)
		}
	}
}

// The network of the host makes another revision than a pool of the same name, and pools keep the revisions that they had.
func TestTheHostsNetworkIsInTheRevision(t *testing.T) {
	hash := func(networks string) string {
		r, err := revision(read(t, "spec: {template: {command: [x]}, networks: "+networks+"}"))
		if err != nil {
			t.Fatal(err)
		}
		return r.Hash
	}
	if hash(`[{network: a}]`) == hash(`[{pool: a}]`) || hash(`[{network: a}]`) == hash(`[{network: b}]`) {
		t.Error("revisions that differ have one name")
	}
}
