package kernel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// The probe of RFC 5227, section 2.1.1, and of RFC 4862, section 5.4, in a fifth of a second instead of their several: the
// peer that it looks for is a Linux host on a wired segment, which answers within a millisecond, and the lease already
// excludes all others.
const (
	probes        = 3
	probeInterval = 65 * time.Millisecond
	carrierWait   = time.Second
)

// Probe asks on each interface's segment whether somebody has its addresses, for the interfaces that demand it. It returns
// those who do, one for each address; none means that all addresses are silent. It makes the segments first. An error
// means that nothing can be said. Where it asks: on the bridge; on the tunnel, too (vxlan); on the parent (macvlan), which
// does not reach other instances on this host; in the host's own routing table (routed).
func (n *Network) Probe(ctx context.Context, w network.Wanted) ([]network.Answer, error) {
	if !slices.ContainsFunc(w.Interfaces, func(i network.Interface) bool { return i.Probe }) {
		return nil, nil
	}
	if err := n.segmentsOnly(w.Segments); err != nil {
		return nil, err
	}
	answers := make([][]network.Answer, len(w.Interfaces))
	failed := make([]error, len(w.Interfaces))
	var all sync.WaitGroup
	for at, i := range w.Interfaces {
		if !i.Probe {
			continue
		}
		all.Go(func() {
			g, _ := segmentOf(w, i)
			if i.Driver == network.DriverRouted {
				answers[at], failed[at] = n.probeRoutes(i)
			} else {
				answers[at], failed[at] = n.probe(ctx, g, i)
			}
			if failed[at] != nil {
				failed[at] = fmt.Errorf("probe for the addresses of %s: %w", i.Inside, failed[at])
			}
		})
	}
	all.Wait()
	return slices.Concat(answers...), errors.Join(failed...)
}

// probeRoutes answers with what the host itself leads the addresses to.
func (n *Network) probeRoutes(i network.Interface) ([]network.Answer, error) {
	var out []network.Answer
	for _, p := range i.Addresses {
		x, ok, err := n.host.lookup(p.Addr())
		if err != nil {
			return nil, err
		}
		if !ok || !x.destination.IsSingleIP() {
			continue
		}
		l, err := n.host.linkAt(x.hops[0].link)
		if gone(err) || l.Name == i.Host {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, network.Answer{Address: p.Addr(), MAC: l.MAC})
	}
	return out, nil
}

// asker asks on a segment who has an address.
type asker struct {
	*packets
	// to are the links that questions leave by, reply the hardware address that answers go to.
	to         []int
	mac, reply network.MAC
	vlan       int
}

// ask opens an asker on the link. Close it.
func (n *Network) ask(link link) (*asker, error) {
	p, err := n.listen(link.index)
	if err != nil {
		return nil, err
	}
	return &asker{packets: p, to: []int{link.index}, mac: link.MAC, reply: link.MAC}, nil
}

// listen opens a packet socket in the host's namespace.
func (n *Network) listen(link int) (p *packets, err error) {
	err = n.session(-1, func(s *session) error {
		if err := s.enter(false); err != nil {
			return err
		}
		p, err = listen(link)
		return err
	})
	return p, err
}

func (n *Network) askerOf(ctx context.Context, g network.Segment) (*asker, error) {
	wire, _ := wireOf(g)
	if g.Driver != network.DriverVXLAN {
		if err := n.awaitCarrier(ctx, wire); err != nil {
			return nil, err
		}
	}
	on := g.Bridge
	if g.Driver == network.DriverMACVLAN {
		on = g.Parent
	}
	l, err := n.host.link(on)
	if err != nil {
		return nil, err
	}
	a, err := n.ask(l)
	if err != nil {
		return nil, err
	}
	switch g.Driver {
	case network.DriverOVS:
		a.vlan = g.VLAN
	case network.DriverVXLAN:
		// The bridge keeps probes to itself, whose answers the control plane should know; so they go into the tunnel
		// directly. There nobody knows a bridge's hardware address: who answers to all is heard by us, too.
		t, err := n.host.link(g.Uplink)
		if err != nil {
			a.close()
			return nil, err
		}
		a.to, a.reply = append(a.to, t.index), everybody
	}
	return a, nil
}

func (n *Network) probe(ctx context.Context, g network.Segment, i network.Interface) ([]network.Answer, error) {
	a, err := n.askerOf(ctx, g)
	if err != nil {
		return nil, err
	}
	defer a.close()
	var open []netip.Addr
	for _, p := range i.Addresses {
		open = append(open, p.Addr())
	}
	var out []network.Answer
	for range probes {
		for _, address := range open {
			if err := a.question(address); err != nil {
				return nil, err
			}
		}
		for deadline := time.Now().Add(probeInterval); len(open) > 0; {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			answer, ok, err := a.answer(deadline, open)
			if err != nil {
				return nil, err
			}
			if !ok {
				break
			}
			out = append(out, answer)
			open = slices.DeleteFunc(open, func(x netip.Addr) bool { return x == answer.Address })
		}
	}
	slices.SortFunc(out, func(x, y network.Answer) int { return x.Address.Compare(y.Address) })
	return out, nil
}

// question asks once for an address, as somebody who has none.
func (a *asker) question(address netip.Addr) error {
	for at, link := range a.to {
		var f []byte
		switch {
		case address.Is4():
			f = arpRequest(a.mac, a.reply, netip.IPv4Unspecified(), address)
		case at == 0:
			// A bridge answers whoever is not :: from its own table, which may be older than the question.
			f = solicit(a.mac, a.mac, netip.IPv6Unspecified(), address)
		default:
			// Answers to :: are multicast, which bridges that suppress neighbour discovery keep to themselves.
			f = solicit(a.mac, a.reply, linkLocal(a.mac), address)
		}
		if err := a.send(tagged(f, a.vlan), link); err != nil {
			return fmt.Errorf("ask for %s: %w", address, err)
		}
	}
	return nil
}

// linkLocal is an address that nobody has: it looks like that of the hardware address (RFC 4291, appendix A), but is not.
func linkLocal(m network.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xfe, 12: 0xff, 13: m[3], 14: m[4], 15: m[5]})
}

// answer waits for somebody who has one of the addresses, or is about to take it.
func (a *asker) answer(deadline time.Time, open []netip.Addr) (network.Answer, bool, error) {
	for {
		if err := a.file.SetReadDeadline(deadline); err != nil {
			return network.Answer{}, false, err
		}
		frame, vlan, err := a.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return network.Answer{}, false, nil
		}
		if err != nil {
			return network.Answer{}, false, fmt.Errorf("listen for answers: %w", err)
		}
		if vlan != a.vlan {
			continue
		}
		for _, address := range open {
			if mac, ok := conflict(frame, a.mac, address); ok {
				return network.Answer{Address: address, MAC: mac}, true, nil
			}
		}
	}
}

// awaitCarrier waits until the uplink can carry frames: silence on a cable that is not plugged in says nothing.
func (n *Network) awaitCarrier(ctx context.Context, uplink string) error {
	if uplink == "" {
		return nil
	}
	for deadline := time.Now().Add(carrierWait); ; {
		l, err := n.host.link(uplink)
		if err != nil {
			return err
		}
		if l.running {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("interface %s has no carrier, so that nobody can tell whether the address is free; plug it in", uplink)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// Announce repeats the announcement of the addresses (RFC 5227, section 2.3; RFC 4861, section 7.2.6) on segments with a
// Linux bridge: the one that the kernel sends when an interface comes up can be lost while ports on the way start
// forwarding. Nothing is on the way of macvlan and routed. An Open vSwitch would take the host for the sender. In tunnels
// the control plane announces.
func (n *Network) Announce(w network.Wanted) error {
	var failed []error
	for _, i := range w.Interfaces {
		if i.Driver != network.DriverBridge && i.Driver != network.DriverVLAN {
			continue
		}
		bridge, err := n.host.link(i.Bridge)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, p := range i.Addresses {
			if err := n.announce(bridge.index, i.MAC, p.Addr()); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

func (n *Network) announce(link int, mac network.MAC, a netip.Addr) error {
	f := advertise(mac, a)
	if a.Is4() {
		f = arpRequest(mac, mac, a, a)
	}
	if err := unix.Sendto(n.announcer, f, 0, &unix.SockaddrLinklayer{Ifindex: link}); err != nil {
		return fmt.Errorf("announce %s: %w", a, err)
	}
	return nil
}
