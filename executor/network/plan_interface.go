package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// veth plans an interface that has an end on the host.
func (p *plan) veth(i Interface, w Wanted, o Observed) error {
	host, inside := find(o.Host, i.Host), find(o.Inside, i.Inside)
	if host != nil && host.Kind != "veth" {
		return fmt.Errorf("interface %s exists and is of kind %s, not an end of an instance; remove it (ip link del %s)", i.Host, host.Kind, i.Host)
	}
	if inside != nil && host == nil {
		return fmt.Errorf("the instance has an interface %s that is not ours; start it with a network namespace of its own", i.Inside)
	}
	var port *SwitchPort
	if i.Driver == DriverOVS {
		port = findSwitch(o, i.Bridge).port(i.Host)
	}
	master := i.Bridge
	if i.Driver == DriverOVS || i.Driver == DriverRouted {
		master = ""
	}
	guard, guarded := o.Guarded[i.Host]
	// A pair that is not whole or not as wanted is made anew: its names are ours.
	fresh := host == nil
	if host != nil && (inside == nil || inside.MAC != i.MAC || inside.MTU != i.MTU || host.MTU != i.MTU || i.Driver == DriverRouted && host.Master != "") {
		fresh = true
	}
	if fresh {
		if host != nil {
			p.add(DelLink{i.Host, false})
		}
		// A port of a switch and its guard are known there by a number, which the new end does not have.
		if guarded {
			p.add(Unguard{i.Host})
		}
		if port != nil {
			p.add(DelSwitchPort{i.Bridge, i.Host})
		}
		p.add(AddVeth{i})
		if w.datapath(i.Network) == "netdev" {
			p.add(WholeChecksums{i.Inside})
		}
		host, inside, port, guarded = &Link{Name: i.Host, Up: true, Master: master}, &Link{Name: i.Inside}, nil, false
		o.InsideSettings, o.HostSettings, o.InsideRoutes, o.HostRoutes = nil, without(o.HostSettings, i.Host), nil, nil
	}
	up := host.Up
	if i.Driver == DriverOVS && port == nil {
		// Who was no port gets another number.
		if guarded {
			p.add(Unguard{i.Host})
			guarded = false
		}
		if up && inside.Up {
			p.add(SetDown{i.Host, false})
			up = false
		}
	}
	if i.Driver == DriverOVS && (port == nil || port.VLAN != i.VLAN) {
		p.add(AddSwitchPort{i.Bridge, SwitchPort{i.Host, i.VLAN}})
	}
	switch wanted := w.guard(i); {
	case i.Guarded && (!guarded || !guard.equal(wanted)):
		p.add(Guard{wanted})
	case !i.Guarded && guarded:
		p.add(Unguard{i.Host})
	}
	if master != "" && host.Master != master {
		p.add(SetMaster{i.Host, master})
	}
	p.hostSettings(i.hostSettings(w.parentOf(i.Network)), o.HostSettings)
	if !up {
		p.add(SetUp{i.Host, false})
	}
	if i.Driver == DriverRouted {
		p.routed(i, *host, fresh || !up, o.HostRoutes)
	}
	if host.Rate != i.Bandwidth.Ingress {
		p.add(SetRate{i.Host, i.Bandwidth.Ingress, false})
	}
	p.inner(i, w, *inside, o)
	return nil
}

// without leaves out the settings of a link.
func without(settings map[string]string, link string) map[string]string {
	out := map[string]string{}
	for k, v := range settings {
		if !settingOf(k, link) {
			out[k] = v
		}
	}
	return out
}

// macvlan plans an interface that hangs on the parent.
func (p *plan) macvlan(i Interface, w Wanted, o Observed) error {
	host, inside := find(o.Host, i.Host), find(o.Inside, i.Inside)
	if host != nil {
		if host.Kind != "macvlan" {
			return fmt.Errorf("interface %s exists and is of kind %s, not one of an instance; remove it (ip link del %s)", i.Host, host.Kind, i.Host)
		}
		p.add(DelLink{i.Host, false})
	}
	if inside != nil && inside.Kind != "macvlan" {
		return fmt.Errorf("the instance has an interface %s that is not ours; start it with a network namespace of its own", i.Inside)
	}
	if inside != nil && (inside.MAC != i.MAC || inside.MTU != i.MTU) {
		p.add(DelLink{i.Inside, true})
		inside = nil
	}
	if inside == nil {
		p.add(AddMACVLAN{i})
		inside = &Link{Name: i.Inside}
		o.InsideSettings, o.InsideRoutes = nil, nil
	}
	p.inner(i, w, *inside, o)
	return nil
}

// inner plans what the instance sees of its interface.
func (p *plan) inner(i Interface, w Wanted, have Link, o Observed) {
	p.settings(i.Settings, o.InsideSettings, true)
	if have.Rate != i.Bandwidth.Egress {
		p.add(SetRate{i.Inside, i.Bandwidth.Egress, true})
	}
	// changed families lose their routes. With the first IPv4 address of a subnet the kernel takes the others away, too.
	changed := map[bool]bool{}
	for _, a := range have.Addresses {
		if !slices.Contains(i.Addresses, a) && !a.Addr().IsLinkLocalUnicast() {
			p.add(DelAddress{i.Inside, a, true})
			changed[a.Addr().Is4()] = true
		}
	}
	for _, a := range i.Addresses {
		if changed[a.Addr().Is4()] || !slices.Contains(have.Addresses, a) {
			p.add(AddAddress{i.Inside, a, w.Valid, true})
			changed[a.Addr().Is4()] = true
		}
	}
	if !have.Up {
		p.add(SetUp{i.Inside, true})
	}
	for _, g := range i.Gateways {
		r := Route{Destination: defaultOf(g), Gateway: g, Link: i.Inside, Onlink: i.Driver == DriverRouted}
		there := false
		for _, h := range o.InsideRoutes {
			switch {
			case h.Destination != r.Destination || h.Link != r.Link:
			case h.Gateway == r.Gateway:
				there = true
			default:
				p.routes = append(p.routes, DelRoute{h, true})
			}
		}
		if !there || !have.Up || changed[g.Is4()] {
			p.routes = append(p.routes, AddRoute{r, true})
		}
	}
}

// routed plans what makes the host the router of an interface: the gateway of IPv6 on its end, and a route to each
// address.
func (p *plan) routed(i Interface, host Link, anew bool, have []Route) {
	gateway := netip.PrefixFrom(Gateway6(), 64)
	if i.has6() && (anew || !slices.Contains(host.Addresses, gateway)) {
		p.add(AddAddress{Link: i.Host, Address: gateway})
	}
	if r := gatewayRoute(); i.has4() && !slices.Contains(have, r) && !slices.Contains(p.routes, Op(AddRoute{r, false})) {
		p.routes = append(p.routes, AddRoute{r, false})
	}
	for _, r := range have {
		if r.Link == i.Host && r.Destination.IsSingleIP() && !r.Destination.Addr().IsLinkLocalUnicast() && !slices.Contains(i.Addresses, r.Destination) {
			p.routes = append(p.routes, DelRoute{r, false})
		}
	}
	for _, r := range i.hostRoutes() {
		if anew || !slices.Contains(have, r) {
			p.routes = append(p.routes, AddRoute{r, false})
		}
	}
}

// gatewayRoute has the host answer ARP for the gateway: it does so for what it would forward elsewhere, and a host without
// a default route would forward it nowhere. All routed interfaces share it, and it stays.
func gatewayRoute() Route {
	return Route{Destination: netip.PrefixFrom(Gateway4(), 32), Link: "lo"}
}

// hostRoutes are the routes of the host to the addresses of a routed interface.
func (i Interface) hostRoutes() []Route {
	if i.Driver != DriverRouted {
		return nil
	}
	var out []Route
	for _, a := range i.Addresses {
		out = append(out, Route{Destination: a, Link: i.Host})
	}
	return out
}

// guard is what an interface may send: whatever the instance has on that network, because it may answer from any of its
// interfaces there.
func (w Wanted) guard(i Interface) GuardedPort {
	g := GuardedPort{Link: i.Host, Driver: i.Driver, MAC: i.MAC}
	for _, other := range w.Interfaces {
		if other.Network != i.Network {
			continue
		}
		for _, a := range other.Addresses {
			g.Addresses = append(g.Addresses, a.Addr())
		}
	}
	slices.SortFunc(g.Addresses, netip.Addr.Compare)
	g.Loopback = slices.SortedFunc(slices.Values(w.Loopback), netip.Addr.Compare)
	return g
}

// equal tells whether two guards let the same pass. All Linux bridges are guarded in the same place.
func (g GuardedPort) equal(o GuardedPort) bool {
	place := func(driver string) string {
		if driver == DriverVLAN || driver == DriverVXLAN {
			return DriverBridge
		}
		return driver
	}
	return g.Link == o.Link && place(g.Driver) == place(o.Driver) && g.MAC == o.MAC &&
		slices.Equal(slices.SortedFunc(slices.Values(g.Addresses), netip.Addr.Compare), o.Addresses) &&
		slices.Equal(slices.SortedFunc(slices.Values(g.Loopback), netip.Addr.Compare), o.Loopback)
}
