package e2e

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"

	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// manifestOf is a manifest as JSON, which needs no care for what is in its texts.
func manifestOf(t *testing.T, version, kind, namespace, name string, fields map[string]any) string {
	t.Helper()
	o := map[string]any{"apiVersion": version, "kind": kind, "metadata": map[string]string{"namespace": namespace, "name": name}}
	for k, v := range fields {
		o[k] = v
	}
	b, err := json.Marshal(o)
	must(t, err)
	return "\n---\n" + string(b) + "\n"
}

// says waits until the condition Ready of a GitSource has a reason, and gives what it says.
func (r repository) says(t *testing.T, c context.Context, reason string) string {
	t.Helper()
	if out, err := cluster.Padis(c, "wait", `--for=jsonpath={.status.conditions[?(@.type=="Ready")].reason}=`+reason, "gitsource/repo", "-n", r.name, "--timeout=60s"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := cluster.Padis(c, "why", "gitsource/repo", "-n", r.name)
	must(t, err)
	return out
}

// pushedTo calls a webhook as a git server does: without an identity, and with an event that is signed.
func pushedTo(t *testing.T, c context.Context, path, header, secret, body string) (int, string) {
	t.Helper()
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(body))
	req, err := http.NewRequestWithContext(c, http.MethodPost, cluster.Config().Host+path, strings.NewReader(body))
	must(t, err)
	req.Header.Set("X-GitHub-Event", "push")
	if header == "X-Padis-Signature-256" {
		req.Header.Del("X-GitHub-Event")
	}
	req.Header.Set(header, "sha256="+hex.EncodeToString(m.Sum(nil)))
	stranger := rest.AnonymousClientConfig(cluster.Config())
	transport, err := rest.TransportFor(stranger)
	must(t, err)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	must(t, err)
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(out)
}

// A repository of a server that nobody knows by itself: who it is and who asks is said in the GitSource, and it says itself when
// something was pushed, long before it would be asked.
func TestSourcesOfServersOutside(t *testing.T) {
	const token = "a secret that the server knows"
	for _, server := range []struct {
		name, kind, header, wrong string
		serve                     func(testing.TB, *sourcetest.Work) *sourcetest.Server
		trust                     func(*sourcetest.Server) map[string]any
		secret                    func(*sourcetest.Server) map[string]string
		event                     string
		refusal                   string
	}{
		{"https", "Generic", "X-Padis-Signature-256", "CertificateUntrusted", func(t testing.TB, w *sourcetest.Work) *sourcetest.Server {
			return sourcetest.HTTPS(t, w, sourcetest.Login{Username: "ann", Password: "let me in"})
		}, func(s *sourcetest.Server) map[string]any { return map[string]any{"caBundle": string(s.CA)} },
			func(s *sourcetest.Server) map[string]string {
				return map[string]string{"username": s.Username, "password": s.Password}
			},
			`{"ref": "refs/heads/main", "url": %q}`, "unknown authority"},
		{"ssh", "GitHub", "X-Hub-Signature-256", "HostKeyUnknown", func(t testing.TB, w *sourcetest.Work) *sourcetest.Server { return sourcetest.SSH(t, w) },
			func(s *sourcetest.Server) map[string]any { return map[string]any{"knownHosts": string(s.KnownHosts)} },
			func(s *sourcetest.Server) map[string]string {
				return map[string]string{"identity": string(s.PrivateKey)}
			},
			`{"ref": "refs/heads/main", "repository": {"ssh_url": %q}}`, "not among the known hosts"},
	} {
		t.Run(server.name, func(t *testing.T) {
			r := repository{newSpace(t), sourcetest.NewWork(t)}
			first := r.Commit("a.yaml", config("a", "1"))
			s, c := server.serve(t, r.Work), ctx(t)
			spec := map[string]any{"url": s.URL, "interval": "168h", "secretRef": map[string]string{"name": "login"}, "webhook": map[string]any{"type": server.kind, "secretRef": map[string]string{"name": "hook"}}}
			if server.name == "ssh" {
				// Of another host.
				spec["knownHosts"] = strings.Replace(string(s.KnownHosts), "[127.0.0.1]", "[192.0.2.1]", 1)
			}
			declare := func() {
				t.Helper()
				_, err := apply(c, manifestOf(t, "padis.io/v1alpha1", "GitSource", r.name, "repo", map[string]any{"spec": spec}))
				must(t, err)
			}
			_, err := apply(c, manifestOf(t, "v1", "Secret", r.name, "login", map[string]any{"stringData": server.secret(s)})+
				manifestOf(t, "v1", "Secret", r.name, "hook", map[string]any{"stringData": map[string]string{"token": token}})+
				manifestOf(t, "padis.io/v1alpha1", "Sync", r.name, "all", map[string]any{"spec": map[string]any{"sourceRef": map[string]string{"name": "repo"}}}))
			must(t, err)
			declare()
			if out := r.says(t, c, server.wrong); !strings.Contains(out, server.refusal) {
				t.Errorf("a server that nobody knows: it does not say %q:\n%s", server.refusal, out)
			}
			for k, v := range server.trust(s) {
				spec[k] = v
			}
			declare()
			r.inForce(t, c, first)

			second := r.Commit("a.yaml", config("a", "2"))
			path, body := "/webhooks/"+r.name+"/repo", fmt.Sprintf(server.event, s.URL)
			if code, out := pushedTo(t, c, path, server.header, "somebody else's secret", body); code != http.StatusForbidden {
				t.Errorf("a wrong secret: %d %s", code, out)
			}
			if code, out := pushedTo(t, c, path, server.header, token, body); code != http.StatusAccepted {
				t.Fatalf("%d %s", code, out)
			}
			r.inForce(t, c, second)
			if out, err := cluster.Kubectl(c, "get", "configmap", "a", "-n", r.name, "-o", "jsonpath={.data.key}"); err != nil || out != "2" {
				t.Errorf("%v\n%s", err, out)
			}
			shown, err := cluster.Padis(c, "get", "gitsources,syncs,events", "-n", r.name, "-o", "yaml")
			must(t, err)
			secrets := []string{token, s.Password}
			if s.PrivateKey != nil {
				secrets = append(secrets, strings.Split(string(s.PrivateKey), "\n")[1])
			}
			for _, secret := range secrets {
				if secret != "" && (strings.Contains(shown, secret) || strings.Contains(cluster.LogTail("scheduler", 1000), secret)) {
					t.Error("a secret is shown")
				}
			}
		})
	}
}

// inbox is a receiver of notifications on this machine, outside of the network of Padis.
type inbox struct {
	*httptest.Server
	// messages are EVENT COMMIT.
	messages chan string
}

func newInbox(t *testing.T, token string, start func(*httptest.Server)) *inbox {
	t.Helper()
	in := &inbox{messages: make(chan string, 16)}
	in.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := map[string]string{}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		select {
		case in.messages <- m["event"] + " " + m["commit"]:
		default:
			t.Error("more messages than anybody waits for")
		}
	}))
	start(in.Server)
	t.Cleanup(in.Close)
	return in
}

// Receivers are reached on the network of whoever has started `padis up`, by TLS, too, and not where none may be.
func TestReceiversOutside(t *testing.T) {
	const token = "the receiver's token"
	r := repository{newSpace(t), sourcetest.NewWork(t)}
	c := ctx(t)
	first := r.Commit("a.yaml", config("a", "1"))
	plain, sealed := newInbox(t, token, (*httptest.Server).Start), newInbox(t, token, (*httptest.Server).StartTLS)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sealed.Certificate().Raw}))
	_, port, _ := strings.Cut(plain.Listener.Addr().String(), ":")
	var text strings.Builder
	var notifications []any
	for name, data := range map[string]map[string]string{
		"plain":   {"url": plain.URL + "/hook", "token": token},
		"sealed":  {"url": sealed.URL + "/hook", "token": token, "ca.crt": ca},
		"unknown": {"url": sealed.URL + "/hook", "token": token},
		"barred":  {"url": "http://0.0.0.0:" + port + "/hook", "token": token},
		"cloud":   {"url": "http://169.254.169.254/hook", "token": token},
	} {
		text.WriteString(manifestOf(t, "v1", "Secret", r.name, name, map[string]any{"stringData": data}))
		notifications = append(notifications, map[string]any{"secretRef": map[string]string{"name": name}, "events": []string{"Applied"}})
	}
	text.WriteString(manifestOf(t, "padis.io/v1alpha1", "GitSource", r.name, "repo", map[string]any{"spec": map[string]any{"url": sourcetest.HTTP(t, r.Work, sourcetest.Login{}).URL, "interval": "5s"}}))
	text.WriteString(manifestOf(t, "padis.io/v1alpha1", "Sync", r.name, "all", map[string]any{"spec": map[string]any{"sourceRef": map[string]string{"name": "repo"}, "notifications": notifications}}))
	_, err := apply(c, text.String())
	must(t, err)
	r.inForce(t, c, first)
	for name, in := range map[string]*inbox{"plain": plain, "sealed": sealed} {
		select {
		case got := <-in.messages:
			if got != "Applied "+first {
				t.Errorf("%s was told %q", name, got)
			}
		case <-c.Done():
			events, _ := cluster.Padis(context.Background(), "events", "-n", r.name, "--for=sync/all")
			t.Fatalf("%s was not told\n%s", name, events)
		}
	}
	for _, want := range []string{
		"secret unknown: the message Applied of commit " + first + " is not taken", "unknown authority",
		"secret barred: ", "address 0.0.0.0 is this host itself: no messages are sent there: name another receiver",
		"secret cloud: ", "address 169.254.169.254 is link-local, where clouds tell their hosts secrets",
	} {
		for {
			events, err := cluster.Padis(c, "events", "-n", r.name, "--for=sync/all")
			if err == nil && strings.Contains(events, want) {
				break
			}
			if c.Err() != nil {
				t.Fatalf("no event says %q:\n%s", want, events)
			}
		}
	}
}
