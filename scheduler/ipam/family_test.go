package ipam

import (
	"math"
	"slices"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestEdgesOfSubnetsAreNotHandedOut(t *testing.T) {
	for _, c := range []struct {
		cidr, gateway string
		capacity      int64
		first         []string
	}{
		{"10.44.0.0/29", "", 6, []string{"10.44.0.1", "10.44.0.2"}},
		{"10.44.0.0/30", "10.44.0.1", 1, []string{"10.44.0.2"}},
		{"10.44.0.0/31", "", 2, []string{"10.44.0.0", "10.44.0.1"}}, // RFC 3021
		{"10.44.0.7/32", "", 1, []string{"10.44.0.7"}},
		{"10.0.0.0/8", "", 1<<24 - 2, []string{"10.0.0.1"}},
		{"fd00:44::/125", "", 7, []string{"fd00:44::1", "fd00:44::2"}},
		{"fd00:44::/126", "fd00:44::1", 2, []string{"fd00:44::2", "fd00:44::3"}},
		{"fd00:44::/127", "", 2, []string{"fd00:44::", "fd00:44::1"}}, // RFC 6164
		{"fd00:44::7/128", "", 1, []string{"fd00:44::7"}},
		{"fd00:44::/104", "", 1<<24 - 1, []string{"fd00:44::1"}},
		{"fd00:44::/64", "fe80::1", math.MaxInt64, []string{"fd00:44::1", "fd00:44::2"}},
		{"FD00:44:0::/66", "", 1<<62 - 1, []string{"fd00:44::1"}},
		{"2001:db8::/32", "2001:db8::1", math.MaxInt64, []string{"2001:db8::2"}},
	} {
		b := New(lan(&padisv1.Pool{Name: "web", Cidr: c.cidr, Gateway: c.gateway}), nil)
		if capacity, _, free := b.Usage("web"); capacity != c.capacity || free != c.capacity {
			t.Errorf("%s: capacity %d, free %d, want %d", c.cidr, capacity, free, c.capacity)
		}
		for i, a := range c.first {
			if got := take(t, b, want(int32(i))); got[0] != a {
				t.Errorf("%s: address %d is %s, want %s", c.cidr, i, got[0], a)
			}
		}
		if c.capacity == int64(len(c.first)) {
			if got, r := b.Lease(want(100)); r == nil || r.Reason != padisv1.ReasonPoolExhausted {
				t.Errorf("%s: one more is %v", c.cidr, got)
			}
		}
	}
}

func TestTwoFamiliesOnOneNetwork(t *testing.T) {
	b := New(lan(small(), &padisv1.Pool{Name: "six", Cidr: "fd00:44::/64", Gateway: "FD00:44::0001"}), nil)
	both := []*padisv1.NetworkWish{{Pool: "web"}, {Pool: "six"}}
	if got := take(t, b, want(0, both...)); !slices.Equal(got, []string{"10.44.0.2", "fd00:44::2"}) {
		t.Errorf("got %v", got)
	}
	if got := take(t, b, want(1, both[1])); !slices.Equal(got, []string{"fd00:44::3"}) {
		t.Errorf("IPv6 only: got %v", got)
	}
	held := b.Held(want(0).Slot)
	four, _ := b.Attachment(held[0])
	six, _ := b.Attachment(held[1])
	if four.GetGateway() != "10.44.0.1" || four.GetPrefixLength() != 29 || six.GetGateway() != "fd00:44::1" || six.GetPrefixLength() != 64 {
		t.Errorf("attached as %v and %v", four, six)
	}
	for _, c := range []struct{ pool, address, message string }{
		{"six", "10.44.0.3", `"10.44.0.3" is not an IPv6 address, so it is not in pool "six"; correct the App's networks`},
		{"web", "fd00:44::9", `"fd00:44::9" is not an IPv4 address, so it is not in pool "web"; correct the App's networks`},
		{"web", "::ffff:10.44.0.3", `"::ffff:10.44.0.3" is not an IPv4 address, so it is not in pool "web"; correct the App's networks`},
		{"six", "fd00:44::9%eth0", `"fd00:44::9%eth0" is not an IPv6 address, so it is not in pool "six"; correct the App's networks`},
		{"six", "FD00:44::", `fd00:44:: is the subnet-router anycast address of pool "six"; choose another address`},
		{"six", "fd00:45::1", `fd00:45::1 is not in fd00:44::/64 of pool "six"; choose an address of the pool, or widen its cidr`},
	} {
		_, r := b.Lease(want(0, &padisv1.NetworkWish{Pool: c.pool, Addresses: []string{c.address}}))
		if r == nil || r.Message != c.message {
			t.Errorf("%s of %s: %v", c.address, c.pool, r)
		}
	}
}

func TestPoolsThatCannotBe(t *testing.T) {
	for _, c := range []struct {
		pool    *padisv1.Pool
		problem string
	}{
		{&padisv1.Pool{Cidr: "fd00::/7"}, "its cidr fd00::/7 is larger than a /8"},
		{&padisv1.Pool{Cidr: "::/64"}, "its cidr ::/64 is in ::/8, which is not for hosts"},
		{&padisv1.Pool{Cidr: "::ffff:10.0.0.0/104"}, `its cidr "::ffff:10.0.0.0/104" is not a subnet of IPv4 or IPv6`},
		{&padisv1.Pool{Cidr: "fd00::/64", Ranges: []*padisv1.AddressRange{{From: "10.0.0.1"}}},
			`its ranges[0] from "10.0.0.1" to "" is not a range of IPv6 addresses`},
		{&padisv1.Pool{Cidr: "10.0.0.0/24", Reserved: []*padisv1.AddressRange{{From: "10.0.0.1", To: "fd00::1"}}},
			`its reserved[0] from "10.0.0.1" to "fd00::1" is not a range of IPv4 addresses`},
		{&padisv1.Pool{Cidr: "10.0.0.0/24", Gateway: "fe80::1"}, `its gateway "fe80::1" is not an IPv4 address`},
	} {
		if p := newPool(c.pool); p.problem != c.problem {
			t.Errorf("%v: %q, want %q", c.pool, p.problem, c.problem)
		}
	}
}

func TestFixedAddressesAreLeasedInCanonicalForm(t *testing.T) {
	b := New(lan(&padisv1.Pool{Name: "web", Cidr: "fd00:44::/64"}), nil)
	fixed := []*padisv1.NetworkWish{{Pool: "web", Addresses: []string{"FD00:0044:0::000A"}}}
	b.SetApp(&padisv1.WantedApp{Uid: "u2", Namespace: "shop", Name: "db", Revisions: []*padisv1.Revision{{Networks: fixed}}})
	if s, _ := b.State("lan", "fd00:44::a"); s.State != Reserved || s.Note != "kept for shop/db-0" {
		t.Errorf("before: %v", s)
	}
	if got := take(t, b, want(0, fixed...)); got[0] != "fd00:44::a" {
		t.Errorf("got %v", got)
	}
	if stale := b.Stale(want(0).Slot, fixed); len(stale) != 0 {
		t.Errorf("stale %v", stale)
	}
}

// Of a pool too large to count, freed addresses come again when all others had their turn.
func TestALargePoolGoesRound(t *testing.T) {
	p := &padisv1.Pool{Name: "web", Cidr: "fd00:44::/64"}
	b := New(lan(p), nil)
	for i, a := range []string{"fd00:44::1", "fd00:44::2", "fd00:44::3"} {
		if got := take(t, b, want(int32(i))); got[0] != a {
			t.Errorf("got %v, want %s", got, a)
		}
	}
	b.Release(want(1).Slot)
	if got := take(t, b, want(1)); got[0] != "fd00:44::4" {
		t.Errorf("got %v", got)
	}
	b.pools["web"].cursor = b.pools["web"].subnet.to
	for i, a := range []string{"fd00:44::ffff:ffff:ffff:ffff", "fd00:44::2", "fd00:44::5"} {
		if got := take(t, b, want(int32(10+i))); got[0] != a {
			t.Errorf("at the end got %v, want %s", got, a)
		}
	}
	b.SetCluster(lan(p))
	if got := take(t, b, want(20)); got[0] != "fd00:44::6" {
		t.Errorf("declared again, got %v", got)
	}
	// Made anew, it goes on behind its latest lease.
	again := New(lan(p), b.Held(want(11).Slot))
	if got := take(t, again, want(21)); got[0] != "fd00:44::3" {
		t.Errorf("made anew, got %v", got)
	}
	// A small range of it is counted.
	p.Ranges = []*padisv1.AddressRange{{From: "fd00:44::8", To: "fd00:44::9"}}
	b = New(lan(p), nil)
	take(t, b, want(0))
	take(t, b, want(1))
	if _, r := b.Lease(want(2)); r == nil || r.Reason != padisv1.ReasonPoolExhausted {
		t.Errorf("a third one: %v", r)
	}
}

func TestTheHostsNetworkNeedsNoLease(t *testing.T) {
	cluster := lan(small())
	cluster.Networks = append(cluster.Networks, &padisv1.Network{Name: "own", Driver: "host"})
	cluster.Networks[0].Driver = "bridge"
	b := New(cluster, nil)
	networks := []*padisv1.NetworkWish{{Network: "own"}, {Pool: "web"}}
	got, r := b.Lease(want(0, networks...))
	if r != nil || len(got) != 2 || got[0] != nil || got[1].GetAddress() != "10.44.0.2" {
		t.Errorf("got %v, %v", got, r)
	}
	if stale := b.Stale(want(0).Slot, networks); len(stale) != 0 {
		t.Errorf("stale %v", stale)
	}
	if stale := b.Stale(want(0).Slot, networks[:1]); len(stale) != 1 {
		t.Errorf("stale %v", stale)
	}
	if a, ok := b.HostAttachment("own"); !ok || a.GetNetwork().GetDriver() != "host" || a.GetAddress()+a.GetGateway() != "" {
		t.Errorf("attached as %v", a)
	}
	if a, ok := b.HostAttachment("lan"); ok {
		t.Errorf("attached as %v", a)
	}
	for network, message := range map[string]string{
		"attic": `there is no network "attic"; create the Network, or correct the App's networks`,
		"lan":   `network "lan" has the driver "bridge", so its instances need addresses; name one of its pools, or a network with the driver host`,
	} {
		if _, r := b.Lease(want(1, &padisv1.NetworkWish{Network: network})); r == nil || r.Reason != padisv1.ReasonNetworkNotFound || r.Message != message {
			t.Errorf("%s: %v", network, r)
		}
	}
}
