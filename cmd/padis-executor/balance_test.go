package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/executor/lb"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const virtual = "198.51.100.9"

// realServer makes an instance one of the load balancer.
func realServer(l *padisv1.Launch) {
	l.LoopbackAddresses, l.DrainMs = []string{virtual}, 60_000
}

// directs is an instance as the reconciler makes it.
func directs(slot int) *padisv1.Launch {
	return web(slot, func(l *padisv1.Launch) {
		l.App, l.AppUid = "lb-director", "lb"
		l.Template = &padisv1.Template{Director: true, Command: []string{"/proc/self/exe", "director"}, Stop: &padisv1.Stop{Signal: "SIGTERM", GracePeriodMs: 20_000},
			HealthChecks: []*padisv1.HealthCheck{{Probe: &padisv1.HealthCheck_Http{Http: &padisv1.HttpProbe{Port: 9466, Path: "/ready"}},
				GracePeriodMs: 30_000, IntervalMs: 200, TimeoutMs: 2000, FailureThreshold: 30, SuccessThreshold: 1}}}
	})
}

// balancer is the load balancer as a scheduler decides it.
type balancer struct {
	m      *machine
	number int64
	table  *lb.Generation
}

// say has the executor know the next table, hosts first.
func (b *balancer) say(states map[int]lb.State) {
	b.m.t.Helper()
	var servers []lb.Server
	msg := &padisv1.Balance{Uid: "lb", Namespace: "shop", Name: "lb", Services: []*padisv1.BalanceService{{Vip: virtual, Protocol: "tcp", FirstPort: 8080, LastPort: 8080}}}
	for slot, s := range states {
		id := fmt.Sprint("shop.web-", slot)
		servers = append(servers, lb.Server{ID: id, MAC: lb.MAC(padisv1.AddressMAC(netip.MustParseAddr(address(slot)))), Weight: 100, State: s})
		msg.Servers = append(msg.Servers, &padisv1.RealServer{Id: id, Address: address(slot)})
	}
	var err error
	b.table, err = lb.Next(b.table, lb.Service{VIP: netip.MustParseAddr(virtual), Protocol: lb.TCP, Ports: lb.Ports{First: 8080, Last: 8080}, TableSize: 251, Seed: 7}, servers)
	if err != nil {
		b.m.t.Fatal(err)
	}
	b.number++
	msg.Number, msg.Tcp = b.number, b.table.Encode()
	b.m.tell(&padisv1.ToExecutor{Balance: msg})
	b.state("the host has it", func(s *padisv1.BalanceState) bool {
		return s.GetNumber() == b.number && s.GetReason() == ""
	})
	msg.Director = &padisv1.DirectorOrder{Tasks: []string{"shop.lb-director-0"}, Dataplane: "tcx", Scheduler: "maglev", MinServers: 1, Announcement: &padisv1.Announcement{Asn: 64512}}
	b.m.tell(&padisv1.ToExecutor{Balance: msg})
	b.state("the director has it", func(s *padisv1.BalanceState) bool {
		return len(s.GetDirectors()) == 1 && s.GetDirectors()[0].GetNumber() == b.number && s.GetDirectors()[0].GetDataplane() == "tcx"
	})
}

func (b *balancer) state(what string, fits func(*padisv1.BalanceState) bool) {
	b.m.t.Helper()
	b.m.statement(fmt.Sprint(what, ": ", b.number), func(s *padisv1.FromExecutor) bool {
		return len(s.GetBalances()) == 1 && fits(s.GetBalances()[0])
	})
}

// client is a connection to the VIP that asks who serves it.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 44, 0, 1)}, Timeout: patience}
	c, err := d.Dial("tcp", virtual+":8080")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) served(by int) {
	c.t.Helper()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: lb\r\n\r\n")); err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadString('\n')
	if want := fmt.Sprintf("web-%d at ", by); err != nil || !strings.HasPrefix(line, want) {
		c.t.Fatalf("served by %q, %v; want %s", line, err, want)
	}
}

// child is the process that the executor keeps for a verb; 0 if there is none.
func child(verb string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		if b, err := os.ReadFile(name); err == nil && string(b) == "/proc/self/exe\x00"+verb+"\x00" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// A load balancer on one host, from the executor on: no connection breaks when the table changes, when what relays dies, and when
// a real server is stopped, which ends when its clients have gone.
func TestBalances(t *testing.T) {
	m := newMachine(t)
	m.launch(map[string]*padisv1.Launch{"shop.web-0": web(0, realServer), "shop.web-1": web(1, realServer), "shop.lb-director-0": directs(10)})
	m.ready("shop.web-0")
	m.ready("shop.web-1")
	m.tell(&padisv1.ToExecutor{Generation: 1, Balancers: []string{"lb"}, Directed: []string{"lb"}})
	b := &balancer{m: m}
	b.say(map[int]lb.State{0: lb.Serving})
	m.ready("shop.lb-director-0")
	if out, err := exec.Command("ip", "route", "replace", virtual+"/32", "via", address(10), "dev", "sw0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "route", "del", virtual+"/32").Run() })
	first := dial(t)
	first.served(0)
	b.say(map[int]lb.State{0: lb.Serving, 1: lb.Serving})
	first.served(0)
	b.say(map[int]lb.State{0: lb.Draining, 1: lb.Serving})
	first.served(0)
	second := dial(t)
	second.served(1)

	pid := child("relay")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		first.served(0)
		second.served(1)
	}
	m.until("another relay", func() bool { p := child("relay"); return p != 0 && p != pid })
	b.say(map[int]lb.State{0: lb.Suspect, 1: lb.Serving})
	first.served(0)
	second.served(1)

	m.kill("shop.web-0")
	s := m.state("shop.web-0", mesos.TaskKilling)
	if s.report.GetReason() != padisv1.ReasonDraining || s.report.GetReady() {
		t.Errorf("%v", s.report)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		first.served(0)
	}
	first.Close()
	m.state("shop.web-0", mesos.TaskKilled)
	second.served(1)

	second.Close()
	m.kill("shop.web-1")
	m.state("shop.web-1", mesos.TaskKilled)
	m.kill("shop.lb-director-0")
	m.state("shop.lb-director-0", mesos.TaskKilled)
	m.tell(&padisv1.ToExecutor{Generation: 2})
	m.statement("it forgets", func(s *padisv1.FromExecutor) bool { return len(s.GetBalances()) == 0 })
	m.until("the relay ends", func() bool { return child("relay") == 0 })
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if strings.HasPrefix(l.Name, "pr") || strings.HasPrefix(l.Name, "ps") {
			t.Errorf("left: %s", l.Name)
		}
	}
}
