package bgp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// 65535:0 (RFC 8326): prefer anybody else, this one is about to go.
	gracefulShutdown = 65535 << 16
	// Of IPv4 and IPv6; GoBGP sets 1 for a router of the same link.
	multihopTTL = 255
	// Between attempts to connect; one less is how long an attempt may take.
	connectRetry = 5 * time.Second
	// RFC 4724 lets a speaker that restarts wait for the routers' routes. This one does not use them.
	selectionDeferral = time.Second
	// The large community <0:0:group> marks a path inside GoBGP with the peers that are told. It never leaves.
	markFormat = "0:0:%d"
)

var (
	ipv4 = &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
	ipv6 = &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}
)

func familyOf(is4 bool) *api.Family {
	if is4 {
		return ipv4
	}
	return ipv6
}

// peerMessage is a normal Peer as GoBGP wants it. Every session begins as a restart that kept its routes: that holds even
// for the first one, as the routes are the kernel's, and a router takes nothing away before it has heard the whole state.
func peerMessage(p Peer, local netip.Addr, connected bool) *api.Peer {
	hold := uint64(p.Hold / time.Second)
	m := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: p.Address.String(), PeerAsn: p.ASN, LocalAsn: p.LocalASN, AuthPassword: p.Password},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: hold, KeepaliveInterval: hold / 3, ConnectRetry: uint64(connectRetry / time.Second), IdleHoldTimeAfterReset: 1,
		}},
		Transport: &api.Transport{RemotePort: uint32(p.Port)},
	}
	if local.IsValid() && local.Is4() == p.Address.Is4() {
		m.Transport.LocalAddress = local.String()
	}
	if !connected && p.ASN != p.LocalASN {
		m.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: multihopTTL}
	}
	families := []*api.Family{familyOf(p.Address.Is4())}
	if p.NextHop.IsValid() {
		families = append(families, familyOf(p.NextHop.Is4()))
	}
	graceful := p.GracefulRestart > 0
	for _, f := range families {
		m.AfiSafis = append(m.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: f, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: graceful}},
		})
	}
	if graceful {
		m.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(p.GracefulRestart / time.Second),
			DeferralTime: uint32(selectionDeferral / time.Second), LocalRestarting: true,
		}
	}
	return m
}

// pathMessage is a path for GoBGP, marked for its group of peers; drained says that it is about to go.
func pathMessage(p Path, group uint32, drained bool) (*api.Path, error) {
	addr := p.Prefix.Addr()
	nextHop, family := p.NextHop, familyOf(addr.Is4())
	if !nextHop.IsValid() { // GoBGP's way to say: the local address of each session
		nextHop = netip.IPv6Unspecified()
		if addr.Is4() {
			nextHop = netip.IPv4Unspecified()
		}
	}
	var b builder
	nlri := b.any(&api.IPAddressPrefix{Prefix: addr.String(), PrefixLen: uint32(p.Prefix.Bits())})
	attributes := []*anypb.Any{b.any(&api.OriginAttribute{Origin: 0})}
	if addr.Is4() {
		attributes = append(attributes, b.any(&api.NextHopAttribute{NextHop: nextHop.String()}))
	} else {
		attributes = append(attributes, b.any(&api.MpReachNLRIAttribute{
			Family: family, NextHops: []string{nextHop.String()}, Nlris: []*anypb.Any{nlri}}))
	}
	communities, preference := p.Communities, p.LocalPref
	if drained {
		communities = append(communities[:len(communities):len(communities)], gracefulShutdown)
	}
	if len(communities) > 0 {
		attributes = append(attributes, b.any(&api.CommunitiesAttribute{Communities: communities}))
	}
	if drained || preference > 0 {
		if drained {
			preference = 0
		}
		attributes = append(attributes, b.any(&api.LocalPrefAttribute{LocalPref: preference}))
	}
	if p.MED > 0 {
		attributes = append(attributes, b.any(&api.MultiExitDiscAttribute{Med: p.MED}))
	}
	attributes = append(attributes, b.any(&api.LargeCommunitiesAttribute{
		Communities: []*api.LargeCommunity{{LocalData2: group}}}))
	return &api.Path{Family: family, Nlri: nlri, Pattrs: attributes}, b.err
}

type builder struct{ err error }

func (b *builder) any(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil && b.err == nil {
		b.err = err
	}
	return a
}

// policy is one policy of GoBGP and the sets that it refers to. Its name says all that it does, so that one of the same
// name never has to be changed.
type policy struct {
	name string
	sets []*api.DefinedSet
	*api.Statement
}

func hosts(addrs ...netip.Addr) []string {
	list := make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = netip.PrefixFrom(a, a.BitLen()).String()
	}
	return list
}

// nextHopPolicy gives prefixes of the other family the next hop that the peer declares. Others follow.
func nextHopPolicy(p Peer) policy {
	name := fmt.Sprintf("next-hop %v %v", p.Address, p.NextHop)
	return policy{name, []*api.DefinedSet{{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: hosts(p.Address)}}, &api.Statement{
		Name: name,
		Conditions: &api.Conditions{
			NeighborSet: &api.MatchSet{Type: api.MatchSet_ANY, Name: name},
			AfiSafiIn:   []*api.Family{familyOf(p.NextHop.Is4())},
		},
		Actions: &api.Actions{Nexthop: &api.NexthopAction{Address: p.NextHop.String()}},
	}}
}

// groupPolicy lets the paths of a group through to its peers, without the mark.
func groupPolicy(group uint32, peers []netip.Addr) policy {
	name, mark := fmt.Sprintf("group %d", group), fmt.Sprintf(markFormat, group)
	sets := []*api.DefinedSet{{DefinedType: api.DefinedType_LARGE_COMMUNITY, Name: name, List: []string{mark}}}
	conditions := &api.Conditions{LargeCommunitySet: &api.MatchSet{Type: api.MatchSet_ANY, Name: name}}
	if len(peers) > 0 {
		sets = append(sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: hosts(peers...)})
		conditions.NeighborSet = &api.MatchSet{Type: api.MatchSet_ANY, Name: name}
	}
	return policy{name, sets, &api.Statement{Name: name, Conditions: conditions, Actions: &api.Actions{
		RouteAction:    api.RouteAction_ACCEPT,
		LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{mark}},
	}}}
}

// ownPolicy lets in what the speaker itself announces.
func ownPolicy() policy {
	return policy{"own", nil, &api.Statement{Name: "own",
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT}}}
}

// groupKey identifies a set of peers, in order.
func groupKey(peers []netip.Addr) string {
	var b strings.Builder
	for _, a := range peers {
		b.WriteString(hex.EncodeToString(a.AsSlice()) + " ")
	}
	return b.String()
}
