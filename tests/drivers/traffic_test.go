package drivers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var nonces atomic.Int64

// nonce fills size bytes, at least 24, with what was never sent before.
func nonce(size int) []byte {
	b := []byte(fmt.Sprintf("padis-nonce-%012d", nonces.Add(1)))
	return append(b, bytes.Repeat([]byte{'.'}, max(size-len(b), 0))...)
}

const small = 24

// asks sends a datagram of this many bytes from an address to the echo of another, again and again until it is back.
func (n *namespace) asks(t testing.TB, from, to netip.Addr, size int) {
	t.Helper()
	c := n.socket(t, netip.AddrPortFrom(from, 0))
	defer c.Close()
	sent, got := nonce(size), make([]byte, 64<<10)
	until(t, fmt.Sprintf("%s %s reaches %s with %d bytes", n.name, from, to, size), func() bool {
		_, err := c.WriteToUDPAddrPort(sent, netip.AddrPortFrom(to, echoPort))
		if errors.Is(err, unix.EMSGSIZE) {
			t.Fatalf("%s: %d bytes from %s to %s are too many", n.name, size, from, to)
		}
		return c.back(t, sent, got)
	})
}

// back tells whether what was sent comes back within a moment.
func (c *socket) back(t testing.TB, sent, buffer []byte) bool {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for {
		n, _, err := c.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, unix.ECONNREFUSED) {
			continue
		}
		if err != nil {
			return false
		}
		if bytes.Equal(buffer[:n], sent) {
			return true
		}
	}
}

// dials sends through a stream from an address to the echo of another.
func (n *namespace) dials(t testing.TB, from, to netip.Addr) {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: patience()}
	if !from.IsValid() {
		d.LocalAddr = nil
	}
	var c net.Conn
	n.do(t, func() (err error) {
		c, err = d.Dial("tcp", netip.AddrPortFrom(to, echoPort).String())
		return err
	})
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience())); err != nil {
		t.Fatal(err)
	}
	sent := nonce(100 << 10)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("stream from %s to %s: %d of %d bytes came back: %v", from, to, n, len(sent), err)
	}
}

// silent fails if the echo of an address answers, while that of alive, on the same way, does.
func (n *namespace) silent(t testing.TB, dead, alive netip.Addr, fromDead, fromAlive netip.Addr) {
	t.Helper()
	c := n.socket(t, netip.AddrPortFrom(fromDead, 0))
	defer c.Close()
	sent := nonce(small)
	for range 3 {
		_, _ = c.WriteToUDPAddrPort(sent, netip.AddrPortFrom(dead, echoPort))
		n.asks(t, fromAlive, alive, small)
	}
	if c.back(t, sent, make([]byte, 100)) {
		t.Errorf("%s answers %s", dead, n.name)
	}
}

// full is how many bytes of data fill a packet of the MTU.
func full(mtu int, a netip.Addr) int {
	if a.Is4() {
		return mtu - 20 - 8
	}
	return mtu - 40 - 8
}

// oversized fails if a packet that is one byte longer than the MTU can be sent in one piece.
func (n *namespace) oversized(t testing.TB, mtu int, from, to netip.Addr) {
	t.Helper()
	c := n.socket(t, netip.AddrPortFrom(from, 0))
	defer c.Close()
	if _, err := c.WriteToUDPAddrPort(nonce(full(mtu, from)+1), netip.AddrPortFrom(to, echoPort)); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("%s sends more than %d bytes in a packet: %v", n.name, mtu, err)
	}
}

// member is a socket that listens to a group on a link.
func (n *namespace) member(t testing.TB, on string, six bool) *socket {
	t.Helper()
	c := n.socket(t, groupOf(six))
	index := n.link(t, on).Attrs().Index
	err := control(c.UDPConn, func(fd int) error {
		if six {
			return unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP, &unix.IPv6Mreq{Multiaddr: groupOf(true).Addr().As16(), Interface: uint32(index)})
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: groupOf(false).Addr().As4(), Ifindex: int32(index)})
	})
	if err != nil {
		t.Fatalf("%s joins: %v", n.name, err)
	}
	return c
}

func groupOf(six bool) netip.AddrPort {
	if six {
		return netip.MustParseAddrPort("[ff15::44]:4400")
	}
	return netip.MustParseAddrPort("239.44.0.1:4400")
}

// multicasts sends to the group until each member has heard it.
func (n *namespace) multicasts(t testing.TB, on string, from netip.Addr, members map[string]*socket) {
	t.Helper()
	six := from.Is6()
	c := n.socket(t, netip.AddrPortFrom(from, 0))
	defer c.Close()
	index := n.link(t, on).Attrs().Index
	to := groupOf(six)
	if err := control(c.UDPConn, func(fd int) error {
		if six {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, index)
		}
		return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: int32(index)})
	}); err != nil {
		t.Fatal(err)
	}
	if six {
		to = netip.AddrPortFrom(to.Addr().WithZone(strconv.Itoa(index)), to.Port())
	}
	for name, m := range members {
		sent, got := nonce(small), make([]byte, 1000)
		until(t, fmt.Sprintf("%s hears what %s sends to %s", name, n.name, to), func() bool {
			_, _ = c.WriteToUDPAddrPort(sent, to)
			return m.back(t, sent, got)
		})
	}
}

// capture is a packet socket on a link.
func (n *namespace) capture(t testing.TB, on string) int {
	t.Helper()
	fd := -1
	index := n.link(t, on).Attrs().Index
	n.do(t, func() (err error) {
		all := unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: index})
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// trial is a frame with its id somewhere in it.
type trial struct {
	what  string
	frame []byte
	id    []byte
}

// arrivals sends frames into one packet socket until the first of them, which is honest, and all that are expected have
// come out of the other, and says which came that are not honest. Frames on one way stay in order: what did not come
// before the honest one, sent last, does not come.
func arrivals(t testing.TB, from, at int, trials []trial, expected []string) []string {
	t.Helper()
	var came []string
	b := make([]byte, 4096)
	until(t, fmt.Sprintf("an honest frame arrives, and %v", expected), func() bool {
		for _, f := range append(slices.Clone(trials[1:]), trials[0]) {
			if _, err := unix.Write(from, f.frame); err != nil {
				t.Fatalf("%s: %v", f.what, err)
			}
		}
		honest := false
		for p := []unix.PollFd{{Fd: int32(at), Events: unix.POLLIN}}; !honest || len(came) < len(expected); {
			if n, err := unix.Poll(p, 50); err != nil || n == 0 {
				return false
			}
			n, err := unix.Read(at, b)
			if err != nil {
				return false
			}
			for i, f := range trials {
				switch {
				case !bytes.Contains(b[:n], f.id):
				case i == 0:
					honest = true
				case !slices.Contains(came, f.what):
					came = append(came, f.what)
				}
			}
		}
		return true
	})
	slices.Sort(came)
	return came
}
