package sourcetest

import (
	"net"
	"sync"
	"testing"
)

// gate is a listener that can be shut and opened again at the same address. While it is shut, whoever connects is cut off.
type gate struct {
	net.Listener
	mu   sync.Mutex
	shut bool
	open map[net.Conn]bool
}

func listen(t testing.TB) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &gate{Listener: l, open: map[net.Conn]bool{}}
}

// Accept waits for a connection that may stay.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		g.mu.Lock()
		if !g.shut {
			g.open[c] = true
			g.mu.Unlock()
			return &passed{c, g}, nil
		}
		g.mu.Unlock()
		cut(c)
	}
}

// cut ends a connection so that the other side sees an error and not an end.
func cut(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// stop cuts off all who are connected, and all who come.
func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.open {
		cut(c)
	}
	clear(g.open)
}

// start lets them in again.
func (g *gate) start() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// passed is a connection that the gate has let in.
type passed struct {
	net.Conn
	gate *gate
}

func (p *passed) Close() error {
	p.gate.mu.Lock()
	delete(p.gate.open, p.Conn)
	p.gate.mu.Unlock()
	return p.Conn.Close()
}
