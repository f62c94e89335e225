// Package udp watches routers by BFD (RFC 5881): it is the loop around the sessions of package bfd. Edge: talks UDP.
//
// One goroutine does everything. It keeps a thread for itself, which waits for packets and for a kernel timer, and asks the
// kernel for real-time scheduling (SCHED_RR, lowest priority), else for a better nice value, else goes on as it is: what it does
// takes microseconds a second, and doing it late is a false death. It shares nothing with other goroutines but whole values.
package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb/bfd"
)

// Status is how it stands with one router.
type Status struct {
	Peer netip.Addr
	// Own address of the session; invalid while there is none.
	Local netip.Addr
	State bfd.State
	Since time.Time
	// The silence after which the router counts as dead; 0 while nothing is heard of it.
	Detection time.Duration
	// Why it is not up, and what to look at; empty if it is.
	Message string
}

// Sessions are those of a host, or of the network namespace that its process is in.
type Sessions struct {
	set     sync.Mutex
	inbox   atomic.Pointer[request]
	wake    int
	views   atomic.Pointer[map[netip.Addr]Status]
	changed chan struct{}
	ended   chan struct{}
}

// request is what the loop is told: the peers, or to end.
type request struct {
	peers []bfd.Peer
	end   bool
	done  chan struct{}
}

// New starts without peers.
func New(log *zap.Logger) (*Sessions, error) {
	s := &Sessions{changed: make(chan struct{}, 1), ended: make(chan struct{})}
	s.views.Store(&map[netip.Addr]Status{})
	l, err := newLoop(s, log)
	if err != nil {
		return nil, fmt.Errorf("bfd: %w", err)
	}
	s.wake = l.wake
	go l.run()
	return s, nil
}

// Set says all peers that are to be watched. Sessions of peers that stay go on, with new times if these changed; a peer that
// goes is told (AdminDown), which is no death to it. A peer that cannot be watched yet, for example because the address of this
// host is not there, is tried again each second; State says why.
func (s *Sessions) Set(peers []bfd.Peer) error {
	n, err := bfd.Normal(peers)
	if err != nil {
		return err
	}
	return s.tell(&request{peers: n, done: make(chan struct{})})
}

// State is how it stands with a peer; false if it is not among those of Set.
func (s *Sessions) State(peer netip.Addr) (Status, bool) {
	x, ok := (*s.views.Load())[peer]
	return x, ok
}

// Changed receives after a State changed; several changes may be one.
func (s *Sessions) Changed() <-chan struct{} { return s.changed }

// Close tells all peers AdminDown, and ends. A process that ends without it looks dead to its routers, as it should.
func (s *Sessions) Close() {
	_ = s.tell(&request{end: true, done: make(chan struct{})})
	<-s.ended
}

var errClosed = errors.New("bfd: the sessions are closed")

func (s *Sessions) tell(r *request) error {
	s.set.Lock()
	defer s.set.Unlock()
	select {
	case <-s.ended:
		return errClosed // and its descriptors are no longer ours
	default:
	}
	s.inbox.Store(r)
	one := [8]byte{1}
	if _, err := unix.Write(s.wake, one[:]); err != nil {
		return fmt.Errorf("bfd: wake the loop: %w", err)
	}
	select {
	case <-r.done:
		return nil
	case <-s.ended:
		return errClosed
	}
}
