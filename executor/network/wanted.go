// Package network decides how an instance is plugged in: wanted attachments and what is observed on the host give an
// ordered list of operations, each printing as the command that a network engineer would type. Pure.
//
// Want makes the wanted of a launch: the segments of its networks (Segment: what the host has of a Network, shared by
// all instances) and its interfaces. Plan compares with what is observed. Drivers:
//
//   - bridge, vlan, vxlan: a Linux bridge per Network, whose uplink is the parent, the parent's sub-interface or a tunnel.
//     An instance has a veth pair per interface: the host end (named by HostEnd) is a port of the bridge, the other end is
//     eth0, eth1 ... in the instance's own network namespace.
//   - ovs: the same on an Open vSwitch, with the tag on the port.
//   - macvlan: the interface is a child of the parent; there is nothing on the host.
//   - routed: a veth pair without a bridge; the host has a route to each address and answers for the gateway.
//   - host: nothing is made.
//
// The hardware address is derived from the IP address, so that an address which moves to another host keeps it and no
// neighbour has a stale cache.
//
// What was made by others is used or refused, never changed. What is ours and not wanted any more is removed; bridges
// and tunnels stay.
package network

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// String says it to people, with what to do.
func (a Answer) String() string {
	return fmt.Sprintf("%s is answered by %s; find out who has the address (arping, the switch's table) and end it, or take the address out of the pool", a.Address, a.MAC)
}

// Want says what the attachments, loopback addresses and lease of a launch ask for. owner names the executor, so that
// host ends of different executors can be told apart; task names the container (of a plain process the task); host names
// the machine, so that its devices get hardware addresses of their own. Attachments of one Network whose addresses
// differ in family share an interface. What changes while the instance runs (bandwidths, loopback addresses, lease) is
// put into the launch, and Want and Plan are asked again. An error names the field that cannot be, and what to do.
func Want(owner, task, host string, l *padisv1.Launch) (Wanted, error) {
	if hosted := slices.IndexFunc(l.GetAttachments(), func(a *padisv1.Attachment) bool { return a.GetNetwork().GetDriver() == DriverHost }); hosted >= 0 {
		return wantHost(l, l.GetAttachments()[hosted].GetNetwork())
	}
	w := Wanted{Valid: time.Duration(l.GetLeaseMs()) * time.Millisecond}
	if w.Valid != 0 && w.Valid < time.Second {
		return Wanted{}, fmt.Errorf("lease of %v: kernels count in seconds; use 1s at least, or none", w.Valid)
	}
	for i, a := range l.GetAttachments() {
		n := a.GetNetwork()
		if n == nil {
			return Wanted{}, fmt.Errorf("attachment %d has no network; the launch is not whole, start the instance again", i)
		}
		if err := w.attach(a, host); err != nil {
			return Wanted{}, fmt.Errorf("network %s: %w", n.GetName(), err)
		}
	}
	if err := conflict(w.Segments); err != nil {
		return Wanted{}, err
	}
	for i := range w.Interfaces {
		// What directors send on has the addresses of clients, and marks of theirs instead of a hardware address.
		if l.GetTemplate().GetDirector() {
			w.Interfaces[i].Guarded = false
		}
		w.Interfaces[i].Host, w.Interfaces[i].Inside = HostEnd(owner, task, i), fmt.Sprintf("eth%d", i)
	}
	w.leaveOneDefault()
	if err := w.wantLoopback(l.GetLoopbackAddresses()); err != nil {
		return Wanted{}, err
	}
	if err := w.wantSettings(l.GetAttachments()); err != nil {
		return Wanted{}, err
	}
	return w, nil
}

func wantHost(l *padisv1.Launch, n *padisv1.Network) (Wanted, error) {
	a := l.GetAttachments()[0]
	switch {
	case len(l.GetAttachments()) > 1:
		return Wanted{}, fmt.Errorf("network %s has driver host, and the instance has %d networks; with the host's own network it can have no other", n.GetName(), len(l.GetAttachments()))
	case a.GetAddress() != "":
		return Wanted{}, fmt.Errorf("network %s has driver host, and the address %s is asked for; its instances have the host's own addresses", n.GetName(), a.GetAddress())
	case len(l.GetLoopbackAddresses()) > 0:
		return Wanted{}, fmt.Errorf("network %s has driver host, and the loopback address %s is asked for, which would be the host's; use a network with another driver", n.GetName(), l.GetLoopbackAddresses()[0])
	case len(n.GetSysctls()) > 0:
		return Wanted{}, fmt.Errorf("network %s has driver host and sets %s, which would be the host's; remove Network.spec.sysctls", n.GetName(), n.GetSysctls()[0].GetName())
	case a.GetBandwidth().GetIngress() != 0 || a.GetBandwidth().GetEgress() != 0:
		return Wanted{}, fmt.Errorf("network %s has driver host, whose instances cannot be limited in bandwidth; remove the bandwidth, or use another driver", n.GetName())
	}
	return Wanted{Hosted: true}, nil
}

// attach adds the segment of an attachment, if it is not there, and its interface, or its address to the first
// interface of the same Network that has none of its family.
func (w *Wanted) attach(a *padisv1.Attachment, host string) error {
	n := a.GetNetwork()
	s, err := wantSegment(n, host)
	if err != nil {
		return err
	}
	itf, err := wantInterface(a, s)
	if err != nil {
		return err
	}
	addr := itf.Addresses[0].Addr()
	for _, other := range w.Interfaces {
		for _, p := range other.Addresses {
			if p.Addr() == addr {
				return fmt.Errorf("address %s is given to the instance twice; give each of its networks entries another address", addr)
			}
		}
	}
	if n.GetHostGateway() {
		if a.GetGateway() == "" {
			return fmt.Errorf("hostGateway is set, but pool %s has no gateway; set IPPool.spec.gateway", a.GetPool())
		}
		s.Gateways = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(a.GetGateway()), int(a.GetPrefixLength()))}
	}
	if err := w.addSegment(s); err != nil {
		return err
	}
	w.addInterface(itf)
	return nil
}

func (w *Wanted) addSegment(s Segment) error {
	at := slices.IndexFunc(w.Segments, func(have Segment) bool { return have.Network == s.Network })
	if at < 0 {
		w.Segments = append(w.Segments, s)
		return nil
	}
	if !same(w.Segments[at], s) {
		return fmt.Errorf("it is declared in two ways in one launch; start the instance again")
	}
	for _, g := range s.Gateways {
		if !slices.Contains(w.Segments[at].Gateways, g) {
			w.Segments[at].Gateways = append(w.Segments[at].Gateways, g)
		}
	}
	return nil
}

// same tells whether two segments differ in their gateways only.
func same(a, b Segment) bool {
	peers := slices.Equal(a.Peers, b.Peers)
	a.Gateways, b.Gateways, a.Peers, b.Peers = nil, nil, nil, nil
	return peers && fmt.Sprint(a) == fmt.Sprint(b)
}

func (w *Wanted) addInterface(itf Interface) {
	family := itf.Addresses[0].Addr().Is4()
	at := slices.IndexFunc(w.Interfaces, func(have Interface) bool {
		return have.Network == itf.Network && !slices.ContainsFunc(have.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() == family })
	})
	if at < 0 {
		w.Interfaces = append(w.Interfaces, itf)
		return
	}
	have := &w.Interfaces[at]
	have.Addresses = append(have.Addresses, itf.Addresses...)
	have.Gateways = append(have.Gateways, itf.Gateways...)
	if family {
		slices.Reverse(have.Addresses)
		if len(itf.Gateways) > 0 {
			slices.Reverse(have.Gateways)
		}
		have.MAC = itf.MAC
	}
	have.Probe = have.Probe || itf.Probe
	if have.Bandwidth == (Bandwidth{}) {
		have.Bandwidth = itf.Bandwidth
	}
}

// leaveOneDefault takes the gateways of a family from all interfaces but the first that has one.
func (w *Wanted) leaveOneDefault() {
	seen := map[bool]bool{}
	for i := range w.Interfaces {
		itf := &w.Interfaces[i]
		itf.Gateways = slices.DeleteFunc(itf.Gateways, func(g netip.Addr) bool {
			had := seen[g.Is4()]
			seen[g.Is4()] = true
			return had
		})
	}
}

func (w *Wanted) wantLoopback(addresses []string) error {
	for _, s := range addresses {
		a, err := netip.ParseAddr(s)
		if err != nil || !usable(a) {
			return fmt.Errorf("loopback address %q is not an address that an instance can have; correct it", s)
		}
		for _, i := range w.Interfaces {
			if slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return fmt.Errorf("loopback address %s is also the address of interface %s; a load balancer needs an address of its own", a, i.Inside)
			}
		}
		if !slices.Contains(w.Loopback, a) {
			w.Loopback = append(w.Loopback, a)
		}
	}
	return nil
}

// usable tells whether an instance can have the address: unicast, of more than one link, and plainly of one family.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.Is4In6() && a.Zone() == "" &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
