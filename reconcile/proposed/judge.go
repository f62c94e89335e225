package proposed

import (
	"slices"
	"strings"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/v1alpha1"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Apply gives what would be declared and what becomes of each object, in the order of the changes. Each is judged beside
// all others, as if they were there already, whatever their order. What is refused stays as it is.
func (s *State) Apply(changes []Change) (*State, []plan.Object) {
	changes = slices.Clone(changes)
	for i := range changes {
		changes[i].Refusals = slices.Clip(changes[i].Refusals)
	}
	j := judge{before: s, after: s.with(changes)}
	j.index()
	refused := false
	for i := range changes {
		if c := &changes[i]; len(c.Refusals) == 0 {
			c.Refusals = j.change(c)
		}
		refused = refused || len(changes[i].Refusals) > 0
	}
	after := j.after
	if refused {
		after = s.with(changes)
	}
	out := make([]plan.Object, len(changes))
	for i := range changes {
		out[i] = outcome(&changes[i])
	}
	return after, out
}

func outcome(c *Change) plan.Object {
	o := c.object()
	out := plan.Object{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), Refusals: c.Refusals}
	switch {
	case c.After == nil:
		out.Action = plan.Delete
	case c.Before == nil:
		out.Action = plan.Create
	default:
		out.Fields = plan.Diff(c.Before.Object, c.After.Object)
		out.Action = plan.Update
		if len(out.Fields) == 0 {
			out.Action = plan.Unchanged
		}
	}
	return out
}

// judge looks at changes as the API server's admission does, with its words.
type judge struct {
	before, after *State
	// running are all Apps with fixed addresses, and those that the directors of LoadBalancers are; apps all of them.
	running []v1alpha1.App
	apps    map[key]*v1alpha1.App
	// balancers, networks and pools of before and after, by name.
	balancers     map[key]*v1alpha1.LoadBalancer
	networks, was map[string]*v1alpha1.Network
	pools, had    map[string]*v1alpha1.IPPool
}

func (j *judge) index() {
	j.apps, j.balancers = map[key]*v1alpha1.App{}, map[key]*v1alpha1.LoadBalancer{}
	for i := range j.after.Apps {
		a := &j.after.Apps[i]
		j.apps[key{"App", a.Namespace, a.Name}] = a
		if len(v1alpha1.FixedAddresses(a)) > 0 {
			j.running = append(j.running, *a)
		}
	}
	for i := range j.after.Balancers {
		b := &j.after.Balancers[i]
		j.balancers[key{"LoadBalancer", b.Namespace, b.Name}] = b
		if d := v1alpha1.DirectorsApp(b); len(v1alpha1.FixedAddresses(d)) > 0 {
			j.running = append(j.running, *d)
		}
	}
	j.networks, j.was = byName(j.after.Cluster.Networks), byName(j.before.Cluster.Networks)
	j.pools, j.had = byName(j.after.Cluster.Pools), byName(j.before.Cluster.Pools)
}

func byName[T any, P named[T]](list []T) map[string]P {
	out := make(map[string]P, len(list))
	for i := range list {
		p := P(&list[i])
		out[p.GetName()] = p
	}
	return out
}

// change says why the API server would refuse one; nothing if it would not. One that leaves the spec alone never is.
func (j *judge) change(c *Change) []plan.Refusal {
	if c.After == nil {
		return j.deletion(c)
	}
	if c.Before != nil && sameSpec(c.Before, c.After) {
		return nil
	}
	var errs field.ErrorList
	name := c.After.GetName()
	switch kindOf(c.After) {
	case "App":
		errs = j.app(j.apps[keyOf(c.After)], c.Before == nil)
	case "LoadBalancer":
		errs = j.balancer(j.balancers[keyOf(c.After)], c.Before == nil)
	case "Network":
		if errs = v1alpha1.ValidateNetwork(j.networks[name]); len(errs) == 0 {
			errs = v1alpha1.NetworkChange(j.was[name], j.networks[name], j.after.Cluster.Pools)
		}
	case "IPPool":
		errs = j.pool(j.pools[name], j.had[name])
	case "Tenant":
		errs = clashes(j.after.Cluster.Tenants, name, v1alpha1.TenantClash)
	case "Registry":
		errs = clashes(j.after.Cluster.Registries, name, v1alpha1.RegistryClash)
	case "BGPPeer":
		for i := range j.after.Cluster.Peers {
			if p := &j.after.Cluster.Peers[i]; p.Name == name {
				errs = v1alpha1.ValidateBGPPeer(p)
			}
		}
		errs = append(errs, clashes(j.after.Cluster.Peers, name, v1alpha1.PeerClash)...)
	}
	return refusals(errs)
}

func refusals(errs field.ErrorList) []plan.Refusal {
	var out []plan.Refusal
	for _, e := range errs {
		out = append(out, plan.Refusal{Reason: "Invalid", Field: e.Field, Message: e.ErrorBody()})
	}
	return out
}

// clashes compares the object of a name with all others.
func clashes[T any, P named[T]](list []T, name string, clash func(P, P) *v1alpha1.Problem) field.ErrorList {
	var errs field.ErrorList
	own := byName[T, P](list)[name]
	for i := range list {
		if p := clash(own, P(&list[i])); p != nil {
			errs = append(errs, p.Err())
		}
	}
	return errs
}

func add(errs field.ErrorList, problems ...v1alpha1.Problem) field.ErrorList {
	for _, p := range problems {
		errs = append(errs, p.Err())
	}
	return errs
}

func (j *judge) app(a *v1alpha1.App, created bool) field.ErrorList {
	errs := v1alpha1.ValidateApp(a)
	if created && strings.HasSuffix(a.Name, v1alpha1.DirectorsName("")) {
		if p := v1alpha1.AppNameClash(a, j.after.Balancers); p != nil {
			errs = append(errs, p.Err())
		}
	}
	if len(errs) == 0 && v1alpha1.AsksPrivileges(a) {
		errs = add(errs, v1alpha1.ValidatePrivileges(a, v1alpha1.TenantOf(a.Namespace, j.after.Cluster.Tenants))...)
	}
	if len(errs) > 0 || len(a.Spec.Networks)+len(a.Spec.LoopbackAddresses) == 0 {
		return errs
	}
	if v1alpha1.HostNetwork(a) != "" {
		if p := v1alpha1.ValidateHostNetwork(a, j.after.Cluster.Networks); p != nil {
			errs = append(errs, p.Err())
		}
		return errs
	}
	errs = add(errs, v1alpha1.ValidateAddresses(a, j.after.Cluster.Pools)...)
	errs = add(errs, v1alpha1.VirtualPools(a, j.after.Cluster.Pools, j.after.Cluster.Networks)...)
	if len(errs) > 0 || len(v1alpha1.FixedAddresses(a)) == 0 {
		return errs
	}
	if p := v1alpha1.AddressClash(a, j.running); p != nil {
		errs = append(errs, p.Err())
	}
	return errs
}

func (j *judge) balancer(b *v1alpha1.LoadBalancer, created bool) field.ErrorList {
	errs := v1alpha1.ValidateLoadBalancer(b)
	errs = add(errs, v1alpha1.ValidateBalancerPools(b, j.after.Cluster.Pools, j.after.Cluster.Networks)...)
	if len(errs) > 0 {
		return errs
	}
	if p := v1alpha1.VIPClash(b, j.after.Balancers); p != nil {
		errs = append(errs, p.Err())
	}
	if created {
		if p := v1alpha1.DirectorsNameClash(b, j.after.Apps); p != nil {
			errs = append(errs, p.Err())
		}
	}
	if p := v1alpha1.AddressClash(v1alpha1.DirectorsApp(b), j.running); p != nil {
		e := p.Err()
		e.Field = v1alpha1.OfDirectors(e.Field)
		errs = append(errs, e)
	}
	return errs
}

func (j *judge) pool(p, old *v1alpha1.IPPool) field.ErrorList {
	errs := v1alpha1.ValidatePool(p)
	if len(errs) > 0 {
		return errs
	}
	if old != nil {
		errs = append(errs, v1alpha1.Shrinkage(old, p, j.holders(p.Name))...)
	}
	if n := j.networks[p.Spec.Network]; n != nil {
		if problem := v1alpha1.PoolOnNetwork(p, n); problem != nil {
			errs = append(errs, problem.Err())
		}
	}
	return append(errs, clashes(j.after.Cluster.Pools, p.Name, v1alpha1.PoolClash)...)
}

// holders gives the instances that hold addresses of a pool, by address.
func (j *judge) holders(pool string) map[string]string {
	out := map[string]string{}
	for _, h := range j.before.Cluster.Holders[pool] {
		out[h.Address] = h.Namespace + "/" + h.Instance
	}
	return out
}

// deletion says why an object must not go.
func (j *judge) deletion(c *Change) []plan.Refusal {
	why := ""
	switch name := c.Before.GetName(); kindOf(c.Before) {
	case "IPPool":
		why = v1alpha1.PoolUsers(name, j.after.Apps, j.after.Balancers, j.holders(name))
	case "Network":
		why = v1alpha1.NetworkUsers(name, j.after.Cluster.Pools, j.after.Apps)
	}
	if why == "" {
		return nil
	}
	return []plan.Refusal{{Reason: "Forbidden", Message: why}}
}
