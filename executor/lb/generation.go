package lb

import (
	"cmp"
	"fmt"
	"slices"
)

// MaxChain is the greatest number of servers in a slot's chain: the owner and 14 former ones.
const MaxChain = 15

// Generation is what all directors and all hosts of real servers know of one service at one time: for each slot its chain, the
// owner first, then the former owners that are alive and may still have flows of the slot, newest first. It is never changed
// after it was made, and equal on all hosts that have the same number.
type Generation struct {
	Service Service
	// Number grows by one with each change, from 1.
	Number uint64
	// Servers are those that are not dead, sorted by ID. Chains name them by their place here.
	Servers []Server
	// ends[slot] is where the slot's chain ends in entries; it begins where that of the slot before ends.
	ends    []uint32
	entries []uint16
}

// Chain is the slot's chain: indexes of Servers, owner first. Empty if the service has nobody. It must not be written to.
func (g *Generation) Chain(slot uint32) []uint16 {
	var from uint32
	if slot > 0 {
		from = g.ends[slot-1]
	}
	return g.entries[from:g.ends[slot]:g.ends[slot]]
}

// Owner is the server that gets the packets of a slot from directors, or nil if the service has nobody.
func (g *Generation) Owner(slot uint32) *Server {
	if c := g.Chain(slot); len(c) > 0 {
		return &g.Servers[c[0]]
	}
	return nil
}

// Entries is the sum of the lengths of all chains.
func (g *Generation) Entries() int { return len(g.entries) }

// Next is the generation after prev (nil: there was none) with these real servers, in any order; prev itself if nothing
// changes. Servers that are missing are dead. It refuses what it cannot use, and other seeds or table sizes than prev's,
// because they would move every flow: that is another service.
//
// A slot's owner is Maglev's. What the owner was before goes behind it while it lives; who is suspect goes last. So that no
// flow is forgotten, a slot whose chain is full is not given to a server that it does not know: it stays where it is, or goes
// to the newest of its chain that serves. Only if none of these 15 serves, the last of them is dropped.
// Datagrams are not relayed: chains of UDP are the owner alone. If no server serves at all, slots stay with what they have:
// better a server that leaves than none.
func Next(prev *Generation, s Service, servers []Server) (*Generation, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	if prev != nil && (prev.Service.TableSize != s.TableSize || prev.Service.Seed != s.Seed) {
		return nil, fmt.Errorf("tableSize and seed of %s must stay %d and %#x: any other moves every flow; make a new service", s, prev.Service.TableSize, prev.Service.Seed)
	}
	g := &Generation{Service: s, Number: 1, Servers: slices.Clone(servers), ends: make([]uint32, s.TableSize)}
	g.Service.Allow = slices.Clone(s.Allow)
	slices.SortFunc(g.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	if err := validateServers(g.Servers); err != nil {
		return nil, fmt.Errorf("service %s: %w", s, err)
	}
	g.Servers = slices.DeleteFunc(g.Servers, func(s Server) bool { return s.State == Dead })
	// place tells where prev's servers are in g, nobody if they are dead.
	var place []uint16
	if prev != nil {
		g.Number = prev.Number + 1
		place = make([]uint16, len(prev.Servers))
		for i, s := range prev.Servers {
			place[i] = nobody
			if at, ok := slices.BinarySearchFunc(g.Servers, s.ID, func(s Server, id string) int { return cmp.Compare(s.ID, id) }); ok {
				place[i] = uint16(at)
			}
		}
		g.entries = make([]uint16, 0, len(prev.entries)+len(prev.entries)/8)
	}
	owners := maglev(s.TableSize, s.Seed, g.Servers)
	var room [MaxChain + 1]uint16
	for slot := range s.TableSize {
		var before []uint16
		if prev != nil {
			before = prev.Chain(slot)
		}
		g.entries = append(g.entries, g.chain(room[:0], owners[slot], before, place)...)
		g.ends[slot] = uint32(len(g.entries))
	}
	if prev != nil && g.same(prev) {
		return prev, nil
	}
	return g, nil
}

// chain appends a slot's chain to list: Maglev's owner and the chain that the slot had before.
func (g *Generation) chain(list []uint16, owner uint16, before, place []uint16) []uint16 {
	if owner != nobody {
		list = append(list, owner)
	}
	for _, e := range before {
		if p := place[e]; p != nobody && p != owner {
			list = append(list, p)
		}
	}
	if g.Service.Protocol == UDP {
		return list[:min(len(list), 1)]
	}
	if len(list) > MaxChain {
		list = g.shorten(list)
	}
	return g.suspectsLast(list)
}

// shorten takes one entry away from a chain that is one too long: the new owner, if one of the others can be it.
func (g *Generation) shorten(list []uint16) []uint16 {
	for i, e := range list[1:] {
		if g.Servers[e].serves() {
			copy(list[2:i+2], list[1:i+1]) // those before it go one back, over its place
			list[1] = e
			return list[1:]
		}
	}
	return list[:MaxChain]
}

// suspectsLast keeps the order otherwise.
func (g *Generation) suspectsLast(list []uint16) []uint16 {
	n := 0
	for i, e := range list {
		if g.Servers[e].State != Suspect {
			copy(list[n+1:i+1], list[n:i])
			list[n] = e
			n++
		}
	}
	return list
}

// For is the same table for another service: its slots, servers and histories, with the service's own address, ports, clients and
// way to place flows. Many listeners of one load balancer so cost one table. The protocol must be the same, because chains of UDP
// are of another kind.
func (g *Generation) For(s Service) (*Generation, error) {
	s.TableSize, s.Seed = g.Service.TableSize, g.Service.Seed
	if err := s.validate(); err != nil {
		return nil, err
	}
	if s.Protocol != g.Service.Protocol {
		return nil, fmt.Errorf("protocol %d of %s: the table is one of protocol %d", s.Protocol, s, g.Service.Protocol)
	}
	h := *g
	h.Service = s
	return &h, nil
}

func (g *Generation) same(h *Generation) bool {
	return g.Service.same(&h.Service) && slices.Equal(g.Servers, h.Servers) && slices.Equal(g.ends, h.ends) && slices.Equal(g.entries, h.entries)
}
