package director

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/executor/director/wire"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/bgp/routers"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const vip4, vip6 = "10.9.0.1", "fd09::1"

// From an order to a client's answer, by both families and both programs, and on to others.
func TestOrderToAnswer(t *testing.T) {
	l := routers.New(t)
	a, b := realServer(t, l, 51, vip4+"/32", vip6+"/128"), realServer(t, l, 52, vip4+"/32", vip6+"/128")
	l.Start("bird", neighbours(11)...)
	f, s := direct(t, l, 11), newScheduler(t, vip4, vip6)
	l.Until("the page is served", func() bool { return f.page("/ready") == "no order has come from the executor yet\n503" }, func() string { return f.page("/ready") })
	s.change = func(b *padisv1.Balance) {
		b.Director.Checks = []*padisv1.HealthCheck{{Probe: &padisv1.HealthCheck_Http{Http: &padisv1.HttpProbe{Port: 80, BodyContains: "server"}}, IntervalMs: 100}}
	}
	f.give(s.order(a, b))
	f.until("both are announced", announces(vip4, vip6))
	l.UntilRoute(vip4+"/32", "10.0.0.11")
	l.Until("IPv6 route", func() bool { return strings.Contains(l.Routes(vip6+"/128"), "via ") }, func() string { return l.Routes(vip6 + "/128") })
	for _, vip := range []string{vip4, vip6} {
		seen := map[string]bool{}
		l.Until("both servers answer by "+vip, func() bool { seen[fetch(vip)] = true; return seen["server51"] && seen["server52"] }, func() string { return fmt.Sprint(seen) })
	}
	st := f.state()
	if st.GetNumber() != 1 || st.GetDataplane() != "tcx" || st.GetReason() != "" || len(st.GetFailures()) != 0 || len(st.GetSessions()) != 2 || st.GetSessions()[1].GetPeer() != "six" {
		t.Error(st)
	}
	if got := f.page("/ready"); got != "ready\n200" {
		t.Error(got)
	}
	metrics := f.page("/metrics")
	for _, want := range []string{"padis_director_announced_vips 2", `padis_director_session_established{peer="four",address="10.0.0.1"} 1`, `padis_director_servers{state="serving"} 2`, `dataplane="tcx"`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in\n%s", want, metrics)
		}
	}
	if strings.Contains(metrics, "padis_director_forwarded_packets_total 0") {
		t.Error("nothing was counted")
	}

	// One server less: what is answered is the other's.
	f.give(s.order(b))
	f.until("the new table is in force", func(s *padisv1.DirectorState) bool { return s.GetNumber() == 2 })
	for range 20 {
		if got := fetch(vip4); got != "server52" {
			t.Fatal(got)
		}
	}
	// A VIP leaves, and another comes.
	s.vips = []string{vip6}
	f.give(s.order(b))
	f.until("one is left", announces(vip6))
	l.UntilRoute(vip4 + "/32")
	f.until("it left the table", func(s *padisv1.DirectorState) bool { return s.GetNumber() == 3 })

	// Another dataplane takes over.
	last := s.change
	s.change = func(b *padisv1.Balance) { last(b); b.Director.Dataplane = "xdp" }
	f.give(s.order(a, b))
	f.until("xdp forwards", func(s *padisv1.DirectorState) bool {
		return s.GetNumber() == 4 && s.GetDataplane() == "xdp" && announces(vip6)(s)
	})
	l.Until("xdp answers", func() bool { return strings.HasPrefix(fetch(vip6), "server5") }, f.out.String)
	s.change = func(b *padisv1.Balance) { last(b); b.Director.Dataplane = "none" }
	f.give(s.order(a, b))
	f.until("it says why", func(s *padisv1.DirectorState) bool {
		return s.GetReason() == padisv1.ReasonDataplaneUnavailable && strings.Contains(s.GetMessage(), "there is no such module") && len(s.GetAnnounced()) == 0
	})
	if got := f.page("/ready"); !strings.HasSuffix(got, "503") {
		t.Error(got)
	}
}

// A server that fails its check is reported; too few, and nothing is announced.
func TestChecks(t *testing.T) {
	l := routers.New(t)
	a, b := realServer(t, l, 51, vip4+"/32"), realServer(t, l, 52, vip4+"/32")
	l.Start("bird", neighbours(11)...)
	f, s := direct(t, l, 11), newScheduler(t, vip4)
	s.change = func(b *padisv1.Balance) {
		b.Director.MinServers = 2
		b.Director.Checks = []*padisv1.HealthCheck{{Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: 80}}, IntervalMs: 50, TimeoutMs: 500, FailureThreshold: 2}}
	}
	// Hosts pass only the SYNs of flows that may be their server's.
	order := s.order(a, b)
	relay(t, l, order)
	f.give(order)
	f.until("it is announced", announces(vip4))
	b.stop()
	f.until("the failure is told", func(s *padisv1.DirectorState) bool {
		return len(s.GetFailures()) == 1 && s.GetFailures()[0].GetServer() == "server52" && s.GetReason() == padisv1.ReasonTooFewServers && len(s.GetAnnounced()) == 0
	})
	if m := f.state().GetFailures()[0].GetMessage(); !strings.Contains(m, "connect to 10.9.0.1:80: connection refused") {
		t.Error(m) // to the VIP: it took the clients' path
	}
	l.UntilRoute(vip4 + "/32")
	// And it stays so: none of its checks, ten or more, is answered by the other one.
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if st := f.state(); len(st.GetFailures()) != 1 || len(st.GetAnnounced()) != 0 {
			t.Fatalf("a check went to another server: %v", st)
		}
	}
	b.start(t, l)
	f.until("it is back", announces(vip4))
	l.UntilRoute(vip4+"/32", "10.0.0.11")
	// The VIP is missing on a loopback: nobody else's check would see that.
	l.In(a.ns, "ip", "address", "del", vip4+"/32", "dev", "lo")
	f.until("a missing VIP is seen", func(s *padisv1.DirectorState) bool {
		return len(s.GetFailures()) == 1 && s.GetFailures()[0].GetServer() == "server51"
	})
}

// The router hears first that others are better, then that it is over; then the director ends.
func TestLeave(t *testing.T) {
	l := routers.New(t)
	a := realServer(t, l, 51, vip4+"/32")
	d := l.Start("bird", neighbours(11)...)
	f, s := direct(t, l, 11), newScheduler(t, vip4)
	f.give(s.order(a))
	f.until("it is announced", announces(vip4))
	l.UntilRoute(vip4+"/32", "10.0.0.11")
	if r := d.Route(vip4 + "/32"); !strings.Contains(r, "(64512,7)") || strings.Contains(r, "(65535,0)") {
		t.Error(r)
	}
	began := time.Now()
	if err := syscall.Kill(f.l.Pid(f.cmd.Path), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var asked, gone time.Duration
	l.Until("it ends", func() bool {
		if gone == 0 {
			switch r := d.Ask("show route all protocol n0"); {
			case strings.Contains(r, "(65535,0)") && asked == 0:
				asked = time.Since(began)
			case !strings.Contains(r, vip4+"/32"):
				gone = time.Since(began)
			}
		}
		select {
		case err := <-f.done:
			if err != nil {
				t.Error(err)
			}
			return true
		default:
			return false
		}
	}, f.out.String)
	if asked == 0 || gone < 400*time.Millisecond || gone < asked {
		t.Errorf("asked to prefer others after %v, taken back after %v", asked, gone)
	}
	t.Logf("asked %v, withdrawn %v, ended %v", asked, gone, time.Since(began))
	if st := f.state(); !st.GetDraining() {
		t.Error(st)
	}
}

// A second signal ends it at once, and the router forgets it at once.
func TestLeaveAtOnce(t *testing.T) {
	l := routers.New(t)
	a := realServer(t, l, 51, vip4+"/32")
	l.Start("bird", neighbours(11)...)
	f, s := direct(t, l, 11), newScheduler(t, vip4)
	f.give(s.order(a))
	l.UntilRoute(vip4+"/32", "10.0.0.11")
	pid := f.l.Pid(f.cmd.Path)
	_ = syscall.Kill(pid, syscall.SIGTERM)
	f.until("it drains", (*padisv1.DirectorState).GetDraining)
	_ = syscall.Kill(pid, syscall.SIGTERM)
	select {
	case <-f.done:
	case <-time.After(30 * time.Second):
		t.Error("it goes on")
	}
	l.UntilRoute(vip4 + "/32")
}

// The executor is replaced: what is in force stays, and the next one hears all and is obeyed. What it says wrongly changes nothing.
func TestExecutors(t *testing.T) {
	l := routers.New(t)
	a := realServer(t, l, 51, vip4+"/32", vip6+"/128")
	l.Start("bird", neighbours(11)...)
	f, s := direct(t, l, 11), newScheduler(t, vip4)
	f.give(s.order(a))
	l.UntilRoute(vip4+"/32", "10.0.0.11")
	f.hangUp()
	for range 5 {
		if got := fetch(vip4); got != "server51" {
			t.Error(got)
		}
	}
	f.mu.Lock()
	f.order, f.states = nil, nil
	f.mu.Unlock()
	f.listen()
	f.until("the next executor hears it", func(s *padisv1.DirectorState) bool { return s.GetNumber() == 1 && announces(vip4)(s) })

	bad := s.order(a)
	bad.Tcp = []byte("x")
	f.give(bad)
	f.until("a wrong order is refused", func(s *padisv1.DirectorState) bool {
		return s.GetReason() == padisv1.ReasonInvalid && strings.Contains(s.GetMessage(), "order 2 cannot be used") && s.GetNumber() == 1 && announces(vip4)(s)
	})
	// Frames that are none: too long, no protobuf. Each ends the connection, and nothing else.
	for _, frame := range [][]byte{binary.BigEndian.AppendUint32(nil, wire.MaxFrame+1), {0, 0, 0, 1, 0xff}} {
		f.mu.Lock()
		old := f.conn
		f.order = nil
		_, _ = old.Write(frame)
		f.mu.Unlock()
		l.Until("it connects anew", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.conn != old }, f.out.String)
	}
	s.vips = []string{vip4, vip6}
	f.give(s.order(a))
	f.until("a good one is obeyed", func(s *padisv1.DirectorState) bool {
		return s.GetNumber() == 3 && s.GetReason() == "" && announces(vip4, vip6)(s)
	})
}

// Routers that refuse, and such that BFD watches, are told by name.
func TestRouters(t *testing.T) {
	l := routers.New(t)
	a := realServer(t, l, 51, vip4+"/32", vip6+"/128")
	l.Start("bird", routers.Neighbour{Address: "10.0.0.11", ASN: hostASN, BFD: true}, routers.Neighbour{Address: "fd00::b", ASN: hostASN + 1})
	f, s := direct(t, l, 11), newScheduler(t, vip4, vip6)
	s.peers[0].BfdIntervalMs, s.peers[0].BfdMultiplier = 100, 3
	s.peers = append(s.peers, &padisv1.AnnouncementPeer{Name: "again", Router: &padisv1.BgpPeer{Address: "10.0.0.1", Asn: 1}},
		&padisv1.AnnouncementPeer{Name: "fast", Router: &padisv1.BgpPeer{Address: "10.0.0.2", Asn: 1, HoldMs: 1000}})
	f.give(s.order(a))
	f.until("all is said", func(s *padisv1.DirectorState) bool {
		x := s.GetSessions()
		return len(x) == 4 && x[0].GetEstablished() && x[0].GetBfd() == "up" && strings.Contains(x[1].GetMessage(), "wrong ASN") &&
			strings.Contains(x[2].GetMessage(), "another BGPPeer") && strings.Contains(x[3].GetMessage(), "hold time") && x[1].GetBfd() == ""
	})
	f.until("VIPs that nobody takes", func(s *padisv1.DirectorState) bool {
		return announces(vip4)(s) && s.GetReason() == padisv1.ReasonPeerDown && strings.Contains(s.GetMessage(), "no router that takes IPv6 VIPs has a session")
	})
	// Both families over the one session that there is.
	s.peers[0].BothFamilies = true
	f.give(s.order(a))
	f.until("both go by IPv4", func(s *padisv1.DirectorState) bool { return announces(vip4, vip6)(s) && s.GetReason() == "" })
	l.Until("IPv6 route", func() bool { return strings.Contains(l.Routes(vip6+"/128"), "via fd00::b") }, func() string { return l.Routes(vip6 + "/128") })
	// Another autonomous system: no restart, other sessions.
	pid := l.Pid(f.cmd.Path)
	s.change = func(b *padisv1.Balance) { b.Director.Announcement.Asn = hostASN + 1 }
	f.give(s.order(a))
	f.until("another ASN", func(s *padisv1.DirectorState) bool {
		x := s.GetSessions()
		return !x[0].GetEstablished() && x[1].GetEstablished() && slices.Equal(s.GetAnnounced(), []string{vip6})
	})
	if now := l.Pid(f.cmd.Path); now != pid || f.page("/ready") != "ready\n200" {
		t.Error(pid, now, f.page("/ready"))
	}
}

// A thousand VIPs come and go in one order each.
func TestThousandVIPs(t *testing.T) {
	l := routers.New(t)
	a := realServer(t, l, 51)
	d := l.Start("bird", neighbours(11)...)
	began := time.Now()
	f, s := direct(t, l, 11), newScheduler(t)
	for i := range 1000 {
		s.vips = append(s.vips, fmt.Sprintf("10.9.%d.%d", i/250, 1+i%250))
	}
	slices.SortFunc(s.vips, func(a, b string) int { return netip.MustParseAddr(a).Compare(netip.MustParseAddr(b)) })
	f.give(s.order(a))
	f.until("all are announced", announces(s.vips...))
	l.Until("the router has all", func() bool {
		return strings.Contains(d.Ask("show route count"), "1003 of 1003 routes for 1003 networks in table master4")
	},
		func() string { return d.Ask("show route count") })
	t.Logf("1000 VIPs: started and at the router after %v", time.Since(began))
	began = time.Now()
	f.give(s.order(a, &server{n: 52, mac: lb.MAC{2, 1, 1, 1, 1, 1}}))
	f.until("another table", func(s *padisv1.DirectorState) bool { return s.GetNumber() == 2 })
	t.Logf("another table for all after %v", time.Since(began))
	s.vips = s.vips[:1]
	f.give(s.order(a))
	f.until("one is left", announces(s.vips...))
	l.UntilRoute(s.vips[0]+"/32", "10.0.0.11")
	l.UntilRoute("10.9.3.250/32")
}
