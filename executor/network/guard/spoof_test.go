package guard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

var (
	macA = network.MAC{2, 0x42, 10, 9, 0, 5}
	macB = network.MAC{2, 0x42, 10, 9, 0, 6}
	macC = network.MAC{2, 0x42, 10, 9, 0, 7}
)

func guardedA(driver string) network.GuardedPort {
	return network.GuardedPort{
		Link: "a0", Driver: driver, MAC: macA,
		Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.5"), netip.MustParseAddr("fd09::5")},
		Loopback:  []netip.Addr{netip.MustParseAddr("10.9.0.100"), netip.MustParseAddr("fd09::100")},
	}
}

// A trial is a frame; id is somewhere in it.
type trial struct {
	what    string
	allowed bool
	frame   func(id []byte) []byte
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
	nd := func(mac network.MAC, from string, kind byte, target string) func([]byte) []byte {
		return func(id []byte) []byte {
			return ether(network.MAC{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6, ipv6(from, "ff02::1", 58, icmp6(kind, target), id))
		}
	}
	any := "fd09::5"
	return []trial{
		{"IPv4", true, v4(macA, macB, "10.9.0.5", "10.9.0.6", 4000)},
		{"IPv4 broadcast", true, v4(macA, everybody, "10.9.0.5", "10.9.0.255", 4000)},
		{"IPv4 multicast", true, v4(macA, network.MAC{1, 0, 0x5e, 1, 1, 1}, "10.9.0.5", "239.1.1.1", 4000)},
		{"IPv4 of a loopback address", true, v4(macA, macB, "10.9.0.100", "10.9.0.6", 80)},
		{"IPv4 of another", false, v4(macA, macB, "10.9.0.6", "10.9.0.6", 4000)},
		{"IPv4 of nobody", false, v4(macA, everybody, "0.0.0.0", "255.255.255.255", 68)},
		{"IPv4, hardware address of another", false, v4(macC, macB, "10.9.0.5", "10.9.0.6", 4000)},
		{"DHCP server", false, v4(macA, everybody, "10.9.0.5", "255.255.255.255", 67)},
		{"IGMP report", true, func(id []byte) []byte {
			return ether(network.MAC{1, 0, 0x5e, 0, 0, 22}, macA, unix.ETH_P_IP, ipv4("10.9.0.5", "224.0.0.22", 2, []byte{0x22, 0, 0, 0, 0, 0, 0, 0}, id))
		}},
		{"IGMP report of another", false, func(id []byte) []byte {
			return ether(network.MAC{1, 0, 0x5e, 0, 0, 22}, macA, unix.ETH_P_IP, ipv4("10.9.0.6", "224.0.0.22", 2, []byte{0x22, 0, 0, 0, 0, 0, 0, 0}, id))
		}},

		{"ARP request", true, ask(macA, 1, macA, "10.9.0.5", "10.9.0.6")},
		{"ARP reply", true, ask(macA, 2, macA, "10.9.0.5", "10.9.0.6")},
		{"ARP announcement", true, ask(macA, 1, macA, "10.9.0.5", "10.9.0.5")},
		{"ARP probe", true, ask(macA, 1, macA, "0.0.0.0", "10.9.0.5")},
		{"ARP probe for another", false, ask(macA, 1, macA, "0.0.0.0", "10.9.0.6")},
		{"ARP reply of nobody", false, ask(macA, 2, macA, "0.0.0.0", "10.9.0.5")},
		{"ARP of another address", false, ask(macA, 2, macA, "10.9.0.6", "10.9.0.7")},
		{"ARP of a loopback address", false, ask(macA, 2, macA, "10.9.0.100", "10.9.0.7")},
		{"ARP, sender another", false, ask(macA, 2, macC, "10.9.0.5", "10.9.0.7")},
		{"ARP, frame of another", false, ask(macC, 2, macA, "10.9.0.5", "10.9.0.7")},
		{"ARP of another network type", false, func(id []byte) []byte {
			b := arp(2, macA, "10.9.0.5", "10.9.0.6")
			b[1] = 6
			return ether(everybody, macA, unix.ETH_P_ARP, b, id)
		}},
		{"half an ARP header", false, func(id []byte) []byte {
			return ether(everybody, macA, unix.ETH_P_ARP, arp(1, macA, "10.9.0.5", "10.9.0.6")[:6], id)
		}},

		{"IPv6", true, v6(macA, "fd09::5", "fd09::6", 4000)},
		{"IPv6 link-local", true, v6(macA, ownLL, otherLL, 4000)},
		{"IPv6 multicast", true, v6(macA, "fd09::5", "ff15::1", 4000)},
		{"IPv6 of a loopback address", true, v6(macA, "fd09::100", "fd09::6", 80)},
		{"IPv6 of another", false, v6(macA, "fd09::6", "fd09::7", 4000)},
		{"IPv6 link-local of another", false, v6(macA, otherLL, "fd09::7", 4000)},
		{"IPv6 of nobody", false, v6(macA, "::", "ff02::1", 4000)},
		{"IPv6, hardware address of another", false, v6(macC, "fd09::5", "fd09::6", 4000)},
		{"DHCPv6 server", false, v6(macA, ownLL, otherLL, 547)},
		{"ping", true, nd(macA, any, 128, "")},
		{"ping of a loopback address", true, nd(macA, "fd09::100", 128, "")},
		{"ping of another", false, nd(macA, "fd09::6", 128, "")},
		{"router solicitation", true, nd(macA, ownLL, 133, "")},
		{"router advertisement", false, nd(macA, ownLL, 134, "")},
		{"router advertisement behind options", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_IPV6, ipv6(ownLL, "ff02::1", 60, options(58, icmp6(134, "")), id))
		}},
		{"redirect", false, nd(macA, ownLL, 137, "fd09::6")},
		{"solicitation", true, nd(macA, any, 135, "fd09::6")},
		{"solicitation, link-local", true, nd(macA, ownLL, 135, "fd09::6")},
		{"solicitation of another", false, nd(macA, "fd09::6", 135, "fd09::7")},
		{"solicitation of a loopback address", false, nd(macA, "fd09::100", 135, "fd09::7")},
		{"DAD", true, nd(macA, "::", 135, "fd09::5")},
		{"DAD, link-local", true, nd(macA, "::", 135, ownLL)},
		{"DAD for another", false, nd(macA, "::", 135, "fd09::6")},
		{"DAD, hardware address of another", false, nd(macC, "::", 135, "fd09::5")},
		{"advertisement", true, nd(macA, any, 136, "fd09::5")},
		{"advertisement, link-local", true, nd(macA, ownLL, 136, ownLL)},
		{"advertisement for another", false, nd(macA, any, 136, "fd09::6")},
		{"advertisement for a loopback address", false, nd(macA, any, 136, "fd09::100")},
		{"advertisement for another behind options", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_IPV6, ipv6(any, "ff02::1", 60, options(58, icmp6(136, "fd09::6")), id))
		}},
		{"advertisement of another", false, nd(macA, "fd09::6", 136, "fd09::5")},
		{"MLD report", true, nd(macA, ownLL, 143, "")},
		{"MLD report before there is an address", true, nd(macA, "::", 143, "")},
		{"MLD report of another", false, nd(macA, otherLL, 143, "")},
		{"MLD query of nobody", false, nd(macA, "::", 130, "")},

		{"802.1Q", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_8021Q, []byte{0, 7}, bigEndian(unix.ETH_P_IP), ipv4("10.9.0.5", "10.9.0.6", 17, udp(1, 2, id)))
		}},
		{"802.1Q, priority only", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_8021Q, []byte{0x20, 0}, bigEndian(unix.ETH_P_IP), ipv4("10.9.0.5", "10.9.0.6", 17, udp(1, 2, id)))
		}},
		{"802.1ad", false, func(id []byte) []byte {
			return ether(macB, macA, unix.ETH_P_8021AD, []byte{0, 7}, bigEndian(unix.ETH_P_IP), ipv4("10.9.0.5", "10.9.0.6", 17, udp(1, 2, id)))
		}},
		{"MPLS", false, func(id []byte) []byte { return ether(macB, macA, unix.ETH_P_MPLS_UC, []byte{0, 0, 1, 64}, id) }},
		{"IPX", false, func(id []byte) []byte { return ether(everybody, macA, 0x8137, id) }},
		{"802.3 with SNAP", false, func(id []byte) []byte {
			return ether(macB, macA, 100, []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, ipv4("10.9.0.5", "10.9.0.6", 17, udp(1, 2, id)))
		}},
		{"spanning tree", false, func(id []byte) []byte {
			return ether(network.MAC{1, 0x80, 0xc2, 0, 0, 0}, macA, 60, []byte{0x42, 0x42, 3}, make([]byte, 40), id)
		}},
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
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link("eth0").Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
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

// arrived sends all frames and a last one, which is allowed, and tells which of them came.
func arrived(t *testing.T, a *namespace, from, at int, all []trial, round byte) map[string]bool {
	t.Helper()
	id := func(i int) []byte { return []byte{'p', 'a', 'd', 'i', 's', round, byte(i), 0xfd} }
	all = append(slices.Clone(all), all[0])
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

func TestPortOfABridgeSendsItsOwnOnly(t *testing.T) {
	host, a, b := newNamespace(t), newNamespace(t), newNamespace(t)
	host.do(t, func() error { return addBridge("br0", false) })
	plug(t, host, a, "a0", "br0", macA)
	plug(t, host, b, "b0", "br0", macB)
	from, at := wire(t, a), wire(t, b)
	g := open(t, host, "spoof")
	all := trials()
	warm(t, a, from, at, all[0])
	free := arrived(t, a, from, at, all, 1)
	apply(t, g, network.Guard{Port: guardedA(network.DriverBridge)})
	guarded := arrived(t, a, from, at, all, 2)
	for _, f := range all {
		if !free[f.what] {
			t.Errorf("%s does not come although nothing is guarded: the trial says nothing", f.what)
		}
		if guarded[f.what] != f.allowed {
			t.Errorf("%s: came %v, allowed %v", f.what, guarded[f.what], f.allowed)
		}
	}
	apply(t, g, network.Unguard{Link: "a0"})
	free = arrived(t, a, from, at, all, 3)
	for _, f := range all {
		if !free[f.what] {
			t.Errorf("%s does not come although nothing is guarded any more", f.what)
		}
	}
}

// A frame for the bridge itself never passes the hook of what is forwarded, but its source would be learnt. (Frames of
// LLDP pass no hook at all; that nothing is learnt of them is an option of the bridge, no_linklocal_learn.)
func TestFrameForTheBridgeTeachesItNothing(t *testing.T) {
	host, a := newNamespace(t), newNamespace(t)
	host.do(t, func() error { return addBridge("br0", false) })
	plug(t, host, a, "a0", "br0", macA)
	from := wire(t, a)
	g := open(t, host, "eapol")
	send := func(frame []byte) {
		a.do(t, func() error {
			_, err := unix.Write(from, frame)
			return err
		})
	}
	known := func(mac network.MAC) (found bool) {
		host.do(t, func() error {
			entries, err := netlink.NeighList(link("a0").Attrs().Index, unix.AF_BRIDGE)
			found = slices.ContainsFunc(entries, func(e netlink.Neigh) bool { return bytes.Equal(e.HardwareAddr, mac[:]) })
			return err
		})
		return found
	}
	own := func() {
		for deadline := time.Now().Add(patience); !known(macA); {
			send(ether(everybody, macA, unix.ETH_P_IP, ipv4("10.9.0.5", "10.9.0.255", 17, udp(1, 2, make([]byte, 20)))))
			if time.Now().After(deadline) {
				t.Fatal("the bridge does not even learn the port's own address")
			}
		}
	}
	learnt := func(mac network.MAC) bool {
		host.do(t, func() error {
			return netlink.NeighDel(&netlink.Neigh{LinkIndex: link("a0").Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, HardwareAddr: macA[:]})
		})
		send(ether(network.MAC{1, 0x80, 0xc2, 0, 0, 3}, mac, unix.ETH_P_PAE, make([]byte, 60)))
		// When the frame behind it has taught the bridge where A is, it has been seen.
		own()
		return known(mac)
	}
	own()
	if !learnt(network.MAC{2, 1, 1, 1, 1, 1}) {
		t.Fatal("nothing is learnt although nothing is guarded: the trial says nothing")
	}
	apply(t, g, network.Guard{Port: guardedA(network.DriverBridge)})
	if learnt(network.MAC{2, 2, 2, 2, 2, 2}) {
		t.Error("the bridge learnt an address that the port does not have")
	}
}

// The routed end: what comes from the instance is refused before the host routes it or takes it.
func TestRoutedPortSendsItsOwnOnly(t *testing.T) {
	host, a := newNamespace(t), newNamespace(t)
	mac := network.MAC{2, 0x42, 10, 9, 0, 6}
	plug(t, host, a, "a0", "", macA)
	from := wire(t, a)
	var hostMAC network.MAC
	receivers := map[bool]int{}
	host.do(t, func() error {
		for _, s := range []string{"conf/all/rp_filter", "conf/a0/rp_filter"} {
			if err := sysctl("ipv4/"+s, "0"); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(link("lo")); err != nil {
			return err
		}
		hostMAC = network.MAC(link("a0").Attrs().HardwareAddr)
		for _, p := range []string{"10.9.0.6/32", "fd09::6/128"} {
			if err := addAddress("a0", p); err != nil {
				return err
			}
		}
		for _, p := range []string{"10.9.0.0/16", "fd09::/64"} {
			prefix := netip.MustParsePrefix(p)
			n := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link("a0").Attrs().Index, Dst: n, Scope: netlink.SCOPE_LINK}); err != nil {
				return err
			}
		}
		for six, sa := range map[bool]unix.Sockaddr{
			false: &unix.SockaddrInet4{Port: 4000, Addr: [4]byte{10, 9, 0, 6}},
			true:  &unix.SockaddrInet6{Port: 4000, Addr: netip.MustParseAddr("fd09::6").As16()},
		} {
			family := unix.AF_INET
			if six {
				family = unix.AF_INET6
			}
			fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			receivers[six] = fd
			t.Cleanup(func() { unix.Close(fd) })
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
				return err
			}
			if err := unix.Bind(fd, sa); err != nil {
				return err
			}
		}
		return nil
	})
	v4 := func(mac network.MAC, src string) func([]byte) []byte {
		return func(id []byte) []byte {
			return ether(hostMAC, mac, unix.ETH_P_IP, ipv4(src, "10.9.0.6", 17, udp(5000, 4000, id)))
		}
	}
	v6 := func(mac network.MAC, src string) func([]byte) []byte {
		return func(id []byte) []byte {
			u := udp(5000, 4000, id)
			binary.BigEndian.PutUint16(u[6:], udp6sum(src, "fd09::6", u))
			return ether(hostMAC, mac, unix.ETH_P_IPV6, ipv6(src, "fd09::6", 17, u))
		}
	}
	four := []trial{
		{"own", true, v4(macA, "10.9.0.5")}, {"loopback address", true, v4(macA, "10.9.0.100")},
		{"another", false, v4(macA, "10.9.0.7")}, {"hardware address of another", false, v4(mac, "10.9.0.5")},
	}
	six := []trial{
		{"own", true, v6(macA, "fd09::5")}, {"loopback address", true, v6(macA, "fd09::100")},
		{"another", false, v6(macA, "fd09::7")}, {"hardware address of another", false, v6(mac, "fd09::5")},
	}
	g := open(t, host, "routed")
	check := func(round byte, guarded bool) {
		for v6, all := range map[bool][]trial{false: four, true: six} {
			came := arrived(t, a, from, receivers[v6], all, round)
			for _, f := range all {
				if want := f.allowed || !guarded; came[f.what] != want {
					t.Errorf("IPv6 %v, %s: came %v, want %v (guarded %v)", v6, f.what, came[f.what], want, guarded)
				}
			}
		}
	}
	warm(t, a, from, receivers[false], four[0])
	warm(t, a, from, receivers[true], six[0])
	check(1, false)
	apply(t, g, network.Guard{Port: guardedA(network.DriverRouted)})
	check(2, true)
}
