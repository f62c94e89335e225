package ovs

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"padis.io/padis/executor/network"
)

const listing = `{"data":[["br0","netdev",["set",[["uuid","1"],["uuid","2"]]]],["a","",["uuid","3"]]],"headings":["name","datapath_type","ports"]}
{"data":[[["uuid","2"],"x1",7,["map",[["other","y"],["padis-owner","abcde"]]],["uuid","i2"]],
[["uuid","1"],"br0",["set",[]],["map",[]],["uuid","i1"]],
[["uuid","3"],"bond",["set",[]],["map",[]],["set",[["uuid","i1"],["uuid","i3"]]]]],"headings":[]}
{"data":[[["uuid","i1"],65534],[["uuid","i2"],3],[["uuid","i3"],["set",[]]]],"headings":[]}
`

func TestParse(t *testing.T) {
	d, err := parse(listing)
	want := database{[]bridge{
		{name: "a", ports: []switchPort{{name: "bond", number: 65534}}},
		{name: "br0", datapath: "netdev", ports: []switchPort{{name: "br0", number: 65534}, {name: "x1", tag: 7, owner: "abcde", number: 3}}},
	}}
	if err != nil || !reflect.DeepEqual(d, want) {
		t.Errorf("%+v, %v", d, err)
	}
	for _, bad := range []string{"", "{}", strings.Replace(listing, `"br0","netdev",`, `"br0",`, 1), strings.Replace(listing, `["uuid","3"]`, `{}`, 1), strings.Replace(listing, `["map",[]]`, `["map",[1]]`, 1)} {
		if d, err := parse(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, d)
		}
	}
}

// What flows allow is read back from them.
func TestFlowsAreTheGuard(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := network.GuardedPort{Link: "v1", Driver: network.DriverOVS, MAC: network.MAC(rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(rt, "mac"))}
		if rapid.Bool().Draw(rt, "IPv4") {
			p.Addresses = append(p.Addresses, netip.AddrFrom4([4]byte{10, 9, 0, rapid.Byte().Draw(rt, "address")}))
		}
		if rapid.Bool().Draw(rt, "IPv6") {
			p.Addresses = append(p.Addresses, netip.AddrFrom16([16]byte{0xfd, 15: rapid.Byte().Draw(rt, "address")}))
		}
		if rapid.Bool().Draw(rt, "loopback") {
			p.Loopback = []netip.Addr{netip.MustParseAddr("10.9.1.1"), netip.MustParseAddr("fd01::1")}
		}
		number := rapid.IntRange(1, 65000).Draw(rt, "number")
		c := cookie("tag", "v1")
		flows := allow(c, number, p)
		text := strings.ReplaceAll(strings.Join(flows, "\n"), ",actions=", " actions=") + "\n"
		got, ok := guarded(switchPort{name: "v1", number: number}, c, parseFlows(text))
		if !ok || !reflect.DeepEqual(got, p) {
			rt.Fatalf("%v became %v (%v)", p, got, ok)
		}
		if _, ok := guarded(switchPort{name: "v1", number: number + 1}, c, parseFlows(text)); ok {
			rt.Fatal("flows of another number are taken")
		}
	})
}

func TestCookieTellsOwnerAndLink(t *testing.T) {
	if a, b := cookie("one", "v1"), cookie("one", "v2"); a == b || a&ownerMask != b&ownerMask {
		t.Errorf("two links of one owner: %#x, %#x", a, b)
	}
	if a, b := cookie("one", "v1"), cookie("two", "v1"); a&ownerMask == b&ownerMask || a&^uint64(ownerMask) != b&^uint64(ownerMask) {
		t.Errorf("one link of two owners: %#x, %#x", a, b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(listing)
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parse(s)
		if err == nil {
			d.port("x1")
		}
	})
}

func FuzzFlows(f *testing.F) {
	f.Add(fmt.Sprintf(" cookie=%#x, priority=40100,ip,in_port=1,dl_src=02:42:0a:09:00:05,nw_src=10.9.0.5 actions=NORMAL\n", cookie("tag", "v1")))
	f.Fuzz(func(t *testing.T, s string) {
		guarded(switchPort{name: "v1", number: 1}, 1, parseFlows(s))
	})
}
