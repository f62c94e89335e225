package tcx

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"padis.io/padis/executor/lb"
)

// Listener names a service.
type Listener struct {
	VIP      netip.Addr
	Protocol uint8
	// Port is its first.
	Port uint16
}

func listenerOf(s *lb.Service) Listener { return Listener{s.VIP, s.Protocol, s.Ports.First} }

// plan is what the kernel's memory holds. A plan is never changed once it is in force; next makes another.
type plan struct {
	relay    bool // chains are wanted, too
	arena    arena
	services map[Listener]placed
	ranges   []block // the lists of port ranges
	servers  map[lb.MAC]uint16
	places   numbers // of servers
	counters numbers
}

// placed is where the tables of a generation are.
type placed struct {
	generation *lb.Generation
	cell       cell
	blocks     []block
}

func newPlan(relay bool, services int) *plan {
	return &plan{relay: relay, services: map[Listener]placed{}, servers: map[lb.MAC]uint16{},
		places: numbers{limit: maxServers}, counters: numbers{next: 1, limit: uint32(services) + 1}}
}

// write is what must be written into the pages.
type write struct {
	position uint32
	bytes    []byte
}

// step leads from one plan to the next: write, put the state in force, wait until nobody uses the old one, then the next plan
// is in force and what it does not hold is free.
type step struct {
	next   *plan
	writes []write
	state  []byte
	fresh  []uint32 // counters of services that are new
	freed  []block
	gone   []lb.MAC
	idle   []uint32 // counters of services that are no more
}

// done frees what nobody uses any longer.
func (s *step) done() *plan {
	for _, b := range s.freed {
		s.next.arena.release(b)
	}
	for _, m := range s.gone {
		s.next.places.give(uint32(s.next.servers[m]))
		delete(s.next.servers, m)
	}
	for _, c := range s.idle {
		s.next.counters.give(c)
	}
	return s.next
}

// next plans for exactly these generations. What is the same (by its pointer) stays where it is.
func (p *plan) next(generations []*lb.Generation) (*step, error) {
	if _, err := lb.NewTables(generations...); err != nil {
		return nil, err
	}
	n := &plan{relay: p.relay, arena: p.arena.clone(), services: make(map[Listener]placed, len(generations)),
		servers: maps.Clone(p.servers), places: p.places.clone(), counters: p.counters.clone()}
	s := &step{next: n, freed: slices.Clone(p.ranges)}
	living := map[lb.MAC]bool{}
	for _, g := range generations {
		l := listenerOf(&g.Service)
		for i := range g.Servers {
			living[g.Servers[i].MAC] = true
			if err := n.serve(g.Servers[i].MAC); err != nil {
				return nil, err
			}
		}
		old, known := p.services[l]
		if known && old.generation == g {
			n.services[l] = old
			continue
		}
		counter := old.cell.counter
		if known {
			s.freed = append(s.freed, old.blocks...)
		} else {
			var ok bool
			if counter, ok = n.counters.take(); !ok {
				return nil, fmt.Errorf("service %s: %d services are in force already; give Options.Services a larger number", g.Service, len(n.services))
			}
			s.fresh = append(s.fresh, counter)
		}
		placed, err := s.place(g, counter)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", g.Service, err)
		}
		n.services[l] = placed
	}
	for l, old := range p.services {
		if _, stays := n.services[l]; !stays {
			s.freed = append(s.freed, old.blocks...)
			s.idle = append(s.idle, old.cell.counter)
		}
	}
	for m := range n.servers {
		if !living[m] {
			s.gone = append(s.gone, m)
		}
	}
	return s, s.encode()
}

// serve gives a server a place in the state, which it has as long as any service has it.
func (p *plan) serve(m lb.MAC) error {
	if _, ok := p.servers[m]; ok {
		return nil
	}
	i, ok := p.places.take()
	if !ok {
		return fmt.Errorf("real server %s: there are %d already, which is the most", m, maxServers)
	}
	p.servers[m] = uint16(i)
	return nil
}

func (s *step) store(bytes []byte) (block, error) {
	b, ok := s.next.arena.alloc(len(bytes))
	if !ok {
		return block{}, fmt.Errorf("its %d bytes find no room in %d MiB: use fewer services or smaller tables", len(bytes), maxPages*pageBytes>>20)
	}
	s.writes = append(s.writes, write{b.position, bytes})
	return b, nil
}

// place writes the tables of one generation.
func (s *step) place(g *lb.Generation, counter uint32) (placed, error) {
	v := &g.Service
	r := placed{generation: g, cell: cell{key: keyOf(v.VIP, v.Protocol, v.Ports.First), size: v.TableSize, counter: counter,
		seed: v.Seed, mark: 1 + uint8(g.Number%15)}}
	keep := func(b []byte) (uint32, error) {
		k, err := s.store(b)
		r.blocks = append(r.blocks, k)
		return k.position, err
	}
	where := make([]uint16, len(g.Servers))
	for i := range g.Servers {
		where[i] = s.next.servers[g.Servers[i].MAC]
	}
	var err error
	if r.cell.slots, err = keep(encodeOwners(g, where)); err != nil {
		return r, err
	}
	if s.next.relay {
		lists, which := encodeChains(g, where)
		// Lists are found by their number counted from the beginning of all pages, so that they need not be together.
		const together = 1 << 15
		first := make([]uint32, 0, 1)
		for part := range slices.Chunk(lists, together*listBytes) {
			position, err := keep(part)
			if err != nil {
				return r, err
			}
			first = append(first, position*(unit/listBytes))
		}
		chains := make([]byte, len(which)*4)
		for i, w := range which {
			if w > 0 {
				binary.LittleEndian.PutUint32(chains[i*4:], first[(w-1)/together]+(w-1)%together)
			}
		}
		if r.cell.chains, err = keep(chains); err != nil {
			return r, err
		}
	}
	if v.Scheduler == lb.SourceHash {
		r.cell.flags |= flagBySource
	}
	if len(v.Allow) > 0 {
		allow, n := encodeAllow(v.Allow)
		r.cell.flags |= flagAllow
		r.cell.allowed = uint16(n)
		r.cell.allow, err = keep(allow)
	}
	return r, err
}

// encodeOwners writes __u16[size]. where are the places of the generation's servers in the state.
func encodeOwners(g *lb.Generation, where []uint16) []byte {
	b := make([]byte, g.Service.TableSize*2)
	for slot := range g.Service.TableSize {
		owner := uint16(nobody)
		if c := g.Chain(slot); len(c) > 0 {
			owner = where[c[0]]
		}
		binary.LittleEndian.PutUint16(b[slot*2:], owner)
	}
	return b
}

// encodeChains writes each list of former owners once (struct list), and tells for each slot which of them it has, from 1; 0
// is none.
func encodeChains(g *lb.Generation, where []uint16) (lists []byte, which []uint32) {
	which = make([]uint32, g.Service.TableSize)
	known := map[[listBytes]byte]uint32{}
	for slot := range which {
		c := g.Chain(uint32(slot))
		if len(c) < 2 {
			continue
		}
		var l [listBytes]byte
		binary.LittleEndian.PutUint16(l[:], uint16(len(c)-1))
		for i, e := range c[1:] {
			binary.LittleEndian.PutUint16(l[2+i*2:], where[e])
		}
		n, ok := known[l]
		if !ok {
			lists = append(lists, l[:]...)
			n = uint32(len(known) + 1)
			known[l] = n
		}
		which[slot] = n
	}
	return lists, which
}

// encode writes the state: a cell for each service, one for each address and protocol that has port ranges.
func (s *step) encode() error {
	n := s.next
	listeners := slices.SortedFunc(maps.Keys(n.services), func(a, b Listener) int {
		return cmp.Or(a.VIP.Compare(b.VIP), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	var cells []cell
	ranges := map[key][]int{} // indexes of cells, ascending by port
	var parents []key
	for _, l := range listeners {
		if g := n.services[l].generation; g.Service.Ports.First < g.Service.Ports.Last {
			parent := keyOf(l.VIP, l.Protocol, 0)
			if ranges[parent] == nil {
				parents = append(parents, parent)
			}
			ranges[parent] = append(ranges[parent], len(cells))
		}
		cells = append(cells, n.services[l].cell)
	}
	for _, k := range parents {
		cells = append(cells, cell{key: k, flags: flagRanges})
	}
	if len(cells) > maxListens {
		return fmt.Errorf("%d services and %d addresses with port ranges: at most %d together", len(listeners), len(parents), maxListens)
	}
	keys := make([]key, len(cells))
	for i := range cells {
		keys[i] = cells[i].key
	}
	p, err := findPerfect(keys)
	if err != nil {
		return err
	}
	for i, k := range parents {
		var b []byte
		for _, c := range ranges[k] {
			ports := n.services[listeners[c]].generation.Service.Ports
			b = binary.LittleEndian.AppendUint16(b, ports.First)
			b = binary.LittleEndian.AppendUint16(b, ports.Last)
			b = binary.LittleEndian.AppendUint32(b, p.cells[c])
		}
		kept, err := s.store(b)
		if err != nil {
			return err
		}
		n.ranges = append(n.ranges, kept)
		parent := &cells[len(listeners)+i]
		parent.allow, parent.allowed = kept.position, uint16(len(ranges[k]))
	}
	s.state = encodeState(p, cells, n.servers)
	return nil
}
