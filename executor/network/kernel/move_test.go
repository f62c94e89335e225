package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// hostWith makes a machine whose eth1 has the host's only addresses and default routes, and a router on the switch.
func hostWith(t *testing.T, state string) *machine {
	t.Helper()
	router := &machine{name: "router", ns: namespace(t)}
	router.plug(t)
	router.configure(t, "eth1", "192.0.2.1/24", "2001:db8::1/64")
	m := &machine{name: "a", ns: namespace(t), parts: Parts{State: state}}
	m.plug(t)
	m.configure(t, "eth1", "192.0.2.7/24", "192.0.2.8/24", "2001:db8::7/64")
	m.say(t, func(c *conn) error {
		l, err := c.link("eth1")
		if err != nil {
			return err
		}
		var all []*request
		for _, r := range []network.Route{
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1")},
			{Destination: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.9")},
			{Destination: netip.MustParsePrefix("203.0.113.0/24")},
			{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("2001:db8::1")},
		} {
			all = append(all, addRoute(r, l.index))
		}
		// In a table of its own, with a source and a metric: what nobody here knows of moves, too.
		own := newRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE, routeHeader(unix.AF_INET, 24, 100, unix.RTPROT_STATIC, 0, unix.RTN_UNICAST, 0))
		own.attr(unix.RTA_DST, []byte{198, 18, 0, 0}).attr(unix.RTA_GATEWAY, []byte{192, 0, 2, 1}).u32(unix.RTA_OIF, uint32(l.index))
		own.attr(unix.RTA_PREFSRC, []byte{192, 0, 2, 8}).u32(unix.RTA_PRIORITY, 77)
		return c.do(append(all, own)...)
	})
	until(t, "IPv6 addresses are ready", func() bool { return !strings.Contains(m.picture(t), "tentative") })
	m.open(t, "exec")
	return m
}

// picture is all addresses and routes of the machine, as text, in order.
func (m *machine) picture(t testing.TB) string {
	t.Helper()
	var out []string
	m.say(t, func(c *conn) error {
		links, err := c.links()
		if err != nil {
			return err
		}
		names := map[int]string{}
		for _, l := range links {
			names[l.index] = l.Name
		}
		addresses, err := c.addresses(0)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			s := fmt.Sprint(names[a.link], " ", a.Prefix)
			for kind, v := range attributes(a.raw[unix.SizeofIfAddrmsg:]) {
				switch kind {
				case unix.IFA_FLAGS:
					if number32(v)&unix.IFA_F_TENTATIVE != 0 {
						s += " tentative"
					}
					s += fmt.Sprintf(" flags %x", number32(v))
				case unix.IFA_LABEL:
					s += " label " + text(v)
				}
			}
			out = append(out, s)
		}
		routes, err := c.routes(0, 0)
		for _, x := range routes {
			s := fmt.Sprint(x.destination, " table ", x.table)
			for _, h := range x.hops {
				s += fmt.Sprint(" via ", h.gateway, " ", names[h.link])
			}
			for kind, v := range attributes(x.raw[unix.SizeofRtMsg:]) {
				if kind == unix.RTA_PREFSRC || kind == unix.RTA_PRIORITY {
					s += fmt.Sprintf(" %d=%x", kind, v)
				}
			}
			out = append(out, s)
		}
		return err
	})
	// What the bridge gives itself comes and goes with its ports.
	out = slices.DeleteFunc(out, func(s string) bool { return strings.Contains(s, "fe80") && strings.Contains(s, lonely.Name) })
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// untilIs awaits that all is as before: the kernel ends its own detection of duplicates in its own time.
func (m *machine) untilIs(t testing.TB, before, when string) {
	t.Helper()
	var now string
	defer func() {
		if t.Failed() {
			t.Logf("%s there is\n%s\nand was\n%s", when, now, before)
		}
	}()
	until(t, "all is as before, "+when, func() bool {
		now = m.picture(t)
		return now == before
	})
}

func takes(t testing.TB) network.Wanted {
	n := lan(0)
	n.TakeParent = true
	return wantLaunch(t, "exec", "task", "a", &padisv1.Launch{Attachments: dual(n, "10.44.0.5", "")})
}

func TestAddressesMoveToTheBridge(t *testing.T) {
	state := t.TempDir()
	m := hostWith(t, state)
	before := m.picture(t)
	ns := namespace(t)
	w := takes(t)
	m.attach(t, ns, w)
	m.settled(t, ns, w)
	after := m.picture(t)
	for _, line := range strings.Split(before, "\n") {
		if strings.Contains(line, "fe80") || strings.Contains(line, "127.0.0.1") || strings.Contains(line, " ::1/") {
			continue
		}
		// IPv6 addresses come without detection of duplicates: a flag more.
		want := strings.ReplaceAll(line, "eth1", "padis0")
		if strings.Contains(line, "2001:db8::7/64 flags") {
			want = "padis0 2001:db8::7/64"
		}
		if !strings.Contains(after, want) {
			t.Errorf("%s is not there any more:\n%s", line, after)
		}
	}
	if strings.Contains(strings.ReplaceAll(after, "eth1 fe80", ""), "eth1 ") && strings.Contains(after, "eth1 192") {
		t.Errorf("the parent still has something:\n%s", after)
	}
	if left, _ := os.ReadDir(state); len(left) != 0 {
		t.Errorf("the journal is still there: %v", left)
	}
	// The addresses are the host's, also on the bridge.
	var host []InterfaceAddress
	m.do(t, func() (err error) {
		host, err = m.Addresses()
		return err
	})
	if !slices.Contains(host, InterfaceAddress{"padis0", netip.MustParsePrefix("192.0.2.7/24")}) {
		t.Errorf("the host has %v", host)
	}
}

// op is the operation as it would be planned.
func (m *machine) moveOp(t testing.TB) network.MoveAddresses {
	t.Helper()
	for _, op := range m.left(t, -1, takes(t)) {
		if op, ok := op.(network.MoveAddresses); ok {
			return op
		}
	}
	t.Fatal("nothing moves")
	return network.MoveAddresses{}
}

// A switch that lets the host's frames pass only from its own port: as soon as the bridge has the addresses, the gateway
// is not heard any more.
func TestAHostThatLosesItsGatewayGetsAllBack(t *testing.T) {
	m := hostWith(t, t.TempDir())
	op := m.moveOp(t)
	before := m.picture(t)
	m.do(t, func() error { return m.session(-1, func(s *session) error { return s.apply([]network.Op{lonely}) }) })
	op.Bridge = lonely.Name
	// The bridge is down: nothing passes.
	m.say(t, func(c *conn) error { return c.do(setDown(lonely.Name)) })
	err := inside(m.ns, func() error { return m.session(-1, func(s *session) error { return s.apply([]network.Op{op}) }) })
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1") {
		t.Errorf("moved: %v", err)
	}
	m.untilIs(t, before, "after the roll-back")
	if l, err := m.host.link("eth1"); err != nil || l.master != 0 {
		t.Errorf("the parent is still a port: %+v, %v", l, err)
	}
	if left, _ := os.ReadDir(m.parts.State); len(left) != 0 {
		t.Errorf("the journal is still there: %v", left)
	}
}

var lonely = network.AddBridge{Name: "lonely", MAC: me, MTU: 1500}

// An executor dies after each of the requests that a move is made of; the next one puts all back.
func TestACrashInTheMiddleIsPutBack(t *testing.T) {
	m := hostWith(t, t.TempDir())
	op := m.moveOp(t)
	before := m.picture(t)
	m.do(t, func() error { return m.session(-1, func(s *session) error { return s.apply([]network.Op{lonely}) }) })
	op.Bridge = lonely.Name
	for steps := 0; ; steps++ {
		x, err := m.capture(op)
		if err != nil {
			t.Fatal(err)
		}
		j, err := m.begin(x)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.begin(x); !errors.Is(err, errBusy) {
			t.Fatalf("two at one time: %v", err)
		}
		parent, bridge, err := m.ends(x)
		if err != nil {
			t.Fatal(err)
		}
		all := x.forward(parent, bridge)
		if err := m.host.do(all[:min(steps, len(all))]...); err != nil {
			t.Fatal(err)
		}
		j.close() // as the kernel does with what a dead process had
		m.Close()
		m.open(t, "exec")
		m.untilIs(t, before, fmt.Sprintf("after %d of %d steps", steps, len(all)))
		if left, _ := os.ReadDir(m.parts.State); len(left) != 0 {
			t.Fatalf("the journal is still there: %v", left)
		}
		if steps >= len(all) {
			break
		}
	}
}

func TestJournalsOfOthersAreLeftAlone(t *testing.T) {
	m := hostWith(t, t.TempDir())
	before := m.picture(t)
	x, err := m.capture(m.moveOp(t))
	if err != nil {
		t.Fatal(err)
	}
	x.Bridge = "eth1"
	for _, c := range []struct {
		name, content string
		kept          bool
	}{
		{"torn", `{"Boot":`, false},
		{"of an earlier boot", fmt.Sprintf(`{"Boot":"x","Namespace":%d,"Moved":{"Parent":"eth1"}}`, m.namespace()), false},
		{"of another namespace", fmt.Sprintf(`{"Boot":%q,"Namespace":1,"Moved":{"Parent":"eth1"}}`, boot()), true},
		{"of an interface that is gone", fmt.Sprintf(`{"Boot":%q,"Namespace":%d,"Moved":{"Parent":"eth9","Bridge":"b"}}`, boot(), m.namespace()), false},
	} {
		path := m.journalPath("eth1")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Close()
		m.open(t, "exec")
		if _, err := os.Stat(path); (err == nil) != c.kept {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := m.picture(t); got != before {
			t.Errorf("%s changed something:\n%s\nbefore\n%s", c.name, got, before)
		}
		os.Remove(path)
	}
}
