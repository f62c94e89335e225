package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

// A new executor on every host, and no instance is started again.
func TestUpgradeOfExecutorsRestartsNothing(t *testing.T) {
	needContainers(t)
	c := ctx(t)
	// Binaries of its own: one of them is to change.
	bin := filepath.Join(t.TempDir(), "bin")
	must(t, os.CopyFS(bin, os.DirFS(cluster.Bin)))
	own, err := harness.Start(c, harness.Options{Dir: t.TempDir(), Bin: bin, Hosts: 2})
	must(t, err)
	t.Cleanup(own.Stop)
	r, err := own.OpenRegistry(registry.Options{}, 0)
	must(t, err)
	t.Cleanup(r.Stop)
	_, err = r.PushBusybox("page:1", version("one"))
	must(t, err)
	manifest := filepath.Join(t.TempDir(), "page.yaml")
	must(t, os.WriteFile(manifest, []byte(strings.ReplaceAll(`
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: up}
spec: {bridge: padis0, parent: eth1}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: up}
spec: {network: up, cidr: 10.61.0.0/24, gateway: 10.61.0.1}
---
apiVersion: padis.io/v1alpha1
kind: Registry
metadata: {name: up}
spec: {host: "HOST", plainHTTP: true}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: page, namespace: default}
spec:
  replicas: 4
  template:
    image: HOST/page:1
    resources: {cpu: 50m, memory: 32Mi}
    healthChecks: [{http: {port: 8080, path: /}, interval: 1s, timeout: 1s}]
  networks: [{pool: up}]
`, "HOST", r.Host())), 0o600))
	_, err = own.Padis(c, "apply", "-f", manifest)
	must(t, err)
	is, err := own.WaitReady(c, "default", "page", 4)
	must(t, err)
	words, err := own.Fetch(c, is, 8080, "/")
	must(t, err)

	// What follows an ELF file is not part of the program, but of its checksum.
	executor := filepath.Join(bin, "padis-executor")
	b, err := os.ReadFile(executor)
	must(t, err)
	must(t, os.Remove(executor))
	must(t, os.WriteFile(executor, append(b, "another version"...), 0o755))
	scheduler, err := own.FindOne("padis", " scheduler ")
	must(t, err)
	must(t, syscall.Kill(scheduler.Pid, syscall.SIGKILL))
	until(t, c, "the upgrade is done", func() (bool, string) {
		out, err := own.Padis(c, "upgrade", "executors", "--timeout", "60s")
		return err == nil && strings.Contains(out, "2 of 2"), out
	})
	after, err := own.WaitReady(c, "default", "page", 4)
	must(t, err)
	now, err := own.Fetch(c, after, 8080, "/")
	must(t, err)
	if !maps.Equal(words, now) {
		t.Errorf("instances were started again: %v, then %v", words, now)
	}
	old := map[string]bool{}
	for _, i := range is {
		old[i.Status.Executor] = true
	}
	for _, i := range after {
		if old[i.Status.Executor] {
			t.Errorf("%s is still run by the executor %s", i.Name, i.Status.Executor)
		}
		if i.Status.Restarts != 0 {
			t.Errorf("%s is said to have been restarted", i.Name)
		}
	}
}
