package ovs

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

const patience = 20 * time.Second

// listen opens a UDP socket in a namespace; address may be a group, which is joined on eth0.
func listen(t *testing.T, ns *namespace, address string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	ns.do(t, func() error {
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address))
		if !to.IP.IsMulticast() {
			var err error
			c, err = net.ListenUDP("udp", to)
			return err
		}
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		c, err = net.ListenMulticastUDP("udp", i, to)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// reaches sends until it has come; the first packets of a network may be lost.
func reaches(t *testing.T, what string, from, at *net.UDPConn, to string) {
	t.Helper()
	dst := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := from.WriteToUDP([]byte(what), dst); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if err := at.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for b := make([]byte, 200); ; {
			n, err := at.Read(b)
			if err != nil {
				break
			}
			if string(b[:n]) == what {
				return
			}
		}
	}
	t.Errorf("%s: nothing came from %s at %s", what, from.LocalAddr(), to)
}

// wholeChecksums makes the kernel write checksums itself (ethtool -K tx off). Between two ends of one host it leaves them to
// hardware that there is not; the userspace datapath passes such packets on as they are, and the receiver drops them.
func wholeChecksums(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// What the kernel of an instance does by itself - ARP, neighbour discovery, reports of groups - passes from one guarded
// port to another.
func TestOrdinaryTrafficFlows(t *testing.T) {
	host, a, b := newNamespace(t), newNamespace(t), newNamespace(t)
	s := start(t, host)
	plug(t, host, a, endA, macA, "10.9.0.5/16", "fd09::5/64")
	plug(t, host, b, endB, macB, "10.9.0.6/16", "fd09::6/64")
	other := network.GuardedPort{
		Link: endB, Driver: network.DriverOVS, MAC: macB,
		Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.6"), netip.MustParseAddr("fd09::6")},
	}
	for _, ns := range []*namespace{a, b} {
		ns.do(t, func() error { return wholeChecksums("eth0") })
	}
	apply(t, s, network.AddSwitch{Name: "br0", Datapath: "netdev"},
		network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: endA, VLAN: 5}}, network.AddSwitchPort{Switch: "br0", Port: network.SwitchPort{Name: endB, VLAN: 5}},
		network.Guard{Port: guardedA()}, network.Guard{Port: other})
	var zone string
	a.do(t, func() error {
		zone = strconv.Itoa(link("eth0").Attrs().Index)
		return nil
	})
	for _, c := range []struct{ what, from, at, to string }{
		{"IPv4", "10.9.0.5:0", "10.9.0.6:4001", "10.9.0.6:4001"},
		{"IPv6", "[fd09::5]:0", "[fd09::6]:4002", "[fd09::6]:4002"},
		{"IPv4 multicast", "10.9.0.5:0", "239.9.1.1:4005", "239.9.1.1:4005"},
		{"IPv6 multicast", "[fd09::5]:0", "[ff15::9]:4006", "[ff15::9%" + zone + "]:4006"},
	} {
		reaches(t, c.what, listen(t, a, c.from), listen(t, b, c.at), c.to)
	}
}
