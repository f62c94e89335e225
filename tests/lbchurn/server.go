package lbchurn

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"padis.io/padis/executor/lb"
)

// Server is a real server: an instance that echoes what clients say, after its own name.
type Server struct {
	ID    string
	f     *Farm
	place *place
	// Under the farm's lock.
	state  lb.State
	weight uint32

	mu        sync.Mutex
	listeners []io.Closer
	conns     map[net.Conn]bool
	// Its connections may end: it was told to, or has.
	left bool
}

var errFull = errors.New("no place is left for a real server: give more hosts or places")

// Serve starts a real server; it is in rotation when the tables are settled.
func (f *Farm) Serve() (*Server, error) {
	f.mu.Lock()
	var p *place
	for _, q := range f.places {
		// The newest place first would be that of the last who left: go round.
		if !q.used && (p == nil || (q.number-firstServer+len(f.places)-f.born%len(f.places))%len(f.places) <
			(p.number-firstServer+len(f.places)-f.born%len(f.places))%len(f.places)) {
			p = q
		}
	}
	if p == nil {
		f.mu.Unlock()
		return nil, errFull
	}
	p.used = true
	f.born++
	s := &Server{ID: fmt.Sprintf("s%d-%d", p.number, f.born), f: f, place: p, weight: 1, conns: map[net.Conn]bool{}}
	f.mu.Unlock()
	if err := in(p.ns, s.listen); err != nil {
		s.close()
		return nil, fmt.Errorf("real server %s: %w", s.ID, err)
	}
	f.mu.Lock()
	f.servers[s.ID] = s
	f.mu.Unlock()
	f.Changed()
	return s, nil
}

func (s *Server) listen() error {
	for _, vip := range []netip.Addr{VIP4, VIP6} {
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(vip, port)))
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, l)
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				go s.echo(c)
			}
		}()
	}
	u, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(VIP4, port)))
	if err != nil {
		return err
	}
	_ = u.SetReadBuffer(8 << 20)
	s.listeners = append(s.listeners, u)
	go s.f.count(u)
	return nil
}

// echo answers each message with itself.
func (s *Server) echo(c *net.TCPConn) {
	s.mu.Lock()
	if s.left {
		s.mu.Unlock()
		c.Close()
		return
	}
	s.conns[c] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	if _, err := fmt.Fprintf(c, "%-32s", s.ID); err != nil {
		return
	}
	r := bufio.NewReaderSize(c, 2048)
	var message []byte
	for seq := uint64(0); ; seq++ {
		var head [12]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > maxMessage || binary.BigEndian.Uint64(head[4:]) != seq {
			return // the client counts it
		}
		message = append(message[:0], head[:]...)
		message = append(message, make([]byte, size)...)
		if _, err := io.ReadFull(r, message[12:]); err != nil {
			return
		}
		if _, err := c.Write(message); err != nil {
			return
		}
	}
}

// Connections that it has now.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Left tells whether its connections may end.
func (s *Server) Left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left
}

// End ends it as its process would end: listeners and connections close. Then it is taken out of all tables. It returns when
// its place is free.
func (s *Server) End() {
	s.close()
	s.f.mu.Lock()
	delete(s.f.servers, s.ID)
	s.f.mu.Unlock()
	s.f.Changed()
	s.f.awaitGone(s.ID)
	s.f.mu.Lock()
	s.place.used = false
	s.f.mu.Unlock()
}

func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = true
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
}
