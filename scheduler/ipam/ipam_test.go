package ipam

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// lan declares one network with these pools.
func lan(pools ...*padisv1.Pool) *padisv1.Cluster {
	for _, p := range pools {
		p.Network = "lan"
	}
	return &padisv1.Cluster{Networks: []*padisv1.Network{{Name: "lan", Bridge: "padis0"}}, Pools: pools}
}

// small is a pool of the addresses .2 to .6.
func small() *padisv1.Pool {
	return &padisv1.Pool{Name: "web", Cidr: "10.44.0.0/29", Gateway: "10.44.0.1"}
}

func want(index int32, networks ...*padisv1.NetworkWish) Want {
	if networks == nil {
		networks = []*padisv1.NetworkWish{{Pool: "web"}}
	}
	return Want{Slot: record.Slot{AppUID: "u1", Index: index}, Namespace: "shop", App: "web", Networks: networks, NowMs: 1000}
}

// take leases and returns the addresses.
func take(t *testing.T, b *Book, w Want) []string {
	t.Helper()
	got, refusal := b.Lease(w)
	if refusal != nil {
		t.Fatalf("slot %s: %s: %s", w.Slot, refusal.Reason, refusal.Message)
	}
	out := make([]string, len(got))
	for i, l := range got {
		out[i] = l.GetAddress()
	}
	return out
}

func TestAnAddressRestsAsLongAsItCan(t *testing.T) {
	b := New(lan(small()), nil)
	var order []string
	next := func(i int32) {
		t.Helper()
		order = append(order, take(t, b, want(i))[0][len("10.44.0."):])
	}
	next(0) // .2
	next(1) // .3
	b.Release(want(0).Slot)
	next(2) // .4, not .2 again
	b.Release(want(1).Slot)
	b.SetCluster(lan(small())) // the order of waiting survives a new declaration
	next(3)                    // .5
	next(4)                    // .6, the last fresh one
	next(5)                    // .2, freed before .3
	next(6)                    // .3
	if got := fmt.Sprint(order); got != "[2 3 4 5 6 2 3]" {
		t.Errorf("order %s", got)
	}
	// A Book made anew goes on behind the latest lease.
	latest := &padisv1.LeaseRecord{Address: "10.44.0.4", Network: "lan", Pool: "web", AppUid: "u9", LeasedMs: 5}
	if got := take(t, New(lan(small()), []*padisv1.LeaseRecord{latest}), want(0)); got[0] != "10.44.0.5" {
		t.Errorf("after a restart %v", got)
	}
	latest.Address = "10.44.0.6"
	if got := take(t, New(lan(small()), []*padisv1.LeaseRecord{latest}), want(0)); got[0] != "10.44.0.2" {
		t.Errorf("after a restart at the end of the pool %v", got)
	}
}

func TestAFreedAddressThatIsTakenByNameIsNotChosen(t *testing.T) {
	b := New(lan(small()), nil)
	for i := range int32(5) {
		take(t, b, want(i))
	}
	b.Release(want(0).Slot) // .2 waits at the head all the time
	for range 1000 {
		b.Release(want(2).Slot)
		if got := take(t, b, want(2, &padisv1.NetworkWish{Pool: "web", Addresses: []string{"", "", "10.44.0.4"}})); got[0] != "10.44.0.4" {
			t.Fatalf("got %v", got)
		}
	}
	if n := len(b.pools["web"].free.(*dense).queue.entries); n > 100 {
		t.Errorf("the queue has grown to %d entries", n)
	}
	b.Release(want(3).Slot)
	for i, address := range []string{"10.44.0.2", "10.44.0.5"} {
		if got := take(t, b, want(int32(10+i))); got[0] != address {
			t.Errorf("got %v, want %s", got, address)
		}
	}
}

func TestRefusalsNameTheRemedy(t *testing.T) {
	wish := func(pool string, addresses ...string) *padisv1.NetworkWish {
		return &padisv1.NetworkWish{Pool: pool, Addresses: addresses}
	}
	cluster := lan(small(),
		&padisv1.Pool{Name: "bank", Cidr: "10.45.0.0/29", Namespaces: []string{"bank"}},
		&padisv1.Pool{Name: "broken", Cidr: "10.45.0.0/33"},
		&padisv1.Pool{Name: "wide", Cidr: "0.0.0.0/0"},
		&padisv1.Pool{Name: "v6", Cidr: "fd00::/64", Gateway: "10.44.0.1"},
		&padisv1.Pool{Name: "gate", Cidr: "10.46.0.0/29", Gateway: "here"},
		&padisv1.Pool{Name: "reversed", Cidr: "10.46.0.0/29", Reserved: []*padisv1.AddressRange{{From: "10.46.0.4", To: "10.46.0.2"}}},
		&padisv1.Pool{Name: "ranged", Cidr: "10.47.0.0/28", Ranges: []*padisv1.AddressRange{{From: "10.47.0.2", To: "10.47.0.4"}},
			Reserved: []*padisv1.AddressRange{{From: "10.47.0.3"}}},
		&padisv1.Pool{Name: "nowhere", Cidr: "10.48.0.0/29"},
	)
	cluster.Pools[8].Network = "attic"
	for _, c := range []struct {
		wishes  []*padisv1.NetworkWish
		reason  string
		message string
	}{
		{[]*padisv1.NetworkWish{wish("wep")}, padisv1.ReasonPoolNotFound,
			`there is no pool "wep"; create the IPPool, or correct the App's networks`},
		{[]*padisv1.NetworkWish{wish("bank")}, padisv1.ReasonPoolForbidden,
			`pool "bank" is not open to namespace "shop"; use another pool, or add the namespace to the pool's namespaces`},
		{[]*padisv1.NetworkWish{wish("broken")}, padisv1.ReasonPoolNotFound,
			`pool "broken" cannot be used because its cidr "10.45.0.0/33" is not a subnet of IPv4 or IPv6; correct the IPPool`},
		{[]*padisv1.NetworkWish{wish("wide")}, padisv1.ReasonPoolNotFound,
			`pool "wide" cannot be used because its cidr 0.0.0.0/0 is larger than a /8; correct the IPPool`},
		{[]*padisv1.NetworkWish{wish("v6")}, padisv1.ReasonPoolNotFound,
			`pool "v6" cannot be used because its gateway "10.44.0.1" is not an IPv6 address; correct the IPPool`},
		{[]*padisv1.NetworkWish{wish("gate")}, padisv1.ReasonPoolNotFound,
			`pool "gate" cannot be used because its gateway "here" is not an IPv4 address; correct the IPPool`},
		{[]*padisv1.NetworkWish{wish("reversed")}, padisv1.ReasonPoolNotFound,
			`pool "reversed" cannot be used because its reserved[0] from "10.46.0.4" to "10.46.0.2" is not a range of IPv4 addresses; correct the IPPool`},
		{[]*padisv1.NetworkWish{wish("nowhere")}, padisv1.ReasonNetworkNotFound,
			`pool "nowhere" belongs to network "attic", which does not exist; create the Network, or correct the pool's network`},
		{[]*padisv1.NetworkWish{wish("web", "10.44.0.9")}, padisv1.ReasonAddressOutsidePool,
			`10.44.0.9 is not in 10.44.0.0/29 of pool "web"; choose an address of the pool, or widen its cidr`},
		{[]*padisv1.NetworkWish{wish("web", "10.44.0")}, padisv1.ReasonAddressOutsidePool,
			`"10.44.0" is not an IPv4 address, so it is not in pool "web"; correct the App's networks`},
		{[]*padisv1.NetworkWish{wish("web", "10.44.0.0")}, padisv1.ReasonAddressReserved,
			`10.44.0.0 is the network address of pool "web"; choose another address`},
		{[]*padisv1.NetworkWish{wish("web", "10.44.0.1")}, padisv1.ReasonAddressReserved,
			`10.44.0.1 is the gateway of pool "web"; choose another address`},
		{[]*padisv1.NetworkWish{wish("web", "10.44.0.7")}, padisv1.ReasonAddressReserved,
			`10.44.0.7 is the broadcast address of pool "web"; choose another address`},
		{[]*padisv1.NetworkWish{wish("ranged", "10.47.0.3")}, padisv1.ReasonAddressReserved,
			`10.47.0.3 is reserved in pool "ranged"; choose another address, or take it out of the pool's reserved`},
		{[]*padisv1.NetworkWish{wish("ranged", "10.47.0.5")}, padisv1.ReasonAddressOutsidePool,
			`10.47.0.5 is not in the ranges of pool "ranged"; choose an address of the ranges, or widen them`},
		{[]*padisv1.NetworkWish{wish("web"), wish("web", "10.44.0.2")}, padisv1.ReasonAddressInUse,
			`10.44.0.2 is leased to shop/web-7; choose another address, or scale that instance in`},
		{[]*padisv1.NetworkWish{wish("web", "10.44.0.3"), wish("web", "10.44.0.3")}, padisv1.ReasonAddressInUse,
			`10.44.0.3 is wished for twice by shop/web-0; give each of its networks an address of its own`},
		{[]*padisv1.NetworkWish{wish("ranged"), wish("ranged"), wish("ranged")}, padisv1.ReasonPoolExhausted,
			`pool "ranged" has no free address: of 2 that it can hand out, 0 are leased and 1 are kept for instances that name them; widen its cidr or ranges, or scale an App in`},
	} {
		b := New(cluster, nil)
		take(t, b, want(7, wish("web", "", "", "", "", "", "", "", "10.44.0.2")))
		b.SetApp(&padisv1.WantedApp{Uid: "u2", Namespace: "shop", Revisions: []*padisv1.Revision{{Networks: []*padisv1.NetworkWish{wish("ranged", "10.47.0.4")}}}})
		got, refusal := b.Lease(want(0, c.wishes...))
		if refusal == nil {
			t.Errorf("%v was leased, should be refused: %s", got, c.message)
			continue
		}
		if refusal.Reason != c.reason || refusal.Message != c.message {
			t.Errorf("%s: %s\nwant\n%s: %s", refusal.Reason, refusal.Message, c.reason, c.message)
		}
		if held := b.Held(want(0).Slot); len(held) != 0 {
			t.Errorf("refused, but holds %v", held)
		}
	}
}

func TestAShrunkPoolKeepsItsLeasesAndFlagsThem(t *testing.T) {
	b := New(lan(small()), nil)
	take(t, b, want(0))
	kept := b.Held(want(0).Slot)
	narrow := small()
	narrow.Reserved = []*padisv1.AddressRange{{From: "10.44.0.2", To: "10.44.0.3"}}
	b.SetCluster(lan(narrow))
	if got := take(t, b, want(0)); got[0] != "10.44.0.2" {
		t.Errorf("the instance lost its address: %v", got)
	}
	if _, ok := b.Attachment(kept[0]); !ok {
		t.Error("no attachment for a kept lease")
	}
	if f := b.Flagged(); len(f) != 1 || f[0].Lease != kept[0] || f[0].Reason != padisv1.ReasonAddressReserved {
		t.Errorf("flagged %v", f)
	}
	if c, a, f := b.Usage("web"); c != 3 || a != 1 || f != 3 {
		t.Errorf("usage %d %d %d", c, a, f)
	}
	// Where the address cannot work any more, it is not swapped in secret.
	b.SetCluster(lan(&padisv1.Pool{Name: "web", Cidr: "10.55.0.0/29"}))
	_, refusal := b.Lease(want(0))
	const message = `shop/web-0 holds 10.44.0.2, but 10.44.0.2 is not in 10.55.0.0/29 of pool "web"; choose an address of the pool, or widen its cidr; or scale it in to give the address up`
	if refusal == nil || refusal.Reason != padisv1.ReasonAddressOutsidePool || refusal.Message != message {
		t.Errorf("got %v", refusal)
	}
	if _, ok := b.Attachment(kept[0]); ok {
		t.Error("an attachment that cannot work")
	}
	if !slices.Equal(b.Release(want(0).Slot), kept) || len(b.Flagged()) != 0 {
		t.Error("not released")
	}
	b.SetCluster(nil)
	if c, a, f := b.Usage("web"); c != 0 || a != 0 || f != 0 {
		t.Errorf("usage of nothing: %d %d %d", c, a, f)
	}
	if len(b.segments) != 0 {
		t.Errorf("segments are left: %v", b.segments)
	}
}

func TestAChangedPoolGivesANewLeaseAndTellsTheOldOne(t *testing.T) {
	b := New(lan(small(), &padisv1.Pool{Name: "new", Cidr: "10.45.0.0/29"}), nil)
	take(t, b, want(0))
	networks := []*padisv1.NetworkWish{{Pool: "new"}}
	if stale := b.Stale(want(0).Slot, networks); len(stale) != 1 || stale[0].GetAddress() != "10.44.0.2" {
		t.Errorf("stale before: %v", stale)
	}
	if got := take(t, b, want(0, networks...)); got[0] != "10.45.0.1" {
		t.Errorf("got %v", got)
	}
	stale := b.Stale(want(0).Slot, networks)
	if len(stale) != 1 || len(b.Held(want(0).Slot)) != 2 {
		t.Fatalf("stale %v, held %v", stale, b.Held(want(0).Slot))
	}
	if !b.Free(stale[0]) || b.Free(stale[0]) || len(b.Held(want(0).Slot)) != 1 {
		t.Error("the old lease was not freed once")
	}
}

func TestAnAddressThatMovesToAnotherPoolOfItsNetworkStaysLeased(t *testing.T) {
	b := New(lan(small(), &padisv1.Pool{Name: "all", Cidr: "10.44.0.0/24"}), nil)
	take(t, b, want(0))
	networks := []*padisv1.NetworkWish{{Pool: "all", Addresses: []string{"10.44.0.2"}}}
	take(t, b, want(0, networks...))
	held := b.Held(want(0).Slot)
	if len(held) != 1 || held[0].GetPool() != "all" || len(b.Stale(want(0).Slot, networks)) != 0 {
		t.Errorf("held %v", held)
	}
	if _, allocated, _ := b.Usage("web"); allocated != 0 {
		t.Errorf("the old pool still counts %d", allocated)
	}
	if _, _, free := b.Usage("web"); free != 4 {
		t.Errorf("%d of the 5 addresses are free, one is leased by the other pool", free)
	}
}

func TestFixedAddressesWaitForTheirSlot(t *testing.T) {
	b := New(lan(small()), nil)
	fixed := []*padisv1.NetworkWish{{Pool: "web", Addresses: []string{"10.44.0.2", "10.44.0.3"}}}
	b.SetApps([]*padisv1.WantedApp{{Uid: "u1", Namespace: "shop", Revisions: []*padisv1.Revision{{Networks: fixed}}}})
	other := want(0)
	other.Slot.AppUID = "u2"
	if got := take(t, b, other); got[0] != "10.44.0.4" {
		t.Errorf("another App got %v", got)
	}
	if got := take(t, b, want(1, fixed...)); got[0] != "10.44.0.3" {
		t.Errorf("slot 1 got %v", got)
	}
	if got := take(t, b, want(2, fixed...)); got[0] != "10.44.0.5" {
		t.Errorf("slot 2, beyond the list, got %v", got)
	}
	b.SetApps(nil)
	other.Slot.Index = 1
	take(t, b, other) // .6
	other.Slot.Index = 2
	if got := take(t, b, other); got[0] != "10.44.0.2" {
		t.Errorf("an address that nobody names any more was not given: %v", got)
	}
}

func TestAFixedAddressDoesNotMoveTheOthers(t *testing.T) {
	b := New(lan(small()), nil)
	take(t, b, want(0, &padisv1.NetworkWish{Pool: "web", Addresses: []string{"10.44.0.5"}}))
	if got := take(t, b, want(1)); got[0] != "10.44.0.2" {
		t.Errorf("got %v", got)
	}
}

func TestAttachmentAndDNSSpeakOfThePool(t *testing.T) {
	p := small()
	p.DnsServers, p.DnsSearch = []string{"10.0.0.53"}, []string{"shop.example"}
	b := New(lan(p), nil)
	take(t, b, want(0))
	a, ok := b.Attachment(b.Held(want(0).Slot)[0])
	if !ok || a.GetAddress() != "10.44.0.2" || a.GetPrefixLength() != 29 || a.GetGateway() != "10.44.0.1" || a.GetNetwork().GetBridge() != "padis0" || a.GetPool() != "web" {
		t.Errorf("attachment %v", a)
	}
	servers, search := b.DNS("web")
	if !reflect.DeepEqual(servers, []string{"10.0.0.53"}) || !reflect.DeepEqual(search, []string{"shop.example"}) {
		t.Errorf("DNS %v %v", servers, search)
	}
	if servers, search := b.DNS("none"); servers != nil || search != nil {
		t.Errorf("DNS of nothing: %v %v", servers, search)
	}
	for _, l := range []*padisv1.LeaseRecord{{Pool: "none"}, {Pool: "web", Network: "dmz", Address: "10.44.0.2"}, {Pool: "web", Network: "lan", Address: "x"}} {
		if a, ok := b.Attachment(l); ok {
			t.Errorf("%v is attached as %v", l, a)
		}
	}
}

func TestALeaseThatCannotBeReadIsFlaggedAndCanBeReleased(t *testing.T) {
	bad := &padisv1.LeaseRecord{Address: "ten", Network: "lan", Pool: "web", AppUid: "u1"}
	b := New(lan(small()), []*padisv1.LeaseRecord{bad})
	if f := b.Flagged(); len(f) != 1 || f[0].Lease != bad {
		t.Errorf("flagged %v", f)
	}
	if got := take(t, b, want(0)); got[0] != "10.44.0.2" {
		t.Errorf("got %v", got)
	}
	if got := b.Release(want(0).Slot); len(got) != 2 {
		t.Errorf("released %v", got)
	}
}

// Whatever a pool is declared as, it hands out addresses of its cidr only, or refuses.
func FuzzPool(f *testing.F) {
	f.Add("10.44.0.0/29", "10.44.0.1", "10.44.0.2", "10.44.0.3", "10.44.0.2", "")
	f.Add("10.44.0.5/31", "", "", "", "", "")
	f.Add("255.255.255.248/29", "255.255.255.255", "0.0.0.0", "255.255.255.255", "255.255.255.250", "255.255.255.255")
	f.Add("0.0.0.0/8", "::1", "x", "", "", "y")
	f.Add("fd00:0:0:1::/64", "fd00:0:0:1::1", "", "", "fd00:0:0:1::", "fd00:0:0:1:8000::")
	f.Add("FD00::FFFF/127", "", "", "", "", "")
	f.Add("ffff:ffff::/32", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "")
	f.Add("::ffff:10.0.0.0/104", "", "", "", "", "")
	f.Add("10.0.0.0/24", "", "::ffff:10.0.0.1", "10.0.0.3", "", "")
	f.Fuzz(func(t *testing.T, cidr, gateway, from, to, reservedFrom, reservedTo string) {
		p := &padisv1.Pool{Name: "web", Cidr: cidr, Gateway: gateway}
		if from+to != "" {
			p.Ranges = []*padisv1.AddressRange{{From: from, To: to}}
		}
		if reservedFrom+reservedTo != "" {
			p.Reserved = []*padisv1.AddressRange{{From: reservedFrom, To: reservedTo}}
		}
		b := New(lan(p), nil)
		seen := map[string]bool{}
		for i := range int32(20) {
			got, refusal := b.Lease(want(i))
			if refusal != nil {
				return
			}
			a := netip.MustParseAddr(got[0].GetAddress())
			gate, _ := netip.ParseAddr(gateway)
			if !netip.MustParsePrefix(cidr).Contains(a) || seen[a.String()] || a == gate || a.String() != got[0].GetAddress() {
				t.Fatalf("%s of %s, gateway %s", a, cidr, gateway)
			}
			seen[a.String()] = true
		}
	})
}
