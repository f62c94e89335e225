package kernel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// udp opens a datagram socket in a namespace.
func udp(t testing.TB, ns int, at string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := inside(ns, func() error {
		p, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
		c = p
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// reaches sends from one to the other until it arrives, and back.
func reaches(t testing.TB, what string, from, to int, source, destination string) {
	t.Helper()
	a := udp(t, from, net.JoinHostPort(source, "7000"))
	b := udp(t, to, net.JoinHostPort(destination, "7001"))
	defer a.Close()
	defer b.Close()
	arrives(t, what, a, b, net.JoinHostPort(destination, "7001"), source)
	arrives(t, what+" and back", b, a, net.JoinHostPort(source, "7000"), destination)
}

// arrives sends until b gets it from source.
func arrives(t testing.TB, what string, a, b *net.UDPConn, to, source string) {
	t.Helper()
	buf := make([]byte, 64)
	until(t, what, func() bool {
		// Until neighbours are known the kernel refuses some.
		_, _ = a.WriteToUDPAddrPort([]byte("x"), netip.MustParseAddrPort(to))
		if err := b.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, from, err := b.ReadFromUDPAddrPort(buf)
		return err == nil && from.Addr().Unmap().String() == source
	})
}

// broadcasts and multicasts from one instance reach the other.
func reachesAll(t testing.TB, from, to int, source, broadcast string) {
	t.Helper()
	a := udp(t, from, net.JoinHostPort(source, "7000"))
	defer a.Close()
	if err := control(a, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1) }); err != nil {
		t.Fatal(err)
	}
	b := udp(t, to, "0.0.0.0:7001")
	defer b.Close()
	arrives(t, "a broadcast", a, b, net.JoinHostPort(broadcast, "7001"), source)
	group := [4]byte{239, 1, 2, 3}
	err := inside(to, func() error {
		return control(b, func(fd int) error {
			l, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			return unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: int32(l.Index)})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	arrives(t, "a multicast", a, b, "239.1.2.3:7001", source)
}

func control(c *net.UDPConn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

func overlay() *padisv1.Network {
	return &padisv1.Network{Name: "tenant", Driver: "vxlan", Parent: "eth1", Vni: 77, Mtu: 1400, AllowSpoofing: true}
}

func (m *machine) overlay(t testing.TB, w network.Wanted, remotes ...network.Remote) {
	t.Helper()
	m.do(t, func() error { return m.SetOverlay(w.Segments[0], remotes) })
}

// entries are the addresses of the instances of w.
func entries(w network.Wanted) [][]netip.Addr {
	var out [][]netip.Addr
	for _, i := range w.Interfaces {
		var all []netip.Addr
		for _, p := range i.Addresses {
			all = append(all, p.Addr())
		}
		out = append(out, all)
	}
	return out
}

func TestOverlayBetweenTwoHosts(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	a.configure(t, "eth1", "192.0.2.1/24")
	b.configure(t, "eth1", "192.0.2.2/24")
	enda, endb := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	wa := wantLaunch(t, "exec", "x", "a", &padisv1.Launch{Attachments: dual(overlay(), "10.44.0.5", "fd00::5")})
	wb := wantLaunch(t, "exec", "y", "b", &padisv1.Launch{Attachments: dual(overlay(), "10.44.0.6", "fd00::6")})
	na, nb := namespace(t), namespace(t)
	// The overlay may come before the first instance.
	a.overlay(t, wa, network.Remote{Endpoint: endb, Interfaces: entries(wb)})
	a.attach(t, na, wa)
	b.attach(t, nb, wb)
	b.overlay(t, wb, network.Remote{Endpoint: enda, Interfaces: entries(wa)})
	a.settled(t, na, wa)
	a.settledOverlay(t, wa, network.Remote{Endpoint: endb, Interfaces: entries(wb)})
	reaches(t, "IPv4 through the tunnel", na, nb, "10.44.0.5", "10.44.0.6")
	reaches(t, "IPv6 through the tunnel", na, nb, "fd00::5", "fd00::6")
	reachesAll(t, na, nb, "10.44.0.5", "10.44.255.255")
	if o := a.see(t, na, wa); named1(t, o.Host, wa.Segments[0].Uplink).PortFlags != (network.PortFlags{Suppress: true}) {
		t.Errorf("the tunnel's port: %+v", o.Host)
	}
	// A probe finds who has an address on the other host, although the control plane says nothing of it.
	squat := wantLaunch(t, "exec", "z", "b", &padisv1.Launch{Attachments: dual(overlay(), "10.44.0.9", "fd00::9")})
	ns := namespace(t)
	b.attach(t, ns, squat)
	wz := wantLaunch(t, "exec", "z", "a", &padisv1.Launch{Attachments: dual(overlay(), "10.44.0.9", "fd00::9")})
	until(t, "both addresses of the squatter answer", func() bool { return len(a.answers(t, wz)) == 2 })
	b.do(t, func() error { return b.Detach(ns, squat) })
	if got := a.answers(t, wz); len(got) != 0 {
		t.Errorf("released, but %v answered", got)
	}
	// The instance moves to a: nothing of it is left in the tables.
	a.overlay(t, wa, network.Remote{Endpoint: endb})
	a.settledOverlay(t, wa, network.Remote{Endpoint: endb})
	a.overlay(t, wa)
	a.settledOverlay(t, wa)
}

// settledOverlay fails if the tables are not exactly those of the remotes.
func (m *machine) settledOverlay(t testing.TB, w network.Wanted, remotes ...network.Remote) {
	t.Helper()
	m.do(t, func() error {
		return m.session(-1, func(s *session) error {
			tunnel, bridge, err := s.overlayLinks(w.Segments[0])
			if err != nil {
				return err
			}
			addresses := 0
			for _, r := range remotes {
				addresses += len(slices.Concat(r.Interfaces...))
			}
			if ops := network.PlanOverlay(w.Segments[0], remotes, tunnel, bridge); len(ops) > 0 || len(bridge.Neighbours) != addresses {
				return fmt.Errorf("there is still to do: %v; neighbours %v", ops, bridge.Neighbours)
			}
			return nil
		})
	})
}

func TestMacvlanReachesTheWire(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	n := &padisv1.Network{Name: "m", Driver: "macvlan", Parent: "eth1", AllowSpoofing: true}
	wa := wantLaunch(t, "exec", "x", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "fd00::5")})
	wb := wantLaunch(t, "exec", "y", "b", &padisv1.Launch{Attachments: dual(n, "10.44.0.6", "fd00::6")})
	na, nb := namespace(t), namespace(t)
	a.attach(t, na, wa)
	b.attach(t, nb, wb)
	a.settled(t, na, wa)
	if got := inner(t, a.see(t, na, wa), "eth0"); got.Kind != "macvlan" || got.Under != "eth1" || got.MAC != wa.Interfaces[0].MAC {
		t.Errorf("inside: %+v", got)
	}
	reaches(t, "IPv4", na, nb, "10.44.0.5", "10.44.0.6")
	reaches(t, "IPv6", na, nb, "fd00::5", "fd00::6")
	reachesAll(t, na, nb, "10.44.0.5", "10.44.255.255")
	same := wantLaunch(t, "exec", "z", "b", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "fd00::5")})
	until(t, "both addresses answer", func() bool { return len(b.answers(t, same)) == 2 })
	a.do(t, func() error { return a.Detach(na, wa) })
	if got := b.answers(t, same); len(got) != 0 {
		t.Errorf("released, but %v answered", got)
	}
	a.do(t, func() error { return a.Detach(-1, wa) })
}

func TestRoutedBetweenHosts(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	a.configure(t, "eth1", "192.0.2.1/24", "2001:db8::1/64")
	b.configure(t, "eth1", "192.0.2.2/24", "2001:db8::2/64")
	n := &padisv1.Network{Name: "r", Driver: "routed", Parent: "eth1", AllowSpoofing: true}
	wa := wantLaunch(t, "exec", "x", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "fd00::5")})
	wb := wantLaunch(t, "exec", "y", "b", &padisv1.Launch{Attachments: dual(n, "10.44.0.6", "fd00::6")})
	na, nb := namespace(t), namespace(t)
	a.attach(t, na, wa)
	b.attach(t, nb, wb)
	a.settled(t, na, wa)
	// A host answers for the gateway if it has a way out itself, as each host of a routed network does.
	a.route(t, "eth1", "0.0.0.0/0", "192.0.2.254")
	b.route(t, "eth1", "0.0.0.0/0", "192.0.2.254")
	// What BGP would tell.
	a.route(t, "eth1", "10.44.0.6/32", "192.0.2.2")
	a.route(t, "eth1", "fd00::6/128", "2001:db8::2")
	b.route(t, "eth1", "10.44.0.5/32", "192.0.2.1")
	b.route(t, "eth1", "fd00::5/128", "2001:db8::1")
	reaches(t, "IPv4", na, nb, "10.44.0.5", "10.44.0.6")
	reaches(t, "IPv6", na, nb, "fd00::5", "fd00::6")
	reaches(t, "from a machine outside", b.ns, na, "192.0.2.2", "10.44.0.5")
	if got := a.answers(t, wa); len(got) != 0 {
		t.Errorf("own addresses are not silent: %v", got)
	}
	second := wantLaunch(t, "exec", "z", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "fd00::5")})
	if got := a.answers(t, second); len(got) != 2 {
		t.Errorf("the address of another instance here is silent: %v", got)
	}
	a.do(t, func() error { return a.Detach(na, wa) })
	if got := a.answers(t, second); len(got) != 0 {
		t.Errorf("released, but %v answered", got)
	}
	taken := wantLaunch(t, "exec", "q", "a", &padisv1.Launch{Attachments: []*padisv1.Attachment{{Network: n, Address: "192.0.2.1", PrefixLength: 24, Probe: true}}})
	if got := a.answers(t, taken); len(got) != 1 {
		t.Errorf("the host's own address is silent: %v", got)
	}
}

func (m *machine) route(t testing.TB, link, to, via string) {
	t.Helper()
	m.say(t, func(c *conn) error {
		l, err := c.link(link)
		if err != nil {
			return err
		}
		return c.do(addRoute(network.Route{Destination: netip.MustParsePrefix(to), Gateway: netip.MustParseAddr(via)}, l.index))
	})
}

func TestProbeFindsDuplicatesOfIPv6(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	wa := wantLaunch(t, "exec", "x", "a", &padisv1.Launch{Attachments: dual(lan(0), "", "fd00::5")})
	wb := wantLaunch(t, "exec", "y", "b", &padisv1.Launch{Attachments: dual(lan(0), "10.44.0.6", "fd00::5")})
	if got := b.answers(t, wb); len(got) != 0 {
		t.Fatalf("nobody has it, but %v answered", got)
	}
	ns := namespace(t)
	a.attach(t, ns, wa)
	expect := []network.Answer{{Address: netip.MustParseAddr("fd00::5"), MAC: wa.Interfaces[0].MAC}}
	until(t, "the one who has it answers", func() bool { return slices.Equal(b.answers(t, wb), expect) })
	a.do(t, func() error { return a.Detach(ns, wa) })
	if got := b.answers(t, wb); len(got) != 0 {
		t.Fatalf("released, but %v answered", got)
	}
}

// Two hosts that could not see each other have one address, and so one hardware address. Each sees that the other has it,
// and neither takes itself for another.
func TestConflictsAreSeenByDirection(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	na, nb := namespace(t), namespace(t)
	wa := wantLaunch(t, "exec", "x", "a", &padisv1.Launch{Attachments: dual(lan(0), "10.44.0.5", "fd00::5")})
	wb := wantLaunch(t, "exec", "y", "b", &padisv1.Launch{Attachments: dual(lan(0), "10.44.0.5", "fd00::5")})
	seen := make(chan Conflict, 100)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		a.Watch(ctx, func(c Conflict) { seen <- c })
		close(done)
	}()
	a.attach(t, na, wa)
	// Its own announcements, and talk with a machine outside, are none.
	outside := &machine{name: "out", ns: namespace(t)}
	outside.plug(t)
	outside.configure(t, "eth1", "10.44.0.77/16", "fd00::77/64")
	reaches(t, "a machine outside", outside.ns, na, "10.44.0.77", "10.44.0.5")
	reaches(t, "a machine outside", outside.ns, na, "fd00::77", "fd00::5")
	a.do(t, func() error { return a.Announce(wa) })
	select {
	case c := <-seen:
		t.Fatalf("takes itself or another for a stranger: %+v", c)
	default:
	}
	b.attach(t, nb, wb)
	have := map[Conflict]bool{}
	until(t, "a conflict for each address", func() bool {
		b.do(t, func() error { return b.Announce(wb) })
		for {
			select {
			case c := <-seen:
				have[c] = true
				continue
			default:
			}
			return len(have) == 2
		}
	})
	for _, p := range wa.Interfaces[0].Addresses {
		if !have[Conflict{"lan0", p.Addr(), wa.Interfaces[0].MAC}] {
			t.Errorf("%s is not among %v", p, have)
		}
	}
	a.do(t, func() error { return a.Detach(na, wa) })
	if len(a.watch.wires) != 0 {
		t.Errorf("still watched: %v", a.watch.wires)
	}
	stop()
	<-done
}
