package ipam

import (
	"cmp"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Ended is a lease that has ended.
type Ended struct {
	Lease *padisv1.LeaseRecord
	// Cooling takes the place of the lease in the ledger, under the same key; nil if the record shall be deleted.
	Cooling *padisv1.LeaseRecord
}

// End ends leases and returns what to write for each, in the order given; those that are not held are left out. If the
// pool has a reuse delay, the address cools from nowMs (Unix milliseconds) on; otherwise it is handed out again after all
// others.
func (b *Book) End(nowMs int64, leases ...*padisv1.LeaseRecord) []Ended {
	var out []Ended
	for _, l := range leases {
		held := b.strike(l)
		if held == nil {
			continue
		}
		e := Ended{Lease: held}
		if _, ok := parse(held.GetAddress()); ok && b.pools[held.GetPool()].reuseDelay() > 0 {
			e.Cooling = proto.CloneOf(held)
			e.Cooling.ReleasedMs = max(nowMs, 1)
		}
		b.vacate(held, e.Cooling)
		if e.Cooling != nil {
			b.rest(e.Cooling)
		}
		out = append(out, e)
	}
	return out
}

// Cool ends the rest of the leases whose time is over and returns them, in the order in which they ended: they shall be
// deleted from the ledger, unless a later Lease gives the address to somebody. Until it is called, they rest. nextMs is
// when the next one is due, in Unix milliseconds; 0 if none rests. A lease whose pool is gone has no delay to wait for.
func (b *Book) Cool(nowMs int64) (over []*padisv1.LeaseRecord, nextMs int64) {
	for from, list := range b.resting {
		delay := b.pools[from.pool].reuseDelay()
		n := 0
		for n < len(list) && due(list[n], delay) <= nowMs {
			n++
		}
		over = append(over, list[:n]...)
		if n < len(list) {
			if at := due(list[n], delay); nextMs == 0 || at < nextMs {
				nextMs = at
			}
		}
	}
	// In order, because the addresses queue up.
	slices.SortFunc(over, func(x, y *padisv1.LeaseRecord) int {
		return cmp.Or(cmp.Compare(b.until(x), b.until(y)), byRelease(x, y))
	})
	for _, l := range over {
		b.wake(l)
	}
	over = append(over, b.unreadable...)
	b.unreadable = nil
	return over, nextMs
}

// rest enters a lease that cools.
func (b *Book) rest(l *padisv1.LeaseRecord) {
	list := b.resting[originOf(l)]
	i, _ := slices.BinarySearchFunc(list, l, byRelease)
	b.resting[originOf(l)] = slices.Insert(list, i, l)
	b.former[ownerOf(l)] = append(b.former[ownerOf(l)], l)
	b.countInPool(l, 1)
}

// wake ends the rest of a lease and tells whether it rested.
func (b *Book) wake(l *padisv1.LeaseRecord) bool {
	l = b.unrest(l)
	if l == nil {
		return false
	}
	b.vacate(l, nil)
	return true
}

// unrest takes a lease out of those that rest, and returns the one that it found; nil if there is none. Its address is
// left to the caller.
func (b *Book) unrest(l *padisv1.LeaseRecord) *padisv1.LeaseRecord {
	from := originOf(l)
	list := b.resting[from]
	i, ok := slices.BinarySearchFunc(list, l, byRelease)
	if !ok {
		return nil
	}
	l = list[i]
	// Most rests end at the head; what is before it is not moved.
	if i == 0 {
		list[0] = nil
		list = list[1:]
	} else {
		list = slices.Delete(list, i, i+1)
	}
	if b.resting[from] = list; len(list) == 0 {
		delete(b.resting, from)
	}
	was := ownerOf(l)
	left := slices.DeleteFunc(b.former[was], func(f *padisv1.LeaseRecord) bool { return f == l })
	if b.former[was] = left; len(left) == 0 {
		delete(b.former, was)
	}
	return l
}

// until is when a lease that rests is over.
func (b *Book) until(l *padisv1.LeaseRecord) int64 { return due(l, b.pools[l.GetPool()].reuseDelay()) }

func due(l *padisv1.LeaseRecord, delay int64) int64 {
	if l.GetReleasedMs() > math.MaxInt64-delay {
		return math.MaxInt64
	}
	return l.GetReleasedMs() + delay
}

// nextRested is when the first of the pool's addresses that rest can be chosen by anybody; false if none will be.
func (b *Book) nextRested(p *pool) (atMs int64, ok bool) {
	seg := b.segments[p.network]
	for from, list := range b.resting {
		if from.network != p.network {
			continue
		}
		i := slices.IndexFunc(list, func(l *padisv1.LeaseRecord) bool {
			a, _ := parse(l.GetAddress())
			u := seg.uses[a]
			return p.gives(a) && u.fixed == 0 && u.foreign == ""
		})
		if i >= 0 && (!ok || b.until(list[i]) < atMs) {
			atMs, ok = b.until(list[i]), true
		}
	}
	return atMs, ok
}

// origin is where a lease was taken from.
type origin struct{ network, pool string }

func originOf(l *padisv1.LeaseRecord) origin { return origin{l.GetNetwork(), l.GetPool()} }

// owner is a slot by its name. An App that was deleted and made again has another uid, but the same name.
type owner struct {
	namespace, app string
	slot           int32
}

func ownerOf(l *padisv1.LeaseRecord) owner { return owner{l.GetNamespace(), l.GetApp(), l.GetSlot()} }

func (c *claim) owner() owner { return owner{c.want.Namespace, c.want.App, c.want.Slot.Index} }

// byRelease orders the leases that rest by when they ended; no two of one network are equal.
func byRelease(x, y *padisv1.LeaseRecord) int {
	return cmp.Or(cmp.Compare(x.GetReleasedMs(), y.GetReleasedMs()), byAge(x, y))
}

// moment writes Unix milliseconds, rounded up to the second, so that nobody comes too early.
func moment(ms int64) string {
	at := time.UnixMilli(ms).UTC()
	if whole := at.Truncate(time.Second); !whole.Equal(at) {
		at = whole.Add(time.Second)
	}
	return at.Format(time.RFC3339)
}
