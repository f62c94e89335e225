package director

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"padis.io/padis/executor/director/plan"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// report tells the executor what changed, and HTTP clients what is.
func (d *director) report() {
	s := d.tell()
	if !d.link.same(s) {
		d.link.say(s)
	}
	v := view{instance: d.o.Instance, state: s, unready: d.unready(s), plane: d.forwarder.plane}
	if o := d.state.Applied; o != nil {
		v.loadBalancer, v.servers = o.Namespace+"/"+o.Name, o.Servers
	}
	d.page.view.Store(&v)
}

// tell says all of the director. The task is the executor's to fill in: it knows whose socket it reads.
func (d *director) tell() *padisv1.DirectorState {
	s := &padisv1.DirectorState{Dataplane: d.forwarder.name, Sessions: d.announcer.sessions(), Draining: d.leave.Begun(),
		Reason: d.decision.Reason, Message: d.decision.Message}
	if d.state.Applied != nil {
		s.Number = d.state.Applied.Number
	}
	now, ever := d.announcer.routers.carry(s.Sessions)
	for _, v := range d.state.Announced {
		if now[familyOf(v)] {
			s.Announced = append(s.Announced, v.String())
		}
	}
	results := d.checker.Results()
	for _, id := range slices.Sorted(maps.Keys(results)) {
		if r := results[id]; r.Reach == plan.Failing {
			s.Failures = append(s.Failures, &padisv1.ServerFailure{Server: id, Message: r.Message})
		}
	}
	switch why := d.unheard(now, ever); {
	case d.wrong != "":
		s.Reason, s.Message = padisv1.ReasonInvalid, d.wrong
	case s.Reason == "" && why != "":
		s.Reason, s.Message = padisv1.ReasonPeerDown, why
	}
	return s
}

// unheard says which VIPs no router is told, and why.
func (d *director) unheard(now, ever [2]bool) string {
	var counts [2]int
	for _, v := range d.state.Announced {
		counts[familyOf(v)]++
	}
	var why []string
	for family, name := range [2]string{"IPv4", "IPv6"} {
		switch {
		case counts[family] == 0 || now[family]:
		case len(d.announcer.routers.each) == 0:
			return "no BGPPeer is for this host, so nobody is told of the VIPs: declare one, or correct the agents of those that there are"
		case !ever[family]:
			why = append(why, fmt.Sprintf("no router takes %s VIPs: set bothFamilies of a BGPPeer, or declare one with an %s address", name, name))
		default:
			why = append(why, fmt.Sprintf("no router that takes %s VIPs has a session: see the sessions", name))
		}
	}
	return strings.Join(why, "; ")
}

// unready says why the director cannot take clients' packets; empty if it can.
func (d *director) unready(s *padisv1.DirectorState) string {
	switch {
	case d.leave.Begun():
		return "it leaves"
	case d.wrong != "":
		return d.wrong
	case d.state.Wanted == nil:
		return "no order has come from the executor yet"
	case !d.state.Refused.IsZero():
		return d.state.Why
	case d.state.Applied != d.state.Wanted:
		return fmt.Sprintf("order %d is not in force yet", d.state.Wanted.Number)
	case d.state.Undecided():
		return "real servers are being checked for the first time, and nothing is announced before"
	case len(d.state.Announced) > 0 && len(s.Sessions) > 0 && !slices.ContainsFunc(s.Sessions, (*padisv1.DirectorSession).GetEstablished):
		return "no router has a session: " + cmp.Or(s.Sessions[0].GetMessage(), "the first is not established")
	}
	return ""
}
