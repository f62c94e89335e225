package ipam

import (
	"math"
	"slices"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// tiny is a pool of the addresses .1 and .2, in which addresses rest for a second.
func tiny() *padisv1.Pool {
	return &padisv1.Pool{Name: "web", Cidr: "10.44.0.0/30", ReuseDelayMs: 1000}
}

func TestAFreedAddressRests(t *testing.T) {
	b := New(lan(tiny()), nil)
	take(t, b, want(0))
	take(t, b, want(1))
	var ledger []*padisv1.LeaseRecord
	for i := range int32(2) {
		ended := b.End(int64(5000+i), b.Held(want(i).Slot)...)
		if len(ended) != 1 || ended[0].Cooling.GetReleasedMs() != int64(5000+i) || rests(ended[0].Lease) {
			t.Fatalf("ended %v", ended)
		}
		ledger = append(ledger, ended[0].Cooling)
	}
	// A Book made anew of what was written answers the same.
	for _, b := range []*Book{b, New(lan(tiny()), ledger)} {
		const message = `pool "web" has no free address: of 2 that it can hand out, 0 are leased, 2 rest because they were freed a short time ago ` +
			`(the next one is free at 1970-01-01T00:00:06Z) and 0 are kept for instances that name them; wait, widen its cidr or ranges, or scale an App in`
		if _, r := b.Lease(want(2)); r == nil || r.Reason != padisv1.ReasonPoolExhausted || r.Message != message {
			t.Errorf("got %v", r)
		}
		const fixed = `10.44.0.2 was leased to shop/web-1 and is given to nobody else until 1970-01-01T00:00:07Z; choose another address, or wait`
		if _, r := b.Lease(want(2, &padisv1.NetworkWish{Pool: "web", Addresses: []string{"", "", "10.44.0.2"}})); r == nil || r.Reason != padisv1.ReasonAddressInUse || r.Message != fixed {
			t.Errorf("got %v", r)
		}
		if s, ok := b.State("lan", "10.44.0.2"); !ok || s.State != Cooling || s.UntilMs != 6001 || s.Lease != ledger[1] {
			t.Errorf("state %v", s)
		}
		if u := b.Utilisation("web"); u != (Utilisation{Capacity: 2, Cooling: 2}) {
			t.Errorf("utilisation %+v", u)
		}
		if over, next := b.Cool(5999); len(over) != 0 || next != 6000 {
			t.Errorf("too early: %v, next %d", over, next)
		}
		// Its own slot gets it back, also if the App was made again in between.
		back := want(1)
		back.Slot.AppUID = "u9"
		if got := take(t, b, back); got[0] != "10.44.0.2" {
			t.Errorf("got %v", got)
		}
		if over, next := b.Cool(6000); !slices.Equal(over, ledger[:1]) || next != 0 {
			t.Errorf("over %v, next %d", over, next)
		}
		if got := take(t, b, want(2)); got[0] != "10.44.0.1" {
			t.Errorf("got %v", got)
		}
	}
}

func TestAnAddressThatComesBackDoesNotMoveTheOthers(t *testing.T) {
	p := small()
	p.ReuseDelayMs = 1000
	for _, c := range []struct {
		rests, latest string
		networks      []*padisv1.NetworkWish
		got           []string
		next          string
	}{
		{"10.44.0.2", "10.44.0.4", []*padisv1.NetworkWish{{Pool: "web"}}, []string{"10.44.0.2"}, "10.44.0.5"},
		{"10.44.0.5", "10.44.0.2", []*padisv1.NetworkWish{{Pool: "web"}, {Pool: "web"}}, []string{"10.44.0.3", "10.44.0.5"}, "10.44.0.4"},
	} {
		b := New(lan(p), []*padisv1.LeaseRecord{
			{Address: c.rests, Network: "lan", Pool: "web", Namespace: "shop", App: "web", AppUid: "u0", LeasedMs: 4, ReleasedMs: 6},
			{Address: c.latest, Network: "lan", Pool: "web", Namespace: "shop", App: "db", AppUid: "u9", LeasedMs: 5}})
		if got := take(t, b, want(0, c.networks...)); !slices.Equal(got, c.got) {
			t.Errorf("got %v, want %v", got, c.got)
		}
		if got := take(t, b, want(1)); got[0] != c.next {
			t.Errorf("the next one is %v, want %s", got, c.next)
		}
	}
}

func TestRestsEndInTheirOrder(t *testing.T) {
	pools := []*padisv1.Pool{{Name: "a", Cidr: "10.44.0.0/24", ReuseDelayMs: 3000}, {Name: "b", Cidr: "10.44.1.0/24", ReuseDelayMs: 1000},
		{Name: "c", Cidr: "10.44.2.0/24", ReuseDelayMs: 2000}}
	b := New(lan(pools...), nil)
	for i, p := range pools {
		take(t, b, want(int32(i), &padisv1.NetworkWish{Pool: p.Name}))
		b.End(5000, b.Held(want(int32(i)).Slot)...)
	}
	over, _ := b.Cool(9000)
	var got []string
	for _, l := range over {
		got = append(got, l.GetAddress())
	}
	if !slices.Equal(got, []string{"10.44.1.1", "10.44.2.1", "10.44.0.1"}) {
		t.Errorf("over %v", got)
	}
}

func TestWhatTurnsUpWhileAnAddressRests(t *testing.T) {
	p := small()
	p.ReuseDelayMs = 1000
	fresh := func() *Book {
		b := New(lan(p), nil)
		take(t, b, want(0))
		b.End(5000, b.Held(want(0).Slot)...)
		return b
	}
	b := fresh()
	b.SetApp(&padisv1.WantedApp{Uid: "u2", Namespace: "shop", Name: "db", Revisions: []*padisv1.Revision{{
		Networks: []*padisv1.NetworkWish{{Pool: "web", Addresses: []string{"10.44.0.2"}}}}}})
	if got := take(t, b, want(0)); got[0] != "10.44.0.3" {
		t.Errorf("its own slot took %v, which another App names by now", got)
	}
	b = fresh()
	b.SetForeign("lan", map[string]string{"10.44.0.2": "node-7"})
	if got := take(t, b, want(0)); got[0] != "10.44.0.3" {
		t.Errorf("its own slot took %v, which a host has by now", got)
	}
	// The pool is gone, or has no delay any more: nothing is waited for.
	for _, cluster := range []*padisv1.Cluster{nil, lan(small())} {
		b = fresh()
		b.SetCluster(cluster)
		if over, next := b.Cool(5000); len(over) != 1 || next != 0 {
			t.Errorf("over %v, next %d", over, next)
		}
	}
	p.ReuseDelayMs = math.MaxInt64
	b = fresh()
	if over, next := b.Cool(math.MaxInt64 - 1); len(over) != 0 || next != math.MaxInt64 {
		t.Errorf("over %v, next %d", over, next)
	}
	if s, _ := b.State("lan", "10.44.0.2"); !b.Free(s.Lease) {
		t.Error("the rest was not ended")
	}
	if s, _ := b.State("lan", "10.44.0.2"); s.State != Unallocated {
		t.Errorf("state %v", s)
	}
}

func TestARestThatCannotBeReadIsDeleted(t *testing.T) {
	bad := &padisv1.LeaseRecord{Address: "ten", Network: "lan", Pool: "web", AppUid: "u1", ReleasedMs: 5}
	b := New(lan(tiny()), []*padisv1.LeaseRecord{bad})
	if len(b.Flagged()) != 0 || len(b.Held(want(0).Slot)) != 0 {
		t.Error("it is held")
	}
	for i := range 2 {
		if over, _ := b.Cool(6); len(over) != 1-i {
			t.Errorf("over %v", over)
		}
	}
}
