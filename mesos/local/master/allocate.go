package master

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/amount"
)

// defaultRefuse is the filter of a DECLINE or ACCEPT that has none, or a negative one.
const defaultRefuse = 5 * time.Second

// allocation is the state of the allocator: offers go out on ticks, and only if something may have changed.
type allocation struct {
	next    time.Time
	dirty   bool
	filters []filter
}

// filter is a refusal: no offer that is contained in these resources until the time is over.
type filter struct {
	framework, role, agent string
	resources              amount.List // unallocated
	until                  time.Time
}

// allocationDue is the tick at which something can change, or zero.
func (c *core) allocationDue() time.Time {
	if c.alloc.dirty {
		return c.alloc.next
	}
	var first time.Time
	for _, f := range c.alloc.filters {
		if first.IsZero() || f.until.Before(first) {
			first = f.until
		}
	}
	if !first.IsZero() && first.Before(c.alloc.next) {
		return c.alloc.next
	}
	return first
}

// allocationTick keeps the phase of the ticks, and allocates if there was a tick.
func (c *core) allocationTick() {
	if c.now.Before(c.alloc.next) {
		return
	}
	behind := c.now.Sub(c.alloc.next) / c.cfg.AllocationInterval
	last := c.alloc.next.Add(behind * c.cfg.AllocationInterval)
	c.alloc.next = last.Add(c.cfg.AllocationInterval)
	before := len(c.alloc.filters)
	c.alloc.filters = slices.DeleteFunc(c.alloc.filters, func(f filter) bool { return !c.now.Before(f.until) })
	if c.alloc.dirty || len(c.alloc.filters) != before {
		c.allocate(c.agentsByAge())
	}
}

// allocate offers what is available on these agents, each time to the framework with the least dominant share.
func (c *core) allocate(agents []*agent) {
	c.alloc.dirty = false
	total := map[string]int64{}
	for _, a := range c.agents {
		for _, r := range a.total {
			total[r.Name] += amount.Milli(amount.List{r}, r.Name)
		}
	}
	made := map[*framework][]mesos.Offer{}
	for _, a := range agents {
		if a.out == nil || a.deactivated {
			continue
		}
		for _, want := range c.candidates(total) {
			c.offerTo(want, a, made)
		}
	}
	for _, f := range c.byAge() {
		if offers := made[f]; len(offers) > 0 && f.out != nil {
			f.out.Send(&scheduler.Event{Type: scheduler.Event_OFFERS, Offers: &scheduler.Event_Offers{Offers: offers}})
		}
	}
}

// candidate is a role of a framework that wants offers.
type candidate struct {
	framework        *framework
	role             string
	roleShare, share float64
}

// candidates lists who may get offers, the poorest first: by share of the role, then of the framework, then by age.
func (c *core) candidates(total map[string]int64) []candidate {
	byRole := map[string]map[string]int64{}
	var out []candidate
	for _, f := range c.byAge() {
		for role, used := range f.used {
			if byRole[role] == nil {
				byRole[role] = map[string]int64{}
			}
			for name, n := range used {
				byRole[role][name] += n
			}
		}
		if f.out == nil {
			continue
		}
		for _, role := range f.roles {
			if !f.suppressed[role] {
				out = append(out, candidate{framework: f, role: role, share: share(f.used[role], total)})
			}
		}
	}
	for i := range out {
		out[i].roleShare = share(byRole[out[i].role], total)
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.roleShare, b.roleShare), cmp.Compare(a.role, b.role), cmp.Compare(a.share, b.share))
	})
	return out
}

func share(used, total map[string]int64) float64 {
	s := 0.0
	for name, n := range used {
		if total[name] > 0 {
			s = math.Max(s, float64(n)/float64(total[name]))
		}
	}
	return s
}

func (c *core) offerTo(want candidate, a *agent, made map[*framework][]mesos.Offer) {
	free := slices.DeleteFunc(slices.Clone(a.available), func(r mesos.Resource) bool { return !r.IsAllocatableTo(want.role) })
	if !amount.Offerable(free) || c.filtered(want, a, free) {
		return
	}
	f := want.framework
	o := &offer{
		seq: c.seq(), id: fmt.Sprintf("%s-O%d", c.id, c.nextOffer), framework: f, agent: a, role: want.role,
		resources: amount.Allocated(amount.Ordered(free, a.total), want.role),
	}
	c.nextOffer++
	if c.cfg.OfferTimeout > 0 {
		o.expires = c.now.Add(c.cfg.OfferTimeout)
	}
	c.offers[o.id] = o
	a.available = amount.Minus(a.available, free)
	f.charge(o.resources, 1)
	made[f] = append(made[f], c.wireOffer(o))
	c.log.Debug("offer", zap.String("offer", o.id), zap.String("framework", f.id), zap.String("agent", a.id))
}

func (c *core) filtered(want candidate, a *agent, free amount.List) bool {
	return slices.ContainsFunc(c.alloc.filters, func(f filter) bool {
		return f.framework == want.framework.id && f.role == want.role && f.agent == a.id && c.now.Before(f.until) &&
			amount.Contains(f.resources, free)
	})
}

func (c *core) wireOffer(o *offer) mesos.Offer {
	host := o.agent.info.GetHostname()
	out := mesos.Offer{
		ID: mesos.OfferID{Value: o.id}, FrameworkID: mesos.FrameworkID{Value: o.framework.id}, AgentID: mesos.AgentID{Value: o.agent.id},
		Hostname: host, Resources: o.resources, Attributes: o.agent.info.Attributes,
		URL: &mesos.URL{
			Scheme:  "http",
			Address: mesos.Address{Hostname: &host, IP: new(o.agent.address), Port: o.agent.info.GetPort()},
			Path:    new("/slave(1)"),
		},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: new(o.role)},
	}
	for _, e := range executorsByAge(o.agent.executors[o.framework.id]) {
		out.ExecutorIDs = append(out.ExecutorIDs, e.info.ExecutorID)
	}
	return out
}

// rescind tells the framework that an offer is void.
func (c *core) rescind(o *offer) {
	if o.framework.out != nil {
		o.framework.out.Send(&scheduler.Event{
			Type: scheduler.Event_RESCIND, Rescind: &scheduler.Event_Rescind{OfferID: mesos.OfferID{Value: o.id}},
		})
	}
}

// recover removes an offer and gives all of it back to the agent, refused for the given time.
func (c *core) recover(o *offer, refuse time.Duration) {
	c.dropOffer(o)
	c.giveBack(o.framework, o.agent, o.role, o.resources, refuse)
}

// dropOffer removes an offer; its resources are then in the hands of the caller.
func (c *core) dropOffer(o *offer) {
	delete(c.offers, o.id)
	o.framework.charge(o.resources, -1)
}

// giveBack returns resources that were offered and are not charged any more.
func (c *core) giveBack(f *framework, a *agent, role string, l amount.List, refuse time.Duration) {
	if len(l) == 0 {
		return
	}
	plain := amount.Unallocated(l)
	a.available = amount.Sum(a.available, plain)
	c.alloc.dirty = true
	if refuse > 0 {
		until := c.now.Add(max(refuse, c.cfg.AllocationInterval))
		c.alloc.filters = append(c.alloc.filters, filter{f.id, role, a.id, plain, until})
	}
}

// refusal is the time of a filter: 5 s by default and for negative values, at most a year.
func refusal(f *mesos.Filters) time.Duration {
	if f == nil || f.RefuseSeconds == nil || *f.RefuseSeconds < 0 || math.IsNaN(*f.RefuseSeconds) {
		return defaultRefuse
	}
	return min(seconds(*f.RefuseSeconds), 365*24*time.Hour)
}

// forgetFilters drops the filters of a framework, for all roles if there are none given.
func (c *core) forgetFilters(id string, roles []string) {
	c.alloc.filters = slices.DeleteFunc(c.alloc.filters, func(f filter) bool {
		return f.framework == id && (len(roles) == 0 || slices.Contains(roles, f.role))
	})
}
