package director

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"padis.io/padis/executor/lb/bfd"
	"padis.io/padis/executor/lb/bfd/udp"
	"padis.io/padis/executor/lb/bgp"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// routerSet is those that an order names, as BGP and BFD want them.
type routerSet struct {
	asked   *padisv1.Announcement
	peers   []bgp.Peer
	watched []bfd.Peer
	each    []router
}

// router is one AnnouncementPeer.
type router struct {
	name, address string
	peer          netip.Addr
	// v4, v6: it is told VIPs of that family.
	v4, v6 bool
	// Why there is no session with it, and why there is no BFD; empty if there is.
	problem, unwatched string
	watched            bool
}

// readRouters takes what can be used; one that is wrong does not hurt the others.
func readRouters(a *padisv1.Announcement, own []netip.Addr) routerSet {
	out := routerSet{asked: a}
	for _, p := range a.GetPeers() {
		r, peer := readRouter(a, p, own)
		if r.problem == "" && slices.ContainsFunc(out.peers, func(o bgp.Peer) bool { return o.Address == peer.Address }) {
			r.problem = fmt.Sprintf("address %s is that of another BGPPeer: a director has one session with a router, so declare it once", r.address)
		}
		if r.problem == "" {
			out.peers = append(out.peers, peer)
			if ms := p.GetBfdIntervalMs(); ms > 0 {
				w := bfd.Peer{Address: peer.Address, Interval: time.Duration(ms) * time.Millisecond, Multiplier: uint8(min(max(p.GetBfdMultiplier(), 0), 255))}
				r.watched = true
				if _, err := bfd.Normal([]bfd.Peer{w}); err != nil {
					r.unwatched = err.Error()
				} else {
					out.watched = append(out.watched, w)
				}
			}
		}
		out.each = append(out.each, r)
	}
	return out
}

func readRouter(a *padisv1.Announcement, p *padisv1.AnnouncementPeer, own []netip.Addr) (router, bgp.Peer) {
	r := router{name: p.GetName(), address: p.GetRouter().GetAddress()}
	address, err := netip.ParseAddr(r.address)
	if err != nil {
		r.problem = fmt.Sprintf("address %q: write an IP address", r.address)
		return r, bgp.Peer{}
	}
	r.peer = address
	peer := bgp.Peer{Address: address, ASN: p.GetRouter().GetAsn(), LocalASN: a.GetAsn(), Port: int(p.GetRouter().GetPort()),
		Password: p.GetRouter().GetPassword(), Hold: time.Duration(p.GetRouter().GetHoldMs()) * time.Millisecond}
	if p.GetBothFamilies() {
		peer.NextHop = ownOf(own, !address.Is4())
	}
	r.v4 = address.Is4() || peer.NextHop.IsValid()
	r.v6 = !address.Is4() || peer.NextHop.IsValid()
	if err := (bgp.State{Peers: []bgp.Peer{peer}}).Validate(); err != nil {
		r.problem = err.Error()
	} else if a.GetAsn() == 0 {
		r.problem = "asn: 0 is reserved: name the autonomous system of the directors, for example 64512"
	} else if !ownOf(own, address.Is4()).IsValid() {
		r.problem = fmt.Sprintf("the director has no address of the family of %s: give it one, or name the router by its other address", address)
	}
	return r, peer
}

// ownOf is the director's address of a family; invalid if it has none.
func ownOf(own []netip.Addr, v4 bool) netip.Addr {
	if i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == v4 }); i >= 0 {
		return own[i]
	}
	return netip.Addr{}
}

// routerID is the director's BGP identifier: its IPv4 address, or, if it has none, a number by its name, in 100.64.0.0/10, which
// is no public address. Routers refuse identifiers of multicast and reserved addresses.
func routerID(own []netip.Addr, instance string) netip.Addr {
	if a := ownOf(own, true); a.IsValid() {
		return a
	}
	h := sha256.Sum256([]byte(instance))
	return netip.AddrFrom4([4]byte{100, 64 | h[0]&63, h[1], h[2]})
}

// state is what BGP is told to announce these VIPs.
func (r routerSet) state(vips []netip.Addr) bgp.State {
	s := bgp.State{Peers: r.peers}
	for _, v := range vips {
		s.Paths = append(s.Paths, bgp.Path{Prefix: netip.PrefixFrom(v, v.BitLen()), Communities: r.asked.GetCommunities(),
			LocalPref: r.asked.GetLocalPref(), MED: r.asked.GetMed()})
	}
	return s
}

// sessions tells how it stands with each router, in the order of the declaration.
func (r routerSet) sessions(all []bgp.Session, watch func(netip.Addr) (udp.Status, bool), failed string) []*padisv1.DirectorSession {
	var out []*padisv1.DirectorSession
	for _, x := range r.each {
		s := &padisv1.DirectorSession{Peer: x.name, Address: x.address, Message: x.problem}
		if x.problem == "" {
			s.Message = failed
			if i := slices.IndexFunc(all, func(b bgp.Session) bool { return b.Peer == x.peer }); i >= 0 {
				s.Established, s.Message = all[i].Established, all[i].Message
			}
		}
		if x.watched {
			s.Bfd = "down"
			st, ok := watch(x.peer)
			why := x.unwatched
			if ok && why == "" {
				why = st.Message
			}
			if ok && st.State == bfd.Up {
				s.Bfd = "up"
			} else if s.Message == "" && why != "" {
				s.Message = "BFD: " + why
			}
		}
		out = append(out, s)
	}
	return out
}

// carry tells for each family whether a router with a session is told its VIPs, and whether any router would be.
func (r routerSet) carry(sessions []*padisv1.DirectorSession) (now, ever [2]bool) {
	for i, x := range r.each {
		for family, told := range [2]bool{x.v4, x.v6} {
			if told && x.problem == "" {
				ever[family] = true
				now[family] = now[family] || sessions[i].GetEstablished()
			}
		}
	}
	return now, ever
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
