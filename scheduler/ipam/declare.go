package ipam

import (
	"cmp"
	"maps"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// SetCluster replaces all networks, pools and tenants. No lease is ended: those that a pool no longer covers are kept and
// flagged. The order in which freed addresses wait is kept; how long others rest is what their pool says now.
func (b *Book) SetCluster(cluster *padisv1.Cluster) {
	old := b.pools
	b.networks = make(map[string]*padisv1.Network, len(cluster.GetNetworks()))
	for _, n := range cluster.GetNetworks() {
		b.networks[n.GetName()] = n
	}
	b.tenants = make(map[string]*padisv1.Tenant, len(cluster.GetTenants()))
	for _, t := range cluster.GetTenants() {
		b.tenants[t.GetName()] = t
	}
	for name, seg := range b.segments {
		seg.pools = nil
		for a, u := range seg.uses {
			if u.fixed > 0 {
				u.fixed = 0
				seg.set(a, u)
			}
		}
		b.tidy(name)
	}
	b.pools = make(map[string]*pool, len(cluster.GetPools()))
	for _, spec := range cluster.GetPools() {
		if b.pools[spec.GetName()] != nil {
			continue
		}
		p := newPool(spec)
		p.virtual = b.networks[p.network].GetDriver() == driverVirtual
		b.pools[p.name] = p
		seg := b.segment(p.network)
		seg.pools = append(seg.pools, p)
	}
	for _, seg := range b.segments {
		for _, p := range seg.pools {
			p.fill(seg.pools, b.dense)
		}
		seg.enter()
	}
	b.countLeases()
	b.resume(old)
	for _, list := range b.wishes {
		b.setAside(list, 1)
	}
}

// countLeases counts the leases of pools that were just made.
func (b *Book) countLeases() {
	for _, held := range b.slots {
		for _, l := range held {
			b.countInPool(l, 1)
		}
	}
	for _, list := range b.resting {
		for _, l := range list {
			b.countInPool(l, 1)
		}
	}
}

// resume puts the cursors and queues of pools where they were in the old ones. A pool that is new goes on behind its
// latest lease.
func (b *Book) resume(old map[string]*pool) {
	type last struct {
		at    address
		lease *padisv1.LeaseRecord
	}
	latest := map[*pool]last{}
	for network, seg := range b.segments {
		for a, u := range seg.uses {
			p := b.pools[u.lease.GetPool()]
			if u.lease == nil || p == nil || p.network != network || !p.contains(a) {
				continue
			}
			if have := latest[p].lease; have == nil || byAge(have, u.lease) < 0 {
				latest[p] = last{a, u.lease}
			}
		}
	}
	for _, p := range b.pools {
		if o := old[p.name]; o != nil && o.problem == "" && o.network == p.network {
			p.inherit(o)
		} else if l, ok := latest[p]; ok {
			p.advance(l.at)
		}
	}
}

// wish is a fixed address of a slot.
type wish struct {
	pool, namespace, app string
	slot                 int32
	address              address
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
			if onHost(n) {
				continue
			}
			for i, s := range n.GetAddresses() {
				if a, ok := parse(s); ok {
					list = append(list, wish{n.GetPool(), app.GetNamespace(), app.GetName(), int32(i), a})
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

// setAside counts wishes in (1) or out (-1).
func (b *Book) setAside(list []wish, n int) {
	for _, w := range list {
		if p := b.pools[w.pool]; b.grants(w) {
			seg := b.segments[p.network]
			u := seg.uses[w.address]
			u.fixed += n
			seg.set(w.address, u)
		}
	}
}

// grants tells whether a fixed address is set aside. Wishes that would be refused keep nothing back, or any namespace
// could empty a pool that it must not use.
func (b *Book) grants(w wish) bool {
	p := b.pools[w.pool]
	return p != nil && !p.virtual && p.gives(w.address) && p.serves(w.namespace)
}

// SetForeign replaces the addresses of one network that somebody has without a lease: those of the hosts' own interfaces,
// and those that were seen in a conflict. Each comes with who it is, as in "10.0.0.7 is used by WHO". None of them is
// chosen freely, and a fixed wish for one is refused; leases that are held stay. What is no address is passed over.
// The Book does not persist them: a new one must be told again.
func (b *Book) SetForeign(network string, addresses map[string]string) {
	foreign := make(map[address]string, len(addresses))
	for s, who := range addresses {
		if a, ok := parse(s); ok {
			// Two written forms of one address: the answer must not depend on the order of the map.
			foreign[a] = max(foreign[a], cmp.Or(who, "a stranger"))
		}
	}
	seg := b.segment(network)
	for _, a := range seg.foreign {
		if _, still := foreign[a]; !still {
			foreign[a] = ""
		}
	}
	seg.foreign = nil
	// In order, because the addresses that become free queue up.
	for _, a := range slices.SortedFunc(maps.Keys(foreign), address.compare) {
		u := seg.uses[a]
		if u.foreign = foreign[a]; u.foreign != "" {
			seg.foreign = append(seg.foreign, a)
		}
		seg.set(a, u)
	}
	b.tidy(network)
}
