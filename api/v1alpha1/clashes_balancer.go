package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// balancerObject names a LoadBalancer in a Problem.
func balancerObject(b *LoadBalancer) string { return "loadbalancer/" + b.Namespace + "/" + b.Name }

// ValidateBalancerPools finds what is wrong with a LoadBalancer in view of the pools and Networks: VIPs of a pool that gives none, or
// that the pool cannot give, and directors in a network without a segment. Pools and Networks that do not exist are not a
// problem here: they may come later.
func ValidateBalancerPools(b *LoadBalancer, pools []IPPool, networks []Network) []Problem {
	var out []Problem
	object := balancerObject(b)
	byName := map[string]*IPPool{}
	for i := range pools {
		byName[pools[i].Name] = &pools[i]
	}
	for i, v := range b.Spec.VIPs {
		p := byName[v.Pool]
		if p == nil {
			continue
		}
		at := fmt.Sprintf("spec.vips[%d]", i)
		if len(p.Spec.Namespaces) > 0 && !slices.Contains(p.Spec.Namespaces, b.Namespace) {
			out = append(out, Problem{Object: object, Field: at + ".pool", Value: v.Pool, Reason: padisv1.ReasonPoolForbidden,
				Message: fmt.Sprintf("may not be used by namespace %s: choose another pool, or add the namespace to spec.namespaces of the pool", b.Namespace)})
		}
		if n := networkOf(v.Pool, pools, networks); n != nil && n.Spec.Driver != DriverVirtual {
			out = append(out, Problem{Object: object, Field: at + ".pool", Value: v.Pool, Reason: padisv1.ReasonPoolForbidden,
				Message: fmt.Sprintf("is on Network %s with the driver %s, whose addresses are for instances: name a pool of a Network with the driver virtual", n.Name, driverOf(&n.Spec))})
			continue
		}
		if a, err := ParseAddress(v.Address); err == nil {
			if reason, message := p.VirtualRefuser()(a); reason != "" {
				out = append(out, Problem{Object: object, Field: at + ".address", Value: v.Address, Reason: reason, Message: message})
			}
		}
	}
	app := DirectorsApp(b)
	for _, p := range slices.Concat(ValidateAddresses(app, pools), VirtualPools(app, pools, networks)) {
		p.Object, p.Field = object, OfDirectors(p.Field)
		out = append(out, p)
	}
	if len(app.Spec.Networks) == 0 {
		return out
	}
	first := app.Spec.Networks[0].Pool
	if n := networkOf(first, pools, networks); n != nil && n.Spec.Driver != DriverVirtual && !HasSegment(&n.Spec) {
		out = append(out, Problem{Object: object, Field: "spec.directors.networks[0].pool", Value: first, Reason: padisv1.ReasonInvalid,
			Message: fmt.Sprintf("is on Network %s with the driver %s, and directors send to real servers by their hardware addresses: name a pool of a Network with the driver bridge, vlan or vxlan",
				n.Name, driverOf(&n.Spec))})
	}
	return out
}

// HasSegment tells whether directors of a Network can send to real servers on it: they are in one Ethernet segment, in which hosts
// can relay.
func HasSegment(s *NetworkSpec) bool {
	switch driverOf(s) {
	case DriverBridge, DriverVLAN, DriverVXLAN:
		return true
	}
	return false
}

// VIPClash says which fixed VIP of a LoadBalancer another one has; nil if there is none.
func VIPClash(b *LoadBalancer, others []LoadBalancer) *Problem {
	mine := map[netip.Addr]int{}
	for i, v := range b.Spec.VIPs {
		if a, err := ParseAddress(v.Address); err == nil {
			mine[a] = i
		}
	}
	for i := range others {
		o := &others[i]
		if len(mine) == 0 || o.Namespace == b.Namespace && o.Name == b.Name {
			continue
		}
		for _, v := range o.Spec.VIPs {
			a, err := ParseAddress(v.Address)
			if err != nil {
				continue
			}
			if at, both := mine[a]; both {
				return &Problem{Object: balancerObject(b), Field: fmt.Sprintf("spec.vips[%d].address", at), Value: b.Spec.VIPs[at].Address, Reason: padisv1.ReasonAddressInUse,
					Message: fmt.Sprintf("is wanted by LoadBalancer %s in namespace %s too: choose another address, or remove it there first", o.Name, o.Namespace)}
			}
		}
	}
	return nil
}

// ValidateLoadBalancers finds the LoadBalancers that want the same fixed VIP; of two that do, the younger one has the problem.
func ValidateLoadBalancers(balancers []LoadBalancer) []Problem {
	sorted := byAge(balancers, func(b *LoadBalancer) ageKey { return ageKey{b.CreationTimestamp.Unix(), b.Namespace + "/" + b.Name} })
	held := map[netip.Addr]*LoadBalancer{}
	var out []Problem
	for _, b := range sorted {
		for _, v := range b.Spec.VIPs {
			a, err := ParseAddress(v.Address)
			if err != nil {
				continue
			}
			if held[a] == nil {
				held[a] = b
			} else if held[a] != b {
				out = append(out, *VIPClash(b, []LoadBalancer{*held[a]}))
				break
			}
		}
	}
	return out
}

// PeerClash says why a BGPPeer cannot stand beside other, or nil: a director has one session with a router.
func PeerClash(p, other *BGPPeer) *Problem {
	a, err := ParseAddress(p.Spec.Address)
	b, err2 := ParseAddress(other.Spec.Address)
	if err != nil || err2 != nil || p.Name == other.Name || a != b || !shareAgents(p.Spec.Agents, other.Spec.Agents) {
		return nil
	}
	return &Problem{Object: "bgppeer/" + p.Name, Field: "spec.address", Value: p.Spec.Address, Reason: padisv1.ReasonInvalid,
		Message: fmt.Sprintf("is the router of BGPPeer %s already, and a director has one session with a router: change that one, or give them different agents", other.Name)}
}

// ValidateBGPPeers finds the BGPPeers that clash with another; the younger one has the problem.
func ValidateBGPPeers(peers []BGPPeer) []Problem {
	sorted := byAge(peers, func(p *BGPPeer) ageKey { return ageKey{p.CreationTimestamp.Unix(), p.Name} })
	var out []Problem
	for i, p := range sorted {
		for _, other := range sorted[:i] {
			if c := PeerClash(p, other); c != nil {
				out = append(out, *c)
				break
			}
		}
	}
	return out
}

// DirectorsNameClash says which App has the name that the directors of a LoadBalancer need; nil if none has.
func DirectorsNameClash(b *LoadBalancer, apps []App) *Problem {
	name := DirectorsName(b.Name)
	if !slices.ContainsFunc(apps, func(a App) bool { return a.Namespace == b.Namespace && a.Name == name }) {
		return nil
	}
	return NameOfDirectors(b)
}

// NameOfDirectors is the problem of a LoadBalancer for whose directors an App has the name.
func NameOfDirectors(b *LoadBalancer) *Problem {
	return &Problem{Object: balancerObject(b), Field: "metadata.name", Value: b.Name, Reason: padisv1.ReasonInvalid,
		Message: fmt.Sprintf("needs the name %s for its directors, which an App of the namespace has: choose another name, or delete the App first", DirectorsName(b.Name))}
}

// AppNameClash says which LoadBalancer's directors have the name of an App; nil if none have.
func AppNameClash(a *App, balancers []LoadBalancer) *Problem {
	for i := range balancers {
		if b := &balancers[i]; b.Namespace == a.Namespace && DirectorsName(b.Name) == a.Name {
			return AppOfDirectors(a)
		}
	}
	return nil
}

// AppOfDirectors is the problem of an App that has the name of directors.
func AppOfDirectors(a *App) *Problem {
	return &Problem{Object: appObject(a), Field: "metadata.name", Value: a.Name, Reason: padisv1.ReasonInvalid,
		Message: "is the name of the directors of a LoadBalancer of the namespace: choose another name, or delete the LoadBalancer first"}
}

// UsesPool tells whether a LoadBalancer has VIPs or directors of a pool.
func UsesPool(b *LoadBalancer, pool string) bool {
	return slices.ContainsFunc(b.Spec.VIPs, func(v VIP) bool { return v.Pool == pool }) ||
		slices.ContainsFunc(b.Spec.Directors.Networks, func(n NetworkAttachment) bool { return n.Pool == pool })
}
