package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serve has a real server answer each line that begins with a number by so many bytes and a line with its name and the client's
// address, echo datagrams after the same words, and note whose datagrams it discards.
func (m *machine) serve() {
	m.s.t.Helper()
	var listeners []net.Listener
	m.do(func() error {
		for _, port := range []int{tcpPort, 8000, 8001, 8002, 8003, 8004} {
			l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
		}
		return nil
	})
	for _, l := range listeners {
		m.s.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go m.answer(c)
			}
		}()
	}
	for _, vip := range vips {
		m.datagrams(netip.AddrPortFrom(vip, echoPort), func(c *net.UDPConn, from netip.AddrPort, b []byte) {
			c.WriteToUDPAddrPort(append(fmt.Appendf(nil, "%s %s\n", m.name, from), b...), from)
		})
		m.datagrams(netip.AddrPortFrom(vip, discardPort), func(_ *net.UDPConn, from netip.AddrPort, b []byte) {
			m.s.seen.mu.Lock()
			defer m.s.seen.mu.Unlock()
			if len(b) != 2 || binary.BigEndian.Uint16(b) != m.s.seen.round {
				return
			}
			if before, ok := m.s.seen.by[from]; ok && before != m.name {
				m.s.t.Errorf("%s went to %s, then to %s", from, before, m.name)
			}
			m.s.seen.by[from] = m.name
		})
	}
}

func (m *machine) answer(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		var n int64
		fmt.Sscan(line, &n)
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		if _, err := io.CopyN(c, zeros{}, n); err != nil {
			return
		}
		fmt.Fprintf(c, "%s %s\n", m.name, from)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func (m *machine) datagrams(at netip.AddrPort, each func(*net.UDPConn, netip.AddrPort, []byte)) {
	m.s.t.Helper()
	var c *net.UDPConn
	m.do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	m.s.t.Cleanup(func() { c.Close() })
	raw, err := c.SyscallConn()
	m.s.must(err)
	m.s.must(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20) }))
	m.s.must(err)
	go func() {
		for b := make([]byte, 64<<10); ; {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				each(c, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), b[:n])
			}
		}
	}()
}

// conn is a connection of the client.
type conn struct {
	net.Conn
	r  *bufio.Reader
	at netip.AddrPort
	// holder is the real server that has it.
	holder string
}

func (s *site) try(to netip.AddrPort, from netip.AddrPort, patience time.Duration) (*conn, error) {
	s.t.Helper()
	return s.tryAs(s.client, to, from, patience, 0)
}

// tryAs connects from a machine, with a mark.
func (s *site) tryAs(m *machine, to netip.AddrPort, from netip.AddrPort, patience time.Duration, mark uint32) (*conn, error) {
	s.t.Helper()
	var c *conn
	var failed error
	m.do(func() error {
		d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) (err error) {
			if mark == 0 {
				return nil
			}
			if failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) }); failed != nil {
				return failed
			}
			return err
		}}
		if from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(from)
		}
		raw, err := d.Dial("tcp", to.String())
		if failed = err; err != nil {
			return nil
		}
		// Closed by a reset, so that the port is free at once.
		failed = raw.(*net.TCPConn).SetLinger(0)
		at := raw.LocalAddr().(*net.TCPAddr).AddrPort()
		c = &conn{Conn: raw, r: bufio.NewReader(raw), at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port())}
		return nil
	})
	if failed == nil {
		s.t.Cleanup(func() { c.Close() })
	}
	return c, failed
}

// dial connects to a VIP and asks who serves.
func (s *site) dial(to netip.AddrPort) *conn {
	s.t.Helper()
	c, err := s.try(to, netip.AddrPort{}, patience())
	if err != nil {
		s.t.Fatalf("connect to %s: %v", to, err)
	}
	if c.holder, err = c.ask(0); err != nil {
		s.t.Fatalf("%s of %s: %v", to, c.at, err)
	}
	return c
}

// ask sends a request of several packets, gets so many bytes, and then who serves. The server must see the client's address.
func (c *conn) ask(bytes int64) (string, error) {
	if err := c.SetDeadline(time.Now().Add(patience())); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%-4000d\n", bytes); err != nil {
		return "", err
	}
	if _, err := io.CopyN(io.Discard, c.r, bytes); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	name, from, _ := strings.Cut(strings.TrimSpace(line), " ")
	if from != c.at.String() {
		return "", fmt.Errorf("the server sees the client %s as %s", c.at, from)
	}
	return name, nil
}

// stays asks each connection, and complains of those that others than their holders answer, or nobody.
func (s *site) stays(when string, conns []*conn) {
	s.t.Helper()
	for _, c := range conns {
		if name, err := c.ask(0); err != nil || name != c.holder {
			s.t.Errorf("%s, the connection %s to %s of %s: %q, %v", when, c.at, c.RemoteAddr(), c.holder, name, err)
		}
	}
}

// echo sends a datagram of so many bytes and returns who answered. It is sent again while no answer comes.
func (s *site) echo(to netip.AddrPort, bytes int) string {
	s.t.Helper()
	var c *net.UDPConn
	s.client.do(func() (err error) {
		c, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
		return err
	})
	defer c.Close()
	request, answer := make([]byte, bytes), make([]byte, 64<<10)
	for deadline := time.Now().Add(patience()); time.Now().Before(deadline); {
		if _, err := c.Write(request); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
			s.t.Fatalf("datagram to %s: %v", to, err)
		}
		s.must(c.SetReadDeadline(time.Now().Add(time.Second)))
		n, err := c.Read(answer)
		if err != nil {
			continue
		}
		line, rest, _ := strings.Cut(string(answer[:n]), "\n")
		name, from, _ := strings.Cut(line, " ")
		if at := c.LocalAddr().String(); from != at || len(rest) != bytes {
			s.t.Errorf("the server sees the client %s as %s, and %d bytes of %d", at, from, len(rest), bytes)
		}
		return name
	}
	s.t.Fatalf("no answer from %s to a datagram of %d bytes", to, bytes)
	return ""
}

// place sends a datagram from each of these clients to be discarded and returns which real servers got them.
func (s *site) place(vip netip.Addr, from []netip.AddrPort) map[netip.AddrPort]string {
	s.t.Helper()
	s.seen.mu.Lock()
	s.seen.by = map[netip.AddrPort]string{}
	s.seen.round++
	round := s.seen.round
	s.seen.mu.Unlock()
	family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(vip.AsSlice())})
	if vip.Is6() {
		family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: vip.As16()}
	}
	fd := -1
	s.client.do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	defer unix.Close(fd)
	// Few at a time, so that none is lost but to who is slow; what is lost is sent again.
	arrived := func() int {
		s.seen.mu.Lock()
		defer s.seen.mu.Unlock()
		return len(s.seen.by)
	}
	for start := 0; start < len(from); start += 500 {
		part := from[start:min(start+500, len(from))]
		var last time.Time
		s.until(func() string { return fmt.Sprintf("%d of %d datagrams to %s arrive", arrived(), start+len(part), vip) }, func() bool {
			if time.Since(last) > time.Second {
				for _, f := range part {
					s.seen.mu.Lock()
					_, there := s.seen.by[f]
					s.seen.mu.Unlock()
					if !there {
						s.must(unix.Sendto(fd, datagram(f, netip.AddrPortFrom(vip, discardPort), round), 0, to))
					}
				}
				last = time.Now()
			}
			return arrived() == start+len(part)
		})
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return s.seen.by
}

// datagram is a packet with a number.
func datagram(from, to netip.AddrPort, number uint16) []byte {
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(append(udp, 0, 10, 0, 0), number)
	pseudo := append(append([]byte{}, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	pseudo = append(append(pseudo, 0, unix.IPPROTO_UDP, 0, 10), udp...)
	sum := uint32(0)
	for i := 0; i < len(pseudo); i += 2 {
		sum += uint32(pseudo[i])<<8 | uint32(pseudo[i+1])
	}
	sum = sum>>16 + sum&0xffff
	sum += sum >> 16
	check := ^uint16(sum)
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	var ip []byte
	if from.Addr().Is4() {
		ip = []byte{0x45, 0, 0, 30, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0} // the kernel fills in the checksum
	} else {
		ip = []byte{0x60, 0, 0, 0, 0, 10, unix.IPPROTO_UDP, 64}
	}
	ip = append(append(ip, from.Addr().AsSlice()...), to.Addr().AsSlice()...)
	return append(ip, udp...)
}
