package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/api/plan"
	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
	"padis.io/padis/scheduler/planner"
	"padis.io/padis/scheduler/record"
)

// idleScheduler knows two agents on which nothing runs.
type idleScheduler struct{}

func (idleScheduler) Snapshot(context.Context) (core.Snapshot, error) {
	s := core.Snapshot{Config: core.Config{Role: "padis", Artifact: core.Artifact{URI: "http://padis/executor", SHA256: strings.Repeat("ab", 32)}}, Connected: true,
		Records: record.Snapshot{Framework: &padisv1.FrameworkRecord{FrameworkId: "F"}}}
	for i := range 2 {
		id, host := fmt.Sprint("A", i+1), fmt.Sprint("host-", i+1)
		s.Agents = append(s.Agents, core.AgentState{AgentView: core.AgentView{
			Record: &padisv1.AgentRecord{AgentId: id, Hostname: host}, Present: true,
			Seen: &mesos.Agent{ID: id, Hostname: host, Active: true, Total: mesos.Amounts{CPUMilli: 4000, MemoryMilli: 4096 * 1000, DiskMilli: 100_000_000}},
		}})
	}
	return s, nil
}

func (idleScheduler) Addresses(string) []*runtime.Address { return nil }

func letPlan(d *door, s *server.Server) error {
	p, err := planner.New(s.LoopbackConfig(), idleScheduler{})
	d.find.Store(&finder{planner: p})
	return err
}

const planned = `
apiVersion: v1
kind: Namespace
metadata: {name: planned}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: web, namespace: planned}
spec:
  replicas: 2
  template:
    command: [serve]
    env: [{name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}]
    resources: {cpu: 500m, memory: 128Mi}
  networks: [{pool: planned}]
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: planned}
spec: {network: planned, cidr: 10.99.0.0/30}
---
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: planned}
spec: {driver: bridge, bridge: planned0}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: planned}
stringData: {token: very-secret}
`

// A plan of what depends on each other, in any order, is made, shown, applied as it is, and comes to nothing then.
func TestPlan(t *testing.T) {
	useAPI(t)
	all := manifest(t, planned)
	file := filepath.Join(t.TempDir(), "plan.json")
	r := padis("plan", "-f", all, "--out", file)
	r.expect(t, plan.ExitChanges, "+ Namespace planned", "+ App planned/web", "+ IPPool planned", "web-0", "host-1")
	if strings.Contains(r.out+r.err, "very-secret") || strings.Contains(r.out, "dmVyeS1zZWNyZXQ") {
		t.Errorf("a Secret is shown:\n%s", r.out)
	}
	padis("get", "ns", "planned").expect(t, exitError, "not found")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the plan's file is %v, %v", info, err)
	}
	padis("apply", "--plan", file).expect(t, exitOK, "namespace/planned created", "app.padis.io/web created", "secret/keys created")
	padis("plan", "-f", all).expect(t, plan.ExitNone)
	// Applied again it says that it is not a plan of this world any more.
	padis("apply", "--plan", file).expect(t, exitError, "nothing was applied", "Apps", "Secrets", "plan again")

	r = padis("plan", "-f", manifest(t, strings.ReplaceAll(planned, "very-secret", "another")), "-o", "json")
	r.expect(t, plan.ExitChanges, "digest ")
	var p plan.Plan
	if err := json.Unmarshal([]byte(r.out), &p); err != nil || p.World == "" || len(p.Manifests) > 0 || strings.Contains(r.out, "YW5vdGhlcg") {
		t.Errorf("%v: %s", err, r.out)
	}

	more := manifest(t, strings.Replace(planned, "replicas: 2", "replicas: 4", 1))
	padis("plan", "-f", more, "--out", file).expect(t, plan.ExitChanges, "spec.replicas: 2 -> 4", padisv1.ReasonPoolExhausted)
	padis("scale", "app/web", "-n", "planned", "--replicas", "1").expect(t, exitOK)
	padis("apply", "--plan", file).expect(t, exitError, "nothing was applied", "Apps")
	padis("get", "app", "web", "-n", "planned", "-o", "jsonpath={.spec.replicas}").expect(t, exitOK, "1")
}

func TestPlanRefuses(t *testing.T) {
	useAPI(t)
	file := filepath.Join(t.TempDir(), "plan.json")
	bad := manifest(t, `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: bad, namespace: default}
spec: {replicas: 1, template: {command: [x], ports: [{name: http, port: 70000}]}}`)
	padis("plan", "-f", bad, "--out", file).expect(t, exitError, "! App default/bad", "refused:", "65535")
	if _, err := os.Stat(file); err == nil {
		t.Error("a plan that cannot be applied was written")
	}
	nowhere := manifest(t, `
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: bad, namespace: no-such-namespace}
spec: {replicas: 1, template: {command: [x]}}`)
	padis("plan", "-f", nowhere).expect(t, exitError, "refused:", "no-such-namespace")
	padis("plan").expect(t, exitError, "help and examples")
	padis("plan", "-f", bad, "-o", "yaml").expect(t, exitError, "use json")
	padis("apply", "--plan", bad).expect(t, exitError, "padis plan --out")
	padis("apply", "--plan", file).expect(t, exitError, "no such file")
}
