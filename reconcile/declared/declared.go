// Package declared understands all that is declared for the cluster together, Networks, IPPools, Tenants, Registries,
// upgrades and images to be pulled: what of it is in force, and why the rest is not. Pure.
package declared

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Input is all that is declared for the whole cluster. It is not mutated.
type Input struct {
	Networks []v1alpha1.Network
	Pools    []v1alpha1.IPPool
	Tenants  []v1alpha1.Tenant

	Registries []v1alpha1.Registry
	Upgrades   []v1alpha1.ExecutorUpgrade
	// Prepulls are of all namespaces; Secrets are those that they refer to and that are there.
	Prepulls []v1alpha1.ImagePrepull
	Secrets  config.Objects

	// Holders are the holders of addresses by pool. A pool that is being deleted stays in force while it has any:
	// its instances may have to be started again.
	Holders map[string][]Holder
}

// Holder is an instance that holds an address.
type Holder struct{ Address, Namespace, Instance string }

// String gives "10.44.1.1 (shop/web-0)".
func (h Holder) String() string { return fmt.Sprintf("%s (%s/%s)", h.Address, h.Namespace, h.Instance) }

// Verdict says whether an object is in force.
type Verdict struct {
	Accepted bool
	// Reason is a padisv1.Reason constant, Message a sentence with the remedy.
	Reason, Message string
	// Protected is set while the object is needed by others and must not disappear.
	Protected bool
}

// View is what is in force.
type View struct {
	Cluster *padisv1.Cluster
	// The verdicts by name, on every object of the input; those on Prepulls by Key.
	Networks, Pools, Tenants       map[string]Verdict
	Registries, Upgrades, Prepulls map[string]Verdict

	pools    map[string]*v1alpha1.IPPool
	tenantOf map[string]*v1alpha1.Tenant
}

// Pool gives a pool that is in force; nil if there is none of that name.
func (v *View) Pool(name string) *v1alpha1.IPPool { return v.pools[name] }

// TenantOf gives the tenant that a namespace belongs to; empty if none.
func (v *View) TenantOf(namespace string) string {
	if t := v.tenantOf[namespace]; t != nil {
		return t.Name
	}
	return ""
}

// Owner gives the tenant that a namespace belongs to; nil if none.
func (v *View) Owner(namespace string) *v1alpha1.Tenant { return v.tenantOf[namespace] }

// Build gives what is in force. Of two declarations that contradict each other the older one is; equal inputs give equal
// views.
func Build(in Input) *View {
	v := &View{
		Cluster:  &padisv1.Cluster{},
		Networks: map[string]Verdict{}, Pools: map[string]Verdict{}, Tenants: map[string]Verdict{},
		Registries: map[string]Verdict{}, Upgrades: map[string]Verdict{}, Prepulls: map[string]Verdict{},
		pools: map[string]*v1alpha1.IPPool{}, tenantOf: map[string]*v1alpha1.Tenant{},
	}
	v.networks(in)
	v.poolsOf(in)
	v.tenants(in)
	v.registries(in)
	v.upgrades(in)
	v.prepulls(in)
	return v
}

// Same tells whether the same is in force, for the same reasons: also of what Tenants grant, which is not handed to the
// scheduler.
func (v *View) Same(o *View) bool {
	return proto.Equal(v.Cluster, o.Cluster) &&
		maps.Equal(v.Networks, o.Networks) && maps.Equal(v.Pools, o.Pools) && maps.Equal(v.Tenants, o.Tenants) &&
		maps.Equal(v.Registries, o.Registries) && maps.Equal(v.Upgrades, o.Upgrades) && maps.Equal(v.Prepulls, o.Prepulls) &&
		maps.EqualFunc(v.tenantOf, o.tenantOf, func(a, b *v1alpha1.Tenant) bool {
			return a.Name == b.Name && equality.Semantic.DeepEqual(a.Spec, b.Spec)
		})
}

func accepted(format string, args ...any) Verdict {
	return Verdict{Accepted: true, Reason: padisv1.ReasonAccepted, Message: fmt.Sprintf(format, args...)}
}

func refused(reason, format string, args ...any) Verdict {
	return Verdict{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// networks judges them one by one, oldest first: two of them cannot have the same bridge or uplink on a host.
func (v *View) networks(in Input) {
	sorted := sortedBy(in.Networks, func(a, b *v1alpha1.Network) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	bridges, parents := map[string]string{}, map[string]string{}
	for _, n := range sorted {
		needed := poolsOn(n.Name, in.Pools)
		verdict := accepted("instances can be attached")
		switch {
		case bridges[n.Spec.Bridge] != "":
			verdict = refused(padisv1.ReasonInvalid, "bridge %s belongs to network %s already: choose another spec.bridge", n.Spec.Bridge, bridges[n.Spec.Bridge])
		case n.Spec.Parent != "" && parents[n.Spec.Parent] != "":
			verdict = refused(padisv1.ReasonInvalid, "parent %s is the uplink of network %s already, and an interface has one bridge: choose another spec.parent", n.Spec.Parent, parents[n.Spec.Parent])
		case n.DeletionTimestamp != nil && len(needed) == 0:
			v.Networks[n.Name] = accepted("is being deleted")
			continue
		case n.DeletionTimestamp != nil:
			verdict = Verdict{Accepted: true, Reason: padisv1.ReasonNetworkInUse, Message: fmt.Sprintf(
				"is being deleted, and stays while pools are on it: %s; delete them first", few(needed))}
		}
		verdict.Protected = len(needed) > 0
		v.Networks[n.Name] = verdict
		if !verdict.Accepted {
			continue
		}
		bridges[n.Spec.Bridge] = n.Name
		if n.Spec.Parent != "" {
			parents[n.Spec.Parent] = n.Name
		}
		v.Cluster.Networks = append(v.Cluster.Networks, network(n))
	}
	slices.SortFunc(v.Cluster.Networks, func(a, b *padisv1.Network) int { return strings.Compare(a.Name, b.Name) })
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

func (v *View) poolsOf(in Input) {
	problems := map[string]v1alpha1.Problem{}
	for _, p := range v1alpha1.ValidatePools(in.Pools) {
		problems[strings.TrimPrefix(p.Object, "ippool/")] = p
	}
	for _, p := range sortedBy(in.Pools, func(a, b *v1alpha1.IPPool) int { return strings.Compare(a.Name, b.Name) }) {
		holders := in.Holders[p.Name]
		verdict := accepted("addresses can be leased")
		problem, bad := problems[p.Name]
		network, known := v.Networks[p.Spec.Network]
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
		verdict.Protected = len(holders) > 0
		v.Pools[p.Name] = verdict
		if !verdict.Accepted {
			continue
		}
		v.pools[p.Name] = p
		v.Cluster.Pools = append(v.Cluster.Pools, pool(p))
	}
}

// tenants are never left out: a tenant that is refused in part is still kept apart from the others.
func (v *View) tenants(in Input) {
	problems := map[string]v1alpha1.Problem{}
	for _, p := range v1alpha1.ValidateTenants(in.Tenants) {
		problems[strings.TrimPrefix(p.Object, "tenant/")] = p
	}
	exists := map[string]bool{}
	for i := range in.Tenants {
		exists[in.Tenants[i].Name] = true
	}
	for _, t := range sortedBy(in.Tenants, func(a, b *v1alpha1.Tenant) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	}) {
		out := &padisv1.Tenant{Name: t.Name, RecordExec: t.Spec.RecordExec}
		for _, ns := range t.Spec.Namespaces {
			if v.tenantOf[ns] == nil {
				v.tenantOf[ns] = t
				out.Namespaces = append(out.Namespaces, ns)
			}
		}
		var missing []string
		for _, other := range t.Spec.NotColocatedWith {
			if other == t.Name {
				continue
			}
			out.NotColocatedWith = append(out.NotColocatedWith, other)
			if !exists[other] {
				missing = append(missing, other)
			}
		}
		out.Dedicated = selectors(t.Spec.Dedicated)
		verdict := accepted("isolation is enforced")
		if p, bad := problems[t.Name]; bad {
			verdict = refused(p.Reason, "%s: %q %s; all else that is declared here is enforced", p.Field, p.Value, p.Message)
		} else if len(missing) > 0 {
			verdict = refused(padisv1.ReasonTenantNotFound, "spec.notColocatedWith names %s, which does not exist: create it or correct the name; isolation from it begins when it exists", few(missing))
		}
		v.Tenants[t.Name] = verdict
		slices.Sort(out.Namespaces)
		slices.Sort(out.NotColocatedWith)
		v.Cluster.Tenants = append(v.Cluster.Tenants, out)
	}
	slices.SortFunc(v.Cluster.Tenants, func(a, b *padisv1.Tenant) int { return strings.Compare(a.Name, b.Name) })
}

func network(n *v1alpha1.Network) *padisv1.Network {
	return &padisv1.Network{
		Name: n.Name, Driver: cmp.Or(n.Spec.Driver, "bridge"), Bridge: n.Spec.Bridge, Parent: n.Spec.Parent,
		Vlan: n.Spec.VLAN, Vni: n.Spec.VNI, Mtu: cmp.Or(n.Spec.MTU, v1alpha1.DefaultMTU),
	}
}

func pool(p *v1alpha1.IPPool) *padisv1.Pool {
	return &padisv1.Pool{
		Name: p.Name, Network: p.Spec.Network, Cidr: p.Spec.CIDR, Gateway: p.Spec.Gateway,
		Ranges: ranges(p.Spec.Ranges), Reserved: ranges(p.Spec.Reserved),
		Namespaces: sortedStrings(p.Spec.Namespaces),
		DnsServers: slices.Clone(p.Spec.DNSServers), DnsSearch: slices.Clone(p.Spec.DNSSearch),
	}
}

func ranges(in []v1alpha1.AddressRange) []*padisv1.AddressRange {
	var out []*padisv1.AddressRange
	for _, r := range in {
		out = append(out, &padisv1.AddressRange{From: r.From, To: cmp.Or(r.To, r.From)})
	}
	return out
}

// sortedBy gives pointers into in, in the order of compare.
func sortedBy[T any](in []T, compare func(a, b *T) int) []*T {
	out := make([]*T, len(in))
	for i := range in {
		out[i] = &in[i]
	}
	slices.SortFunc(out, compare)
	return out
}

func sortedStrings(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return out
}

// few lists the first few and counts the rest.
func few[T any](all []T) string {
	const most = 5
	var parts []string
	for _, x := range all[:min(most, len(all))] {
		parts = append(parts, fmt.Sprint(x))
	}
	text := strings.Join(parts, ", ")
	if rest := len(all) - most; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}
