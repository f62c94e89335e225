package core

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// loadLeases returns the leases whose instances or LoadBalancers exist, and those that cool; the others are marked for deletion.
func (c *Core) loadLeases(snap record.Snapshot) []*padisv1.LeaseRecord {
	known := make(map[record.Slot]*padisv1.InstanceRecord, len(snap.Instances))
	for _, r := range snap.Instances {
		known[instance.SlotOf(r)] = r
	}
	balancers := map[string]bool{}
	for _, w := range snap.Balancers {
		balancers[record.VIPs(w.GetUid()).AppUID] = true
	}
	var kept []*padisv1.LeaseRecord
	for _, l := range snap.Leases {
		at := addressOf(l)
		r := known[record.Slot{AppUID: l.GetAppUid(), Index: l.GetSlot()}]
		switch {
		case l.GetReleasedMs() != 0 && slices.Contains(r.GetAddresses(), l.GetAddress()):
			// The commit that ended both was cut short between them: what the instance says counts.
			l = proto.CloneOf(l)
			l.ReleasedMs = 0
			c.turn.puts[record.LeaseKey(at.Network, at.Address)] = l
		case l.GetReleasedMs() == 0 && r == nil && !balancers[l.GetAppUid()]:
			c.turn.puts[record.LeaseKey(at.Network, at.Address)] = nil
			continue
		}
		kept = append(kept, l)
		c.leases[at] = l
	}
	return kept
}

func addressOf(l *padisv1.LeaseRecord) Address { return Address{l.GetNetwork(), l.GetAddress()} }

// endLeases gives up leases. Those of pools with a reuse delay cool, under the same key.
func (c *Core) endLeases(leases ...*padisv1.LeaseRecord) {
	for _, e := range c.book.End(c.now.UnixMilli(), leases...) {
		c.keepLease(addressOf(e.Lease), e.Cooling)
		c.cooling = time.Time{}
	}
}

// keepLease writes what has become of an address; nil is that it is free.
func (c *Core) keepLease(at Address, l *padisv1.LeaseRecord) {
	if l == nil {
		delete(c.leases, at)
		c.turn.puts[record.LeaseKey(at.Network, at.Address)] = nil
	} else {
		c.leases[at] = l
		c.turn.puts[record.LeaseKey(at.Network, at.Address)] = l
	}
	c.turn.addresses[at] = true
	c.turn.place = true
}

// cool ends the rest of the addresses whose time is over, and finds out when it must be done again.
func (c *Core) cool(now time.Time) {
	if c.cooling.After(now) {
		return
	}
	over, next := c.book.Cool(now.UnixMilli())
	for _, l := range over {
		// The address may have been given to somebody since, under the same key.
		if at := addressOf(l); c.leases[at] == l {
			c.keepLease(at, nil)
		}
	}
	c.cooling = never
	if next > 0 {
		c.cooling = time.UnixMilli(next)
	}
}

// never is a time that does not come.
var never = time.Unix(1<<40, 0)

// lease asks the book for the addresses of a slot. The leases are in the order of the wishes, and nil where the
// interface is the host's own.
func (c *Core) lease(now time.Time, s *slot, rev *padisv1.Revision) ([]*padisv1.LeaseRecord, *ipam.Refusal) {
	return c.book.Lease(ipam.Want{
		Slot: s.key, Namespace: s.rec.GetNamespace(), App: s.rec.GetApp(), Tenant: s.rec.GetTenant(),
		Networks: rev.GetNetworks(), NowMs: now.UnixMilli(),
	})
}

// hold writes the leases that are new and gives up those that fit no wish any more.
func (c *Core) hold(s *slot, leases, stale []*padisv1.LeaseRecord) {
	leases = slices.DeleteFunc(slices.Clone(leases), func(l *padisv1.LeaseRecord) bool { return l == nil })
	for _, l := range stale {
		// A new lease of the same address has taken the place of the stale one, under the same key.
		if !slices.ContainsFunc(leases, func(n *padisv1.LeaseRecord) bool { return addressOf(n) == addressOf(l) }) {
			c.endLeases(l)
		}
	}
	addresses := make([]string, len(leases))
	for i, l := range leases {
		addresses[i] = l.GetAddress()
		if !slices.Contains(s.leases, l) {
			c.keepLease(addressOf(l), l)
		}
	}
	s.leases = leases
	if n := instance.Lease(s.rec, addresses); n != s.rec {
		c.put(s, n, nil)
	}
}
