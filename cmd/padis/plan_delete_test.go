package main

import (
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/api/plan"
)

const doomedShop = `
apiVersion: v1
kind: Namespace
metadata: {name: doomed}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: doomed, labels: {of: doomed}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: doomed, labels: {of: doomed}}
stringData: {token: very-secret}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: web, namespace: doomed, labels: {of: doomed}}
spec: {replicas: 2, template: {command: [serve], resources: {cpu: 500m, memory: 128Mi}}}
`

// What is deleted is planned, and deleted when the plan is applied: what was meant, and nothing that has its name since.
func TestPlanDeletes(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, doomedShop)).expect(t, exitOK)
	file := filepath.Join(t.TempDir(), "plan.json")
	padis("plan", "-n", "doomed", "--delete", "app/web", "--delete", "configmap/settings", "--out", file).
		expect(t, plan.ExitChanges, "- App doomed/web", "- ConfigMap doomed/settings", "0 to update, 2 to delete")
	padis("get", "app/web", "-n", "doomed").expect(t, exitOK)
	padis("apply", "--plan", file).expect(t, exitOK, "app.padis.io/web deleted", "configmap/settings deleted")
	padis("get", "app/web", "-n", "doomed").expect(t, exitError, "not found")
	padis("apply", "--plan", file).expect(t, exitError, "nothing was applied", "App doomed/web, which is deleted already")

	padis("apply", "-f", manifest(t, doomedShop)).expect(t, exitOK)
	padis("apply", "--plan", file).expect(t, exitError, "nothing was applied", "App doomed/web, which is another object by now")
	padis("get", "app/web", "-n", "doomed").expect(t, exitOK)

	// Manifests and deletions together; the manifests first.
	more := manifest(t, strings.NewReplacer("name: web", "name: api").Replace(doomedShop))
	padis("plan", "-f", more, "--delete", "app/web", "-n", "doomed", "--out", file).expect(t, plan.ExitChanges, "+ App doomed/api", "- App doomed/web")
	r := padis("apply", "--plan", file)
	r.expect(t, exitOK, "app.padis.io/api created", "app.padis.io/web deleted")
	if strings.Index(r.out, "created") > strings.Index(r.out, "deleted") {
		t.Errorf("deleted before what is applied:\n%s", r.out)
	}

	// A whole namespace, and what goes with it.
	r = padis("plan", "--delete", "namespace/doomed")
	r.expect(t, plan.ExitChanges, "- Namespace doomed", "- App doomed/api, which goes with Namespace doomed", "- Secret doomed/keys, which goes with")

	// What is applied, has the label, and is not among the manifests any more.
	less := manifest(t, doomedShop[:strings.Index(doomedShop, "---\napiVersion: v1\nkind: Secret")])
	padis("plan", "-f", less, "--prune", "-l", "of=doomed", "--out", file).expect(t, plan.ExitChanges, "- App doomed/api", "- Secret doomed/keys")
	padis("apply", "--plan", file).expect(t, exitOK, "app.padis.io/api deleted", "secret/keys deleted")
	padis("plan", "-f", less, "--prune", "-l", "of=doomed").expect(t, plan.ExitNone)

	// Who may not delete it may not plan it.
	padis("create", "rolebinding", "viewer", "-n", "doomed", "--clusterrole=view", "--user=doomed-viewer").expect(t, exitOK)
	padis("plan", "--as", "doomed-viewer", "-n", "doomed", "--delete", "configmap/settings").expect(t, exitError, "forbidden")

	padis("plan", "-n", "doomed", "--delete", "app/none").expect(t, exitError, "--delete", "not found")
	padis("plan", "-n", "doomed", "--delete", "web").expect(t, exitError, "TYPE/NAME")
	padis("plan", "--prune", "-f", less).expect(t, exitError, "--selector")
	padis("plan", "-n", "doomed", "--delete", "app/web", "--git", "x", "--var", "x").expect(t, exitError, "NAME=VALUE")
}

// Server-side apply: conflicts are shown, and the plan is applied as it was made.
func TestPlanServerSide(t *testing.T) {
	useAPI(t)
	padis("create", "namespace", "sided").expect(t, exitOK)
	app := func(replicas string) string {
		return manifest(t, "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: web, namespace: sided}\nspec: {replicas: "+replicas+
			", template: {command: [serve], resources: {cpu: 500m, memory: 128Mi}}}")
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	padis("plan", "-f", app("1"), "--server-side", "--field-manager", "one", "--out", file).expect(t, plan.ExitChanges, "+ App sided/web")
	padis("apply", "--plan", file).expect(t, exitOK, "serverside-applied")
	padis("get", "app/web", "-n", "sided", "--show-managed-fields", "-o", "jsonpath={.metadata.managedFields[*].manager}").expect(t, exitOK, "one")
	padis("plan", "-f", app("2"), "--server-side", "--field-manager", "two").expect(t, exitError, "refused: Conflict", "one")
	padis("plan", "-f", app("2"), "--server-side", "--field-manager", "two", "--force-conflicts", "--out", file).expect(t, plan.ExitChanges, "spec.replicas: 1 -> 2")
	padis("apply", "--plan", file).expect(t, exitOK, "serverside-applied")
	padis("plan", "-f", app("2"), "--field-manager", "two").expect(t, exitError, "--server-side")
}
