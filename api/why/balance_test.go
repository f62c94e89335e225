package why

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func sessions(up bool, why string) []runtime.DirectorSession {
	return []runtime.DirectorSession{{Peer: "tor", Address: "10.44.0.1", Established: up, Message: why, BFD: "up"}}
}

// balanced is a LoadBalancer where all is as it should be.
func balanced() BalanceSnapshot {
	two, ten := int32(2), int32(10)
	lb := &v1alpha1.LoadBalancer{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 3}}
	lb.Spec.Directors.Replicas = &two
	lb.Spec.Backends = []v1alpha1.Backend{{App: "web"}, {Selector: &v1alpha1.BackendSelector{MatchLabels: map[string]string{"tier": "web", "canary": "yes"}}, Percent: &ten}}
	lb.Status.ObservedGeneration = 3
	lb.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionAccepted, "True", padisv1.ReasonAccepted, ""), condition(v1alpha1.ConditionAnnounced, "True", padisv1.ReasonAnnounced, "")}
	b := &runtime.Balance{
		Namespace: "shop", Name: "web", Number: 17,
		VIPs: []runtime.BalanceVIP{{Pool: "vips", Address: "192.0.2.10", Announcing: []string{"web-director-0", "web-director-1"}}},
		Servers: []runtime.BalanceServer{
			{Instance: "web-0", Host: "host-1", State: "serving", Weight: 100, Slots: 2046, Table: 4093},
			{Instance: "web-1", Host: "host-2", State: "serving", Weight: 100, Slots: 2047, Table: 4093},
		},
		Directors: []runtime.BalanceDirector{
			{Instance: "web-director-0", Host: "host-1", Ready: true, Number: 17, Dataplane: "tcx", Announced: []string{"192.0.2.10"}, Sessions: sessions(true, "")},
			{Instance: "web-director-1", Host: "host-2", Ready: true, Number: 17, Dataplane: "tcx", Announced: []string{"192.0.2.10"}, Sessions: sessions(true, "")},
		},
		Hosts: []runtime.BalanceHost{{Host: "host-1", Number: 17}, {Host: "host-2", Number: 17}},
	}
	directors := []runtime.Instance{ready(0), ready(1)}
	for n := range directors {
		directors[n].Name, directors[n].Status.App = fmt.Sprintf("web-director-%d", n), "web-director"
	}
	return BalanceSnapshot{Now: now, LoadBalancer: lb, Balance: b, Directors: directors}
}

// troubled has one of each thing that can be wrong.
func troubled() BalanceSnapshot {
	s := balanced()
	lb, b := s.LoadBalancer, s.Balance
	lb.Generation = 4
	lb.Status.Conditions[1] = condition(v1alpha1.ConditionAnnounced, "False", padisv1.ReasonTooFewServers, "1 of 2 real servers are in rotation, minServers is 2")
	b.Number = 18
	b.VIPs[0].Announcing = []string{"web-director-0"}
	b.VIPs = append(b.VIPs,
		runtime.BalanceVIP{Pool: "vips", Reason: padisv1.ReasonPoolExhausted, Message: "pool vips has no free address"},
		runtime.BalanceVIP{Pool: "vips", Address: "192.0.2.11"})
	for n := 2; n < 4; n++ {
		b.Servers = append(b.Servers, runtime.BalanceServer{Instance: fmt.Sprintf("web-%d", n), State: "suspect", Reason: padisv1.ReasonHostSilent, Message: "host-3 has not answered for 5s"})
	}
	b.Servers = append(b.Servers,
		runtime.BalanceServer{Instance: "web-4", State: "draining", Reason: padisv1.ReasonDraining, Message: "12 connections, at most 28s more"},
		runtime.BalanceServer{Instance: "web-5", State: "waiting", Reason: padisv1.ReasonJoining, Message: "its host has not configured the VIPs yet"})
	b.Directors[0].Failures = []runtime.ServerFailure{{Instance: "web-1", Message: "connection refused"}}
	b.Directors[0].Number = 18
	b.Directors[1].Sessions = sessions(false, "the router says it is AS 64501, not AS 64500")
	b.Directors[1].Reason, b.Directors[1].Message = padisv1.ReasonDataplaneUnavailable, "ipvs: the kernel has no ip_vs"
	b.Directors[1].Draining = true
	b.Directors = append(b.Directors, runtime.BalanceDirector{Instance: "web-director-2", Host: "host-3", Number: 18,
		Sessions: []runtime.DirectorSession{{Peer: "tor", Address: "10.44.0.1", Established: true, BFD: "down"}}})
	b.Hosts[1] = runtime.BalanceHost{Host: "host-2", Number: 18, Reason: padisv1.ReasonRelayUnavailable, Message: "tcx: invalid argument"}
	b.Hosts[0].Number = 17
	b.Backends = []runtime.BalanceBackend{{Index: 0}, {Index: 1, Reason: padisv1.ReasonNoBackends, Message: "no App has these labels"}}
	s.Directors[1].Status.Ready, s.Directors[1].Status.Reason = false, padisv1.ReasonUnhealthy
	s.Events = []Event{{Object: "LoadBalancer/web", Type: "Warning", Reason: padisv1.ReasonTooFewServers, Message: "1 of 2", Count: 2, Last: now.Add(-time.Minute)}}
	return s
}

// Whatever is known of it, the answer names each real server that is out of rotation, or says that there are more.
func TestAnyBalance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := balanced()
		s.Balance.Servers = nil
		for n := range rapid.IntRange(0, 40).Draw(t, "servers") {
			s.Balance.Servers = append(s.Balance.Servers, runtime.BalanceServer{
				Instance: fmt.Sprintf("web-%d", n),
				State:    rapid.SampledFrom([]string{"serving", "draining", "suspect", "waiting"}).Draw(t, "state"),
				Reason:   rapid.SampledFrom([]string{"", padisv1.ReasonCheckFailed, "New"}).Draw(t, "reason"),
				Message:  rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "message"),
			})
		}
		text := LoadBalancer(s).String()
		if text != LoadBalancer(s).String() {
			t.Fatal("two answers to one question")
		}
		names := map[string]bool{}
		for _, word := range strings.Fields(text) {
			names[word] = true
		}
		for _, r := range s.Balance.Servers {
			if !names[r.Instance] && !strings.Contains(text, " more") {
				t.Fatalf("%s is not mentioned:\n%s", r.Instance, text)
			}
		}
	})
}
