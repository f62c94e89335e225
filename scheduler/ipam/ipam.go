// Package ipam leases addresses: pools, leases and wishes in, leases or the reason for a refusal out. Pure.
//
// A Book is the index of all leases. It changes by Lease, End, Cool, Free and Release and gives the same answers as a Book
// made anew from the surviving leases; only which free address comes next may differ, because the order in which addresses
// were freed is not kept. An address is leased once on its network, whatever pool it was taken from.
//
// A lease that ends in a pool with a reuse delay is cooling: its record stays, with released_ms, until Cool returns it, and
// its address goes to nobody but the slot that had it.
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
	// Tenant is whose quotas hold; empty is without any.
	Tenant string
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
	tenants  map[string]*padisv1.Tenant
	pools    map[string]*pool
	// segments hold what shares a network, by its name. A segment exists as long as it has a pool or a use.
	segments map[string]*segment
	// slots hold the leases of each slot, in the order of byAge.
	slots map[record.Slot][]*padisv1.LeaseRecord
	// holdings count these leases.
	holdings map[scope]int64
	// wishes are the fixed addresses of each App by its uid.
	wishes map[string][]wish
	// resting hold the leases that cool, in the order of byRelease, and former the same by who held them.
	resting map[origin][]*padisv1.LeaseRecord
	former  map[owner][]*padisv1.LeaseRecord
	// unreadable leases cool, but nobody can tell which address.
	unreadable []*padisv1.LeaseRecord
	// dense is how many addresses a pool may have that keeps a bit for each.
	dense uint64
}

// New makes a Book of what is declared and what is leased or cools. A nil cluster declares nothing. Of two leases of one
// address on one network, which the ledger's keys rule out, the first counts.
func New(cluster *padisv1.Cluster, leases []*padisv1.LeaseRecord) *Book {
	return newBook(cluster, leases, maxDense)
}

func newBook(cluster *padisv1.Cluster, leases []*padisv1.LeaseRecord, dense uint64) *Book {
	b := &Book{
		segments: map[string]*segment{},
		slots:    make(map[record.Slot][]*padisv1.LeaseRecord, len(leases)),
		holdings: map[scope]int64{},
		wishes:   map[string][]wish{},
		resting:  map[origin][]*padisv1.LeaseRecord{},
		former:   map[owner][]*padisv1.LeaseRecord{},
		dense:    dense,
	}
	for _, l := range leases {
		b.load(l)
	}
	for _, held := range b.slots {
		slices.SortFunc(held, byAge)
	}
	for _, list := range b.resting {
		slices.SortFunc(list, byRelease)
	}
	b.SetCluster(cluster)
	return b
}

// load enters a record of the ledger.
func (b *Book) load(l *padisv1.LeaseRecord) {
	if a, ok := parse(l.GetAddress()); ok {
		seg := b.segment(l.GetNetwork())
		u := seg.uses[a]
		if u.lease != nil {
			return
		}
		u.lease = l
		seg.set(a, u)
	} else if rests(l) {
		b.unreadable = append(b.unreadable, l)
		return
	}
	if rests(l) {
		b.resting[originOf(l)] = append(b.resting[originOf(l)], l)
		b.former[ownerOf(l)] = append(b.former[ownerOf(l)], l)
		return
	}
	b.slots[slotOf(l)] = append(b.slots[slotOf(l)], l)
	b.countForTenant(l, 1)
}

// Lease gives the slot one address for each wish, in the order of the wishes, or none at all. Where a wish names a network
// of the driver host instead of a pool, the result is nil at its index: the interface is the host's.
//
// Leases that the slot holds and that still fit a wish are kept, so asking twice changes nothing. A fixed address wins
// over a held one. Leases that fit no wish any more are neither returned nor freed: see Stale. A new lease may have the
// address of one that cooled for this slot: it takes its place in the ledger, under the same key.
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
	if r := c.overQuota(); r != nil {
		return nil, r
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
		if a, ok := fixedAddress(n, slot.Index); ok && !onHost(n) {
			a = canonical(a)
			match(n, func(l *padisv1.LeaseRecord) bool { return l.GetAddress() == a })
		}
	}
	for _, n := range networks {
		if _, ok := fixedAddress(n, slot.Index); !ok && !onHost(n) {
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

// Free ends one lease, or the rest of one that cools, at once and tells whether there was such a lease. Its record shall
// be deleted from the ledger. The address is handed out again after all others.
func (b *Book) Free(l *padisv1.LeaseRecord) bool {
	if rests(l) {
		return b.wake(l)
	}
	held := b.strike(l)
	if held == nil {
		return false
	}
	b.vacate(held, nil)
	return true
}

// Release ends all leases of the slot at once and returns them, oldest first.
func (b *Book) Release(slot record.Slot) []*padisv1.LeaseRecord {
	held := b.slots[slot]
	delete(b.slots, slot)
	for _, l := range held {
		b.countForTenant(l, -1)
		b.vacate(l, nil)
	}
	return held
}

// Attachment describes the interface that a lease stands for; the gateway is of its family. ok is false if its pool or
// network is not declared, the pool is unusable or belongs to another network by now, or does not contain the address.
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
	a = &padisv1.Attachment{Network: network, Pool: p.name, Address: l.GetAddress(), PrefixLength: int32(p.prefix.Bits())}
	if p.gated {
		a.Gateway = p.gateway.String()
	}
	return a, true
}

// HostAttachment describes the interface of a wish for a network of the driver host: it has neither address nor gateway.
// ok is false if there is no such network.
func (b *Book) HostAttachment(network string) (a *padisv1.Attachment, ok bool) {
	n := b.networks[network]
	if n.GetDriver() != driverHost {
		return nil, false
	}
	return &padisv1.Attachment{Network: n}, true
}

// DNS returns the name servers and search domains of a pool; none if it is not declared.
func (b *Book) DNS(name string) (servers, search []string) {
	p := b.pools[name]
	if p == nil {
		return nil, nil
	}
	return slices.Clone(p.spec.GetDnsServers()), slices.Clone(p.spec.GetDnsSearch())
}

// strike takes a lease from the slot that holds it; nil if none does.
func (b *Book) strike(l *padisv1.LeaseRecord) *padisv1.LeaseRecord {
	slot := slotOf(l)
	held := b.slots[slot]
	i := slices.IndexFunc(held, func(h *padisv1.LeaseRecord) bool {
		return h.GetNetwork() == l.GetNetwork() && h.GetAddress() == l.GetAddress()
	})
	if i < 0 {
		return nil
	}
	l = held[i]
	b.countForTenant(l, -1)
	if held = slices.Delete(slices.Clone(held), i, i+1); len(held) == 0 {
		delete(b.slots, slot)
	} else {
		b.slots[slot] = held
	}
	return l
}

// vacate puts into the place of a lease the record by which it rests; with nil its address becomes the last to be handed
// out.
func (b *Book) vacate(l, rest *padisv1.LeaseRecord) {
	b.countInPool(l, -1)
	a, ok := parse(l.GetAddress())
	if !ok {
		return
	}
	seg := b.segments[l.GetNetwork()]
	u := seg.uses[a]
	u.lease = rest
	seg.set(a, u)
	b.tidy(l.GetNetwork())
}

// countInPool counts a lease in (1) or out (-1) where the pool says what it has leased.
func (b *Book) countInPool(l *padisv1.LeaseRecord, n int) {
	p := b.pools[l.GetPool()]
	switch {
	case p == nil || p.network != l.GetNetwork():
	case rests(l):
		p.resting += n
	default:
		p.held += n
	}
}

// segment returns the segment of a network, making it if there is none.
func (b *Book) segment(network string) *segment {
	seg := b.segments[network]
	if seg == nil {
		seg = &segment{uses: map[address]use{}}
		b.segments[network] = seg
	}
	return seg
}

// tidy forgets a segment of which nothing is known any more.
func (b *Book) tidy(network string) {
	if seg := b.segments[network]; len(seg.uses) == 0 && len(seg.pools) == 0 {
		delete(b.segments, network)
	}
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
