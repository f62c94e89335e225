package ipam

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// end ends leases and holds what shall be written against the definitions.
func (w *world) end(t *rapid.T, leases []*padisv1.LeaseRecord) {
	w.twin.End(w.now, leases...)
	ended := w.book.End(w.now, leases...)
	if len(ended) != len(leases) || len(w.book.End(w.now, leases...)) != 0 {
		t.Fatalf("of %v ended %v", leases, ended)
	}
	for i, e := range ended {
		key := record.LeaseKey(e.Lease.GetNetwork(), e.Lease.GetAddress())
		cools := w.pool(e.Lease.GetPool()).GetReuseDelayMs() > 0
		if e.Lease != leases[i] || (e.Cooling != nil) != cools || rests(e.Lease) {
			t.Fatalf("ended %v: %v, cooling %v", leases[i], e.Lease, e.Cooling)
		}
		if !cools {
			delete(w.leases, key)
			continue
		}
		same := proto.CloneOf(e.Cooling)
		if same.ReleasedMs = 0; e.Cooling.GetReleasedMs() != w.now || !proto.Equal(same, e.Lease) {
			t.Fatalf("%v cools as %v at %d", e.Lease, e.Cooling, w.now)
		}
		w.leases[key] = e.Cooling
	}
}

// cool lets time end the rests, and compares.
func (w *world) cool(t *rapid.T) {
	over, next := w.book.Cool(w.now)
	if other, n := w.twin.Cool(w.now); n != next || !slices.EqualFunc(over, other, func(a, b *padisv1.LeaseRecord) bool { return proto.Equal(a, b) }) {
		t.Fatalf("the book says %v, %d; its twin %v, %d", over, next, other, n)
	}
	var due, later int64
	for _, l := range w.leases {
		switch {
		case !rests(l):
		case w.until(l) <= w.now:
			due++
		case later == 0 || w.until(l) < later:
			later = w.until(l)
		}
	}
	if int64(len(over)) != due || next != later {
		t.Fatalf("at %d over %v, next at %d; should be %d, next at %d", w.now, over, next, due, later)
	}
	for _, l := range over {
		key := record.LeaseKey(l.GetNetwork(), l.GetAddress())
		if w.leases[key] != l || w.until(l) > w.now {
			t.Fatalf("%v is over at %d", l, w.now)
		}
		delete(w.leases, key)
	}
}
