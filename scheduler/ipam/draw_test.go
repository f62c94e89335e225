package ipam

import (
	"fmt"
	"slices"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

var slots = func() (out []record.Slot) {
	for _, uid := range []string{"u1", "u2", "u3"} {
		for i := range int32(3) {
			out = append(out, record.Slot{AppUID: uid, Index: i})
		}
	}
	return out
}()

func drawCluster(t *rapid.T) *padisv1.Cluster {
	c := &padisv1.Cluster{}
	for _, n := range []string{"lan", "dmz"} {
		if rapid.IntRange(0, 9).Draw(t, "network") < 9 {
			c.Networks = append(c.Networks, &padisv1.Network{Name: n, Driver: "bridge"})
		}
	}
	c.Networks = append(c.Networks, &padisv1.Network{Name: "own", Driver: "host"})
	if rapid.Bool().Draw(t, "tenant") {
		tenant := &padisv1.Tenant{Name: "acme", Namespaces: rapid.SampledFrom([][]string{{"shop"}, {"shop", "bank", "shop"}, nil}).Draw(t, "owns")}
		for range rapid.IntRange(0, 2).Draw(t, "quotas") {
			tenant.AddressQuotas = append(tenant.AddressQuotas, &padisv1.AddressQuota{
				Pool: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "quota"), Max: rapid.Int64Range(0, 12).Draw(t, "max")})
		}
		c.Tenants = append(c.Tenants, tenant)
	}
	cidrs := [][]string{
		{"10.0.0.0/28", "10.0.0.8/29", "10.0.0.0/29", "10.0.0.4/30", "10.0.0.6/31", "10.0.0.9/32", "10.0.0.3/28"},
		{"fd00::/124", "fd00::8/125", "fd00::/125", "fd00::4/126", "fd00::6/127", "fd00::9/128", "fd00::3/124"},
	}
	for _, name := range []string{"a", "b", "c"} {
		if rapid.IntRange(0, 9).Draw(t, "pool") == 9 {
			continue
		}
		family := rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "family")
		p := &padisv1.Pool{Name: name, Network: rapid.SampledFrom([]string{"lan", "lan", "dmz"}).Draw(t, "of"),
			Cidr:         rapid.SampledFrom(cidrs[family]).Draw(t, "cidr"),
			Namespaces:   rapid.SampledFrom([][]string{nil, nil, nil, {"shop"}}).Draw(t, "namespaces"),
			ReuseDelayMs: rapid.SampledFrom([]int64{0, 3, 20, 20}).Draw(t, "delay")}
		if n := rapid.SampledFrom([]int{0, 1, 9}).Draw(t, "gateway"); n > 0 {
			p.Gateway = fmt.Sprintf(families[family], n)
		}
		draw := rapid.Custom(func(t *rapid.T) *padisv1.AddressRange { return drawRange(t, families[family]) })
		p.Ranges = rapid.SliceOfN(draw, 0, 2).Draw(t, "ranges")
		p.Reserved = rapid.SliceOfN(draw, 0, 1).Draw(t, "reserved")
		c.Pools = append(c.Pools, p)
	}
	return c
}

func drawRange(t *rapid.T, family string) *padisv1.AddressRange {
	from := rapid.IntRange(0, 17).Draw(t, "from")
	to := rapid.IntRange(from, 20).Draw(t, "to")
	r := &padisv1.AddressRange{From: fmt.Sprintf(family, from), To: fmt.Sprintf(family, to)}
	if from == to && rapid.Bool().Draw(t, "single") {
		r.To = ""
	}
	return r
}

func drawWishes(t *rapid.T) []*padisv1.NetworkWish {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) *padisv1.NetworkWish {
		switch rapid.IntRange(0, 39).Draw(t, "host") {
		case 39:
			return &padisv1.NetworkWish{Network: rapid.SampledFrom([]string{"lan", "none"}).Draw(t, "network")}
		case 35, 36, 37, 38:
			return &padisv1.NetworkWish{Network: "own"}
		}
		n := &padisv1.NetworkWish{Pool: rapid.SampledFrom([]string{"a", "a", "b", "c"}).Draw(t, "pool")}
		family := rapid.SampledFrom([]string{"10.0.0.%d", "10.0.0.%d", "fd00::%x", "FD00:0::%X"}).Draw(t, "family")
		for range rapid.SampledFrom([]int{0, 0, 0, 2, 5}).Draw(t, "addresses") {
			text := ""
			if rapid.Bool().Draw(t, "fixed") {
				text = fmt.Sprintf(family, rapid.IntRange(0, 17).Draw(t, "address"))
			}
			n.Addresses = append(n.Addresses, text)
		}
		return n
	}), 0, 3).Draw(t, "wishes")
}

// slot prefers slots of which something is leased, or cools.
func (w *world) slot(t *rapid.T) record.Slot {
	known := slices.DeleteFunc(slices.Clone(slots), func(s record.Slot) bool {
		for _, l := range w.leases {
			if l.GetNamespace() == namespaceOf(s.AppUID) && l.GetApp() == nameOf(s.AppUID) && l.GetSlot() == s.Index {
				return false
			}
		}
		return true
	})
	if len(known) > 0 && rapid.IntRange(0, 2).Draw(t, "known") > 0 {
		return rapid.SampledFrom(known).Draw(t, "slot")
	}
	return rapid.SampledFrom(slots).Draw(t, "slot")
}

// u3 is u1 made again.
func namespaceOf(uid string) string {
	return map[string]string{"u1": "shop", "u2": "bank", "u3": "shop"}[uid]
}

func nameOf(uid string) string { return map[string]string{"u1": "web", "u2": "db", "u3": "web"}[uid] }

// universe is every address that occurs.
var universe = func() (out []string) {
	for _, family := range families {
		for i := range 24 {
			out = append(out, canonical(fmt.Sprintf(family, i)))
		}
	}
	return out
}()

var families = []string{"10.0.0.%d", "fd00::%x"}
