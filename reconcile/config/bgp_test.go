package config

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"
)

func TestRoutersOfANetwork(t *testing.T) {
	var n v1alpha1.Network
	if err := yaml.UnmarshalStrict([]byte(`
spec:
  driver: routed
  bgp:
    asn: 4200000000
    peers:
    - {address: 192.0.2.1, asn: 64500, port: 1179, holdTime: 9s, passwordSecret: {namespace: infra, name: bgp, key: password}}
    - {address: "fd00::1", asn: 64501, agents: [{attribute: rack, value: r1}], passwordSecret: {namespace: infra, name: bgp, key: password}}
`), &n); err != nil {
		t.Fatal(err)
	}
	if refs := NetworkRefs(&n); fmt.Sprint(refs) != "[secret/bgp]" || refs[0].Namespace != "infra" {
		t.Errorf("refers to %v", refs)
	}
	ref := Ref{Secret, "infra", "bgp"}
	with := func(password string) Objects {
		return Objects{ref: {Data: map[string][]byte{"password": []byte(password)}}}
	}
	got, problem := Bgp(&n, with("hunter2"))
	want := &padisv1.Bgp{Asn: 4200000000, Peers: []*padisv1.BgpPeer{
		{Address: "192.0.2.1", Asn: 64500, Port: 1179, HoldMs: 9000, Password: "hunter2"},
		{Address: "fd00::1", Asn: 64501, Password: "hunter2", Agents: []*padisv1.AgentSelector{{Attribute: "rack", Value: "r1"}}},
	}}
	if problem != nil || !proto.Equal(got, want) {
		t.Errorf("%v, %v", got, problem)
	}
	for _, c := range []struct {
		objects         Objects
		reason, message string
	}{
		{nil, padisv1.ReasonConfigNotFound, `spec.bgp.peers[0].passwordSecret.name: there is no Secret "bgp" in namespace infra: create it, or name another`},
		{Objects{ref: {}}, padisv1.ReasonConfigNotFound, `spec.bgp.peers[0].passwordSecret.key: Secret "bgp" in namespace infra has no key "password": add it`},
		{with(""), padisv1.ReasonInvalid, "has 0 bytes, and a password of a session has 1 to 80: correct the Secret"},
		{with(strings.Repeat("secret", 20)), padisv1.ReasonInvalid, "has 120 bytes"},
		{with("a\x00b"), padisv1.ReasonInvalid, "has bytes that are no text"},
	} {
		_, problem := Bgp(&n, c.objects)
		if problem == nil || problem.Reason != c.reason || !strings.Contains(problem.Message, c.message) || strings.Contains(problem.Message, "secretsecret") {
			t.Errorf("%+v, want %s %s", problem, c.reason, c.message)
		}
	}
	if got, problem := Bgp(&v1alpha1.Network{}, nil); got != nil || problem != nil {
		t.Errorf("of a network without routers: %v, %v", got, problem)
	}
}
