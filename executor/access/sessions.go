package access

import (
	"net"
	"sync"
)

// sessions are the connections that are no longer the HTTP server's.
type sessions struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
	ended  sync.WaitGroup
}

// add keeps a connection until the function that it returns is called.
func (s *sessions) add(c net.Conn) func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[net.Conn]struct{}{}
	}
	if s.closed {
		_ = c.Close()
		return func() {}
	}
	s.open[c] = struct{}{}
	s.ended.Add(1)
	return func() {
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
		s.ended.Done()
	}
}

// wait closes all connections and waits until nobody uses them.
func (s *sessions) wait() {
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.ended.Wait()
}
