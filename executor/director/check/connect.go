package check

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/health/probe"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// connect makes a probe by a way, from the network namespace that the process is in.
func connect(h *padisv1.HealthCheck, w plan.Way, mark uint16, timeout time.Duration) error {
	if h.GetTcp() == nil && h.GetHttp() == nil {
		return errors.New("the check has no probe that directors can make: set tcp or http")
	}
	return probe.New(sockets{w.From, mark}).Probe(h, probe.Target{Address: w.To.Addr()}, timeout)
}

// sockets opens sockets with a mark and a source.
type sockets struct {
	from netip.AddrPort
	mark uint16
}

// StreamSocket is for IPv4, StreamSocket6 for IPv6. The namespace is that of the process.
func (s sockets) StreamSocket(int) (int, error)  { return s.open(unix.AF_INET) }
func (s sockets) StreamSocket6(int) (int, error) { return s.open(unix.AF_INET6) }

func (s sockets) open(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("TCP socket: %w", err)
	}
	if err := s.prepare(fd, family); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s sockets) prepare(fd, family int) error {
	if s.mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(s.mark)); err != nil {
			return os.NewSyscallError("mark a socket", err)
		}
	}
	if !s.from.IsValid() {
		return nil
	}
	// Ports of connections that have just ended may be used again.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("SO_REUSEADDR", err)
	}
	var from unix.Sockaddr = &unix.SockaddrInet6{Port: int(s.from.Port()), Addr: s.from.Addr().As16()}
	if family == unix.AF_INET {
		from = &unix.SockaddrInet4{Port: int(s.from.Port()), Addr: s.from.Addr().As4()}
	}
	if err := unix.Bind(fd, from); err != nil {
		return fmt.Errorf("send from %s: %w", s.from, err)
	}
	return nil
}
