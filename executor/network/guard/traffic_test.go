package guard

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

const patience = 20 * time.Second

// listen opens a UDP socket in a namespace; address may be a group, which is joined on eth0.
func listen(t *testing.T, ns *namespace, address string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	ns.do(t, func() error {
		ap := netip.MustParseAddrPort(address)
		if ap.Addr().IsMulticast() {
			i, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			c, err = net.ListenMulticastUDP("udp", i, net.UDPAddrFromAddrPort(ap))
			return err
		}
		lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
			var err error
			if e := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1) }); e != nil {
				return e
			}
			return err
		}}
		p, err := lc.ListenPacket(context.Background(), "udp", address)
		if err == nil {
			c = p.(*net.UDPConn)
		}
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
			t.Errorf("%s: %v", what, err)
			return
		}
		if err := at.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Error(err)
			return
		}
		b := make([]byte, 200)
		for {
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

// What the kernel of an instance does by itself - ARP, duplicate address detection, neighbour discovery, reports of
// groups - passes, on a bridge that snoops on multicast, from one guarded port to another.
func TestOrdinaryTrafficFlows(t *testing.T) {
	host, a, b := newNamespace(t), newNamespace(t), newNamespace(t)
	host.do(t, func() error { return addBridge("br0", true) })
	g := open(t, host, "traffic")
	other := network.GuardedPort{
		Link: "b0", Driver: network.DriverVLAN, MAC: macB,
		Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.6"), netip.MustParseAddr("fd09::6")},
	}
	apply(t, g, network.Guard{Port: guardedA("")}, network.Guard{Port: other})
	plug(t, host, a, "a0", "br0", macA, "10.9.0.5/16", "fd09::5/64")
	plug(t, host, b, "b0", "br0", macB, "10.9.0.6/16", "fd09::6/64")
	awaitAddress(t, a, ownLL)
	awaitAddress(t, b, otherLL)
	scope := func(ns *namespace) (zone string) {
		ns.do(t, func() error {
			i, err := net.InterfaceByName("eth0")
			if err == nil {
				zone = fmt.Sprint(i.Index)
			}
			return err
		})
		return zone
	}
	for _, c := range []struct{ what, from, at, to string }{
		{"IPv4", "10.9.0.5:0", "10.9.0.6:4001", ""},
		{"IPv6", "[fd09::5]:0", "[fd09::6]:4002", ""},
		{"IPv6 link-local", "[" + ownLL + "%" + scope(a) + "]:0", "[" + otherLL + "%" + scope(b) + "]:4003", "[" + otherLL + "%" + scope(a) + "]:4003"},
		{"IPv4 broadcast", "10.9.0.5:0", "0.0.0.0:4004", "10.9.255.255:4004"},
		{"IPv4 multicast", "10.9.0.5:0", "239.9.1.1:4005", ""},
		{"IPv6 multicast", "[fd09::5]:0", "[ff15::9]:4006", "[ff15::9%" + scope(a) + "]:4006"},
	} {
		if c.to == "" {
			c.to = c.at
		}
		reaches(t, c.what, listen(t, a, c.from), listen(t, b, c.at), c.to)
	}
}

// awaitAddress waits until an address can be used.
func awaitAddress(t *testing.T, ns *namespace, address string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var there, tentative bool
		ns.do(t, func() (err error) {
			there, _, tentative, err = dadState("eth0", address)
			return err
		})
		if there && !tentative {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s cannot be used (there %v, tentative %v)", address, there, tentative)
		}
	}
}

// Detection of duplicates works for and against a guarded port.
func TestDuplicateAddressIsDetected(t *testing.T) {
	host, a, b := newNamespace(t), newNamespace(t), newNamespace(t)
	host.do(t, func() error { return addBridge("br0", false) })
	g := open(t, host, "dad")
	plug(t, host, a, "a0", "br0", macA, "fd09::5/64")
	plug(t, host, b, "b0", "br0", macB, "fd09::6/64")
	// Two ports with one address, which the ledger forbids; here it is what must come out.
	other := guardedA("")
	other.Link, other.MAC = "b0", macB
	apply(t, g, network.Guard{Port: guardedA("")}, network.Guard{Port: other})
	at := listen(t, a, "[fd09::5]:4000")
	b.do(t, func() error { return sysctl("ipv6/conf/eth0/dad_transmits", "1") })
	b.do(t, func() error { return addAddressDAD("eth0", "fd09::5/64") })
	for deadline := time.Now().Add(patience); ; {
		var failed, tentative bool
		b.do(t, func() (err error) {
			_, failed, tentative, err = dadState("eth0", "fd09::5")
			return err
		})
		if failed {
			break
		}
		if !tentative || time.Now().After(deadline) {
			t.Fatalf("the duplicate was not detected (tentative %v)", tentative)
		}
	}
	at.Close()
}
