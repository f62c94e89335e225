package lb

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func service(size uint32) Service {
	return Service{VIP: netip.MustParseAddr("198.51.100.7"), Protocol: TCP, Ports: Ports{80, 80}, TableSize: size, Seed: 7}
}

func server(i int) Server {
	return Server{ID: fmt.Sprintf("shop/web-%d", i), MAC: MAC{2, 0x42, 10, 0, byte(i >> 8), byte(i)}, Weight: 1}
}

func servers(n int) []Server {
	var s []Server
	for i := range n {
		s = append(s, server(i))
	}
	return s
}

func must(t testing.TB, prev *Generation, s Service, servers []Server) *Generation {
	t.Helper()
	g, err := Next(prev, s, servers)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func owned(g *Generation) map[string]int {
	n := map[string]int{}
	for slot := range g.Service.TableSize {
		if o := g.Owner(slot); o != nil {
			n[o.ID]++
		}
	}
	return n
}

// moved counts the slots whose owner is another.
func moved(a, b *Generation) int {
	n := 0
	for slot := range a.Service.TableSize {
		if a.Owner(slot).ID != b.Owner(slot).ID {
			n++
		}
	}
	return n
}

// Equal servers give equal tables in whatever order they come.
func TestOrderIsOfNoMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := service(rapid.SampledFrom([]uint32{2, 251, 1021}).Draw(t, "size"))
		s.Seed = rapid.Uint64().Draw(t, "seed")
		all := drawServers(t, 12)
		a, err := Next(nil, s, all)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Next(nil, s, rapid.Permutation(all).Draw(t, "order"))
		if err != nil {
			t.Fatal(err)
		}
		if !a.same(b) || a.Digest() != b.Digest() {
			t.Fatalf("the order of %v matters", all)
		}
	})
}

func drawServers(t *rapid.T, most int) []Server {
	var all []Server
	for i := range rapid.IntRange(0, most).Draw(t, "servers") {
		s := server(i)
		s.Weight = rapid.SampledFrom([]uint32{1, 1, 1, 0, 2, 5, 100}).Draw(t, "weight")
		s.State = State(rapid.SampledFrom([]int{0, 0, 0, 1, 2, 3}).Draw(t, "state"))
		all = append(all, s)
	}
	return all
}

// Every server that serves has its share by weight, to within one slot and what all others' rounding leaves to it: 7
// deviations of the sum of n roundings.
func TestSharesByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := service(rapid.SampledFrom([]uint32{251, 1021, 4093}).Draw(t, "size"))
		all := drawServers(t, 30)
		g, err := Next(nil, s, all)
		if err != nil {
			t.Fatal(err)
		}
		var sum, n float64
		for _, s := range all {
			if s.serves() {
				sum, n = sum+float64(s.Weight), n+1
			}
		}
		has := owned(g)
		for _, srv := range all {
			share := 0.0
			if srv.serves() {
				share = float64(srv.Weight) / sum
			}
			if want := float64(s.TableSize) * share; math.Abs(float64(has[srv.ID])-want) > 1+2*math.Sqrt(n)*share {
				t.Fatalf("%s of weight %d has %d slots of %d, its share is %.1f", srv.ID, srv.Weight, has[srv.ID], s.TableSize, want)
			}
		}
	})
}

// 100 servers of one weight in 65537 slots: 655 or 656 each, which is within 0.2 %.
func TestSpread(t *testing.T) {
	for id, n := range owned(must(t, nil, service(DefaultTableSize), servers(100))) {
		if n != 655 && n != 656 {
			t.Errorf("%s owns %d slots", id, n)
		}
	}
}

// One server more or less moves few slots more than its own: that is what the Maglev paper measures, too.
func TestDisruptionIsNearMinimal(t *testing.T) {
	for _, n := range []int{2, 8, 50, 100} {
		s := service(DefaultTableSize)
		all := servers(n)
		g := must(t, nil, s, all)
		most := 2.0 * DefaultTableSize / float64(n)
		less := slices.Delete(slices.Clone(all), n/2, n/2+1)
		if m := moved(g, must(t, nil, s, less)); float64(m) > most {
			t.Errorf("one of %d servers less moves %d slots", n, m)
		} else {
			t.Logf("one of %d servers less moves %.2f times its share", n, float64(m)*float64(n)/DefaultTableSize)
		}
		heavier := slices.Clone(all)
		for i := range heavier {
			heavier[i].Weight = 100
		}
		if m := moved(g, must(t, nil, s, heavier)); m != 0 {
			t.Errorf("all weights by 100 move %d slots", m)
		}
		heavier[0].Weight = 110
		if m := moved(g, must(t, nil, s, heavier)); float64(m) > most/2 {
			t.Errorf("a tenth more weight of one of %d servers moves %d slots", n, m)
		}
	}
}

// Histories hold each server once, the living only, suspects last; owners serve; and who was in a chain stays in it while it
// lives, unless the chain is full of others that cannot serve.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := service(rapid.SampledFrom([]uint32{31, 251}).Draw(t, "size"))
		var g *Generation
		for range rapid.IntRange(1, 30).Draw(t, "changes") {
			now := drawServers(t, rapid.SampledFrom([]int{4, 40}).Draw(t, "most"))
			next, err := Next(g, s, now)
			if err != nil {
				t.Fatal(err)
			}
			serving := 0
			for i := range next.Servers {
				if next.Servers[i].serves() {
					serving++
				}
			}
			for slot := range s.TableSize {
				checkChain(t, g, next, slot, serving)
			}
			if again, err := Next(next, s, now); err != nil || again != next {
				t.Fatalf("the same servers again make generation %d of %d: %v", again.Number, next.Number, err)
			}
			g = next
		}
	})
}

func checkChain(t *rapid.T, prev, g *Generation, slot uint32, serving int) {
	chain := g.Chain(slot)
	ids := map[string]bool{}
	suspects := false
	for i, e := range chain {
		srv := &g.Servers[e]
		if srv.State == Dead || ids[srv.ID] {
			t.Fatalf("slot %d has %s (%s) twice or dead: %v", slot, srv.ID, srv.State, chain)
		}
		if suspects && srv.State != Suspect {
			t.Fatalf("slot %d has %s behind a suspect: %v", slot, srv.ID, chain)
		}
		ids[srv.ID], suspects = true, suspects || srv.State == Suspect
		if i == 0 && serving > 0 && !srv.serves() {
			t.Fatalf("slot %d is owned by %s, which is %s with weight %d", slot, srv.ID, srv.State, srv.Weight)
		}
	}
	if len(chain) > MaxChain || len(chain) == 0 && serving > 0 {
		t.Fatalf("slot %d has a chain of %d", slot, len(chain))
	}
	if prev == nil {
		return
	}
	lost := 0
	for _, e := range prev.Chain(slot) {
		id := prev.Servers[e].ID
		if at := slices.IndexFunc(g.Servers, func(s Server) bool { return s.ID == id }); at >= 0 && !ids[id] {
			lost++
		}
	}
	full := len(chain) == MaxChain && !slices.ContainsFunc(chain[1:], func(e uint16) bool { return g.Servers[e].serves() })
	if lost > 1 || lost == 1 && !full {
		t.Fatalf("slot %d lost %d living servers from its chain", slot, lost)
	}
}

// A full chain keeps its slot with somebody it knows, because the flows of whom it forgot would be lost.
func TestFullChainForgetsNobody(t *testing.T) {
	s := service(2)
	var g *Generation
	seen := map[string]bool{}
	for i := range 200 { // one more server each time, only it serves: every slot moves every time
		all := servers(i + 1)
		for j := range i {
			all[j].Weight = 0
		}
		if i >= MaxChain { // one of the chain could serve again
			all[3].Weight = 1
		}
		g = must(t, g, s, all)
		for slot := range s.TableSize {
			if n := len(g.Chain(slot)); n != min(i+1, MaxChain) {
				t.Fatalf("chain of %d after %d changes", n, i+1)
			}
			seen[g.Owner(slot).ID] = true
		}
	}
	if len(seen) != MaxChain {
		t.Errorf("%d servers have owned a slot", len(seen))
	}
}

func TestUDPHasNoHistory(t *testing.T) {
	s := service(251)
	s.Protocol = UDP
	all := servers(3)
	g := must(t, nil, s, all)
	g = must(t, g, s, all[:2])
	if g.Entries() != 251 {
		t.Errorf("%d entries", g.Entries())
	}
	all[0].State, all[1].State = Draining, Draining
	if h := must(t, g, s, all[:2]); h.Entries() != 251 || moved(g, h) != 0 {
		t.Error("slots leave servers that drain though nobody else is there")
	}
}

func TestNextRefuses(t *testing.T) {
	good := service(251)
	for _, c := range []struct {
		want   string
		change func(*Service, []Server)
	}{
		{"vip", func(s *Service, _ []Server) { s.VIP = netip.Addr{} }},
		{"vip", func(s *Service, _ []Server) { s.VIP = netip.MustParseAddr("::ffff:1.2.3.4") }},
		{"protocol 1 ", func(s *Service, _ []Server) { s.Protocol = 1 }},
		{"ports 90-80", func(s *Service, _ []Server) { s.Ports = Ports{90, 80} }},
		{"ports 0-80", func(s *Service, _ []Server) { s.Ports = Ports{0, 80} }},
		{"scheduler 2", func(s *Service, _ []Server) { s.Scheduler = 2 }},
		{"tableSize 250", func(s *Service, _ []Server) { s.TableSize = 250 }},
		{"tableSize 655379", func(s *Service, _ []Server) { s.TableSize = 655379 }},
		{"allow", func(s *Service, _ []Server) { s.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} }},
		{"allow", func(s *Service, _ []Server) { s.Allow = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")} }},
		{"must stay 251", func(s *Service, _ []Server) { s.TableSize = 257 }},
		{"must stay 251 and 0x7", func(s *Service, _ []Server) { s.Seed = 8 }},
		{`id ""`, func(_ *Service, all []Server) { all[0].ID = "" }},
		{"listed twice", func(_ *Service, all []Server) { all[0].ID = all[1].ID }},
		{"is that of real servers", func(_ *Service, all []Server) { all[0].MAC = all[1].MAC }},
		{"unicast", func(_ *Service, all []Server) { all[0].MAC[0] = 3 }},
		{"unicast", func(_ *Service, all []Server) { all[0].MAC[0] = stampPrefix }},
		{"unicast", func(_ *Service, all []Server) { all[0].MAC = MAC{} }},
		{"weight 65536", func(_ *Service, all []Server) { all[0].Weight = 65536 }},
		{"state 4", func(_ *Service, all []Server) { all[0].State = 4 }},
	} {
		s, all := good, servers(3)
		g := must(t, nil, s, all)
		c.change(&s, all)
		if _, err := Next(g, s, all); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

// history makes a service that has seen changes.
func history(t testing.TB, size uint32, changes int) *Generation {
	r := rand.New(rand.NewPCG(3, 4))
	all := servers(20)
	g := must(t, nil, service(size), all)
	for i := range changes {
		all[r.IntN(len(all))].State = State(r.IntN(3))
		all = append(all, server(20+i))
		g = must(t, g, g.Service, all)
	}
	return g
}

func BenchmarkMaglev(b *testing.B) {
	all := servers(100)
	for b.Loop() {
		maglev(DefaultTableSize, 7, all)
	}
}

func BenchmarkNext(b *testing.B) {
	g := history(b, DefaultTableSize, 20)
	more := append(slices.Clone(g.Servers), server(999))
	b.ReportMetric(float64(g.Entries())/DefaultTableSize, "servers/chain")
	for b.Loop() {
		must(b, g, g.Service, more)
	}
}

func BenchmarkEncode(b *testing.B) {
	g := history(b, DefaultTableSize, 20)
	b.ReportMetric(float64(len(g.Encode())), "bytes")
	for b.Loop() {
		g.Encode()
	}
}

func BenchmarkDecode(b *testing.B) {
	text := history(b, DefaultTableSize, 20).Encode()
	for b.Loop() {
		if _, err := Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}
