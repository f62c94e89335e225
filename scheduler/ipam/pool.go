package ipam

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// widest is the shortest prefix of a pool: a /8 has 16,777,216 addresses and takes 4 MiB here.
const widest = 8

// address is an IPv4 address as a number.
type address uint32

func (a address) String() string {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(a)))).String()
}

// parse reads an IPv4 address in its only written form.
func parse(s string) (address, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return 0, false
	}
	b := a.As4()
	return address(binary.BigEndian.Uint32(b[:])), true
}

// compareAddresses orders addresses by number, and what is none by its text.
func compareAddresses(x, y string) int {
	a, _ := parse(x)
	b, _ := parse(y)
	return cmp.Or(cmp.Compare(a, b), cmp.Compare(x, y))
}

// interval is a closed range of addresses.
type interval struct{ from, to address }

// pool is one declared pool and which of its addresses are free.
//
// An address can be chosen freely if it may be given, is not leased on the network and is nobody's fixed wish. Those
// that were never freed since the Book was made are fresh and taken in rotation; those that were freed wait in the order
// in which they were freed, and are taken when no fresh one is left. So an address rests as long as it can before
// somebody else gets it.
type pool struct {
	name, network string
	spec          *padisv1.Pool
	// problem says why the pool cannot be used at all; empty if it can.
	problem  string
	prefix   netip.Prefix
	subnet   interval
	ranges   []interval
	reserved []interval
	gateway  address
	gated    bool // gateway is set

	// given marks the addresses that may be handed out, fresh those of them that can be chosen and were never freed;
	// both by distance from the first address of the subnet.
	given, fresh bitmap
	// cursor is where the search for a fresh address starts.
	cursor int
	queue  queue

	capacity int // addresses in given
	freshes  int // addresses in fresh
	taken    int // addresses in given that are leased on the network
	leased   int // leases of this pool
}

// newPool reads a declaration. What it cannot read is in problem.
func newPool(spec *padisv1.Pool) *pool {
	p := &pool{name: spec.GetName(), network: spec.GetNetwork(), spec: spec}
	prefix, err := netip.ParsePrefix(spec.GetCidr())
	if err != nil || !prefix.Addr().Is4() {
		p.problem = fmt.Sprintf("its cidr %q is not an IPv4 subnet", spec.GetCidr())
		return p
	}
	if prefix.Bits() < widest {
		p.problem = fmt.Sprintf("its cidr %s is larger than a /%d", prefix, widest)
		return p
	}
	p.prefix = prefix.Masked()
	first, _ := parse(p.prefix.Addr().String())
	p.subnet = interval{first, first + address(1)<<(32-p.prefix.Bits()) - 1}
	if g := spec.GetGateway(); g != "" {
		if p.gateway, p.gated = parse(g); !p.gated {
			p.problem = fmt.Sprintf("its gateway %q is not an IPv4 address", g)
			return p
		}
	}
	if p.ranges, p.problem = intervals("ranges", spec.GetRanges()); p.problem != "" {
		return p
	}
	if len(p.ranges) == 0 {
		p.ranges = []interval{p.subnet}
	}
	p.reserved, p.problem = intervals("reserved", spec.GetReserved())
	return p
}

// intervals reads ranges; an entry that cannot be read makes the whole pool unusable, because ignoring one of the
// reserved ones would hand out an address that somebody else has.
func intervals(field string, in []*padisv1.AddressRange) (out []interval, problem string) {
	for i, r := range in {
		from, ok := parse(r.GetFrom())
		to, ok2 := from, true
		if r.GetTo() != "" {
			to, ok2 = parse(r.GetTo())
		}
		if !ok || !ok2 || to < from {
			return nil, fmt.Sprintf("its %s[%d] from %q to %q is not a range of IPv4 addresses", field, i, r.GetFrom(), r.GetTo())
		}
		out = append(out, interval{from, to})
	}
	return out, ""
}

// fill computes what may be given. Gateways, network and broadcast addresses of all pools of the network are kept out:
// they are facts of the wire, not of one pool.
func (p *pool) fill(peers []*pool) {
	if p.problem != "" {
		return
	}
	size := int(p.subnet.to-p.subnet.from) + 1
	p.given, p.fresh = newBitmap(size), newBitmap(size)
	for _, r := range p.ranges {
		p.mark(r, true)
	}
	for _, r := range p.reserved {
		p.mark(r, false)
	}
	for _, q := range peers {
		if q.problem != "" {
			continue
		}
		if q.gated {
			p.mark(interval{q.gateway, q.gateway}, false)
		}
		if q.hasEdges() {
			p.mark(interval{q.subnet.from, q.subnet.from}, false)
			p.mark(interval{q.subnet.to, q.subnet.to}, false)
		}
	}
	p.capacity = p.given.count()
	copy(p.fresh, p.given)
	p.freshes = p.capacity
}

// hasEdges tells whether the subnet has a network and a broadcast address: not so for a /31 (RFC 3021) and a /32.
func (p *pool) hasEdges() bool { return p.prefix.Bits() <= 30 }

func (p *pool) mark(r interval, on bool) {
	from, to := max(r.from, p.subnet.from), min(r.to, p.subnet.to)
	if from > to {
		return
	}
	p.given.setRange(p.index(from), p.index(to), on)
}

func (p *pool) contains(a address) bool {
	return p.problem == "" && p.subnet.from <= a && a <= p.subnet.to
}

// gives tells whether the address may be handed out by this pool, leased or not.
func (p *pool) gives(a address) bool { return p.contains(a) && p.given.has(p.index(a)) }

func (p *pool) index(a address) int { return int(a - p.subnet.from) }

func (p *pool) at(i int) address { return p.subnet.from + address(i) }

// serves tells whether the namespace may use the pool.
func (p *pool) serves(namespace string) bool {
	allowed := p.spec.GetNamespaces()
	return len(allowed) == 0 || slices.Contains(allowed, namespace)
}

// take makes an address impossible to choose.
func (p *pool) take(a address) {
	i := p.index(a)
	if p.fresh.has(i) {
		p.fresh.setRange(i, i, false)
		p.freshes--
		return
	}
	p.queue.remove(i)
}

// put makes an address the last one to be chosen. It does nothing if the address can be chosen already.
func (p *pool) put(a address) {
	if i := p.index(a); !p.fresh.has(i) {
		p.queue.push(i)
	}
}

// choose finds the address to hand out next, passing over those that skip names. It changes nothing.
func (p *pool) choose(skip func(address) bool) (address, bool) {
	if p.freshes > 0 {
		if i := p.fresh.next(p.cursor, func(i int) bool { return skip(p.at(i)) }); i >= 0 {
			return p.at(i), true
		}
	}
	if i := p.queue.first(func(i int) bool { return skip(p.at(i)) }); i >= 0 {
		return p.at(i), true
	}
	return 0, false
}

// aside counts the addresses that are not leased but kept for fixed wishes.
func (p *pool) aside() int { return p.capacity - p.taken - p.freshes - len(p.queue.waiting) }

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

func (m bitmap) count() int {
	n := 0
	for _, w := range m {
		n += bits.OnesCount64(w)
	}
	return n
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
