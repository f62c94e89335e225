package main

import (
	"testing"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// An object that moves from the path of one Sync to that of another is neither deleted nor refused.
func TestPlanOfAMove(t *testing.T) {
	useAPI(t)
	work := sourcetest.NewWork(t)
	work.Write("apps/web.yaml", gitApp("web", "2"))
	work.Write("apps/api.yaml", gitApp("api", "1"))
	work.Write("more/other.yaml", gitApp("other", "1"))
	work.Commit()
	server := sourcetest.HTTP(t, work, sourcetest.Login{})
	const ns = "plan-move"
	synced(t, ns, "{url: "+server.URL+", ref: {branch: main}}", "{sourceRef: {name: shop}, path: apps, prune: true}")
	padis("apply", "-n", ns, "-f", manifest(t, "apiVersion: padis.io/v1alpha1\nkind: Sync\nmetadata: {name: more}\nspec: {sourceRef: {name: shop}, path: more, prune: true}\n")).expect(t, exitOK)
	applies(t, ns, map[string]string{"web": gitApp("web", "2"), "api": gitApp("api", "1")})
	work.Write("more/both.yaml", gitApp("web", "2"))
	padis("plan", "--sync", "more", "-n", ns, "-f", work.Dir).expect(t, plan.ExitError, "! App plan-move/web", "is of the Sync plan-move/shop, which declares it")
	work.Git("rm", "-q", "apps/web.yaml")
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitNone, "= App plan-move/web has left the repository and stays, since the Sync plan-move/more declares it")
	padis("plan", "--sync", "more", "-n", ns, "-f", work.Dir).expect(t, plan.ExitChanges, "~ App plan-move/web", `"plan-move/shop" -> "plan-move/more"`)
	work.Git("rm", "-q", "-f", "--cached", "apps/api.yaml")
	work.Write("apps/api.yaml", gitApp("later", "1"))
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitChanges, "- App plan-move/api", "= App plan-move/web")
	work.Write("more/both.yaml", "kind: [")
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitChanges, "plan-move/more of the same repository may declare it")
}
