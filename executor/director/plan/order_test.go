package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// table is a generation of servers "s0", "s1" ... in these states.
func table(t interface{ Fatal(...any) }, protocol uint8, scheduler lb.Scheduler, states ...lb.State) *lb.Generation {
	var servers []lb.Server
	for i, s := range states {
		servers = append(servers, lb.Server{ID: fmt.Sprint("s", i), MAC: lb.MAC{2, 0x42, 10, 0, 0, byte(i)}, Weight: 100, State: s})
	}
	g, err := lb.Next(nil, lb.Service{VIP: addr("10.9.0.1"), Protocol: protocol, Ports: lb.Ports{First: 80, Last: 80}, Scheduler: scheduler, TableSize: 251, Seed: 7}, servers)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func service(vip, protocol string, first, last int32, ranges ...string) *padisv1.BalanceService {
	return &padisv1.BalanceService{Vip: vip, Protocol: protocol, FirstPort: first, LastPort: last, SourceRanges: ranges}
}

func balance(t interface{ Fatal(...any) }, states ...lb.State) *padisv1.Balance {
	b := &padisv1.Balance{Uid: "u", Number: 1, Namespace: "shop", Name: "web", Director: &padisv1.DirectorOrder{},
		Services: []*padisv1.BalanceService{service("10.9.0.1", "tcp", 80, 80), service("10.9.0.1", "udp", 53, 53, "10.0.0.0/8"), service("fd09::1", "tcp", 80, 90)},
		Tcp:      table(t, lb.TCP, lb.Maglev, states...).Encode(), Udp: table(t, lb.UDP, lb.Maglev, states...).Encode()}
	for i := range states {
		b.Servers = append(b.Servers, &padisv1.RealServer{Id: fmt.Sprint("s", i), Address: fmt.Sprint("10.0.0.", 50+i)})
	}
	return b
}

func read(t interface{ Fatal(...any) }, b *padisv1.Balance, before *Order) *Order {
	o, err := Read(b, before)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestRead(t *testing.T) {
	o := read(t, balance(t, lb.Serving, lb.Draining), nil)
	var got []string
	for _, f := range o.Forwardings {
		got = append(got, fmt.Sprintf("%s %s %v", f.Service, f.Service.Ports, f.Service.Allow))
	}
	if want := []string{"10.9.0.1:80 tcp 80 []", "10.9.0.1:53 udp 53 [10.0.0.0/8]", "[fd09::1]:80 tcp 80-90 []"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if want := []netip.Addr{addr("10.9.0.1"), addr("fd09::1")}; !slices.Equal(o.VIPs, want) {
		t.Error(o.VIPs)
	}
	if len(o.Servers) != 2 || o.Servers[1].Address != addr("10.0.0.51") || o.Servers[1].State != lb.Draining || o.Forwardings[0].Addresses["s0"] != addr("10.0.0.50") {
		t.Errorf("%+v", o.Servers)
	}
}

// A dataplane does nothing for what keeps its pointer.
func TestReadKeepsPointers(t *testing.T) {
	b := balance(t, lb.Serving)
	o := read(t, b, nil)
	b = proto.Clone(b).(*padisv1.Balance)
	b.Number = 2
	b.Services[1].SourceRanges = nil
	b.Services = append(b.Services, service("10.9.0.2", "tcp", 80, 80))
	p := read(t, b, o)
	same := func(i, j int) bool { return o.Forwardings[i].Generation == p.Forwardings[j].Generation }
	if !same(0, 0) || same(1, 1) || !same(2, 3) {
		t.Errorf("%v, %v", o.Forwardings, p.Forwardings)
	}
	b = proto.Clone(b).(*padisv1.Balance)
	b.Tcp = table(t, lb.TCP, lb.Maglev, lb.Suspect).Encode()
	if q := read(t, b, p); q.Forwardings[0].Generation == p.Forwardings[0].Generation || q.Forwardings[1].Generation != p.Forwardings[1].Generation {
		t.Error("another table, and the same pointer, or the other way round")
	}
}

func TestReadLeavesOut(t *testing.T) {
	b := balance(t, lb.Serving)
	b.Services[0].Nobody, b.Udp = true, nil
	o := read(t, b, nil)
	if len(o.Forwardings) != 1 || !slices.Equal(o.VIPs, []netip.Addr{addr("fd09::1")}) {
		t.Error(o.VIPs)
	}
	if text := strings.Join(o.Left, "\n"); !strings.Contains(text, "10.9.0.1:80 tcp: no source range is of its family") || !strings.Contains(text, "10.9.0.1:53 udp: it has no table yet") {
		t.Error(text)
	}
}

func TestReadRefuses(t *testing.T) {
	for want, break_ := range map[string]func(*padisv1.Balance){
		"hosts of real servers":        func(b *padisv1.Balance) { b.Director = nil },
		"tcp: load balancer table":     func(b *padisv1.Balance) { b.Tcp = []byte{1} },
		"udp: the table is one of":     func(b *padisv1.Balance) { b.Udp = b.Tcp },
		`vip "x"`:                      func(b *padisv1.Balance) { b.Services[0].Vip = "x" },
		`protocol "sctp"`:              func(b *padisv1.Balance) { b.Services[0].Protocol = "sctp" },
		"port 70000":                   func(b *padisv1.Balance) { b.Services[0].LastPort = 70000 },
		"the lower first":              func(b *padisv1.Balance) { b.Services[0].FirstPort = 81 },
		`source range "all"`:           func(b *padisv1.Balance) { b.Services[0].SourceRanges = []string{"all"} },
		"prefixes of the VIP's family": func(b *padisv1.Balance) { b.Services[0].SourceRanges = []string{"fd00::/8"} },
		"overlap":                      func(b *padisv1.Balance) { b.Services = append(b.Services, service("10.9.0.1", "tcp", 70, 90)) },
		`address "y"`:                  func(b *padisv1.Balance) { b.Servers[0].Address = "y" },
		`scheduler "lc"`:               func(b *padisv1.Balance) { b.Director.Scheduler = "lc" },
	} {
		b := balance(t, lb.Serving)
		break_(b)
		if _, err := Read(b, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// Whatever an order is, it is read or refused, and what is read can be decided on.
func FuzzRead(f *testing.F) {
	for _, b := range []*padisv1.Balance{balance(f, lb.Serving, lb.Suspect), {Director: &padisv1.DirectorOrder{}}} {
		raw, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var b padisv1.Balance
		if proto.Unmarshal(raw, &b) != nil {
			return
		}
		o, err := Read(&b, nil)
		if err != nil {
			return
		}
		if _, err := Read(&b, o); err != nil {
			t.Fatalf("read once, refused again: %v", err)
		}
		for _, v := range Decide(State{Wanted: o, Applied: o}).Announce {
			if !slices.Contains(o.VIPs, v) {
				t.Fatalf("announces %s of %v", v, o.VIPs)
			}
		}
	})
}

// The way to every server that has a slot comes by a flow whose chain has it; the others are reached by their own address.
func TestWay(t *testing.T) {
	own := []netip.Addr{addr("10.0.0.9"), addr("fd00::9")}
	rapid.Check(t, func(rt *rapid.T) {
		states := make([]lb.State, rapid.IntRange(1, 20).Draw(rt, "servers"))
		for i := range states {
			states[i] = lb.State(rapid.IntRange(0, 2).Draw(rt, "state"))
		}
		o := read(rt, balance(rt, states...), nil)
		at := rapid.IntRange(0, len(states)-1).Draw(rt, "server")
		w, err := o.Way(fmt.Sprint("s", at), 80, own, true, rapid.Uint64().Draw(rt, "seed"))
		if err != nil {
			rt.Fatal(err)
		}
		g := o.Forwardings[0].Generation
		if states[at] != lb.Serving {
			// This is the first generation: who does not serve has no slot, unless nobody does.
			if w.Marked || w.To != netip.AddrPortFrom(addr(fmt.Sprint("10.0.0.", 50+at)), 80) {
				rt.Fatalf("%+v", w)
			}
			return
		}
		place := slices.IndexFunc(g.Servers, func(s lb.Server) bool { return s.ID == fmt.Sprint("s", at) })
		slot := g.Service.Slot(lb.Tuple{Src: w.From.Addr(), Dst: w.To.Addr(), SrcPort: w.From.Port(), DstPort: 80, Protocol: lb.TCP})
		if !w.Marked || w.To != netip.AddrPortFrom(addr("10.9.0.1"), 80) || !slices.Contains(g.Chain(slot), uint16(place)) {
			rt.Fatalf("%+v", w)
		}
	})
}

func TestWaysOtherwise(t *testing.T) {
	own := []netip.Addr{addr("10.0.0.9")}
	b := balance(t, lb.Serving, lb.Serving)
	direct := Way{To: netip.MustParseAddrPort("10.0.0.51:80")}
	for name, c := range map[string]struct {
		port uint16
		own  []netip.Addr
		via  bool
		want Way
	}{
		"the dataplane catches it": {80, own, false, direct},
		"a port of no listener":    {8080, own, true, Way{netip.MustParseAddrPort("10.9.0.1:8080"), netip.MustParseAddrPort("10.0.0.9:0"), true}},
		"no address of the family": {80, nil, true, direct},
	} {
		if w, err := read(t, b, nil).Way("s1", c.port, c.own, c.via, 1); err != nil || w != c.want {
			t.Errorf("%s: %v %+v", name, err, w)
		}
	}
	if w, err := read(t, b, nil).Way("s1", 80, []netip.Addr{addr("fd00::9")}, true, 1); err != nil || w.To.Addr() != addr("fd09::1") {
		t.Errorf("%v %+v", err, w)
	}
	b.Tcp = table(t, lb.TCP, lb.SourceHash, lb.Serving, lb.Serving).Encode()
	marked := 0
	for _, id := range []string{"s0", "s1"} {
		if w, err := read(t, b, nil).Way(id, 80, own, true, 1); err != nil {
			t.Error(err)
		} else if w.Marked {
			marked++
		}
	}
	if marked != 1 {
		t.Errorf("sh: %d of two servers have the one flow of this source", marked)
	}
	b.Servers = nil
	if _, err := read(t, b, nil).Way("s1", 80, own, false, 1); err == nil {
		t.Error("a way without an address")
	}
}
