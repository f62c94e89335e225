// Package lbchurn is a load balancer with everything that changes in it, in network namespaces: a real router (BIRD or FRR) with
// clients behind it, directors as the processes that they are in life, hosts with bridges and relays, real servers on them. It
// plays the scheduler's part itself: tables by executor/lb, hosts before directors. Churn keeps connections with real data while
// all of it changes, and counts those that notice. Edge: talks to namespaces, routers and directors.
//
//	clients (behind) -- router -- switch -+- directors 10.0.0.11 ...
//	                                      +- host 1: bridge, relays -- real servers 10.0.0.100 ...
//	                                      +- host 2 ...
//
// Real servers answer by the router; the VIPs are 10.99.0.1 and fd99::1, TCP and UDP port 80.
package lbchurn

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/bgp/routers"
	"padis.io/padis/executor/lb/tcx"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Options of a farm. Router is one of routers.Kinds.
type Options struct {
	Router                   string
	Directors, Hosts, Places int
	// Running real servers at first; there is room for Hosts*Places.
	Servers int
	// BFD between directors and router: then sessions have a long hold time, else one of 3 s.
	BFD bool
	// VIPs besides the two, IPv4, with a TCP port each. Real servers have none of them.
	VIPs int
	// Executor is the binary whose verb `director` is run.
	Executor string
	// Skew is how late a host or director may be told a change, at most.
	Skew time.Duration
	// NoRelays on the hosts of real servers: flows that a change moves are reset.
	NoRelays bool
	Seed     uint64
	Log      func(format string, args ...any)
}

// The VIPs, and where routers look for directors.
var (
	VIP4 = netip.MustParseAddr("10.99.0.1")
	VIP6 = netip.MustParseAddr("fd99::1")
)

const (
	firstDirector = 11
	firstServer   = 100
	// Autonomous system of the directors.
	asn  = 65001
	port = 80
	// As the scheduler makes tables unless told otherwise.
	tableSize = 4093
)

// Farm is a running one. Directors, and Change, Serve and End of real servers may be used by several goroutines.
type Farm struct {
	Lab    *routers.Lab
	Router *routers.Daemon

	t         testing.TB
	o         Options
	dir       string
	relays    []*tcx.Dataplane
	Directors []*Director
	places    []*place

	mu      sync.Mutex
	servers map[string]*Server
	born    int
	dirty   chan struct{}
	probe   probes
	quit    chan struct{}
	quitted chan struct{}
	// Of the control loop, under tables.
	tables   sync.Mutex
	tcp, udp *lb.Generation
	newest   *padisv1.Balance
	given    *padisv1.Balance // that directors may have
	settled  *sync.Cond
	inForce  map[string]bool
	slowest  time.Duration
	silent   int
}

// place is where a real server can be.
type place struct {
	number, host int
	ns           int
	mac          lb.MAC
	used         bool
}

// New makes the farm, starts its directors and real servers and waits until the router has all routes.
func New(t testing.TB, o Options) *Farm {
	t.Helper()
	f := &Farm{t: t, o: o, Lab: routers.New(t), servers: map[string]*Server{}, dirty: make(chan struct{}, 1), quit: make(chan struct{}), quitted: make(chan struct{})}
	f.settled = sync.NewCond(&f.tables)
	var err error
	// Short: the path of a unix socket has at most 108 bytes.
	if f.dir, err = os.MkdirTemp("", "lb"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(f.dir) })
	f.switches()
	for h := range o.Hosts {
		f.host(h)
	}
	var neighbours []routers.Neighbour
	for i := range o.Directors {
		d, err := f.director(firstDirector + i)
		if err != nil {
			t.Fatal(err)
		}
		f.Directors = append(f.Directors, d)
		neighbours = append(neighbours, routers.Neighbour{Address: d.address.String(), ASN: asn, BFD: o.BFD})
	}
	f.Router = f.Lab.Start(o.Router, neighbours...)
	for range o.Servers {
		if _, err := f.Serve(); err != nil {
			t.Fatal(err)
		}
	}
	go f.control()
	t.Cleanup(func() { close(f.quit); <-f.quitted })
	f.Changed()
	f.Settle()
	for _, d := range f.Directors {
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
	}
	f.AwaitRoutes(o.Directors)
	return f
}

// AwaitRoutes waits until the router spreads both VIPs over so many directors.
func (f *Farm) AwaitRoutes(n int) {
	f.t.Helper()
	for _, vip := range []string{VIP4.String(), VIP6.String()} {
		f.Lab.Until(fmt.Sprintf("%d routes to %s", n, vip), func() bool { return strings.Count(f.Lab.Routes(vip)+" ", "via ") == n }, func() string {
			return f.Lab.Routes(vip) + "\n" + f.explain()
		})
	}
}

// AwaitVIPs waits until the router has routes to so many of the VIPs besides the two.
func (f *Farm) AwaitVIPs(n int) {
	f.t.Helper()
	count := 0
	f.Lab.Until(fmt.Sprintf("routes to %d VIPs", n), func() bool {
		count = strings.Count(f.Lab.In("router", "ip", "-4", "route", "show"), "\n10.100.")
		return count == n
	}, func() string { return fmt.Sprintf("%d routes; %s", count, f.explain()) })
}

// Routed tells whether the router sends flows to VIP4 by the director.
func (f *Farm) Routed(d *Director) bool {
	return strings.Contains(f.Lab.Routes(VIP4.String())+" ", "via "+d.address.String()+" ")
}

// Cut drops all that comes from a director or goes to it, at the router's switch; the links stay up. Heal ends it.
func (f *Farm) Cut(d *Director) { f.portState(d, 0) }

// Heal ends a Cut.
func (f *Farm) Heal(d *Director) { f.portState(d, 3) }

// portState of a bridge: 0 is disabled, 3 forwards.
func (f *Farm) portState(d *Director, state int) {
	f.t.Helper()
	f.Lab.In("router", "bridge", "link", "set", "dev", d.Name, "state", fmt.Sprint(state))
}

func (f *Farm) explain() string {
	var b strings.Builder
	for _, d := range f.Directors {
		fmt.Fprintf(&b, "director %s: %v\n%s\n", d.address, d.State(), d.Output())
	}
	return b.String() + f.Router.Route(VIP4.String()+"/32") + f.Router.Output()
}

// switches has the router spread flows by ports, and the namespaces forget no address.
func (f *Farm) switches() {
	for _, ns := range []string{"router", "behind"} {
		f.must(sysctl(ns, "ipv4/fib_multipath_hash_policy=1", "ipv6/fib_multipath_hash_policy=1", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0",
			"ipv4/ip_local_port_range=10000 65000", "ipv4/conf/all/send_redirects=0", "ipv4/conf/hosts/send_redirects=0", "ipv4/conf/out/send_redirects=0",
			"ipv4/conf/hosts/rp_filter=0", "ipv4/conf/out/rp_filter=0"))
	}
}

// host is a bridge at the router's switch, with the places of its real servers.
func (f *Farm) host(h int) {
	f.t.Helper()
	name := fmt.Sprintf("rack%d", h)
	f.batch("", "netns add "+name)
	f.t.Cleanup(func() { f.batch("", "netns del "+name) })
	f.batch("router", "link add "+name+" type veth peer name uplink netns "+name, "link set "+name+" up master hosts")
	f.batch(name, "link set lo up", "link add br0 type bridge mcast_snooping 0", "link set br0 up", "link set uplink up master br0",
		"link add relay0 type veth peer name relay1", "link set relay1 up master br0", "link set relay0 up")
	ns, err := namespace(name)
	f.must(err)
	f.t.Cleanup(func() { unix.Close(ns) })
	var relay *tcx.Dataplane
	f.must(in(ns, func() (err error) {
		relay, err = tcx.Load(tcx.Options{Mode: tcx.Relay})
		return err
	}))
	f.t.Cleanup(func() { relay.Close() })
	f.relays = append(f.relays, relay)
	for i := range f.o.Places {
		p := &place{number: firstServer + h*f.o.Places + i, host: h}
		server := fmt.Sprintf("s%d", p.number)
		address := netip.AddrFrom4([4]byte{10, 0, 0, byte(p.number)})
		p.mac = padisv1.AddressMAC(address)
		f.batch("", "netns add "+server)
		f.t.Cleanup(func() { f.batch("", "netns del "+server) })
		f.batch(name, fmt.Sprintf("netns set %s %d", server, p.number),
			fmt.Sprintf("link add p%d type veth peer name eth0 address %s netns %s", p.number, p.mac, server), fmt.Sprintf("link set p%d up master br0", p.number))
		f.must(sysctl(server, "ipv4/conf/all/arp_ignore=1", "ipv4/conf/all/arp_announce=2", "ipv4/conf/all/rp_filter=0", "ipv4/conf/default/rp_filter=0",
			"ipv4/conf/eth0/rp_filter=0", "ipv6/conf/all/accept_dad=0", "ipv6/conf/default/accept_dad=0"))
		f.batch(server, "link set lo up", fmt.Sprintf("address add %s/24 dev eth0", address), fmt.Sprintf("address add fd00::%x/64 dev eth0 nodad", p.number),
			fmt.Sprintf("address add %s/32 dev lo", VIP4), fmt.Sprintf("address add %s/128 dev lo nodad", VIP6), "link set eth0 up",
			"route add default via 10.0.0.1", "route add default via fd00::1")
		p.ns, err = namespace(server)
		f.must(err)
		f.t.Cleanup(func() { unix.Close(p.ns) })
		f.places = append(f.places, p)
		if f.o.NoRelays {
			continue
		}
		f.must(in(ns, func() error {
			end, err := net.InterfaceByName(fmt.Sprintf("p%d", p.number))
			if err != nil {
				return err
			}
			out, err := net.InterfaceByName("relay0")
			if err != nil {
				return err
			}
			return relay.AttachPort(tcx.Port{Index: end.Index, MAC: p.mac, Netns: p.number, Out: out.Index})
		}))
	}
}

func (f *Farm) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// batch runs commands of ip in a namespace; those of no namespace run in the lab's.
func (f *Farm) batch(ns string, lines ...string) {
	f.t.Helper()
	file := filepath.Join(f.dir, "batch")
	f.must(os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	args := []string{"ip", "-batch", file}
	if ns != "" {
		args = []string{"ip", "-n", ns, "-batch", file}
	}
	f.must(command(args...))
}

// namespace opens one by its name.
func namespace(name string) (int, error) {
	fd, err := unix.Open("/run/netns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("namespace %s: %w", name, err)
	}
	return fd, nil
}

// in runs f on a thread in a namespace. What f opens or starts stays there. The thread comes back: with it would end what it has
// started with a signal for its death, such as routers.
func in(ns int, f func() error) error {
	c := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(ns, unix.CLONE_NEWNET)
		}
		if err != nil {
			c <- err
			return
		}
		err = f()
		if back := unix.Setns(home, unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		unix.Close(home)
		c <- err
	}()
	return <-c
}

// sysctl sets settings of a namespace's network, KEY=VALUE. Those of interfaces that are not there are left out.
func sysctl(name string, settings ...string) error {
	ns, err := namespace(name)
	if err != nil {
		return err
	}
	defer unix.Close(ns)
	return in(ns, func() error {
		for _, s := range settings {
			key, value, _ := strings.Cut(s, "=")
			if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0); err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
}

func own(n int) (netip.Addr, netip.Addr) {
	six, _ := netip.ParseAddr("fd00::" + strconv.FormatInt(int64(n), 16))
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), six
}

func command(args ...string) error {
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}
