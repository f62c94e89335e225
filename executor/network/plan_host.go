package network

import (
	"net/netip"
	"slices"
)

const (
	forward4 = "ipv4/ip_forward"
	forward6 = "ipv6/conf/all/forwarding"
)

// hostSettings make the host a router for the segment's gateways. It believes no router advertisement of an instance.
func (s Segment) hostSettings() []Setting {
	if len(s.Gateways) == 0 {
		return nil
	}
	out := []Setting{{"ipv6/conf/" + s.Bridge + "/accept_ra", "0"}}
	if slices.ContainsFunc(s.Gateways, func(g netip.Prefix) bool { return g.Addr().Is4() }) {
		out = append(out, Setting{forward4, "1"})
	}
	if slices.ContainsFunc(s.Gateways, func(g netip.Prefix) bool { return g.Addr().Is6() }) {
		out = append(out, Setting{"ipv6/conf/" + s.Bridge + "/disable_ipv6", "0"})
		out = append(out, routing6(s.Parent)...)
	}
	return out
}

// routing6 makes the host a router for IPv6. Such a host believes router advertisements no more, by which it may have
// its own default route, unless accept_ra is 2.
func routing6(parent string) []Setting {
	if parent == "" {
		return []Setting{{forward6, "1"}}
	}
	return []Setting{{"ipv6/conf/" + parent + "/accept_ra", "2"}, {forward6, "1"}}
}

// hostSettings make the host end of a routed interface answer for the gateway, at once.
func (i Interface) hostSettings(parent string) []Setting {
	if i.Driver != DriverRouted {
		return nil
	}
	out := []Setting{{"ipv6/conf/" + i.Host + "/accept_ra", "0"}}
	if i.has4() {
		out = append(out, Setting{"ipv4/conf/" + i.Host + "/proxy_arp", "1"}, Setting{"ipv4/neigh/" + i.Host + "/proxy_delay", "0"}, Setting{forward4, "1"})
	}
	if i.has6() {
		out = append(out, Setting{"ipv6/conf/" + i.Host + "/disable_ipv6", "0"})
		out = append(out, routing6(parent)...)
	}
	return out
}

// hostSettings adds those that are not as wanted. That a parent goes on believing advertisements is asked for only if
// it does, and is about to stop.
func (p *plan) hostSettings(wanted []Setting, have map[string]string) {
	p.settings(slices.DeleteFunc(wanted, func(s Setting) bool { return s.Value == "2" && (have[s.Key] != "1" || have[forward6] == "1") }), have, false)
}

func (i Interface) has4() bool {
	return slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return p.Addr().Is4() })
}

// parentOf is the parent of the segment of a network.
func (w Wanted) parentOf(network string) string {
	for _, s := range w.Segments {
		if s.Network == network {
			return s.Parent
		}
	}
	return ""
}

// datapath of the Open vSwitch that a network's instances are plugged into; empty for others.
func (w Wanted) datapath(network string) string {
	for _, s := range w.Segments {
		if s.Network == network && s.Driver == DriverOVS {
			return s.Datapath
		}
	}
	return ""
}

// HostLinks are the links of the host that must be observed, each once; they need not exist.
func (w Wanted) HostLinks() []string {
	var out []string
	for _, s := range w.Segments {
		out = append(out, s.Bridge, s.Parent, s.Uplink)
	}
	for _, i := range w.Interfaces {
		out = append(out, i.Host)
		if i.Driver == DriverRouted && i.has4() {
			out = append(out, gatewayRoute().Link)
		}
	}
	return distinct(out)
}

// HostSettings are the keys of the host's settings that must be observed, each once; they need not exist.
func (w Wanted) HostSettings() []string {
	var out []string
	for _, s := range w.Segments {
		out = append(out, keys(s.hostSettings())...)
	}
	for _, i := range w.Interfaces {
		out = append(out, keys(i.hostSettings(w.parentOf(i.Network)))...)
	}
	return distinct(out)
}

// InsideSettings are the keys of the instance's settings that must be observed, each once; they need not exist.
func (w Wanted) InsideSettings() []string {
	out := keys(w.Settings)
	for _, i := range w.Interfaces {
		out = append(out, keys(i.Settings)...)
	}
	return distinct(out)
}

// Switches are the names of the Open vSwitches that must be observed, each once.
func (w Wanted) Switches() []string {
	var out []string
	for _, s := range w.Segments {
		if s.Driver == DriverOVS {
			out = append(out, s.Bridge)
		}
	}
	return distinct(out)
}

func keys(settings []Setting) []string {
	var out []string
	for _, s := range settings {
		out = append(out, s.Key)
	}
	return out
}

// distinct leaves the first of each, and no empty one.
func distinct(names []string) []string {
	seen := map[string]bool{"": true}
	return slices.DeleteFunc(names, func(s string) bool {
		had := seen[s]
		seen[s] = true
		return had
	})
}
