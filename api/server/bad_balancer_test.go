package server

import (
	"strings"
	"testing"
)

const balancerYAML = `apiVersion: padis.io/v1alpha1
kind: LoadBalancer
metadata:
  name: bad-lb
  namespace: balanced
spec:
  vips: [{pool: balanced-vips}]
  listeners: [{name: http, port: 80}]
  backends: [{app: web}]
  directors: {networks: [{pool: balanced}]}
  bgp: {asn: 64512}
`

const peerYAML = `apiVersion: padis.io/v1alpha1
kind: BGPPeer
metadata:
  name: bad-peer
spec: {address: 10.96.0.1, asn: 64500}
`

func TestBadBalancersAreRefusedWithFieldValueAndRemedy(t *testing.T) {
	kc(t, "", "create", "namespace", "balanced")
	kc(t, `apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: balanced}
spec: {bridge: balanced0}
---
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: balanced-virtual}
spec: {driver: virtual}
---
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: balanced-routed}
spec: {driver: routed}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: balanced}
spec: {network: balanced, cidr: 10.97.0.0/24}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: balanced-vips}
spec: {network: balanced-virtual, cidr: 203.0.113.0/24}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: balanced-one}
spec: {network: balanced-virtual, cidr: 192.0.2.77/32}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: balanced-routed}
spec: {network: balanced-routed, cidr: 10.98.0.0/24}
`, "apply", "-f", "-")
	held := strings.NewReplacer("bad-lb", "held", "pool: balanced-vips", "pool: balanced-vips, address: 203.0.113.255").Replace(balancerYAML)
	kc(t, held, "apply", "-f", "-")
	kc(t, held, "apply", "-f", "-")
	if out := kc(t, "", "get", "lb", "held", "-n", "balanced", "-o", "jsonpath={.metadata.generation}"); out != "1" {
		t.Errorf("applied again, it is of generation %s", out)
	}
	if out := kc(t, "", "get", "lb", "held", "-n", "balanced", "-o", "jsonpath={.spec.tableSize} {.spec.scheduler} {.spec.drainTime} {.spec.directors.replicas} {.spec.minServers} {.spec.listeners[0].protocol}"); out != "4093 Maglev 30s 2 1 TCP" {
		t.Errorf("defaults: %s", out)
	}
	kc(t, strings.NewReplacer("bad-peer", "held", "64500", "64500, bfd: {}").Replace(peerYAML), "apply", "-f", "-")
	if out := kc(t, "", "get", "peer", "held", "-o", "jsonpath={.spec.holdTime} {.spec.bfd.interval} {.spec.bfd.multiplier}"); out != "3s 100ms 3" {
		t.Errorf("defaults: %s", out)
	}
	for _, c := range []struct {
		name, base, old, new string
		wants                []string
	}{
		{"name too long", balancerYAML, "bad-lb", strings.Repeat("a", 49), []string{"at most 48 characters"}},
		{"no vips", balancerYAML, "[{pool: balanced-vips}]", "[]", []string{"spec.vips", "at least 1"}},
		{"vip of instances", balancerYAML, "[{pool: balanced-vips}]", "[{pool: balanced}]", []string{"spec.vips[0].pool", "with the driver virtual"}},
		{"vip outside", balancerYAML, "pool: balanced-vips", "pool: balanced-vips, address: 10.1.1.1", []string{"spec.vips[0].address", "10.1.1.1", "203.0.113.0/24", "another pool"}},
		{"vip of another", balancerYAML, "pool: balanced-vips", "pool: balanced-vips, address: 203.0.113.255", []string{"spec.vips[0].address", "LoadBalancer held in namespace balanced"}},
		{"vip is none", balancerYAML, "pool: balanced-vips", "pool: balanced-vips, address: here", []string{"spec.vips[0].address", "must be an IP address"}},
		{"overlap", balancerYAML, "{name: http, port: 80}", "{name: http, port: 80}, {name: more, port: 70, endPort: 90}", []string{"spec.listeners[1].port", "TCP 70-90 overlaps TCP 80 of listener http"}},
		{"range backwards", balancerYAML, "port: 80", "port: 80, endPort: 79", []string{"spec.listeners[0].endPort", "79", "is below port 80: swap the two"}},
		{"source range", balancerYAML, "port: 80", "port: 80, sourceRanges: [10.0.0.0/33]", []string{"spec.listeners[0].sourceRanges[0]", "must be a subnet"}},
		{"no backend", balancerYAML, "{app: web}", "{weight: 1}", []string{"spec.backends[0]", "exactly one of app"}},
		{"weight and percent", balancerYAML, "{app: web}", "{app: web, weight: 1, percent: 1}", []string{"spec.backends[0].percent", "not both"}},
		{"more than all", balancerYAML, "{app: web}", "{app: web, percent: 51}, {app: api, percent: 50}", []string{"spec.backends", "at most 100"}},
		{"scheduler without IPVS", balancerYAML, "  vips:", "  scheduler: RoundRobin\n  vips:", []string{"spec.scheduler", "RoundRobin", "set dataplane: IPVS"}},
		{"connections without IPVS", balancerYAML, "  vips:", "  maxConnections: 5\n  vips:", []string{"spec.maxConnections", "set dataplane: IPVS"}},
		{"table size", balancerYAML, "  vips:", "  tableSize: 100\n  vips:", []string{"spec.tableSize", "4093"}},
		{"command probe", balancerYAML, "  vips:", "  healthChecks: [{command: {command: [a]}}]\n  vips:", []string{"unknown field"}},
		{"no probe", balancerYAML, "  vips:", "  healthChecks: [{interval: 1s}]\n  vips:", []string{"spec.healthChecks[0]", "exactly one of tcp and http"}},
		{"drain time", balancerYAML, "  vips:", "  drainTime: 25h\n  vips:", []string{"spec.drainTime", "at most 24h"}},
		{"directors on hosts' network", balancerYAML, "{pool: balanced}", "{network: metal}", []string{"spec.directors.networks", "name an IPPool in pool"}},
		{"directors without a segment", balancerYAML, "{pool: balanced}", "{pool: balanced-routed}", []string{"spec.directors.networks[0].pool", "driver bridge, vlan or vxlan"}},
		{"directors with VIPs", balancerYAML, "{pool: balanced}", "{pool: balanced-vips}", []string{"spec.directors.networks[0].pool", "gives addresses to LoadBalancers only"}},
		{"communities", balancerYAML, "asn: 64512", "asn: 64512, communities: [graceful-shutdown]", []string{"spec.bgp.communities[0]", "graceful-shutdown"}},
		{"asn", balancerYAML, "asn: 64512", "asn: 0", []string{"spec.bgp.asn", "greater than or equal to 1"}},
		{"an app with VIPs", strings.Replace(appYAML, "default", "balanced", 1), "absent", "balanced-vips", []string{"spec.networks[0].pool", "gives addresses to LoadBalancers only"}},
		{"an app with the name of directors", strings.Replace(appYAML, "default", "balanced", 1), "name: web", "name: held-director", []string{"metadata.name", "directors of a LoadBalancer"}},
		{"a pool of one for instances", poolYAML, "net-bad\n  cidr: 10.90.0.0/24\n  gateway: 10.90.0.1\n  ranges:\n  - {from: 10.90.0.10, to: 10.90.0.20}", "balanced\n  cidr: 10.90.0.1/32", []string{"/32 on Network balanced", "needs /8 to /30"}},
		{"a bridge for VIPs", networkYAML, "bridge: padis0", "driver: virtual", []string{"spec.parent", "the driver virtual has none"}},

		{"peer without address", peerYAML, "10.96.0.1", "router", []string{"spec.address", "router", "must be an IP address"}},
		{"peer twice", peerYAML, "spec: {address: 10.96.0.1, asn: 64500}", "spec: {address: 10.96.0.1, asn: 64501}", []string{"spec.address", "BGPPeer held already"}},
		{"hold time", peerYAML, "asn: 64500", "asn: 64500, holdTime: 2s", []string{"spec.holdTime", "from 3s"}},
		{"bfd interval", peerYAML, "asn: 64500", "asn: 64500, bfd: {interval: 10ms}", []string{"spec.bfd.interval", "from 50ms to 10s"}},
		{"bfd later than hold", strings.Replace(peerYAML, "10.96.0.1", "10.96.0.2", 1), "asn: 64500", "asn: 64500, bfd: {interval: 1s}", []string{"spec.bfd", "holdTime of 3s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(c.base, c.old) {
				t.Fatalf("the case changes nothing: %q is not in the manifest", c.old)
			}
			refused(t, strings.Replace(c.base, c.old, c.new, 1), c.wants, "apply", "-f", "-")
		})
	}
	refused(t, strings.Replace(held, "  vips:", "  tableSize: 16381\n  vips:", 1), []string{"spec.tableSize", "cannot be changed", "create a new LoadBalancer"}, "apply", "-f", "-")
	refused(t, "", []string{"used by loadbalancers balanced/held", "spec.vips"}, "delete", "ippool", "balanced-vips")
	refused(t, "", []string{"used by loadbalancers balanced/held"}, "delete", "ippool", "balanced")
	if out := kc(t, "", "get", "lb", "-n", "balanced"); !strings.Contains(out, "VIPS") || !strings.Contains(out, "SESSIONS") {
		t.Errorf("columns: %s", out)
	}
	kc(t, "", "delete", "lb", "held", "-n", "balanced")
	kc(t, "", "delete", "ippools", "balanced", "balanced-vips", "balanced-one", "balanced-routed")
	kc(t, "", "delete", "networks", "balanced", "balanced-virtual", "balanced-routed")
	kc(t, "", "delete", "bgppeer", "held")
}
