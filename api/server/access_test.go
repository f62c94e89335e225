package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"padis.io/padis/api/server/live"
	"padis.io/padis/api/server/roles"
)

// adminClient is an HTTP client with the administrator's certificate.
func adminClient(t *testing.T) *http.Client {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", shared.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	c, err := rest.HTTPClientFor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// do sends a request and returns the status and the answer.
func do(t *testing.T, c *http.Client, method, path, contentType string, body []byte, header ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, shared.URL()+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(out)
}

func strangerClient() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func TestWhoMayDoWhat(t *testing.T) {
	stranger := strangerClient()
	for _, path := range roles.PublicPaths {
		if code, out := do(t, stranger, "GET", path, "", nil); code != 200 {
			t.Errorf("GET %s by a stranger: %d %s", path, code, out)
		}
	}
	for _, path := range []string{"/api/v1/namespaces", "/apis", "/openapi/v2", "/metrics", "/apis/padis.io/v1alpha1/apps"} {
		if code, _ := do(t, stranger, "GET", path, "", nil); code != 401 {
			t.Errorf("GET %s by a stranger: %d, want 401", path, code)
		}
	}
	if code, _ := do(t, stranger, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer nonsense"); code != 401 {
		t.Errorf("a wrong token: %d, want 401", code)
	}
	code, out := do(t, stranger, "GET", "/apis/padis.io/v1alpha1/apps", "", nil, "Authorization", "Bearer plain-token")
	if code != 403 || !strings.Contains(out, "system:masters") || !strings.Contains(out, "tokens.csv") {
		t.Errorf("a user without rights: %d %s", code, out)
	}
	if code, _ := do(t, stranger, "GET", "/apis", "", nil, "Authorization", "Bearer plain-token"); code != 200 {
		t.Errorf("discovery by a known user: %d, want 200", code)
	}
	if code, _ := do(t, stranger, "GET", "/apis/padis.io/v1alpha1/apps", "", nil, "Authorization", "Bearer master-token"); code != 200 {
		t.Errorf("a token of a master: %d, want 200", code)
	}
	if code, _ := do(t, stranger, "GET", "/api/v1/namespaces", "", nil, "Authorization", "Bearer plain-token", "Impersonate-User", "x", "Impersonate-Group", "system:masters"); code != 403 {
		t.Errorf("a user without rights who plays another: %d, want 403", code)
	}
}

func TestAuthReviews(t *testing.T) {
	contains(t, kc(t, "", "auth", "can-i", "delete", "apps"), "yes")
	contains(t, kc(t, "", "auth", "whoami"), "padis-admin", "system:masters")
	contains(t, kc(t, "", "auth", "can-i", "--list"), "*.*")

	plain := filepath.Join(t.TempDir(), "kubeconfig")
	cfg, err := clientcmd.LoadFromFile(shared.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: "plain-token"}
	if err := clientcmd.WriteToFile(*cfg, plain); err != nil {
		t.Fatal(err)
	}
	r := kubectlAs(t, plain, "", "auth", "can-i", "get", "apps")
	if r.code != 1 || !strings.Contains(r.stdout, "no") {
		t.Errorf("can-i of a user without rights: exit %d %s%s", r.code, r.stdout, r.stderr)
	}
	contains(t, kubectlAs(t, plain, "", "auth", "whoami").stdout, "bob", "tenant-a", "system:authenticated")
	r = kubectlAs(t, plain, "", "get", "apps")
	if r.code == 0 {
		t.Error("a user without rights may list apps")
	}
	contains(t, r.stderr, `User "bob" cannot list resource "apps"`, "use the administrator's kubeconfig")
}

func TestKubeconfigIsForItsOwnerOnly(t *testing.T) {
	for path, mode := range map[string]os.FileMode{shared.Kubeconfig(): 0o600, filepath.Join(shared.cfg.DataDir, "pki", "ca.key"): 0o600, filepath.Join(shared.cfg.DataDir, "pki", "admin.key"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), mode)
		}
	}
}

func TestTokensFileIsJudged(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"too few columns", "token,user\n", 0o600, "TOKEN,USER,UID"},
		{"readable by others", "a,b,c\n", 0o644, "chmod 600"},
		{"not CSV", "a,\"b,c\n", 0o600, "tokens.csv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := newAuthenticator(dir, fixedCA{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestProjectionsCannotBeWritten(t *testing.T) {
	admin := adminClient(t)
	body := []byte(`{"apiVersion":"runtime.padis.io/v1alpha1","kind":"Instance","metadata":{"name":"x","namespace":"default"}}`)
	base := "/apis/runtime.padis.io/v1alpha1/namespaces/default/instances"
	for _, c := range []struct{ method, path, contentType string }{
		{"POST", base, "application/json"}, {"PUT", base + "/x", "application/json"}, {"PATCH", base + "/x", "application/merge-patch+json"},
		{"DELETE", base + "/x", "application/json"}, {"DELETE", base, "application/json"},
	} {
		code, out := do(t, admin, c.method, c.path, c.contentType, body)
		if code != 405 || !strings.Contains(out, "change spec.replicas or spec.template of the App") {
			t.Errorf("%s %s: %d %s, want 405 and what to change instead", c.method, c.path, code, out)
		}
	}
	refused(t, "", []string{"change spec.networks of the App"}, "delete", "address", "10.0.0.1")
	refused(t, "", []string{"spec.placement of the App"}, "delete", "agent", "agent-s1")
}

func TestProtobufForCustomResourcesIsRefused(t *testing.T) {
	admin := adminClient(t)
	for _, method := range []string{"POST", "PUT"} {
		path := "/apis/padis.io/v1alpha1/namespaces/default/apps"
		if method == "PUT" {
			path += "/web"
		}
		code, out := do(t, admin, method, path, "application/vnd.kubernetes.protobuf", []byte("k8s\x00\x0a\x00"))
		if code != 415 || !strings.Contains(out, "send application/json") {
			t.Errorf("%s %s: %d %s, want 415 and what to send", method, path, code, out)
		}
	}
}

func TestLogs(t *testing.T) {
	kc(t, "", "create", "namespace", "logs")
	shared.live.Instances.Set(namedInstance("logs", "web-0"))
	base := "/apis/runtime.padis.io/v1alpha1/namespaces/logs/instances/web-0/log"
	contains(t, kc(t, "", "get", "--raw", base+"?stream=stderr&tailLines=5&follow=true&previous=true&limitBytes=100"), "logs/web-0 stderr")
	shared.logs.mu.Lock()
	last := shared.logs.asked[len(shared.logs.asked)-1]
	shared.logs.mu.Unlock()
	if last != (live.LogOptions{Stream: "stderr", TailLines: 5, LimitBytes: 100, Follow: true, Previous: true}) {
		t.Errorf("the reader was asked for %+v", last)
	}
	if out := kc(t, "", "get", "--raw", base+"?limitBytes=4"); out != "logs" {
		t.Errorf("with limitBytes=4 came %q", out)
	}
	admin := adminClient(t)
	for query, want := range map[string]string{"stream=both": "use stdout, stderr or all", "tailLines=-1": "0 or more", "follow=maybe": "true or false", "colour=red": "unknown parameter"} {
		if code, out := do(t, admin, "GET", base+"?"+query, "", nil); code != 400 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s, want 400 with %q", query, code, out, want)
		}
	}
	if code, _ := do(t, admin, "GET", strings.Replace(base, "web-0", "web-9", 1), "", nil); code != 404 {
		t.Errorf("log of an instance that is not there: %d, want 404", code)
	}
	shared.live.Instances.Delete("logs", "web-0")
}
