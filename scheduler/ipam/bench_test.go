package ipam

import (
	"fmt"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// full is a pool of 65,536 addresses with n leases of 100 slots each App.
func full(cidr string, n int) (*padisv1.Cluster, []*padisv1.LeaseRecord) {
	p := &padisv1.Pool{Name: "web", Cidr: cidr}
	cluster := lan(p)
	a := newPool(p).subnet.from
	leases := make([]*padisv1.LeaseRecord, n)
	for i := range leases {
		leases[i] = &padisv1.LeaseRecord{Address: a.plus(uint64(i + 1)).String(), Network: "lan", Pool: "web", Namespace: "shop",
			App: "other", AppUid: fmt.Sprint("app-", i/100), Slot: int32(i % 100), LeasedMs: int64(i)}
	}
	return cluster, leases
}

// BenchmarkLease65536 leases one address and gives it back.
func BenchmarkLease65536(b *testing.B) {
	for _, c := range []struct {
		name, cidr string
		leased     int
	}{
		{"empty", "10.44.0.0/16", 0},
		{"half", "10.44.0.0/16", 32_768},
		{"nearly-full", "10.44.0.0/16", 65_000},
		{"one-left", "10.44.0.0/16", 65_533},
		{"ipv6-dense-one-left", "fd00:44::/112", 65_534},
		{"ipv6-64", "fd00:44::/64", 65_536},
	} {
		b.Run(c.name, func(b *testing.B) {
			book := New(full(c.cidr, c.leased))
			w := want(0)
			for b.Loop() {
				if _, refusal := book.Lease(w); refusal != nil {
					b.Fatal(refusal.Message)
				}
				book.Release(w.Slot)
			}
		})
	}
	// The last address goes round among slots that are refused it while it rests.
	b.Run("one-left-cooling", func(b *testing.B) {
		cluster, leases := full("10.44.0.0/16", 65_533)
		cluster.Pools[0].ReuseDelayMs = 1
		book := New(cluster, leases)
		w := want(0)
		for now := int64(1); b.Loop(); now++ {
			book.Cool(now)
			if _, refusal := book.Lease(w); refusal != nil {
				b.Fatal(refusal.Message)
			}
			book.End(now, book.Held(w.Slot)...)
			w.Slot.Index++
		}
	})
	b.Run("fill", func(b *testing.B) {
		cluster, _ := full("10.44.0.0/16", 0)
		w := want(0)
		var book *Book
		for n := 0; b.Loop(); n++ {
			if n%65_534 == 0 {
				b.StopTimer()
				book = New(cluster, nil)
				b.StartTimer()
			}
			w.Slot.Index = int32(n)
			if _, refusal := book.Lease(w); refusal != nil {
				b.Fatal(refusal.Message)
			}
		}
	})
}

// BenchmarkNew65536 makes the Book of a scheduler that starts, of a pool without a free address.
func BenchmarkNew65536(b *testing.B) {
	for _, c := range []struct {
		name, cidr string
		leased     int
	}{{"ipv4", "10.44.0.0/16", 65_534}, {"ipv6-64", "fd00:44::/64", 65_536}} {
		b.Run(c.name, func(b *testing.B) {
			cluster, leases := full(c.cidr, c.leased)
			for b.Loop() {
				New(cluster, leases)
			}
		})
	}
	b.Run("cooling", func(b *testing.B) {
		cluster, leases := full("10.44.0.0/16", 65_534)
		for i, l := range leases {
			l.ReleasedMs = int64(i) + 1
		}
		for b.Loop() {
			New(cluster, leases)
		}
	})
}
