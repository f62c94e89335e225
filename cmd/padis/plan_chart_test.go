package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// packedChart is a subchart as `helm dependency build` leaves it in charts/.
func packedChart(t *testing.T, files map[string]string) string {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What a Sync would do with a chart is told as with any other files: of the newest commit, of a working copy, and what is wrong.
func TestPlanOfAChart(t *testing.T) {
	useAPI(t)
	const ns = "plan-chart"
	cache := map[string]string{
		"cache/Chart.yaml":         "apiVersion: v2\nname: cache\nversion: 0.1.0\n",
		"cache/values.yaml":        "replicas: 1\n",
		"cache/templates/app.yaml": gitApp("{{ .Release.Name }}-cache", "{{ .Values.replicas }}"),
	}
	work := sourcetest.NewWork(t)
	work.Write("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- {name: cache, version: 0.1.0, repository: https://charts.example.com}\n")
	work.Write("web/values.yaml", "replicas: 1\n")
	work.Write("web/templates/app.yaml", gitApp("{{ .Release.Name }}", "{{ .Values.replicas }}"))
	work.Write("web/charts/cache-0.1.0.tgz", packedChart(t, cache))
	work.Write("eu.yaml", "replicas: 3\n")
	first := work.Commit()
	server := sourcetest.HTTP(t, work, sourcetest.Login{})
	synced(t, ns, "{url: "+server.URL+"}", `{sourceRef: {name: shop}, path: web, prune: true, helm: {valuesFiles: [eu.yaml], values: {cache: {replicas: 2}}}}`)
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitChanges, "would apply commit "+first, "+ App plan-chart/shop\n", "+ App plan-chart/shop-cache", "5 to create")
	applies(t, ns, map[string]string{"shop": gitApp("shop", "3"), "shop-cache": gitApp("shop-cache", "2")})
	padis("plan", "--sync", "shop", "-n", ns).expect(t, plan.ExitNone, "Nothing would change")

	// A working copy with other values, and without the subchart.
	work.Write("eu.yaml", "replicas: 4\n")
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitChanges, "the working copy "+work.Dir, "spec.replicas: 3 -> 4")
	work.Write("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.1.0\n")
	work.Git("rm", "-q", "web/charts/cache-0.1.0.tgz")
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitChanges, "- App plan-chart/shop-cache")

	// By hand: the commit's chart, with its own values, and under the name that helm template gives.
	r := padis("plan", "--git", work.Dir, "--path", "web", "-n", ns)
	r.expect(t, plan.ExitChanges, "+ App plan-chart/release-name\n", "+ App plan-chart/release-name-cache")
	file := filepath.Join(t.TempDir(), "plan.json")
	padis("plan", "--git", server.URL, "--path", "web", "-n", ns, "--out", file).expect(t, plan.ExitChanges)
	padis("apply", "--plan", file).expect(t, exitOK, "app.padis.io/release-name-cache created")
	padis("plan", "--git", work.Dir, "--path", "web", "-n", ns).expect(t, plan.ExitNone)

	// -f alone reads manifests as padis apply does, and says who renders charts.
	for _, args := range [][]string{{"-f", filepath.Join(work.Dir, "web")}, {"-R", "-f", filepath.Join(work.Dir, "web")}, {"-f", filepath.Join(work.Dir, "web", "Chart.yaml")}} {
		padis(append([]string{"plan", "-n", ns}, args...)...).expect(t, exitError, "Helm chart", "--git", "--sync NAME -f")
	}

	// What is wrong is told by file and line, and nothing would be applied.
	work.Write("web/templates/broken.yaml", "a: 1\n{{ required \"set host\" .Values.host }}\n")
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitError, "would apply nothing of", "web/templates/broken.yaml:2: set host")
	cache["cache/big"] = strings.Repeat("\x00", 17<<20)
	work.Write("web/templates/broken.yaml", "")
	if err := os.MkdirAll(filepath.Join(work.Dir, "web/charts"), 0o700); err != nil {
		t.Fatal(err)
	}
	work.Write("web/charts/cache-0.1.0.tgz", packedChart(t, cache))
	padis("plan", "--sync", "shop", "-n", ns, "-f", work.Dir).expect(t, plan.ExitError, "web/charts/cache-0.1.0.tgz: unpacks to more than 16777216 bytes")
	work.Commit()
	padis("plan", "--git", work.Dir, "--path", "web", "-n", ns).expect(t, exitError, "web/charts/cache-0.1.0.tgz: unpacks to more than 16777216 bytes")
}
