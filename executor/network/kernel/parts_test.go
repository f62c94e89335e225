package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// patchboard are switches that remember.
type patchboard struct {
	switches []network.Switch
	guarded  map[string]network.GuardedPort
	said     []string
}

func (p *patchboard) Observe(names []string) ([]network.Switch, error) {
	var out []network.Switch
	for _, s := range p.switches {
		if names == nil || slices.Contains(names, s.Name) {
			out = append(out, s)
		}
	}
	return out, nil
}

func (p *patchboard) Guarded(links []string) (map[string]network.GuardedPort, error) {
	out := map[string]network.GuardedPort{}
	for l, g := range p.guarded {
		if links == nil || slices.Contains(links, l) {
			out[l] = g
		}
	}
	return out, nil
}

func (p *patchboard) Apply(op network.Op) error {
	p.said = append(p.said, fmt.Sprintf("%T", op))
	switch op := op.(type) {
	case network.AddSwitch:
		p.switches = append(p.switches, network.Switch{Name: op.Name, Datapath: op.Datapath})
		// Its own port.
		la := netlink.NewLinkAttrs()
		la.Name = op.Name
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: la})
	case network.AddSwitchPort:
		p.switches[0].Ports = append(p.switches[0].Ports, op.Port)
	case network.DelSwitchPort:
		p.switches[0].Ports = slices.DeleteFunc(p.switches[0].Ports, func(x network.SwitchPort) bool { return x.Name == op.Port })
	case network.Guard:
		p.guarded[op.Port.Link] = op.Port
	case network.Unguard:
		delete(p.guarded, op.Link)
	default:
		return fmt.Errorf("unexpected %s", op)
	}
	return nil
}

func TestPortsOfSwitchesAreTheSwitchesAffair(t *testing.T) {
	p, g := &patchboard{guarded: map[string]network.GuardedPort{}}, &recorder{ports: map[string]network.GuardedPort{}}
	m := newMachineWith(t, "a", "exec", Parts{Guard: g, Switches: p})
	n := &padisv1.Network{Name: "o", Driver: "ovs", Bridge: "ovs0", Parent: "eth1", Vlan: 7}
	var kept network.Wanted
	for _, task := range []string{"x", "y"} {
		ns := namespace(t)
		kept = wantLaunch(t, "exec", task, "a", &padisv1.Launch{Attachments: dual(n, "10.44.0."+fmt.Sprint(len(task)+len(p.said)), "")})
		m.attach(t, ns, kept)
		m.settled(t, ns, kept)
		if task == "x" {
			m.do(t, func() error { return m.Detach(ns, kept) })
		}
	}
	want := []string{"AddSwitch", "AddSwitchPort", "AddSwitchPort", "Guard", "DelSwitchPort", "Unguard", "AddSwitchPort", "Guard"}
	for i, s := range p.said {
		if i >= len(want) || s != "network."+want[i] {
			t.Fatalf("said %v, want %v", p.said, want)
		}
	}
	if len(g.calls) != 0 {
		t.Errorf("the guard was asked: %v", g.calls)
	}
	// What a dead executor left goes with its port and its guard.
	m.do(t, func() error {
		_, err := m.Sweep(nil)
		return err
	})
	if ports := p.switches[0].Ports; len(ports) != 1 || ports[0].Name != "eth1" {
		t.Errorf("ports %v", ports)
	}
	if len(p.guarded) != 0 {
		t.Errorf("still guarded: %v", p.guarded)
	}
}

func TestGatewaysOfTheHostComeAndGo(t *testing.T) {
	g := &separator{recorder: recorder{ports: map[string]network.GuardedPort{}}}
	m := newMachineWith(t, "a", "exec", Parts{Guard: g})
	n := &padisv1.Network{Name: "lan9", Bridge: "padis9", HostGateway: true, AllowSpoofing: true}
	w := wantLaunch(t, "exec", "task", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "fd00::5")})
	ns := namespace(t)
	m.attach(t, ns, w)
	m.settled(t, ns, w)
	if got := named1(t, m.see(t, ns, w).Host, "padis9").Addresses; !sameSet(got, w.Segments[0].Gateways) {
		t.Fatalf("the bridge has %v, want %v", got, w.Segments[0].Gateways)
	}
	reaches(t, "the host", m.ns, ns, "10.44.255.254", "10.44.0.5")
	var host []InterfaceAddress
	m.do(t, func() (err error) {
		host, err = m.Addresses()
		return err
	})
	if len(host) != 0 {
		t.Errorf("gateways count as the host's own addresses: %v", host)
	}
	m.do(t, func() error { return m.RemoveSurplus(w.Segments) })
	m.settled(t, ns, w)
	segments := slices.Clone(w.Segments)
	segments[0].Gateways = segments[0].Gateways[:1]
	m.do(t, func() error { return m.RemoveSurplus(segments) })
	if got := named1(t, m.see(t, ns, w).Host, "padis9").Addresses; !sameSet(got, segments[0].Gateways) {
		t.Errorf("the bridge has %v, want %v", got, segments[0].Gateways)
	}
}

// separator is a guard that also keeps networks apart.
type separator struct {
	recorder
	apart map[string][]string
}

func (s *separator) Observe(links []string) (map[string]network.GuardedPort, map[string][]string, error) {
	ports, _, err := s.recorder.Observe(links)
	return ports, s.apart, err
}

func (s *separator) Apply(ops []network.Op) error {
	s.apart = map[string][]string{}
	for _, op := range ops {
		k, ok := op.(network.KeepApart)
		if !ok {
			return s.recorder.Apply(ops)
		}
		s.apart[k.Bridge] = k.Peers
	}
	return nil
}

// Sixteen instances at once on a host that has no bridge yet.
func TestManyAttachAtOnce(t *testing.T) {
	m := newMachine(t, "a", "exec")
	var all sync.WaitGroup
	failed := make([]error, 16)
	namespaces := make([]int, len(failed))
	wanted := make([]network.Wanted, len(failed))
	for i := range failed {
		namespaces[i] = namespace(t)
		wanted[i] = want(t, "exec", fmt.Sprint("task", i), "a", fmt.Sprintf("10.44.%d.5", i))
	}
	for i := range failed {
		all.Go(func() { failed[i] = m.Attach(namespaces[i], wanted[i]) })
	}
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	for i := range failed {
		m.settled(t, namespaces[i], wanted[i])
	}
}

// Whatever was done when an attach broke off, the next one makes the rest.
func TestAttachGoesOnAfterACrashAnywhere(t *testing.T) {
	m := newMachine(t, "a", "exec")
	for steps := 0; ; steps++ {
		ns := namespace(t)
		w := wantLaunch(t, "exec", fmt.Sprint("task", steps), "a", &padisv1.Launch{Attachments: dual(lan(0), "10.44.0.5", "fd00::5"), LoopbackAddresses: []string{"10.99.0.1"}, LeaseMs: 60_000})
		ops := upFirst(m.left(t, ns, w))
		m.do(t, func() error {
			return m.session(ns, func(s *session) error { return s.apply(ops[:min(steps, len(ops))]) })
		})
		m.attach(t, ns, w)
		m.settled(t, ns, w)
		m.do(t, func() error { return m.Detach(ns, w) })
		if steps >= len(ops) {
			break
		}
	}
}

func TestTagsAreSeenAndSent(t *testing.T) {
	m := newMachine(t, "a", "exec")
	m.configure(t, "eth1")
	other := &machine{name: "b", ns: namespace(t)}
	other.plug(t)
	other.configure(t, "eth1")
	open := func(x *machine) (p *packets, index int) {
		x.do(t, func() error {
			c, err := dial()
			if err != nil {
				return err
			}
			defer c.close()
			l, err := c.link("eth1")
			if err != nil {
				return err
			}
			index = l.index
			p, err = listen(l.index)
			return err
		})
		t.Cleanup(p.close)
		return p, index
	}
	from, link := open(m)
	to, _ := open(other)
	until(t, "a tagged frame", func() bool {
		if err := from.send(tagged(arpRequest(me, me, one4, one4), 7), link); err != nil {
			t.Fatal(err)
		}
		if err := to.file.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		frame, vlan, err := to.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		s, ok := sees(frame)
		return ok && vlan == 7 && s.has == one4 && s.mac == me
	})
}

func TestErrorsAreTheKernelsWords(t *testing.T) {
	m := newMachine(t, "a", "exec")
	op := network.AddVXLAN{Name: "v0", VNI: 1, Port: 4789, MTU: 1400, Local: netip.MustParseAddr("192.0.2.1")}
	again := op
	again.Name = "v1"
	err := inside(m.ns, func() error { return m.session(-1, func(s *session) error { return s.apply([]network.Op{op, again}) }) })
	if !errors.Is(err, unix.EEXIST) || !strings.Contains(err.Error(), again.String()) || !strings.Contains(err.Error(), "VNI") {
		t.Errorf("got %v", err)
	}
	err = inside(m.ns, func() error {
		return m.session(-1, func(s *session) error {
			return s.apply([]network.Op{network.SetMaster{Link: "eth1", Bridge: "nowhere"}})
		})
	})
	if !gone(err) || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("got %v", err)
	}
}
