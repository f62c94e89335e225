package e2e

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// repository is a space with a GitSource and a Sync of a repository that is served over HTTP.
type repository struct {
	space
	*sourcetest.Work
}

const synced = `
apiVersion: padis.io/v1alpha1
kind: GitSource
metadata: {name: repo, namespace: {{.Space.Name}}}
spec: {url: "{{.App}}", interval: 5s}
---
apiVersion: padis.io/v1alpha1
kind: Sync
metadata: {name: all, namespace: {{.Space.Name}}}
spec: {sourceRef: {name: repo}, prune: true, retry: {interval: 1s, max: 5s}}
`

func newRepository(t *testing.T, files ...string) (repository, string) {
	t.Helper()
	r := repository{newSpace(t), sourcetest.NewWork(t)}
	commit := r.Commit(files...)
	must(t, r.apply(ctx(t), synced, sourcetest.HTTP(t, r.Work, sourcetest.Login{}).URL))
	return r, commit
}

// config is the manifest of a ConfigMap, and sleeper that of an App.
func config(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {key: %q}\n", name, value)
}

func (r repository) sleeper(name string) string {
	return fmt.Sprintf("apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec:\n  template: {command: [sleep, \"1000\"], resources: {cpu: 10m, memory: 16Mi}}\n  networks: [{pool: %s}]\n", name, r.name)
}

// inForce waits until a commit is applied and healthy.
func (r repository) inForce(t *testing.T, c context.Context, commit string) {
	t.Helper()
	if out, err := cluster.Padis(c, "wait", "--for=jsonpath={.status.lastAppliedCommit}="+commit, "sync/all", "-n", r.name, "--timeout=80s"); err != nil {
		state, _ := cluster.Padis(c, "why", "sync/all", "-n", r.name)
		t.Fatalf("%v\n%s\n%s", err, out, state)
	}
}

// The scheduler dies while a commit is being applied: the next one finishes it, and knows all that the dead one had applied.
func TestSchedulerDiesInTheMiddleOfASync(t *testing.T) {
	const maps, apps = 60, 3
	r, first := newRepository(t, "README.md", "Nothing yet.\n")
	c := ctx(t)
	r.inForce(t, c, first)
	var files []string
	for i := range maps {
		files = append(files, fmt.Sprintf("config/%02d.yaml", i), config(fmt.Sprintf("c-%02d", i), "1"))
	}
	for i := range apps {
		files = append(files, fmt.Sprintf("apps/%d.yaml", i), r.sleeper(fmt.Sprintf("a-%d", i)))
	}
	second := r.Commit(files...)
	victim, err := cluster.FindOne("padis", " scheduler ", "--data-dir "+cluster.Dir)
	must(t, err)
	// In the middle is when something of it is there.
	for {
		out, err := cluster.Kubectl(c, "get", "configmaps,apps", "-n", r.name, "-o", "name")
		if err == nil && strings.Contains(out, "configmap/c-") {
			break
		}
		must(t, c.Err())
	}
	must(t, syscall.Kill(victim.Pid, syscall.SIGKILL))
	c = ctx(t)
	for {
		if _, err := cluster.Apps(c, ""); err == nil {
			break
		}
		must(t, c.Err())
	}
	r.inForce(t, c, second)
	out, err := cluster.Kubectl(c, "get", "configmaps,apps", "-n", r.name, "-o", "name")
	must(t, err)
	if n := strings.Count(out, "configmap/c-"); n != maps {
		t.Errorf("%d ConfigMaps instead of %d", n, maps)
	}
	for i := range apps {
		_, err := cluster.WaitReady(c, r.name, fmt.Sprintf("a-%d", i), 1)
		must(t, err)
	}
	// What leaves the repository goes, also what the dead one had applied.
	r.Git("rm", "-q", "-r", "config")
	r.inForce(t, c, r.Commit("apps/0.yaml", r.sleeper("a-0")))
	if out, err = cluster.Kubectl(c, "get", "configmaps", "-n", r.name, "-o", "name"); err != nil || strings.Contains(out, "configmap/c-") {
		t.Errorf("ConfigMaps are still there: %v\n%s", err, out)
	}
}

// Stock kubectl works with the kinds as with any others.
func TestKubectlKnowsSyncs(t *testing.T) {
	r, commit := newRepository(t, "a.yaml", config("a", "1"))
	c := ctx(t)
	r.inForce(t, c, commit)
	for _, k := range []struct {
		args []string
		want []string
	}{
		{[]string{"wait", "--for=condition=Ready", "sync/all", "gitsource/repo", "-n", r.name, "--timeout=30s"}, []string{"sync.padis.io/all condition met", "gitsource.padis.io/repo condition met"}},
		{[]string{"get", "gitsources,syncs", "-n", r.name}, []string{"URL", "repo", "APPLIED", commit, "UpToDate", "True"}},
		{[]string{"get", "gitsrc", "repo", "-n", r.name, "-o", "jsonpath={.status.commit}"}, []string{commit}},
		{[]string{"describe", "sync", "all", "-n", r.name}, []string{"Last Applied Commit", commit, "Inventory", "Events", "UpToDate"}},
		{[]string{"describe", "gitsource", "repo", "-n", r.name}, []string{"Fetched", commit}},
		{[]string{"explain", "sync.spec"}, []string{"pruneLimit", "dependsOn", "How many objects one commit may delete without confirmation"}},
		{[]string{"explain", "gitsource.spec.verify.signers"}, []string{"identities", "allowed_signers"}},
		{[]string{"events", "--for", "sync/all", "-n", r.name}, []string{"UpToDate"}},
		{[]string{"auth", "can-i", "create", "syncs.padis.io", "-n", r.name}, []string{"yes"}},
	} {
		out, err := cluster.Kubectl(c, k.args...)
		if err != nil {
			t.Error(err)
		}
		for _, w := range k.want {
			if !strings.Contains(out, w) {
				t.Errorf("kubectl %v does not print %q:\n%s", k.args, w, out)
			}
		}
	}
	// A change by kubectl alone: fetched at once, applied, and what it says of a Sync that contradicts itself.
	next := r.Commit("a.yaml", config("a", "2"))
	if out, err := cluster.Kubectl(c, "annotate", "gitsource", "repo", "-n", r.name, "--overwrite", fmt.Sprintf("padis.io/fetch=%d", time.Now().UnixNano())); err != nil {
		t.Fatal(out, err)
	}
	r.inForce(t, c, next)
	out, err := applyWith(c, "kubectl", "apiVersion: padis.io/v1alpha1\nkind: Sync\nmetadata: {name: bad, namespace: "+r.name+"}\nspec: {sourceRef: {name: repo}, path: ../other}\n")
	if err == nil || !strings.Contains(out, "must be a path within the repository") {
		t.Errorf("%v\n%s", err, out)
	}
}
