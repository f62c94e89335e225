package udp

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb/bfd"
)

// ear is the socket that hears what comes to one local address.
type ear struct{ fd int }

// listen makes the ear of a local address, if there is none yet.
func (l *loop) listen(local netip.Addr) error {
	if _, ok := l.ears[local]; ok {
		return nil
	}
	fd, err := socket(local.Is4())
	if err != nil {
		return err
	}
	err = unix.Bind(fd, sockaddr(local, bfd.Port))
	if err == nil {
		err = l.watch(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("hear on %v, UDP port %d: %w: is another BFD daemon on this host?", local, bfd.Port, err)
	}
	l.ears[local] = &ear{fd}
	return nil
}

// shutEars closes those that no session needs any more.
func (l *loop) shutEars() {
	for a, e := range l.ears {
		used := false
		for _, x := range l.sessions {
			used = used || x.local == a
		}
		if !used {
			_ = unix.Close(e.fd)
			delete(l.ears, a)
		}
	}
}

// dial makes the socket that a session sends by, from a port of its own (RFC 5881, section 4), and says from which address. It
// is connected, so that the kernel tells when the router refuses.
func dial(p bfd.Peer) (int, netip.Addr, error) {
	fd, err := socket(p.Address.Is4())
	if err != nil {
		return -1, netip.Addr{}, err
	}
	from := p.Local
	if !from.IsValid() {
		from = netip.IPv4Unspecified()
		if p.Address.Is6() {
			from = netip.IPv6Unspecified()
		}
	}
	for range 16 {
		err = unix.Bind(fd, sockaddr(from, bfd.FirstSource+rand.IntN(bfd.LastSource-bfd.FirstSource+1)))
		if err != unix.EADDRINUSE {
			break
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, netip.Addr{}, fmt.Errorf("send from %v: %w: is it an address of this host?", from, err)
	}
	if err = unix.Connect(fd, sockaddr(p.Address, bfd.Port)); err != nil {
		_ = unix.Close(fd)
		return -1, netip.Addr{}, fmt.Errorf("reach %v: %w: is there a route?", p.Address, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, netip.Addr{}, fmt.Errorf("own address towards %v: %w", p.Address, err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return fd, netip.AddrFrom4(a.Addr), nil
	case *unix.SockaddrInet6:
		return fd, netip.AddrFrom16(a.Addr), nil
	}
	_ = unix.Close(fd)
	return -1, netip.Addr{}, fmt.Errorf("own address towards %v: %T is none", p.Address, name)
}

// Class CS6, as routing protocols have it, so that a full link does not drop signs of life first.
const class = 48 << 2

// socket sends with a TTL of 255 and says that of what it hears.
func socket(v4 bool) (int, error) {
	family := unix.AF_INET6
	options := [][3]int{{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1}, {unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, bfd.TTL},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class}}
	if v4 {
		family = unix.AF_INET
		options = [][3]int{{unix.IPPROTO_IP, unix.IP_TTL, bfd.TTL}, {unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {unix.IPPROTO_IP, unix.IP_TOS, class}}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("UDP socket: %w", err)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			_ = unix.Close(fd)
			return -1, fmt.Errorf("option %d of a UDP socket: %w", o[1], err)
		}
	}
	return fd, nil
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// write sends. An error that an earlier packet brought back is told, and this one is sent all the same.
func write(fd int, b []byte) error {
	_, err := unix.Write(fd, b)
	if err == unix.ECONNREFUSED || err == unix.EHOSTUNREACH {
		_, _ = unix.Write(fd, b)
	}
	if err == nil {
		return nil
	}
	return err
}

// incoming is the memory for one packet. unix.Recvmsg would allocate an address for each.
type incoming struct {
	message unix.Msghdr
	vector  unix.Iovec
	name    unix.RawSockaddrInet6
	// Longer packets are cut: Parse wants to see 24 bytes, and an authentication section that it refuses.
	payload [64]byte
	control [64]byte
}

func (in *incoming) prepare() {
	in.vector.Base = &in.payload[0]
	in.vector.SetLen(len(in.payload))
	in.message.Iov = &in.vector
	in.message.SetIovlen(1)
	in.message.Name = (*byte)(unsafe.Pointer(&in.name))
	in.message.Control = &in.control[0]
}

// read takes one packet: who sent it, its TTL or hop limit (0 if the kernel does not say), and what is in it until the next read.
func (in *incoming) read(fd int) (from netip.Addr, ttl int, payload []byte, err error) {
	in.message.Namelen = uint32(unsafe.Sizeof(in.name))
	in.message.SetControllen(len(in.control))
	// It cannot block: so Go's scheduler need not know.
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&in.message)), 0)
	if errno != 0 {
		return netip.Addr{}, 0, nil, errno
	}
	switch in.name.Family {
	case unix.AF_INET:
		from = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&in.name)).Addr)
	case unix.AF_INET6:
		from = netip.AddrFrom16(in.name.Addr)
	}
	for rest := in.control[:in.message.Controllen]; len(rest) >= unix.SizeofCmsghdr; {
		var h unix.Cmsghdr
		var data []byte
		if h, data, rest, err = unix.ParseOneSocketControlMessage(rest); err != nil {
			break
		}
		is4, is6 := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL, h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT
		if (is4 || is6) && len(data) >= 4 {
			ttl = int(*(*int32)(unsafe.Pointer(&data[0])))
		}
	}
	return from, ttl, in.payload[:n], nil
}
