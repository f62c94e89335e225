package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/lb/bgp/routers"
)

// The test binary is the executor's binary too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		os.Exit(Main(os.Stdin, os.Stdout, zap.NewNop()))
	}
	routers.Main(m)
}

func announcing(n int, addresses ...string) State {
	st := State{RouterID: addr(fmt.Sprintf("10.0.0.%d", n)), NextHop6: addr(fmt.Sprintf("fd00::%x", n)),
		Networks: []Network{{Name: "routed", ASN: 64512, Peers: []Peer{{Address: addr("10.0.0.1"), ASN: routers.ASN}}}}}
	for _, a := range addresses {
		st.Networks[0].Addresses = append(st.Networks[0].Addresses, addr(a))
	}
	return st
}

func host(n int) routers.Neighbour {
	return routers.Neighbour{Address: fmt.Sprintf("10.0.0.%d", n), ASN: 64512}
}

func start(t *testing.T, exe string) (*Speaker, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	s := Start(ctx, exe, zap.NewNop())
	end := func() { cancel(); <-s.Done() }
	t.Cleanup(end)
	return s, end
}

func established(l *routers.Lab, s *Speaker) {
	l.Until("the session is established", func() bool {
		x := s.Sessions()
		return len(x) == 1 && x[0].Established && x[0].Network == "routed"
	}, func() string { return fmt.Sprint(s.Sessions()) })
}

func wait(t *testing.T, s *Speaker, generation uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Wait(ctx, generation); err != nil {
		t.Fatal(err)
	}
}

func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }

// A child that is killed, and an executor that is replaced, cost no route: the router never takes one away. What was
// withdrawn meanwhile goes when the next child has spoken.
func TestRoutesSurvive(t *testing.T) {
	for _, kind := range routers.Kinds() {
		t.Run(kind, func(t *testing.T) {
			l := routers.New(t)
			l.Start(kind, host(11))
			exe := l.Script(l.Host(11, "10.9.0.1/32", "fd09::1/128"))
			s, end := start(t, exe)
			wait(t, s, s.Set(announcing(11, "10.9.0.1", "10.9.0.2", "fd09::1")))
			established(l, s)
			l.UntilRoute("10.9.0.1/32", "10.0.0.11")
			l.UntilRoute("10.9.0.2/32", "10.0.0.11")
			l.UntilRoute("fd09::1/128", "fd00::b")
			l.UntilReached("10.9.0.1")
			l.UntilReached("fd09::1")

			changes := l.Watch()
			before := l.Pid(exe)
			since := s.Sessions()[0].Since
			if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			l.Until("the session is another", func() bool {
				x := s.Sessions()
				return x[0].Established && x[0].Since.After(since) && l.Pid(exe) != before
			}, func() string { return fmt.Sprint(s.Sessions()) })
			l.UntilReached("10.9.0.1")
			wait(t, s, s.Set(announcing(11, "10.9.0.1", "10.9.0.2", "10.9.0.3", "fd09::1")))
			l.UntilRoute("10.9.0.3/32", "10.0.0.11")

			end()
			if !gone(l.Pid(exe)) {
				t.Error("the child outlives the executor")
			}
			s, _ = start(t, exe)
			wait(t, s, s.Set(announcing(11, "10.9.0.1", "fd09::1")))
			l.UntilRoute("10.9.0.2/32")
			l.UntilReached("10.9.0.1")
			for _, line := range strings.Split(changes(), "\n") {
				if strings.Contains(line, "Deleted") && (strings.Contains(line, "10.9.0.1") || strings.Contains(line, "fd09::1")) {
					t.Errorf("a route was away: %s", line)
				}
			}
		})
	}
}

// Wait returns when the routers have been told; when nobody is left to talk to, the child ends.
func TestWithdrawAndEnd(t *testing.T) {
	l := routers.New(t)
	l.Start("bird", host(11))
	exe := l.Script(l.Host(11))
	s, _ := start(t, exe)
	wait(t, s, s.Set(State{}))
	if l.Pid(exe) != 0 {
		t.Error("a child without work")
	}
	wait(t, s, s.Set(announcing(11, "10.9.0.1", "10.9.0.2")))
	established(l, s)
	l.UntilRoute("10.9.0.1/32", "10.0.0.11")
	wait(t, s, s.Set(announcing(11, "10.9.0.2")))
	l.UntilRoute("10.9.0.1/32")
	wait(t, s, s.Set(State{}))
	l.UntilRoute("10.9.0.2/32")
	l.Until("the child is gone", func() bool { return gone(l.Pid(exe)) }, func() string { return "" })
	if x := s.Sessions(); len(x) != 0 {
		t.Errorf("sessions %v", x)
	}
	// It starts again when there is somebody, under another router id too.
	wait(t, s, s.Set(announcing(11, "10.9.0.3")))
	established(l, s)
	again := announcing(11, "10.9.0.3")
	again.RouterID = addr("10.0.0.77")
	first := l.Pid(exe)
	s.Set(again)
	l.Until("another child", func() bool { return l.Pid(exe) != first }, func() string { return "" })
	established(l, s)
	l.UntilRoute("10.9.0.3/32", "10.0.0.11")
}

// Two routers: each has the routes all the time, whichever session begins first.
func TestTwoRoutersKeepRoutes(t *testing.T) {
	l := routers.New(t)
	d := l.Start("bird", host(11), routers.Neighbour{Address: "fd00::b", ASN: 64512})
	exe := l.Script(l.Host(11))
	st := announcing(11, "10.9.0.1", "fd09::1")
	st.Networks[0].Peers = append(st.Networks[0].Peers, Peer{Address: addr("fd00::1"), ASN: routers.ASN})
	s, _ := start(t, exe)
	wait(t, s, s.Set(st))
	both := func() bool {
		x := s.Sessions()
		return len(x) == 2 && x[0].Established && x[1].Established
	}
	l.Until("both sessions", both, func() string { return fmt.Sprint(s.Sessions()) })
	l.UntilRoute("10.9.0.1/32", "10.0.0.11")
	l.UntilRoute("fd09::1/128", "fd00::b")
	changes := l.Watch()
	before := l.Pid(exe)
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.Until("both sessions again", func() bool { return l.Pid(exe) != before && both() }, func() string { return fmt.Sprint(s.Sessions(), d.Ask("show protocols")) })
	if x := changes(); strings.Contains(x, "Deleted") {
		t.Errorf("a route was away: %s", x)
	}
}

func TestChildThatCannotStart(t *testing.T) {
	s, _ := start(t, "/nonexistent/padis-executor")
	g := s.Set(announcing(11, "10.9.0.1"))
	for range s.Changed() {
		if x := s.Sessions(); len(x) == 1 && !x[0].Established && strings.Contains(x[0].Message, "no such file") {
			break
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Wait(ctx, g); err == nil || !strings.Contains(err.Error(), "is not announced yet") {
		t.Error(err)
	}
}

// A State that one network spoils is done as far as it can be, and says what is wrong.
func TestWrongNetworkHurtsNobody(t *testing.T) {
	l := routers.New(t)
	l.Start("bird", host(11))
	s, _ := start(t, l.Script(l.Host(11)))
	st := announcing(11, "10.9.0.1")
	st.Networks = append(st.Networks, Network{Name: "wrong", ASN: 64512, Addresses: []netip.Addr{addr("10.9.0.9")},
		Peers: []Peer{{Address: addr("10.0.0.3"), ASN: routers.ASN, Hold: time.Millisecond}}})
	wait(t, s, s.Set(st))
	l.UntilRoute("10.9.0.1/32", "10.0.0.11")
	if x := s.Sessions(); len(x) != 2 || !strings.Contains(x[1].Message, "hold time: 1ms") {
		t.Errorf("sessions %+v", x)
	}
}
