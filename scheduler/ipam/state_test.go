package ipam

import (
	"fmt"
	"slices"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestStrangersAddresses(t *testing.T) {
	b := New(lan(small()), nil)
	b.SetForeign("lan", map[string]string{"10.44.0.2": "node-7 (eth0)", "10.44.0.4": "", "fd00::1": "node-7", "x": "nobody"})
	b.SetForeign("attic", map[string]string{"10.44.0.3": "node-7"})
	if got := take(t, b, want(0)); got[0] != "10.44.0.3" {
		t.Errorf("got %v", got)
	}
	fixed := &padisv1.NetworkWish{Pool: "web", Addresses: []string{"", "10.44.0.2"}}
	const message = `10.44.0.2 is used by node-7 (eth0); choose another address, or take it away there`
	if _, r := b.Lease(want(1, fixed)); r == nil || r.Reason != padisv1.ReasonAddressInUse || r.Message != message {
		t.Errorf("got %v", r)
	}
	// A lease is not taken away because somebody else has the address, too.
	b.SetForeign("lan", map[string]string{"10.44.0.2": "node-7 (eth0)", "10.44.0.3": "02:00:00:00:00:01"})
	if got := take(t, b, want(0)); got[0] != "10.44.0.3" {
		t.Errorf("got %v", got)
	}
	if s, _ := b.State("lan", "10.44.0.3"); s.State != Allocated {
		t.Errorf("state %v", s)
	}
	if u := b.Utilisation("web"); u != (Utilisation{Capacity: 5, Allocated: 1, Foreign: 1, Free: 3}) {
		t.Errorf("utilisation %+v", u)
	}
	b.Release(want(0).Slot)
	for i := range int32(3) {
		take(t, b, want(i)) // .4, .5, .6
	}
	const exhausted = `pool "web" has no free address: of 5 that it can hand out, 3 are leased, 2 are used by others without a lease and 0 are kept for instances that name them; widen its cidr or ranges, or scale an App in`
	if _, r := b.Lease(want(3)); r == nil || r.Message != exhausted {
		t.Errorf("got %v", r)
	}
	b.SetForeign("lan", nil)
	b.SetForeign("attic", nil)
	if got := take(t, b, want(3)); got[0] != "10.44.0.2" {
		t.Errorf("got %v", got)
	}
	if len(b.segments) != 1 {
		t.Errorf("segments %v", b.segments)
	}
}

func TestStatesOfAddresses(t *testing.T) {
	p := &padisv1.Pool{Name: "web", Cidr: "10.44.0.0/27", Gateway: "10.44.0.30",
		Ranges:   []*padisv1.AddressRange{{From: "10.44.0.1", To: "10.44.0.20"}},
		Reserved: []*padisv1.AddressRange{{From: "10.44.0.5", To: "10.44.0.6"}, {From: "10.44.0.7"}, {From: "10.44.0.19", To: "10.44.0.22"}}}
	b := New(lan(p), nil)
	b.SetApp(&padisv1.WantedApp{Uid: "u2", Namespace: "shop", Name: "db", Revisions: []*padisv1.Revision{{
		Networks: []*padisv1.NetworkWish{{Pool: "web", Addresses: []string{"", "10.44.0.12"}}}}}})
	take(t, b, want(0))
	var got []string
	for _, r := range b.Reserved("web") {
		got = append(got, fmt.Sprintf("%s-%s %s", r.From, r.To, r.Note))
	}
	want := []string{
		`10.44.0.0-10.44.0.0 the network address of pool "web"`,
		`10.44.0.5-10.44.0.7 reserved in pool "web"`,
		`10.44.0.12-10.44.0.12 kept for shop/db-1`,
		`10.44.0.19-10.44.0.22 reserved in pool "web"`,
		`10.44.0.23-10.44.0.29 not in the ranges of pool "web"`,
		`10.44.0.30-10.44.0.30 the gateway of pool "web"`,
		`10.44.0.31-10.44.0.31 the broadcast address of pool "web"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("reserved %q", got)
	}
	for address, state := range map[string]State{"10.44.0.1": Allocated, "10.44.0.2": Unallocated, "10.44.0.6": Reserved, "10.44.0.12": Reserved,
		"10.44.0.30": Reserved, "10.44.0.32": "", "x": ""} {
		if s, ok := b.State("lan", address); s.State != state || ok != (state != "") {
			t.Errorf("%s is %v", address, s)
		}
	}
	if s, ok := b.State("attic", "10.44.0.1"); ok {
		t.Errorf("of no network: %v", s)
	}
	if b.Reserved("none") != nil || b.Utilisation("none") != (Utilisation{}) {
		t.Error("a pool that is none")
	}
	// A large pool says so, and does not list its addresses.
	six := New(lan(&padisv1.Pool{Name: "six", Cidr: "fd00::/64", Gateway: "fe80::1"}), nil).Reserved("six")
	if len(six) != 1 || six[0] != (Range{"fd00::", "fd00::", `the subnet-router anycast address of pool "six"`}) {
		t.Errorf("reserved %v", six)
	}
}
