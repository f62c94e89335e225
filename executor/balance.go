package executor

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/relay"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Relay sends on what belongs to real servers of other hosts, and what belongs to those of this one. Wait returns when the State
// of a generation is in force.
type Relay interface {
	Set(relay.State) uint64
	Wait(ctx context.Context, generation uint64) error
	Done() map[string]relay.Done
	Changed() <-chan struct{}
}

const (
	// gatherTime bounds how long nothing of what an earlier executor put in force is changed, while not all load balancers are
	// known that it knew: each comes in a message of its own.
	gatherTime = 3 * time.Second
	// relayRetry is when it is tried again what could not be put in force.
	relayRetry = 5 * time.Second
	// balancePause is the least time between two messages about directors.
	balancePause = 50 * time.Millisecond
	// noRelay is what it means that a host does not relay.
	noRelay = "This executor does not relay. Directors reach the real servers of this host, but a change may break their connections."
)

// balancing is what the executor knows of load balancers. It belongs to the loop.
type balancing struct {
	// balances are for the real servers of this host, orders for directors here; both by uid.
	balances map[string]*balance
	orders   map[string]*padisv1.Balance
	// listed are those that the scheduler has for this host, once it has said so. gathered: all of them were here once.
	listed   []string
	heard    bool
	gathered bool
	// relaying: what is known is being put in force; relayAgain: something has changed since. relayAt is when it is looked again.
	relaying, relayAgain bool
	relayAt              time.Time
	// relayFailed is why nothing could be put in force.
	relayFailed string
	// forcing is held by whoever puts something in force; forced: that was the last.
	forcing sync.Mutex
	forced  bool
}

// balance is a Balance that was told.
type balance struct {
	number int64
	// body is what is needed of it to relay, encoded. addresses are those of its real servers, by container.
	body      []byte
	addresses map[string]netip.Addr
}

func newBalancing() *balancing {
	return &balancing{balances: map[string]*balance{}, orders: map[string]*padisv1.Balance{}}
}

// balance takes what the scheduler says of one load balancer. It says it again until it hears that it is in force.
func (e *Executor) balance(now time.Time, b *padisv1.Balance) {
	e.said = nil // the answer may be what was said before: then the scheduler has not heard it
	if b.GetDirector() != nil {
		if !e.order(b) {
			e.tellBalances(now)
		}
		return
	}
	have := e.balances[b.GetUid()]
	fresh := have == nil || have.number < b.GetNumber()
	if fresh {
		e.balances[b.GetUid()] = e.understand(b)
		e.relay(now)
	}
	// What is new is told when it is in force.
	if !fresh || e.Relay == nil {
		e.tellBalances(now)
	}
}

func (e *Executor) understand(b *padisv1.Balance) *balance {
	out := &balance{number: b.GetNumber(), addresses: map[string]netip.Addr{}}
	for _, s := range b.GetServers() {
		a, err := netip.ParseAddr(s.GetAddress())
		if err != nil {
			e.Log.Error("a real server has no address; this is a bug of the scheduler", zap.String("balancer", b.GetName()), zap.String("server", s.GetId()), zap.Error(err))
			continue
		}
		out.addresses[s.GetId()] = a.Unmap()
	}
	var err error
	out.body, err = padisv1.Encode(&padisv1.Balance{Uid: b.GetUid(), Number: b.GetNumber(), Namespace: b.GetNamespace(), Name: b.GetName(), Services: b.GetServices(), Tcp: b.GetTcp()})
	if err != nil {
		e.Log.Error("a message cannot be encoded; this is a bug", zap.Error(err))
	}
	return out
}

// list takes the whole lists of load balancers; what is here of others is dropped. Directors keep what they have until they end.
func (e *Executor) list(now time.Time, balancers, directed []string) {
	maps.DeleteFunc(e.orders, func(uid string, _ *padisv1.Balance) bool { return !slices.Contains(directed, uid) && !e.directs(uid) })
	before := len(e.balances)
	maps.DeleteFunc(e.balances, func(uid string, _ *balance) bool { return !slices.Contains(balancers, uid) })
	e.listed = balancers
	// The first time there may be something to be taken away that an earlier executor left.
	if first := !e.heard; first || len(e.balances) != before {
		e.heard = true
		e.relay(now)
	}
}

// gather tells whether all load balancers are known that there are, or were waited for long enough.
func (e *Executor) gather(now time.Time) bool {
	missing := slices.ContainsFunc(e.listed, func(uid string) bool { return e.balances[uid] == nil })
	switch {
	case e.gathered, e.heard && !missing:
		e.gathered = true
	case e.relayAt.IsZero():
		e.relayAt = now.Add(gatherTime)
	case !now.Before(e.relayAt):
		e.gathered = true
	}
	return e.gathered
}

// concerned tells whether an instance is a real server of a load balancer.
func (e *Executor) concerned(container string) bool {
	for _, b := range e.balances {
		if _, ok := b.addresses[container]; ok {
			return true
		}
	}
	return false
}

// relay puts what is known in force, without making anybody wait.
func (e *Executor) relay(now time.Time) {
	if e.Relay == nil {
		return
	}
	if e.relaying {
		e.relayAgain = true
		return
	}
	if !e.gather(now) {
		return
	}
	e.relaying, e.relayAgain, e.relayAt = true, false, time.Time{}
	w := e.servers()
	go func() {
		err := e.force(w)
		e.post(func(now time.Time) { e.relayed(now, err) })
	}()
}

func (e *Executor) relayed(now time.Time, err error) {
	e.relaying, e.relayFailed = false, ""
	if err != nil {
		e.Log.Error("what belongs to other real servers is not sent on", zap.Error(err))
		e.relayFailed = err.Error()
		e.relayAt = now.Add(relayRetry)
		e.tellBalances(now)
	}
	if e.relayAgain {
		e.relay(now)
	}
}

// served are the real servers of this host, and the load balancers.
type served struct {
	state   relay.State
	servers []server
}

// server is an instance, and the addresses by which directors reach it.
type server struct {
	l         *life
	ns        int
	addresses []netip.Addr
}

// servers looks who there is. Containers of an earlier executor that are not taken over yet relay already.
func (e *Executor) servers() served {
	w := served{state: relay.State{Pins: relay.PinsOf(e.Host.State, e.Host.Owner), Partial: !e.knows()}}
	for _, uid := range slices.Sorted(maps.Keys(e.balances)) {
		b := e.balances[uid]
		w.state.Balances = append(w.state.Balances, relay.Balance{UID: uid, Number: b.number, Body: b.body})
	}
	for _, l := range e.lives {
		if p := l.state.Phase; p < instance.Launching || p >= instance.Killing || l.namespace() < 0 {
			continue
		}
		s := server{l: l, ns: l.namespace()}
		for _, b := range e.balances {
			if a, ok := b.addresses[l.plan.Container]; ok && !slices.Contains(s.addresses, a) {
				s.addresses = append(s.addresses, a)
			}
		}
		if len(s.addresses) > 0 {
			l.probes.Add(1) // its namespace stays open
			w.servers = append(w.servers, s)
		}
	}
	for c := range e.found {
		if l := e.holder(c); e.concerned(c) && (l == nil || l.state.Phase < instance.Running) {
			w.state.Partial = true
		}
	}
	return w
}

// force has the host relay for these servers. One that ends meanwhile is left out, and it is looked again.
func (e *Executor) force(w served) error {
	var segments []network.Segment
	bridges := map[int]string{}
	for _, s := range w.servers {
		interfaces := s.l.reached(s.addresses)
		for _, x := range interfaces {
			p, err := e.Network.RelayPort(s.ns, x.itf.Host)
			if err != nil {
				e.Log.Warn("an instance does not relay; has it ended?", zap.String("container", s.l.plan.Container), zap.Error(err))
				continue
			}
			segments = append(segments, x.segment)
			bridges[p.Index] = x.segment.Bridge
			w.state.Ports = append(w.state.Ports, relay.Port{Index: p.Index, MAC: x.itf.MAC, Netns: p.Netns})
		}
		s.l.probes.Done()
	}
	e.forcing.Lock()
	defer e.forcing.Unlock()
	if e.forced {
		return nil
	}
	slices.SortFunc(w.state.Ports, func(a, b relay.Port) int { return a.Index - b.Index })
	outs, err := e.Network.SetRelays(segments, !w.state.Partial)
	if err != nil {
		return err
	}
	for i := range w.state.Ports {
		p := &w.state.Ports[i]
		p.Out = outs[bridges[p.Index]]
	}
	e.Relay.Set(w.state)
	return nil
}

// wired is an interface, and the segment that it is in.
type wired struct {
	itf     network.Interface
	segment network.Segment
}

// reached are the interfaces that have one of these addresses, as far as there is an Ethernet segment to relay in.
func (l *life) reached(addresses []netip.Addr) []wired {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	var out []wired
	if !l.wire.attached {
		return nil
	}
	for _, a := range addresses {
		i, s, ok := l.wire.wanted.Reached(a)
		if ok && s.Relays() && !slices.ContainsFunc(out, func(w wired) bool { return w.itf.Host == i.Host }) {
			out = append(out, wired{i, s})
		}
	}
	return out
}

// relayEnd has nothing relayed any more when everything has ended, and nothing goes on without us.
func (e *Executor) relayEnd(ctx context.Context) {
	if e.Relay == nil || len(e.balances) == 0 || !e.knows() || len(e.orphans()) > 0 {
		return
	}
	e.forcing.Lock()
	defer e.forcing.Unlock()
	e.forced = true
	generation := e.Relay.Set(relay.State{Pins: relay.PinsOf(e.Host.State, e.Host.Owner)})
	if err := e.Relay.Wait(ctx, generation); err != nil {
		e.Log.Warn("something may be left by which this host relayed", zap.Error(err))
	}
	if _, err := e.Network.SetRelays(nil, true); err != nil {
		e.Log.Warn("interfaces may be left by which this host relayed", zap.Error(err))
	}
}

// tellBalances tells soon how it stands with load balancers.
func (e *Executor) tellBalances(now time.Time) {
	at := e.saidAt.Add(balancePause)
	if !at.After(now) {
		e.tell(now)
	} else if e.due.IsZero() || at.Before(e.due) {
		e.due = at
	}
}

// balanced adds to a statement how it stands with load balancers.
func (e *Executor) balanced(s *padisv1.FromExecutor) {
	all := map[string]*padisv1.BalanceState{}
	of := func(uid string) *padisv1.BalanceState {
		if all[uid] == nil {
			all[uid] = &padisv1.BalanceState{Uid: uid}
		}
		return all[uid]
	}
	var done map[string]relay.Done
	if e.Relay != nil && len(e.balances) > 0 {
		done = e.Relay.Done()
	}
	for uid, b := range e.balances {
		// A host that cannot relay holds nobody up: it says so.
		d := done[uid]
		switch {
		case e.Relay == nil:
			d = relay.Done{Number: b.number, Error: noRelay}
		case e.relayFailed != "":
			d = relay.Done{Number: b.number, Error: e.relayFailed}
		}
		x := of(uid)
		if x.Number = d.Number; d.Error != "" {
			x.Reason, x.Message = padisv1.ReasonRelayUnavailable, d.Error
		}
	}
	for _, id := range slices.Sorted(maps.Keys(e.lives)) {
		if l := e.lives[id]; l.directed != nil {
			x := of(l.plan.Launch.GetAppUid())
			x.Directors = append(x.Directors, l.directed)
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(all)) {
		s.Balances = append(s.Balances, all[uid])
	}
}

// noteBalance takes down what an event means for load balancers.
func (e *Executor) noteBalance(now time.Time, l *life, ev instance.Event) {
	switch ev := ev.(type) {
	case instance.Created:
		if ev.Failure == nil {
			e.brief(l)
		}
	case instance.Attached, instance.Silenced, instance.Released:
		if e.concerned(l.plan.Container) {
			e.relay(now)
		}
	case instance.Adopted:
		// Maybe it was the last that was waited for.
		if ev.Failure != nil && e.concerned(l.plan.Container) {
			e.relay(now)
		}
	}
}
