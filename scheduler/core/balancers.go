package core

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// balancer is one LoadBalancer.
type balancer struct {
	uid    string
	wanted *padisv1.WantedBalancer
	// rec is what was decided last; nil before the first time. tables are its tables.
	rec    *padisv1.BalanceRecord
	tables balance.Tables
	// apps that it selects, by uid, and by which of its backends.
	apps map[string]int
	// members are the ids of its real servers, those included that directors may still send to.
	members map[string]bool
	// agents of its real servers.
	agents map[string]bool
	// vips are as they are declared, and were leased for that declaration in that cluster; stale leases fit none of them.
	vips      []balance.VIP
	leasedFor *padisv1.WantedBalancer
	leasedIn  *padisv1.Cluster
	stale     []*padisv1.LeaseRecord
	// loopback are the VIPs that instances which it selects shall have.
	loopback []string
	// relays are the agents that lack the number for their real servers, directs those that lack it for their directors.
	relays, directs map[string]*duty
	// due is when it must be looked at again; zero if never.
	due  time.Time
	view balance.View
}

// WantBalancer replaces what is wanted of one LoadBalancer. Its directors are a WantedApp of the same uid.
type WantBalancer struct{ Balancer *padisv1.WantedBalancer }

// ForgetBalancer ends a LoadBalancer: its VIPs are served no more, then released, and its records removed.
type ForgetBalancer struct{ UID string }

func (WantBalancer) coreEvent()   {}
func (ForgetBalancer) coreEvent() {}

func newBalancer(w *padisv1.WantedBalancer) *balancer {
	return &balancer{uid: w.GetUid(), wanted: w, apps: map[string]int{}, members: map[string]bool{}, agents: map[string]bool{}, relays: map[string]*duty{}, directs: map[string]*duty{}}
}

// keepBalance takes over what was decided. Executors are looked at whose lists of LoadBalancers may be others now, and those
// of instances that come and go, whose loopbacks may be.
func (c *Core) keepBalance(b *balancer, rec *padisv1.BalanceRecord, tables balance.Tables) {
	before, hosts := b.members, b.agents
	vips := !slices.Equal(b.rec.GetVips(), rec.GetVips())
	b.rec, b.tables, b.members, b.agents = rec, tables, map[string]bool{}, map[string]bool{}
	for _, s := range rec.GetServers() {
		b.agents[s.GetAgentId()] = true
		if !hosts[s.GetAgentId()] {
			c.turn.heed[s.GetAgentId()] = true
		}
	}
	for id := range hosts {
		if !b.agents[id] {
			c.turn.heed[id] = true
		}
	}
	heed := func(id string) {
		if s := c.member(id); s != nil {
			c.turn.heed[s.rec.GetAgentId()] = true
		}
	}
	for _, s := range slices.Concat(rec.GetServers(), rec.GetFormer()) {
		b.members[s.GetId()] = true
		if !before[s.GetId()] {
			c.serving[s.GetId()] = append(c.serving[s.GetId()], b)
		}
		if !before[s.GetId()] || vips {
			heed(s.GetId())
		}
	}
	for id := range before {
		if !b.members[id] {
			c.unserve(id, b)
			heed(id)
		}
	}
}

func (c *Core) unserve(id string, b *balancer) {
	if c.serving[id] = slices.DeleteFunc(c.serving[id], func(o *balancer) bool { return o == b }); len(c.serving[id]) == 0 {
		delete(c.serving, id)
	}
}

// loadBalancers takes up those of the ledger, when their instances are there. What was said to executors is not known.
func (c *Core) loadBalancers(snap record.Snapshot) error {
	for _, w := range snap.Balancers {
		c.balancers[w.GetUid()] = newBalancer(w)
	}
	for _, rec := range snap.Balances {
		b := c.balancers[rec.GetUid()]
		if b == nil {
			// The records go in one commit; what is left of one that was cut short is nobody's.
			c.turn.puts[record.BalanceKey(rec.GetUid())] = nil
			continue
		}
		tables, err := balance.Read(rec)
		if err != nil {
			return fmt.Errorf("%w; restore etcd from a backup, or delete the key %s: then connections that changes have moved are lost", err, record.BalanceKey(rec.GetUid()))
		}
		c.keepBalance(b, rec, tables)
	}
	for _, a := range c.apps {
		c.attach(a)
	}
	for _, b := range c.balancers {
		leased := slices.Clone(b.rec.GetVips())
		for _, l := range c.book.Held(record.VIPs(b.uid)) {
			leased = append(leased, l.GetAddress())
		}
		for _, s := range c.slots {
			if id := serverID(s.rec); id != "" && len(s.rec.GetAddresses()) > 0 && s.rec.GetNamespace() == b.wanted.GetNamespace() && !s.app.rec.GetDirectors() {
				if s.loop == nil {
					s.loop = &loop{generation: unknown}
				}
				s.loop.may = union(s.loop.may, leased)
				// Only who serves is sure to have what is served.
				if b.tables.Serves(id) {
					s.loop.sure = union(s.loop.sure, balance.Served(b.rec))
				}
			}
		}
	}
	c.stirAll()
	return nil
}

// serverID is the id of what runs in a slot, as tables have it; empty if nothing does.
func serverID(r *padisv1.InstanceRecord) string {
	switch {
	case !instance.HasTask(r.GetPhase()):
		return ""
	case r.GetContainer() != "":
		return r.GetContainer()
	}
	return r.GetTaskId()
}

// wantBalancer replaces what is wanted of one LoadBalancer.
func (c *Core) wantBalancer(rec *padisv1.WantedBalancer) {
	if rec.GetUid() == "" {
		c.fail(fmt.Errorf("load balancer %s/%s has no uid; it was ignored", rec.GetNamespace(), rec.GetName()))
		return
	}
	n := proto.CloneOf(rec)
	n.Forgotten = false
	b := c.balancers[n.GetUid()]
	switch {
	case b == nil:
		b = newBalancer(n)
		c.balancers[n.GetUid()] = b
	case proto.Equal(b.wanted, n):
		return
	}
	c.rewant(b, n)
}

// forgetBalancer ends a LoadBalancer. The records stay until no director and no instance has its VIPs any more.
func (c *Core) forgetBalancer(uid string) {
	b := c.balancers[uid]
	if b == nil || b.wanted.GetForgotten() {
		return
	}
	n := proto.CloneOf(b.wanted)
	n.Forgotten = true
	c.rewant(b, n)
}

func (c *Core) rewant(b *balancer, n *padisv1.WantedBalancer) {
	b.wanted = n
	c.turn.puts[record.BalancerKey(b.uid)] = n
	for _, a := range c.apps {
		c.attach(a)
	}
	c.turn.balancers[b.uid], c.turn.changed[b.uid] = true, true
	c.heedBackends(b)
}

// attach finds the LoadBalancers that select an App. Of two backends of one the first counts.
func (c *Core) attach(a *app) {
	a.balancers = nil
	if a.rec.GetDirectors() {
		c.turn.balancers[a.rec.GetUid()] = true
	}
	for _, uid := range slices.Sorted(maps.Keys(c.balancers)) {
		b := c.balancers[uid]
		delete(b.apps, a.rec.GetUid())
		if a.rec.GetDirectors() || b.wanted.GetNamespace() != a.rec.GetNamespace() {
			continue
		}
		i := slices.IndexFunc(b.wanted.GetBackends(), func(k *padisv1.Backend) bool { return selected(k, a.rec) })
		if i >= 0 {
			b.apps[a.rec.GetUid()] = i
			a.balancers = append(a.balancers, b)
		}
		c.turn.balancers[uid] = true
	}
}

func selected(k *padisv1.Backend, a *padisv1.WantedApp) bool {
	if k.GetApp() != "" {
		return k.GetApp() == a.GetName()
	}
	for name, value := range k.GetLabels() {
		if has, ok := a.GetLabels()[name]; !ok || has != value {
			return false
		}
	}
	return len(k.GetLabels()) > 0
}

// stir notes that a slot has changed, for the LoadBalancers that it concerns.
func (c *Core) stir(s *slot) {
	if len(c.balancers) == 0 {
		return
	}
	for _, b := range s.app.balancers {
		c.turn.balancers[b.uid] = true
	}
	uid := s.key.AppUID
	if s.app.rec.GetDirectors() && c.balancers[uid] != nil {
		c.turn.balancers[uid] = true
	}
	if id := serverID(s.rec); id != "" {
		for _, b := range c.serving[id] {
			c.turn.balancers[b.uid] = true
		}
	}
}

func (c *Core) stirAll() {
	for uid := range c.balancers {
		c.turn.balancers[uid] = true
	}
}

// balance decides for all LoadBalancers of which something has changed, or for which it is time.
func (c *Core) balance(now time.Time) {
	if len(c.balancers) == 0 {
		return
	}
	for id := range c.turn.heed {
		if a := c.agents[id]; a != nil && !c.turn.stirred[id] {
			c.turn.stirred[id] = true
			for key := range a.slots {
				c.stir(c.slots[key])
			}
		}
	}
	for uid, b := range c.balancers {
		if !b.due.IsZero() && !b.due.After(now) || len(b.stale) > 0 && len(c.turn.heed) > 0 || c.turn.place && b.unleased() {
			c.turn.balancers[uid] = true
		}
	}
	for len(c.turn.balancers) > 0 { // What one gives up another may get.
		for _, uid := range slices.Sorted(maps.Keys(c.turn.balancers)) {
			delete(c.turn.balancers, uid)
			if b := c.balancers[uid]; b != nil {
				c.decide(now, b)
			}
		}
	}
}

// decide brings one LoadBalancer up to date.
func (c *Core) decide(now time.Time, b *balancer) {
	c.leaseVIPs(now, b)
	c.acquit(b)
	snap := c.balanceSnapshot(now, b)
	d := balance.Decide(snap)
	if d.Record != b.rec && d.Record.GetNumber() > 0 {
		c.turn.puts[record.BalanceKey(b.uid)] = d.Record
		c.keepBalance(b, d.Record, d.Tables)
	}
	if !slices.Equal(b.loopback, d.Loopback) {
		b.loopback = d.Loopback
		c.heedBackends(b)
	}
	c.owe(now, b.relays, d.Relays, func(string) string { return fmt.Sprint(d.Record.GetNumber()) })
	c.owe(now, b.directs, d.Directors, func(agent string) string {
		mark := fmt.Sprint(d.Record.GetNumber())
		for _, x := range snap.Directors {
			if x.Agent == agent {
				mark += " " + x.Task + instance.Name(x.Phase)
			}
		}
		return mark
	})
	if b.due = d.Next; len(b.relays)+len(b.directs) > 0 {
		c.owing[b.uid] = b
	} else {
		delete(c.owing, b.uid)
	}
	for agent, t := range b.relays {
		b.look(now, c.lateAt(agent, t))
	}
	for agent, t := range b.directs {
		b.look(now, c.lateAt(agent, t))
	}
	if d.Problem != "" && d.Problem != b.view.Problem {
		c.fail(fmt.Errorf("load balancer %s/%s: %s", b.wanted.GetNamespace(), b.wanted.GetName(), d.Problem))
	}
	c.releaseVIPs(b)
	c.viewBalancer(b, snap, d)
	if d.Over && len(c.book.Held(record.VIPs(b.uid))) == 0 {
		c.dropBalancer(b)
	}
}

// look has it looked at again at a time, if that is in the future and nothing comes before.
func (b *balancer) look(now, at time.Time) {
	if at.After(now) && (b.due.IsZero() || at.Before(b.due)) {
		b.due = at
	}
}

func (c *Core) dropBalancer(b *balancer) {
	delete(c.balancers, b.uid)
	delete(c.owing, b.uid)
	for id := range b.members {
		c.unserve(id, b)
	}
	c.turn.puts[record.BalancerKey(b.uid)], c.turn.puts[record.BalanceKey(b.uid)] = nil, nil
	c.turn.changed[b.uid] = true
	for uid := range b.apps {
		if a := c.apps[uid]; a != nil {
			a.balancers = slices.DeleteFunc(a.balancers, func(o *balancer) bool { return o == b })
		}
	}
}

// heedBackends has the executors looked at that run instances which are or may be real servers.
func (c *Core) heedBackends(b *balancer) {
	for uid := range b.apps {
		if a := c.apps[uid]; a != nil {
			for _, s := range a.slots {
				c.turn.heed[s.rec.GetAgentId()] = true
			}
		}
	}
	for id := range b.members {
		if s := c.member(id); s != nil {
			c.turn.heed[s.rec.GetAgentId()] = true
		}
	}
}

// member is the slot that runs what has an id; nil if none does.
func (c *Core) member(id string) *slot {
	key, _, _ := instance.TaskKey(id)
	if s := c.tasks[key]; s != nil && serverID(s.rec) == id {
		return s
	}
	return nil
}
