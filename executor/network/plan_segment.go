package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func (p *plan) segment(s Segment, o Observed) error {
	switch s.Driver {
	case DriverBridge:
		return p.flat(s, o)
	case DriverVLAN:
		return p.vlan(s, o)
	case DriverVXLAN:
		return p.vxlan(s, o)
	case DriverOVS:
		return p.ovs(s, o)
	case DriverMACVLAN:
		return p.children(s, o)
	case DriverRouted:
		if s.Parent == "" {
			return nil
		}
		_, err := parent(s, o, s.MTU)
		return err
	default:
		return fmt.Errorf("driver %q is not one that this executor knows", s.Driver)
	}
}

// parent is the interface below, found wide enough for packets of need bytes.
func parent(s Segment, o Observed, need int) (*Link, error) {
	l := find(o.Host, s.Parent)
	if l == nil {
		return nil, fmt.Errorf("this host has no interface %s; correct Network.spec.parent, or place the app on hosts that have it", s.Parent)
	}
	if l.MTU < need {
		return nil, fmt.Errorf("interface %s has MTU %d, but %d is needed for the network's %d; set Network.spec.mtu to %d or less, or raise the interface's (ip link set %s mtu %d)",
			l.Name, l.MTU, need, s.MTU, l.MTU-need+s.MTU, l.Name, need)
	}
	return l, nil
}

// bridge makes the Linux bridge; one that exists is used as it is.
func (p *plan) bridge(s Segment, o Observed, mac MAC) error {
	switch have := find(o.Host, s.Bridge); {
	case have == nil:
		p.add(AddBridge{s.Bridge, mac, s.MTU})
	case have.Kind != "bridge":
		return fmt.Errorf("%s exists and is of kind %s, not a bridge; choose another name in Network.spec.bridge", s.Bridge, have.Kind)
	case !have.Up:
		p.add(SetUp{s.Bridge, false})
	}
	return nil
}

// flat is a bridge, and its uplink the parent itself.
func (p *plan) flat(s Segment, o Observed) error {
	if s.Parent == "" {
		if err := p.bridge(s, o, s.BridgeMAC); err != nil {
			return err
		}
		p.gateways(s, o)
		return nil
	}
	l, err := parent(s, o, s.MTU)
	if err != nil {
		return err
	}
	if l.Kind == "bridge" {
		return fmt.Errorf("parent %s is a bridge itself; name it in Network.spec.bridge and remove Network.spec.parent", l.Name)
	}
	routes := routesOf(*l, o)
	uplink := slices.ContainsFunc(routes, func(r Route) bool { return r.Destination.Bits() == 0 })
	move := s.TakeParent && (len(l.Addresses) > 0 || uplink)
	if l.Master != s.Bridge || move {
		if err := free(s, l, uplink, s.TakeParent, "; or set Network.spec.takeParent to move its addresses and routes to the bridge"); err != nil {
			return err
		}
	}
	mac := s.BridgeMAC
	if move {
		// The host keeps its hardware address, by which its network may know it; and what then is on the bridge is not ours.
		mac = l.MAC
	}
	if err := p.bridge(s, o, mac); err != nil {
		return err
	}
	up := SetUp{l.Name, false}
	switch {
	case move:
		if !l.Up {
			p.once(up)
		}
		p.add(MoveAddresses{Parent: l.Name, Bridge: s.Bridge, Addresses: l.Addresses, Routes: routes, Gateway: gatewayOf(routes)})
		return nil
	case l.Master != s.Bridge:
		p.add(SetMaster{l.Name, s.Bridge})
	}
	if !l.Up {
		p.once(up)
	}
	return nil
}

// free refuses to take an interface from somebody. consent is that its addresses are taken; remedy is how to give it.
func free(s Segment, l *Link, uplink, consent bool, remedy string) error {
	switch {
	case l.Master != "" && l.Master != s.Bridge:
		return fmt.Errorf("interface %s is already a port of %s; use that in Network.spec.bridge, or another Network.spec.parent", l.Name, l.Master)
	case consent:
	case uplink:
		return fmt.Errorf("interface %s is the host's uplink (its default route leads there), which the host would lose as a port of %s; use another Network.spec.parent%s", l.Name, s.Bridge, remedy)
	case len(l.Addresses) > 0:
		return fmt.Errorf("interface %s carries the address %s, which the host would lose as a port of %s; use an interface without addresses%s", l.Name, l.Addresses[0], s.Bridge, remedy)
	}
	return nil
}

// routesOf are the routes through a link, those that others need first; not those that the kernel makes with its
// addresses.
func routesOf(l Link, o Observed) []Route {
	var near, far []Route
	for _, r := range o.HostRoutes {
		switch {
		case r.Link != l.Name:
		case r.Gateway.IsValid():
			far = append(far, r)
		case !slices.ContainsFunc(l.Addresses, func(a netip.Prefix) bool { return a.Masked() == r.Destination }):
			near = append(near, r)
		}
	}
	return append(near, far...)
}

// gatewayOf is the gateway of the default route, that of IPv4 if there are two.
func gatewayOf(routes []Route) (g netip.Addr) {
	for _, r := range routes {
		if r.Destination.Bits() == 0 && r.Gateway.IsValid() && (!g.IsValid() || r.Gateway.Is4() && g.Is6()) {
			g = r.Gateway
		}
	}
	return g
}

// vlan is a bridge, and its uplink the sub-interface of the tag.
func (p *plan) vlan(s Segment, o Observed) error {
	l, err := parent(s, o, s.MTU)
	if err != nil {
		return err
	}
	// What is tagged is told apart before a Linux bridge gets it; an aggregate or an Open vSwitch takes all.
	if m := find(o.Host, l.Master); l.Master != "" && (m == nil || m.Kind != "bridge") {
		return fmt.Errorf("interface %s is already a port of %s, which takes what is tagged, too; use %[2]s or another interface in Network.spec.parent", l.Name, l.Master)
	}
	sub := find(o.Host, s.Uplink)
	if sub != nil {
		switch {
		case sub.Kind != "vlan" || sub.VLAN != s.VLAN || sub.Under != l.Name:
			return fmt.Errorf("%s exists and is %s, not VLAN %d of %s; remove it (ip link del %s)", sub.Name, describe(*sub), s.VLAN, l.Name, sub.Name)
		case sub.MTU < s.MTU:
			return fmt.Errorf("interface %s has MTU %d, but the network wants %d; raise it (ip link set %s mtu %d), or lower Network.spec.mtu", sub.Name, sub.MTU, s.MTU, sub.Name, s.MTU)
		}
		if sub.Master != s.Bridge {
			uplink := slices.ContainsFunc(o.HostRoutes, func(r Route) bool { return r.Link == sub.Name && r.Destination.Bits() == 0 })
			remedy := fmt.Sprintf("; or use driver bridge with parent %s and takeParent", sub.Name)
			if err := free(s, sub, uplink, false, remedy); err != nil {
				return err
			}
		}
	}
	if err := p.bridge(s, o, s.BridgeMAC); err != nil {
		return err
	}
	if !l.Up {
		p.once(SetUp{l.Name, false})
	}
	if sub == nil {
		p.add(AddVLAN{s.Uplink, l.Name, s.VLAN, s.MTU})
		sub = &Link{Name: s.Uplink, Up: true}
	}
	if sub.Master != s.Bridge {
		p.add(SetMaster{sub.Name, s.Bridge})
	}
	if !sub.Up {
		p.add(SetUp{sub.Name, false})
	}
	return nil
}

// Tunnels add these many bytes: Ethernet, IP, UDP and VXLAN headers.
const (
	overhead4 = 50
	overhead6 = 70
)

// vxlan is a bridge, and its uplink a tunnel that knows only what the control plane says.
func (p *plan) vxlan(s Segment, o Observed) error {
	var local netip.Addr
	if s.Parent != "" {
		l, err := parent(s, o, 0)
		if err != nil {
			return err
		}
		if len(l.Addresses) == 0 {
			at := ""
			if l.Master != "" {
				at = fmt.Sprintf(" (it is a port of %s, which may have one)", l.Master)
			}
			return fmt.Errorf("interface %s has no address where tunnels could end%s; give it one, or correct Network.spec.parent", l.Name, at)
		}
		local = l.Addresses[0].Addr()
		overhead := overhead4
		if local.Is6() {
			overhead = overhead6
		}
		if _, err := parent(s, o, s.MTU+overhead); err != nil {
			return err
		}
		if !l.Up {
			p.once(SetUp{l.Name, false})
		}
	}
	t := find(o.Host, s.Uplink)
	if t != nil {
		switch {
		case t.Kind != "vxlan" || t.VNI != s.VNI || t.Port != s.Port || t.Local != local || t.Under != s.Parent:
			want := describe(Link{Kind: "vxlan", VNI: s.VNI, Port: s.Port, Local: local, Under: s.Parent})
			return fmt.Errorf("%s exists and is %s, not %s; if no instance uses it, remove it (ip link del %s)", t.Name, describe(*t), want, t.Name)
		case t.MTU < s.MTU:
			return fmt.Errorf("tunnel %s has MTU %d, but the network wants %d; if no instance uses it, remove it (ip link del %s)", t.Name, t.MTU, s.MTU, t.Name)
		case t.Master != "" && t.Master != s.Bridge:
			return fmt.Errorf("tunnel %s is a port of %s, not of %s; correct Network.spec.bridge, or remove the tunnel (ip link del %s)", t.Name, t.Master, s.Bridge, t.Name)
		}
	}
	if err := p.bridge(s, o, s.BridgeMAC); err != nil {
		return err
	}
	if t == nil {
		mac := s.BridgeMAC
		mac[1] = tunnelKind
		p.add(AddVXLAN{Name: s.Uplink, Parent: s.Parent, VNI: s.VNI, Port: s.Port, MTU: s.MTU, Local: local, MAC: mac})
		t = &Link{Name: s.Uplink, Up: true}
	}
	if t.Master != s.Bridge {
		p.add(SetMaster{t.Name, s.Bridge})
	}
	if flags := (PortFlags{Suppress: true}); t.Master != s.Bridge || t.PortFlags != flags {
		p.add(SetPort{t.Name, flags})
	}
	if !t.Up {
		p.add(SetUp{t.Name, false})
	}
	p.gateways(s, o)
	return nil
}

// ovs is an Open vSwitch; its uplink is a trunk.
func (p *plan) ovs(s Segment, o Observed) error {
	var port *SwitchPort
	sw := findSwitch(o, s.Bridge)
	switch have := find(o.Host, s.Bridge); {
	case sw == nil && have != nil:
		return fmt.Errorf("%s exists and is of kind %s, not an Open vSwitch; choose another name in Network.spec.bridge", s.Bridge, have.Kind)
	case sw == nil:
	case cmp.Or(sw.Datapath, "system") != s.Datapath:
		return fmt.Errorf("the Open vSwitch %s has datapath %q, but the network wants %q; correct Network.spec.datapath, or choose another name in Network.spec.bridge", s.Bridge, sw.Datapath, s.Datapath)
	default:
		port = sw.port(s.Parent)
	}
	if s.Parent != "" {
		l, err := parent(s, o, s.MTU)
		if err != nil {
			return err
		}
		if port == nil {
			uplink := slices.ContainsFunc(o.HostRoutes, func(r Route) bool { return r.Link == l.Name && r.Destination.Bits() == 0 })
			if err := free(s, l, uplink, false, ""); err != nil {
				return err
			}
		} else if port.VLAN != 0 {
			return fmt.Errorf("port %s of Open vSwitch %s has tag %d, but the uplink must be a trunk; clear it (ovs-vsctl clear port %s tag)", l.Name, s.Bridge, port.VLAN, l.Name)
		}
	}
	if sw == nil {
		p.once(AddSwitch{s.Bridge, s.Datapath})
	}
	// Its own port on the host, by which probes are sent.
	if own := find(o.Host, s.Bridge); sw == nil || own == nil || !own.Up {
		p.once(SetUp{s.Bridge, false})
	}
	if s.Parent == "" {
		return nil
	}
	if port == nil {
		p.once(AddSwitchPort{s.Bridge, SwitchPort{Name: s.Parent}})
	}
	if !find(o.Host, s.Parent).Up {
		p.once(SetUp{s.Parent, false})
	}
	return nil
}

// children hang on the parent, which keeps what it has.
func (p *plan) children(s Segment, o Observed) error {
	l, err := parent(s, o, s.MTU)
	if err != nil {
		return err
	}
	if l.Master != "" {
		return fmt.Errorf("interface %s is already a port of %s and can have no children; use driver bridge with that bridge, or another Network.spec.parent", l.Name, l.Master)
	}
	if !l.Up {
		p.once(SetUp{l.Name, false})
	}
	return nil
}

// gateways gives the host the gateways of the network, which it first keeps apart from others.
func (p *plan) gateways(s Segment, o Observed) {
	if len(s.Gateways) == 0 {
		return
	}
	if peers, ok := o.Hosted[s.Bridge]; !ok || !slices.Equal(slices.Sorted(slices.Values(peers)), s.Peers) {
		p.add(KeepApart{s.Bridge, s.Peers})
	}
	p.hostSettings(s.hostSettings(), o.HostSettings)
	have := find(o.Host, s.Bridge)
	for _, g := range s.Gateways {
		if have == nil || !slices.Contains(have.Addresses, g) {
			p.add(AddAddress{Link: s.Bridge, Address: g})
		}
	}
}

func findSwitch(o Observed, name string) *Switch {
	for i := range o.Switches {
		if o.Switches[i].Name == name {
			return &o.Switches[i]
		}
	}
	return nil
}

func (s *Switch) port(name string) *SwitchPort {
	if s == nil {
		return nil
	}
	for i := range s.Ports {
		if s.Ports[i].Name == name {
			return &s.Ports[i]
		}
	}
	return nil
}

// describe says what a device is.
func describe(l Link) string {
	switch l.Kind {
	case "vlan":
		return fmt.Sprintf("VLAN %d of %s", l.VLAN, l.Under)
	case "vxlan":
		s := fmt.Sprintf("VNI %d on port %d", l.VNI, l.Port)
		if l.Local.IsValid() {
			s += " from " + l.Local.String()
		}
		return strings.TrimSuffix(s+" over "+l.Under, " over ")
	default:
		return "of kind " + l.Kind
	}
}
