// Package declared understands all that is declared for the cluster together, Networks, IPPools, BGPPeers, Tenants, Registries,
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
	Peers      []v1alpha1.BGPPeer
	// Prepulls are of all namespaces; Secrets are those that they, the Networks and the Peers refer to and that are there.
	Prepulls []v1alpha1.ImagePrepull
	Secrets  config.Objects

	// Holders are the holders of addresses by pool: of pools that are being deleted, which stay in force while they have
	// any, because these instances may have to be started again; and of pools that were changed since they were made.
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
	Peers                          map[string]Verdict

	inForce  map[string]*v1alpha1.Network
	pools    map[string]*v1alpha1.IPPool
	tenantOf map[string]*v1alpha1.Tenant
	peers    map[string]Peer
}

// Network gives a Network that is in force; nil if there is none of that name.
func (v *View) Network(name string) *v1alpha1.Network { return v.inForce[name] }

// Pool gives a pool that is in force; nil if there is none of that name.
func (v *View) Pool(name string) *v1alpha1.IPPool { return v.pools[name] }

// AllPools gives the pools that are in force, by name.
func (v *View) AllPools() []v1alpha1.IPPool {
	var out []v1alpha1.IPPool
	for _, name := range slices.Sorted(maps.Keys(v.pools)) {
		out = append(out, *v.pools[name])
	}
	return out
}

// AllNetworks gives the Networks that are in force, by name.
func (v *View) AllNetworks() []v1alpha1.Network {
	var out []v1alpha1.Network
	for _, name := range slices.Sorted(maps.Keys(v.inForce)) {
		out = append(out, *v.inForce[name])
	}
	return out
}

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
		Peers: map[string]Verdict{}, peers: map[string]Peer{},
		inForce: map[string]*v1alpha1.Network{}, pools: map[string]*v1alpha1.IPPool{}, tenantOf: map[string]*v1alpha1.Tenant{},
	}
	v.networks(in)
	v.poolsOf(in)
	v.tenants(in)
	v.registries(in)
	v.upgrades(in)
	v.prepulls(in)
	v.peersOf(in)
	return v
}

// Same tells whether the same is in force, for the same reasons: also of what Tenants grant, which is not handed to the
// scheduler.
func (v *View) Same(o *View) bool {
	return proto.Equal(v.Cluster, o.Cluster) &&
		maps.Equal(v.Networks, o.Networks) && maps.Equal(v.Pools, o.Pools) && maps.Equal(v.Tenants, o.Tenants) &&
		maps.Equal(v.Registries, o.Registries) && maps.Equal(v.Upgrades, o.Upgrades) && maps.Equal(v.Prepulls, o.Prepulls) &&
		maps.Equal(v.Peers, o.Peers) && maps.EqualFunc(v.peers, o.peers, Peer.same) &&
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
		for _, q := range t.Spec.AddressQuotas {
			out.AddressQuotas = append(out.AddressQuotas, &padisv1.AddressQuota{Pool: q.Pool, Max: q.Max})
		}
		slices.SortStableFunc(out.AddressQuotas, func(a, b *padisv1.AddressQuota) int { return strings.Compare(a.Pool, b.Pool) })
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
