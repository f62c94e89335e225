package server

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// issuer is a small OpenID provider.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := base64.RawURLEncoding.EncodeToString
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one",
			"n": enc(key.N.Bytes()), "e": enc(big.NewInt(int64(key.E)).Bytes())}}})
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

// caFile is who signed the issuer's certificate: itself.
func (i *issuer) caFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (i *issuer) claims(more jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"iss": i.URL, "aud": "padis-cli", "sub": "ann", "groups": []string{"dev"}, "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range more {
		c[k] = v
	}
	return c
}

func signed(t *testing.T, method jwt.SigningMethod, key any, claims jwt.Claims, kid string) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = kid
	out, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// serve runs a server with more than the shared one has, until it is stopped.
func serve(t *testing.T, cfg Config) (s *Server, stop func()) {
	t.Helper()
	var err error
	if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	cfg.Logger = testLogger()
	if s, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-s.Ready():
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return s, stop
}

// whoIs asks a server who it takes the bearer of a token for.
func whoIs(t *testing.T, s *Server, token string) (int, string) {
	t.Helper()
	return withToken(t, s, token, "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "{}")
}

func withToken(t *testing.T, s *Server, token, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := strangerClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var out bytes.Buffer
	if _, err := out.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, out.String()
}

// TestTokensOfOthersAndAfterRestart has one server, since each start costs seconds: an issuer's tokens first, then those of
// service accounts before and after a restart.
func TestTokensOfOthersAndAfterRestart(t *testing.T) {
	i, dir := newIssuer(t), t.TempDir()
	cfg := Config{DataDir: dir, OIDC: OIDC{IssuerURL: i.URL, ClientID: "padis-cli", UsernamePrefix: "oidc:", GroupsClaim: "groups", GroupsPrefix: "", CAFile: i.caFile(t)}}
	s, stop := serve(t, cfg)
	good := signed(t, jwt.SigningMethodRS256, i.key, i.claims(nil), "one")
	eventually(t, "the issuer is known", func() (bool, error) {
		code, out := whoIs(t, s, good)
		return code == 201, fmt.Errorf("%d %s", code, out)
	})
	_, out := whoIs(t, s, good)
	contains(t, out, `"username":"oidc:ann"`, `"dev"`, "system:authenticated")

	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"for somebody else":        signed(t, jwt.SigningMethodRS256, i.key, i.claims(jwt.MapClaims{"aud": "mail"}), "one"),
		"expired":                  signed(t, jwt.SigningMethodRS256, i.key, i.claims(jwt.MapClaims{"exp": time.Now().Add(-time.Minute).Unix()}), "one"),
		"of another issuer":        signed(t, jwt.SigningMethodRS256, i.key, i.claims(jwt.MapClaims{"iss": "https://evil.example"}), "one"),
		"signed by another key":    signed(t, jwt.SigningMethodRS256, stranger, i.claims(nil), "one"),
		"not signed":               signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, i.claims(nil), "one"),
		"signed by the public key": signed(t, jwt.SigningMethodHS256, i.key.N.Bytes(), i.claims(nil), "one"),
		"of masters":               signed(t, jwt.SigningMethodRS256, i.key, i.claims(jwt.MapClaims{"groups": []string{masters}}), "one"),
		"without a user":           signed(t, jwt.SigningMethodRS256, i.key, i.claims(jwt.MapClaims{"sub": nil}), "one"),
		"as a service account":     signed(t, jwt.SigningMethodRS256, i.key, i.claims(jwt.MapClaims{"iss": tokenIssuer, "aud": tokenAudience}), "one"),
	} {
		if code, out := whoIs(t, s, token); code != 401 {
			t.Errorf("a token %s: %d %s, want 401", name, code, out)
		}
	}

	c := kubernetes.NewForConfigOrDie(s.LoopbackConfig())
	group := []rbacv1.Subject{{Kind: "Group", Name: "dev"}, {Kind: "ServiceAccount", Name: "bot", Namespace: "default"}}
	if _, err := c.RbacV1().RoleBindings("default").Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "dev"},
		RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "edit"}, Subjects: group}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "bot"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	bot := makeToken(t, s, "bot", "")
	check := func(s *Server, token, path string, want int) {
		t.Helper()
		if code, out := withToken(t, s, token, "GET", path, ""); code != want {
			t.Errorf("GET %s: %d %s, want %d", path, code, out, want)
		}
	}
	eventually(t, "the binding is known", func() (bool, error) {
		code, out := withToken(t, s, good, "GET", "/api/v1/namespaces/default/secrets", "")
		return code == 200, fmt.Errorf("%d %s", code, out)
	})
	check(s, bot, "/api/v1/namespaces/default/secrets", 200)
	for _, token := range []string{good, bot} {
		check(s, token, "/api/v1/namespaces/kube-system/secrets", 403)
		check(s, token, "/api/v1/secrets", 403)
	}
	stop()

	again, _ := serve(t, cfg)
	check(again, bot, "/api/v1/namespaces/default/secrets", 200)
	check(again, bot, "/api/v1/namespaces/kube-system/secrets", 403)
	_, out = whoIs(t, again, bot)
	contains(t, out, "system:serviceaccount:default:bot", "system:serviceaccounts:default", "system:authenticated", "JTI=")
}

func makeToken(t *testing.T, s *Server, account, spec string) string {
	t.Helper()
	c := kubernetes.NewForConfigOrDie(s.LoopbackConfig())
	out, err := c.CoreV1().RESTClient().Post().AbsPath("/api/v1/namespaces/default/serviceaccounts/"+account+"/token").
		Body([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{`+spec+`}}`)).SetHeader("Content-Type", "application/json").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var request struct{ Status struct{ Token string } }
	if err := json.Unmarshal(out, &request); err != nil || request.Status.Token == "" {
		t.Fatalf("%v: %s", err, out)
	}
	return request.Status.Token
}

func TestTokensOfServiceAccounts(t *testing.T) {
	kc(t, "", "create", "serviceaccount", "ci")
	kc(t, "", "create", "serviceaccount", "gone")
	contains(t, kc(t, "", "get", "sa"), "ci", "AGE")
	token := strings.TrimSpace(kc(t, "", "create", "token", "ci", "--duration=2h"))
	if code, out := whoIs(t, shared.Server, token); code != 201 || !strings.Contains(out, "system:serviceaccount:default:ci") {
		t.Fatalf("%d %s", code, out)
	}
	if code, out := withToken(t, shared.Server, token, "GET", "/apis/padis.io/v1alpha1/namespaces/default/apps", ""); code != 403 {
		t.Errorf("an account without a role: %d %s, want 403", code, out)
	}
	// One that is made anew under the same name is another one.
	gone := makeToken(t, shared.Server, "gone", "")
	kc(t, "", "delete", "serviceaccount", "gone")
	eventually(t, "the token of a deleted account is refused", func() (bool, error) {
		code, out := whoIs(t, shared.Server, gone)
		return code == 401, fmt.Errorf("%d %s", code, out)
	})
	kc(t, "", "create", "serviceaccount", "gone")
	if code, out := whoIs(t, shared.Server, gone); code != 401 {
		t.Errorf("a token of the account before: %d %s, want 401", code, out)
	}
	if code, out := whoIs(t, shared.Server, makeToken(t, shared.Server, "ci", `"audiences":["vault"]`)); code != 401 {
		t.Errorf("a token for somebody else: %d %s, want 401", code, out)
	}
	if code, out := whoIs(t, shared.Server, makeToken(t, shared.Server, "ci", `"audiences":["vault","padis"]`)); code != 201 {
		t.Errorf("a token for us, too: %d %s, want 201", code, out)
	}
	for spec, want := range map[string]string{
		`"expirationSeconds":5`: "spec.expirationSeconds", `"expirationSeconds":9000000000000`: "spec.expirationSeconds",
		`"boundObjectRef":{"kind":"Secret","name":"x"}`: "spec.boundObjectRef",
	} {
		code, out := do(t, adminClient(t), "POST", "/api/v1/namespaces/default/serviceaccounts/ci/token", "application/json", []byte(`{"spec":{`+spec+`}}`))
		if code != 400 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s, want 400 about %s", spec, code, out, want)
		}
	}
	if code, out := do(t, adminClient(t), "POST", "/api/v1/namespaces/default/serviceaccounts/nobody/token", "application/json", []byte(`{}`)); code != 404 {
		t.Errorf("a token of nobody: %d %s, want 404", code, out)
	}
}

func accountKeys(t testing.TB) *accountTokens {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := newAccountTokens(&Config{DataDir: dir}, newGrants(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAccountTokensEnd(t *testing.T) {
	keys, now := accountKeys(t), time.Now()
	keys.now = func() time.Time { return now }
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "u"}}
	token, until, err := keys.issue(account, nil, time.Hour)
	if err != nil || !until.Equal(now.Add(time.Hour)) {
		t.Fatal(until, err)
	}
	if _, err := keys.verify(token); err != nil {
		t.Error(err)
	}
	now = now.Add(time.Hour + time.Second)
	if _, err := keys.verify(token); err == nil {
		t.Error("a token is believed after its end")
	}
	now = until.Add(-2 * time.Hour)
	if _, err := keys.verify(token); err == nil {
		t.Error("a token is believed before it was made")
	}
	now = until.Add(-time.Minute)
	if _, err := accountKeys(t).verify(token); err == nil || !strings.Contains(err.Error(), "which this server does not have") {
		t.Errorf("a token of another server: %v", err)
	}
	// A key that was replaced is believed as long as it is in the file.
	more := accountKeys(t)
	for id, key := range keys.known {
		more.known[id] = key
	}
	more.now = keys.now
	if _, err := more.verify(token); err != nil {
		t.Errorf("a token of the key before: %v", err)
	}
	c := accountClaims{RegisteredClaims: jwt.RegisteredClaims{Issuer: tokenIssuer, Subject: "system:serviceaccount:a:admin", Audience: []string{tokenAudience}, ExpiresAt: jwt.NewNumericDate(until)}}
	c.Private.Namespace, c.Private.Account.Name = "a", "b"
	if _, err := keys.verify(signed(t, jwt.SigningMethodES256, keys.signer, c, keys.id)); err == nil {
		t.Error("a token whose subject is not its account is believed")
	}
	c.Subject, c.ExpiresAt = "system:serviceaccount:a:b", nil
	if _, err := keys.verify(signed(t, jwt.SigningMethodES256, keys.signer, c, keys.id)); err == nil {
		t.Error("a token without an end is believed")
	}
	if _, err := keys.verify(signed(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c, keys.id)); err == nil {
		t.Error("a token that is not signed is believed")
	}
}

func TestKeysOfServiceAccountsAreJudged(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"empty", "", 0o600, "no key in PEM"},
		{"no key", "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n", 0o600, "openssl ecparam"},
		{"readable by others", "", 0o644, "chmod 600"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := newAccountTokens(&Config{DataDir: t.TempDir(), ServiceAccountKeyFile: path}, newGrants(), zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want one with %q", c.name, err, c.want)
		}
	}
	if _, err := newAccountTokens(&Config{DataDir: t.TempDir(), ServiceAccountKeyFile: "/nonexistent"}, newGrants(), zap.NewNop()); err == nil {
		t.Error("a file that is named and not there is made")
	}
}

func TestOIDCIsJudged(t *testing.T) {
	for _, c := range []struct {
		oidc OIDC
		want string
	}{
		{OIDC{ClientID: "x"}, "name the issuer's URL"},
		{OIDC{IssuerURL: "http://i.example", ClientID: "x"}, "https://"},
		{OIDC{IssuerURL: "https://i.example"}, "name the client's ID"},
		{OIDC{IssuerURL: "https://i.example", ClientID: "x", GroupsPrefix: "g:"}, "groups"},
	} {
		if _, err := New(Config{DataDir: t.TempDir(), OIDC: c.oidc}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want one with %q", c.oidc, err, c.want)
		}
	}
	for want, o := range map[string]OIDC{
		"https://i.example#": {IssuerURL: "https://i.example"}, "": {IssuerURL: "https://i.example", UsernameClaim: "email"},
		"x:": {UsernamePrefix: "x:"},
	} {
		if got := o.usernamePrefix(); got != want {
			t.Errorf("prefix of %+v: %q, want %q", o, got, want)
		}
	}
	if got := (OIDC{UsernamePrefix: "-"}).usernamePrefix(); got != "" {
		t.Errorf("prefix %q, want none", got)
	}
	bad := OIDC{IssuerURL: "https://i.example", ClientID: "x", CAFile: "/nonexistent"}
	if _, err := bad.authenticator(t.Context()); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func FuzzAccountToken(f *testing.F) {
	keys := accountKeys(f)
	good, _, err := keys.issue(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "b", UID: "u"}}, nil, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{good, "", "a.b.c", "e30.e30.", good[:len(good)-4]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		// Nobody is known to a server that is not connected, so that nothing must be believed, and nothing must crash.
		if _, ok, _ := keys.AuthenticateToken(t.Context(), token); ok {
			t.Errorf("%q is believed", token)
		}
		// Signatures are not unique as text, but what was signed is.
		if _, err := keys.verify(token); err == nil && !strings.HasPrefix(token, good[:strings.LastIndex(good, ".")+1]) {
			t.Errorf("%q is believed, which nobody signed", token)
		}
	})
}

func FuzzTokenKeys(f *testing.F) {
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseTokenKeys("x", text)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys and the error %v", len(keys), err)
		}
	})
}
