package lb

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	client4, vip4 = netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("198.51.100.7")
	client6, vip6 = netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr("2001:db8:1::7")
	directorMAC   = MAC{2, 0x42, 10, 0, 9, 9}
)

func be(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// eth is a frame to dst, from somebody who does not stamp.
func eth(dst MAC, packet []byte) []byte {
	kind := be(etherIPv4)
	if packet[0]>>4 == 6 {
		kind = be(etherIPv6)
	}
	return cat(dst[:], []byte{2, 0, 0, 0, 0, 1}, kind, packet)
}

// ip4 has the 16 bits of flags and fragment offset in off.
func ip4(src, dst netip.Addr, protocol uint8, off uint16, options, payload []byte) []byte {
	header := 20 + len(options)
	return cat([]byte{0x40 | byte(header/4), 0}, be(uint16(header+len(payload))), be(77), be(off), []byte{64, protocol, 0, 0}, src.AsSlice(), dst.AsSlice(), options, payload)
}

func ip6(src, dst netip.Addr, next uint8, payload []byte) []byte {
	return cat([]byte{0x60, 0, 0, 0}, be(uint16(len(payload))), []byte{next, 64}, src.AsSlice(), dst.AsSlice(), payload)
}

func tcp(src, dst uint16, flags uint8) []byte {
	return cat(be(src), be(dst), []byte{0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0, 0, 0, 0, 0, 0})
}

func udp(src, dst uint16) []byte { return cat(be(src), be(dst), be(8), be(0)) }

// tcpPacket is a packet of the flow.
func tcpPacket(t Tuple, flags uint8) []byte {
	if t.Src.Is4() {
		return ip4(t.Src, t.Dst, TCP, 0, nil, tcp(t.SrcPort, t.DstPort, flags))
	}
	return ip6(t.Src, t.Dst, TCP, tcp(t.SrcPort, t.DstPort, flags))
}

func TestParse(t *testing.T) {
	flow4 := Tuple{client4, vip4, 4000, 80, TCP}
	flow6 := Tuple{client6, vip6, 4000, 80, TCP}
	seg, options := tcp(4000, 80, flagACK), []byte{1, 1, 1, 1}
	option := func(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	frag := func(next uint8, off uint16) []byte { return cat([]byte{next, 0}, be(off), []byte{0, 0, 0, 5}) }
	reply4 := ip4(vip4, client4, TCP, 0, nil, tcp(80, 4000, flagACK)[:8])
	reply6 := ip6(vip6, client6, TCP, tcp(80, 4000, flagACK)[:8])
	error4 := func(kind, code uint8, inside []byte) []byte {
		return ip4(netip.MustParseAddr("203.0.113.1"), vip4, icmp4, 0, nil, cat([]byte{kind, code, 0, 0, 0, 0, 5, 0xdc}, inside))
	}
	error6 := func(kind uint8, inside []byte) []byte {
		return ip6(netip.MustParseAddr("2001:db8::ffff"), vip6, icmp6, cat([]byte{kind, 0, 0, 0, 0, 0, 5, 0}, inside))
	}
	edit := func(b []byte, at int, v ...byte) []byte {
		b = append([]byte(nil), b...)
		copy(b[at:], v)
		return b
	}
	key4, key6 := FragmentKey{client4, vip4, 77, TCP}, FragmentKey{client6, vip6, 5, 0}
	for name, c := range map[string]struct {
		packet []byte
		reason Reason
		want   Packet
	}{
		"tcp":                       {tcpPacket(flow4, flagACK), Placed, Packet{Tuple: flow4, Flags: flagACK, Ack: 2}},
		"tcp6":                      {tcpPacket(flow6, flagSYN), Placed, Packet{Tuple: flow6, Flags: flagSYN, Ack: 2}},
		"udp":                       {ip4(client4, vip4, UDP, 0, nil, udp(4000, 80)), Placed, Packet{Tuple: Tuple{client4, vip4, 4000, 80, UDP}}},
		"don't fragment":            {ip4(client4, vip4, TCP, 0x4000, nil, seg), Placed, Packet{Tuple: flow4, Flags: flagACK, Ack: 2}},
		"options":                   {ip4(client4, vip4, TCP, 0, options, seg), Placed, Packet{Tuple: flow4, Flags: flagACK, Ack: 2}},
		"padding":                   {cat(tcpPacket(flow4, flagACK), make([]byte, 6)), Placed, Packet{Tuple: flow4, Flags: flagACK, Ack: 2}},
		"first fragment":            {ip4(client4, vip4, TCP, 0x2000, nil, seg), Placed, Packet{Kind: FirstFragment, Tuple: flow4, Flags: flagACK, Ack: 2, Fragment: key4}},
		"later fragment":            {ip4(client4, vip4, TCP, 0x2003, nil, []byte{1}), Placed, Packet{Kind: LaterFragment, Tuple: Tuple{Src: client4, Dst: vip4, Protocol: TCP}, Fragment: key4}},
		"last fragment":             {ip4(client4, vip4, TCP, 3, nil, nil), Placed, Packet{Kind: LaterFragment, Tuple: Tuple{Src: client4, Dst: vip4, Protocol: TCP}, Fragment: key4}},
		"tiny first fragment":       {ip4(client4, vip4, TCP, 0x2000, nil, seg[:16]), Malformed, Packet{}},
		"fragment of an echo":       {ip4(client4, vip4, icmp4, 0x2000, nil, make([]byte, 16)), Other, Packet{}},
		"gre":                       {ip4(client4, vip4, 47, 0, nil, make([]byte, 16)), Other, Packet{}},
		"short header":              {edit(tcpPacket(flow4, flagACK), 0, 0x44), Malformed, Packet{}},
		"header beyond total":       {edit(tcpPacket(flow4, flagACK), 0, 0x4f), Malformed, Packet{}},
		"total beyond frame":        {edit(tcpPacket(flow4, flagACK), 2, 0, 41), Malformed, Packet{}},
		"total within header":       {edit(tcpPacket(flow4, flagACK), 2, 0, 19), Malformed, Packet{}},
		"total within tcp":          {edit(tcpPacket(flow4, flagACK), 2, 0, 39), Malformed, Packet{}},
		"udp too short":             {ip4(client4, vip4, UDP, 0, nil, make([]byte, 7)), Malformed, Packet{}},
		"four bytes":                {[]byte{0x45, 0, 0, 4}, Malformed, Packet{}},
		"hop by hop":                {ip6(client6, vip6, 0, cat(option(TCP), seg)), Placed, Packet{Tuple: flow6, Flags: flagACK, Ack: 2}},
		"eight options":             {ip6(client6, vip6, 60, cat(option(60), option(60), option(60), option(60), option(60), option(60), option(60), option(TCP), seg)), Placed, Packet{Tuple: flow6, Flags: flagACK, Ack: 2}},
		"nine options":              {ip6(client6, vip6, 60, cat(option(60), option(60), option(60), option(60), option(60), option(60), option(60), option(60), option(TCP), seg)), Other, Packet{}},
		"option beyond packet":      {ip6(client6, vip6, 60, []byte{TCP, 1, 1, 4, 0, 0, 0, 0}), Malformed, Packet{}},
		"half an option":            {ip6(client6, vip6, 60, []byte{TCP, 0, 1}), Malformed, Packet{}},
		"routing, done":             {ip6(client6, vip6, 43, cat([]byte{TCP, 0, 2, 0, 0, 0, 0, 0}, seg)), Placed, Packet{Tuple: flow6, Flags: flagACK, Ack: 2}},
		"routing, on its way":       {ip6(client6, vip6, 43, cat([]byte{TCP, 0, 2, 1, 0, 0, 0, 0}, seg)), Other, Packet{}},
		"first fragment6":           {ip6(client6, vip6, 44, cat(frag(TCP, 1), seg)), Placed, Packet{Kind: FirstFragment, Tuple: flow6, Flags: flagACK, Ack: 2, Fragment: key6}},
		"later fragment6":           {ip6(client6, vip6, 44, frag(TCP, 8)), Placed, Packet{Kind: LaterFragment, Tuple: Tuple{Src: client6, Dst: vip6}, Fragment: key6}},
		"atomic fragment6":          {ip6(client6, vip6, 44, cat(frag(TCP, 0), seg)), Placed, Packet{Tuple: flow6, Flags: flagACK, Ack: 2}},
		"fragment in fragment6":     {ip6(client6, vip6, 44, cat(frag(44, 1), frag(TCP, 1), seg)), Malformed, Packet{}},
		"fragment of icmp6":         {ip6(client6, vip6, 44, cat(frag(icmp6, 1), make([]byte, 64))), Other, Packet{}},
		"no next header":            {ip6(client6, vip6, 59, nil), Other, Packet{}},
		"payload beyond frame6":     {edit(tcpPacket(flow6, flagACK), 4, 0, 21), Malformed, Packet{}},
		"version 5":                 {edit(tcpPacket(flow4, flagACK), 0, 0x55), Malformed, Packet{}},
		"fragmentation needed":      {error4(3, 4, reply4), Placed, Packet{Kind: ICMPError, Tuple: flow4}},
		"unreachable":               {error4(3, 1, ip4(vip4, client4, TCP, 0, options, tcp(80, 4000, 0)[:8])), Placed, Packet{Kind: ICMPError, Tuple: flow4}},
		"time exceeded":             {error4(11, 0, ip4(vip4, client4, UDP, 0, nil, udp(80, 4000))), Placed, Packet{Kind: ICMPError, Tuple: Tuple{client4, vip4, 4000, 80, UDP}}},
		"parameter problem":         {error4(12, 0, reply4), Placed, Packet{Kind: ICMPError, Tuple: flow4}},
		"echo":                      {error4(8, 0, reply4), Other, Packet{}},
		"error about a fragment":    {error4(3, 4, ip4(vip4, client4, TCP, 8, nil, make([]byte, 8))), Other, Packet{}},
		"error about an echo":       {error4(3, 1, ip4(vip4, client4, icmp4, 0, nil, make([]byte, 8))), Other, Packet{}},
		"error about another's":     {error4(3, 1, ip4(client4, vip4, TCP, 0, nil, tcp(80, 4000, 0)[:8])), Malformed, Packet{}},
		"error cut short":           {error4(3, 1, reply4[:27]), Malformed, Packet{}},
		"error about another ip":    {error4(3, 1, reply6), Malformed, Packet{}},
		"error of six bytes":        {ip4(client4, vip4, icmp4, 0, nil, make([]byte, 6)), Malformed, Packet{}},
		"packet too big":            {error6(2, reply6), Placed, Packet{Kind: ICMPError, Tuple: flow6}},
		"unreachable6":              {error6(1, reply6), Placed, Packet{Kind: ICMPError, Tuple: flow6}},
		"echo6":                     {error6(128, reply6), Other, Packet{}},
		"neighbour solicitation":    {error6(135, reply6), Other, Packet{}},
		"error6 with extensions":    {error6(2, ip6(vip6, client6, 60, cat(option(TCP), seg))), Other, Packet{}},
		"error6 cut short":          {error6(2, reply6[:47]), Malformed, Packet{}},
		"error6 of seven bytes":     {ip6(client6, vip6, icmp6, make([]byte, 7)), Malformed, Packet{}},
		"options, then an error":    {ip6(client6, vip6, 60, cat(option(icmp6), []byte{3, 0, 0, 0, 0, 0, 0, 0}, reply6)), Placed, Packet{Kind: ICMPError, Tuple: flow6}},
		"mapped addresses are IPv6": {ip6(netip.MustParseAddr("::ffff:1.2.3.4"), vip6, TCP, seg), Placed, Packet{Tuple: Tuple{netip.MustParseAddr("::ffff:1.2.3.4"), vip6, 4000, 80, TCP}, Flags: flagACK, Ack: 2}},
	} {
		if got, reason := Parse(eth(directorMAC, c.packet)); reason != c.reason || got != c.want {
			t.Errorf("%s: %s %+v\nwant %s %+v", name, reason, got, c.reason, c.want)
		}
	}
	for name, frame := range map[string][]byte{
		"empty": nil, "13 bytes": make([]byte, 13), "arp": cat(make([]byte, 12), be(0x0806), make([]byte, 28)),
		"vlan": cat(make([]byte, 12), be(0x8100), be(5), be(etherIPv4), tcpPacket(flow4, 0)),
	} {
		if _, reason := Parse(frame); reason != NotIP {
			t.Errorf("%s: %s", name, reason)
		}
	}
	if _, reason := Parse(cat(make([]byte, 12), be(etherIPv6), tcpPacket(flow4, 0))); reason != Malformed {
		t.Errorf("IPv4 that says it is IPv6: %s", reason)
	}
}

// No frame, however cut or changed, makes anything but a verdict; and only whole flows are placed.
func FuzzParse(f *testing.F) {
	flow4, flow6 := Tuple{client4, vip4, 4000, 80, TCP}, Tuple{client6, vip6, 4000, 80, TCP}
	f.Add(eth(directorMAC, tcpPacket(flow4, flagACK)))
	f.Add(eth(directorMAC, tcpPacket(flow6, flagSYN)))
	f.Add(eth(directorMAC, ip4(client4, vip4, TCP, 0x2000, []byte{1, 1, 1, 1}, tcp(4000, 80, 0))))
	f.Add(eth(directorMAC, ip4(client4, vip4, icmp4, 0, nil, cat([]byte{3, 4, 0, 0, 0, 0, 5, 0}, ip4(vip4, client4, TCP, 0, nil, tcp(80, 4000, 0))))))
	f.Add(eth(directorMAC, ip6(client6, vip6, 44, cat([]byte{60, 0, 0, 1, 0, 0, 0, 5, TCP, 0, 1, 4, 0, 0, 0, 0}, tcp(4000, 80, 0)))))
	f.Add(eth(directorMAC, ip6(client6, vip6, icmp6, cat([]byte{2, 0, 0, 0, 0, 0, 5, 0}, ip6(vip6, client6, TCP, tcp(80, 4000, 0))))))
	f.Fuzz(func(t *testing.T, frame []byte) {
		p, reason := Parse(frame)
		if reason != Placed {
			if p != (Packet{}) {
				t.Fatalf("%s, but %+v", reason, p)
			}
			return
		}
		if !p.Tuple.Src.IsValid() || p.Tuple.Src.Is4() != p.Tuple.Dst.Is4() {
			t.Fatalf("addresses of %+v", p)
		}
		if p.Kind != LaterFragment && p.Tuple.Protocol != TCP && p.Tuple.Protocol != UDP {
			t.Fatalf("protocol of %+v", p)
		}
	})
}
