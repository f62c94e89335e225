package drivers

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

var everybody = network.MAC{255, 255, 255, 255, 255, 255}

func big16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func ether(to, from network.MAC, kind int, payload ...[]byte) []byte {
	return slices.Concat(to[:], from[:], big16(kind), slices.Concat(payload...))
}

// datagram is a packet for the discard port; its UDP checksum is the right one, as routers and real machines want.
func datagram(from, to netip.Addr, data []byte) []byte {
	length := 8 + len(data)
	u := slices.Concat(big16(4000), big16(discardPort), big16(length), []byte{0, 0}, data)
	sum := checksum(slices.Concat(from.AsSlice(), to.AsSlice(), big16(unix.IPPROTO_UDP), big16(length), u))
	binary.BigEndian.PutUint16(u[6:], sum)
	if from.Is6() {
		h := slices.Concat([]byte{0x60, 0, 0, 0}, big16(length), []byte{unix.IPPROTO_UDP, 64}, from.AsSlice(), to.AsSlice())
		return append(h, u...)
	}
	h := slices.Concat([]byte{0x45, 0}, big16(20+length), []byte{0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, from.AsSlice(), to.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, u...)
}

// checksum of the Internet (RFC 1071).
func checksum(b []byte) uint16 {
	if len(b)%2 == 1 {
		b = append(slices.Clone(b), 0)
	}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// claim says to all, with an id that is in it, that an address is at a hardware address: an ARP reply, or an advertisement of a neighbour.
func claim(mac network.MAC, from, address netip.Addr, id []byte) []byte {
	if address.Is4() {
		return ether(everybody, mac, unix.ETH_P_ARP, []byte{0, 1, 8, 0, 6, 4, 0, 2}, mac[:], address.AsSlice(), everybody[:], address.AsSlice(), id)
	}
	all := netip.MustParseAddr("ff02::1")
	// The id is in an option (RFC 3971, section 5.3.2), because bridges may cut what is behind a packet.
	option := append([]byte{14, byte((2 + len(id) + 7) / 8)}, id...)
	option = append(option, make([]byte, -len(option)&7)...)
	m := slices.Concat([]byte{136, 0, 0, 0, 0x20, 0, 0, 0}, address.AsSlice(), []byte{2, 1}, mac[:], option)
	sum := checksum(slices.Concat(from.AsSlice(), all.AsSlice(), big16(0), big16(len(m)), []byte{0, 0, 0, unix.IPPROTO_ICMPV6}, m))
	binary.BigEndian.PutUint16(m[2:], sum)
	h := slices.Concat([]byte{0x60, 0, 0, 0}, big16(len(m)), []byte{unix.IPPROTO_ICMPV6, 255}, from.AsSlice(), all.AsSlice())
	return ether(network.MAC{0x33, 0x33, 0, 0, 0, 1}, mac, unix.ETH_P_IPV6, h, m)
}
