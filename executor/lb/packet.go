package lb

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of the protocols that Parse knows: IANA's.
const (
	icmp4       = 1
	icmp6       = 58
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destOptions = 60

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd

	etherLen = 14
	ipv4Len  = 20
	ipv6Len  = 40
	tcpLen   = 20
	udpLen   = 8
	icmpLen  = 8

	// maxExtensions bounds the walk through the extension headers of IPv6.
	maxExtensions = 8
)

// Bits of the TCP header's 14th byte.
const (
	flagSYN = 0x02
	flagACK = 0x10
)

// Kind says which part of a flow a packet is.
type Kind uint8

// Whole packets have ports. So have first fragments, which tell them to the later ones. ICMPError carries a packet of the
// flow, sent by the real server.
const (
	Whole Kind = iota
	FirstFragment
	LaterFragment
	ICMPError
)

// Packet is what Parse reads from a frame.
type Packet struct {
	Kind Kind
	// Tuple is the flow from client to VIP; of a LaterFragment without ports, and of IPv6 without protocol.
	Tuple Tuple
	// Flags and Ack are the TCP header's, of whole packets and first fragments.
	Flags uint8
	Ack   uint32
	// Fragment is the datagram that a fragment is of.
	Fragment FragmentKey
}

// opens tells of a TCP packet whether it opens a connection: SYN without ACK.
func (p *Packet) opens() bool { return p.Kind != ICMPError && p.Flags&(flagSYN|flagACK) == flagSYN }

// FragmentKey names a datagram that comes in fragments (RFC 791, RFC 8200 4.5).
type FragmentKey struct {
	Src, Dst netip.Addr
	ID       uint32
	// Protocol is IPv4's. 0 for IPv6, whose later fragments do not tell it.
	Protocol uint8
}

// Fragment is what the first fragment tells of its datagram.
type Fragment struct {
	SrcPort, DstPort uint16
	Protocol         uint8
	Flags            uint8
}

// Parse reads an Ethernet frame. It returns Placed if the packet has what a flow is known by, otherwise why not: NotIP (also
// with VLAN tag), Malformed, or Other (another protocol, more than 8 extension headers, a router still to come, an ICMP
// message that is no error, or one about a fragment or a packet with extension headers). Frames may be longer than their
// packet (padding), not shorter. Checksums are the real server's affair.
func Parse(frame []byte) (Packet, Reason) {
	if len(frame) < etherLen {
		return Packet{}, NotIP
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		return parseIPv4(frame[etherLen:])
	case etherIPv6:
		return parseIPv6(frame[etherLen:])
	}
	return Packet{}, NotIP
}

func parseIPv4(b []byte) (Packet, Reason) {
	if len(b) < ipv4Len || b[0]>>4 != 4 {
		return Packet{}, Malformed
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ipv4Len || total < header || total > len(b) {
		return Packet{}, Malformed
	}
	p := Packet{Tuple: Tuple{Src: addr4(b[12:]), Dst: addr4(b[16:]), Protocol: b[9]}}
	payload := b[header:total]
	if off := binary.BigEndian.Uint16(b[6:]); off&0x3fff != 0 { // more fragments, or not the first
		if p.Tuple.Protocol != TCP && p.Tuple.Protocol != UDP {
			return Packet{}, Other
		}
		p.Fragment = FragmentKey{p.Tuple.Src, p.Tuple.Dst, uint32(binary.BigEndian.Uint16(b[4:])), p.Tuple.Protocol}
		p.Kind = FirstFragment
		if off&0x1fff != 0 {
			p.Kind = LaterFragment
			return p, Placed
		}
	} else if p.Tuple.Protocol == icmp4 {
		return parseICMP4(payload, p.Tuple.Dst)
	}
	return p.transport(payload)
}

func parseIPv6(b []byte) (Packet, Reason) {
	if len(b) < ipv6Len || b[0]>>4 != 6 {
		return Packet{}, Malformed
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return Packet{}, Malformed
	}
	p := Packet{Tuple: Tuple{Src: addr6(b[8:]), Dst: addr6(b[24:])}}
	next, rest := b[6], b[ipv6Len:total]
	for n := 0; ; n++ {
		if isExtension(next) && n == maxExtensions {
			return Packet{}, Other
		}
		switch next {
		case hopByHop, destOptions, routing:
			if len(rest) < 8 {
				return Packet{}, Malformed
			}
			if next == routing && rest[3] != 0 { // segments left: the packet goes on from here
				return Packet{}, Other
			}
			size := (int(rest[1]) + 1) * 8
			if size > len(rest) {
				return Packet{}, Malformed
			}
			next, rest = rest[0], rest[size:]
		case fragment:
			if len(rest) < 8 || p.Kind != Whole {
				return Packet{}, Malformed
			}
			off := binary.BigEndian.Uint16(rest[2:])
			if off&0xfff9 != 0 { // else it is a fragment by name only (RFC 6946)
				p.Fragment = FragmentKey{Src: p.Tuple.Src, Dst: p.Tuple.Dst, ID: binary.BigEndian.Uint32(rest[4:])}
				p.Kind = FirstFragment
				if off&0xfff8 != 0 {
					p.Kind = LaterFragment
					return p, Placed
				}
			}
			next, rest = rest[0], rest[8:]
		case icmp6:
			if p.Kind != Whole {
				return Packet{}, Other
			}
			return parseICMP6(rest, p.Tuple.Dst)
		default:
			p.Tuple.Protocol = next
			return p.transport(rest)
		}
	}
}

func isExtension(next uint8) bool {
	return next == hopByHop || next == destOptions || next == routing || next == fragment
}

// transport reads the ports. The header must be whole, in a first fragment, too: shorter ones are made to deceive filters.
func (p Packet) transport(b []byte) (Packet, Reason) {
	switch p.Tuple.Protocol {
	case TCP:
		if len(b) < tcpLen {
			return Packet{}, Malformed
		}
		p.Flags, p.Ack = b[13], binary.BigEndian.Uint32(b[8:])
	case UDP:
		if len(b) < udpLen {
			return Packet{}, Malformed
		}
	default:
		return Packet{}, Other
	}
	p.Tuple.SrcPort, p.Tuple.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	return p, Placed
}

// parseICMP4 reads destination unreachable (with fragmentation needed), time exceeded and parameter problem: RFC 792.
func parseICMP4(b []byte, dst netip.Addr) (Packet, Reason) {
	if len(b) < icmpLen {
		return Packet{}, Malformed
	}
	if b[0] != 3 && b[0] != 11 && b[0] != 12 {
		return Packet{}, Other
	}
	if b = b[icmpLen:]; len(b) < ipv4Len || b[0]>>4 != 4 {
		return Packet{}, Malformed
	}
	header := int(b[0]&15) * 4
	if header < ipv4Len || len(b) < header+8 {
		return Packet{}, Malformed
	}
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return Packet{}, Other // a later fragment: no ports
	}
	return inner(addr4(b[12:]), addr4(b[16:]), b[9], b[header:], dst)
}

// parseICMP6 reads the errors of RFC 4443: unreachable, packet too big, time exceeded, parameter problem.
func parseICMP6(b []byte, dst netip.Addr) (Packet, Reason) {
	if len(b) < icmpLen {
		return Packet{}, Malformed
	}
	if b[0] < 1 || b[0] > 4 {
		return Packet{}, Other
	}
	if b = b[icmpLen:]; len(b) < ipv6Len+8 || b[0]>>4 != 6 {
		return Packet{}, Malformed
	}
	return inner(addr6(b[8:]), addr6(b[24:]), b[6], b[ipv6Len:], dst)
}

// inner turns the flow of the packet inside an ICMP error round, because the real server sent it. b begins with its ports and
// has 8 bytes or more. The error must have been sent to whoever sent the packet.
func inner(src, dst netip.Addr, protocol uint8, b []byte, to netip.Addr) (Packet, Reason) {
	if protocol != TCP && protocol != UDP {
		return Packet{}, Other
	}
	if src != to {
		return Packet{}, Malformed
	}
	return Packet{Kind: ICMPError, Tuple: Tuple{Src: dst, Dst: src, SrcPort: binary.BigEndian.Uint16(b[2:]), DstPort: binary.BigEndian.Uint16(b), Protocol: protocol}}, Placed
}

func addr4(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }
func addr6(b []byte) netip.Addr { return netip.AddrFrom16([16]byte(b[:16])) }
