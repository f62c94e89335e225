package declared

import (
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestPeerProgress(t *testing.T) {
	director := func(name string, sessions ...runtime.DirectorSession) runtime.BalanceDirector {
		return runtime.BalanceDirector{Instance: name, Sessions: sessions}
	}
	up := runtime.DirectorSession{Peer: "r1", Established: true, BFD: "up"}
	blind := runtime.DirectorSession{Peer: "r1", Established: true, BFD: "down"}
	down := runtime.DirectorSession{Peer: "r1", Message: "the router refuses the password"}
	other := runtime.DirectorSession{Peer: "r2", Message: "connection refused"}
	p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}}
	for _, c := range []struct {
		name             string
		directors        []runtime.BalanceDirector
		sessions, status string
		message          string
	}{
		{"nobody has it", []runtime.BalanceDirector{director("web-director-0", other)}, "", "", ""},
		{"all up", []runtime.BalanceDirector{director("web-director-0", up, other), director("web-director-1", up)}, "2/2", "True Ready", "2 sessions are up"},
		{"one down", []runtime.BalanceDirector{director("web-director-0", up), director("web-director-1", down)}, "1/2", "False PeerDown", "1 of 2 sessions are up; not up: shop/web-director-1: the router refuses the password; compare the spec"},
		{"without BFD", []runtime.BalanceDirector{director("web-director-0", blind)}, "1/1", "False PeerDown", "1 session is up, but BFD is not with shop/web-director-0: set it up on the router, or unset spec.bfd"},
	} {
		got := PeerProgress(p, []*runtime.Balance{nil, {Namespace: "shop", Name: "web", Directors: c.directors}})
		status, message := "", ""
		if len(got.Conditions) > 0 {
			status, message = string(got.Conditions[0].Status)+" "+got.Conditions[0].Reason, got.Conditions[0].Message
		}
		if got.Sessions != c.sessions || status != c.status || !strings.HasPrefix(message, c.message) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// What directors are told is part of what is in force, although the scheduler's cluster does not have it.
func TestViewsDifferByTheirRouters(t *testing.T) {
	ref := config.Ref{Kind: config.Secret, Namespace: "infra", Name: "bgp"}
	in := func(password string, paths int32) Input {
		return Input{
			Peers: []v1alpha1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{
				Address: "fd00:0::1", ASN: 1, MaximumPaths: paths, PasswordSecret: &v1alpha1.NamespacedSecretKey{Namespace: "infra", Name: "bgp", Key: "k"}}}},
			Secrets: config.Objects{ref: {Data: map[string][]byte{"k": []byte(password)}}},
		}
	}
	a := Build(in("a", 1))
	if !a.Same(Build(in("a", 1))) || a.Same(Build(in("b", 1))) || a.Same(Build(in("a", 2))) || a.Same(Build(Input{})) {
		t.Error("views are told apart by other things than their routers")
	}
	if p, ok := a.Peer("r1"); !ok || p.Wire.Router.Address != "fd00::1" || p.Wire.Router.HoldMs != 3000 {
		t.Errorf("%+v", p)
	}
	if v := Build(Input{Peers: in("", 0).Peers}).Peers["r1"]; v.Accepted || v.Reason != padisv1.ReasonConfigNotFound {
		t.Errorf("%+v", v)
	}
}
