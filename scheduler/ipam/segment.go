package ipam

import (
	"maps"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// segment is what shares one network: pools, which may overlap, and leases, which may not.
type segment struct {
	pools  []*pool
	leases map[address]*padisv1.LeaseRecord
	// fixed counts the wishes for an address. It is not chosen freely then, so that it is there when its slot comes.
	fixed map[address]int
}

func newSegment() *segment {
	return &segment{leases: map[address]*padisv1.LeaseRecord{}, fixed: map[address]int{}}
}

// settle brings the pools in line after a lease or a fixed wish came or went.
func (s *segment) settle(a address) {
	choosable := s.leases[a] == nil && s.fixed[a] == 0
	for _, p := range s.pools {
		switch {
		case !p.gives(a):
		case choosable:
			p.put(a)
		default:
			p.take(a)
		}
	}
}

// obstacle says why the pool does not give the address; nil if it does. wire is true if the address can work nowhere on
// the network, false if it is only not meant to be handed out.
func (s *segment) obstacle(p *pool, a address) (r *Refusal, wire bool) {
	if !p.contains(a) {
		return refuse(padisv1.ReasonAddressOutsidePool,
			"%s is not in %s of pool %q; choose an address of the pool, or widen its cidr", a, p.prefix, p.name), true
	}
	for _, q := range s.pools {
		var what string
		switch {
		case q.problem != "":
			continue
		case q.gated && a == q.gateway:
			what = "gateway"
		case q.hasEdges() && a == q.subnet.from:
			what = "network address"
		case q.hasEdges() && a == q.subnet.to:
			what = "broadcast address"
		default:
			continue
		}
		return refuse(padisv1.ReasonAddressReserved, "%s is the %s of pool %q; choose another address", a, what, q.name), true
	}
	if within(p.reserved, a) {
		return refuse(padisv1.ReasonAddressReserved,
			"%s is reserved in pool %q; choose another address, or take it out of the pool's reserved", a, p.name), false
	}
	if !within(p.ranges, a) {
		return refuse(padisv1.ReasonAddressOutsidePool,
			"%s is not in the ranges of pool %q; choose an address of the ranges, or widen them", a, p.name), false
	}
	return nil, false
}

func within(list []interval, a address) bool {
	return slices.ContainsFunc(list, func(r interval) bool { return r.from <= a && a <= r.to })
}

// wish is a fixed address of a slot.
type wish struct {
	pool, namespace string
	address         address
}

// SetCluster replaces all networks and pools. No lease is ended: those that a pool no longer covers are kept and
// flagged. The order in which freed addresses wait is kept.
func (b *Book) SetCluster(cluster *padisv1.Cluster) {
	old := b.pools
	b.networks = make(map[string]*padisv1.Network, len(cluster.GetNetworks()))
	for _, n := range cluster.GetNetworks() {
		b.networks[n.GetName()] = n
	}
	for name, seg := range b.segments {
		if seg.pools, seg.fixed = nil, map[address]int{}; len(seg.leases) == 0 {
			delete(b.segments, name)
		}
	}
	b.pools = make(map[string]*pool, len(cluster.GetPools()))
	for _, spec := range cluster.GetPools() {
		if b.pools[spec.GetName()] != nil {
			continue
		}
		p := newPool(spec)
		b.pools[p.name] = p
		seg := b.segment(p.network)
		seg.pools = append(seg.pools, p)
	}
	for _, seg := range b.segments {
		for _, p := range seg.pools {
			p.fill(seg.pools)
		}
	}
	b.countLeases(old)
	for _, list := range b.wishes {
		b.setAside(list, 1)
	}
}

// countLeases enters all leases into freshly filled pools and puts the cursors and queues where they were in the old
// ones. A pool that is new goes on behind its latest lease.
func (b *Book) countLeases(old map[string]*pool) {
	latest := map[*pool]*padisv1.LeaseRecord{}
	for network, seg := range b.segments {
		for a, l := range seg.leases {
			for _, p := range seg.pools {
				if p.gives(a) {
					p.taken++
				}
			}
			seg.settle(a)
			p := b.pools[l.GetPool()]
			if p == nil || p.network != network {
				continue
			}
			p.leased++
			if have := latest[p]; p.contains(a) && (have == nil || byAge(have, l) < 0) {
				latest[p] = l
			}
		}
	}
	for _, p := range b.pools {
		if p.problem != "" {
			continue
		}
		if o := old[p.name]; o != nil && o.problem == "" && o.network == p.network {
			p.inherit(o)
		} else if l := latest[p]; l != nil {
			a, _ := parse(l.GetAddress())
			p.advance(a)
		}
	}
}

// inherit takes over the order of an earlier form of the pool.
func (p *pool) inherit(o *pool) {
	if c := o.at(o.cursor); p.contains(c) {
		p.cursor = p.index(c)
	}
	for _, e := range o.queue.order() {
		a := o.at(e.index)
		if p.contains(a) && p.fresh.has(p.index(a)) {
			p.take(a)
			p.put(a)
		}
	}
}

// advance puts the cursor behind an address.
func (p *pool) advance(a address) {
	p.cursor = p.index(a) + 1
	if a == p.subnet.to {
		p.cursor = 0
	}
}

// SetApps replaces the fixed addresses of all Apps. Fixed addresses are not chosen freely for other slots, whether their
// slot exists yet or not, so that they are there when it comes.
func (b *Book) SetApps(apps []*padisv1.WantedApp) {
	gone := make(map[string]bool, len(b.wishes))
	for uid := range b.wishes {
		gone[uid] = true
	}
	for _, app := range apps {
		delete(gone, app.GetUid())
		b.SetApp(app)
	}
	// In order, because the addresses that become free queue up.
	for _, uid := range slices.Sorted(maps.Keys(gone)) {
		b.ForgetApp(uid)
	}
}

// SetApp replaces the fixed addresses of one App.
func (b *Book) SetApp(app *padisv1.WantedApp) {
	uid := app.GetUid()
	var list []wish
	for _, r := range app.GetRevisions() {
		for _, n := range r.GetNetworks() {
			for _, s := range n.GetAddresses() {
				if a, ok := parse(s); ok {
					list = append(list, wish{pool: n.GetPool(), namespace: app.GetNamespace(), address: a})
				}
			}
		}
	}
	if slices.Equal(list, b.wishes[uid]) {
		return
	}
	// New before old: an address in both never becomes free in between.
	b.setAside(list, 1)
	b.ForgetApp(uid)
	if len(list) > 0 {
		b.wishes[uid] = list
	}
}

// ForgetApp ends the fixed addresses of one App. Its leases stay.
func (b *Book) ForgetApp(uid string) {
	b.setAside(b.wishes[uid], -1)
	delete(b.wishes, uid)
}

// setAside counts wishes in (1) or out (-1). Wishes that would be refused keep nothing back, or any namespace could
// empty a pool that it must not use.
func (b *Book) setAside(list []wish, n int) {
	for _, w := range list {
		p := b.pools[w.pool]
		if p == nil || !p.gives(w.address) || !p.serves(w.namespace) {
			continue
		}
		seg := b.segments[p.network]
		if seg.fixed[w.address] += n; seg.fixed[w.address] == 0 {
			delete(seg.fixed, w.address)
		}
		seg.settle(w.address)
	}
}

// fixedAddress is the address that the wish names for the slot.
func fixedAddress(n *padisv1.NetworkWish, slot int32) (string, bool) {
	if list := n.GetAddresses(); slot >= 0 && int(slot) < len(list) && list[slot] != "" {
		return list[slot], true
	}
	return "", false
}

// instance names a lease's holder for people.
func instance(l *padisv1.LeaseRecord) string { return name(l.GetNamespace(), l.GetApp(), slotOf(l)) }
