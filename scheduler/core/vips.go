package core

import (
	"slices"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// loop is what is known of the addresses on an instance's loopback. It is kept only while there are LoadBalancers.
type loop struct {
	// sent is what its executor was told last, since with that generation of its wish: 0 if it was launched with it, unknown if
	// an earlier scheduler told it.
	sent       []string
	generation int64
	// sure are those that it has whatever it has taken in, may those that it may have; both sorted.
	sure, may []string
	// told is when it was told; zero if it has said that it has them.
	told time.Time
}

const unknown = -1

// loopPatience is how long an executor may take to configure VIPs before nobody waits for it.
const loopPatience = 10 * time.Second

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// loopbacks are the addresses that the slot's instance shall have on its own loopback.
func (c *Core) loopbacks(s *slot, links []*padisv1.Attachment) []string {
	if !addressed(links) {
		return nil
	}
	own := s.app.rec.GetLoopbackAddresses()
	switch vips, _ := c.balanced(s); {
	case len(vips) == 0:
		return own
	case len(own) == 0:
		return vips
	default:
		return union(own, vips)
	}
}

// balanced are the VIPs of the LoadBalancers that have the slot's instance as a real server, or may have, and the longest of
// their drain times. The VIPs are sorted, and most often shared with others: there may be a thousand.
func (c *Core) balanced(s *slot) (vips []string, drainMs int64) {
	if len(c.balancers) == 0 {
		return nil, 0
	}
	add := func(more []string, b *balancer) {
		if drainMs = max(drainMs, b.wanted.GetDrainMs()); len(vips) == 0 {
			vips = more
		} else {
			vips = union(vips, more)
		}
	}
	for _, b := range s.app.balancers {
		add(b.loopback, b)
	}
	if id := serverID(s.rec); id != "" {
		for _, b := range c.serving[id] {
			if _, selected := b.apps[s.key.AppUID]; !selected {
				add(b.rec.GetVips(), b)
			}
		}
	}
	return vips, drainMs
}

// looped notes what the instances on an agent were just told of their loopbacks.
func (c *Core) looped(now time.Time, a *agent, changes []*padisv1.NetworkChange) {
	if len(c.balancers) == 0 {
		return
	}
	for key := range a.slots {
		s := c.slots[key]
		if s.rec.GetAgentId() != a.id || s.rec.GetPhase() != padisv1.Phase_RUNNING {
			continue
		}
		id := serverID(s.rec)
		i := slices.IndexFunc(changes, func(n *padisv1.NetworkChange) bool { return n.GetContainer() == id })
		if i < 0 {
			continue
		}
		want := sorted(changes[i].GetLoopbackAddresses())
		if s.loop == nil {
			s.loop = &loop{}
		}
		if l := s.loop; l.generation == unknown || !slices.Equal(l.sent, want) {
			l.sent, l.generation, l.told = want, a.talk.wish.GetGeneration(), now
			l.sure = both(l.sure, want)
			l.may = union(l.may, want)
			for _, b := range s.app.balancers {
				b.look(now, now.Add(loopPatience))
			}
		}
	}
}

// looks notes that an executor has applied what it was told of loopbacks.
func (c *Core) looks(a *agent) {
	if len(c.balancers) == 0 {
		return
	}
	for key := range a.slots {
		s := c.slots[key]
		if l := s.loop; l != nil && s.rec.GetAgentId() == a.id && l.generation > 0 && a.talk.said.GetGeneration() >= l.generation {
			l.sure, l.may, l.told = l.sent, l.sent, time.Time{}
		}
	}
}

// launchedWith notes the loopback that an instance starts with, or has when it was adopted.
func (s *slot) launchedWith(addresses []string, adopted bool) {
	have := sorted(addresses)
	n := &loop{sent: have, sure: have, may: have}
	if adopted {
		n.sure, n.may = nil, have
		if s.loop != nil {
			n.sure, n.may = both(s.loop.sure, have), union(s.loop.may, have)
		}
	}
	s.loop = n
}

// runs notes that an instance runs: it has what it was launched with.
func (l *loop) runs() {
	if l != nil && l.generation == 0 {
		l.sure, l.may = l.sent, l.sent
	}
}

// sorted is the list itself if it is.
func sorted(list []string) []string {
	if slices.IsSorted(list) {
		return list
	}
	return slices.Sorted(slices.Values(list))
}

// both is what is in a and in b, which is sorted.
func both(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(v string) bool { _, ok := slices.BinarySearch(b, v); return !ok })
}

// unleased tells whether a VIP has no address.
func (b *balancer) unleased() bool {
	return slices.ContainsFunc(b.vips, func(v balance.VIP) bool { return v.Address == "" })
}

// leaseVIPs leases what is declared, if it has not. Of several VIPs each is leased that can be.
func (c *Core) leaseVIPs(now time.Time, b *balancer) {
	if b.leasedFor == b.wanted && b.leasedIn == c.cluster && !(c.turn.place && b.unleased()) {
		return
	}
	b.leasedFor, b.leasedIn = b.wanted, c.cluster
	var wishes []*padisv1.NetworkWish
	if !b.wanted.GetForgotten() {
		for _, v := range b.wanted.GetVips() {
			w := &padisv1.NetworkWish{Pool: v.GetPool()}
			if v.GetAddress() != "" {
				w.Addresses = []string{v.GetAddress()}
			}
			wishes = append(wishes, w)
		}
	}
	want := ipam.Want{Slot: record.VIPs(b.uid), Namespace: b.wanted.GetNamespace(), App: b.wanted.GetName(), Tenant: b.wanted.GetTenant(), Networks: wishes, NowMs: now.UnixMilli()}
	leases, no := c.book.Lease(want)
	refusals := make([]*ipam.Refusal, len(wishes))
	if no != nil {
		leases, refusals = c.leaseEach(want)
	}
	b.vips = make([]balance.VIP, len(wishes))
	for i, v := range b.wanted.GetVips()[:len(wishes)] {
		b.vips[i].Pool = v.GetPool()
		if l := leases[i]; l != nil {
			b.vips[i].Address = l.GetAddress()
			if c.leases[addressOf(l)] != l {
				c.keepLease(addressOf(l), l)
			}
		} else if r := refusals[i]; r != nil {
			b.vips[i].Reason, b.vips[i].Message = r.Reason, r.Message
		}
	}
	b.stale = c.book.Stale(want.Slot, wishes)
}

// leaseEach leases as many of the wishes as can be, those with an address first, and says why the others cannot. The leases are
// in the order of the wishes, nil where there is none.
func (c *Core) leaseEach(want ipam.Want) ([]*padisv1.LeaseRecord, []*ipam.Refusal) {
	all := want.Networks
	leases, refusals := make([]*padisv1.LeaseRecord, len(all)), make([]*ipam.Refusal, len(all))
	var order, taken []int
	for i := range all {
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(i, j int) int { return len(all[j].GetAddresses()) - len(all[i].GetAddresses()) })
	full := map[string]*ipam.Refusal{} // By pool: what one free choice is refused, all are.
	var add func(part []int)
	add = func(part []int) {
		part = slices.DeleteFunc(slices.Clone(part), func(i int) bool {
			if no := full[all[i].GetPool()]; no != nil && len(all[i].GetAddresses()) == 0 {
				refusals[i] = no
			}
			return refusals[i] != nil
		})
		if len(part) == 0 {
			return
		}
		try := slices.Sorted(slices.Values(slices.Concat(taken, part)))
		want.Networks = nil
		for _, k := range try {
			want.Networks = append(want.Networks, all[k])
		}
		got, no := c.book.Lease(want)
		switch {
		case no == nil:
			taken = try
			for n, k := range try {
				leases[k] = got[n]
			}
		case len(part) > 1:
			add(part[:len(part)/2])
			add(part[len(part)/2:])
		default:
			refusals[part[0]] = no
			if len(all[part[0]].GetAddresses()) == 0 {
				full[all[part[0]].GetPool()] = no
			}
		}
	}
	add(order)
	return leases, refusals
}

// releaseVIPs ends the leases of VIPs that are not declared any more, when no director and no instance may have them.
func (c *Core) releaseVIPs(b *balancer) {
	if len(b.stale) == 0 {
		return
	}
	var left []*padisv1.LeaseRecord
	for _, l := range b.stale {
		v := l.GetAddress()
		used := slices.Contains(b.rec.GetVips(), v) || slices.Contains(b.loopback, v)
		for _, s := range c.slots {
			if used = used || s.loop != nil && slices.Contains(s.loop.may, v); used {
				break
			}
		}
		if used {
			left = append(left, l)
			continue
		}
		c.endLeases(l)
		for uid, o := range c.balancers {
			if o.unleased() {
				c.turn.balancers[uid] = true
			}
		}
	}
	b.stale = left
}
