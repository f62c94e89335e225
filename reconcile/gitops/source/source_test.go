package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"padis.io/padis/reconcile/gitops/source/signature"
	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// patience bounds how long a fetch takes; no test depends on it.
const patience = 5 * time.Minute

func newCache(t testing.TB, o Options) *Cache {
	t.Helper()
	o.FileRoots = append(o.FileRoots, os.TempDir())
	c, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func specOf(s *sourcetest.Server) Spec {
	return Spec{Name: "tenant/shop", URL: s.URL, CA: s.CA,
		Auth: Auth{Username: s.Username, Password: s.Password, Token: s.Token, PrivateKey: s.PrivateKey, KnownHosts: s.KnownHosts}}
}

func fetch(t testing.TB, c *Cache, s Spec) Revision {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rev, err := c.Fetch(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func refused(t testing.TB, c *Cache, s Spec, want Reason, parts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := c.Fetch(ctx, s)
	wantError(t, err, want, parts...)
}

func wantError(t testing.TB, err error, want Reason, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q does not say %q", err, p)
		}
	}
}

func tree(t testing.TB, c *Cache, rev Revision, dir string) *Tree {
	t.Helper()
	tr, err := c.Tree(rev, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.Close)
	return tr
}

func content(t testing.TB, f fs.FS, name string) string {
	t.Helper()
	b, err := fs.ReadFile(f, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// What every kind of server must do.
func TestServers(t *testing.T) {
	for _, start := range []func(*sourcetest.Work) *sourcetest.Server{
		sourcetest.File,
		func(w *sourcetest.Work) *sourcetest.Server { return sourcetest.HTTP(t, w, sourcetest.Login{}) },
		func(w *sourcetest.Work) *sourcetest.Server {
			return sourcetest.HTTPS(t, w, sourcetest.Login{Username: "ann", Password: "secret"})
		},
		func(w *sourcetest.Work) *sourcetest.Server {
			return sourcetest.HTTPS(t, w, sourcetest.Login{Token: "token"})
		},
		func(w *sourcetest.Work) *sourcetest.Server { return sourcetest.SSH(t, w) },
	} {
		for _, depth := range []int{0, 1} {
			w := sourcetest.NewWork(t)
			s := start(w)
			t.Run(s.Name, func(t *testing.T) { conform(t, w, s, depth) })
		}
	}
}

func conform(t *testing.T, w *sourcetest.Work, s *sourcetest.Server, depth int) {
	c := newCache(t, Options{})
	refused(t, c, specOf(s), ReasonRepositoryEmpty)
	first := w.Commit("a/one.yaml", "1", "b/two.yaml", "2")
	spec := specOf(s)
	spec.Depth = depth
	rev := fetch(t, c, spec)
	if rev.Commit != first || rev.Ref != "refs/heads/main" || rev.Author != "A <a@example.com>" || rev.Message != "a change\n" || rev.Received == 0 || !slices.Equal(rev.Changed, []string{"a/one.yaml", "b/two.yaml"}) {
		t.Fatalf("got %+v", rev)
	}
	if got := content(t, tree(t, c, rev, "a"), "one.yaml"); got != "1" {
		t.Fatalf("got %q", got)
	}
	if again := fetch(t, c, spec); again.Received != 0 || again.Commit != first {
		t.Fatalf("nothing has changed: %+v", again)
	}
	w.Git("tag", "-a", "-m", "x", "v1.0.0")
	second := w.Commit("a/one.yaml", "one", "c", "3")
	spec.Since = first
	rev2 := fetch(t, c, spec)
	if rev2.Commit != second || !slices.Equal(rev2.Changed, []string{"a/one.yaml", "c"}) || rev2.Received == 0 || rev2.Received > 2000 {
		t.Fatalf("got %+v", rev2)
	}
	for _, p := range []struct {
		path  string
		alike bool
	}{{"a", false}, {"b", true}, {"b/two.yaml", true}, {".", false}} {
		x, err1 := c.Hash(rev, p.path)
		y, err2 := c.Hash(rev2, p.path)
		if err := errors.Join(err1, err2); err != nil || (x == y) != p.alike {
			t.Errorf("%s: %s and %s, %v", p.path, x, y, err)
		}
	}
	// What was fetched is there after a restart, without a server.
	again, err := Open(c.dir, c.options)
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, tree(t, again, Revision{Name: rev.Name, Commit: rev.Commit}, "."), "a/one.yaml"); got != "1" {
		t.Fatalf("got %q", got)
	}
	spec.Ref = Ref{SemVer: "^1.0"}
	if rev := fetch(t, c, spec); rev.Commit != first || rev.Tag == "" || rev.Ref != "refs/tags/v1.0.0" {
		t.Fatalf("got %+v", rev)
	}
	spec.Ref = Ref{Branch: "gone"}
	refused(t, c, spec, ReasonRefNotFound, "refs/heads/gone", "tenant/shop")
	spec.Ref = Ref{Tag: "gone"}
	refused(t, c, spec, ReasonRefNotFound, "refs/tags/gone")
	spec.Ref = Ref{SemVer: ">=2"}
	refused(t, c, spec, ReasonRefNotFound, ">=2")
	spec.Ref = Ref{Commit: strings.Repeat("12", 20)}
	if _, err := c.Fetch(context.Background(), spec); ReasonOf(err) != ReasonRefNotFound && ReasonOf(err) != ReasonServerRefused {
		t.Fatal(err)
	}
	gone := specOf(s)
	gone.URL = s.Of("gone")
	refused(t, c, gone, ReasonRepositoryNotFound)
	if got := content(t, tree(t, c, rev2, "."), "c"); got != "3" {
		t.Fatal("the last good state is gone")
	}
}

func TestCommitsThatAreNoTips(t *testing.T) {
	w := sourcetest.NewWork(t)
	first := w.Commit("a", "1")
	w.Git("branch", "old")
	w.Commit("a", "2")
	second := w.Commit("a", "3")
	w.Commit("a", "4")
	s := sourcetest.HTTP(t, w, sourcetest.Login{})
	for _, ref := range []Ref{{Commit: first}, {Commit: second}, {Commit: second, Branch: "main"}} {
		spec := specOf(s)
		spec.Ref = ref
		if rev := fetch(t, newCache(t, Options{}), spec); rev.Commit != ref.Commit {
			t.Fatalf("got %+v", rev)
		}
	}
	spec := specOf(s)
	spec.Ref = Ref{Commit: second, Branch: "old"}
	refused(t, newCache(t, Options{}), spec, ReasonRefNotFound, second)
}

func TestRewrittenHistory(t *testing.T) {
	w := sourcetest.NewWork(t)
	c := newCache(t, Options{})
	spec := specOf(sourcetest.File(w))
	spec.Ref.Branch = "main"
	first := w.Commit("a", "1")
	good := w.Commit("a", "2")
	fetch(t, c, spec)
	w.Git("reset", "-q", "--hard", first)
	forced := w.Commit("a", "3")
	spec.Since = good
	refused(t, c, spec, ReasonHistoryRewritten, "main", good, forced)
	if got := content(t, tree(t, c, Revision{Name: spec.Name, Commit: good}, "."), "a"); got != "2" {
		t.Fatal("the last good state is gone")
	}
	allowed := spec
	allowed.MayRewrite = true
	if rev := fetch(t, c, allowed); rev.Commit != forced || !slices.Equal(rev.Changed, []string{"a"}) {
		t.Fatalf("got %+v", rev)
	}
	w.Git("reset", "-q", "--hard", first)
	refused(t, c, spec, ReasonHistoryRewritten)
	// A cache that is new must not forget it.
	refused(t, newCache(t, Options{}), spec, ReasonHistoryRewritten)
	w.Git("reset", "-q", "--hard", good)
	w.Commit("a", "4")
	fetch(t, c, spec)

	w.Git("tag", "v1", first)
	spec.Ref = Ref{Tag: "v1"}
	fetch(t, c, spec)
	w.Git("tag", "-f", "v1", good)
	refused(t, c, spec, ReasonHistoryRewritten, "refs/tags/v1")
	spec.MayRewrite = true
	fetch(t, c, spec)
	spec.MayRewrite = false
	fetch(t, c, spec)
	// Where a tag was, a cache that is new learns from what is in force.
	spec.Since, spec.SinceRef = first, "refs/tags/v1"
	anew := newCache(t, Options{})
	refused(t, anew, spec, ReasonHistoryRewritten, "refs/tags/v1", first, "padis.io/confirm-rewrite="+good)
	spec.Confirmed = good
	fetch(t, anew, spec)
}

func TestWhoIsRefused(t *testing.T) {
	w := sourcetest.NewWork(t)
	w.Commit("a", "1")
	c := newCache(t, Options{})
	h := sourcetest.HTTPS(t, w, sourcetest.Login{Username: "ann", Password: "secret"})
	spec := specOf(h)
	spec.Auth.Password = "wrong"
	refused(t, c, spec, ReasonAuthenticationFailed)
	spec.Auth = Auth{}
	refused(t, c, spec, ReasonAuthenticationFailed)
	spec = specOf(h)
	spec.CA = nil
	refused(t, c, spec, ReasonCertificateUntrusted)

	s := sourcetest.SSH(t, w)
	other := sourcetest.SSH(t, w)
	spec = specOf(s)
	spec.Auth.PrivateKey = other.PrivateKey
	refused(t, c, spec, ReasonAuthenticationFailed)
	spec = specOf(s)
	spec.Auth.KnownHosts = other.KnownHosts
	refused(t, c, spec, ReasonHostKeyUnknown, "SHA256:")
	host, _, _ := strings.Cut(string(s.KnownHosts), " ")
	_, key, _ := strings.Cut(string(other.KnownHosts), " ")
	spec.Auth.KnownHosts = []byte(host + " " + key)
	refused(t, c, spec, ReasonHostKeyChanged, "SHA256:")
	spec.Auth.KnownHosts = nil
	refused(t, c, spec, ReasonInvalid, "knownHosts")

	closed, err := Open(t.TempDir(), Options{FileRoots: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, closed, specOf(sourcetest.File(w)), ReasonInvalid, "url")
	unreachable := specOf(h)
	unreachable.URL = "https://127.0.0.1:1/shop"
	refused(t, c, unreachable, ReasonUnreachable)
}

func TestTreeIsAFileSystem(t *testing.T) {
	w := sourcetest.NewWork(t)
	w.Commit("a/one.yaml", "1", "a/deep/two.yaml", "2", "b", "3")
	if err := os.Symlink("one.yaml", filepath.Join(w.Dir, "a", "link")); err != nil {
		t.Fatal(err)
	}
	w.Commit()
	c := newCache(t, Options{})
	rev := fetch(t, c, specOf(sourcetest.File(w)))
	if err := fstest.TestFS(tree(t, c, rev, "."), "a/one.yaml", "a/deep/two.yaml", "a/link", "b"); err != nil {
		t.Fatal(err)
	}
	_, err := c.Tree(rev, "gone")
	wantError(t, err, ReasonRefNotFound, "gone")
	_, err = c.Tree(rev, "../a")
	wantError(t, err, ReasonInvalid)
}

func TestSymbolicLinks(t *testing.T) {
	w := sourcetest.NewWork(t)
	w.Commit("app/a.yaml", "1", "other/b.yaml", "2")
	for name, to := range map[string]string{"app/in": "a.yaml", "app/out": "../other/b.yaml", "app/far": "../../../../etc/passwd", "app/root": "/etc/passwd", "app/self": "self", "app/dir": "../other", "app/x": "y", "app/y": "x"} {
		if err := os.Symlink(to, filepath.Join(w.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	w.Commit()
	c := newCache(t, Options{})
	rev := fetch(t, c, specOf(sourcetest.File(w)))
	app, all := tree(t, c, rev, "app"), tree(t, c, rev, ".")
	if content(t, app, "in") != "1" || content(t, all, "app/out") != "2" || content(t, all, "app/dir/b.yaml") != "2" {
		t.Fatal("links within the tree are followed")
	}
	for _, name := range []string{"out", "far", "root", "self", "x", "dir/b.yaml"} {
		_, err := fs.ReadFile(app, name)
		part, _, _ := strings.Cut(name, "/")
		wantError(t, err, ReasonSymlinkRefused, part)
	}
	for _, name := range []string{"app/far", "app/root"} {
		_, err := all.Open(name)
		wantError(t, err, ReasonSymlinkRefused, name)
	}
}

func TestBounds(t *testing.T) {
	for _, filter := range []string{"true", "false"} {
		w := sourcetest.NewWork(t)
		w.Git("config", "uploadpack.allowFilter", filter)
		w.Commit("large", strings.Repeat("0123456789", 200), "small", "1", "x", strings.Repeat("x", 60), "y", strings.Repeat("y", 60))
		c := newCache(t, Options{MaxFile: 1000, MaxTree: 100})
		rev := fetch(t, c, specOf(sourcetest.File(w)))
		tr := tree(t, c, rev, ".")
		_, err := tr.ReadFile("large")
		wantError(t, err, ReasonTooLarge, "large", "1000")
		for range 3 {
			content(t, tr, "x")
		}
		_, err = tr.ReadFile("y")
		wantError(t, err, ReasonTooLarge, "y", "100")
		c = newCache(t, Options{MaxPack: 100})
		refused(t, c, specOf(sourcetest.File(w)), ReasonTooLarge, "100")
	}
}

// A file of 1 GiB may come by the wire, and never into memory.
func TestLargeFile(t *testing.T) {
	w := sourcetest.NewWork(t)
	f, err := os.Create(filepath.Join(w.Dir, "large"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<30), f.Close()); err != nil {
		t.Fatal(err)
	}
	w.Git("config", "core.compression", "1")
	w.Commit("small", "1")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := newCache(t, Options{})
	rev := fetch(t, c, specOf(sourcetest.HTTP(t, w, sourcetest.Login{})))
	tr := tree(t, c, rev, ".")
	_, err = tr.ReadFile("large")
	wantError(t, err, ReasonTooLarge, "large", "1073741824 bytes")
	if content(t, tr, "small") != "1" {
		t.Fatal("the other files are there")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 64<<20 {
		t.Fatalf("%d bytes were allocated", got)
	}
}

// Many fetches leave few packs, and whoever reads a tree is not disturbed.
func TestGarbageIsBounded(t *testing.T) {
	w := sourcetest.NewWork(t)
	c := newCache(t, Options{MaxPacks: 3})
	spec := specOf(sourcetest.File(w))
	for i := range 12 {
		was := w.Commit("a", strings.Repeat("x", i))
		rev := fetch(t, c, spec)
		spec.Since = was
		tr := tree(t, c, rev, ".")
		defer func() {
			if _, err := tr.Stat("a"); err != nil {
				t.Error(err)
			}
		}()
	}
	packs, err := filepath.Glob(filepath.Join(c.dir, "*", "generation-*", "objects", "pack", "*"))
	if err != nil || len(packs) > 2*2*3 {
		t.Fatalf("%d files: %v, %v", len(packs), packs, err)
	}
	if err := c.Retain([]string{"tenant/shop"}); err != nil {
		t.Fatal(err)
	}
	tree(t, c, Revision{Name: spec.Name, Commit: spec.Since}, ".")
	if err := c.Retain(nil); err != nil {
		t.Fatal(err)
	}
	_, err = c.Tree(Revision{Name: spec.Name, Commit: spec.Since}, ".")
	wantError(t, err, ReasonCacheDamaged)
	fetch(t, c, spec)
}

// spoil overwrites all packs of a cache, as a bad disk would. What is in the first bytes, and how long they are, stays.
func spoil(t *testing.T, c *Cache) {
	t.Helper()
	packs, err := filepath.Glob(filepath.Join(c.dir, "*", "generation-*", "objects", "pack", "*.pack"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, name := range packs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := 20; i < len(b)-20; i++ {
			b[i] ^= 0x5a
		}
		if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// A bad disk is told from a server that is away, and what it has spoilt comes anew by itself: noticed by a fetch that reads history, or
// by whoever reads files.
func TestSpoiltCacheIsFetchedAnew(t *testing.T) {
	for _, c := range []struct {
		name  string
		reads bool
		more  bool
	}{{name: "noticed by a fetch of more", more: true}, {name: "noticed by a reader", reads: true}, {name: "noticed by a fetch of nothing new"}} {
		t.Run(c.name, func(t *testing.T) {
			w := sourcetest.NewWork(t)
			var told []string
			cache := newCache(t, Options{Damaged: func(name string) { told = append(told, name) }})
			spec := specOf(sourcetest.File(w))
			spec.Since = w.Commit("a", "1", "dir/b", strings.Repeat("x", 1000))
			rev := fetch(t, cache, spec)
			spoil(t, cache)
			if c.reads {
				tr, err := cache.Tree(rev, ".")
				if err == nil {
					_, err = tr.ReadFile("dir/b")
					tr.Close()
				}
				wantError(t, err, ReasonCacheDamaged, "tenant/shop", "it is fetched anew")
				if !slices.Equal(told, []string{"tenant/shop"}) {
					t.Errorf("told: %v", told)
				}
			}
			want := "1"
			if c.more {
				want = "2"
				w.Commit("a", want)
			}
			rev = fetch(t, cache, spec)
			if got := content(t, tree(t, cache, rev, "."), "a"); got != want {
				t.Errorf("a is %q", got)
			}
			if got := fetch(t, cache, spec).Received; got != 0 {
				t.Errorf("%d bytes more were fetched", got)
			}
		})
	}
}

func TestDamagedCacheIsFetchedAnew(t *testing.T) {
	w := sourcetest.NewWork(t)
	c := newCache(t, Options{})
	spec := specOf(sourcetest.File(w))
	spec.Since = w.Commit("a", "1")
	fetch(t, c, spec)
	packs, err := filepath.Glob(filepath.Join(c.dir, "*", "generation-*", "objects", "pack", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	w.Commit("b", "2")
	if c, err = Open(c.dir, c.options); err != nil {
		t.Fatal(err)
	}
	rev := fetch(t, c, spec)
	if content(t, tree(t, c, rev, "."), "a") != "1" {
		t.Fatal("not whole")
	}
}

func TestSubmodules(t *testing.T) {
	inner := sourcetest.NewWork(t)
	inner.Commit("lib.yaml", "lib")
	pinned := inner.Commit("lib.yaml", "pinned")
	w := sourcetest.NewWork(t)
	w.Git("submodule", "add", "-q", "file://"+inner.Dir, "vendor/lib")
	w.Commit("a", "1")
	inner.Commit("lib.yaml", "later")
	c := newCache(t, Options{})
	spec := specOf(sourcetest.File(w))
	rev := fetch(t, c, spec)
	if list, err := tree(t, c, rev, ".").ReadDir("vendor/lib"); err != nil || len(list) != 0 {
		t.Fatal("submodules are not asked for", list, err)
	}
	spec.Submodules = true
	rev = fetch(t, c, spec)
	if len(rev.Submodules) != 1 || rev.Submodules[0].Revision.Commit != pinned {
		t.Fatalf("got %+v", rev)
	}
	tr := tree(t, c, rev, ".")
	if content(t, tr, "vendor/lib/lib.yaml") != "pinned" || content(t, tree(t, c, rev, "vendor"), "lib/lib.yaml") != "pinned" {
		t.Fatal("not the commit that the tree names")
	}
	seen := 0
	if err := fs.WalkDir(tr, ".", func(p string, d fs.DirEntry, err error) error { seen++; return err }); err != nil || seen != 6 {
		t.Fatal(seen, err)
	}
	if err := c.Retain([]string{spec.Name}); err != nil {
		t.Fatal(err)
	}
	content(t, tree(t, c, rev, "."), "vendor/lib/lib.yaml")
}

// What the cache gives is what was signed.
func TestObjectCanBeVerified(t *testing.T) {
	w := sourcetest.NewWork(t)
	sourcetest.Run(t, w.Dir, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", "ed25519", "-f", filepath.Join(filepath.Dir(w.Dir), "key"))
	key := filepath.Join(filepath.Dir(w.Dir), "key")
	public, err := os.ReadFile(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"gpg.format": "ssh", "user.signingkey": key, "commit.gpgsign": "true"} {
		w.Git("config", k, v)
	}
	w.Commit("a", "1")
	w.Git("tag", "-s", "-m", "x", "v1.0.0")
	c := newCache(t, Options{})
	spec := specOf(sourcetest.File(w))
	spec.Ref.SemVer = "*"
	rev := fetch(t, c, spec)
	keys, err := signature.Read(signature.Trust{AllowedSigners: append([]byte("ann@example.com "), public...)})
	if err != nil {
		t.Fatal(err)
	}
	parse := func(kind signature.Kind, hash string) signature.Object {
		raw, err := c.Object(rev, hash)
		if err != nil {
			t.Fatal(err)
		}
		o, err := signature.Parse(kind, hash, raw)
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	if _, err := keys.Verify(parse(signature.Commit, rev.Commit)); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.VerifyTag(parse(signature.Tag, rev.Tag), rev.Commit); err != nil {
		t.Fatal(err)
	}
}

func TestOtherHashesAreRefused(t *testing.T) {
	w := sourcetest.NewWork(t, "--object-format=sha256")
	w.Commit("a", "1")
	for _, s := range []*sourcetest.Server{sourcetest.File(w), sourcetest.HTTP(t, w, sourcetest.Login{}), sourcetest.SSH(t, w)} {
		refused(t, newCache(t, Options{}), specOf(s), ReasonServerRefused, "sha256", "--object-format=sha1")
	}
}
