package kernel

import (
	"fmt"
	"net/netip"

	"padis.io/padis/executor/network"
)

// InterfaceAddress is an address of an interface, with the length of its subnet.
type InterfaceAddress struct {
	Interface string
	Address   netip.Prefix
}

// Addresses lists those of the host's own interfaces: nobody may have them besides, and tunnels end there. Left out are
// link-local and loopback addresses, host ends of instances, and what executors gave to bridges as gateways, which is
// marked as ours (by kernels from 5.18 on).
func (n *Network) Addresses() ([]InterfaceAddress, error) {
	links, err := n.host.links()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		if _, end := network.ParseHostEnd(l.Name); !end {
			names[l.index] = l.Name
		}
	}
	all, err := n.host.addresses(0)
	if err != nil {
		return nil, err
	}
	return named(all, names, func(a address) bool { return a.origin != ours }), nil
}

// Used lists the addresses that interfaces of an instance have, whoever gave them; link-local ones and those of its
// loopback are left out.
func (n *Network) Used(ns int) (out []InterfaceAddress, err error) {
	err = n.session(ns, func(s *session) error {
		c, err := s.conn(true)
		if err != nil {
			return err
		}
		links, err := c.links()
		if err != nil {
			return fmt.Errorf("list the instance's links: %w", err)
		}
		names := map[int]string{}
		for _, l := range links {
			if l.Name != "lo" {
				names[l.index] = l.Name
			}
		}
		all, err := c.addresses(0)
		out = named(all, names, func(address) bool { return true })
		return err
	})
	return out, err
}

func named(all []address, names map[int]string, keep func(address) bool) []InterfaceAddress {
	var out []InterfaceAddress
	for _, a := range all {
		if name, ok := names[a.link]; ok && keep(a) && !a.Addr().IsLinkLocalUnicast() && !a.Addr().IsLoopback() {
			out = append(out, InterfaceAddress{name, a.Prefix})
		}
	}
	return out
}
