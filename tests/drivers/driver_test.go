package drivers

import (
	"net/netip"

	padisv1 "padis.io/padis/proto/padis/v1"
)

type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
	dual family = "dual"
)

func (f family) has(a netip.Addr) bool { return f == dual || (f == ipv4) == a.Is4() }

// of leaves those addresses or subnets that are of the family.
func (f family) of(all ...string) []string {
	var out []string
	for _, s := range all {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			p = netip.PrefixFrom(netip.MustParseAddr(s), 1)
		}
		if f.has(p.Addr()) {
			out = append(out, s)
		}
	}
	return out
}

// driver is a way to plug instances in, and what can be expected of it.
type driver struct {
	name    string
	network *padisv1.Network
	// labOnly: kernels may lack it.
	labOnly bool
	// families that are tried; nil is all.
	families []family
	// routed: the machine outside reaches instances by their hosts' addresses on the wire; otherwise it is on their own
	// segment and has its gateway.
	routed bool
	// wired: members hear multicasts.
	wired bool
	// tag of frames on the wire.
	tag int
	// noDefault: the hosts have no default route of IPv4.
	noDefault bool
	// spoofed: instances may send what they want.
	spoofed bool
	// outgoing: only what instances send can be limited.
	outgoing bool
	// probesHere: another host cannot ask for an address, only the same one.
	probesHere bool
}

func drivers() []driver {
	ovs := func(datapath string, vlan int32) *padisv1.Network {
		return &padisv1.Network{Name: "lan", Driver: "ovs", Bridge: "br-lan", Parent: "eth1", Datapath: datapath, Vlan: vlan}
	}
	return []driver{
		{name: "bridge", wired: true, network: &padisv1.Network{Name: "lan", Driver: "bridge", Parent: "eth1"}},
		{name: "take-parent", wired: true, network: &padisv1.Network{Name: "lan", Driver: "bridge", Parent: "eth1", TakeParent: true}},
		{name: "vlan", wired: true, labOnly: true, tag: 100, network: &padisv1.Network{Name: "lan", Driver: "vlan", Parent: "eth1", Vlan: 100}},
		{name: "ovs-netdev", wired: true, network: ovs("netdev", 0)},
		{name: "ovs-netdev-tagged", families: []family{dual}, wired: true, labOnly: true, tag: 100, network: ovs("netdev", 100)},
		{name: "ovs-system", families: []family{dual}, wired: true, labOnly: true, network: ovs("system", 0)},
		{name: "ovs-system-tagged", wired: true, labOnly: true, tag: 100, network: ovs("system", 100)},
		{name: "vxlan", wired: true, routed: true, network: &padisv1.Network{Name: "lan", Driver: "vxlan", Parent: "eth1", Vni: 77, HostGateway: true, Mtu: 1430}},
		{name: "macvlan", wired: true, spoofed: true, outgoing: true, network: &padisv1.Network{Name: "lan", Driver: "macvlan", Parent: "eth1", AllowSpoofing: true}},
		{name: "routed", routed: true, probesHere: true, network: &padisv1.Network{Name: "lan", Driver: "routed", Parent: "eth1"}},
		{name: "routed-no-default", families: []family{ipv4}, noDefault: true, routed: true, probesHere: true, network: &padisv1.Network{Name: "lan", Driver: "routed", Parent: "eth1"}},
	}
}
