package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// fakeBalances knows the LoadBalancer default/front. Flows of UDP are taken by nobody; those of the client 198.51.100.9 have
// one slot whatever their port.
type fakeBalances struct{}

func (fakeBalances) Balances(namespace string) ([]*runtime.Balance, error) {
	if namespace != "" && namespace != "default" {
		return nil, nil
	}
	session := []runtime.DirectorSession{{Peer: "tor", Address: "10.60.0.1", Established: true, BFD: "up"}}
	return []*runtime.Balance{{
		UID: "1", Namespace: "default", Name: "front", Number: 17,
		VIPs: []runtime.BalanceVIP{{Pool: "vips", Address: "192.0.2.10", Announcing: []string{"front-director-0"}}, {Pool: "vips", Reason: padisv1.ReasonPoolExhausted, Message: "pool vips has no free address"}},
		Servers: []runtime.BalanceServer{
			{Instance: "web-0", Host: "host-1", Address: "10.60.0.11", State: "serving", Weight: 100, Slots: 4093, Table: 4093},
			{Instance: "web-1", Host: "host-2", State: "suspect", Reason: padisv1.ReasonHostSilent, Message: "it is silent", Weight: 100, Table: 4093},
		},
		Directors: []runtime.BalanceDirector{
			{Instance: "front-director-0", Host: "host-1", Address: "10.60.0.20", Ready: true, Number: 17, Dataplane: "tcx", Announced: []string{"192.0.2.10"}, Sessions: session},
			{Instance: "front-director-1", Host: "host-2", Phase: "Starting", Number: 16, Failures: []runtime.ServerFailure{{Instance: "web-1", Message: "no answer"}},
				Sessions: []runtime.DirectorSession{{Peer: "tor", Address: "10.60.0.1", Message: "wrong ASN"}}},
		},
		Hosts:    []runtime.BalanceHost{{Host: "host-1", Number: 17}, {Host: "host-2", Reason: padisv1.ReasonRelayUnavailable, Message: "no eBPF"}},
		Backends: []runtime.BalanceBackend{{Index: 1, Reason: padisv1.ReasonNoBackends, Message: "no such App"}},
	}}, nil
}

func (fakeBalances) Trace(uid string, f live.Flow) (runtime.Trace, error) {
	if uid != "1" || f.Protocol == "udp" {
		return runtime.Trace{Refusal: "no listener for " + f.Protocol + " port " + fmt.Sprint(f.VIP.Port())}, nil
	}
	t := runtime.Trace{
		Listener: "http", Slot: int32(f.Client.Port() % 100), Table: 4093, Number: 17, Directors: []string{"front-director-0", "front-director-1"},
		Chain: []runtime.BalanceServer{{Instance: "web-0", Host: "host-1", Address: "10.60.0.11", State: "serving"}, {Instance: "web-1", State: "suspect"}},
	}
	if f.Client.Addr() == netip.MustParseAddr("198.51.100.9") {
		t.Slot = 7
	}
	return t, nil
}

const lbManifest = `
apiVersion: padis.io/v1alpha1
kind: LoadBalancer
metadata: {name: front}
spec:
  vips: [{pool: vips}, {pool: vips}]
  listeners: [{name: http, port: 80}, {name: games, protocol: UDP, port: 7000, endPort: 7009, sourceRanges: [198.51.100.0/24]}]
  backends: [{app: web}, {selector: {matchLabels: {tier: canary}}, percent: 5}]
  directors: {networks: [{pool: ips}]}
  bgp: {asn: 64512, peers: [tor], communities: ["64512:100"], med: 10}
---
apiVersion: padis.io/v1alpha1
kind: LoadBalancer
metadata: {name: fresh}
spec:
  vips: [{pool: vips}]
  listeners: [{name: http, port: 80}]
  backends: [{app: web, weight: 5}]
  directors: {networks: [{pool: ips}]}
  bgp: {asn: 64512}
`

// hasLines looks for lines whatever the width of their columns.
func (r result) hasLines(t *testing.T, wants ...string) {
	t.Helper()
	lines := strings.Split(r.out, "\n")
	for _, want := range wants {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Join(strings.Fields(line), " ") == want }) {
			t.Errorf("%q is missing in\n%s%s", want, r.out, r.err)
		}
	}
}

func TestLB(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, lbManifest)).expect(t, exitOK)
	t.Cleanup(func() { padis("delete", "lb", "front", "fresh", "--wait=false").expect(t, exitOK) })
	lines := []string{
		"Name: front",
		"Listeners: http TCP 80, games UDP 7000-7009 from 198.51.100.0/24",
		"Backends: app/web, tier=canary 5 %",
		"Placed by: Maglev, 4093 slots, dataplane Auto",
		"Announced: as AS 64512 to tor, communities 64512:100, MED 10",
		"Drain time: 30s",
		"Tables 17: 1 of 2 VIPs announced, 1 of 2 real servers in rotation, 1 of 2 directors ready, 1 of 2 sessions up",
		"192.0.2.10 vips front-director-0 -",
		"- vips - PoolExhausted: pool vips has no free address",
		"tor 10.60.0.1 front-director-0 up up -",
		"tor 10.60.0.1 front-director-1 down - wrong ASN",
		"front-director-0 host-1 10.60.0.20 tcx 17 1/2 Ready -",
		"front-director-1 host-2 - - 16 of 17 0/2 Starting -",
		"web-0 host-1 10.60.0.11 serving 100 4093 100.0 % -",
		"web-1 host-2 - suspect 100 0 0.0 % HostSilent: it is silent",
		"front-director-1 web-1 no answer",
		"host-1 17 yes -",
		"host-2 none of 17 no RelayUnavailable: no eBPF",
		"backends[1] tier=canary NoBackends: no such App",
	}
	padis("lb", "show", "front").hasLines(t, lines...)
	padis("describe", "lb", "front").hasLines(t, lines...)
	padis("describe", "lb/fresh").hasLines(t, "Announced: as AS 64512 to all peers", "Backends: app/web weight 5",
		"VIPs, directors and real servers: not known, the scheduler has not looked at it yet")
	padis("lb", "show", "nobody").expect(t, exitError, `"nobody" not found`)

	padis("why", "lb/front").expect(t, exitOK, "LoadBalancer default/front: 1 of 2 VIPs announced", "web-1", "no session with tor at 10.60.0.1: wrong ASN", "remedy: ")
	padis("why", "loadbalancer", "fresh").expect(t, exitOK, "how it stands is not known")
	padis("why", "lb/nobody").expect(t, exitError, "not found")
}

func TestLBTrace(t *testing.T) {
	useAPI(t)
	padis("lb", "trace", "198.51.100.7:51234", "192.0.2.10:80").hasLines(t,
		"Flow: tcp 198.51.100.7:51234 -> 192.0.2.10:80",
		"LoadBalancer: default/front",
		"Listener: http",
		"Directors: front-director-0, front-director-1 (whichever the router chooses)",
		"Slot: 34 of 4093, tables 17",
		"Real server: web-0 on host-1, address 10.60.0.11, serving",
		"Before 1: web-1 on -, address -, suspect, keeps what connections of the slot it has")
	padis("lb", "trace", "198.51.100.7", "192.0.2.10:80", "front", "-n", "default").hasLines(t,
		"Flow: tcp 198.51.100.7 -> 192.0.2.10:80", "Tables: 17", "40003 3 web-0 host-1 serving web-1")
	padis("lb", "trace", "::ffff:198.51.100.9", "192.0.2.10:80").hasLines(t, "Slot: 7 of 4093, tables 17, whatever the client's port")
	padis("lb", "trace", "198.51.100.7:1", "192.0.2.10:80", "--udp").expect(t, exitError, "nobody takes the flow: no listener for udp port 80")
	padis("lb", "trace", "198.51.100.7:1", "192.0.2.99:80").expect(t, exitError, "no LoadBalancer has the VIP 192.0.2.99", "padis get lb -A")
	padis("lb", "trace", "198.51.100.7:1", "192.0.2.10:80", "-n", "other").expect(t, exitError, "no LoadBalancer of namespace other has the VIP")
	padis("lb", "trace", "198.51.100.7:1", "192.0.2.10:80", "nobody").expect(t, exitError, "not found")
}

// balancing is a scheduler with two LoadBalancers, one of which it has not looked at yet, and one that is deleted.
type balancing struct{}

func (balancing) Balancers() []*padisv1.WantedBalancer {
	return []*padisv1.WantedBalancer{{Uid: "a", Namespace: "shop"}, {Uid: "b", Namespace: "shop"}, {Uid: "c", Namespace: "shop", Forgotten: true}, {Uid: "d", Namespace: "bank"}}
}

func (balancing) Balance(uid string) *runtime.Balance {
	if uid == "b" {
		return nil
	}
	return &runtime.Balance{UID: uid}
}

func (balancing) Trace(uid string, client, vip netip.AddrPort, protocol string) (runtime.Trace, error) {
	if uid == "b" {
		return runtime.Trace{}, fmt.Errorf("it has no tables yet")
	}
	return runtime.Trace{Listener: strings.Join([]string{uid, client.String(), vip.String(), protocol}, " ")}, nil
}

func TestTheDoorKnowsBalances(t *testing.T) {
	d := &door{}
	if _, err := d.Balances(""); err == nil {
		t.Error("a stand-by knows balances")
	}
	d.find.Store(&finder{balancer: balancing{}})
	for namespace, want := range map[string]string{"": "ad", "shop": "a", "bank": "d", "none": ""} {
		all, err := d.Balances(namespace)
		got := ""
		for _, b := range all {
			got += b.UID
		}
		if err != nil || got != want {
			t.Errorf("of %q: %q, %v", namespace, got, err)
		}
	}
	flow := live.Flow{Client: netip.MustParseAddrPort("198.51.100.7:1"), VIP: netip.MustParseAddrPort("192.0.2.10:80"), Protocol: "tcp"}
	if trace, err := d.Trace("a", flow); err != nil || trace.Listener != "a 198.51.100.7:1 192.0.2.10:80 tcp" {
		t.Errorf("%+v, %v", trace, err)
	}
	if _, err := d.Trace("b", flow); err == nil || !strings.Contains(err.Error(), "it has no tables yet") {
		t.Error(err)
	}
}
