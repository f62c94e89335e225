package declared

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NetworkProgress gives the conditions of a Network that is in force, beside Accepted: HostsReady once a host speaks of it,
// and PeersUp if it has routers.
func NetworkProgress(spec *v1alpha1.NetworkSpec, states []runtime.HostNetworkState) []metav1.Condition {
	states = slices.Clone(states)
	slices.SortFunc(states, func(a, b runtime.HostNetworkState) int { return strings.Compare(a.Host, b.Host) })
	var out []metav1.Condition
	if len(states) > 0 {
		out = append(out, hostsReady(states))
	}
	if spec.BGP != nil && spec.Driver == v1alpha1.DriverRouted {
		out = append(out, peersUp(states))
	}
	return out
}

func hostsReady(states []runtime.HostNetworkState) metav1.Condition {
	reason := ""
	var failed []string
	for _, s := range states {
		if s.Reason != "" {
			reason = cmp.Or(reason, s.Reason)
			failed = append(failed, fmt.Sprintf("on %s: %s", s.Host, s.Message))
		}
	}
	c := metav1.Condition{Type: v1alpha1.ConditionHostsReady, Status: metav1.ConditionTrue, Reason: padisv1.ReasonReady,
		Message: fmt.Sprintf("%s it", plural(len(states), "host has", "hosts have"))}
	if len(failed) > 0 {
		c.Status, c.Reason = metav1.ConditionFalse, reason
		c.Message = fmt.Sprintf("%d of %s it; %s", len(states)-len(failed), plural(len(states), "host has", "hosts have"), few(failed))
	}
	return c
}

func peersUp(states []runtime.HostNetworkState) metav1.Condition {
	up, all := 0, 0
	var down []string
	for _, s := range states {
		for _, b := range s.Sessions {
			all++
			if b.Established {
				up++
				continue
			}
			down = append(down, strings.TrimSuffix(fmt.Sprintf("%s with %s: %s", s.Host, b.Peer, b.Message), ": "))
		}
	}
	c := metav1.Condition{Type: v1alpha1.ConditionPeersUp, Status: metav1.ConditionFalse, Reason: padisv1.ReasonPeerDown}
	switch {
	case all == 0:
		c.Status, c.Reason = metav1.ConditionUnknown, padisv1.ReasonStarting
		c.Message = "no host has a session yet: hosts open them with their first instance on the network, if an agent has one of the attributes of spec.bgp.peers[].agents"
	case up == all:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, padisv1.ReasonReady, plural(all, "session is up", "sessions are up")
	default:
		c.Message = fmt.Sprintf("%d of %s up; not up: %s; compare spec.bgp with the configuration of the router: address, asn, password", up, plural(all, "session is", "sessions are"), few(down))
	}
	return c
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// PoolProgress gives the status of an IPPool, but for what is the same for all kinds: the counts, and the condition
// ForeignAddresses while others use addresses of the pool.
func PoolProgress(p *v1alpha1.IPPool, u runtime.PoolUsage, foreign []runtime.ForeignAddress) v1alpha1.IPPoolStatus {
	out := v1alpha1.IPPoolStatus{Capacity: u.Capacity, Allocated: u.Allocated, Cooling: u.Cooling, Free: u.Free}
	if u.Capacity > 0 {
		used := math.Ceil(100 * (float64(u.Allocated) + float64(u.Cooling)) / float64(u.Capacity))
		out.UtilizationPercent = int32(min(100, used))
	}
	var others []string
	for _, f := range foreign {
		if a, err := v1alpha1.ParseAddress(f.Address); err == nil && f.Network == p.Spec.Network && p.Contains(a) {
			others = append(others, strings.TrimSuffix(f.Address+" by "+f.Who, " by "))
		}
	}
	if len(others) > 0 {
		slices.Sort(others)
		out.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionForeignAddresses, Status: metav1.ConditionTrue, Reason: padisv1.ReasonForeignAddresses,
			Message: fmt.Sprintf("%s used by others: %s; they are not handed out: give these machines other addresses, or reserve what they have (padis ip reserve %s ADDRESS)",
				plural(len(others), "address is", "addresses are"), few(others), p.Name)}}
	}
	return out
}
