package lb

import (
	"net/netip"
	"testing"
)

// A director that has other slots than ours sends to anybody: wherever the socket is in the chain, it is found; and if nobody
// has it, all of the chain was asked before the reset.
func TestUnplacedAsksTheWholeChain(t *testing.T) {
	g := chained(t)
	longest := 0
	for slot := range g.Service.TableSize {
		chain := g.Chain(slot)
		longest = max(longest, len(chain))
		for first := range g.Servers {
			asked := map[MAC]bool{}
			at, m := g.Servers[first].MAC, markOf(Unplaced(MAC{2, 1}))
			for hops := 0; ; hops++ {
				asked[at] = true
				next, after, why := g.relay(slot, at, m)
				if why == LastInChain {
					break
				}
				if why != Relayed || hops > MaxChain {
					t.Fatalf("slot %d, first %d: %v after %d hops", slot, first, why, hops)
				}
				at, m = next.MAC, after
			}
			for _, e := range chain {
				if !asked[g.Servers[e].MAC] {
					t.Errorf("slot %d, first %d: %s was not asked", slot, first, g.Servers[e].ID)
				}
			}
		}
	}
	if longest < 3 {
		t.Errorf("the longest chain has %d servers: no test of it", longest)
	}
}

// chained has servers that came one after the other.
func chained(t *testing.T) (g *Generation) {
	t.Helper()
	s := Service{VIP: netip.MustParseAddr("10.9.0.1"), Protocol: TCP, Ports: Ports{80, 80}, TableSize: 251, Seed: 1}
	var servers []Server
	for i := range 5 {
		for j := range servers {
			servers[j].State = Draining
		}
		servers = append(servers, Server{ID: string(rune('a' + i)), MAC: MAC{2, 0, 0, 0, 0, byte(i + 1)}, Weight: 1})
		next, err := Next(g, s, servers)
		if err != nil {
			t.Fatal(err)
		}
		g = next
	}
	return g
}
