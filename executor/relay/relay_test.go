package relay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"padis.io/padis/executor/lb"
)

// script is an executor's binary that writes its process down.
func (l *lab) script() (exe string, pid func() int) {
	l.t.Helper()
	self, err := os.Readlink("/proc/self/exe")
	l.must(err)
	exe = filepath.Join(l.t.TempDir(), "executor")
	l.must(os.WriteFile(exe, []byte("#!/bin/sh\necho $$ > $0.pid\nexec "+self+" \"$@\"\n"), 0o755))
	return exe, func() int {
		n := 0
		b, err := os.ReadFile(exe + ".pid")
		if err == nil {
			fmt.Sscan(string(b), &n)
		}
		return n
	}
}

func start(t testing.TB, exe string) (*Relay, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	r := Start(ctx, exe, zap.NewNop())
	end := func() { cancel(); <-r.Over() }
	t.Cleanup(end)
	return r, end
}

func wait(t testing.TB, r *Relay, generation uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Wait(ctx, generation); err != nil {
		t.Fatal(err)
	}
}

func (l *lab) set(r *Relay, s State) {
	l.t.Helper()
	wait(l.t, r, r.Set(s))
	for _, b := range s.Balances {
		if d := r.Done()[b.UID]; d.Number != b.Number || d.Error != "" {
			l.t.Fatalf("%s: %+v, want number %d", b.UID, d, b.Number)
		}
	}
}

// Connections stay with their server while the tables change, the child is killed, and the executor is replaced; and when there
// is nothing to relay any more, nothing is left.
func TestFlowsStay(t *testing.T) {
	l := newLab(t)
	client, dir, s1, s2 := l.machine("client", 2), l.machine("dir", 10), l.machine("s1", 21), l.machine("s2", 22)
	client.do(l, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		dst, err := netlink.ParseIPNet(vip + "/32")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: dst, Gw: []byte{10, 3, 0, 10}})
	})
	l.serve(s1)
	l.serve(s2)
	d := l.director(dir)
	exe, pid := l.script()
	r, end := start(t, exe)
	state := t.TempDir()
	pins := PinsOf(state, "fw")
	ports := []Port{s1.port, s2.port}
	number := int64(0)
	var g *lb.Generation
	change := func(states map[*machine]lb.State) {
		t.Helper()
		number++
		g = l.table(g, states)
		l.set(r, State{Pins: pins, Balances: []Balance{told(t, "u", number, vip, g)}, Ports: ports})
		l.must(d.Set(g))
	}
	if wait(t, r, r.Set(State{Pins: pins})); pid() != 0 {
		t.Error("a child without work")
	}
	change(map[*machine]lb.State{s1: lb.Serving})
	first := l.dial(client)
	l.served(first, "s1")
	// All slots move: who serves them now has not got this one.
	change(map[*machine]lb.State{s1: lb.Draining, s2: lb.Serving})
	l.served(first, "s1")
	second := l.dial(client)
	l.served(second, "s2")

	before := pid()
	l.must(syscall.Kill(before, syscall.SIGKILL))
	for range 50 {
		l.served(first, "s1")
		l.served(second, "s2")
	}
	l.until("another child", func() bool { return pid() != before && r.Done()["u"] == Done{Number: number} })
	change(map[*machine]lb.State{s1: lb.Serving, s2: lb.Draining})
	l.served(first, "s1")
	l.served(second, "s2")

	end()
	l.until("the child ends with its executor", func() bool { return syscall.Kill(pid(), 0) != nil })
	l.served(second, "s2")
	r, _ = start(t, exe)
	// The next executor has taken over one of them only.
	l.set(r, State{Pins: pins, Partial: true, Balances: []Balance{told(t, "u", number, vip, g)}, Ports: ports[:1]})
	l.served(first, "s1")
	l.served(second, "s2")
	change(map[*machine]lb.State{s1: lb.Draining, s2: lb.Serving})
	l.served(first, "s1")
	l.served(second, "s2")
	if kept, err := os.ReadDir(pins.Dir); err != nil || len(kept) != 2 {
		t.Errorf("pinned: %v, %v", kept, err)
	}

	wait(t, r, r.Set(State{Pins: pins}))
	if _, err := os.Stat(pins.Dir); !os.IsNotExist(err) || pins.Mount != "" && isBPF(pins.Mount) {
		t.Errorf("left: %v", err)
	}
	l.until("a child without work ends", func() bool { return syscall.Kill(pid(), 0) != nil })
}

// What cannot be read, and what claims the port of another, is told; the others are in force.
func TestWrongTablesHurtNobody(t *testing.T) {
	l := newLab(t)
	s1 := l.machine("s1", 21)
	exe, _ := l.script()
	r, _ := start(t, exe)
	pins := PinsOf(t.TempDir(), "fw")
	t.Cleanup(func() { wait(t, r, r.Set(State{Pins: pins})) })
	g := l.table(nil, map[*machine]lb.State{s1: lb.Serving})
	good := told(t, "a", 3, vip, g)
	bad := told(t, "b", 5, "10.99.0.2", g)
	bad.Body = bad.Body[:len(bad.Body)/2]
	s := State{Pins: pins, Ports: []Port{s1.port, {Index: 99999, Out: l.out}}, Balances: []Balance{good, bad, told(t, "c", 7, vip, g)}}
	wait(t, r, r.Set(s))
	all := r.Done()
	if all["a"] != (Done{Number: 3}) || all["b"].Number != 5 || all["b"].Error == "" || all["c"].Number != 7 || !strings.Contains(all["c"].Error, "overlap") {
		t.Errorf("%+v", all)
	}
	// The next one is right, and needs more room than there was.
	s.Balances[1] = told(t, "b", 6, "10.99.0.2", g)
	s.Balances[2] = told(t, "c", 8, "10.99.0.3", g)
	for i := range 100 {
		s.Balances = append(s.Balances, told(t, fmt.Sprintf("d%d", i), 1, fmt.Sprintf("10.98.0.%d", i+1), g))
	}
	l.set(r, s)
	if len(r.Done()) != len(s.Balances) {
		t.Errorf("%d of %d", len(r.Done()), len(s.Balances))
	}
}

func TestDone(t *testing.T) {
	order := State{Balances: []Balance{{UID: "a", Number: 3}}}
	s := status{Done: map[string]Done{"a": {2, "no"}}}
	for _, c := range []struct {
		failed string
		idle   bool
		want   Done
	}{{"", false, Done{2, "no"}}, {"it ended", false, Done{3, "it ended"}}, {"", true, Done{3, ""}}, {"it ended", true, Done{3, ""}}} {
		if got := done(order, s, c.failed, c.idle); !reflect.DeepEqual(got, map[string]Done{"a": c.want}) {
			t.Errorf("%q, %v: %+v", c.failed, c.idle, got)
		}
	}
}

// A child that is told what is left by trim knows what it would know of the whole.
func TestTrim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known := map[string]string{}
		numbers := map[string]int64{}
		var before State
		for range rapid.IntRange(1, 10).Draw(t, "orders") {
			var s State
			for _, uid := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.ID).Draw(t, "uids") {
				if rapid.Bool().Draw(t, "changes") || numbers[uid] == 0 {
					numbers[uid]++
				}
				s.Balances = append(s.Balances, Balance{uid, numbers[uid], []byte(fmt.Sprint(uid, numbers[uid]))})
			}
			next := map[string]string{}
			for i, b := range s.trim(before).Balances {
				if next[b.UID] = string(b.Body); b.Body == nil {
					next[b.UID] = known[b.UID]
				}
				if next[b.UID] != string(s.Balances[i].Body) {
					t.Fatalf("%s is %q, want %q", b.UID, next[b.UID], s.Balances[i].Body)
				}
			}
			known, before = next, s
		}
	})
}

// Whatever is in a body, it is read or refused.
func FuzzDecode(f *testing.F) {
	l := &lab{t: f}
	g := l.table(nil, map[*machine]lb.State{{name: "s1", port: Port{MAC: [6]byte{2, 0x42, 10, 3, 0, 21}}}: lb.Serving})
	f.Add(told(f, "u", 1, vip, g).Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = decode(body, nil)
	})
}
