package check

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var own = []netip.Addr{netip.MustParseAddr("10.0.0.9")}

// order has servers s0, s1 ... in these states, with the last byte of their MAC by their number.
func order(t *testing.T, check *padisv1.HealthCheck, states ...lb.State) *plan.Order {
	t.Helper()
	b := &padisv1.Balance{Uid: "u", Number: 1, Director: &padisv1.DirectorOrder{}, Services: []*padisv1.BalanceService{{Vip: "10.9.0.1", Protocol: "tcp", FirstPort: 80, LastPort: 80}}}
	if check != nil {
		b.Director.Checks = []*padisv1.HealthCheck{check}
	}
	var servers []lb.Server
	for i, s := range states {
		servers = append(servers, lb.Server{ID: fmt.Sprintf("s%02d", i), MAC: lb.MAC{2, 5: byte(i + 1)}, Weight: 1, State: s})
		b.Servers = append(b.Servers, &padisv1.RealServer{Id: fmt.Sprintf("s%02d", i), Address: fmt.Sprint("10.0.0.", 50+i)})
	}
	g, err := lb.Next(nil, lb.Service{VIP: netip.MustParseAddr("10.9.0.1"), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: 251}, servers)
	if err != nil {
		t.Fatal(err)
	}
	b.Tcp = g.Encode()
	o, err := plan.Read(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func tcp(port int32) *padisv1.HealthCheck {
	return &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: port}}, IntervalMs: 5, FailureThreshold: 2}
}

// world is the kernel's marks and the servers.
type world struct {
	mu     sync.Mutex
	marks  map[uint16]network.MAC
	refuse error
	// Servers by MAC that do not answer.
	down map[byte]bool
	// Probes that went to a server's own address.
	direct map[netip.Addr]int
}

func (w *world) Set(marks map[uint16]network.MAC) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse == nil {
		w.marks = maps.Clone(marks)
	}
	return w.refuse
}

func (w *world) probe(_ *padisv1.HealthCheck, way plan.Way, mark uint16, _ time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !way.Marked {
		w.direct[way.To.Addr()]++
		return nil
	}
	mac, ok := w.marks[mark]
	if !ok {
		return errors.New("a mark that leads nowhere")
	}
	if w.down[mac[5]] {
		return fmt.Errorf("server %d is down", mac[5])
	}
	return nil
}

func (w *world) with(f func()) { w.mu.Lock(); defer w.mu.Unlock(); f() }

func begin(t *testing.T) (*world, *Checker) {
	w := &world{down: map[byte]bool{}, direct: map[netip.Addr]int{}}
	c := start(own, w, w.probe, zap.NewNop())
	t.Cleanup(c.Close)
	return w, c
}

type catcher struct {
	world   *world
	servers map[uint32]netip.Addr
}

func (c *catcher) Mark(servers map[uint32]netip.Addr) error {
	c.world.with(func() { c.servers = maps.Clone(servers) })
	return nil
}

func until(t *testing.T, c *Checker, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		var got []string
		results := c.Results()
		for i := range 100 {
			if r, ok := results[fmt.Sprintf("s%02d", i)]; ok {
				got = append(got, strings.TrimSpace(fmt.Sprintf("%d:%d %s", i, r.Reach, r.Message)))
			}
		}
		if strings.Join(got, ", ") == want {
			return
		}
		select {
		case <-c.Changed():
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			t.Fatalf("%q, want %q", got, want)
		}
	}
}

func TestServersComeFailAndGo(t *testing.T) {
	w, c := begin(t)
	c.Set(order(t, tcp(80), lb.Serving, lb.Draining, lb.Serving), nil)
	until(t, c, "0:1, 2:1")
	w.with(func() { w.down[3] = true })
	until(t, c, "0:1, 2:2 server 3 is down")
	// Who stays is what it was.
	c.Set(order(t, tcp(80), lb.Serving, lb.Draining, lb.Serving, lb.Serving), nil)
	if r := c.Results(); r["s00"].Reach != plan.Reached || r["s02"].Reach != plan.Failing || r["s03"].Reach != plan.Unchecked {
		t.Error(r)
	}
	w.with(func() { w.down[3] = false })
	until(t, c, "0:1, 2:1, 3:1")
	c.Set(order(t, tcp(80), lb.Serving), nil)
	until(t, c, "0:1")
	w.with(func() {
		if len(w.marks) != 1 {
			t.Error(w.marks)
		}
	})
	// Other checks begin anew, and none is none.
	c.Set(order(t, tcp(81), lb.Serving), nil)
	until(t, c, "0:1")
	c.Set(order(t, nil, lb.Serving), nil)
	until(t, c, "")
}

// Without marks, and where the dataplane would catch the packets, it is the server's own address.
func TestOwnAddress(t *testing.T) {
	w, c := begin(t)
	w.with(func() { w.refuse = errors.New("no such device") })
	c.Set(order(t, tcp(80), lb.Serving), nil)
	until(t, c, "0:1")
	server := netip.MustParseAddr("10.0.0.50")
	w.with(func() {
		if w.direct[server] == 0 {
			t.Error("it was not asked")
		}
		w.refuse, w.down[1] = nil, true
	})
	until(t, c, "0:2 server 1 is down") // by its VIP, once marks are led
	// A dataplane that catches what the director sends is told, too.
	caught := &catcher{world: w}
	c.Set(order(t, tcp(80), lb.Serving), caught)
	w.with(func() {
		w.down[1] = false
		for mark := range w.marks {
			if caught.servers[uint32(mark)] != server {
				t.Error(caught.servers)
			}
		}
	})
	until(t, c, "0:1")
}

// A thousand slow servers are not asked at once.
func TestBounded(t *testing.T) {
	var now, most atomic.Int32
	release := make(chan struct{})
	c := start(own, &world{}, func(*padisv1.HealthCheck, plan.Way, uint16, time.Duration) error {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-release
		now.Add(-1)
		return nil
	}, zap.NewNop())
	states := make([]lb.State, 90)
	c.Set(order(t, tcp(80), states...), nil)
	for deadline := time.Now().Add(30 * time.Second); now.Load() < atOnce && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(release)
	c.Close()
	if most.Load() != atOnce {
		t.Errorf("%d at once, want %d", most.Load(), atOnce)
	}
}

// The probes themselves: from the source that the way names, TCP and HTTP.
func TestConnect(t *testing.T) {
	var from atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from.Store(r.RemoteAddr)
		fmt.Fprint(w, "welcome")
	}))
	defer s.Close()
	to := netip.MustParseAddrPort(s.Listener.Addr().String())
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	way := plan.Way{To: to, From: netip.MustParseAddrPort(free.Addr().String())}
	h := &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Http{Http: &padisv1.HttpProbe{Port: int32(to.Port()), BodyContains: "welcome"}}}
	if err := connect(h, way, 0, time.Second); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a source that is taken: %v", err)
	}
	free.Close()
	if err := connect(h, way, 0, 5*time.Second); err != nil || from.Load() != way.From.String() {
		t.Error(err, from.Load(), way.From)
	}
	h.GetHttp().BodyContains = "goodbye"
	if err := connect(h, plan.Way{To: to}, 0, 5*time.Second); err == nil || !strings.Contains(err.Error(), `does not contain "goodbye"`) {
		t.Error(err)
	}
	if err := connect(tcp(int32(to.Port())), plan.Way{To: to}, 0, 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := connect(&padisv1.HealthCheck{}, way, 0, time.Second); err == nil {
		t.Error("a check without a probe")
	}
}
