package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"padis.io/padis/executor/lb/bgp/routers"
)

const hostASN = 64512

var routerPeer = Peer{Address: addr("10.0.0.1"), ASN: routers.ASN}

func config(n int) Config {
	return Config{ASN: hostASN, RouterID: addr(fmt.Sprintf("10.0.0.%d", n))}
}

func neighbour(n int) routers.Neighbour {
	return routers.Neighbour{Address: fmt.Sprintf("10.0.0.%d", n), ASN: hostASN}
}

func eachRouter(t *testing.T, test func(*testing.T, string)) {
	for _, kind := range routers.Kinds() {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

func TestAnnounceAndWithdraw(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		host := l.Host(11, "10.9.0.1/32", "fd09::1/128")
		l.Start(kind, neighbour(11), routers.Neighbour{Address: "fd00::b", ASN: hostASN})
		s := startSpeaker(t, l, host, config(11))
		st := State{
			Peers: []Peer{routerPeer, {Address: addr("fd00::1"), ASN: routers.ASN}},
			Paths: []Path{{Prefix: prefix("10.9.0.1/32")}, {Prefix: prefix("fd09::1/128")}},
		}
		s.set(st)
		s.established(l)
		l.UntilRoute("10.9.0.1/32", "10.0.0.11")
		l.UntilReached("10.9.0.1")
		l.Until("an IPv6 route", func() bool { return l.Routes("fd09::1/128") != "" }, func() string { return "" })
		l.UntilReached("fd09::1")

		st.Paths = append(st.Paths[1:], Path{Prefix: prefix("10.9.0.2/32")})
		s.set(st)
		l.UntilRoute("10.9.0.1/32")
		l.UntilRoute("10.9.0.2/32", "10.0.0.11")
		s.ask(request{Withdraw: true})
		l.UntilRoute("10.9.0.2/32")
		l.Until("no IPv6 route", func() bool { return l.Routes("fd09::1/128") == "" }, func() string { return "" })
		s.set(st)
		l.UntilRoute("10.9.0.2/32", "10.0.0.11")
		s.ask(request{Close: true})
		l.UntilRoute("10.9.0.2/32")
	})
}

// What did not change is not said again, whatever the order in which it is given.
func TestUpdatesAreMinimal(t *testing.T) {
	l := routers.New(t)
	d := l.Start("bird", neighbour(11))
	s := startSpeaker(t, l, l.Host(11), config(11))
	st := State{Peers: []Peer{routerPeer}}
	for i := range 20 {
		st.Paths = append(st.Paths, Path{Prefix: prefix(fmt.Sprintf("10.9.0.%d/32", i)), Communities: []uint32{7, 5}})
	}
	s.set(st)
	s.established(l)
	l.UntilRoute("10.9.0.19/32", "10.0.0.11")
	updates := func() (n int) {
		for _, line := range strings.Split(d.Ask("show protocols all n0"), "\n") {
			if f := strings.Fields(line); len(f) > 2 && f[0] == "Import" && f[1] == "updates:" {
				_, _ = fmt.Sscan(f[2], &n)
				return n // of the first channel
			}
		}
		return -1
	}
	if n := updates(); n != 20 {
		t.Fatalf("%d updates for 20 paths", n)
	}
	for i := range st.Paths {
		st.Paths[i].Communities = []uint32{5, 7, 5}
	}
	st.Paths[0], st.Paths[7] = st.Paths[7], st.Paths[0]
	s.set(st)
	st.Paths[3].MED = 9
	st.Paths = append(st.Paths, Path{Prefix: prefix("10.9.0.20/32")})
	s.set(st)
	l.UntilRoute("10.9.0.20/32", "10.0.0.11")
	if n := updates(); n != 22 {
		t.Errorf("%d updates after one path changed and one came, not 22", n)
	}
	since := s.ask(request{}).Sessions[0].Since
	st.Peers = append(st.Peers, Peer{Address: addr("10.0.0.2"), ASN: routers.ASN})
	s.set(st)
	st.Peers = st.Peers[:1]
	s.set(st)
	if x := s.ask(request{}).Sessions; len(x) != 1 || !x[0].Established || !x[0].Since.Equal(since) {
		t.Errorf("a peer that came and went touched the other: %+v", x)
	}
}

func TestPasswords(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		n := neighbour(11)
		n.Password = "correct-horse"
		l.Start(kind, n)
		s := startSpeaker(t, l, l.Host(11), config(11))
		p := routerPeer
		p.Password = "wrong"
		st := State{Peers: []Peer{p}, Paths: []Path{{Prefix: prefix("10.9.0.1/32")}}}
		s.set(st)
		s.says(l, "wrong password")
		st.Peers[0].Password = ""
		s.set(st)
		s.says(l, "demands a password")
		st.Peers[0].Password = "correct-horse"
		s.set(st)
		s.established(l)
		l.UntilRoute("10.9.0.1/32", "10.0.0.11")
	})
}

func TestWrongASN(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		l.Start(kind, neighbour(11))
		s := startSpeaker(t, l, l.Host(11), config(11))
		p := routerPeer
		p.ASN = 65001
		s.set(State{Peers: []Peer{p}})
		s.says(l, "wrong ASN: the router is not of AS 65001 (as number mismatch expected 65001, received 65000)")
		p = routerPeer
		p.LocalASN = 64513
		s.set(State{Peers: []Peer{p}})
		s.says(l, "wrong ASN: it expects another AS than 64513 of this host")
		s.set(State{Peers: []Peer{routerPeer}})
		s.established(l)
	})
}

func TestUnreachable(t *testing.T) {
	l := routers.New(t)
	s := startSpeaker(t, l, l.Host(11), config(11))
	s.set(State{Peers: []Peer{routerPeer}})
	s.says(l, "10.0.0.1:179 refuses the connection")
	s.set(State{Peers: []Peer{{Address: addr("10.0.0.99"), ASN: routers.ASN}}})
	s.says(l, "10.0.0.99:179 cannot be reached")
	// Nothing stays of what was tried before.
	l.Start("bird", neighbour(11))
	s.set(State{Peers: []Peer{routerPeer}})
	s.established(l)
}

func TestOtherFamily(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		host := l.Host(11, "fd09::1/128")
		l.Start(kind, neighbour(11))
		s := startSpeaker(t, l, host, config(11))
		p := routerPeer
		p.NextHop = addr("fd00::b")
		s.set(State{Peers: []Peer{p}, Paths: []Path{{Prefix: prefix("fd09::1/128")}, {Prefix: prefix("10.9.0.1/32")}}})
		s.established(l)
		l.UntilRoute("fd09::1/128", "fd00::b")
		l.UntilRoute("10.9.0.1/32", "10.0.0.11")
		l.UntilReached("fd09::1")
	})
}

func TestEqualCostPaths(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		l.Start(kind, neighbour(11), neighbour(12))
		st := State{Peers: []Peer{routerPeer}, Paths: []Path{{Prefix: prefix("10.9.0.1/32")}}}
		a := startSpeaker(t, l, l.Host(11, "10.9.0.1/32"), config(11))
		b := startSpeaker(t, l, l.Host(12, "10.9.0.1/32"), config(12))
		a.set(st)
		b.set(st)
		l.UntilRoute("10.9.0.1/32", "10.0.0.11", "10.0.0.12")
		l.UntilReached("10.9.0.1")
		a.kill() // without graceful restart its route goes at once
		l.UntilRoute("10.9.0.1/32", "10.0.0.12")
		l.UntilReached("10.9.0.1")
	})
}

func TestDrain(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		d := l.Start(kind, neighbour(11))
		s := startSpeaker(t, l, l.Host(11), config(11))
		st := State{Peers: []Peer{routerPeer}, Paths: []Path{{Prefix: prefix("10.9.0.1/32"), Communities: []uint32{65000<<16 | 9}}}}
		s.set(st)
		l.UntilRoute("10.9.0.1/32", "10.0.0.11")
		if r := d.Route("10.9.0.1/32"); strings.Contains(r, "0:0:1") || strings.Contains(r, "arge") {
			t.Errorf("GoBGP's own mark reached the router: %s", r)
		}
		mark := map[string]string{"bird": "(65535,0)", "frr": "graceful-shutdown"}[kind]
		on, off := true, false
		s.ask(request{Drain: &on})
		l.Until("drained", func() bool { return strings.Contains(d.Route("10.9.0.1/32"), mark) }, func() string { return d.Route("10.9.0.1/32") })
		if l.Routes("10.9.0.1/32") == "" {
			t.Error("a drained path that has no other lost its route")
		}
		st.Paths = append(st.Paths, Path{Prefix: prefix("10.9.0.2/32")})
		s.set(st)
		l.UntilRoute("10.9.0.2/32", "10.0.0.11")
		if r := d.Route("10.9.0.2/32"); !strings.Contains(r, mark) {
			t.Errorf("a path that came later is not drained: %s", r)
		}
		s.ask(request{Drain: &off})
		l.Until("not drained", func() bool { return !strings.Contains(d.Route("10.9.0.1/32"), mark) }, func() string { return d.Route("10.9.0.1/32") })
	})
}

// Each path goes to its own peers, also when that changes; and nothing goes from one router to the other.
func TestPathsOfPeers(t *testing.T) {
	l := routers.New(t)
	d := l.Start("bird", neighbour(11), routers.Neighbour{Address: "fd00::b", ASN: hostASN})
	s := startSpeaker(t, l, l.Host(11), config(11))
	one, two := addr("10.0.0.1"), addr("fd00::1")
	st := State{Peers: []Peer{routerPeer, {Address: two, ASN: routers.ASN, NextHop: addr("10.0.0.11")}}, Paths: []Path{
		{Prefix: prefix("10.9.0.1/32"), Peers: []netip.Addr{one}},
		{Prefix: prefix("10.9.0.2/32"), Peers: []netip.Addr{two}},
		{Prefix: prefix("10.9.0.3/32")},
	}}
	s.set(st)
	s.established(l)
	told := func(want ...string) {
		t.Helper()
		var have []string
		l.Until(fmt.Sprint(want), func() bool {
			have = nil
			for i := range 2 {
				var x string
				for _, p := range []string{"10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32"} {
					if strings.Contains(d.Ask(fmt.Sprintf("show route protocol n%d", i)), p) {
						x += p[7:8]
					}
				}
				have = append(have, x)
			}
			return fmt.Sprint(have) == fmt.Sprint(want)
		}, func() string { return fmt.Sprint(have) })
	}
	told("13", "23")
	st.Paths[0].Peers, st.Paths[1].Peers, st.Paths[2].Peers = []netip.Addr{two}, nil, []netip.Addr{one}
	s.set(st)
	told("23", "12")
}

func TestSeveralHops(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		n := neighbour(11)
		n.Multihop = true
		l.Start(kind, n)
		s := startSpeaker(t, l, l.Host(11), config(11))
		s.set(State{Peers: []Peer{{Address: addr("10.255.0.1"), ASN: routers.ASN, Hold: 9 * time.Second}}, Paths: []Path{{Prefix: prefix("10.9.0.1/32")}}})
		s.established(l)
		l.UntilRoute("10.9.0.1/32", "10.0.0.11")
	})
}

// A router that comes back is told everything again, soon.
func TestRouterRestarts(t *testing.T) {
	eachRouter(t, func(t *testing.T, kind string) {
		l := routers.New(t)
		d := l.Start(kind, neighbour(11))
		s := startSpeaker(t, l, l.Host(11), config(11))
		p := routerPeer
		p.GracefulRestart = time.Minute
		s.set(State{Peers: []Peer{p}, Paths: []Path{{Prefix: prefix("10.9.0.1/32")}}})
		s.established(l)
		l.UntilRoute("10.9.0.1/32", "10.0.0.11")
		d.Stop()
		s.says(l, "10.0.0.1:179 refuses the connection")
		d = l.Start(kind, neighbour(11))
		s.established(l)
		l.Until("the router knows the prefix", func() bool { return strings.Contains(d.Route("10.9.0.1/32"), "10.0.0.11") }, d.Output)
	})
}
