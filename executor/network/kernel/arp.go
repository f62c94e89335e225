package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// The probe of RFC 5227, section 2.1.1, in a fifth of a second instead of its several: the peer that it looks for is a
// Linux host on a wired segment, which answers within a millisecond, and the lease already excludes all others.
const (
	probes        = 3
	probeInterval = 65 * time.Millisecond
	carrierWait   = time.Second
)

// Probe asks on each interface's segment whether somebody has its address, for the interfaces that demand it. It returns
// those who do, one for each address; none means that all addresses are silent. It makes the bridges first. An error
// means that nothing can be said.
func (n *Network) Probe(ctx context.Context, w network.Wanted) ([]network.Answer, error) {
	if err := n.ensureBridges(w.Bridges); err != nil {
		return nil, err
	}
	var out []network.Answer
	for _, i := range w.Interfaces {
		if !i.Probe {
			continue
		}
		var b network.Bridge
		for _, have := range w.Bridges {
			if have.Name == i.Bridge {
				b = have
			}
		}
		mac, found, err := n.probe(ctx, b, i.Address.Addr())
		if err != nil {
			return nil, fmt.Errorf("probe for %s: %w", i.Address.Addr(), err)
		}
		if found {
			out = append(out, network.Answer{Address: i.Address.Addr(), MAC: mac})
		}
	}
	return out, nil
}

func (n *Network) probe(ctx context.Context, b network.Bridge, addr netip.Addr) (network.MAC, bool, error) {
	if err := n.awaitCarrier(ctx, b.Parent); err != nil {
		return network.MAC{}, false, err
	}
	bridge, err := n.host.LinkByName(b.Name)
	if err != nil {
		return network.MAC{}, false, err
	}
	var own network.MAC
	copy(own[:], bridge.Attrs().HardwareAddr)
	s, err := packetSocket(bridge.Attrs().Index)
	if err != nil {
		return network.MAC{}, false, err
	}
	defer closeLater(s)
	conn, err := s.SyscallConn()
	if err != nil {
		return network.MAC{}, false, err
	}
	frame := arpRequest(own, netip.IPv4Unspecified(), addr)
	for range probes {
		if err := ctx.Err(); err != nil {
			return network.MAC{}, false, err
		}
		if _, err := s.Write(frame); err != nil {
			return network.MAC{}, false, fmt.Errorf("send on %s: %w", b.Name, err)
		}
		if err := s.SetReadDeadline(time.Now().Add(probeInterval)); err != nil {
			return network.MAC{}, false, err
		}
		mac, found, err := listen(conn, own, addr)
		if err != nil || found {
			return mac, found, err
		}
	}
	return network.MAC{}, false, nil
}

// listen reads ARP until somebody shows that he has, or also wants, the address, or until the deadline.
func listen(conn syscall.RawConn, own network.MAC, addr netip.Addr) (network.MAC, bool, error) {
	buf := make([]byte, 128)
	for {
		var got int
		var failed error
		err := conn.Read(func(fd uintptr) bool {
			got, _, failed = unix.Recvfrom(int(fd), buf, 0)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return network.MAC{}, false, nil
		}
		if err = errors.Join(err, failed); err != nil {
			return network.MAC{}, false, fmt.Errorf("receive: %w", err)
		}
		if mac, ok := conflict(buf[:got], own, addr); ok {
			return mac, true, nil
		}
	}
}

// awaitCarrier waits until the uplink can carry frames: silence on a cable that is not plugged in says nothing.
func (n *Network) awaitCarrier(ctx context.Context, parent string) error {
	if parent == "" {
		return nil
	}
	for deadline := time.Now().Add(carrierWait); ; {
		l, err := n.host.LinkByName(parent)
		if err != nil {
			return err
		}
		if s := l.Attrs().OperState; s == netlink.OperUp || s == netlink.OperUnknown {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s has no carrier, so that nobody can tell whether the address is free; plug it in", parent)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// Announce repeats the announcement of the addresses (RFC 5227, section 2.3) on the segment: the one that the kernel
// sends when an interface comes up can be lost while ports on the way start forwarding.
func (n *Network) Announce(w network.Wanted) error {
	var failed []error
	for _, i := range w.Interfaces {
		bridge, err := n.host.LinkByName(i.Bridge)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		a := i.Address.Addr()
		to := &unix.SockaddrLinklayer{Ifindex: bridge.Attrs().Index}
		if err := unix.Sendto(n.announcer, arpRequest(i.MAC, a, a), 0, to); err != nil {
			failed = append(failed, fmt.Errorf("announce %s: %w", a, err))
		}
	}
	return errors.Join(failed...)
}

const (
	ethernetLength = 14
	arpLength      = 28
)

// arpRequest is a broadcast Ethernet frame that asks for the target: a probe when the sender is 0.0.0.0, an
// announcement when sender and target are the same (RFC 826, RFC 5227).
func arpRequest(mac network.MAC, sender, target netip.Addr) []byte {
	f := make([]byte, ethernetLength+arpLength)
	for i := range 6 {
		f[i] = 0xff
	}
	copy(f[6:], mac[:])
	copy(f[12:], []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1})
	copy(f[22:], mac[:])
	copy(f[28:], sender.AsSlice())
	copy(f[38:], target.AsSlice())
	return f
}

// conflict tells whether a frame shows somebody else who has the address (any ARP with it as sender) or who probes for
// it at this moment, and who.
func conflict(f []byte, own network.MAC, addr netip.Addr) (network.MAC, bool) {
	if len(f) < ethernetLength+arpLength || binary.BigEndian.Uint16(f[12:]) != 0x0806 || binary.BigEndian.Uint16(f[16:]) != 0x0800 || f[18] != 6 || f[19] != 4 {
		return network.MAC{}, false
	}
	var mac network.MAC
	copy(mac[:], f[22:28])
	if mac == own {
		return network.MAC{}, false
	}
	sender, target := netip.AddrFrom4([4]byte(f[28:32])), netip.AddrFrom4([4]byte(f[38:42]))
	return mac, sender == addr || (sender.IsUnspecified() && target == addr)
}
