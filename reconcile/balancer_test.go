package reconcile_test

import (
	"fmt"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/fake"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func getBalancer(t *testing.T, namespace, name string) *v1alpha1.LoadBalancer {
	t.Helper()
	var b v1alpha1.LoadBalancer
	if err := api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &b); err != nil {
		t.Fatal(err)
	}
	return &b
}

// balancerShows waits until a condition of a LoadBalancer has the status and the reason.
func balancerShows(t *testing.T, namespace, name, kind string, status metav1.ConditionStatus, reason string) *v1alpha1.LoadBalancer {
	t.Helper()
	var b *v1alpha1.LoadBalancer
	until(t, func() string {
		b = getBalancer(t, namespace, name)
		c := meta.FindStatusCondition(b.Status.Conditions, kind)
		if c == nil || c.Status != status || c.Reason != reason || c.ObservedGeneration != b.Generation {
			return fmt.Sprintf("loadbalancer %s/%s shows no %s=%s %s but %+v", namespace, name, kind, status, reason, b.Status)
		}
		return ""
	})
	return b
}

func peerShows(t *testing.T, name, kind string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	until(t, func() string {
		var p v1alpha1.BGPPeer
		if err := api.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil {
			return err.Error()
		}
		if c := meta.FindStatusCondition(p.Status.Conditions, kind); c == nil || c.Status != status || c.Reason != reason {
			return fmt.Sprintf("peer %s shows no %s=%s %s but %+v", name, kind, status, reason, p.Status)
		}
		return ""
	})
}

// directorsLive has the directors live as they are wanted, and the scheduler say that they announce.
func directorsLive(t *testing.T, sched *fake.Scheduler, uid string, count int) {
	t.Helper()
	until(t, func() string {
		sched.Live(uid)
		if n := len(sched.Instances(uid)); n != count {
			return fmt.Sprintf("%d of %d directors", n, count)
		}
		return ""
	})
	sched.Balanced(sched.InRotation(uid, 8))
}

// From the example to Announced, through a change and a router that refuses, to nothing left: with the real API server.
func TestALoadBalancerFromApplyToTheEnd(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, example(t, "web-shop.yaml"))
	apply(t, example(t, "balanced/web-shop.yaml"))
	balancerShows(t, "shop", "web", v1alpha1.ConditionAccepted, metav1.ConditionTrue, padisv1.ReasonAccepted)
	b := getBalancer(t, "shop", "web")
	uid := string(b.UID)
	directorsLive(t, sched, uid, 2)
	b = balancerShows(t, "shop", "web", v1alpha1.ConditionAnnounced, metav1.ConditionTrue, padisv1.ReasonAnnounced)
	if b.Status.Addresses != "192.0.2.10" || b.Status.Servers.Summary != "8/8" || b.Status.Directors.Summary != "2/2" || b.Status.Sessions != "2/2" {
		t.Errorf("status is %+v", b.Status)
	}
	peerShows(t, "router", v1alpha1.ConditionPeersUp, metav1.ConditionTrue, padisv1.ReasonReady)
	seed := sched.Balancer(uid).Seed
	if w := sched.Wanted(uid); !w.Directors || w.Name != "web-director" || seed == 0 {
		t.Errorf("wanted are %v with seed %d", w, seed)
	}

	// More directors, as kubectl patch does it. The seed stays.
	if err := api.Patch(t.Context(), b, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"directors":{"replicas":3}}}`))); err != nil {
		t.Fatal(err)
	}
	directorsLive(t, sched, uid, 3)
	balancerShows(t, "shop", "web", v1alpha1.ConditionRedundant, metav1.ConditionTrue, padisv1.ReasonReady)
	if sched.Balancer(uid).Seed != seed {
		t.Error("the seed changed")
	}

	// The router refuses, with a password that it does not have: it is told within a moment, at both ends.
	apply(t, `{apiVersion: v1, kind: Secret, metadata: {name: bgp, namespace: shop}, stringData: {password: p}}`)
	var peer v1alpha1.BGPPeer
	if err := api.Get(t.Context(), client.ObjectKey{Name: "router"}, &peer); err != nil {
		t.Fatal(err)
	}
	if err := api.Patch(t.Context(), &peer, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"passwordSecret":{"namespace":"shop","name":"bgp","key":"password"}}}`))); err != nil {
		t.Fatal(err)
	}
	until(t, func() string {
		if p := sched.Balancer(uid).GetAnnouncement().GetPeers(); len(p) != 1 || p[0].Router.Password != "p" {
			return fmt.Sprintf("directors are told %v", p)
		}
		return ""
	})
	refuses := sched.InRotation(uid, 8)
	for i := range refuses.VIPs {
		refuses.VIPs[i].Announcing = nil
	}
	for i := range refuses.Directors {
		d := &refuses.Directors[i]
		d.Announced, d.Sessions = nil, []runtime.DirectorSession{{Peer: "router", Address: "10.48.0.1", Message: "the router does not know the password"}}
	}
	sched.Balanced(refuses)
	balancerShows(t, "shop", "web", v1alpha1.ConditionAnnounced, metav1.ConditionFalse, padisv1.ReasonPeerDown)
	peerShows(t, "router", v1alpha1.ConditionPeersUp, metav1.ConditionFalse, padisv1.ReasonPeerDown)
	until(t, func() string {
		var events corev1.EventList
		if err := api.List(t.Context(), &events, client.InNamespace("shop")); err != nil {
			return err.Error()
		}
		seen := map[string]bool{}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind == "LoadBalancer" && e.InvolvedObject.UID == b.UID {
				seen[e.Reason] = true
			}
		}
		for _, reason := range []string{padisv1.ReasonScaledOut, padisv1.ReasonAnnounced, padisv1.ReasonPeerDown} {
			if !seen[reason] {
				return fmt.Sprintf("no event %s among %v", reason, seen)
			}
		}
		return ""
	})

	if err := api.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	until(t, func() string {
		if sched.Wanted(uid).GetForgotten() {
			return ""
		}
		return "the directors are still wanted"
	})
	if sched.Balancer(uid) == nil {
		t.Error("VIPs were given back while directors run")
	}
	sched.Live(uid)
	gone(t, &v1alpha1.LoadBalancer{}, "shop", "web")
	if sched.Balancer(uid) != nil {
		t.Error("it is still wanted")
	}
}

// What is not there yet is waited for, and a BGPPeer is followed to the LoadBalancers that name it.
func TestALoadBalancerWaitsForItsPoolAndItsRouter(t *testing.T) {
	sched := &fake.Scheduler{}
	start(t, sched)
	apply(t, `
{apiVersion: v1, kind: Namespace, metadata: {name: wait}}
---
{apiVersion: padis.io/v1alpha1, kind: LoadBalancer, metadata: {name: web, namespace: wait}, spec: {
  vips: [{pool: wait-vips}], listeners: [{name: http, port: 80}], backends: [{app: web}], directors: {networks: [{pool: wait}]}, bgp: {asn: 64512, peers: [wait]}}}
`)
	balancerShows(t, "wait", "web", v1alpha1.ConditionAccepted, metav1.ConditionFalse, padisv1.ReasonPoolNotFound)
	apply(t, `
{apiVersion: padis.io/v1alpha1, kind: Network, metadata: {name: wait}, spec: {bridge: wait0}}
---
{apiVersion: padis.io/v1alpha1, kind: IPPool, metadata: {name: wait}, spec: {network: wait, cidr: 10.99.0.0/24}}
---
{apiVersion: padis.io/v1alpha1, kind: Network, metadata: {name: wait-vips}, spec: {driver: virtual}}
---
{apiVersion: padis.io/v1alpha1, kind: IPPool, metadata: {name: wait-vips}, spec: {network: wait-vips, cidr: 198.51.100.8/31}}
`)
	balancerShows(t, "wait", "web", v1alpha1.ConditionAccepted, metav1.ConditionFalse, padisv1.ReasonPeerNotFound)
	apply(t, `{apiVersion: padis.io/v1alpha1, kind: BGPPeer, metadata: {name: wait}, spec: {address: 10.99.0.1, asn: 64500}}`)
	b := balancerShows(t, "wait", "web", v1alpha1.ConditionAccepted, metav1.ConditionTrue, padisv1.ReasonAccepted)
	until(t, func() string {
		if len(sched.Instances(string(b.UID))) != 2 {
			return "no directors are wanted"
		}
		return ""
	})
	// Nobody waits for the directors of a test that ends here.
	if err := api.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	until(t, func() string {
		sched.Live(string(b.UID))
		if sched.Balancer(string(b.UID)) != nil {
			return "it is still wanted"
		}
		return ""
	})
	gone(t, &v1alpha1.LoadBalancer{}, "wait", "web")
}
