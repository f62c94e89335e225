package bgp

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"pgregory.net/rapid"
)

func TestValidate(t *testing.T) {
	good := Peer{Address: addr("10.0.0.1"), ASN: 65000}
	for text, change := range map[string]func(*Peer){
		"unicast address that is not link-local": func(p *Peer) { p.Address = addr("fe80::1") },
		"asn: 0 is reserved":                     func(p *Peer) { p.ASN = 0 },
		"local asn: 4294967295 is reserved":      func(p *Peer) { p.LocalASN = lastASN },
		"port: 65536 is none":                    func(p *Peer) { p.Port = 65536 },
		"password: has 81 bytes":                 func(p *Peer) { p.Password = strings.Repeat("x", 81) },
		"hold time: 2s":                          func(p *Peer) { p.Hold = 2 * time.Second },
		"hold time: 3.5s":                        func(p *Peer) { p.Hold = 3500 * time.Millisecond },
		"graceful restart: 1h8m16s":              func(p *Peer) { p.GracefulRestart = 4096 * time.Second },
		"next hop: 10.0.0.2 is not":              func(p *Peer) { p.NextHop = addr("10.0.0.2") },
	} {
		p := good
		change(&p)
		if err := (State{Peers: []Peer{p}}).Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for text, paths := range map[string][]Path{
		"is named twice":          {{Prefix: prefix("10.9.0.1/32")}, {Prefix: prefix("10.9.0.1/32")}},
		"write 10.9.0.0/24":       {{Prefix: prefix("10.9.0.1/24")}},
		"is not among the peers":  {{Prefix: prefix("10.9.0.1/32"), Peers: []netip.Addr{addr("10.0.0.2")}}},
		"of the prefix's family":  {{Prefix: prefix("10.9.0.1/32"), NextHop: addr("fd00::1")}},
		"prefix invalid Prefix: ": {{}},
	} {
		if err := (State{Peers: []Peer{good}, Paths: paths}).Validate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := (State{Peers: []Peer{good, good}}).Validate(); err == nil {
		t.Error("a peer twice")
	}
	for _, c := range []Config{{}, {ASN: 1}, {ASN: 1, RouterID: addr("fd00::1")}, {ASN: lastASN, RouterID: addr("10.0.0.1")}} {
		if c.validate() == nil {
			t.Errorf("%+v is valid", c)
		}
	}
}

// The order in which things are declared means nothing, and to make a State normal twice is to do it once.
func TestNormal(t *testing.T) {
	c := Config{ASN: 64512}
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.SliceOfNDistinct(rapid.Byte(), 0, 5, rapid.ID[byte])
		var st State
		for _, b := range numbers.Draw(t, "peers") {
			st.Peers = append(st.Peers, Peer{Address: netip.AddrFrom4([4]byte{10, 0, 0, b}), ASN: 65000, Port: int(b % 2 * 179)})
		}
		for _, b := range numbers.Draw(t, "paths") {
			st.Paths = append(st.Paths, Path{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, 0, b}), 32),
				Communities: rapid.SliceOf(rapid.Uint32Range(0, 3)).Draw(t, "communities")})
		}
		n := st.normal(c)
		slices.Reverse(st.Peers)
		slices.Reverse(st.Paths)
		for i := range st.Paths {
			slices.Reverse(st.Paths[i].Communities)
		}
		for _, m := range []State{st.normal(c), n.normal(c)} {
			if !reflect.DeepEqual(m.Peers, n.Peers) || !slices.EqualFunc(m.Paths, n.Paths, equalPath) {
				t.Fatalf("%+v\n%+v", m, n)
			}
		}
	})
}

func TestDrainedPath(t *testing.T) {
	own := []uint32{7, 8, 9}[:1]
	p := Path{Prefix: prefix("10.9.0.1/32"), LocalPref: 300, Communities: own}
	for _, drained := range []bool{false, true} {
		m, err := pathMessage(p, 1, drained)
		must(t, err)
		preference, communities := uint32(0), []uint32{7, gracefulShutdown}
		if !drained {
			preference, communities = 300, communities[:1]
		}
		for _, a := range m.Pattrs {
			x, err := a.UnmarshalNew()
			must(t, err)
			switch x := x.(type) {
			case *api.LocalPrefAttribute:
				if x.LocalPref != preference {
					t.Errorf("drained %v: local preference %d", drained, x.LocalPref)
				}
			case *api.CommunitiesAttribute:
				if !slices.Equal(x.Communities, communities) {
					t.Errorf("drained %v: communities %v", drained, x.Communities)
				}
			}
		}
	}
	if !slices.Equal(own[:3], []uint32{7, 8, 9}) {
		t.Error("the caller's communities were written")
	}
}

// A vague cause does not replace a precise one, a precise one does, and an attempt is explained once.
func TestCauses(t *testing.T) {
	s := newSessions()
	p := Peer{Address: addr("10.0.0.1"), ASN: 65000, Port: 179, Password: "secret"}
	s.begin(p, time.Unix(1, 0))
	says := func(c cause, want string) {
		t.Helper()
		s.tell(p.Address, c)
		if m := s.list()[0].Message; !strings.Contains(m, want) || strings.Contains(m, "secret") {
			t.Errorf("%q does not say %q", m, want)
		}
	}
	opensent := "BGP_FSM_OPENSENT"
	says(cause{kind: causeEnd, text: "read-failed", state: opensent}, "without a word")
	says(cause{kind: causeConnect, err: os.ErrDeadlineExceeded}, "wrong password")
	says(cause{kind: causeEnd, text: "read-failed", state: opensent}, "wrong password")
	says(cause{kind: causeConnect, err: syscall.ECONNREFUSED}, "refuses the connection")
	says(cause{kind: causeConnect, err: syscall.EADDRNOTAVAIL}, "local address")
	says(cause{kind: causeConnect, err: syscall.ENOPROTOOPT}, "no TCP MD5")
	says(cause{kind: causeOpen, err: errors.New("what")}, "no BGP: what")
	says(cause{kind: causeEnd, text: "invalid-msg", state: opensent}, "no BGP: what")
	says(cause{kind: causeEnd, text: "invalid-msg", state: opensent}, "another AS")
	says(cause{kind: causeEnd, text: "notification-received code 6(cease) subcode 2(administrative shutdown)"}, "router ended the session: code 6(cease)")
	if began, ended := s.state(p.Address, api.PeerState_ESTABLISHED, time.Unix(2, 0)); !began || ended {
		t.Error("it did not begin")
	}
	if x := s.list()[0]; !x.Established || x.Message != "" || x.State != "established" || !x.Since.Equal(time.Unix(2, 0)) {
		t.Errorf("%+v", x)
	}
	says(cause{kind: causeEnd, text: "hold-timer-expired"}, "")
	if began, ended := s.state(p.Address, api.PeerState_IDLE, time.Unix(3, 0)); began || !ended {
		t.Error("it did not end")
	}
	says(cause{kind: causeEnd, text: "write-failed"}, "the connection to the router broke")
}
