package tcx

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"padis.io/padis/executor/lb"
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

// Blocks never overlap, never cross a page, and what is freed is one block again in the end.
func TestArena(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a arena
		var held []block
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "release") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				a.release(held[i])
				held = slices.Delete(held, i, i+1)
				continue
			}
			n := rapid.IntRange(1, pageBytes-unit).Draw(t, "bytes")
			b, ok := a.alloc(n)
			if !ok {
				t.Fatal("no room")
			}
			if int(b.units)*unit < n || b.position == 0 || b.position/pageUnits != (b.position+b.units-1)/pageUnits {
				t.Fatalf("block %+v for %d bytes", b, n)
			}
			for _, h := range held {
				if b.position < h.position+h.units && h.position < b.position+b.units {
					t.Fatalf("%+v overlaps %+v", b, h)
				}
			}
			held = append(held, b)
		}
		for _, h := range held {
			a.release(h)
		}
		if len(a.free) != a.pages {
			t.Fatalf("%d free blocks in %d pages", len(a.free), a.pages)
		}
	})
	var a arena
	if _, ok := a.alloc(pageBytes + 1); ok {
		t.Error("a block that no page holds")
	}
}

// The intervals hold the clients that the prefixes hold; they ascend and are apart.
func TestAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prefixes []netip.Prefix
		for range rapid.IntRange(1, 20).Draw(t, "prefixes") {
			a := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 255).Draw(t, "c")), byte(rapid.IntRange(0, 255).Draw(t, "d"))})
			prefixes = append(prefixes, netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(t, "bits")).Masked())
		}
		b, n := encodeAllow(prefixes)
		if len(b) != n*8 {
			t.Fatalf("%d bytes for %d intervals", len(b), n)
		}
		client := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 4).Draw(t, "b")), byte(rapid.IntRange(0, 255).Draw(t, "c")), byte(rapid.IntRange(0, 255).Draw(t, "d"))})
		c4 := client.As4()
		c := binary.BigEndian.Uint32(c4[:])
		inside, last := false, int64(-1)
		for ; len(b) > 0; b = b[8:] {
			first, end := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
			if int64(first) <= last || end < first {
				t.Fatalf("interval %d-%d after %d", first, end, last)
			}
			last = int64(end)
			inside = inside || first <= c && c <= end
		}
		if want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(client) }); inside != want {
			t.Fatalf("%s in %v: %v", client, prefixes, inside)
		}
	})
}

// What does not fit is refused, and what was in force stays.
func TestSetRefuses(t *testing.T) {
	needsRoot(t)
	d, err := Load(Options{Mode: DirectorTCX, MAC: directorMAC, Services: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	gs := farm(t, rand.New(rand.NewPCG(1, 1)))
	if err := d.Set(gs[:2]...); err != nil {
		t.Fatal(err)
	}
	for want, set := range map[string][]*lb.Generation{
		"larger number": gs[:3],
		"overlap":       {gs[0], gs[0]},
	} {
		if err := d.Set(set...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if c, err := d.Counters(); err != nil || len(c.Services) != 2 {
		t.Errorf("in force: %v, %v", c.Services, err)
	}
	if err := d.Set(); err != nil {
		t.Error(err)
	}
	d.Close()
	if err := d.Set(); err == nil {
		t.Error("a closed one is set")
	}
	for _, o := range []Options{{Services: -1, MAC: directorMAC}, {MAC: lb.MAC{1}}, {}} {
		if _, err := Load(o); err == nil {
			t.Errorf("%+v is loaded", o)
		}
	}
}
