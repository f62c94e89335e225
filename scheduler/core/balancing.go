package core

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
	"padis.io/padis/scheduler/instance"
)

// balanceSnapshot is what the decision about a LoadBalancer sees.
func (c *Core) balanceSnapshot(now time.Time, b *balancer) balance.Snapshot {
	snap := balance.Snapshot{Now: now, Wanted: b.wanted, Record: b.rec, Tables: b.tables, Network: c.segmentOf(b)}
	for _, v := range b.vips {
		snap.VIPs = append(snap.VIPs, v.Address)
	}
	recorded := map[string]*padisv1.RealServer{}
	hosts := map[string]bool{}
	for _, s := range b.rec.GetServers() {
		recorded[s.GetId()] = s
		hosts[s.GetAgentId()] = true
	}
	for _, uid := range slices.Sorted(maps.Keys(b.apps)) {
		a := c.apps[uid]
		if a == nil {
			continue
		}
		for _, s := range a.slots {
			snap.Candidates = append(snap.Candidates, c.candidate(s, b.apps[uid], snap.Network, recorded))
			hosts[s.rec.GetAgentId()] = true
		}
	}
	for id := range b.members {
		if s := c.member(id); s != nil {
			if _, selected := b.apps[s.key.AppUID]; !selected {
				snap.Candidates = append(snap.Candidates, c.candidate(s, -1, snap.Network, recorded))
			}
		}
	}
	slices.SortFunc(snap.Candidates, func(x, y balance.Candidate) int { return cmp.Compare(x.Instance, y.Instance) })
	for _, id := range slices.Sorted(maps.Keys(hosts)) {
		snap.Hosts = append(snap.Hosts, balance.Host{Agent: id, Acked: c.agents[id].balanceState(b.uid).GetNumber(), Due: c.lateAt(id, b.relays[id])})
	}
	snap.Directors = c.directorsOf(b, snap.Network)
	return snap
}

// candidate is a slot that may be a real server.
func (c *Core) candidate(s *slot, backend int, network string, recorded map[string]*padisv1.RealServer) balance.Candidate {
	r := s.rec
	x := balance.Candidate{
		ID: serverID(r), Namespace: r.GetNamespace(), Instance: instance.Hostname(r), Agent: r.GetAgentId(), Host: r.GetHostname(), Backend: backend,
		Phase: r.GetPhase(), Ready: r.GetReady(), Reason: r.GetReason(), Message: r.GetMessage(), Address: c.addressIn(s, network),
	}
	if network == "" {
		x.Address = recorded[x.ID].GetAddress()
	}
	if s.loop != nil {
		x.VIPs = s.loop.sure
		if !s.loop.told.IsZero() {
			x.VIPsDue = s.loop.told.Add(loopPatience)
		}
	}
	return x
}

// segmentOf is the network of a LoadBalancer's directors: that of the first pool of their revision; empty if there are none.
func (c *Core) segmentOf(b *balancer) string {
	a := c.apps[b.uid]
	if a == nil || !a.rec.GetDirectors() {
		return ""
	}
	var rev *padisv1.Revision
	for _, s := range a.rec.GetSlots() {
		rev = cmp.Or(rev, a.revisions[s.GetRevision()])
	}
	if all := a.rec.GetRevisions(); rev == nil && len(all) > 0 {
		rev = all[len(all)-1] // None is wanted now.
	}
	for _, w := range rev.GetNetworks() {
		for _, p := range c.cluster.GetPools() {
			if p.GetName() == w.GetPool() && !onHost(w) {
				return p.GetNetwork()
			}
		}
	}
	return ""
}

// addressIn is the address by which the slot's interface in a network has its hardware address: the first IPv4 one, else the
// first; empty if it has none.
func (c *Core) addressIn(s *slot, network string) string {
	first := ""
	for _, l := range assign(s.app.revisions[s.rec.GetRevision()].GetNetworks(), s.key.Index, s.leases) {
		if l == nil || l.GetNetwork() != network || network == "" {
			continue
		}
		if a, err := netip.ParseAddr(l.GetAddress()); err == nil && a.Is4() {
			return l.GetAddress()
		}
		first = cmp.Or(first, l.GetAddress())
	}
	return first
}

// directorsOf are the directors of a LoadBalancer that run or may run, by slot.
func (c *Core) directorsOf(b *balancer, network string) []balance.Director {
	a := c.apps[b.uid]
	if a == nil || !a.rec.GetDirectors() {
		return nil
	}
	var out []balance.Director
	for _, i := range slices.Sorted(maps.Keys(a.slots)) {
		s := a.slots[i]
		r := s.rec
		for _, g := range instance.Ghosts(r) {
			// It may still announce.
			x := balance.Director{Task: g.Task, Instance: instance.Hostname(r), Agent: g.Agent, Phase: padisv1.Phase_UNREACHABLE}
			if h := c.agents[g.Agent]; h != nil {
				x.Host = h.hostname
			}
			out = append(out, x)
		}
		if !instance.HasTask(r.GetPhase()) {
			continue
		}
		x := balance.Director{Task: r.GetTaskId(), Instance: instance.Hostname(r), Agent: r.GetAgentId(), Host: r.GetHostname(), Address: c.addressIn(s, network),
			Phase: r.GetPhase(), Ready: r.GetReady(), Due: c.lateAt(r.GetAgentId(), b.directs[r.GetAgentId()])}
		for _, st := range c.agents[r.GetAgentId()].balanceState(b.uid).GetDirectors() {
			if st.GetTaskId() == r.GetTaskId() {
				x.State = st
			}
		}
		out = append(out, x)
	}
	return out
}

// viewBalancer keeps what people see of a LoadBalancer.
func (c *Core) viewBalancer(b *balancer, snap balance.Snapshot, d balance.Decision) {
	v := balance.View{Wanted: b.wanted, Record: b.rec, Tables: b.tables, VIPs: slices.Clone(b.vips), Servers: d.Servers, Directors: snap.Directors, Problem: d.Problem}
	for i := range v.VIPs {
		if v.VIPs[i].Address != "" && !slices.Contains(b.rec.GetVips(), v.VIPs[i].Address) {
			v.VIPs[i].Reason, v.VIPs[i].Message = padisv1.ReasonJoining, "real servers are configuring it"
		}
	}
	for _, id := range slices.Sorted(maps.Keys(b.agents)) {
		a := c.agents[id]
		st := a.balanceState(b.uid)
		h := balance.HostView{Host: id, Number: st.GetNumber(), Reason: st.GetReason(), Message: st.GetMessage()}
		if a != nil {
			h.Host = cmp.Or(a.hostname, id)
		}
		if late := c.lateAt(id, b.relays[id]); !late.IsZero() && !snap.Now.Before(late) {
			h.Reason, h.Message = padisv1.ReasonHostSilent, "its executor does not answer; look at it if that takes long"
		}
		v.Hosts = append(v.Hosts, h)
	}
	for i, k := range b.wanted.GetBackends() {
		if why := c.backendless(b, i, k, d); why.Reason != "" {
			v.Backends = append(v.Backends, why)
		}
	}
	if !v.Same(&b.view) {
		b.view = v
		c.turn.changed[b.uid] = true
	}
}

// backendless says why a backend gives no real server, if nothing but the backend or its App is to blame.
func (c *Core) backendless(b *balancer, i int, k *padisv1.Backend, d balance.Decision) balance.Backend {
	what := fmt.Sprintf("there is no App %q in the namespace; create it, or correct the backend", k.GetApp())
	if k.GetApp() == "" {
		what = "no App of the namespace has its labels; give an App these labels, or correct the backend"
	}
	found := false
	for uid, backend := range b.apps {
		a := c.apps[uid]
		if backend == i || a != nil && selected(k, a.rec) {
			found = true
		}
	}
	if !found {
		return balance.Backend{Index: i, Reason: padisv1.ReasonNoBackends, Message: what}
	}
	why := balance.Backend{Index: i}
	for _, s := range d.Servers {
		if s.Backend != i || s.ID == "" {
			continue
		}
		if s.Why != padisv1.ReasonBackendUnreachable {
			return balance.Backend{Index: i}
		}
		why.Reason, why.Message = s.Why, s.Say
	}
	return why
}

// Balancer returns what is wanted of a LoadBalancer; nil if nothing ever was, or nothing of it is left.
func (c *Core) Balancer(uid string) *padisv1.WantedBalancer {
	if b := c.balancers[uid]; b != nil {
		return b.wanted
	}
	return nil
}

// Balancers lists the uids of the LoadBalancers, those included that are being forgotten.
func (c *Core) Balancers() []string { return slices.Sorted(maps.Keys(c.balancers)) }

// Balance shows how it stands with a LoadBalancer; false if there is none, or nothing was decided yet.
func (c *Core) Balance(uid string) (balance.View, bool) {
	b := c.balancers[uid]
	if b == nil || b.view.Wanted == nil {
		return balance.View{}, false
	}
	return b.view, true
}
