package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

const rollbackSync = `
apiVersion: padis.io/v1alpha1
kind: GitSource
metadata: {name: shop, namespace: {{.Space.Name}}}
spec: {url: "{{.App}}"}
---
apiVersion: padis.io/v1alpha1
kind: Sync
metadata: {name: shop, namespace: {{.Space.Name}}}
spec: {sourceRef: {name: shop}}
`

// Who goes back with padis sees it with kubectl, and no Sync puts back what was left, until a commit says something else.
func TestRollback(t *testing.T) {
	s := newSpace(t)
	c, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := cluster.Kubectl(c, append([]string{"-n", s.name}, args...)...)
		if err != nil {
			t.Fatalf("kubectl %v: %v\n%s", args, err, out)
		}
		return out
	}
	padis := func(want string, args ...string) {
		t.Helper()
		out, err := cluster.Padis(c, append(args, "-n", s.name)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("padis %v: %v, %q is missing in\n%s", args, err, want, out)
		}
	}
	w := sourcetest.NewWork(t)
	app := func(name string) string {
		text, err := s.render(web, webApp{Replicas: 1, Name: name})
		must(t, err)
		return text
	}
	config := func(value string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other, namespace: " + s.name + "}\ndata: {key: \"" + value + "\"}\n"
	}
	push := func(files ...string) string {
		t.Helper()
		commit := w.Commit(files...)
		kubectl("annotate", "gitsource", "shop", "--overwrite", "padis.io/fetch="+commit)
		return commit
	}
	applied := func(commit string) {
		t.Helper()
		kubectl("wait", "sync/shop", "--for=jsonpath={.status.lastAppliedCommit}="+commit, "--timeout=60s")
		kubectl("wait", "sync/shop", "--for=condition=Ready", "--timeout=60s")
	}
	shop := func(want string) {
		t.Helper()
		if got := kubectl("get", "app", "web", "-o", "jsonpath={.spec.template.command[2]}"); got != want {
			t.Fatalf("the shop is %s, not %s", got, want)
		}
	}

	first := w.Commit("web.yaml", app("one"), "other.yaml", config("1"))
	must(t, s.apply(c, rollbackSync, sourcetest.HTTP(t, w, sourcetest.Login{}).URL))
	applied(first)
	bad := push("web.yaml", app("bad"))
	applied(bad)

	// A whole commit, and back to the source by one that mends it.
	padis("goes back from commit "+bad+" to "+first, "rollback", "sync", "shop", "--wait")
	shop("one")
	kubectl("wait", "sync/shop", "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=RolledBack", "--timeout=60s")
	unrelated := push("other.yaml", config("2"))
	kubectl("wait", "sync/shop", "--for=jsonpath={.status.seenCommit}="+unrelated, "--timeout=60s")
	shop("one")
	applied(push("web.yaml", app("mended")))
	shop("mended")
	padis("follows its source", "rollback", "sync", "shop", "--resume")

	// One App of a commit.
	applied(push("web.yaml", app("worse"), "other.yaml", config("3")))
	shop("worse")
	padis(`"worse" -> "mended"`, "rollback", "app", "web")
	shop("mended")
	if out := kubectl("get", "apprevisions"); !strings.Contains(out, w.Head()) || !strings.Contains(out, "system:padis:sync") {
		t.Errorf("it is not said which commit has changed the App:\n%s", out)
	}
	applied(push("other.yaml", config("4")))
	shop("mended")
	if out := kubectl("get", "sync", "shop", "-o", "jsonpath={.status.undone}"); !strings.Contains(out, "app/"+s.name+"/web") {
		t.Errorf("undone is %s", out)
	}
	applied(push("web.yaml", app("good")))
	shop("good")
	if out := kubectl("get", "sync", "shop", "-o", "jsonpath={.status.undone}{.status.conflicts}"); out != "" {
		t.Errorf("undone or in conflict is %s", out)
	}
	_, err := cluster.WaitReady(c, s.name, "web", 1)
	must(t, err)
}
