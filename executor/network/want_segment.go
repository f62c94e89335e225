package network

import (
	"fmt"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// DefaultMTU is used where the Network names none; DefaultOverlayMTU for vxlan, whose tunnels add 50 bytes over IPv4.
	DefaultMTU        = 1500
	DefaultOverlayMTU = 1450
	// DefaultPort is the UDP port of VXLAN (RFC 7348).
	DefaultPort = 4789

	minMTU, minMTU6, maxMTU = 576, 1280, 65535
)

// wantSegment is the Network as a host named host shall have it, without gateways.
func wantSegment(n *padisv1.Network, host string) (Segment, error) {
	s := Segment{Network: n.GetName(), Driver: n.GetDriver(), Parent: n.GetParent(), MTU: int(n.GetMtu())}
	if s.Driver == "" {
		s.Driver = DriverBridge
	}
	if s.Parent != "" && !ValidName(s.Parent) {
		return s, fmt.Errorf("%q is not a possible name of an interface (1 to 15 characters, no slash, no space); correct Network.spec.parent", s.Parent)
	}
	if err := s.wantMTU(); err != nil {
		return s, err
	}
	switch s.Driver {
	case DriverBridge, DriverVLAN, DriverVXLAN, DriverOVS:
		s.Bridge = n.GetBridge()
		if s.Bridge == "" {
			s.Bridge = BridgeName(s.Network)
		}
		s.BridgeMAC = hostMAC(bridgeKind, host, s.Bridge)
		if !ValidName(s.Bridge) {
			return s, fmt.Errorf("%q is not a possible name of a bridge (1 to 15 characters, no slash, no space); correct Network.spec.bridge", s.Bridge)
		}
		if s.Parent == s.Bridge {
			return s, fmt.Errorf("%q cannot be both the bridge and its parent; correct Network.spec.bridge or Network.spec.parent", s.Bridge)
		}
	case DriverMACVLAN, DriverRouted:
	default:
		return s, fmt.Errorf("driver %q is not one that this executor knows; use bridge, vlan, ovs, vxlan, macvlan, routed or host", s.Driver)
	}
	if s.Parent == "lo" {
		return s, fmt.Errorf("lo leads nowhere and can be no parent; correct Network.spec.parent")
	}
	if s.Parent == "" && (s.Driver == DriverVLAN || s.Driver == DriverMACVLAN) {
		return s, fmt.Errorf("driver %s needs a parent interface; set Network.spec.parent", s.Driver)
	}
	if err := s.wantNumbers(n); err != nil {
		return s, err
	}
	return s, s.wantPeers(n)
}

func (s *Segment) wantMTU() error {
	if s.MTU == 0 {
		s.MTU = DefaultMTU
		if s.Driver == DriverVXLAN {
			s.MTU = DefaultOverlayMTU
		}
	}
	if s.MTU < minMTU || s.MTU > maxMTU {
		return fmt.Errorf("MTU %d is not between %d and %d; correct Network.spec.mtu", s.MTU, minMTU, maxMTU)
	}
	return nil
}

// wantNumbers sets and checks what belongs to single drivers.
func (s *Segment) wantNumbers(n *padisv1.Network) error {
	vlan, vni, port := int(n.GetVlan()), int(n.GetVni()), int(n.GetPort())
	if vlan != 0 && s.Driver != DriverVLAN && s.Driver != DriverOVS {
		return fmt.Errorf("VLAN %d is set, but driver %s does not tag; use driver vlan or ovs, or remove Network.spec.vlan", vlan, s.Driver)
	}
	if vni != 0 && s.Driver != DriverVXLAN {
		return fmt.Errorf("VNI %d is set, but driver %s has no tunnels; use driver vxlan, or remove Network.spec.vni", vni, s.Driver)
	}
	switch s.Driver {
	case DriverBridge:
		s.TakeParent, s.Uplink = n.GetTakeParent() && s.Parent != "", s.Parent
	case DriverVLAN:
		if vlan < 1 || vlan > 4094 {
			return fmt.Errorf("VLAN %d is not between 1 and 4094; correct Network.spec.vlan", vlan)
		}
		s.VLAN, s.Uplink = vlan, VLANName(s.Parent, vlan)
	case DriverOVS:
		if vlan < 0 || vlan > 4094 {
			return fmt.Errorf("VLAN %d is not between 1 and 4094; correct Network.spec.vlan, or remove it for frames without a tag", vlan)
		}
		s.VLAN, s.Uplink, s.Datapath = vlan, s.Parent, n.GetDatapath()
		if s.Datapath == "" {
			s.Datapath = "system"
		}
		if s.Datapath != "system" && s.Datapath != "netdev" {
			return fmt.Errorf("datapath %q is not one of Open vSwitch; set Network.spec.datapath to system (the kernel's) or netdev (in user space)", s.Datapath)
		}
	case DriverVXLAN:
		if vni < 1 || vni > 1<<24-1 {
			return fmt.Errorf("VNI %d is not between 1 and 16777215; correct Network.spec.vni", vni)
		}
		if port < 0 || port > 65535 {
			return fmt.Errorf("UDP port %d is not between 1 and 65535; correct Network.spec.port, or remove it for %d", port, DefaultPort)
		}
		s.VNI, s.Port, s.Uplink = vni, port, TunnelName(s.Network)
		if port == 0 {
			s.Port = DefaultPort
		}
	case DriverMACVLAN:
		// The kernel offers no place where frames of one child could be told from those of another.
		if !n.GetAllowSpoofing() {
			return fmt.Errorf("driver macvlan cannot keep instances from using the addresses of others; set Network.spec.allowSpoofing, or use another driver")
		}
	}
	return nil
}

// wantPeers checks who has the gateway, and names the bridges of the peers. A launch does not say what bridges other
// networks have: so those that are peers have the name that bridges have by default.
func (s *Segment) wantPeers(n *padisv1.Network) error {
	if !n.GetHostGateway() {
		if len(n.GetPeers()) > 0 {
			return fmt.Errorf("peers are set, but its hosts do not route; set Network.spec.hostGateway, or remove Network.spec.peers")
		}
		return nil
	}
	if s.Driver != DriverVXLAN && (s.Driver != DriverBridge || s.Parent != "") {
		return fmt.Errorf("hostGateway would give one address to all hosts of a segment; use driver vxlan, or bridge without a parent, or remove Network.spec.hostGateway")
	}
	if len(n.GetPeers()) > 0 && s.Bridge != BridgeName(s.Network) {
		return fmt.Errorf("it has peers and the bridge %s, by which they do not know it; remove Network.spec.bridge, or Network.spec.peers", s.Bridge)
	}
	for _, p := range n.GetPeers() {
		if b := BridgeName(p); b != s.Bridge && !slices.Contains(s.Peers, b) {
			s.Peers = append(s.Peers, b)
		}
	}
	slices.Sort(s.Peers)
	return nil
}

// conflict tells which two of the segments cannot be on one host.
func conflict(segments []Segment) error {
	for i, b := range segments {
		for _, a := range segments[:i] {
			if a.Network == b.Network {
				continue
			}
			// Networks of different tags may share an Open vSwitch and its uplink.
			shared := a.Driver == DriverOVS && b.Driver == DriverOVS && a.Bridge == b.Bridge && a.Parent == b.Parent && a.Datapath == b.Datapath
			switch {
			case shared:
			case a.Bridge != "" && a.Bridge == b.Bridge:
				return fmt.Errorf("networks %s and %s both use bridge %s; give each a bridge of its own in Network.spec.bridge", a.Network, b.Network, a.Bridge)
			case a.Uplink != "" && a.Uplink == b.Uplink:
				return fmt.Errorf("networks %s and %s both take interface %s; give one of them another parent or another tag", a.Network, b.Network, a.Uplink)
			case a.takes() && b.takes() && a.Parent == b.Parent && a.Driver != b.Driver:
				return fmt.Errorf("networks %s (%s) and %s (%s) both take interface %s; give one of them another parent", a.Network, a.Driver, b.Network, b.Driver, a.Parent)
			case a.VNI != 0 && a.VNI == b.VNI && a.Port == b.Port:
				return fmt.Errorf("networks %s and %s both have VNI %d; give each its own in Network.spec.vni", a.Network, b.Network, a.VNI)
			}
		}
	}
	return nil
}

// takes tells whether the parent is the segment's alone: the kernel gives what a device receives to one taker.
func (s Segment) takes() bool {
	return s.Parent != "" && (s.Driver == DriverBridge || s.Driver == DriverOVS || s.Driver == DriverMACVLAN)
}
