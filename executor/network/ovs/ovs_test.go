package ovs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

var (
	macA = network.MAC{2, 0x42, 10, 9, 0, 5}
	macB = network.MAC{2, 0x42, 10, 9, 0, 6}
	macC = network.MAC{2, 0x42, 10, 9, 0, 7}

	endA = network.HostEnd(owner, "a", 0)
	endB = network.HostEnd(owner, "b", 0)
)

func guardedA() network.GuardedPort {
	return network.GuardedPort{
		Link: endA, Driver: network.DriverOVS, MAC: macA,
		Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.5"), netip.MustParseAddr("fd09::5")},
		Loopback:  []netip.Addr{netip.MustParseAddr("10.9.0.100"), netip.MustParseAddr("fd09::100")},
	}
}

// wire is a packet socket of all protocols on eth0.
func wire(t testing.TB, ns *namespace) int {
	t.Helper()
	fd := -1
	ns.do(t, func() (err error) {
		all := int(binary.NativeEndian.Uint16(bigEndian(unix.ETH_P_ALL)))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link("eth0").Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// A trial is a frame; id is somewhere in it.
type trial struct {
	what    string
	allowed bool
	frame   func(id []byte) []byte
}

// warm sends a frame until it comes: a link is of use only some time after it is up.
func warm(t *testing.T, a *namespace, from, at int, f trial) {
	t.Helper()
	id := []byte{'p', 'a', 'd', 'i', 's', 0, 0, 0xfd}
	b := make([]byte, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		a.do(t, func() error {
			_, err := unix.Write(from, f.frame(id))
			return err
		})
		for p := []unix.PollFd{{Fd: int32(at), Events: unix.POLLIN}}; ; {
			if n, err := unix.Poll(p, 20); err != nil || n == 0 {
				break
			}
			if n, err := unix.Read(at, b); err == nil && bytes.Contains(b[:n], id) {
				return
			}
		}
	}
	t.Fatalf("%s never comes", f.what)
}

// arrived sends all frames and a last one, which must come, and tells which of them came.
func arrived(t *testing.T, a *namespace, from, at int, all []trial, last trial, round byte) map[string]bool {
	t.Helper()
	id := func(i int) []byte { return []byte{'p', 'a', 'd', 'i', 's', round, byte(i), 0xfd} }
	all = append(slices.Clone(all), last)
	a.do(t, func() error {
		for i, f := range all {
			if _, err := unix.Write(from, f.frame(id(i))); err != nil {
				return fmt.Errorf("%s: %w", f.what, err)
			}
		}
		return nil
	})
	came := map[string]bool{}
	for b := make([]byte, 2048); ; {
		n, err := unix.Read(at, b)
		if err != nil {
			t.Fatalf("round %d: the last frame did not come, but %v: %v", round, came, err)
		}
		for i, f := range all {
			if bytes.Contains(b[:n], id(i)) {
				if came[f.what] = true; i == len(all)-1 {
					return came
				}
			}
		}
	}
}

const ownLL, otherLL = "fe80::42:aff:fe09:5", "fe80::42:aff:fe09:6"

func trials() []trial {
	v4 := func(mac network.MAC, to network.MAC, from, dst string, sport uint16) func([]byte) []byte {
		return func(id []byte) []byte {
			return ether(to, mac, unix.ETH_P_IP, ipv4(from, dst, 17, udp(sport, 4000, id)))
		}
	}
	v6 := func(mac network.MAC, from, dst string, sport uint16) func([]byte) []byte {
		return func(id []byte) []byte {
			return ether(macB, mac, unix.ETH_P_IPV6, ipv6(from, dst, 17, udp(sport, 4000, id)))
		}
	}
	ask := func(mac network.MAC, op uint16, sha network.MAC, spa, tpa string) func([]byte) []byte {
		return func(id []byte) []byte { return ether(everybody, mac, unix.ETH_P_ARP, arp(op, sha, spa, tpa), id) }
	}
	// The switch looks at addresses of neighbour discovery only if its options are whole: the mark is one.
	nd := func(mac network.MAC, from string, kind byte, target string) func([]byte) []byte {
		return func(id []byte) []byte {
			return ether(network.MAC{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6, ipv6(from, "ff02::1", 58, icmp6(kind, target), []byte{253, 2, 0, 0, 0, 0, 0, 0}, id))
		}
	}
	return []trial{
		{"IPv4", true, v4(macA, macB, "10.9.0.5", "10.9.0.6", 4000)},
		{"IPv4 broadcast", true, v4(macA, everybody, "10.9.0.5", "10.9.0.255", 4000)},
		{"IPv4 multicast", true, v4(macA, network.MAC{1, 0, 0x5e, 1, 1, 1}, "10.9.0.5", "239.1.1.1", 4000)},
		{"IPv4 of a loopback address", true, v4(macA, macB, "10.9.0.100", "10.9.0.6", 80)},
		{"IPv4 of another", false, v4(macA, macB, "10.9.0.6", "10.9.0.6", 4000)},
		{"IPv4 of nobody", false, v4(macA, everybody, "0.0.0.0", "255.255.255.255", 68)},
		{"IPv4, hardware address of another", false, v4(macC, macB, "10.9.0.5", "10.9.0.6", 4000)},
		{"DHCP server", false, v4(macA, everybody, "10.9.0.5", "255.255.255.255", 67)},

		{"ARP request", true, ask(macA, 1, macA, "10.9.0.5", "10.9.0.6")},
		{"ARP reply", true, ask(macA, 2, macA, "10.9.0.5", "10.9.0.6")},
		{"ARP probe", true, ask(macA, 1, macA, "0.0.0.0", "10.9.0.5")},
		{"ARP probe for another", false, ask(macA, 1, macA, "0.0.0.0", "10.9.0.6")},
		{"ARP of another address", false, ask(macA, 2, macA, "10.9.0.6", "10.9.0.7")},
		{"ARP of a loopback address", false, ask(macA, 2, macA, "10.9.0.100", "10.9.0.7")},
		{"ARP, sender another", false, ask(macA, 2, macC, "10.9.0.5", "10.9.0.7")},
		{"ARP, frame of another", false, ask(macC, 2, macA, "10.9.0.5", "10.9.0.7")},

		{"IPv6", true, v6(macA, "fd09::5", "fd09::6", 4000)},
		{"IPv6 link-local", true, v6(macA, ownLL, otherLL, 4000)},
		{"IPv6 of a loopback address", true, v6(macA, "fd09::100", "fd09::6", 80)},
		{"IPv6 of another", false, v6(macA, "fd09::6", "fd09::7", 4000)},
		{"IPv6 link-local of another", false, v6(macA, otherLL, "fd09::7", 4000)},
		{"IPv6 of nobody", false, v6(macA, "::", "ff02::1", 4000)},
		{"DHCPv6 server", false, v6(macA, ownLL, otherLL, 547)},
		{"ping", true, nd(macA, "fd09::5", 128, "")},
		{"ping of another", false, nd(macA, "fd09::6", 128, "")},
		{"router solicitation", true, nd(macA, ownLL, 133, "")},
		{"router advertisement", false, nd(macA, ownLL, 134, "")},
		{"redirect", false, nd(macA, ownLL, 137, "fd09::6")},
		{"solicitation", true, nd(macA, "fd09::5", 135, "fd09::6")},
		{"solicitation of another", false, nd(macA, "fd09::6", 135, "fd09::7")},
		{"solicitation of a loopback address", false, nd(macA, "fd09::100", 135, "fd09::7")},
		{"DAD", true, nd(macA, "::", 135, "fd09::5")},
		{"DAD, link-local", true, nd(macA, "::", 135, ownLL)},
		{"DAD for another", false, nd(macA, "::", 135, "fd09::6")},
		{"advertisement", true, nd(macA, "fd09::5", 136, "fd09::5")},
		{"advertisement, link-local", true, nd(macA, ownLL, 136, ownLL)},
		{"advertisement for another", false, nd(macA, "fd09::5", 136, "fd09::6")},
		{"advertisement for a loopback address", false, nd(macA, "fd09::5", 136, "fd09::100")},
		{"advertisement for another behind options", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_IPV6, ipv6("fd09::5", "ff02::1", 60, options(58, icmp6(136, "fd09::6")), id))
		}},
		{"MLD report", true, nd(macA, ownLL, 143, "")},
		{"MLD report before there is an address", true, nd(macA, "::", 143, "")},
		{"MLD query of nobody", false, nd(macA, "::", 130, "")},

		{"802.1Q", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_8021Q, []byte{0, 7}, bigEndian(unix.ETH_P_IP), ipv4("10.9.0.5", "10.9.0.6", 17, udp(1, 2, id)))
		}},
		{"802.1Q, priority only", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_8021Q, []byte{0x20, 0}, bigEndian(unix.ETH_P_IP), ipv4("10.9.0.5", "10.9.0.6", 17, udp(1, 2, id)))
		}},
		{"IPX", false, func(id []byte) []byte { return ether(everybody, macA, 0x8137, id) }},
	}
}

func TestPortSendsItsOwnOnly(t *testing.T) {
	host, a, b := newNamespace(t), newNamespace(t), newNamespace(t)
	s := start(t, host)
	plug(t, host, a, endA, macA)
	plug(t, host, b, endB, macB)
	apply(t, s, network.AddSwitch{Name: "br0", Datapath: "netdev"},
		network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: endA}}, network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: endB}})
	from, at := wire(t, a), wire(t, b)
	all := trials()
	warm(t, a, from, at, all[0])
	free := arrived(t, a, from, at, all, all[0], 1)
	apply(t, s, network.Guard{Port: guardedA()}, network.Guard{Port: guardedA()})
	settle(t, s)
	guarded := arrived(t, a, from, at, all, all[0], 2)
	for _, f := range all {
		if !free[f.what] {
			t.Errorf("%s does not come although nothing is guarded: the trial says nothing", f.what)
		}
		if guarded[f.what] != f.allowed {
			t.Errorf("%s: came %v, allowed %v", f.what, guarded[f.what], f.allowed)
		}
	}
	for _, links := range [][]string{nil, {endA, endB, "nothing"}} {
		if now, err := s.Guarded(links); err != nil || !reflect.DeepEqual(now, map[string]network.GuardedPort{endA: guardedA()}) {
			t.Errorf("guarded %v, %v", now, err)
		}
	}
	// Without the flows of ARP it is another guard, without the last one none.
	if _, err := s.ofctl("", "del-flows", "br0", "arp"); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Guarded(nil); err != nil || reflect.DeepEqual(now[endA], guardedA()) {
		t.Errorf("without the flows of ARP: %v, %v", now, err)
	}
	apply(t, s, network.Guard{Port: guardedA()})
	d, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := d.port(endA)
	if _, err := s.ofctl("", "del-flows", "br0", fmt.Sprintf("priority=40000,in_port=%d", port.number), "--strict"); err != nil {
		t.Fatal(err)
	}
	if now, err := s.Guarded(nil); err != nil || len(now) > 0 {
		t.Errorf("without the last flow: %v, %v", now, err)
	}
	moved := guardedA()
	moved.Addresses, moved.Loopback = []netip.Addr{netip.MustParseAddr("10.9.0.6")}, nil
	apply(t, s, network.Guard{Port: moved})
	six := trial{"the new address", true, func(id []byte) []byte {
		return ether(macB, macA, unix.ETH_P_IP, ipv4("10.9.0.6", "10.9.0.9", 17, udp(1, 2, id)))
	}}
	settle(t, s)
	if came := arrived(t, a, from, at, all[:1], six, 3); came["IPv4"] {
		t.Error("the address of before still goes")
	}
	apply(t, s, network.Unguard{Link: endA}, network.Unguard{Link: endA})
	settle(t, s)
	if came := arrived(t, a, from, at, all, all[0], 4); len(came) != len(all) {
		t.Errorf("after Unguard %d of %d come", len(came), len(all))
	}
}

func TestTagsAreSeparated(t *testing.T) {
	host, a, b, c := newNamespace(t), newNamespace(t), newNamespace(t), newNamespace(t)
	s := start(t, host)
	plug(t, host, a, endA, macA)
	plug(t, host, b, endB, macB)
	plug(t, host, c, "up0", macC)
	port := func(name string, vlan int) network.Op {
		return network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: name, VLAN: vlan}}
	}
	apply(t, s, network.AddSwitch{Name: "br0", Datapath: "netdev"}, port(endA, 7), port(endB, 8), port("up0", 0), network.Guard{Port: guardedA()})
	from, at, up := wire(t, a), wire(t, b), wire(t, c)
	hello := trial{"hello", true, func(id []byte) []byte {
		return ether(everybody, macA, unix.ETH_P_IP, ipv4("10.9.0.5", "10.9.0.255", 17, udp(1, 2, id)))
	}}
	// What comes by the trunk in the other network comes at B; so does nothing of A's before.
	tagged := trial{"tagged", true, func(id []byte) []byte {
		return ether(everybody, macC, unix.ETH_P_8021Q, []byte{0, 8}, bigEndian(unix.ETH_P_IP), ipv4("10.9.0.7", "10.9.0.255", 17, udp(1, 2, id)))
	}}
	warm(t, a, from, up, hello)
	arrived(t, a, from, up, nil, hello, 1)
	arrived(t, c, up, at, nil, tagged, 2)
	for b := make([]byte, 2048); ; {
		n, _, err := unix.Recvfrom(at, b, unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		if bytes.Contains(b[:n], []byte{'p', 'a', 'd', 'i', 's', 1}) {
			t.Fatal("a frame of VLAN 7 came out of a port of VLAN 8")
		}
	}
	sw, err := s.Observe([]string{"br0", "br1"})
	want := []network.Switch{{Name: "br0", Datapath: "netdev", Ports: []network.SwitchPort{{Name: endA, VLAN: 7}, {Name: endB, VLAN: 8}, {Name: "up0"}}}}
	slices.SortFunc(want[0].Ports, func(a, b network.SwitchPort) int { return strings.Compare(a.Name, b.Name) })
	if err != nil || !reflect.DeepEqual(sw, want) {
		t.Errorf("observed %v, %v", sw, err)
	}
	// The same tag now: they are one network. The guard stays.
	apply(t, s, port(endB, 7))
	settle(t, s)
	arrived(t, a, from, at, nil, hello, 3)
	if now, err := s.Guarded([]string{endA}); err != nil || len(now) != 1 {
		t.Errorf("guarded %v, %v", now, err)
	}
	// No tag: a trunk, which hears of all networks with their tags.
	apply(t, s, port(endB, 0))
	settle(t, s)
	arrived(t, a, from, at, nil, hello, 4)
}

func TestSweepRemovesOnlyWhatIsLeft(t *testing.T) {
	host := newNamespace(t)
	s := start(t, host)
	stranger := network.HostEnd("another", "c", 0)
	for _, n := range []string{endA, endB, stranger, "up0"} {
		plug(t, host, newNamespace(t), n, macA)
	}
	other := New(network.OwnerTag("another"), s.c)
	add := func(s *Switches, name string) {
		p := guardedA()
		p.Link = name
		apply(t, s, network.AddSwitch{Name: "br0", Datapath: "netdev"}, network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: name}}, network.Guard{Port: p})
	}
	add(s, endA)
	add(s, endB)
	add(other, stranger)
	apply(t, s, network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: "up0"}})
	// A port that somebody took out leaves its flows.
	gone := network.HostEnd(owner, "d", 0)
	plug(t, host, newNamespace(t), gone, macB)
	add(s, gone)
	if _, err := s.vsctl("del-port", gone); err != nil {
		t.Fatal(err)
	}
	names, err := s.Sweep([]string{endA})
	if err != nil || !slices.Equal(names, []string{endB}) {
		t.Errorf("swept %v, %v", names, err)
	}
	sw, err := s.Observe(nil)
	want := []string{endA, stranger, "up0"}
	slices.Sort(want)
	if err != nil || len(sw) != 1 || !slices.EqualFunc(sw[0].Ports, want, func(p network.SwitchPort, n string) bool { return p.Name == n }) {
		t.Errorf("left %v, %v", sw, err)
	}
	flows, err := s.flows("br0")
	if n := len(allow(0, 0, guardedA())); err != nil || len(flows) != n {
		t.Errorf("%d flows are left, want the %d of %s: %v", len(flows), n, endA, err)
	}
	if now, err := other.Guarded(nil); err != nil || len(now) != 1 {
		t.Errorf("the other owner guards %v, %v", now, err)
	}
	apply(t, s, network.DelSwitchPort{Switch: "br0", Port: endA}, network.DelSwitchPort{Switch: "br0", Port: endA})
	if flows, err := s.flows("br0"); err != nil || len(flows) > 0 {
		t.Errorf("%d flows are left: %v", len(flows), err)
	}
}

func TestWhatCannotBeIsRefused(t *testing.T) {
	host := newNamespace(t)
	s := start(t, host)
	apply(t, s, network.AddSwitch{Name: "br0", Datapath: "netdev"})
	bad := guardedA()
	bad.Link, bad.Addresses = "x0", []netip.Addr{{}}
	for _, c := range []struct {
		op   network.Op
		want string
	}{
		{network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: "nothing0"}}, "the link must exist"},
		{network.AddSwitchPort{Switch: "br9", Port: network.SwitchPort{Name: "nothing0"}}, "br9"},
		{network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: "x0", VLAN: 4095}}, "not within 1 to 4094"},
		{network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: "--x"}}, "no dash first"},
		{network.AddSwitch{Name: "br1", Datapath: "dpdk"}, "neither system nor netdev"},
		{network.AddSwitch{Name: "br 1"}, "1 to 15 letters"},
		{network.Guard{Port: guardedA()}, "no working port"},
		{network.Guard{Port: bad}, "cannot be the address"},
		{network.Unguard{Link: ""}, "1 to 15 letters"},
		{network.DelLink{Link: "x0"}, "no operation"},
	} {
		if err := s.Apply(c.op); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.op, err, c.want)
		}
	}
	sw, err := s.Observe(nil)
	if err != nil || len(sw) != 1 || len(sw[0].Ports) > 0 {
		t.Errorf("left %v, %v", sw, err)
	}
	if _, err := os.Stat("/sys/module/openvswitch"); err != nil {
		err := s.Apply(network.AddSwitch{Name: "br2"})
		if err == nil || !strings.Contains(err.Error(), "load the kernel's module openvswitch") {
			t.Errorf("without the kernel's module: %v", err)
		}
		// Somebody else's, which cannot be, is in nobody's way.
		if _, err := s.vsctl("add-br", "br3"); err != nil {
			t.Fatal(err)
		}
		apply(t, s, network.Unguard{Link: endA})
		if _, err := s.Sweep(nil); err != nil {
			t.Error(err)
		}
	}
	missing := New("tag", Config{RunDir: "/nowhere"})
	if err := missing.Apply(network.AddSwitch{Name: "br0"}); err == nil || !strings.Contains(err.Error(), "is Open vSwitch running") {
		t.Errorf("without a daemon: %v", err)
	}
	missing = New("tag", Config{Vsctl: "no-such-tool"})
	if _, err := missing.Observe(nil); err == nil || !strings.Contains(err.Error(), "install Open vSwitch") {
		t.Errorf("without the tools: %v", err)
	}
}

func BenchmarkAttachAndDetach(b *testing.B) {
	host := newNamespace(b)
	s := start(b, host)
	plug(b, host, newNamespace(b), endA, macA)
	apply(b, s, network.AddSwitch{Name: "br0", Datapath: "netdev"})
	for b.Loop() {
		apply(b, s, network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: endA, VLAN: 5}}, network.Guard{Port: guardedA()},
			network.DelSwitchPort{Switch: "br0", Port: endA})
	}
}
