package v1alpha1

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// minMTU6 is the least that a link with IPv6 must carry (RFC 8200, section 5).
const minMTU6 = 1280

var (
	// sysctlName is a setting below net, written with dots.
	sysctlName = regexp.MustCompile(`^net(\.[A-Za-z0-9_-]+)+$`)
	// ownSysctls are those that Padis sets itself, by their last part: without them addresses would be announced or found
	// otherwise than the leases say.
	ownSysctls = []string{
		"accept_dad", "accept_ra", "arp_announce", "arp_ignore", "arp_notify", "autoconf", "disable_ipv6", "ndisc_notify", "proxy_arp",
	}
)

// allowance says whether a driver has a field.
type allowance int

const (
	forbidden allowance = iota
	optional
	required
)

// rules are what a driver makes of the fields of a Network.
type rules struct {
	bridge, parent, vlan, vni allowance
	// hostGateway tells that hosts may be the gateway.
	hostGateway bool
}

func rulesOf(driver string) rules {
	switch driver {
	case DriverBridge:
		return rules{bridge: optional, parent: optional, hostGateway: true}
	case DriverVLAN:
		return rules{bridge: optional, parent: required, vlan: required}
	case DriverOVS:
		return rules{bridge: optional, parent: optional, vlan: optional}
	case DriverVXLAN:
		return rules{bridge: optional, parent: optional, vni: required, hostGateway: true}
	case DriverMacvlan:
		return rules{parent: required}
	}
	return rules{}
}

// ValidateNetwork finds what the schema cannot say of one Network: which fields its driver needs, and which it must not
// have. The latter are errors of type Forbidden: such a field does no harm, but what it says is not done.
func ValidateNetwork(n *Network) field.ErrorList {
	var (
		errs   field.ErrorList
		s      = &n.Spec
		path   = field.NewPath("spec")
		driver = driverOf(s)
		r      = rulesOf(driver)
	)
	only := func(at string, set bool, drivers string) {
		if set {
			errs = append(errs, field.Forbidden(path.Child(at), fmt.Sprintf("the driver %s has none: unset it, or choose the driver %s", driver, drivers)))
		}
	}
	check := func(at string, set bool, a allowance, drivers, why string) {
		switch {
		case a == forbidden:
			only(at, set, drivers)
		case a == required && !set:
			errs = append(errs, field.Required(path.Child(at), fmt.Sprintf("the driver %s needs %s", driver, why)))
		}
	}
	check("bridge", s.Bridge != "", r.bridge, "bridge, vlan, ovs or vxlan", "")
	check("parent", s.Parent != "", r.parent, "bridge, vlan, ovs, vxlan or macvlan", "it: name the interface of the hosts that the segment is on, for example eth1")
	check("vlan", s.VLAN != 0, r.vlan, "vlan or ovs", "the tag of the segment, from 1 to 4094")
	check("vni", s.VNI != 0, r.vni, "vxlan", "the identifier of the segment, from 1 to 16777215")
	check("port", s.Port != 0, min(r.vni, optional), "vxlan", "")
	only("datapath", s.Datapath != "" && driver != DriverOVS, DriverOVS)
	only("bgp", s.BGP != nil && driver != DriverRouted, DriverRouted)
	if driver == DriverHost || driver == DriverVirtual {
		only("mtu", s.MTU != 0, "another one")
		only("sysctls", len(s.Sysctls) > 0, "another one")
		only("bandwidth", s.Bandwidth != nil, "another one")
	}
	only("allowSpoofing", s.AllowSpoofing && driver == DriverVirtual, "another one")
	if driver == DriverMacvlan {
		if !s.AllowSpoofing {
			errs = append(errs, field.Required(path.Child("allowSpoofing"),
				"with the driver macvlan nothing stands between an instance and the segment, so what it says it is cannot be checked: set true, or choose the driver bridge"))
		}
		if s.Bandwidth != nil && s.Bandwidth.Ingress != nil {
			only("bandwidth.ingress", true, "bridge, vlan, ovs, vxlan or routed")
		}
	}
	if s.TakeParent {
		switch {
		case driver != DriverBridge:
			only("takeParent", true, DriverBridge)
		case s.Parent == "":
			errs = append(errs, field.Forbidden(path.Child("takeParent"), "there is no parent to take: name it in parent, or unset takeParent"))
		}
	}
	errs = append(errs, validateGateway(n, r)...)
	errs = append(errs, validateSysctls(s.Sysctls)...)
	return append(errs, validateBGP(s.BGP)...)
}

func validateGateway(n *Network, r rules) field.ErrorList {
	s, path := &n.Spec, field.NewPath("spec")
	if s.Gateway != GatewayHost {
		if len(s.Peers) > 0 {
			return field.ErrorList{field.Forbidden(path.Child("peers"), "only hosts that are the gateway keep networks apart, or let them through: set gateway: Host, or unset peers")}
		}
		return nil
	}
	switch driver := driverOf(s); {
	case !r.hostGateway:
		return field.ErrorList{field.Invalid(path.Child("gateway"), s.Gateway,
			fmt.Sprintf("is nothing that hosts can be with the driver %s: set External, or choose the driver vxlan, or bridge without a parent", driver))}
	case driver != DriverVXLAN && s.Parent != "":
		return field.ErrorList{field.Invalid(path.Child("gateway"), s.Gateway,
			"would give each host the same address on the segment of parent "+s.Parent+": set External, or unset parent")}
	}
	if len(s.Peers) > 0 && s.Bridge != "" {
		return field.ErrorList{field.Forbidden(path.Child("bridge"), "networks that are routed to each other find each other's bridges by their usual names: unset it, or unset peers")}
	}
	if i := slices.Index(s.Peers, n.Name); i >= 0 {
		return field.ErrorList{field.Invalid(path.Child("peers").Index(i), n.Name, "is the network itself: remove it")}
	}
	return nil
}

func validateSysctls(sysctls map[string]string) field.ErrorList {
	const most = 256
	var errs field.ErrorList
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		at := field.NewPath("spec", "sysctls").Key(name)
		value := sysctls[name]
		switch parts := strings.Split(name, "."); {
		case len(name) > most || !sysctlName.MatchString(name):
			errs = append(errs, field.Invalid(at, name, "is no setting below net: write it with dots, for example net.core.somaxconn"))
		case slices.Contains(ownSysctls, parts[len(parts)-1]):
			errs = append(errs, field.Invalid(at, value, "Padis sets it itself, so that addresses are announced as they are leased: remove it"))
		case value == "" || len(value) > most || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' }):
			errs = append(errs, field.Invalid(at, value, fmt.Sprintf("must be one line of 1 to %d characters", most)))
		}
	}
	return errs
}

func validateBGP(b *BGP) field.ErrorList {
	if b == nil {
		return nil
	}
	var errs field.ErrorList
	path := field.NewPath("spec", "bgp", "peers")
	if len(b.Peers) == 0 {
		errs = append(errs, field.Required(path, "name the routers, or unset bgp"))
	}
	for i, p := range b.Peers {
		a, err := ParseAddress(p.Address)
		if err != nil || a.IsUnspecified() || a.IsMulticast() {
			errs = append(errs, field.Invalid(path.Index(i).Child("address"), p.Address, "must be the IP address of a router, for example 10.44.0.1 or fd00:44::1"))
			continue
		}
		for j, q := range b.Peers[:i] {
			if other, err := ParseAddress(q.Address); err == nil && other == a && shareAgents(p.Agents, q.Agents) {
				errs = append(errs, field.Invalid(path.Index(i).Child("address"), p.Address,
					fmt.Sprintf("is already given at %s: an agent has one session with a router, write one of them, or give them different agents", path.Index(j))))
				break
			}
		}
	}
	return errs
}

// shareAgents tells whether two selections name an agent together for certain. None means all.
func shareAgents(a, b []AgentSelector) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(s AgentSelector) bool { return slices.Contains(b, s) })
}

// NetworkChange finds what must not change of a Network while pools are on it, or must not be as these are. old is nil if it is new.
func NetworkChange(old, n *Network, pools []IPPool) field.ErrorList {
	var (
		errs field.ErrorList
		path = field.NewPath("spec")
		on   []string
	)
	for i := range pools {
		if pools[i].Spec.Network != n.Name {
			continue
		}
		on = append(on, pools[i].Name)
		if p := poolOnNetwork(&pools[i], n); p != "" && (old == nil || poolOnNetwork(&pools[i], old) == "") {
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("does not fit IPPool %s, which %s", pools[i].Name, p)))
		}
	}
	if old == nil || len(on) == 0 {
		return errs
	}
	fixed := func(at string, was, is any) {
		if was != is {
			errs = append(errs, field.Forbidden(path.Child(at), fmt.Sprintf("cannot be changed from %v to %v while pools are on the network (%s): make a new Network with pools of its own, and move the Apps over", was, is, someNames(on))))
		}
	}
	fixed("driver", driverOf(&old.Spec), driverOf(&n.Spec))
	fixed("vlan", old.Spec.VLAN, n.Spec.VLAN)
	fixed("vni", old.Spec.VNI, n.Spec.VNI)
	return errs
}

// PoolOnNetwork says why a pool cannot be on its Network; nil if it can.
func PoolOnNetwork(p *IPPool, n *Network) *Problem {
	message := poolOnNetwork(p, n)
	if message == "" {
		return nil
	}
	return &Problem{Object: "ippool/" + p.Name, Field: "spec.network", Value: n.Name, Reason: padisv1.ReasonInvalid, Message: message}
}

func poolOnNetwork(p *IPPool, n *Network) string {
	if driverOf(&n.Spec) == DriverHost {
		return fmt.Sprintf("is on Network %s with the driver host, whose instances have the addresses of their hosts: name another Network, and no pool in Apps that want this one", n.Name)
	}
	prefix, ok := parsePrefix(p.Spec.CIDR)
	if ok && prefix.Addr().Is4() && prefix.Bits() > maxHosts4 && driverOf(&n.Spec) != DriverVirtual {
		return fmt.Sprintf("has the prefix length /%d on Network %s with the driver %s, and a segment with hosts needs /8 to /%d: make the pool anew with another spec.cidr, or on a Network with the driver virtual",
			prefix.Bits(), n.Name, driverOf(&n.Spec), maxHosts4)
	}
	if ok && prefix.Addr().Is6() && n.Spec.EffectiveMTU() < minMTU6 {
		return fmt.Sprintf("has IPv6 addresses on Network %s with an mtu of %d, and IPv6 needs %d: raise spec.mtu of the Network, or make the pool on another", n.Name, n.Spec.EffectiveMTU(), minMTU6)
	}
	return ""
}

// someNames lists the first few names and counts the rest.
func someNames(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Shrinkage finds the addresses of holders, by address, that a pool gave before a change and does not give after it.
func Shrinkage(old, p *IPPool, holders map[string]string) field.ErrorList {
	before, errs := parseSubnet(&old.Spec)
	after, more := parseSubnet(&p.Spec)
	if len(errs)+len(more) > 0 {
		return nil
	}
	var lost []string
	for _, text := range slices.Sorted(maps.Keys(holders)) {
		a, err := ParseAddress(text)
		if err != nil {
			continue
		}
		was, _ := before.refusal(p.Name, a)
		if is, _ := after.refusal(p.Name, a); was == "" && is != "" {
			lost = append(lost, fmt.Sprintf("%s (%s)", a, holders[text]))
		}
	}
	if len(lost) == 0 {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec"), fmt.Sprintf(
		"the pool would not give addresses any more that are held: %s; keep them in spec.ranges and out of spec.gateway and spec.reserved, or scale these Apps in or move them first", someNames(lost)))}
}
