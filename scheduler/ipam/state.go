package ipam

import (
	"cmp"
	"fmt"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// State is what becomes of one address, for people.
type State string

// States of an address.
const (
	// Reserved: in a pool's cidr, but never handed out, or kept for the instance that names it.
	Reserved State = "reserved"
	// Allocated: leased, whatever its pool says now.
	Allocated State = "allocated"
	// Cooling: its lease has ended, and it is given to nobody but the slot that had it.
	Cooling State = "cooling"
	// Unallocated: free.
	Unallocated State = "unallocated"
	// Foreign: somebody has it without a lease.
	Foreign State = "foreign"
)

// Standing is the state of one address.
type Standing struct {
	State State
	// Lease is that of an allocated or cooling address; nil of others.
	Lease *padisv1.LeaseRecord
	// UntilMs is when a cooling address will be free, in Unix milliseconds; 0 of others.
	UntilMs int64
	// Note says of a reserved address what it is, of a foreign one who has it; empty of others.
	Note string
}

// State tells what becomes of an address of a network. ok is false if it is in no pool of the network and nothing is
// known of it, or if it is no address.
func (b *Book) State(network, text string) (s Standing, ok bool) {
	a, ok := parse(text)
	seg := b.segments[network]
	if !ok || seg == nil {
		return Standing{}, false
	}
	u := seg.uses[a]
	switch u.class() {
	case classHeld:
		return Standing{State: Allocated, Lease: u.lease}, true
	case classResting:
		return Standing{State: Cooling, Lease: u.lease, UntilMs: b.until(u.lease)}, true
	case classForeign:
		return Standing{State: Foreign, Note: u.foreign}, true
	case classAside:
		return Standing{State: Reserved, Note: b.keptFor(network, a)}, true
	}
	if slices.ContainsFunc(seg.pools, func(p *pool) bool { return p.gives(a) }) {
		return Standing{State: Unallocated}, true
	}
	for _, p := range seg.pools {
		if p.contains(a) {
			return Standing{State: Reserved, Note: seg.obstacle(p, a).what}, true
		}
	}
	return Standing{}, false
}

// keptFor says which instance names an address.
func (b *Book) keptFor(network string, a address) string {
	var names []string
	for _, list := range b.wishes {
		for _, w := range list {
			if w.address == a && b.grants(w) && b.pools[w.pool].network == network {
				names = append(names, fmt.Sprintf("%s/%s-%d", w.namespace, w.app, w.slot))
			}
		}
	}
	return "kept for " + slices.Min(names)
}

// Range is a closed range of addresses of one pool that are in state reserved, and what they are.
type Range struct{ From, To, Note string }

// Reserved lists the addresses of a pool's cidr that it never hands out, or keeps for the instances that name them, in
// ascending order. Of addresses that the pool no longer gives it does not tell whether they are still leased.
func (b *Book) Reserved(name string) []Range {
	p := b.pools[name]
	if p == nil || p.problem != "" {
		return nil
	}
	seg := b.segments[p.network]
	type part struct {
		interval
		note string
	}
	var parts []part
	for _, r := range p.divide(seg) {
		note := seg.obstacle(p, r.from).what
		if n := len(parts); n > 0 && parts[n-1].note == note && parts[n-1].to.plus(1) == r.from {
			parts[n-1].to = r.to
			continue
		}
		parts = append(parts, part{r, note})
	}
	for a, u := range seg.uses {
		if u.class() == classAside && p.gives(a) {
			parts = append(parts, part{only(a), b.keptFor(p.network, a)})
		}
	}
	slices.SortFunc(parts, func(x, y part) int { return x.from.compare(y.from) })
	out := make([]Range, len(parts))
	for i, r := range parts {
		out[i] = Range{r.from.String(), r.to.String(), r.note}
	}
	return out
}

// divide cuts what the pool does not give into intervals of which all addresses have the same obstacle.
func (p *pool) divide(seg *segment) []interval {
	all := slices.Concat(p.ranges, p.reserved)
	for _, q := range seg.pools {
		if q.problem == "" {
			all = append(all, q.facts()...)
		}
	}
	var starts []address
	for _, r := range all {
		starts = append(starts, r.from, r.to.plus(1))
	}
	slices.SortFunc(starts, address.compare)
	starts = slices.Compact(starts)
	var out []interval
	for _, r := range (spans{p.subnet}).without(p.given) {
		i, _ := slices.BinarySearchFunc(starts, r.from, address.compare)
		for ; i < len(starts) && r.has(starts[i]); i++ {
			if starts[i] != r.from {
				out = append(out, interval{r.from, starts[i].prev()})
				r.from = starts[i]
			}
		}
		out = append(out, r)
	}
	return out
}

// Utilisation counts the addresses of a pool. All numbers saturate.
type Utilisation struct {
	// Capacity are those that can be handed out at all.
	Capacity int64
	// Allocated are leased from this pool, Cooling were; also those that a shrunk pool no longer covers.
	Allocated, Cooling int64
	// Of the capacity: Foreign are used without a lease, Aside are kept for instances that name them.
	Foreign, Aside int64
	// Free are those of the capacity that are neither leased (by overlapping pools neither) nor cooling nor foreign. Those
	// that are kept aside are free for those who name them.
	Free int64
}

// Utilisation counts the addresses of a pool; zeros if it is not declared.
func (b *Book) Utilisation(name string) Utilisation {
	p := b.pools[name]
	if p == nil {
		return Utilisation{}
	}
	capacity := p.given.size()
	return Utilisation{
		Capacity: capacity.int64(), Allocated: int64(p.held), Cooling: int64(p.resting),
		Foreign: int64(p.uses[classForeign]), Aside: int64(p.uses[classAside]),
		Free: capacity.minus(p.uses[classHeld] + p.uses[classResting] + p.uses[classForeign]).int64(),
	}
}

// Usage is the part of Utilisation that most ask for.
func (b *Book) Usage(name string) (capacity, allocated, free int64) {
	u := b.Utilisation(name)
	return u.Capacity, u.Allocated, u.Free
}

// Flagged returns the leases that their pools would not give today, by network and address.
func (b *Book) Flagged() []Flag {
	var flags []Flag
	for _, held := range b.slots {
		for _, l := range held {
			if r := b.fault(l); r != nil {
				flags = append(flags, Flag{Lease: l, Reason: r.Reason, Message: r.Message})
			}
		}
	}
	slices.SortFunc(flags, func(x, y Flag) int {
		return cmp.Or(cmp.Compare(x.Lease.GetNetwork(), y.Lease.GetNetwork()),
			compareAddresses(x.Lease.GetAddress(), y.Lease.GetAddress()))
	})
	return flags
}

// fault says what is wrong with a lease as its pool is declared now; nil if nothing is.
func (b *Book) fault(l *padisv1.LeaseRecord) *Refusal {
	p := b.pools[l.GetPool()]
	if p == nil {
		return noPool(l.GetPool(), slotOf(l))
	}
	if p.problem != "" {
		return p.unusable()
	}
	if b.networks[p.network] == nil {
		return p.noNetwork()
	}
	if p.network != l.GetNetwork() {
		return refuse(padisv1.ReasonAddressOutsidePool,
			"%s was leased on network %q, but pool %q belongs to network %q now; set the pool's network back, or scale the instance in",
			l.GetAddress(), l.GetNetwork(), p.name, p.network)
	}
	addr, ok := parse(l.GetAddress())
	if !ok {
		return p.notAnAddress(l.GetAddress(), slotOf(l))
	}
	if o := b.segments[p.network].obstacle(p, addr); o != nil {
		return o.refusal(addr)
	}
	return nil
}
