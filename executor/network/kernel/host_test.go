package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// TestMain runs the tests in a network namespace of their own - without root, in a user namespace, too - so that
// nothing is left behind and nothing of the machine is touched.
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

// namespace makes a network namespace and returns it open as long as the test runs.
func namespace(t testing.TB) int {
	t.Helper()
	fd := openNamespace(t)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func openNamespace(t testing.TB) int {
	t.Helper()
	type made struct {
		fd  int
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- made{-1, err}
			return
		}
		fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		c <- made{fd, err}
	}()
	m := <-c
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m.fd
}

// machine is a host with a network namespace of its own; its eth1 is plugged into the switch "switch0" of the test.
type machine struct {
	name string
	ns   int
	*Network
	parts Parts
}

func newMachine(t testing.TB, name, owner string) *machine {
	t.Helper()
	return newMachineWith(t, name, owner, Parts{})
}

func newMachineWith(t testing.TB, name, owner string, p Parts) *machine {
	t.Helper()
	m := &machine{name: name, ns: namespace(t), parts: p}
	m.plug(t)
	m.open(t, owner)
	return m
}

// plug connects its eth1 to the switch, which is made if there is none.
func (m *machine) plug(t testing.TB) {
	t.Helper()
	name := m.name
	if _, err := netlink.LinkByName("switch0"); err != nil {
		la := netlink.NewLinkAttrs()
		la.Name, la.Flags = "switch0", net.FlagUp
		b := &netlink.Bridge{LinkAttrs: la}
		if err := netlink.LinkAdd(b); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { netlink.LinkDel(b) })
	}
	sw, err := netlink.LinkByName("switch0")
	if err != nil {
		t.Fatal(err)
	}
	la := netlink.NewLinkAttrs()
	la.Name, la.MasterIndex, la.Flags = "sw-"+name, sw.Attrs().Index, net.FlagUp
	v := netlink.NewVeth(la)
	v.PeerName, v.PeerNamespace = "eth1", netlink.NsFd(m.ns)
	if err := netlink.LinkAdd(v); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netlink.LinkDel(v) })
	m.do(t, func() error { return loopbackUp() })
}

func loopbackUp() error {
	c, err := dial()
	if err != nil {
		return err
	}
	defer c.close()
	return c.do(setUp("lo"))
}

func (m *machine) open(t testing.TB, owner string) {
	t.Helper()
	m.do(t, func() (err error) {
		m.Network, err = Open(owner, time.Second, m.parts)
		return err
	})
	t.Cleanup(m.Network.Close)
}

// do runs f in the machine's namespace.
func (m *machine) do(t testing.TB, f func() error) {
	t.Helper()
	if err := inside(m.ns, f); err != nil {
		t.Fatal(err)
	}
}

// want is the network of a task that has these addresses; each is in a network of its own, of which the first has the
// uplink eth1. Nothing is guarded.
func want(t testing.TB, owner, task, host string, addresses ...string) network.Wanted {
	t.Helper()
	l := &padisv1.Launch{}
	for i, a := range addresses {
		n := lan(i)
		l.Attachments = append(l.Attachments, &padisv1.Attachment{Network: n, Address: a, PrefixLength: 16, Gateway: a[:len(a)-1] + "9", Probe: true})
	}
	return wantLaunch(t, owner, task, host, l)
}

// lan is a network of driver bridge, of which the first has the uplink eth1.
func lan(i int) *padisv1.Network {
	n := &padisv1.Network{Name: fmt.Sprintf("lan%d", i), Bridge: fmt.Sprintf("padis%d", i), AllowSpoofing: true}
	if i == 0 {
		n.Parent = "eth1"
	}
	return n
}

func wantLaunch(t testing.TB, owner, task, host string, l *padisv1.Launch) network.Wanted {
	t.Helper()
	w, err := network.Want(owner, task, host, l)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// until polls for a condition of the kernel, which does some things in its own time.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// configure gives a link of the machine addresses and brings it up.
func (m *machine) configure(t testing.TB, link string, addresses ...string) {
	t.Helper()
	m.say(t, func(c *conn) error {
		l, err := c.link(link)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			r, err := addAddress(l.index, netip.MustParsePrefix(a), 0)
			if err != nil {
				return err
			}
			// As an operator gives it: not marked as ours.
			if err := c.do(again(unix.RTM_NEWADDR, unix.NLM_F_CREATE, r.b[unix.NLMSG_HDRLEN:], unix.SizeofIfAddrmsg, func(kind int, v []byte) []byte {
				if kind == addressOrigin {
					return nil
				}
				return v
			})); err != nil {
				return err
			}
		}
		return c.do(setUp(link))
	})
}

// say talks to rtnetlink in the machine's namespace.
func (m *machine) say(t testing.TB, f func(*conn) error) {
	t.Helper()
	m.do(t, func() error {
		c, err := dial()
		if err != nil {
			return err
		}
		defer c.close()
		return f(c)
	})
}
