package ipvs

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/network"
)

// TestMain runs the tests in a network namespace of their own, without root in a user namespace, too. What needs the kernel's IPVS
// is tried in executor/lb/conformance.
func TestMain(m *testing.M) {
	const inner = "PADIS_TEST_INNER"
	if os.Getenv(inner) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type locals struct{ closed bool }

func (l *locals) Set([]netip.Addr) error                 { return nil }
func (l *locals) Peers(map[netip.Addr]network.MAC) error { return nil }
func (l *locals) Close() error {
	l.closed = true
	return nil
}

// Where the kernel has no IPVS the error says so and what to do, and nothing is left open.
func TestWithoutIPVS(t *testing.T) {
	l := &locals{}
	d, err := New(Options{Interface: "lo", Locals: l})
	if err == nil {
		// This machine has it: then it works.
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	} else if !strings.Contains(err.Error(), "run modprobe -a ip_vs ip_vs_mh on the host") && os.Getuid() == 0 {
		t.Error(err)
	}
	if !l.closed {
		t.Error("locals are left open")
	}
	if _, err := New(Options{Interface: "lo"}); err == nil {
		t.Error("no locals are needed")
	}
}

// Clients that a service does not allow are kept out, in traffic; others and other ports are not; and nothing is left.
func TestFence(t *testing.T) {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	vips := []string{"10.99.0.1", "fd99::1"}
	clients := map[string][]string{vips[0]: {"10.9.0.2", "10.9.0.3"}, vips[1]: {"fd09::2", "fd09::3"}}
	for _, vip := range vips {
		for _, a := range append([]string{vip}, clients[vip]...) {
			ip := netip.MustParseAddr(a)
			if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}, Flags: unix.IFA_F_NODAD}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for port := 8000; port <= 8003; port++ {
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := &fence{ns: ns}
	set := func(ports lb.Ports, allow ...string) {
		t.Helper()
		var forwardings []lb.Forwarding
		for _, vip := range vips {
			s := web(vip, lb.TCP, ports.First, ports.Last)
			for _, a := range allow {
				if p := netip.MustParsePrefix(a); p.Addr().Is4() == s.VIP.Is4() {
					s.Allow = append(s.Allow, p)
				}
			}
			forwardings = append(forwardings, forwarding(t, s))
		}
		for range 2 {
			if err := f.set(guards(forwardings)); err != nil {
				t.Fatal(err)
			}
		}
	}
	try := func(when string, client, port int, want bool) {
		t.Helper()
		patience := 200 * time.Millisecond
		if want {
			patience = 10 * time.Second
		}
		for _, vip := range vips {
			var err error
			for deadline := time.Now().Add(patience); ; {
				d := net.Dialer{Deadline: deadline, LocalAddr: &net.TCPAddr{IP: net.ParseIP(clients[vip][client])}}
				var c net.Conn
				if c, err = d.Dial("tcp", net.JoinHostPort(vip, fmt.Sprint(port))); err == nil {
					c.Close()
				}
				if err == nil || !want || time.Now().After(deadline) {
					break
				}
			}
			if (err == nil) != want {
				t.Errorf("%s: %s to %s port %d: %v, want success %v", when, clients[vip][client], vip, port, err, want)
			}
		}
	}
	check := func(when string, want ...bool) {
		t.Helper()
		try(when, 0, 8000, want[0])
		try(when, 1, 8000, want[1])
		for i := range 3 {
			try(when, 0, 8001+i, want[2+i])
		}
	}
	check("without services", true, true, true, true, true)
	set(lb.Ports{First: 8000, Last: 8002}, "10.9.0.3/32", "10.8.0.0/16", "10.8.7.0/24", "10.7.0.0/16", "0.0.0.0/32", "255.255.0.0/16", "255.0.0.0/8",
		"fd09::3/128", "fd08::/32", "fd08:0:1::/48", "ffff::/16")
	check("the second client only", false, true, false, false, true)
	set(lb.Ports{First: 8001, Last: 8001}, "10.9.0.3/32", "fd09::3/128")
	check("one port", true, true, false, true, true)
	set(lb.Ports{First: 8000, Last: 8002}, "0.0.0.0/0", "::/0")
	check("all clients", true, true, true, true, true)
	var many []string
	for i := range lb.MaxAllow {
		many = append(many, fmt.Sprintf("11.%d.%d.0/25", i/256, i%256), fmt.Sprintf("fd11:%x::/64", i))
	}
	set(lb.Ports{First: 8000, Last: 8000}, many...)
	check("as many as a service may allow", false, false, true, true, true)
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	check("closed", true, true, true, true, true)
	if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("left: %v, %s", err, out)
	}
}
