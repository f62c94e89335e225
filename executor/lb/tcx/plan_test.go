package tcx

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func TestPerfectHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, maxListens).Draw(t, "listeners")
		first := rapid.Uint32().Draw(t, "first")
		six := rapid.Bool().Draw(t, "six")
		keys := make([]key, n)
		for i := range keys {
			x := first + uint32(i)/4
			vip := netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})
			if six {
				vip = netip.AddrFrom16([16]byte{0x20, 1, 12: byte(x >> 24), 13: byte(x >> 16), 14: byte(x >> 8), 15: byte(x)})
			}
			keys[i] = keyOf(vip, 6, uint16(80+i%4))
		}
		p, err := findPerfect(keys)
		if err != nil {
			t.Fatal(err)
		}
		taken := map[uint32]int{}
		for i, k := range keys {
			h := k.hash(p.seed)
			cell := (uint32(h>>32) ^ p.displace[h%buckets]) % maxCells
			if other, twice := taken[cell]; twice || cell != p.cells[i] {
				t.Fatalf("cell %d of key %d is %d's, or not %d", cell, i, other, p.cells[i])
			}
			taken[cell] = i
		}
	})
}
