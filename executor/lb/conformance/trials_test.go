package conformance

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/executor/lb"
)

// trials are what is tried of each dataplane, in this order, at one site.
var trials = []struct {
	name string
	try  func(*site)
}{
	{"echo", (*site).tryEcho},
	{"one family known", (*site).tryOneFamily},
	{"ports", (*site).tryPorts},
	{"sources", (*site).trySources},
	{"weights", (*site).tryWeights},
	{"equal tables", (*site).tryEqualTables},
	{"by source", (*site).tryBySource},
	{"another director", (*site).tryAnotherDirector},
	{"another director while servers change", (*site).tryAnotherDirectorInChange},
	{"draining", (*site).tryDraining},
	{"removal", (*site).tryRemoval},
	{"nobody serves", (*site).tryNobodyServes},
	{"fragmentation needed", (*site).tryFragmentationNeeded},
	{"fragments", (*site).tryFragments},
	{"again", (*site).tryAgain},
	{"methods", (*site).tryMethods},
	{"connection limit", (*site).tryConnectionLimit},
	{"marks", (*site).tryMarks},
	{"a thousand services", (*site).tryThousand},
}

// conform tries all that the dataplane promises.
func conform(t *testing.T, d *subject) {
	for name := range d.lacks {
		if name != "close" && !slices.ContainsFunc(trials, func(x struct {
			name string
			try  func(*site)
		}) bool {
			return x.name == name
		}) {
			t.Fatalf("%s lacks %q, which is no trial", d.name, name)
		}
	}
	s := newSite(t, d)
	before := s.directors[0].state()
	s.open()
	for _, x := range trials {
		if !d.promises(x.name) {
			t.Logf("not promised: %s, because %s", x.name, d.lacks[x.name])
			if x.name == "methods" || x.name == "connection limit" {
				s.refuses(x.name)
			}
			continue
		}
		t.Run(x.name, func(t *testing.T) {
			outer := s.t
			s.t = t
			defer func() { s.t = outer }()
			s.by(0)
			x.try(s)
		})
	}
	t.Run("close", func(t *testing.T) {
		outer := s.t
		s.t = t
		defer func() { s.t = outer }()
		s.tryClose(before)
	})
}

// refuses checks that what a dataplane cannot do is no service of less.
func (s *site) refuses(what string) {
	s.t.Helper()
	f := &farm{s: s}
	f.change(serving)
	l := listener{protocol: lb.TCP, first: tcpPort, method: "rr"}
	if what == "connection limit" {
		l.method, l.max = "", 2
	}
	if err := s.planes[0].Set(f.forwardings(l)); err == nil {
		s.t.Errorf("%s are not promised, and not refused", what)
	}
}

func at(vip netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(vip, port) }

// Streams and datagrams of both families go to the real servers, which see the client's address; what they say does not pass the
// director.
func (s *site) tryEcho() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	replies := s.directors[0].replies()
	before, err := s.planes[0].Forwarded()
	s.must(err)
	for _, vip := range vips {
		streams, datagrams := map[string]int{}, map[string]int{}
		for range 20 {
			c := s.dial(at(vip, tcpPort))
			streams[c.holder]++
			c.Close()
			datagrams[s.echo(at(vip, echoPort), 1000)]++
		}
		if len(streams) != 3 || len(datagrams) != 3 {
			s.t.Errorf("%s: 20 connections %v, 20 datagrams %v of 3 servers", vip, streams, datagrams)
		}
	}
	if n := replies(); n != 0 {
		s.t.Errorf("%d replies went through the director", n)
	}
	after, err := s.planes[0].Forwarded()
	s.must(err)
	// Two families, 20 times four packets of a connection at least and a datagram.
	if after-before < 2*20*5 {
		s.t.Errorf("%d packets forwarded, then %d", before, after)
	}
}

// The IPv4 addresses of real servers are enough for VIPs of both families.
func (s *site) tryOneFamily() {
	f := &farm{s: s, four: true}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	conns := s.connect(10)
	s.by(1)
	s.stays("at another director", conns)
	s.by(0)
	for _, vip := range vips {
		s.share(vip, s.place(vip, ports(vip, 30000, 1000)), 1000, map[string]float64{"s1": 1. / 3, "s2": 1. / 3, "s3": 1. / 3})
	}
}

func (s *site) tryPorts() {
	f := &farm{s: s}
	f.change(serving, serving)
	s.set(f.forwardings(listener{protocol: lb.TCP, first: 8000, last: 8003}, usual[0]))
	for _, vip := range vips {
		for _, port := range []uint16{8000, 8001, 8003, tcpPort} {
			s.dial(at(vip, port))
		}
		s.unreachable(at(vip, 8004), netip.AddrPort{})
	}
	s.set(f.forwardings(listener{protocol: lb.TCP, first: 8001, last: 8004}))
	for _, vip := range vips {
		s.dial(at(vip, 8004))
		s.unreachable(at(vip, 8000), netip.AddrPort{})
		s.unreachable(at(vip, tcpPort), netip.AddrPort{})
	}
}

// unreachable checks that a connection does not come to be.
func (s *site) unreachable(to, from netip.AddrPort) {
	s.t.Helper()
	if c, err := s.try(to, from, 500*time.Millisecond); err == nil {
		s.t.Errorf("%s can be reached by %s", to, c.at)
	}
}

func (s *site) trySources() {
	f := &farm{s: s}
	f.change(serving, serving)
	closed := usual[0]
	// The second client, and prefixes that contain or touch each other, and the ends of what there is.
	for _, p := range []string{"10.9.0.3/32", "10.8.0.0/16", "10.8.1.0/24", "10.8.0.0/16", "10.7.0.0/16", "0.0.0.0/32", "255.255.255.0/24", "fd09::3/128", "fd08::/32", "fd08:0:1::/48", "ffff::/16"} {
		closed.allow = append(closed.allow, netip.MustParsePrefix(p))
	}
	slices.SortFunc(closed.allow, func(a, b netip.Prefix) int { return a.Compare(b) })
	closed.allow = slices.Compact(closed.allow)
	s.set(f.forwardings(closed, listener{protocol: lb.TCP, first: 8000}))
	for i, vip := range vips {
		s.unreachable(at(vip, tcpPort), at(clients[i][0], 0))
		if _, err := s.try(at(vip, tcpPort), at(clients[i][1], 0), patience()); err != nil {
			s.t.Errorf("%s by the client that is allowed: %v", vip, err)
		}
		if _, err := s.try(at(vip, 8000), at(clients[i][0], 0), patience()); err != nil {
			s.t.Errorf("%s port 8000, which is open: %v", vip, err)
		}
	}
	closed.allow = []netip.Prefix{netip.PrefixFrom(clients[0][0], 32), netip.PrefixFrom(clients[1][0], 128)}
	s.set(f.forwardings(closed))
	for i, vip := range vips {
		s.unreachable(at(vip, tcpPort), at(clients[i][1], 0))
		if _, err := s.try(at(vip, tcpPort), at(clients[i][0], 0), patience()); err != nil {
			s.t.Errorf("%s by the client that is allowed now: %v", vip, err)
		}
	}
	s.set(f.forwardings(usual...))
	for i, vip := range vips {
		if _, err := s.try(at(vip, tcpPort), at(clients[i][1], 0), patience()); err != nil {
			s.t.Errorf("%s, which is open again: %v", vip, err)
		}
	}
}

// ports are flows of the client's first address, from port first on.
func ports(vip netip.Addr, first, n int) []netip.AddrPort {
	source := clients[0][0]
	if vip.Is6() {
		source = clients[1][0]
	}
	var out []netip.AddrPort
	for p := first; p < first+n; p++ {
		out = append(out, at(source, uint16(p)))
	}
	return out
}

func (s *site) tryWeights() {
	f := &farm{s: s}
	f.change(want{1, lb.Serving}, want{2, lb.Serving}, want{3, lb.Serving}, want{0, lb.Serving})
	s.set(f.forwardings(usual...))
	for _, vip := range vips {
		const n = 3000
		s.share(vip, s.place(vip, ports(vip, 20000, n)), n, map[string]float64{"s1": 1. / 6, "s2": 2. / 6, "s3": 3. / 6})
	}
}

// share compares with what must be expected, within five standard deviations and a percent for the table's own unevenness.
func (s *site) share(vip netip.Addr, placed map[netip.AddrPort]string, n int, shares map[string]float64) {
	s.t.Helper()
	got := map[string]int{}
	for _, server := range placed {
		got[server]++
	}
	for server, count := range got {
		p := shares[server]
		if off := math.Abs(float64(count) - p*float64(n)); off > 5*math.Sqrt(float64(n)*p*(1-p))+float64(n)/100 {
			s.t.Errorf("%s: %s got %d of %d, which is not %.3f of them", vip, server, count, n, p)
		}
	}
	if len(got) != len(shares) {
		s.t.Errorf("%s: shares %v, want %v", vip, got, shares)
	}
}

// Two directors place every flow alike, whatever either has seen before: servers that came, went, drained and came back on one,
// nothing on the other.
func (s *site) tryEqualTables() {
	f := &farm{s: s}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 8 {
		wants := make([]want, 5)
		for i := range wants {
			if random.IntN(3) > 0 {
				wants[i] = want{1 + random.Uint32N(4), lb.State(random.IntN(3))}
			}
		}
		f.change(wants...)
		s.set(f.forwardings(usual...), 0)
	}
	last := make([]want, 5)
	for i := range last {
		last[i] = want{1 + random.Uint32N(4), lb.Serving}
	}
	last[random.IntN(5)].state = lb.Draining
	f.change(last...)
	s.set(f.forwardings(usual...))
	for _, vip := range vips {
		const first, n = 1024, 65536 - 1024
		s.by(0)
		one := s.place(vip, ports(vip, first, n))
		s.by(1)
		other := s.place(vip, ports(vip, first, n))
		differ := 0
		for flow, server := range one {
			if other[flow] != server {
				differ++
			}
		}
		if differ > 0 {
			s.t.Errorf("%s: %d of %d flows are placed differently by the directors (seed %d, at last %v)", vip, differ, n, seed, last)
		}
		s.by(0)
		total := 0.
		shares := map[string]float64{}
		for i, w := range last {
			if w.state == lb.Serving {
				total += float64(w.weight)
				shares[s.servers[i].name] = float64(w.weight)
			}
		}
		for name := range shares {
			shares[name] /= total
		}
		s.share(vip, one, n, shares)
	}
}

// With `sh` a client has one real server, whatever its ports; clients have different ones; and both directors agree.
func (s *site) tryBySource() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(listener{protocol: lb.UDP, first: discardPort, scheduler: lb.SourceHash}))
	for i, vip := range vips {
		var from []netip.AddrPort
		client := clients[i][0]
		for range 64 {
			for port := range uint16(4) {
				from = append(from, at(client, 5000+1000*port))
			}
			client = client.Next()
		}
		s.by(0)
		one := s.place(vip, from)
		s.by(1)
		other := s.place(vip, from)
		s.by(0)
		servers := map[string]int{}
		for _, c := range from {
			servers[one[c]]++
			if one[c] != other[c] || one[c] != one[at(c.Addr(), 5000)] {
				s.t.Errorf("%s: %s goes to %s, by the other director to %s, port 5000 to %s", vip, c, one[c], other[c], one[at(c.Addr(), 5000)])
			}
		}
		if len(servers) != 3 {
			s.t.Errorf("%s: 64 clients go to %v", vip, servers)
		}
	}
}

// connect opens so many connections to each VIP.
func (s *site) connect(n int) []*conn {
	s.t.Helper()
	var conns []*conn
	for _, vip := range vips {
		for range n {
			conns = append(conns, s.dial(at(vip, tcpPort)))
		}
	}
	return conns
}

// Connections stay with their real servers when the router sends them to another director.
func (s *site) tryAnotherDirector() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	conns := s.connect(10)
	s.by(1)
	s.stays("at another director", conns)
	s.by(0)
	s.stays("back at the first director", conns)
}

func (s *site) tryAnotherDirectorInChange() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	conns := s.connect(10)
	f.change(serving, draining, serving, serving)
	s.set(f.forwardings(usual...))
	s.by(1)
	s.stays("at another director after a change", conns)
	f.change(draining, suspect, serving, serving, serving)
	s.set(f.forwardings(usual...))
	s.stays("after another change", conns)
	s.by(0)
	s.stays("back at the first director", conns)
}

// Who drains keeps connections and gets no new ones; so does who is suspect.
func (s *site) tryDraining() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	conns := s.connect(15)
	for name, state := range map[string]want{"draining": draining, "suspect": suspect} {
		f.change(state, serving, serving)
		s.set(f.forwardings(usual...))
		s.stays("while s1 is "+name, conns)
		for _, c := range s.connect(15) {
			if c.holder == "s1" {
				s.t.Errorf("a new connection goes to s1, which is %s", name)
			}
		}
		for _, vip := range vips {
			s.share(vip, s.place(vip, ports(vip, 30000, 1000)), 1000, map[string]float64{"s2": .5, "s3": .5})
		}
	}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	s.stays("when all serve again", conns)
}

// Who has gone gets nothing; the connections of others stay.
func (s *site) tryRemoval() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	conns := s.connect(10)
	f.change(serving, serving)
	s.set(f.forwardings(usual...))
	var others []*conn
	for _, c := range conns {
		if c.holder != "s3" {
			others = append(others, c)
			continue
		}
		if name, err := c.ask(0); err == nil {
			s.t.Errorf("a connection of s3, which has gone, is answered by %s", name)
		}
	}
	s.stays("when s3 has gone", others)
	for _, vip := range vips {
		s.share(vip, s.place(vip, ports(vip, 30000, 1000)), 1000, map[string]float64{"s1": .5, "s2": .5})
	}
	for _, c := range s.connect(10) {
		if c.holder == "s3" {
			s.t.Error("a new connection goes to s3, which has gone")
		}
	}
}

// Better servers that leave than none; and without any nothing is answered, until there is one.
func (s *site) tryNobodyServes() {
	f := &farm{s: s}
	f.change(serving, serving)
	s.set(f.forwardings(usual...))
	f.change(draining, draining)
	s.set(f.forwardings(usual...))
	s.connect(5)
	f.change()
	s.set(f.forwardings(usual...))
	for _, vip := range vips {
		s.unreachable(at(vip, tcpPort), netip.AddrPort{})
	}
	f.change(want{}, serving)
	s.set(f.forwardings(usual...))
	for _, c := range s.connect(2) {
		if c.holder != "s2" {
			s.t.Errorf("a new connection goes to %s, there is s2 only", c.holder)
		}
	}
}

// What a router says about packets that are too big for its way to the client comes to the server that sent them: else nothing big
// would ever arrive.
func (s *site) tryFragmentationNeeded() {
	f := &farm{s: s}
	f.change(serving, serving, serving, serving)
	s.set(f.forwardings(usual...))
	conns := s.connect(6)
	s.narrow(1300)
	defer s.narrow(1500)
	for _, c := range conns {
		if name, err := c.ask(100_000); err != nil || name != c.holder {
			s.t.Errorf("100 kB of %s for %s: %q, %v", c.holder, c.at, name, err)
		}
	}
}

// All fragments of a datagram go where its flow goes.
func (s *site) tryFragments() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	s.set(f.forwardings(usual...))
	for _, vip := range vips {
		servers := map[string]bool{}
		for range 10 {
			servers[s.echo(at(vip, echoPort), 5000)] = true
		}
		if len(servers) < 2 {
			s.t.Errorf("%s: all datagrams in fragments go to %v", vip, servers)
		}
	}
}

// The same again changes nothing.
func (s *site) tryAgain() {
	f := &farm{s: s}
	f.change(serving, serving, draining)
	s.set(f.forwardings(usual...))
	conns := s.connect(5)
	before := s.directors[0].state()
	for range 3 {
		s.set(f.forwardings(usual...))
	}
	if after := s.directors[0].state(); after != before {
		s.t.Errorf("the director was\n%s\nand is\n%s", before, after)
	}
	s.stays("after the same again", conns)
}

// Methods that count on one director alone.
func (s *site) tryMethods() {
	f := &farm{s: s}
	f.change(want{1, lb.Serving}, want{2, lb.Serving}, want{3, lb.Serving}, draining)
	for method, shares := range map[string]map[string]int{"rr": {"s1": 4, "s2": 4, "s3": 4}, "wrr": {"s1": 2, "s2": 4, "s3": 6}, "wlc": {"s1": 2, "s2": 4, "s3": 6}} {
		s.set(nil)
		s.set(f.forwardings(listener{protocol: lb.TCP, first: tcpPort, method: method}))
		for _, vip := range vips {
			got := map[string]int{}
			var conns []*conn
			for range 12 {
				c := s.dial(at(vip, tcpPort))
				conns = append(conns, c)
				got[c.holder]++
			}
			for _, c := range conns { // so that the next method does not count them
				c.Close()
			}
			for name, n := range shares {
				if got[name] < n-1 || got[name] > n+1 {
					s.t.Errorf("%s to %s: %v, want %v", method, vip, got, shares)
					break
				}
			}
		}
	}
	if err := s.planes[0].Set(f.forwardings(listener{protocol: lb.TCP, first: tcpPort, method: "random"})); err == nil {
		s.t.Error(`the method "random" is taken`)
	}
}

// A server with as many connections as it may have gets no more.
func (s *site) tryConnectionLimit() {
	f := &farm{s: s}
	// One that has no connections of trials before.
	f.change(want{}, want{}, want{}, want{}, serving)
	s.set(f.forwardings(listener{protocol: lb.TCP, first: tcpPort, max: 2}))
	for _, vip := range vips {
		s.dial(at(vip, tcpPort))
		s.dial(at(vip, tcpPort))
		s.unreachable(at(vip, tcpPort), netip.AddrPort{})
	}
	s.set(f.forwardings(listener{protocol: lb.TCP, first: tcpPort, max: 4}))
	for _, vip := range vips {
		s.dial(at(vip, tcpPort))
	}
}

// marker is a dataplane that sees what its host sends, and so must be told of the marks by which checks reach each real server.
type marker interface {
	Mark(map[uint32]netip.Addr) error
}

// A check of the director, to the VIP, comes to the real server that its mark is of, whatever its flow's slot or the server's state.
func (s *site) tryMarks() {
	f := &farm{s: s, four: true}
	f.change(serving, draining, suspect)
	s.set(f.forwardings(usual...))
	marks := map[uint32]netip.Addr{}
	for n, m := range s.servers[:3] {
		marks[uint32(1+n)] = m.addresses()[0]
	}
	s.must(s.planes[0].(marker).Mark(marks))
	for i := range vips {
		for range 3 {
			for n, m := range s.servers[:3] {
				c, err := s.tryAs(s.directors[0], at(vips[i], tcpPort), at(s.directors[0].addresses()[i], 0), patience(), uint32(1+n))
				if err != nil {
					s.t.Fatalf("check of %s by %s: %v", m.name, vips[i], err)
				}
				if name, err := c.ask(0); err != nil || name != m.name {
					s.t.Errorf("check of %s by %s: %q, %v", m.name, vips[i], name, err)
				}
			}
		}
	}
	s.must(s.planes[0].(marker).Mark(nil))
	// What its host sends is of the whole namespace, and so are its services: it is alone there.
	s.directors[0].do(func() error {
		p, err := s.subject.open(s.directors[0])
		if err == nil {
			return errors.Join(errors.New("a second one in the same namespace is taken"), p.Close())
		}
		if !strings.Contains(err.Error(), "already") {
			s.t.Errorf("a second one in the same namespace: %v", err)
		}
		return nil
	})
	s.connect(1)
}

func (s *site) tryThousand() {
	f := &farm{s: s}
	f.change(serving, serving, serving)
	few := f.forwardings(usual...)
	s.set(few)
	conns := s.connect(2)
	others := []netip.Addr{}
	for a4, a6 := netip.MustParseAddr("10.99.4.0"), netip.MustParseAddr("fd99::1:0"); len(others) < 998; a4, a6 = a4.Next(), a6.Next() {
		others = append(others, a4, a6)
	}
	many := append(f.forwardingsOf(others, usual[0]), f.forwardings(usual[0])...)
	for _, x := range []struct {
		what string
		set  []lb.Forwarding
	}{{"1,000 services", many}, {"the same again", many}, {"3 services", few}} {
		began := time.Now()
		s.must(s.planes[0].Set(x.set))
		s.t.Logf("%s in force in %v", x.what, time.Since(began).Round(time.Millisecond))
		s.stays("with "+x.what, conns)
		s.connect(1)
	}
}

// A closed dataplane forwards nothing, and the director is as it was before.
func (s *site) tryClose(before string) {
	f := &farm{s: s}
	f.change(serving, serving)
	closed := usual[0]
	if s.subject.promises("sources") {
		closed.allow = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd09::/64")}
	}
	s.set(f.forwardings(closed, usual[1]))
	s.connect(1)
	for _, p := range s.planes {
		s.must(p.Close())
	}
	if after := s.directors[0].state(); after != before {
		s.t.Errorf("the director was\n%s\nand is\n%s", before, after)
	}
	for _, vip := range vips {
		s.unreachable(at(vip, tcpPort), netip.AddrPort{})
	}
	if err := s.planes[0].Set(nil); err == nil {
		s.t.Error("a closed dataplane takes services")
	}
}
