package drivers

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// origin is the network namespace of the process.
var origin = func() int {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	return fd
}()

// namespace is a machine as far as its network goes.
type namespace struct {
	name string
	fd   int
}

func newNamespace(t testing.TB, name string) *namespace {
	t.Helper()
	n := &namespace{name: name}
	err := locked(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(n.fd) })
	return n
}

// locked runs f on a thread that nobody else uses meanwhile, and brings the thread back to origin.
func locked(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := f()
		if unix.Setns(origin, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// try runs f in the namespace: sockets and processes that it makes are there and stay there.
func (n *namespace) try(f func() error) error {
	return locked(func() error {
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (n *namespace) do(t testing.TB, f func() error) {
	t.Helper()
	if err := n.try(f); err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
}

// ip runs commands of ip(8), one per line, in one process: in the lab each costs much.
func (n *namespace) ip(t testing.TB, lines string) string {
	t.Helper()
	var in strings.Builder
	for line := range strings.Lines(lines) {
		in.WriteString(strings.TrimPrefix(strings.TrimSpace(line), "ip ") + "\n")
	}
	return n.run(t, strings.NewReader(in.String()), "ip", "-details", "-batch", "-")
}

// run runs a command.
func (n *namespace) run(t testing.TB, in io.Reader, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out, failed bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &failed
	n.do(t, cmd.Start)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %s %v: %v: %s", n.name, name, args, err, failed.String())
	}
	return out.String()
}

// sysctl writes a setting, by its path below net.
func (n *namespace) sysctl(t testing.TB, key, value string) {
	t.Helper()
	n.do(t, func() error { return os.WriteFile("/proc/sys/net/"+key, []byte(value), 0) })
}

// plug connects end of the namespace with a port of the switch that is named after it.
func (n *namespace) plug(t testing.TB, sw *namespace, end string) {
	t.Helper()
	sw.do(t, func() error {
		b, err := netlink.LinkByName("switch")
		if err != nil {
			return err
		}
		la := netlink.NewLinkAttrs()
		la.Name, la.MasterIndex, la.Flags = n.name, b.Attrs().Index, net.FlagUp
		v := netlink.NewVeth(la)
		v.PeerName, v.PeerNamespace = end, netlink.NsFd(n.fd)
		return netlink.LinkAdd(v)
	})
	n.do(t, func() error { return wholeChecksums(end) })
	n.ip(t, "ip link set lo up\nip link set "+end+" up")
}

// wholeChecksums has what leaves by a link carry its checksums, as on a real wire (ethtool -K tx off).
func wholeChecksums(link string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], link)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("whole checksums of %s: %w", link, errno)
	}
	return nil
}

// link finds a link of the namespace.
func (n *namespace) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	var out netlink.Link
	n.do(t, func() (err error) {
		out, err = netlink.LinkByName(name)
		return err
	})
	return out
}

// until polls for what the kernel does in its own time.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience()); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

const echoPort, discardPort = 7, 9

// serve echoes datagrams and streams that come for the address.
func (n *namespace) serve(t testing.TB, a netip.Addr) {
	t.Helper()
	var u *net.UDPConn
	var l net.Listener
	n.do(t, func() (err error) {
		at := netip.AddrPortFrom(a, echoPort)
		if u, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
			return err
		}
		if l, err = net.Listen("tcp", at.String()); err != nil {
			return err
		}
		return whole(u)
	})
	t.Cleanup(func() {
		u.Close()
		l.Close()
	})
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, from, err := u.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				_, _ = u.WriteToUDPAddrPort(b[:n], from)
			}
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(patience()))
				b := make([]byte, 64<<10)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

// whole forbids fragments of what the socket sends (RFC 1191, section 3; RFC 8200, section 4.5).
func whole(c *net.UDPConn) error {
	return control(c, func(fd int) error {
		level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		return unix.SetsockoptInt(fd, level, option, unix.IP_PMTUDISC_DO)
	})
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

// socket is one for datagrams, which are never fragmented.
type socket struct{ *net.UDPConn }

func (n *namespace) socket(t testing.TB, at netip.AddrPort) *socket {
	t.Helper()
	var c *net.UDPConn
	n.do(t, func() (err error) {
		if c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)); err != nil {
			return err
		}
		return whole(c)
	})
	t.Cleanup(func() { c.Close() })
	return &socket{c}
}
