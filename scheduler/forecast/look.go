package forecast

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"padis.io/padis/api/plan"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// sight is what is there at one moment.
type sight struct {
	instances map[record.Slot]*padisv1.InstanceRecord
	addresses map[core.Address]standing
	// names are the namespaces and names of Apps, by uid.
	names map[string][2]string
}

// standing is who has an address.
type standing struct {
	pool, holder string
	tenant       string
	cooling      bool
}

func (r *run) look() sight {
	s := sight{instances: map[record.Slot]*padisv1.InstanceRecord{}, addresses: map[core.Address]standing{}, names: map[string][2]string{}}
	for _, key := range r.core.Slots() {
		in := r.core.Instance(key)
		s.instances[key] = in
		s.names[key.AppUID] = [2]string{in.GetNamespace(), in.GetApp()}
	}
	for uid := range r.declaredApps {
		if a := r.declaredApps[uid]; s.names[uid] == ([2]string{}) {
			s.names[uid] = [2]string{a.Namespace, a.Name}
		}
	}
	for _, at := range r.core.Addresses() {
		st, ok := r.core.AddressState(at)
		switch {
		case !ok || st.Lease == nil:
		case st.State == ipam.Allocated:
			s.addresses[at] = standing{pool: st.Lease.GetPool(), holder: holder(st.Lease), tenant: r.view.TenantOf(st.Lease.GetNamespace())}
		case st.State == ipam.Cooling:
			s.addresses[at] = standing{pool: st.Lease.GetPool(), cooling: true}
		}
	}
	return s
}

func holder(l *padisv1.LeaseRecord) string {
	if _, is := vips(l.GetAppUid()); is {
		return "loadbalancer " + l.GetNamespace() + "/" + l.GetApp()
	}
	return fmt.Sprintf("%s/%s-%d", l.GetNamespace(), l.GetApp(), l.GetSlot())
}

func runs(in *padisv1.InstanceRecord) bool {
	return in != nil && in.GetPhase() != padisv1.Phase_PENDING && in.GetPhase() != padisv1.Phase_BACKOFF && in.GetPhase() != padisv1.Phase_RETIRED
}

// apps tells what happens to instances, by namespace and name.
func (r *run) apps(before, now sight) []plan.App {
	by := map[string]*plan.App{}
	of := func(uid string) *plan.App {
		if by[uid] == nil {
			n := now.names[uid]
			if n == ([2]string{}) {
				n = before.names[uid]
			}
			by[uid] = &plan.App{Namespace: n[0], Name: n[1]}
		}
		return by[uid]
	}
	keys := map[record.Slot]bool{}
	for k := range before.instances {
		keys[k] = true
	}
	for k := range now.instances {
		keys[k] = true
	}
	for _, k := range slices.SortedFunc(maps.Keys(keys), func(a, b record.Slot) int {
		return cmp.Or(cmp.Compare(a.AppUID, b.AppUID), cmp.Compare(a.Index, b.Index))
	}) {
		if in, ok := fate(before.instances[k], now.instances[k], r.mesos.tasks); ok {
			if s := r.watched[k.AppUID]; s != nil && (in.Fate == plan.Replaced || in.Fate == plan.Moved || in.Fate == plan.Waiting) {
				in.Batch = s.batchOf[k.Index]
				if in.Fate != plan.Waiting {
					in.Cause = s.causes[k.Index]
				}
			}
			a := of(k.AppUID)
			a.Instances = append(a.Instances, in)
		}
	}
	for uid, s := range r.watched {
		if len(s.batches) == 0 && len(s.held) == 0 {
			continue
		}
		if by[uid] == nil && len(s.batches) == 0 && !r.changed[uid] {
			continue
		}
		of(uid).Rollout = &plan.Rollout{Batches: s.batches, Replicas: s.replicas, Minimum: s.minimum, Lowest: s.lowest, Held: s.held, Because: s.because}
	}
	var out []plan.App
	for _, a := range by {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(a, b plan.App) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// fate tells what happens to one instance; false if nothing does.
func fate(was, is *padisv1.InstanceRecord, tasks map[string]*task) (plan.Instance, bool) {
	out := plan.Instance{Addresses: is.GetAddresses()}
	switch {
	case is == nil || is.GetPhase() == padisv1.Phase_RETIRED:
		if was == nil || was.GetPhase() == padisv1.Phase_RETIRED {
			return out, false
		}
		out.Name, out.Fate, out.Addresses = instance.Hostname(was), plan.Stopped, was.GetAddresses()
		if runs(was) {
			out.From = was.GetHostname()
		}
		return out, true
	case !runs(is):
		if was != nil && !runs(was) && was.GetReason() == is.GetReason() {
			return out, false
		}
		out.Name, out.Fate, out.Reason, out.Why = instance.Hostname(is), plan.Waiting, is.GetReason(), is.GetMessage()
		if runs(was) {
			out.From = was.GetHostname()
		}
		return out, true
	case runs(was) && was.GetTaskId() == is.GetTaskId():
		return out, false
	}
	out.Name, out.To = instance.Hostname(is), is.GetHostname()
	why := "of the agents that fit with none of the App, the one with the most left"
	if t := tasks[is.GetTaskId()]; t != nil && t.beside > 0 {
		why = fmt.Sprintf("of the agents that fit, none has fewer than %d of the App", t.beside)
	}
	switch {
	case !runs(was):
		out.Fate, out.Why = plan.Started, why
	case was.GetAgentId() == is.GetAgentId():
		out.Fate, out.From, out.Why = plan.Replaced, was.GetHostname(), "where it ran before"
	default:
		if is.GetLastTermination().GetHostname() == was.GetHostname() { // It was preferred then.
			why = "the agent where it ran does not fit any more; " + why
		}
		out.Fate, out.From, out.Why = plan.Moved, was.GetHostname(), why
	}
	return out, true
}

// addresses tells which ones change hands, by network and number.
func addresses(before, now sight) []plan.Address {
	keys := map[core.Address]bool{}
	for at := range before.addresses {
		keys[at] = true
	}
	for at := range now.addresses {
		keys[at] = true
	}
	var out []plan.Address
	for at := range keys {
		was, is := before.addresses[at], now.addresses[at]
		if was.holder == is.holder {
			continue
		}
		out = append(out, plan.Address{Network: at.Network, Pool: cmp.Or(is.pool, was.pool), Address: at.Address, From: was.holder, To: is.holder, Cooling: is.cooling})
	}
	slices.SortFunc(out, func(a, b plan.Address) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), compareAddresses(a.Address, b.Address))
	})
	return out
}

// quotas tells which ones hold instances back, or would be exceeded by what is held already.
func (r *run) quotas(before, now sight, apps []plan.App) []plan.Quota {
	type scope struct{ tenant, pool string }
	held := map[scope]int64{}
	for _, st := range now.addresses {
		if st.holder != "" && st.tenant != "" {
			held[scope{st.tenant, st.pool}]++
			held[scope{st.tenant, ""}]++
		}
	}
	refused, in := map[string]int64{}, map[string][]string{}
	for _, a := range apps {
		for _, i := range a.Instances {
			if i.Reason == padisv1.ReasonAddressQuotaExceeded {
				tenant := r.view.TenantOf(a.Namespace)
				refused[tenant]++
				if !slices.Contains(in[tenant], a.Namespace) {
					in[tenant] = append(in[tenant], a.Namespace)
				}
			}
		}
	}
	var out []plan.Quota
	for _, t := range r.view.Cluster.GetTenants() {
		for _, q := range t.GetAddressQuotas() {
			n := held[scope{t.GetName(), q.GetPool()}]
			short := refused[t.GetName()]
			if n <= q.GetMax() && (short == 0 || n < q.GetMax()) {
				continue
			}
			if n > q.GetMax() && short == 0 && before.exceeds(t, q) {
				continue // It was so before, and nothing comes of it.
			}
			out = append(out, plan.Quota{Tenant: t.GetName(), Pool: q.GetPool(), Max: q.GetMax(), Held: n, Refused: short, Namespaces: in[t.GetName()]})
		}
	}
	return out
}

// exceeds tells whether a tenant held more than a quota allows already.
func (s sight) exceeds(t *padisv1.Tenant, q *padisv1.AddressQuota) bool {
	var n int64
	for _, st := range s.addresses {
		if st.holder != "" && st.tenant == t.GetName() && (q.GetPool() == "" || q.GetPool() == st.pool) {
			n++
		}
	}
	return n > q.GetMax()
}

// verdicts tells of objects that are stored whether they are in force.
func (r *run) verdicts(objects []plan.Object) {
	byName := map[[3]string]string{}
	for uid, a := range r.declaredApps {
		byName[[3]string{"App", a.Namespace, a.Name}] = uid
	}
	for uid, b := range r.balancers {
		byName[[3]string{"LoadBalancer", b.Namespace, b.Name}] = uid
	}
	for i := range objects {
		o := &objects[i]
		if o.Action == plan.Delete || len(o.Refusals) > 0 {
			continue
		}
		if no := r.refusals[byName[[3]string{o.Kind, o.Namespace, o.Name}]]; no != nil {
			o.Verdict = &plan.Refusal{Reason: no.Reason, Message: no.Message}
		}
		all := map[string]verdictsOf{"Network": r.view.Networks, "IPPool": r.view.Pools, "Tenant": r.view.Tenants, "Registry": r.view.Registries, "ExecutorUpgrade": r.view.Upgrades, "BGPPeer": r.view.Peers, "ImagePrepull": r.view.Prepulls}[o.Kind]
		name := o.Name
		if o.Kind == "ImagePrepull" {
			name = o.Namespace + "/" + o.Name
		}
		if v, ok := all[name]; ok && !v.Accepted {
			o.Verdict = &plan.Refusal{Reason: v.Reason, Message: v.Message}
		}
	}
}
