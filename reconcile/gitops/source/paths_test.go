package source

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"padis.io/padis/reconcile/gitops/source/sourcetest"

	"pgregory.net/rapid"
)

// files of a tree, as a walk finds them.
func files(t *testing.T, f fs.FS) []string {
	t.Helper()
	var out []string
	if err := fs.WalkDir(f, ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			out = append(out, p)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNothingOutsideThePathsIsRead(t *testing.T) {
	w := sourcetest.NewWork(t)
	w.Link("clusters/berlin/to-shop", "../../shop/a.yaml")
	w.Link("clusters/berlin/to-paris", "../paris/a.yaml")
	w.Link("clusters/berlin/to-all", "../../shop")
	w.Commit("clusters/berlin/a.yaml", "1", "clusters/berlin/deep/b.yaml", "2", "clusters/berlin-2/a.yaml", "3", "clusters/paris/a.yaml", strings.Repeat("4", 2000),
		"shop/a.yaml", "5", "shop/b.yaml", "6", "one.yaml", "7", "two.yaml", "8")
	c := newCache(t, Options{MaxFile: 1000, MaxTree: 10})
	spec := specOf(sourcetest.File(w))
	spec.Paths = []string{"clusters/berlin/", "one.yaml", "shop/a.yaml", "gone"}
	rev := fetch(t, c, spec)
	tr := tree(t, c, rev, ".")
	want := []string{"clusters/berlin/a.yaml", "clusters/berlin/deep/b.yaml", "one.yaml", "shop/a.yaml"}
	if got := files(t, tr); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	for _, p := range want {
		content(t, tr, p)
	}
	for _, p := range []string{"clusters/paris/a.yaml", "clusters/paris", "clusters/berlin-2", "shop/b.yaml", "two.yaml"} {
		if _, err := tr.Stat(p); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "paths") {
			t.Errorf("%s: %v", p, err)
		}
		if _, err := fs.ReadFile(tr, p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", p, err)
		}
	}
	if content(t, tr, "clusters/berlin/to-shop") != "5" || content(t, tr, "clusters/berlin/to-all/a.yaml") != "5" {
		t.Error("links to what is read are followed")
	}
	if list, err := tr.ReadDir("clusters/berlin/to-all"); err != nil || len(list) != 1 {
		t.Errorf("a link to a directory shows %v, %v", list, err)
	}
	_, err := tr.ReadFile("clusters/berlin/to-paris")
	wantError(t, err, ReasonSymlinkRefused, "clusters/berlin/to-paris", "clusters/paris/a.yaml")
	if got := files(t, tree(t, c, rev, "clusters")); !slices.Equal(got, []string{"berlin/a.yaml", "berlin/deep/b.yaml"}) {
		t.Errorf("from a directory on: %v", got)
	}
	_, err = c.Tree(rev, "clusters/paris")
	wantError(t, err, ReasonRefNotFound, "clusters/paris")

	// What has changed elsewhere is no change.
	spec.Since, spec.SincePaths = rev.Commit, spec.Paths
	w.Commit("clusters/paris/a.yaml", "9", "two.yaml", "10", "shop/a.yaml", "11")
	if rev = fetch(t, c, spec); !slices.Equal(rev.Changed, []string{"shop/a.yaml"}) {
		t.Errorf("changed are %v", rev.Changed)
	}
	// What was not read then is new, for nobody has looked at who has made it.
	spec.Since, spec.Paths = rev.Commit, []string{"clusters", "two.yaml"}
	if rev = fetch(t, c, spec); !slices.Equal(rev.Changed, []string{"clusters/berlin-2/a.yaml", "clusters/paris/a.yaml", "two.yaml"}) {
		t.Errorf("changed are %v", rev.Changed)
	}
	spec.Paths = []string{"../etc"}
	refused(t, c, spec, ReasonInvalid, "paths", "../etc")
}

// Changed is what git says, of what is read now, and all of what was not read then.
func TestChangedWithinPaths(t *testing.T) {
	w := sourcetest.NewWork(t)
	c := newCache(t, Options{})
	names := []string{"a", "b/c", "b/d/e", "b/d/f", "g/h", "g/i/j"}
	var commits []string
	for seed := range 6 {
		w.Git("rm", "-r", "-q", "--cached", "--ignore-unmatch", ".")
		w.Git("clean", "-q", "-f", "-d", "-x")
		var list []string
		for i, n := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID).Example(seed) {
			list = append(list, n, []string{"1", "2"}[(seed+i)%2])
		}
		commits = append(commits, w.Commit(list...))
	}
	diff := map[[2]string][]string{}
	has := map[string][]string{}
	for _, from := range commits {
		has[from] = strings.Fields(w.Git("ls-tree", "-r", "--name-only", from))
		for _, to := range commits {
			diff[[2]string{from, to}] = strings.Fields(w.Git("diff", "--name-only", "--no-renames", from, to))
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		some := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "b/c", "b/d", "b/d/e", "g", "g/i"}), rapid.ID)
		then, now := some.Draw(r, "then"), some.Draw(r, "now")
		from, to := rapid.SampledFrom(commits).Draw(r, "from"), rapid.SampledFrom(commits).Draw(r, "to")
		spec := specOf(sourcetest.File(w))
		spec.Ref.Commit, spec.Since, spec.SincePaths, spec.Paths, spec.MayRewrite = to, from, then, now, true
		rev := fetch(t, c, spec)
		var want []string
		for _, p := range names {
			changed := slices.Contains(diff[[2]string{from, to}], p)
			if !Inside(then, p) {
				changed = slices.Contains(has[to], p)
			}
			if Inside(now, p) && changed {
				want = append(want, p)
			}
		}
		slices.Sort(rev.Changed)
		if !slices.Equal(rev.Changed, want) {
			r.Fatalf("got %v, want %v", rev.Changed, want)
		}
	})
}

func TestSubmodulesOutsideThePathsAreNotFetched(t *testing.T) {
	w := sourcetest.NewWork(t)
	for _, name := range []string{"lib", "other"} {
		inner := w.Beside(name)
		inner.Commit("base/a.yaml", "1", "extra/b.yaml", "2")
		w.Git("submodule", "add", "-q", "file://"+inner.Dir, "vendor/"+name)
	}
	w.Commit("app/a.yaml", "3")
	spec := specOf(sourcetest.File(w))
	spec.Submodules = true
	for _, x := range []struct {
		path  string
		files []string
	}{{"app", []string{"app/a.yaml"}}, {"vendor/lib", []string{"vendor/lib/base/a.yaml", "vendor/lib/extra/b.yaml"}}, {"vendor/lib/base", []string{"vendor/lib/base/a.yaml"}}} {
		c := newCache(t, Options{})
		spec.Paths = []string{x.path}
		rev := fetch(t, c, spec)
		if len(rev.Submodules) != min(1, strings.Count(x.path, "/")) {
			t.Errorf("%s: submodules are %+v", x.path, rev.Submodules)
		}
		if got := files(t, tree(t, c, rev, ".")); !slices.Equal(got, x.files) {
			t.Errorf("%s: %v", x.path, got)
		}
	}
}
