package scheduler

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/project"
)

// balancers is what the memory knows of LoadBalancers.
type balancers struct {
	wanted map[string]*padisv1.WantedBalancer
	shown  map[string]*runtime.Balance
	// views are what shown was made of, for flows that are asked for.
	views map[string]balance.View
}

func newBalancers() balancers {
	return balancers{wanted: map[string]*padisv1.WantedBalancer{}, shown: map[string]*runtime.Balance{}, views: map[string]balance.View{}}
}

// keep takes in those that have changed, and returns how they are called, also if they are gone.
func (m *balancers) keep(c *core.Core, changed []string) map[string]appName {
	names := make(map[string]appName, len(changed))
	for _, uid := range changed {
		before := m.wanted[uid]
		if w := c.Balancer(uid); w != nil {
			before = w
			m.wanted[uid] = w
		} else {
			delete(m.wanted, uid)
		}
		if v, ok := c.Balance(uid); ok {
			m.views[uid], m.shown[uid] = v, project.Balance(v)
		} else {
			delete(m.views, uid)
			delete(m.shown, uid)
		}
		names[uid] = appName{before.GetNamespace(), before.GetName()}
	}
	return names
}

// WantBalancer replaces what is wanted of one LoadBalancer; it returns when that is durable. Its directors are wanted by Want.
func (l *Loop) WantBalancer(ctx context.Context, b *padisv1.WantedBalancer) error {
	return l.ask(ctx, core.WantBalancer{Balancer: proto.CloneOf(b)})
}

// ForgetBalancer ends a LoadBalancer. It returns when that is durably decided, which is before it is done: until Balancer
// returns nil, its VIPs may be in use.
func (l *Loop) ForgetBalancer(ctx context.Context, uid string) error {
	return l.ask(ctx, core.ForgetBalancer{UID: uid})
}

// Balancer is what is wanted of one LoadBalancer, durably; nil if nothing is left of it. It must not be changed.
func (l *Loop) Balancer(uid string) *padisv1.WantedBalancer {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.balancers.wanted[uid]
}

// Balancers lists what is wanted of all LoadBalancers, by uid. They must not be changed.
func (l *Loop) Balancers() []*padisv1.WantedBalancer {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return slices.SortedFunc(maps.Values(l.memory.balancers.wanted), func(a, b *padisv1.WantedBalancer) int { return cmp.Compare(a.GetUid(), b.GetUid()) })
}

// Balance says how it stands with one LoadBalancer; nil before it was looked at. It must not be changed.
func (l *Loop) Balance(uid string) *runtime.Balance {
	l.memory.mu.RLock()
	defer l.memory.mu.RUnlock()
	return l.memory.balancers.shown[uid]
}

// ErrNoBalance is what is said of LoadBalancers about which nothing was decided.
var ErrNoBalance = errors.New("nothing is known of this LoadBalancer yet; see its status, and try again")

// Trace finds the way of a flow from a client to a VIP, for which protocol is "tcp" or "udp".
func (l *Loop) Trace(uid string, client, vip netip.AddrPort, protocol string) (runtime.Trace, error) {
	l.memory.mu.RLock()
	v, ok := l.memory.balancers.views[uid]
	l.memory.mu.RUnlock()
	if !ok {
		return runtime.Trace{}, ErrNoBalance
	}
	return project.Trace(v, client, vip, protocol)
}
