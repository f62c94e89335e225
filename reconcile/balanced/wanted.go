// Package balanced turns a LoadBalancer as declared into what the scheduler is given, and what the scheduler says of it into its
// status, with the reasons. Pure.
//
// The directors of a LoadBalancer are wanted like the instances of an App, by packages wanted and rollout; what is here is all
// else: VIPs, listeners, backends, and how VIPs are announced. Table size and seed are kept from what was wanted until now:
// others would move every connection.
package balanced

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"
	"padis.io/padis/reconcile/wanted"
)

// Input is all that a LoadBalancer is judged by. It is not mutated.
type Input struct {
	Balancer *v1alpha1.LoadBalancer
	View     *declared.View
	// Others are all LoadBalancers; this one may be among them.
	Others []v1alpha1.LoadBalancer
	// Current is what was wanted until now; nil if nothing was.
	Current *padisv1.WantedBalancer
	// Seed is a random number, for one that is new.
	Seed uint64
	// NameTaken is set when an App has the name that the directors need.
	NameTaken bool
}

// schedulers are the names that directors know them by.
var schedulers = map[string]string{
	"": "maglev", v1alpha1.SchedulerMaglev: "maglev", v1alpha1.SchedulerSourceHash: "sh", v1alpha1.SchedulerRoundRobin: "rr",
	v1alpha1.SchedulerWeightedRoundRobin: "wrr", v1alpha1.SchedulerWeightedLeastConnection: "wlc",
}

// Wanted gives what is wanted of a LoadBalancer but for its directors, or why it cannot be put in force as the cluster is
// declared. What was wanted then stays so.
func Wanted(in Input) (*padisv1.WantedBalancer, *rollout.Refusal) {
	b, s := in.Balancer, &in.Balancer.Spec
	if refusal := judge(in); refusal != nil {
		return nil, refusal
	}
	out := &padisv1.WantedBalancer{
		Uid: string(b.UID), Namespace: b.Namespace, Name: b.Name, Tenant: in.View.TenantOf(b.Namespace), Generation: b.Generation,
		Scheduler: schedulers[s.Scheduler], TableSize: uint32(s.TableSize), Seed: in.Seed,
		DrainMs: max(0, s.Drain().Milliseconds()), MinServers: max(1, s.MinServers), Dataplane: strings.ToLower(s.Dataplane), MaxConnections: s.MaxConnections,
	}
	if out.TableSize == 0 {
		out.TableSize = v1alpha1.DefaultTableSize
	}
	if out.Dataplane == "" {
		out.Dataplane = strings.ToLower(v1alpha1.DataplaneAuto)
	}
	if c := in.Current; c != nil {
		out.TableSize, out.Seed = c.TableSize, c.Seed
	}
	for _, v := range s.VIPs {
		out.Vips = append(out.Vips, &padisv1.VirtualAddress{Pool: v.Pool, Address: canonical(v.Address)})
	}
	for i := range s.Listeners {
		l := &s.Listeners[i]
		ranges := slices.Clone(l.SourceRanges)
		slices.Sort(ranges)
		out.Listeners = append(out.Listeners, &padisv1.Listener{
			Name: l.Name, Protocol: strings.ToLower(l.ProtocolName()), FirstPort: l.Port, LastPort: l.LastPort(), SourceRanges: ranges,
		})
	}
	for _, k := range s.Backends {
		out.Backends = append(out.Backends, backend(k))
	}
	for i := range s.HealthChecks {
		h, err := wanted.Check(fmt.Sprintf("spec.healthChecks[%d]", i), &s.HealthChecks[i])
		if err != nil {
			return nil, refuse(padisv1.ReasonInvalid, "%v", err)
		}
		out.Checks = append(out.Checks, h)
	}
	announced, refusal := announcement(in)
	if refusal != nil {
		return nil, refusal
	}
	out.Announcement = announced
	return out, nil
}

func backend(k v1alpha1.Backend) *padisv1.Backend {
	out := &padisv1.Backend{App: k.App}
	if k.Selector != nil {
		out.Labels = maps.Clone(k.Selector.MatchLabels)
	}
	switch {
	case k.Percent != nil:
		// 0 percent is the same as a weight of 0.
		out.Percent = *k.Percent
	case k.Weight != nil:
		out.Weight = *k.Weight
	default:
		out.Weight = v1alpha1.DefaultBackendWeight
	}
	return out
}

// canonical gives an address in the one form that all parts of Padis compare.
func canonical(text string) string {
	if a, err := v1alpha1.ParseAddress(text); err == nil {
		return a.String()
	}
	return text
}

func refuse(reason, format string, args ...any) *rollout.Refusal {
	return &rollout.Refusal{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func ofProblem(p v1alpha1.Problem) *rollout.Refusal {
	return refuse(p.Reason, "%s: %q %s", p.Field, p.Value, p.Message)
}

func judge(in Input) *rollout.Refusal {
	b := in.Balancer
	if errs := v1alpha1.ValidateLoadBalancer(b); len(errs) > 0 {
		return refuse(padisv1.ReasonInvalid, "%s: %q %s", errs[0].Field, fmt.Sprint(errs[0].BadValue), errs[0].Detail)
	}
	if in.NameTaken {
		return ofProblem(*v1alpha1.NameOfDirectors(b))
	}
	for i, vip := range b.Spec.VIPs {
		verdict, exists := in.View.Pools[vip.Pool]
		switch p := in.View.Pool(vip.Pool); {
		case !exists:
			return refuse(padisv1.ReasonPoolNotFound, "spec.vips[%d].pool: there is no IPPool %q: create it, or name another", i, vip.Pool)
		case p == nil:
			return refuse(padisv1.ReasonPoolNotFound, "spec.vips[%d].pool: IPPool %s is not in force: %s", i, vip.Pool, verdict.Message)
		case p.DeletionTimestamp != nil && !uses(in.Current, vip.Pool):
			return refuse(padisv1.ReasonPoolNotFound, "spec.vips[%d].pool: IPPool %s is being deleted: name another", i, vip.Pool)
		}
	}
	if problems := v1alpha1.ValidateBalancerPools(b, in.View.AllPools(), in.View.AllNetworks()); len(problems) > 0 {
		return ofProblem(problems[0])
	}
	return clash(in)
}

// clash finds an older LoadBalancer that has a fixed VIP of this one. The younger ones have the problem, as elsewhere.
func clash(in Input) *rollout.Refusal {
	var older []v1alpha1.LoadBalancer
	b := in.Balancer
	for i := range in.Others {
		o := &in.Others[i]
		if o.UID != b.UID && o.DeletionTimestamp == nil && before(o, b) {
			older = append(older, *o)
		}
	}
	if p := v1alpha1.VIPClash(b, older); p != nil {
		return ofProblem(*p)
	}
	return nil
}

func before(a, b *v1alpha1.LoadBalancer) bool {
	if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.CreationTimestamp.Before(&b.CreationTimestamp)
	}
	return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
}

func uses(w *padisv1.WantedBalancer, pool string) bool {
	return slices.ContainsFunc(w.GetVips(), func(v *padisv1.VirtualAddress) bool { return v.Pool == pool })
}

// announcement gives how VIPs are announced. Without named peers all routers are told; one that is declared, but not in force
// any more, is told on as before: a Secret that disappears must not take VIPs off the network.
func announcement(in Input) (*padisv1.Announcement, *rollout.Refusal) {
	g := &in.Balancer.Spec.BGP
	out := &padisv1.Announcement{Asn: uint32(g.ASN), LocalPref: uint32(g.LocalPreference), Med: uint32(g.MED)}
	for i, text := range g.Communities {
		c, err := v1alpha1.ParseCommunity(text)
		if err != nil {
			return nil, refuse(padisv1.ReasonInvalid, "spec.bgp.communities[%d]: %v", i, err)
		}
		out.Communities = append(out.Communities, c)
	}
	slices.Sort(out.Communities)
	names := g.Peers
	if len(names) == 0 {
		names = in.View.AllPeers()
	}
	for _, name := range names {
		p, inForce := in.View.Peer(name)
		verdict, exists := in.View.Peers[name]
		was := peerOf(in.Current, name)
		switch {
		case inForce:
			out.Peers = append(out.Peers, p.Wire)
		case len(g.Peers) == 0 && was != nil:
			out.Peers = append(out.Peers, was)
		case len(g.Peers) == 0:
			// Its own status says why.
		case exists:
			return nil, refuse(padisv1.ReasonPeerNotFound, "spec.bgp.peers: BGPPeer %s is not in force: %s", name, verdict.Message)
		default:
			return nil, refuse(padisv1.ReasonPeerNotFound, "spec.bgp.peers: there is no BGPPeer %q: create it, or name another", name)
		}
	}
	slices.SortFunc(out.Peers, func(a, b *padisv1.AnnouncementPeer) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func peerOf(w *padisv1.WantedBalancer, name string) *padisv1.AnnouncementPeer {
	for _, p := range w.GetAnnouncement().GetPeers() {
		if p.Name == name {
			return p
		}
	}
	return nil
}
