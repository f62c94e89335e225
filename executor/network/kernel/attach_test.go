package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// left is what there is still to do.
func (m *machine) left(t testing.TB, ns int, w network.Wanted) []network.Op {
	t.Helper()
	var ops []network.Op
	m.do(t, func() (err error) {
		ops, err = m.Check(ns, w)
		return err
	})
	return ops
}

// settled fails if there is anything to do.
func (m *machine) settled(t testing.TB, ns int, w network.Wanted) {
	t.Helper()
	for _, op := range m.left(t, ns, w) {
		t.Errorf("there is still to do: %s", op)
	}
}

// see observes the host and an instance.
func (m *machine) see(t testing.TB, ns int, w network.Wanted) network.Observed {
	t.Helper()
	var o network.Observed
	m.do(t, func() error {
		return m.session(ns, func(s *session) (err error) {
			s.full = true
			o, err = s.observe(w)
			return err
		})
	})
	return o
}

func inner(t testing.TB, o network.Observed, name string) network.Link {
	t.Helper()
	return named1(t, o.Inside, name)
}

func named1(t testing.TB, links []network.Link, name string) network.Link {
	t.Helper()
	for _, l := range links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("there is no %s among %+v", name, links)
	return network.Link{}
}

// dual is an attachment pair of one network, whose instance has an address of each family; either may be empty.
func dual(n *padisv1.Network, v4, v6 string) []*padisv1.Attachment {
	var out []*padisv1.Attachment
	if v4 != "" {
		out = append(out, &padisv1.Attachment{Network: n, Address: v4, PrefixLength: 16, Gateway: "10.44.255.254", Probe: true})
	}
	if v6 != "" {
		out = append(out, &padisv1.Attachment{Network: n, Address: v6, PrefixLength: 64, Gateway: "fd00::fffe", Probe: true})
	}
	return out
}

func TestAttachMakesWhatIsWantedAndRepeatsNothing(t *testing.T) {
	m := newMachine(t, "a", "exec")
	ns := namespace(t)
	w := want(t, "exec", "task", "a", "10.44.0.5", "10.45.0.5")
	if len(m.left(t, ns, w)) == 0 {
		t.Fatal("nothing to do for what is not there")
	}
	m.attach(t, ns, w)
	m.settled(t, ns, w)
	m.attach(t, ns, w)
	m.settled(t, ns, w)
	o := m.see(t, ns, w)
	if len(o.Inside) != 3 {
		t.Errorf("inside: %+v", o.Inside)
	}
	if !slices.ContainsFunc(o.InsideRoutes, func(r network.Route) bool {
		return r.Destination.Bits() == 0 && r.Gateway == netip.MustParseAddr("10.44.0.9") && r.Link == "eth0"
	}) {
		t.Errorf("no default route among %+v", o.InsideRoutes)
	}
	if got := named1(t, o.Host, "padis0"); got.MAC != w.Segments[0].BridgeMAC {
		t.Errorf("the bridge has %s, not its own address %s", got.MAC, w.Segments[0].BridgeMAC)
	}
	for range 2 {
		if err := m.Detach(ns, w); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDualStackAndIPv6Only(t *testing.T) {
	m := newMachine(t, "a", "exec")
	for _, c := range []struct{ task, v4, v6 string }{{"both", "10.44.0.5", "fd00::5"}, {"six", "", "fd00::6"}} {
		ns := namespace(t)
		w := wantLaunch(t, "exec", c.task, "a", &padisv1.Launch{Attachments: dual(lan(0), c.v4, c.v6)})
		m.attach(t, ns, w)
		m.settled(t, ns, w)
		o := m.see(t, ns, w)
		if got := inner(t, o, "eth0"); !sameSet(got.Addresses, w.Interfaces[0].Addresses) || got.MAC != w.Interfaces[0].MAC || len(o.Inside) != 2 {
			t.Errorf("%s: %+v", c.task, o.Inside)
		}
		if !slices.ContainsFunc(o.InsideRoutes, func(r network.Route) bool {
			return r.Destination.Bits() == 0 && r.Gateway == netip.MustParseAddr("fd00::fffe")
		}) {
			t.Errorf("%s: no default route among %+v", c.task, o.InsideRoutes)
		}
		var used []InterfaceAddress
		m.do(t, func() (err error) {
			used, err = m.Used(ns)
			return err
		})
		if len(used) != len(w.Interfaces[0].Addresses) || used[0].Interface != "eth0" {
			t.Errorf("%s uses %v", c.task, used)
		}
	}
}

func TestAttachRefusesAParentWithAddressesAndLeavesIt(t *testing.T) {
	m := newMachine(t, "a", "exec")
	m.configure(t, "eth1", "192.0.2.1/24")
	err := inside(m.ns, func() error { return m.Attach(namespace(t), want(t, "exec", "task", "a", "10.44.0.5")) })
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1/24") {
		t.Fatalf("got %v", err)
	}
	l, err := m.host.link("eth1")
	if err != nil || l.master != 0 {
		t.Fatalf("the interface was taken: %+v, %v", l, err)
	}
	var host []InterfaceAddress
	m.do(t, func() (err error) {
		host, err = m.Addresses()
		return err
	})
	if !slices.Equal(host, []InterfaceAddress{{"eth1", netip.MustParsePrefix("192.0.2.1/24")}}) {
		t.Errorf("the host has %v", host)
	}
}

// What changes of a live instance is changed, and nothing else: the interface is the same one.
func TestAdjustChangesRatesAndLoopbackLive(t *testing.T) {
	m := newMachine(t, "a", "exec")
	ns := namespace(t)
	l := &padisv1.Launch{Attachments: dual(lan(0), "10.44.0.5", "fd00::5")}
	w := wantLaunch(t, "exec", "task", "a", l)
	m.attach(t, ns, w)
	number := func() (index int) {
		m.do(t, func() error {
			return m.session(ns, func(s *session) (err error) {
				index, err = s.number(true, "eth0")
				return err
			})
		})
		return index
	}
	before := number()
	for _, c := range []struct {
		ingress, egress int64
		vips            []string
	}{
		{8_000_000, 16_000_000, []string{"10.99.0.1", "fd99::1"}},
		{40_000_000_000, 0, []string{"10.99.0.2"}},
		{0, 1_000_000, nil},
		{0, 0, nil},
	} {
		for _, a := range l.Attachments {
			a.Bandwidth = &padisv1.Bandwidth{Ingress: c.ingress, Egress: c.egress}
		}
		l.LoopbackAddresses = c.vips
		w := wantLaunch(t, "exec", "task", "a", l)
		m.do(t, func() error { return m.Adjust(ns, w) })
		m.settled(t, ns, w)
		o := m.see(t, ns, w)
		if got := named1(t, o.Host, w.Interfaces[0].Host).Rate; got != c.ingress {
			t.Errorf("ingress %d, want %d", got, c.ingress)
		}
		if got := inner(t, o, "eth0").Rate; got != c.egress {
			t.Errorf("egress %d, want %d", got, c.egress)
		}
		var vips []string
		for _, p := range inner(t, o, "lo").Addresses {
			if !p.Addr().IsLoopback() {
				vips = append(vips, p.Addr().String())
			}
		}
		if !slices.Equal(vips, c.vips) {
			t.Errorf("loopback has %v, want %v", vips, c.vips)
		}
	}
	if number() != before {
		t.Error("the interface was made anew")
	}
}

// The kernel takes addresses away that nobody renews, and keeps those that somebody does.
func TestAddressesExpireUnlessRenewed(t *testing.T) {
	m := newMachine(t, "a", "exec")
	ns := namespace(t)
	l := &padisv1.Launch{Attachments: dual(lan(0), "10.44.0.5", "fd00::5"), LeaseMs: 2000}
	w := wantLaunch(t, "exec", "task", "a", l)
	m.attach(t, ns, w)
	if got := inner(t, m.see(t, ns, w), "eth0").Addresses; len(got) != 2 {
		t.Fatalf("addresses %v", got)
	}
	l.LeaseMs = 3600_000
	m.do(t, func() error { return m.Renew(ns, wantLaunch(t, "exec", "task", "a", l)) })
	for _, left := range m.lifetimes(t, ns) {
		if left < 3000 {
			t.Errorf("renewed for %d s only", left)
		}
	}
	l.LeaseMs = 0
	m.do(t, func() error { return m.Renew(ns, wantLaunch(t, "exec", "task", "a", l)) })
	l.LeaseMs = 1000
	m.do(t, func() error { return m.Renew(ns, wantLaunch(t, "exec", "task", "a", l)) })
	until(t, "the kernel takes the addresses away", func() bool { return len(inner(t, m.see(t, ns, w), "eth0").Addresses) == 0 })
	if err := inside(m.ns, func() error { return m.Renew(ns, w) }); !errors.Is(err, ErrExpired) {
		t.Errorf("renewed what is gone: %v", err)
	}
	if got := inner(t, m.see(t, ns, w), "eth0").Addresses; len(got) != 0 {
		t.Errorf("addresses %v came back without a probe", got)
	}
}

// lifetimes are the seconds that the addresses of eth0 are valid for.
func (m *machine) lifetimes(t testing.TB, ns int) []uint32 {
	t.Helper()
	var out []uint32
	m.do(t, func() error {
		return m.session(ns, func(s *session) error {
			c, err := s.conn(true)
			if err != nil {
				return err
			}
			all, err := c.addresses(0)
			for _, a := range all {
				for kind, v := range attributes(a.raw[unix.SizeofIfAddrmsg:]) {
					if kind == unix.IFA_CACHEINFO && !a.Addr().IsLoopback() && !a.Addr().IsLinkLocalUnicast() {
						out = append(out, number32(v[4:]))
					}
				}
			}
			return err
		})
	})
	return out
}

func TestPartsThatAreMissingAreNamed(t *testing.T) {
	m := newMachine(t, "a", "exec")
	n := lan(0)
	n.AllowSpoofing = false
	w := wantLaunch(t, "exec", "task", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "")})
	if err := inside(m.ns, func() error { return m.Attach(namespace(t), w) }); err == nil || !strings.Contains(err.Error(), "allowSpoofing: true") {
		t.Errorf("without a guard: %v", err)
	}
	w = wantLaunch(t, "exec", "task", "a", &padisv1.Launch{Attachments: dual(&padisv1.Network{Name: "o", Driver: "ovs", Bridge: "ovs0", AllowSpoofing: true}, "10.44.0.6", "")})
	if err := inside(m.ns, func() error { return m.Attach(namespace(t), w) }); err == nil || !strings.Contains(err.Error(), "openvswitch-switch") {
		t.Errorf("without switches: %v", err)
	}
}

// recorder is a guard that remembers.
type recorder struct {
	calls [][]network.Op
	ports map[string]network.GuardedPort
}

func (r *recorder) Observe(links []string) (map[string]network.GuardedPort, map[string][]string, error) {
	out := map[string]network.GuardedPort{}
	for name, p := range r.ports {
		if links == nil || slices.Contains(links, name) {
			out[name] = p
		}
	}
	return out, nil, nil
}

func (r *recorder) Apply(ops []network.Op) error {
	r.calls = append(r.calls, slices.Clone(ops))
	for _, op := range ops {
		switch op := op.(type) {
		case network.Guard:
			r.ports[op.Port.Link] = op.Port
		case network.Unguard:
			delete(r.ports, op.Link)
		default:
			return fmt.Errorf("unexpected %s", op)
		}
	}
	return nil
}

func TestTheGuardIsAskedOnceForEach(t *testing.T) {
	g := &recorder{ports: map[string]network.GuardedPort{}}
	m := newMachineWith(t, "a", "exec", Parts{Guard: g})
	n := lan(0)
	n.AllowSpoofing = false
	ns := namespace(t)
	w := wantLaunch(t, "exec", "task", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "fd00::5")})
	m.attach(t, ns, w)
	m.settled(t, ns, w)
	if len(g.calls) != 1 || len(g.ports) != 1 {
		t.Errorf("calls %v", g.calls)
	}
	m.do(t, func() error { return m.Detach(ns, w) })
	if len(g.calls) != 2 || len(g.ports) != 0 {
		t.Errorf("calls %v", g.calls)
	}
}
