package main

import (
	"strings"
	"testing"
)

const syncManifest = `
apiVersion: padis.io/v1alpha1
kind: GitSource
metadata: {name: repo}
spec:
  url: https://git.example.com/shop.git
  ref: {branch: main}
  verify: {signers: [{type: SSH, configMapKeyRef: {name: signers, key: keys}, identities: [ann@example.com], paths: ["apps/**"]}]}
---
apiVersion: padis.io/v1alpha1
kind: Sync
metadata: {name: base}
spec: {sourceRef: {name: repo}, path: base}
---
apiVersion: padis.io/v1alpha1
kind: Sync
metadata: {name: apps}
spec:
  sourceRef: {name: repo}
  path: apps
  prune: true
  pruneLimit: {count: 5, percent: 10}
  serviceAccount: deployer
  dependsOn: [{name: base}, {name: gone, namespace: elsewhere}]
  windows: [{days: [Mon, Tue], from: "22:00", to: "04:00", timeZone: Europe/Berlin}]
`

const (
	inForce = "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"
	newest  = "b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2"
)

// setStatus writes a status, as the reconciler would.
func setStatus(t *testing.T, kind, name, status string) {
	t.Helper()
	padis("patch", kind, name, "--subresource=status", "--type=merge", "-p", `{"status":`+status+`}`).expect(t, exitOK)
}

func TestSyncs(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, syncManifest)).expect(t, exitOK)
	t.Cleanup(func() { padis("delete", "sync/apps", "sync/base", "gitsource/repo", "--wait=false").expect(t, exitOK) })
	padis("describe", "sync", "apps").expect(t, exitOK, "nothing yet", "default/repo (https://git.example.com/shop.git)")
	padis("why", "sync/apps").expect(t, exitOK, "nothing is applied yet", "dependsOn: Sync default/base", "dependsOn: sync elsewhere/gone does not exist")
	setStatus(t, "gitsource", "repo", `{"observedGeneration":1,"commit":"`+inForce+`","ref":"refs/heads/main","author":"Ann <ann@example.com>","refused":"`+newest+`",
		"signer":{"type":"SSH","identity":"ann@example.com","key":"SHA256:abc"},
		"conditions":[{"type":"Ready","status":"False","reason":"NotSigned","message":"commit `+newest+` is not signed","lastTransitionTime":"2026-01-02T03:04:05Z"}]}`)
	setStatus(t, "sync", "apps", `{"observedGeneration":1,"seenCommit":"`+newest+`","lastAppliedCommit":"`+inForce+`","lastAppliedTime":"2026-01-02T03:04:05Z","author":"Ann <ann@example.com>",
		"history":[{"commit":"`+inForce+`","time":"2026-01-02T03:04:05Z","author":"Ann <ann@example.com>"}],
		"objects":7,"inventory":[{"version":"v1","kind":"ConfigMap","namespace":"default","names":"a\nb\nc\nd\ne\nf"},{"group":"padis.io","version":"v1alpha1","kind":"App","namespace":"default","names":"web"}],
		"pendingPrune":2,"drift":[{"object":"app/default/web","path":"spec.replicas","want":"3","is":"5","by":"kubectl-edit","contest":"kubectl-edit has changed it 7 times"}],
		"conflicts":[{"object":"configmap/default/a","path":"data.key","want":"1","is":"2","by":"hand"}],
		"unhealthy":[{"object":"app/default/web","health":"Progressing","reason":"NoOffers","message":"no agent fits"}],
		"conditions":[{"type":"Ready","status":"False","reason":"PruneLimit","message":"the commit would delete 2 objects","lastTransitionTime":"2026-01-02T03:04:05Z"}]}`)

	r := padis("describe", "sync", "apps")
	r.expect(t, exitOK)
	r.hasLines(t, "Path: apps", "Rights of: deployer", "Prune: yes, at most 5 objects, at most 10 %", "Drift: Correct", "Depends on: default/base elsewhere/gone",
		"Windows: Allow Mon,Tue 22:00-04:00 Europe/Berlin", "In force: "+inForce, "Newest commit: "+newest,
		"Pending: 2 deletions wait for confirmation: padis annotate sync apps -n default --overwrite padis.io/confirm-prune="+inForce,
		"ConfigMap default 6 a b c d e ...", "App default 1 web", "app/default/web spec.replicas 3 5 kubectl-edit -", "app/default/web spec.replicas kubectl-edit has changed it 7 times", "configmap/default/a data.key 1 2 hand -",
		"app/default/web Progressing NoOffers: no agent fits")
	for _, part := range []string{"Since:", "PruneLimit", inForce + "  2026-01-02T03:04:05Z ("} {
		if !strings.Contains(r.out, part) {
			t.Errorf("%q is missing in\n%s", part, r.out)
		}
	}
	r = padis("describe", "gitsource", "repo")
	r.expect(t, exitOK, "  Signed by:")
	r.hasLines(t, "Wanted: branch main", "Asked every: 1m0s", "Must be signed: Commit", "Commit: "+inForce, "Not believed: "+newest,
		"SSH configmap/signers keys ann@example.com apps/**", "apps apps commit a1a1a1a1a1a1 is applied, 7 objects, not ready (PruneLimit)", "base base nothing is applied yet")

	padis("why", "sync/apps").expect(t, exitOK, "not ready (PruneLimit)", "remedy: look at what would go", "5 instead of 3, by kubectl-edit", "GitSource default/repo", "NotSigned", "git commit -S", "padis why app/web -n default")
	padis("why", "gitsource", "repo").expect(t, exitOK, "is not believed", "2 Syncs use it", "sync default/apps")
	padis("why", "sync/none").expect(t, exitError, "not found")
	padis("why", "gitsrc/none").expect(t, exitError, "not found")
	padis("logs", "sync/apps").expect(t, exitUsage, "write app/NAME or instance/NAME")
	padis("get", "syncs,gitsources").expect(t, exitOK, "apps", inForce, "PruneLimit", "repo", "https://git.example.com/shop.git", "ann@example.com")
}
