package lb

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

// vector is one line of testdata/hash.json. Numbers of 64 bits are text, because JSON's numbers end at 53.
type vector struct {
	Seed     string     `json:"seed"`
	Src      netip.Addr `json:"src"`
	Dst      netip.Addr `json:"dst"`
	SrcPort  uint16     `json:"srcPort"`
	DstPort  uint16     `json:"dstPort"`
	Protocol uint8      `json:"protocol"`
	BySource bool       `json:"bySource,omitempty"`
	Hash     string     `json:"hash"`
	// Slot65537 and Slot251 are the hash's slots in tables of these sizes.
	Slot65537 uint32 `json:"slot65537"`
	Slot251   uint32 `json:"slot251"`
}

func (v vector) filled() vector {
	var seed uint64
	fmt.Sscanf(v.Seed, "0x%x", &seed)
	t := Tuple{v.Src, v.Dst, v.SrcPort, v.DstPort, v.Protocol}
	if v.BySource {
		t = BySource(t)
	}
	h := Hash(seed, t)
	v.Hash, v.Slot65537, v.Slot251 = fmt.Sprintf("%#016x", h), Slot(h, 65537), Slot(h, 251)
	return v
}

func inputs() []vector {
	a := netip.MustParseAddr
	vs := []vector{
		{Seed: "0x0", Src: a("0.0.0.0"), Dst: a("0.0.0.0")},
		{Seed: "0x0", Src: a("192.0.2.1"), Dst: a("198.51.100.7"), SrcPort: 40000, DstPort: 80, Protocol: 6},
		{Seed: "0x0", Src: a("192.0.2.1"), Dst: a("198.51.100.7"), SrcPort: 40001, DstPort: 80, Protocol: 6},
		{Seed: "0x0", Src: a("192.0.2.1"), Dst: a("198.51.100.7"), SrcPort: 40000, DstPort: 80, Protocol: 17},
		{Seed: "0x123456789abcdef0", Src: a("192.0.2.1"), Dst: a("198.51.100.7"), SrcPort: 40000, DstPort: 80, Protocol: 6},
		{Seed: "0x0", Src: a("192.0.2.1"), Dst: a("198.51.100.7"), SrcPort: 40000, DstPort: 80, Protocol: 6, BySource: true},
		{Seed: "0x0", Src: a("255.255.255.255"), Dst: a("255.255.255.255"), SrcPort: 65535, DstPort: 65535, Protocol: 255},
		{Seed: "0x0", Src: a("2001:db8::1"), Dst: a("2001:db8:ffff::7"), SrcPort: 40000, DstPort: 443, Protocol: 6},
		{Seed: "0xffffffffffffffff", Src: a("2001:db8::1"), Dst: a("2001:db8:ffff::7"), SrcPort: 40000, DstPort: 443, Protocol: 17},
		{Seed: "0x0", Src: a("2001:db8::1"), Dst: a("2001:db8:ffff::7"), SrcPort: 40000, DstPort: 443, Protocol: 6, BySource: true},
		{Seed: "0x0", Src: a("::ffff:192.0.2.1"), Dst: a("::ffff:198.51.100.7"), SrcPort: 40000, DstPort: 80, Protocol: 6},
	}
	r := rand.New(rand.NewPCG(5, 10))
	for range 32 {
		var s4, d4 [4]byte
		var s6, d6 [16]byte
		for i := range s6 {
			s6[i], d6[i] = byte(r.Uint32()), byte(r.Uint32())
		}
		copy(s4[:], s6[:])
		copy(d4[:], d6[:])
		v := vector{Seed: fmt.Sprintf("%#x", r.Uint64()), SrcPort: uint16(r.Uint32()), DstPort: uint16(r.Uint32()), Protocol: []uint8{6, 17}[r.IntN(2)]}
		v.Src, v.Dst = netip.AddrFrom4(s4), netip.AddrFrom4(d4)
		vs = append(vs, v)
		v.Src, v.Dst = netip.AddrFrom16(s6), netip.AddrFrom16(d6)
		vs = append(vs, v)
	}
	return vs
}

// The vectors are an agreement with programs that are loaded already: a difference here is a difference there.
func TestHashVectors(t *testing.T) {
	if *update {
		var out []byte
		for i, v := range inputs() {
			line, err := json.Marshal(v.filled())
			if err != nil {
				t.Fatal(err)
			}
			out = append(append(append(out, "[,"[min(i, 1)]), '\n'), line...)
		}
		if err := os.WriteFile("testdata/hash.json", append(out, "\n]\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("testdata/hash.json")
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(text, &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) < 40 {
		t.Fatalf("only %d vectors", len(vs))
	}
	for _, v := range vs {
		if got := v.filled(); got != v {
			t.Errorf("got  %+v\nwant %+v", got, v)
		}
	}
}

// Every bit of the flow changes every bit of the hash that places it (the upper 32) in about half of the cases.
func TestHashAvalanche(t *testing.T) {
	const n = 4000
	r := rand.New(rand.NewPCG(1, 2))
	flip := func(t Tuple, bit int) Tuple {
		size := t.Src.BitLen()
		a := func(x netip.Addr, bit int) netip.Addr {
			b := x.AsSlice()
			b[bit/8] ^= 1 << (bit % 8)
			y, _ := netip.AddrFromSlice(b)
			return y
		}
		switch {
		case bit < size:
			t.Src = a(t.Src, bit)
		case bit < 2*size:
			t.Dst = a(t.Dst, bit-size)
		case bit < 2*size+16:
			t.SrcPort ^= 1 << (bit - 2*size)
		default:
			t.DstPort ^= 1 << (bit - 2*size - 16)
		}
		return t
	}
	for _, six := range []bool{false, true} {
		base := Tuple{Src: netip.MustParseAddr("192.0.2.0"), Dst: netip.MustParseAddr("198.51.100.7"), Protocol: 6, DstPort: 443}
		if six {
			base.Src, base.Dst = netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("2001:db8::7")
		}
		for bit := range 2*base.Src.BitLen() + 32 {
			var count [32]int
			for range n {
				tu := base
				tu.SrcPort = uint16(r.Uint32())
				b := tu.Src.AsSlice()
				b[len(b)-1], b[len(b)-2] = byte(r.Uint32()), byte(r.Uint32())
				tu.Src, _ = netip.AddrFromSlice(b)
				diff := (Hash(0, tu) ^ Hash(0, flip(tu, bit))) >> 32
				for o := range count {
					count[o] += int(diff >> o & 1)
				}
			}
			for o, c := range count {
				if c < n*2/5 || c > n*3/5 {
					t.Errorf("ipv6 %v: bit %d of the flow changes bit %d of the hash in %d of %d cases", six, bit, 32+o, c, n)
				}
			}
		}
	}
}

// Neighbouring clients and ports, as they come, fill the slots like chance would: chi-squared within six deviations.
func TestHashEven(t *testing.T) {
	const size, n = 4099, 4099 * 64
	var count [size]int
	for i := range n {
		tu := Tuple{Src: netip.AddrFrom4([4]byte{10, 0, byte(i >> 14), byte(i >> 6)}), Dst: netip.AddrFrom4([4]byte{198, 51, 100, 7}),
			SrcPort: uint16(32768 + i%64), DstPort: 443, Protocol: 6}
		count[Slot(Hash(0, tu), size)]++
	}
	var chi float64
	for _, c := range count {
		d := float64(c) - 64
		chi += d * d / 64
	}
	if d := 6 * 90.6; chi < size-1-d || chi > size-1+d { // deviation: sqrt(2*(size-1))
		t.Errorf("chi-squared %.0f for %d slots", chi, size)
	}
}

func BenchmarkHash(b *testing.B) {
	tu := Tuple{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("198.51.100.7"), SrcPort: 40000, DstPort: 80, Protocol: 6}
	for b.Loop() {
		Hash(1, tu)
	}
}
