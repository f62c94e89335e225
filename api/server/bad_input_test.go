package server

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/runtime"
)

// app is a valid App; each case breaks one thing of it.
const appYAML = `apiVersion: padis.io/v1alpha1
kind: App
metadata:
  name: web
  namespace: default
spec:
  replicas: 2
  template:
    command: [/bin/sleep, "60"]
    ports:
    - {name: http, port: 8080}
    healthChecks:
    - tcp: {port: 8080}
      interval: 5s
      timeout: 1s
  networks:
  - pool: absent
  placement:
    constraints:
    - {attribute: hostname, operator: Unique}
`

const poolYAML = `apiVersion: padis.io/v1alpha1
kind: IPPool
metadata:
  name: bad-pool
spec:
  network: net-bad
  cidr: 10.90.0.0/24
  gateway: 10.90.0.1
  ranges:
  - {from: 10.90.0.10, to: 10.90.0.20}
`

const networkYAML = `apiVersion: padis.io/v1alpha1
kind: Network
metadata:
  name: bad-net
spec:
  bridge: padis0
  parent: eth1
`

const tenantYAML = `apiVersion: padis.io/v1alpha1
kind: Tenant
metadata:
  name: bad-tenant
spec:
  namespaces: [bad-a]
`

const containerYAML = `apiVersion: padis.io/v1alpha1
kind: App
metadata:
  name: box
  namespace: default
spec:
  template:
    image: shop:1
    volumes:
    - {name: cache, mountPath: /cache, emptyDir: {}}
`

const registryYAML = `apiVersion: padis.io/v1alpha1
kind: Registry
metadata:
  name: bad-registry
spec:
  host: bad.example.com
  mirrors: [https://mirror]
`

func TestBadInputIsRefusedWithFieldValueAndRemedy(t *testing.T) {
	kc(t, "", "create", "namespace", "inputs")
	kc(t, `apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: inputs}
spec:
  network: inputs
  cidr: 10.91.0.0/24
  gateway: 10.91.0.1
  ranges: [{from: 10.91.0.10, to: 10.91.0.99}]
  reserved: [{from: 10.91.0.50}]
  namespaces: [inputs]
`, "apply", "-f", "-")
	kc(t, strings.NewReplacer("default", "inputs", "name: web", "name: holder", "- pool: absent", "- {pool: inputs, addresses: [10.91.0.11]}").Replace(appYAML), "apply", "-f", "-")
	kc(t, strings.NewReplacer("bad-tenant", "inputs", "[bad-a]", "[inputs]\n  hostPaths: [/srv]\n  nfsServers: [nfs1]\n  privileges: {capabilities: [SYS_TIME]}").Replace(tenantYAML), "apply", "-f", "-")
	kc(t, strings.NewReplacer("bad-registry", "inputs", "bad.", "inputs.").Replace(registryYAML), "apply", "-f", "-")

	kc(t, `apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: inputs-small}
spec: {bridge: small0, mtu: 1200}
---
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: inputs-host}
spec: {driver: host}
`, "apply", "-f", "-")

	pooled := strings.NewReplacer("default", "inputs", "- pool: absent", "- {pool: inputs, addresses: []}").Replace(appYAML)
	tenanted := strings.Replace(containerYAML, "default", "inputs", 1)
	long := strings.Repeat("a", 58)
	for _, c := range []struct {
		name, base, old, new string
		wants                []string
	}{
		{"unknown field", appYAML, "replicas: 2", "replica: 2", []string{`unknown field "spec.replica"`}},
		{"wrong type", appYAML, "replicas: 2", "replicas: two", []string{"spec.replicas", "integer"}},
		{"negative replicas", appYAML, "replicas: 2", "replicas: -1", []string{"spec.replicas", "-1", "greater than or equal to 0"}},
		{"port above 65535", appYAML, "port: 8080}\n    health", "port: 65536}\n    health", []string{"spec.template.ports[0].port", "65536", "65535"}},
		{"health port 0", appYAML, "tcp: {port: 8080}", "tcp: {port: 0}", []string{"healthChecks[0].tcp.port", "greater than or equal to 1"}},
		{"no program", appYAML, `command: [/bin/sleep, "60"]`, `labels: {a: b}`, []string{"spec.template", "set command (a plain process), image (a container), or both"}},
		{"args alone", appYAML, `command: [/bin/sleep, "60"]`, `args: [a]`, []string{"spec.template", "set command (a plain process)"}},
		{"empty program", appYAML, `command: [/bin/sleep, "60"]`, `command: [""]`, []string{"spec.template.command", "must not be empty"}},
		{"two probes", appYAML, "- tcp: {port: 8080}", "- tcp: {port: 8080}\n      http: {port: 8080}", []string{"healthChecks[0]", "exactly one of tcp, http and command"}},
		{"no probe", appYAML, "- tcp: {port: 8080}", "- failureThreshold: 2", []string{"healthChecks[0]", "exactly one of tcp, http and command"}},
		{"not a time", appYAML, "interval: 5s", "interval: soon", []string{"healthChecks[0].interval", "soon", "like 500ms, 10s or 1m30s"}},
		{"no time at all", appYAML, "interval: 5s", "interval: 0s", []string{"healthChecks[0].interval", "longer than zero"}},
		{"negative time", appYAML, "interval: 5s", "interval: -5s", []string{"healthChecks[0].interval", "longer than zero"}},
		{"timeout above interval", appYAML, "timeout: 1s", "timeout: 6s", []string{"healthChecks[0].timeout", "6s", "5s", "raise the interval or lower the timeout"}},
		{"memory below 4Mi", appYAML, "    ports:", "    resources: {memory: 1Mi}\n    ports:", []string{"spec.template.resources.memory", "at least 4Mi"}},
		{"negative cpu", appYAML, "    ports:", "    resources: {cpu: \"-1\"}\n    ports:", []string{"spec.template.resources.cpu", "at least 1m"}},
		{"negative disk", appYAML, "    ports:", "    resources: {disk: -1Gi}\n    ports:", []string{"spec.template.resources.disk", "not negative"}},
		{"artifact outside", appYAML, "    ports:", "    artifacts: [{uri: 'http://a/b', path: ../b, sha256: '" + strings.Repeat("0", 64) + "'}]\n    ports:", []string{"artifacts[0].path", "../b", "relative path without .."}},
		{"artifact absolute", appYAML, "    ports:", "    artifacts: [{uri: 'http://a/b', path: /etc/b, sha256: '" + strings.Repeat("0", 64) + "'}]\n    ports:", []string{"artifacts[0].path", "relative path without .."}},
		{"artifact without sum", appYAML, "    ports:", "    artifacts: [{uri: 'http://a/b'}]\n    ports:", []string{"artifacts[0].sha256", "Required"}},
		{"name too long", appYAML, "name: web", "name: " + long, []string{long, "at most 57 characters"}},
		{"name with a dot", appYAML, "name: web", "name: we.b", []string{"we.b", "host names"}},
		{"address is no address", appYAML, "- pool: absent", "- {pool: absent, addresses: [10.91.0.300]}", []string{"spec.networks[0].addresses[0]", "10.91.0.300", "IP address, for example"}},
		{"address of the other family", pooled, "[]", "['fd00::1']", []string{"spec.networks[0].addresses[0]", "fd00::1", "is an IPv6 address", "10.91.0.0/24 of pool inputs is IPv4"}},
		{"address twice", appYAML, "- pool: absent", "- {pool: absent, addresses: [10.91.0.12, 10.91.0.12]}", []string{"spec.networks[0].addresses[1]", "10.91.0.12", "addresses[0]"}},
		{"address outside the pool", pooled, "[]", "[10.92.0.1]", []string{"spec.networks[0].addresses[0]", "10.92.0.1", "10.91.0.0/24", "another pool"}},
		{"address outside the ranges", pooled, "[]", "[10.91.0.100]", []string{"10.91.0.100", "in no range", "extend spec.ranges"}},
		{"address reserved", pooled, "[]", "[10.91.0.50]", []string{"10.91.0.50", "is reserved in pool inputs", "spec.reserved"}},
		{"address is the gateway", pooled, "[]", "[10.91.0.1]", []string{"10.91.0.1", "gateway of pool inputs"}},
		{"address of another app", pooled, "[]", "[10.91.0.12, 10.91.0.11]", []string{"spec.networks[0].addresses[1]", "10.91.0.11", "app holder in namespace inputs", "instance holder-0", "choose another"}},
		{"pool of other namespaces", appYAML, "- pool: absent", "- pool: inputs", []string{"spec.networks[0].pool", "may not be used by namespace default", "spec.namespaces of the pool"}},
		{"namespace missing", appYAML, "namespace: default", "namespace: nowhere", []string{`namespace "nowhere" does not exist`, "padis create namespace nowhere"}},
		{"unknown operator", appYAML, "operator: Unique", "operator: Near", []string{"constraints[0].operator", "Near", "Unique"}},
		{"MaxPer without value", appYAML, "operator: Unique", "operator: MaxPer", []string{"constraints[0].value", "MaxPer needs a whole number"}},
		{"MaxPer with a word", appYAML, "operator: Unique", "operator: MaxPer, value: many", []string{"constraints[0].value", "MaxPer needs a whole number"}},
		{"GroupBy with a word", appYAML, "operator: Unique", "operator: GroupBy, value: some", []string{"constraints[0].value", "GroupBy takes no value"}},
		{"Like without value", appYAML, "operator: Unique", "operator: Like", []string{"constraints[0].value", "regular expression"}},
		{"Like with a bad expression", appYAML, "operator: Unique", "operator: Like, value: 'a('", []string{"constraints[0].value", "a(", "is not a regular expression"}},
		{"Unique with value", appYAML, "operator: Unique", "operator: Unique, value: x", []string{"constraints[0].value", "Unique takes no value"}},
		{"no signal", appYAML, "    ports:", "    stop: {signal: SIGNOPE}\n    ports:", []string{"spec.template.stop.signal", "SIGNOPE", "SIGTERM"}},

		{"volume of a process", appYAML, "    ports:", "    volumes: [{name: a, mountPath: /a, emptyDir: {}}]\n    ports:", []string{"spec.template.volumes", "only containers have volumes", "set image"}},
		{"security of a process", appYAML, "    ports:", "    security: {readOnlyRootFilesystem: true}\n    ports:", []string{"spec.template.security", "only containers can be restricted"}},
		{"init of a process", appYAML, "    ports:", "    init: true\n    ports:", []string{"spec.template.init", "only containers have an init"}},
		{"pull policy of a process", appYAML, "    ports:", "    imagePullPolicy: Always\n    ports:", []string{"spec.template.imagePullPolicy", "no image to pull"}},
		{"pull secrets of a process", appYAML, "    ports:", "    imagePullSecrets: [{name: a}]\n    ports:", []string{"spec.template.imagePullSecrets", "no image to pull"}},
		{"pids of a process", appYAML, "    ports:", "    resources: {pids: 5}\n    ports:", []string{"spec.template.resources.pids", "only containers can be limited"}},
		{"no image", containerYAML, "image: shop:1", "image: 'http://shop'", []string{"spec.template.image", "http://shop", "must be an image as HOST/NAME:TAG"}},
		{"pull policy", containerYAML, "image: shop:1", "image: shop:1\n    imagePullPolicy: Never", []string{"spec.template.imagePullPolicy", "Never", "IfNotPresent"}},
		{"two sources", containerYAML, "emptyDir: {}", "emptyDir: {}, addressLogs: {}", []string{"spec.template.volumes[0]", "exactly one of hostPath, emptyDir"}},
		{"no source", containerYAML, ", emptyDir: {}", "", []string{"spec.template.volumes[0]", "exactly one of hostPath, emptyDir"}},
		{"relative mount", containerYAML, "mountPath: /cache", "mountPath: cache", []string{"spec.template.volumes[0].mountPath", "cache", "absolute path without .."}},
		{"mount that climbs", containerYAML, "mountPath: /cache", "mountPath: /a/../cache", []string{"spec.template.volumes[0].mountPath", "absolute path without .."}},
		{"mount of the root", containerYAML, "mountPath: /cache", "mountPath: /", []string{"spec.template.volumes[0].mountPath", "not / itself"}},
		{"mount over proc", containerYAML, "mountPath: /cache", "mountPath: /proc/sys", []string{"spec.template.volumes[0].mountPath", "belong to the container itself"}},
		{"mount twice", containerYAML, "    volumes:", "    volumes:\n    - {name: b, mountPath: /cache, emptyDir: {}}", []string{"spec.template.volumes[1]", "Duplicate", "/cache"}},
		{"volume name twice", containerYAML, "    volumes:", "    volumes:\n    - {name: cache, mountPath: /b, emptyDir: {}}", []string{"spec.template.volumes", "two volumes have the same name"}},
		{"size of a volume", containerYAML, "emptyDir: {}", "emptyDir: {size: 1Ki}", []string{"volumes[0].emptyDir.size", "at least 1Mi"}},
		{"signal without onChange", containerYAML, "emptyDir: {}", "configMap: {name: a, signal: SIGHUP}", []string{"volumes[0].configMap.signal", "onChange: Signal"}},
		{"onChange without signal", containerYAML, "emptyDir: {}", "secret: {name: a, onChange: Signal}", []string{"volumes[0].secret.signal", "onChange: Signal"}},
		{"item that climbs", containerYAML, "emptyDir: {}", "configMap: {name: a, items: [{key: a, path: ../a}]}", []string{"configMap.items[0].path", "relative path without .."}},
		{"nfs option", containerYAML, "emptyDir: {}", "nfs: {server: a, path: /a, options: ['a,b']}", []string{"nfs.options[0]", "a,b"}},
		{"host path that climbs", containerYAML, "emptyDir: {}", "hostPath: {path: /a/../b}", []string{"hostPath.path", "absolute path without .."}},
		{"host path without a tenant", containerYAML, "emptyDir: {}", "hostPath: {path: /srv}", []string{"spec.template.volumes[0].hostPath.path", `"/srv"`, "may use", "declare one"}},
		{"host path of the tenant", tenanted, "emptyDir: {}", "hostPath: {path: /etc}", []string{"spec.template.volumes[0].hostPath.path", `"/etc"`, "spec.hostPaths of Tenant inputs"}},
		{"nfs server of the tenant", tenanted, "emptyDir: {}", "nfs: {server: nfs2, path: /a}", []string{"spec.template.volumes[0].nfs.server", `"nfs2"`, "use one of nfs1"}},
		{"capability without a tenant", containerYAML, "    volumes:", "    security: {capabilities: {add: [NET_ADMIN]}}\n    volumes:", []string{"spec.template.security.capabilities.add[0]", "NET_ADMIN", "not granted to namespace default"}},
		{"capability of the tenant", tenanted, "    volumes:", "    security: {capabilities: {add: [SYS_TIME, SYS_ADMIN]}}\n    volumes:", []string{"security.capabilities.add[1]", "SYS_ADMIN", "spec.privileges.capabilities of Tenant inputs"}},
		{"capability with its prefix", containerYAML, "    volumes:", "    security: {capabilities: {add: [CAP_KILL]}}\n    volumes:", []string{"security.capabilities.add[0]", "without CAP_"}},
		{"capability that there is not", containerYAML, "    volumes:", "    security: {capabilities: {drop: [FLY]}}\n    volumes:", []string{"security.capabilities.drop[0]", "FLY", "is no capability of Linux"}},
		{"unconfined without a tenant", containerYAML, "    volumes:", "    security: {seccompProfile: Unconfined}\n    volumes:", []string{"spec.template.security.seccompProfile", "Unconfined", "spec.privileges.seccompUnconfined"}},
		{"artifacts of a container", containerYAML, "    volumes:", "    artifacts: [{uri: 'http://a/b', sha256: '0000000000000000000000000000000000000000000000000000000000000000'}]\n    volumes:", []string{"spec.template.artifacts", "in its image"}},
		{"seccomp profile", containerYAML, "    volumes:", "    security: {seccompProfile: None}\n    volumes:", []string{"security.seccompProfile", "None", "Unconfined"}},
		{"value and valueFrom", containerYAML, "    volumes:", "    env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: a, key: b}}}]\n    volumes:", []string{"spec.template.env[0].valueFrom", "not both"}},
		{"valueFrom nothing", containerYAML, "    volumes:", "    env: [{name: A, valueFrom: {}}]\n    volumes:", []string{"spec.template.env[0].valueFrom", "exactly one of configMapKeyRef and secretKeyRef"}},
		{"envFrom two", containerYAML, "    volumes:", "    envFrom: [{configMapRef: {name: a}, secretRef: {name: b}}]\n    volumes:", []string{"spec.template.envFrom[0]", "exactly one of configMapRef and secretRef"}},

		{"cidr is none", poolYAML, "10.90.0.0/24", "10.90.0.0", []string{"spec.cidr", "10.90.0.0", "for example 10.44.0.0/16"}},
		{"IPv4 in an IPv6 pool", poolYAML, "10.90.0.0/24", "fd00::/64", []string{"spec.gateway", "10.90.0.1", "is not within fd00::/64"}},
		{"IPv4 ranges in an IPv6 pool", poolYAML, "10.90.0.0/24\n  gateway: 10.90.0.1", "fd00::/64", []string{"spec.ranges[0].from", "10.90.0.10", "is an IPv4 address, and the pool has IPv6"}},
		{"IPv6 reserved in an IPv4 pool", poolYAML, "  ranges:", "  reserved: [{from: 'fd00::1'}]\n  ranges:", []string{"spec.reserved[0].from", "fd00::1", "is an IPv6 address, and the pool has IPv4"}},
		{"cidr of IPv6 too wide", poolYAML, "10.90.0.0/24", "fd00::/47", []string{"spec.cidr", "/48 to /128"}},
		{"reuse delay", poolYAML, "  ranges:", "  reuseDelay: 1d\n  ranges:", []string{"spec.reuseDelay", "1d", "like 500ms, 10s or 1m30s"}},
		{"cidr too wide", poolYAML, "10.90.0.0/24", "0.0.0.0/4", []string{"spec.cidr", "/8 to /30"}},
		{"cidr with host bits", poolYAML, "10.90.0.0/24", "10.90.0.5/24", []string{"spec.cidr", "10.90.0.5/24", "first address of the subnet"}},
		{"gateway outside", poolYAML, "gateway: 10.90.0.1", "gateway: 10.99.0.1", []string{"spec.gateway", "10.99.0.1", "10.90.0.0/24"}},
		{"gateway is the broadcast address", poolYAML, "gateway: 10.90.0.1", "gateway: 10.90.0.255", []string{"spec.gateway", "10.90.0.255", "broadcast"}},
		{"range outside", poolYAML, "to: 10.90.0.20", "to: 10.99.0.20", []string{"spec.ranges[0]", "10.90.0.10-10.99.0.20", "not within 10.90.0.0/24"}},
		{"range backwards", poolYAML, "to: 10.90.0.20", "to: 10.90.0.2", []string{"spec.ranges[0].to", "10.90.0.2", "below from", "swap"}},
		{"ranges overlap", poolYAML, "  - {from: 10.90.0.10", "  - {from: 10.90.0.15, to: 10.90.0.30}\n  - {from: 10.90.0.10", []string{"spec.ranges", "overlaps", "join"}},
		{"reserved outside", poolYAML, "  ranges:", "  reserved: [{from: 10.1.0.1}]\n  ranges:", []string{"spec.reserved[0]", "10.1.0.1", "not within"}},
		{"nothing left", poolYAML, "  ranges:", "  reserved: [{from: 10.90.0.2, to: 10.90.0.99}]\n  ranges:", []string{"spec.reserved", "leaves no address"}},
		{"pools overlap between networks", poolYAML, "10.90.0.0/24\n  gateway: 10.90.0.1\n  ranges:\n  - {from: 10.90.0.10, to: 10.90.0.20}", "10.88.0.0/13", []string{"spec.cidr", "10.88.0.0/13", "overlaps 10.91.0.0/24 of pool inputs", "choose another subnet"}},
		{"pools overlap within a network", poolYAML, "net-bad\n  cidr: 10.90.0.0/24\n  gateway: 10.90.0.1\n  ranges:\n  - {from: 10.90.0.10, to: 10.90.0.20}", "inputs\n  cidr: 10.91.0.0/24\n  ranges: [{from: 10.91.0.90, to: 10.91.0.120}]", []string{"spec.ranges", "10.91.0.90-10.91.0.120", "10.91.0.10-10.91.0.99 of pool inputs", "divide it with spec.ranges"}},
		{"dns server", poolYAML, "  ranges:", "  dnsServers: [ns1]\n  ranges:", []string{"spec.dnsServers[0]", "ns1", "IP address"}},

		{"bridge name too long", networkYAML, "padis0", "padis-production0", []string{"spec.bridge", "padis-production0", "at most 15 characters", "shorter"}},
		{"bridge name with a slash", networkYAML, "padis0", "pad/is", []string{"spec.bridge", "pad/is", "letters, digits"}},
		{"parent name too long", networkYAML, "eth1", "enp0s31f6np1.4094", []string{"spec.parent", "at most 15 characters"}},
		{"parent is the bridge", networkYAML, "eth1", "padis0", []string{"spec.parent", "cannot be the bridge itself"}},
		{"no bridge with routed", networkYAML, "bridge: padis0\n  parent: eth1", "driver: routed\n  bridge: padis0", []string{"spec.bridge", "the driver routed has none", "choose the driver bridge, vlan, ovs or vxlan"}},
		{"vlan without a tag", networkYAML, "  parent: eth1", "  driver: vlan\n  parent: eth1", []string{"spec.vlan", "the driver vlan needs the tag"}},
		{"vlan without a parent", networkYAML, "  parent: eth1", "  driver: vlan\n  vlan: 7", []string{"spec.parent", "the driver vlan needs it"}},
		{"vxlan without an identifier", networkYAML, "  parent: eth1", "  driver: vxlan", []string{"spec.vni", "the driver vxlan needs the identifier"}},
		{"hosts as gateway behind a parent", networkYAML, "  parent: eth1", "  parent: eth1\n  gateway: Host", []string{"spec.gateway", "Host", "unset parent"}},
		{"address of a router", networkYAML, "bridge: padis0\n  parent: eth1", "driver: routed\n  bgp: {asn: 64512, peers: [{address: r1, asn: 64500}]}", []string{"spec.bgp.peers[0].address", "r1", "must be an IP address"}},
		{"hold time", networkYAML, "bridge: padis0\n  parent: eth1", "driver: routed\n  bgp: {asn: 64512, peers: [{address: 10.0.0.1, asn: 64500, holdTime: 1s}]}", []string{"spec.bgp.peers[0].holdTime", "1s", "from 3s to 65535s"}},
		{"bandwidth", networkYAML, "  parent: eth1", "  bandwidth: {egress: 100}", []string{"spec.bandwidth.egress", "bits per second from 10k to 1T"}},
		{"own sysctl", networkYAML, "  parent: eth1", "  sysctls: {net.ipv4.conf.all.arp_ignore: '0'}", []string{"spec.sysctls[net.ipv4.conf.all.arp_ignore]", "Padis sets it itself"}},
		{"vlan tag", networkYAML, "  parent: eth1", "  vlan: 4095", []string{"spec.vlan", "4095", "4094"}},
		{"mtu", networkYAML, "  parent: eth1", "  mtu: 100", []string{"spec.mtu", "100", "576"}},
		{"driver", networkYAML, "  parent: eth1", "  driver: magic", []string{"spec.driver", "magic", "bridge"}},
		{"IPv6 on a network with a small mtu", poolYAML, "net-bad\n  cidr: 10.90.0.0/24\n  gateway: 10.90.0.1\n  ranges:\n  - {from: 10.90.0.10, to: 10.90.0.20}", "inputs-small\n  cidr: fd00:90::/64", []string{"spec.network", "inputs-small", "mtu of 1200", "raise spec.mtu of the Network"}},
		{"pool on the hosts' network", poolYAML, "net-bad", "inputs-host", []string{"spec.network", "inputs-host", "with the driver host", "no pool in Apps"}},

		{"pool and network", appYAML, "- pool: absent", "- {pool: absent, network: inputs-host}", []string{"spec.networks[0]", "exactly one of pool", "and network"}},
		{"neither pool nor network", appYAML, "- pool: absent", "- addresses: []", []string{"spec.networks[0]", "exactly one of pool"}},
		{"the hosts' network and another", appYAML, "- pool: absent", "- pool: absent\n  - network: inputs-host", []string{"spec.networks", "has no other interfaces"}},
		{"a network of another driver", appYAML, "- pool: absent", "- network: inputs-small", []string{"spec.networks[0].network", "inputs-small", "has the driver bridge", "name one of its IPPools"}},
		{"loopback with the hosts' network", appYAML, "- pool: absent", "- network: inputs-host\n  loopbackAddresses: [10.1.1.1]", []string{"spec.loopbackAddresses", "on the host's loopback"}},
		{"loopback address of a pool", pooled, "  placement:", "  loopbackAddresses: [10.91.0.60]\n  placement:", []string{"spec.loopbackAddresses[0]", "10.91.0.60", "padis ip reserve inputs 10.91.0.60"}},
		{"loopback address of another namespace", appYAML, "  placement:", "  loopbackAddresses: [10.91.0.50]\n  placement:", []string{"spec.loopbackAddresses[0]", "10.91.0.50", "may not be used by namespace default"}},
		{"loopback address of all", appYAML, "  placement:", "  loopbackAddresses: [127.0.0.1]\n  placement:", []string{"spec.loopbackAddresses[0]", "127.0.0.1", "is no address that others can send to"}},
		{"bandwidth of an interface", appYAML, "- pool: absent", "- {pool: absent, bandwidth: {ingress: 5T}}", []string{"spec.networks[0].bandwidth.ingress", "bits per second from 10k to 1T"}},
		{"after without Replace After", appYAML, "  placement:", "  unreachable: {after: 5m}\n  placement:", []string{"spec.unreachable.after", "replace: After"}},
		{"Lease without lease", appYAML, "  placement:", "  unreachable: {replace: Lease}\n  placement:", []string{"spec.unreachable.lease", "replace: Lease"}},
		{"a lease too short", appYAML, "  placement:", "  unreachable: {replace: Lease, lease: 5s}\n  placement:", []string{"spec.unreachable.lease", "5s", "at least 10s"}},
		{"two quotas for one pool", tenantYAML, "  namespaces: [bad-a]", "  addressQuotas: [{max: 1}, {pool: a, max: 1}, {max: 2}]", []string{"spec.addressQuotas", "two quotas are for the same pool"}},
		{"a quota below nothing", tenantYAML, "  namespaces: [bad-a]", "  addressQuotas: [{max: -1}]", []string{"spec.addressQuotas[0].max", "-1"}},

		{"tenant apart from itself", tenantYAML, "  namespaces: [bad-a]", "  notColocatedWith: [bad-tenant]", []string{"cannot be kept apart from itself", "notColocatedWith"}},
		{"namespace of two tenants", tenantYAML, "bad-a", "inputs", []string{"spec.namespaces[0]", "inputs", "belongs to tenant inputs", "remove it there first"}},
		{"namespace twice", tenantYAML, "[bad-a]", "[bad-a, bad-a]", []string{"spec.namespaces[1]", "Duplicate", "bad-a"}},

		{"host path of a tenant", tenantYAML, "  namespaces: [bad-a]", "  hostPaths: [srv/]", []string{"spec.hostPaths[0]", "absolute path without .."}},
		{"default memory of a tenant", tenantYAML, "  namespaces: [bad-a]", "  defaultResources: {memory: 1Mi}", []string{"spec.defaultResources.memory", "at least 4Mi"}},
		{"capability of a tenant", tenantYAML, "  namespaces: [bad-a]", "  privileges: {capabilities: [ALL]}", []string{"spec.privileges.capabilities[0]", "one capability"}},

		{"registry with a scheme", registryYAML, "host: bad.example.com", "host: https://bad.example.com", []string{"spec.host", "must be a host with or without a port"}},
		{"mirror without a scheme", registryYAML, "https://mirror", "mirror", []string{"spec.mirrors[0]"}},
		{"only no mirrors", registryYAML, "mirrors: [https://mirror]", "mirrorsOnly: true", []string{"spec.mirrorsOnly", "nothing could be pulled"}},
		{"plain HTTP with all", registryYAML, "host: bad.example.com", "host: '*'\n  plainHTTP: true", []string{"spec.plainHTTP", "each registry by itself"}},
		{"authorities", registryYAML, "host: bad.example.com", "host: bad.example.com\n  caBundle: yes please", []string{"spec.caBundle", "certificates in PEM"}},
		{"registry twice", registryYAML, "bad.example.com", "inputs.example.com", []string{"spec.host", "inputs.example.com", "by Registry inputs already"}},

		{"second upgrade", "apiVersion: padis.io/v1alpha1\nkind: ExecutorUpgrade\nmetadata: {name: other}\nspec: {}\n", "", "", []string{"call it default"}},
		{"sum of an upgrade", "apiVersion: padis.io/v1alpha1\nkind: ExecutorUpgrade\nmetadata: {name: default}\nspec: {artifactSHA256: abc}\n", "", "", []string{"spec.artifactSHA256", "abc"}},
		{"pull of nothing", "apiVersion: padis.io/v1alpha1\nkind: ImagePrepull\nmetadata: {name: bad, namespace: default}\nspec: {images: []}\n", "", "", []string{"spec.images", "at least 1"}},
		{"pull of no image", "apiVersion: padis.io/v1alpha1\nkind: ImagePrepull\nmetadata: {name: bad, namespace: default}\nspec: {images: ['a b']}\n", "", "", []string{"spec.images[0]", "must be an image as"}},

		{"credentials without key", "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: default}\ntype: kubernetes.io/dockerconfigjson\n", "", "", []string{"data[.dockerconfigjson]", "Required"}},
		{"credentials of no registry", "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: default}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: hunter2}\n", "", "", []string{"data[.dockerconfigjson]", "is not JSON", "redacted"}},
		{"certificate without key", "apiVersion: v1\nkind: Secret\nmetadata: {name: c, namespace: default}\ntype: kubernetes.io/tls\nstringData: {tls.crt: a}\n", "", "", []string{"data[tls.key]", "Required"}},

		{"namespace name", "apiVersion: v1\nkind: Namespace\nmetadata: {name: Bad_Name}\n", "", "", []string{"metadata.name", "Bad_Name"}},
		{"config map key", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: default}\ndata: {'a/b': c}\n", "", "", []string{"data[a/b]"}},
		{"kind unknown", strings.Replace(appYAML, "kind: App", "kind: Appp", 1), "", "", []string{`no matches for kind "Appp"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.old != "" && !strings.Contains(c.base, c.old) {
				t.Fatalf("the case changes nothing: %q is not in the manifest", c.old)
			}
			refused(t, strings.Replace(c.base, c.old, c.new, 1), c.wants, "apply", "-f", "-")
		})
	}
}

func TestImmutableFieldsAndInUse(t *testing.T) {
	kc(t, "", "create", "namespace", "in-use")
	kc(t, strings.NewReplacer("bad-net", "in-use", "padis0", "inuse0").Replace(networkYAML), "apply", "-f", "-")
	pool := strings.NewReplacer("bad-pool", "in-use", "net-bad", "in-use", "10.90.", "10.93.").Replace(poolYAML)
	kc(t, pool, "apply", "-f", "-")
	app := strings.NewReplacer("default", "in-use", "absent", "in-use").Replace(appYAML)
	kc(t, app, "apply", "-f", "-")

	refused(t, strings.ReplaceAll(pool, "10.93.0", "10.94.0"), []string{"spec.cidr", "cannot be changed from 10.93.0.0/24", "create a new IPPool"}, "apply", "-f", "-")
	refused(t, strings.ReplaceAll(pool, "network: in-use", "network: other"), []string{"spec.network", "cannot be changed from in-use"}, "apply", "-f", "-")
	network := strings.NewReplacer("bad-net", "in-use", "padis0", "inuse0").Replace(networkYAML)
	refused(t, strings.Replace(network, "spec:", "spec:\n  driver: vlan\n  vlan: 7", 1),
		[]string{"spec.driver", "cannot be changed from bridge to vlan while pools are on the network (in-use)", "make a new Network"}, "apply", "-f", "-")
	kc(t, network+"  mtu: 9000\n", "apply", "-f", "-")
	shared.live.Addresses.Set(&runtime.Address{ObjectMeta: metav1.ObjectMeta{Name: "10.93.0.12"},
		Status: runtime.AddressStatus{Address: "10.93.0.12", Pool: "in-use", State: runtime.AddressAllocated, Namespace: "in-use", Instance: "web-0"}})
	shared.live.Addresses.Set(&runtime.Address{ObjectMeta: metav1.ObjectMeta{Name: "10.93.0.13"},
		Status: runtime.AddressStatus{Address: "10.93.0.13", Pool: "in-use", State: runtime.AddressCooling, Former: "in-use/web-1"}})
	refused(t, strings.Replace(pool, "from: 10.93.0.10", "from: 10.93.0.14", 1), []string{"10.93.0.12 (in-use/web-0)", "scale these Apps in or move them first"}, "apply", "-f", "-")
	refused(t, pool+"  reserved: [{from: 10.93.0.11, to: 10.93.0.15}]\n", []string{"10.93.0.12 (in-use/web-0)", "out of spec.gateway and spec.reserved"}, "apply", "-f", "-")
	kc(t, pool+"  reserved: [{from: 10.93.0.13}]\n", "apply", "-f", "-")
	kc(t, pool, "apply", "-f", "-")
	refused(t, "", []string{"used by apps in-use/web", "spec.networks"}, "delete", "ippool", "in-use")
	refused(t, "", []string{"used by ippools in-use", "delete them first"}, "delete", "network", "in-use")
	refused(t, "", []string{"used by apps in-use/web"}, "delete", "ippools", "--all")

	kc(t, "", "delete", "app", "web", "-n", "in-use")
	refused(t, "", []string{"still held (10.93.0.12 by in-use/web-0)"}, "delete", "ippool", "in-use")
	shared.live.Addresses.Delete("", "10.93.0.12")
	kc(t, "", "delete", "ippool", "in-use")
	shared.live.Addresses.Delete("", "10.93.0.13")
	kc(t, "", "delete", "network", "in-use")
}

func TestASpecThatIsLeftAloneIsNotJudgedAgain(t *testing.T) {
	kc(t, "", "create", "namespace", "ratchet")
	app := func(name string) string {
		return strings.NewReplacer("default", "ratchet", "name: web", "name: "+name, "- pool: absent", "- {pool: ratchet, addresses: [10.95.0.5]}").Replace(appYAML)
	}
	kc(t, app("one"), "apply", "-f", "-")
	refused(t, app("two"), []string{"10.95.0.5", "app one"}, "apply", "-f", "-")
	// The pool comes later and cannot give the address; labels of the App can still be changed.
	kc(t, strings.NewReplacer("bad-pool", "ratchet", "10.90.", "10.95.").Replace(poolYAML), "apply", "-f", "-")
	kc(t, "", "label", "app", "one", "-n", "ratchet", "a=b")
	refused(t, fmt.Sprintf("%s\n", strings.Replace(app("one"), "replicas: 2", "replicas: 3", 1)), []string{"10.95.0.5", "in no range"}, "apply", "-f", "-")
}
