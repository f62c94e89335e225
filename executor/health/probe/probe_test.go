package probe

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// here opens sockets in the test's own namespace.
type here struct{}

func (here) StreamSocket(int) (int, error)  { return open(unix.AF_INET) }
func (here) StreamSocket6(int) (int, error) { return open(unix.AF_INET6) }

func open(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// port of a server on the loopback that treats each connection so.
func serve(t testing.TB, treat func(net.Conn)) int32 {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go treat(c)
		}
	}()
	return int32(l.Addr().(*net.TCPAddr).Port)
}

func TestProbes(t *testing.T) {
	handler := http.NewServeMux()
	handler.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "shop is open for %s at %s", r.Header.Get("X-Who"), r.Host)
	})
	handler.HandleFunc("/bad", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no database", http.StatusServiceUnavailable)
	})
	handler.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", http.StatusFound) })
	handler.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte(strings.Repeat("x", bodyLimit)))
		w.Write([]byte("needle"))
	})
	handler.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	server := httptest.NewServer(handler)
	defer server.Close()
	port := int32(server.Listener.Addr().(*net.TCPAddr).Port)
	closed := serve(t, func(c net.Conn) { c.Close() })
	silent := serve(t, func(c net.Conn) {})
	garbage := serve(t, func(c net.Conn) { c.Write([]byte("\x16\x03 what?\r\n\r\n")); c.Close() })
	get := func(h *padisv1.HttpProbe) *padisv1.HealthCheck {
		if h.Port == 0 {
			h.Port = port
		}
		return &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Http{Http: h}}
	}
	tcp := func(p int32) *padisv1.HealthCheck {
		return &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: p}}}
	}
	run := func(c ...string) *padisv1.HealthCheck {
		return &padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Command{Command: &padisv1.CommandProbe{Command: c}}}
	}
	target := Target{Run: func(c []string, timeout time.Duration) (runtime.Output, error) {
		switch c[0] {
		case "true":
			return runtime.Output{}, nil
		case "false":
			return runtime.Output{Exit: runtime.Exit{Code: 1}, Text: "out of order"}, nil
		case "slow":
			return runtime.Output{Exit: runtime.Exit{Signal: "SIGKILL"}, TimedOut: true}, nil
		}
		return runtime.Output{}, errors.New("command not found")
	}}
	const long, brief = 20 * time.Second, 50 * time.Millisecond
	for name, c := range map[string]struct {
		check   *padisv1.HealthCheck
		timeout time.Duration
		says    string
	}{
		"tcp":               {tcp(port), long, ""},
		"tcp refused":       {tcp(1), long, "connection refused"},
		"http":              {get(&padisv1.HttpProbe{Path: "/ok"}), long, ""},
		"http headers":      {get(&padisv1.HttpProbe{Path: "/ok", BodyContains: "for me at shop.example", Headers: map[string]string{"x-who": "me", "Host": "shop.example"}}), long, ""},
		"http body":         {get(&padisv1.HttpProbe{Path: "/ok", BodyContains: "closed"}), long, `does not contain "closed", but is "shop is open`},
		"http status":       {get(&padisv1.HttpProbe{Path: "/bad"}), long, `status 503, expected 200 to 399: "no database"`},
		"http 503 wanted":   {get(&padisv1.HttpProbe{Path: "/bad", Statuses: []int32{200, 503}}), long, ""},
		"http 200 unwanted": {get(&padisv1.HttpProbe{Path: "/ok", Statuses: []int32{204}}), long, "status 200, expected 204"},
		"redirect":          {get(&padisv1.HttpProbe{Path: "/moved"}), long, ""},
		"redirect unwanted": {get(&padisv1.HttpProbe{Path: "/moved", Statuses: []int32{200}}), long, "status 302"},
		"needle too far":    {get(&padisv1.HttpProbe{Path: "/long", BodyContains: "needle"}), long, "does not contain"},
		"endless body":      {get(&padisv1.HttpProbe{Path: "/endless", BodyContains: "needle"}), long, "does not contain"},
		"http closed":       {get(&padisv1.HttpProbe{Port: closed}), long, "GET"},
		"http silent":       {get(&padisv1.HttpProbe{Port: silent}), brief, "no answer in time"},
		"http garbage":      {get(&padisv1.HttpProbe{Port: garbage}), long, "malformed"},
		"bad path":          {get(&padisv1.HttpProbe{Path: "/%zz"}), long, "invalid URL"},
		"command":           {run("true"), long, ""},
		"command fails":     {run("false"), long, `exited with code 1: "out of order"`},
		"command slow":      {run("slow"), long, "took longer"},
		"command missing":   {run("missing"), long, "not found"},
		"nothing":           {&padisv1.HealthCheck{}, long, "no probe"},
	} {
		t.Run(name, func(t *testing.T) {
			err := New(here{}).Probe(c.check, target, c.timeout)
			if (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
	if err := New(none{}).Probe(tcp(port), Target{Address: netip.MustParseAddr("::1")}, long); err == nil {
		t.Error("no socket, but a success")
	}
	if err := New(none{}).Probe(tcp(port), Target{Address: netip.MustParseAddr("127.0.0.1")}, long); err == nil {
		t.Error("no socket, but a success")
	}
}

// Instances may have IPv6 addresses only.
func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host) })}
	go s.Serve(l)
	defer s.Close()
	at := l.Addr().(*net.TCPAddr).AddrPort()
	h := &padisv1.HttpProbe{Port: int32(at.Port()), Path: "/", BodyContains: at.String()}
	target := Target{Address: at.Addr()}
	if err := New(here{}).Probe(&padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Http{Http: h}}, target, time.Minute); err != nil {
		t.Error(err)
	}
	c, err := New(here{}).Dial(-1, at, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// none has no sockets.
type none struct{}

func (none) StreamSocket(int) (int, error)  { return -1, errors.New("no sockets") }
func (none) StreamSocket6(int) (int, error) { return -1, errors.New("no sockets") }

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
	f.Add([]byte("\x00"))
	answers := make(chan []byte, 1)
	port := serve(f, func(c net.Conn) { c.Write(<-answers); c.Close() })
	f.Fuzz(func(t *testing.T, answer []byte) {
		answers <- answer
		h := &padisv1.HttpProbe{Port: port, BodyContains: "ok"}
		_ = New(here{}).Probe(&padisv1.HealthCheck{Probe: &padisv1.HealthCheck_Http{Http: h}}, Target{}, time.Second)
	})
}
