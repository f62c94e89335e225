package director

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/director/plane"
	"padis.io/padis/executor/director/wire"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/bgp/routers"
	"padis.io/padis/executor/lb/tcx"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	hostASN     = 64512
	directorArg = "-be-a-director"
	serverArg   = "-be-a-server"
	relayArg    = "-be-a-relay"
)

// A director is alone in its process and its namespace, so the test binary is one too, and a real server.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == directorArg:
		os.Exit(beDirector())
	case len(os.Args) > 2 && os.Args[1] == serverArg:
		fmt.Println(http.ListenAndServe(":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/ready" && r.Host == "down" {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprintln(w, os.Args[2])
		})))
		os.Exit(1)
	case len(os.Args) > 2 && os.Args[1] == relayArg:
		fmt.Println(beRelay(os.Args[2], os.Args[3:]))
		os.Exit(1)
	}
	routers.Main(m)
}

// beRelay relays for all real servers of a Balance, whose host ends and namespaces this namespace knows by these names and ids,
// until it is killed.
func beRelay(path string, ids []string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var b padisv1.Balance
	if err := proto.Unmarshal(raw, &b); err != nil {
		return err
	}
	o, err := plan.Read(&b, nil)
	if err != nil {
		return err
	}
	d, err := tcx.Load(tcx.Options{Mode: tcx.Relay})
	if err != nil {
		return err
	}
	if err := d.Set(o.Forwardings[0].Generation); err != nil {
		return err
	}
	for _, s := range o.Servers {
		name := "host" + strings.TrimPrefix(s.ID, "server")
		i, err := net.InterfaceByName(name)
		if err != nil {
			return err
		}
		id, err := strconv.Atoi(ids[slices.Index(ids, name)+1])
		if err != nil {
			return err
		}
		if err := d.AttachPort(tcx.Port{Index: i.Index, MAC: s.MAC, Netns: id, Out: i.Index, Ingress: true}); err != nil {
			return err
		}
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	<-end
	return nil
}

// relay has the hosts of an order's real servers relay.
func relay(t *testing.T, l *routers.Lab, b *padisv1.Balance) {
	t.Helper()
	raw, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "balance")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{relayArg, path}
	for _, line := range strings.Split(l.In("router", "ip", "netns", "list-id"), "\n") {
		// nsid 0 (iproute2 netns name: host51)
		if f := strings.Fields(line); len(f) == 6 {
			args = append(args, strings.TrimSuffix(f[5], ")"), f[1])
		}
	}
	cmd := exec.Command(l.Script("router", args...))
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	l.Until("relays are attached", func() bool { _, err := os.Stat(path); return err != nil }, func() string { return "" })
}

func beDirector() int {
	var own []netip.Addr
	for _, a := range strings.Split(os.Getenv("PADIS_ADDRESSES"), ",") {
		own = append(own, netip.MustParseAddr(a))
	}
	log, _ := zap.NewDevelopment()
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM)
	err := Run(context.Background(), stop, Options{Instance: "shop/web-director-0", Own: own, Device: "eth0", Socket: wire.Socket, Listen: fmt.Sprint(":", wire.Port),
		Dataplanes: map[string]func() (lb.Dataplane, error){
			"tcx":  func() (lb.Dataplane, error) { return plane.TCX("eth0") },
			"xdp":  func() (lb.Dataplane, error) { return plane.XDP("eth0") },
			"none": func() (lb.Dataplane, error) { return nil, fmt.Errorf("there is no such module") },
		}, Auto: []string{"none", "tcx"}, Log: log})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fake is an executor with one director.
type fake struct {
	t    *testing.T
	l    *routers.Lab
	ns   string
	dir  string
	cmd  *exec.Cmd
	out  bytes.Buffer
	done chan error

	mu       sync.Mutex
	listener net.Listener
	conn     net.Conn
	order    *padisv1.Balance
	states   []*padisv1.DirectorState
}

// direct starts a director on host n.
func direct(t *testing.T, l *routers.Lab, n int) *fake {
	t.Helper()
	f := &fake{t: t, l: l, ns: l.Host(n), done: make(chan error, 1)}
	var err error
	if f.dir, err = os.MkdirTemp("", "d"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(f.dir) })
	f.listen()
	f.cmd = exec.Command(l.Script(f.ns, directorArg))
	f.cmd.Dir = f.dir
	f.cmd.Env = append(os.Environ(), fmt.Sprintf("PADIS_ADDRESSES=10.0.0.%d,fd00::%x", n, n))
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { f.done <- f.cmd.Wait(); close(f.done) }()
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill()
		<-f.done
		f.hangUp()
		if t.Failed() {
			t.Log(f.out.String())
		}
	})
	return f
}

// listen is an executor that starts.
func (f *fake) listen() {
	f.t.Helper()
	path := filepath.Join(f.dir, wire.Socket)
	_ = os.Remove(path)
	l, err := net.Listen("unix", path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	f.listener = l
	f.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conn = c
			if f.order != nil {
				_ = wire.Write(c, f.order)
			}
			f.mu.Unlock()
			go func() {
				for {
					s := new(padisv1.DirectorState)
					if err := wire.Read(c, s); err != nil {
						return
					}
					f.mu.Lock()
					f.states = append(f.states, s)
					f.mu.Unlock()
				}
			}()
		}
	}()
}

// hangUp is an executor that ends.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	_ = f.listener.Close()
	if f.conn != nil {
		_ = f.conn.Close()
		f.conn = nil
	}
}

func (f *fake) give(b *padisv1.Balance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.order = b
	if f.conn != nil {
		_ = wire.Write(f.conn, b)
	}
}

func (f *fake) state() *padisv1.DirectorState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.states) == 0 {
		return &padisv1.DirectorState{}
	}
	return f.states[len(f.states)-1]
}

func (f *fake) until(what string, is func(*padisv1.DirectorState) bool) {
	f.t.Helper()
	f.l.Until(what, func() bool { return is(f.state()) }, func() string { return f.state().String() })
}

// ready asks the director as its executor's health check does.
func (f *fake) page(path string) string {
	out, _ := exec.Command("ip", "netns", "exec", f.ns, "curl", "-s", "-m", "5", "-w", "%{http_code}", "http://127.0.0.1:9466"+path).Output()
	return string(out)
}

// server is a real server on host n, with the VIPs on its loopback.
type server struct {
	n   int
	ns  string
	mac lb.MAC
	cmd *exec.Cmd
}

func realServer(t *testing.T, l *routers.Lab, n int, vips ...string) *server {
	t.Helper()
	s := &server{n: n, ns: l.Host(n, vips...)}
	for _, k := range []string{"arp_ignore=1", "arp_announce=2"} {
		l.In(s.ns, "sysctl", "-qw", "net.ipv4.conf.all."+k)
	}
	// As executors give it; a random one may be one of those that directors send as.
	s.mac = padisv1.AddressMAC(netip.MustParseAddr(fmt.Sprint("10.0.0.", n)))
	l.In(s.ns, "ip", "link", "set", "eth0", "address", s.mac.String())
	s.start(t, l)
	t.Cleanup(s.stop)
	return s
}

func (s *server) start(t *testing.T, l *routers.Lab) {
	t.Helper()
	s.cmd = exec.Command(l.Script(s.ns, serverArg, fmt.Sprint("server", s.n)))
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (s *server) stop() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() }

// scheduler makes orders.
type scheduler struct {
	t      *testing.T
	number int64
	last   *lb.Generation
	vips   []string
	peers  []*padisv1.AnnouncementPeer
	change func(*padisv1.Balance)
}

func newScheduler(t *testing.T, vips ...string) *scheduler {
	return &scheduler{t: t, vips: vips, change: func(*padisv1.Balance) {}, peers: []*padisv1.AnnouncementPeer{
		{Name: "four", Router: &padisv1.BgpPeer{Address: "10.0.0.1", Asn: routers.ASN, HoldMs: 3000}},
		{Name: "six", Router: &padisv1.BgpPeer{Address: "fd00::1", Asn: routers.ASN, HoldMs: 3000}}}}
}

func (s *scheduler) order(servers ...*server) *padisv1.Balance {
	s.t.Helper()
	var all []lb.Server
	s.number++
	b := &padisv1.Balance{Uid: "u", Number: s.number, Namespace: "shop", Name: "web", Director: &padisv1.DirectorOrder{MinServers: 1, Dataplane: "auto",
		Announcement: &padisv1.Announcement{Asn: hostASN, Peers: s.peers, Communities: []uint32{hostASN<<16 | 7}, Med: 9}}}
	for _, x := range servers {
		id := fmt.Sprint("server", x.n)
		all = append(all, lb.Server{ID: id, MAC: x.mac, Weight: 100})
		b.Servers = append(b.Servers, &padisv1.RealServer{Id: id, Address: fmt.Sprint("10.0.0.", x.n)})
	}
	g, err := lb.Next(s.last, lb.Service{VIP: netip.MustParseAddr("10.9.0.1"), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: 251, Seed: 7}, all)
	if err != nil {
		s.t.Fatal(err)
	}
	s.last, b.Tcp = g, g.Encode()
	for _, v := range s.vips {
		b.Services = append(b.Services, &padisv1.BalanceService{Vip: v, Protocol: "tcp", FirstPort: 80, LastPort: 80})
	}
	s.change(b)
	return b
}

func neighbours(n int) []routers.Neighbour {
	return []routers.Neighbour{{Address: fmt.Sprintf("10.0.0.%d", n), ASN: hostASN}, {Address: fmt.Sprintf("fd00::%x", n), ASN: hostASN}}
}

// fetch asks a VIP as a client behind the router does.
func fetch(vip string) string {
	if strings.Contains(vip, ":") {
		vip = "[" + vip + "]"
	}
	out, err := exec.Command("ip", "netns", "exec", "behind", "curl", "-s", "-m", "2", "http://"+vip+"/").Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

func announces(vips ...string) func(*padisv1.DirectorState) bool {
	return func(s *padisv1.DirectorState) bool { return slices.Equal(s.GetAnnounced(), vips) }
}
