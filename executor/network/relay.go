package network

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A relay pair is where what the hosts of real servers relay enters a bridge again: out is given packets, port is a port of
// the bridge. Nothing guards it, since relayed packets have the addresses of clients; and nothing that the bridge floods leaves
// by it, but what the host itself sends to all, which it does not hear there.
const (
	relayOutPrefix  = "pr"
	relayPortPrefix = "ps"
)

// RelayNames are the ends of the relay pair of one owner and bridge.
func RelayNames(owner, bridge string) (out, port string) {
	s := OwnerTag(owner) + digest("relay/"+bridge, nameLength-len(relayOutPrefix)-ownerLength)
	return relayOutPrefix + s, relayPortPrefix + s
}

// parseRelay tells whether a name is one that RelayNames makes, and the tag of its owner.
func parseRelay(name string) (ownerTag string, ok bool) {
	for _, prefix := range [...]string{relayOutPrefix, relayPortPrefix} {
		if rest, found := strings.CutPrefix(name, prefix); found {
			return ParseHostEnd(endPrefix + rest)
		}
	}
	return "", false
}

// Relays tells whether instances of a network can be real servers: whether there is a segment in which directors and hosts can
// send them packets by their hardware addresses.
func (s Segment) Relays() bool {
	return s.Driver == DriverBridge || s.Driver == DriverVLAN || s.Driver == DriverVXLAN
}

// PlanRelays orders the operations after which the bridges of these segments, which exist, have the owner's relay pairs and, with
// prune, no others have one. o has all links of the host.
func PlanRelays(owner string, segments []Segment, prune bool, o Observed) ([]Op, error) {
	var ops []Op
	wanted := map[string]bool{}
	for _, s := range segments {
		out, port := RelayNames(owner, s.Bridge)
		if wanted[out] {
			continue
		}
		wanted[out], wanted[port] = true, true
		bridge := find(o.Host, s.Bridge)
		if bridge == nil || bridge.Kind != "bridge" {
			return nil, fmt.Errorf("network %s: there is no bridge %s to relay by; it was removed, or is not one of Linux", s.Network, s.Bridge)
		}
		haveOut, havePort := find(o.Host, out), find(o.Host, port)
		for _, l := range []*Link{haveOut, havePort} {
			if l != nil && l.Kind != "veth" {
				return nil, fmt.Errorf("network %s: interface %s exists and is of kind %s, not one by which is relayed; remove it (ip link del %s)", s.Network, l.Name, l.Kind, l.Name)
			}
		}
		whole := haveOut != nil && havePort != nil && havePort.Master == s.Bridge && havePort.MTU == bridge.MTU && haveOut.MTU == bridge.MTU
		if !whole {
			switch {
			case havePort != nil:
				ops = append(ops, DelLink{port, false})
			case haveOut != nil:
				ops = append(ops, DelLink{out, false})
			}
			ops = append(ops, AddRelay{Out: out, Port: port, Bridge: s.Bridge, MTU: bridge.MTU, MAC: relayMAC(port)},
				Set{Setting{"ipv6/conf/" + out + "/disable_ipv6", "1"}, false}, Set{Setting{"ipv6/conf/" + port + "/disable_ipv6", "1"}, false})
		}
		for _, l := range []struct {
			name string
			have *Link
		}{{out, haveOut}, {port, havePort}} {
			if !whole || !l.have.Up {
				ops = append(ops, SetUp{l.name, false})
			}
		}
	}
	if !prune {
		return ops, nil
	}
	// One end takes the other with it.
	gone := map[string]bool{}
	for _, l := range o.Host {
		tag, ok := parseRelay(l.Name)
		rest := strings.TrimPrefix(strings.TrimPrefix(l.Name, relayOutPrefix), relayPortPrefix)
		if ok && tag == OwnerTag(owner) && !wanted[l.Name] && l.Kind == "veth" && !gone[rest] {
			gone[rest] = true
			ops = append(ops, DelLink{l.Name, false})
		}
	}
	return ops, nil
}

// relayMAC is high, so that a bridge that takes its own address from its ports does not take this.
func relayMAC(port string) MAC {
	h := sha256.Sum256([]byte(port))
	return MAC{0xfe, 0x52, h[0], h[1], h[2], h[3]}
}

// Reached is the interface that has an address, and its segment; false if there is none.
func (w Wanted) Reached(a netip.Addr) (Interface, Segment, bool) {
	for _, i := range w.Interfaces {
		if !slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
			continue
		}
		for _, s := range w.Segments {
			if s.Network == i.Network {
				return i, s, true
			}
		}
	}
	return Interface{}, Segment{}, false
}
