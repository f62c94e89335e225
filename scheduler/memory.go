package scheduler

import (
	"cmp"
	"context"
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
	usage     map[string]runtime.PoolUsage
	networks  map[string][]runtime.HostNetworkState
	foreign   []runtime.ForeignAddress
	sandboxes sandboxes
	executors executors
	listeners []listener
}

func newMemory(c *core.Core) *memory {
	m := &memory{
		apps: map[string]*padisv1.WantedApp{}, instances: map[string]map[int32]*runtime.Instance{},
		addresses: map[core.Address]*runtime.Address{}, usage: map[string]runtime.PoolUsage{}, sandboxes: newSandboxes(), executors: newExecutors(),
	}
	var agents []string
	for _, a := range c.Agents() {
		agents = append(agents, a.Record.GetAgentId())
	}
	m.sandboxes.keep(c, c.Slots(), agents)
	m.executors.keep(c, agents)
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
	m.addresses[at] = project.Address(lease, host, "")
}

func (m *memory) keepUsage(c *core.Core) {
	clear(m.usage)
	for _, p := range c.Cluster().GetPools() {
		var u runtime.PoolUsage
		u.Capacity, u.Allocated, u.Free = c.Usage(p.GetName())
		m.usage[p.GetName()] = u
	}
}

// keep takes in a turn that is durable, and tells the listeners.
func (m *memory) keep(c *core.Core, eff core.Effects) {
	changed := map[string]appName{}
	leases := false
	m.mu.Lock()
	m.sandboxes.keep(c, eff.Changed.Slots, eff.Changed.Agents)
	m.executors.keep(c, eff.Changed.Agents)
	for _, key := range eff.Changed.Slots {
		changed[key.AppUID] = m.name(key.AppUID)
		m.keepInstance(c, key)
	}
	for _, at := range eff.Changed.Addresses {
		m.keepAddress(c, at)
	}
	for _, w := range eff.Writes {
		if uid, ok := strings.CutPrefix(w.Key, record.PrefixApp); ok {
			changed[uid] = m.name(uid)
			m.keepApp(c, uid)
		}
		leases = leases || w.Key == record.KeyCluster || strings.HasPrefix(w.Key, record.PrefixLease)
	}
	if leases {
		m.keepUsage(c)
	}
	for uid, before := range changed {
		if before == (appName{}) {
			changed[uid] = m.name(uid)
		}
	}
	listeners := m.listeners
	m.mu.Unlock()
	for _, uid := range slices.Sorted(maps.Keys(changed)) {
		for _, l := range listeners {
			if l.ctx.Err() == nil {
				l.f(changed[uid].namespace, changed[uid].name, uid)
			}
		}
	}
}

// appName is the name of an App, for listeners.
type appName struct{ namespace, name string }

// name finds the name of an App by its uid; empty if nothing is known of it.
func (m *memory) name(uid string) appName {
	if w := m.apps[uid]; w != nil {
		return appName{w.GetNamespace(), w.GetName()}
	}
	for _, i := range m.instances[uid] {
		return appName{i.Namespace, i.Status.App}
	}
	return appName{}
}

// listener hears of changes until its context ends.
type listener struct {
	ctx context.Context
	f   func(namespace, app, uid string)
}

// OnChange has f called after each durable turn that changed what is wanted of an App, or one of its instances or
// addresses, until ctx ends. f must return at once.
func (l *Loop) OnChange(ctx context.Context, f func(namespace, app, uid string)) {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	alive := slices.DeleteFunc(slices.Clone(l.memory.listeners), func(o listener) bool { return o.ctx.Err() != nil })
	l.memory.listeners = append(alive, listener{ctx, f})
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
func (l *Loop) Usage(pool string) runtime.PoolUsage {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.usage[pool]
}

// NetworkStates says how networks fare on the hosts that have them, by network. They must not be changed.
func (l *Loop) NetworkStates() map[string][]runtime.HostNetworkState {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.networks
}

// Foreign lists the addresses of pools that somebody uses who does not hold them. They must not be changed.
func (l *Loop) Foreign() []runtime.ForeignAddress {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.foreign
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
