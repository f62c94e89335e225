package plan

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"padis.io/padis/executor/lb"
)

// Way is how a check reaches a real server.
type Way struct {
	To netip.AddrPort
	// From is where the connection must come from; port 0 is any. Invalid: from anywhere.
	From netip.AddrPort
	// Marked: To is a VIP, and the server's hardware address makes the packets reach it. Otherwise To is its own address.
	Marked bool
}

// Ports that the director's own connections come from, and how many of them are tried for one that suits.
const (
	firstLocal, lastLocal = 32768, 60999
	tries                 = 1 << 14
)

// Way finds the way to a port of a real server. Clients' packets come to a VIP, so the check's do: from a port of own such that
// the chain of the flow's slot has the server, because its host passes no other SYN. Where there is no such port (sh, or the
// server has no slot), and if viaVIP is not set, it is the server's own address.
func (o *Order) Way(server string, port uint16, own []netip.Addr, viaVIP bool, seed uint64) (Way, error) {
	if viaVIP {
		for _, vip := range o.VIPs {
			i := slices.IndexFunc(own, func(a netip.Addr) bool { return a.Is4() == vip.Is4() })
			if i < 0 {
				continue
			}
			if from, ok := o.from(server, netip.AddrPortFrom(vip, port), own[i], seed); ok {
				return Way{To: netip.AddrPortFrom(vip, port), From: from, Marked: true}, nil
			}
			break
		}
	}
	i, ok := slices.BinarySearchFunc(o.Servers, server, func(s Server, id string) int { return cmp.Compare(s.ID, id) })
	switch {
	case !ok:
		return Way{}, fmt.Errorf("real server %q is in no table", server)
	case !o.Servers[i].Address.IsValid():
		return Way{}, errors.New("no address of it is known in the directors' network, and no slot is its own")
	}
	return Way{To: netip.AddrPortFrom(o.Servers[i].Address, port)}, nil
}

// from is a source from which the flow to a VIP has the server in its chain.
func (o *Order) from(server string, to netip.AddrPort, own netip.Addr, seed uint64) (netip.AddrPort, bool) {
	g := o.listener(to)
	if g == nil { // not balanced: hosts pass it as it is
		return netip.AddrPortFrom(own, 0), true
	}
	at, ok := slices.BinarySearchFunc(g.Servers, server, func(s lb.Server, id string) int { return cmp.Compare(s.ID, id) })
	if !ok {
		return netip.AddrPort{}, false
	}
	for range tries {
		seed = seed*6364136223846793005 + 1442695040888963407 // Knuth's, MMIX
		port := uint16(firstLocal + (seed>>33)%(lastLocal-firstLocal+1))
		slot := g.Service.Slot(lb.Tuple{Src: own, Dst: to.Addr(), SrcPort: port, DstPort: to.Port(), Protocol: lb.TCP})
		if slices.Contains(g.Chain(slot), uint16(at)) {
			return netip.AddrPortFrom(own, port), true
		}
		if g.Service.Scheduler == lb.SourceHash {
			break // the port does not count
		}
	}
	return netip.AddrPort{}, false
}

func (o *Order) listener(to netip.AddrPort) *lb.Generation {
	for _, f := range o.Forwardings {
		if s := &f.Service; s.VIP == to.Addr() && s.Protocol == lb.TCP && s.Ports.First <= to.Port() && to.Port() <= s.Ports.Last {
			return f.Generation
		}
	}
	return nil
}
