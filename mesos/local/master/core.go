package master

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
)

// HeartbeatInterval is the time between HEARTBEAT events, as Mesos has it.
const HeartbeatInterval = 15 * time.Second

// stream is where events for a scheduler or an operator go. Send never blocks.
type stream interface {
	Send(event proto.Message)
	Close()
}

// link is where frames for an agent go. Send never blocks.
type link interface {
	Send(f wire.Frame)
	Close()
}

// core decides everything the master does. It is driven by one goroutine, is told the time with every event, and
// acts on the world only through streams, links and save.
type core struct {
	cfg  Config
	id   string
	now  time.Time // of the event that is being handled
	log  *zap.Logger
	save func(registry) error // returns when the registry is durable

	frameworks  map[string]*framework
	completed   []*framework
	agents      map[string]*agent // registered, connected or not
	recovered   map[string]admitted
	unreachable map[string]admitted
	gone        map[string]admitted
	offers      map[string]*offer
	operators   map[stream]time.Time // next heartbeat

	nextFramework, nextAgent, nextOffer, sequence int

	alloc          allocation
	agentsExpected time.Time // when agents that did not come back after a restart become unreachable
	started        time.Time
	metrics        map[string]float64
}

// framework is one scheduler, connected or waited for.
type framework struct {
	seq        int
	id         string
	info       mesos.FrameworkInfo
	aware      bool // PARTITION_AWARE
	roles      []string
	suppressed map[string]bool

	out       stream // nil while disconnected
	streamID  string
	heartbeat time.Time
	failover  time.Time // when a disconnected framework is removed

	recovered    bool // known from an agent only
	registered   time.Time
	reregistered time.Time
	unregistered time.Time

	tasks       map[string]*task
	unreachable map[string]*task
	completed   []*task
	used        map[string]map[string]int64 // role -> resource name -> thousandths, offers included
}

// agent is one registered agent.
type agent struct {
	seq          int
	id           string
	info         mesos.AgentInfo
	version      string
	address      string // IP
	out          link   // nil while disconnected
	connected    time.Time
	registered   time.Time
	reregistered time.Time
	deactivated  bool

	total     amount.List                 // unallocated, role "*" spelled out
	available amount.List                 // total - used - offered
	tasks     map[string]map[string]*task // framework -> id
	executors map[string]map[string]*executor
	kills     map[string]map[string]*mesos.KillPolicy // to repeat when it returns

	nextPing time.Time
	missed   int
	heard    bool // since the last ping
}

// executor is one executor that the master charges resources for.
type executor struct {
	seq       int
	info      mesos.ExecutorInfo
	resources amount.List
}

// task is one task that is known to the master.
type task struct {
	seq       int
	info      mesos.Task
	resources amount.List
	released  bool // its resources are free again
}

// offer is one outstanding offer.
type offer struct {
	seq       int
	id        string
	framework *framework
	agent     *agent
	role      string
	resources amount.List // allocated
	expires   time.Time   // zero: never
}

func newCore(cfg Config, reg registry, now time.Time) *core {
	c := &core{
		cfg: cfg, id: cfg.ID, now: now, started: now, log: cfg.Log,
		frameworks: map[string]*framework{}, agents: map[string]*agent{}, offers: map[string]*offer{},
		recovered: map[string]admitted{}, unreachable: map[string]admitted{}, gone: map[string]admitted{},
		operators: map[stream]time.Time{}, metrics: map[string]float64{},
		alloc: allocation{next: now.Add(cfg.AllocationInterval)},
		save:  func(registry) error { return nil },
	}
	for _, a := range reg.Agents {
		switch a.State {
		case stateGone:
			c.gone[a.ID] = a
		case stateUnreachable:
			c.unreachable[a.ID] = a
		default:
			c.recovered[a.ID] = a
		}
	}
	if len(c.recovered) > 0 {
		c.agentsExpected = now.Add(cfg.AgentReregisterTimeout)
	}
	return c
}

func (c *core) seq() int { c.sequence++; return c.sequence }

// tick does what is due at this moment.
func (c *core) tick(now time.Time) {
	c.now = now
	for _, f := range c.byAge() {
		if f.out != nil && !now.Before(f.heartbeat) {
			f.heartbeat = now.Add(HeartbeatInterval)
			f.out.Send(schedulerHeartbeat)
		}
		if f.out == nil && !f.failover.IsZero() && !now.Before(f.failover) {
			c.log.Info("framework did not come back in time", zap.String("framework", f.id))
			c.removeFramework(f)
		}
	}
	for out, due := range c.operators {
		if !now.Before(due) {
			c.operators[out] = now.Add(HeartbeatInterval)
			out.Send(operatorHeartbeat)
		}
	}
	for _, a := range c.agentsByAge() {
		c.ping(a)
	}
	for _, o := range c.offersByAge() {
		if !o.expires.IsZero() && !now.Before(o.expires) {
			c.rescind(o)
			c.recover(o, 0)
		}
	}
	if !c.agentsExpected.IsZero() && !now.Before(c.agentsExpected) {
		c.giveUpRecovered()
	}
	c.allocationTick()
}

// deadline is the next moment at which tick has something to do; zero if none.
func (c *core) deadline() time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for _, f := range c.frameworks {
		if f.out != nil {
			sooner(f.heartbeat)
		} else {
			sooner(f.failover)
		}
	}
	for _, t := range c.operators {
		sooner(t)
	}
	for _, a := range c.agents {
		sooner(a.nextPing)
	}
	for _, o := range c.offers {
		sooner(o.expires)
	}
	sooner(c.agentsExpected)
	sooner(c.allocationDue())
	return due
}

func (c *core) byAge() []*framework {
	return slices.SortedFunc(maps.Values(c.frameworks), func(a, b *framework) int { return cmp.Compare(a.seq, b.seq) })
}

func (c *core) agentsByAge() []*agent {
	return slices.SortedFunc(maps.Values(c.agents), func(a, b *agent) int { return cmp.Compare(a.seq, b.seq) })
}

func (c *core) offersByAge() []*offer {
	return slices.SortedFunc(maps.Values(c.offers), func(a, b *offer) int { return cmp.Compare(a.seq, b.seq) })
}

func tasksByAge(m map[string]*task) []*task {
	return slices.SortedFunc(maps.Values(m), func(a, b *task) int { return cmp.Compare(a.seq, b.seq) })
}

func executorsByAge(m map[string]*executor) []*executor {
	return slices.SortedFunc(maps.Values(m), func(a, b *executor) int { return cmp.Compare(a.seq, b.seq) })
}

func (c *core) newFrameworkID() string {
	id := fmt.Sprintf("%s-%04d", c.id, c.nextFramework)
	c.nextFramework++
	return id
}

func (c *core) findCompleted(id string) *framework {
	for _, f := range c.completed {
		if f.id == id {
			return f
		}
	}
	return nil
}

// charge books resources of a framework for the fair share.
func (f *framework) charge(l amount.List, sign int64) {
	for _, r := range l {
		role := r.GetAllocationInfo().GetRole()
		if f.used[role] == nil {
			f.used[role] = map[string]int64{}
		}
		f.used[role][r.Name] += sign * amount.Milli(amount.List{r}, r.Name)
	}
}

// take charges an agent and a framework for resources that become used.
func (c *core) take(f *framework, a *agent, l amount.List) {
	a.available = amount.Minus(a.available, amount.Unallocated(l))
	f.charge(l, 1)
}

// release gives used resources back to the agent; they are offered at the next allocation.
func (c *core) release(f *framework, a *agent, l amount.List) {
	if f != nil {
		f.charge(l, -1)
	}
	if a != nil {
		a.available = amount.Sum(a.available, amount.Unallocated(l))
	}
	c.alloc.dirty = true
}

func seconds(d float64) time.Duration {
	switch {
	case !(d > 0):
		return 0
	case d > 9e9:
		return time.Duration(9e18)
	}
	return time.Duration(d * float64(time.Second))
}

func timestamp(t time.Time) *float64 {
	return new(float64(t.UnixMicro()) / 1e6)
}

func timeInfo(t time.Time) *mesos.TimeInfo {
	if t.IsZero() {
		return &mesos.TimeInfo{}
	}
	return &mesos.TimeInfo{Nanoseconds: t.UnixNano()}
}
