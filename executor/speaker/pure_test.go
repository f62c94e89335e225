package speaker

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestDeclared(t *testing.T) {
	n, err := Declared(&padisv1.Network{Name: "routed", Bgp: &padisv1.Bgp{Asn: 64512, Peers: []*padisv1.BgpPeer{
		{Address: "10.0.0.1", Asn: 65000, Port: 1179, Password: "secret", HoldMs: 9000}, {Address: "router.example", Asn: 65000}}}})
	want := Network{Name: "routed", ASN: 64512, Peers: []Peer{{Address: addr("10.0.0.1"), ASN: 65000, Port: 1179, Password: "secret", Hold: 9 * time.Second}}}
	if !reflect.DeepEqual(n, want) {
		t.Errorf("%+v", n)
	}
	if err == nil || !strings.Contains(err.Error(), `["router.example"]: write IP addresses`) {
		t.Error(err)
	}
}

func TestMergeContradictions(t *testing.T) {
	shared := Peer{Address: addr("10.0.0.1"), ASN: 65000}
	other := shared
	other.ASN = 65001
	st := State{Networks: []Network{
		{Name: "b", ASN: 64512, Peers: []Peer{other, {Address: addr("10.0.0.2"), ASN: 65000}}, Addresses: []netip.Addr{addr("10.9.0.2")}},
		{Name: "a", ASN: 64512, Peers: []Peer{shared}, Addresses: []netip.Addr{addr("10.9.0.1")}},
		{Name: "c", Peers: []Peer{shared}, Addresses: []netip.Addr{addr("10.9.0.3")}},
		{Name: "d", ASN: 64512, Peers: []Peer{shared, {Address: addr("10.0.0.3"), ASN: 65000, Hold: time.Second}}, Addresses: []netip.Addr{addr("10.9.0.4")}},
	}}
	p := st.merge()
	told := map[string]string{}
	for _, x := range p.Paths {
		for _, a := range x.Peers {
			told[x.Prefix.String()] += a.String() + " "
		}
	}
	if want := map[string]string{"10.9.0.1/32": "10.0.0.1 ", "10.9.0.2/32": "10.0.0.2 ", "10.9.0.4/32": "10.0.0.1 "}; !reflect.DeepEqual(told, want) {
		t.Errorf("told %v", told)
	}
	for network, text := range map[string]string{
		"b 10.0.0.1": "network a declares this router otherwise",
		"c 10.0.0.1": "asn: 0 is reserved",
		"d 10.0.0.3": "hold time: 1s: whole seconds from 3s",
	} {
		name, peer, _ := strings.Cut(network, " ")
		if m := p.problems[name][addr(peer)]; !strings.Contains(m, text) {
			t.Errorf("%s: %q", network, m)
		}
	}
	if len(p.problems) != 3 {
		t.Errorf("problems %v", p.problems)
	}
	for _, s := range st.sessions(p.problems, nil, "") {
		if (s.Message != "") != (p.problems[s.Network][s.Peer] != "") {
			t.Errorf("session %+v", s)
		}
	}
}

func states() *rapid.Generator[State] {
	v4 := rapid.Custom(func(t *rapid.T) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, rapid.Byte().Draw(t, "last")}) })
	v6 := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: rapid.Byte().Draw(t, "last")})
	})
	address := rapid.OneOf(v4, v6, rapid.Just(netip.Addr{}))
	peer := rapid.Custom(func(t *rapid.T) Peer {
		return Peer{Address: rapid.SampledFrom([]netip.Addr{addr("10.0.0.1"), addr("10.0.0.2"), addr("fd00::1"), {}}).Draw(t, "peer"),
			ASN: rapid.Uint32Range(0, 2).Draw(t, "asn"), Port: rapid.IntRange(-1, 1).Draw(t, "port"),
			Password: rapid.SampledFrom([]string{"", "a", strings.Repeat("x", 81)}).Draw(t, "password"),
			Hold:     rapid.SampledFrom([]time.Duration{0, time.Second, 9 * time.Second}).Draw(t, "hold")}
	})
	network := rapid.Custom(func(t *rapid.T) Network {
		return Network{Name: rapid.StringMatching("[a-c]").Draw(t, "name"), ASN: rapid.Uint32Range(0, 2).Draw(t, "asn"),
			Peers: rapid.SliceOfN(peer, 0, 4).Draw(t, "peers"), Addresses: rapid.SliceOfN(address, 0, 6).Draw(t, "addresses")}
	})
	return rapid.Custom(func(t *rapid.T) State {
		return State{RouterID: addr("10.0.0.9"), NextHop6: rapid.SampledFrom([]netip.Addr{{}, addr("fd00::9")}).Draw(t, "next hop"),
			Networks: rapid.SliceOfN(network, 0, 4).Draw(t, "networks")}
	})
}

// Whatever is declared, BGP is told what is valid; every address goes to some router of a network that has it; and nothing
// depends on the order of addresses.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := states().Draw(t, "state")
		p := st.merge()
		if err := p.Validate(); err != nil {
			t.Fatalf("not valid: %v", err)
		}
		for _, x := range p.Paths {
			if !x.Prefix.IsSingleIP() || len(x.Peers) == 0 {
				t.Fatalf("path %+v", x)
			}
			for _, a := range x.Peers {
				if !slices.ContainsFunc(st.Networks, func(n Network) bool {
					return slices.Contains(n.Addresses, x.Prefix.Addr()) && slices.ContainsFunc(n.Peers, func(p Peer) bool { return p.Address == a })
				}) {
					t.Fatalf("%v goes to %v, which no network says", x.Prefix, a)
				}
			}
		}
		for i := range st.Networks {
			slices.Reverse(st.Networks[i].Addresses)
		}
		if again := st.merge(); !reflect.DeepEqual(p, again) {
			t.Fatalf("%+v\n%+v", p, again)
		}
		if n := len(st.sessions(p.problems, nil, "x")); n != len(slices.Concat(peersOf(st)...)) {
			t.Fatalf("%d sessions", n)
		}
	})
}

func peersOf(st State) (all [][]Peer) {
	for _, n := range st.Networks {
		all = append(all, n.Peers)
	}
	return all
}

// A State comes over as it was.
func TestStatesReturn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := states().Draw(t, "state")
		x, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		var back State
		if err := json.Unmarshal(x, &back); err != nil {
			t.Fatal(err)
		}
		if y, err := json.Marshal(back); err != nil || !bytes.Equal(x, y) || !reflect.DeepEqual(st.merge(), back.merge()) {
			t.Fatalf("%+v came back as %+v: %v", st, back, err)
		}
	})
}

// Whatever can be read is merged to something that BGP takes.
func FuzzState(f *testing.F) {
	x, _ := json.Marshal(State{RouterID: addr("10.0.0.9"), Networks: []Network{{Name: "a", ASN: 64512,
		Peers: []Peer{{Address: addr("10.0.0.1"), ASN: 65000}}, Addresses: []netip.Addr{addr("10.9.0.1"), addr("fd09::1")}}}})
	f.Add(x)
	f.Fuzz(func(t *testing.T, data []byte) {
		var st State
		if json.Unmarshal(data, &st) != nil {
			return
		}
		if err := st.merge().Validate(); err != nil {
			t.Fatalf("%+v: %v", st, err)
		}
	})
}
