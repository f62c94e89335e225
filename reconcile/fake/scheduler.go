// Package fake plays the scheduler in tests of the reconcilers: it does at once what it is told, tells it as text, and
// lets a test make instances live and die. Edge: talks to the callbacks of whoever watches it.
package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Capacity is the number of addresses of every pool.
const Capacity = 100

// Scheduler is a scheduler without Mesos. The zero value is ready. Safe for concurrent use.
type Scheduler struct {
	mu     sync.Mutex
	log    []string
	fail   error
	wanted map[string]*padisv1.WantedApp
	// named has the uids of all Apps that were ever wanted, by NAMESPACE/NAME.
	named   map[string][]string
	cluster *padisv1.Cluster
	pulls   map[string][]runtime.AgentImage
	upgrade runtime.Upgrade
	states  map[string][]runtime.HostNetworkState
	foreign []runtime.ForeignAddress
	cooling map[string]int64
	// instances by App and slot; pools is where an instance's addresses are from.
	instances map[string]map[int32]*instance
	watchers  []watcher

	balancers map[string]*padisv1.WantedBalancer
	balances  map[string]*runtime.Balance
}

type instance struct {
	shown runtime.Instance
	pools []string
}

type watcher struct {
	ctx context.Context
	f   func(namespace, app, uid string)
}

// Fail makes every following call that has to be durable fail with err, until it is nil again.
func (s *Scheduler) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// Log gives what was done since the last Log, one line each.
func (s *Scheduler) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := strings.Join(s.log, "")
	s.log = nil
	return text
}

func (s *Scheduler) say(format string, args ...any) {
	s.log = append(s.log, "scheduler: "+fmt.Sprintf(format, args...)+"\n")
}

// Want implements the scheduler.
func (s *Scheduler) Want(_ context.Context, w *padisv1.WantedApp) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	var slots []string
	for _, x := range w.Slots {
		slots = append(slots, fmt.Sprintf("%d=%s", x.Index, x.Revision))
	}
	s.say("want %s/%s of tenant %q, generation %d: %s", w.Namespace, w.Name, w.Tenant, w.Generation, strings.Join(slots, " "))
	if s.wanted == nil {
		s.wanted = map[string]*padisv1.WantedApp{}
		s.named = map[string][]string{}
		s.instances = map[string]map[int32]*instance{}
	}
	if name := w.Namespace + "/" + w.Name; !slices.Contains(s.named[name], w.Uid) {
		s.named[name] = append(s.named[name], w.Uid)
	}
	s.wanted[w.Uid] = proto.CloneOf(w)
	s.wanted[w.Uid].Forgotten = false
	s.wanted[w.Uid].AttemptFloor++
	if s.instances[w.Uid] == nil {
		s.instances[w.Uid] = map[int32]*instance{}
	}
	for _, x := range w.Slots {
		if s.instances[w.Uid][x.Index] == nil {
			in := &instance{}
			in.shown.ObjectMeta = metav1.ObjectMeta{Namespace: w.Namespace, Name: fmt.Sprintf("%s-%d", w.Name, x.Index)}
			in.shown.Status = runtime.InstanceStatus{App: w.Name, Slot: x.Index, Phase: "Pending", Reason: padisv1.ReasonNoOffers, Message: "no agent has offered resources yet"}
			s.instances[w.Uid][x.Index] = in
		}
	}
	s.stop(w.Uid)
	return nil
}

// stop shows as Stopping what is not wanted as it is.
func (s *Scheduler) stop(uid string) {
	revisions := s.revisions(uid)
	for i, in := range s.instances[uid] {
		if r := revisions[i]; r == nil || in.shown.Status.Revision != "" && in.shown.Status.Revision != r.Hash {
			in.shown.Status.Phase, in.shown.Status.Ready, in.shown.Status.Reason, in.shown.Status.Message = "Stopping", false, padisv1.ReasonStopping, "asked to end"
		}
	}
}

// revisions gives the revision wanted for each slot.
func (s *Scheduler) revisions(uid string) map[int32]*padisv1.Revision {
	out := map[int32]*padisv1.Revision{}
	if s.wanted[uid].GetForgotten() {
		return out
	}
	for _, x := range s.wanted[uid].GetSlots() {
		for _, r := range s.wanted[uid].Revisions {
			if r.Hash == x.Revision {
				out[x.Index] = r
			}
		}
	}
	return out
}

// Forget implements the scheduler.
func (s *Scheduler) Forget(_ context.Context, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.say("forget %s/%s", s.wanted[uid].GetNamespace(), s.wanted[uid].GetName())
	if w := s.wanted[uid]; w != nil {
		w = proto.CloneOf(w)
		w.Forgotten = true
		s.wanted[uid] = w
	}
	s.stop(uid)
	s.settle(uid)
	return nil
}

// settle drops what was forgotten once its last instance has ended.
func (s *Scheduler) settle(uid string) {
	if s.wanted[uid].GetForgotten() && len(s.instances[uid]) == 0 {
		delete(s.wanted, uid)
	}
}

// Declare implements the scheduler.
func (s *Scheduler) Declare(_ context.Context, c *padisv1.Cluster) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	var names []string
	for _, n := range c.Networks {
		names = append(names, "network "+n.Name)
	}
	for _, p := range c.Pools {
		names = append(names, "pool "+p.Name)
	}
	for _, t := range c.Tenants {
		names = append(names, fmt.Sprintf("tenant %s of %v", t.Name, t.Namespaces))
	}
	for _, r := range c.Registries {
		names = append(names, fmt.Sprintf("registry %s by %v", r.Host, r.Mirrors))
	}
	for _, p := range c.Prepulls {
		names = append(names, fmt.Sprintf("pull of %v for %s/%s with %d credentials", p.Images, p.Namespace, p.Name, len(p.Auths)))
	}
	if u := c.ExecutorUpgrade; u != nil {
		names = append(names, fmt.Sprintf("upgrade of executors to %q, %d at a time", u.ArtifactSha256, u.MaxParallel))
	}
	s.say("declare %s", strings.Join(names, ", "))
	s.cluster = c
	return nil
}

// Wanted implements the scheduler.
func (s *Scheduler) Wanted(uid string) *padisv1.WantedApp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted[uid]
}

// WantedApps implements the scheduler.
func (s *Scheduler) WantedApps() []*padisv1.WantedApp {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*padisv1.WantedApp
	for _, w := range s.wanted {
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b *padisv1.WantedApp) int { return strings.Compare(a.Uid, b.Uid) })
	return out
}

// WantedNamed implements the scheduler.
func (s *Scheduler) WantedNamed(namespace, name string) []*padisv1.WantedApp {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*padisv1.WantedApp
	for _, uid := range s.named[namespace+"/"+name] {
		if w := s.wanted[uid]; w != nil {
			out = append(out, w)
		}
	}
	return out
}

// Instances implements the scheduler.
func (s *Scheduler) Instances(uid string) []*runtime.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*runtime.Instance
	for _, in := range s.instances[uid] {
		out = append(out, in.shown.DeepCopy())
	}
	slices.SortFunc(out, func(a, b *runtime.Instance) int { return int(a.Status.Slot - b.Status.Slot) })
	return out
}

// Usage implements the scheduler.
func (s *Scheduler) Usage(pool string) runtime.PoolUsage {
	held := int64(len(s.Addresses(pool)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.cluster.GetPools() {
		if p.Name == pool {
			return runtime.PoolUsage{Capacity: Capacity, Allocated: held, Cooling: s.cooling[pool], Free: Capacity - held - s.cooling[pool]}
		}
	}
	return runtime.PoolUsage{}
}

// Cool sets how many addresses of a pool rest.
func (s *Scheduler) Cool(pool string, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cooling = map[string]int64{pool: n}
}

// Report sets how networks fare on their hosts, and which addresses others use.
func (s *Scheduler) Report(states map[string][]runtime.HostNetworkState, foreign ...runtime.ForeignAddress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.states, s.foreign = states, foreign
}

// NetworkStates implements the scheduler.
func (s *Scheduler) NetworkStates() map[string][]runtime.HostNetworkState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states
}

// Foreign implements the scheduler.
func (s *Scheduler) Foreign() []runtime.ForeignAddress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.foreign
}

// Addresses implements the scheduler.
func (s *Scheduler) Addresses(pool string) []*runtime.Address {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*runtime.Address
	for _, app := range s.instances {
		for _, in := range app {
			for n, p := range in.pools {
				if p == pool {
					out = append(out, &runtime.Address{Status: runtime.AddressStatus{
						Address: in.shown.Status.Addresses[n], Pool: p, State: runtime.AddressAllocated, Namespace: in.shown.Namespace, Instance: in.shown.Name}})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *runtime.Address) int { return strings.Compare(a.Status.Address, b.Status.Address) })
	return out
}

// Pulled sets what became of the images of an ImagePrepull.
func (s *Scheduler) Pulled(namespace, name string, images ...runtime.AgentImage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pulls == nil {
		s.pulls = map[string][]runtime.AgentImage{}
	}
	s.pulls[namespace+"/"+name] = images
}

// PrepullStates implements the scheduler.
func (s *Scheduler) PrepullStates(namespace, name string) []runtime.AgentImage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulls[namespace+"/"+name]
}

// Upgraded sets how far the replacement of executors is.
func (s *Scheduler) Upgraded(u runtime.Upgrade) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upgrade = u
}

// UpgradeStatus implements the scheduler.
func (s *Scheduler) UpgradeStatus() runtime.Upgrade {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upgrade
}

// OnChange implements the scheduler.
func (s *Scheduler) OnChange(ctx context.Context, f func(namespace, app, uid string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, watcher{ctx, f})
}

// Live makes every instance of the App run ready as it is wanted, and ends those that are not wanted.
func (s *Scheduler) Live(uid string) {
	s.each(uid, func(in *runtime.Instance, r *padisv1.Revision) bool {
		if r == nil {
			return false
		}
		in.Status.Phase, in.Status.Ready, in.Status.Revision, in.Status.Host = "Running", true, r.Hash, "host-1"
		in.Status.Reason, in.Status.Message = padisv1.ReasonReady, ""
		return true
	})
}

// Change lets f change the instance in a slot, and tells whoever watches.
func (s *Scheduler) Change(uid string, slot int32, f func(*runtime.InstanceStatus)) {
	s.each(uid, func(in *runtime.Instance, _ *padisv1.Revision) bool {
		if in.Status.Slot == slot {
			f(&in.Status)
		}
		return true
	})
}

// each calls f for every instance; where it gives false the instance ends.
func (s *Scheduler) each(uid string, f func(in *runtime.Instance, r *padisv1.Revision) bool) {
	s.mu.Lock()
	revisions := s.revisions(uid)
	var namespace, app string
	for i, in := range s.instances[uid] {
		namespace, app = in.shown.Namespace, in.shown.Status.App
		r := revisions[i]
		if !f(&in.shown, r) {
			delete(s.instances[uid], i)
			continue
		}
		if in.shown.Status.Revision != "" && r != nil {
			in.lease(i, r)
		}
	}
	s.settle(uid)
	told := slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, w := range told {
		if w.ctx.Err() == nil && app != "" {
			w.f(namespace, app, uid)
		}
	}
}

// lease gives a slot its fixed addresses, or ones made from its index.
func (in *instance) lease(slot int32, r *padisv1.Revision) {
	in.pools, in.shown.Status.Addresses = nil, nil
	for n, w := range r.Networks {
		if w.Network != "" {
			continue
		}
		address := fmt.Sprintf("10.44.%d.%d", n+1, slot+1)
		if int(slot) < len(w.Addresses) {
			address = w.Addresses[slot]
		}
		in.pools = append(in.pools, w.Pool)
		in.shown.Status.Addresses = append(in.shown.Status.Addresses, address)
	}
}
