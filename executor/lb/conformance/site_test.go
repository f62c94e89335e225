package conformance

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// The VIPs, which all real servers have on their loopbacks.
var vips = []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99::1")}

// site is a segment with a router behind which clients are.
//
//	client -- router --+-- d1, d2    directors, .10 and .11
//	 10.9.0.2          |   10.3.0.0/24, fd03::/64
//	 fd09::2           +-- s1 ... s5 real servers, .21 to .25, with the VIPs on lo; their way out is the router
type site struct {
	t              *testing.T
	subject        *subject
	bridge         *netlink.Bridge
	client, router *machine
	directors      []*machine
	planes         []lb.Dataplane
	servers        []*machine
	tellRelays     func([]lb.Forwarding) error
	seen           record
}

// machine is a namespace with an eth0 at the bridge.
type machine struct {
	s    *site
	name string
	ns   int
	id   int // of the namespace, as the tests' own numbers it
	port netlink.Link
	mac  lb.MAC
	last byte
}

func newSite(t *testing.T, d *subject) *site {
	t.Helper()
	s := &site{t: t, subject: d, bridge: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0x42, 10, 3, 0, 254}}}}
	s.must(netlink.LinkAdd(s.bridge))
	t.Cleanup(func() { netlink.LinkDel(s.bridge) })
	s.must(netlink.LinkSetUp(s.bridge))
	s.client = s.namespace("client", 0)
	s.router = s.machine("router", 1)
	s.uplink()
	for i := range 2 {
		s.directors = append(s.directors, s.machine(fmt.Sprintf("d%d", i+1), byte(10+i)))
	}
	for i := range 5 {
		m := s.machine(fmt.Sprintf("s%d", i+1), byte(21+i))
		s.servers = append(s.servers, m)
		m.do(func() error {
			for _, v := range vips {
				if err := address("lo", netip.PrefixFrom(v, v.BitLen())); err != nil {
					return err
				}
			}
			return routes("eth0", netip.MustParseAddr("10.3.0.1"), netip.MustParseAddr("fd03::1"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
		})
		m.serve()
	}
	s.by(0)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// do runs f on a thread in the namespace. What f opens stays there.
func (m *machine) do(f func() error) {
	m.s.t.Helper()
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(m.ns, unix.CLONE_NEWNET); err != nil {
			c <- err
			return
		}
		c <- f()
	}()
	if err := <-c; err != nil {
		m.s.t.Fatalf("%s: %v", m.name, err)
	}
}

func (s *site) namespace(name string, last byte) *machine {
	s.t.Helper()
	m := &machine{s: s, name: name, last: last, mac: lb.MAC{2, 0x42, 10, 3, 0, last}}
	made := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			m.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- err
	}()
	s.must(<-made)
	s.t.Cleanup(func() { unix.Close(m.ns) })
	m.do(func() error {
		for path, value := range map[string]string{"ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2", "ipv4/conf/all/rp_filter": "0",
			"ipv4/conf/default/rp_filter": "0", "ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0", "ipv6/conf/default/accept_ra": "0"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
				return err
			}
		}
		return up("lo")
	})
	return m
}

// machine adds one with the addresses 10.3.0.last and fd03::last.
func (s *site) machine(name string, last byte) *machine {
	s.t.Helper()
	m := s.namespace(name, last)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "p-" + name, MasterIndex: s.bridge.Index}, PeerName: "eth0",
		PeerHardwareAddr: m.mac[:], PeerNamespace: netlink.NsFd(m.ns)}
	s.must(netlink.LinkAdd(veth))
	s.t.Cleanup(func() { netlink.LinkDel(veth) })
	s.must(netlink.LinkSetUp(veth))
	m.port = veth
	var err error
	if m.id, err = netlink.GetNetNsIdByFd(m.ns); err != nil || m.id < 0 {
		s.must(netlink.SetNetNsIdByFd(m.ns, 100+int(last)))
		m.id = 100 + int(last)
	}
	m.do(func() error {
		for _, a := range m.addresses() {
			bits := 24
			if a.Is6() {
				bits = 64
			}
			if err := address("eth0", netip.PrefixFrom(a, bits)); err != nil {
				return err
			}
		}
		return up("eth0")
	})
	return m
}

// addresses in the segment, IPv4 first.
func (m *machine) addresses() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{10, 3, 0, m.last}), netip.AddrFrom16([16]byte{0: 0xfd, 1: 3, 15: m.last})}
}

// The client has two addresses of each family; in the other's network the router has the .1.
var clients = [][]netip.Addr{
	{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.3")},
	{netip.MustParseAddr("fd09::2"), netip.MustParseAddr("fd09::3")},
}

// uplink connects client and router.
func (s *site) uplink() {
	s.t.Helper()
	s.router.do(func() error {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0); err != nil {
				return err
			}
		}
		v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.client.ns)}
		if err := netlink.LinkAdd(v); err != nil {
			return err
		}
		for _, p := range []string{"10.9.0.1/24", "fd09::1/64"} {
			if err := address("uplink", netip.MustParsePrefix(p)); err != nil {
				return err
			}
		}
		return up("uplink")
	})
	s.client.do(func() error {
		for i, bits := range []int{24, 64} {
			for _, a := range clients[i] {
				if err := address("eth0", netip.PrefixFrom(a, bits)); err != nil {
					return err
				}
			}
		}
		if err := up("eth0"); err != nil {
			return err
		}
		return routes("eth0", netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"))
	})
}

// narrow sets the MTU of the router's way to the client.
func (s *site) narrow(mtu int) {
	s.t.Helper()
	s.router.do(func() error {
		link, err := netlink.LinkByName("uplink")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	})
}

// by leads the router's traffic to all VIPs by a director.
func (s *site) by(director int) {
	s.t.Helper()
	a := s.directors[director].addresses()
	s.router.do(func() error {
		return routes("eth0", a[0], a[1], netip.MustParsePrefix("10.99.0.0/16"), netip.MustParsePrefix("fd99::/64"))
	})
}

// routes leads prefixes of both families through gateways.
func routes(name string, via4, via6 netip.Addr, prefixes ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, p := range prefixes {
		via := via4
		if p.Addr().Is6() {
			via = via6
		}
		dst := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: via.AsSlice()}); err != nil {
			return fmt.Errorf("route %s via %s: %w", p, via, err)
		}
	}
	return nil
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func address(name string, p netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(link, a)
}

// run runs a command in the namespace and returns what it writes.
func (m *machine) run(name string, args ...string) string {
	m.s.t.Helper()
	var out []byte
	m.do(func() (err error) {
		if out, err = exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	})
	return string(out)
}

// until polls for what happens in its own time.
func (s *site) until(what func() string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience()); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("never: %s", what())
		}
	}
}

// record is which real server got a datagram of which client, of those with the number of the round.
type record struct {
	mu    sync.Mutex
	round uint16
	by    map[netip.AddrPort]string
}

// replies counts frames at a machine's port of the bridge that come from a VIP, until the returned function is called.
func (m *machine) replies() func() int {
	m.s.t.Helper()
	const all = 0x0300 // ETH_P_ALL as it stands on the wire
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all)
	m.s.must(err)
	m.s.t.Cleanup(func() { unix.Close(fd) })
	m.s.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	m.s.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: m.port.Attrs().Index}))
	return func() int {
		n, seen := 0, 0
		b := make([]byte, 65536)
		for {
			k, _, err := unix.Recvfrom(fd, b, unix.MSG_TRUNC)
			if err != nil {
				break
			}
			seen++
			var src netip.Addr
			switch p := b[:min(k, len(b))]; {
			case len(p) >= 34 && binary.BigEndian.Uint16(p[12:]) == unix.ETH_P_IP:
				src, _ = netip.AddrFromSlice(p[26:30])
			case len(p) >= 54 && binary.BigEndian.Uint16(p[12:]) == unix.ETH_P_IPV6:
				src, _ = netip.AddrFromSlice(p[22:38])
			}
			if src == vips[0] || src == vips[1] {
				n++
			}
		}
		if seen == 0 {
			m.s.t.Errorf("no frame at all was seen at the port of %s", m.name)
		}
		return n
	}
}
