package ipam

import (
	"fmt"
	"maps"
	"slices"
)

// Rotation is which free address of a pool comes next. No ledger keeps it; a Book that was made of the same leases gives the
// same answers with it.
type Rotation struct {
	Pool    string
	network string
	cursor  address
	// freed wait in this order.
	freed []address
}

// String tells two of them apart.
func (r Rotation) String() string {
	return fmt.Sprint(r.network, " ", r.Pool, " ", r.cursor, " ", r.freed)
}

// Rotations gives those of all pools, by name.
func (b *Book) Rotations() []Rotation {
	var out []Rotation
	for _, name := range slices.Sorted(maps.Keys(b.pools)) {
		p := b.pools[name]
		if p.problem != "" {
			continue
		}
		r := Rotation{Pool: name, network: p.network, cursor: p.cursor}
		if d, ok := p.free.(*dense); ok {
			for _, e := range d.queue.order() {
				r.freed = append(r.freed, d.at(e.index))
			}
		}
		out = append(out, r)
	}
	return out
}

// Resume goes on where another Book of the same pools was.
func (b *Book) Resume(rotations []Rotation) {
	for _, r := range rotations {
		p := b.pools[r.Pool]
		if p == nil || p.problem != "" || p.network != r.network {
			continue
		}
		if p.contains(r.cursor) {
			p.cursor = r.cursor
		}
		d, ok := p.free.(*dense)
		for _, a := range r.freed {
			if ok && d.given.has(a) && d.fresh.has(d.index(a)) {
				d.take(a)
				d.put(a)
			}
		}
	}
}
