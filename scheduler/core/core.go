package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// Core is the framework's memory. It is made from the ledger and changed by Step only; it is not safe for concurrent use.
//
// Records are never changed once they are in Core: a transition makes a new one. So the records in Effects and those
// that the accessors return may be kept.
type Core struct {
	cfg       Config
	framework string
	cluster   *padisv1.Cluster
	apps      map[string]*app
	slots     map[record.Slot]*slot
	// tasks finds a slot by the part of the task id that its attempts share.
	tasks  map[string]*slot
	agents map[string]*agent
	book   *ipam.Book
	leases map[Address]*padisv1.LeaseRecord
	// possessed are the slots that are haunted by containers whose tasks are over.
	possessed map[record.Slot]*slot
	// talking are the agents whose executors have not applied yet what is wanted of them, by id.
	talking map[string]*agent
	// upgrading are the agents whose executor is being replaced, by id.
	upgrading map[string]*upgrading
	// strays are tasks that run and should not, by id.
	strays map[string]*stray
	// pending are the slots that need an agent.
	pending map[record.Slot]*slot
	queue   queue
	// begun is when this scheduler subscribed for the first time: what executors were granted before is not known.
	begun time.Time
	// cooling is when the next address has cooled, zero if that must be found out.
	cooling time.Time
	// subnets are those of the pools; strangers are the addresses that somebody has without a lease, and who, by agent.
	subnets   []subnet
	strangers map[Address]map[string]string
	// limited: a network bounds what its interfaces may carry.
	limited bool
	// disputes say by address and agent who else uses what is leased.
	disputes map[Address]map[string]string
	// overlays are the VXLAN networks.
	overlays map[string]*overlay
	// balancers are the LoadBalancers, by uid.
	balancers map[string]*balancer
	// serving are those whose real servers, or former ones, have an id; owing those that somebody must be told of.
	serving map[string][]*balancer
	owing   map[string]*balancer
	// now is the time of the Step that is being taken.
	now time.Time
	// started: the first Step has been taken.
	started bool
	market  market
	link    link
	turn    turn
}

// app is one WantedApp and its slots.
type app struct {
	rec       *padisv1.WantedApp
	revisions map[string]*padisv1.Revision
	// wants are the revisions wanted, by slot.
	wants map[int32]string
	slots map[int32]*slot
	// balancers select it.
	balancers []*balancer
}

// slot is one instance.
type slot struct {
	key record.Slot
	app *app
	rec *padisv1.InstanceRecord
	// revision that is wanted; empty when the slot is not wanted.
	revision string
	// ask is when the master is asked for the slot's task, kill when the KILL is repeated.
	ask, kill repeat
	// ghosts are the tasks that haunt the slot, by id.
	ghosts map[string]*ghost
	// leases that the slot holds.
	leases   []*padisv1.LeaseRecord
	refusals map[string]int32
	// overdue: it is unreachable for so long that it may be replaced, or the pause before its adoption is over.
	overdue bool
	// hungry is since when it waits for adoption and its agent has no room for it, zero if that is not so; starved: for so
	// long that the executor there, if one runs, is asked whether the container is still there, and told to discard one
	// that is not wanted.
	hungry  time.Time
	starved bool
	// asked is the generation from which on the executor's list of orphans tells whether the container is there that
	// waits for adoption; 0 if it was not asked for.
	asked int64
	// answered: when it was lost, its address was answered by another; it does not configure it then.
	answered bool
	// lost says why nothing is known of it; empty if an earlier scheduler found that out.
	lost string
	// shaped: it has had a bandwidth or a loopback address, or may have.
	shaped bool
	// seats are its addresses in overlays.
	seats []seat
	// loop is what is known of its loopback; nil if nobody asks.
	loop *loop
	// due is the wake-up that is in the queue.
	due time.Time
}

func (s *slot) wanted() bool { return s.revision != "" }

// ghost is a task whose end is uncertain.
type ghost struct {
	ask repeat
	// container that the task made or took over; empty if it had none.
	container string
	// over is when it was said for the first time, and without contradiction since, that the task is no more.
	over time.Time
	// away: its agent does not answer.
	away bool
	// ended: what was said means that no executor has the task, so that its container can be discarded.
	ended bool
}

// doubt takes back that the task is no more.
func (g *ghost) doubt() { g.over, g.ended = time.Time{}, false }

// stray is a task that runs and should not.
type stray struct {
	agentID string
	kill    repeat
}

// repeat is something that is done again and again, with growing pauses, until it has worked. The zero value is at rest.
type repeat struct {
	at   time.Time
	step int
}

// again moves to the next time.
func (r *repeat) again(now time.Time, first, most time.Duration) {
	d := first
	for i := 0; i < r.step && d < most; i++ {
		d *= 2
	}
	r.at = now.Add(min(d, most))
	r.step++
}

func (r *repeat) start(at time.Time) { *r = repeat{at: at} }
func (r *repeat) stop()              { *r = repeat{} }
func (r *repeat) due(now time.Time) bool {
	return !r.at.IsZero() && !r.at.After(now)
}

// link is what is known of the subscription.
type link struct {
	connected bool
	// round is when all tasks are asked for again.
	round time.Time
}

// turn collects what one Step did.
type turn struct {
	puts      map[string]proto.Message
	calls     []mesos.Call
	acks      []mesos.Acknowledge
	asks      []mesos.TaskRef
	slots     map[record.Slot]bool
	agents    map[string]bool
	addresses map[Address]bool
	// heed are the agents of whose executors something else may be wanted now, overlays the networks that have changed.
	heed, overlays map[string]bool
	// balancers must be decided about anew, changed are those that show something else, stirred the agents that were asked.
	balancers, changed, stirred map[string]bool
	errs                        []error
	// place asks for a run of placement.
	place bool
}

// New makes the core from what the ledger holds. What a commit that was cut short left behind (a lease without its
// instance, an App that is gone) is removed by the first Step.
func New(cfg Config, snap record.Snapshot) (*Core, error) {
	c := &Core{
		cfg: cfg.withDefaults(), framework: snap.Framework.GetFrameworkId(), cluster: snap.Cluster,
		apps: map[string]*app{}, agents: map[string]*agent{},
		slots: make(map[record.Slot]*slot, len(snap.Instances)), tasks: make(map[string]*slot, len(snap.Instances)),
		strays: map[string]*stray{}, pending: map[record.Slot]*slot{}, possessed: map[record.Slot]*slot{},
		talking: map[string]*agent{}, balancers: map[string]*balancer{}, serving: map[string][]*balancer{}, owing: map[string]*balancer{}, upgrading: map[string]*upgrading{},
		leases: make(map[Address]*padisv1.LeaseRecord, len(snap.Leases)), strangers: map[Address]map[string]string{}, disputes: map[Address]map[string]string{},
	}
	if c.cluster == nil {
		c.cluster = &padisv1.Cluster{}
	}
	c.turn.reset()
	for _, a := range snap.Apps {
		c.apps[a.GetUid()] = newApp(a)
	}
	for _, a := range snap.Agents {
		c.agent(a.GetAgentId()).load(a)
	}
	for _, e := range snap.Executors {
		c.agent(e.GetAgentId()).executor = e
	}
	c.overlaid()
	leases := c.loadLeases(snap)
	c.book = ipam.New(c.cluster, leases)
	c.book.SetApps(slices.DeleteFunc(slices.Clone(snap.Apps), (*padisv1.WantedApp).GetForgotten))
	for _, r := range snap.Instances {
		if err := c.loadInstance(r); err != nil {
			return nil, err
		}
	}
	if err := c.loadBalancers(snap); err != nil {
		return nil, err
	}
	for _, uid := range slices.Sorted(maps.Keys(c.apps)) {
		c.settle(c.apps[uid])
	}
	c.chart()
	return c, nil
}

func (c *Core) loadInstance(r *padisv1.InstanceRecord) error {
	a := c.apps[r.GetAppUid()]
	if a == nil {
		// Its App was written in the same or an earlier transaction, so this cannot be; it must not be lost though.
		a = newApp(&padisv1.WantedApp{Uid: r.GetAppUid(), Namespace: r.GetNamespace(), Name: r.GetApp(), Tenant: r.GetTenant(), Forgotten: true})
		c.apps[r.GetAppUid()] = a
	}
	s := &slot{key: instance.SlotOf(r), app: a}
	if c.slots[s.key] != nil {
		return fmt.Errorf("ledger has two records of instance %s; remove one of them", s.key)
	}
	c.slots[s.key], a.slots[s.key.Index] = s, s
	key, _, _ := instance.TaskKey(instance.TaskID(r))
	c.tasks[key] = s
	s.leases = c.book.Held(s.key)
	s.shaped = true // Nobody knows any more what its executor was told.
	s.revision = a.wants[s.key.Index]
	c.show(s, r)
	return nil
}

// Step takes in what happened, in order, then lets time pass until now, then decides what to launch, once for all
// events together. The effects are those of all of it: what was decided at the first event and changed at the last is
// written once.
func (c *Core) Step(now time.Time, events ...Event) Effects {
	c.now = now
	if !c.started {
		c.start(now)
	}
	for _, ev := range events {
		switch e := ev.(type) {
		case FromMesos:
			c.fromMesos(now, e.Event)
		case Want:
			c.want(now, e.App)
		case Forget:
			c.forget(now, e.AppUID)
		case Declare:
			c.declare(e.Cluster)
		case WantBalancer:
			c.wantBalancer(e.Balancer)
		case ForgetBalancer:
			c.forgetBalancer(e.UID)
		case Unsent:
			c.unsent(now, e.Call)
		case Tick:
		default:
			c.fail(fmt.Errorf("event %T is not known to this version", ev))
		}
	}
	c.regain(now)
	c.pass(now)
	c.cool(now)
	c.upgrade(now)
	c.balance(now) // Before anything is placed, so that it is launched with its VIPs.
	c.place(now)
	c.trade(now)
	c.settleOverlays()
	c.balance(now)
	c.speak(now)
	c.tell(now)
	return c.effects(now)
}

func (c *Core) fail(err error)       { c.turn.errs = append(c.turn.errs, err) }
func (c *Core) call(call mesos.Call) { c.turn.calls = append(c.turn.calls, call) }

func (t *turn) reset() {
	*t = turn{puts: map[string]proto.Message{}, slots: map[record.Slot]bool{}, agents: map[string]bool{}, addresses: map[Address]bool{}, heed: map[string]bool{}, overlays: map[string]bool{},
		balancers: map[string]bool{}, changed: map[string]bool{}, stirred: map[string]bool{}}
}

// effects empties the turn.
func (c *Core) effects(now time.Time) Effects {
	t := &c.turn
	e := Effects{Calls: t.calls, Acks: t.acks, Errors: t.errs, Next: c.next(now)}
	for k, v := range t.puts {
		e.Writes = append(e.Writes, record.Write{Key: k, Value: v})
	}
	slices.SortFunc(e.Writes, func(a, b record.Write) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Key, b.Key))
	})
	e.Changed.Slots = slices.SortedFunc(maps.Keys(t.slots), compareSlots)
	e.Changed.Agents = slices.Sorted(maps.Keys(t.agents))
	e.Changed.Balancers = slices.Sorted(maps.Keys(t.changed))
	e.Changed.Addresses = slices.SortedFunc(maps.Keys(t.addresses), compareAddresses)
	t.reset()
	return e
}

// rank orders writes so that a ledger that must split them into several transactions never holds an instance without
// its App, its leases or its executor: those come before it and go after it.
func rank(w record.Write) int {
	instances := hasPrefix(w.Key, record.PrefixInstance)
	switch {
	case w.Value != nil && !instances:
		return 0
	case w.Value != nil:
		return 1
	case instances:
		return 2
	}
	return 3
}

func hasPrefix(s, p string) bool { return len(s) >= len(p) && s[:len(p)] == p }

func compareSlots(a, b record.Slot) int {
	return cmp.Or(cmp.Compare(a.AppUID, b.AppUID), cmp.Compare(a.Index, b.Index))
}

// put gives the slot a new record that the ledger must have before anything is sent. A transition that does not exist
// is reported and leaves everything as it was.
func (c *Core) put(s *slot, r *padisv1.InstanceRecord, err error) bool {
	if err != nil {
		c.fail(err)
		return false
	}
	if r == s.rec {
		return true
	}
	c.turn.puts[record.InstanceKey(s.key)] = r
	c.show(s, r)
	if instance.Released(r) {
		c.drop(s)
	}
	return true
}

// show gives the slot a new record and keeps all indexes true: agents, ghosts, pending, timers. By itself it is for
// what need not survive, such as the sentence that says why an instance is pending.
func (c *Core) show(s *slot, r *padisv1.InstanceRecord) {
	before := s.rec
	if why := c.disputed(s); why != "" {
		r = instance.Dispute(r, why)
	}
	s.rec = r
	c.turn.slots[s.key] = true
	c.turn.heed[r.GetAgentId()], c.turn.heed[before.GetAgentId()] = true, true
	if before.GetPhase() != r.GetPhase() {
		s.overdue, s.asked, s.hungry, s.starved = false, 0, time.Time{}, false
	}
	if before == nil || before.GetAgentId() != r.GetAgentId() || !slices.Equal(before.GetHauntedTasks(), r.GetHauntedTasks()) ||
		!slices.Equal(before.GetHauntedContainers(), r.GetHauntedContainers()) ||
		instance.HasTask(before.GetPhase()) != instance.HasTask(r.GetPhase()) {
		c.rehost(s, before)
		c.turn.place = true
	}
	for _, l := range s.leases {
		c.turn.addresses[addressOf(l)] = true
	}
	if id := serverID(before); id != "" && id != serverID(r) {
		s.loop = nil // It was another's.
	}
	if r.GetPhase() == padisv1.Phase_RUNNING && before.GetPhase() != padisv1.Phase_RUNNING {
		s.loop.runs()
	}
	c.sit(s)
	c.stir(s)
	c.index(s)
	c.schedule(s)
}

// index keeps pending true: the slot is in it if it waits for an agent.
func (c *Core) index(s *slot) {
	p := s.rec.GetPhase()
	if p == padisv1.Phase_UNREACHABLE {
		at, ever := c.replaceAt(s, s.rec)
		s.overdue = ever && !c.now.Before(at)
	}
	needs := s.wanted() && (p == padisv1.Phase_PENDING || p == padisv1.Phase_UNREACHABLE && s.overdue)
	if p == padisv1.Phase_ADOPTING {
		// Also what is not wanted is adopted: only so it can be stopped.
		s.overdue = s.overdue || s.rec.GetNotBeforeMs() <= c.now.UnixMilli()
		needs = s.overdue
	}
	switch {
	case needs && c.pending[s.key] == nil:
		c.pending[s.key] = s
		c.turn.place, c.market.fresh = true, true
	case !needs && c.pending[s.key] != nil:
		delete(c.pending, s.key)
		s.refusals = nil
	}
}

// drop removes a slot that is over: its leases, its record, its place in every index.
func (c *Core) drop(s *slot) {
	c.endLeases(c.book.Held(s.key)...)
	s.leases = nil
	c.turn.puts[record.InstanceKey(s.key)] = nil
	delete(c.slots, s.key)
	delete(s.app.slots, s.key.Index)
	delete(c.pending, s.key)
	delete(c.possessed, s.key)
	key, _, _ := instance.TaskKey(instance.TaskID(s.rec))
	delete(c.tasks, key)
	if floor := s.rec.GetAttempt(); floor > s.app.rec.GetAttemptFloor() {
		n := proto.Clone(s.app.rec).(*padisv1.WantedApp)
		n.AttemptFloor = floor
		s.app.rec = n
		c.turn.puts[record.AppKey(n.GetUid())] = n
	}
	c.turn.place = true
	c.settle(s.app)
}
