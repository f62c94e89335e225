package lb

import (
	"crypto/sha256"
	"encoding/binary"
)

// nobody is the owner of a slot that no server serves.
const nobody = 0xffff

// candidate is one server on its way through its permutation of the slots.
type candidate struct {
	server uint16
	slot   uint32 // where it looks next
	skip   uint32
	turn   uint64 // in parts of round
	weight uint64
	order  uint64 // who comes first of two whose turns fall together
}

// round is the distance between two turns of weight 1. A turn (2^20 of them at most) times a weight stays below 2^60.
const round = 1 << 24

// before: its turns come at (p + 0)/weight, (p + 1)/weight, (p + 2)/weight, ... where p from 0 to 1 is the server's own. So at
// each moment every server has had its share but for one, and only the ratio of weights matters.
func (c *candidate) before(d *candidate) bool {
	if a, b := c.turn*d.weight, d.turn*c.weight; a != b {
		return a < b
	}
	return c.order < d.order
}

// maglev fills a table of slots by Maglev's method (Eisenbud et al., NSDI 2016, 3.4): each server has its own permutation of
// the slots, and they take turns, each the next free slot of its own. Weights are the number of turns. The result depends on
// the set of ids, the weights of the serving ones, seed and size only. Servers of equal weight get equal numbers of slots, to
// within one. The size must be prime.
func maglev(size uint32, seed uint64, servers []Server) []uint16 {
	owners := make([]uint16, size)
	for i := range owners {
		owners[i] = nobody
	}
	heap := make([]candidate, 0, len(servers))
	for i := range servers {
		if servers[i].serves() {
			heap = append(heap, newCandidate(size, seed, i, &servers[i]))
		}
	}
	if len(heap) == 0 {
		return owners
	}
	for i := len(heap)/2 - 1; i >= 0; i-- {
		sift(heap, i)
	}
	for range size {
		c := &heap[0]
		for owners[c.slot] != nobody {
			c.next(size)
		}
		owners[c.slot] = c.server
		c.next(size)
		c.turn += round
		sift(heap, 0)
	}
	return owners
}

func newCandidate(size uint32, seed uint64, i int, s *Server) candidate {
	sum := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), s.ID...))
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(sum[8*i:]) }
	return candidate{
		server: uint16(i), turn: word(2) % round, weight: uint64(s.Weight), order: word(3),
		slot: uint32(word(0) % uint64(size)), skip: uint32(word(1)%uint64(size-1)) + 1,
	}
}

func (c *candidate) next(size uint32) {
	if c.slot += c.skip; c.slot >= size {
		c.slot -= size
	}
}

// sift lets heap[i] sink to its place.
func sift(heap []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1].before(&heap[child]) {
			child++
		}
		if !heap[child].before(&heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
