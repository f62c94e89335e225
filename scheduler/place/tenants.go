package place

import (
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// presence is a set of hosts. The nil presence is empty.
type presence struct{ hosts []bool }

func (p *presence) on(host int32) bool { return p != nil && p.hosts[host] }

func (p *presence) put(host int32) { p.hosts[host] = true }

// tenant numbers a tenant.
func (w *world) tenant(name string) int32 {
	id, ok := w.tenantIDs[name]
	if !ok {
		id = int32(len(w.enemies))
		w.tenantIDs[name] = id
		w.enemies = append(w.enemies, nil)
	}
	return id
}

// meet records who must not share a host with whom. Naming it on one side is enough; a tenant that names itself wants
// its instances on a host each.
func (w *world) meet(tenants []*padisv1.Tenant) {
	for _, t := range tenants {
		a := w.tenant(t.GetName())
		for _, name := range t.GetNotColocatedWith() {
			b := w.tenant(name)
			w.enemies[a] = union(w.enemies[a], b)
			w.enemies[b] = union(w.enemies[b], a)
		}
	}
}

func union(set []int32, n int32) []int32 {
	if slices.Contains(set, n) {
		return set
	}
	return append(set, n)
}

// dedicate records which agents are dedicated to whom. An agent that several tenants select serves all of these.
func (w *world) dedicate(tenants []*padisv1.Tenant) {
	w.owned = make([]bool, len(w.agents))
	for _, t := range tenants {
		if len(t.GetDedicated()) == 0 {
			continue
		}
		id := w.tenant(t.GetName())
		if w.owners[id] == nil {
			w.owners[id] = make([]bool, len(w.agents))
		}
		for _, sel := range t.GetDedicated() {
			c := w.column(sel.GetAttribute())
			for i, v := range c.of {
				if v != missing && c.values[v] == sel.GetValue() {
					w.owners[id][i], w.owned[i] = true, true
				}
			}
		}
	}
}

// presence returns the hosts of a tenant.
func (w *world) presence(tenant int32) *presence {
	p := w.present[tenant]
	if p == nil {
		p = &presence{make([]bool, len(w.hosts.values))}
		w.present[tenant] = p
	}
	return p
}

// foes returns the hosts that a tenant must keep away from.
func (w *world) foes(tenant int32) *presence {
	if len(w.enemies[tenant]) == 0 {
		return nil
	}
	p := w.against[tenant]
	if p == nil {
		p = &presence{make([]bool, len(w.hosts.values))}
		for _, e := range w.enemies[tenant] {
			for host, there := range w.presence(e).hosts {
				p.hosts[host] = p.hosts[host] || there
			}
		}
		w.against[tenant] = p
	}
	return p
}
