package udp

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/executor/lb/bfd"
	"padis.io/padis/executor/lb/bgp"
	"padis.io/padis/executor/lb/bgp/routers"
)

const (
	hostASN = 64512
	hold    = time.Minute
	vip     = "10.9.0.1/32"
)

var (
	router4, router6 = bfd.Peer{Address: addr("10.0.0.1")}, bfd.Peer{Address: addr("fd00::1")}
	hosts            = []string{"10.0.0.11", "fd00::b"}
)

// lab is a router that watches a host over IPv4 and IPv6, and the host, which speaks BGP and watches the router.
type lab struct {
	*routers.Lab
	t    *testing.T
	kind string
	d    *routers.Daemon
	ns   string
	r    *remote
}

func eachRouter(t *testing.T, test func(*testing.T, *lab)) {
	for _, kind := range routers.Kinds() {
		t.Run(kind, func(t *testing.T) {
			l := &lab{Lab: routers.New(t), t: t, kind: kind}
			l.ns = l.Host(11, vip)
			l.router()
			l.r = start(t, l.Lab, l.ns)
			l.r.watch(router4, router6)
			l.r.ask(demand{Speak: &bgp.State{
				Peers: []bgp.Peer{{Address: router4.Address, ASN: routers.ASN, Hold: hold}, {Address: router6.Address, ASN: routers.ASN, Hold: hold}},
				Paths: []bgp.Path{{Prefix: netip.MustParsePrefix(vip)}},
			}})
			l.up()
			test(t, l)
		})
	}
}

func (l *lab) router() {
	var all []routers.Neighbour
	for _, h := range hosts {
		all = append(all, routers.Neighbour{Address: h, ASN: hostASN, BFD: true})
	}
	l.d = l.Start(l.kind, all...)
}

func (l *lab) up() {
	l.t.Helper()
	l.r.until(bfd.Up, "")
	l.routerSees(true)
	l.UntilRoute(vip, "10.0.0.11")
}

func (l *lab) routerSees(up bool) {
	l.t.Helper()
	for _, h := range hosts {
		soon(l.t, l.Lab, "the router's session with "+h, func() bool { return (l.d.BFD(h) == "up") == up }, func() string { return l.d.BFD(h) + l.d.Output() })
	}
}

// gone waits until the router has taken the route away because of BFD: long before the hold time.
func (l *lab) gone() {
	l.t.Helper()
	soon(l.t, l.Lab, "the route goes", func() bool { return l.Routes(vip) == "" }, l.d.Output)
	l.routerSees(false)
}

// settled waits until the sessions, and those of BGP beside them, are up and have been for a while: FRR begins a session of BFD
// anew, and ends BGP with it, when the BGP session of that family comes, and the two families come seconds apart.
func (l *lab) settled() (all []Status) {
	l.t.Helper()
	const while = 2 * time.Second
	var a answer
	l.Until("all sessions are up and stay so", func() bool {
		a = l.r.ask(demand{})
		for _, s := range a.BGP {
			if !s.Established || time.Since(s.Since) < while {
				return false
			}
		}
		for _, s := range a.Status {
			if s.State != bfd.Up || time.Since(s.Since) < while {
				return false
			}
		}
		return len(a.BGP) == len(hosts) && len(a.Status) == len(hosts)
	}, func() string { return fmt.Sprintf("%+v\n%s", a, l.d.Output()) })
	return a.Status
}

// A host that is cut off: both sides see it, the route goes, and all comes back.
func TestSilentDeath(t *testing.T) {
	eachRouter(t, func(t *testing.T, l *lab) {
		for _, s := range l.settled() {
			if s.Local.String() != "10.0.0.11" && s.Local.String() != "fd00::b" {
				t.Errorf("%+v", s)
			}
		}
		l.Until("the times of a session that is up", func() bool {
			st := l.r.until(bfd.Up, "")
			return st[0].Detection == 300*time.Millisecond && st[1].Detection == 300*time.Millisecond
		}, func() string { return "" })
		before := l.r.ask(demand{}).Seen
		l.Cut(l.ns)
		l.gone()
		l.r.until(bfd.Down, "")
		l.Heal(l.ns)
		l.up()
		for p, all := range l.r.ask(demand{}).Seen {
			if seen := strings.TrimPrefix(all, before[p]); seen != " down up" && seen != " down init up" {
				t.Errorf("%v was%s, and then%s", p, before[p], seen)
			}
		}
	})
}

// A host that stands still is dead, though its kernel keeps the BGP connection open. When it goes on, it begins anew.
func TestStandstill(t *testing.T) {
	eachRouter(t, func(t *testing.T, l *lab) {
		l.r.signal(syscall.SIGSTOP)
		l.gone()
		l.r.signal(syscall.SIGCONT)
		l.up()
	})
}

func TestRouterDies(t *testing.T) {
	eachRouter(t, func(t *testing.T, l *lab) {
		l.d.Stop()
		l.r.until(bfd.Down, whyRefused)
		l.router()
		l.up()
	})
}

// New times are no death, on neither side; and the slower side prevails.
func TestTimesChange(t *testing.T) {
	eachRouter(t, func(t *testing.T, l *lab) {
		before := l.settled()
		for _, interval := range []time.Duration{400 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
			a, b := router4, router6
			a.Interval, b.Interval, a.Multiplier, b.Multiplier = interval, interval, 5, 5
			l.r.watch(a, b)
			want := 3 * max(interval, 100*time.Millisecond) // the multiplier is the router's
			l.Until("detection within "+want.String(), func() bool {
				st := l.r.until(bfd.Up, "")
				return st[0].Detection == want && st[1].Detection == want
			}, l.d.Output)
		}
		for i, s := range l.r.until(bfd.Up, "") {
			if !s.Since.Equal(before[i].Since) {
				t.Errorf("%v went down", s.Peer)
			}
		}
		if l.Routes(vip) == "" {
			t.Error("the route went")
		}
	})
}

// A peer that goes is told, and so is one whose watcher ends.
func TestLeave(t *testing.T) {
	eachRouter(t, func(t *testing.T, l *lab) {
		l.settled()
		l.r.watch(router6)
		soon(t, l.Lab, "the router is told", func() bool { return l.d.BFD(hosts[0]) != "up" }, l.d.Output)
		// Whoever had been told would not see it up again.
		soon(t, l.Lab, "the other session stays", func() bool { return l.d.BFD(hosts[1]) == "up" }, l.d.Output)
		l.r.ask(demand{Close: true})
		l.routerSees(false)
		if a := l.r.try(demand{SetWatch: true}); a.Error != errClosed.Error() {
			t.Errorf("after the end: %q", a.Error)
		}
	})
}
