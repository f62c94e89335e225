package network

import (
	"fmt"
	"net/netip"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Gateway4 and Gateway6 are what instances of routed networks send to; no host has the first one, its host end answers
// ARP for it.
func Gateway4() netip.Addr { return netip.AddrFrom4([4]byte{169, 254, 1, 1}) }
func Gateway6() netip.Addr { return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: 1}) }

// minRate is the least bandwidth, in bits per second, with which a connection is of any use.
const minRate = 8000

// wantInterface is the interface of one attachment, without names and settings.
func wantInterface(a *padisv1.Attachment, s Segment) (Interface, error) {
	n := a.GetNetwork()
	addr, err := netip.ParseAddr(a.GetAddress())
	if err != nil || !usable(addr) {
		return Interface{}, fmt.Errorf("address %q is not one that an instance can have; correct the ranges of pool %s", a.GetAddress(), a.GetPool())
	}
	if addr.Is6() && s.MTU < minMTU6 {
		return Interface{}, fmt.Errorf("MTU %d is too small for the IPv6 address %s; set Network.spec.mtu to %d at least", s.MTU, addr, minMTU6)
	}
	i := Interface{Network: s.Network, Driver: s.Driver, Bridge: s.Bridge, MTU: s.MTU, MAC: AddressMAC(addr), Probe: a.GetProbe(), Guarded: !n.GetAllowSpoofing()}
	if s.Driver == DriverMACVLAN {
		i.Parent = s.Parent
	}
	if s.Driver == DriverOVS {
		i.VLAN = s.VLAN
	}
	if i.Bandwidth, err = wantBandwidth(a, s); err != nil {
		return Interface{}, err
	}
	if s.Driver == DriverRouted {
		i.Addresses = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
		i.Gateways = []netip.Addr{Gateway4()}
		if addr.Is6() {
			i.Gateways = []netip.Addr{Gateway6()}
		}
		return i, nil
	}
	length := int(a.GetPrefixLength())
	if length < 1 || length > addr.BitLen() {
		return Interface{}, fmt.Errorf("prefix length %d of %s is not between 1 and %d; correct IPPool.spec.cidr of pool %s", length, addr, addr.BitLen(), a.GetPool())
	}
	i.Addresses = []netip.Prefix{netip.PrefixFrom(addr, length)}
	if a.GetGateway() == "" {
		return i, nil
	}
	g, err := netip.ParseAddr(a.GetGateway())
	wrong := ""
	switch {
	case err != nil || g.Zone() != "":
		wrong = "is not an address"
	case g.Is4() != addr.Is4():
		wrong = "is of another family than " + addr.String()
	case g == addr:
		wrong = "is the instance's own address"
	case !i.Addresses[0].Contains(g):
		wrong = "is outside " + i.Addresses[0].Masked().String()
	}
	if wrong != "" {
		return Interface{}, fmt.Errorf("gateway %q %s; correct IPPool.spec.gateway of pool %s", a.GetGateway(), wrong, a.GetPool())
	}
	i.Gateways = []netip.Addr{g}
	return i, nil
}

// wantBandwidth is that of the attachment, or else of its Network. Kernels count bytes: it is rounded down to those.
func wantBandwidth(a *padisv1.Attachment, s Segment) (Bandwidth, error) {
	p := a.GetBandwidth()
	if p == nil {
		p = a.GetNetwork().GetBandwidth()
	}
	b := Bandwidth{Ingress: p.GetIngress() &^ 7, Egress: p.GetEgress() &^ 7}
	for _, r := range []int64{b.Ingress, b.Egress} {
		if r != 0 && r < minRate {
			return b, fmt.Errorf("bandwidth of %d bits per second is less than %d; raise it, or set 0 for no limit", r, minRate)
		}
	}
	if b.Ingress != 0 && s.Driver == DriverMACVLAN {
		return b, fmt.Errorf("ingress bandwidth %d is set, but driver macvlan can limit egress only; remove it, or use another driver", b.Ingress)
	}
	return b, nil
}
