package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

type upgradeProgress struct{ Generation, Observed, Updated, Upgrading, Total int }

func progressOf(t *testing.T, c context.Context, own *harness.Cluster) upgradeProgress {
	t.Helper()
	out, err := own.Padis(c, "get", "executorupgrade", "default", "-o", "json")
	must(t, err)
	var u v1alpha1.ExecutorUpgrade
	must(t, json.Unmarshal([]byte(out), &u))
	return upgradeProgress{int(u.Generation), int(u.Status.ObservedGeneration), int(u.Status.Updated), int(u.Status.Upgrading), int(u.Status.Total)}
}

// A new executor on every host, and no instance is started again.
func TestUpgradeOfExecutorsRestartsNothing(t *testing.T) {
	needContainers(t)
	c := ctx(t)
	// Binaries of its own: one of them is to change.
	bin := filepath.Join(t.TempDir(), "bin")
	must(t, os.CopyFS(bin, os.DirFS(cluster.Bin)))
	own, err := harness.Start(c, harness.Options{Dir: t.TempDir(), Bin: bin, Hosts: 3})
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
  replicas: 6
  template:
    image: HOST/page:1
    resources: {cpu: 50m, memory: 32Mi}
    healthChecks: [{http: {port: 8080, path: /}, interval: 1s, timeout: 1s}]
  networks: [{pool: up}]
`, "HOST", r.Host())), 0o600))
	_, err = own.Padis(c, "apply", "-f", manifest)
	must(t, err)
	is, err := own.WaitReady(c, "default", "page", 6)
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
	// One host after the other, and no further one from a pause on until it goes on.
	until(t, c, "the upgrade begins", func() (bool, string) {
		out, err := own.Padis(c, "upgrade", "executors", "--wait=false")
		return err == nil, out
	})
	progress := func() upgradeProgress { return progressOf(t, c, own) }
	until(t, c, "an executor is being replaced", func() (bool, string) {
		p := progress()
		return p.Upgrading == 1 || p.Updated > 0, fmt.Sprintf("%+v", p)
	})
	_, err = own.Padis(c, "upgrade", "executors", "--pause")
	must(t, err)
	until(t, c, "what was begun is finished", func() (bool, string) {
		p := progress()
		return p.Observed == p.Generation && p.Upgrading == 0 && p.Updated > 0, fmt.Sprintf("%+v", p)
	})
	paused := progress()
	if paused.Total != 3 || paused.Updated >= paused.Total {
		t.Errorf("nothing was left to be paused: %+v", paused)
	}
	time.Sleep(3 * time.Second) // a replacement begins within a fraction of it
	if p := progress(); p != paused {
		t.Errorf("paused at %+v, and went on to %+v", paused, p)
	}
	until(t, c, "the upgrade is done", func() (bool, string) {
		out, err := own.Padis(c, "upgrade", "executors", "--resume", "--timeout", "60s")
		return err == nil && strings.Contains(out, "3 of 3"), out
	})
	after, err := own.WaitReady(c, "default", "page", 6)
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
