// Package ipam leases addresses: pools, leases and wishes in, leases or the reason for a refusal out. Pure.
//
// A Book is the index of all leases. It changes by Lease, Free and Release and gives the same answers as a Book made
// anew from the surviving leases; only which free address comes next may differ, because the order in which addresses
// were freed is not kept. An address is leased once on its network, whatever pool it was taken from.
//
// A Book is not safe for concurrent use. The records that it is given and that it returns are shared and must not be
// changed by anybody.
package ipam

import (
	"cmp"
	"fmt"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// Want asks for the addresses of one slot.
type Want struct {
	Slot record.Slot
	// Namespace and App name the slot for people; Namespace also decides which pools are open to it.
	Namespace, App string
	// Networks are the interfaces, in order.
	Networks []*padisv1.NetworkWish
	// NowMs is the time in Unix milliseconds.
	NowMs int64
}

// Refusal says why no address can be leased. Nothing was changed.
type Refusal struct {
	// Reason is one of the Reason constants of padisv1.
	Reason string
	// Message is a sentence that ends in the remedy.
	Message string
}

// Flag is a lease that its pool would not give today: the pool was shrunk, changed or removed. The lease stays valid.
type Flag struct {
	Lease *padisv1.LeaseRecord
	// Reason and Message are those that a fixed wish for the address would be refused with.
	Reason, Message string
}

// Book knows who holds which address. The zero value is not usable; see New.
type Book struct {
	networks map[string]*padisv1.Network
	pools    map[string]*pool
	// segments hold what shares a network, by its name. A segment exists as long as it has a pool or a lease.
	segments map[string]*segment
	// slots hold the leases of each slot, in the order of byAge.
	slots map[record.Slot][]*padisv1.LeaseRecord
	// wishes are the fixed addresses of each App by its uid.
	wishes map[string][]wish
}

// New makes a Book of what is declared and what is leased. A nil cluster declares nothing. Of two leases of one address
// on one network, which the ledger's keys rule out, the first counts.
func New(cluster *padisv1.Cluster, leases []*padisv1.LeaseRecord) *Book {
	b := &Book{
		segments: map[string]*segment{},
		slots:    map[record.Slot][]*padisv1.LeaseRecord{},
		wishes:   map[string][]wish{},
	}
	for _, l := range leases {
		if addr, ok := parse(l.GetAddress()); ok {
			seg := b.segment(l.GetNetwork())
			if seg.leases[addr] != nil {
				continue
			}
			seg.leases[addr] = l
		}
		slot := slotOf(l)
		b.slots[slot] = append(b.slots[slot], l)
	}
	for _, held := range b.slots {
		slices.SortFunc(held, byAge)
	}
	b.SetCluster(cluster)
	return b
}

// Lease gives the slot one address for each wish, in the order of the wishes, or none at all.
//
// Leases that the slot holds and that still fit a wish are kept, so asking twice changes nothing. A fixed address wins
// over a held one. Leases that fit no wish any more are neither returned nor freed: see Stale.
func (b *Book) Lease(w Want) ([]*padisv1.LeaseRecord, *Refusal) {
	c := claim{book: b, want: w, held: b.slots[w.Slot], picks: make([]pick, len(w.Networks))}
	// Fixed addresses first, so that a free choice cannot take one of them.
	for i, n := range w.Networks {
		if r := c.fixed(i, n); r != nil {
			return nil, r
		}
	}
	for i := range w.Networks {
		if r := c.free(i); r != nil {
			return nil, r
		}
	}
	return c.commit(), nil
}

// Stale returns the leases of the slot that fit none of the wishes: they shall be freed as soon as nothing uses their
// addresses any more.
func (b *Book) Stale(slot record.Slot, networks []*padisv1.NetworkWish) []*padisv1.LeaseRecord {
	held := b.slots[slot]
	if len(held) == 0 {
		return nil
	}
	kept := make([]bool, len(held))
	match := func(n *padisv1.NetworkWish, fits func(*padisv1.LeaseRecord) bool) {
		p := b.pools[n.GetPool()]
		for i, l := range held {
			if !kept[i] && p != nil && l.GetPool() == p.name && l.GetNetwork() == p.network && fits(l) {
				kept[i] = true
				return
			}
		}
	}
	for _, n := range networks {
		if a, ok := fixedAddress(n, slot.Index); ok {
			match(n, func(l *padisv1.LeaseRecord) bool { return l.GetAddress() == a })
		}
	}
	for _, n := range networks {
		if _, ok := fixedAddress(n, slot.Index); !ok {
			match(n, func(*padisv1.LeaseRecord) bool { return true })
		}
	}
	var stale []*padisv1.LeaseRecord
	for i, l := range held {
		if !kept[i] {
			stale = append(stale, l)
		}
	}
	return stale
}

// Held returns the leases of the slot, oldest first.
func (b *Book) Held(slot record.Slot) []*padisv1.LeaseRecord { return slices.Clone(b.slots[slot]) }

// Free ends one lease and tells whether it was held. The address is handed out again after all others.
func (b *Book) Free(l *padisv1.LeaseRecord) bool {
	slot := slotOf(l)
	held := b.slots[slot]
	i := slices.IndexFunc(held, func(h *padisv1.LeaseRecord) bool {
		return h.GetNetwork() == l.GetNetwork() && h.GetAddress() == l.GetAddress()
	})
	if i < 0 {
		return false
	}
	b.forget(held[i])
	if held = slices.Delete(slices.Clone(held), i, i+1); len(held) == 0 {
		delete(b.slots, slot)
	} else {
		b.slots[slot] = held
	}
	return true
}

// Release ends all leases of the slot and returns them, oldest first.
func (b *Book) Release(slot record.Slot) []*padisv1.LeaseRecord {
	held := b.slots[slot]
	delete(b.slots, slot)
	for _, l := range held {
		b.forget(l)
	}
	return held
}

// Attachment describes the interface that a lease stands for. ok is false if its pool or network is not declared, the
// pool is unusable or belongs to another network by now, or does not contain the address.
func (b *Book) Attachment(l *padisv1.LeaseRecord) (a *padisv1.Attachment, ok bool) {
	p := b.pools[l.GetPool()]
	if p == nil || p.problem != "" || p.network != l.GetNetwork() {
		return nil, false
	}
	network := b.networks[p.network]
	addr, ok := parse(l.GetAddress())
	if network == nil || !ok || !p.contains(addr) {
		return nil, false
	}
	return &padisv1.Attachment{
		Network:      network,
		Pool:         p.name,
		Address:      l.GetAddress(),
		PrefixLength: int32(p.prefix.Bits()),
		Gateway:      p.spec.GetGateway(),
	}, true
}

// DNS returns the name servers and search domains of a pool; none if it is not declared.
func (b *Book) DNS(name string) (servers, search []string) {
	p := b.pools[name]
	if p == nil {
		return nil, nil
	}
	return slices.Clone(p.spec.GetDnsServers()), slices.Clone(p.spec.GetDnsSearch())
}

// Usage counts the addresses of a pool: those that can be handed out at all, those leased from it, and those that can
// be handed out and are not leased. Leases that a shrunk pool no longer covers are in allocated but not in capacity;
// where pools overlap, what the other one has leased is not free. All are 0 for a pool that is not declared.
func (b *Book) Usage(name string) (capacity, allocated, free int64) {
	p := b.pools[name]
	if p == nil {
		return 0, 0, 0
	}
	return int64(p.capacity), int64(p.leased), int64(p.capacity - p.taken)
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
		return noPool(l.GetPool())
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
		return notAnAddress(l.GetAddress(), p.name)
	}
	if p.gives(addr) {
		return nil
	}
	r, _ := b.segments[p.network].obstacle(p, addr)
	return r
}

// forget takes a lease out of its segment; its address becomes the last to be handed out.
func (b *Book) forget(l *padisv1.LeaseRecord) {
	addr, ok := parse(l.GetAddress())
	seg := b.segments[l.GetNetwork()]
	if !ok || seg == nil || seg.leases[addr] == nil {
		return
	}
	delete(seg.leases, addr)
	for _, p := range seg.pools {
		if p.gives(addr) {
			p.taken--
		}
	}
	if p := b.pools[l.GetPool()]; p != nil && p.network == l.GetNetwork() {
		p.leased--
	}
	seg.settle(addr)
	if len(seg.leases) == 0 && len(seg.pools) == 0 {
		delete(b.segments, l.GetNetwork())
	}
}

// segment returns the segment of a network, making it if there is none.
func (b *Book) segment(network string) *segment {
	seg := b.segments[network]
	if seg == nil {
		seg = newSegment()
		b.segments[network] = seg
	}
	return seg
}

func slotOf(l *padisv1.LeaseRecord) record.Slot {
	return record.Slot{AppUID: l.GetAppUid(), Index: l.GetSlot()}
}

// byAge orders the leases of one slot. Lease makes leased_ms grow within a slot, so interfaces of one pool keep their
// order.
func byAge(x, y *padisv1.LeaseRecord) int {
	return cmp.Or(cmp.Compare(x.GetLeasedMs(), y.GetLeasedMs()), compareAddresses(x.GetAddress(), y.GetAddress()),
		cmp.Compare(x.GetNetwork(), y.GetNetwork()))
}

func refuse(reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}
