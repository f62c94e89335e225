package gitops_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/source/sourcetest"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSourceByHTTPS(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "1"))
	s := sourcetest.HTTPS(t, w, sourcetest.Login{Username: "ann", Password: "hunter2-right"})
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL, SecretRef: &v1alpha1.SecretReference{Name: "login"}}, nil)
	o.says("CredentialsUnreadable", "spec.secretRef", o.ns+"/login")
	other := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL, SecretRef: &v1alpha1.SecretReference{Name: "login"}},
		map[string]map[string]string{"login": {"username": "ann", "password": "hunter2-wrong"}})
	other.says("CertificateUntrusted", "certificate", "authority")
	stranger := sourcetest.X509Signer(t, "eve@example.com")
	other.change(func(s *v1alpha1.GitSourceSpec) { s.CABundle = string(stranger.Public) })
	other.says("CertificateUntrusted")
	other.change(func(spec *v1alpha1.GitSourceSpec) { spec.CABundle = string(s.CA) })
	other.says("AuthenticationFailed", "Secret")
	// A Secret that is mended is noticed at once.
	other.secret("login", map[string]string{"username": "ann", "password": "hunter2-right"})
	got := other.fetched(first)
	if got.Status.Ref != "refs/heads/main" || got.Status.Author != "A <a@example.com>" || got.Status.Subject != "a change" || got.Status.LastFetchTime == nil {
		t.Errorf("status is %+v", got.Status)
	}
	token := sourcetest.HTTPS(t, w, sourcetest.Login{Token: "hunter2-token"})
	by := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: token.URL, CABundle: string(token.CA), SecretRef: &v1alpha1.SecretReference{Name: "login"}},
		map[string]map[string]string{"login": {"bearerToken": "hunter2-token"}})
	by.fetched(first)
}

func TestSourceBySSH(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "1"))
	s, other := sourcetest.SSH(t, w), sourcetest.SSH(t, w)
	host, _, _ := strings.Cut(string(s.KnownHosts), " ")
	_, key, _ := strings.Cut(string(other.KnownHosts), " ")
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL, SecretRef: &v1alpha1.SecretReference{Name: "login"}},
		map[string]map[string]string{"login": {"identity": string(s.PrivateKey)}})
	o.says("Invalid", "ssh-keyscan")
	o.secret("login", map[string]string{"known_hosts": string(other.KnownHosts)})
	o.says("HostKeyUnknown", "SHA256:")
	o.secret("login", map[string]string{"known_hosts": host + " " + key})
	o.says("HostKeyChanged", "SHA256:")
	o.secret("login", map[string]string{"known_hosts": string(s.KnownHosts), "identity": string(other.PrivateKey)})
	o.says("AuthenticationFailed")
	o.secret("login", map[string]string{"identity": string(s.PrivateKey)})
	o.fetched(first)
	// spec.knownHosts counts more than those of the Secret.
	o.change(func(s *v1alpha1.GitSourceSpec) { s.KnownHosts = string(other.KnownHosts) })
	o.says("HostKeyUnknown", first+" stays in force")
}

func TestSourceByProxy(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "1"))
	proxy := sourcetest.NewProxy(t, "ann", "hunter2")
	for _, s := range []*sourcetest.Server{sourcetest.HTTP(t, w, sourcetest.Login{}), sourcetest.HTTPS(t, w, sourcetest.Login{})} {
		used := proxy.Used()
		o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL, CABundle: string(s.CA), Proxy: &v1alpha1.GitProxy{URL: proxy.URL, SecretRef: &v1alpha1.SecretReference{Name: "proxy"}}},
			map[string]map[string]string{"proxy": {"username": "ann", "password": "wrong"}})
		o.says("ProxyRefused", "Secret of the proxy")
		if proxy.Used() != used {
			t.Error("the proxy was passed with a wrong password")
		}
		o.secret("proxy", map[string]string{"password": "hunter2"})
		o.fetched(first)
		if proxy.Used() == used {
			t.Error("the proxy was not used")
		}
	}
}

func TestSourceRefs(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "1"))
	w.Git("tag", "v1.2.0")
	second := w.Commit("a.yaml", configMap("a", "2"))
	w.Git("tag", "-a", "-m", "x", "v1.10.0")
	w.Git("branch", "stable")
	third := w.Commit("a.yaml", configMap("a", "3"))
	w.Git("tag", "v2.0.0")
	s := sourcetest.HTTP(t, w, sourcetest.Login{})
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL}, nil)
	o.fetched(third)
	for _, c := range []struct {
		ref          v1alpha1.GitRef
		commit, says string
	}{
		{v1alpha1.GitRef{Branch: "stable"}, second, "refs/heads/stable"},
		{v1alpha1.GitRef{Tag: "v1.2.0"}, first, "refs/tags/v1.2.0"},
		{v1alpha1.GitRef{Semver: "~1"}, second, "refs/tags/v1.10.0"},
		{v1alpha1.GitRef{Semver: ">=2"}, third, "refs/tags/v2.0.0"},
		{v1alpha1.GitRef{Commit: first}, first, ""},
		{v1alpha1.GitRef{Commit: first, Branch: "stable"}, first, "refs/heads/stable"},
	} {
		o.change(func(s *v1alpha1.GitSourceSpec) { s.Ref = c.ref })
		if got := o.fetched(c.commit); got.Status.Commit != c.commit || got.Status.Ref != c.says {
			t.Errorf("%+v: status is %+v", c.ref, got.Status)
		}
	}
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Ref = v1alpha1.GitRef{Branch: "gone"} })
	o.says("RefNotFound", "refs/heads/gone", first+" stays in force")
}

func TestSourceWithSubmodules(t *testing.T) {
	w := sourcetest.NewWork(t)
	inner := w.Beside("lib")
	inner.Commit("b.yaml", configMap("b", "of the submodule"))
	s := sourcetest.HTTPS(t, w, sourcetest.Login{Username: "ann", Password: "hunter2"})
	w.Git("submodule", "add", "-q", "file://"+inner.Dir, "vendor/lib")
	w.Git("config", "-f", ".gitmodules", "submodule.vendor/lib.url", s.Of("lib"))
	head := w.Commit("a.yaml", configMap("a", "1"))
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL, CABundle: string(s.CA), Submodules: true, SecretRef: &v1alpha1.SecretReference{Name: "login"}},
		map[string]map[string]string{"login": {"username": "ann", "password": "hunter2"}}).synced(v1alpha1.SyncSpec{})
	o.applied(head)
	if b, err := o.config("b"); err != nil || b.Data["key"] != "of the submodule" {
		t.Errorf("b is %v, %v", b.Data, err)
	}
}

func TestForcePushedBranchIsRefused(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "1"))
	good := w.Commit("a.yaml", configMap("a", "2"))
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL}, nil).synced(v1alpha1.SyncSpec{})
	o.applied(good)
	w.Git("reset", "-q", "--hard", first)
	forced := o.commit("a.yaml", configMap("a", "3"))
	o.says("HistoryRewritten", "refs/heads/main", good, forced, "stays in force")
	o.stays(good, "a", "2")
	w.Git("reset", "-q", "--hard", good)
	o.applied(o.commit("a.yaml", configMap("a", "4")))
}

// Who changes how often a source is looked at has not said that its history may be another one. To confirm it is to name the commit.
func TestRewrittenHistoryIsConfirmedByItsCommit(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a.yaml", configMap("a", "1"))
	good := w.Commit("a.yaml", configMap("a", "2"))
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL}, nil).synced(v1alpha1.SyncSpec{})
	o.applied(good)
	w.Git("reset", "-q", "--hard", first)
	forced := o.commit("a.yaml", configMap("a", "3"))
	o.says("HistoryRewritten", "padis.io/confirm-rewrite="+forced)
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Suspend = true })
	o.says("Suspended")
	o.change(func(s *v1alpha1.GitSourceSpec) {
		s.Suspend, s.Interval = false, &metav1.Duration{Duration: time.Minute}
	})
	o.says("HistoryRewritten", forced)
	o.confirm(first)
	o.says("HistoryRewritten", forced)
	o.stays(good, "a", "2")
	o.confirm(forced)
	o.applied(forced)
	o.holds("a", "3")
	// It was meant for this commit only.
	w.Git("reset", "-q", "--hard", first)
	other := o.commit("a.yaml", configMap("a", "4"))
	o.says("HistoryRewritten", "padis.io/confirm-rewrite="+other)
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Ref.Branch = "main" })
	o.applied(other)
}

func TestRepositoryThatDisappears(t *testing.T) {
	w := sourcetest.NewWork(t)
	good := w.Commit("a.yaml", configMap("a", "1"))
	s := sourcetest.HTTP(t, w, sourcetest.Login{})
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: s.URL}, nil).synced(v1alpha1.SyncSpec{})
	o.applied(good)
	s.Stop()
	o.poke()
	o.says("Unreachable", strings.TrimPrefix(strings.TrimSuffix(s.URL, "/shop/.git"), "http://"), good+" stays in force")
	o.stays(good, "a", "1")
	s.Start()
	if err := os.Rename(w.Dir, w.Dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	o.poke()
	o.says("RepositoryNotFound", "correct the url", good+" stays in force")
	o.stays(good, "a", "1")
	if err := os.Rename(w.Dir+"-gone", w.Dir); err != nil {
		t.Fatal(err)
	}
	o.applied(o.commit("a.yaml", configMap("a", "2")))
}

func TestSuspendedSourceFetchesNothing(t *testing.T) {
	w := sourcetest.NewWork(t)
	good := w.Commit("a.yaml", configMap("a", "1"))
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL}, nil).synced(v1alpha1.SyncSpec{})
	o.applied(good)
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Suspend = true })
	o.says("Suspended", "spec.suspend")
	later := o.commit("a.yaml", configMap("a", "2"))
	// What is applied is kept in force; by then the source has been looked at again.
	o.stays(good, "a", "1")
	o.change(func(s *v1alpha1.GitSourceSpec) { s.Suspend = false })
	o.applied(later)
}

func TestPathsOfASource(t *testing.T) {
	w := sourcetest.NewWork(t)
	good := w.Commit("berlin/a.yaml", configMap("a", "1"), "paris/b.yaml", configMap("b", "1"))
	o := newOrigin(t, w, v1alpha1.GitSourceSpec{URL: sourcetest.HTTP(t, w, sourcetest.Login{}).URL, Paths: []string{"berlin"}}, nil).synced(v1alpha1.SyncSpec{Path: "berlin"})
	o.applied(good)
	// What is broken elsewhere is no concern of this source.
	head := o.commit("paris/b.yaml", "kind: [")
	o.applied(head)
	w.Link("berlin/b.yaml", "../paris/b.yaml")
	bad := o.commit("berlin/a.yaml", configMap("a", "2"))
	y := o.until("broken", func(y *v1alpha1.Sync) bool { return ready(y).Reason == "ManifestsBroken" })
	if m := ready(y).Message; !strings.Contains(m, bad) || !strings.Contains(m, "berlin/b.yaml") || !strings.Contains(m, "paris/b.yaml") || !strings.Contains(m, "paths") {
		t.Errorf("message is %q", m)
	}
	if _, err := o.config("b"); !apierrors.IsNotFound(err) {
		t.Errorf("b is there: %v", err)
	}
	if a, err := o.config("a"); err != nil || a.Data["key"] != "1" {
		t.Errorf("a is %v, %v", a.Data, err)
	}
}
