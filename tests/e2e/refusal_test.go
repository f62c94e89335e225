package e2e

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
)

// What is wrong on its face is refused at apply, with the same words for padis and kubectl.
func TestRefusedAtApply(t *testing.T) {
	s := newSpace(t)
	must(t, s.apply(ctx(t), web, webApp{1, "hello"}))
	app := func(spec string) string {
		return "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: bad, namespace: " + s.name + "}\nspec: " + spec + "\n"
	}
	for name, k := range map[string]struct {
		manifest string
		want     []string
	}{
		"unknown field":        {app(`{template: {command: [a], colour: red}}`), []string{"colour"}},
		"wrong type":           {app(`{replicas: many, template: {command: [a]}}`), []string{"replicas"}},
		"port too large":       {app(`{template: {command: [a], ports: [{name: http, port: 65536}]}}`), []string{"65535"}},
		"nothing to run":       {app(`{template: {}}`), []string{"command", "image"}},
		"address outside pool": {app(`{template: {command: [a]}, networks: [{pool: ` + s.name + `, addresses: [10.99.0.1]}]}`), []string{"10.99.0.1", s.name}},
		"overlapping pool": {"apiVersion: padis.io/v1alpha1\nkind: IPPool\nmetadata: {name: overlap}\nspec: {network: e2e, cidr: " + s.prefix + ".0/25}\n",
			[]string{"overlap", s.name}},
		"bridge name too long": {"apiVersion: padis.io/v1alpha1\nkind: Network\nmetadata: {name: long}\nspec: {bridge: a-name-that-no-interface-can-have}\n", []string{"bridge", "15"}},
		"missing namespace":    {strings.Replace(app(`{template: {command: [a]}}`), s.name, "no-such-namespace", 1), []string{"no-such-namespace"}},
		"negative memory":      {app(`{template: {command: [a], resources: {memory: "-1"}}}`), []string{"memory"}},
		"two kinds of probe":   {app(`{template: {command: [a], healthChecks: [{tcp: {port: 1}, http: {port: 1}}]}}`), []string{"healthChecks"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, program := range []string{"padis", "kubectl"} {
				out, err := applyWith(ctx(t), program, k.manifest)
				if err == nil {
					t.Errorf("%s accepted it:\n%s", program, out)
				}
				for _, w := range k.want {
					if !strings.Contains(out, w) {
						t.Errorf("%s does not mention %q:\n%s", program, w, out)
					}
				}
			}
		})
	}
}

// What only shows when it is tried is told by the instance, with a reason and a remedy.
func TestShownAsCondition(t *testing.T) {
	s := newSpace(t)
	for name, k := range map[string]struct{ spec, reason, says string }{
		"no-command":  {`{template: {command: [no-such-program]}}`, "CommandNotFound", "no-such-program"},
		"no-pool":     {`{template: {command: [sleep, "9"]}, networks: [{pool: no-such-pool}]}`, "PoolNotFound", "no-such-pool"},
		"unhealthy":   {`{template: {command: [sleep, "999"], healthChecks: [{tcp: {port: 9}, gracePeriod: 1s, interval: 1s, timeout: 1s, failureThreshold: 1}]}, networks: [{pool: ` + s.name + `}]}`, "HealthCheckFailed", "9"},
		"no-artifact": {`{template: {command: [sleep, "9"], artifacts: [{uri: "file:///no/such/file", sha256: "` + strings.Repeat("0", 64) + `"}]}}`, "ArtifactFailed", "/no/such/file"},
		"nowhere":     {`{template: {command: [sleep, "9"]}, placement: {constraints: [{attribute: hostname, operator: Like, value: "mars-.*"}]}}`, "ConstraintLike", "hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			c := ctx(t)
			_, err := apply(c, "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: "+name+", namespace: "+s.name+"}\nspec: "+k.spec+"\n")
			must(t, err)
			// The status has it, and so has what the person is told to ask.
			for {
				app, err := cluster.App(c, s.name, name)
				must(t, err)
				out, err := cluster.Padis(c, "why", "app/"+name, "-n", s.name)
				must(t, err)
				if strings.Contains(out, k.reason) && strings.Contains(out, k.says) && notAvailable(app, k.reason) {
					break
				}
				if c.Err() != nil {
					t.Fatalf("neither %s nor %q:\n%+v\n%s", k.reason, k.says, app.Status.Conditions, out)
				}
			}
		})
	}
}

// notAvailable tells whether the App is not Available and its conditions mention the reason.
func notAvailable(app *v1alpha1.App, reason string) bool {
	mentioned := false
	for _, c := range app.Status.Conditions {
		mentioned = mentioned || strings.Contains(c.Reason+c.Message, reason)
	}
	return mentioned && !meta.IsStatusConditionTrue(app.Status.Conditions, v1alpha1.ConditionAvailable)
}

// A pool with too few addresses serves as many instances as it can and says what the others wait for.
func TestPoolExhausted(t *testing.T) {
	s := newSpace(t)
	c := ctx(t)
	must(t, s.apply(c, `
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: {{.Space.Name}}-tiny}
spec: {network: e2e, cidr: 10.61.{{.App}}.0/30}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: crowd, namespace: {{.Space.Name}}}
spec:
  replicas: 3
  template: {command: [sleep, "1000"]}
  networks: [{pool: {{.Space.Name}}-tiny}]
`, strings.TrimPrefix(s.prefix, "10.60.")))
	is, err := cluster.WaitInstances(c, s.name, "crowd", func(is []runtime.Instance) bool {
		ready, exhausted := 0, 0
		for _, i := range is {
			if i.Status.Ready {
				ready++
			} else if i.Status.Reason == "PoolExhausted" {
				exhausted++
			}
		}
		return ready == 2 && exhausted == 1
	})
	must(t, err)
	for _, i := range is {
		if !i.Status.Ready && !strings.Contains(i.Status.Message, s.name+"-tiny") {
			t.Errorf("the message does not name the pool: %q", i.Status.Message)
		}
	}
	// Deleting a pool in use is refused or waits; either way its instances go on.
	out, _ := cluster.Padis(c, "delete", "ippool", s.name+"-tiny", "--wait=false")
	is, err = cluster.Instances(c, s.name)
	must(t, err)
	for _, i := range is {
		if i.Status.App == "crowd" && len(i.Status.Addresses) == 1 && !i.Status.Ready {
			t.Errorf("%s is not ready after the pool's deletion was tried: %s", i.Name, out)
		}
	}
	must(t, func() error { _, err := cluster.Padis(c, "delete", "app", "crowd", "-n", s.name); return err }())
	if out, err := cluster.Padis(c, "delete", "ippool", s.name+"-tiny", "--ignore-not-found", "--timeout=20s"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
