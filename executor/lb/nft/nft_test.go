package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// TestMain runs the tests as somebody without privileges, in a user and a network namespace of his own: what a rootless director
// has. Traffic of real clients and servers is tried by executor/lb/conformance.
func TestMain(m *testing.M) {
	const inner = "PADIS_TEST_INNER"
	if os.Getenv(inner) != "" {
		os.Exit(m.Run())
	}
	// The file in which go test looks what a test depends on is the caller's.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(a string) bool { return strings.HasPrefix(a, "-test.testlogfile=") })
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	user := os.Getuid()
	if user == 0 {
		user = 65534
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL, Credential: &syscall.Credential{NoSetGroups: true},
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: user, Size: 1}}, GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: user, Size: 1}}}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var ownMAC = lb.MAC{2, 0x42, 10, 0, 0, 1}

// wire is a veth pair: what comes in by director is what was sent at peer, and what leaves it is heard there.
type wire struct {
	t  *testing.T
	fd int
	to unix.SockaddrLinklayer
}

func newWire(t *testing.T) *wire {
	t.Helper()
	for _, c := range []string{"ip link add director address " + ownMAC.String() + " type veth peer name peer", "ip link set director up", "ip link set peer up"} {
		if out, err := exec.Command(strings.Fields(c)[0], strings.Fields(c)[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", "peer").Run() })
	peer, err := net.InterfaceByName("peer")
	must(t, err)
	w := &wire{t: t, to: unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: peer.Index}}
	w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300)
	must(t, err)
	t.Cleanup(func() { unix.Close(w.fd) })
	must(t, unix.Bind(w.fd, &w.to))
	must(t, unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}))
	return w
}

// send a frame and return what comes back, nil if nothing does: the frame behind it says so.
func (w *wire) send(frame []byte) []byte {
	w.t.Helper()
	must(w.t, unix.Sendto(w.fd, frame, 0, &w.to))
	b := make([]byte, 2048)
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		n, from, err := unix.Recvfrom(w.fd, b, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		must(w.t, err)
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && b[0] == 2 && b[1] == 0x99 {
			return b[:n]
		}
	}
	return nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// frame to a service: TCP or UDP with nothing in it.
func frame(to lb.MAC, src, dst netip.AddrPort, protocol byte) []byte {
	f := append(append(to[:], 2, 0x11, 0, 0, 0, 1), 0x86, 0xdd)
	if src.Addr().Is4() {
		f[12], f[13] = 8, 0
		f = append(f, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0)
	} else {
		f = append(f, 0x60, 0, 0, 0, 0, 20, protocol, 64)
	}
	f = append(append(f, src.Addr().AsSlice()...), dst.Addr().AsSlice()...)
	f = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(f, src.Port()), dst.Port())
	return append(f, make([]byte, 16)...)
}

var (
	vip4, vip6 = netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99::1")
	clients    = map[bool]netip.Addr{false: netip.MustParseAddr("192.0.2.7"), true: netip.MustParseAddr("2001:db8::7")}
)

func forwarding(t testing.TB, change func(*lb.Service), servers ...string) lb.Forwarding {
	t.Helper()
	s := lb.Service{VIP: vip4, Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: 4093, Seed: 7}
	if change != nil {
		change(&s)
	}
	var list []lb.Server
	for i, name := range servers {
		list = append(list, lb.Server{ID: name, MAC: lb.MAC{2, 0x99, 0, 0, 0, byte(i + 1)}, Weight: 1})
	}
	g, err := lb.Next(nil, s, list)
	must(t, err)
	return lb.Forwarding{Generation: g}
}

func open(t *testing.T) *Dataplane {
	t.Helper()
	d, err := New(Options{Interface: "director"})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

// Without privileges of the machine, frames go to owners, are stamped, and equal flows to equal owners; all else is left alone.
func TestRootless(t *testing.T) {
	w := newWire(t)
	d := open(t)
	six := func(s *lb.Service) { s.VIP = vip6 }
	ports := func(s *lb.Service) { s.Protocol, s.Ports = lb.UDP, lb.Ports{First: 1000, Last: 2000} }
	must(t, d.Set([]lb.Forwarding{forwarding(t, nil, "a", "b", "c"), forwarding(t, six, "a", "b", "c"), forwarding(t, ports, "a", "b", "c")}))
	sent := uint64(0)
	for _, vip := range []netip.Addr{vip4, vip6} {
		seen := map[lb.MAC]int{}
		for i := range 60 {
			f := frame(ownMAC, netip.AddrPortFrom(clients[vip.Is6()], uint16(20000+i)), netip.AddrPortFrom(vip, 80), lb.TCP)
			got, again := w.send(f), w.send(f)
			if len(got) != len(f) || string(got[12:]) != string(f[12:]) || lb.MAC(got[6:12]) != lb.Unplaced(ownMAC) || string(got) != string(again) {
				t.Fatalf("sent %x, got %x and %x", f, got, again)
			}
			sent += 2
			seen[lb.MAC(got[:6])]++
		}
		if len(seen) != 3 {
			t.Errorf("%s: owners %v", vip, seen)
		}
	}
	for name, c := range map[string]struct {
		frame []byte
		goes  bool
	}{
		"to another MAC":      {frame(lb.MAC{2, 0, 0, 0, 0, 9}, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 80), lb.TCP), false},
		"to another port":     {frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 81), lb.TCP), false},
		"to another protocol": {frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 80), lb.UDP), false},
		"to another address":  {frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.MustParseAddrPort("10.99.0.2:80"), lb.TCP), false},
		"below the range":     {frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 999), lb.UDP), false},
		"the range's first":   {frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 1000), lb.UDP), true},
		"the range's last":    {frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 2000), lb.UDP), true},
	} {
		if got := w.send(c.frame); (got != nil) != c.goes {
			t.Errorf("%s: %x", name, got)
		}
		if c.goes {
			sent++
		}
	}
	if n, err := d.Forwarded(); err != nil || n != sent {
		t.Errorf("forwarded %d, %v; sent %d", n, err, sent)
	}
}

// Sixteen thousand slots, and large lists of clients, go through the buffer that a socket without privileges has; what is not used any
// more is gone.
func TestLargeTablesRootless(t *testing.T) {
	newWire(t)
	d := open(t)
	many := func(s *lb.Service) {
		s.TableSize = 16381
		for i := range 4000 {
			s.Allow = append(s.Allow, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i), 0}), 24))
		}
	}
	must(t, d.Set([]lb.Forwarding{forwarding(t, many, "a", "b")}))
	for _, servers := range [][]string{{"a"}, {"a", "b"}, {"b", "c", "d"}} {
		must(t, d.Set([]lb.Forwarding{forwarding(t, many, servers...)}))
	}
	must(t, d.Set(nil))
	sets, err := d.conn.GetSets(d.table)
	must(t, err)
	chains, err := d.conn.ListChainsOfTableFamily(d.table.Family)
	must(t, err)
	if len(sets) != 0 || len(chains) != 1 {
		t.Errorf("left: %d sets, %d chains", len(sets), len(chains))
	}
}

// Two services with one table of owners have one map.
func TestTablesAreShared(t *testing.T) {
	newWire(t)
	d := open(t)
	a := forwarding(t, nil, "a", "b")
	b, err := a.For(lb.Service{VIP: vip6, Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 90}})
	must(t, err)
	must(t, d.Set([]lb.Forwarding{a, {Generation: b}}))
	if len(d.owners) != 1 {
		t.Errorf("%d tables of owners", len(d.owners))
	}
	serial := d.serial
	must(t, d.Set([]lb.Forwarding{a, {Generation: b}}))
	if d.serial != serial {
		t.Error("the same was made again")
	}
}

// A director that dies leaves nothing, so that the next begins.
func TestDeathTakesItBack(t *testing.T) {
	w := newWire(t)
	d, err := New(Options{Interface: "director"})
	must(t, err)
	must(t, d.Set([]lb.Forwarding{forwarding(t, nil, "a")}))
	f := frame(ownMAC, netip.AddrPortFrom(clients[false], 20000), netip.AddrPortFrom(vip4, 80), lb.TCP)
	if w.send(f) == nil {
		t.Fatal("nothing came back")
	}
	if other, err := New(Options{Interface: "director"}); err == nil {
		t.Error("two dataplanes at one interface", other.Close())
	} else if !strings.Contains(err.Error(), "no other dataplane") {
		t.Error(err)
	}
	must(t, d.conn.CloseLasting()) // as the end of its process would
	if got := w.send(f); got != nil {
		t.Errorf("the dead forward: %x", got)
	}
	must(t, open(t).Set(nil))
}

func TestRefused(t *testing.T) {
	newWire(t)
	d := open(t)
	rr, limited := forwarding(t, nil, "a"), forwarding(t, nil, "a")
	rr.Method, limited.MaxConnections = "rr", 5
	for _, c := range []struct {
		all  []lb.Forwarding
		says string
	}{{[]lb.Forwarding{rr}, "scheduler rr"}, {[]lb.Forwarding{limited}, "maxConnections"}, {[]lb.Forwarding{forwarding(t, nil, "a"), forwarding(t, nil, "b")}, "overlap"}} {
		if err := d.Set(c.all); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, not about %s", err, c.says)
		}
	}
	if _, err := New(Options{Interface: "nowhere"}); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Error(err)
	}
	must(t, d.Close())
	if err := d.Set(nil); !errors.Is(err, errClosed) {
		t.Error(err)
	}
}

func TestOutermost(t *testing.T) {
	var all []netip.Prefix
	for _, p := range []string{"10.0.1.0/24", "10.0.0.0/16", "10.1.0.0/16", "10.0.0.0/8", "11.0.0.0/8", "11.0.0.0/8"} {
		all = append(all, netip.MustParsePrefix(p))
	}
	if got := fmt.Sprint(outermost(all)); got != "[10.0.0.0/8 11.0.0.0/8]" {
		t.Error(got)
	}
	first, last := ends(netip.MustParsePrefix("10.16.0.0/13"))
	if a, b := net.IP(first).String(), net.IP(last).String(); a != "10.16.0.0" || b != "10.23.255.255" {
		t.Error(a, b)
	}
}

func TestSeedIsNeverTheKernelsOwn(t *testing.T) {
	if seed(0) == 0 || seed(1<<32|1) == 0 {
		t.Error("0")
	}
}
