package ipam

import (
	"fmt"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// claim is one call of Lease on its way.
type claim struct {
	book *Book
	want Want
	// held are the leases of the slot before.
	held  []*padisv1.LeaseRecord
	picks []pick
}

// pick is what was found for one wish.
type pick struct {
	pool  *pool
	addr  address
	kept  *padisv1.LeaseRecord // nil for a new lease
	found bool
}

// fixed checks the pool of wish i and, if the wish names an address for the slot, picks it.
func (c *claim) fixed(i int, n *padisv1.NetworkWish) *Refusal {
	p, r := c.book.open(n.GetPool(), c.want.Namespace)
	if r != nil {
		return r
	}
	c.picks[i].pool = p
	text, ok := fixedAddress(n, c.want.Slot.Index)
	if !ok {
		return nil
	}
	a, ok := parse(text)
	if !ok {
		return notAnAddress(text, p.name)
	}
	seg := c.book.segments[p.network]
	if c.picked(p.network, a) {
		return refuse(padisv1.ReasonAddressInUse, "%s is wished for twice by %s; give each of its networks an address of its own",
			a, name(c.want.Namespace, c.want.App, c.want.Slot))
	}
	holder := seg.leases[a]
	mine := holder != nil && slotOf(holder) == c.want.Slot
	if holder != nil && !mine {
		return refuse(padisv1.ReasonAddressInUse, "%s is leased to %s; choose another address, or scale that instance in",
			a, instance(holder))
	}
	keep := mine && holder.GetPool() == p.name
	if r, wire := seg.obstacle(p, a); r != nil && (wire || !keep) {
		return r
	}
	c.picks[i] = pick{pool: p, addr: a, found: true}
	if keep {
		c.picks[i].kept = holder
	}
	return nil
}

// free finds an address for wish i, if it has none yet: one that the slot holds, or the next free one.
func (c *claim) free(i int) *Refusal {
	if c.picks[i].found {
		return nil
	}
	p := c.picks[i].pool
	seg := c.book.segments[p.network]
	for _, l := range c.held {
		if l.GetPool() != p.name || l.GetNetwork() != p.network {
			continue
		}
		a, ok := parse(l.GetAddress())
		if !ok || c.picked(p.network, a) {
			continue
		}
		// An address is its instance's until it is scaled in: one that cannot work is not swapped behind its back.
		if !p.gives(a) {
			if r, wire := seg.obstacle(p, a); wire {
				return refuse(r.Reason, "%s holds %s, but %s; or scale it in to give the address up",
					name(c.want.Namespace, c.want.App, c.want.Slot), a, r.Message)
			}
		}
		c.picks[i] = pick{pool: p, addr: a, kept: l, found: true}
		return nil
	}
	a, ok := p.choose(func(a address) bool { return c.picked(p.network, a) })
	if !ok {
		return p.exhausted()
	}
	c.picks[i] = pick{pool: p, addr: a, found: true}
	return nil
}

// picked tells whether an earlier wish of this call has the address.
func (c *claim) picked(network string, a address) bool {
	return slices.ContainsFunc(c.picks, func(k pick) bool { return k.found && k.addr == a && k.pool.network == network })
}

// commit enters the picks and returns the leases in the order of the wishes.
func (c *claim) commit() []*padisv1.LeaseRecord {
	c.order()
	at := c.want.NowMs
	if n := len(c.held); n > 0 {
		at = max(at, c.held[n-1].GetLeasedMs()+1)
	}
	out := make([]*padisv1.LeaseRecord, len(c.picks))
	held := c.held
	for i, k := range c.picks {
		if out[i] = k.kept; k.kept != nil {
			continue
		}
		l := &padisv1.LeaseRecord{
			Address: k.addr.String(), Pool: k.pool.name, Network: k.pool.network, LeasedMs: at,
			AppUid: c.want.Slot.AppUID, Slot: c.want.Slot.Index, Namespace: c.want.Namespace, App: c.want.App,
		}
		held = c.enter(held, k, l)
		// Everything before a free choice is used up; a fixed address says nothing of those before it.
		if !c.isFixed(i) {
			k.pool.advance(k.addr)
		}
		out[i] = l
	}
	if len(held) > 0 {
		slices.SortFunc(held, byAge)
		c.book.slots[c.want.Slot] = held
	}
	return out
}

// order sorts the freely chosen new addresses of each pool among their wishes. The record of a lease does not say which
// interface it is for; by age and address it follows, as long as this order holds.
func (c *claim) order() {
	for i := range c.picks {
		for j := i + 1; j < len(c.picks); j++ {
			x, y := &c.picks[i], &c.picks[j]
			if x.pool == y.pool && x.kept == nil && y.kept == nil && !c.isFixed(i) && !c.isFixed(j) && y.addr < x.addr {
				x.addr, y.addr = y.addr, x.addr
			}
		}
	}
}

func (c *claim) isFixed(i int) bool {
	_, ok := fixedAddress(c.want.Networks[i], c.want.Slot.Index)
	return ok
}

// enter books one new lease and returns the leases of the slot with it. If the slot held the address by another pool
// of the network, the new lease takes the place of the old one, under the same key.
func (c *claim) enter(held []*padisv1.LeaseRecord, k pick, l *padisv1.LeaseRecord) []*padisv1.LeaseRecord {
	seg := c.book.segments[k.pool.network]
	held = slices.Clone(held)
	if before := seg.leases[k.addr]; before != nil {
		held = slices.DeleteFunc(held, func(h *padisv1.LeaseRecord) bool { return h == before })
		if p := c.book.pools[before.GetPool()]; p != nil && p.network == k.pool.network {
			p.leased--
		}
	} else {
		for _, p := range seg.pools {
			if p.gives(k.addr) {
				p.taken++
			}
		}
	}
	seg.leases[k.addr] = l
	k.pool.leased++
	seg.settle(k.addr)
	return append(held, l)
}

// open finds a pool that the namespace may use.
func (b *Book) open(poolName, namespace string) (*pool, *Refusal) {
	p := b.pools[poolName]
	switch {
	case p == nil:
		return nil, noPool(poolName)
	case !p.serves(namespace):
		return nil, refuse(padisv1.ReasonPoolForbidden,
			"pool %q is not open to namespace %q; use another pool, or add the namespace to the pool's namespaces", p.name, namespace)
	case p.problem != "":
		return nil, p.unusable()
	case b.networks[p.network] == nil:
		return nil, p.noNetwork()
	}
	return p, nil
}

func (p *pool) exhausted() *Refusal {
	return refuse(padisv1.ReasonPoolExhausted,
		"pool %q has no free address: of %d that it can hand out, %d are leased and %d are kept for instances that name them; widen its cidr or ranges, or scale an App in",
		p.name, p.capacity, p.taken, p.aside())
}

func (p *pool) unusable() *Refusal {
	return refuse(padisv1.ReasonPoolNotFound, "pool %q cannot be used because %s; correct the IPPool", p.name, p.problem)
}

func (p *pool) noNetwork() *Refusal {
	return refuse(padisv1.ReasonNetworkNotFound, "pool %q belongs to network %q, which does not exist; create the Network, or correct the pool's network",
		p.name, p.network)
}

func noPool(poolName string) *Refusal {
	return refuse(padisv1.ReasonPoolNotFound, "there is no pool %q; create the IPPool, or correct the App's networks", poolName)
}

func notAnAddress(text, poolName string) *Refusal {
	return refuse(padisv1.ReasonAddressOutsidePool, "%q is not an IPv4 address, so it is not in pool %q; correct the App's networks", text, poolName)
}

// name is NAMESPACE/APP-SLOT, as the instance is called.
func name(namespace, app string, slot record.Slot) string {
	return fmt.Sprintf("%s/%s-%d", namespace, app, slot.Index)
}
