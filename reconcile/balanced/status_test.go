package balanced

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/rollout"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden statuses anew")

// running gives the facts of two directors that announce both VIPs to r1 and r2, and three real servers that serve.
func running(t testing.TB) Facts {
	in := input(t)
	wanted, refusal := Wanted(in)
	if refusal != nil {
		t.Fatal(refusal)
	}
	vips, directors := []string{"198.51.100.10", "198.51.100.1"}, []string{"web-director-0", "web-director-1"}
	b := &runtime.Balance{UID: "u1", Namespace: "shop", Name: "web", Number: 4}
	for _, v := range vips {
		b.VIPs = append(b.VIPs, runtime.BalanceVIP{Pool: "vips", Address: v, Announcing: directors})
	}
	for i, d := range directors {
		b.Directors = append(b.Directors, runtime.BalanceDirector{
			Instance: d, Host: fmt.Sprint("host-", i), Address: fmt.Sprint("10.44.9.", i), Phase: "Running", Ready: true, Number: 4, Dataplane: "tcx", Announced: vips,
			Sessions: []runtime.DirectorSession{{Peer: "r1", Address: "10.44.0.1", Established: true, BFD: "up"}, {Peer: "r2", Address: "10.44.0.2", Established: true}},
		})
	}
	for i := range 3 {
		b.Servers = append(b.Servers, runtime.BalanceServer{Instance: fmt.Sprint("web-", i), Host: "host-0", State: serving, Weight: 100, Slots: 1364, Table: 4093})
	}
	return Facts{
		Balancer: in.Balancer, View: in.View, Wanted: wanted, Balance: b,
		Directors: v1alpha1.AppStatus{Replicas: 2, RunningReplicas: 2, ReadyReplicas: 2, Conditions: []metav1.Condition{{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionTrue, Reason: padisv1.ReasonReady, Message: "2 instances ready"}}},
	}
}

func notReady(f *Facts, ready int32, message string) {
	f.Directors.ReadyReplicas, f.Directors.RunningReplicas = ready, ready
	f.Directors.Conditions[0] = metav1.Condition{Type: v1alpha1.ConditionAvailable, Status: metav1.ConditionFalse, Reason: padisv1.ReasonInsufficientCPU, Message: message}
}

func silent(f *Facts) {
	for i := range f.Balance.VIPs {
		f.Balance.VIPs[i].Announcing = nil
	}
	for i := range f.Balance.Directors {
		f.Balance.Directors[i].Announced = nil
	}
}

func text(s v1alpha1.LoadBalancerStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "vips %q, servers %s (%d serving, %d draining, %d suspect, %d waiting), directors %s, sessions %s\n",
		s.Addresses, s.Servers.Summary, s.Servers.Serving, s.Servers.Draining, s.Servers.Suspect, s.Servers.Waiting, s.Directors.Summary, s.Sessions)
	for _, v := range s.VIPs {
		if v.Reason != "" {
			fmt.Fprintf(&b, "  vip %s %s by %d %v: %s: %s\n", v.Pool, v.Address, v.Announcing, v.AnnouncedBy, v.Reason, v.Message)
		}
	}
	for _, v := range s.Servers.Instances {
		if v.Reason != "" {
			fmt.Fprintf(&b, "  server %s %s %s: %s: %s\n", v.Instance, v.State, v.Share, v.Reason, v.Message)
		}
	}
	for _, c := range s.Conditions {
		fmt.Fprintf(&b, "  %s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return b.String()
}

// Each case is told against the state in which all is well, with the events that the change makes.
func TestStatuses(t *testing.T) {
	var out strings.Builder
	well := Status(running(t))
	fmt.Fprintf(&out, "# all is well\n%s", text(well))
	for _, e := range Transitions(v1alpha1.LoadBalancerStatus{}, well) {
		fmt.Fprintf(&out, "  event %s\n", e)
	}
	for _, c := range []struct {
		name   string
		change func(*Facts)
	}{
		{"refused, never accepted", func(f *Facts) {
			f.Wanted, f.Balance, f.Directors = nil, nil, v1alpha1.AppStatus{}
			f.Refusal = &rollout.Refusal{Reason: padisv1.ReasonPoolNotFound, Message: `spec.vips[0].pool: there is no IPPool "vips": create it, or name another`}
		}},
		{"refused, accepted before", func(f *Facts) {
			f.Refusal = &rollout.Refusal{Reason: padisv1.ReasonPeerNotFound, Message: `spec.bgp.peers: there is no BGPPeer "r9": create it, or name another`}
		}},
		{"the scheduler cannot", func(f *Facts) {
			f.Balance.Problem = "the tables of 65537 slots are larger than a message: create a LoadBalancer with a smaller tableSize"
		}},
		{"new", func(f *Facts) { f.Balance = nil; notReady(f, 0, "2 of 2 instances are not ready: Starting") }},
		{"no routers", func(f *Facts) {
			silent(f)
			f.Wanted.Announcement.Peers = nil
			for i := range f.Balance.Directors {
				f.Balance.Directors[i].Sessions = nil
			}
		}},
		{"no address", func(f *Facts) {
			f.Balance.VIPs[1] = runtime.BalanceVIP{Pool: "vips", Reason: padisv1.ReasonPoolExhausted, Message: "pool vips is full: extend it"}
			for i := range f.Balance.Directors {
				f.Balance.Directors[i].Announced = f.Balance.Directors[i].Announced[:1]
			}
		}},
		{"too few servers", func(f *Facts) {
			silent(f)
			f.Wanted.MinServers = 3
			f.Balance.Servers[0].State, f.Balance.Servers[0].Reason, f.Balance.Servers[0].Message = suspect, padisv1.ReasonCheckFailed, "tcp 80: connection refused, by 2 of 2 directors"
		}},
		{"no backends", func(f *Facts) {
			silent(f)
			f.Balance.Servers = nil
			f.Balance.Backends = []runtime.BalanceBackend{{Index: 1, Reason: padisv1.ReasonNoBackends, Message: `no App has the labels tier=canary: deploy it, or correct the selector`}}
		}},
		{"a server drains, another joins", func(f *Facts) {
			f.Balance.Servers[0].State, f.Balance.Servers[0].Reason = draining, padisv1.ReasonDraining
			f.Balance.Servers = append(f.Balance.Servers, runtime.BalanceServer{Instance: "web-3", State: waiting, Reason: padisv1.ReasonJoining, Message: "hosts are being told"})
		}},
		{"a server is out of reach, a backend cannot be", func(f *Facts) {
			f.Balance.Servers[2].State, f.Balance.Servers[2].Reason, f.Balance.Servers[2].Message = suspect, padisv1.ReasonHostSilent, "host-0 has not answered for 2s"
			f.Balance.Backends = []runtime.BalanceBackend{{Index: 2, Reason: padisv1.ReasonBackendUnreachable, Message: "app old has no address in network data"}}
		}},
		{"no directors wanted", func(f *Facts) {
			silent(f)
			f.Balance.Directors = nil
			zero := int32(0)
			f.Balancer = f.Balancer.DeepCopy()
			f.Balancer.Spec.Directors.Replicas = &zero
			f.Directors = v1alpha1.AppStatus{}
		}},
		{"no director fits", func(f *Facts) {
			silent(f)
			f.Balance.Directors = nil
			notReady(f, 0, "2 of 2 instances are not ready: web-director-0, web-director-1 InsufficientCPU: no agent has 100m; see padis why app/web-director -n shop")
		}},
		{"one director does not fit", func(f *Facts) {
			f.Balance.Directors = f.Balance.Directors[:1]
			f.Balance.VIPs[0].Announcing, f.Balance.VIPs[1].Announcing = []string{"web-director-0"}, []string{"web-director-0"}
			notReady(f, 1, "1 of 2 instances is not ready: web-director-1 InsufficientCPU: no agent has 100m; see padis why app/web-director -n shop")
		}},
		{"a dataplane does not work", func(f *Facts) {
			d := &f.Balance.Directors[1]
			d.Announced, d.Reason, d.Message = nil, padisv1.ReasonDataplaneUnavailable, "xdp does not work on eth0: choose another dataplane"
		}},
		{"a router refuses", func(f *Facts) {
			silent(f)
			for i := range f.Balance.Directors {
				for k := range f.Balance.Directors[i].Sessions {
					f.Balance.Directors[i].Sessions[k].Established, f.Balance.Directors[i].Sessions[k].Message = false, "the router is of another autonomous system: 64501"
				}
			}
		}},
		{"one session is down", func(f *Facts) {
			f.Balance.Directors[1].Sessions[1].Established, f.Balance.Directors[1].Sessions[1].Message = false, "connection refused"
		}},
		{"BFD is down", func(f *Facts) { f.Balance.Directors[0].Sessions[0].BFD = "down" }},
		{"more directors than paths", func(f *Facts) {
			three := int32(3)
			f.Balancer = f.Balancer.DeepCopy()
			f.Balancer.Spec.Directors.Replicas = &three
			more := f.Balance.Directors[1]
			more.Instance = "web-director-2"
			f.Balance.Directors = append(f.Balance.Directors, more)
			f.Directors.ReadyReplicas = 3
		}},
		{"a host without relay", func(f *Facts) {
			f.Balance.Hosts = []runtime.BalanceHost{{Host: "host-0", Number: 4}, {Host: "host-1", Reason: padisv1.ReasonRelayUnavailable, Message: "the kernel has no tcx: use Linux 6.6 or newer"}}
		}},
		{"directors place by load", func(f *Facts) {
			f.Balancer = f.Balancer.DeepCopy()
			f.Balancer.Spec.Scheduler = v1alpha1.SchedulerWeightedLeastConnection
		}},
		{"directors count connections", func(f *Facts) {
			f.Balancer = f.Balancer.DeepCopy()
			f.Balancer.Spec.MaxConnections = 100
		}},
		{"a director forwards by IPVS", func(f *Facts) { f.Balance.Directors[1].Dataplane = "ipvs" }},
		{"a segment with small packets", func(f *Facts) {
			n := f.View.Network(f.View.Pool(f.Balancer.Spec.Directors.Networks[0].Pool).Spec.Network)
			n.Spec.MTU = 1400
		}},
		{"leaving", func(f *Facts) { f.Leaving = true; silent(f); f.Directors.ReadyReplicas = 0 }},
	} {
		f := running(t)
		c.change(&f)
		s := Status(f)
		fmt.Fprintf(&out, "\n# %s\n%s", c.name, text(s))
		for _, e := range Transitions(well, s) {
			fmt.Fprintf(&out, "  event %s\n", e)
		}
		for _, e := range Transitions(s, well) {
			fmt.Fprintf(&out, "  and back: event %s\n", e)
		}
	}
	const golden = "testdata/statuses.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("differs from %s (go test -update writes it anew):\n%s", golden, out.String())
	}
}

// Whatever the scheduler says: counts add up, each condition has a reason and a message, nothing is said to be announced that is
// not, the lists are bounded, the order in which the scheduler lists things does not matter, and no change is no event.
func TestStatusesHoldTogether(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := running(t)
		b := f.Balance
		b.Servers = nil
		for i := range rapid.IntRange(0, 130).Draw(rt, "servers") {
			s := runtime.BalanceServer{Instance: fmt.Sprint("web-", i), State: rapid.SampledFrom([]string{serving, draining, suspect, waiting}).Draw(rt, "state"), Table: 4093}
			if s.State != serving {
				s.Reason = rapid.SampledFrom([]string{"", padisv1.ReasonJoining, padisv1.ReasonCheckFailed}).Draw(rt, "reason")
			}
			b.Servers = append(b.Servers, s)
		}
		for i := range b.VIPs {
			if rapid.Bool().Draw(rt, "silent") {
				b.VIPs[i].Announcing = nil
			}
			if rapid.Bool().Draw(rt, "unleased") {
				b.VIPs[i] = runtime.BalanceVIP{Pool: "vips", Reason: padisv1.ReasonPoolExhausted, Message: "full"}
			}
		}
		for i := range b.Directors {
			b.Directors[i].Sessions[0].Established = rapid.Bool().Draw(rt, "session")
		}
		s := Status(f)
		if n := s.Servers.Serving + s.Servers.Draining + s.Servers.Suspect + s.Servers.Waiting; int(n) != len(b.Servers) || len(s.Servers.Instances) > v1alpha1.MaxListed {
			rt.Fatalf("%d of %d servers counted, %d listed", n, len(b.Servers), len(s.Servers.Instances))
		}
		announced := true
		for _, v := range s.VIPs {
			announced = announced && v.Announcing > 0
			if (v.Announcing == 0) != (v.Reason != "") {
				rt.Fatalf("vip %+v", v)
			}
		}
		for _, c := range s.Conditions {
			if c.Reason == "" || c.Message == "" || c.ObservedGeneration != f.Balancer.Generation {
				rt.Fatalf("%+v", c)
			}
			if c.Type == v1alpha1.ConditionAnnounced && (c.Status == metav1.ConditionTrue) != announced {
				rt.Fatalf("%+v, but %+v", c, s.VIPs)
			}
		}
		if e := Transitions(s, s); len(e) > 0 {
			rt.Fatalf("%v", e)
		}
		b.Servers = rapid.Permutation(b.Servers).Draw(rt, "order")
		b.Directors = rapid.Permutation(b.Directors).Draw(rt, "directors")
		if again := Status(f); text(again) != text(s) {
			rt.Fatalf("%s\nin another order\n%s", text(s), text(again))
		}
	})
}
