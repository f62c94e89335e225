package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// gitApp is an App of a repository, in no namespace of its own.
func gitApp(name, replicas string) string {
	return "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata:\n  name: " + name + "\nspec:\n  replicas: " + replicas +
		"\n  template: {command: [serve], resources: {cpu: 100m, memory: 16Mi}}\n"
}

// sopsData is of the tests of the package that decrypts.
func sopsData(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../reconcile/gitops/render/sops/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// synced declares a namespace with a GitSource and a Sync of a server's repository.
func synced(t *testing.T, namespace, source, sync string) {
	t.Helper()
	padis("create", "namespace", namespace) // Another test may have made it.
	padis("apply", "-n", namespace, "-f", manifest(t, "apiVersion: padis.io/v1alpha1\nkind: GitSource\nmetadata: {name: shop}\nspec: "+source+
		"\n---\napiVersion: padis.io/v1alpha1\nkind: Sync\nmetadata: {name: shop}\nspec: "+sync)).expect(t, exitOK)
}

// applies does what a Sync of the namespace has done: objects are written under its name, and noted in its status.
func applies(t *testing.T, namespace string, apps map[string]string) {
	t.Helper()
	var names []string
	for name, text := range apps {
		names = append(names, name)
		text = strings.Replace(text, "  name: ", "  annotations: {padis.io/sync: "+namespace+"/shop}\n  name: ", 1)
		padis("apply", "-n", namespace, "--server-side", "--field-manager", "padis-sync", "-f", manifest(t, text)).expect(t, exitOK)
	}
	status, err := json.Marshal(map[string]any{"status": map[string]any{"objects": len(names), "inventory": []any{
		map[string]any{"group": "padis.io", "version": "v1alpha1", "kind": "App", "namespace": namespace, "names": strings.Join(names, "\n")}}}})
	if err != nil {
		t.Fatal(err)
	}
	padis("patch", "sync/shop", "-n", namespace, "--subresource=status", "--type=merge", "-p", string(status)).expect(t, exitOK)
}

// What a Sync would do with a commit, a branch or a working copy is told, and nothing is done.
func TestPlanOfASync(t *testing.T) {
	useAPI(t)
	work := sourcetest.NewWork(t)
	work.Write("apps/web.yaml", gitApp("web", "${REPLICAS:-2}"))
	work.Write("apps/api.yaml", gitApp("api", "1"))
	first := work.Commit()
	server := sourcetest.HTTP(t, work, sourcetest.Login{})
	const ns = "plan-sync"
	synced(t, ns, "{url: "+server.URL+", ref: {branch: main}}", "{sourceRef: {name: shop}, path: apps, prune: true, variables: [{name: REPLICAS, value: \"3\"}]}")
	r := padis("plan", "--sync", "shop", "-n", ns)
	r.expect(t, plan.ExitChanges, "Sync plan-sync/shop would apply commit "+first+" of refs/heads/main", "+ App plan-sync/api", "+ App plan-sync/web", "3 to create")
	padis("get", "apps", "-n", ns).expect(t, exitOK, "No resources")
	applies(t, ns, map[string]string{"web": gitApp("web", "3"), "api": gitApp("api", "1")})
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitNone, "Nothing would change")

	// A branch, by its name and by its commit; a tag; the working copy.
	work.Git("checkout", "-q", "-b", "more")
	work.Write("apps/web.yaml", gitApp("web", "${REPLICAS:-2}")+"  update: {paused: true}\n")
	work.Git("rm", "-q", "apps/api.yaml")
	second := work.Commit()
	work.Git("tag", "v2")
	for _, ref := range []string{"more", "v2", second, "refs/tags/v2", "refs/heads/more"} {
		padis("plan", "--sync", "shop", "-n", ns, "--ref", ref).expect(t, plan.ExitChanges, second, "+ spec.update: {", "- App plan-sync/api")
	}
	padis("plan", "--sync", "shop", "-n", ns, "--ref", "nowhere").expect(t, exitError, "neither a branch nor a tag")
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitNone)
	work.Write("apps/new.yaml", gitApp("new", "1"))
	r = padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir)
	r.expect(t, plan.ExitChanges, "the working copy "+work.Dir, "+ App plan-sync/new", "- App plan-sync/api", "paused")

	// JSON and files of it have no manifests, and cannot be applied but by the Sync.
	file := filepath.Join(t.TempDir(), "plan.json")
	r = padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir, "-o", "json", "--out", file)
	var p plan.Plan
	if err := json.Unmarshal([]byte(r.out), &p); err != nil || p.Sync == nil || len(p.Manifests) > 0 || r.status != plan.ExitChanges {
		t.Errorf("%v: %s%s", err, r.out, r.err)
	}
	padis("apply", "--plan", file).expect(t, exitError, "it is of the Sync plan-sync/shop", "push the commit")

	// Limits and protection.
	set := func(spec string) {
		padis("patch", "sync/shop", "-n", ns, "--type=merge", "-p", `{"spec":`+spec+`}`).expect(t, exitOK)
	}
	set(`{"pruneLimit":{"count":0},"suspend":true,"windows":[{"action":"Deny","from":"00:00","to":"24:00"}],"dependsOn":[{"name":"base"}]}`)
	padis("plan", "--sync", "shop", "-n", ns, "--ref", "more").expect(t, plan.ExitError, "! PruneLimit: the commit would delete 1 object,", "= App plan-sync/api has left the repository",
		"padis.io/confirm-prune="+second, "spec.suspend is set", "spec.windows are closed", "plan-sync/base")
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitError, "padis.io/confirm-prune=COMMIT")
	padis("annotate", "sync/shop", "-n", ns, "padis.io/confirm-prune="+second).expect(t, exitOK)
	padis("plan", "--sync", "shop", "-n", ns, "--ref", "more").expect(t, plan.ExitChanges, "- App plan-sync/api")
	set(`{"prune":false}`)
	padis("plan", "--sync", "shop", "-n", ns, "--ref", "more").expect(t, plan.ExitChanges, "stays, since spec.prune is not set")

	// What others have changed is put back; what others have applied is a conflict.
	padis("scale", "app/web", "-n", ns, "--replicas", "7").expect(t, exitOK)
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitChanges, "spec.replicas: 7 -> 3")
	padis("apply", "-n", ns, "--server-side", "--force-conflicts", "--field-manager", "somebody", "-f", manifest(t, gitApp("web", "9"))).expect(t, exitOK)
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitError, "! App plan-sync/web", "refused: Conflict", "somebody")

	// What is undone stays until a commit says something else of it.
	set(`{"undo":[{"kind":"App","namespace":"` + ns + `","name":"web","from":"` + second + `"}],"prune":true}`)
	padis("plan", "--sync", "shop", "-n", ns, "--ref", "more").expect(t, plan.ExitChanges, "= App plan-sync/web is left as it is by spec.undo", "0 to update, 1 to delete")
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitError, "! App plan-sync/web", "refused: Conflict")

	// What nobody who is believed has signed is not applied.
	signer := sourcetest.SSHSigner(t, "ops@example.com")
	padis("create", "configmap", "signers", "-n", ns, "--from-literal=keys="+string(signer.Public)).expect(t, exitOK)
	padis("patch", "gitsource/shop", "-n", ns, "--type=merge", "-p", `{"spec":{"verify":{"signers":[{"type":"SSH","configMapKeyRef":{"name":"signers","key":"keys"}}]}}}`).expect(t, exitOK)
	padis("plan", "--sync", "shop", "-n", ns, "--ref", "more").expect(t, plan.ExitError, "! NotSigned", second)

	// What is broken is named by file and line.
	work.Write("apps/broken.yaml", "a: b\n c: d\n")
	work.Write("apps/other.yaml", strings.Replace(gitApp("other", "1"), "  name: other", "  name: other\n  namespace: elsewhere", 1))
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitError, "would apply nothing of "+work.Dir, "apps/broken.yaml:2")
	work.Git("rm", "-q", "-f", "--cached", "--ignore-unmatch", "apps/broken.yaml")
	if err := os.Remove(filepath.Join(work.Dir, "apps/broken.yaml")); err != nil {
		t.Fatal(err)
	}
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitError, "apps/other.yaml:1", "outside the namespace plan-sync")
}

// Secrets of a repository are decrypted only for who may read the keys, and are shown as digests.
func TestPlanOfASyncKeepsSecrets(t *testing.T) {
	useAPI(t)
	work := sourcetest.NewWork(t)
	work.Write("secret.yaml", sopsData(t, "secret.yaml"))
	work.Commit()
	server := sourcetest.HTTP(t, work, sourcetest.Login{Username: "git", Password: "let-me-in"})
	const ns = "shop"
	synced(t, ns, "{url: "+server.URL+", secretRef: {name: git}}", "{sourceRef: {name: shop}, decryptionSecretRef: {name: keys}}")
	padis("create", "secret", "generic", "git", "-n", ns, "--from-literal=username=git", "--from-literal=password=let-me-in").expect(t, exitOK)
	padis("plan", "--sync", "shop", "-n", ns).expect(t, exitError, "spec.decryptionSecretRef", "not found")
	padis("create", "secret", "generic", "keys", "-n", ns, "--from-literal=it.agekey="+sopsData(t, "key.txt")).expect(t, exitOK)
	r := padis("plan", "--sync", "shop", "-n", ns, "-o", "json")
	r.expect(t, plan.ExitChanges, `"Secret"`)
	for _, secret := range []string{"correct horse", "Y29ycmVjdCBob3Jz", "let-me-in", "AGE-SECRET-KEY"} {
		if strings.Contains(r.out+r.err, secret) {
			t.Errorf("%q is shown:\n%s%s", secret, r.out, r.err)
		}
	}
	old := strings.NewReplacer("correct horse # battery staple", "an old one").Replace(sopsData(t, "plain-secret.yaml"))
	padis("apply", "--server-side", "--field-manager", "padis-sync", "-f", manifest(t, old)).expect(t, exitOK)
	r = padis("plan", "--sync", "shop", "-n", ns)
	r.expect(t, plan.ExitChanges, "~ data.password: \"digest ")
	if strings.Contains(r.out, "correct horse") || strings.Contains(r.out, "an old one") {
		t.Errorf("a Secret is shown:\n%s", r.out)
	}

	// Who may read the Sync but no Secrets is told so; his own settings of git do not count.
	padis("create", "rolebinding", "viewer", "-n", ns, "--clusterrole=view", "--user=sync-viewer").expect(t, exitOK)
	grants(t, "sync-viewer", ns)
	padis("plan", "--as", "sync-viewer", "--sync", "shop", "-n", ns).expect(t, exitError, "spec.decryptionSecretRef", "forbidden", "only to who may read that")
	padis("patch", "sync/shop", "-n", ns, "--type=json", "-p", `[{"op":"remove","path":"/spec/decryptionSecretRef"}]`).expect(t, exitOK)
	padis("plan", "--as", "sync-viewer", "--sync", "shop", "-n", ns).expect(t, exitError, "spec.secretRef", "forbidden", "your own settings of git are not used", "-f DIR")
}

// grants waits until a user may read Syncs.
func grants(t *testing.T, user, namespace string) {
	t.Helper()
	for range 300 {
		if padis("get", "syncs", "-n", namespace, "--as", user).status == exitOK {
			return
		}
	}
	t.Fatalf("%s may never read Syncs", user)
}

// Without a Sync, the manifests of a commit are planned as if they were applied by hand, and can be.
func TestPlanOfARepository(t *testing.T) {
	useAPI(t)
	work := sourcetest.NewWork(t)
	work.Write("deploy/web.yaml", gitApp("web", "${REPLICAS:-2}"))
	work.Write("deploy/secret.yaml", sopsData(t, "secret.yaml"))
	work.Write("README.yaml", "no manifest: true\n")
	commit := work.Commit()
	work.Git("tag", "v1")
	keys := filepath.Join(t.TempDir(), "keys.txt")
	if err := os.WriteFile(keys, []byte(sopsData(t, "key.txt")), 0o600); err != nil {
		t.Fatal(err)
	}
	padis("create", "namespace", "plan-git").expect(t, exitOK)
	padis("create", "namespace", "shop") // Another test may have made it.
	server := sourcetest.HTTP(t, work, sourcetest.Login{})
	for _, from := range []string{work.Dir, server.URL} {
		padis("plan", "--git", from, "-n", "default").expect(t, exitError, "README.yaml")
		padis("plan", "--git", from, "--path", "deploy").expect(t, exitError, "deploy/secret.yaml")
	}
	work.Git("rm", "-q", "deploy/secret.yaml")
	work.Commit()
	file := filepath.Join(t.TempDir(), "plan.json")
	for _, from := range []string{work.Dir, server.URL} {
		padis("plan", "-n", "plan-git", "--git", from, "--path", "deploy", "--var", "REPLICAS=4", "--out", file).expect(t, plan.ExitChanges, "+ App plan-git/web", "4 to create")
	}
	padis("apply", "--plan", file).expect(t, exitOK, "app.padis.io/web created")
	padis("plan", "-n", "plan-git", "--git", work.Dir, "--path", "deploy", "--var", "REPLICAS=4").expect(t, plan.ExitNone)
	padis("plan", "-n", "plan-git", "--git", work.Dir, "--path", "deploy").expect(t, plan.ExitError, "${REPLICAS")
	r := padis("plan", "--git", work.Dir, "--ref", "v1", "--path", "deploy", "--age-keys", keys, "--var", "X=1")
	r.expect(t, plan.ExitChanges, "Secret shop/database", commit)
	if strings.Contains(r.out+r.err, "correct horse") {
		t.Errorf("a Secret is shown:\n%s", r.out)
	}
}
