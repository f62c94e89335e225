package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var secret = []byte("a secret of enough bytes")

const (
	commit = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
	github = `{"ref":"refs/heads/main","after":"` + commit + `","repository":{"clone_url":"https://git.example/shop/deploy.git","ssh_url":"git@git.example:shop/deploy.git"}}`
	gitlab = `{"object_kind":"push","ref":"refs/heads/main","checkout_sha":"` + commit + `","project":{"git_http_url":"https://git.example/shop/deploy.git","git_ssh_url":"ssh://git@git.example:22/shop/deploy.git"}}`
	any1   = `{"url":"https://git.example/shop/deploy","commit":"` + commit + `"}`
)

func mac(body string) string {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}

func headers(kv ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(kv); i += 2 {
		h.Set(kv[i], kv[i+1])
	}
	return h
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name, body string
		h          http.Header
		kind       Kind
		push       bool
	}{
		{"GitHub", github, headers("X-Hub-Signature-256", "sha256="+mac(github), "X-GitHub-Event", "push"), GitHub, true},
		{"GitHub's ping", `{"zen":"x"}`, headers("X-Hub-Signature-256", "sha256="+mac(`{"zen":"x"}`), "X-GitHub-Event", "ping"), GitHub, false},
		{"GitLab", gitlab, headers("X-Gitlab-Token", string(secret), "X-Gitlab-Event", "Push Hook"), GitLab, true},
		{"Gitea, which sends GitHub's headers, too", github, headers("X-Gitea-Signature", mac(github), "X-Gitea-Event", "push", "X-Hub-Signature-256", "sha256="+mac(github), "X-GitHub-Event", "push"), Gitea, true},
		{"generic", any1, headers(SignatureHeader, "sha256="+mac(any1)), Generic, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := Parse(c.h, []byte(c.body), secret)
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind != c.kind || e.Push != c.push {
				t.Fatalf("got %+v", e)
			}
			if c.push && (e.Commit != commit || !e.About("https://git.example/shop/deploy") || e.About("https://git.example/shop/other")) {
				t.Fatalf("got %+v", e)
			}
		})
	}
}

// What the senders really send, with the fields that nobody here reads.
func TestRecordedEvents(t *testing.T) {
	for _, c := range []struct {
		file string
		h    func(mac string) http.Header
		push bool
	}{
		{"github_push", func(m string) http.Header {
			return headers("X-GitHub-Event", "push", "X-GitHub-Delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "X-Hub-Signature-256", "sha256="+m)
		}, true},
		{"github_ping", func(m string) http.Header {
			return headers("X-GitHub-Event", "ping", "X-Hub-Signature-256", "sha256="+m)
		}, false},
		{"gitlab_push", func(string) http.Header {
			return headers("X-Gitlab-Event", "Push Hook", "X-Gitlab-Token", string(secret))
		}, true},
		{"gitea_push", func(m string) http.Header {
			return headers("X-Gitea-Event", "push", "X-Gitea-Signature", m, "X-GitHub-Event", "push", "X-Hub-Signature-256", "sha256="+m)
		}, true},
		{"generic_push", func(m string) http.Header { return headers(SignatureHeader, "sha256="+m) }, true},
	} {
		t.Run(c.file, func(t *testing.T) {
			body, err := os.ReadFile("testdata/" + c.file + ".json")
			if err != nil {
				t.Fatal(err)
			}
			e, err := Parse(c.h(mac(string(body))), body, secret)
			if err != nil {
				t.Fatal(err)
			}
			if e.Push != c.push || c.push && (e.Ref != "refs/heads/main" || e.Commit != commit || !e.About("https://git.example/shop/deploy")) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	good := headers("X-Hub-Signature-256", "sha256="+mac(github), "X-GitHub-Event", "push")
	for _, c := range []struct {
		name   string
		h      http.Header
		body   string
		secret []byte
		want   Reason
	}{
		{"no secret", good, github, nil, ReasonSecretTooShort},
		{"a short secret", good, github, []byte("short"), ReasonSecretTooShort},
		{"a large body", good, strings.Repeat("x", MaxBody+1), secret, ReasonBodyTooLarge},
		{"no signature", headers("X-GitHub-Event", "push"), github, secret, ReasonNotSigned},
		{"another body", good, github + " ", secret, ReasonSignatureWrong},
		{"no prefix", headers("X-Hub-Signature-256", mac(github)), github, secret, ReasonSignatureWrong},
		{"not hex", headers("X-Hub-Signature-256", "sha256=zz"), github, secret, ReasonSignatureWrong},
		{"a part of the signature", headers("X-Hub-Signature-256", "sha256="+mac(github)[:32]), github, secret, ReasonSignatureWrong},
		{"another token", headers("X-Gitlab-Token", "another token of some length"), gitlab, secret, ReasonSignatureWrong},
		{"a Gitea signature that is wrong beside a GitHub one that is right", headers("X-Gitea-Signature", mac("x"), "X-Hub-Signature-256", "sha256="+mac(github)), github, secret, ReasonSignatureWrong},
		{"a form", headers(SignatureHeader, "sha256="+mac("payload=x")), "payload=x", secret, ReasonMalformed},
		{"no repository", headers(SignatureHeader, "sha256="+mac("{}")), "{}", secret, ReasonMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.h, []byte(c.body), c.secret)
			var e *Error
			if !errors.As(err, &e) || e.Reason != c.want {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			if strings.Contains(err.Error(), string(secret)) || strings.Contains(err.Error(), mac(github)) {
				t.Fatalf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestAboutNamesTheSameRepositoryInAllItsWays(t *testing.T) {
	ways := []string{"https://git.example/a/b", "https://git.example:443/a/b.git", "ssh://git@git.example/a/b.git", "git@git.example:a/b.git", "https://GIT.example/a/b/"}
	for _, a := range ways {
		for _, b := range ways {
			if !(Event{URLs: []string{a}}).About(b) {
				t.Errorf("%s is not about %s", a, b)
			}
		}
	}
	if (Event{URLs: []string{"https://git.example:8443/a/b"}}).About("https://git.example/a/b") {
		t.Error("another port is another server")
	}
}

// Whatever one bit of body, signature or secret is changed to, the event is refused.
func TestNothingButTheRightSignature(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flip := func(b []byte, label string) []byte {
			b = bytes.Clone(b)
			b[rapid.IntRange(0, len(b)-1).Draw(t, label)] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			return b
		}
		body, key, raw := []byte(github), secret, []byte(mac(github))
		sig, _ := hex.DecodeString(string(raw))
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			body = flip(body, "body")
		case 1:
			key = flip(key, "key")
		case 2:
			sig = flip(sig, "signature")
		}
		if _, err := Parse(headers("X-Gitea-Signature", hex.EncodeToString(sig), "X-Gitea-Event", "push"), body, key); err == nil {
			t.Fatal("taken")
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, b := range []string{github, gitlab, any1, "{}", "null"} {
		f.Add([]byte(b), "git@git.example:shop/deploy.git")
	}
	f.Fuzz(func(t *testing.T, body []byte, url string) {
		e, err := Parse(headers("X-Gitlab-Token", string(secret), "X-Gitlab-Event", "Push Hook"), body, secret)
		if err != nil {
			return
		}
		e.About(url)
		if len(e.URLs) == 0 {
			t.Fatal("a push of no repository")
		}
	})
}
