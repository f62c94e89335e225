package network

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func bridged(name string) Segment {
	return Segment{Network: name, Driver: DriverBridge, Bridge: name, MTU: 1500}
}

func aBridge(name string, mtu int) Link { return Link{Name: name, Kind: "bridge", Up: true, MTU: mtu} }

func TestRelayPairsComeAndGo(t *testing.T) {
	w := newWorld(aBridge("br0", 1400), aBridge("br1", 1500), device("eth0"))
	plan := func(owner string, segments ...Segment) string {
		t.Helper()
		ops, err := PlanRelays(owner, segments, true, Observed{Host: w.host})
		if err != nil {
			t.Fatal(err)
		}
		w.log = nil
		if err := w.apply(ops); err != nil {
			t.Fatal(err)
		}
		return w.String()
	}
	out, port := RelayNames("me", "br0")
	text := strings.NewReplacer(out, "OUT", port, "PORT", relayMAC(port).String(), "MAC")
	if got, want := text.Replace(plan("me", bridged("br0"), bridged("br0"))), `ip link add PORT address MAC mtu 1400 master br0 type veth peer name OUT mtu 1400 arp off && bridge link set dev PORT flood off mcast_flood off bcast_flood off
sysctl -w net/ipv6/conf/OUT/disable_ipv6=1
sysctl -w net/ipv6/conf/PORT/disable_ipv6=1
ip link set OUT up
ip link set PORT up
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := plan("me", bridged("br0")); got != "\n" {
		t.Errorf("again: %s", got)
	}
	// The bridge has another MTU now.
	find(w.host, "br0").MTU = 1500
	if got := text.Replace(plan("me", bridged("br0"))); !strings.HasPrefix(got, "ip link del PORT\nip link add PORT address MAC mtu 1500") {
		t.Errorf("got %s", got)
	}
	find(w.host, out).Up = false
	if got := text.Replace(plan("me", bridged("br0"))); got != "ip link set OUT up\n" {
		t.Errorf("got %s", got)
	}
	plan("you", bridged("br0"), bridged("br1"))
	if ops, err := PlanRelays("me", nil, false, Observed{Host: w.host}); err != nil || len(ops) > 0 {
		t.Errorf("without prune: %v, %v", ops, err)
	}
	if got := text.Replace(plan("me")); strings.Count(got, "link del") != 1 || find(w.host, out) != nil {
		t.Errorf("got %s", got)
	}
	if got := plan("you"); strings.Count(got, "link del") != 2 || len(w.host) != 4 {
		t.Errorf("got %s, %v", got, w.host)
	}
	for _, s := range []Segment{bridged("none"), bridged("eth0")} {
		if _, err := PlanRelays("me", []Segment{s}, true, Observed{Host: w.host}); err == nil || !strings.Contains(err.Error(), "there is no bridge "+s.Bridge) {
			t.Error(err)
		}
	}
	w.host = append(w.host, Link{Name: out, Kind: "dummy"})
	if _, err := PlanRelays("me", []Segment{bridged("br0")}, true, Observed{Host: w.host}); err == nil || !strings.Contains(err.Error(), "ip link del "+out) {
		t.Error(err)
	}
}

// Whatever is wanted of whatever there is: then there is that, and nothing more to do; others keep theirs, and a sweep leaves all.
func TestRelayPairsAsWanted(t *testing.T) {
	names := []string{"br0", "br1", "br2"}
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for _, n := range names {
			w.host = append(w.host, aBridge(n, 1500))
		}
		wanted := map[string][]Segment{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			owner := rapid.SampledFrom([]string{"me", "you"}).Draw(t, "owner")
			wanted[owner] = nil
			for _, n := range rapid.SliceOf(rapid.SampledFrom(names)).Draw(t, "bridges") {
				wanted[owner] = append(wanted[owner], bridged(n))
			}
			for range 2 {
				ops, err := PlanRelays(owner, wanted[owner], true, Observed{Host: w.host})
				if err != nil {
					t.Fatal(err)
				}
				if err := w.apply(ops); err != nil {
					t.Fatal(err)
				}
			}
			for o, segments := range wanted {
				if ops, _ := PlanRelays(o, segments, true, Observed{Host: w.host}); len(ops) > 0 {
					t.Fatalf("%s: still to be done: %v", o, ops)
				}
				for _, n := range names {
					out, _ := RelayNames(o, n)
					has, want := find(w.host, out) != nil, slices.ContainsFunc(segments, func(s Segment) bool { return s.Bridge == n })
					if has != want {
						t.Fatalf("%s at %s: %v, want %v", o, n, has, want)
					}
				}
				if ops := Sweep(Observed{Host: w.host}, o, nil); len(ops) > 0 {
					t.Fatalf("swept: %v", ops)
				}
			}
		}
	})
}

func TestDirectorsAreNotGuarded(t *testing.T) {
	l := launch(&padisv1.Network{Name: "lan", Bridge: "padis0"}, false)
	for _, director := range []bool{false, true} {
		l.Template = &padisv1.Template{Director: director}
		w, err := Want("me", "task", "host", l)
		if err != nil || w.Interfaces[0].Guarded == director {
			t.Errorf("director %v: guarded %v, %v", director, w.Interfaces[0].Guarded, err)
		}
	}
}

func TestReached(t *testing.T) {
	w, err := Want("me", "task", "host", launch(&padisv1.Network{Name: "lan", Bridge: "padis0"}, true))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range w.Interfaces {
		for _, p := range i.Addresses {
			if got, s, ok := w.Reached(p.Addr()); !ok || got.Host != i.Host || s.Network != "lan" || !s.Relays() {
				t.Errorf("%s: %+v, %+v, %v", p, got, s, ok)
			}
		}
	}
	if _, _, ok := w.Reached(netip.MustParseAddr("192.0.2.99")); ok {
		t.Error("reaches what it does not have")
	}
}
