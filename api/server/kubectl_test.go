package server

import (
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"padis.io/padis/api/runtime"
)

func contains(t *testing.T, out string, wants ...string) {
	t.Helper()
	for _, w := range wants {
		if !strings.Contains(out, w) {
			t.Errorf("the output does not contain %q:\n%s", w, out)
		}
	}
}

func TestKubectlSeesTheServer(t *testing.T) {
	out := kc(t, "", "api-resources")
	contains(t, out, "apps", "ippools", "networks", "tenants", "instances", "agents", "addresses", "leases", "namespaces", "inst ", "pool", "net ")
	// The client's own version is set by the linker when kubectl is released; the server's is what matters here.
	r := kubectlAs(t, shared.Kubeconfig(), "", "version", "-o", "json")
	contains(t, r.stdout, `"gitVersion": "v1.37.0+padis.0.0.0-test"`, `"minor": "37"`)
	contains(t, kc(t, "", "get", "ns"), "default", "kube-system", "Active")
}

// A kubectl of another age must do as well, if the machine has one.
func TestKubectlOfTheMachine(t *testing.T) {
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("no kubectl on PATH: the one that the test builds was used by all other tests")
	}
	run := func(stdin string, args ...string) string {
		r := runCommand(t, exec.CommandContext(t.Context(), path, args...), shared.Kubeconfig(), stdin)
		if r.code != 0 {
			t.Fatalf("kubectl %v: exit %d\n%s%s", args, r.code, r.stdout, r.stderr)
		}
		return r.stdout
	}
	run("", "create", "namespace", "machine")
	run(strings.NewReplacer("default", "machine").Replace(appYAML), "apply", "-f", "-")
	run(strings.NewReplacer("default", "machine").Replace(appYAML), "apply", "--server-side", "--force-conflicts", "-f", "-")
	contains(t, run("", "get", "apps", "-n", "machine"), "NAME", "READY", "web")
	contains(t, run("", "explain", "app.spec.template.healthChecks"), "Exactly one", "of tcp, http and command is set")
	contains(t, run("", "explain", "instance.status.phase"), "Pending, BackOff")
	contains(t, run("", "version"), "v1.37.0+padis")
	run("", "delete", "namespace", "machine")
}

func TestApplyDiffScaleWaitExplainDescribe(t *testing.T) {
	kc(t, "", "create", "namespace", "verbs")
	app := strings.NewReplacer("default", "verbs").Replace(appYAML)
	contains(t, kc(t, app, "apply", "-f", "-"), "app.padis.io/web created")
	// kubectl compares lists as a whole and sees the defaults in them as a change; the server sees that nothing changes.
	kc(t, app, "apply", "-f", "-")
	contains(t, kc(t, "", "get", "app", "web", "-n", "verbs", "-o", "jsonpath=generation {.metadata.generation}"), "generation 1")

	r := kubectlAs(t, shared.Kubeconfig(), strings.Replace(app, "replicas: 2", "replicas: 5", 1), "diff", "-f", "-")
	if r.code != 1 {
		t.Errorf("diff of a changed App exits %d, want 1: %s", r.code, r.stderr)
	}
	contains(t, r.stdout, "-  replicas: 2", "+  replicas: 5")

	kc(t, "", "scale", "app/web", "-n", "verbs", "--replicas=3")
	contains(t, kc(t, "", "get", "app", "web", "-n", "verbs", "-o", "jsonpath={.spec.replicas}"), "3")
	contains(t, kc(t, "", "explain", "app.spec.template.resources"), "CPUs, for example 500m", "memory")
	contains(t, kc(t, "", "explain", "agents.status.total"), "cpuMilli")
	contains(t, kc(t, "", "describe", "app", "web", "-n", "verbs"), "Name:         web", "Grace Period:", "Events:")
	// What the schema fills in is there for everybody.
	contains(t, kc(t, "", "get", "app", "web", "-n", "verbs", "-o", "yaml"), "signal: SIGTERM", "maxFiles: 3", "protocol: TCP")

	kc(t, "", "patch", "app", "web", "-n", "verbs", "--subresource=status", "--type=merge", "-p",
		`{"status":{"summary":"3/3","conditions":[{"type":"Available","status":"True","reason":"Complete","message":"ok","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}`)
	kc(t, "", "wait", "app/web", "-n", "verbs", "--for=condition=Available", "--timeout=10s")
	out := kc(t, "", "get", "app", "-n", "verbs")
	contains(t, out, "READY", "UP-TO-DATE", "AVAILABLE", "3/3", "True", "Complete")
	kc(t, "", "delete", "app", "web", "-n", "verbs", "--wait")
	kc(t, "", "wait", "app/web", "-n", "verbs", "--for=delete", "--timeout=10s")
}

func TestServerSideApplyConflict(t *testing.T) {
	kc(t, "", "create", "namespace", "ssa")
	app := strings.NewReplacer("default", "ssa").Replace(appYAML)
	kc(t, app, "apply", "--server-side", "--field-manager=git", "-f", "-")
	refused(t, strings.Replace(app, "replicas: 2", "replicas: 4", 1), []string{"conflict", `"git"`, ".spec.replicas"}, "apply", "--server-side", "--field-manager=me", "-f", "-")
	kc(t, strings.Replace(app, "replicas: 2", "replicas: 4", 1), "apply", "--server-side", "--field-manager=me", "--force-conflicts", "-f", "-")
	contains(t, kc(t, "", "get", "app", "web", "-n", "ssa", "-o", "jsonpath={.spec.replicas}"), "4")
}

func TestTablesOfAllKinds(t *testing.T) {
	kc(t, "", "create", "namespace", "tables")
	kc(t, strings.NewReplacer("bad-net", "tables", "padis0", "tables0").Replace(networkYAML), "apply", "-f", "-")
	kc(t, strings.NewReplacer("bad-pool", "tables", "net-bad", "tables", "10.90.", "10.96.").Replace(poolYAML), "apply", "-f", "-")
	kc(t, strings.NewReplacer("bad-tenant", "tables", "bad-a", "tables").Replace(tenantYAML), "apply", "-f", "-")
	kc(t, "", "create", "secret", "generic", "password", "--from-literal=a=b", "-n", "tables")
	kc(t, "", "create", "configmap", "settings", "--from-literal=a=b", "-n", "tables")
	shared.live.Instances.Set(&runtime.Instance{ObjectMeta: metav1.ObjectMeta{Namespace: "tables", Name: "web-0", Labels: map[string]string{"padis.io/app": "web"}},
		Status: runtime.InstanceStatus{App: "web", Phase: "Running", Ready: true, Host: "host1", Addresses: []string{"10.96.0.10"}, Restarts: 2,
			Revision: "abc", Reason: "Ready", Message: "fine", TaskID: "tables.web-0.1.1"}})
	shared.live.Agents.Set(&runtime.Agent{ObjectMeta: metav1.ObjectMeta{Name: "agent-s1"}, Status: runtime.AgentStatus{ID: "agent-S1", Hostname: "host1", State: "Active",
		Total: runtime.Amounts{CPUMilli: 2000, MemoryMiB: 16384}, Used: runtime.Amounts{CPUMilli: 500, MemoryMiB: 64}, Instances: 1, Attributes: map[string]string{"rack": "r1", "az": "a"}}})
	shared.live.Addresses.Set(&runtime.Address{ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.10"}, Status: runtime.AddressStatus{Address: "10.96.0.10", Pool: "tables", State: runtime.AddressAllocated, Namespace: "tables", Instance: "web-0", Host: "host1", Conflict: "02:42:00:00:00:01"}})
	shared.live.Addresses.Set(&runtime.Address{ObjectMeta: metav1.ObjectMeta{Name: "fd00:96::10"}, Status: runtime.AddressStatus{Address: "fd00:96::10", Network: "tables", Pool: "tables6", State: runtime.AddressCooling, Former: "tables/web-1"}})

	contains(t, kc(t, "", "get", "networks", "tables"), "DRIVER", "bridge", "tables0", "eth1", "ACCEPTED")
	contains(t, kc(t, "", "get", "pool", "tables"), "CIDR", "10.96.0.0/24", "10.96.0.1", "ALLOCATED", "FREE")
	contains(t, kc(t, "", "get", "tenants", "tables"), "NAMESPACES", `["tables"]`)
	contains(t, kc(t, "", "get", "secrets,configmaps", "-n", "tables"), "Opaque", "settings", "DATA")
	contains(t, kc(t, "", "get", "inst", "-n", "tables"), "NAME", "READY", "PHASE", "HOST", "ADDRESS", "RESTARTS", "AGE", "web-0", "true", "Running", "host1", "10.96.0.10", "2")
	contains(t, kc(t, "", "get", "inst", "-n", "tables", "-o", "wide"), "REVISION", "REASON", "MESSAGE", "TASK", "abc", "fine", "tables.web-0.1.1")
	contains(t, kc(t, "", "get", "agents", "-o", "wide"), "agent-s1", "host1", "Active", "0.5/2", "64Mi/16.0Gi", "az=a,rack=r1")
	contains(t, kc(t, "", "get", "addresses"), "ADDRESS", "STATE", "10.96.0.10", "Allocated (conflict)", "tables", "web-0", "host1", "fd00:96::10", "Cooling")
	contains(t, kc(t, "", "get", "address", "fd00:96::10", "-o", "wide"), "FORMER", "CONFLICT", "tables/web-1")
	contains(t, kc(t, "", "get", "all", "-n", "tables"), "instance.runtime.padis.io/web-0")
	contains(t, kc(t, "", "get", "padis", "-n", "tables"), "ippool.padis.io/tables", "address.runtime.padis.io/10.96.0.10", "agent.runtime.padis.io/agent-s1")

	for selector, found := range map[string]bool{
		"status.phase=Running": true, "status.host=host1": true, "status.app=web": true, "status.ready=true": true, "metadata.name=web-0": true,
		"status.phase=Pending": false, "status.host!=host1": false, "status.app=web,status.ready=false": false,
	} {
		out := kc(t, "", "get", "instances", "-n", "tables", "--field-selector", selector, "-o", "name")
		if strings.Contains(out, "web-0") != found {
			t.Errorf("field selector %s: found %v, want %v", selector, !found, found)
		}
	}
	refused(t, "", []string{`field "status.colour"`, "use one of"}, "get", "instances", "-n", "tables", "--field-selector", "status.colour=red")
	contains(t, kc(t, "", "get", "addresses", "--field-selector", "status.pool=tables"), "10.96.0.10")
	if out := kc(t, "", "get", "addresses", "--field-selector", "status.state=Cooling", "-o", "name"); strings.TrimSpace(out) != "address.runtime.padis.io/fd00:96::10" {
		t.Errorf("cooling are %q", out)
	}
	contains(t, kc(t, "", "get", "instances", "-A", "-l", "padis.io/app=web"), "web-0")
	kc(t, "", "wait", "instance/web-0", "-n", "tables", "--for=jsonpath={.status.phase}=Running", "--timeout=10s")

	// A pool whose addresses are held cannot go, even when no App names it.
	refused(t, "", []string{"10.96.0.10 by tables/web-0", "wait until"}, "delete", "ippool", "tables")
	shared.live.Addresses.Delete("", "10.96.0.10")
	shared.live.Addresses.Delete("", "fd00:96::10")
	kc(t, "", "delete", "ippool", "tables")
	shared.live.Instances.Delete("tables", "web-0")
	shared.live.Agents.Delete("", "agent-s1")
}

func TestEventsAreShownAsKubectlShowsThem(t *testing.T) {
	kc(t, "", "create", "namespace", "events")
	kc(t, `apiVersion: v1
kind: Event
metadata: {name: web.1, namespace: events}
involvedObject: {kind: App, name: web, namespace: events, apiVersion: padis.io/v1alpha1}
reason: ScaledOut
message: "from 1 to 2"
type: Normal
count: 3
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:01:00Z"
source: {component: padis}
`, "create", "-f", "-")
	contains(t, kc(t, "", "get", "events", "-n", "events"), "LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE", "app/web", "ScaledOut", "from 1 to 2")
	contains(t, kc(t, "", "events", "-n", "events", "--for", "app/web"), "ScaledOut", "(x3 over")
	if out := kc(t, "", "get", "events", "-n", "events", "--field-selector", "involvedObject.name=other", "-o", "name"); out != "" {
		t.Errorf("an event of another object was found: %s", out)
	}
	refused(t, strings.ReplaceAll(`apiVersion: v1
kind: Event
metadata: {name: web.2, namespace: events}
involvedObject: {kind: App, name: web, namespace: default}
`, "\t", ""), []string{"involvedObject.namespace", "namespace of the object"}, "create", "-f", "-")
}

func TestConfigurationThroughKubectl(t *testing.T) {
	kc(t, "", "create", "namespace", "configured")
	kc(t, "", "create", "secret", "docker-registry", "pull", "-n", "configured", "--docker-server=registry.example.com", "--docker-username=u", "--docker-password=p")
	kc(t, "", "create", "configmap", "settings", "-n", "configured", "--from-literal=shop.conf=a=1")
	kc(t, "", "create", "secret", "generic", "db", "-n", "configured", "--from-literal=password=p")
	contains(t, kc(t, "", "get", "secrets,cm", "-n", "configured"), "kubernetes.io/dockerconfigjson", "configmap/settings")
	contains(t, kc(t, "", "describe", "configmap", "settings", "-n", "configured"), "shop.conf", "a=1")
	contains(t, kc(t, "", "describe", "secret", "db", "-n", "configured"), "password:  1 bytes")
	contains(t, kc(t, "", "explain", "configmap.data"), "UTF-8")
	contains(t, kc(t, "", "explain", "app.spec.template.volumes.configMap.onChange"), "Restart: instances are replaced")
	refused(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big, namespace: configured}\ndata: {a: \""+strings.Repeat("x", maxData+1)+"\"}\n",
		[]string{"Too long"}, "create", "-f", "-")

	kc(t, strings.NewReplacer("default", "configured", "emptyDir: {}", "configMap: {name: settings}").Replace(containerYAML), "apply", "-f", "-")
	contains(t, kc(t, "", "get", "app", "box", "-n", "configured", "-o", "yaml"), "onChange: None", "image: shop:1")
	if out := kc(t, "", "get", "app", "box", "-n", "configured", "-o", "jsonpath={.spec.template.resources}"); out != "" {
		t.Errorf("the schema says %s of resources: then no Tenant could", out)
	}
	kc(t, "apiVersion: padis.io/v1alpha1\nkind: ImagePrepull\nmetadata: {name: next, namespace: configured}\nspec: {images: ['shop:2']}\n", "apply", "-f", "-")
	kc(t, "apiVersion: padis.io/v1alpha1\nkind: ExecutorUpgrade\nmetadata: {name: default}\nspec: {paused: true}\n", "apply", "-f", "-")
	contains(t, kc(t, "", "get", "prepull", "-n", "configured"), "IMAGES", "WANTED", "PRESENT", "FAILED", "shop:2")
	contains(t, kc(t, "", "get", "executorupgrades"), "TOTAL", "UPDATED", "SKIPPED", "true")
	kc(t, "", "delete", "executorupgrade", "default")
	kc(t, "", "delete", "namespace", "configured")
	eventually(t, "the namespace takes its contents along", func() (bool, error) {
		return kubectlAs(t, shared.Kubeconfig(), "", "get", "namespace", "configured").code != 0, nil
	})
}

func TestSecretsTakeStringData(t *testing.T) {
	kc(t, "", "create", "namespace", "secrets")
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: secrets}\nstringData: {a: hello}\nimmutable: true\n"
	kc(t, secret, "create", "-f", "-")
	contains(t, kc(t, "", "get", "secret", "s", "-n", "secrets", "-o", "jsonpath={.data.a} {.type}"), "aGVsbG8= Opaque")
	refused(t, "", []string{"immutable", "create it anew"}, "patch", "secret", "s", "-n", "secrets", "-p", `{"stringData":{"a":"other"}}`)
}
