package kernel

import (
	"bytes"
	"net/netip"
	"testing"

	"padis.io/padis/executor/network"
)

var (
	me, you  = network.MAC{2, 0, 0, 0, 0, 1}, network.MAC{2, 0, 0, 0, 0, 2}
	one4     = netip.MustParseAddr("10.44.0.5")
	one6     = netip.MustParseAddr("fd00::44:5")
	none4    = netip.IPv4Unspecified()
	none6    = netip.IPv6Unspecified()
	somebody = netip.MustParseAddr("fe80::9")
)

func TestFramesShowTheirSender(t *testing.T) {
	for _, c := range []struct {
		what       string
		frame      []byte
		mac        network.MAC
		has, seeks netip.Addr
	}{
		{"ARP probe", arpRequest(you, you, none4, one4), you, netip.Addr{}, one4},
		{"ARP probe that all shall answer to", arpRequest(you, everybody, none4, one4), you, netip.Addr{}, one4},
		{"ARP announcement", arpRequest(you, you, one4, one4), you, one4, netip.Addr{}},
		{"detection of duplicates", solicit(you, you, none6, one6), you, netip.Addr{}, one6},
		{"neighbour solicitation", solicit(you, you, somebody, one6), you, somebody, netip.Addr{}},
		{"neighbour advertisement", advertise(you, one6), you, one6, netip.Addr{}},
	} {
		s, ok := sees(c.frame)
		if !ok || s.mac != c.mac || s.has != c.has || s.seeks != c.seeks {
			t.Errorf("%s: %+v, %t", c.what, s, ok)
		}
		if bytes.Equal(tagged(c.frame, 7)[12:16], []byte{0x81, 0, 0, 7}) != true || !bytes.Equal(tagged(c.frame, 0), c.frame) {
			t.Errorf("%s: tag", c.what)
		}
	}
}

func TestOwnFramesAreNoConflict(t *testing.T) {
	if _, found := conflict(advertise(me, one6), me, one6); found {
		t.Error("conflict with oneself")
	}
	if mac, found := conflict(advertise(you, one6), me, one6); !found || mac != you {
		t.Error("a stranger is not found")
	}
}

// The checksum of the example in RFC 4861 terms: a solicitation sums up to zero with its own checksum in place.
func TestChecksumSumsUp(t *testing.T) {
	f := solicit(me, me, somebody, one6)
	p := f[ethernetLength:]
	if sum := checksum([16]byte(p[8:24]), [16]byte(p[24:40]), p[ipv6Length:]); sum != 0 {
		t.Errorf("checksum %#x remains", sum)
	}
}

func FuzzSees(f *testing.F) {
	f.Add(arpRequest(me, me, one4, one4))
	f.Add(advertise(me, one6))
	f.Add(solicit(me, me, none6, one6))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if s, ok := sees(frame); ok && (len(frame) < ethernetLength+arpLength || s.has.IsValid() == s.seeks.IsValid()) {
			t.Errorf("%d bytes show %+v", len(frame), s)
		}
	})
}

// What comes from the kernel is read within its bounds, whatever it says of lengths.
func FuzzMessages(f *testing.F) {
	f.Add(setRate(1, 1_000_000).b[16:])
	f.Add(addBridge(network.AddBridge{Name: "b", MAC: me, MTU: 1500}).b[16:])
	f.Add(addRoute(network.Route{Destination: netip.PrefixFrom(one4, 32)}, 7).b[16:])
	f.Fuzz(func(t *testing.T, body []byte) {
		parseLink(body)
		parseEntry(body)
		parseRate(body)
		parseHops(body)
		tag(body)
		if a, ok := parseAddress(body); ok {
			sayAddress(a.raw, 7, true)
		}
		if x, ok := parseRoute(body); ok {
			sayRoute(0, x.raw, 7, 8)
		}
		(&request{}).outcome(body)
	})
}
