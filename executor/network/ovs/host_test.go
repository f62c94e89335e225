package ovs

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
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

// namespace is a network namespace and the thread that works in it, on the first processor: what it sends is queued in
// the order in which it was sent.
type namespace struct {
	fd   int
	work chan func()
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	ns := &namespace{work: make(chan func())}
	ready := make(chan error)
	go func() {
		// Never unlocked: the thread ends with its namespace.
		runtime.LockOSThread()
		var one unix.CPUSet
		var all unix.CPUSet
		err := unix.SchedGetaffinity(0, &all)
		for i := 0; err == nil; i++ {
			if all.IsSet(i) {
				one.Set(i)
				err = unix.SchedSetaffinity(0, &one)
				break
			}
		}
		if err == nil {
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
		if err == nil {
			ns.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		ready <- err
		for f := range ns.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(ns.work)
		unix.Close(ns.fd)
	})
	return ns
}

// do runs f in the namespace.
func (ns *namespace) do(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error)
	ns.work <- func() { done <- f() }
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// link finds a link of the calling thread's namespace.
func link(name string) netlink.Link {
	l, err := netlink.LinkByName(name)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	return l
}

// plug makes a pair between the host and another namespace, where it is eth0.
func plug(t testing.TB, host, ns *namespace, name string, mac network.MAC, addresses ...string) {
	t.Helper()
	host.do(t, func() error {
		la := netlink.NewLinkAttrs()
		la.Name, la.Flags = name, net.FlagUp
		v := netlink.NewVeth(la)
		v.PeerName, v.PeerNamespace, v.PeerHardwareAddr = "eth0", netlink.NsFd(ns.fd), mac[:]
		return netlink.LinkAdd(v)
	})
	ns.do(t, func() error {
		if err := sysctl("ipv6/conf/eth0/dad_transmits", "0"); err != nil {
			return err
		}
		for _, l := range []string{"lo", "eth0"} {
			if err := netlink.LinkSetUp(link(l)); err != nil {
				return err
			}
		}
		for _, a := range addresses {
			if err := addAddress("eth0", a); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		return nil
	})
}

// sysctl writes a setting of the calling thread's namespace, by its path below net.
func sysctl(key, value string) error {
	return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0)
}

func addAddress(name, address string) error {
	p := netip.MustParsePrefix(address)
	return netlink.AddrAdd(link(name), &netlink.Addr{
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Flags: unix.IFA_F_NODAD,
	})
}
