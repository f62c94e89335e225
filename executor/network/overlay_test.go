package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func overlaySegment() Segment {
	return Segment{Network: "lan", Driver: DriverVXLAN, Bridge: "br", Uplink: "tun", VNI: 7, Port: 4789}
}

func overlayDevices() (tunnel, bridge Link) {
	return Link{Name: "tun", Kind: "vxlan", VNI: 7, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")}, Link{Name: "br", Kind: "bridge"}
}

func TestOverlayReadsAsCommands(t *testing.T) {
	remotes, err := Remotes(&padisv1.Overlay{Network: "lan", Hosts: []*padisv1.OverlayHost{
		{Endpoint: "192.0.2.3", Addresses: []string{"fd00::7,10.0.0.7", "fd00::8"}}, {Endpoint: "192.0.2.2"}, {Endpoint: "192.0.2.1", Addresses: []string{"10.0.0.9"}}, {Endpoint: "2001:db8::1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	tunnel, bridge := overlayDevices()
	tunnel.Forwards = []Forward{{Endpoint: netip.MustParseAddr("192.0.2.2")}, {MAC{2, 0x42, 10, 0, 0, 7}, netip.MustParseAddr("192.0.2.9")}, {MAC{0xde}, netip.MustParseAddr("192.0.2.9")}}
	bridge.Neighbours = []Neighbour{{netip.MustParseAddr("10.0.0.66"), MAC{2, 0x42, 10, 0, 0, 66}}, {netip.MustParseAddr("10.0.0.67"), MAC{0xde}}}
	var got []string
	for _, op := range PlanOverlay(overlaySegment(), remotes, tunnel, bridge) {
		got = append(got, op.String())
	}
	mac8 := AddressMAC(netip.MustParseAddr("fd00::8"))
	want := fmt.Sprintf(`ip neigh del 10.0.0.66 dev br
bridge fdb del 02:42:0a:00:00:07 dev tun dst 192.0.2.9 self
bridge fdb append 00:00:00:00:00:00 dev tun dst 192.0.2.3 self permanent
bridge fdb add 02:42:0a:00:00:07 dev tun dst 192.0.2.3 self permanent
bridge fdb add %s dev tun dst 192.0.2.3 self permanent
ip neigh replace 10.0.0.7 lladdr 02:42:0a:00:00:07 dev br nud permanent
ip neigh replace fd00::7 lladdr 02:42:0a:00:00:07 dev br nud permanent
ip neigh replace fd00::8 lladdr %[1]s dev br nud permanent`, mac8)
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}

// Whatever the tables hold and the control plane says: the plan leads to the same tables in whatever order it is said, a
// second plan is empty, and strangers' entries stay.
func TestOverlayConverges(t *testing.T) {
	address := rapid.Custom(func(t *rapid.T) netip.Addr {
		n := rapid.IntRange(1, 6).Draw(t, "n")
		if rapid.Bool().Draw(t, "v6") {
			return netip.MustParseAddr(fmt.Sprintf("fd00::%d", n))
		}
		return netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", n))
	})
	endpoint := rapid.Custom(func(t *rapid.T) netip.Addr {
		return rapid.SampledFrom([]netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::2")}).Draw(t, "end")
	})
	mac := rapid.Custom(func(t *rapid.T) MAC {
		return rapid.SampledFrom([]MAC{{}, {0xde}, AddressMAC(address.Draw(t, "of"))}).Draw(t, "mac")
	})
	rapid.Check(t, func(t *rapid.T) {
		var remotes []Remote
		for _, e := range rapid.SliceOfNDistinct(endpoint, 0, 3, rapid.ID).Draw(t, "hosts") {
			r := Remote{Endpoint: e}
			for _, a := range rapid.SliceOfN(address, 0, 4).Draw(t, "addresses") {
				r.Interfaces = append(r.Interfaces, []netip.Addr{a})
			}
			remotes = append(remotes, r)
		}
		tunnel, bridge := overlayDevices()
		for range rapid.IntRange(0, 4).Draw(t, "forwards") {
			f := Forward{mac.Draw(t, "mac"), endpoint.Draw(t, "end")}
			if !slices.ContainsFunc(tunnel.Forwards, func(h Forward) bool { return h == f || h.MAC == f.MAC && f.MAC != MAC{} }) {
				tunnel.Forwards = append(tunnel.Forwards, f)
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "neighbours") {
			n := Neighbour{address.Draw(t, "address"), mac.Draw(t, "mac")}
			if !slices.ContainsFunc(bridge.Neighbours, func(h Neighbour) bool { return h.Address == n.Address }) {
				bridge.Neighbours = append(bridge.Neighbours, n)
			}
		}
		w := newWorld(tunnel, bridge)
		before := clone(w.host)
		plan := func(remotes []Remote) []Op { return PlanOverlay(overlaySegment(), remotes, w.host[0], w.host[1]) }
		ops := plan(remotes)
		turned := slices.Clone(remotes)
		slices.Reverse(turned)
		if fmt.Sprint(plan(turned)) != fmt.Sprint(ops) {
			t.Fatalf("the order matters: %v, %v", ops, plan(turned))
		}
		if err := w.apply(ops[:rapid.IntRange(0, len(ops)).Draw(t, "crash")]); err != nil {
			t.Fatal(err)
		}
		if err := w.apply(plan(remotes)); err != nil {
			t.Fatal(err)
		}
		if again := plan(remotes); len(again) > 0 {
			t.Fatalf("a second time: %v", again)
		}
		forwards, neighbours := overlayEntries(remotes, tunnel.Local)
		for _, f := range forwards {
			if !slices.Contains(w.host[0].Forwards, f) {
				t.Fatalf("no %+v", f)
			}
		}
		for _, n := range neighbours {
			if !slices.Contains(w.host[1].Neighbours, n) {
				t.Fatalf("no %+v", n)
			}
		}
		for _, f := range before[0].Forwards {
			if f.MAC == (MAC{0xde}) && !slices.Contains(w.host[0].Forwards, f) {
				t.Fatalf("%+v was a stranger's", f)
			}
		}
	})
}

func TestOverlayOfOthersIsLeftAlone(t *testing.T) {
	remotes := []Remote{{Endpoint: netip.MustParseAddr("192.0.2.2")}}
	tunnel, bridge := overlayDevices()
	other, device := tunnel, bridge
	other.VNI, device.Kind = 8, "device"
	for _, ops := range [][]Op{PlanOverlay(overlaySegment(), remotes, other, bridge), PlanOverlay(overlaySegment(), remotes, tunnel, device), PlanOverlay(overlaySegment(), remotes, Link{}, Link{}), PlanOverlay(Segment{}, remotes, tunnel, bridge)} {
		if len(ops) > 0 {
			t.Errorf("%v", ops)
		}
	}
}

func FuzzRemotes(f *testing.F) {
	f.Add("192.0.2.1", "10.0.0.1,fd00::1")
	f.Add("::", ",")
	f.Fuzz(func(t *testing.T, endpoint, address string) {
		remotes, err := Remotes(&padisv1.Overlay{Hosts: []*padisv1.OverlayHost{{Endpoint: endpoint, Addresses: []string{address}}}})
		if err != nil {
			return
		}
		tunnel, bridge := overlayDevices()
		for _, op := range PlanOverlay(overlaySegment(), remotes, tunnel, bridge) {
			if op.String() == "" {
				t.Fatal("an operation without words")
			}
		}
	})
}
