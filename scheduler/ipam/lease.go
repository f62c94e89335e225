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
	// taken are the picks that were found, by what no two may share.
	taken map[place]bool
}

// place is an address on its network.
type place struct {
	network string
	address address
}

// driverHost gives instances the addresses of their host.
const driverHost = "host"

// driverVirtual has no segment: pools of its networks give VIPs to LoadBalancers, and nothing to instances.
const driverVirtual = "virtual"

// onHost tells whether the wish is for the host's own network, and needs no address.
func onHost(n *padisv1.NetworkWish) bool { return n.GetNetwork() != "" }

// pick is what was found for one wish; without a pool, that it needs nothing.
type pick struct {
	pool  *pool
	addr  address
	kept  *padisv1.LeaseRecord // nil for a new lease
	again bool                 // the slot had the address before
	found bool
}

// fixed checks the pool of wish i and, if the wish names an address for the slot, picks it.
func (c *claim) fixed(i int, n *padisv1.NetworkWish) *Refusal {
	if onHost(n) {
		return c.host(n.GetNetwork())
	}
	p, r := c.open(n.GetPool())
	if r != nil {
		return r
	}
	c.picks[i].pool = p
	text, ok := fixedAddress(n, c.want.Slot.Index)
	if !ok {
		return nil
	}
	a, ok := parse(text)
	if !ok || a.is4() != p.subnet.from.is4() {
		return p.notAnAddress(text, c.want.Slot)
	}
	seg := c.book.segments[p.network]
	if c.picked(p.network, a) {
		return refuse(padisv1.ReasonAddressInUse, "%s is wished for twice by %s; give each of its networks an address of its own",
			a, c.name())
	}
	u := seg.uses[a]
	mine := u.class() == classHeld && slotOf(u.lease) == c.want.Slot
	switch {
	case mine:
	case u.class() == classHeld:
		return refuse(padisv1.ReasonAddressInUse, "%s is leased to %s; choose another address, or scale that instance in",
			a, instance(u.lease))
	case u.class() == classResting && ownerOf(u.lease) != c.owner():
		return refuse(padisv1.ReasonAddressInUse, "%s was leased to %s and is given to nobody else until %s; choose another address, or wait",
			a, instance(u.lease), moment(c.book.until(u.lease)))
	case u.foreign != "":
		return refuse(padisv1.ReasonAddressInUse, "%s is used by %s; choose another address, or take it away there", a, u.foreign)
	}
	keep := mine && u.lease.GetPool() == p.name
	if o := seg.obstacle(p, a); o != nil && (o.wire || !keep) {
		return o.refusal(a)
	}
	found := pick{pool: p, addr: a, found: true}
	if keep {
		found.kept = u.lease
	}
	c.pick(i, found)
	return nil
}

func (c *claim) pick(i int, p pick) {
	c.picks[i] = p
	if len(c.picks) > 1 { // One cannot have another's.
		if c.taken == nil {
			c.taken = map[place]bool{}
		}
		c.taken[place{p.pool.network, p.addr}] = true
	}
}

// host checks a wish for the host's own network.
func (c *claim) host(network string) *Refusal {
	n := c.book.networks[network]
	switch {
	case n == nil:
		return refuse(padisv1.ReasonNetworkNotFound, "there is no network %q; create the Network, or correct the App's networks", network)
	case n.GetDriver() != driverHost:
		return refuse(padisv1.ReasonNetworkNotFound,
			"network %q has the driver %q, so its instances need addresses; name one of its pools, or a network with the driver %s",
			network, n.GetDriver(), driverHost)
	}
	return nil
}

// free finds an address for wish i, if it has none yet: one that the slot holds, one that it had, or the next free one.
func (c *claim) free(i int) *Refusal {
	p := c.picks[i].pool
	if c.picks[i].found || p == nil {
		return nil
	}
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
		if o := seg.obstacle(p, a); o != nil && o.wire {
			return refuse(o.reason, "%s holds %s, but %s; or scale it in to give the address up", c.name(), a, o.refusal(a).Message)
		}
		c.pick(i, pick{pool: p, addr: a, kept: l, found: true})
		return nil
	}
	a, again := c.former(p)
	if !again {
		var ok bool
		if a, ok = p.free.choose(p.cursor, func(a address) bool { return c.picked(p.network, a) }); !ok {
			return c.book.exhausted(p)
		}
	}
	c.pick(i, pick{pool: p, addr: a, again: again, found: true})
	return nil
}

// former finds the oldest lease of the pool that cools for this slot.
func (c *claim) former(p *pool) (found address, ok bool) {
	if len(c.book.former) == 0 {
		return address{}, false
	}
	var oldest *padisv1.LeaseRecord
	for _, l := range c.book.former[c.owner()] {
		a, _ := parse(l.GetAddress())
		u := c.book.segments[l.GetNetwork()].uses[a]
		if l.GetPool() == p.name && l.GetNetwork() == p.network && p.gives(a) && u.fixed == 0 && u.foreign == "" &&
			!c.picked(p.network, a) && (oldest == nil || byAge(l, oldest) < 0) {
			found, oldest = a, l
		}
	}
	return found, oldest != nil
}

// picked tells whether an earlier wish of this call has the address.
func (c *claim) picked(network string, a address) bool {
	return c.taken[place{network, a}]
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
		if out[i] = k.kept; k.kept != nil || !k.found {
			continue
		}
		l := &padisv1.LeaseRecord{
			Address: k.addr.String(), Pool: k.pool.name, Network: k.pool.network, LeasedMs: at,
			AppUid: c.want.Slot.AppUID, Slot: c.want.Slot.Index, Namespace: c.want.Namespace, App: c.want.App,
		}
		held = c.enter(held, k, l)
		// Everything before a free choice is used up; a fixed address, or one of old, says nothing of those before it.
		if !c.isFixed(i) && !k.again {
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
			if x.pool == y.pool && x.kept == nil && y.kept == nil && !c.isFixed(i) && !c.isFixed(j) && y.addr.compare(x.addr) < 0 {
				x.addr, y.addr, x.again, y.again = y.addr, x.addr, y.again, x.again
			}
		}
	}
}

func (c *claim) isFixed(i int) bool {
	_, ok := fixedAddress(c.want.Networks[i], c.want.Slot.Index)
	return ok
}

// enter books one new lease and returns the leases of the slot with it. If the slot held the address by another pool
// of the network, or it cooled for the slot, the new lease takes the place of the old one, under the same key.
func (c *claim) enter(held []*padisv1.LeaseRecord, k pick, l *padisv1.LeaseRecord) []*padisv1.LeaseRecord {
	b, seg := c.book, c.book.segments[k.pool.network]
	held = slices.Clone(held)
	u := seg.uses[k.addr]
	if before := u.lease; before != nil {
		b.countInPool(before, -1)
		if rests(before) {
			b.unrest(before)
		} else {
			b.countForTenant(before, -1)
			held = slices.DeleteFunc(held, func(h *padisv1.LeaseRecord) bool { return h == before })
		}
	}
	u.lease = l
	seg.set(k.addr, u)
	b.countInPool(l, 1)
	b.countForTenant(l, 1)
	return append(held, l)
}

// open finds a pool that the claim may use.
func (c *claim) open(poolName string) (*pool, *Refusal) {
	p := c.book.pools[poolName]
	_, vips := c.want.Slot.Balancer()
	switch {
	case p == nil:
		return nil, noPool(poolName, c.want.Slot)
	case !p.serves(c.want.Namespace):
		return nil, refuse(padisv1.ReasonPoolForbidden,
			"pool %q is not open to namespace %q; use another pool, or add the namespace to the pool's namespaces", p.name, c.want.Namespace)
	case p.problem != "":
		return nil, p.unusable()
	case c.book.networks[p.network] == nil:
		return nil, p.noNetwork()
	case p.virtual && !vips:
		return nil, refuse(padisv1.ReasonPoolForbidden, "pool %q belongs to network %q with the driver virtual, whose addresses are for LoadBalancers only; name a pool of another network",
			p.name, p.network)
	case vips && !p.virtual:
		return nil, refuse(padisv1.ReasonPoolForbidden, "pool %q belongs to network %q with the driver %q, whose addresses are for instances; name a pool of a network with the driver virtual",
			p.name, p.network, c.book.networks[p.network].GetDriver())
	}
	return p, nil
}

func noPool(poolName string, slot record.Slot) *Refusal {
	return refuse(padisv1.ReasonPoolNotFound, "there is no pool %q; create the IPPool, or correct the %s", poolName, field(slot))
}

func (p *pool) notAnAddress(text string, slot record.Slot) *Refusal {
	return refuse(padisv1.ReasonAddressOutsidePool, "%q is not an %s address, so it is not in pool %q; correct the %s", text, p.family(), p.name, field(slot))
}

// field is where people write what a slot wants.
func field(slot record.Slot) string {
	if _, ok := slot.Balancer(); ok {
		return "LoadBalancer's vips"
	}
	return "App's networks"
}

// exhausted says what became of all addresses of a pool.
func (b *Book) exhausted(p *pool) *Refusal {
	text := fmt.Sprintf("of %d that it can hand out, %d are leased", p.given.size().int64(), p.uses[classHeld])
	remedy := "widen its cidr or ranges, or scale an App in"
	if n := p.uses[classResting]; n > 0 {
		text += fmt.Sprintf(", %d rest because they were freed a short time ago", n)
		if at, ok := b.nextRested(p); ok {
			text += fmt.Sprintf(" (the next one is free at %s)", moment(at))
			remedy = "wait, widen its cidr or ranges, or scale an App in"
		}
	}
	if n := p.uses[classForeign]; n > 0 {
		text += fmt.Sprintf(", %d are used by others without a lease", n)
	}
	return refuse(padisv1.ReasonPoolExhausted, "pool %q has no free address: %s and %d are kept for instances that name them; %s",
		p.name, text, p.uses[classAside], remedy)
}

func (p *pool) unusable() *Refusal {
	return refuse(padisv1.ReasonPoolNotFound, "pool %q cannot be used because %s; correct the IPPool", p.name, p.problem)
}

func (p *pool) noNetwork() *Refusal {
	return refuse(padisv1.ReasonNetworkNotFound, "pool %q belongs to network %q, which does not exist; create the Network, or correct the pool's network",
		p.name, p.network)
}

// name is NAMESPACE/APP-SLOT, as the instance is called, or that of the LoadBalancer.
func name(namespace, app string, slot record.Slot) string {
	if _, ok := slot.Balancer(); ok {
		return fmt.Sprintf("LoadBalancer %s/%s", namespace, app)
	}
	return fmt.Sprintf("%s/%s-%d", namespace, app, slot.Index)
}

func (c *claim) name() string { return name(c.want.Namespace, c.want.App, c.want.Slot) }

// instance names a lease's holder for people.
func instance(l *padisv1.LeaseRecord) string { return name(l.GetNamespace(), l.GetApp(), slotOf(l)) }

// fixedAddress is the address that the wish names for the slot, in the form in which it was written.
func fixedAddress(n *padisv1.NetworkWish, slot int32) (string, bool) {
	if list := n.GetAddresses(); slot >= 0 && int(slot) < len(list) && list[slot] != "" {
		return list[slot], true
	}
	return "", false
}
