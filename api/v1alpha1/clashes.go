package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// PoolClash says why pool p cannot stand beside other, or nil. Pools of one network may share a subnet when their
// ranges are disjoint; pools of different networks may not, since an address is routed to one place only.
func PoolClash(p, other *IPPool) *Problem {
	a, errs := parseSubnet(&p.Spec)
	b, more := parseSubnet(&other.Spec)
	if len(errs)+len(more) > 0 || p.Name == other.Name || !a.prefix.Overlaps(b.prefix) {
		return nil
	}
	out := &Problem{Object: "ippool/" + p.Name, Field: "spec.cidr", Value: p.Spec.CIDR, Reason: padisv1.ReasonPoolOverlap}
	switch {
	case p.Spec.Network != other.Spec.Network:
		out.Message = fmt.Sprintf("overlaps %s of pool %s on network %s: an address can be on one network only, choose another subnet",
			other.Spec.CIDR, other.Name, other.Spec.Network)
	case a.prefix != b.prefix:
		out.Message = fmt.Sprintf("overlaps %s of pool %s: pools of one network have the same subnet or disjoint ones, write %s and divide it with spec.ranges",
			other.Spec.CIDR, other.Name, other.Spec.CIDR)
	default:
		x, y, found := firstOverlap(a.ranges, b.ranges)
		if !found {
			return nil
		}
		if len(p.Spec.Ranges) > 0 {
			out.Field, out.Value = "spec.ranges", x.String()
		}
		out.Message = fmt.Sprintf("overlaps %s of pool %s: choose another subnet, or divide it with spec.ranges in both pools", y, other.Name)
	}
	return out
}

// firstOverlap walks two sorted lists of disjoint spans.
func firstOverlap(a, b []span) (x, y span, found bool) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if a[i].from.Compare(b[j].to) <= 0 && b[j].from.Compare(a[i].to) <= 0 {
			return a[i], b[j], true
		}
		if a[i].to.Less(b[j].to) {
			i++
		} else {
			j++
		}
	}
	return span{}, span{}, false
}

// ValidatePools finds the pools that clash; of two that do, the younger one has the problem. It also reports pools that
// are invalid in themselves.
func ValidatePools(pools []IPPool) []Problem {
	sorted := byAge(pools, func(p *IPPool) ageKey { return ageKey{p.CreationTimestamp.Unix(), p.Name} })
	var out []Problem
	for i, p := range sorted {
		if errs := ValidatePool(p); len(errs) > 0 {
			out = append(out, Problem{Object: "ippool/" + p.Name, Field: errs[0].Field, Value: fmt.Sprint(errs[0].BadValue),
				Reason: padisv1.ReasonInvalid, Message: errs[0].Detail})
			continue
		}
		for _, other := range sorted[:i] {
			if c := PoolClash(p, other); c != nil {
				out = append(out, *c)
				break
			}
		}
	}
	return out
}

// ValidateAddresses finds the fixed addresses of an App that its pools cannot give: outside the pool, reserved, or a
// pool that the App's namespace may not use; and addresses for the loopback that a pool hands out. Pools that do not exist
// are not a problem here: they may come later.
func ValidateAddresses(a *App, pools []IPPool) []Problem {
	byName := map[string]*IPPool{}
	for i := range pools {
		byName[pools[i].Name] = &pools[i]
	}
	object := appObject(a)
	var out []Problem
	for i, n := range a.Spec.Networks {
		p := byName[n.Pool]
		if p == nil {
			continue
		}
		path := fmt.Sprintf("spec.networks[%d]", i)
		if len(p.Spec.Namespaces) > 0 && !slices.Contains(p.Spec.Namespaces, a.Namespace) {
			out = append(out, Problem{Object: object, Field: path + ".pool", Value: n.Pool, Reason: padisv1.ReasonPoolForbidden,
				Message: fmt.Sprintf("may not be used by namespace %s: choose another pool, or add the namespace to spec.namespaces of the pool", a.Namespace)})
		}
		s, errs := parseSubnet(&p.Spec)
		if len(errs) > 0 {
			continue
		}
		for j, text := range n.Addresses {
			ip, err := ParseAddress(text)
			if err != nil {
				continue
			}
			if reason, message := s.refusal(p.Name, ip); reason != "" {
				out = append(out, Problem{Object: object, Field: fmt.Sprintf("%s.addresses[%d]", path, j), Value: text, Reason: reason, Message: message})
			}
		}
	}
	for i, text := range a.Spec.LoopbackAddresses {
		ip, err := ParseAddress(text)
		if err != nil {
			continue
		}
		for k := range pools {
			if p := loopbackProblem(a, &pools[k], ip); p != nil {
				p.Object, p.Field, p.Value = object, fmt.Sprintf("spec.loopbackAddresses[%d]", i), text
				out = append(out, *p)
			}
		}
	}
	return out
}

// loopbackProblem says why instances must not have an address of a pool on their loopback: who has it there may send from
// it, so it must not be anybody else's.
func loopbackProblem(a *App, p *IPPool, ip netip.Addr) *Problem {
	s, errs := parseSubnet(&p.Spec)
	if len(errs) > 0 || !s.prefix.Contains(ip) {
		return nil
	}
	reason, _ := s.refusal(p.Name, ip)
	switch {
	case len(p.Spec.Namespaces) > 0 && !slices.Contains(p.Spec.Namespaces, a.Namespace):
		return &Problem{Reason: padisv1.ReasonPoolForbidden, Message: fmt.Sprintf(
			"is of pool %s, which may not be used by namespace %s: choose another address, or add the namespace to spec.namespaces of the pool", p.Name, a.Namespace)}
	case ip == s.gateway || s.edge(ip) != "":
		return &Problem{Reason: padisv1.ReasonAddressReserved, Message: fmt.Sprintf("is the gateway, or the address of the subnet itself, of pool %s: choose another address", p.Name)}
	case reason == "":
		return &Problem{Reason: padisv1.ReasonAddressInUse, Message: fmt.Sprintf(
			"is handed out to instances by pool %s: reserve it first (padis ip reserve %s %s), or choose another address", p.Name, p.Name, ip)}
	}
	return nil
}

// ValidateHostNetwork says what is wrong with the Network that an App names instead of pools; nil if nothing is. A Network
// that does not exist is not a problem here: it may come later.
func ValidateHostNetwork(a *App, networks []Network) *Problem {
	for i, n := range a.Spec.Networks {
		for k := range networks {
			o := &networks[k]
			if n.Network == "" || o.Name != n.Network || o.Spec.Driver == DriverHost {
				continue
			}
			return &Problem{Object: appObject(a), Field: fmt.Sprintf("spec.networks[%d].network", i), Value: n.Network, Reason: padisv1.ReasonInvalid,
				Message: fmt.Sprintf("has the driver %s, so that its instances have addresses of their own: name one of its IPPools in pool, or a Network with the driver host", driverOf(&o.Spec))}
		}
	}
	return nil
}

// VirtualPools finds the pools that an App wishes and that give addresses to LoadBalancers only. Pools and Networks that do not
// exist are not a problem here: they may come later.
func VirtualPools(a *App, pools []IPPool, networks []Network) []Problem {
	var out []Problem
	for i, n := range a.Spec.Networks {
		network := networkOf(n.Pool, pools, networks)
		if network == nil || network.Spec.Driver != DriverVirtual {
			continue
		}
		out = append(out, Problem{Object: appObject(a), Field: fmt.Sprintf("spec.networks[%d].pool", i), Value: n.Pool, Reason: padisv1.ReasonPoolForbidden,
			Message: fmt.Sprintf("is on Network %s with the driver virtual, which gives addresses to LoadBalancers only: name a pool of another Network", network.Name)})
	}
	return out
}

// networkOf gives the Network that a pool is on; nil if one of both is not there.
func networkOf(pool string, pools []IPPool, networks []Network) *Network {
	for i := range pools {
		if pools[i].Name != pool {
			continue
		}
		for k := range networks {
			if networks[k].Name == pools[i].Spec.Network {
				return &networks[k]
			}
		}
	}
	return nil
}

// AddressClash finds the first fixed address of an App that another one asks for too; nil if there is none.
func AddressClash(a *App, others []App) *Problem {
	mine := map[netip.Addr]FixedAddress{}
	for _, f := range FixedAddresses(a) {
		if ip, err := ParseAddress(f.Address); err == nil {
			mine[ip] = f
		}
	}
	if len(mine) == 0 {
		return nil
	}
	for i := range others {
		o := &others[i]
		if o.Namespace == a.Namespace && o.Name == a.Name {
			continue
		}
		for _, f := range FixedAddresses(o) {
			ip, err := ParseAddress(f.Address)
			if err != nil {
				continue
			}
			if own, ok := mine[ip]; ok {
				return &Problem{Object: appObject(a), Field: own.Path.String(), Value: own.Address, Reason: padisv1.ReasonAddressInUse,
					Message: fmt.Sprintf("is wanted by app %s in namespace %s too (instance %s-%d): choose another address, or remove it there first",
						o.Name, o.Namespace, o.Name, f.Slot)}
			}
		}
	}
	return nil
}

// ValidateApps finds the Apps that want the same fixed address; of two that do, the younger one has the problem.
func ValidateApps(apps []App) []Problem {
	sorted := byAge(apps, func(a *App) ageKey { return ageKey{a.CreationTimestamp.Unix(), a.Namespace + "/" + a.Name} })
	type holder struct {
		app  *App
		slot int
	}
	held := map[netip.Addr]holder{}
	var out []Problem
	for _, a := range sorted {
		clash := false
		for _, f := range FixedAddresses(a) {
			ip, err := ParseAddress(f.Address)
			if err != nil {
				continue
			}
			h, taken := held[ip]
			if !taken {
				held[ip] = holder{a, f.Slot}
				continue
			}
			if h.app != a && !clash {
				clash = true
				out = append(out, Problem{Object: appObject(a), Field: f.Path.String(), Value: f.Address, Reason: padisv1.ReasonAddressInUse,
					Message: fmt.Sprintf("is wanted by app %s in namespace %s too (instance %s-%d): choose another address, or remove it there first",
						h.app.Name, h.app.Namespace, h.app.Name, h.slot)})
			}
		}
	}
	return out
}

// TenantClash says why tenant t cannot stand beside other, or nil: a namespace belongs to one tenant at most.
func TenantClash(t, other *Tenant) *Problem {
	if t.Name == other.Name {
		return nil
	}
	for i, ns := range t.Spec.Namespaces {
		if slices.Contains(other.Spec.Namespaces, ns) {
			return &Problem{Object: "tenant/" + t.Name, Field: fmt.Sprintf("spec.namespaces[%d]", i), Value: ns, Reason: padisv1.ReasonNamespaceTaken,
				Message: fmt.Sprintf("belongs to tenant %s already: a namespace has one tenant, remove it there first", other.Name)}
		}
	}
	return nil
}

// ValidateTenants finds the tenants that claim a namespace of another; the younger one has the problem.
func ValidateTenants(tenants []Tenant) []Problem {
	sorted := byAge(tenants, tenantAge)
	var out []Problem
	for i, t := range sorted {
		for _, other := range sorted[:i] {
			if c := TenantClash(t, other); c != nil {
				out = append(out, *c)
				break
			}
		}
	}
	return out
}

// RegistryClash says why registry r cannot stand beside other, or nil: of one host there is one Registry for all agents at
// most, beside those for some agents.
func RegistryClash(r, other *Registry) *Problem {
	if r.Name == other.Name || r.Spec.Host != other.Spec.Host || len(r.Spec.Agents) > 0 || len(other.Spec.Agents) > 0 {
		return nil
	}
	return &Problem{Object: "registry/" + r.Name, Field: "spec.host", Value: r.Spec.Host, Reason: padisv1.ReasonInvalid,
		Message: fmt.Sprintf("is declared for all agents by Registry %s already: change that one, or set spec.agents", other.Name)}
}

// ValidateRegistries finds the registries that clash with another; the younger one has the problem.
func ValidateRegistries(registries []Registry) []Problem {
	sorted := byAge(registries, func(r *Registry) ageKey { return ageKey{r.CreationTimestamp.Unix(), r.Name} })
	var out []Problem
	for i, r := range sorted {
		for _, other := range sorted[:i] {
			if c := RegistryClash(r, other); c != nil {
				out = append(out, *c)
				break
			}
		}
	}
	return out
}

func tenantAge(t *Tenant) ageKey { return ageKey{t.CreationTimestamp.Unix(), t.Name} }

func appObject(a *App) string { return "app/" + a.Namespace + "/" + a.Name }

type ageKey struct {
	created int64
	name    string
}

// byAge orders objects by creation, then by name: of two that clash the older one stays.
func byAge[T any](in []T, key func(*T) ageKey) []*T {
	out := make([]*T, len(in))
	for i := range in {
		out[i] = &in[i]
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := key(out[i]), key(out[j])
		if a.created != b.created {
			return a.created < b.created
		}
		return a.name < b.name
	})
	return out
}
