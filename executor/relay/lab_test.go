package relay

import (
	"bufio"
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
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/tcx"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// TestMain runs the tests in namespaces of their own. The test binary is the executor's binary, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		os.Exit(Main(os.Stdin, os.Stdout, zap.NewNop()))
	}
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

const (
	vip      = "10.99.0.1"
	patience = 20 * time.Second
)

// lab is a host with a bridge, and machines at it.
type lab struct {
	t      testing.TB
	bridge netlink.Link
	out    int
}

// machine is a namespace with an eth0 at the bridge.
type machine struct {
	name string
	ns   int
	port Port
}

func newLab(t testing.TB) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l := &lab{t: t, bridge: &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0x42, 10, 3, 0, 1}}}}
	l.add(l.bridge)
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "relay0"}, PeerName: "relay1"}
	l.add(pair)
	other, err := netlink.LinkByName("relay1")
	l.must(err)
	l.must(netlink.LinkSetMaster(other, l.bridge))
	l.must(netlink.LinkSetUp(other))
	l.out = pair.Attrs().Index
	return l
}

func (l *lab) add(link netlink.Link) {
	l.t.Helper()
	l.must(netlink.LinkAdd(link))
	l.t.Cleanup(func() { netlink.LinkDel(link) })
	l.must(netlink.LinkSetUp(link))
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) until(what string, f func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("never: %s", what)
		}
	}
}

// do runs f on a thread in the machine's namespace. What f opens stays there.
func (m *machine) do(l *lab, f func() error) {
	l.t.Helper()
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
		l.t.Fatalf("%s: %v", m.name, err)
	}
}

// machine adds one with the address 10.3.0.last.
func (l *lab) machine(name string, last byte) *machine {
	l.t.Helper()
	m := &machine{name: name, port: Port{MAC: [6]byte{2, 0x42, 10, 3, 0, last}, Out: l.out, Netns: 100 + int(last)}}
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
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "p-" + name, MasterIndex: l.bridge.Attrs().Index}, PeerName: "eth0",
		PeerHardwareAddr: m.port.MAC[:], PeerNamespace: netlink.NsFd(m.ns)}
	l.add(veth)
	m.port.Index = veth.Attrs().Index
	if id, err := netlink.GetNetNsIdByFd(m.ns); err == nil && id >= 0 {
		m.port.Netns = id
	} else {
		l.must(netlink.SetNetNsIdByFd(m.ns, m.port.Netns))
	}
	m.do(l, func() error {
		for _, x := range []string{"arp_ignore=1", "arp_announce=2"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/"+x[:len(x)-2], []byte(x[len(x)-1:]), 0); err != nil {
				return err
			}
		}
		return configure("eth0", fmt.Sprintf("10.3.0.%d/24", last))
	})
	return m
}

func configure(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// serve makes a real server of it, that answers each line with its name.
func (l *lab) serve(m *machine) {
	l.t.Helper()
	m.do(l, func() error {
		if err := configure("lo", vip+"/32"); err != nil {
			return err
		}
		listener, err := net.Listen("tcp", vip+":80")
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
				go func() {
					defer c.Close()
					for r := bufio.NewReader(c); ; {
						if _, err := r.ReadString('\n'); err != nil {
							return
						}
						fmt.Fprintln(c, m.name)
					}
				}()
			}
		}()
		return nil
	})
}

// director forwards at a machine.
func (l *lab) director(m *machine) *tcx.Dataplane {
	l.t.Helper()
	d, err := tcx.Load(tcx.Options{Mode: tcx.DirectorTCX, MAC: lb.MAC(m.port.MAC), Services: 4})
	l.must(err)
	l.t.Cleanup(func() { d.Close() })
	m.do(l, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return d.Attach(eth0.Attrs().Index)
	})
	return d
}

// conn is a client's connection.
type conn struct {
	net.Conn
	r *bufio.Reader
}

func (l *lab) dial(client *machine) *conn {
	l.t.Helper()
	var c *conn
	client.do(l, func() error {
		raw, err := net.DialTimeout("tcp", vip+":80", patience)
		if err == nil {
			c = &conn{raw, bufio.NewReader(raw)}
		}
		return err
	})
	l.t.Cleanup(func() { c.Close() })
	return c
}

func (l *lab) served(c *conn, by string) {
	l.t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("who\n")); err != nil {
		l.t.Fatal(err)
	}
	if name, err := c.r.ReadString('\n'); err != nil || name != by+"\n" {
		l.t.Fatalf("served by %q, %v; want %s", name, err, by)
	}
}

// table is the next one of these servers.
func (l *lab) table(prev *lb.Generation, states map[*machine]lb.State) *lb.Generation {
	l.t.Helper()
	var servers []lb.Server
	for m, s := range states {
		servers = append(servers, lb.Server{ID: m.name, MAC: lb.MAC(m.port.MAC), Weight: 100, State: s})
	}
	g, err := lb.Next(prev, lb.Service{VIP: netip.MustParseAddr(vip), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: 251, Seed: 7}, servers)
	l.must(err)
	return g
}

// told is a table as the scheduler tells it.
func told(t testing.TB, uid string, number int64, vip string, g *lb.Generation) Balance {
	t.Helper()
	body, err := padisv1.Encode(&padisv1.Balance{Uid: uid, Number: number, Namespace: "shop", Name: uid, Tcp: g.Encode(), Udp: []byte("is not read"),
		Services: []*padisv1.BalanceService{{Vip: vip, Protocol: "tcp", FirstPort: 80, LastPort: 80}, {Vip: vip, Protocol: "udp", FirstPort: 53, LastPort: 53}}})
	if err != nil {
		t.Fatal(err)
	}
	return Balance{uid, number, body}
}
