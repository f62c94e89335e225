package place

import (
	"cmp"
	"slices"

	"padis.io/padis/mesos"
)

// world indexes a snapshot, so that an agent is checked in a few array reads. It lives for one Decide.
type world struct {
	agents   []Agent
	executor mesos.Amounts
	byID     map[string]int
	// free is what changes of the agents.
	free []freeState
	// order holds the agents with an offer, by free share, then by draw.
	order []int32
	// largest is the largest offer in each dimension; shares are shares of it.
	largest mesos.Amounts
	// columns hold the values of an attribute, by its name; see column.
	columns map[string]*column
	// hosts is the column of host names in which agents without one are hosts of their own.
	hosts *column

	occupants map[string][]occupancy // of Apps that were not asked for yet
	apps      map[string]*app

	tenantIDs map[string]int32
	// enemies of each tenant, both ways.
	enemies [][]int32
	present map[int32]*presence // of each tenant
	against map[int32]*presence // of all enemies of a tenant
	owners  map[int32][]bool    // agents dedicated to a tenant
	owned   []bool              // agents dedicated to anybody

	// listeners are the slots that have a port of a host, by host.
	listeners map[int32][]listener

	statics  map[string]*static
	patterns map[string]*pattern
	// version counts placements; failures of an older one must be looked at again.
	version int
	failed  failure
}

// freeState is what placements change of an agent.
type freeState struct {
	amounts     mesos.Amounts
	hasExecutor bool
	share       float64
	draw        uint64
}

func newWorld(s Snapshot) *world {
	w := &world{
		agents:    s.Agents,
		executor:  s.Executor,
		byID:      make(map[string]int, len(s.Agents)),
		free:      make([]freeState, len(s.Agents)),
		columns:   map[string]*column{},
		occupants: map[string][]occupancy{},
		apps:      map[string]*app{},
		tenantIDs: map[string]int32{},
		present:   map[int32]*presence{},
		against:   map[int32]*presence{},
		owners:    map[int32][]bool{},
		listeners: map[int32][]listener{},
		statics:   map[string]*static{},
		patterns:  map[string]*pattern{},
	}
	for i := range s.Agents {
		a := &s.Agents[i]
		w.byID[a.ID] = i
		if a.HasOffer {
			w.largest.CPUMilli = max(w.largest.CPUMilli, a.Offered.CPUMilli)
			w.largest.MemoryMilli = max(w.largest.MemoryMilli, a.Offered.MemoryMilli)
			w.order = append(w.order, int32(i))
		}
	}
	for i := range s.Agents {
		a := &s.Agents[i]
		w.free[i] = freeState{amounts: a.Offered, hasExecutor: a.HasExecutor, share: w.share(a.Offered), draw: draw(s.Seed, a.ID)}
	}
	slices.SortFunc(w.order, w.compare)
	w.hosts = w.hostColumn()
	w.meet(s.Tenants)
	w.dedicate(s.Tenants)
	w.enter(s)
	return w
}

// enter sorts the occupants by App and by tenant.
func (w *world) enter(s Snapshot) {
	wanted := make(map[string]bool, len(s.Wants))
	for i := range s.Wants {
		wanted[s.Wants[i].Slot.AppUID] = true
	}
	for _, o := range s.Occupants {
		at, ok := w.byID[o.AgentID]
		if !ok {
			continue
		}
		t := w.tenant(o.Tenant)
		w.presence(t).put(w.hosts.of[at])
		w.listen(o.Slot, o.Ports, at)
		if wanted[o.Slot.AppUID] {
			w.occupants[o.Slot.AppUID] = append(w.occupants[o.Slot.AppUID], occupancy{o.Slot, t, at})
		}
	}
}

// share is the part of the largest offer that is left, of CPU or memory, whichever is less.
func (w *world) share(a mesos.Amounts) float64 {
	return min(part(a.CPUMilli, w.largest.CPUMilli), part(a.MemoryMilli, w.largest.MemoryMilli))
}

func part(n, of int64) float64 {
	if of <= 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// compare orders agents: the one to be taken first is less.
func (w *world) compare(x, y int32) int {
	a, b := &w.free[x], &w.free[y]
	return cmp.Or(cmp.Compare(b.share, a.share), cmp.Compare(a.draw, b.draw), cmp.Compare(w.agents[x].ID, w.agents[y].ID))
}

// reorder puts an agent whose free amounts have changed into its place.
func (w *world) reorder(at int) {
	i, _ := slices.BinarySearchFunc(w.order, int32(at), w.compare)
	w.order = slices.Delete(w.order, i, i+1)
	w.free[at].share = w.share(w.free[at].amounts)
	i, _ = slices.BinarySearchFunc(w.order, int32(at), w.compare)
	w.order = slices.Insert(w.order, i, int32(at))
}

// draw mixes the seed with an agent's id (FNV-1a, finished as in SplitMix64), so that equal agents take turns from one
// seed to the next.
func draw(seed uint64, id string) uint64 {
	h := uint64(14695981039346656037) ^ seed
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// column holds one attribute of all agents, with the values numbered.
type column struct {
	// of is the number of each agent's value, or missing.
	of []int32
	// values by number.
	values []string
}

const missing = -1

// column returns the column of an attribute; "hostname" is the name of the host. A host without a name lacks it.
func (w *world) column(attribute string) *column {
	if c := w.columns[attribute]; c != nil {
		return c
	}
	c := &column{of: make([]int32, len(w.agents))}
	numbers := map[string]int32{}
	for i := range w.agents {
		value, ok := w.agents[i].Hostname, w.agents[i].Hostname != ""
		if attribute != Hostname {
			value, ok = w.agents[i].Attributes[attribute]
		}
		c.of[i] = missing
		if ok {
			c.of[i] = c.number(numbers, value)
		}
	}
	w.columns[attribute] = c
	return c
}

// hostColumn tells apart the hosts themselves: two agents of one name are one host, for example one that was registered
// anew after a restart.
func (w *world) hostColumn() *column {
	names := w.column(Hostname)
	c := &column{of: slices.Clone(names.of), values: slices.Clone(names.values)}
	for i, n := range c.of {
		if n == missing {
			c.of[i] = int32(len(c.values))
			c.values = append(c.values, w.agents[i].ID)
		}
	}
	return c
}

func (c *column) number(numbers map[string]int32, value string) int32 {
	n, ok := numbers[value]
	if !ok {
		n = int32(len(c.values))
		numbers[value] = n
		c.values = append(c.values, value)
	}
	return n
}

// app is what is known of one App.
type app struct {
	// onAgent counts its instances on each agent.
	onAgent []int32
	// at holds the agents of each slot.
	at map[int32][]int
	// counts hold the number of slots for each value of an attribute.
	counts map[string][]int32
}

// app returns the index of an App.
func (w *world) app(uid string) *app {
	a := w.apps[uid]
	if a == nil {
		a = &app{onAgent: make([]int32, len(w.agents)), at: map[int32][]int{}, counts: map[string][]int32{}}
		w.apps[uid] = a
		for _, o := range w.occupants[uid] {
			a.onAgent[o.agent]++
			a.at[o.slot.Index] = append(a.at[o.slot.Index], o.agent)
		}
	}
	return a
}

// count returns the number of slots of the App for each value of the attribute.
func (w *world) count(a *app, attribute string) []int32 {
	if counts, ok := a.counts[attribute]; ok {
		return counts
	}
	c := w.column(attribute)
	counts := make([]int32, len(c.values))
	for _, agents := range a.at {
		for i, at := range agents {
			if v := c.of[at]; v != missing && !c.holds(agents[:i], v) {
				counts[v]++
			}
		}
	}
	a.counts[attribute] = counts
	return counts
}

// holds tells whether one of the agents has the value.
func (c *column) holds(agents []int, value int32) bool {
	return slices.ContainsFunc(agents, func(at int) bool { return c.of[at] == value })
}

// occupy enters a new occupant into the indexes that exist.
func (w *world) occupy(a *app, o occupancy) {
	before := a.at[o.slot.Index]
	for attribute, counts := range a.counts {
		c := w.column(attribute)
		if v := c.of[o.agent]; v != missing && !c.holds(before, v) {
			counts[v]++
		}
	}
	a.onAgent[o.agent]++
	a.at[o.slot.Index] = append(slices.Clone(before), o.agent)
	host := w.hosts.of[o.agent]
	w.presence(o.tenant).put(host)
	for _, e := range w.enemies[o.tenant] {
		if p := w.against[e]; p != nil {
			p.put(host)
		}
	}
}
