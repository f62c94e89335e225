package scheduler

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/project"
	"padis.io/padis/scheduler/record"
)

// memory is what the core knew after the last durable turn, for readers in other goroutines: the core itself belongs to
// the loop. What it hands out is never changed afterwards.
type memory struct {
	mu   sync.RWMutex
	apps map[string]*padisv1.WantedApp
	// named has the uids of apps by their names.
	named     map[appName][]string
	instances map[string]map[int32]*runtime.Instance
	addresses map[core.Address]*runtime.Address
	usage     map[string]runtime.PoolUsage
	networks  map[string][]runtime.HostNetworkState
	// speaking are the agents whose executors said something of networks.
	speaking  map[string]bool
	foreign   []runtime.ForeignAddress
	sandboxes sandboxes
	executors executors
	balancers balancers
	listeners []listener
}

func newMemory(c *core.Core) *memory {
	m := &memory{
		apps: map[string]*padisv1.WantedApp{}, named: map[appName][]string{}, instances: map[string]map[int32]*runtime.Instance{},
		addresses: map[core.Address]*runtime.Address{}, usage: map[string]runtime.PoolUsage{}, speaking: map[string]bool{},
		sandboxes: newSandboxes(), executors: newExecutors(), balancers: newBalancers(),
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
	m.keepAddresses(c, c.Addresses())
	m.keepNetworks(c, agents)
	m.balancers.keep(c, c.Balancers())
	m.keepUsage(c)
	return m
}

func (m *memory) keepApp(c *core.Core, uid string) {
	was, app := m.apps[uid], c.App(uid)
	switch {
	case app == nil && was == nil:
	case app == nil:
		delete(m.apps, uid)
		n := appName{was.GetNamespace(), was.GetName()}
		if m.named[n] = slices.DeleteFunc(m.named[n], func(other string) bool { return other == uid }); len(m.named[n]) == 0 {
			delete(m.named, n)
		}
	default:
		m.apps[uid] = app
		if n := (appName{app.GetNamespace(), app.GetName()}); was == nil {
			m.named[n] = append(m.named[n], uid)
		}
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

func (m *memory) keepAddresses(c *core.Core, changed []core.Address) {
	for _, at := range changed {
		if a := address(c, at); a != nil {
			m.addresses[at] = a
		} else {
			delete(m.addresses, at)
		}
	}
	if len(changed) == 0 {
		return
	}
	m.foreign = nil
	for _, f := range c.ForeignAddresses() {
		m.foreign = append(m.foreign, runtime.ForeignAddress{Network: f.Network, Address: f.Address.Address, Who: f.Who})
	}
}

// address shows one address that is allocated, cooling or foreign; nil if it is none of these.
func address(c *core.Core, at core.Address) *runtime.Address {
	switch st, _ := c.AddressState(at); st.State {
	case ipam.Allocated, ipam.Cooling:
		return project.Address(st.Lease, st.Host, st.Conflict)
	case ipam.Foreign:
		return project.Foreign(at.Network, poolOf(c.Cluster(), at), at.Address, st.Note, 0)
	default:
		return nil
	}
}

// poolOf is the first pool of the address's network that has it in its subnet; empty if none has.
func poolOf(cluster *padisv1.Cluster, at core.Address) string {
	a, err := netip.ParseAddr(at.Address)
	if err != nil {
		return ""
	}
	for _, p := range cluster.GetPools() {
		if cidr, err := netip.ParsePrefix(p.GetCidr()); err == nil && p.GetNetwork() == at.Network && cidr.Contains(a) {
			return p.GetName()
		}
	}
	return ""
}

// keepNetworks takes in what hosts say of their networks, if one of those that changed says or said anything.
func (m *memory) keepNetworks(c *core.Core, changed []string) {
	touched := false
	for _, id := range changed {
		a, _ := c.Agent(id)
		speaks := len(a.Says.GetNetworks()) > 0
		touched = touched || speaks || m.speaking[id]
		if speaks {
			m.speaking[id] = true
		} else {
			delete(m.speaking, id)
		}
	}
	if !touched {
		return
	}
	m.networks = map[string][]runtime.HostNetworkState{}
	for network, states := range c.NetworkStates() {
		for _, st := range states {
			host := runtime.HostNetworkState{Host: st.Host, Reason: st.State.GetReason(), Message: st.State.GetMessage()}
			for _, b := range st.State.GetSessions() {
				host.Sessions = append(host.Sessions, runtime.BGPSession{Peer: b.GetPeer(), Established: b.GetEstablished(), Message: b.GetMessage()})
			}
			m.networks[network] = append(m.networks[network], host)
		}
	}
}

func (m *memory) keepUsage(c *core.Core) {
	clear(m.usage)
	for _, p := range c.Cluster().GetPools() {
		u := c.Utilisation(p.GetName())
		m.usage[p.GetName()] = runtime.PoolUsage{Capacity: u.Capacity, Allocated: u.Allocated, Cooling: u.Cooling, Free: u.Free}
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
	m.keepAddresses(c, eff.Changed.Addresses)
	m.keepNetworks(c, eff.Changed.Agents)
	balanced := m.balancers.keep(c, eff.Changed.Balancers)
	for _, w := range eff.Writes {
		if uid, ok := strings.CutPrefix(w.Key, record.PrefixApp); ok {
			changed[uid] = m.name(uid)
			m.keepApp(c, uid)
		}
		leases = leases || w.Key == record.KeyCluster || strings.HasPrefix(w.Key, record.PrefixLease)
	}
	if leases || len(eff.Changed.Addresses) > 0 {
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
	for _, uid := range eff.Changed.Balancers {
		for _, l := range listeners {
			if l.ctx.Err() == nil {
				l.f(balanced[uid].namespace, balanced[uid].name, uid)
			}
		}
	}
}

// appName is the name of an App.
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
// addresses, or of a LoadBalancer or how it stands, until ctx ends. f must return at once.
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

// WantedNamed lists those of a name. There may be several while those that were forgotten end.
func (l *Loop) WantedNamed(namespace, name string) []*padisv1.WantedApp {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	var out []*padisv1.WantedApp
	for _, uid := range l.memory.named[appName{namespace, name}] {
		out = append(out, l.memory.apps[uid])
	}
	return out
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

// Addresses lists the addresses of a pool that instances hold, by address. They must not be changed.
func (l *Loop) Addresses(pool string) []*runtime.Address {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	var out []*runtime.Address
	for _, a := range l.memory.addresses {
		if a.Status.Pool == pool && a.Status.State == runtime.AddressAllocated {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b *runtime.Address) int {
		x, _ := netip.ParseAddr(a.Status.Address)
		y, _ := netip.ParseAddr(b.Status.Address)
		return x.Compare(y)
	})
	return out
}
