package balanced

import (
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// States of real servers, as the scheduler says them.
const (
	serving  = "serving"
	draining = "draining"
	suspect  = "suspect"
	waiting  = "waiting"
)

// Facts are all that a status is made of. They are not mutated.
type Facts struct {
	Balancer *v1alpha1.LoadBalancer
	View     *declared.View
	// Refusal is set when the declaration is not in force.
	Refusal *rollout.Refusal
	// Wanted is what is in force; nil if nothing is.
	Wanted *padisv1.WantedBalancer
	// Directors are said to be so by rollout.
	Directors v1alpha1.AppStatus
	// Balance is what the scheduler says; nil before anything was decided.
	Balance *runtime.Balance
	// Leaving is set when the LoadBalancer is being deleted.
	Leaving bool
}

// judgement is a status in the making.
type judgement struct {
	Facts
	vips      []runtime.BalanceVIP
	directors []runtime.BalanceDirector
	servers   []runtime.BalanceServer
	status    v1alpha1.LoadBalancerStatus
}

// Status gives the status, complete but for the times of its conditions.
func Status(f Facts) v1alpha1.LoadBalancerStatus {
	j := &judgement{Facts: f}
	if b := f.Balance; b != nil {
		j.vips, j.directors, j.servers = b.VIPs, slices.Clone(b.Directors), slices.Clone(b.Servers)
		slices.SortFunc(j.directors, func(x, y runtime.BalanceDirector) int { return byInstance(x.Instance, y.Instance) })
		slices.SortFunc(j.servers, func(x, y runtime.BalanceServer) int {
			if d := rank(x.State) - rank(y.State); d != 0 {
				return d
			}
			return byInstance(x.Instance, y.Instance)
		})
	} else {
		for _, v := range f.Wanted.GetVips() {
			j.vips = append(j.vips, runtime.BalanceVIP{Pool: v.Pool, Reason: padisv1.ReasonAwaitingVIP, Message: "the scheduler has not leased an address yet"})
		}
	}
	s := &j.status
	s.ObservedGeneration = f.Balancer.Generation
	j.showServers()
	j.showDirectors()
	announced := j.announced()
	j.showVIPs(announced)
	s.Conditions = []metav1.Condition{j.accepted(), announced, j.serversReady(), j.peersUp(), j.redundant(announced), j.connectionsKept()}
	for n := range s.Conditions {
		s.Conditions[n].ObservedGeneration = s.ObservedGeneration
	}
	return *s
}

// byInstance orders APP-SLOT by App, then by number.
func byInstance(a, b string) int {
	i, k := strings.LastIndexByte(a, '-')+1, strings.LastIndexByte(b, '-')+1
	if c := strings.Compare(a[:i], b[:k]); c != 0 {
		return c
	}
	if d := len(a) - len(b); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// rank puts those first that call for a look.
func rank(state string) int {
	return slices.Index([]string{suspect, waiting, draining, serving}, state)
}

func (j *judgement) showServers() {
	s := &j.status.Servers
	for _, v := range j.servers {
		shown := v1alpha1.ServerStatus{Instance: v.Instance, Reason: v.Reason, Message: v.Message}
		switch v.State {
		case serving:
			s.Serving++
			shown.State = v1alpha1.ServerServing
		case draining:
			s.Draining++
			shown.State = v1alpha1.ServerDraining
		case suspect:
			s.Suspect++
			shown.State = v1alpha1.ServerSuspect
		default:
			s.Waiting++
			shown.State = v1alpha1.ServerWaiting
		}
		if v.Table > 0 && v.Slots > 0 {
			shown.Share = fmt.Sprintf("%.1f%%", 100*float64(v.Slots)/float64(v.Table))
		}
		if len(s.Instances) < v1alpha1.MaxListed {
			s.Instances = append(s.Instances, shown)
		}
	}
	s.Summary = fmt.Sprintf("%d/%d", s.Serving, len(j.servers))
}

func (j *judgement) showDirectors() {
	s := &j.status.Directors
	s.Wanted, s.Ready = j.Balancer.Spec.Directors.Wanted(), j.Directors.ReadyReplicas
	if j.Leaving {
		s.Wanted = 0
	}
	s.Summary = fmt.Sprintf("%d/%d", s.Ready, s.Wanted)
	up, all := 0, 0
	for _, d := range j.directors {
		shown := v1alpha1.DirectorStatus{
			Instance: d.Instance, Host: d.Host, Address: d.Address, Dataplane: d.Dataplane, Announced: int32(len(d.Announced)),
			Reason: d.Reason, Message: d.Message,
		}
		for _, e := range d.Sessions {
			shown.Sessions = append(shown.Sessions, v1alpha1.SessionStatus{Peer: e.Peer, Established: e.Established, Message: e.Message, BFD: e.BFD})
			all++
			if e.Established {
				up++
			}
		}
		s.Instances = append(s.Instances, shown)
	}
	j.status.Sessions = fmt.Sprintf("%d/%d", up, all)
}

func (j *judgement) showVIPs(announced metav1.Condition) {
	s := &j.status
	var texts []string
	for _, v := range j.vips {
		shown := v1alpha1.VIPStatus{Pool: v.Pool, Address: v.Address, Announcing: int32(len(v.Announcing)), Reason: v.Reason, Message: v.Message}
		by := slices.Clone(v.Announcing)
		slices.SortFunc(by, byInstance)
		shown.AnnouncedBy = by[:min(len(by), v1alpha1.MaxAnnouncing)]
		if v.Address != "" {
			texts = append(texts, v.Address)
			if len(by) == 0 && shown.Reason == "" {
				shown.Reason, shown.Message = announced.Reason, "is not announced: see the condition Announced"
			}
		}
		s.VIPs = append(s.VIPs, shown)
	}
	const most = 2
	s.Addresses = strings.Join(texts[:min(most, len(texts))], ",")
	if n := len(texts) - most; n > 0 {
		s.Addresses += fmt.Sprintf(" and %d more", n)
	}
}

func condition(kind string, ok bool, reason, format string, args ...any) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(format, args...)}
	if ok {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func (j *judgement) accepted() metav1.Condition {
	const kind = v1alpha1.ConditionAccepted
	switch {
	case j.Leaving && j.Directors.Replicas > 0:
		return condition(kind, true, padisv1.ReasonAccepted, "the LoadBalancer is being deleted: waits for the end of %s", plural(int(j.Directors.Replicas), "director"))
	case j.Leaving:
		return condition(kind, true, padisv1.ReasonAccepted, "the LoadBalancer is being deleted")
	case j.Refusal != nil && j.Wanted == nil:
		return condition(kind, false, j.Refusal.Reason, "%s; nothing is announced until then", trimmed(j.Refusal.Message))
	case j.Refusal != nil:
		return condition(kind, false, j.Refusal.Reason, "%s; the last accepted declaration stays in force until then", trimmed(j.Refusal.Message))
	}
	if j.Balance != nil && j.Balance.Problem != "" {
		return condition(kind, false, padisv1.ReasonInvalid, "%s; all stays as it was until then", trimmed(j.Balance.Problem))
	}
	return condition(kind, true, padisv1.ReasonAccepted, "the declaration is in force%s", j.narrow())
}

// usualMTU is what routers send if nobody tells them otherwise.
const usualMTU = 1500

// narrow warns of a segment that loses larger packets, of which only its routers can tell clients.
func (j *judgement) narrow() string {
	for _, a := range j.Balancer.Spec.Directors.Networks {
		p := j.View.Pool(a.Pool)
		if p == nil {
			continue
		}
		if n := j.View.Network(p.Spec.Network); n != nil && n.Spec.EffectiveMTU() < usualMTU {
			return fmt.Sprintf("; network %s carries packets of at most %d bytes, and directors forward what comes as it is: set that MTU on the interfaces of the routers to it, or larger packets of clients are lost", n.Name, n.Spec.EffectiveMTU())
		}
		break
	}
	return ""
}

func (j *judgement) announced() metav1.Condition {
	const kind = v1alpha1.ConditionAnnounced
	all, most := len(j.vips), 0
	announced := 0
	for _, v := range j.vips {
		if len(v.Announcing) > 0 {
			announced++
			most = max(most, len(v.Announcing))
		}
	}
	if all > 0 && announced == all {
		return condition(kind, true, padisv1.ReasonAnnounced, "%s announced by %s", verb(all, "VIP"), plural(most, "director"))
	}
	reason, why := j.silence()
	if announced > 0 {
		return condition(kind, false, reason, "%d of %s announced; %s", announced, verb(all, "VIP"), why)
	}
	return condition(kind, false, reason, "nothing is announced: %s", why)
}

// silence is why a VIP is not announced: what stands first in its way.
func (j *judgement) silence() (reason, why string) {
	switch {
	case j.Leaving:
		return padisv1.ReasonStopping, "the LoadBalancer is being deleted"
	case j.Wanted == nil && j.Refusal != nil:
		return j.Refusal.Reason, trimmed(j.Refusal.Message)
	case len(j.Wanted.GetAnnouncement().GetPeers()) == 0:
		return padisv1.ReasonNoPeers, "no BGPPeer is in force: declare the routers that directors shall announce to, or correct those that `padis get bgppeers` shows as not accepted"
	}
	for i, v := range j.vips {
		if v.Address == "" {
			reason := v.Reason
			if reason == "" {
				reason = padisv1.ReasonAwaitingVIP
			}
			return reason, trimmed(fmt.Sprintf("spec.vips[%d] of pool %s has no address: %s", i, v.Pool, v.Message))
		}
	}
	least := j.Wanted.GetMinServers()
	switch {
	case j.Balance == nil:
		return padisv1.ReasonStarting, "the scheduler has not decided yet"
	case j.status.Servers.Serving < least:
		return padisv1.ReasonTooFewServers, fmt.Sprintf("%d of at least %s in rotation%s", j.status.Servers.Serving, verb(int(least), "real server"), j.andServers())
	case j.status.Directors.Wanted == 0:
		return padisv1.ReasonNoDirectors, "no directors are wanted: raise spec.directors.replicas"
	case len(j.directors) == 0 || j.Directors.RunningReplicas == 0:
		return padisv1.ReasonNoDirectors, trimmed("no director runs: " + j.directorsSay())
	}
	for _, d := range j.directors {
		if d.Reason != "" {
			return d.Reason, trimmed(fmt.Sprintf("%s: %s", d.Instance, d.Message))
		}
	}
	if up, down := j.sessions(); up == 0 && len(down) > 0 {
		return padisv1.ReasonPeerDown, j.downText(down)
	}
	return padisv1.ReasonStarting, "directors have not announced it yet"
}

// directorsSay is why directors are not ready, in the words of rollout.
func (j *judgement) directorsSay() string {
	for _, c := range j.Directors.Conditions {
		if c.Type == v1alpha1.ConditionAvailable {
			b := j.Balancer
			return strings.ReplaceAll(c.Message, fmt.Sprintf("app/%s -n", v1alpha1.DirectorsName(b.Name)), fmt.Sprintf("lb/%s -n", b.Name))
		}
	}
	return "none has been started yet"
}

func (j *judgement) directorsReason() string {
	for _, c := range j.Directors.Conditions {
		if c.Type == v1alpha1.ConditionAvailable && c.Status == metav1.ConditionFalse {
			return c.Reason
		}
	}
	return padisv1.ReasonFewerDirectors
}

// sessions counts those that are up, and lists the others.
func (j *judgement) sessions() (up int, down []string) {
	for _, d := range j.directors {
		for _, e := range d.Sessions {
			if e.Established {
				up++
				continue
			}
			down = append(down, strings.TrimSuffix(fmt.Sprintf("%s with %s (%s): %s", d.Instance, e.Peer, e.Address, e.Message), ": "))
		}
	}
	return up, down
}

func (j *judgement) downText(down []string) string {
	return fmt.Sprintf("not up: %s; compare the BGPPeer and spec.bgp with the configuration of the router: address, asn, password", few(down))
}

func (j *judgement) peersUp() metav1.Condition {
	const kind = v1alpha1.ConditionPeersUp
	up, down := j.sessions()
	all := up + len(down)
	var blind []string
	for _, d := range j.directors {
		for _, e := range d.Sessions {
			if e.Established && e.BFD == "down" {
				blind = append(blind, d.Instance+" with "+e.Peer)
			}
		}
	}
	switch {
	case all == 0 && j.Wanted != nil && len(j.Wanted.GetAnnouncement().GetPeers()) == 0:
		return condition(kind, false, padisv1.ReasonNoPeers, "no BGPPeer is in force: declare the routers that directors shall announce to")
	case all == 0:
		c := condition(kind, false, padisv1.ReasonStarting, "no director has a session yet: directors open them when they run, if their agent has one of the attributes of spec.agents of the BGPPeers")
		c.Status = metav1.ConditionUnknown
		return c
	case len(down) > 0:
		return condition(kind, false, padisv1.ReasonPeerDown, "%d of %s up; %s", up, verb(all, "session"), j.downText(down))
	case len(blind) > 0:
		return condition(kind, false, padisv1.ReasonPeerDown, "%s up, but BFD is not: %s; set it up on the router, or unset spec.bfd of the BGPPeer", verb(all, "session"), few(blind))
	}
	return condition(kind, true, padisv1.ReasonReady, "%s up", verb(all, "session"))
}

func trimmed(s string) string { return strings.TrimRight(s, ".: \n") }

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// verb counts and says "is" or "are".
func verb(n int, one string) string {
	if n == 1 {
		return "1 " + one + " is"
	}
	return fmt.Sprintf("%d %ss are", n, one)
}

// few lists the first few and counts the rest.
func few(all []string) string {
	const most = 3
	text := strings.Join(all[:min(most, len(all))], ", ")
	if rest := len(all) - most; rest > 0 {
		text += fmt.Sprintf(" and %d more", rest)
	}
	return text
}
