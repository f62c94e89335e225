package network

import (
	"net/netip"
	"slices"
)

// Silence orders the operations after which nobody answers for the addresses of the instance any more: routes away,
// links down, then what guarded them. Removal is left to the kernel, which does it when the instance's namespace ends:
// taking a link down is what costs little.
func Silence(w Wanted, o Observed) []Op {
	var down, after []Op
	for _, i := range w.Interfaces {
		if i.Driver == DriverMACVLAN {
			if l := find(o.Inside, i.Inside); l != nil && l.Up {
				down = append(down, SetDown{i.Inside, true})
			}
			continue
		}
		for _, r := range o.HostRoutes {
			if r.Link == i.Host && slices.Contains(i.hostRoutes(), r) {
				down = append(down, DelRoute{r, false})
			}
		}
		if l := find(o.Host, i.Host); l != nil && l.Up {
			down = append(down, SetDown{i.Host, false})
		}
		if i.Driver == DriverOVS && findSwitch(o, i.Bridge).port(i.Host) != nil {
			after = append(after, DelSwitchPort{i.Bridge, i.Host})
		}
		if _, ok := o.Guarded[i.Host]; ok {
			after = append(after, Unguard{i.Host})
		}
	}
	return append(down, after...)
}

// Sweep orders the removal of what self has on the host for instances whose host ends are not in live: all of it is
// silenced first. o has all links of the host, all Open vSwitches and all that self guards. What is of other owners is
// never touched: their containers may go on while no executor is there. Names that HostEnd does not make are strangers'.
func Sweep(o Observed, self string, live map[string]bool) []Op {
	dead := func(name string) bool {
		tag, ok := ParseHostEnd(name)
		return ok && tag == OwnerTag(self) && !live[name]
	}
	var down, after, del []Op
	for _, l := range o.Host {
		if !dead(l.Name) || l.Kind != "veth" && l.Kind != "macvlan" {
			continue
		}
		if l.Up {
			down = append(down, SetDown{l.Name, false})
		}
		del = append(del, DelLink{l.Name, false})
	}
	for _, s := range o.Switches {
		for _, p := range s.Ports {
			if dead(p.Name) {
				after = append(after, DelSwitchPort{s.Name, p.Name})
			}
		}
	}
	var guarded []string
	for name := range o.Guarded {
		if dead(name) {
			guarded = append(guarded, name)
		}
	}
	slices.Sort(guarded)
	for _, name := range guarded {
		after = append(after, Unguard{name})
	}
	return slices.Concat(down, after, del)
}

// Surplus orders the removal of gateways that hosts have on bridges of ours and nobody wants any more. segments are those
// of all instances on the host, in any order, and may repeat; o has their bridges. A bridge is ours if it has the
// hardware address that we give, and hosts gateways if we keep it apart from others. One through which the host itself
// reaches something by a router has the host's own addresses, whoever made it.
func Surplus(segments []Segment, o Observed) []Op {
	wanted := map[string][]netip.Prefix{}
	for _, s := range segments {
		wanted[s.Bridge] = append(wanted[s.Bridge], s.Gateways...)
	}
	var ops []Op
	done := map[string]bool{"": true}
	for _, s := range segments {
		l := find(o.Host, s.Bridge)
		_, hosted := o.Hosted[s.Bridge]
		uplink := slices.ContainsFunc(o.HostRoutes, func(r Route) bool { return r.Link == s.Bridge && r.Gateway.IsValid() })
		if done[s.Bridge] || l == nil || l.Kind != "bridge" || l.MAC != s.BridgeMAC || !hosted || uplink || s.Driver != DriverVXLAN && s.Parent != "" {
			continue
		}
		done[s.Bridge] = true
		for _, a := range l.Addresses {
			if !slices.Contains(wanted[s.Bridge], a) {
				ops = append(ops, DelAddress{Link: s.Bridge, Address: a})
			}
		}
	}
	return ops
}
