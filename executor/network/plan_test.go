package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func device(name string, addresses ...string) Link {
	return Link{Name: name, Kind: "device", MTU: 1500, Up: true, MAC: MAC{0, 0x16, 0x3e, 0, 0, 1}, Addresses: prefixes(addresses...)}
}

// launch attaches to one network with an IPv4 address, and an IPv6 address if dual.
func launch(n *padisv1.Network, dual bool) *padisv1.Launch {
	l := &padisv1.Launch{Attachments: []*padisv1.Attachment{{Network: n, Pool: "pool", Address: "10.44.0.5", PrefixLength: 16, Gateway: "10.44.255.254"}}}
	if dual {
		l.Attachments = append(l.Attachments, &padisv1.Attachment{Network: n, Pool: "pool6", Address: "fd00::5", PrefixLength: 64, Gateway: "fd00::ffff"})
	}
	return l
}

func TestPlansReadAsCommands(t *testing.T) {
	ra := map[string]string{"ipv6/conf/eth1/accept_ra": "1"}
	uplink := []Route{{Destination: netip.MustParsePrefix("192.0.2.0/24"), Link: "eth1"}, {Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.9"), Link: "eth1"},
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.254"), Link: "eth1"}}
	for name, c := range map[string]struct {
		launch  *padisv1.Launch
		world   *world
		want    string
		silence string
	}{
		"bridge": {launch(&padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1"}, false), newWorld(device("eth1")),
			`ip link add padis0 address 02:50:ec:c7:6f:7f mtu 1500 up type bridge forward_delay 0 stp_state 0
ip link set eth1 master padis0
ip link add END mtu 1500 master padis0 up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500
guard END: only 02:42:0a:2c:00:05 with 10.44.0.5
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=1
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip -n INSTANCE addr replace 10.44.0.5/16 dev eth0
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
`, `[ip link set END down unguard END]`},
		"bridge that takes its parent": {launch(&padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1", TakeParent: true, AllowSpoofing: true}, false), &world{host: []Link{device("eth1", "192.0.2.7/24")}, hostRoutes: uplink},
			`ip link add padis0 address 00:16:3e:00:00:01 mtu 1500 up type bridge forward_delay 0 stp_state 0
ip link set eth1 master padis0 && ip addr del 192.0.2.7/24 dev eth1 && ip addr replace 192.0.2.7/24 dev padis0 && ip route replace 198.51.100.0/24 via 192.0.2.9 dev padis0 && ip route replace default via 192.0.2.254 dev padis0 # all is put back if 192.0.2.254 does not answer
ip link add END mtu 1500 master padis0 up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=1
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip -n INSTANCE addr replace 10.44.0.5/16 dev eth0
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
`, `[ip link set END down]`},
		"vlan, dual stack, with a lease": {with(launch(&padisv1.Network{Name: "lan", Driver: "vlan", Parent: "eth1", Vlan: 100}, true), func(l *padisv1.Launch) { l.LeaseMs = 30000 }), newWorld(device("eth1")),
			`ip link add pb-bffdm6ycmjdp address 02:50:30:7d:a4:cc mtu 1500 up type bridge forward_delay 0 stp_state 0
ip link add link eth1 name eth1.100 mtu 1500 up type vlan id 100
ip link set eth1.100 master pb-bffdm6ycmjdp
ip link add END mtu 1500 master pb-bffdm6ycmjdp up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500
guard END: only 02:42:0a:2c:00:05 with 10.44.0.5, fd00::5
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/accept_ra=0
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/autoconf=0
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/accept_dad=0
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/ndisc_notify=1
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=0
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip -n INSTANCE addr replace 10.44.0.5/16 dev eth0 valid_lft 30 preferred_lft 30
ip -n INSTANCE addr replace fd00::5/64 dev eth0 nodad valid_lft 30 preferred_lft 30
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
ip -n INSTANCE route replace default via fd00::ffff dev eth0
`, `[ip link set END down unguard END]`},
		"vxlan with gateways": {launch(&padisv1.Network{Name: "lan", Driver: "vxlan", Parent: "eth1", Vni: 7, HostGateway: true, Peers: []string{"other"}}, false), newWorld(device("eth1", "192.0.2.7/24")),
			`ip link add pb-bffdm6ycmjdp address 02:50:30:7d:a4:cc mtu 1450 up type bridge forward_delay 0 stp_state 0
ip link add pv-bffdm6ycmjdp address 02:51:30:7d:a4:cc mtu 1450 up type vxlan id 7 dstport 4789 nolearning local 192.0.2.7 dev eth1
ip link set pv-bffdm6ycmjdp master pb-bffdm6ycmjdp
bridge link set dev pv-bffdm6ycmjdp flood off learning off neigh_suppress on
keep pb-bffdm6ycmjdp apart from other networks but pb-3euyuegrwbzv
sysctl -w net/ipv6/conf/pb-bffdm6ycmjdp/accept_ra=0
sysctl -w net/ipv4/ip_forward=1
ip addr replace 10.44.255.254/16 dev pb-bffdm6ycmjdp
ip link add END mtu 1450 master pb-bffdm6ycmjdp up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1450
guard END: only 02:42:0a:2c:00:05 with 10.44.0.5
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=1
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip -n INSTANCE addr replace 10.44.0.5/16 dev eth0
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
`, `[ip link set END down unguard END]`},
		"ovs with bandwidths": {with(launch(&padisv1.Network{Name: "lan", Driver: "ovs", Bridge: "br-ex", Parent: "eth1", Vlan: 5, Datapath: "netdev", Bandwidth: &padisv1.Bandwidth{Ingress: 1e9, Egress: 8001}}, false), nil), newWorld(device("eth1")),
			`ovs-vsctl --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev
ip link set br-ex up
ovs-vsctl --may-exist add-port br-ex eth1 -- clear port eth1 tag
ip link add END mtu 1500 up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500
ip netns exec INSTANCE ethtool -K eth0 tx off
ovs-vsctl --may-exist add-port br-ex END -- set port END tag=5
guard END: only 02:42:0a:2c:00:05 with 10.44.0.5
tc qdisc replace dev END root tbf rate 1000000000bit burst 1250000 latency 50ms
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=1
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
tc -n INSTANCE qdisc replace dev eth0 root tbf rate 8000bit burst 65536 latency 50ms
ip -n INSTANCE addr replace 10.44.0.5/16 dev eth0
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
`, `[ip link set END down ovs-vsctl --if-exists del-port br-ex END unguard END]`},
		"macvlan": {launch(&padisv1.Network{Name: "lan", Driver: "macvlan", Parent: "eth1", AllowSpoofing: true}, false), newWorld(device("eth1", "192.0.2.7/24")),
			`ip link add link eth1 name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500 type macvlan mode bridge
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=1
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip -n INSTANCE addr replace 10.44.0.5/16 dev eth0
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
`, `[ip -n INSTANCE link set eth0 down]`},
		"routed, dual stack, with a load balancer": {with(launch(&padisv1.Network{Name: "lan", Driver: "routed", Parent: "eth1"}, true), func(l *padisv1.Launch) { l.LoopbackAddresses = []string{"192.0.2.80"} }), &world{host: []Link{loopback(), device("eth1", "192.0.2.7/24")}, hostSet: ra},
			`ip netns exec INSTANCE sysctl -w net/ipv4/conf/all/arp_ignore=1
ip netns exec INSTANCE sysctl -w net/ipv4/conf/all/arp_announce=2
ip link add END mtu 1500 up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500
guard END: only 02:42:0a:2c:00:05 with 10.44.0.5, fd00::5, IP also from 192.0.2.80
sysctl -w net/ipv6/conf/END/accept_ra=0
sysctl -w net/ipv4/conf/END/proxy_arp=1
sysctl -w net/ipv4/neigh/END/proxy_delay=0
sysctl -w net/ipv4/ip_forward=1
sysctl -w net/ipv6/conf/END/disable_ipv6=0
sysctl -w net/ipv6/conf/eth1/accept_ra=2
sysctl -w net/ipv6/conf/all/forwarding=1
ip addr replace fe80::1/64 dev END nodad
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/accept_ra=0
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/autoconf=0
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/accept_dad=0
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/ndisc_notify=1
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=0
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip -n INSTANCE addr replace 10.44.0.5/32 dev eth0
ip -n INSTANCE addr replace fd00::5/128 dev eth0 nodad
ip -n INSTANCE link set eth0 up
ip -n INSTANCE link set lo up
ip -n INSTANCE addr replace 192.0.2.80/32 dev lo
ip route replace 169.254.1.1/32 dev lo
ip route replace 10.44.0.5/32 dev END
ip route replace fd00::5/128 dev END
ip -n INSTANCE route replace default via 169.254.1.1 dev eth0 onlink
ip -n INSTANCE route replace default via fe80::1 dev eth0 onlink
`, `[ip route del 10.44.0.5/32 dev END ip route del fd00::5/128 dev END ip link set END down unguard END]`},
		"host": {&padisv1.Launch{Attachments: []*padisv1.Attachment{{Network: &padisv1.Network{Name: "lan", Driver: "host"}}}}, newWorld(), "", "[]"},
	} {
		t.Run(name, func(t *testing.T) {
			base := newWorld()
			c.world.inside, c.world.insideSet, c.world.guarded, c.world.hosted, c.world.number, c.world.guardedNumber, c.world.valid = base.inside, base.insideSet, base.guarded, base.hosted, base.number, base.guardedNumber, base.valid
			if c.world.hostSet == nil {
				c.world.hostSet = base.hostSet
			}
			w := mustWant(t, c.launch)
			end := HostEnd("me", "task", 0)
			ops, err := Plan(w, c.world.observed())
			if err != nil {
				t.Fatal(err)
			}
			if err := c.world.apply(ops); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimPrefix(strings.ReplaceAll(c.world.String(), end, "END"), "\n"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if got := strings.ReplaceAll(fmt.Sprint(Silence(w, c.world.observed())), end, "END"); got != c.silence {
				t.Errorf("silence: got %s, want %s", got, c.silence)
			}
		})
	}
}

func with(l *padisv1.Launch, f func(*padisv1.Launch)) *padisv1.Launch {
	if f != nil {
		f(l)
	}
	return l
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	port := func(l Link, master string) Link { l.Master = master; return l }
	narrow := func(l Link, mtu int) Link { l.MTU = mtu; return l }
	flat := &padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1"}
	taking := &padisv1.Network{Name: "lan", Bridge: "padis0", Parent: "eth1", TakeParent: true}
	vlan := &padisv1.Network{Name: "lan", Driver: "vlan", Parent: "eth1", Vlan: 100}
	vxlan := &padisv1.Network{Name: "lan", Driver: "vxlan", Parent: "eth1", Vni: 7}
	ovs := &padisv1.Network{Name: "lan", Driver: "ovs", Bridge: "padis0", Parent: "eth1", Vlan: 5}
	macvlan := &padisv1.Network{Name: "lan", Driver: "macvlan", Parent: "eth1", AllowSpoofing: true}
	end, tunnel := HostEnd("me", "task", 0), TunnelName("lan")
	uplink := []Route{{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::9"), Link: "eth1"}}
	addressed := device("eth1", "192.0.2.7/24")
	sub := Link{Name: "eth1.100", Kind: "vlan", VLAN: 100, Under: "eth1", MTU: 1500}
	own := Link{Name: tunnel, Kind: "vxlan", VNI: 7, Port: 4789, Local: netip.MustParseAddr("192.0.2.7"), Under: "eth1", MTU: 1450}
	changed := func(l Link, f func(*Link)) Link { f(&l); return l }
	for name, c := range map[string]struct {
		network *padisv1.Network
		o       Observed
		says    string
	}{
		"no parent":              {flat, Observed{}, "no interface eth1; correct Network.spec.parent"},
		"parent has addresses":   {flat, Observed{Host: []Link{addressed}}, "carries the address 192.0.2.7/24, which the host would lose as a port of padis0; use an interface without addresses; or set Network.spec.takeParent"},
		"only uplink":            {flat, Observed{Host: []Link{device("eth1")}, HostRoutes: uplink}, "is the host's uplink"},
		"parent taken":           {flat, Observed{Host: []Link{port(device("eth1"), "docker0")}}, "already a port of docker0"},
		"parent taken, consent":  {taking, Observed{Host: []Link{port(addressed, "docker0")}}, "already a port of docker0"},
		"parent too narrow":      {flat, Observed{Host: []Link{narrow(device("eth1"), 1400)}}, "set Network.spec.mtu to 1400 or less, or raise the interface's (ip link set eth1 mtu 1500)"},
		"parent is a bridge":     {flat, Observed{Host: []Link{{Name: "eth1", Kind: "bridge", MTU: 1500}}}, "is a bridge itself"},
		"bridge is no bridge":    {flat, Observed{Host: []Link{device("eth1"), device("padis0")}}, "choose another name in Network.spec.bridge"},
		"end is a stranger":      {flat, Observed{Host: []Link{device("eth1"), device(end)}}, "remove it"},
		"inside is a stranger":   {flat, Observed{Host: []Link{device("eth1")}, Inside: []Link{device("eth0")}}, "start it with a network namespace of its own"},
		"no trunk":               {vlan, Observed{}, "no interface eth1"},
		"trunk too narrow":       {vlan, Observed{Host: []Link{narrow(device("eth1"), 1496)}}, "set Network.spec.mtu to 1496"},
		"trunk in an aggregate":  {vlan, Observed{Host: []Link{port(device("eth1"), "bond0")}}, "use bond0"},
		"other tag":              {vlan, Observed{Host: []Link{device("eth1"), changed(sub, func(l *Link) { l.VLAN = 7 })}}, "is VLAN 7 of eth1, not VLAN 100 of eth1; remove it (ip link del eth1.100)"},
		"other kind":             {vlan, Observed{Host: []Link{device("eth1"), device("eth1.100")}}, "is of kind device, not VLAN 100"},
		"sub-interface narrow":   {vlan, Observed{Host: []Link{device("eth1"), narrow(sub, 1400)}}, "ip link set eth1.100 mtu 1500"},
		"sub-interface taken":    {vlan, Observed{Host: []Link{device("eth1"), port(sub, "br0")}}, "already a port of br0"},
		"sub-interface used":     {vlan, Observed{Host: []Link{device("eth1"), changed(sub, func(l *Link) { l.Addresses = prefixes("192.0.2.1/24") })}}, "or use driver bridge with parent eth1.100"},
		"no underlay address":    {vxlan, Observed{Host: []Link{device("eth1")}}, "has no address where tunnels could end"},
		"underlay moved":         {vxlan, Observed{Host: []Link{port(device("eth1"), "padis0")}}, "a port of padis0, which may have one"},
		"underlay narrow":        {vxlan, Observed{Host: []Link{narrow(addressed, 1499)}}, "MTU 1499, but 1500 is needed for the network's 1450; set Network.spec.mtu to 1449"},
		"underlay narrow, IPv6":  {vxlan, Observed{Host: []Link{device("eth1", "2001:db8::7/64")}}, "but 1520 is needed for the network's 1450; set Network.spec.mtu to 1430"},
		"other VNI":              {vxlan, Observed{Host: []Link{addressed, changed(own, func(l *Link) { l.VNI = 8 })}}, "is VNI 8 on port 4789 from 192.0.2.7 over eth1, not VNI 7 on port 4789"},
		"other end":              {vxlan, Observed{Host: []Link{addressed, changed(own, func(l *Link) { l.Local = netip.MustParseAddr("192.0.2.8") })}}, "from 192.0.2.8 over eth1, not"},
		"tunnel narrow":          {vxlan, Observed{Host: []Link{addressed, narrow(own, 1000)}}, "tunnel " + tunnel + " has MTU 1000"},
		"tunnel elsewhere":       {vxlan, Observed{Host: []Link{addressed, port(own, "br9")}}, "is a port of br9"},
		"no switch":              {ovs, Observed{Host: []Link{device("eth1"), {Name: "padis0", Kind: "bridge"}}}, "is of kind bridge, not an Open vSwitch"},
		"other datapath":         {ovs, Observed{Host: []Link{device("eth1")}, Switches: []Switch{{Name: "padis0", Datapath: "netdev"}}}, `has datapath "netdev", but the network wants "system"`},
		"switch's uplink tagged": {ovs, Observed{Host: []Link{device("eth1")}, Switches: []Switch{{Name: "padis0", Ports: []SwitchPort{{"eth1", 3}}}}}, "ovs-vsctl clear port eth1 tag"},
		"switch's uplink used":   {ovs, Observed{Host: []Link{addressed}}, "use an interface without addresses"},
		"child of a port":        {macvlan, Observed{Host: []Link{port(device("eth1"), "br0")}}, "can have no children"},
		"routed, no parent":      {&padisv1.Network{Name: "lan", Driver: "routed", Parent: "eth9"}, Observed{}, "no interface eth9"},
	} {
		w := mustWant(t, launch(c.network, false))
		ops, err := Plan(w, c.o)
		if err == nil || !strings.Contains(err.Error(), c.says) || ops != nil {
			t.Errorf("%s: ops %v, error %v; want one that says %q", name, ops, err, c.says)
		}
	}
}

func TestAVLANMayShareTheUplinkOfABridge(t *testing.T) {
	l := launch(&padisv1.Network{Name: "lan", Driver: "vlan", Parent: "eth1", Vlan: 100}, false)
	eth1 := device("eth1")
	eth1.Master = "padis0"
	if _, err := Plan(mustWant(t, l), Observed{Host: []Link{eth1, {Name: "padis0", Kind: "bridge"}}}); err != nil {
		t.Error(err)
	}
}

func TestSweepLeavesStrangersAndTheLivingAlone(t *testing.T) {
	veth := func(name string) Link { return Link{Name: name, Kind: "veth", Up: true} }
	mine, kept, other, gone := HostEnd("me", "a", 0), HostEnd("me", "b", 0), HostEnd("other", "a", 0), HostEnd("me", "d", 0)
	o := Observed{
		Host:     []Link{device("eth0"), veth("pdx"), veth("veth0123456789a"), {Name: HostEnd("me", "c", 0), Kind: "device"}, veth(mine), veth(kept), veth(other)},
		Switches: []Switch{{Name: "br", Ports: []SwitchPort{{"eth0", 0}, {gone, 1}, {kept, 1}, {other, 1}}}},
		Guarded:  map[string]GuardedPort{mine: {}, kept: {}, gone: {}},
	}
	guarded := []string{mine, gone}
	slices.Sort(guarded)
	want := fmt.Sprintf("[ip link set %s down ovs-vsctl --if-exists del-port br %s unguard %s unguard %s ip link del %s]", mine, gone, guarded[0], guarded[1], mine)
	if ops := Sweep(o, "me", map[string]bool{kept: true}); fmt.Sprint(ops) != want {
		t.Errorf("got %v, want %v", ops, want)
	}
}

func TestSurplusTakesOnlyWhatIsOurs(t *testing.T) {
	n := &padisv1.Network{Name: "lan", Driver: "bridge", HostGateway: true}
	w := mustWant(t, launch(n, true))
	s := w.Segments[0]
	bridge := Link{Name: s.Bridge, Kind: "bridge", MAC: s.BridgeMAC, Addresses: prefixes("10.44.255.254/16", "fd00::ffff/64", "10.9.0.1/16")}
	v4, v6 := s, s
	v4.Gateways, v6.Gateways = s.Gateways[:1], s.Gateways[1:]
	o := Observed{Host: []Link{bridge}, Hosted: map[string][]string{s.Bridge: nil}}
	if got := fmt.Sprint(Surplus([]Segment{v4, v6}, o)); got != "[ip addr del 10.9.0.1/16 dev "+s.Bridge+"]" {
		t.Errorf("got %s", got)
	}
	foreign := bridge
	foreign.MAC = MAC{1}
	parented := s
	parented.Parent = "eth1"
	for name, ops := range map[string][]Op{
		"another's bridge":   Surplus([]Segment{s}, Observed{Host: []Link{foreign}, Hosted: o.Hosted}),
		"never kept apart":   Surplus([]Segment{s}, Observed{Host: []Link{bridge}}),
		"the host's uplink":  Surplus([]Segment{s}, Observed{Host: []Link{bridge}, Hosted: o.Hosted, HostRoutes: []Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.0.2"), Link: s.Bridge}}}),
		"bridge with parent": Surplus([]Segment{parented}, o),
	} {
		if len(ops) > 0 {
			t.Errorf("%s: %v", name, ops)
		}
	}
}
