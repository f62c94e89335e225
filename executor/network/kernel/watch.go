package kernel

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"padis.io/padis/executor/network"
)

// Conflict is a stranger on a network who uses an address that an instance of this executor has.
type Conflict struct {
	Network string
	Address netip.Addr
	// MAC is the stranger's hardware address; it may well be the instance's, since both are derived from the address.
	MAC network.MAC
}

// reportInterval is how often the same address is reported at most.
const reportInterval = time.Second

// watch is what the executor's instances have, by the uplink on which strangers would be seen.
type watch struct {
	mu     sync.Mutex
	wires  map[string]*wire
	ctx    context.Context
	report func(Conflict)
	all    sync.WaitGroup
}

// wire is one uplink.
type wire struct {
	addresses map[spot]*held
	// stop ends its goroutine; nil if it has none.
	stop context.CancelFunc
}

// spot is an address in a VLAN of the wire.
type spot struct {
	vlan    int
	address netip.Addr
}

// held tells which host ends have an address: two for a moment, when an instance is replaced in place.
type held struct {
	ends     map[string]string
	reported time.Time
}

// Watch reports strangers who use addresses of instances, by the ARP and neighbour discovery that comes in by the uplinks
// of their networks, until ctx is done; it returns when nothing is reported any more. As hardware addresses derive from
// addresses, it is the direction that tells a stranger. Attach and Adjust register addresses, Detach forgets them; those of
// routed networks, which have no wire, are not watched. report must not wait for any of these.
func (n *Network) Watch(ctx context.Context, report func(Conflict)) {
	w := &n.watch
	w.mu.Lock()
	w.ctx, w.report = ctx, report
	for name, x := range w.wires {
		n.follow(name, x)
	}
	w.mu.Unlock()
	<-ctx.Done()
	w.mu.Lock()
	w.ctx, w.report = nil, nil
	w.mu.Unlock()
	w.all.Wait()
}

// wireOf is where strangers on a segment are seen, and the tag that they have there.
func wireOf(g network.Segment) (uplink string, vlan int) {
	switch g.Driver {
	case network.DriverMACVLAN:
		return g.Parent, 0
	case network.DriverOVS:
		return g.Uplink, g.VLAN
	case network.DriverRouted:
		return "", 0
	}
	return g.Uplink, 0
}

func (n *Network) register(w network.Wanted) {
	n.unregister(w)
	n.watch.mu.Lock()
	defer n.watch.mu.Unlock()
	for _, i := range w.Interfaces {
		g, _ := segmentOf(w, i)
		name, vlan := wireOf(g)
		if name == "" {
			continue
		}
		x := n.watch.wires[name]
		if x == nil {
			x = &wire{addresses: map[spot]*held{}}
			if n.watch.wires == nil {
				n.watch.wires = map[string]*wire{}
			}
			n.watch.wires[name] = x
			n.follow(name, x)
		}
		for _, p := range i.Addresses {
			at := spot{vlan, p.Addr()}
			if x.addresses[at] == nil {
				x.addresses[at] = &held{ends: map[string]string{}}
			}
			x.addresses[at].ends[i.Host] = i.Network
		}
	}
}

func (n *Network) unregister(w network.Wanted) {
	n.watch.mu.Lock()
	defer n.watch.mu.Unlock()
	for _, i := range w.Interfaces {
		for name, x := range n.watch.wires {
			for at, h := range x.addresses {
				delete(h.ends, i.Host)
				if len(h.ends) == 0 {
					delete(x.addresses, at)
				}
			}
			if len(x.addresses) > 0 {
				continue
			}
			delete(n.watch.wires, name)
			if x.stop != nil {
				x.stop()
			}
		}
	}
}

func segmentOf(w network.Wanted, i network.Interface) (network.Segment, bool) {
	for _, g := range w.Segments {
		if g.Network == i.Network {
			return g, true
		}
	}
	return network.Segment{}, false
}

// follow starts the goroutine of a wire, with the lock held.
func (n *Network) follow(name string, x *wire) {
	if n.watch.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(n.watch.ctx)
	x.stop = stop
	n.watch.all.Go(func() {
		defer stop()
		for ctx.Err() == nil {
			n.hear(ctx, name, x)
			// The link is not there, or went down: it may come again.
			select {
			case <-ctx.Done():
			case <-time.After(10 * pollInterval):
			}
		}
	})
}

// hear reads what comes in by a wire until the link goes away or ctx is done.
func (n *Network) hear(ctx context.Context, name string, x *wire) {
	l, err := n.host.link(name)
	if err != nil {
		return
	}
	p, err := n.listen(l.index)
	if err != nil {
		return
	}
	defer p.close()
	// A read that waits ends at once.
	defer context.AfterFunc(ctx, func() { _ = p.file.SetReadDeadline(time.Unix(1, 0)) })()
	for ctx.Err() == nil {
		frame, vlan, err := p.read()
		if err != nil {
			return
		}
		if s, ok := sees(frame); ok && s.has.IsValid() {
			n.stranger(x, spot{vlan, s.has}, s.mac)
		}
	}
}

func (n *Network) stranger(x *wire, at spot, mac network.MAC) {
	n.watch.mu.Lock()
	h, report := x.addresses[at], n.watch.report
	now := time.Now()
	if h == nil || report == nil || now.Sub(h.reported) < reportInterval {
		n.watch.mu.Unlock()
		return
	}
	h.reported = now
	c := Conflict{Address: at.address, MAC: mac}
	for _, name := range h.ends {
		c.Network = name
	}
	n.watch.mu.Unlock()
	report(c)
}
