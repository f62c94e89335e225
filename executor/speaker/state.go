// Package speaker announces the addresses of `routed` instances by BGP, in a process of its own: a child of the executor,
// which so stays small, and which a fault in BGP does not hurt. Edge: talks to its child over pipes; the child to routers.
//
// The executor says the whole State again and again, and the child answers with the whole Status. When the child ends, for
// whatever reason, the routers keep the routes for RestartTime (RFC 4724), and the next child says them anew.
package speaker

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"padis.io/padis/executor/lb/bgp"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// RestartTime is how long routers keep the routes of a host whose speaker is away: an executor is replaced in less.
const RestartTime = 60 * time.Second

// State is all that a host announces.
type State struct {
	// The host's first IPv4 address of its uplink.
	RouterID netip.Addr `json:"routerID"`
	// Next hop of addresses of one family in sessions of the other; invalid: such sessions carry their own family only.
	NextHop4 netip.Addr `json:"nextHop4"`
	NextHop6 netip.Addr `json:"nextHop6"`
	Networks []Network  `json:"networks,omitempty"`
}

// Network is what one `routed` network announces, and to whom. Two networks may name the same router; it has one session
// and is told the addresses of both.
type Network struct {
	Name string `json:"name"`
	ASN  uint32 `json:"asn"`
	// Routers of this host.
	Peers []Peer `json:"peers,omitempty"`
	// Only such that are attached, and that nobody else answered for. They are announced as /32 and /128.
	Addresses []netip.Addr `json:"addresses,omitempty"`
}

// Peer is a router; zero values have the meaning of bgp.Peer.
type Peer struct {
	Address  netip.Addr    `json:"address"`
	ASN      uint32        `json:"asn"`
	Port     int           `json:"port,omitempty"`
	Password string        `json:"password,omitempty"`
	Hold     time.Duration `json:"hold,omitempty"`
}

// Session is how it stands with one router of one network.
type Session struct {
	Network string     `json:"network"`
	Peer    netip.Addr `json:"peer"`
	// Of RFC 4271; empty if there is none.
	State       string    `json:"state,omitempty"`
	Established bool      `json:"established,omitempty"`
	Since       time.Time `json:"since"`
	// Why it is not established, and what to do.
	Message string `json:"message,omitempty"`
}

// Declared is a network as it is declared, without addresses. Peers whose address cannot be read are in the error; the
// others are there nevertheless.
func Declared(n *padisv1.Network) (Network, error) {
	out := Network{Name: n.GetName(), ASN: n.GetBgp().GetAsn()}
	var wrong []string
	for _, p := range n.GetBgp().GetPeers() {
		a, err := netip.ParseAddr(p.GetAddress())
		if err != nil {
			wrong = append(wrong, p.GetAddress())
			continue
		}
		out.Peers = append(out.Peers, Peer{Address: a, ASN: p.GetAsn(), Port: int(p.GetPort()), Password: p.GetPassword(),
			Hold: time.Duration(p.GetHoldMs()) * time.Millisecond})
	}
	if len(wrong) > 0 {
		return out, fmt.Errorf("network %s: bgp: peers %q: write IP addresses", out.Name, wrong)
	}
	return out, nil
}

// idle says that there is nobody to talk to.
func (s State) idle() bool {
	return !slices.ContainsFunc(s.Networks, func(n Network) bool { return len(n.Peers) > 0 })
}

// plan is what BGP has to do for a State.
type plan struct {
	bgp.State
	// By network and router: why it is left out.
	problems map[string]map[netip.Addr]string
}

// merge makes one State of BGP of all networks. A network that is wrong does not hurt the others; where two contradict each
// other, the first by name is right.
func (s State) merge() plan {
	out := plan{problems: map[string]map[netip.Addr]string{}}
	refuse := func(network string, peer netip.Addr, message string) {
		if out.problems[network] == nil {
			out.problems[network] = map[netip.Addr]string{}
		}
		out.problems[network][peer] = message
	}
	peers, owners := map[netip.Addr]bgp.Peer{}, map[netip.Addr]string{}
	told := map[netip.Prefix]map[netip.Addr]bool{}
	networks := slices.Clone(s.Networks)
	slices.SortStableFunc(networks, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range networks {
		var mine []netip.Addr
		for _, p := range n.Peers {
			wanted := s.peer(n, p)
			have, known := peers[p.Address]
			switch err := (bgp.State{Peers: []bgp.Peer{wanted}}).Validate(); {
			case err != nil:
				refuse(n.Name, p.Address, err.Error())
				continue
			case n.ASN == 0:
				refuse(n.Name, p.Address, "asn: 0 is reserved: name the autonomous system of the hosts, for example 64512")
				continue
			case known && have != wanted:
				refuse(n.Name, p.Address, fmt.Sprintf("network %s declares this router otherwise (asn, port, password or hold time), "+
					"and a host has one session with a router: declare it alike in both", owners[p.Address]))
				continue
			case !known:
				peers[p.Address], owners[p.Address] = wanted, n.Name
			}
			mine = append(mine, p.Address)
		}
		if len(mine) == 0 {
			continue
		}
		for _, a := range n.Addresses {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				continue
			}
			prefix := netip.PrefixFrom(a, a.BitLen())
			if told[prefix] == nil {
				told[prefix] = map[netip.Addr]bool{}
			}
			for _, p := range mine {
				told[prefix][p] = true
			}
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(peers), netip.Addr.Compare) {
		out.Peers = append(out.Peers, peers[a])
	}
	for _, p := range slices.SortedFunc(maps.Keys(told), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }) {
		out.Paths = append(out.Paths, bgp.Path{Prefix: p, Peers: slices.SortedFunc(maps.Keys(told[p]), netip.Addr.Compare)})
	}
	return out
}

func (s State) peer(n Network, p Peer) bgp.Peer {
	out := bgp.Peer{Address: p.Address, ASN: p.ASN, LocalASN: n.ASN, Port: p.Port, Password: p.Password, Hold: p.Hold,
		GracefulRestart: RestartTime}
	if p.Address.Is4() {
		out.NextHop = s.NextHop6
	} else {
		out.NextHop = s.NextHop4
	}
	return out
}

// sessions tells for each network and router of it how it stands.
func (s State) sessions(problems map[string]map[netip.Addr]string, all []bgp.Session, failed string) []Session {
	byPeer := make(map[netip.Addr]bgp.Session, len(all))
	for _, x := range all {
		byPeer[x.Peer] = x
	}
	out := []Session{}
	for _, n := range s.Networks {
		for _, p := range n.Peers {
			y := Session{Network: n.Name, Peer: p.Address, Message: failed}
			if problem, ok := problems[n.Name][p.Address]; ok {
				y.Message = problem
			} else if x, ok := byPeer[p.Address]; ok {
				y.State, y.Established, y.Since = x.State, x.Established, x.Since
				if x.Message != "" {
					y.Message = x.Message
				}
				if y.Established {
					y.Message = ""
				}
			}
			out = append(out, y)
		}
	}
	slices.SortStableFunc(out, func(a, b Session) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.Peer.Compare(b.Peer))
	})
	return out
}
