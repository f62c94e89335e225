package declared

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden views anew")

// read makes an input of YAML documents, each a second younger than the one before.
func read(t *testing.T, text string) Input {
	var in Input
	for n, doc := range strings.Split(text, "\n---\n") {
		var kind metav1.TypeMeta
		decode(t, doc, &kind, yaml.Unmarshal)
		age := metav1.NewTime(time.Unix(int64(1000+n), 0))
		switch kind.Kind {
		case "Network":
			var o v1alpha1.Network
			decode(t, doc, &o, yaml.UnmarshalStrict)
			o.CreationTimestamp = age
			in.Networks = append(in.Networks, o)
		case "IPPool":
			var o v1alpha1.IPPool
			decode(t, doc, &o, yaml.UnmarshalStrict)
			o.CreationTimestamp = age
			in.Pools = append(in.Pools, o)
		case "Tenant":
			var o v1alpha1.Tenant
			decode(t, doc, &o, yaml.UnmarshalStrict)
			o.CreationTimestamp = age
			in.Tenants = append(in.Tenants, o)
		case "BGPPeer":
			var o v1alpha1.BGPPeer
			decode(t, doc, &o, yaml.UnmarshalStrict)
			o.CreationTimestamp = age
			in.Peers = append(in.Peers, o)
		default:
			t.Fatalf("kind %q", kind.Kind)
		}
	}
	return in
}

func decode(t *testing.T, doc string, into any, f func([]byte, any, ...yaml.JSONOpt) error) {
	t.Helper()
	if err := f([]byte(doc), into); err != nil {
		t.Fatalf("%v in\n%s", err, doc)
	}
}

func show(v *View) string {
	var b strings.Builder
	for _, kind := range []struct {
		name     string
		verdicts map[string]Verdict
	}{{"network", v.Networks}, {"pool", v.Pools}, {"tenant", v.Tenants}, {"peer", v.Peers}} {
		for _, n := range slices.Sorted(maps.Keys(kind.verdicts)) {
			j := kind.verdicts[n]
			fmt.Fprintf(&b, "%s/%s accepted=%v protected=%v %s: %s\n", kind.name, n, j.Accepted, j.Protected, j.Reason, j.Message)
		}
	}
	for _, n := range v.Cluster.Networks {
		fmt.Fprintf(&b, "in force: network %s: %s bridge %s parent %q mtu %d%s\n", n.Name, n.Driver, n.Bridge, n.Parent, n.Mtu, rest(n))
	}
	for _, p := range v.Cluster.Pools {
		fmt.Fprintf(&b, "in force: pool %s on %s: %s via %q", p.Name, p.Network, p.Cidr, p.Gateway)
		for _, r := range p.Ranges {
			fmt.Fprintf(&b, ", give %s-%s", r.From, r.To)
		}
		for _, r := range p.Reserved {
			fmt.Fprintf(&b, ", keep %s-%s", r.From, r.To)
		}
		fmt.Fprintf(&b, ", namespaces %v, dns %v", p.Namespaces, p.DnsServers)
		if p.ReuseDelayMs > 0 {
			fmt.Fprintf(&b, ", rest %d ms", p.ReuseDelayMs)
		}
		b.WriteByte('\n')
	}
	for _, t := range v.Cluster.Tenants {
		fmt.Fprintf(&b, "in force: tenant %s of %v, apart from %v, on", t.Name, t.Namespaces, t.NotColocatedWith)
		for _, d := range t.Dedicated {
			fmt.Fprintf(&b, " %s=%s", d.Attribute, d.Value)
		}
		for _, q := range t.AddressQuotas {
			fmt.Fprintf(&b, ", at most %d of %q", q.Max, q.Pool)
		}
		b.WriteByte('\n')
	}
	for _, n := range v.AllPeers() {
		if p, ok := v.Peer(n); ok {
			r := p.Wire.Router
			fmt.Fprintf(&b, "in force: peer %s: %s as %d hold %d password %q, on", p.Wire.Name, r.Address, r.Asn, r.HoldMs, r.Password)
			for _, a := range r.Agents {
				fmt.Fprintf(&b, " %s=%s", a.Attribute, a.Value)
			}
			fmt.Fprintf(&b, ", bfd %d ms times %d, both families %v, %d paths\n", p.Wire.BfdIntervalMs, p.Wire.BfdMultiplier, p.Wire.BothFamilies, p.MaximumPaths)
		}
	}
	return b.String()
}

// rest is what only some networks have.
func rest(n *padisv1.Network) string {
	var parts []string
	for _, f := range []struct {
		name  string
		value any
		set   bool
	}{
		{"vlan", n.Vlan, n.Vlan != 0},
		{"vni", n.Vni, n.Vni != 0},
		{"port", n.Port, n.Port != 0},
		{"datapath", n.Datapath, n.Datapath != ""},
		{"take parent", n.TakeParent, n.TakeParent},
		{"host gateway", n.HostGateway, n.HostGateway},
		{"peers", n.Peers, len(n.Peers) > 0},
		{"spoofing", n.AllowSpoofing, n.AllowSpoofing},
		{"in", n.Bandwidth.GetIngress(), n.Bandwidth.GetIngress() != 0},
		{"out", n.Bandwidth.GetEgress(), n.Bandwidth.GetEgress() != 0},
	} {
		if f.set {
			parts = append(parts, fmt.Sprint(f.name, " ", f.value))
		}
	}
	for _, s := range n.Sysctls {
		parts = append(parts, s.Name+"="+s.Value)
	}
	if n.Bgp != nil {
		parts = append(parts, fmt.Sprint("as ", n.Bgp.Asn))
		for _, p := range n.Bgp.Peers {
			parts = append(parts, fmt.Sprintf("%s as %d port %d hold %d password %q", p.Address, p.Asn, p.Port, p.HoldMs, p.Password))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return ", " + strings.Join(parts, ", ")
}

func TestViews(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := read(t, string(text))
			in.Secrets = config.Objects{{Kind: config.Secret, Namespace: "infra", Name: "bgp"}: {Data: map[string][]byte{"password": []byte("p")}}}
			in.Holders = map[string][]Holder{"held": {}}
			for n := range 7 {
				in.Holders["held"] = append(in.Holders["held"], Holder{fmt.Sprintf("10.44.0.%d", n+1), "shop", fmt.Sprintf("web-%d", n)})
			}
			got := show(Build(in))
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("view differs from %s (go test -update writes it anew):\n%s", golden, got)
			}
		})
	}
}

// belongings is what a network has on each host. What is shared with others of the same word is no clash.
func belongings(n *padisv1.Network) map[string]string {
	out := map[string]string{}
	tagged := ""
	if n.Driver == v1alpha1.DriverOVS && n.Bridge != "" {
		tagged = n.Bridge + " of " + n.Parent
		out[fmt.Sprintf("tag %d of %s", n.Vlan, n.Bridge)] = ""
	}
	if n.Bridge != "" {
		out[n.Bridge] = tagged
	}
	switch {
	case n.Parent == "":
	case n.Driver == v1alpha1.DriverBridge:
		out[n.Parent] = ""
	case n.Driver == v1alpha1.DriverOVS:
		out[n.Parent] = tagged
	case n.Driver == v1alpha1.DriverMacvlan:
		out[n.Parent] = "macvlan"
	}
	if n.Vlan != 0 && n.Parent != "" {
		out[fmt.Sprintf("tag %d of %s", n.Vlan, n.Parent)] = ""
	}
	if n.Driver == v1alpha1.DriverVXLAN {
		out[fmt.Sprint("segment ", n.Vni)] = ""
	}
	return out
}

// Whatever is declared: no two networks in force share a bridge or an uplink, pools in force are on networks in force and
// share no address, every namespace has one tenant, every tenant is in force, and the order of the input does not matter.
func TestWhatIsInForceFitsTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in Input
		name := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		meta := func(n string) metav1.ObjectMeta {
			m := metav1.ObjectMeta{Name: n, CreationTimestamp: metav1.NewTime(time.Unix(rapid.Int64Range(1, 3).Draw(t, "age"), 0))}
			if rapid.IntRange(0, 4).Draw(t, "leaving") == 0 {
				now := metav1.NewTime(time.Unix(9, 0))
				m.DeletionTimestamp = &now
			}
			return m
		}
		names := rapid.SliceOfNDistinct(name, 0, 4, rapid.ID[string])
		for _, n := range names.Draw(t, "networks") {
			in.Networks = append(in.Networks, v1alpha1.Network{ObjectMeta: meta(n), Spec: v1alpha1.NetworkSpec{
				Driver: rapid.SampledFrom([]string{"", "bridge", "ovs", "vlan", "macvlan", "vxlan", "routed", "host"}).Draw(t, "driver"), MTU: rapid.SampledFrom([]int32{0, 1200}).Draw(t, "mtu"),
				VLAN: rapid.Int32Range(0, 2).Draw(t, "vlan"), VNI: rapid.Int32Range(0, 2).Draw(t, "vni"),
				Bridge: rapid.SampledFrom([]string{"", "br0", "br1", "br2"}).Draw(t, "bridge"), Parent: rapid.SampledFrom([]string{"", "eth1", "eth2"}).Draw(t, "parent")}})
		}
		for _, n := range names.Draw(t, "pools") {
			base := rapid.IntRange(1, 250).Draw(t, "from")
			in.Pools = append(in.Pools, v1alpha1.IPPool{ObjectMeta: meta(n), Spec: v1alpha1.IPPoolSpec{
				Network: name.Draw(t, "network"), CIDR: rapid.SampledFrom([]string{"10.1.0.0/24", "10.1.0.0/16", "10.2.0.0/24"}).Draw(t, "cidr"),
				Ranges: []v1alpha1.AddressRange{{From: fmt.Sprintf("10.1.0.%d", base), To: fmt.Sprintf("10.1.0.%d", base+4)}}}})
		}
		for _, n := range names.Draw(t, "tenants") {
			in.Tenants = append(in.Tenants, v1alpha1.Tenant{ObjectMeta: meta(n), Spec: v1alpha1.TenantSpec{
				Namespaces: names.Draw(t, "namespaces"), NotColocatedWith: names.Draw(t, "apart")}})
		}
		v := Build(in)

		networks, had := map[string]bool{}, map[string]string{}
		for _, n := range v.Cluster.Networks {
			networks[n.Name] = n.Driver != v1alpha1.DriverHost
			for thing, shared := range belongings(n) {
				if other, taken := had[thing]; taken && (shared == "" || other != shared) {
					t.Fatalf("two networks have %s: %v", thing, v.Cluster.Networks)
				}
				had[thing] = shared
			}
			if n.Driver == v1alpha1.DriverVLAN && (n.Parent == "" || n.Vlan == 0) || n.Driver == v1alpha1.DriverVXLAN && n.Vni == 0 || n.Driver == v1alpha1.DriverMacvlan && n.Parent == "" {
				t.Fatalf("in force, and cannot be made: %v", n)
			}
		}
		given := map[string]string{}
		for _, p := range v.Cluster.Pools {
			if !networks[p.Network] {
				t.Fatalf("pool %s is in force, its network %s is not", p.Name, p.Network)
			}
			var a, b, c, from, to int
			fmt.Sscanf(p.Ranges[0].From, "%d.%d.%d.%d", &a, &b, &c, &from)
			fmt.Sscanf(p.Ranges[0].To, "%d.%d.%d.%d", &a, &b, &c, &to)
			for x := from; x <= to; x++ {
				address := fmt.Sprintf("%d.%d.%d.%d", a, b, c, x)
				if given[address] != "" {
					t.Fatalf("%s is given by pools %s and %s", address, given[address], p.Name)
				}
				given[address] = p.Name
			}
		}
		owner := map[string]string{}
		for _, x := range v.Cluster.Tenants {
			for _, ns := range x.Namespaces {
				if owner[ns] != "" || v.TenantOf(ns) != x.Name {
					t.Fatalf("namespace %s belongs to %s, %s and %s", ns, owner[ns], x.Name, v.TenantOf(ns))
				}
				owner[ns] = x.Name
			}
		}
		if len(v.Cluster.Tenants) != len(in.Tenants) || len(v.Pools) != len(in.Pools) || len(v.Networks) != len(in.Networks) || len(v.Tenants) != len(in.Tenants) {
			t.Fatalf("something has no verdict, or a tenant was left out")
		}
		for _, verdicts := range []map[string]Verdict{v.Networks, v.Pools, v.Tenants} {
			for n, j := range verdicts {
				if j.Reason == "" || j.Message == "" {
					t.Fatalf("the verdict on %s explains nothing", n)
				}
			}
		}
		slices.Reverse(in.Networks)
		slices.Reverse(in.Pools)
		slices.Reverse(in.Tenants)
		if again := Build(in); !proto.Equal(again.Cluster, v.Cluster) || show(again) != show(v) {
			t.Fatalf("the order of the input matters:\n%s\n%s", show(v), show(again))
		}
	})
}
