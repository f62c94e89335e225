// Package probe makes single health probes: it opens connections from within an instance's own network namespace, from
// and to the instance's own address, because the host need not have a route there; and it has commands run in the
// instance. Edge: talks to instances over TCP and HTTP.
package probe

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// bodyLimit bounds how much of a body is searched for the expected text.
const bodyLimit = 1 << 20

// excerpt bounds how much of an unexpected answer is shown.
const excerpt = 120

// sockets opens non-blocking TCP sockets, of IPv4 and IPv6, in a network namespace that is open as a file descriptor.
type sockets interface {
	StreamSocket(namespace int) (int, error)
	StreamSocket6(namespace int) (int, error)
}

// Prober makes probes.
type Prober struct{ sockets sockets }

// New takes what opens sockets.
func New(s sockets) Prober { return Prober{s} }

// Target is the instance to be probed.
type Target struct {
	// Namespace is its network namespace, open as this file descriptor until the probe returns.
	Namespace int
	// Address to connect to; its loopback if it has none.
	Address netip.Addr
	// Run runs a command in it.
	Run func(command []string, timeout time.Duration) (runtime.Output, error)
}

// Probe makes the probe that a check describes. An error says, for people, in what way it failed.
func (p Prober) Probe(h *padisv1.HealthCheck, t Target, timeout time.Duration) error {
	if !t.Address.IsValid() {
		t.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	deadline := time.Now().Add(timeout)
	switch {
	case h.GetTcp() != nil:
		c, err := p.dial(t, h.GetTcp().GetPort(), deadline)
		if err != nil {
			return err
		}
		return c.Close()
	case h.GetHttp() != nil:
		return p.http(h.GetHttp(), t, deadline)
	case h.GetCommand() != nil:
		return command(h.GetCommand().GetCommand(), t, timeout)
	}
	return errors.New("the check has no probe; set one of tcp, http and command")
}

func command(argv []string, t Target, timeout time.Duration) error {
	out, err := t.Run(argv, timeout)
	switch {
	case err != nil:
		return err
	case out.TimedOut:
		return fmt.Errorf("command %s took longer than %s", argv[0], timeout)
	case out.Code != 0 || out.Signal != "":
		return fmt.Errorf("command %s %s: %s", argv[0], out.Exit, short(out.Text))
	}
	return nil
}

func (p Prober) dial(t Target, port int32, deadline time.Time) (net.Conn, error) {
	to := netip.AddrPortFrom(t.Address, uint16(port))
	c, err := p.connect(t.Namespace, to, deadline)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", to, err)
	}
	return c, nil
}

// Dial connects to an address from within a network namespace.
func (p Prober) Dial(namespace int, to netip.AddrPort, timeout time.Duration) (net.Conn, error) {
	c, err := p.connect(namespace, to, time.Now().Add(timeout))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.New("no answer in time")
	}
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}

func (p Prober) connect(namespace int, to netip.AddrPort, deadline time.Time) (net.Conn, error) {
	open, address := p.sockets.StreamSocket6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
	if a := to.Addr().Unmap(); a.Is4() {
		open, address = p.sockets.StreamSocket, &unix.SockaddrInet4{Port: int(to.Port()), Addr: a.As4()}
	}
	fd, err := open(namespace)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, address)
	f := os.NewFile(uintptr(fd), to.String())
	defer f.Close() // FileConn has its own copy
	if err != nil && err != unix.EINPROGRESS {
		return nil, err
	}
	if err == unix.EINPROGRESS {
		if err := f.SetDeadline(deadline); err != nil {
			return nil, err
		}
		if err := awaitConnected(f); err != nil {
			return nil, err
		}
	}
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(deadline)
}

// awaitConnected waits until a connection that is in progress is made, or has failed (connect(2), EINPROGRESS).
func awaitConnected(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Write(func(fd uintptr) bool {
		if _, err := unix.Getpeername(int(fd)); err == nil {
			return true
		}
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && code != 0 {
			err = unix.Errno(code)
		}
		failed = err
		return failed != nil
	})
	return errors.Join(failed, err)
}

// http makes one GET on a connection of its own. Redirects are answers like any other: they are not followed.
func (p Prober) http(h *padisv1.HttpProbe, t Target, deadline time.Time) error {
	path := h.GetPath()
	if path == "" {
		path = "/"
	}
	req, err := http.NewRequest(http.MethodGet, "http://"+net.JoinHostPort(t.Address.String(), strconv.Itoa(int(h.GetPort())))+path, nil)
	if err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	req.Close = true
	req.Header.Set("User-Agent", "padis-executor")
	for k, v := range h.GetHeaders() {
		if http.CanonicalHeaderKey(k) == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	c, err := p.dial(t, h.GetPort(), deadline)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := req.Write(c); err != nil {
		return fmt.Errorf("GET %s: %w", req.URL, readable(err))
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(io.LimitReader(c, 2*bodyLimit), 4096), req)
	if err != nil {
		return fmt.Errorf("GET %s: %w", req.URL, readable(err))
	}
	defer resp.Body.Close()
	if !expected(h.GetStatuses(), resp.StatusCode) {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, excerpt+1))
		return fmt.Errorf("GET %s: status %d, expected %s: %s", req.URL, resp.StatusCode, statuses(h.GetStatuses()), short(string(b)))
	}
	if h.GetBodyContains() == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if bytes.Contains(body, []byte(h.GetBodyContains())) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("GET %s: %w", req.URL, readable(err))
	}
	return fmt.Errorf("GET %s: the body does not contain %q, but is %s", req.URL, h.GetBodyContains(), short(string(body)))
}

func expected(want []int32, got int) bool {
	if len(want) == 0 {
		return got >= 200 && got < 400
	}
	return slices.Contains(want, int32(got))
}

func statuses(want []int32) string {
	if len(want) == 0 {
		return "200 to 399"
	}
	return strings.Trim(fmt.Sprint(want), "[]")
}

func readable(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errors.New("the connection was closed before the answer was whole")
	}
	return err
}

func short(s string) string {
	s = strings.ToValidUTF8(strings.TrimSpace(s), "?")
	if len(s) > excerpt {
		s = strings.ToValidUTF8(s[:excerpt], "") + "..."
	}
	return strconv.Quote(s)
}
