package lb

import (
	"net/netip"
	"strings"
	"testing"
)

func TestTables(t *testing.T) {
	web, alt, dns := service(31), service(31), service(31)
	alt.Ports, dns.Protocol = Ports{8000, 8010}, UDP
	a, b, c := must(t, nil, web, servers(1)), must(t, nil, alt, servers(1)), must(t, nil, dns, servers(1))
	tb := tables(t, b, c, a)
	for port, want := range map[uint16]*Generation{79: nil, 80: a, 81: nil, 7999: nil, 8000: b, 8005: b, 8010: b, 8011: nil} {
		if got := tb.Service(Tuple{client4, vip4, 1, port, TCP}); got != want {
			t.Errorf("port %d: %v", port, got)
		}
	}
	if tb.Service(Tuple{client4, vip4, 1, 80, UDP}) != c || tb.Service(Tuple{client4, client4, 1, 80, TCP}) != nil {
		t.Error("protocol or address are of no matter")
	}
	alt.Ports = Ports{70, 80}
	if _, err := NewTables(a, must(t, nil, alt, servers(1))); err == nil || !strings.Contains(err.Error(), "overlap in ports 70-80 and 80") {
		t.Errorf("overlapping listeners: %v", err)
	}
}

func TestDecide(t *testing.T) {
	s := service(251)
	s.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}
	g := must(t, nil, s, servers(5))
	flow := Tuple{client4, vip4, 4000, 80, TCP}
	owner := g.Owner(s.Slot(flow))
	stamp := mark{fromDirector, generationMark(1)}.stamp(directorMAC)
	if stamp != (MAC{0x0e, 0xf2, 10, 0, 9, 9}) {
		t.Errorf("stamp %s", stamp)
	}
	placed := Verdict{Action: Forward, Reason: Placed, DstMAC: owner.MAC, SrcMAC: stamp}
	learns := placed
	learns.Learn, learns.FragmentKey, learns.Fragment = true, FragmentKey{client4, vip4, 77, TCP}, Fragment{4000, 80, TCP, flagACK}
	broken := ip4(client4, vip4, icmp4, 0, nil, cat([]byte{3, 4, 0, 0, 0, 0, 5, 0}, ip4(vip4, client4, TCP, 0, nil, tcp(80, 4000, 0)[:8])))
	known := func(k FragmentKey) (Fragment, bool) { return learns.Fragment, k == learns.FragmentKey }
	later := ip4(client4, vip4, TCP, 3, nil, []byte{1, 2})
	for name, c := range map[string]struct {
		frame     []byte
		fragments func(FragmentKey) (Fragment, bool)
		want      Verdict
	}{
		"syn":                     {eth(directorMAC, tcpPacket(flow, flagSYN)), nil, placed},
		"ack":                     {eth(directorMAC, tcpPacket(flow, flagACK)), nil, placed},
		"icmp error":              {eth(directorMAC, broken), nil, placed},
		"first fragment":          {eth(directorMAC, ip4(client4, vip4, TCP, 0x2000, nil, tcp(4000, 80, flagACK))), nil, learns},
		"later fragment":          {eth(directorMAC, later), known, placed},
		"later fragment, unknown": {eth(directorMAC, later), nil, Verdict{Reason: FragmentUnknown}},
		"for another":             {eth(MAC{2, 1}, tcpPacket(flow, 0)), nil, Verdict{Reason: NotForUs}},
		"broadcast":               {eth(MAC{255, 255, 255, 255, 255, 255}, tcpPacket(flow, 0)), nil, Verdict{Reason: NotForUs}},
		"too short":               {directorMAC[:], nil, Verdict{Reason: NotIP}},
		"another port":            {eth(directorMAC, tcpPacket(Tuple{client4, vip4, 4000, 81, TCP}, 0)), nil, Verdict{Reason: NoService}},
		"not allowed":             {eth(directorMAC, tcpPacket(Tuple{netip.MustParseAddr("192.0.2.16"), vip4, 4000, 80, TCP}, 0)), nil, Verdict{Action: Drop, Reason: NotAllowed}},
	} {
		tb := tables(t, g)
		tb.Fragments = c.fragments
		if got := Decide(c.frame, directorMAC, tb); got != c.want {
			t.Errorf("%s: %s\nwant %s", name, got, c.want)
		}
	}
	if got := Decide(eth(directorMAC, tcpPacket(flow, 0)), directorMAC, tables(t, must(t, g, s, nil))); got.Reason != NoServer || got.Action != Drop {
		t.Errorf("without servers: %s", got)
	}
}

func TestSourceHashPlacesAllOfAClientAlike(t *testing.T) {
	s := service(251)
	s.Scheduler = SourceHash
	want := s.Slot(Tuple{client4, vip4, 1, 80, TCP})
	others := 0
	for port := range uint16(100) {
		if s.Slot(Tuple{client4, vip4, port, 80, TCP}) != want {
			t.Fatalf("port %d of the client has another slot", port)
		}
		if s.Slot(Tuple{netip.AddrFrom4([4]byte{192, 0, 2, byte(port)}), vip4, 1, 80, TCP}) != want {
			others++
		}
	}
	if others < 90 {
		t.Errorf("only %d of 100 clients have another slot", others)
	}
}

func TestRelay(t *testing.T) {
	s := service(31)
	all := servers(3)
	var g *Generation
	for i := range all { // a slot's chain becomes 2, 1, 0
		for j := range all {
			all[j].Weight = 0
		}
		all[i].Weight = 1
		g = must(t, g, s, all)
	}
	flow := Tuple{client4, vip4, 4000, 80, TCP}
	same, other := generationMark(g.Number), generationMark(g.Number+1)
	type sent struct {
		left, generation uint8
	}
	none := sent{0, 99} // not stamped
	for name, c := range map[string]struct {
		self   int
		from   sent
		flags  uint8
		has    bool
		reason Reason
		to     int
		mark   sent
	}{
		"opens":                                {0, none, flagSYN, false, NewFlow, 0, none},
		"held":                                 {2, none, flagACK, true, Held, 0, none},
		"syn and ack opens nothing":            {2, none, flagSYN | flagACK, false, Relayed, 1, sent{1, same}},
		"first, not stamped":                   {2, none, flagACK, false, Relayed, 1, sent{1, same}},
		"further down, not stamped":            {0, none, flagACK, false, Relayed, 2, sent{2, same}},
		"first":                                {2, sent{15, same}, flagACK, false, Relayed, 1, sent{1, same}},
		"second":                               {1, sent{1, same}, flagACK, false, Relayed, 0, sent{0, same}},
		"last":                                 {0, sent{0, same}, flagACK, false, LastInChain, 0, none},
		"last, of disagreed":                   {0, sent{0, disagreed}, flagACK, false, Disagreed, 0, none},
		"last, of another generation":          {0, sent{0, other}, flagACK, false, Disagreed, 0, none},
		"second, from another generation":      {1, sent{1, other}, flagACK, false, Relayed, 0, sent{0, disagreed}},
		"further down than it thinks":          {2, sent{1, other}, flagACK, false, Relayed, 0, sent{0, disagreed}},
		"director is late, owner begins":       {2, sent{15, other}, flagACK, false, Relayed, 1, sent{1, same}},
		"director is late, former owner again": {1, sent{15, other}, flagACK, false, Relayed, 2, sent{2, same}},
	} {
		frame := eth(all[c.self].MAC, tcpPacket(flow, c.flags))
		if c.from != none {
			src := mark{c.from.left, c.from.generation}.stamp(directorMAC)
			copy(frame[6:], src[:])
		}
		want := Verdict{Action: Pass, Reason: c.reason}
		if c.reason == Relayed {
			want = Verdict{Action: Forward, Reason: Relayed, DstMAC: all[c.to].MAC, SrcMAC: mark{c.mark.left, c.mark.generation}.stamp(all[c.self].MAC)}
		} else if c.reason == Disagreed {
			want.Action = Drop
		}
		if got := Relay(frame, all[c.self].MAC, tables(t, g), func(Packet) bool { return c.has }); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	stranger := MAC{2, 0x42, 10, 7, 7, 7}
	frame := eth(stranger, tcpPacket(flow, flagACK))
	if got := Relay(frame, stranger, tables(t, g), func(Packet) bool { return false }); got.DstMAC != all[2].MAC {
		t.Errorf("who is not in the chain begins it: %s", got)
	}
	frame = eth(stranger, tcpPacket(flow, flagSYN))
	if got := Relay(frame, stranger, tables(t, g), nil); got.DstMAC != all[2].MAC {
		t.Errorf("who is not in the chain accepts nothing: %s", got)
	}
	if got := Relay(frame, stranger, tables(t), nil); got != (Verdict{Reason: NoService}) {
		t.Errorf("no service: %s", got)
	}
	dns := s
	dns.Protocol = UDP
	if got := Relay(eth(all[0].MAC, ip4(client4, vip4, UDP, 0, nil, udp(4000, 80))), all[0].MAC, tables(t, must(t, nil, dns, all)), nil); got.Reason != Datagram {
		t.Errorf("datagram: %s", got)
	}
}
