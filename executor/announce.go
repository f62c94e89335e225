package executor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/speaker"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Speaker announces addresses of routed networks. Wait returns when routers have heard of the State of a generation.
type Speaker interface {
	Set(speaker.State) uint64
	Wait(ctx context.Context, generation uint64) error
	Sessions() []speaker.Session
	Changed() <-chan struct{}
}

const (
	// withdrawTime bounds the wait for routers before an address goes down.
	withdrawTime = 2 * time.Second
	// holdTime bounds how long nothing is announced after the start, while containers of an earlier executor are not taken
	// over: routers still have its routes, and forget those that are not among the first that they hear.
	holdTime = speaker.RestartTime / 3
)

// announcer knows which addresses of this host routers shall know. Without a speaker it does nothing.
type announcer struct {
	speaker Speaker
	log     *zap.Logger

	mu sync.Mutex
	// ready: it is known who the host is, and what was there when the executor started.
	host, taken bool
	state       speaker.State
	// networks as they were declared last; addresses by container and network.
	networks  map[string]speaker.Network
	addresses map[string]map[string][]netip.Addr
}

func newAnnouncer(s Speaker, log *zap.Logger) *announcer {
	return &announcer{speaker: s, log: log, networks: map[string]speaker.Network{}, addresses: map[string]map[string][]netip.Addr{}}
}

// announce has routers know the addresses of an instance on its routed networks, once they are attached.
func (a *announcer) announce(container string, attachments []*padisv1.Attachment, w network.Wanted) {
	own := map[string][]netip.Addr{}
	for _, i := range w.Interfaces {
		if i.Driver == network.DriverRouted {
			for _, p := range i.Addresses {
				own[i.Network] = append(own[i.Network], p.Addr())
			}
		}
	}
	if a.speaker == nil || len(own) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range attachments {
		if n := at.GetNetwork(); own[n.GetName()] != nil {
			a.declared(n)
		}
	}
	a.addresses[container] = own
	a.set()
}

// declare has networks announce to the routers that they name now.
func (a *announcer) declare(networks []*padisv1.Network) {
	if a.speaker == nil || len(networks) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range networks {
		a.declared(n)
	}
	a.set()
}

// declared takes in what a network says of its routers, with mu held.
func (a *announcer) declared(n *padisv1.Network) {
	d, err := speaker.Declared(n)
	if err != nil {
		a.log.Warn("a router cannot be told of addresses", zap.Error(err))
	}
	a.networks[n.GetName()] = d
}

// withdraw has routers forget the addresses of an instance, and waits until they were told, but not for long.
func (a *announcer) withdraw(ctx context.Context, container string, wait time.Duration) {
	a.mu.Lock()
	if a.addresses[container] == nil {
		a.mu.Unlock()
		return
	}
	delete(a.addresses, container)
	generation := a.set()
	a.mu.Unlock()
	if generation == 0 || wait == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := a.speaker.Wait(ctx, generation); err != nil {
		a.log.Warn("routers may still send packets to an instance that ends", zap.String("container", container), zap.Error(err))
	}
}

// at tells who the host is in BGP: from its addresses, or else by its name. It stays so while it has that address.
func (a *announcer) at(name string, all []kernel.InterfaceAddress) {
	if a.speaker == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	has := func(x netip.Addr) bool {
		return x.IsValid() && slices.ContainsFunc(all, func(i kernel.InterfaceAddress) bool { return i.Address.Addr() == x })
	}
	if a.host && has(a.state.RouterID) {
		return
	}
	var four, six netip.Addr
	link := ""
	for _, i := range all {
		if x := i.Address.Addr(); x.Is4() && !four.IsValid() {
			four, link = x, i.Interface
		}
	}
	for _, i := range all {
		if x := i.Address.Addr(); x.Is6() && !six.IsValid() && (link == "" || i.Interface == link) {
			six = x
		}
	}
	a.state.NextHop4, a.state.NextHop6 = four, six
	if four.IsValid() {
		a.state.RouterID = four
	} else if !a.host {
		// An identifier looks like an IPv4 address, but need not be one (RFC 6286).
		h := sha256.Sum256([]byte(name))
		a.state.RouterID = netip.AddrFrom4([4]byte{h[0] | 1, h[1], h[2], h[3]})
	}
	a.host = true
	a.set()
}

// complete lets routers hear: what an earlier executor announced is known.
func (a *announcer) complete() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.taken {
		a.taken = true
		a.set()
	}
}

// set says all of it, with mu held. It returns 0 if nothing was said.
func (a *announcer) set() uint64 {
	if a.speaker == nil || !a.host || !a.taken {
		return 0
	}
	s := a.state
	by := map[string][]netip.Addr{}
	for _, own := range a.addresses {
		for n, all := range own {
			by[n] = append(by[n], all...)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		n := a.networks[name]
		n.Addresses = slices.SortedFunc(slices.Values(by[name]), netip.Addr.Compare)
		s.Networks = append(s.Networks, n)
	}
	return a.speaker.Set(s)
}

// sessions are those of the host, by network.
func (a *announcer) sessions() map[string][]*padisv1.BgpSession {
	if a.speaker == nil {
		return nil
	}
	out := map[string][]*padisv1.BgpSession{}
	for _, s := range a.speaker.Sessions() {
		out[s.Network] = append(out[s.Network], &padisv1.BgpSession{Peer: s.Peer.String(), Established: s.Established, Message: s.Message})
	}
	for _, all := range out {
		slices.SortFunc(all, func(x, y *padisv1.BgpSession) int { return cmp.Compare(x.Peer, y.Peer) })
	}
	return out
}
