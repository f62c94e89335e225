package director

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"padis.io/padis/executor/lb/bfd"
	"padis.io/padis/executor/lb/bfd/udp"
	"padis.io/padis/executor/lb/bgp"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func peer(name, address string, both bool, bfdMs int64) *padisv1.AnnouncementPeer {
	return &padisv1.AnnouncementPeer{Name: name, Router: &padisv1.BgpPeer{Address: address, Asn: 65000}, BothFamilies: both, BfdIntervalMs: bfdMs}
}

// Whatever routers are declared, BGP and BFD are told what is valid, and each router that is left out says why.
func TestReadRouters(t *testing.T) {
	four, six := addrs("10.0.0.9"), addrs("fd00::9")
	both := append(addrs("10.0.0.9"), six...)
	for _, x := range []struct {
		name         string
		own          []netip.Addr
		asn          uint32
		p            *padisv1.AnnouncementPeer
		carries, why string
	}{
		{"own family", both, 64512, peer("a", "10.0.0.1", false, 0), "4", ""},
		{"both families", both, 64512, peer("a", "10.0.0.1", true, 0), "46", ""},
		{"both by IPv6", both, 64512, peer("a", "fd00::1", true, 0), "46", ""},
		{"both, and one address", four, 64512, peer("a", "10.0.0.1", true, 0), "4", ""},
		{"no address of its family", six, 64512, peer("a", "10.0.0.1", false, 0), "", "no address of the family of 10.0.0.1"},
		{"no address", both, 64512, peer("a", "router.example", false, 0), "", `"router.example": write an IP address`},
		{"no ASN", both, 0, peer("a", "10.0.0.1", false, 0), "", "asn: 0 is reserved"},
		{"BFD", both, 64512, peer("a", "10.0.0.1", false, 100), "4", ""},
		{"BFD too fast", both, 64512, peer("a", "10.0.0.1", false, 1), "4", "BFD: bfd peer 10.0.0.1: interval: 1ms"},
	} {
		r := readRouters(&padisv1.Announcement{Asn: x.asn, Peers: []*padisv1.AnnouncementPeer{x.p}}, x.own)
		if err := r.state(addrs("10.9.0.1", "fd09::1")).Validate(); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		if _, err := bfd.Normal(r.watched); err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		up := []bgp.Session{{Peer: netip.MustParseAddr("10.0.0.1"), Established: true}, {Peer: netip.MustParseAddr("fd00::1"), Established: true}}
		s := r.sessions(up, func(netip.Addr) (udp.Status, bool) { return udp.Status{}, false }, "")[0]
		carries := ""
		now, _ := r.carry([]*padisv1.DirectorSession{s})
		for i, f := range []string{"4", "6"} {
			if now[i] {
				carries += f
			}
		}
		if carries != x.carries || !strings.Contains(s.GetMessage(), x.why) || s.GetMessage() != "" && x.why == "" {
			t.Errorf("%s: carries %q, says %q", x.name, carries, s.GetMessage())
		}
	}
}

func TestRouterID(t *testing.T) {
	if id := routerID(addrs("fd00::9", "10.0.0.9"), "x"); id != netip.MustParseAddr("10.0.0.9") {
		t.Error(id)
	}
	one, two := routerID(addrs("fd00::9"), "shop/web-director-0"), routerID(addrs("fd00::9"), "shop/web-director-1")
	if one == two || !netip.MustParsePrefix("100.64.0.0/10").Contains(one) {
		t.Error(one, two)
	}
}

func TestStateOfRouters(t *testing.T) {
	r := readRouters(&padisv1.Announcement{Asn: 64512, Communities: []uint32{7}, LocalPref: 200, Med: 9, Peers: []*padisv1.AnnouncementPeer{peer("a", "10.0.0.1", true, 0)}}, addrs("10.0.0.9", "fd00::9"))
	want := bgp.State{Peers: []bgp.Peer{{Address: netip.MustParseAddr("10.0.0.1"), ASN: 65000, LocalASN: 64512, NextHop: netip.MustParseAddr("fd00::9")}},
		Paths: []bgp.Path{{Prefix: netip.MustParsePrefix("fd09::1/128"), Communities: []uint32{7}, LocalPref: 200, MED: 9}}}
	if got := r.state(addrs("fd09::1")); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
}
