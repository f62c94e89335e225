package images

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy stands between us and a registry, and is as bad a network as a test wants.
type proxy struct {
	listener net.Listener
	target   string
	// gate is closed when answers may pass.
	gate chan struct{}
	// passed counts the bytes of all answers.
	passed atomic.Int64
	// limit is how many may pass before atLimit says what happens; 0 is no limit.
	limit   atomic.Int64
	atLimit func()

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// startProxy passes everything on until told otherwise.
func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, gate: make(chan struct{}), conns: map[net.Conn]bool{}}
	t.Cleanup(p.die)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer up.Close()
	p.mu.Lock()
	p.conns[c] = true
	p.mu.Unlock()
	go io.Copy(up, c)
	buf := make([]byte, 4096)
	for {
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		<-p.gate
		if limit := p.limit.Load(); limit > 0 && p.passed.Load() > limit && p.atLimit != nil {
			p.atLimit()
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
		p.passed.Add(int64(n))
	}
}

// cut ends all connections; new ones may come.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
		delete(p.conns, c)
	}
}

// die ends everything.
func (p *proxy) die() {
	p.listener.Close()
	p.cut()
}
