package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/api/webhook"
)

const (
	secret = "a secret of enough bytes"
	body   = `{"url":"https://git.example/shop/deploy","ref":"refs/heads/main"}`
	mine   = "/webhooks/shop/deploy"
)

// memory is an API with the GitSource shop/deploy, whose secret is shop/hook.
type memory struct {
	mu            sync.Mutex
	change        func(*v1alpha1.GitSource)
	tokens        map[string]string
	err, fetchErr error
	fetched       []string
	events        []string
}

func (m *memory) source(_ context.Context, name types.NamespacedName) (*v1alpha1.GitSource, error) {
	if m.err != nil || name.String() != "shop/deploy" {
		return nil, m.err
	}
	s := &v1alpha1.GitSource{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deploy"}, Spec: v1alpha1.GitSourceSpec{
		URL: "https://git.example/shop/deploy", Webhook: &v1alpha1.GitWebhook{Type: v1alpha1.WebhookGeneric, SecretRef: v1alpha1.SecretReference{Name: "hook"}},
	}}
	if m.change != nil {
		m.change(s)
	}
	return s, nil
}

func (m *memory) token(_ context.Context, name types.NamespacedName) ([]byte, error) {
	if t, ok := m.tokens[name.String()]; ok {
		return []byte(t), nil
	}
	return nil, nil
}

func (m *memory) fetch(_ context.Context, _ *v1alpha1.GitSource, why string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetched = append(m.fetched, why)
	return m.fetchErr
}

func (m *memory) event(_ *v1alpha1.GitSource, kind, reason, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, kind+" "+reason+" "+message)
}

func newMemory() *memory { return &memory{tokens: map[string]string{"shop/hook": secret}} }

func signed(body string) http.Header {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(body))
	return http.Header{webhook.SignatureHeader: {"sha256=" + hex.EncodeToString(m.Sum(nil))}}
}

// call sends one request to a receiver of its own.
func call(m *memory, method, path, body string, h http.Header) (*httptest.ResponseRecorder, string) {
	core, logs := observer.New(zap.DebugLevel)
	r := newReceiver(m, zap.New(core), time.Now)
	req := httptest.NewRequest(method, "/", strings.NewReader(body))
	req.URL.Path = path
	for k, v := range h {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	w := httptest.NewRecorder()
	r.Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).ServeHTTP(w, req)
	return w, fmt.Sprint(logs.All())
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name, method, path, body string
		change                   func(*memory)
		h                        http.Header
		code                     int
		answer, event            string
	}{
		{name: "a push", code: 202, answer: "the source is fetched now"},
		{name: "another path", path: "/webhook", code: http.StatusTeapot},
		{name: "a path that is none", path: "/webhooks/shop", code: 404, answer: "/webhooks/NAMESPACE/NAME"},
		{name: "a path that is longer", path: mine + "/x", code: 404, answer: "status.webhookPath"},
		{name: "a path with dots", path: "/webhooks/../x", code: 404},
		{name: "GET", method: "GET", code: 405, answer: "POST"},
		{name: "a body that is large", body: strings.Repeat("x", webhook.MaxBody+1), code: 413, answer: "1048576"},
		{name: "another branch", change: func(m *memory) { m.change = func(s *v1alpha1.GitSource) { s.Spec.Ref.Branch = "prod" } }, code: 200, answer: "spec.ref"},
		{name: "another repository", change: func(m *memory) { m.change = func(s *v1alpha1.GitSource) { s.Spec.URL = "https://git.example/b" } }, code: 200, answer: "https://git.example/shop/deploy", event: ReasonIgnored},
		{name: "no JSON", body: "payload=x", code: 400, answer: "application/json", event: "Malformed"},
		{name: "another type", h: http.Header{"X-Gitlab-Token": {secret}, "X-Gitlab-Event": {"Push Hook"}}, code: 400, answer: "spec.webhook.type is Generic", event: "OtherType"},
		{name: "the API does not answer", change: func(m *memory) { m.err = errors.New("no etcd") }, code: 503},
		{name: "the API takes nothing", change: func(m *memory) { m.fetchErr = errors.New("no etcd") }, code: 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			if c.change != nil {
				c.change(m)
			}
			if c.method == "" {
				c.method = http.MethodPost
			}
			if c.path == "" {
				c.path = mine
			}
			if c.body == "" {
				c.body = body
			}
			if c.h == nil {
				c.h = signed(c.body)
			}
			w, logs := call(m, c.method, c.path, c.body, c.h)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.answer) {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
			if (len(m.fetched) == 1) != (c.code == 202 || m.fetchErr != nil) {
				t.Errorf("fetched: %v", m.fetched)
			}
			if got := strings.Join(m.events, "; "); !strings.Contains(got, c.event) || (c.event == "") != (got == "") {
				t.Errorf("events: %s", got)
			}
			if out := w.Body.String() + logs + fmt.Sprint(m.events, m.fetched); strings.Contains(out, secret) || strings.Contains(out, "no etcd") && w.Code != 503 {
				t.Errorf("told too much: %s", out)
			}
		})
	}
}

// Who has proved nothing gets the same answer, whatever is wrong; the log says it, and events do where there is a source.
func TestNobodyLearnsWhatIsThere(t *testing.T) {
	wrong := signed(body + " ")
	var answers []string
	for _, c := range []struct {
		name, path string
		h          http.Header
		change     func(*memory)
		log, event string
	}{
		{"no such source", "/webhooks/shop/other", signed(body), nil, "no such gitsource", ""},
		{"no such namespace", "/webhooks/none/deploy", signed(body), nil, "no such gitsource", ""},
		{"a name that no object has", "/webhooks/shop/<script>", signed(body), nil, "no such gitsource", ""},
		{"no webhook", mine, signed(body), func(m *memory) { m.change = func(s *v1alpha1.GitSource) { s.Spec.Webhook = nil } }, "no spec.webhook", ""},
		{"no secret", mine, signed(body), func(m *memory) { m.tokens = nil }, "there is no secret shop/hook with the key token", ReasonNoSecret},
		{"a short secret", mine, signed(body), func(m *memory) { m.tokens["shop/hook"] = "short" }, "SecretTooShort", "SecretTooShort"},
		{"another secret", mine, signed(body), func(m *memory) { m.tokens["shop/hook"] = "another secret of enough bytes" }, "SignatureWrong", "SignatureWrong"},
		{"another body", mine, wrong, nil, "SignatureWrong", "SignatureWrong"},
		{"no signature", mine, http.Header{}, nil, "NotSigned", "NotSigned"},
		{"a token of GitLab that is wrong", mine, http.Header{"X-Gitlab-Token": {"wrong"}}, nil, "SignatureWrong", "SignatureWrong"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			if c.change != nil {
				c.change(m)
			}
			w, logs := call(m, http.MethodPost, c.path, body, c.h)
			answers = append(answers, fmt.Sprint(w.Code, w.Header(), w.Body))
			if w.Code != http.StatusForbidden || len(m.fetched) > 0 {
				t.Errorf("got %d %s, fetched %v", w.Code, w.Body, m.fetched)
			}
			if got := strings.Join(m.events, "; "); !strings.Contains(logs, c.log) || !strings.Contains(got, c.event) || (got == "") != (c.event == "") {
				t.Errorf("log %s\nevents %s", logs, got)
			}
		})
	}
	for _, a := range answers {
		if a != answers[0] {
			t.Errorf("answers differ:\n%s%s", a, answers[0])
		}
	}
}

func TestTooManyCalls(t *testing.T) {
	now := time.Now()
	m := newMemory()
	r := newReceiver(m, zap.NewNop(), func() time.Time { return now })
	ask := func(from string) int {
		req := httptest.NewRequest(http.MethodPost, mine, strings.NewReader(body))
		req.RemoteAddr = from
		w := httptest.NewRecorder()
		r.Before(nil).ServeHTTP(w, req)
		if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
			t.Error("no word of when to call again")
		}
		return w.Code
	}
	for range pairBurst {
		if code := ask("192.0.2.1:1000"); code != http.StatusForbidden {
			t.Fatalf("got %d", code)
		}
	}
	if code := ask("192.0.2.1:1001"); code != http.StatusTooManyRequests {
		t.Errorf("got %d", code)
	}
	// Others are not hindered, unless they are so many. One may share the bucket by chance, but not all.
	free := 0
	for i := range 10 {
		if ask(fmt.Sprintf("198.51.100.%d:1000", i)) == http.StatusForbidden {
			free++
		}
	}
	if free < 8 {
		t.Errorf("%d of 10 others may call", free)
	}
	late := 0
	for i := range allBurst + 200 {
		if ask(fmt.Sprintf("203.0.%d.%d:1000", i/250, i%250)) == http.StatusTooManyRequests {
			late++
		}
	}
	if late < 200 {
		t.Errorf("only %d were too many", late)
	}
	now = now.Add(time.Minute)
	if code := ask("192.0.2.1:1002"); code != http.StatusForbidden {
		t.Errorf("a minute later: %d", code)
	}
}

func TestCallersAreTold(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64", "[fe80::1%eth0]:80": "fe80::/64", "@": "@",
	} {
		if got := caller(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

// slow is a body that does not come.
type slow struct{ until <-chan struct{} }

func (s slow) Read([]byte) (int, error) {
	<-s.until
	return 0, io.ErrUnexpectedEOF
}

func TestFewBodiesAreReadAtATime(t *testing.T) {
	r := newReceiver(newMemory(), zap.NewNop(), time.Now)
	until := make(chan struct{})
	var all sync.WaitGroup
	for i := range atOnce {
		all.Go(func() {
			req := httptest.NewRequest(http.MethodPost, mine, slow{until})
			req.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
			w := httptest.NewRecorder()
			r.Before(nil).ServeHTTP(w, req)
			if w.Code != http.StatusBadRequest {
				t.Errorf("got %d", w.Code)
			}
		})
	}
	for len(r.slots) < atOnce {
		time.Sleep(time.Millisecond)
	}
	req := httptest.NewRequest(http.MethodPost, mine, strings.NewReader(body))
	req.RemoteAddr = "198.51.100.1:1"
	w := httptest.NewRecorder()
	r.Before(nil).ServeHTTP(w, req)
	if w.Code != http.StatusTooManyRequests {
		t.Errorf("got %d", w.Code)
	}
	close(until)
	all.Wait()
	if len(r.slots) != 0 {
		t.Errorf("%d slots are taken", len(r.slots))
	}
}

func FuzzReceiver(f *testing.F) {
	good := signed(body).Get(webhook.SignatureHeader)
	f.Add("POST", mine, webhook.SignatureHeader, good, []byte(body))
	f.Add("POST", mine, "X-Hub-Signature-256", good, []byte(body))
	f.Add("POST", mine, "X-Gitlab-Token", secret+"x", []byte(body))
	f.Add("PUT", "/webhooks//", "X-Gitea-Signature", "zz", []byte("{"))
	f.Add("POST", "/webhooks/shop/%2e%2e", "X-GitHub-Event", "ping", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, key, value string, body []byte) {
		m := newMemory()
		r := newReceiver(m, zap.NewNop(), time.Now)
		req := &http.Request{Method: method, URL: httptest.NewRequest("GET", "/", nil).URL, Header: http.Header{}, RemoteAddr: "192.0.2.1:1", Body: io.NopCloser(bytes.NewReader(body))}
		req.URL.Path = path
		req.Header.Set(key, value)
		w := httptest.NewRecorder()
		r.Before(http.NotFoundHandler()).ServeHTTP(w, req)
		right := hmac.Equal([]byte(value), []byte(signed(string(body)).Get(webhook.SignatureHeader))) || value == secret
		if len(m.fetched) > 0 && !right {
			t.Fatalf("fetched by %s %s, %s: %s", method, path, key, value)
		}
		if strings.Contains(w.Body.String(), secret) && !strings.Contains(path+string(body), secret) {
			t.Fatalf("the secret is told: %s", w.Body)
		}
	})
}
