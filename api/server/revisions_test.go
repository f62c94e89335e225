package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/origin"
	"padis.io/padis/api/v1alpha1"
)

const appsPath, revisionsPath = "/apis/padis.io/v1alpha1/namespaces/default/apps/", "/apis/padis.io/v1alpha1/namespaces/default/apprevisions"

// revisionsOf lists the revisions of an App, the newest first.
func revisionsOf(t *testing.T, app string) []v1alpha1.AppRevision {
	t.Helper()
	code, out := do(t, adminClient(t), http.MethodGet, revisionsPath+"?labelSelector=padis.io/app%3D"+app, "", nil)
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, out)
	}
	var list v1alpha1.AppRevisionList
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	v1alpha1.SortRevisions(list.Items)
	return list.Items
}

// patchApp changes an App as the administrator.
func patchApp(t *testing.T, app, patch, query string, want int) string {
	t.Helper()
	code, out := do(t, adminClient(t), http.MethodPatch, appsPath+app+query, string(types.MergePatchType), []byte(patch))
	if code != want {
		t.Fatalf("%s: %d %s", patch, code, out)
	}
	return out
}

func TestWhatAnAppWasIsKept(t *testing.T) {
	t.Parallel()
	kc(t, auditedApp("past"), "apply", "-f", "-")
	patchApp(t, "past", `{"spec":{"replicas":4}}`, "", http.StatusOK)
	kc(t, "", "scale", "app/past", "--replicas=5")
	patchApp(t, "past", `{"metadata":{"labels":{"a":"b"}}}`, "", http.StatusOK)
	patchApp(t, "past", `{"status":{"readyReplicas":1}}`, "/status", http.StatusOK)
	patchApp(t, "past", `{"spec":{"template":{"command":["sleep","trial"]}}}`, "?dryRun=All", http.StatusOK)
	patchApp(t, "past", `{"spec":{"template":{"command":[]}}}`, "", http.StatusUnprocessableEntity)
	patchApp(t, "past", `{"metadata":{"resourceVersion":"1"},"spec":{"template":{"command":["sleep","late"]}}}`, "", http.StatusConflict)
	if got := revisionsOf(t, "past"); len(got) > 0 {
		t.Fatalf("nothing of the spec but its replicas has changed: %+v", got)
	}

	patchApp(t, "past", `{"spec":{"replicas":6,"template":{"command":["sleep","61"]}}}`, "", http.StatusOK)
	got := revisionsOf(t, "past")
	if len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	r := got[0]
	var spec v1alpha1.AppSpec
	if err := json.Unmarshal(r.Spec.Spec.Raw, &spec); err != nil {
		t.Fatal(err)
	}
	if r.Name != "past-3" || r.Spec.App != "past" || r.Spec.Generation != 3 || r.Spec.ReplacedBy != "padis-admin" || r.Spec.Commit != "" || r.Spec.ReplacedAt.IsZero() {
		t.Errorf("got %+v", r)
	}
	if !slices.Equal(spec.Template.Command, []string{"sleep", "60"}) || spec.Wanted() != 5 {
		t.Errorf("the spec was %s", r.Spec.Spec.Raw)
	}
	if out := kc(t, "", "get", "apprev", "past-3"); !strings.Contains(out, "padis-admin") {
		t.Errorf("shown is %s", out)
	}
	if lines := changes(t, "resource=apprevisions.padis.io&name=past-3", 0); len(lines) > 0 {
		t.Errorf("told twice: %+v", lines)
	}

	// No more than ten, and none without its App.
	for i := range v1alpha1.MaxRevisions + 2 {
		patchApp(t, "past", fmt.Sprintf(`{"spec":{"template":{"command":["sleep","%d"]}}}`, 100+i), "", http.StatusOK)
	}
	eventually(t, "ten revisions, the newest", func() (bool, error) {
		got := revisionsOf(t, "past")
		return len(got) == v1alpha1.MaxRevisions && got[0].Spec.Generation == 15 && got[9].Spec.Generation == 6, fmt.Errorf("there are %d", len(got))
	})
	kc(t, "", "delete", "app/past")
	eventually(t, "no revision without its App", func() (bool, error) { return len(revisionsOf(t, "past")) == 0, nil })
}

func TestRevisionsSayWhichCommitAndWho(t *testing.T) {
	t.Parallel()
	cfg := shared.SyncConfig()
	cfg.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:shop:deployer", Groups: []string{masters}}
	ctx := origin.With(t.Context(), origin.Origin{Commit: "0123abcd"})
	kc(t, auditedApp("past-sync"), "apply", "-f", "-", "--server-side", "--field-manager=padis-sync")
	if err := applyApp(ctx, cfg, "past-sync"); err != nil {
		t.Fatal(err)
	}
	if got := revisionsOf(t, "past-sync"); len(got) > 0 {
		t.Errorf("it was only scaled: %+v", got)
	}
	patchApp(t, "past-sync", `{"spec":{"template":{"command":["sleep","61"]}}}`, "", http.StatusOK)
	if err := applyApp(ctx, cfg, "past-sync"); err != nil {
		t.Fatal(err)
	}
	got := revisionsOf(t, "past-sync")
	if len(got) != 2 || got[0].Spec.Commit != "0123abcd" || got[0].Spec.ReplacedBy != "system:serviceaccount:shop:deployer" || got[1].Spec.Commit != "" {
		t.Errorf("got %+v", got)
	}
	// Who may impersonate says nothing of commits.
	code, out := do(t, adminClient(t), http.MethodPatch, appsPath+"past-sync", string(types.MergePatchType), []byte(`{"spec":{"template":{"command":["sleep","62"]}}}`),
		"Impersonate-User", "eve", "Impersonate-Group", masters, "Impersonate-Extra-padis.io%2Fcommit", "0123abcd")
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, out)
	}
	if got := revisionsOf(t, "past-sync"); got[0].Spec.Commit != "" || got[0].Spec.ReplacedBy != "eve" {
		t.Errorf("forged: %+v", got[0])
	}
	kc(t, "", "delete", "app/past-sync")
}

func TestNobodyRewritesThePast(t *testing.T) {
	t.Parallel()
	kc(t, auditedApp("past-kept"), "apply", "-f", "-")
	patchApp(t, "past-kept", `{"spec":{"template":{"command":["sleep","61"]}}}`, "", http.StatusOK)
	for _, try := range []struct{ method, path, contentType, body string }{
		{http.MethodPatch, revisionsPath + "/past-kept-1", string(types.MergePatchType), `{"spec":{"replacedBy":"eve"}}`},
		{http.MethodPost, revisionsPath, "application/json", `{"apiVersion":"padis.io/v1alpha1","kind":"AppRevision","metadata":{"name":"x-1"},"spec":{"app":"x","generation":1,"replacedBy":"eve","replacedAt":"2026-01-01T00:00:00Z","spec":{}}}`},
	} {
		code, out := do(t, adminClient(t), try.method, try.path, try.contentType, []byte(try.body))
		if code != http.StatusForbidden || !strings.Contains(out, "padis rollback app") {
			t.Errorf("%s: %d %s", try.method, code, out)
		}
	}
	// An App of the same name that comes later has a past of its own.
	kc(t, "", "delete", "app/past-kept")
	kc(t, auditedApp("past-kept"), "apply", "-f", "-")
	patchApp(t, "past-kept", `{"spec":{"template":{"command":["sleep","62"]}}}`, "", http.StatusOK)
	var app v1alpha1.App
	if err := json.Unmarshal([]byte(patchApp(t, "past-kept", `{}`, "", http.StatusOK)), &app); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one revision, of the new App", func() (bool, error) {
		got := revisionsOf(t, "past-kept")
		return len(got) == 1 && got[0].OwnerReferences[0].UID == app.UID, fmt.Errorf("got %+v", got)
	})
	kc(t, "", "delete", "app/past-kept")
}

func TestSurplusRevisions(t *testing.T) {
	g := newOwnership()
	g.observe(thing("app"))
	revision := func(generation int) *owned {
		o := thing(fmt.Sprint("r", generation), "app")
		o.resource, o.name = schema.GroupVersionResource{Group: "padis.io", Version: "v1alpha1", Resource: "apprevisions"}, fmt.Sprint("web-1-", generation)
		return o
	}
	for n := range 12 {
		g.observe(revision(n + 1))
	}
	for n := range 20 {
		g.observe(thing(fmt.Sprint("pod", n), "app"))
	}
	if got, want := say(g.decide("r12", nil)), "delete r1 Background; delete r2 Background"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := say(g.decide("pod1", nil)); got != "" {
		t.Errorf("of others: %s", got)
	}
	g.observe(revision(1).being(""))
	g.remove("r2")
	if got := say(g.decide("r12", nil)); got != "" {
		t.Errorf("ten are left: %s", got)
	}
}

// What the schema cannot say of GitSources and Syncs is judged when they are declared.
func TestBadSourcesAndSyncsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ object, want string }{
		{`{"kind":"GitSource","metadata":{"name":"bad"},"spec":{"url":"https://example.com/x.git","ref":{"branch":"a..b"}}}`, "spec.ref.branch"},
		{`{"kind":"Sync","metadata":{"name":"bad"},"spec":{"sourceRef":{"name":"x"},"dependsOn":[{"name":"bad"}]}}`, "spec.dependsOn[0]"},
		{`{"kind":"Sync","metadata":{"name":"bad"},"spec":{"sourceRef":{"name":"x"},"windows":[{"from":"22:00","to":"04:00","timeZone":"Europe/Atlantis"}]}}`, "Europe/Berlin"},
		{`{"kind":"Sync","metadata":{"name":"bad"},"spec":{"sourceRef":{"name":"x"},"variables":[{"name":"A","value":"1"},{"name":"A","value":"2"}]}}`, "spec.variables[1].name"},
	} {
		var head struct{ Kind string }
		if err := json.Unmarshal([]byte(c.object), &head); err != nil {
			t.Fatal(err)
		}
		path := "/apis/padis.io/v1alpha1/namespaces/default/" + strings.ToLower(head.Kind) + "s"
		body := strings.Replace(c.object, "{", `{"apiVersion":"padis.io/v1alpha1",`, 1)
		if code, out := do(t, adminClient(t), http.MethodPost, path, "application/json", []byte(body)); code != http.StatusUnprocessableEntity || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %s", c.object, code, out)
		}
	}
	good := fmt.Sprintf(`{"apiVersion":"padis.io/v1alpha1","kind":"Sync","metadata":{"name":"good"},"spec":{"sourceRef":{"name":%q},"windows":[{"from":"22:00","to":"04:00","timeZone":"Europe/Berlin"}]}}`, "x")
	if code, out := do(t, adminClient(t), http.MethodPost, "/apis/padis.io/v1alpha1/namespaces/default/syncs", "application/json", []byte(good)); code != http.StatusCreated {
		t.Errorf("%d %s", code, out)
	}
	var deleted metav1.Status
	if code, out := do(t, adminClient(t), http.MethodDelete, "/apis/padis.io/v1alpha1/namespaces/default/syncs/good", "", nil); code != http.StatusOK || json.Unmarshal([]byte(out), &deleted) != nil {
		t.Errorf("%d %s", code, out)
	}
}
