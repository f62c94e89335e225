package network

import (
	"net/netip"
	"time"
)

// Drivers, as Network.driver names them; an empty one is Bridge.
const (
	DriverBridge  = "bridge"
	DriverVLAN    = "vlan"
	DriverOVS     = "ovs"
	DriverVXLAN   = "vxlan"
	DriverMACVLAN = "macvlan"
	DriverRouted  = "routed"
	DriverHost    = "host"
)

// Segment is a Network as it is on this host.
type Segment struct {
	Network, Driver string
	// Bridge is the switch that instances are plugged into (bridge, vlan, vxlan: a Linux bridge; ovs: an Open vSwitch).
	// Empty for macvlan and routed.
	Bridge string
	// BridgeMAC is given to a bridge that is made, so that it does not change with its ports.
	BridgeMAC MAC
	// Parent is the interface of the host below: the uplink itself (bridge, ovs), the trunk (vlan), what the children
	// hang on (macvlan), whose first address is the end of the tunnels (vxlan). Empty: none.
	Parent string
	// TakeParent is the consent that addresses and routes of the parent move to the bridge (bridge).
	TakeParent bool
	// Uplink is the bridge's port that leads off the host: the parent (bridge, ovs), the parent's sub-interface (vlan), the
	// tunnel (vxlan). Empty: none.
	Uplink string
	// VLAN is the tag (vlan, ovs), VNI the identifier and Port the UDP port (vxlan). 0: none.
	VLAN, VNI, Port int
	MTU             int
	// Gateways are addresses that the host has on the bridge itself, with the length of their subnets (Network.host_gateway).
	Gateways []netip.Prefix
	// Peers are bridges of other networks with host gateways that may be routed to and from.
	Peers []string
	// Datapath of Open vSwitch: "system" or "netdev".
	Datapath string
}

// Bandwidth in bits per second; 0 is without a limit. Ingress is what the instance receives.
type Bandwidth struct{ Ingress, Egress int64 }

// Setting is a sysctl: Key is the path below /proc/sys/net with slashes, "core/somaxconn", "ipv4/conf/eth0/arp_notify".
type Setting struct{ Key, Value string }

// Interface is one interface of an instance.
type Interface struct {
	// Network and Driver are those of its Segment.
	Network, Driver string
	// Host is the name of the end on the host, Inside that of the end that the instance sees. macvlan has no end on the
	// host: there Host is a name that the interface has for a moment only.
	Host, Inside string
	// Bridge that Host is a port of; empty for macvlan and routed. Parent is macvlan's.
	Bridge, Parent string
	// VLAN is the tag of the port (ovs).
	VLAN int
	MTU  int
	MAC  MAC
	// Addresses with the length of their subnets, for example 10.44.0.5/16: at most one of each family, IPv4 first. Those
	// of routed are /32 and /128.
	Addresses []netip.Prefix
	// Gateways of the default routes, at most one of each family, only on the first interface that has one of that family.
	Gateways []netip.Addr
	// Probe demands that the addresses are found silent before they are configured.
	Probe bool
	// Guarded: the instance can use no other source address, neither of IP nor of Ethernet.
	Guarded   bool
	Bandwidth Bandwidth
	// Settings of the interface; the keys name it by Inside.
	Settings []Setting
}

// Wanted is the network of one instance.
type Wanted struct {
	// Segments of the Interfaces, each once, by name.
	Segments   []Segment
	Interfaces []Interface
	// Loopback addresses are accepted and never announced: those of load balancers. In order, each once.
	Loopback []netip.Addr
	// Settings of the whole namespace, in order.
	Settings []Setting
	// Hosted: the instance has the host's own network, and nothing is made for it. There are no interfaces then.
	Hosted bool
	// Valid is how long addresses stay without a renewal, rounded down to seconds by the kernel, which takes them away by
	// itself; 0 is for ever.
	Valid time.Duration
}

// Answer is who answered for an address that should be silent.
type Answer struct {
	Address netip.Addr
	MAC     MAC
}

// Remote is another host of a VXLAN network and the interfaces of its instances there.
type Remote struct {
	Endpoint netip.Addr
	// Interfaces are the addresses of each interface, IPv4 first: its hardware address follows from the first.
	Interfaces [][]netip.Addr
}

// Link is an interface as observed.
type Link struct {
	Name string
	// Kind as rtnetlink names it: bridge, veth, vlan, vxlan, macvlan, openvswitch ...; "device" for hardware.
	Kind string
	Up   bool
	// Carrier: the other end of the cable is there.
	Carrier bool
	MAC     MAC
	MTU     int
	Master  string
	// Addresses without those of link-local scope, but with fe80::1, which is the gateway of routed.
	Addresses []netip.Prefix
	// Under is the interface below a vlan, vxlan or macvlan, if it has one.
	Under string
	// VLAN of a vlan; VNI, Port and Local of a vxlan.
	VLAN, VNI, Port int
	Local           netip.Addr
	// Flags as a port of a bridge.
	PortFlags PortFlags
	// Rate is that of a token bucket at the root, in bits per second; 0 if there is none.
	Rate int64
	// Forwards and Neighbours are the permanent entries (Forwards of a vxlan, Neighbours of a bridge).
	Forwards   []Forward
	Neighbours []Neighbour
}

// PortFlags of a port of a Linux bridge.
type PortFlags struct {
	// Flood: frames to unknown hardware addresses leave here. Learning: source addresses are learnt. Suppress: what the
	// bridge knows of neighbours it answers itself, and asks nobody behind this port.
	Flood, Learning, Suppress bool
}

// Forward is an entry of a vxlan's forwarding table. The zero MAC is the list of those that get what is for all.
type Forward struct {
	MAC      MAC
	Endpoint netip.Addr
}

// Neighbour is an entry of a neighbour table.
type Neighbour struct {
	Address netip.Addr
	MAC     MAC
}

// Route is an entry of a main routing table; the zero Destination of a family (0.0.0.0/0, ::/0) is its default route.
type Route struct {
	Destination netip.Prefix
	// Gateway is the zero value for what is on the link itself.
	Gateway netip.Addr
	Link    string
	// Onlink: the gateway is reached through Link although no subnet says so.
	Onlink bool
}

// SwitchPort is a port of an Open vSwitch.
type SwitchPort struct {
	Name string
	// VLAN tag; 0 is a trunk.
	VLAN int
}

// Switch is an Open vSwitch as observed.
type Switch struct {
	Name, Datapath string
	Ports          []SwitchPort
}

// GuardedPort is what may come from an instance: these addresses, from this hardware address, and nothing else (ARP and
// neighbour discovery included; probes for its own addresses, its own IPv6 link-local address, and DHCP-free multicast
// membership reports are allowed).
type GuardedPort struct {
	// Link is the end on the host.
	Link string
	// Driver tells where its packets pass: bridge, vlan, vxlan (bridge family), routed (inet family), ovs (flows).
	Driver string
	MAC    MAC
	// Addresses, sorted: of all interfaces that the instance has on this network.
	Addresses []netip.Addr
	// Loopback addresses, sorted: they may be the source of IP packets (a real server answers from them), but nothing may
	// be claimed of them in ARP or neighbour discovery.
	Loopback []netip.Addr
}

// Observed is what there is: on the host at least the links that are wanted by name (HostLinks) and the masters of parents,
// and all of the instance.
type Observed struct {
	Host   []Link
	Inside []Link
	// HostRoutes are the routes through the host's links that are wanted by name; InsideRoutes all of the instance.
	HostRoutes, InsideRoutes []Route
	// Switches are the Open vSwitches that are wanted by name.
	Switches []Switch
	// Guarded are the ports of this owner that are guarded, by Link; Hosted the bridges whose networks are kept apart, with
	// those that each may be routed to.
	Guarded map[string]GuardedPort
	Hosted  map[string][]string
	// Settings by key: of the host those that are wanted, of the instance those that are wanted.
	HostSettings, InsideSettings map[string]string
}
