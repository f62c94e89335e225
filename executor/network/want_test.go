package network

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestWantErrorsNameFieldAndRemedy(t *testing.T) {
	n := func(f func(*padisv1.Network)) *padisv1.Launch {
		n := &padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1"}
		f(n)
		return launch(n, false)
	}
	a := func(f func(*padisv1.Attachment)) *padisv1.Launch {
		l := n(func(*padisv1.Network) {})
		f(l.Attachments[0])
		return l
	}
	l := func(f func(*padisv1.Launch)) *padisv1.Launch { return with(n(func(*padisv1.Network) {}), f) }
	two := func(f func(first, second *padisv1.Network)) *padisv1.Launch {
		x, y := &padisv1.Network{Name: "lan", Parent: "eth1"}, &padisv1.Network{Name: "dmz", Parent: "eth2"}
		f(x, y)
		return &padisv1.Launch{Attachments: []*padisv1.Attachment{{Network: x, Address: "10.44.0.5", PrefixLength: 16}, {Network: y, Address: "10.45.0.5", PrefixLength: 16}}}
	}
	sysctl := func(name, value string) *padisv1.Launch {
		return n(func(n *padisv1.Network) { n.Sysctls = []*padisv1.Sysctl{{Name: name, Value: value}} })
	}
	for name, c := range map[string]struct {
		in   *padisv1.Launch
		says string
	}{
		"no network":      {&padisv1.Launch{Attachments: []*padisv1.Attachment{{Address: "10.0.0.1"}}}, "start the instance again"},
		"driver":          {n(func(n *padisv1.Network) { n.Driver = "token-ring" }), `driver "token-ring" is not one that this executor knows; use bridge`},
		"long bridge":     {n(func(n *padisv1.Network) { n.Bridge = "a-name-that-is-too-long" }), "correct Network.spec.bridge"},
		"slash":           {n(func(n *padisv1.Network) { n.Bridge = "../x" }), "correct Network.spec.bridge"},
		"parent":          {n(func(n *padisv1.Network) { n.Parent = "a b" }), "correct Network.spec.parent"},
		"loopback parent": {n(func(n *padisv1.Network) { n.Parent = "lo" }), "lo leads nowhere"},
		"itself":          {n(func(n *padisv1.Network) { n.Parent = "padis0" }), "both the bridge and its parent"},
		"mtu":             {n(func(n *padisv1.Network) { n.Mtu = 70000 }), "MTU 70000 is not between 576 and 65535"},
		"vlan on bridge":  {n(func(n *padisv1.Network) { n.Vlan = 5 }), "use driver vlan or ovs"},
		"vni on bridge":   {n(func(n *padisv1.Network) { n.Vni = 5 }), "use driver vxlan"},
		"no tag":          {n(func(n *padisv1.Network) { n.Driver = "vlan" }), "VLAN 0 is not between 1 and 4094"},
		"tag":             {n(func(n *padisv1.Network) { n.Driver, n.Vlan = "vlan", 4095 }), "VLAN 4095 is not between"},
		"ovs tag":         {n(func(n *padisv1.Network) { n.Driver, n.Vlan = "ovs", 4095 }), "VLAN 4095 is not between"},
		"datapath":        {n(func(n *padisv1.Network) { n.Driver, n.Datapath = "ovs", "dpdk" }), "set Network.spec.datapath to system"},
		"no trunk":        {n(func(n *padisv1.Network) { n.Driver, n.Vlan, n.Parent = "vlan", 5, "" }), "needs a parent"},
		"no vni":          {n(func(n *padisv1.Network) { n.Driver = "vxlan" }), "VNI 0 is not between 1 and 16777215"},
		"vni":             {n(func(n *padisv1.Network) { n.Driver, n.Vni = "vxlan", 1<<24 }), "VNI 16777216"},
		"port":            {n(func(n *padisv1.Network) { n.Driver, n.Vni, n.Port = "vxlan", 1, 65536 }), "UDP port 65536"},
		"macvlan alone":   {n(func(n *padisv1.Network) { n.Driver, n.Parent, n.AllowSpoofing = "macvlan", "", true }), "needs a parent"},
		"macvlan guarded": {n(func(n *padisv1.Network) { n.Driver = "macvlan" }), "set Network.spec.allowSpoofing"},
		"macvlan ingress": {n(func(n *padisv1.Network) {
			n.Driver, n.AllowSpoofing, n.Bandwidth = "macvlan", true, &padisv1.Bandwidth{Ingress: 1e6}
		}), "egress only"},
		"gateway on wire":  {n(func(n *padisv1.Network) { n.HostGateway = true }), "remove Network.spec.hostGateway"},
		"peers":            {n(func(n *padisv1.Network) { n.Peers = []string{"x"} }), "set Network.spec.hostGateway"},
		"peer's bridge":    {n(func(n *padisv1.Network) { n.HostGateway, n.Parent, n.Peers = true, "", []string{"x"} }), "remove Network.spec.bridge, or Network.spec.peers"},
		"no host gateway":  {with(n(func(n *padisv1.Network) { n.HostGateway, n.Parent = true, "" }), func(l *padisv1.Launch) { l.Attachments[0].Gateway = "" }), "set IPPool.spec.gateway"},
		"small IPv6":       {with(n(func(n *padisv1.Network) { n.Mtu = 1200 }), func(l *padisv1.Launch) { l.Attachments[0].Address = "fd00::1" }), "set Network.spec.mtu to 1280"},
		"address":          {a(func(a *padisv1.Attachment) { a.Address = "10.44.0.256" }), "of pool pool"},
		"loopback":         {a(func(a *padisv1.Attachment) { a.Address = "127.0.0.1" }), "not one that an instance can have"},
		"link-local":       {a(func(a *padisv1.Attachment) { a.Address = "fe80::5" }), "not one that an instance can have"},
		"mapped":           {a(func(a *padisv1.Attachment) { a.Address = "::ffff:10.0.0.1" }), "not one that an instance can have"},
		"zone":             {a(func(a *padisv1.Attachment) { a.Address = "fd00::1%eth0" }), "not one that an instance can have"},
		"prefix":           {a(func(a *padisv1.Attachment) { a.PrefixLength = 33 }), "prefix length 33"},
		"gateway outside":  {a(func(a *padisv1.Attachment) { a.Gateway = "10.45.0.1" }), "is outside 10.44.0.0/16; correct IPPool.spec.gateway"},
		"gateway itself":   {a(func(a *padisv1.Attachment) { a.Gateway = "10.44.0.5" }), "own address"},
		"gateway's family": {a(func(a *padisv1.Attachment) { a.Gateway = "fd00::1" }), "of another family"},
		"no gateway":       {a(func(a *padisv1.Attachment) { a.Gateway = "router" }), "is not an address"},
		"bandwidth":        {a(func(a *padisv1.Attachment) { a.Bandwidth = &padisv1.Bandwidth{Egress: -8} }), "set 0 for no limit"},
		"the same address": {l(func(l *padisv1.Launch) { l.Attachments = append(l.Attachments, l.Attachments[0]) }), "10.44.0.5 is given to the instance twice"},
		"lease":            {l(func(l *padisv1.Launch) { l.LeaseMs = 10 }), "use 1s at least"},
		"vip":              {l(func(l *padisv1.Launch) { l.LoopbackAddresses = []string{"::1"} }), `loopback address "::1"`},
		"own vip":          {l(func(l *padisv1.Launch) { l.LoopbackAddresses = []string{"10.44.0.5"} }), "also the address of interface eth0"},
		"two declarations": {two(func(x, y *padisv1.Network) { y.Name = "lan" }), "declared in two ways"},
		"one bridge":       {two(func(x, y *padisv1.Network) { x.Bridge, y.Bridge = "br0", "br0" }), "networks lan and dmz both use bridge br0"},
		"one uplink":       {two(func(x, y *padisv1.Network) { y.Parent = "eth1" }), "both take interface eth1"},
		"one tag": {two(func(x, y *padisv1.Network) {
			x.Driver, y.Driver, x.Vlan, y.Vlan, y.Parent = "vlan", "vlan", 5, 5, "eth1"
		}), "both take interface eth1.5"},
		"one vni":          {two(func(x, y *padisv1.Network) { x.Driver, y.Driver, x.Vni, y.Vni = "vxlan", "vxlan", 5, 5 }), "both have VNI 5"},
		"bridge and child": {two(func(x, y *padisv1.Network) { y.Driver, y.Parent, y.AllowSpoofing = "macvlan", "eth1", true }), "(bridge) and dmz (macvlan) both take"},
		"host and others":  {two(func(x, y *padisv1.Network) { y.Driver = "host" }), "it can have no other"},
		"host address":     {n(func(n *padisv1.Network) { n.Driver = "host" }), "the host's own addresses"},
		"not net":          {sysctl("kernel.shmmax", "1"), `sysctl "kernel.shmmax" is not a name below net.`},
		"escape":           {sysctl("net...kernel.shmmax", "1"), "is not a name below net."},
		"slashes":          {sysctl("net./etc/passwd", "1"), "is not a name below net."},
		"lines":            {sysctl("net.core.somaxconn", "1\n2"), "not one line"},
		"no value":         {sysctl("net.core.somaxconn", ""), "not one line"},
		"ours":             {sysctl("net.ipv4.conf.all.arp_ignore", "0"), "set by Padis itself"},
		"ours, IPv6":       {sysctl("net.ipv6.conf.default.disable_ipv6", "1"), "set by Padis itself"},
		"no interface":     {sysctl("net.ipv4.conf.eth3.rp_filter", "1"), "names interface eth3, which the instance does not have"},
		"two values": {two(func(x, y *padisv1.Network) {
			x.Sysctls, y.Sysctls = []*padisv1.Sysctl{{Name: "net.core.somaxconn", Value: "1"}}, []*padisv1.Sysctl{{Name: "net.core.somaxconn", Value: "2"}}
		}), "agree on one"},
	} {
		w, err := Want("o", "t", "h", c.in)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q; %+v", name, err, c.says, w)
		}
	}
}

func TestHostRefusesWhatWouldBeTheHosts(t *testing.T) {
	for name, change := range map[string]func(*padisv1.Launch){
		"loopback address": func(l *padisv1.Launch) { l.LoopbackAddresses = []string{"192.0.2.1"} },
		"sysctls": func(l *padisv1.Launch) {
			l.Attachments[0].Network.Sysctls = []*padisv1.Sysctl{{Name: "net.core.somaxconn", Value: "1"}}
		},
		"bandwidth": func(l *padisv1.Launch) { l.Attachments[0].Bandwidth = &padisv1.Bandwidth{Egress: 1e6} },
	} {
		l := &padisv1.Launch{Attachments: []*padisv1.Attachment{{Network: &padisv1.Network{Name: "h", Driver: "host"}}}}
		if w, err := Want("o", "t", "h", l); err != nil || !reflect.DeepEqual(w, Wanted{Hosted: true}) {
			t.Fatalf("%+v, %v", w, err)
		}
		change(l)
		if _, err := Want("o", "t", "h", l); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddressesOfTwoFamiliesShareAnInterface(t *testing.T) {
	lan, dmz := &padisv1.Network{Name: "lan"}, &padisv1.Network{Name: "dmz"}
	at := func(n *padisv1.Network, address string, gateway string, probe bool) *padisv1.Attachment {
		return &padisv1.Attachment{Network: n, Address: address, PrefixLength: 24, Gateway: gateway, Probe: probe}
	}
	w := mustWant(t, &padisv1.Launch{Attachments: []*padisv1.Attachment{
		at(lan, "fd00::1", "fd00::f", false), at(dmz, "10.2.0.1", "10.2.0.254", false), at(lan, "10.1.0.1", "10.1.0.254", true), at(lan, "10.1.0.2", "10.1.0.254", false), at(lan, "fd00::2", "", false),
	}})
	var got []string
	for _, i := range w.Interfaces {
		got = append(got, strings.TrimSpace(fmt.Sprintln(i.Inside, i.Network, i.MAC, i.Addresses, i.Gateways, i.Probe, i.Guarded)))
	}
	// The first interface that has a gateway of a family has the default route: here the first of both.
	want := []string{
		"eth0 lan 02:42:0a:01:00:01 [10.1.0.1/24 fd00::1/24] [10.1.0.254 fd00::f] true true",
		"eth1 dmz 02:42:0a:02:00:01 [10.2.0.1/24] [] false true",
		"eth2 lan 02:42:0a:01:00:02 [10.1.0.2/24 fd00::2/24] [] false true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if g := w.guard(w.Interfaces[0]); fmt.Sprint(g.Addresses) != "[10.1.0.1 10.1.0.2 fd00::1 fd00::2]" {
		t.Errorf("guard %v", g.Addresses)
	}
}

func TestSettingsGoWhereTheyBelong(t *testing.T) {
	n := &padisv1.Network{Name: "lan", Sysctls: []*padisv1.Sysctl{{Name: "net.ipv4.conf.eth0.rp_filter", Value: "1"}, {Name: "net.ipv4.tcp_rmem", Value: " 1\t2  3 "}, {Name: "net.ipv4.conf.default.rp_filter", Value: "2"}}}
	w := mustWant(t, launch(n, true))
	if got := fmt.Sprint(w.Settings); got != "[{ipv4/tcp_rmem 1 2 3} {ipv4/conf/default/rp_filter 2}]" {
		t.Errorf("of the namespace: %s", got)
	}
	if i := w.Interfaces[0]; i.Settings[len(i.Settings)-1] != (Setting{"ipv4/conf/eth0/rp_filter", "1"}) {
		t.Errorf("of the interface: %v", i.Settings)
	}
}

// Whatever a launch holds, Want does not panic, and gives names that Linux takes and interfaces that are whole.
func FuzzWant(f *testing.F) {
	for _, n := range networks() {
		b, _ := proto.Marshal(launch(n, n.GetName() != "child"))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l := &padisv1.Launch{}
		if proto.Unmarshal(b, l) != nil {
			return
		}
		w, err := Want("owner", "task", "host", l)
		if err != nil {
			return
		}
		for _, name := range w.HostLinks() {
			if !ValidName(name) {
				t.Fatalf("%q is not a name", name)
			}
		}
		for _, i := range w.Interfaces {
			if len(i.Addresses) < 1 || len(i.Addresses) > 2 || len(i.Gateways) > 2 || i.MTU < minMTU || i.MAC != AddressMAC(i.Addresses[0].Addr()) {
				t.Fatalf("%+v", i)
			}
		}
		for _, k := range slices.Concat(w.InsideSettings(), w.HostSettings()) {
			if strings.Contains(k, "..") || strings.ContainsAny(k, "\n\x00") || strings.HasPrefix(k, "/") {
				t.Fatalf("setting %q", k)
			}
		}
		_, _ = Plan(w, Observed{})
	})
}

func TestNamesOfDevicesFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "name")
		parent := rapid.StringMatching(`[a-z][a-z0-9]{0,14}`).Draw(t, "parent")
		tag := rapid.IntRange(1, 4094).Draw(t, "tag")
		for _, n := range []string{BridgeName(s), TunnelName(s), VLANName(parent, tag)} {
			if !ValidName(n) {
				t.Fatalf("%q is not a name", n)
			}
		}
		if VLANName(parent, tag) == VLANName(parent, tag%4094+1) {
			t.Fatal("two tags share a name")
		}
	})
}

func TestHardwareAddresses(t *testing.T) {
	for in, want := range map[string]string{"10.44.0.5": "02:42:0a:2c:00:05", "::ffff:10.44.0.5": "02:42:0a:2c:00:05", "fd00::5": "06:96:aa:09:cb:d8"} {
		if got := AddressMAC(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
