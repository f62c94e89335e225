package gitops_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source/sourcetest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const hookSecret = "a secret that the git server knows"

// hook calls as a git server does that has no identity.
func hook(t testing.TB, path, url string) (int, string) {
	t.Helper()
	body := fmt.Appendf(nil, `{"ref":"refs/heads/main","repository":{"clone_url":%q}}`, url)
	m := hmac.New(sha256.New, []byte(hookSecret))
	m.Write(body)
	// It is called by goroutines of tests, which must not end them.
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, apiURL+path, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	req.Header.Set("X-GitHub-Event", "push")
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(m.Sum(nil)))
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}, Timeout: patience}
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	return resp.StatusCode, string(out)
}

// From the call of a git server to objects that are applied, with a source that would not be fetched again for an hour.
func TestWebhookToApplied(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "0"))
	s := sourcetest.HTTP(t, w, sourcetest.Login{})
	b := &bed{TB: t, ns: "t" + fmt.Sprint(time.Now().UnixNano())}
	b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.ns}})
	b.create(&corev1.Secret{ObjectMeta: meta(b.ns, "hook"), StringData: map[string]string{"token": hookSecret}})
	b.create(&v1alpha1.GitSource{ObjectMeta: meta(b.ns, "shop"), Spec: v1alpha1.GitSourceSpec{
		URL: s.URL, Interval: &metav1.Duration{Duration: time.Hour}, Webhook: &v1alpha1.GitWebhook{Type: v1alpha1.WebhookGitHub, SecretRef: v1alpha1.SecretReference{Name: "hook"}},
	}})
	b.create(&v1alpha1.Sync{ObjectMeta: meta(b.ns, "shop"), Spec: v1alpha1.SyncSpec{SourceRef: v1alpha1.SourceReference{Name: "shop"}}})
	b.applied(first)
	gs := &v1alpha1.GitSource{}
	if err := api.Get(context.Background(), client.ObjectKey{Namespace: b.ns, Name: "shop"}, gs); err != nil {
		t.Fatal(err)
	}
	if want := "/webhooks/" + b.ns + "/shop"; gs.Status.WebhookPath != want {
		t.Fatalf("the path is %q, want %s", gs.Status.WebhookPath, want)
	}
	commit := w.Commit("a.yaml", configMap("a", "1"))
	start := time.Now()
	if code, out := hook(t, gs.Status.WebhookPath, s.URL); code != http.StatusAccepted {
		t.Fatalf("%d %s", code, out)
	}
	b.applied(commit)
	t.Logf("applied %s after the call", time.Since(start))
	// Each push is told at once. Whichever calls are put together, the last commit arrives.
	codes := make(chan int)
	for i := range 8 {
		commit = w.Commit("a.yaml", configMap("a", fmt.Sprint("burst ", i)))
		go func() {
			code, _ := hook(t, gs.Status.WebhookPath, s.URL)
			codes <- code
		}()
	}
	for range 8 {
		if code := <-codes; code != http.StatusAccepted {
			t.Errorf("got %d", code)
		}
	}
	b.applied(commit)
	if a, err := b.config("a"); err != nil || a.Data["key"] != "burst 7" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
	if code, out := hook(t, gs.Status.WebhookPath, "https://git.example/other"); code != http.StatusOK {
		t.Errorf("%d %s", code, out)
	}
}
