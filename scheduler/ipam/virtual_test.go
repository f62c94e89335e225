package ipam

import (
	"strings"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// Pools of virtual networks give VIPs to LoadBalancers, also their edges, and nothing to Apps; other pools the other way round.
func TestVirtual(t *testing.T) {
	b := New(&padisv1.Cluster{
		Networks: []*padisv1.Network{{Name: "lan", Driver: "bridge"}, {Name: "edge", Driver: "virtual"}},
		Pools:    []*padisv1.Pool{{Name: "lan", Network: "lan", Cidr: "10.0.0.0/24"}, {Name: "vips", Network: "edge", Cidr: "192.0.2.0/31"}, {Name: "more", Network: "edge", Cidr: "192.0.2.8/30"}},
		Tenants:  []*padisv1.Tenant{{Name: "t", Namespaces: []string{"shop"}, AddressQuotas: []*padisv1.AddressQuota{{Max: 7}}}},
	}, nil)
	b.SetApp(&padisv1.WantedApp{Uid: "thief", Namespace: "shop", Name: "thief", Revisions: []*padisv1.Revision{{Networks: []*padisv1.NetworkWish{{Pool: "more", Addresses: []string{"192.0.2.8"}}}}}})
	ask := func(slot record.Slot, wishes ...*padisv1.NetworkWish) ([]*padisv1.LeaseRecord, string) {
		ls, r := b.Lease(Want{Slot: slot, Namespace: "shop", App: "front", Tenant: "t", Networks: wishes, NowMs: 1})
		if r != nil {
			return ls, r.Reason + ": " + r.Message
		}
		return ls, ""
	}
	lb, app := record.VIPs("u"), record.Slot{AppUID: "a"}
	four := &padisv1.NetworkWish{Pool: "more"}
	ls, why := ask(lb, four, &padisv1.NetworkWish{Pool: "vips", Addresses: []string{"192.0.2.1"}}, four, four, four)
	if why != "" || len(ls) != 5 || ls[0].GetAddress() != "192.0.2.8" || ls[4].GetAddress() != "192.0.2.11" || ls[1].GetAddress() != "192.0.2.1" {
		t.Fatalf("%v %s", ls, why)
	}
	for _, c := range []struct {
		slot record.Slot
		wish *padisv1.NetworkWish
		want string
	}{
		{app, &padisv1.NetworkWish{Pool: "vips"}, "PoolForbidden: pool \"vips\" belongs to network \"edge\" with the driver virtual"},
		{record.VIPs("o"), &padisv1.NetworkWish{Pool: "lan"}, "PoolForbidden: pool \"lan\" belongs to network \"lan\" with the driver \"bridge\""},
		{record.VIPs("o"), &padisv1.NetworkWish{Pool: "vips", Addresses: []string{"192.0.2.1"}}, "AddressInUse: 192.0.2.1 is leased to LoadBalancer shop/front"},
		{record.VIPs("o"), &padisv1.NetworkWish{Pool: "none"}, "correct the LoadBalancer's vips"},
		{record.VIPs("o"), &padisv1.NetworkWish{Pool: "vips", Addresses: []string{"192.0.2.77"}}, "AddressOutsidePool: "},
		{record.VIPs("o"), four, "PoolExhausted: "},
	} {
		if _, why := ask(c.slot, c.wish); !strings.Contains(why, c.want) {
			t.Errorf("%v %v: %q", c.slot, c.wish, why)
		}
	}
	ask(record.VIPs("o"), &padisv1.NetworkWish{Pool: "vips"})
	ask(app, &padisv1.NetworkWish{Pool: "lan"})
	if _, why := ask(app, &padisv1.NetworkWish{Pool: "lan"}, &padisv1.NetworkWish{Pool: "lan"}); !strings.HasPrefix(why, padisv1.ReasonAddressQuotaExceeded) {
		t.Errorf("VIPs do not count: %q", why)
	}
}
