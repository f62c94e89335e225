package tcx

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// needsRoot skips where programs cannot be loaded.
func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: loads eBPF programs")
	}
}

// inNetns runs the rest of the test in a network namespace of its own.
func inNetns(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // not unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func seed(t testing.TB) uint64 {
	s := uint64(time.Now().UnixNano())
	if text := os.Getenv("PADIS_SEED"); text != "" {
		fmt.Sscan(text, &s)
	}
	t.Logf("PADIS_SEED=%d", s)
	return s
}

func server(i int) lb.Server {
	return lb.Server{ID: fmt.Sprintf("s%03d", i), MAC: lb.MAC{2, 0x42, 10, 1, byte(i >> 8), byte(i)}, Weight: 1}
}

// farm makes services of all sorts, after some changes of their servers.
func farm(t testing.TB, r *rand.Rand) []*lb.Generation {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	services := []lb.Service{
		{VIP: a("198.51.100.1"), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}},
		{VIP: a("198.51.100.1"), Protocol: lb.UDP, Ports: lb.Ports{First: 53, Last: 53}},
		{VIP: a("198.51.100.1"), Protocol: lb.TCP, Ports: lb.Ports{First: 8000, Last: 8099}},
		{VIP: a("198.51.100.1"), Protocol: lb.TCP, Ports: lb.Ports{First: 65000, Last: 65535}, Scheduler: lb.SourceHash},
		{VIP: a("198.51.100.2"), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, Allow: []netip.Prefix{p("192.0.2.0/30"), p("192.0.2.2/32"), p("192.0.2.64/26"), p("192.0.2.200/31")}},
		{VIP: a("198.51.100.3"), Protocol: lb.UDP, Ports: lb.Ports{First: 1, Last: 65535}, Allow: []netip.Prefix{p("0.0.0.0/0")}},
		{VIP: a("198.51.100.4"), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}}, // nobody serves it
		{VIP: a("2001:db8::1"), Protocol: lb.TCP, Ports: lb.Ports{First: 443, Last: 443}},
		{VIP: a("2001:db8::1"), Protocol: lb.UDP, Ports: lb.Ports{First: 443, Last: 450}},
		{VIP: a("2001:db8::2"), Protocol: lb.TCP, Ports: lb.Ports{First: 443, Last: 443}, Scheduler: lb.SourceHash,
			Allow: []netip.Prefix{p("2001:db8:c::/123"), p("2001:db8:c::40/127"), p("2001:db8:c::80/121"), p("2001:db8:c::88/128")}},
	}
	var gs []*lb.Generation
	for i, s := range services {
		s.TableSize, s.Seed = []uint32{251, 4099, 65537}[r.IntN(3)], r.Uint64()
		var g *lb.Generation
		for change := range 1 + r.IntN(30) {
			var servers []lb.Server
			for n := range 12 {
				if x := server(n); i != 6 && (change == 0 || r.IntN(4) > 0) {
					x.State = lb.State(r.IntN(3))
					servers = append(servers, x)
				}
			}
			next, err := lb.Next(g, s, servers)
			if err != nil {
				t.Fatal(err)
			}
			g = next
		}
		gs = append(gs, g)
	}
	return gs
}

// judge compares a program with the reference.
type judge struct {
	t         *testing.T
	d         *Dataplane
	tables    *lb.Tables
	fragments map[lb.FragmentKey]lb.Fragment
	counts    map[Listener]Count
	rest      Count
	actions   map[lb.Action]uint32
}

func newJudge(t *testing.T, d *Dataplane, gs []*lb.Generation, actions map[lb.Action]uint32) *judge {
	if err := d.Set(gs...); err != nil {
		t.Fatal(err)
	}
	tables, err := lb.NewTables(gs...)
	if err != nil {
		t.Fatal(err)
	}
	j := &judge{t: t, d: d, tables: tables, fragments: map[lb.FragmentKey]lb.Fragment{}, counts: map[Listener]Count{},
		rest: Count{Packets: map[lb.Reason]uint64{}}, actions: actions}
	for _, g := range gs {
		j.counts[listenerOf(&g.Service)] = Count{Packets: map[lb.Reason]uint64{}}
	}
	tables.Fragments = func(k lb.FragmentKey) (lb.Fragment, bool) { f, ok := j.fragments[k]; return f, ok }
	return j
}

// see runs the program on a frame of which the reference says v.
func (j *judge) see(frame []byte, v lb.Verdict) {
	want := slices.Clone(frame)
	if v.Action == lb.Forward {
		copy(want, v.DstMAC[:])
		copy(want[6:], v.SrcMAC[:])
	}
	j.count(frame, v)
	if v.Learn {
		j.fragments[v.FragmentKey] = v.Fragment
	}
	out := make([]byte, len(frame)+256)
	o := &ebpf.RunOptions{Data: frame, DataOut: out}
	got, err := j.d.Program().Run(o)
	if err != nil {
		j.t.Fatalf("run on %d bytes %x: %v", len(frame), frame, err)
	}
	if got != j.actions[v.Action] || !bytes.Equal(o.DataOut, want) {
		j.t.Fatalf("frame %x\nreference: %s (%d)\nprogram: %d, frame then\n%x", frame, v, j.actions[v.Action], int32(got), o.DataOut)
	}
}

func (j *judge) count(frame []byte, v lb.Verdict) {
	c := &j.rest
	if v.Reason == lb.Placed || v.Reason >= lb.NotAllowed {
		p, _ := lb.Parse(frame)
		if p.Kind == lb.LaterFragment {
			f := j.fragments[p.Fragment]
			p.Tuple.SrcPort, p.Tuple.DstPort, p.Tuple.Protocol = f.SrcPort, f.DstPort, f.Protocol
		}
		l := listenerOf(&j.tables.Service(p.Tuple).Service)
		k := j.counts[l]
		c = &k
		defer func() { j.counts[l] = k }()
	}
	c.Packets[v.Reason]++
	c.Bytes += uint64(len(frame))
}

// end compares what was counted, and wants each reason to have come.
func (j *judge) end(reasons ...lb.Reason) {
	got, err := j.d.Counters()
	if err != nil {
		j.t.Fatal(err)
	}
	if text, want := fmt.Sprint(got.Rest), fmt.Sprint(j.rest); text != want {
		j.t.Errorf("rest: counted\n%s, reference\n%s", text, want)
	}
	seen := map[lb.Reason]uint64{}
	for r, n := range j.rest.Packets {
		seen[r] += n
	}
	for l, want := range j.counts {
		if text, want := fmt.Sprint(got.Services[l]), fmt.Sprint(want); text != want {
			j.t.Errorf("%v: counted\n%s, reference\n%s", l, text, want)
		}
		for r, n := range want.Packets {
			seen[r] += n
		}
	}
	j.t.Logf("%v", seen)
	for _, r := range reasons {
		if seen[r] == 0 {
			j.t.Errorf("no packet of %d kinds was %q", len(seen), r)
		}
	}
}

const packets = 60000 // for each director's program; the relay has as many

var directorMAC = lb.MAC{2, 0x42, 10, 0, 9, 9}

func TestDirectorsDecideAsReference(t *testing.T) {
	needsRoot(t)
	for _, c := range []struct {
		mode    Mode
		actions map[lb.Action]uint32
	}{
		{DirectorXDP, map[lb.Action]uint32{lb.Pass: 2, lb.Forward: 3, lb.Drop: 1}},
		{DirectorTCX, map[lb.Action]uint32{lb.Pass: 0xffffffff, lb.Forward: 7, lb.Drop: 2}},
	} {
		t.Run(c.mode.String(), func(t *testing.T) {
			s := seed(t)
			r := rand.New(rand.NewPCG(s, 1))
			d, err := Load(Options{Mode: c.mode, MAC: directorMAC, Services: 16})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			gs := farm(t, r)
			j := newJudge(t, d, gs, c.actions)
			f := &frames{r: r, own: directorMAC, wholeIP: c.mode == DirectorTCX}
			for _, g := range gs {
				f.services = append(f.services, &g.Service)
			}
			for range packets {
				frame := f.next()
				j.see(frame, lb.Decide(frame, directorMAC, j.tables))
			}
			j.end(lb.Placed, lb.NotForUs, lb.NotIP, lb.Malformed, lb.Other, lb.NoService, lb.FragmentUnknown, lb.NotAllowed, lb.NoServer)
		})
	}
}

// Whole states follow each other: services come, change and go, and after each step the program does what the reference does.
func TestStatesFollowEachOther(t *testing.T) {
	needsRoot(t)
	s := seed(t)
	r := rand.New(rand.NewPCG(s, 3))
	d, err := Load(Options{Mode: DirectorXDP, MAC: directorMAC, Services: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	actions := map[lb.Action]uint32{lb.Pass: 2, lb.Forward: 3, lb.Drop: 1}
	f := &frames{r: r, own: directorMAC}
	gs := farm(t, r)
	for _, g := range gs {
		f.services = append(f.services, &g.Service)
	}
	fragments := map[lb.FragmentKey]lb.Fragment{} // stay from state to state
	for range 40 {
		if r.IntN(4) == 0 {
			gs = farm(t, r)
		}
		now := slices.DeleteFunc(slices.Clone(gs), func(*lb.Generation) bool { return r.IntN(3) == 0 })
		r.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
		j := newJudge(t, d, now, actions)
		j.fragments = fragments
		for range 300 {
			frame := f.next()
			j.see(frame, lb.Decide(frame, directorMAC, j.tables))
		}
	}
	if len(d.pages) > 2 {
		t.Errorf("%d pages for states of at most 1.5 MB", len(d.pages))
	}
}
