// Package source fetches repositories into a local cache and reads their files out of it, without a working copy.
// Edge: talks to git servers by HTTP, ssh and files.
//
// Each source has a cache of its own, for what one may read another may not. A fetch moves nothing but objects: what a
// commit holds is read only when a caller opens its Tree, so that it can have been verified before. Nothing is taken from
// the host's own git and ssh settings.
package source

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Spec is a repository and what is wanted of it.
type Spec struct {
	// Name of the source, as "tenant/shop". Its cache is its own.
	Name string
	// URL is https, http, ssh or file, or user@host:path. It holds no password.
	URL  string
	Ref  Ref
	Auth Auth
	// CA are certificates in PEM, of authorities that are believed beside those of the host.
	CA []byte
	// Proxy is an http, https or socks5 URL; ssh goes by socks5 only. Without it http goes by that of the environment.
	Proxy string
	// Submodules are fetched, too, with the same credentials where they are on the same server, and with none elsewhere.
	Submodules bool
	// Depth is how many commits of the history are fetched, 0 for all. With less than all, that history was rewritten
	// is noticed only as far as it is known.
	Depth int
	// Paths are the directories and files that are read; without any, all. All are fetched.
	Paths []string
	// Since is the commit that the last good state is of, or empty. Changed is told from it, and a branch must have grown
	// out of it.
	Since string
	// SincePaths are those that were read of the last good state. What was not has changed.
	SincePaths []string
	// SinceRef is the branch or tag that Since was found by, as refs/heads/main. A cache that is new learns from it where a tag was.
	SinceRef string
	// MayRewrite takes a branch that was force-pushed and a tag that was moved, and Confirmed only to this commit or tag object.
	MayRewrite bool
	Confirmed  string
}

// Ref names a commit; without any field, the newest one of the default branch. A commit may have a branch that it must be
// on, otherwise one field is set.
type Ref struct {
	Branch, Tag string
	// SemVer is a range as ">=1.2.0 <2": of the tags that fit, the highest.
	SemVer string
	Commit string
}

// Auth are credentials: user and password, a token, or a private key. Without, none.
type Auth struct {
	Username, Password string
	// Token is sent as a bearer.
	Token string
	// PrivateKey is a key for ssh in PEM, and Passphrase its own.
	PrivateKey []byte
	Passphrase string
	// KnownHosts are keys of ssh servers, as lines of a known_hosts file. Servers with other keys are refused.
	KnownHosts []byte
}

// Revision is a commit that is in the cache.
type Revision struct {
	// Name and URL of the source.
	Name, URL string
	Commit    string
	// Ref that it was found by, as refs/heads/main; empty for a commit that was named.
	Ref string
	// Tag is the hash of the annotated tag that it was found by, or empty.
	Tag     string
	Author  string
	Message string
	Time    time.Time
	// Paths are the directories and files that are read; without any, all.
	Paths []string
	// Since is what Changed is told from. Where it is empty, Changed are all files of the paths.
	Since   string
	Changed []string
	// Received is what came over the wire, in bytes of packs.
	Received int64
	// Submodules are what hangs in the tree from elsewhere.
	Submodules []Submodule
}

// Submodule is another repository in the tree.
type Submodule struct {
	Path     string
	Revision Revision
}

// remote is a URL that has been understood.
type remote struct {
	scheme, user, host, path string
	// port is empty for the scheme's own.
	port string
	// url as libraries like it.
	url string
}

func (r remote) server() string { return r.scheme + "://" + strings.ToLower(r.host) + ":" + r.port }

func parseURL(s string) (remote, error) {
	const forms = "https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or file:///PATH"
	if !strings.Contains(s, "://") {
		userHost, path, ok := strings.Cut(s, ":")
		user, host, ok2 := strings.Cut(userHost, "@")
		if !ok || !ok2 || user == "" || host == "" || path == "" || strings.HasPrefix(host, "-") {
			return remote{}, fmt.Errorf("url %q: write it as %s", s, forms)
		}
		return remote{scheme: "ssh", user: user, host: host, path: path, url: s}, nil
	}
	u, err := url.Parse(s)
	if err != nil {
		// The error of net/url holds the URL, and that may hold a password.
		return remote{}, fmt.Errorf("the url cannot be read: write it as %s", forms)
	}
	if _, has := u.User.Password(); has || (u.User != nil && u.Scheme != "ssh") {
		return remote{}, fmt.Errorf("url of host %s: credentials are in it, where everybody sees them: put them into the Secret", u.Host)
	}
	r := remote{scheme: u.Scheme, user: u.User.Username(), host: u.Hostname(), port: u.Port(), path: u.Path, url: s}
	switch {
	case u.Scheme == "file" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
	case (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "ssh") && u.Hostname() != "" && len(u.Path) > 1 && u.RawQuery == "" && u.Fragment == "":
	default:
		return remote{}, fmt.Errorf("url %q: write it as %s", s, forms)
	}
	return r, nil
}

// check says what of the spec is wrong, with the field.
func (s Spec) check() (remote, error) {
	if s.Name == "" {
		return remote{}, fmt.Errorf("name: it is empty")
	}
	r, err := parseURL(s.URL)
	if err != nil {
		return r, err
	}
	set := 0
	for _, f := range []string{s.Ref.Branch, s.Ref.Tag, s.Ref.SemVer, s.Ref.Commit} {
		if f != "" {
			set++
		}
	}
	if set > 1 && (set > 2 || s.Ref.Commit == "" || s.Ref.Branch == "") {
		return r, fmt.Errorf("ref: set one of branch, tag, semver and commit; a commit may have a branch")
	}
	if s.Ref.Commit != "" && !isHash(s.Ref.Commit) {
		return r, fmt.Errorf("ref.commit %q: write all 40 hex digits, in small letters", s.Ref.Commit)
	}
	if s.Since != "" && !isHash(s.Since) {
		return r, fmt.Errorf("since %q: write all 40 hex digits, in small letters", s.Since)
	}
	if s.Ref.SemVer != "" {
		if _, err := semver.NewConstraint(s.Ref.SemVer); err != nil {
			return r, fmt.Errorf("spec.ref.semver %q: %v; write a range as >=1.2.0 <2", s.Ref.SemVer, err)
		}
	}
	if s.Depth < 0 {
		return r, fmt.Errorf("depth %d: it is below 0", s.Depth)
	}
	for _, list := range [][]string{s.Paths, s.SincePaths} {
		if _, err := cleaned(list); err != nil {
			return r, err
		}
	}
	return r, s.Auth.check(r)
}

func (a Auth) check(r remote) error {
	switch r.scheme {
	case "ssh":
		if len(a.PrivateKey) == 0 && a.Password == "" {
			return fmt.Errorf("auth: ssh needs a private key or a password: put one into the Secret")
		}
		if len(a.KnownHosts) == 0 {
			return fmt.Errorf("auth.knownHosts: it is empty, so that %s cannot be told from others: put in what ssh-keyscan %s prints, once you have compared its fingerprint", r.host, r.host)
		}
	case "http":
		if a.Password+a.Token != "" && !loopback(r.host) {
			return fmt.Errorf("url: credentials would go to %s in the clear: use https", r.host)
		}
	}
	if a.Password != "" && a.Token != "" {
		return fmt.Errorf("auth: set a password or a token, not both")
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func isHash(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil && len(s) == 40 && strings.ToLower(s) == s
}
