package v1alpha1

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func network(t testing.TB, spec string) *Network {
	t.Helper()
	n := &Network{ObjectMeta: metav1.ObjectMeta{Name: "net"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &n.Spec); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFieldsOfDrivers(t *testing.T) {
	for _, c := range []struct {
		spec string
		want []string
	}{
		{`{bridge: padis0}`, nil},
		{`{driver: bridge, parent: eth0, takeParent: true}`, nil},
		{`{driver: bridge, gateway: Host, peers: [other]}`, nil},
		{`{driver: vlan, parent: eth1, vlan: 7}`, nil},
		{`{driver: ovs, bridge: br0, parent: eth1, vlan: 7, datapath: Netdev}`, nil},
		{`{driver: macvlan, parent: eth1, allowSpoofing: true, bandwidth: {egress: 1M}}`, nil},
		{`{driver: vxlan, vni: 7001, port: 8472, parent: eth1, gateway: Host}`, nil},
		{`{driver: macvlan, parent: eth1, mtu: 9000, allowSpoofing: true}`, nil},
		{`{driver: routed, bgp: {asn: 1, peers: [{address: 10.0.0.1, asn: 2}, {address: "fd00::1", asn: 2}]}}`, nil},
		{`{driver: host}`, nil},
		{`{sysctls: {net.core.somaxconn: "4096", net.ipv4.conf.eth0.rp_filter: "0"}}`, nil},

		{`{driver: vlan}`, []string{"spec.parent: Required value: the driver vlan needs it: name the interface", "spec.vlan: Required value: the driver vlan needs the tag"}},
		{`{driver: vxlan}`, []string{"spec.vni: Required value: the driver vxlan needs the identifier"}},
		{`{driver: macvlan, allowSpoofing: true}`, []string{"spec.parent: Required"}},
		{`{driver: macvlan, parent: eth1}`, []string{"spec.allowSpoofing: Required value: with the driver macvlan nothing stands between"}},
		{`{driver: macvlan, parent: eth1, allowSpoofing: true, bandwidth: {ingress: 1M}}`, []string{"spec.bandwidth.ingress: Forbidden: the driver macvlan has none"}},
		{`{driver: ovs, gateway: Host}`, []string{`spec.gateway: Invalid value: "Host": is nothing that hosts can be with the driver ovs`}},
		{`{bridge: br0, gateway: Host, peers: [other]}`, []string{"spec.bridge: Forbidden: networks that are routed to each other"}},
		{`{driver: macvlan, parent: eth1, allowSpoofing: true, bridge: br0, gateway: Host}`, []string{"spec.bridge: Forbidden: the driver macvlan has none: unset it, or choose the driver bridge, vlan, ovs or vxlan",
			`spec.gateway: Invalid value: "Host": is nothing that hosts can be with the driver macvlan`}},
		{`{vlan: 7, vni: 8, port: 9, datapath: System}`, []string{"spec.vlan: Forbidden", "spec.vni: Forbidden", "spec.port: Forbidden", "spec.datapath: Forbidden"}},
		{`{driver: routed, bridge: br0, parent: eth0, takeParent: true, gateway: Host}`, []string{"spec.bridge: Forbidden", "spec.parent: Forbidden", "spec.takeParent: Forbidden: the driver routed has none", "spec.gateway: Invalid"}},
		{`{driver: host, mtu: 1500, sysctls: {net.core.somaxconn: "1"}, bandwidth: {egress: 1M}}`, []string{"spec.mtu: Forbidden", "spec.sysctls: Forbidden", "spec.bandwidth: Forbidden"}},
		{`{bgp: {asn: 1, peers: [{address: 10.0.0.1, asn: 2}]}}`, []string{"spec.bgp: Forbidden: the driver bridge has none: unset it, or choose the driver routed"}},
		{`{takeParent: true}`, []string{"spec.takeParent: Forbidden: there is no parent to take"}},
		{`{parent: eth1, gateway: Host}`, []string{"the same address on the segment of parent eth1: set External, or unset parent"}},
		{`{driver: vlan, parent: eth1, vlan: 7, gateway: Host}`, []string{"spec.gateway: Invalid"}},
		{`{peers: [other]}`, []string{"spec.peers: Forbidden: only hosts that are the gateway"}},
		{`{gateway: Host, peers: [other, net]}`, []string{`spec.peers[1]: Invalid value: "net": is the network itself`}},
		{`{sysctls: {net.ipv4.conf.all.arp_ignore: "1"}}`, []string{"spec.sysctls[net.ipv4.conf.all.arp_ignore]: Invalid", "Padis sets it itself"}},
		{`{sysctls: {kernel.shmmax: "1", net..x: "1", net/core/somaxconn: "1", net.core.x: ""}}`, []string{"[kernel.shmmax]", "[net..x]", "[net/core/somaxconn]", "[net.core.x]", "must be one line of 1 to 256"}},
		{`{driver: routed, bgp: {asn: 1, peers: []}}`, []string{"spec.bgp.peers: Required value: name the routers"}},
		{`{driver: routed, bgp: {asn: 1, peers: [{address: 0.0.0.0, asn: 2}, {address: "fd00:0::1", asn: 2}, {address: "fd00::1", asn: 3}]}}`,
			[]string{`spec.bgp.peers[0].address: Invalid value: "0.0.0.0"`, `spec.bgp.peers[2].address: Invalid value: "fd00::1": is already given at spec.bgp.peers[1]`}},
		{`{driver: routed, bgp: {asn: 1, peers: [{address: 10.0.0.1, asn: 2, agents: [{attribute: rack, value: a}]}, {address: 10.0.0.1, asn: 2, agents: [{attribute: rack, value: b}]}]}}`, nil},
	} {
		errs := ValidateNetwork(network(t, c.spec))
		if len(c.want) == 0 && len(errs) > 0 {
			t.Errorf("%s: %v", c.spec, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(fmt.Sprint(errs.ToAggregate()), want) {
				t.Errorf("%s: %q is missing in %v", c.spec, want, errs)
			}
		}
	}
}

func TestNetworksUnderPools(t *testing.T) {
	pools := []IPPool{pool("v4", "net", "10.1.0.0/24"), pool("other", "elsewhere", "fd00:1::/64")}
	six := append(slices.Clone(pools), pool("v6", "net", "fd00::/64"))
	for _, c := range []struct {
		name, was, is string
		pools         []IPPool
		want          []string
	}{
		{"what may change", `{bridge: a}`, `{bridge: b, parent: eth1, mtu: 1200, allowSpoofing: true}`, pools, nil},
		{"without pools", `{vlan: 7}`, `{driver: host}`, pools[1:], nil},
		{"driver", `{}`, `{driver: macvlan, parent: eth1}`, pools, []string{"spec.driver: Forbidden: cannot be changed from bridge to macvlan while pools are on the network (v4): make a new Network"}},
		{"the default by name", `{}`, `{driver: bridge}`, pools, nil},
		{"tag", `{driver: vlan, vlan: 7}`, `{driver: vlan, vlan: 8}`, pools, []string{"spec.vlan: Forbidden: cannot be changed from 7 to 8"}},
		{"identifier", `{driver: vxlan, vni: 7}`, `{driver: vxlan, vni: 8}`, six, []string{"spec.vni: Forbidden: cannot be changed from 7 to 8 while pools are on the network (v4, v6)"}},
		{"an mtu too small for IPv6", `{mtu: 1500}`, `{mtu: 1279}`, six, []string{"does not fit IPPool v6, which has IPv6 addresses on Network net with an mtu of 1279, and IPv6 needs 1280: raise spec.mtu"}},
		{"one that was too small before", `{mtu: 1200}`, `{mtu: 1279}`, six, nil},
		{"new, after its pools", ``, `{driver: host}`, pools, []string{"does not fit IPPool v4, which is on Network net with the driver host"}},
	} {
		var old *Network
		if c.was != "" {
			old = network(t, c.was)
		}
		errs := NetworkChange(old, network(t, c.is), c.pools)
		if len(c.want) != len(errs) {
			t.Errorf("%s: %v", c.name, errs)
			continue
		}
		for i, want := range c.want {
			if !strings.Contains(errs[i].Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, errs[i], want)
			}
		}
	}
}

func TestMTUThatHolds(t *testing.T) {
	for spec, want := range map[string]int32{`{}`: 1500, `{driver: vxlan}`: 1450, `{driver: vxlan, mtu: 8950}`: 8950, `{driver: routed}`: 1500} {
		if got := network(t, spec).Spec.EffectiveMTU(); got != want {
			t.Errorf("%s: %d, want %d", spec, got, want)
		}
	}
}

func TestPoolsOfBothFamilies(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		want       []string
	}{
		{"IPv6", `{cidr: "fd00::/64", gateway: "fd00::1", ranges: [{from: "fd00::10", to: "fd00::ffff"}], reserved: [{from: "fd00::20"}]}`, nil},
		{"IPv6, one address", `{cidr: "fd00::7/128"}`, nil},
		{"IPv6, two addresses", `{cidr: "fd00::6/127", reserved: [{from: "fd00::6"}]}`, nil},
		{"IPv6, all reserved", `{cidr: "fd00::/126", reserved: [{from: "fd00::1", to: "fd00::3"}]}`, []string{"leaves no address to hand out"}},
		{"too wide", `{cidr: "fd00::/32"}`, []string{"spec.cidr", "IPv6 from /48 to /128"}},
		{"IPv4 as IPv6", `{cidr: "::ffff:10.0.0.0/120"}`, []string{"spec.cidr"}},
		{"gateway of the other family", `{cidr: "fd00::/64", gateway: 10.0.0.1}`, []string{"spec.gateway", "is an IPv4 address, and the pool has IPv6 (fd00::/64)", "IPPools of its own"}},
		{"gateway is the anycast address", `{cidr: "fd00::/64", gateway: "fd00::"}`, []string{"is the subnet-router anycast address"}},
		{"gateway with a zone", `{cidr: "fe80::/64", gateway: "fe80::1%eth0"}`, []string{"spec.gateway", "must be an IP address"}},
		{"range of the other family", `{cidr: 10.1.0.0/24, ranges: [{from: "fd00::1"}]}`, []string{"spec.ranges[0].from", "is an IPv6 address, and the pool has IPv4"}},
		{"range of two families", `{cidr: 10.1.0.0/24, reserved: [{from: 10.1.0.1, to: "fd00::1"}]}`, []string{"spec.reserved[0].to", "is of another family than from (10.1.0.1)"}},
		{"ranges that overlap", `{cidr: "fd00::/64", ranges: [{from: "fd00::20", to: "fd00::30"}, {from: "fd00::10", to: "fd00::20"}]}`, []string{"spec.ranges", "fd00::20-fd00::30", "overlaps fd00::10-fd00::20"}},
	} {
		var p IPPool
		if err := yaml.UnmarshalStrict([]byte(c.spec), &p.Spec); err != nil {
			t.Fatal(err)
		}
		errs := ValidatePool(&p)
		if (len(errs) > 0) != (len(c.want) > 0) {
			t.Errorf("%s: %v", c.name, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(fmt.Sprint(errs.ToAggregate()), want) {
				t.Errorf("%s: %q is missing in %v", c.name, want, errs)
			}
		}
	}
	a, b := pool("a", "n", "fd00::/64"), pool("b", "n", "10.1.0.0/24")
	if c := PoolClash(&a, &b); c != nil {
		t.Errorf("pools of two families clash: %v", c)
	}
	if b = pool("b", "n", "fd00::/64", "fd00::1-fd00::9"); PoolClash(&a, &b) == nil {
		t.Error("pools of IPv6 do not clash")
	}
}

func TestLoopbackAddresses(t *testing.T) {
	p := pool("blue", "n", "10.1.0.0/24", "10.1.0.10-10.1.0.99")
	p.Spec.Gateway = "10.1.0.1"
	p.Spec.Reserved = []AddressRange{{From: "10.1.0.50"}}
	for address, want := range map[string]string{
		"10.1.0.50": "", "10.1.0.200": "", "192.0.2.1": "", "fd00::1": "",
		"10.1.0.20": padisv1.ReasonAddressInUse, "10.1.0.1": padisv1.ReasonAddressReserved, "10.1.0.255": padisv1.ReasonAddressReserved,
	} {
		a := app("web")
		a.Spec.LoopbackAddresses = []string{address}
		got := ""
		if problems := ValidateAddresses(&a, []IPPool{p}); len(problems) > 0 {
			got = problems[0].Reason
		}
		if errs := ValidateApp(&a); got != want || len(errs) > 0 {
			t.Errorf("%s: %q %v, want %q", address, got, errs, want)
		}
		// What another namespace's pool has is not to be had, given out or not.
		p := p
		p.Spec.Namespaces = []string{"other"}
		a.Spec.Networks = nil
		if problems := ValidateAddresses(&a, []IPPool{p}); (len(problems) > 0 && problems[0].Reason == padisv1.ReasonPoolForbidden) != p.Contains(mustParse(address)) {
			t.Errorf("%s of another namespace: %v", address, problems)
		}
	}
	a := app("web", "10.1.0.20")
	a.Spec.LoopbackAddresses = []string{"10.1.0.20", "127.0.0.1", "ff02::1", "x", "0.0.0.0", "fe80::1"}
	if errs := ValidateApp(&a); len(errs) != 6 || !strings.Contains(errs[0].Error(), "is an instance's own address (spec.networks[0].addresses[0])") {
		t.Errorf("%d errors: %v", len(errs), errs)
	}
	a = app("web")
	a.Spec.Networks = []NetworkAttachment{{Network: "hosts"}}
	a.Spec.LoopbackAddresses = []string{"192.0.2.1"}
	if errs := ValidateApp(&a); len(errs) != 1 || !strings.Contains(errs[0].Error(), "on the host's loopback") {
		t.Error(errs)
	}
	other := network(t, `{bridge: a}`)
	other.Name = "hosts"
	if p := ValidateHostNetwork(&a, []Network{*other}); p == nil || !strings.Contains(p.Message, "has the driver bridge") {
		t.Error(p)
	}
	other.Spec.Driver = DriverHost
	if p := ValidateHostNetwork(&a, []Network{*other}); p != nil {
		t.Error(p)
	}
}

// Of the addresses that are held, exactly those are lost by a change that were given before it and are not after it.
func TestShrinkage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string) *IPPool {
			p := pool("p", "n", "10.1.0.0/24")
			for range rapid.IntRange(0, 1).Draw(t, label+" ranges") {
				from := rapid.IntRange(1, 20).Draw(t, "from")
				p.Spec.Ranges = append(p.Spec.Ranges, AddressRange{From: fmt.Sprintf("10.1.0.%d", from), To: fmt.Sprintf("10.1.0.%d", from+5)})
			}
			if rapid.Bool().Draw(t, label+" reserved") {
				p.Spec.Reserved = []AddressRange{{From: fmt.Sprintf("10.1.0.%d", rapid.IntRange(1, 25).Draw(t, "reserved"))}}
			}
			return &p
		}
		old, p := some("before"), some("after")
		lost := 0
		holders := map[string]string{}
		for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 25), 0, 3, rapid.ID[int]).Draw(t, "held") {
			a := mustParse(fmt.Sprintf("10.1.0.%d", n))
			holders[a.String()] = "shop/web-0"
			was, _ := old.Refusal(a)
			is, _ := p.Refusal(a)
			if was == "" && is != "" {
				lost++
			}
		}
		errs := Shrinkage(old, p, holders)
		if (len(errs) > 0) != (lost > 0) || lost > 0 && strings.Count(errs[0].Detail, "(shop/web-0)") != lost {
			t.Fatalf("%d are lost: %v", lost, errs)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	f.Add("10.0.0.1-10.0.0.9")
	f.Add("fd00::1")
	f.Add("255.255.255.255-::")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRange(text)
		if err != nil {
			return
		}
		again, err := ParseRange(r.String())
		if err != nil || again != r || !r.Has(mustParse(r.From)) {
			t.Fatalf("%q is %v, then %v, %v", text, r, again, err)
		}
		var s IPPoolSpec
		if !s.Reserve(r) || s.Reserve(r) || !s.Unreserve(r) || len(s.Reserved) > 0 {
			t.Fatalf("%q cannot be reserved and taken out again: %v", text, s.Reserved)
		}
	})
}
