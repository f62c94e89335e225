package scheduler

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/project"
	"padis.io/padis/scheduler/record"
)

// memory is what the core knew after the last durable turn, for readers in other goroutines: the core itself belongs to
// the loop. What it hands out is never changed afterwards.
type memory struct {
	mu        sync.RWMutex
	apps      map[string]*padisv1.WantedApp
	instances map[string]map[int32]*runtime.Instance
	addresses map[core.Address]*runtime.Address
	usage     map[string]usage
	listeners []func(Change)
}

// usage of a pool, in addresses.
type usage struct{ capacity, allocated, free int64 }

// Change names what a durable turn has changed.
type Change struct {
	// Apps are the uids of Apps of which what is wanted or an instance changed.
	Apps []string
	// Leases tells that an address was leased or released.
	Leases bool
}

func newMemory(c *core.Core) *memory {
	m := &memory{
		apps: map[string]*padisv1.WantedApp{}, instances: map[string]map[int32]*runtime.Instance{},
		addresses: map[core.Address]*runtime.Address{}, usage: map[string]usage{},
	}
	for _, key := range c.Slots() {
		m.keepInstance(c, key)
		m.keepApp(c, key.AppUID)
	}
	for _, uid := range c.Apps() {
		m.keepApp(c, uid)
	}
	for _, l := range c.Leases() {
		m.keepAddress(c, core.Address{Network: l.GetNetwork(), Address: l.GetAddress()})
	}
	m.keepUsage(c)
	return m
}

func (m *memory) keepApp(c *core.Core, uid string) {
	if app := c.App(uid); app != nil {
		m.apps[uid] = app
	} else {
		delete(m.apps, uid)
	}
}

func (m *memory) keepInstance(c *core.Core, key record.Slot) {
	rec := c.Instance(key)
	of := m.instances[key.AppUID]
	switch {
	case rec != nil && of == nil:
		m.instances[key.AppUID] = map[int32]*runtime.Instance{key.Index: project.Instance(rec, c.Refusals(key), c.Labels(key))}
	case rec != nil:
		of[key.Index] = project.Instance(rec, c.Refusals(key), c.Labels(key))
	default:
		if delete(of, key.Index); len(of) == 0 {
			delete(m.instances, key.AppUID)
		}
	}
}

func (m *memory) keepAddress(c *core.Core, at core.Address) {
	lease := c.Lease(at)
	if lease == nil {
		delete(m.addresses, at)
		return
	}
	host := ""
	if rec := c.Instance(record.Slot{AppUID: lease.GetAppUid(), Index: lease.GetSlot()}); configured(rec) {
		host = rec.GetHostname()
	}
	m.addresses[at] = project.Address(lease, host)
}

func (m *memory) keepUsage(c *core.Core) {
	clear(m.usage)
	for _, p := range c.Cluster().GetPools() {
		var u usage
		u.capacity, u.allocated, u.free = c.Usage(p.GetName())
		m.usage[p.GetName()] = u
	}
}

// keep takes in a turn that is durable, and tells the listeners.
func (m *memory) keep(c *core.Core, eff core.Effects) {
	apps := map[string]bool{}
	change := Change{}
	m.mu.Lock()
	for _, key := range eff.Changed.Slots {
		m.keepInstance(c, key)
		apps[key.AppUID] = true
	}
	for _, at := range eff.Changed.Addresses {
		m.keepAddress(c, at)
	}
	for _, w := range eff.Writes {
		if uid, ok := strings.CutPrefix(w.Key, record.PrefixApp); ok {
			m.keepApp(c, uid)
			apps[uid] = true
		}
		change.Leases = change.Leases || w.Key == record.KeyCluster || strings.HasPrefix(w.Key, record.PrefixLease)
	}
	if change.Leases {
		m.keepUsage(c)
	}
	listeners := m.listeners
	m.mu.Unlock()
	if change.Apps = slices.Sorted(maps.Keys(apps)); len(change.Apps) == 0 && !change.Leases {
		return
	}
	for _, f := range listeners {
		f(change)
	}
}

// OnChange has f called after each durable turn that changed something. f must return quickly.
func (l *Loop) OnChange(f func(Change)) {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	l.memory.listeners = append(slices.Clip(l.memory.listeners), f)
}

// Wanted is what is wanted of one App, durably; nil if nothing is. It must not be changed.
func (l *Loop) Wanted(uid string) *padisv1.WantedApp {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.apps[uid]
}

// WantedApps lists what is wanted of all Apps, by uid. They must not be changed.
func (l *Loop) WantedApps() []*padisv1.WantedApp {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return slices.SortedFunc(maps.Values(l.memory.apps), func(a, b *padisv1.WantedApp) int { return cmp.Compare(a.GetUid(), b.GetUid()) })
}

// Instances lists the instances of one App, by slot. They must not be changed.
func (l *Loop) Instances(uid string) []*runtime.Instance {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return slices.SortedFunc(maps.Values(l.memory.instances[uid]), func(a, b *runtime.Instance) int { return cmp.Compare(a.Status.Slot, b.Status.Slot) })
}

// Usage counts the addresses of a pool; zeros for a pool that is not in force.
func (l *Loop) Usage(pool string) (capacity, allocated, free int64) {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	u := l.memory.usage[pool]
	return u.capacity, u.allocated, u.free
}

// Addresses lists the leases of a pool, in force or not, by address. They must not be changed.
func (l *Loop) Addresses(pool string) []*runtime.Address {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	var out []*runtime.Address
	for _, a := range l.memory.addresses {
		if a.Status.Pool == pool {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *runtime.Address) int { return cmp.Compare(a.Status.Address, b.Status.Address) })
	return out
}
