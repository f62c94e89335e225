package kernel

import (
	"encoding/binary"
	"net/netip"

	"padis.io/padis/executor/network"
)

const (
	ethernetLength = 14
	arpLength      = 28
	ipv6Length     = 40
	// A solicitation or an advertisement without options (RFC 4861, sections 4.3 and 4.4).
	neighbourLength = 24

	typeARP, typeIPv6, typeVLAN = 0x0806, 0x86dd, 0x8100
	solicitation, advertisement = 135, 136
	sourceOption, targetOption  = 1, 2
	nextICMPv6, hopLimit        = 58, 255
	overrides                   = 0x20 // flag of an advertisement: it replaces what is in caches
)

var everybody = network.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// arpRequest is a broadcast Ethernet frame that asks for the target: a probe when the sender is 0.0.0.0, an
// announcement when sender and target are the same (RFC 826, RFC 5227). The answer goes to the hardware address reply.
func arpRequest(mac, reply network.MAC, sender, target netip.Addr) []byte {
	f := ethernet(everybody, mac, typeARP, arpLength)
	p := f[ethernetLength:]
	copy(p, []byte{0, 1, 0x08, 0, 6, 4, 0, 1})
	copy(p[8:], reply[:])
	copy(p[14:], sender.AsSlice())
	copy(p[24:], target.AsSlice())
	return f
}

// solicit asks for the target (RFC 4861, section 4.3): a probe when the sender is ::, which must not name an address to
// answer to (RFC 4862, section 5.4.2); else the answer goes to the sender, by the hardware address reply.
func solicit(mac, reply network.MAC, sender, target netip.Addr) []byte {
	t := target.As16()
	// The solicited-node group: the last three bytes of the target (RFC 4291, section 2.7.1).
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	var option []byte
	if !sender.IsUnspecified() {
		option = append([]byte{sourceOption, 1}, reply[:]...)
	}
	return icmpv6(mac, sender, group, solicitation, 0, target, option)
}

// advertise tells all nodes who has the address, unasked (RFC 4861, section 7.2.6).
func advertise(mac network.MAC, address netip.Addr) []byte {
	nodes := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 15: 1})
	return icmpv6(mac, address, nodes, advertisement, overrides, address, append([]byte{targetOption, 1}, mac[:]...))
}

func icmpv6(mac network.MAC, sender, group netip.Addr, kind, flags byte, target netip.Addr, option []byte) []byte {
	s, g, t := sender.As16(), group.As16(), target.As16()
	to := network.MAC{0x33, 0x33, g[12], g[13], g[14], g[15]}
	f := ethernet(to, mac, typeIPv6, ipv6Length+neighbourLength+len(option))
	ip := f[ethernetLength:]
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(neighbourLength+len(option)))
	ip[6], ip[7] = nextICMPv6, hopLimit
	copy(ip[8:], s[:])
	copy(ip[24:], g[:])
	m := ip[ipv6Length:]
	m[0], m[4] = kind, flags
	copy(m[8:], t[:])
	copy(m[neighbourLength:], option)
	binary.BigEndian.PutUint16(m[2:], checksum(s, g, m))
	return f
}

// checksum is that of ICMPv6 with its pseudo header (RFC 4443, section 2.3); the message has an even length.
func checksum(source, destination [16]byte, message []byte) uint16 {
	sum := uint32(len(message)) + nextICMPv6
	for _, part := range [][]byte{source[:], destination[:], message} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func ethernet(to, from network.MAC, kind uint16, payload int) []byte {
	f := make([]byte, ethernetLength+payload)
	copy(f, to[:])
	copy(f[6:], from[:])
	binary.BigEndian.PutUint16(f[12:], kind)
	return f
}

// tagged puts a frame into a VLAN (IEEE 802.1Q); 0 leaves it as it is.
func tagged(f []byte, vlan int) []byte {
	if vlan == 0 {
		return f
	}
	out := append([]byte(nil), f[:12]...)
	out = binary.BigEndian.AppendUint16(out, typeVLAN)
	out = binary.BigEndian.AppendUint16(out, uint16(vlan))
	return append(out, f[12:]...)
}

// sighting is what a frame shows of its sender.
type sighting struct {
	mac network.MAC
	// has is the address that the sender uses, seeks the one that it probes for, to use it; either may be invalid.
	has, seeks netip.Addr
}

// sees reads an Ethernet frame of ARP or neighbour discovery; all others show nothing.
func sees(f []byte) (sighting, bool) {
	if len(f) < ethernetLength {
		return sighting{}, false
	}
	s := sighting{mac: network.MAC(f[6:12])}
	switch binary.BigEndian.Uint16(f[12:]) {
	case typeARP:
		return s, s.arp(f[ethernetLength:])
	case typeIPv6:
		return s, s.neighbour(f[ethernetLength:])
	}
	return s, false
}

func (s *sighting) arp(p []byte) bool {
	if len(p) < arpLength || binary.BigEndian.Uint32(p) != 0x00010800 || p[4] != 6 || p[5] != 4 {
		return false
	}
	s.call(network.MAC(p[8:14]))
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	if !sender.IsUnspecified() {
		s.has = sender
	} else {
		s.seeks = target
	}
	return true
}

func (s *sighting) neighbour(p []byte) bool {
	if len(p) < ipv6Length+neighbourLength || p[6] != nextICMPv6 || p[7] != hopLimit {
		return false
	}
	m := p[ipv6Length:]
	sender, target := netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(m[8:24]))
	switch m[0] {
	case advertisement:
		s.has = target
		if o := m[neighbourLength:]; len(o) >= 8 && o[0] == targetOption && o[1] == 1 {
			s.call(network.MAC(o[2:8]))
		}
	case solicitation:
		if sender.IsUnspecified() {
			s.seeks = target
		} else {
			s.has = sender
		}
	default:
		return false
	}
	return true
}

// call takes the hardware address that the sender gives as its own, unless that is a group's.
func (s *sighting) call(mac network.MAC) {
	if mac[0]&1 == 0 {
		s.mac = mac
	}
}

// conflict tells whether a frame shows somebody other than own who has the address or is about to take it, and who.
func conflict(f []byte, own network.MAC, addr netip.Addr) (network.MAC, bool) {
	s, ok := sees(f)
	if !ok || s.mac == own {
		return network.MAC{}, false
	}
	return s.mac, s.has == addr || s.seeks == addr
}
