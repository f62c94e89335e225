package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Packets with a mark go to the hardware address that it means, whatever address they are for: even one that is local. Others go
// as before.
func TestMarked(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("marks take CAP_NET_ADMIN")
	}
	ns := namespace(t)
	if err := inside(ns, tryMarked); err != nil {
		t.Fatal(err)
	}
}

func tryMarked() error {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a", HardwareAddr: []byte{2, 0, 0, 0, 0, 1}}, PeerName: "b"}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	for link, addresses := range map[string][]string{"lo": {"10.9.0.1/32", "fd09::1/128"}, "a": {"10.0.0.1/24", "fd00::1/64"}, "b": nil} {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			parsed, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			parsed.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(l, parsed); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	m, err := OpenMarked("a", true, true)
	if err != nil {
		return err
	}
	defer m.Close()
	one, two, three := network.MAC{2, 1}, network.MAC{2, 2}, network.MAC{2, 3}
	vips := []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")}
	for _, step := range []struct {
		marks map[uint16]network.MAC
		want  map[uint16]network.MAC
	}{
		{map[uint16]network.MAC{1: one, 700: two}, map[uint16]network.MAC{1: one, 700: two, 0: {}}},
		{map[uint16]network.MAC{1: one, 700: two}, map[uint16]network.MAC{700: two}},
		{map[uint16]network.MAC{700: three}, map[uint16]network.MAC{700: three, 1: {}}},
		{nil, map[uint16]network.MAC{700: {}, 0: {}}},
	} {
		if err := m.Set(step.marks); err != nil {
			return err
		}
		for mark, want := range step.want {
			for _, vip := range vips {
				if got, err := wayOf(vip, int(mark)); err != nil || got != want {
					return fmt.Errorf("marks %v: a packet to %s with mark %d went to %s, want %s (%w)", step.marks, vip, mark, got, want, err)
				}
			}
		}
	}
	// Who comes next in the namespace finds the rules there.
	again, err := OpenMarked("a", true, true)
	if err != nil {
		return err
	}
	again.Close()
	_, err = OpenMarked("nowhere", true, true)
	if err == nil {
		return errors.New("a link that is not there")
	}
	return nil
}

// wayOf sends a datagram and tells the hardware address that it left for; the zero address if it came back to its own namespace.
func wayOf(to netip.Addr, mark int) (mac network.MAC, err error) {
	const port = 4000
	wire, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, int(uint16(unix.ETH_P_ALL)<<8))
	if err != nil {
		return mac, err
	}
	defer unix.Close(wire)
	domain, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: to.As16()})
	if to.Is4() {
		domain, address = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: to.As4()}
	}
	local, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return mac, err
	}
	defer unix.Close(local)
	if err := unix.Bind(local, address); err != nil {
		return mac, err
	}
	out, err := unix.Socket(domain, unix.SOCK_DGRAM, 0)
	if err != nil {
		return mac, err
	}
	defer unix.Close(out)
	if err := unix.SetsockoptInt(out, unix.SOL_SOCKET, unix.SO_MARK, mark); err != nil {
		return mac, err
	}
	if err := unix.Sendto(out, []byte("padis marked"), 0, address); err != nil {
		return mac, err
	}
	for range 100 { // turns of at most 100 ms
		fds := []unix.PollFd{{Fd: int32(wire), Events: unix.POLLIN}, {Fd: int32(local), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 100); err != nil && err != unix.EINTR {
			return mac, err
		}
		buf := make([]byte, 2048)
		if n, _, err := unix.Recvfrom(local, buf, 0); err == nil && string(buf[:n]) == "padis marked" {
			return network.MAC{}, nil
		}
		n, from, err := unix.Recvfrom(wire, buf, 0)
		if err != nil || n < 14+12 || string(buf[n-12:n]) != "padis marked" {
			continue
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING && ll.Hatype == unix.ARPHRD_ETHER {
			return network.MAC(buf[:6]), nil
		}
	}
	return mac, errors.New("it was seen nowhere")
}
