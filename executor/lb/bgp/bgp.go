// Package bgp announces prefixes to routers. It is a thin speaker on an embedded GoBGP: no gRPC, no routes written into
// the kernel, nothing learnt from the routers is used. Edge: talks BGP-4 (RFC 4271) over TCP, and the kernel's addresses.
//
// Two use it. Hosts announce the addresses of their `routed` instances, with graceful restart (RFC 4724), so that routers
// keep the routes while the speaker is replaced: what is behind them goes on. Directors announce the virtual addresses of
// services, without graceful restart, so that a dead director loses its traffic at once; several that announce the same
// prefix share it where the routers do ECMP.
//
// One process can have one Speaker only: GoBGP keeps some of its options in package variables.
package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

const (
	defaultPort = 179
	defaultHold = 90 * time.Second
	// Below, RFC 4271 refuses; above, the field has no room.
	minHold, maxHold = 3 * time.Second, 65535 * time.Second
	// RFC 4724 has twelve bits.
	maxRestart = 4095 * time.Second
	// TCP_MD5SIG_MAXKEYLEN
	maxPassword = 80
	// One reserved number (RFC 7607).
	lastASN = math.MaxUint32
)

// Config is what cannot be changed without a new Speaker.
type Config struct {
	// Autonomous system, and the BGP identifier, an IPv4 address that no other speaker has.
	ASN      uint32
	RouterID netip.Addr
	// Accept connections of the peers too, at LocalAddress (invalid: all) and Port (0 is 179). Otherwise only the speaker
	// connects.
	Listen       bool
	LocalAddress netip.Addr
	Port         int
}

// State is all that the speaker has to do. Two equal States are the same whatever the order.
type State struct {
	Peers []Peer
	Paths []Path
}

// Peer is a router. It is IPv4 or IPv6 by its address; a peer that is in no subnet of the host is reached over several hops.
type Peer struct {
	Address netip.Addr
	ASN     uint32
	// Autonomous system that this peer knows the host by; 0 is Config.ASN.
	LocalASN uint32
	// 0 is 179.
	Port int
	// Of TCP MD5 (RFC 2385), up to 80 bytes; empty is without.
	Password string
	// After which silence the session is over; 0 is 90 s. At least 3 s, whole seconds.
	Hold time.Duration
	// How long the router shall keep the routes while the speaker is away; 0 is not at all.
	GracefulRestart time.Duration
	// Next hop of prefixes of the other family than the session's, for example the host's IPv6 address if Address is IPv4.
	// Invalid: this peer is told prefixes of its own family only.
	NextHop netip.Addr
}

// Path is a prefix and what is said of it.
type Path struct {
	Prefix netip.Prefix
	// Invalid is the host's address in each session. ECMP comes from several speakers that announce the same prefix.
	NextHop netip.Addr
	// RFC 1997, high half autonomous system.
	Communities []uint32
	// 0 is without. The local preference is said to peers of the own autonomous system only.
	LocalPref, MED uint32
	// Peers that are told; empty is all.
	Peers []netip.Addr
}

// Session is how it stands with one peer.
type Session struct {
	Peer netip.Addr
	// Of RFC 4271: idle, active, opensent, openconfirm, established.
	State       string
	Established bool
	// When Established last changed.
	Since time.Time
	// Why it is not established, and what to look at; empty if it is.
	Message string
}

func (c Config) validate() error {
	switch {
	case c.ASN == 0 || c.ASN == lastASN:
		return fmt.Errorf("asn: %d is reserved: name the autonomous system of the hosts, for example 64512", c.ASN)
	case !c.RouterID.Is4() || c.RouterID.IsUnspecified():
		return fmt.Errorf("router id: %v is not an IPv4 address: name one of the host's", c.RouterID)
	case c.Port < 0 || c.Port > math.MaxUint16:
		return fmt.Errorf("port: %d is none: 0 (179) to 65535", c.Port)
	}
	return nil
}

// Validate says what of a State cannot be done, all of it at once.
func (s State) Validate() error {
	var errs []error
	peers, paths := map[netip.Addr]bool{}, map[netip.Prefix]bool{}
	for _, p := range s.Peers {
		if peers[p.Address] {
			errs = append(errs, fmt.Errorf("peer %v is named twice: a host has one session with a router", p.Address))
		}
		peers[p.Address] = true
		if err := p.validate(); err != nil {
			errs = append(errs, fmt.Errorf("peer %v: %w", p.Address, err))
		}
	}
	for _, p := range s.Paths {
		if paths[p.Prefix] {
			errs = append(errs, fmt.Errorf("prefix %v is named twice", p.Prefix))
		}
		paths[p.Prefix] = true
		if err := p.validate(peers); err != nil {
			errs = append(errs, fmt.Errorf("prefix %v: %w", p.Prefix, err))
		}
	}
	return errors.Join(errs...)
}

func (p Peer) validate() error {
	a := p.Address
	switch {
	case !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" || a.IsLinkLocalUnicast():
		return errors.New("address: a unicast address that is not link-local is needed")
	case p.ASN == 0 || p.ASN == lastASN:
		return fmt.Errorf("asn: %d is reserved: name the autonomous system of the router", p.ASN)
	case p.LocalASN == lastASN:
		return fmt.Errorf("local asn: %d is reserved", p.LocalASN)
	case p.Port < 0 || p.Port > math.MaxUint16:
		return fmt.Errorf("port: %d is none: 0 (179) to 65535", p.Port)
	case len(p.Password) > maxPassword:
		return fmt.Errorf("password: has %d bytes: TCP MD5 takes at most %d", len(p.Password), maxPassword)
	case p.Hold != 0 && (p.Hold < minHold || p.Hold > maxHold || p.Hold%time.Second != 0):
		return fmt.Errorf("hold time: %v: whole seconds from %v to %v are possible", p.Hold, minHold, maxHold)
	case p.GracefulRestart < 0 || p.GracefulRestart > maxRestart || p.GracefulRestart%time.Second != 0:
		return fmt.Errorf("graceful restart: %v: whole seconds up to %v are possible", p.GracefulRestart, maxRestart)
	case p.NextHop.IsValid() && (p.NextHop.Is4() == a.Is4() || p.NextHop.IsUnspecified() || p.NextHop.Zone() != "" || p.NextHop.Is4In6()):
		return fmt.Errorf("next hop: %v is not a unicast address of the other family than the peer's", p.NextHop)
	}
	return nil
}

func (p Path) validate(peers map[netip.Addr]bool) error {
	switch {
	case !p.Prefix.IsValid() || p.Prefix != p.Prefix.Masked() || p.Prefix.Addr().Is4In6():
		return fmt.Errorf("is not a prefix: write %v", p.Prefix.Masked())
	case p.NextHop.IsValid() && (p.NextHop.Is4() != p.Prefix.Addr().Is4() || p.NextHop.IsUnspecified() || p.NextHop.Zone() != ""):
		return fmt.Errorf("next hop: %v is not a unicast address of the prefix's family", p.NextHop)
	}
	for _, a := range p.Peers {
		if !peers[a] {
			return fmt.Errorf("peers: %v is not among the peers", a)
		}
	}
	return nil
}

// normal fills in defaults and puts lists into one order, so that equal means equal.
func (s State) normal(c Config) State {
	n := State{Peers: slices.Clone(s.Peers), Paths: slices.Clone(s.Paths)}
	for i := range n.Peers {
		p := &n.Peers[i]
		p.LocalASN, p.Port, p.Hold = cmp.Or(p.LocalASN, c.ASN), cmp.Or(p.Port, defaultPort), cmp.Or(p.Hold, defaultHold)
	}
	for i := range n.Paths {
		p := &n.Paths[i]
		p.Communities, p.Peers = slices.Clone(p.Communities), slices.Clone(p.Peers)
		slices.Sort(p.Communities)
		p.Communities = slices.Compact(p.Communities)
		slices.SortFunc(p.Peers, netip.Addr.Compare)
		p.Peers = slices.Compact(p.Peers)
	}
	slices.SortFunc(n.Peers, func(a, b Peer) int { return a.Address.Compare(b.Address) })
	slices.SortFunc(n.Paths, func(a, b Path) int { return comparePrefix(a.Prefix, b.Prefix) })
	return n
}

func comparePrefix(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func equalPath(a, b Path) bool {
	return a.Prefix == b.Prefix && a.NextHop == b.NextHop && a.LocalPref == b.LocalPref && a.MED == b.MED &&
		slices.Equal(a.Communities, b.Communities) && slices.Equal(a.Peers, b.Peers)
}
