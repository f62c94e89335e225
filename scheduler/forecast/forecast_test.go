package forecast

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"padis.io/padis/api/plan"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

const shop = `
kind: Network
metadata: {name: lan}
spec: {driver: bridge, bridge: padis0}
---
kind: IPPool
metadata: {name: front}
spec: {network: lan, cidr: 10.44.0.0/24, gateway: 10.44.0.1}
---
kind: Tenant
metadata: {name: red}
spec: {namespaces: [shop], addressQuotas: [{pool: front, max: 6}]}
---
kind: Secret
metadata: {name: keys, namespace: shop}
data: {token: c2VjcmV0}
---
kind: App
metadata: {name: web, namespace: shop}
spec:
  replicas: 4
  template:
    command: [serve]
    env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}, {name: MODE, value: a}]
    resources: {cpu: 500m, memory: 128Mi}
  networks: [{pool: front}]
---
kind: App
metadata: {name: api, namespace: shop}
spec:
  replicas: 1
  template: {command: [api], resources: {cpu: 100m, memory: 64Mi}}
  networks: [{pool: front, addresses: [10.44.0.10]}]`

// Each case is planned on a shop that runs, and its text kept.
func TestPlans(t *testing.T) {
	for _, c := range []struct {
		name, manifests string
		delete          []string
		code            int
	}{
		{name: "nothing", manifests: "kind: App\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 4}"},
		{name: "first", code: plan.ExitChanges, manifests: `
kind: App
metadata: {name: jobs, namespace: tools}
spec: {replicas: 2, template: {command: [work], resources: {cpu: 1, memory: 64Mi}}, networks: [{pool: front}]}`},
		{name: "rollout", code: plan.ExitChanges, manifests: `
kind: App
metadata: {name: web, namespace: shop}
spec: {update: {maxUnavailable: 2}, template: {command: [serve, -v], env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}, {name: MODE, value: b}]}}`},
		{name: "secret", code: plan.ExitChanges, manifests: "kind: Secret\nmetadata: {name: keys, namespace: shop}\ndata: {token: b3RoZXI=, more: eA==}"},
		{name: "paused", code: plan.ExitChanges, manifests: "kind: App\nmetadata: {name: web, namespace: shop}\nspec: {update: {paused: true}, template: {command: [serve, -v]}}"},
		{name: "scale-in", code: plan.ExitChanges, manifests: "kind: App\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 2}"},
		{name: "quota", code: plan.ExitChanges, manifests: "kind: App\nmetadata: {name: web, namespace: shop}\nspec: {replicas: 8}"},
		{name: "too-large", code: plan.ExitChanges, manifests: "kind: App\nmetadata: {name: api, namespace: shop}\nspec: {template: {resources: {cpu: 64}}}"},
		{name: "move-address", code: plan.ExitChanges, manifests: "kind: App\nmetadata: {name: api, namespace: shop}\nspec: {networks: [{pool: front, addresses: [10.44.0.20]}]}"},
		{name: "move-rack", code: plan.ExitChanges, manifests: `
kind: App
metadata: {name: web, namespace: shop}
spec: {template: {command: [serve, -v]}, placement: {constraints: [{attribute: rack, operator: Cluster, value: r2}]}}`},
		{name: "balancer", code: plan.ExitChanges, manifests: `
kind: Network
metadata: {name: edge}
spec: {driver: virtual}
---
kind: IPPool
metadata: {name: vips}
spec: {network: edge, cidr: 192.0.2.0/28}
---
kind: LoadBalancer
metadata: {name: front, namespace: shop}
spec:
  vips: [{pool: vips}]
  bgp: {asn: 64512}
  listeners: [{name: http, port: 80}]
  backends: [{app: web}]
  directors: {replicas: 2, networks: [{pool: front}], resources: {cpu: 100m, memory: 64Mi}}`},
		{name: "delete", code: plan.ExitChanges, delete: []string{"App/shop/web"}},
		{name: "refused", code: plan.ExitError, delete: []string{"IPPool//front"}, manifests: `
kind: App
metadata: {name: clash, namespace: shop}
spec: {replicas: 1, template: {command: [x], resources: {cpu: 100m, memory: 32Mi}}, networks: [{pool: front, addresses: [10.44.0.10]}]}
---
kind: App
metadata: {name: nowhere, namespace: shop}
spec: {replicas: 1, template: {command: [x], resources: {cpu: 100m, memory: 32Mi}}, networks: [{pool: none}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, 4, 4, 4096)
			b.apply(b.changes(shop))
			p, err := Make(b.input(b.changes(c.manifests, c.delete...)))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.ExitCode(); got != c.code {
				t.Errorf("exit code %d instead of %d", got, c.code)
			}
			golden(t, c.name+".txt", []byte(plan.Text(p)))
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update writes it anew:\n%s", path, got)
	}
}

// What an executor said of a container that is stopped is said no more: nothing is left of its address.
func TestStoppedContainersUseNoAddresses(t *testing.T) {
	b := newBed(t, 4, 4, 4096)
	b.apply(b.changes(shop))
	in := b.input(b.changes("kind: App\nmetadata: {name: api, namespace: shop}\nspec: {networks: [{pool: front, addresses: [10.44.0.20]}]}"))
	said := 0
	for i := range in.Scheduler.Agents {
		a := &in.Scheduler.Agents[i]
		a.Says = &padisv1.FromExecutor{Version: "1"}
		for _, r := range in.Scheduler.Records.Instances {
			if r.GetAgentId() == a.Record.GetAgentId() {
				said++
				a.Says.Addresses = append(a.Says.Addresses, &padisv1.UsedAddress{Container: r.GetTaskId(), Network: "lan", Address: r.GetAddresses()[0]})
			}
		}
	}
	p, err := Make(in)
	if err != nil || said != 5 || p.Unfinished != "" {
		t.Errorf("%d addresses are in use; %+v, %v", said, p, err)
	}
}
