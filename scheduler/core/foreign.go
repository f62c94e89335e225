package core

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// sighting is what one executor saw of addresses.
type sighting struct {
	// hosts are the addresses of the host's own interfaces: they outlive the executor that told them.
	hosts []*padisv1.HostAddress
	// wire is what the last word of the executor was found to mean when it came; all adds what the host has.
	wire, all findings
	// told are the findings that are in the log already.
	told map[string]bool
}

// subnet is the part of a pool's declaration by which an address of a host is known to be foreign.
type subnet struct {
	network string
	prefix  netip.Prefix
	gateway netip.Addr
}

// chart reads pools and networks, and finds anew what is foreign to them. What cannot be read is not in force either.
func (c *Core) chart() {
	c.subnets, c.limited = nil, slices.ContainsFunc(c.cluster.GetNetworks(), func(n *padisv1.Network) bool { return limits(n.GetBandwidth()) })
	for _, p := range c.cluster.GetPools() {
		prefix, err := netip.ParsePrefix(p.GetCidr())
		if err != nil {
			continue
		}
		gateway, _ := netip.ParseAddr(p.GetGateway())
		c.subnets = append(c.subnets, subnet{p.GetNetwork(), prefix.Masked(), gateway})
	}
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		c.examine(c.agents[id])
	}
}

// findings are addresses that somebody has, and who, whether they are leased or not; and what is wrong with those that
// are leased to others.
type findings struct{ claims, disputes map[Address]string }

func newFindings() findings { return findings{map[Address]string{}, map[Address]string{}} }

// add notes that somebody has an address that s holds; nil if nobody does.
func (f findings) add(at Address, s *slot, who string) {
	if s == nil {
		f.claims[at] = who
	} else if f.disputes[at] == "" {
		f.disputes[at] = fmt.Sprintf("%s is also used by %s: take it away there", at.Address, who)
	}
}

// observe takes in what an executor saw of addresses, and finds out what is not as the ledger has it.
func (c *Core) observe(a *agent, said *padisv1.FromExecutor) {
	a.seen.hosts = said.GetHostAddresses()
	c.renew(a)
	wire := newFindings()
	for _, n := range said.GetConflicts() {
		at, who := Address{n.GetNetwork(), n.GetAddress()}, "a machine with hardware address "+cmp.Or(n.GetMac(), "unknown")
		s := c.holder(at)
		switch {
		case s != nil && s.rec.GetAgentId() != a.id:
			continue // What was seen by what is left there of an earlier run is the instance itself.
		case s != nil && instance.Haunted(s.rec):
			who += ", probably an earlier run of it that is ended as soon as its agent answers"
		}
		wire.add(at, s, who)
	}
	told := map[string]bool{}
	for _, u := range said.GetAddresses() {
		c.audit(a, u, told, wire)
	}
	a.seen.told, a.seen.wire = told, wire
	c.examine(a)
}

func sameAddress(x, y *padisv1.HostAddress) bool { return proto.Equal(x, y) }

// examine adds what the host itself has, as the pools are now, to what was seen on the wire, as the ledger was then.
func (c *Core) examine(a *agent) {
	all := findings{maps.Clone(a.seen.wire.claims), maps.Clone(a.seen.wire.disputes)}
	if all.claims == nil {
		all = newFindings()
	}
	for _, h := range a.seen.hosts {
		prefix, err := netip.ParsePrefix(h.GetAddress())
		if err != nil {
			continue
		}
		addr := prefix.Addr()
		for _, n := range c.subnets {
			if !n.prefix.Contains(addr) || addr == n.gateway {
				continue
			}
			at, who := Address{n.network, addr.String()}, fmt.Sprintf("host %s (%s)", a.hostname, h.GetInterface())
			if s := c.holder(at); s != nil {
				all.add(at, s, who)
			}
			// It stays when the lease has ended, and nobody will say so then.
			all.claims[at] = who
		}
	}
	c.claim(a, all.claims)
	c.dispute(a, all.disputes)
}

// audit holds an address that a container uses against the ledger.
func (c *Core) audit(a *agent, u *padisv1.UsedAddress, told map[string]bool, wire findings) {
	at := Address{u.GetNetwork(), u.GetAddress()}
	s := c.holder(at)
	if s != nil && c.entitled(a, s, u.GetContainer()) {
		return
	}
	if slices.Contains(a.talk.said.GetOrphans(), u.GetContainer()) && !c.claimed(a, u.GetContainer()) {
		return // It is discarded.
	}
	who := fmt.Sprintf("container %s on host %s", u.GetContainer(), a.hostname)
	key := who + " " + at.Network + " " + at.Address
	if told[key] = true; !a.seen.told[key] {
		owner := "to nobody"
		if s != nil {
			owner = "to " + s.rec.GetNamespace() + "/" + instance.Hostname(s.rec)
		}
		c.fail(fmt.Errorf("%s uses %s of network %s, which is leased %s: restart its instance, or remove the address there", who, at.Address, at.Network, owner))
	}
	wire.add(at, s, who)
}

// entitled tells whether what is called so on the agent is, or was, a run of the slot.
func (c *Core) entitled(a *agent, s *slot, container string) bool {
	r := s.rec
	if r.GetAgentId() == a.id && (container == r.GetContainer() || container == r.GetTaskId()) {
		return true
	}
	return slices.ContainsFunc(instance.Ghosts(r), func(g instance.Ghost) bool {
		return g.Agent == a.id && (container == g.Container || container == g.Task)
	})
}

// claimed tells whether any slot has, or is haunted by, what is called so on the agent.
func (c *Core) claimed(a *agent, container string) bool {
	for key := range a.slots {
		if c.entitled(a, c.slots[key], container) {
			return true
		}
	}
	return false
}

// claim replaces what one agent saw others have, and tells the book what has changed.
func (c *Core) claim(a *agent, claims map[Address]string) {
	if maps.Equal(a.seen.all.claims, claims) {
		return
	}
	networks := map[string]bool{}
	for at := range a.seen.all.claims {
		if by := c.strangers[at]; claims[at] == "" {
			networks[at.Network], c.turn.addresses[at] = true, true
			if delete(by, a.id); len(by) == 0 {
				delete(c.strangers, at)
			}
		}
	}
	for at, who := range claims {
		if c.strangers[at] == nil {
			c.strangers[at] = map[string]string{}
		}
		if c.strangers[at][a.id] != who {
			networks[at.Network], c.turn.addresses[at] = true, true
			c.strangers[at][a.id] = who
		}
	}
	a.seen.all.claims = claims
	for _, n := range slices.Sorted(maps.Keys(networks)) {
		all := map[string]string{}
		for at, by := range c.strangers {
			if at.Network == n {
				all[at.Address] = first(by)
			}
		}
		c.book.SetForeign(n, all)
	}
	c.turn.place = true
}

// first is the value of the least key, so that the answer is the same each time.
func first[V any](m map[string]V) (v V) {
	if len(m) > 0 {
		v = m[slices.Min(slices.Collect(maps.Keys(m)))]
	}
	return v
}

// dispute replaces what one agent saw of others that use addresses of instances.
func (c *Core) dispute(a *agent, disputes map[Address]string) {
	changed := map[record.Slot]*slot{}
	touch := func(at Address) {
		c.turn.addresses[at] = true
		if s := c.holder(at); s != nil {
			changed[s.key] = s
		}
	}
	for at := range a.seen.all.disputes {
		if disputes[at] != "" {
			continue
		}
		if delete(c.disputes[at], a.id); len(c.disputes[at]) == 0 {
			delete(c.disputes, at)
		}
		touch(at)
	}
	for at, why := range disputes {
		if c.disputes[at] == nil {
			c.disputes[at] = map[string]string{}
		}
		if c.disputes[at][a.id] != why {
			c.disputes[at][a.id] = why
			touch(at)
		}
	}
	a.seen.all.disputes = disputes
	for key := range a.slots {
		// What an earlier scheduler left in the ledger is over if nobody says it again.
		if s := c.slots[key]; s.rec.GetAgentId() == a.id && s.rec.GetReason() == padisv1.ReasonAddressConflict {
			changed[key] = s
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(changed), compareSlots) {
		s := changed[key]
		if n := instance.Dispute(s.rec, c.disputed(s)); n != s.rec {
			c.show(s, n)
		}
	}
}

// disputed says who else uses an address of the slot's instance; empty if nobody does.
func (c *Core) disputed(s *slot) string {
	for _, l := range s.leases {
		if why := first(c.disputes[addressOf(l)]); why != "" {
			return why
		}
	}
	return ""
}

// unsee forgets what was seen on an agent that is not known any more.
func (c *Core) unsee(a *agent) {
	c.claim(a, nil)
	c.dispute(a, nil)
}
