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
	order  uint64 // who comes first of two whose turns fall together
	turn   uint64 // odd numbers: 1, 3, 5, ...
	weight uint64
}

// before: its turns come at 1/weight, 3/weight, 5/weight, ...; so at each moment every server has had its share, rounded.
func (c *candidate) before(d *candidate) bool {
	if a, b := c.turn*d.weight, d.turn*c.weight; a != b {
		return a < b
	}
	return c.order < d.order
}

// maglev fills a table of slots by Maglev's method (Eisenbud et al., NSDI 2016, 3.4): each server has its own permutation of
// the slots, and they take turns, each the next free slot of its own. Weights are the number of turns. The result depends on
// the set of ids, the weights of the serving ones, seed and size only. Every server's number of slots differs from its share
// by less than two. The size must be prime.
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
		c.turn += 2
		sift(heap, 0)
	}
	return owners
}

func newCandidate(size uint32, seed uint64, i int, s *Server) candidate {
	sum := sha256.Sum256(append(binary.LittleEndian.AppendUint64(nil, seed), s.ID...))
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(sum[8*i:]) }
	return candidate{
		server: uint16(i), turn: 1, weight: uint64(s.Weight), order: word(2),
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
