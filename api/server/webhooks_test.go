package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const hookSecret = "a secret that the git server knows"

func hookManifest(name, kind string) string {
	return fmt.Sprintf(`apiVersion: padis.io/v1alpha1
kind: GitSource
metadata: {name: %s, namespace: hooks}
spec: {url: "https://git.example/shop/deploy.git", webhook: {type: %s, secretRef: {name: hook}}}
`, name, kind)
}

// Git servers call without any identity, over TLS, with what they really send.
func TestGitServersHaveSourcesFetched(t *testing.T) {
	t.Parallel()
	kc(t, "", "create", "namespace", "hooks")
	kc(t, fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: hook, namespace: hooks}\nstringData: {token: %q}\n", hookSecret+"\n"), "apply", "-f", "-")
	h1 := strangerClient()
	h2 := strangerClient()
	h2.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	for _, c := range []struct {
		kind, file string
		client     *http.Client
		headers    func(mac string) []string
	}{
		{"GitHub", "github_push", h1, func(m string) []string {
			return []string{"X-GitHub-Event", "push", "X-GitHub-Delivery", "72d3162e-cc78", "X-Hub-Signature-256", "sha256=" + m}
		}},
		{"GitLab", "gitlab_push", h2, func(string) []string {
			return []string{"X-Gitlab-Event", "Push Hook", "X-Gitlab-Token", hookSecret, "X-Gitlab-Event-UUID", "72d3162e-cc78"}
		}},
		{"Gitea", "gitea_push", h1, func(m string) []string {
			return []string{"X-Gitea-Event", "push", "X-Gitea-Signature", m, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256=" + m, "X-Gitea-Delivery", "72d3162e-cc78"}
		}},
		{"Generic", "generic_push", h2, func(m string) []string {
			return []string{"X-Padis-Signature-256", "sha256=" + m, "X-Padis-Delivery", "72d3162e-cc78"}
		}},
	} {
		name := strings.ToLower(c.kind)
		kc(t, hookManifest(name, c.kind), "apply", "-f", "-")
		body, err := os.ReadFile(filepath.Join("..", "webhook", "testdata", c.file+".json"))
		if err != nil {
			t.Fatal(err)
		}
		m := hmac.New(sha256.New, []byte(hookSecret))
		m.Write(body)
		headers := c.headers(hex.EncodeToString(m.Sum(nil)))
		// Tokens that git servers may send for something else are of no interest.
		headers = append(headers, "Authorization", "Bearer nonsense")
		code, out := do(t, c.client, "POST", "/webhooks/hooks/"+name, "application/json", body, headers...)
		if code != http.StatusAccepted || !strings.Contains(out, "fetched now") {
			t.Errorf("%s: %d %s", c.kind, code, out)
		}
		if got := kc(t, "", "get", "gitsource", name, "-n", "hooks", "-o", `jsonpath={.metadata.annotations.padis\.io/fetch}`); !strings.HasSuffix(got, "Z 72d3162e-cc78") {
			t.Errorf("%s: the annotation is %q", c.kind, got)
		}
		lines := changes(t, "resource=gitsources.padis.io&namespace=hooks&name="+name, 2)
		l := lines[len(lines)-1]
		if l.As != "system:padis:webhook" || !strings.Contains(fieldsOf(l), "padis.io/fetch") {
			t.Errorf("%s: the change is %+v", c.kind, l)
		}
	}
	// The same answer for what is not there as for what is; the owner of the source is told why.
	var answers []string
	for _, path := range []string{"/webhooks/hooks/gitlab", "/webhooks/hooks/none", "/webhooks/none/none"} {
		code, out := do(t, h1, "POST", path, "application/json", []byte("{}"), "X-Gitlab-Event", "Push Hook", "X-Gitlab-Token", "wrong")
		answers = append(answers, fmt.Sprint(code, out))
	}
	if answers[0] != answers[1] || answers[1] != answers[2] || !strings.HasPrefix(answers[0], "403") {
		t.Errorf("answers: %q", answers)
	}
	eventually(t, "an event", func() (bool, error) {
		out := kc(t, "", "get", "events", "-n", "hooks")
		if strings.Contains(out, hookSecret) {
			t.Errorf("the secret is in an event:\n%s", out)
		}
		return strings.Contains(out, "WebhookRefused") && strings.Contains(out, "X-Gitlab-Token does not fit"), fmt.Errorf("%s", out)
	})
	if code, out := do(t, h1, "GET", "/webhooks/hooks/gitlab", "", nil); code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d %s", code, out)
	}
	log, err := os.ReadFile(filepath.Join(filepath.Dir(shared.Kubeconfig()), "audit.log"))
	if err != nil || strings.Contains(string(log), hookSecret) {
		t.Errorf("the audit log holds the secret, or cannot be read: %v", err)
	}
}
