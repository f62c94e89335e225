package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/proto"
)

// WantBalancer implements the scheduler.
func (s *Scheduler) WantBalancer(_ context.Context, b *padisv1.WantedBalancer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	var vips, peers []string
	for _, v := range b.Vips {
		vips = append(vips, strings.TrimSuffix(v.Pool+"/"+v.Address, "/"))
	}
	for _, p := range b.GetAnnouncement().GetPeers() {
		peers = append(peers, p.Name)
	}
	s.say("want balancer %s/%s of tenant %q, generation %d: vips %s, %d listeners, %d backends, %s of %d slots with seed %d, told to %v",
		b.Namespace, b.Name, b.Tenant, b.Generation, strings.Join(vips, " "), len(b.Listeners), len(b.Backends), b.Scheduler, b.TableSize, b.Seed, peers)
	if s.balancers == nil {
		s.balancers = map[string]*padisv1.WantedBalancer{}
	}
	s.balancers[b.Uid] = proto.CloneOf(b)
	return nil
}

// ForgetBalancer implements the scheduler.
func (s *Scheduler) ForgetBalancer(_ context.Context, uid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	s.say("forget balancer %s/%s", s.balancers[uid].GetNamespace(), s.balancers[uid].GetName())
	delete(s.balancers, uid)
	delete(s.balances, uid)
	return nil
}

// Balancer implements the scheduler.
func (s *Scheduler) Balancer(uid string) *padisv1.WantedBalancer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.balancers[uid]
}

// Balancers implements the scheduler.
func (s *Scheduler) Balancers() []*padisv1.WantedBalancer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*padisv1.WantedBalancer
	for _, b := range s.balancers {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b *padisv1.WantedBalancer) int { return strings.Compare(a.Uid, b.Uid) })
	return out
}

// Balance implements the scheduler.
func (s *Scheduler) Balance(uid string) *runtime.Balance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.balances[uid]
}

// Balanced sets how it stands with a LoadBalancer, and tells whoever watches.
func (s *Scheduler) Balanced(b *runtime.Balance) {
	s.mu.Lock()
	if s.balances == nil {
		s.balances = map[string]*runtime.Balance{}
	}
	s.balances[b.UID] = b
	told := slices.Clone(s.watchers)
	s.mu.Unlock()
	for _, w := range told {
		if w.ctx.Err() == nil {
			w.f(b.Namespace, b.Name, b.UID)
		}
	}
}

// InRotation gives a Balance in which every VIP has an address that all directors that run announce to all routers, and n real
// servers serve.
func (s *Scheduler) InRotation(uid string, n int) *runtime.Balance {
	w := s.Balancer(uid)
	out := &runtime.Balance{UID: uid, Namespace: w.Namespace, Name: w.Name, Number: 1}
	for i := range n {
		out.Servers = append(out.Servers, runtime.BalanceServer{
			ID: fmt.Sprint(i), Instance: fmt.Sprintf("web-%d", i), Host: "host-1", State: "serving", Weight: 100, Slots: int32(w.TableSize) / int32(n), Table: int32(w.TableSize),
		})
	}
	var announced, directors []string
	for i, v := range w.Vips {
		address := v.Address
		if address == "" {
			address = fmt.Sprintf("198.51.100.%d", i+1)
		}
		announced = append(announced, address)
		out.VIPs = append(out.VIPs, runtime.BalanceVIP{Pool: v.Pool, Address: address})
	}
	for _, in := range s.Instances(uid) {
		if in.Status.Phase != "Running" {
			continue
		}
		d := runtime.BalanceDirector{
			Instance: in.Name, Host: in.Status.Host, Phase: in.Status.Phase, Ready: in.Status.Ready, Number: 1, Dataplane: "tcx", Announced: announced,
		}
		for _, p := range w.Announcement.Peers {
			d.Sessions = append(d.Sessions, runtime.DirectorSession{Peer: p.Name, Address: p.Router.Address, Established: true})
		}
		directors = append(directors, in.Name)
		out.Directors = append(out.Directors, d)
	}
	for i := range out.VIPs {
		out.VIPs[i].Announcing = directors
	}
	return out
}
