package core

import (
	"cmp"
	"maps"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/place"
)

// assign puts the leases that a slot holds into the order of a revision's wishes: nil where the interface is the host's
// own, or where there is no lease. What fits no wish comes last, since its executor may still have it.
func assign(wishes []*padisv1.NetworkWish, index int32, leases []*padisv1.LeaseRecord) []*padisv1.LeaseRecord {
	out := make([]*padisv1.LeaseRecord, len(wishes))
	left := slices.Clone(leases)
	take := func(i int, fits func(*padisv1.LeaseRecord) bool) {
		at := slices.IndexFunc(left, func(l *padisv1.LeaseRecord) bool { return l.GetPool() == wishes[i].GetPool() && fits(l) })
		if out[i] == nil && at >= 0 && !onHost(wishes[i]) {
			out[i] = left[at]
			left = slices.Delete(left, at, at+1)
		}
	}
	for i, w := range wishes {
		if a := w.GetAddresses(); int(index) < len(a) && a[index] != "" {
			take(i, func(l *padisv1.LeaseRecord) bool { return l.GetAddress() == a[index] })
		}
	}
	for i := range wishes {
		take(i, func(*padisv1.LeaseRecord) bool { return true })
	}
	return append(out, left...)
}

// onHost tells whether a wish is for the host's own network.
func onHost(w *padisv1.NetworkWish) bool { return w.GetNetwork() != "" }

// attachment is the interface of wish i of a revision, or of a lease that no wish speaks of any more; false if its
// network or pool is not declared.
func (c *Core) attachment(app *padisv1.WantedApp, rev *padisv1.Revision, i int, l *padisv1.LeaseRecord) (*padisv1.Attachment, bool) {
	var at *padisv1.Attachment
	ok := false
	switch wishes := rev.GetNetworks(); {
	case l != nil:
		at, ok = c.book.Attachment(l)
	case i < len(wishes) && onHost(wishes[i]):
		at, ok = c.book.HostAttachment(wishes[i].GetNetwork())
	}
	if ok && at.GetAddress() != "" {
		at.Bandwidth = bandwidth(app, at.GetNetwork(), i)
	}
	return at, ok
}

// bandwidth is what interface i of an App's instances may carry: what the App says of it, else what the network says; nil
// is without a limit.
func bandwidth(app *padisv1.WantedApp, network *padisv1.Network, i int) *padisv1.Bandwidth {
	b := network.GetBandwidth()
	if said := app.GetBandwidths(); i < len(said) && limits(said[i]) {
		b = said[i]
	}
	if !limits(b) {
		return nil
	}
	return b
}

func limits(b *padisv1.Bandwidth) bool { return b.GetIngress() != 0 || b.GetEgress() != 0 }

// attachments are all interfaces of the revision that the slot runs, as they are declared now.
func (c *Core) attachments(s *slot) []*padisv1.Attachment {
	rev := s.app.revisions[s.rec.GetRevision()]
	var out []*padisv1.Attachment
	for i, l := range assign(rev.GetNetworks(), s.key.Index, s.leases) {
		at, ok := c.attachment(s.app.rec, rev, i, l)
		if !ok {
			at = &padisv1.Attachment{} // It is there all the same, and the indexes of the others must be right.
		}
		out = append(out, at)
	}
	return out
}

// addressed tells whether one of the interfaces is the instance's own.
func addressed(links []*padisv1.Attachment) bool {
	return slices.ContainsFunc(links, func(at *padisv1.Attachment) bool { return at.GetAddress() != "" })
}

// shaped tells whether a launch says something that may change while it runs.
func shaped(l *padisv1.Launch) bool {
	return len(l.GetLoopbackAddresses()) > 0 || slices.ContainsFunc(l.GetAttachments(), func(at *padisv1.Attachment) bool { return limits(at.GetBandwidth()) })
}

// changes are the networks of the instances on the agent as they shall be now. Instances that never had a bandwidth or a
// loopback address are left out; those that had one and have none any more are told so.
func (c *Core) changes(a *agent) []*padisv1.NetworkChange {
	var out []*padisv1.NetworkChange
	for key := range a.slots {
		s := c.slots[key]
		vips, drainMs := c.balanced(s)
		plain := !s.shaped && !c.limited && len(s.app.rec.GetBandwidths())+len(s.app.rec.GetLoopbackAddresses())+len(vips) == 0
		if plain || s.rec.GetAgentId() != a.id || s.rec.GetPhase() != padisv1.Phase_RUNNING {
			continue
		}
		links := c.attachments(s)
		n := &padisv1.NetworkChange{Container: cmp.Or(s.rec.GetContainer(), s.rec.GetTaskId()), LoopbackAddresses: c.loopbacks(s, links), DrainMs: drainMs}
		some := len(n.LoopbackAddresses) > 0
		for _, at := range links {
			b := at.GetBandwidth()
			some = some || limits(b)
			n.Bandwidths = append(n.Bandwidths, cmp.Or(b, &padisv1.Bandwidth{}))
		}
		if s.shaped = s.shaped || some; s.shaped && addressed(links) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(x, y *padisv1.NetworkChange) int { return cmp.Compare(x.GetContainer(), y.GetContainer()) })
	return out
}

// announced are the networks with BGP of the instances on the agent, as they are declared now, by name.
func (c *Core) announced(a *agent) []*padisv1.Network {
	by := map[string]*padisv1.Network{}
	for key := range a.slots {
		s := c.slots[key]
		if s.rec.GetAgentId() != a.id || s.rec.GetPhase() != padisv1.Phase_RUNNING {
			continue
		}
		for _, l := range s.leases {
			if at, ok := c.book.Attachment(l); ok && at.GetNetwork().GetBgp() != nil {
				by[at.GetNetwork().GetName()] = a.routers(at.GetNetwork())
			}
		}
	}
	var out []*padisv1.Network
	for _, name := range slices.Sorted(maps.Keys(by)) {
		out = append(out, by[name])
	}
	return out
}

// ports are those of the host on which an instance listens; none if its network is its own.
func ports(rev *padisv1.Revision) []place.Port {
	if !slices.ContainsFunc(rev.GetNetworks(), onHost) {
		return nil
	}
	var out []place.Port
	for _, p := range rev.GetTemplate().GetPorts() {
		out = append(out, place.Port{Protocol: p.GetProtocol(), Number: p.GetPort()})
	}
	return out
}

// listening are the ports of a host on which a slot's tasks may listen there. Of which revision a ghost is nobody knows,
// and Apps forget the revisions of what still runs: then those of all that they remember count.
func listening(s *slot, agentID string) []place.Port {
	rev := s.app.revisions[s.rec.GetRevision()]
	if rev != nil && !slices.Contains(s.rec.GetHauntedAgents(), agentID) {
		return ports(rev)
	}
	var out []place.Port
	for _, rev := range s.app.rec.GetRevisions() {
		out = append(out, ports(rev)...)
	}
	return out
}

// leaseMs is how long what is launched now may use its addresses without the scheduler; 0 is for ever. What is adopted
// keeps what it had.
func leaseMs(app *padisv1.WantedApp, links []*padisv1.Attachment) int64 {
	if p := app.GetUnreachable(); p.GetReplace() == padisv1.UnreachablePolicy_LEASE && addressed(links) {
		return p.GetLeaseMs()
	}
	return 0
}

// holder is the slot that holds an address; nil if nobody does.
func (c *Core) holder(at Address) *slot {
	l := c.leases[at]
	if l == nil || l.GetReleasedMs() != 0 {
		return nil
	}
	return c.slots[instance.SlotOf(&padisv1.InstanceRecord{AppUid: l.GetAppUid(), Slot: l.GetSlot()})]
}
