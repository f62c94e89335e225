package local

import (
	"context"
	"net"
	"sync"
)

// network is a loopback in memory: with it a whole cluster runs in a bubble of synctest, in which time passes only
// when everybody waits.
type network struct {
	mu        sync.Mutex
	listeners map[string]*memoryListener
	frozen    map[string]*gate
}

func newNetwork() *network {
	return &network{listeners: map[string]*memoryListener{}, frozen: map[string]*gate{}}
}

// gate stops all traffic of one host while it is closed, as SIGSTOP does.
type gate struct {
	mu     sync.Mutex
	cond   *sync.Cond
	closed bool
}

func newGate() *gate { g := &gate{}; g.cond = sync.NewCond(&g.mu); return g }

func (g *gate) pass() {
	g.mu.Lock()
	for g.closed {
		g.cond.Wait()
	}
	g.mu.Unlock()
}

func (g *gate) set(closed bool) {
	g.mu.Lock()
	g.closed = closed
	g.mu.Unlock()
	g.cond.Broadcast()
}

func (n *network) gate(address string) *gate {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.frozen[address] == nil {
		n.frozen[address] = newGate()
	}
	return n.frozen[address]
}

type memoryListener struct {
	n       *network
	address string
	accept  chan net.Conn
	once    sync.Once
	done    chan struct{}
}

func (n *network) listen(address string) (net.Listener, error) {
	l := &memoryListener{n: n, address: address, accept: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	n.listeners[address] = l
	n.mu.Unlock()
	return l, nil
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		l.n.mu.Lock()
		if l.n.listeners[l.address] == l {
			delete(l.n.listeners, l.address)
		}
		l.n.mu.Unlock()
		close(l.done)
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return memoryAddr(l.address) }

type memoryAddr string

func (memoryAddr) Network() string  { return "tcp" }
func (a memoryAddr) String() string { return string(a) }

// dialFrom makes the Dial function of a host; from is the address of its own listener, or empty.
func (n *network) dialFrom(from string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		n.mu.Lock()
		l := n.listeners[address]
		n.mu.Unlock()
		refused := &net.OpError{Op: "dial", Net: "tcp", Addr: memoryAddr(address), Err: net.ErrClosed}
		if l == nil {
			return nil, refused
		}
		near, far := net.Pipe()
		select {
		case l.accept <- &gatedConn{far, n.gate(address)}:
			if from != "" {
				return &gatedConn{near, n.gate(from)}, nil
			}
			return near, nil
		case <-l.done:
			return nil, refused
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// gatedConn is a connection whose near end belongs to a host that can be frozen.
type gatedConn struct {
	net.Conn
	gate *gate
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.pass()
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.gate.pass()
	return c.Conn.Write(b)
}
