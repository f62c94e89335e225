package balanced

import (
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// passing are the reasons that go away by themselves. Others call for a look.
func passing(reason string) bool {
	switch reason {
	case "", padisv1.ReasonNoOffers, padisv1.ReasonFewerDirectors, padisv1.ReasonJoining, padisv1.ReasonDraining, padisv1.ReasonStarting, padisv1.ReasonStopping, padisv1.ReasonPlaced, padisv1.ReasonRunning,
		padisv1.ReasonReady, padisv1.ReasonUpdating, padisv1.ReasonScaledIn, padisv1.ReasonAwaitingVIP, padisv1.ReasonAwaitingRelease, padisv1.ReasonReaddressing,
		padisv1.ReasonPulling, padisv1.ReasonPrepulling, padisv1.ReasonAdopting, padisv1.ReasonUpgrading:
		return true
	}
	return false
}

// backendTroubles are backends that give no real server.
func (j *judgement) backendTroubles() (reason string, all []string) {
	if j.Balance == nil {
		return "", nil
	}
	for _, b := range j.Balance.Backends {
		if b.Reason == "" {
			continue
		}
		if reason == "" {
			reason = b.Reason
		}
		all = append(all, fmt.Sprintf("spec.backends[%d]: %s", b.Index, trimmed(b.Message)))
	}
	return reason, all
}

// idle groups the real servers that do not serve by their reason: those that call for a look first, then the commonest. It names
// the servers of the first reason and counts the others.
func (j *judgement) idle() (reason, text string) {
	groups := map[string][]runtime.BalanceServer{}
	var reasons []string
	for _, s := range j.servers {
		if s.State == serving {
			continue
		}
		r := s.Reason
		if r == "" {
			r = map[string]string{draining: padisv1.ReasonDraining, suspect: padisv1.ReasonUnhealthy}[s.State]
		}
		if r == "" {
			r = padisv1.ReasonJoining
		}
		if groups[r] == nil {
			reasons = append(reasons, r)
		}
		groups[r] = append(groups[r], s)
	}
	slices.SortStableFunc(reasons, func(a, b string) int {
		if passing(a) != passing(b) {
			if passing(a) {
				return 1
			}
			return -1
		}
		return len(groups[b]) - len(groups[a])
	})
	var parts []string
	for n, r := range reasons {
		g := groups[r]
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", len(g), r))
			continue
		}
		var names []string
		for _, s := range g {
			names = append(names, s.Instance)
		}
		parts = append(parts, trimmed(fmt.Sprintf("%s %s: %s", few(names), r, g[0].Message)))
	}
	if len(reasons) == 0 {
		return "", ""
	}
	return reasons[0], strings.Join(parts, "; ")
}

// andServers says why too few serve, as the end of a sentence.
func (j *judgement) andServers() string {
	_, troubles := j.backendTroubles()
	if _, text := j.idle(); text != "" {
		troubles = append([]string{text}, troubles...)
	}
	if len(troubles) == 0 {
		return ""
	}
	return ": " + strings.Join(troubles, "; ")
}

func (j *judgement) serversReady() metav1.Condition {
	const kind = v1alpha1.ConditionServersReady
	all := len(j.servers)
	backends, troubles := j.backendTroubles()
	idle, text := j.idle()
	switch {
	case j.Balance == nil:
		c := condition(kind, false, padisv1.ReasonStarting, "the scheduler has not decided yet")
		c.Status = metav1.ConditionUnknown
		return c
	case all == 0 && len(troubles) == 0:
		return condition(kind, false, padisv1.ReasonNoBackends, "the backends select no instance: deploy their Apps, or correct spec.backends")
	case all == 0:
		return condition(kind, false, backends, "%s", strings.Join(troubles, "; "))
	case text != "" && (!passing(idle) || len(troubles) == 0):
		return condition(kind, false, idle, "%d of %s in rotation; %s", j.status.Servers.Serving, verb(all, "real server"), strings.Join(append([]string{text}, troubles...), "; "))
	case len(troubles) > 0:
		return condition(kind, false, backends, "%d of %s in rotation; %s", j.status.Servers.Serving, verb(all, "real server"), strings.Join(troubles, "; "))
	}
	return condition(kind, true, padisv1.ReasonReady, "%s in rotation", verb(all, "real server"))
}

// connectionsKept says whether the hosts of real servers can send on what a change has moved.
func (j *judgement) connectionsKept() metav1.Condition {
	const kind = v1alpha1.ConditionConnectionsKept
	if j.Balance == nil {
		c := condition(kind, false, padisv1.ReasonStarting, "the scheduler has not decided yet")
		c.Status = metav1.ConditionUnknown
		return c
	}
	switch spec := &j.Balancer.Spec; {
	case spec.Scheduler == v1alpha1.SchedulerRoundRobin, spec.Scheduler == v1alpha1.SchedulerWeightedRoundRobin, spec.Scheduler == v1alpha1.SchedulerWeightedLeastConnection:
		return condition(kind, false, padisv1.ReasonRelayUnavailable, "connections break when routers send them to another director: with scheduler %s directors do not know each other's connections; use Maglev or SourceHash to keep them", spec.Scheduler)
	case spec.MaxConnections > 0:
		return condition(kind, false, padisv1.ReasonRelayUnavailable, "connections may break when routers send them to another director: with maxConnections directors do not know each other's connections; leave it out to keep them")
	}
	for _, d := range j.directors {
		if d.Dataplane == "ipvs" {
			return condition(kind, false, padisv1.ReasonRelayUnavailable, "connections may break when routers send them to another director while real servers change: %s forwards by IPVS, which places them by a hash of its own; use the dataplane TCX to keep them", d.Instance)
		}
	}
	reason := ""
	var hosts []string
	for _, h := range j.Balance.Hosts {
		if h.Reason == "" {
			continue
		}
		if reason == "" || passing(reason) {
			reason = h.Reason
		}
		hosts = append(hosts, trimmed(fmt.Sprintf("%s: %s", h.Host, h.Message)))
	}
	if len(hosts) == 0 {
		return condition(kind, true, padisv1.ReasonReady, "changes break no connection: all hosts of real servers send on what belongs to others")
	}
	slices.Sort(hosts)
	return condition(kind, false, reason, "changes may break connections to real servers on %s: %s", plural(len(hosts), "host"), few(hosts))
}

// redundant says whether all directors announce all VIPs, and routers use all of them.
func (j *judgement) redundant(announced metav1.Condition) metav1.Condition {
	const kind = v1alpha1.ConditionRedundant
	want, full := int(j.status.Directors.Wanted), 0
	vips := 0
	for _, v := range j.vips {
		if v.Address != "" {
			vips++
		}
	}
	reason, why := "", ""
	for _, d := range j.directors {
		if !d.Draining && vips > 0 && len(d.Announced) >= vips {
			full++
			continue
		}
		if reason == "" && d.Reason != "" {
			reason, why = d.Reason, fmt.Sprintf("%s: %s", d.Instance, d.Message)
		}
	}
	switch {
	case announced.Status != metav1.ConditionTrue:
		return condition(kind, false, announced.Reason, "see the condition Announced")
	case full < want && reason != "":
		return condition(kind, false, reason, "%d of %s announcing all VIPs: %s", full, verb(want, "director"), trimmed(why))
	case full < want && j.status.Directors.Ready < int32(want):
		return condition(kind, false, j.directorsReason(), "%d of %s announcing all VIPs: %s", full, verb(want, "director"), trimmed(j.directorsSay()))
	case full < want:
		why := "the others have just started"
		if _, down := j.sessions(); len(down) > 0 {
			why = "see the condition PeersUp"
		}
		return condition(kind, false, padisv1.ReasonFewerDirectors, "%d of %s announcing all VIPs: %s", full, verb(want, "director"), why)
	}
	if text := j.tooMany(want); text != "" {
		return condition(kind, false, padisv1.ReasonTooManyPaths, "%s", text)
	}
	return condition(kind, true, padisv1.ReasonReady, "%s announcing all VIPs", verb(full, "director"))
}

// tooMany names the routers that have fewer equal-cost paths than directors announce to them.
func (j *judgement) tooMany(directors int) string {
	var routers []string
	for _, p := range j.Wanted.GetAnnouncement().GetPeers() {
		router, ok := j.View.Peer(p.Name)
		if !ok || router.MaximumPaths == 0 {
			continue
		}
		n := directors
		if len(p.GetRouter().GetAgents()) > 0 {
			// Only some directors have this router.
			n = 0
			for _, d := range j.directors {
				if slices.ContainsFunc(d.Sessions, func(s runtime.DirectorSession) bool { return s.Peer == p.Name }) {
					n++
				}
			}
		}
		if n > int(router.MaximumPaths) {
			routers = append(routers, fmt.Sprintf("%s announce to router %s, which is set up for %d", plural(n, "director"), p.Name, router.MaximumPaths))
		}
	}
	if len(routers) == 0 {
		return ""
	}
	return strings.Join(routers, "; ") + ": the others get no traffic; raise maximum-paths of the router and spec.maximumPaths of the BGPPeer, or lower spec.directors.replicas"
}
