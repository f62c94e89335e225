package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"padis.io/padis/api/origin"
	"padis.io/padis/api/server/audit/change"
)

var appResource = schema.GroupVersionResource{Group: "padis.io", Version: "v1alpha1", Resource: "apps"}

// changes reads the lines of a query as the administrator, when there are as many as wanted.
func changes(t *testing.T, query string, want int) []change.Line {
	t.Helper()
	var lines []change.Line
	eventually(t, fmt.Sprintf("%d lines of %s", want, query), func() (bool, error) {
		code, out := do(t, adminClient(t), http.MethodGet, auditPath+"?"+query, "", nil)
		if code != http.StatusOK {
			return false, fmt.Errorf("%d %s", code, out)
		}
		lines = nil
		for b := range bytes.Lines([]byte(out)) {
			l, ok := change.Parse(b)
			if !ok {
				return false, fmt.Errorf("no line: %s", b)
			}
			lines = append(lines, l)
		}
		return len(lines) == want, fmt.Errorf("there are %d:\n%s", len(lines), out)
	})
	return lines
}

func fieldsOf(l change.Line) string {
	var out []string
	for _, f := range l.Fields {
		out = append(out, fmt.Sprintf("%s %s>%s", f.Path, f.Before, f.After))
	}
	return strings.Join(out, "; ")
}

func auditedApp(name string) string {
	return fmt.Sprintf("apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {replicas: 2, template: {command: [sleep, '60']}}\n", name)
}

func TestEachChangeHasALine(t *testing.T) {
	t.Parallel()
	manifest := auditedApp("audited")
	kc(t, manifest, "apply", "-f", "-", "--server-side", "--field-manager=someone")
	kc(t, "", "patch", "app/audited", "--type=merge", "-p", `{"spec":{"replicas":5}}`)
	kc(t, "", "scale", "app/audited", "--replicas=7")
	kc(t, "", "annotate", "app/audited", "a=b", "--dry-run=server")
	refused(t, "", []string{"replicas"}, "patch", "app/audited", "--type=merge", "-p", `{"spec":{"replicas":-1}}`)
	kc(t, "", "delete", "app/audited")

	got := changes(t, "resource=apps.padis.io&name=audited&namespace=default", 5)
	var verbs []string
	for _, l := range got {
		verbs = append(verbs, fmt.Sprintf("%s %d", l.Verb, l.Code))
		if l.User == "" || l.Request == "" || l.Time.IsZero() || l.Commit != "" {
			t.Errorf("incomplete: %+v", l)
		}
	}
	if want := "[patch 201 patch 200 patch 200 patch 422 delete 200]"; fmt.Sprint(verbs) != want {
		t.Errorf("got %v, want %s", verbs, want)
	}
	if f := fieldsOf(got[0]); got[0].Manager != "someone" || got[0].Kind != "App" || !strings.Contains(f, "spec.replicas >2") {
		t.Errorf("the creation: %+v", got[0])
	}
	if f := fieldsOf(got[1]); f != "spec.replicas 2>5" || got[1].Manager != "kubectl-patch" {
		t.Errorf("the patch: %+v", got[1])
	}
	if f := fieldsOf(got[2]); f != "spec.replicas 5>7" || got[2].Subresource != "scale" {
		t.Errorf("the scaling: %+v", got[2])
	}
	if !strings.Contains(got[3].Message, "replicas") || got[3].Reason != "Invalid" {
		t.Errorf("the refusal: %+v", got[3])
	}
	if f := fieldsOf(got[4]); !strings.Contains(f, "spec.replicas 7>") {
		t.Errorf("the deletion: %+v", got[4])
	}
}

func TestSecretsAreNotInTheLog(t *testing.T) {
	t.Parallel()
	const secret = "c2VjcmV0LW9mLXRlc3Q="
	manifest := "apiVersion: v1\nkind: Secret\nmetadata: {name: audited-secret}\ndata: {password: %s}\n"
	kc(t, fmt.Sprintf(manifest, secret), "apply", "-f", "-")
	kc(t, fmt.Sprintf(manifest, "b3RoZXI="), "apply", "-f", "-")
	refused(t, strings.Replace(fmt.Sprintf(manifest, secret), "password", "'no key "+secret+"'", 1), nil, "apply", "-f", "-")
	kc(t, "", "delete", "secret", "audited-secret")
	got := changes(t, "resource=secrets&name=audited-secret", 4)
	b, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if strings.Contains(text, "secret-of-test") || strings.Contains(strings.ReplaceAll(text, "no key "+secret, ""), secret) {
		t.Errorf("it is told: %s", text)
	}
	if f := fieldsOf(got[1]); !strings.HasPrefix(f, `data.password "digest:`) {
		t.Errorf("got %s", f)
	}
}

func TestEachObjectOfACollectionHasALine(t *testing.T) {
	t.Parallel()
	kc(t, "", "create", "namespace", "audited-all")
	for _, name := range []string{"one", "two"} {
		kc(t, "", "create", "configmap", name, "-n", "audited-all", "--from-literal=a=b")
	}
	cfg := shared.LoopbackConfig()
	maps, err := corev1client.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := maps.ConfigMaps("audited-all").DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	got := changes(t, "resource=configmaps&namespace=audited-all", 4)
	if got[2].Verb != "deletecollection" || got[2].Request != got[3].Request || got[2].Name == got[3].Name || got[2].User != "system:apiserver" {
		t.Errorf("got %+v", got[2:])
	}
}

func TestWhoIsRefusedHasALineToo(t *testing.T) {
	t.Parallel()
	code, _ := do(t, strangerClient(), http.MethodDelete, "/apis/padis.io/v1alpha1/namespaces/default/apps/audited-not", "", nil, "Authorization", "Bearer plain-token")
	if code != http.StatusForbidden {
		t.Errorf("got %d", code)
	}
	if got := changes(t, "actor=bob&name=audited-not", 1); got[0].Code != http.StatusForbidden || got[0].Verb != "delete" {
		t.Errorf("got %+v", got[0])
	}
	// Nobody known: whoever it is could fill the log.
	do(t, strangerClient(), http.MethodDelete, "/apis/padis.io/v1alpha1/namespaces/default/apps/audited-nobody", "", nil)
	changes(t, "name=audited-nobody", 0)
}

// apply applies an App of the name as a client of cfg.
func applyApp(ctx context.Context, cfg *rest.Config, name string) error {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return err
	}
	force := true
	body := fmt.Sprintf(`{"apiVersion":"padis.io/v1alpha1","kind":"App","metadata":{"name":%q},"spec":{"replicas":1,"template":{"command":["sleep","60"]}}}`, name)
	_, err = client.Resource(appResource).Namespace("default").Patch(ctx, name, types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: "padis-sync", Force: &force})
	return err
}

func TestOnlySyncsSayWhereAChangeComesFrom(t *testing.T) {
	t.Parallel()
	from := origin.Origin{Commit: "0123abcd", Author: "Zoë <zoe@example.com>", Signer: "ssh SHA256:x"}
	ctx := origin.With(t.Context(), from)
	if err := applyApp(ctx, shared.SyncConfig(), "audited-sync"); err != nil {
		t.Fatal(err)
	}
	as := shared.SyncConfig()
	as.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:shop:deployer", Groups: []string{masters}}
	if err := applyApp(ctx, as, "audited-sync"); err != nil {
		t.Fatal(err)
	}
	as.Impersonate.Groups = nil
	if err := applyApp(ctx, as, "audited-sync"); err == nil {
		t.Error("somebody without rights changed an App through a Sync")
	}
	for i, l := range changes(t, "name=audited-sync&actor="+SyncUser, 3) {
		if got := (origin.Origin{Commit: l.Commit, Author: l.Author, Signer: l.Signer}); got != from || l.Manager != "padis-sync" {
			t.Errorf("line %d: %+v", i, l)
		}
		if i > 0 && l.As != "system:serviceaccount:shop:deployer" {
			t.Errorf("line %d is not told as whom: %+v", i, l)
		}
		if want := []int32{201, 200, 403}[i]; l.Code != want {
			t.Errorf("line %d: %d, want %d", i, l.Code, want)
		}
	}
	// Others may say what they want, also the loopback client and the administrator.
	loopback := shared.LoopbackConfig()
	loopback.Wrap(origin.Transport)
	if err := applyApp(ctx, loopback, "audited-forged"); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"spec":{"replicas":3}}`)
	if code, out := do(t, adminClient(t), http.MethodPatch, "/apis/padis.io/v1alpha1/namespaces/default/apps/audited-forged", string(types.MergePatchType), body,
		"X-Padis-Commit", "0123abcd", "Impersonate-User", "eve", "Impersonate-Group", masters, "Impersonate-Extra-padis.io%2Fcommit", "0123abcd"); code != http.StatusOK {
		t.Fatalf("%d %s", code, out)
	}
	for _, l := range changes(t, "name=audited-forged", 2) {
		if l.Commit+l.Author+l.Signer != "" {
			t.Errorf("forged: %+v", l)
		}
	}
	client := adminClient(t)
	for _, name := range []string{"audited-sync", "audited-forged"} {
		do(t, client, http.MethodDelete, "/apis/padis.io/v1alpha1/namespaces/default/apps/"+name, "", nil)
	}
}

func TestWhatPadisKeepsForItselfHasNoLine(t *testing.T) {
	t.Parallel()
	if err := applyApp(t.Context(), shared.LoopbackConfig(), "audited-quiet"); err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(shared.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Resource(appResource).Namespace("default").Patch(t.Context(), "audited-quiet", types.MergePatchType, []byte(`{"status":{"readyReplicas":1}}`), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	core, err := corev1client.NewForConfig(shared.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "audited-quiet"}, InvolvedObject: corev1.ObjectReference{Kind: "App", Name: "audited-quiet", Namespace: "default"}}
	if _, err := core.Events("default").Create(t.Context(), event, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	kc(t, "", "delete", "app/audited-quiet")
	if got := changes(t, "name=audited-quiet", 2); got[0].Verb != "patch" || got[1].Verb != "delete" {
		t.Errorf("got %+v", got)
	}
}

func TestWhoMayReadTheAuditLog(t *testing.T) {
	t.Parallel()
	if code, _ := do(t, strangerClient(), http.MethodGet, auditPath, "", nil); code != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", code)
	}
	if code, _ := do(t, strangerClient(), http.MethodGet, auditPath, "", nil, "Authorization", "Bearer plain-token"); code != http.StatusForbidden {
		t.Errorf("a user: %d", code)
	}
	if code, out := do(t, adminClient(t), http.MethodGet, auditPath+"?user=x", "", nil); code != http.StatusBadRequest || !strings.Contains(out, "actor") {
		t.Errorf("an unknown parameter: %d %s", code, out)
	}
	if code, _ := do(t, adminClient(t), http.MethodPost, auditPath, "", nil); code != http.StatusMethodNotAllowed {
		t.Errorf("a POST: %d", code)
	}
}
