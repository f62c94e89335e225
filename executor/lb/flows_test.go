package lb

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// farm is a model of one service: directors and hosts of real servers, each with a generation that may be late, and the
// sockets that the servers have.
type farm struct {
	t         *rapid.T
	all       []Server // as they are wanted now
	made      []*Generation
	directors []int            // index of made
	hosts     map[string]int   // by server
	holder    map[Tuple]string // who has the flow's socket
	flows     []Tuple
	died      map[string]int // by server: the first generation without it
}

// outcome is where a packet ended.
type outcome struct {
	Verdict
	server string // whose host said so; or who is dead and got it (Action Forward)
	hops   int
}

func tables(t testing.TB, gs ...*Generation) *Tables {
	t.Helper()
	tb, err := NewTables(gs...)
	if err != nil {
		t.Fatal(err)
	}
	return tb
}

// send carries a packet of the flow through the farm.
func (f *farm) send(director int, flow Tuple, flags uint8) outcome {
	own := MAC{2, 0x42, 10, 9, 9, byte(director)}
	frame := eth(own, tcpPacket(flow, flags))
	v := Decide(frame, own, f.tables(f.directors[director]))
	hops := 0
	for server := "director"; ; hops++ {
		if v.Action != Forward {
			return outcome{v, server, hops}
		}
		if hops > MaxChain {
			f.t.Fatalf("%v goes on after %d hops", flow, hops)
		}
		copy(frame, v.DstMAC[:])
		copy(frame[6:], v.SrcMAC[:])
		at := slices.IndexFunc(f.all, func(s Server) bool { return s.MAC == v.DstMAC })
		if at < 0 {
			return outcome{v, "gone", hops + 1}
		}
		server = f.all[at].ID
		v = Relay(frame, v.DstMAC, f.tables(f.hosts[server]), func(p Packet) bool { return f.holder[p.Tuple] == server })
	}
}

func (f *farm) tables(made int) *Tables {
	tb, err := NewTables(f.made[made])
	if err != nil {
		f.t.Fatal(err)
	}
	return tb
}

// change makes a new generation of another set of servers; who dies takes its sockets along.
func (f *farm) change() {
	if len(f.made)-f.oldest() >= 15 {
		f.settle() // marks repeat after 15 generations
	}
	i := rapid.IntRange(0, 11).Draw(f.t, "server")
	at := slices.IndexFunc(f.all, func(s Server) bool { return s.ID == server(i).ID })
	switch {
	case at < 0 && f.oldest() < f.died[server(i).ID]:
		return // who died comes back when everybody knows
	case at < 0:
		f.all = append(f.all, server(i))
		f.hosts[server(i).ID] = len(f.made) - 1
	case rapid.Bool().Draw(f.t, "dies") && len(f.all) > 1:
		for flow, id := range f.holder {
			if id == f.all[at].ID {
				delete(f.holder, flow)
			}
		}
		delete(f.hosts, f.all[at].ID)
		f.died[f.all[at].ID] = len(f.made)
		f.all = slices.Delete(f.all, at, at+1)
	default:
		f.all[at].State = State(rapid.IntRange(0, 2).Draw(f.t, "state"))
		f.all[at].Weight = rapid.Uint32Range(0, 3).Draw(f.t, "weight")
	}
	g, err := Next(f.made[len(f.made)-1], f.made[0].Service, f.all)
	if err != nil {
		f.t.Fatal(err)
	}
	f.made = append(f.made, g)
}

// spread lets one host or director catch up; in order: no director has what a host has not.
func (f *farm) spread(inOrder bool) {
	latest, first := len(f.made)-1, len(f.made)-1
	id := rapid.SampledFrom(f.all).Draw(f.t, "host").ID
	f.hosts[id] = rapid.IntRange(f.hosts[id], latest).Draw(f.t, "to")
	if inOrder {
		for _, g := range f.hosts {
			first = min(first, g)
		}
	}
	d := rapid.IntRange(0, len(f.directors)-1).Draw(f.t, "director")
	f.directors[d] = rapid.IntRange(min(f.directors[d], first), first).Draw(f.t, "to")
}

func (f *farm) oldest() int {
	oldest := slices.Min(f.directors)
	for _, g := range f.hosts {
		oldest = min(oldest, g)
	}
	return oldest
}

func (f *farm) settle() {
	for id := range f.hosts {
		f.hosts[id] = len(f.made) - 1
	}
	for d := range f.directors {
		f.directors[d] = len(f.made) - 1
	}
}

func (f *farm) open() {
	n := len(f.flows)
	flow := Tuple{client4, vip4, uint16(1000 + n), 80, TCP}
	o := f.send(rapid.IntRange(0, len(f.directors)-1).Draw(f.t, "director"), flow, flagSYN)
	if o.Reason == NewFlow {
		f.flows, f.holder[flow] = append(f.flows, flow), o.server
	}
}

func newFarm(t *rapid.T) *farm {
	f := &farm{t: t, all: servers(rapid.IntRange(1, 6).Draw(t, "at first")), directors: make([]int, 3), hosts: map[string]int{}, holder: map[Tuple]string{}, died: map[string]int{}}
	g, err := Next(nil, service(13), f.all)
	if err != nil {
		t.Fatal(err)
	}
	f.made = []*Generation{g}
	f.settle()
	for _, s := range f.all {
		f.hosts[s.ID] = 0
	}
	return f
}

// However servers come, drain, fall under suspicion and die, the chain reaches the socket of every flow whose server lives,
// through any director; and while a change is on its way, no packet of such a flow is answered by another server.
func TestFlowsStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFarm(t)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1:
				f.change()
			case 2, 3, 4, 5:
				f.spread(true)
			case 6:
				f.settle()
			default:
				f.open()
			}
			settled := !slices.ContainsFunc(f.directors, func(g int) bool { return g != len(f.made)-1 })
			for flow, id := range f.holder {
				for d := range f.directors {
					o := f.send(d, flow, flagACK)
					if o.Reason == Held && o.server == id {
						continue
					}
					if lost := o.server == "gone" || o.Action == Drop; settled || !lost {
						t.Fatalf("%v of %s ends at %s: %s, after %d hops", flow, id, o.server, o.Verdict, o.hops)
					}
				}
			}
		}
	})
}

// Whatever generations hosts and directors have, no packet goes in a circle, and none is answered by two.
func TestNoLoopsInDisorder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFarm(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			f.change()
			f.spread(false)
			f.spread(false)
			f.open()
			nobodys := Tuple{client4, vip4, 9, 80, TCP}
			for _, flow := range append(slices.Clone(f.flows), nobodys) {
				for d := range f.directors {
					if o := f.send(d, flow, flagACK); o.Reason == Held && o.server != f.holder[flow] {
						t.Fatalf("%v ends at %s", flow, o)
					}
				}
			}
		}
	})
}

// A flow that nobody has ends after the whole chain, with the last server's RST.
func TestNobodysFlowIsReset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFarm(t)
		for range rapid.IntRange(0, 10).Draw(t, "changes") {
			f.change()
		}
		f.settle()
		flow := Tuple{client4, vip4, 9, 80, TCP}
		g := f.made[len(f.made)-1]
		chain := g.Chain(g.Service.Slot(flow))
		if len(chain) == 0 {
			return // its servers died, and nobody else serves
		}
		if o := f.send(0, flow, flagACK); o.Reason != LastInChain || o.server != g.Servers[chain[len(chain)-1]].ID || o.hops != len(chain) {
			t.Fatalf("ends at %s, %s, after %d hops of %d", o.server, o.Verdict, o.hops, len(chain))
		}
	})
}

func (o outcome) String() string { return fmt.Sprintf("%s at %s", o.Verdict, o.server) }
