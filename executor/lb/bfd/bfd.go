// Package bfd decides for Bidirectional Forwarding Detection: one side of a single-hop session in asynchronous mode (RFC 5880,
// RFC 5881), its packets, and what an operator is told about it. Time and chance are given to it. Pure.
//
// Not there, and not needed beside a router that a host announces prefixes to: echo, several hops, authentication (packets with
// it are refused, as the RFC demands of a side that has none), and demand mode of our own. A router that asks for demand mode is
// served as if it had not: it hears more than it wants, and so does not lose us.
package bfd

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Port is where control packets go (RFC 5881, section 4); they come from a port of FirstSource to LastSource, with a TTL or
// hop limit of TTL, so that none can come from farther away than the link (section 5).
const (
	Port        = 3784
	FirstSource = 49152
	LastSource  = 65535
	TTL         = 255
)

// What a Peer has that says nothing else: silence of 300 ms is death.
const (
	DefaultInterval   = 100 * time.Millisecond
	DefaultMultiplier = 3
)

const (
	minInterval, maxInterval = 10 * time.Millisecond, 10 * time.Second
	// RFC 5880, section 6.8.3: a session that is not up must not be a load.
	slowest = time.Second
)

// State of a session, as it is on the wire (RFC 5880, section 4.1):
//
//	        Down packet               Init or Up packet
//	Down ----------------> Init ---------------------------> Up
//	  |  Init packet                                          ^
//	  +-------------------------------------------------------+
//
// Silence for the detection time, or the other side's AdminDown, leads from Init and Up to Down; a Down packet from Up to Down.
type State uint8

const (
	AdminDown State = iota
	Down
	Init
	Up
)

func (s State) String() string {
	switch s {
	case AdminDown:
		return "admin down"
	case Down:
		return "down"
	case Init:
		return "init"
	case Up:
		return "up"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Diag is why a session's state changed last (RFC 5880, section 4.1). Other values than these come from routers only.
type Diag uint8

const (
	DiagNone Diag = iota
	DiagSilence
	DiagEcho
	DiagNeighbour
	DiagForwarding
	DiagPath
	DiagConcatenated
	DiagAdmin
	DiagReverse
)

// Peer is a router, and how it is watched. It is named by its address: a host has one session with it.
type Peer struct {
	Address netip.Addr
	// Own address; invalid is what the kernel's routes choose.
	Local netip.Addr
	// Between two packets, in whole milliseconds, in both directions; the slower side prevails. 0 is DefaultInterval.
	Interval time.Duration
	// So many packets missing are death; 0 is DefaultMultiplier. The router applies it to our packets, and its own to itself.
	Multiplier uint8
}

func (p Peer) validate() error {
	a := p.Address
	switch {
	case !unicast(a):
		return errors.New("address: a unicast address that is not link-local is needed")
	case p.Local.IsValid() && (!unicast(p.Local) || p.Local.Is4() != a.Is4()):
		return fmt.Errorf("local address: %v is not a unicast address of the peer's family", p.Local)
	case p.Interval != 0 && (p.Interval < minInterval || p.Interval > maxInterval || p.Interval%time.Millisecond != 0):
		return fmt.Errorf("interval: %v: whole milliseconds from %v to %v are possible", p.Interval, minInterval, maxInterval)
	}
	return nil
}

func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.Is4In6() && a.Zone() == "" && !a.IsLinkLocalUnicast()
}

// Normal returns peers with their defaults, in the order of their addresses; or what of them cannot be, all of it at once.
func Normal(peers []Peer) ([]Peer, error) {
	var errs []error
	out := slices.Clone(peers)
	slices.SortFunc(out, func(a, b Peer) int { return a.Address.Compare(b.Address) })
	for i := range out {
		p := &out[i]
		if err := p.validate(); err != nil {
			errs = append(errs, fmt.Errorf("bfd peer %v: %w", p.Address, err))
		}
		if i > 0 && out[i-1].Address == p.Address {
			errs = append(errs, fmt.Errorf("bfd peer %v: is named twice: a host has one session with a router", p.Address))
		}
		p.Interval, p.Multiplier = cmp.Or(p.Interval, DefaultInterval), cmp.Or(p.Multiplier, DefaultMultiplier)
	}
	return out, errors.Join(errs...)
}
