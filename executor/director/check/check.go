// Package check finds out which real servers a director reaches on the path that clients take: schedule and thresholds are
// those of executor/health, ways those of executor/director/plan. Edge: talks to real servers over TCP and HTTP, and to the
// kernel for their ways.
package check

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/health"
	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// atOnce is how many probes are made at one time.
	atOnce = 32
	// spread is the time over which the first probes of new servers are spread.
	spread = 250 * time.Millisecond
	// A port that was free when the way was found may not be: then another way is looked for.
	ways = 8
	// Marks that could not be led are tried again after so long.
	again = time.Second
)

// marker leads marks to hardware addresses: kernel.Marked.
type marker interface {
	Set(marks map[uint16]network.MAC) error
}

// Catcher is a dataplane that sees what the director itself sends to a VIP, as IPVS does, and so has to know of marks, too: what
// has one is for the real server with that address.
type Catcher interface {
	Mark(servers map[uint32]netip.Addr) error
}

// prober makes one probe by a way, with a mark if that is not 0.
type prober func(h *padisv1.HealthCheck, w plan.Way, mark uint16, timeout time.Duration) error

// Result is what is known of one server.
type Result struct {
	Reach plan.Reach
	// Message says what went wrong; only of Failing.
	Message string
}

// Checker checks the servers of one order at a time. Its methods may be called at the same time.
type Checker struct {
	log     *zap.Logger
	own     []netip.Addr
	marker  marker
	probe   prober
	changed chan struct{}
	end     chan struct{}
	ended   sync.WaitGroup
	slots   chan struct{}

	mu      sync.Mutex
	order   *plan.Order
	catcher Catcher
	checks  []*padisv1.HealthCheck
	servers map[string]*server
	// marked: the kernel leads the marks of all servers.
	marked bool
	retry  time.Time
	wake   chan struct{}
}

type server struct {
	id      string
	mac     lb.MAC
	address netip.Addr
	mark    uint16
	health  health.State
	Result
}

// New starts without servers. Own are the director's addresses; m is nil where marks cannot be led: checks then go to the real
// servers' own addresses.
func New(own []netip.Addr, m marker, log *zap.Logger) *Checker { return start(own, m, connect, log) }

func start(own []netip.Addr, m marker, p prober, log *zap.Logger) *Checker {
	c := &Checker{log: log, own: own, marker: m, probe: p, changed: make(chan struct{}, 1), end: make(chan struct{}), wake: make(chan struct{}, 1),
		slots: make(chan struct{}, atOnce), servers: map[string]*server{}}
	c.ended.Add(1)
	go c.run()
	return c
}

// Close ends the schedule. Probes that are out end within their timeouts.
func (c *Checker) Close() {
	close(c.end)
	c.ended.Wait()
}

// Changed receives after Results changed; several changes may be one.
func (c *Checker) Changed() <-chan struct{} { return c.changed }

// Results are those of all servers that are checked.
func (c *Checker) Results() map[string]Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]Result, len(c.servers))
	for id, s := range c.servers {
		out[id] = s.Result
	}
	return out
}

// Set says what is in force. Servers that serve, or are suspect and may come back, are checked; those that drain are not: nobody
// new comes to them. Servers that stay keep what is known of them, unless the checks are others. The catcher is nil if the
// dataplane is none.
func (c *Checker) Set(o *plan.Order, catcher Catcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	checks := o.Asked.GetChecks()
	if !slices.EqualFunc(checks, c.checks, func(a, b *padisv1.HealthCheck) bool { return proto.Equal(a, b) }) {
		c.servers = map[string]*server{}
	}
	c.marked = c.marked && c.catcher == catcher
	c.order, c.catcher, c.checks = o, catcher, checks
	wanted := map[string]bool{}
	rhythm := health.Checks(checks)
	now := time.Now()
	for _, s := range o.Servers {
		if len(checks) == 0 || s.State != lb.Serving && s.State != lb.Suspect {
			continue
		}
		wanted[s.ID] = true
		if x, ok := c.servers[s.ID]; ok && x.mac == s.MAC && x.address == s.Address {
			continue
		}
		c.servers[s.ID] = &server{id: s.ID, mac: s.MAC, address: s.Address, health: health.New(now.Add(rand.N(spread)), rhythm)}
		c.marked = false
	}
	for id := range c.servers {
		if !wanted[id] {
			delete(c.servers, id)
			c.marked = false
		}
	}
	c.lead(now)
	c.poke()
}

func (c *Checker) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// lead gives each server a mark, and has the kernel know them. The lock is held.
func (c *Checker) lead(now time.Time) {
	if c.marked || c.marker == nil || now.Before(c.retry) {
		return
	}
	used := map[uint16]bool{}
	for _, s := range c.servers {
		used[s.mark] = true
	}
	next := uint16(1)
	marks, addresses := make(map[uint16]network.MAC, len(c.servers)), make(map[uint32]netip.Addr, len(c.servers))
	for _, s := range c.servers {
		for s.mark == 0 && used[next] {
			next++
		}
		if s.mark == 0 {
			s.mark, used[next] = next, true
		}
		marks[s.mark] = network.MAC(s.mac)
		if s.address.IsValid() {
			addresses[uint32(s.mark)] = s.address
		}
	}
	err := c.marker.Set(marks)
	if err == nil && c.catcher != nil {
		err = c.catcher.Mark(addresses)
	}
	if err != nil {
		c.log.Warn("checks cannot take the path that clients take; until they can, they go to the real servers' own addresses", zap.Error(err))
		c.retry = now.Add(again)
		return
	}
	c.marked = true
}

func (c *Checker) run() {
	defer c.ended.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.end:
			return
		case <-c.wake:
		case <-timer.C:
		}
		if next := c.begin(time.Now()); !next.IsZero() {
			timer.Reset(time.Until(next))
		}
	}
}

// begin begins the probes that are due, and tells when the next ones are.
func (c *Checker) begin(now time.Time) (next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lead(now)
	for _, s := range c.servers {
		var due []int
		s.health, due = s.health.Begin(now)
		for _, i := range due {
			go c.one(s, i)
		}
		if n := s.health.Next(); !n.IsZero() && (next.IsZero() || n.Before(next)) {
			next = n
		}
	}
	if !c.marked && c.marker != nil && (next.IsZero() || c.retry.Before(next)) {
		next = c.retry
	}
	return next
}

// one makes one probe and takes its result in.
func (c *Checker) one(s *server, i int) {
	select {
	case c.slots <- struct{}{}:
	case <-c.end:
		return
	}
	err := c.try(s, i)
	<-c.slots
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers[s.id] != s {
		return // it left, or the checks are others
	}
	message := ""
	if err != nil {
		message = err.Error()
	}
	s.health = s.health.Result(time.Now(), i, err == nil, message)
	is := s.Result
	if _, why, failed := s.health.Failed(); failed {
		is = Result{plan.Failing, why}
	} else if s.health.Ready() {
		is = Result{Reach: plan.Reached}
	}
	if is != s.Result {
		s.Result = is
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}
	c.poke()
}

func (c *Checker) try(s *server, i int) (err error) {
	for range ways {
		c.mu.Lock()
		order, via, mark := c.order, c.marked, s.mark
		current := c.servers[s.id] == s
		var h *padisv1.HealthCheck
		var timeout time.Duration
		if current {
			h, timeout = c.checks[i], s.health.Check(i).Timeout
		}
		c.mu.Unlock()
		if !current {
			return nil
		}
		var w plan.Way
		if w, err = order.Way(s.id, port(h), c.own, via, rand.Uint64()); err != nil {
			return err
		}
		if !w.Marked {
			mark = 0
		}
		err = c.probe(h, w, mark, timeout)
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return err
		}
	}
	return err
}

func port(h *padisv1.HealthCheck) uint16 {
	if h.GetTcp() != nil {
		return uint16(h.GetTcp().GetPort())
	}
	return uint16(h.GetHttp().GetPort())
}
