package ipam

import (
	"math/bits"
	"slices"
)

// maxDense is how many addresses a pool may have that keeps a bit for each: as many as an IPv4 /8, in 2 MiB.
const maxDense = 1 << 24

// free are the addresses of a pool that can be chosen. At first these are all that it gives.
type free interface {
	// take makes an address of the pool impossible to choose.
	take(address)
	// put makes an address of the pool the last one to be chosen. It does nothing if the address can be chosen already.
	put(address)
	// choose finds the address to hand out next, passing over those that skip names. Those that were never freed since the
	// Book was made come in rotation from the cursor. It changes nothing.
	choose(cursor address, skip func(address) bool) (address, bool)
}

// newFree makes all of the given addresses free; those of more than limit are not counted one by one.
func newFree(given spans, limit uint64) free {
	if n := given.size(); n.hi == 0 && n.lo <= limit {
		return newDense(given, int(n.lo))
	}
	return &sparse{given: given, taken: map[address]struct{}{}}
}

// sparse is so large that the cursor takes years to come round: it alone keeps freed addresses at rest.
type sparse struct {
	given spans
	taken map[address]struct{}
}

func (s *sparse) take(a address) { s.taken[a] = struct{}{} }

func (s *sparse) put(a address) { delete(s.taken, a) }

func (s *sparse) choose(cursor address, skip func(address) bool) (address, bool) {
	first, _ := s.given.find(cursor)
	// The interval of the cursor comes first from the cursor on, and at last as a whole.
	for n := 0; n <= len(s.given) && len(s.given) > 0; n++ {
		r := s.given[(first+n)%len(s.given)]
		if n == 0 && r.has(cursor) {
			r.from = cursor
		}
		for a := r.from; ; a = a.plus(1) {
			if _, taken := s.taken[a]; !taken && !skip(a) {
				return a, true
			}
			if a == r.to {
				break
			}
		}
	}
	return address{}, false
}

// dense has a bit for each address. Addresses that were never freed are fresh; those that were freed wait in the order
// in which they were freed, and are taken when no fresh one is left. So each rests as long as it can.
type dense struct {
	given spans
	// ranks are, for each interval of given, how many addresses are before it.
	ranks   []int
	fresh   bitmap
	freshes int // addresses in fresh
	queue   queue
}

func newDense(given spans, n int) *dense {
	d := &dense{given: given, ranks: make([]int, len(given)), fresh: newBitmap(n), freshes: n}
	before := size{}
	for i, r := range given {
		d.ranks[i] = int(before.lo)
		before = before.plus(r.size())
	}
	if n > 0 {
		d.fresh.setRange(0, n-1, true)
	}
	return d
}

// index is how many addresses of the pool are before this one.
func (d *dense) index(a address) int {
	i, in := d.given.find(a)
	switch {
	case i == len(d.given):
		return 0 // behind the last: goes on at the first
	case !in:
		return d.ranks[i]
	}
	return d.ranks[i] + int(a.lo-d.given[i].from.lo)
}

func (d *dense) at(i int) address {
	s, in := slices.BinarySearch(d.ranks, i)
	if !in {
		s--
	}
	return d.given[s].from.plus(uint64(i - d.ranks[s]))
}

func (d *dense) take(a address) {
	i := d.index(a)
	if d.fresh.has(i) {
		d.fresh.setRange(i, i, false)
		d.freshes--
		return
	}
	d.queue.remove(i)
}

func (d *dense) put(a address) {
	if i := d.index(a); !d.fresh.has(i) {
		d.queue.push(i)
	}
}

func (d *dense) choose(cursor address, skip func(address) bool) (address, bool) {
	if d.freshes > 0 {
		if i := d.fresh.next(d.index(cursor), func(i int) bool { return skip(d.at(i)) }); i >= 0 {
			return d.at(i), true
		}
	}
	if i := d.queue.first(func(i int) bool { return skip(d.at(i)) }); i >= 0 {
		return d.at(i), true
	}
	return address{}, false
}

// inherit lets addresses that waited in an earlier form of the pool wait here, if they can be chosen.
func (d *dense) inherit(o *dense) {
	for _, e := range o.queue.order() {
		a := o.at(e.index)
		if d.given.has(a) && d.fresh.has(d.index(a)) {
			d.take(a)
			d.put(a)
		}
	}
}

// bitmap is a set of small numbers.
type bitmap []uint64

func newBitmap(size int) bitmap { return make(bitmap, (size+63)/64) }

func (m bitmap) has(i int) bool { return m[i/64]&(1<<(i%64)) != 0 }

// setRange puts from..to in or out.
func (m bitmap) setRange(from, to int, on bool) {
	for w := from / 64; w <= to/64; w++ {
		mask := ^uint64(0)
		if w == from/64 {
			mask &= ^uint64(0) << (from % 64)
		}
		if w == to/64 {
			mask &= ^uint64(0) >> (63 - to%64)
		}
		if on {
			m[w] |= mask
		} else {
			m[w] &^= mask
		}
	}
}

// next finds the first member at or after start, going round once; -1 if there is none.
func (m bitmap) next(start int, skip func(int) bool) int {
	first := start / 64
	for n := 0; n <= len(m); n++ {
		w := (first + n) % len(m)
		word := m[w]
		switch {
		case n == 0:
			word &= ^uint64(0) << (start % 64)
		case n == len(m):
			word &= 1<<(start%64) - 1
		}
		for word != 0 {
			i := w*64 + bits.TrailingZeros64(word)
			if !skip(i) {
				return i
			}
			word &= word - 1
		}
	}
	return -1
}

// queue holds freed addresses in the order in which they were freed.
type queue struct {
	entries []entry
	// waiting maps the members to the serial of their valid entry; entries of another serial are void.
	waiting map[int]uint64
	serial  uint64
}

type entry struct {
	index  int
	serial uint64
}

func (q *queue) push(i int) {
	if _, ok := q.waiting[i]; ok {
		return
	}
	if q.waiting == nil {
		q.waiting = map[int]uint64{}
	}
	q.serial++
	q.waiting[i] = q.serial
	q.entries = append(q.entries, entry{i, q.serial})
}

func (q *queue) remove(i int) {
	if _, ok := q.waiting[i]; !ok {
		return
	}
	delete(q.waiting, i)
	for len(q.entries) > 0 && !q.valid(q.entries[0]) {
		q.entries = q.entries[1:]
	}
	// Void entries in the middle may be at most as many as valid ones, so that the work spreads evenly over removals.
	if len(q.entries) > 2*len(q.waiting)+64 {
		q.entries = q.order()
	}
}

func (q *queue) valid(e entry) bool {
	serial, ok := q.waiting[e.index]
	return ok && serial == e.serial
}

// order returns the valid entries, first freed first.
func (q *queue) order() []entry {
	out := make([]entry, 0, len(q.waiting))
	for _, e := range q.entries {
		if q.valid(e) {
			out = append(out, e)
		}
	}
	return out
}

// first finds the member that was freed first; -1 if there is none.
func (q *queue) first(skip func(int) bool) int {
	for _, e := range q.entries {
		if q.valid(e) && !skip(e.index) {
			return e.index
		}
	}
	return -1
}
