package v1alpha1

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	padisv1 "padis.io/padis/proto/padis/v1"
)

const goodBalancer = `
vips: [{pool: vips, address: 198.51.100.10}, {pool: vips}]
listeners: [{name: http, port: 80}, {name: dns, protocol: UDP, port: 53}, {name: range, port: 5000, endPort: 5999, sourceRanges: [192.0.2.0/24, "2001:db8::/32"]}]
backends: [{app: web}, {selector: {matchLabels: {tier: canary}}, percent: 5}]
directors: {networks: [{pool: shop}]}
healthChecks: [{http: {port: 80, path: /healthz}}]
bgp: {asn: 64512, communities: ["64512:100", no-export]}
`

// balancer is the good one with the top-level fields of change in place of its own.
func balancer(t testing.TB, change string) *LoadBalancer {
	t.Helper()
	b := &LoadBalancer{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u"}}
	fields := map[string]any{}
	for _, text := range []string{goodBalancer, change} {
		if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
			t.Fatal(err)
		}
	}
	text, err := yaml.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &b.Spec); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBadLoadBalancers(t *testing.T) {
	for change, want := range map[string]string{
		``: "",
		`directors: {networks: [{pool: shop, addresses: [10.0.0.1, 10.0.0.2]}], replicas: 0, placement: {constraints: [{attribute: rack, operator: GroupBy}]}}`: "",
		`listeners: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]`:                                                                                  "",
		`{dataplane: IPVS, scheduler: WeightedLeastConnection, maxConnections: 5}`:                                                                              "",
		`backends: [{app: web, weight: 0}, {app: canary, percent: 100}]`:                                                                                        "",

		`vips: []`:                              "spec.vips: Required value: name the pool of at least one VIP",
		`vips: [{address: 198.51.100.10}]`:      "spec.vips[0].pool: Required value",
		`vips: [{pool: a, address: nonsense}]`:  `spec.vips[0].address: Invalid value: "nonsense": must be an IP address`,
		`vips: [{pool: a, address: 127.0.0.1}]`: "is no address that clients can connect to",
		`vips: [{pool: a, address: "fd00::1"}, {pool: a, address: "fd00:0::1"}]`: "spec.vips[1].address: Invalid value: \"fd00:0::1\": is already given at spec.vips[0].address",
		`listeners: []`: "spec.listeners: Required value",
		`listeners: [{name: a, port: 80}, {name: b, port: 70, endPort: 90}]`: "spec.listeners[1].port: Invalid value: 70: TCP 70-90 overlaps TCP 80 of listener a (spec.listeners[0])",
		`listeners: [{name: a, port: 80, endPort: 79}]`:                      "spec.listeners[0].endPort: Invalid value: 79: is below port 80: swap the two",
		`listeners: [{name: a, port: 80, sourceRanges: [192.0.2.1/24]}]`:     "has bits set behind the prefix: write 192.0.2.0/24",
		`listeners: [{name: a, port: 80, sourceRanges: [here]}]`:             "spec.listeners[0].sourceRanges[0]: Invalid value: \"here\": must be a subnet",
		`backends: []`:   "spec.backends: Required value",
		`backends: [{}]`: "spec.backends[0].app: Required value: set exactly one of app",
		`backends: [{app: a, selector: {matchLabels: {a: b}}}]`:                                        "set exactly one of app",
		`backends: [{app: a, weight: 1, percent: 1}]`:                                                  "spec.backends[0].percent: Forbidden",
		`backends: [{app: a}, {app: a, percent: 1}]`:                                                   "spec.backends[1].app: Invalid value: \"a\": is already selected by spec.backends[0]",
		`backends: [{app: a, percent: 60}, {app: b, percent: 41}]`:                                     "spec.backends: Invalid value: 101: percent of all backends together must be at most 100",
		`scheduler: RoundRobin`:                                                                        `spec.scheduler: Invalid value: "RoundRobin": is only had by the dataplane IPVS`,
		`maxConnections: 1`:                                                                            "spec.maxConnections: Forbidden: only the dataplane IPVS counts connections",
		`directors: {networks: []}`:                                                                    "spec.directors.networks: Required value",
		`directors: {networks: [{network: metal}]}`:                                                    "spec.directors.networks[0].pool: Required value",
		`directors: {networks: [{pool: a, addresses: [10.0.0.1, 10.0.0.1]}]}`:                          "spec.directors.networks[0].addresses[1]: Invalid value: \"10.0.0.1\": is already given at",
		`directors: {networks: [{pool: a}], placement: {constraints: [{operator: Like, value: "("}]}}`: "spec.directors.placement.constraints[0].value: Invalid",
		`healthChecks: [{}]`:                                                                           "spec.healthChecks[0]: Required value: set exactly one of tcp and http",
		`healthChecks: [{tcp: {port: 80}, interval: 1s, timeout: 2s}]`:                                 `spec.healthChecks[0].timeout: Invalid value: "2s": is longer than interval 1s`,
		`bgp: {asn: 0}`: "spec.bgp.asn: Invalid value: 0",
		`bgp: {asn: 1, communities: ["70000:1"]}`:         `spec.bgp.communities[0]: Invalid value: "70000:1": is no community: write two numbers up to 65535`,
		`bgp: {asn: 1, communities: [graceful-shutdown]}`: "asks routers to avoid the route (RFC 8326), which directors say themselves",
		`bgp: {asn: 1, communities: ["65535:0"]}`:         "asks routers to avoid the route",
	} {
		errs := ValidateLoadBalancer(balancer(t, change))
		if text := fmt.Sprint(errs.ToAggregate()); want == "" && len(errs) > 0 || !strings.Contains(text, want) {
			t.Errorf("%s:\n got %s\nwant %s", change, text, want)
		}
	}
}

func TestCommunities(t *testing.T) {
	for text, want := range map[string]uint32{"64512:100": 64512<<16 | 100, "0:0": 0, "65535:65535": 0xffffffff, "no-export": 0xffffff01, "no-advertise": 0xffffff02} {
		if got, err := ParseCommunity(text); err != nil || got != want {
			t.Errorf("%s: %#x, %v", text, got, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		h, l := rapid.Uint16().Draw(t, "high"), rapid.Uint16().Draw(t, "low")
		got, err := ParseCommunity(fmt.Sprintf("%d:%d", h, l))
		if shutdown := h == 65535 && l == 0; shutdown != (err != nil) || !shutdown && got != uint32(h)<<16|uint32(l) {
			t.Fatalf("%d:%d: %#x, %v", h, l, got, err)
		}
	})
}

// Listeners are refused if and only if some port of some protocol has two.
func TestOverlapsOfListeners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &LoadBalancer{}
		taken, twice := map[string]bool{}, false
		for i := range rapid.IntRange(1, 6).Draw(t, "listeners") {
			l := Listener{Name: fmt.Sprint("l", i), Protocol: rapid.SampledFrom([]string{"", ProtocolTCP, ProtocolUDP}).Draw(t, "protocol"), Port: rapid.Int32Range(1, 30).Draw(t, "port")}
			if rapid.Bool().Draw(t, "range") {
				l.EndPort = l.Port + rapid.Int32Range(0, 5).Draw(t, "more")
			}
			for p := l.Port; p <= l.LastPort(); p++ {
				at := fmt.Sprint(l.ProtocolName(), p)
				twice = twice || taken[at]
				taken[at] = true
			}
			b.Spec.Listeners = append(b.Spec.Listeners, l)
		}
		if errs := validateListeners(b); (len(errs) > 0) != twice {
			t.Fatalf("%+v: %v, a port has two: %v", b.Spec.Listeners, errs, twice)
		}
	})
}

func TestBalancersUnderPoolsAndNetworks(t *testing.T) {
	nets := []Network{
		{ObjectMeta: metav1.ObjectMeta{Name: "virtual"}, Spec: NetworkSpec{Driver: DriverVirtual}},
		{ObjectMeta: metav1.ObjectMeta{Name: "data"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "ovs"}, Spec: NetworkSpec{Driver: DriverOVS}},
	}
	theirs := pool("theirs", "virtual", "203.0.113.0/24")
	theirs.Spec.Namespaces = []string{"bank"}
	pools := []IPPool{pool("vips", "virtual", "198.51.100.0/24"), pool("one", "virtual", "192.0.2.7/32"), pool("shop", "data", "10.1.0.0/16"), pool("ovs", "ovs", "10.2.0.0/16"), theirs}
	for change, want := range map[string]string{
		``: "",
		`vips: [{pool: vips, address: 198.51.100.0}, {pool: vips, address: 198.51.100.255}, {pool: one, address: 192.0.2.7}]`: "",
		`vips: [{pool: absent, address: 1.2.3.4}]`:                     "",
		`vips: [{pool: shop}]`:                                         `spec.vips[0].pool: "shop" is on Network data with the driver bridge, whose addresses are for instances: name a pool of a Network with the driver virtual`,
		`vips: [{pool: vips, address: 10.1.1.1}]`:                      `spec.vips[0].address: "10.1.1.1" is not within 198.51.100.0/24 of pool vips`,
		`vips: [{pool: theirs}]`:                                       `spec.vips[0].pool: "theirs" may not be used by namespace shop`,
		`directors: {networks: [{pool: vips}]}`:                        `spec.directors.networks[0].pool: "vips" is on Network virtual with the driver virtual, which gives addresses to LoadBalancers only`,
		`directors: {networks: [{pool: ovs}]}`:                         `spec.directors.networks[0].pool: "ovs" is on Network ovs with the driver ovs, and directors send to real servers by their hardware addresses: name a pool of a Network with the driver bridge, vlan or vxlan`,
		`directors: {networks: [{pool: shop, addresses: [10.9.0.1]}]}`: `spec.directors.networks[0].addresses[0]: "10.9.0.1" is not within 10.1.0.0/16 of pool shop`,
	} {
		got := ""
		for _, p := range ValidateBalancerPools(balancer(t, change), pools, nets) {
			got += p.String() + "\n"
		}
		if want == "" && got != "" || !strings.Contains(got, want) || want != "" && !strings.HasPrefix(got, "loadbalancer/shop/web: ") {
			t.Errorf("%s:\n got %s\nwant %s", change, got, want)
		}
	}
	a := &App{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: AppSpec{Networks: []NetworkAttachment{{Pool: "shop"}, {Pool: "vips"}}}}
	if got := VirtualPools(a, pools, nets); len(got) != 1 || got[0].Field != "spec.networks[1].pool" || got[0].Reason != padisv1.ReasonPoolForbidden {
		t.Errorf("an App with VIPs: %v", got)
	}
	on := func(cidr string, n int) string {
		p := pool("p", nets[n].Name, cidr)
		if problem := PoolOnNetwork(&p, &nets[n]); problem != nil {
			return problem.Message
		}
		return ""
	}
	if got := on("10.0.0.0/31", 1); !strings.Contains(got, "needs /8 to /30") || on("10.0.0.0/31", 0)+on("10.0.0.1/32", 0)+on("10.0.0.0/30", 1) != "" {
		t.Errorf("small pools: %q", got)
	}
}

func TestVirtualNetworksHaveNothingButAName(t *testing.T) {
	if errs := ValidateNetwork(network(t, `{driver: virtual}`)); len(errs) > 0 {
		t.Error(errs)
	}
	for _, spec := range []string{`bridge: a`, `parent: a`, `mtu: 1500`, `vlan: 1`, `vni: 1`, `port: 1`, `gateway: Host`, `takeParent: true`, `allowSpoofing: true`,
		`sysctls: {net.a: "1"}`, `bandwidth: {egress: 1M}`, `datapath: System`, `peers: [a]`, `bgp: {asn: 1, peers: [{address: 10.0.0.1, asn: 1}]}`} {
		if errs := ValidateNetwork(network(t, `{driver: virtual, `+spec+`}`)); len(errs) == 0 {
			t.Errorf("%s is accepted", spec)
		}
	}
}

func TestClashesOfBalancers(t *testing.T) {
	a, b := *balancer(t, ``), *balancer(t, `vips: [{pool: vips}, {pool: vips, address: 198.51.100.10}]`)
	b.Name, b.UID = "other", "o"
	b.CreationTimestamp = metav1.NewTime(time.Unix(1000, 0))
	if p := VIPClash(&b, []LoadBalancer{b}); p != nil {
		t.Errorf("with itself: %v", p)
	}
	problems := ValidateLoadBalancers([]LoadBalancer{b, a})
	if len(problems) != 1 || problems[0].String() != `loadbalancer/shop/other: spec.vips[1].address: "198.51.100.10" is wanted by LoadBalancer web in namespace shop too: choose another address, or remove it there first` {
		t.Errorf("%v", problems)
	}
	apps := []App{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-director"}}}
	if p := DirectorsNameClash(&a, apps); p == nil || !strings.Contains(p.Message, "needs the name web-director for its directors") {
		t.Errorf("%v", p)
	}
	if p := AppNameClash(&apps[0], []LoadBalancer{a}); p == nil || DirectorsNameClash(&b, apps) != nil || AppNameClash(&apps[0], []LoadBalancer{b}) != nil {
		t.Errorf("%v", p)
	}
}

func TestDirectorsAreAnApp(t *testing.T) {
	b := balancer(t, `directors: {networks: [{pool: shop}], resources: {cpu: 2}, update: {maxUnavailable: 3}}`)
	a := DirectorsApp(b)
	if errs := ValidateApp(a); len(errs) > 0 || a.Spec.Wanted() != 2 || a.Name != "web-director" || a.UID != "u" || a.Spec.Update.MaxUnavailable != 3 {
		t.Errorf("%+v, %v", a, errs)
	}
	r := a.Spec.Template.Resources
	if r.CPU.String() != "2" || r.Memory.String() != "128Mi" || b.Spec.Directors.Resources.Memory != nil {
		t.Errorf("%v", r)
	}
	if c := a.Spec.Placement.Constraints; len(c) != 1 || c[0].Attribute != "hostname" || c[0].Operator != "Unique" {
		t.Errorf("%v", c)
	}
}

func TestBadPeers(t *testing.T) {
	for spec, want := range map[string]string{
		`{address: 10.0.0.1, asn: 1}`:                                        "",
		`{address: "fd00::1", asn: 4200000000, bfd: {}, maximumPaths: 8}`:    "",
		`{address: router, asn: 1}`:                                          `spec.address: Invalid value: "router": must be the IP address of a router`,
		`{address: 0.0.0.0, asn: 1}`:                                         "spec.address",
		`{address: 10.0.0.1}`:                                                "spec.asn: Invalid value: 0",
		`{address: 10.0.0.1, asn: 1, bfd: {interval: 1s}}`:                   `spec.bfd: Invalid value: "3s": is when a silent neighbour is noticed (interval times multiplier), not before the holdTime of 3s`,
		`{address: 10.0.0.1, asn: 1, holdTime: 90s, bfd: {interval: 1s}}`:    "",
		`{address: 10.0.0.1, asn: 1, bfd: {interval: 10s, multiplier: 255}}`: "lower interval or multiplier",
	} {
		p := &BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r"}}
		if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		if errs := ValidateBGPPeer(p); want == "" && len(errs) > 0 || !strings.Contains(fmt.Sprint(errs.ToAggregate()), want) {
			t.Errorf("%s: %v, want %s", spec, errs, want)
		}
	}
	peer := func(name, address string, age int64, agents ...AgentSelector) BGPPeer {
		return BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(age, 0))}, Spec: BGPPeerSpec{Address: address, ASN: 1, Agents: agents}}
	}
	rack := func(v string) AgentSelector { return AgentSelector{Attribute: "rack", Value: v} }
	got := ValidateBGPPeers([]BGPPeer{peer("young", "10.0.0.1", 9), peer("old", "10.0.0.1", 1), peer("a", "10.0.0.2", 1, rack("a")), peer("b", "10.0.0.2", 1, rack("b"))})
	if len(got) != 1 || got[0].Object != "bgppeer/young" || !strings.Contains(got[0].Message, "is the router of BGPPeer old already") {
		t.Errorf("%v", got)
	}
}
