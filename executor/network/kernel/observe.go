package kernel

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// observe reads what w names on the host and all of the instance, if the session has one. Of an instance whose loopback
// is down nothing was made yet: of such a one, which is each that starts, little is read.
func (s *session) observe(w network.Wanted) (network.Observed, error) {
	var o network.Observed
	if err := s.observeHost(w, &o); err != nil {
		return o, fmt.Errorf("look at the host's network: %w", err)
	}
	fresh := false
	if s.ns >= 0 {
		var err error
		if fresh, err = s.observeInside(w, &o); err != nil {
			return o, fmt.Errorf("look into the instance's network: %w", err)
		}
	}
	if err := s.observeParts(w, &o, fresh); err != nil {
		return o, err
	}
	var err error
	if o.HostSettings, err = s.readSettings(false, w.HostSettings()); err != nil {
		return o, err
	}
	if s.ns >= 0 && !fresh {
		o.InsideSettings, err = s.readSettings(true, w.InsideSettings())
	}
	return o, err
}

func (s *session) observeHost(w network.Wanted, o *network.Observed) error {
	names := w.HostLinks()
	found := make([]link, len(names))
	var requests []*request
	for i, name := range names {
		r := getLink(name, 0, func(l link) { found[i] = l })
		r.ignore = []unix.Errno{unix.ENODEV}
		requests = append(requests, r)
	}
	if err := s.n.host.do(requests...); err != nil {
		return err
	}
	for _, l := range found {
		if l.index != 0 {
			s.names[l.index], s.host[l.Name] = l.Name, l.index
		}
	}
	for i, l := range found {
		if l.index == 0 {
			continue
		}
		l.Name = names[i]
		have, err := s.hostLink(w, l, o)
		if err != nil {
			return err
		}
		o.Host = append(o.Host, have)
	}
	return nil
}

// role is what w needs to know of a link of the host beyond the link itself.
type role struct{ addresses, routes bool }

func roleOf(w network.Wanted, name, master string) role {
	var r role
	for _, s := range w.Segments {
		switch name {
		case s.Bridge:
			r.addresses = r.addresses || len(s.Gateways) > 0
		case s.Parent, s.Uplink:
			free := s.TakeParent || master != s.Bridge
			r.addresses = r.addresses || free
			r.routes = r.routes || (free && s.Driver != network.DriverVXLAN && s.Driver != network.DriverMACVLAN && s.Driver != network.DriverRouted)
		}
	}
	for _, i := range w.Interfaces {
		switch {
		case i.Driver != network.DriverRouted:
		case name == i.Host:
			r = role{true, true}
		case name == "lo":
			r.routes = true // what it answers for
		}
	}
	return r
}

// hostLink completes a link of the host, and adds the routes through it.
func (s *session) hostLink(w network.Wanted, l link, o *network.Observed) (network.Link, error) {
	var err error
	if l.Master, err = s.name(l.master); err != nil && !gone(err) {
		return l.Link, err
	}
	if !l.foreign {
		if l.Under, err = s.name(l.under); err != nil && !gone(err) {
			return l.Link, err
		}
	}
	if l.Rate, err = s.n.host.rate(l); err != nil {
		return l.Link, err
	}
	r := role{true, true}
	if !s.full {
		r = roleOf(w, l.Name, l.Master)
	}
	if r.addresses {
		all, err := s.n.host.addresses(l.index)
		if err != nil {
			return l.Link, err
		}
		l.Addresses = prefixes(all)
	}
	if r.routes {
		all, err := s.n.host.routes(unix.RT_TABLE_MAIN, l.index)
		if err != nil {
			return l.Link, err
		}
		o.HostRoutes = append(o.HostRoutes, plain(all, map[int]string{l.index: l.Name})...)
	}
	return l.Link, nil
}

// observeInside reads the instance. fresh: nothing was made in it.
func (s *session) observeInside(w network.Wanted, o *network.Observed) (fresh bool, err error) {
	c, err := s.conn(true)
	if err != nil {
		return false, err
	}
	links, err := c.links()
	if err != nil {
		return false, err
	}
	fresh = true
	names := map[int]string{}
	for _, l := range links {
		names[l.index], s.inner[l.Name] = l.Name, l.index
		if l.Name == "lo" {
			fresh = fresh && !l.Up
		} else {
			fresh = fresh && !slices.ContainsFunc(w.Interfaces, func(i network.Interface) bool { return i.Inside == l.Name })
		}
	}
	var addresses []address
	if !fresh {
		if addresses, err = c.addresses(0); err != nil {
			return false, err
		}
		routes, err := c.routes(unix.RT_TABLE_MAIN, 0)
		if err != nil {
			return false, err
		}
		o.InsideRoutes = plain(routes, names)
	}
	for _, l := range links {
		l.Master = names[l.master]
		if !l.foreign {
			l.Under = names[l.under]
		} else if l.under != 0 && l.Kind == "macvlan" {
			if l.Under, err = s.name(l.under); err != nil && !gone(err) {
				return false, err
			}
		}
		if l.Rate, err = c.rate(l); err != nil {
			return false, err
		}
		l.Addresses = prefixes(slices.DeleteFunc(slices.Clone(addresses), func(a address) bool { return a.link != l.index }))
		o.Inside = append(o.Inside, l.Link)
	}
	return fresh, nil
}

// observeParts asks the switches and the guard, those only that have to do with w: each costs more than all the rest.
func (s *session) observeParts(w network.Wanted, o *network.Observed, fresh bool) error {
	hosted := s.full || slices.ContainsFunc(w.Segments, func(g network.Segment) bool { return len(g.Gateways) > 0 })
	var links, ports []string
	for _, i := range w.Interfaces {
		if fresh && !slices.ContainsFunc(o.Host, func(l network.Link) bool { return l.Name == i.Host }) {
			continue // nothing guards what never was
		}
		switch i.Driver {
		case network.DriverOVS:
			ports = append(ports, i.Host)
		case network.DriverMACVLAN:
		default:
			links = append(links, i.Host)
		}
	}
	if err := s.enter(false); err != nil {
		return err
	}
	var err error
	if names := w.Switches(); len(names) > 0 && s.n.parts.Switches != nil {
		if o.Switches, err = s.n.parts.Switches.Observe(names); err != nil {
			return err
		}
	}
	o.Guarded = map[string]network.GuardedPort{}
	if len(ports) > 0 && s.n.parts.Switches != nil {
		guarded, err := s.n.parts.Switches.Guarded(ports)
		if err != nil {
			return err
		}
		maps.Copy(o.Guarded, guarded)
	}
	if s.n.parts.Guard == nil || (len(links) == 0 && !hosted) {
		return nil
	}
	if links == nil {
		links = []string{}
	}
	guarded, apart, err := s.n.parts.Guard.Observe(links)
	if err != nil {
		return err
	}
	maps.Copy(o.Guarded, guarded)
	o.Hosted = apart
	return nil
}

// prefixes are those that a plan speaks of: not the link-local ones that each interface gives itself, but the gateway of
// routed.
func prefixes(all []address) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range all {
		if !a.Addr().IsLinkLocalUnicast() || a.Addr() == network.Gateway6() {
			out = append(out, a.Prefix)
		}
	}
	return out
}

// plain are the routes through links with these names, each next hop as a route of its own.
func plain(all []route, names map[int]string) []network.Route {
	var out []network.Route
	for _, x := range all {
		for _, h := range x.hops {
			if name, ok := names[h.link]; ok {
				out = append(out, network.Route{Destination: x.destination, Gateway: h.gateway, Link: name, Onlink: h.onlink})
			}
		}
	}
	return out
}

// overlayLinks reads the tunnel and the bridge of a segment with what they know of others.
func (s *session) overlayLinks(g network.Segment) (tunnel, bridge network.Link, err error) {
	t, err := s.n.host.link(g.Uplink)
	if err != nil {
		return tunnel, bridge, err
	}
	b, err := s.n.host.link(g.Bridge)
	if err != nil {
		return tunnel, bridge, err
	}
	if t.Forwards, err = s.n.host.forwards(t); err != nil {
		return tunnel, bridge, err
	}
	b.Neighbours, err = s.n.host.neighbours(b.index)
	return t.Link, b.Link, err
}
