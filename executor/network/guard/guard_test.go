package guard

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"padis.io/padis/executor/network"
)

func port(i int, driver string) network.GuardedPort {
	p := network.GuardedPort{
		Link: fmt.Sprintf("v%d", i), Driver: driver, MAC: network.MAC{2, 0x42, 10, 44, byte(i >> 8), byte(i)},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 44, byte(i >> 8), byte(i)})},
	}
	if i%3 == 0 {
		p.Addresses = append(p.Addresses, netip.AddrFrom16([16]byte{0xfd, 14: byte(i >> 8), 15: byte(i)}))
	}
	if i%5 == 0 {
		p.Loopback = []netip.Addr{netip.AddrFrom4([4]byte{10, 99, 0, 1})}
	}
	return p
}

func observed(t testing.TB, g *Guard, links []string) map[string]network.GuardedPort {
	t.Helper()
	now, _, err := g.Observe(links)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

func same(a, b map[string]network.GuardedPort) bool {
	return maps.EqualFunc(a, b, func(a, b network.GuardedPort) bool {
		return a.Link == b.Link && a.Driver == b.Driver && a.MAC == b.MAC && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Loopback, b.Loopback)
	})
}

func TestObserveReadsBack(t *testing.T) {
	host := newNamespace(t)
	g := open(t, host, "read")
	if now := observed(t, g, nil); len(now) > 0 {
		t.Fatalf("before the first use: %v", now)
	}
	want := map[string]network.GuardedPort{}
	for i, d := range []string{"", network.DriverBridge, network.DriverVLAN, network.DriverVXLAN, network.DriverRouted, network.DriverRouted} {
		want[port(i, d).Link] = port(i, d)
		apply(t, g, network.Guard{Port: port(i, d)})
	}
	again := open(t, host, "read")
	for name, g := range map[string]*Guard{"the same": g, "another process": again} {
		if now := observed(t, g, nil); !same(now, want) {
			t.Errorf("%s: %v", name, now)
		}
		if now := observed(t, g, []string{"v1", "v4", "w1"}); !same(now, map[string]network.GuardedPort{"v1": want["v1"], "v4": want["v4"]}) {
			t.Errorf("%s: %v", name, now)
		}
	}
	if now := observed(t, open(t, host, "another owner"), nil); len(now) > 0 {
		t.Errorf("another owner: %v", now)
	}
	// A port may move, and its addresses may change.
	moved := port(1, network.DriverRouted)
	moved.Addresses = []netip.Addr{netip.MustParseAddr("10.44.9.9")}
	apply(t, again, network.Guard{Port: moved}, network.Unguard{Link: "v2"}, network.Unguard{Link: "w1"})
	want["v1"] = moved
	delete(want, "v2")
	if now := observed(t, again, nil); !same(now, want) {
		t.Errorf("after changes: %v", now)
	}
}

func TestWhatCannotBeGuardedIsRefusedAndNothingChanges(t *testing.T) {
	g := open(t, newNamespace(t), "refuse")
	apply(t, g, network.Guard{Port: port(1, "")})
	for want, op := range map[string]network.Op{
		"driver \"ovs\"":            network.Guard{Port: port(2, network.DriverOVS)},
		"driver \"macvlan\"":        network.Guard{Port: port(2, network.DriverMACVLAN)},
		"1 to 15 bytes":             network.Guard{Port: network.GuardedPort{Link: "a-name-that-is-too-long"}},
		"cannot be the address":     network.Guard{Port: network.GuardedPort{Link: "v2", Addresses: []netip.Addr{{}}}},
		"is no operation":           network.DelLink{Link: "v2"},
		"bridge \"\"":               network.KeepApart{},
		"peer of bridge br0":        network.KeepApart{Bridge: "br0", Peers: []string{""}},
		"224.0.0.1 cannot be":       network.Guard{Port: network.GuardedPort{Link: "v2", Addresses: []netip.Addr{netip.MustParseAddr("224.0.0.1")}}},
		"guarded link \"\": the na": network.Guard{},
	} {
		err := g.Apply([]network.Op{network.Guard{Port: port(3, "")}, op})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", op, err, want)
		}
	}
	if now := observed(t, g, nil); !same(now, map[string]network.GuardedPort{"v1": port(1, "")}) {
		t.Errorf("now %v", now)
	}
	if _, err := New(""); err == nil {
		t.Error("an empty owner is not refused")
	}
}

// Somebody flushes all rules of the host, or takes one table or one element away: the next use brings all back.
func TestTablesComeBack(t *testing.T) {
	host := newNamespace(t)
	g := open(t, host, "flushed")
	want := map[string]network.GuardedPort{}
	for i := range 600 {
		p := port(i, []string{network.DriverBridge, network.DriverRouted}[i%2])
		want[p.Link] = p
		apply(t, g, network.Guard{Port: p})
	}
	apply(t, g, network.KeepApart{Bridge: "br0", Peers: []string{"br1"}})
	var stranger *nftables.Conn
	host.do(t, func() (err error) {
		stranger, err = nftables.New(nftables.AsLasting())
		return err
	})
	defer stranger.CloseLasting()
	next := 1000
	for name, do := range map[string]func() error{
		"all rules": func() error { stranger.FlushRuleset(); return nil },
		"a table":   func() error { stranger.DelTable(g.layouts[routed].table); return nil },
		"one element": func() error {
			l := g.layouts[bridged]
			return stranger.SetDeleteElements(l.sets[setPorts], []nftables.SetElement{{Key: []byte(name("v0"))}})
		},
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if err := stranger.Flush(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if now := observed(t, g, []string{"v0", "v1"}); len(now) == 2 {
			t.Errorf("%s: gone, and not seen: %v", name, now)
		}
		// The plan repeats what is not observed; here also a port that was never known.
		p := port(next, network.DriverRouted)
		next++
		want[p.Link] = p
		apply(t, g, network.Guard{Port: p}, network.Unguard{Link: "v0"}, network.Guard{Port: want["v0"]})
		now, between, err := g.Observe(nil)
		if err != nil || !same(now, want) || !reflect.DeepEqual(between, map[string][]string{"br0": {"br1"}}) {
			t.Errorf("%s: %d ports of %d, apart %v, %v", name, len(now), len(want), between, err)
		}
	}
}

// Tables of an older release, or damaged ones, are replaced by the first use of a new process; the ports stay.
func TestFirstUseReplacesTheRules(t *testing.T) {
	host := newNamespace(t)
	apply(t, open(t, host, "old"), network.Guard{Port: port(1, "")}, network.Guard{Port: port(4, network.DriverRouted)}, network.KeepApart{Bridge: "br0"})
	g := open(t, host, "old")
	l := g.layouts[bridged]
	var stranger *nftables.Conn
	host.do(t, func() (err error) {
		stranger, err = nftables.New()
		if err == nil {
			stranger.FlushTable(l.table)
			stranger.FlushTable(g.layouts[apart].table)
			err = stranger.Flush()
		}
		return err
	})
	apply(t, g, network.Guard{Port: port(2, "")})
	want := map[string]network.GuardedPort{"v1": port(1, ""), "v2": port(2, ""), "v4": port(4, network.DriverRouted)}
	if now := observed(t, g, nil); !same(now, want) {
		t.Errorf("now %v", now)
	}
	host.do(t, func() error {
		for _, l := range g.layouts {
			for _, c := range l.chains {
				rules, err := stranger.GetRules(l.table, &nftables.Chain{Name: c.name})
				if err != nil {
					return err
				}
				if len(rules) != len(c.rules) {
					return fmt.Errorf("chain %s of %s has %d rules, want %d", c.name, l.table.Name, len(rules), len(c.rules))
				}
			}
		}
		return nil
	})
}

func TestManyAtOnce(t *testing.T) {
	host := newNamespace(t)
	g := open(t, host, "many")
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w * 100; i < w*100+40; i++ {
				p := port(i, []string{network.DriverBridge, network.DriverRouted}[i%2])
				if err := g.Apply([]network.Op{network.Guard{Port: p}}); err != nil {
					t.Error(err)
				}
				if now, _, err := g.Observe([]string{p.Link}); err != nil || len(now) != 1 {
					t.Errorf("%s: %v, %v", p.Link, now, err)
				}
				if i%10 != 0 {
					if err := g.Apply([]network.Op{network.Unguard{Link: p.Link}}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	want := map[string]network.GuardedPort{}
	for w := range 16 {
		for i := w * 100; i < w*100+40; i += 10 {
			want[port(i, "").Link] = port(i, []string{network.DriverBridge, network.DriverRouted}[i%2])
		}
	}
	if now := observed(t, g, nil); !same(now, want) {
		t.Errorf("%d ports are left, want %d", len(now), len(want))
	}
}

// Whatever operations in whatever batches: what the kernel has is what they say, for this process and the next.
func TestKernelHasWhatOperationsSay(t *testing.T) {
	host := newNamespace(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		tag := fmt.Sprintf("prop%d", round)
		g := open(t, host, tag)
		want, between := map[string]network.GuardedPort{}, map[string][]string{}
		for range rapid.IntRange(1, 6).Draw(rt, "batches") {
			var ops []network.Op
			for range rapid.IntRange(1, 4).Draw(rt, "ops") {
				switch rapid.IntRange(0, 4).Draw(rt, "op") {
				case 0, 1:
					p := port(rapid.IntRange(0, 5).Draw(rt, "content"), rapid.SampledFrom([]string{"", network.DriverVLAN, network.DriverRouted}).Draw(rt, "driver"))
					p.Link = rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(rt, "link")
					ops, want[p.Link] = append(ops, network.Guard{Port: p}), p
				case 2, 3:
					l := rapid.SampledFrom([]string{"v1", "v2", "v3"}).Draw(rt, "link")
					ops = append(ops, network.Unguard{Link: l})
					delete(want, l)
				case 4:
					b := fmt.Sprintf("b%d-%d", round, rapid.IntRange(0, 1).Draw(rt, "bridge"))
					peers := rapid.SampledFrom([][]string{nil, {"x"}, {"x", "y"}}).Draw(rt, "peers")
					ops, between[b] = append(ops, network.KeepApart{Bridge: b, Peers: peers}), peers
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "flush") == 0 {
				host.do(t, func() error {
					c, err := nftables.New()
					if err == nil {
						c.FlushRuleset()
						err = c.Flush()
					}
					return err
				})
				// A batch that changes nothing of the tables would not notice.
				p := port(9, "")
				ops, want[p.Link] = append(ops, network.Guard{Port: p}), p
			}
			if err := g.Apply(ops); err != nil {
				rt.Fatal(err)
			}
			for _, g := range []*Guard{g, open(t, host, tag)} {
				now, apart, err := g.Observe(nil)
				if err != nil || !same(now, want) {
					rt.Fatalf("observed %v, %v, want %v", now, err, want)
				}
				for b, peers := range between {
					if !slices.Equal(apart[b], peers) {
						rt.Fatalf("bridge %s: %v, want %v", b, apart[b], peers)
					}
				}
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{7, 0, 0, 0, 12, 0, 3, 0x80, 8, 0, 1, 0x80, 4, 0, 1, 0}, []byte{0, 3, 'a', 'b', 0})
	f.Fuzz(func(t *testing.T, message, userdata []byte) {
		all, err := decode(message)
		if err != nil {
			return
		}
		for i := range all {
			for _, e := range []struct {
				place place
				set   string
			}{{bridged, setPorts}, {bridged, setMACs}, {routed, set4}, {bridged, setLo6}, {apart, setHosted}, {apart, setPairs}} {
				all[i].place, all[i].set = e.place, e.set
				ports(all)
				hosted(all)
			}
		}
		comment(userdata)
	})
}

// Bytes of elements read back are the port again.
func TestElementsAreThePort(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := port(rapid.IntRange(0, 60000).Draw(rt, "port"), rapid.SampledFrom([]string{"", network.DriverBridge, network.DriverRouted}).Draw(rt, "driver"))
		all, err := elements(p)
		if err != nil {
			rt.Fatal(err)
		}
		if back := ports(all); !same(back, map[string]network.GuardedPort{p.Link: p}) {
			rt.Fatalf("%v became %v", p, back)
		}
	})
}

// One attachment and one detachment, beside a thousand other ports.
func BenchmarkGuardAndUnguard(b *testing.B) {
	g := benchmark(b)
	for i := 0; b.Loop(); i++ {
		cycle(b, g, 2000+i%20000)
	}
}

func BenchmarkGuardAndUnguardFrom16(b *testing.B) {
	g := benchmark(b)
	var mu sync.Mutex
	next := 0
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			next++
			i := 2000 + next%20000
			mu.Unlock()
			cycle(b, g, i)
		}
	})
}

func BenchmarkObserveOne(b *testing.B) {
	g := benchmark(b)
	for b.Loop() {
		if now, _, err := g.Observe([]string{"v15"}); err != nil || len(now) != 1 {
			b.Fatal(now, err)
		}
	}
}

func benchmark(b *testing.B) *Guard {
	g := open(b, newNamespace(b), "bench")
	var ops []network.Op
	for i := range 1000 {
		ops = append(ops, network.Guard{Port: port(i, "")})
	}
	apply(b, g, ops...)
	b.ResetTimer()
	return g
}

func cycle(b *testing.B, g *Guard, i int) {
	p := port(i, "")
	if err := g.Apply([]network.Op{network.Guard{Port: p}}); err != nil {
		b.Fatal(err)
	}
	if err := g.Apply([]network.Op{network.Unguard{Link: p.Link}}); err != nil {
		b.Fatal(err)
	}
}

// Tables are named after their owner, and made when something is put into them: what passes a host without routed
// networks meets no rule of theirs.
func TestTablesAreMadeWhenTheyAreNeeded(t *testing.T) {
	host := newNamespace(t)
	g := open(t, host, "abcde")
	routedPort := port(2, "")
	routedPort.Driver = network.DriverRouted
	var want []string
	for _, step := range []struct {
		op    network.Op
		table string
	}{
		{network.Guard{Port: port(1, "")}, "bridge padis-abcde"},
		{network.Guard{Port: routedPort}, "inet padis-abcde"},
		{network.KeepApart{Bridge: "br0"}, "inet padis"},
	} {
		apply(t, g, step.op)
		want = append(want, step.table)
		var got []string
		host.do(t, func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			tables, err := c.ListTables()
			for _, table := range tables {
				family := map[nftables.TableFamily]string{unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_INET: "inet"}[table.Family]
				got = append(got, family+" "+table.Name)
			}
			return err
		})
		if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Errorf("after %s there are %v, want %v", step.op, got, want)
		}
	}
	ports, hosted, err := g.Observe(nil)
	if err != nil || len(ports) != 2 || len(hosted) != 1 {
		t.Errorf("%v, %v, %v", ports, hosted, err)
	}
}
