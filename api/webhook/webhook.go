// Package webhook reads what GitHub, GitLab, Gitea and others send when somebody has pushed: it proves that the sender
// knows the secret of the receiver, and says which repositories are worth a fetch now. Pure.
//
// An event is a hint and nothing more. What is applied is what a fetch finds and a signature vouches for, so that a
// forged event can at worst make a fetch happen early.
package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// MaxBody is the size in bytes above which no body is looked at. GitHub sends at most 25 MB, of which a push of
// ordinary size uses a few kB.
const MaxBody = 1 << 20

// MinSecret is the length in bytes that a secret must have; shorter ones can be guessed from one event.
const MinSecret = 16

// Kind is who sends.
type Kind string

// The kinds.
const (
	GitHub  Kind = "GitHub"
	GitLab  Kind = "GitLab"
	Gitea   Kind = "Gitea"
	Generic Kind = "Generic"
)

// SignatureHeader of generic events holds "sha256=" and the HMAC of the body in hex.
const SignatureHeader = "X-Padis-Signature-256"

// Reason says why an event is refused.
type Reason string

// The reasons.
const (
	ReasonSecretTooShort Reason = "SecretTooShort"
	ReasonBodyTooLarge   Reason = "BodyTooLarge"
	ReasonNotSigned      Reason = "NotSigned"
	ReasonSignatureWrong Reason = "SignatureWrong"
	ReasonMalformed      Reason = "Malformed"
)

// Error is why an event is refused. It never holds the secret nor what would have been the right signature.
type Error struct {
	Reason  Reason
	Message string
}

func (e *Error) Error() string { return fmt.Sprintf("webhook: %s (%s)", e.Message, e.Reason) }

// Header gives the first value of a header, as http.Header does.
type Header interface{ Get(string) string }

// Event is a push, or something else that was signed rightly.
type Event struct {
	Kind Kind
	// Push is false for pings and for events that change no ref; there is nothing to do then.
	Push bool
	// URLs by which the repository that has changed may be known: https, ssh and page.
	URLs []string
	// Ref that has moved, as refs/heads/main. Empty where the sender does not say.
	Ref string
	// Commit that it is at now. Empty where the ref was deleted or the sender does not say.
	Commit string
}

// Parse proves that who sent knows the secret, and reads the event. The kind is known from the headers.
func Parse(header Header, body, secret []byte) (Event, error) {
	if len(secret) < MinSecret {
		return Event{}, &Error{ReasonSecretTooShort, fmt.Sprintf("the receiver's secret has %d bytes, at least %d are needed: put a longer one into the Secret and into the sender's settings", len(secret), MinSecret)}
	}
	if len(body) > MaxBody {
		return Event{}, &Error{ReasonBodyTooLarge, fmt.Sprintf("the body has %d bytes, at most %d are read: send push events only", len(body), MaxBody)}
	}
	kind, name, sig := sender(header)
	if sig == "" {
		return Event{}, &Error{ReasonNotSigned, fmt.Sprintf("there is no header X-Hub-Signature-256 (GitHub), X-Gitlab-Token, X-Gitea-Signature or %s: set the secret in the sender's settings", SignatureHeader)}
	}
	right := false
	switch kind {
	case GitLab:
		// Digests, for the compare takes a time that depends on the lengths.
		a, b := sha256.Sum256([]byte(sig)), sha256.Sum256(secret)
		right = subtle.ConstantTimeCompare(a[:], b[:]) == 1
	case Gitea:
		right = signed(body, secret, sig)
	default:
		h, ok := strings.CutPrefix(sig, "sha256=")
		right = ok && signed(body, secret, h)
	}
	if !right {
		return Event{}, &Error{ReasonSignatureWrong, fmt.Sprintf("header %s does not fit body and secret: compare the receiver's Secret with the secret in the sender's settings", name)}
	}
	return read(kind, header, body)
}

// sender tells by the headers who sends. Gitea sends GitHub's headers, too, so that its own come first.
func sender(h Header) (kind Kind, name, sig string) {
	for _, k := range []struct {
		kind Kind
		name string
	}{{Gitea, "X-Gitea-Signature"}, {GitLab, "X-Gitlab-Token"}, {GitHub, "X-Hub-Signature-256"}, {Generic, SignatureHeader}} {
		if v := h.Get(k.name); v != "" {
			return k.kind, k.name, v
		}
	}
	return "", "", ""
}

func signed(body, secret []byte, inHex string) bool {
	got, err := hex.DecodeString(inHex)
	if err != nil {
		return false
	}
	m := hmac.New(sha256.New, secret)
	m.Write(body)
	return hmac.Equal(got, m.Sum(nil))
}

// payload is what the four have in common, and where they differ.
type payload struct {
	Ref         string `json:"ref"`
	After       string `json:"after"`
	CheckoutSHA string `json:"checkout_sha"`
	Repository  struct {
		CloneURL   string `json:"clone_url"`
		SSHURL     string `json:"ssh_url"`
		HTMLURL    string `json:"html_url"`
		GitHTTPURL string `json:"git_http_url"`
		GitSSHURL  string `json:"git_ssh_url"`
		Homepage   string `json:"homepage"`
	} `json:"repository"`
	Project struct {
		GitHTTPURL string `json:"git_http_url"`
		GitSSHURL  string `json:"git_ssh_url"`
		WebURL     string `json:"web_url"`
	} `json:"project"`
	// Of generic events.
	URL    string `json:"url"`
	Commit string `json:"commit"`
}

func read(kind Kind, h Header, body []byte) (Event, error) {
	e := Event{Kind: kind}
	switch kind {
	case GitHub:
		e.Push = h.Get("X-GitHub-Event") == "push"
	case Gitea:
		e.Push = h.Get("X-Gitea-Event") == "push"
	case GitLab:
		ev := h.Get("X-Gitlab-Event")
		e.Push = ev == "Push Hook" || ev == "Tag Push Hook" || ev == "System Hook"
	case Generic:
		e.Push = true
	}
	if !e.Push {
		return e, nil
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return Event{}, &Error{ReasonMalformed, fmt.Sprintf("the body is not the JSON of a push: %v; set the content type application/json in the sender's settings", err)}
	}
	r, g := p.Repository, p.Project
	for _, u := range []string{r.CloneURL, r.SSHURL, r.HTMLURL, r.GitHTTPURL, r.GitSSHURL, r.Homepage, g.GitHTTPURL, g.GitSSHURL, g.WebURL, p.URL} {
		if u != "" && !slices.Contains(e.URLs, u) {
			e.URLs = append(e.URLs, u)
		}
	}
	if len(e.URLs) == 0 {
		return Event{}, &Error{ReasonMalformed, "the body names no repository: a push event has repository.clone_url, a generic one has url"}
	}
	e.Ref = p.Ref
	for _, c := range []string{p.After, p.CheckoutSHA, p.Commit} {
		if isCommit(c) {
			e.Commit = c
			break
		}
	}
	return e, nil
}

// isCommit is false for the zeros that stand for a deleted ref, too.
func isCommit(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && (len(b) == 20 || len(b) == 32) && strings.Trim(s, "0") != ""
}

// About tells whether the event is of the repository that a source names: both are compared without scheme, user,
// default port, suffix .git and the case of the host, for senders name a repository in ways of their own.
func (e Event) About(url string) bool {
	want := canonical(url)
	return want != "" && slices.ContainsFunc(e.URLs, func(u string) bool { return canonical(u) == want })
}

func canonical(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		// git@host:path, as scp writes it.
		host, path, ok := strings.Cut(u, ":")
		if !ok || strings.Contains(host, "/") {
			return ""
		}
		scheme, rest = "ssh", host+"/"+path
	}
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndex(host, "@"); i >= 0 {
		host = host[i+1:]
	}
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "ssh":
		host = strings.TrimSuffix(host, ":22")
	}
	path = strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if path == "" {
		return ""
	}
	return strings.ToLower(host) + "/" + path
}
