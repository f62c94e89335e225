package tcx

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// TestMain runs the tests in a network namespace of their own, so that nothing is left behind.
func TestMain(m *testing.M) {
	const inner = "PADIS_TEST_INNER"
	if os.Getenv(inner) != "" || os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// lab is a host with a bridge (in the namespace of the tests) and machines at it.
type lab struct {
	t      testing.TB
	bridge *netlink.Bridge
}

// machine is a namespace with an eth0 at the bridge.
type machine struct {
	name string
	ns   int
	id   int // of the namespace, as the host numbers it
	port netlink.Link
	mac  lb.MAC
	last byte
	// accepted are connections by the client's address.
	accepted sync.Map
}

const (
	vip4Text = "10.99.0.1"
	vip6Text = "fd99::1"
)

func newLab(t testing.TB) *lab {
	t.Helper()
	needsRoot(t)
	l := &lab{t: t, bridge: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0x42, 10, 3, 0, 1}}}}
	l.must(netlink.LinkAdd(l.bridge))
	t.Cleanup(func() { netlink.LinkDel(l.bridge) })
	l.must(netlink.LinkSetUp(l.bridge))
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// in runs f on a thread in a namespace. What f opens stays there.
func in(ns int, f func() error) error {
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			c <- err
			return
		}
		c <- f()
	}()
	return <-c
}

func (m *machine) do(l *lab, f func() error) {
	l.t.Helper()
	if err := in(m.ns, f); err != nil {
		l.t.Fatalf("%s: %v", m.name, err)
	}
}

// machine adds one with the addresses 10.3.0.last and fd03::last.
func (l *lab) machine(name string, last byte) *machine {
	l.t.Helper()
	m := &machine{name: name, last: last, mac: lb.MAC{2, 0x42, 10, 3, 0, last}}
	made := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			m.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		made <- err
	}()
	l.must(<-made)
	l.t.Cleanup(func() { unix.Close(m.ns) })
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "p-" + name, MasterIndex: l.bridge.Index}, PeerName: "eth0",
		PeerHardwareAddr: m.mac[:], PeerNamespace: netlink.NsFd(m.ns)}
	l.must(netlink.LinkAdd(veth))
	l.t.Cleanup(func() { netlink.LinkDel(veth) })
	l.must(netlink.LinkSetUp(veth))
	m.port = veth
	var err error
	if m.id, err = netlink.GetNetNsIdByFd(m.ns); err != nil || m.id < 0 {
		l.must(netlink.SetNetNsIdByFd(m.ns, 100+int(last)))
		m.id = 100 + int(last)
	}
	m.do(l, func() error {
		for path, value := range map[string]string{"ipv4/conf/all/arp_ignore": "1", "ipv4/conf/all/arp_announce": "2", "ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
				return err
			}
		}
		if err := up("lo"); err != nil {
			return err
		}
		if err := addr("eth0", fmt.Sprintf("10.3.0.%d/24", last)); err != nil {
			return err
		}
		if err := addr("eth0", fmt.Sprintf("fd03::%x/64", last)); err != nil {
			return err
		}
		return up("eth0")
	})
	return m
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

func addr(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	if a.IP.To4() == nil {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(link, a)
}

// serve makes a real server of it: VIPs on the loopback, and a listener that answers each line with the server's name.
func (l *lab) serve(m *machine) {
	l.t.Helper()
	m.do(l, func() error {
		for _, vip := range []string{vip4Text + "/32", vip6Text + "/128"} {
			if err := addr("lo", vip); err != nil {
				return err
			}
		}
		for _, vip := range []string{vip4Text, vip6Text} {
			listener, err := net.Listen("tcp", net.JoinHostPort(vip, "80"))
			if err != nil {
				return err
			}
			l.t.Cleanup(func() { listener.Close() })
			go func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					m.accepted.Store(c.RemoteAddr().(*net.TCPAddr).AddrPort(), c)
					go func() {
						defer c.Close()
						r := bufio.NewReader(c)
						for {
							if _, err := r.ReadString('\n'); err != nil {
								return
							}
							fmt.Fprintln(c, m.name)
						}
					}()
				}
			}()
		}
		return nil
	})
}

// forget closes the server's end of a connection without a word to the client.
func (l *lab) forget(m *machine, c *conn) {
	l.t.Helper()
	accepted, ok := m.accepted.Load(netip.AddrPortFrom(c.flow.Src, c.flow.SrcPort))
	if !ok {
		l.t.Fatalf("%s has no connection %v", m.name, c.flow)
	}
	tcp := accepted.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	l.must(err)
	l.must(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) }))
	l.must(err)
	l.must(tcp.Close())
}

// noChecksumOffload lets a veth compute checksums: frames that XDP sends lose the mark that they are still to be computed.
func (l *lab) noChecksumOffload(m *machine) {
	l.t.Helper()
	m.do(l, func() error {
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
		copy(request.name[:], "eth0")
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
			return errno
		}
		return nil
	})
}

// routeVIPs lets a client reach the VIPs by a director.
func (l *lab) routeVIPs(client, director *machine) {
	l.t.Helper()
	client.do(l, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for vip, via := range map[string]string{vip4Text + "/32": fmt.Sprintf("10.3.0.%d", director.last), vip6Text + "/128": fmt.Sprintf("fd03::%x", director.last)} {
			_, dst, _ := net.ParseCIDR(vip)
			if err := netlink.RouteReplace(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: dst, Gw: net.ParseIP(via)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// conn is a connection of a client that asks who serves it.
type conn struct {
	net.Conn
	r    *bufio.Reader
	flow lb.Tuple
}

func (l *lab) dial(client *machine, vip string) *conn {
	l.t.Helper()
	var c *conn
	client.do(l, func() error {
		raw, err := net.DialTimeout("tcp", net.JoinHostPort(vip, "80"), 20*time.Second)
		if err != nil {
			return err
		}
		local := raw.LocalAddr().(*net.TCPAddr).AddrPort()
		c = &conn{raw, bufio.NewReader(raw), lb.Tuple{Src: local.Addr().Unmap(), Dst: netip.MustParseAddr(vip), SrcPort: local.Port(), DstPort: 80, Protocol: lb.TCP}}
		return nil
	})
	l.t.Cleanup(func() { c.Close() })
	return c
}

// who asks by a request of several packets.
func (c *conn) who() (string, error) {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	request := make([]byte, 4000)
	request[len(request)-1] = '\n'
	if _, err := c.Write(request); err != nil {
		return "", err
	}
	name, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	return name[:len(name)-1], nil
}

// replies counts frames at a port of the bridge that come from a VIP, until the returned function is called.
func (l *lab) replies(m *machine) func() int {
	l.t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0x0300)
	l.must(err)
	f := os.NewFile(uintptr(fd), "replies")
	l.t.Cleanup(func() { f.Close() })
	l.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20))
	l.must(unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: m.port.Attrs().Index}))
	return func() int {
		n, all := 0, 0
		b := make([]byte, 65536)
		for {
			k, _, err := unix.Recvfrom(fd, b, unix.MSG_TRUNC)
			if err != nil {
				break
			}
			all++
			var src netip.Addr
			switch p := b[:min(k, len(b))]; {
			case len(p) >= 34 && binary.BigEndian.Uint16(p[12:]) == 0x0800:
				src, _ = netip.AddrFromSlice(p[26:30])
			case len(p) >= 54 && binary.BigEndian.Uint16(p[12:]) == 0x86dd:
				src, _ = netip.AddrFromSlice(p[22:38])
			}
			if src == netip.MustParseAddr(vip4Text) || src == netip.MustParseAddr(vip6Text) {
				n++
			}
		}
		if all == 0 {
			l.t.Error("no frame at all was seen at the director's port")
		}
		return n
	}
}
