package wanted

import (
	"fmt"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"
)

// minLeaseMs is the shortest time for which an instance may serve without word from the scheduler.
const minLeaseMs = 10_000

// wishes converts what an App asks for. Addresses are given in the one form that all parts of Padis compare.
func wishes(in []v1alpha1.NetworkAttachment) ([]*padisv1.NetworkWish, error) {
	var out []*padisv1.NetworkWish
	for i, n := range in {
		switch {
		case n.Pool == "" && n.Network == "":
			return nil, fmt.Errorf("spec.networks[%d].pool: is empty: name an IPPool, or a Network with the driver host in network", i)
		case n.Pool != "" && n.Network != "":
			return nil, fmt.Errorf("spec.networks[%d]: has both pool and network: set exactly one", i)
		case n.Network != "" && len(in) > 1:
			return nil, fmt.Errorf("spec.networks[%d].network: an instance that has the network of its host has no other interfaces: remove the other entries, or name an IPPool", i)
		case n.Network != "" && (len(n.Addresses) > 0 || n.Bandwidth != nil):
			return nil, fmt.Errorf("spec.networks[%d]: an instance that has the network of its host has neither addresses nor bandwidth of its own: unset both", i)
		}
		w := &padisv1.NetworkWish{Pool: n.Pool, Network: n.Network}
		for _, text := range n.Addresses {
			if a, err := v1alpha1.ParseAddress(text); err == nil {
				text = a.String()
			}
			w.Addresses = append(w.Addresses, text)
		}
		out = append(out, w)
	}
	return out, nil
}

// pools judges the wishes for addresses.
func pools(a *v1alpha1.App, v *declared.View, current *padisv1.WantedApp) *rollout.Refusal {
	var known []v1alpha1.IPPool
	for i, n := range a.Spec.Networks {
		if n.Network != "" {
			continue
		}
		verdict, exists := v.Pools[n.Pool]
		p := v.Pool(n.Pool)
		switch {
		case !exists:
			return &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: fmt.Sprintf(
				"spec.networks[%d].pool: there is no IPPool %q: create it, or name another", i, n.Pool)}
		case p == nil:
			return &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: fmt.Sprintf(
				"spec.networks[%d].pool: IPPool %s is not in force: %s", i, n.Pool, verdict.Message)}
		case p.DeletionTimestamp != nil && !uses(current, n.Pool):
			return &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: fmt.Sprintf(
				"spec.networks[%d].pool: IPPool %s is being deleted: name another", i, n.Pool)}
		}
		known = append(known, *p)
	}
	if len(a.Spec.LoopbackAddresses) > 0 {
		known = v.AllPools()
	}
	if problems := append(v1alpha1.VirtualPools(a, known, v.AllNetworks()), v1alpha1.ValidateAddresses(a, known)...); len(problems) > 0 {
		p := problems[0]
		return &rollout.Refusal{Reason: p.Reason, Message: fmt.Sprintf("%s: %q %s", p.Field, p.Value, p.Message)}
	}
	return nil
}

func uses(w *padisv1.WantedApp, pool string) bool {
	for _, r := range w.GetRevisions() {
		for _, n := range r.Networks {
			if n.Pool == pool {
				return true
			}
		}
	}
	return false
}

// hostNetwork judges the wish for the network of the host.
func hostNetwork(a *v1alpha1.App, v *declared.View) *rollout.Refusal {
	name := v1alpha1.HostNetwork(a)
	if name == "" {
		return nil
	}
	// It is the only entry.
	const at = "spec.networks[0].network"
	verdict, exists := v.Networks[name]
	n := v.Network(name)
	switch {
	case !exists:
		return &rollout.Refusal{Reason: padisv1.ReasonNetworkNotFound, Message: fmt.Sprintf("%s: there is no Network %q: create it, or name another", at, name)}
	case n == nil:
		return &rollout.Refusal{Reason: padisv1.ReasonNetworkNotFound, Message: fmt.Sprintf("%s: Network %s is not in force: %s", at, name, verdict.Message)}
	}
	if p := v1alpha1.ValidateHostNetwork(a, []v1alpha1.Network{*n}); p != nil {
		return &rollout.Refusal{Reason: p.Reason, Message: fmt.Sprintf("%s: %q %s", p.Field, p.Value, p.Message)}
	}
	return nil
}

// live puts into id what of the network changes while instances run, so that it is no part of a revision.
func live(a *v1alpha1.App, v *declared.View, id *padisv1.WantedApp) error {
	for _, text := range a.Spec.LoopbackAddresses {
		if ip, err := v1alpha1.ParseAddress(text); err == nil {
			text = ip.String()
		}
		id.LoopbackAddresses = append(id.LoopbackAddresses, text)
	}
	id.LoopbackAddresses = sorted(id.LoopbackAddresses)
	id.Bandwidths = bandwidths(a.Spec.Networks, v)
	var err error
	id.Unreachable, err = unreachable(&a.Spec.Unreachable)
	return err
}

// bandwidths gives what each interface may carry: what the App says, and what it does not say as the Network says. Nothing
// is given if the App says nothing at all: then the Networks hold, as they are.
func bandwidths(in []v1alpha1.NetworkAttachment, v *declared.View) []*padisv1.Bandwidth {
	var out []*padisv1.Bandwidth
	said := false
	for _, n := range in {
		b := &padisv1.Bandwidth{}
		if p := v.Pool(n.Pool); p != nil {
			if network := v.Network(p.Spec.Network); network != nil {
				if d := declared.Bandwidth(network.Spec.Bandwidth); d != nil {
					b = d
				}
			}
		}
		if own := declared.Bandwidth(n.Bandwidth); own != nil {
			said = true
			if own.Ingress > 0 {
				b.Ingress = own.Ingress
			}
			if own.Egress > 0 {
				b.Egress = own.Egress
			}
		}
		out = append(out, b)
	}
	if !said {
		return nil
	}
	return out
}

// unreachable is nil where the scheduler's own policy holds.
func unreachable(in *v1alpha1.UnreachablePolicy) (*padisv1.UnreachablePolicy, error) {
	const at = "spec.unreachable"
	out := &padisv1.UnreachablePolicy{}
	var err error
	switch in.Replace {
	case "", v1alpha1.ReplaceDefault:
		return nil, nil
	case v1alpha1.ReplaceNever:
		out.Replace = padisv1.UnreachablePolicy_NEVER
	case v1alpha1.ReplaceAfter:
		if in.After == nil {
			return nil, fmt.Errorf("%s.after: is needed with replace: After: say how long to wait, for example 5m", at)
		}
		out.Replace = padisv1.UnreachablePolicy_AFTER
		out.AfterMs, err = milliseconds(at+".after", in.After.Duration)
	case v1alpha1.ReplaceLease:
		if in.Lease == nil {
			return nil, fmt.Errorf("%s.lease: is needed with replace: Lease: say how long an instance serves without word from the scheduler, for example 30s", at)
		}
		out.Replace = padisv1.UnreachablePolicy_LEASE
		if out.LeaseMs, err = milliseconds(at+".lease", in.Lease.Duration); err == nil && out.LeaseMs < minLeaseMs {
			err = fmt.Errorf("%s.lease: %s is too short: at least 10s, or every short failure ends instances", at, in.Lease.Duration)
		}
	default:
		return nil, fmt.Errorf("%s.replace: %q is none of Default, Never, After and Lease", at, in.Replace)
	}
	return out, err
}
