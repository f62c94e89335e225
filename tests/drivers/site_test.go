package drivers

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/guard"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/network/ovs"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	gateway4, gateway6 = "10.44.255.254", "fd44::fffe"
	wire4, wire6       = "192.0.2.254", "2001:db8:2::fe"
	far4, far6         = "198.51.100.7", "2001:db8:7::7"
	owner              = "frame-work"
)

// site is two hosts and a machine outside on one switch.
type site struct {
	driver
	family family
	wire   *namespace
	hosts  []*host
	// outside has the addresses near, which are on the segment (or on the wire of the hosts), and far, which are behind it.
	outside   *namespace
	near, far []netip.Addr
}

type host struct {
	*namespace
	*kernel.Network
	// own are its addresses on the wire, if it has some.
	own []netip.Addr
}

// instance of a host.
type instance struct {
	*namespace
	host   *host
	task   string
	launch *padisv1.Launch
	w      network.Wanted
	// addresses, IPv4 first.
	addresses []netip.Addr
}

func newSite(t testing.TB, d driver, f family) *site {
	t.Helper()
	s := &site{driver: d, family: f, wire: newNamespace(t, "wire"), outside: newNamespace(t, "outside")}
	// Without snooping: it would send queries, in whose absence nobody knows who listens where, only after a while.
	s.wire.ip(t, "ip link set lo up\nip link add switch mtu 1600 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nip link set switch up")
	s.outside.plug(t, s.wire, "eth1")
	on := "eth1"
	if d.tag != 0 {
		on = fmt.Sprintf("eth1.%d", d.tag)
		s.outside.ip(t, fmt.Sprintf("ip link add link eth1 name %s type vlan id %d\nip link set %[1]s up", on, d.tag))
	}
	near := f.of(gateway4+"/16", gateway6+"/64")
	if d.routed {
		near = f.of(wire4+"/24", wire6+"/64")
	}
	s.near = s.outside.configure(t, on, near...)
	s.far = s.outside.configure(t, "lo", f.of(far4+"/32", far6+"/128")...)
	s.outside.sysctl(t, "ipv4/ip_forward", "1")
	s.outside.sysctl(t, "ipv6/conf/all/forwarding", "1")
	for _, a := range append(append([]netip.Addr{}, s.near...), s.far...) {
		s.outside.serve(t, a)
	}
	for i := range 2 {
		s.hosts = append(s.hosts, s.newHost(t, i+1))
	}
	return s
}

// configure gives a link addresses, at once of use.
func (n *namespace) configure(t testing.TB, link string, all ...string) []netip.Addr {
	t.Helper()
	var out []netip.Addr
	var lines string
	for _, p := range all {
		lines += "ip addr add " + p + " dev " + link
		if strings.Contains(p, ":") {
			lines += " nodad"
		}
		lines += "\n"
		out = append(out, netip.MustParsePrefix(p).Addr())
	}
	if lines != "" {
		n.ip(t, lines)
	}
	return out
}

func (s *site) newHost(t testing.TB, number int) *host {
	t.Helper()
	h := &host{namespace: newNamespace(t, fmt.Sprint("host", number))}
	h.plug(t, s.wire, "eth1")
	var gateways []string
	switch {
	case s.routed:
		h.own = h.configure(t, "eth1", s.family.of(fmt.Sprintf("192.0.2.%d/24", number), fmt.Sprintf("2001:db8:2::%d/64", number))...)
		gateways = s.family.of(wire4, wire6)
	case s.network.GetTakeParent():
		h.own = h.configure(t, "eth1", s.family.of(fmt.Sprintf("10.44.200.%d/16", number), fmt.Sprintf("fd44::200:%d/64", number))...)
		gateways = s.family.of(gateway4, gateway6)
	}
	for _, g := range gateways {
		h.ip(t, "ip route add default via "+g)
	}
	if s.noDefault {
		// All that there is, is reached by routes of its own.
		h.ip(t, "ip route del default\nip route add 10.44.0.0/16 via "+wire4+"\nip route add "+far4+" via "+wire4)
	}
	h.ip(t, `ip link add strange0 type bridge
		ip link add strange1 type veth peer name strange2
		ip link add link strange2 name strange3 type macvlan mode bridge
		ip link set strange0 addrgenmode none
		ip link set strange1 addrgenmode none
		ip link set strange2 addrgenmode none
		ip link set strange3 addrgenmode none
		ip link set strange1 master strange0
		ip link set strange0 up
		ip link set strange1 up
		ip link set strange2 up
		ip addr add 172.31.0.1/24 dev strange0
		ip addr add fd99::1/64 dev strange0 nodad
		ip route add 172.30.0.0/16 via 172.31.0.9`)
	until(t, "links are up", func() bool {
		return strings.Count(h.ip(t, "ip link show dev strange0\nip link show dev eth1"), "state UP") == 2
	})
	parts := kernel.Parts{State: t.TempDir()}
	if s.network.GetDriver() == "ovs" {
		parts.Switches = startSwitches(t, h.namespace)
	}
	h.do(t, func() error {
		g, err := guard.New(network.OwnerTag(owner))
		if err != nil {
			return err
		}
		t.Cleanup(g.Close)
		parts.Guard = g
		h.Network, err = kernel.Open(owner, time.Second, parts)
		return err
	})
	t.Cleanup(h.Network.Close)
	return h
}

// startSwitches runs an Open vSwitch for the host, which has nothing in common with the machine's.
func startSwitches(t testing.TB, h *namespace) *ovs.Switches {
	t.Helper()
	if s := new(unix.Sysinfo_t); lab() {
		// In the first ten seconds of a machine ovs-vswitchd 3.1 counts no processors, and takes no packet of the kernel's
		// datapath.
		until(t, "the lab is as old as ovs-vswitchd expects", func() bool { return unix.Sysinfo(s) == nil && s.Uptime > 10 })
	}
	// The path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "ovs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s; run .ci/setup", name, err, out)
		}
	}
	daemon := func(name string, args ...string) {
		t.Helper()
		log, err := os.Create(at(name + ".out"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(name, append(args, "--pidfile="+at(name+".pid"), "--unixctl="+at(name+".ctl"), "--no-chdir")...)
		cmd.Env = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_DBDIR="+dir, "OVS_SYSCONFDIR="+dir, "OVS_LOGDIR="+dir)
		cmd.Stdout, cmd.Stderr = log, log
		h.do(t, cmd.Start)
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
			log.Close()
			if b, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
				for line := range strings.Lines(string(b)) {
					if !strings.Contains(line, "|INFO|") {
						t.Logf("%s of %s: %s", name, h.name, line)
					}
				}
			}
		})
	}
	run("ovsdb-tool", "create", at("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	daemon("ovsdb-server", at("conf.db"), "--remote=punix:"+at("db.sock"))
	run("ovs-vsctl", "--db=unix:"+at("db.sock"), "--retry", "--timeout=60", "--no-wait", "init")
	daemon("ovs-vswitchd", "unix:"+at("db.sock"))
	return ovs.New(network.OwnerTag(owner), ovs.Config{RunDir: dir, Timeout: patience()})
}

// declare says what a task on a host would be, with the address of this number in each pool.
func (s *site) declare(t testing.TB, h *host, task string, number int, change ...func(*padisv1.Launch)) *instance {
	t.Helper()
	i := &instance{host: h, task: task, launch: &padisv1.Launch{}}
	for _, a := range s.family.of(fmt.Sprintf("10.44.0.%d/16", number), fmt.Sprintf("fd44::%d/64", number)) {
		p := netip.MustParsePrefix(a)
		i.addresses = append(i.addresses, p.Addr())
		at := &padisv1.Attachment{Network: proto.Clone(s.network).(*padisv1.Network), Pool: "pool", Address: p.Addr().String(), PrefixLength: int32(p.Bits()), Gateway: gateway4, Probe: true}
		if p.Addr().Is6() {
			at.Gateway = gateway6
		}
		if s.network.GetDriver() == "vxlan" && s.family != ipv6 {
			at.Network.Mtu = 1450
		}
		i.launch.Attachments = append(i.launch.Attachments, at)
	}
	for _, f := range change {
		f(i.launch)
	}
	i.want(t)
	return i
}

// want makes the wanted of the launch, which goes over a wire.
func (i *instance) want(t testing.TB) {
	t.Helper()
	b, err := proto.Marshal(i.launch)
	if err != nil {
		t.Fatal(err)
	}
	l := &padisv1.Launch{}
	if err := proto.Unmarshal(b, l); err != nil {
		t.Fatal(err)
	}
	if i.w, err = network.Want(owner, i.task, i.host.name, l); err != nil {
		t.Fatal(err)
	}
}

// attach makes the instance's namespace and its network, and serves on its addresses.
func (i *instance) attach(t testing.TB) {
	t.Helper()
	i.namespace = newNamespace(t, i.task)
	if err := i.host.Attach(i.fd, i.w); err != nil {
		t.Fatalf("attach %s: %v", i.task, err)
	}
	for _, a := range i.addresses {
		i.serve(t, a)
	}
}

// adjust changes the launch of a living instance.
func (i *instance) adjust(t testing.TB, f func(*padisv1.Launch)) {
	t.Helper()
	f(i.launch)
	i.want(t)
	if err := i.host.Adjust(i.fd, i.w); err != nil {
		t.Fatalf("adjust %s: %v", i.task, err)
	}
	i.settled(t)
}

// settled fails if there is anything to do.
func (i *instance) settled(t testing.TB) {
	t.Helper()
	if ops, err := i.host.Check(i.fd, i.w); err != nil || len(ops) > 0 {
		t.Fatalf("%s: still to do: %v, %v", i.task, ops, err)
	}
}

// answers probes for the addresses.
func (i *instance) answers(t testing.TB) []network.Answer {
	t.Helper()
	out, err := i.host.Probe(context.Background(), i.w)
	if err != nil {
		t.Fatalf("probe for %v: %v", i.addresses, err)
	}
	return out
}

// tell is the control plane, which tells hosts and routers who is where.
func (s *site) tell(t testing.TB, all ...*instance) {
	t.Helper()
	if !s.routed {
		return
	}
	for _, i := range all {
		for _, a := range i.addresses {
			for _, own := range i.host.own {
				if own.Is4() == a.Is4() {
					s.outside.ip(t, fmt.Sprintf("ip route replace %s via %s", netip.PrefixFrom(a, a.BitLen()), own))
				}
			}
		}
	}
	if s.network.GetDriver() != "vxlan" {
		return
	}
	for _, h := range s.hosts {
		o := &padisv1.Overlay{Network: s.network.GetName()}
		var segment network.Segment
		for _, other := range s.hosts {
			oh := &padisv1.OverlayHost{Endpoint: other.own[0].String()}
			for _, i := range all {
				segment = i.w.Segments[0]
				if i.host == other {
					var words []string
					for _, a := range i.addresses {
						words = append(words, a.String())
					}
					oh.Addresses = append(oh.Addresses, strings.Join(words, ","))
				}
			}
			if other != h {
				o.Hosts = append(o.Hosts, oh)
			}
		}
		remotes, err := network.Remotes(o)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			if i.host == h {
				segment = i.w.Segments[0]
			}
		}
		if err := h.SetOverlay(segment, remotes); err != nil {
			t.Fatalf("overlay of %s: %v", h.name, err)
		}
	}
}

var moving = regexp.MustCompile(`\w+_timer +[0-9.]+|promiscuity \d+ |allmulti \d+ `)

// strangers are what others have on the host.
func (h *host) strangers(t testing.TB) string {
	t.Helper()
	var lines string
	for _, name := range []string{"strange0", "strange1", "strange2", "strange3"} {
		lines += "ip addr show dev " + name + "\nip route show dev " + name + "\n"
	}
	return moving.ReplaceAllString(h.ip(t, lines), "")
}

// links are those of a namespace, as they are declared.
func (n *namespace) links(t testing.TB) string {
	t.Helper()
	return moving.ReplaceAllString(n.ip(t, "ip link show"), "")
}
