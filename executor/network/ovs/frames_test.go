package ovs

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"padis.io/padis/executor/network"
)

// Frames by hand. Checksums are zero: nothing on the way of a bridge looks at them.

var everybody = network.MAC{255, 255, 255, 255, 255, 255}

func ether(to, from network.MAC, kind uint16, payload ...[]byte) []byte {
	return slices.Concat(to[:], from[:], bigEndian(kind), slices.Concat(payload...))
}

func ipv4(from, to string, proto byte, payload ...[]byte) []byte {
	p := slices.Concat(payload...)
	h := make([]byte, 12, 20)
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(p)))
	h = append(h, netip.MustParseAddr(from).AsSlice()...)
	h = append(h, netip.MustParseAddr(to).AsSlice()...)
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return append(h, p...)
}

func ipv6(from, to string, next byte, payload ...[]byte) []byte {
	p := slices.Concat(payload...)
	h := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(h[4:], uint16(len(p)))
	return slices.Concat(h, netip.MustParseAddr(from).AsSlice(), netip.MustParseAddr(to).AsSlice(), p)
}

func udp(from, to uint16, payload []byte) []byte {
	return slices.Concat(bigEndian(from), bigEndian(to), bigEndian(uint16(8+len(payload))), []byte{0, 0}, payload)
}

// icmp6 is a message; of neighbour discovery if there is a target.
func icmp6(kind byte, target string) []byte {
	b := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	if target != "" {
		b = append(b, netip.MustParseAddr(target).AsSlice()...)
	}
	return b
}

// options is a header with destination options, before the next one.
func options(next byte, payload []byte) []byte {
	return append([]byte{next, 0, 1, 4, 0, 0, 0, 0}, payload...)
}

func arp(op uint16, sha network.MAC, spa, tpa string) []byte {
	return slices.Concat([]byte{0, 1, 8, 0, 6, 4}, bigEndian(op), sha[:], netip.MustParseAddr(spa).AsSlice(), make([]byte, 6), netip.MustParseAddr(tpa).AsSlice())
}

func bigEndian(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
