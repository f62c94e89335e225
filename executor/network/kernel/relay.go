package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Attributes of linux/net_namespace.h.
const (
	netnsID = 1 // NETNSA_NSID
	netnsFD = 3 // NETNSA_FD
)

// SetRelays makes the relay pairs of these segments, whose bridges exist, and with prune removes all others of this owner. It
// returns the numbers of the links that take relayed packets, by bridge.
func (n *Network) SetRelays(segments []network.Segment, prune bool) (out map[string]int, err error) {
	out = map[string]int{}
	err = n.session(-1, func(s *session) error {
		n.segments.Lock()
		defer n.segments.Unlock()
		links, err := n.host.links()
		if err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		for _, l := range links {
			s.names[l.index], s.host[l.Name] = l.Name, l.index
		}
		var o network.Observed
		for _, l := range links {
			l.Master = s.names[l.master]
			o.Host = append(o.Host, l.Link)
		}
		ops, err := network.PlanRelays(n.owner, segments, prune, o)
		if err != nil {
			return err
		}
		if err := s.apply(ops); err != nil {
			return err
		}
		for _, g := range segments {
			name, _ := network.RelayNames(n.owner, g.Bridge)
			if out[g.Bridge], err = s.number(false, name); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// RelayPort is the host end of an instance's interface, as a relay must know it.
type RelayPort struct {
	// Index is the number of the link, Netns that by which the host knows the instance's network namespace.
	Index, Netns int
}

// RelayPort finds a host end, and the namespace, open as ns, of its instance.
func (n *Network) RelayPort(ns int, hostEnd string) (RelayPort, error) {
	l, err := n.host.link(hostEnd)
	if err != nil {
		return RelayPort{}, err
	}
	id, err := n.host.netns(ns)
	return RelayPort{Index: l.index, Netns: id}, err
}

// netns is the number by which the namespace of the socket knows another one, open as ns. One that has none gets one.
func (c *conn) netns(ns int) (int, error) {
	for range 3 { // somebody else may give it one at the same time
		id := int32(-1)
		ask := newRequest(unix.RTM_GETNSID, 0, make([]byte, 4)).u32(netnsFD, uint32(ns))
		ask.reply = func(body []byte) {
			for kind, v := range attributes(body[min(4, len(body)):]) {
				if kind == netnsID {
					id = int32(number32(v))
				}
			}
		}
		if err := c.do(ask); err != nil {
			return 0, fmt.Errorf("number of the instance's network namespace: %w", err)
		}
		if id >= 0 {
			return int(id), nil
		}
		give := newRequest(unix.RTM_NEWNSID, 0, make([]byte, 4)).u32(netnsID, ^uint32(0)).u32(netnsFD, uint32(ns))
		give.ignore = []unix.Errno{unix.EEXIST}
		if err := c.do(give); err != nil {
			return 0, fmt.Errorf("give the instance's network namespace a number: %w", err)
		}
	}
	return 0, fmt.Errorf("the instance's network namespace gets no number; is it there?")
}

// addRelay makes the pair, which is not up.
func addRelay(op network.AddRelay, bridge int) []*request {
	r := newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkHeader(0, 0, 0))
	r.text(unix.IFLA_IFNAME, op.Port).u32(unix.IFLA_MTU, uint32(op.MTU)).attr(unix.IFLA_ADDRESS, op.MAC[:]).u32(unix.IFLA_MASTER, uint32(bridge)).oneQueue()
	r.kind("veth", func() {
		r.nest(vethPeer, func() {
			r.b = append(r.b, linkHeader(0, 0, 0)...)
			r.text(unix.IFLA_IFNAME, op.Out).u32(unix.IFLA_MTU, uint32(op.MTU)).oneQueue()
		})
	})
	deaf := newRequest(unix.RTM_SETLINK, 0, linkHeader(0, unix.IFF_NOARP, unix.IFF_NOARP)).text(unix.IFLA_IFNAME, op.Out)
	port := newRequest(unix.RTM_NEWLINK, 0, linkHeader(0, 0, 0)).text(unix.IFLA_IFNAME, op.Port)
	port.nest(unix.IFLA_LINKINFO, func() {
		port.text(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		port.nest(unix.IFLA_INFO_SLAVE_DATA, func() {
			port.u8(unix.IFLA_BRPORT_UNICAST_FLOOD, 0)
			port.u8(unix.IFLA_BRPORT_MCAST_FLOOD, 0)
			port.u8(unix.IFLA_BRPORT_BCAST_FLOOD, 0)
		})
	})
	return []*request{r, deaf, port}
}
