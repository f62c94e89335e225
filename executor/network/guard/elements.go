package guard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"padis.io/padis/executor/network"
)

// A place is one of the tables.
type place int

const (
	bridged place = iota // table bridge padis-TAG
	routed               // table inet padis-TAG
	apart                // table inet padis, of all owners
)

// Sets of the tables bridged and routed: the ports, with their driver as comment, and by port what may come from it.
const (
	setPorts = "ports" // ifname
	setMACs  = "macs"  // ifname . ether_addr
	set4     = "ip4"   // ifname . ether_addr . ipv4_addr
	set6     = "ip6"   // ifname . ether_addr . ipv6_addr
	setLo4   = "lo4"   // the same of loopback addresses, of which nothing may be claimed in ARP ...
	setLo6   = "lo6"   // ... or neighbour discovery
)

// Sets of the table apart: bridges with host gateways, and which of them each names as its peer (itself included).
const (
	setHosted = "hosted" // ifname
	setPairs  = "pairs"  // ifname . ifname
)

// An element of a set. Two elements with the same key are the same to the kernel, whatever their note says.
type element struct {
	place place
	set   string
	key   string
	note  string
}

const (
	nameLen  = 16 // IFNAMSIZ
	etherLen = 8  // six bytes, padded to whole registers
)

func name(s string) string { return string(append([]byte(s), make([]byte, nameLen-len(s))...)) }

func checkName(what, s string) error {
	if s == "" || len(s) >= nameLen {
		return fmt.Errorf("%s %q: the name of an interface has 1 to %d bytes", what, s, nameLen-1)
	}
	return nil
}

// elements of a port.
func elements(p network.GuardedPort) ([]element, error) {
	if err := checkName("guarded link", p.Link); err != nil {
		return nil, err
	}
	var where place
	switch p.Driver {
	case "", network.DriverBridge, network.DriverVLAN, network.DriverVXLAN:
		where = bridged
	case network.DriverRouted:
		where = routed
	default:
		return nil, fmt.Errorf("link %s: driver %q has no port that netfilter sees; guard it elsewhere or set allowSpoofing", p.Link, p.Driver)
	}
	link := name(p.Link)
	own := link + string(p.MAC[:]) + "\x00\x00"
	out := []element{
		{where, setPorts, link, p.Driver}, {where, setMACs, own, ""},
		{where, set6, own + string(linkLocal(p.MAC).AsSlice()), ""},
	}
	for _, l := range []struct {
		v4, v6    string
		addresses []netip.Addr
	}{{set4, set6, p.Addresses}, {setLo4, setLo6, p.Loopback}} {
		for _, a := range l.addresses {
			a = a.Unmap()
			set := l.v4
			if a.Is6() {
				set = l.v6
			}
			if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
				return nil, fmt.Errorf("link %s: %s cannot be the address of an instance", p.Link, a)
			}
			out = append(out, element{where, set, own + string(a.WithZone("").AsSlice()), ""})
		}
	}
	return out, nil
}

// linkLocal is the address that an interface gives itself of its hardware address (RFC 4291, appendix A).
func linkLocal(m network.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// hosting are the elements of a bridge with a host gateway.
func hosting(bridge string, peers []string) ([]element, error) {
	out := []element{{apart, setHosted, name(bridge), ""}, {apart, setPairs, name(bridge) + name(bridge), ""}}
	for _, p := range peers {
		if err := checkName("peer of bridge "+bridge, p); err != nil {
			return nil, err
		}
		if p != bridge {
			out = append(out, element{apart, setPairs, name(bridge) + name(p), ""})
		}
	}
	return out, nil
}

// text is the zero-padded name at the beginning of a key.
func text(key string) string {
	b, _, _ := bytes.Cut([]byte(key[:nameLen]), []byte{0})
	return string(b)
}

// ports reads elements back. What is no port of ours, or has a key of another length, is left out.
func ports(all []element) map[string]network.GuardedPort {
	out := map[string]network.GuardedPort{}
	for _, e := range all {
		if e.set == setPorts && len(e.key) == nameLen {
			out[text(e.key)] = network.GuardedPort{Link: text(e.key), Driver: e.note}
		}
	}
	for _, e := range all {
		if e.set == setMACs && len(e.key) == nameLen+etherLen {
			if p, ok := out[text(e.key)]; ok {
				p.MAC = network.MAC([]byte(e.key[nameLen : nameLen+6]))
				out[p.Link] = p
			}
		}
	}
	for _, e := range all {
		if len(e.key) <= nameLen+etherLen || e.place == apart {
			continue
		}
		p, ok := out[text(e.key)]
		a, valid := netip.AddrFromSlice([]byte(e.key[nameLen+etherLen:]))
		if !ok || !valid || string(p.MAC[:]) != e.key[nameLen:nameLen+6] {
			continue
		}
		switch e.set {
		case set4, set6:
			if a != linkLocal(p.MAC) {
				p.Addresses = append(p.Addresses, a)
			}
		case setLo4, setLo6:
			p.Loopback = append(p.Loopback, a)
		}
		out[p.Link] = p
	}
	for _, p := range out {
		slices.SortFunc(p.Addresses, netip.Addr.Compare)
		slices.SortFunc(p.Loopback, netip.Addr.Compare)
	}
	return out
}

// hosted reads bridges and their peers back, sorted.
func hosted(all []element) map[string][]string {
	out := map[string][]string{}
	for _, e := range all {
		if e.set == setHosted && len(e.key) == nameLen {
			out[text(e.key)] = nil
		}
	}
	for _, e := range all {
		if e.set != setPairs || len(e.key) != 2*nameLen {
			continue
		}
		bridge, peer := text(e.key), text(e.key[nameLen:])
		if peers, ok := out[bridge]; ok && peer != bridge {
			out[bridge] = append(peers, peer)
		}
	}
	for _, peers := range out {
		slices.Sort(peers)
	}
	return out
}

// without are the elements of a that are not in b.
func without(a, b []element) []element {
	keep := map[element]bool{}
	for _, e := range b {
		keep[e] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(e element) bool { return keep[e] })
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// bigEndian is a number as it is on the wire.
func bigEndian(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
