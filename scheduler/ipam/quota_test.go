package ipam

import (
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

func TestQuotas(t *testing.T) {
	cluster := lan(small(), &padisv1.Pool{Name: "six", Cidr: "fd00::/64"})
	cluster.Tenants = []*padisv1.Tenant{{Name: "acme", Namespaces: []string{"shop", "bank", "shop"}, AddressQuotas: []*padisv1.AddressQuota{
		{Pool: "web", Max: 2}, {Max: 4}}}}
	b := New(cluster, nil)
	ask := func(namespace string, index int32, pools ...string) string {
		t.Helper()
		w := Want{Slot: want(index).Slot, Namespace: namespace, App: "web", Tenant: "acme"}
		for _, p := range pools {
			w.Networks = append(w.Networks, &padisv1.NetworkWish{Pool: p})
		}
		w.Slot.AppUID = namespace
		if _, r := b.Lease(w); r != nil {
			return r.Reason + ": " + r.Message
		}
		return ""
	}
	give := func(namespace string, index int32) { b.Release(record.Slot{AppUID: namespace, Index: index}) }
	for i, c := range []struct {
		namespace string
		index     int32
		pools     []string
		answer    string
	}{
		{"shop", 0, []string{"web"}, ""},
		{"bank", 0, []string{"web", "six"}, ""},
		{"shop", 1, []string{"web"}, `AddressQuotaExceeded: tenant "acme" holds 2 addresses of pool "web" and may hold 2, but shop/web-1 needs 1 more; raise the Tenant's address quota, or scale one of its Apps in`},
		{"shop", 0, []string{"web", "six"}, ""},
		{"shop", 0, []string{"web", "six", "six"}, `AddressQuotaExceeded: tenant "acme" holds 4 addresses and may hold 4, but shop/web-0 needs 1 more; raise the Tenant's address quota, or scale one of its Apps in`},
		{"shop", 0, []string{"six", "six"}, ""}, // what it held of the pool web is given up next
		{"bank", 0, []string{"web", "six"}, ""},
	} {
		if got := ask(c.namespace, c.index, c.pools...); got != c.answer {
			t.Errorf("%d: %s\nwant %s", i, got, c.answer)
		}
	}
	give("shop", 0)
	if got := ask("shop", 0, "six", "six"); got != "" {
		t.Error(got)
	}
	// A lowered quota takes nothing away, and lets nothing grow.
	cluster.Tenants[0].AddressQuotas = []*padisv1.AddressQuota{{Max: 1}}
	b.SetCluster(cluster)
	if got := ask("bank", 0, "web", "six") + ask("shop", 0, "six", "web"); got != "" {
		t.Error(got)
	}
	b.End(0, b.Stale(record.Slot{AppUID: "shop", Index: 0}, []*padisv1.NetworkWish{{Pool: "six"}, {Pool: "web"}})...)
	if ask("shop", 0, "six", "six", "web") == "" || ask("shop", 1, "six") == "" {
		t.Error("grew beyond the quota")
	}
	give("bank", 0)
	give("shop", 0)
	if got := ask("shop", 1, "six"); got != "" {
		t.Error(got)
	}
	if len(b.holdings) != 2 {
		t.Errorf("counts %v", b.holdings)
	}
}
