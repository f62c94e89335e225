package declared

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// vxlanPort is the UDP port of VXLAN (RFC 7348) where a Network says nothing.
const vxlanPort = 4789

// networks judges them one by one, oldest first: what one has on the hosts no other can have.
func (v *View) networks(in Input) {
	sorted := sortedBy(in.Networks, func(a, b *v1alpha1.Network) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	declared := map[string]*v1alpha1.Network{}
	for _, n := range sorted {
		declared[n.Name] = n
	}
	var taken claims
	for _, n := range sorted {
		needed := poolsOn(n.Name, in.Pools)
		bgp, problem := config.Bgp(n, in.Secrets)
		verdict := accepted("instances can be attached%s", unmatched(n, declared))
		if n.Spec.Driver == v1alpha1.DriverVirtual {
			verdict = accepted("its pools give addresses to LoadBalancers")
		}
		switch wrong, clash := misfit(n), taken.clash(n); {
		case wrong != nil:
			verdict = refused(padisv1.ReasonInvalid, "%s: %s", wrong.Field, wrong.ErrorBody())
		case clash != "":
			verdict = refused(padisv1.ReasonInvalid, "%s", clash)
		case n.DeletionTimestamp != nil && len(needed) == 0:
			v.Networks[n.Name] = accepted("is being deleted")
			continue
		case problem != nil:
			verdict = refused(problem.Reason, "%s", problem.Message)
		case n.DeletionTimestamp != nil:
			verdict = Verdict{Accepted: true, Reason: padisv1.ReasonNetworkInUse, Message: fmt.Sprintf(
				"is being deleted, and stays while pools are on it: %s; delete them first", few(needed))}
		}
		verdict.Protected = len(needed) > 0
		v.Networks[n.Name] = verdict
		if !verdict.Accepted {
			continue
		}
		taken = append(taken, n)
		v.inForce[n.Name] = n
		v.Cluster.Networks = append(v.Cluster.Networks, network(n, bgp))
	}
	slices.SortFunc(v.Cluster.Networks, func(a, b *padisv1.Network) int { return strings.Compare(a.Name, b.Name) })
}

// misfit is why a Network cannot be made; nil if it can. A field that its driver has no use for is not handed on, and so is
// no reason.
func misfit(n *v1alpha1.Network) *field.Error {
	for _, e := range v1alpha1.ValidateNetwork(n) {
		if e.Type != field.ErrorTypeForbidden {
			return e
		}
	}
	return nil
}

// claims are the networks that have their interfaces on the hosts.
type claims []*v1alpha1.Network

// clash says why n cannot be made beside them; empty if it can.
func (c claims) clash(n *v1alpha1.Network) string {
	for _, o := range c {
		if text := clash(&n.Spec, &o.Spec, o.Name); text != "" {
			return text
		}
	}
	return ""
}

func clash(n, o *v1alpha1.NetworkSpec, other string) string {
	// Segments of one Open vSwitch bridge are told apart by their tags.
	tagged := n.Driver == v1alpha1.DriverOVS && o.Driver == v1alpha1.DriverOVS && n.Bridge == o.Bridge && n.Bridge != "" && n.VLAN != o.VLAN
	switch {
	case bridged(n) && bridged(o) && n.Bridge != "" && n.Bridge == o.Bridge && (!tagged || n.Parent != o.Parent):
		return fmt.Sprintf("bridge %s belongs to network %s already: choose another spec.bridge", n.Bridge, other)
	case plugged(n) && plugged(o) && n.Parent != "" && n.Parent == o.Parent && !tagged && !(n.Driver == v1alpha1.DriverMacvlan && o.Driver == v1alpha1.DriverMacvlan):
		return fmt.Sprintf("parent %s is the uplink of network %s already, and an interface has one bridge: choose another spec.parent", n.Parent, other)
	case tag(n) != "" && tag(n) == tag(o):
		return fmt.Sprintf("VLAN %d of %s belongs to network %s already: choose another spec.vlan", n.VLAN, n.Parent, other)
	case n.Driver == v1alpha1.DriverVXLAN && o.Driver == v1alpha1.DriverVXLAN && n.VNI == o.VNI && cmp.Or(n.Port, vxlanPort) == cmp.Or(o.Port, vxlanPort):
		return fmt.Sprintf("VNI %d belongs to network %s already: choose another spec.vni", n.VNI, other)
	}
	return ""
}

// bridged tells whether a network has a bridge on each host.
func bridged(n *v1alpha1.NetworkSpec) bool {
	switch n.Driver {
	case v1alpha1.DriverMacvlan, v1alpha1.DriverRouted, v1alpha1.DriverHost, v1alpha1.DriverVirtual:
		return false
	}
	return true
}

// plugged tells whether a network takes all that comes in by its parent.
func plugged(n *v1alpha1.NetworkSpec) bool {
	switch n.Driver {
	case v1alpha1.DriverVLAN, v1alpha1.DriverVXLAN, v1alpha1.DriverRouted, v1alpha1.DriverHost, v1alpha1.DriverVirtual:
		return false
	}
	return true
}

// tag names the VLAN of a parent that a network has; empty if it has none.
func tag(n *v1alpha1.NetworkSpec) string {
	if n.Parent == "" || n.VLAN == 0 || n.Driver != v1alpha1.DriverVLAN && n.Driver != v1alpha1.DriverOVS {
		return ""
	}
	return fmt.Sprint(n.Parent, "/", n.VLAN)
}

// unmatched says of which peers a network is kept apart although it names them.
func unmatched(n *v1alpha1.Network, declared map[string]*v1alpha1.Network) string {
	var apart []string
	for _, name := range sortedStrings(n.Spec.Peers) {
		switch o := declared[name]; {
		case o == nil:
			apart = append(apart, name+", which does not exist")
		case o.Spec.Gateway != v1alpha1.GatewayHost:
			apart = append(apart, name+", whose gateway is not Host")
		case !slices.Contains(o.Spec.Peers, n.Name):
			apart = append(apart, name+", whose spec.peers does not name this network")
		}
	}
	if len(apart) == 0 {
		return ""
	}
	return "; kept apart from " + strings.Join(apart, ", and from ")
}

func poolsOn(network string, pools []v1alpha1.IPPool) []string {
	var names []string
	for i := range pools {
		if pools[i].Spec.Network == network {
			names = append(names, pools[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

// network hands on the fields that the driver has.
func network(n *v1alpha1.Network, bgp *padisv1.Bgp) *padisv1.Network {
	s := &n.Spec
	if s.Driver == v1alpha1.DriverVirtual {
		return &padisv1.Network{Name: n.Name, Driver: s.Driver}
	}
	out := &padisv1.Network{
		Name: n.Name, Driver: cmp.Or(s.Driver, v1alpha1.DriverBridge), Mtu: s.EffectiveMTU(),
		HostGateway: s.Gateway == v1alpha1.GatewayHost, AllowSpoofing: s.AllowSpoofing, Bandwidth: Bandwidth(s.Bandwidth),
	}
	if bridged(s) {
		out.Bridge = s.Bridge
	}
	if s.Driver != v1alpha1.DriverRouted && s.Driver != v1alpha1.DriverHost {
		out.Parent = s.Parent
	}
	if out.HostGateway {
		out.Peers = sortedStrings(s.Peers)
	}
	switch out.Driver {
	case v1alpha1.DriverBridge:
		out.TakeParent = s.TakeParent && s.Parent != ""
	case v1alpha1.DriverVLAN:
		out.Vlan = s.VLAN
	case v1alpha1.DriverOVS:
		out.Vlan, out.Datapath = s.VLAN, strings.ToLower(s.Datapath)
	case v1alpha1.DriverVXLAN:
		out.Vni, out.Port = s.VNI, s.Port
	case v1alpha1.DriverRouted:
		out.Bgp = bgp
	case v1alpha1.DriverHost:
		out.Mtu, out.Bandwidth = 0, nil
		return out
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sysctls)) {
		out.Sysctls = append(out.Sysctls, &padisv1.Sysctl{Name: name, Value: s.Sysctls[name]})
	}
	return out
}

// Bandwidth converts a declared one; nil if nothing is declared.
func Bandwidth(b *v1alpha1.Bandwidth) *padisv1.Bandwidth {
	if b == nil || b.Ingress == nil && b.Egress == nil {
		return nil
	}
	out := &padisv1.Bandwidth{}
	if b.Ingress != nil {
		out.Ingress = b.Ingress.Value()
	}
	if b.Egress != nil {
		out.Egress = b.Egress.Value()
	}
	return out
}

func (v *View) poolsOf(in Input) {
	problems := map[string]v1alpha1.Problem{}
	for _, p := range v1alpha1.ValidatePools(in.Pools) {
		problems[strings.TrimPrefix(p.Object, "ippool/")] = p
	}
	for _, p := range sortedBy(in.Pools, func(a, b *v1alpha1.IPPool) int { return strings.Compare(a.Name, b.Name) }) {
		holders := in.Holders[p.Name]
		refuse := p.Refuser()
		if n := v.inForce[p.Spec.Network]; n != nil && n.Spec.Driver == v1alpha1.DriverVirtual {
			refuse = p.VirtualRefuser()
		}
		verdict := addresses(refuse, holders)
		problem, bad := problems[p.Name]
		network, known := v.Networks[p.Spec.Network]
		if n := v.inForce[p.Spec.Network]; n != nil && !bad {
			if misplaced := v1alpha1.PoolOnNetwork(p, n); misplaced != nil {
				problem, bad = *misplaced, true
			}
		}
		switch {
		case bad:
			verdict = refused(problem.Reason, "%s: %q %s", problem.Field, problem.Value, problem.Message)
		case !known:
			verdict = refused(padisv1.ReasonNetworkNotFound, "there is no Network %q: create it, or make the pool anew with another spec.network", p.Spec.Network)
		case !network.Accepted:
			verdict = refused(padisv1.ReasonNetworkNotFound, "Network %s is not in force: %s", p.Spec.Network, network.Message)
		case p.DeletionTimestamp != nil && len(holders) == 0:
			v.Pools[p.Name] = accepted("is being deleted")
			continue
		case p.DeletionTimestamp != nil:
			verdict = Verdict{Accepted: true, Reason: padisv1.ReasonPoolInUse, Message: fmt.Sprintf(
				"is being deleted, and stays while its addresses are held: %s; delete or move these Apps", few(holders))}
		}
		verdict.Protected = p.DeletionTimestamp != nil && len(holders) > 0
		v.Pools[p.Name] = verdict
		if !verdict.Accepted {
			continue
		}
		v.pools[p.Name] = p
		v.Cluster.Pools = append(v.Cluster.Pools, pool(p))
	}
}

// addresses is the verdict on a pool that is in force: which of its addresses are held although it does not give them any
// more.
func addresses(refuse func(netip.Addr) (reason, message string), holders []Holder) Verdict {
	var lost []Holder
	for _, h := range holders {
		if a, err := v1alpha1.ParseAddress(h.Address); err == nil {
			if reason, _ := refuse(a); reason != "" {
				lost = append(lost, h)
			}
		}
	}
	if len(lost) == 0 {
		return accepted("addresses can be leased")
	}
	return Verdict{Accepted: true, Reason: padisv1.ReasonAddressOutsidePool, Message: fmt.Sprintf(
		"addresses can be leased; held are %d that the pool does not give any more: %s; their instances keep them: take them back in with spec.ranges and spec.reserved, or scale in or move these Apps",
		len(lost), few(lost))}
}

func pool(p *v1alpha1.IPPool) *padisv1.Pool {
	out := &padisv1.Pool{
		Name: p.Name, Network: p.Spec.Network, Cidr: p.Spec.CIDR, Gateway: p.Spec.Gateway,
		Ranges: ranges(p.Spec.Ranges), Reserved: ranges(p.Spec.Reserved),
		Namespaces: sortedStrings(p.Spec.Namespaces),
		DnsServers: slices.Clone(p.Spec.DNSServers), DnsSearch: slices.Clone(p.Spec.DNSSearch),
	}
	if d := p.Spec.ReuseDelay; d != nil {
		out.ReuseDelayMs = max(0, d.Milliseconds())
	}
	return out
}

func ranges(in []v1alpha1.AddressRange) []*padisv1.AddressRange {
	var out []*padisv1.AddressRange
	for _, r := range in {
		out = append(out, &padisv1.AddressRange{From: r.From, To: cmp.Or(r.To, r.From)})
	}
	return out
}
