package network

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

func (AddBridge) op()      {}
func (AddVLAN) op()        {}
func (AddVXLAN) op()       {}
func (SetPort) op()        {}
func (AddForward) op()     {}
func (DelForward) op()     {}
func (AddNeighbour) op()   {}
func (DelNeighbour) op()   {}
func (MoveAddresses) op()  {}
func (SetMaster) op()      {}
func (SetUp) op()          {}
func (SetDown) op()        {}
func (DelLink) op()        {}
func (AddVeth) op()        {}
func (AddMACVLAN) op()     {}
func (Set) op()            {}
func (AddAddress) op()     {}
func (DelAddress) op()     {}
func (AddRoute) op()       {}
func (DelRoute) op()       {}
func (SetRate) op()        {}
func (AddSwitch) op()      {}
func (AddSwitchPort) op()  {}
func (WholeChecksums) op() {}
func (AddRelay) op()       {}
func (DelSwitchPort) op()  {}
func (Guard) op()          {}
func (Unguard) op()        {}
func (KeepApart) op()      {}

func (o AddBridge) String() string {
	return fmt.Sprintf("ip link add %s address %s mtu %d up type bridge forward_delay 0 stp_state 0", o.Name, o.MAC, o.MTU)
}
func (o AddVLAN) String() string {
	return fmt.Sprintf("ip link add link %s name %s mtu %d up type vlan id %d", o.Parent, o.Name, o.MTU, o.Tag)
}
func (o AddVXLAN) String() string {
	s := fmt.Sprintf("ip link add %s address %s mtu %d up type vxlan id %d dstport %d nolearning", o.Name, o.MAC, o.MTU, o.VNI, o.Port)
	if o.Local.IsValid() {
		s += " local " + o.Local.String()
	}
	if o.Parent != "" {
		s += " dev " + o.Parent
	}
	return s
}
func (o SetPort) String() string {
	f := o.Flags
	return fmt.Sprintf("bridge link set dev %s flood %s learning %s neigh_suppress %s", o.Link, onOff(f.Flood), onOff(f.Learning), onOff(f.Suppress))
}
func (o AddForward) String() string {
	verb := "add"
	if o.Forward.MAC == (MAC{}) {
		verb = "append"
	}
	return fmt.Sprintf("bridge fdb %s %s dev %s dst %s self permanent", verb, o.Forward.MAC, o.Link, o.Forward.Endpoint)
}
func (o DelForward) String() string {
	return fmt.Sprintf("bridge fdb del %s dev %s dst %s self", o.Forward.MAC, o.Link, o.Forward.Endpoint)
}
func (o AddNeighbour) String() string {
	return fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud permanent", o.Neighbour.Address, o.Neighbour.MAC, o.Link)
}
func (o DelNeighbour) String() string {
	return fmt.Sprintf("ip neigh del %s dev %s", o.Neighbour.Address, o.Link)
}

// String prints all steps of the move in one line.
func (o MoveAddresses) String() string {
	steps := []string{SetMaster{o.Parent, o.Bridge}.String()}
	for _, a := range o.Addresses {
		steps = append(steps, DelAddress{Link: o.Parent, Address: a}.String(), AddAddress{Link: o.Bridge, Address: a}.String())
	}
	for _, r := range o.Routes {
		r.Link = o.Bridge
		steps = append(steps, AddRoute{Route: r}.String())
	}
	s := strings.Join(steps, " && ")
	if o.Gateway.IsValid() {
		s += " # all is put back if " + o.Gateway.String() + " does not answer"
	}
	return s
}
func (o SetMaster) String() string { return fmt.Sprintf("ip link set %s master %s", o.Link, o.Bridge) }
func (o SetUp) String() string     { return fmt.Sprintf("ip %slink set %s up", side(o.Inside), o.Link) }
func (o SetDown) String() string   { return fmt.Sprintf("ip %slink set %s down", side(o.Inside), o.Link) }
func (o DelLink) String() string   { return fmt.Sprintf("ip %slink del %s", side(o.Inside), o.Link) }
func (o AddVeth) String() string {
	i := o.Interface
	master := ""
	if i.Bridge != "" && i.Driver != DriverOVS {
		master = " master " + i.Bridge
	}
	return fmt.Sprintf("ip link add %s mtu %d%s up type veth peer name %s netns INSTANCE address %s mtu %d", i.Host, i.MTU, master, i.Inside, i.MAC, i.MTU)
}
func (o AddRelay) String() string {
	return fmt.Sprintf("ip link add %s address %s mtu %d master %s type veth peer name %s mtu %d arp off && bridge link set dev %s flood off mcast_flood off bcast_flood off",
		o.Port, o.MAC, o.MTU, o.Bridge, o.Out, o.MTU, o.Port)
}
func (o WholeChecksums) String() string {
	return fmt.Sprintf("ip netns exec INSTANCE ethtool -K %s tx off", o.Link)
}
func (o AddMACVLAN) String() string {
	i := o.Interface
	return fmt.Sprintf("ip link add link %s name %s netns INSTANCE address %s mtu %d type macvlan mode bridge", i.Parent, i.Inside, i.MAC, i.MTU)
}
func (o Set) String() string {
	s := "net/" + o.Setting.Key + "=" + o.Setting.Value
	if strings.ContainsAny(s, " \t") {
		s = "'" + s + "'"
	}
	if o.Inside {
		return "ip netns exec INSTANCE sysctl -w " + s
	}
	return "sysctl -w " + s
}
func (o AddAddress) String() string {
	s := fmt.Sprintf("ip %saddr replace %s dev %s", side(o.Inside), o.Address, o.Link)
	if o.Address.Addr().Is6() {
		s += " nodad"
	}
	if o.Valid > 0 {
		s += fmt.Sprintf(" valid_lft %d preferred_lft %[1]d", o.Valid/time.Second)
	}
	return s
}
func (o DelAddress) String() string {
	return fmt.Sprintf("ip %saddr del %s dev %s", side(o.Inside), o.Address, o.Link)
}
func (o AddRoute) String() string {
	return fmt.Sprintf("ip %sroute replace %s", side(o.Inside), o.Route)
}
func (o DelRoute) String() string { return fmt.Sprintf("ip %sroute del %s", side(o.Inside), o.Route) }

// String prints it as ip route does: "default via 10.0.0.1 dev eth0".
func (r Route) String() string {
	s := r.Destination.String()
	if r.Destination.Bits() == 0 {
		s = "default"
	}
	if r.Gateway.IsValid() {
		s += " via " + r.Gateway.String()
	}
	s += " dev " + r.Link
	if r.Onlink {
		s += " onlink"
	}
	return s
}
func (o SetRate) String() string {
	tc := "tc"
	if o.Inside {
		tc = "tc -n INSTANCE"
	}
	if o.Rate == 0 {
		return fmt.Sprintf("%s qdisc del dev %s root", tc, o.Link)
	}
	return fmt.Sprintf("%s qdisc replace dev %s root tbf rate %dbit burst %d latency 50ms", tc, o.Link, o.Rate, Burst(o.Rate))
}

// Burst is how many bytes a token bucket of a rate (bits per second) lets pass at once: what the rate is in 10 ms, which
// is longer than a tick of any kernel, and no less than a packet of 64 KiB, as they leave an instance.
func Burst(rate int64) int64 { return max(rate/8/100, 64<<10) }

func (o AddSwitch) String() string {
	return fmt.Sprintf("ovs-vsctl --may-exist add-br %s -- set bridge %[1]s datapath_type=%s", o.Name, o.Datapath)
}
func (o AddSwitchPort) String() string {
	s := fmt.Sprintf("ovs-vsctl --may-exist add-port %s %s", o.Switch, o.Port.Name)
	if o.Port.VLAN == 0 {
		return s + fmt.Sprintf(" -- clear port %s tag", o.Port.Name)
	}
	return s + fmt.Sprintf(" -- set port %s tag=%d", o.Port.Name, o.Port.VLAN)
}
func (o DelSwitchPort) String() string {
	return fmt.Sprintf("ovs-vsctl --if-exists del-port %s %s", o.Switch, o.Port)
}

// String is no command: a guard is a batch of rules.
func (o Guard) String() string {
	p := o.Port
	s := fmt.Sprintf("guard %s: only %s with %s", p.Link, p.MAC, join(p.Addresses))
	if len(p.Loopback) > 0 {
		s += ", IP also from " + join(p.Loopback)
	}
	return s
}
func (o Unguard) String() string { return "unguard " + o.Link }
func (o KeepApart) String() string {
	s := "keep " + o.Bridge + " apart from other networks"
	if len(o.Peers) > 0 {
		s += " but " + strings.Join(o.Peers, ", ")
	}
	return s
}

func side(inside bool) string {
	if inside {
		return "-n INSTANCE "
	}
	return ""
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func join(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}
