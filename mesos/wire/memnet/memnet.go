// Package memnet is a network in memory, for tests of HTTP clients and servers in the made-up time of testing/synctest,
// which cannot follow what waits for a socket. Edge: talks to nobody outside the process.
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
)

// Network joins clients and servers. Its zero value has no servers.
type Network struct {
	mu    sync.Mutex
	hosts map[string]*host
}

// host is one address.
type host struct {
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *host) Addr() net.Addr  { return h }
func (h *host) Network() string { return "memory" }
func (h *host) String() string  { return h.addr }

// Dial connects to an address that is served, and is refused by all others.
func (n *Network) Dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[addr]
	n.mu.Unlock()
	refused := fmt.Errorf("dial %s: connection refused", addr)
	if h == nil {
		return nil, refused
	}
	ours, theirs := net.Pipe()
	select {
	case h.conns <- theirs:
		return ours, nil
	case <-h.done:
		return nil, refused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Serve puts a handler at an address until the function it returns takes it down, connections and all.
func (n *Network) Serve(addr string, handler http.Handler) (down func()) {
	h := &host{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	if n.hosts == nil {
		n.hosts = map[string]*host{}
	}
	n.hosts[addr] = h
	n.mu.Unlock()
	server := &http.Server{Handler: handler}
	go server.Serve(h)
	return func() {
		n.mu.Lock()
		if n.hosts[addr] == h {
			delete(n.hosts, addr)
		}
		n.mu.Unlock()
		server.Close()
	}
}
