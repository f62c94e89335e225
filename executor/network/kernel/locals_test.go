package kernel

import (
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"padis.io/padis/executor/network"
)

// A packet to a local address is taken, from another machine, too; no interface has the address; and nothing is left.
func TestLocals(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	a.configure(t, "eth1", "10.1.0.1/24", "fd01::1/64")
	b.configure(t, "eth1", "10.1.0.2/24", "fd01::2/64")
	b.route(t, "eth1", "10.99.0.0/24", "10.1.0.1")
	b.route(t, "eth1", "fd99::/64", "fd01::1")
	state := func() string {
		var out []byte
		a.do(t, func() (err error) {
			out, err = exec.Command("sh", "-c", "ip -4 rule; ip -6 rule; ip neigh show nud permanent; ip route show table all; ip -6 route show table all; ip addr").CombinedOutput()
			return err
		})
		return string(out)
	}
	before := state()
	var l *Locals
	a.do(t, func() (err error) {
		l, err = OpenLocals("eth1")
		return err
	})
	first, second, third := netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("10.99.0.2"), netip.MustParseAddr("fd99::1")
	// What comes to a local address comes to a socket that listens on all.
	var heard *net.UDPConn
	a.do(t, func() (err error) {
		heard, err = net.ListenUDP("udp", &net.UDPAddr{Port: 9})
		return err
	})
	defer heard.Close()
	taken := func(to netip.Addr) bool {
		b.do(t, func() error {
			c, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(to.AsSlice())
			return err
		})
		heard.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		got := make([]byte, 100)
		for {
			n, err := heard.Read(got)
			if err != nil {
				return false
			}
			if from, _ := netip.AddrFromSlice(got[:n]); from == to {
				return true
			}
		}
	}
	set := func(addresses ...netip.Addr) {
		t.Helper()
		for range 2 {
			if err := l.Set(addresses); err != nil {
				t.Fatal(err)
			}
		}
		for _, x := range []netip.Addr{first, second, third} {
			want := false
			for _, y := range addresses {
				want = want || x == y
			}
			if want {
				until(t, x.String()+" is local", func() bool { return taken(x) })
			} else if taken(x) {
				t.Errorf("%s is local", x)
			}
		}
	}
	set(first, third)
	set(second, third)
	// An address that nobody has leads to the machine with the hardware address.
	var mac network.MAC
	b.do(t, func() error {
		own, err := net.InterfaceByName("eth1")
		if err == nil {
			mac = network.MAC(own.HardwareAddr)
		}
		return err
	})
	peer := netip.MustParseAddr("fd50::1")
	for _, peers := range []map[netip.Addr]network.MAC{{peer: {2, 0, 0, 0, 0, 9}}, {netip.MustParseAddr("fd50::2"): mac}, {peer: mac}} {
		for range 2 {
			if err := l.Peers(peers); err != nil {
				t.Fatal(err)
			}
		}
	}
	var listener *Locals
	b.do(t, func() (err error) {
		listener, err = OpenLocals("eth1")
		return err
	})
	defer listener.Close()
	if err := listener.Set([]netip.Addr{peer}); err != nil {
		t.Fatal(err)
	}
	var other *net.UDPConn
	b.do(t, func() (err error) {
		other, err = net.ListenUDP("udp", &net.UDPAddr{Port: 9})
		return err
	})
	defer other.Close()
	a.do(t, func() error {
		c, err := net.Dial("udp", netip.AddrPortFrom(peer, 9).String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("here"))
		return err
	})
	other.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := other.Read(make([]byte, 100)); err != nil || n != 4 {
		t.Errorf("what is for a peer: %d bytes, %v", n, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if after := state(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if err := l.Set(nil); err == nil {
		t.Error("closed addresses can be set")
	}
}
