package drivers

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// conform tries all that is promised of a driver.
func conform(t *testing.T, d driver, f family) {
	s := newSite(t, d, f)
	a, b := s.hosts[0], s.hosts[1]
	before := a.strangers(t) + b.strangers(t)
	one, two, other := s.declare(t, a, "one", 5), s.declare(t, a, "two", 6), s.declare(t, b, "other", 7)
	if got := other.answers(t); len(got) > 0 {
		t.Fatalf("nobody has the addresses, but %v answered", got)
	}
	for _, i := range []*instance{one, two, other} {
		i.attach(t)
	}
	s.tell(t, one, two, other)
	for _, i := range []*instance{one, two, other} {
		i.identical(t)
	}
	s.reach(t, one, two, other)
	s.sizes(t, one, two, other)
	if d.wired {
		s.multicast(t, one, two, other)
	}
	s.repeated(t, one)
	s.addressesOfTheHost(t)
	s.spoofing(t, one, two, other)
	s.loopback(t, one, other)
	s.bandwidth(t, one)
	s.ends(t, one, two, other)
	if after := a.strangers(t) + b.strangers(t); after != before {
		t.Errorf("interfaces of others were\n%s\nand are\n%s", before, after)
	}
}

// identical checks what the instance sees of itself.
func (i *instance) identical(t *testing.T) {
	t.Helper()
	i.settled(t)
	if got, want := i.link(t, "eth0").Attrs(), i.w.Interfaces[0]; got.HardwareAddr.String() != network.AddressMAC(i.addresses[0]).String() || got.MTU != want.MTU {
		t.Errorf("%s: eth0 has %s and MTU %d", i.task, got.HardwareAddr, got.MTU)
	}
	if len(i.w.Interfaces) != 1 {
		t.Errorf("%s: %d interfaces", i.task, len(i.w.Interfaces))
	}
	var got []netip.Addr
	i.do(t, func() error {
		l, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		all, err := l.Addrs()
		for _, a := range all {
			if p := netip.MustParsePrefix(a.String()); !p.Addr().IsLinkLocalUnicast() {
				got = append(got, p.Addr())
			}
		}
		return err
	})
	slices.SortFunc(got, netip.Addr.Compare)
	if !slices.Equal(got, i.addresses) {
		t.Errorf("%s has %v, not %v", i.task, got, i.addresses)
	}
}

// pairs are the addresses of both that are of one family.
func pairs(a, b []netip.Addr) [][2]netip.Addr {
	var out [][2]netip.Addr
	for _, x := range a {
		for _, y := range b {
			if x.Is4() == y.Is4() {
				out = append(out, [2]netip.Addr{x, y})
			}
		}
	}
	return out
}

// reach tries all ways between instances, and between them and what is outside, both directions each.
func (s *site) reach(t *testing.T, one, two, other *instance) {
	t.Helper()
	all := []*instance{one, two, other}
	for _, x := range all {
		for _, y := range all {
			if x != y {
				for _, p := range pairs(x.addresses, y.addresses) {
					x.asks(t, p[0], p[1], small)
				}
			}
		}
		for _, p := range append(pairs(x.addresses, s.near), pairs(x.addresses, s.far)...) {
			x.asks(t, p[0], p[1], small)
			s.outside.asks(t, p[1], p[0], small)
		}
	}
	for _, p := range pairs(one.addresses, other.addresses) {
		one.dials(t, p[0], p[1])
		other.dials(t, p[1], p[0])
	}
	for _, p := range pairs(one.addresses, two.addresses) {
		one.dials(t, p[0], p[1])
	}
	for _, p := range pairs(other.addresses, s.far) {
		other.dials(t, p[0], p[1])
		s.outside.dials(t, p[1], p[0])
	}
}

// sizes sends packets as large as the MTU, in one piece.
func (s *site) sizes(t *testing.T, one, two, other *instance) {
	t.Helper()
	mtu := one.w.Interfaces[0].MTU
	for _, p := range slices.Concat(pairs(one.addresses, two.addresses), pairs(one.addresses, other.addresses), pairs(one.addresses, s.near), pairs(one.addresses, s.far)) {
		one.asks(t, p[0], p[1], full(mtu, p[0]))
		one.oversized(t, mtu, p[0], p[1])
	}
	for _, p := range pairs(other.addresses, one.addresses) {
		other.asks(t, p[0], p[1], full(mtu, p[0]))
	}
	for _, p := range pairs(s.near, other.addresses) {
		s.outside.asks(t, p[0], p[1], full(mtu, p[0]))
	}
}

// on is the link of the machine outside that is on the segment.
func (s *site) on() string {
	if s.tag != 0 {
		return fmt.Sprintf("eth1.%d", s.tag)
	}
	return "eth1"
}

func (s *site) multicast(t *testing.T, one, two, other *instance) {
	t.Helper()
	for _, a := range one.addresses {
		members := map[string]*socket{}
		for _, i := range []*instance{two, other} {
			members[i.task] = i.member(t, "eth0", a.Is6())
		}
		if !s.routed {
			members["outside"] = s.outside.member(t, s.on(), a.Is6())
		}
		one.multicasts(t, "eth0", a, members)
		for _, m := range members {
			m.Close()
		}
	}
	for _, p := range pairs(s.near, one.addresses) {
		if !s.routed {
			m := map[string]*socket{"one": one.member(t, "eth0", p[0].Is6()), "other": other.member(t, "eth0", p[0].Is6())}
			s.outside.multicasts(t, s.on(), p[0], m)
			for _, c := range m {
				c.Close()
			}
		}
	}
}

// repeated: a second attach changes nothing, and others hear who has the addresses.
func (s *site) repeated(t *testing.T, i *instance) {
	t.Helper()
	before := i.host.links(t) + i.links(t)
	if err := i.host.Attach(i.fd, i.w); err != nil {
		t.Fatal(err)
	}
	i.settled(t)
	if after := i.host.links(t) + i.links(t); after != before {
		t.Errorf("a second attach made of\n%s\nthis:\n%s", before, after)
	}
	asker := s.asker(t, i)
	until(t, "all addresses are answered", func() bool {
		got := asker.answers(t)
		for _, a := range got {
			if !slices.Contains(i.addresses, a.Address) || !s.probesHere && a.MAC != i.w.Interfaces[0].MAC {
				t.Fatalf("%v", got)
			}
		}
		return len(got) == len(i.addresses)
	})
}

// asker is a task that would have the addresses of the instance, on another host if that can ask.
func (s *site) asker(t *testing.T, i *instance) *instance {
	t.Helper()
	h := s.hosts[1]
	if s.probesHere {
		h = i.host
	}
	asker := &instance{host: h, task: "asker", launch: i.launch, addresses: i.addresses}
	asker.want(t)
	return asker
}

// addressesOfTheHost: those that were its parent's are its still, and of use.
func (s *site) addressesOfTheHost(t *testing.T) {
	t.Helper()
	for _, h := range s.hosts {
		on := "eth1"
		if s.network.GetTakeParent() {
			on = h.bridge()
		}
		for _, a := range h.own {
			if out := h.ip(t, "ip addr show dev "+on); !strings.Contains(out, " "+a.String()+"/") {
				t.Errorf("%s has no %s on %s: %s", h.name, a, on, out)
			}
		}
		for _, p := range pairs(h.own, s.far) {
			h.asks(t, p[0], p[1], small)
		}
	}
}

func (h *host) bridge() string { return network.BridgeName("lan") }

// spoofing: what an instance sends with what is not its own does not arrive.
func (s *site) spoofing(t *testing.T, one, two, other *instance) {
	t.Helper()
	mac, target := one.w.Interfaces[0].MAC, network.AddressMAC(other.addresses[0])
	at, to, gateways := other.namespace, other.addresses, []string{gateway4, gateway6}
	end := "eth0"
	if s.probesHere {
		// There is no segment: what is sent goes to the host end, and is seen where the host leads it.
		at, to, end = s.outside, s.near, "eth1"
		copy(target[:], one.host.link(t, one.w.Interfaces[0].Host).Attrs().HardwareAddr)
	}
	from, into := one.capture(t, "eth0"), at.capture(t, end)
	for _, p := range pairs(one.addresses, to) {
		var trials []trial
		add := func(what string, f func(id []byte) []byte) {
			id := nonce(small)
			trials = append(trials, trial{what: what, frame: f(id), id: id})
		}
		stranger := two.addresses[slices.IndexFunc(two.addresses, func(a netip.Addr) bool { return a.Is4() == p[0].Is4() })]
		kind := unix.ETH_P_IP
		if p[0].Is6() {
			kind = unix.ETH_P_IPV6
		}
		add("honest", func(id []byte) []byte { return ether(target, mac, kind, datagram(p[0], p[1], id)) })
		add("address of another", func(id []byte) []byte { return ether(target, mac, kind, datagram(stranger, p[1], id)) })
		if !s.probesHere {
			add("hardware address of another", func(id []byte) []byte {
				return ether(target, two.w.Interfaces[0].MAC, kind, datagram(p[0], p[1], id))
			})
			for _, g := range s.family.of(gateways...) {
				if gateway := netip.MustParseAddr(g); gateway.Is4() == p[0].Is4() {
					add("claim to be the gateway", func(id []byte) []byte { return claim(mac, p[0], gateway, id) })
				}
			}
			add("claim to be another", func(id []byte) []byte { return claim(mac, p[0], stranger, id) })
		}
		var want []string
		if s.spoofed {
			for _, f := range trials[1:] {
				want = append(want, f.what)
			}
			slices.Sort(want)
		}
		if got := arrivals(t, from, into, trials, want); !slices.Equal(got, want) {
			t.Errorf("of what is not %s's own, arrived: %v; want %v", p[0], got, want)
		}
	}
	// Neighbours may believe what passed where it may pass.
	for _, n := range []*namespace{two.namespace, other.namespace, s.outside} {
		n.ip(t, "ip neigh flush all")
	}
}

// loopback: addresses of a load balancer are accepted by who has them, answered with, and never announced; live.
func (s *site) loopback(t *testing.T, one, other *instance) {
	t.Helper()
	vips := s.family.of("10.44.0.200", "fd44::200")
	one.adjust(t, func(l *padisv1.Launch) { l.LoopbackAddresses = vips })
	for _, v := range vips {
		vip := netip.MustParseAddr(v)
		one.serve(t, vip)
		client, link, from := other.namespace, "eth0", netip.Addr{}
		for _, a := range other.addresses {
			if a.Is4() == vip.Is4() {
				from = a
			}
		}
		if s.probesHere {
			client, from = one.host.namespace, netip.Addr{}
			for _, p := range pairs(one.addresses, []netip.Addr{vip}) {
				client.ip(t, fmt.Sprintf("ip route add %s via %s dev %s", vip, p[0], one.w.Interfaces[0].Host))
			}
		} else {
			// As a director does: to the real server's hardware address.
			client.ip(t, fmt.Sprintf("ip neigh replace %s lladdr %s dev %s", vip, one.w.Interfaces[0].MAC, link))
		}
		client.dials(t, from, vip)
	}
	taker := s.declare(t, s.hosts[1], "taker", 200)
	if got := taker.answers(t); len(got) > 0 {
		t.Errorf("a loopback address is answered: %v", got)
	}
	one.adjust(t, func(l *padisv1.Launch) { l.LoopbackAddresses = nil })
	if out := one.ip(t, "ip addr show dev lo"); slices.ContainsFunc(vips, func(v string) bool { return strings.Contains(out, " "+v+"/") }) {
		t.Errorf("lo still has %s", out)
	}
}

// queue is what tc tells of a token bucket.
type queue struct {
	Kind         string
	Root         bool
	Options      struct{ Rate, Burst int64 }
	Bytes, Drops int64
}

func (n *namespace) queue(t *testing.T, link string) queue {
	t.Helper()
	var all []queue
	out := n.run(t, nil, "tc", "-s", "-j", "qdisc", "show", "dev", link)
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, q := range all {
		if q.Root {
			return q
		}
	}
	return queue{}
}

// bandwidth is limited in both directions, live: no more leaves a bucket than it held and gained.
func (s *site) bandwidth(t *testing.T, one *instance) {
	t.Helper()
	const ingress, egress = 80_000, 160_000
	type direction struct {
		name string
		at   *namespace
		link string
		rate int64
		// from is who sends, from the first to the second.
		from *namespace
		pair [2]netip.Addr
	}
	out, in := pairs(one.addresses, s.near)[0], pairs(s.near, one.addresses)[0]
	ways := []direction{{"egress", one.namespace, "eth0", egress, one.namespace, out}}
	limit := &padisv1.Bandwidth{Egress: egress}
	if !s.outgoing {
		ways = append(ways, direction{"ingress", one.host.namespace, one.w.Interfaces[0].Host, ingress, s.outside, in})
		limit.Ingress = ingress
	}
	began := time.Now()
	one.adjust(t, func(l *padisv1.Launch) {
		for _, a := range l.Attachments {
			a.Bandwidth = limit
		}
	})
	for _, w := range ways {
		c := w.from.socket(t, netip.AddrPortFrom(w.pair[0], 0))
		_ = control(c.UDPConn, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16<<20) })
		var q queue
		// On the way some may be lost already.
		until(t, w.name+" is more than the bucket takes", func() bool {
			for range 100 {
				_, _ = c.WriteToUDPAddrPort(nonce(1000), netip.AddrPortFrom(w.pair[1], discardPort))
			}
			q = w.at.queue(t, w.link)
			return q.Drops > 0
		})
		c.Close()
		passed := time.Since(began)
		burst := network.Burst(w.rate)
		if q.Kind != "tbf" || q.Options.Rate != w.rate/8 || q.Options.Burst > burst || q.Options.Burst < burst*9/10 {
			t.Errorf("%s: %+v; want %d bytes a second and a burst of %d", w.name, q, w.rate/8, burst)
		}
		if most := burst + int64(passed.Seconds()*float64(w.rate)/8) + 1600; q.Bytes > most {
			t.Errorf("%s: %d bytes in %s, at most %d may", w.name, q.Bytes, passed, most)
		}
	}
	one.adjust(t, func(l *padisv1.Launch) {
		for _, a := range l.Attachments {
			a.Bandwidth = nil
		}
	})
	for _, w := range ways {
		if q := w.at.queue(t, w.link); q.Kind == "tbf" {
			t.Errorf("%s is still limited: %+v", w.name, q)
		}
	}
	one.asks(t, out[0], out[1], small)
}

// ends: when Detach returns, nobody answers for the addresses, and the others go on.
func (s *site) ends(t *testing.T, one, two, other *instance) {
	t.Helper()
	asker := s.asker(t, one)
	if err := one.host.Detach(one.fd, one.w); err != nil {
		t.Fatal(err)
	}
	if got := asker.answers(t); len(got) > 0 {
		t.Errorf("detached, but %v answered", got)
	}
	for n, p := range pairs(one.addresses, s.near) {
		q := pairs(two.addresses, s.near)[n]
		s.outside.silent(t, p[0], q[0], p[1], q[1])
		q = pairs(two.addresses, other.addresses)[n]
		other.silent(t, p[0], q[0], q[1], q[1])
	}
	if err := one.host.Detach(one.fd, one.w); err != nil {
		t.Errorf("a second detach: %v", err)
	}
	if err := one.host.Detach(-1, one.w); err != nil {
		t.Errorf("a detach without its namespace: %v", err)
	}
	// The address may come again at once, on the other host.
	again := s.declare(t, s.hosts[1], "again", 5)
	if got := again.answers(t); len(got) > 0 {
		t.Errorf("free, but %v answered", got)
	}
	again.attach(t)
	s.tell(t, again, two, other)
	for _, p := range pairs(again.addresses, two.addresses) {
		again.asks(t, p[0], p[1], small)
		two.asks(t, p[1], p[0], small)
	}
	for _, p := range pairs(s.near, again.addresses) {
		s.outside.asks(t, p[0], p[1], small)
	}
}
