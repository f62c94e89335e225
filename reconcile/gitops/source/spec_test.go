package source

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"padis.io/padis/reconcile/gitops/source/sourcetest"

	"pgregory.net/rapid"
)

func TestSpecsThatAreRefused(t *testing.T) {
	known := Auth{PrivateKey: []byte("x"), KnownHosts: []byte("x")}
	for _, c := range []struct {
		name string
		spec Spec
		says string
	}{
		{"no name", Spec{URL: "https://git.example/a"}, "name"},
		{"no url", Spec{Name: "a"}, "url"},
		{"a password", Spec{Name: "a", URL: "https://ann:hunter2@git.example/a"}, "Secret"},
		{"a password, and a port that is none", Spec{Name: "a", URL: "https://ann:hunter2@git.example:x/a"}, "url"},
		{"git's own protocol", Spec{Name: "a", URL: "git://git.example/a"}, "https://"},
		{"a command", Spec{Name: "a", URL: "ext::sh -c true"}, "https://"},
		{"credentials in the clear", Spec{Name: "a", URL: "http://git.example/a", Auth: Auth{Token: "hunter2"}}, "https"},
		{"ssh without a key", Spec{Name: "a", URL: "git@git.example:a"}, "private key"},
		{"ssh without known hosts", Spec{Name: "a", URL: "git@git.example:a", Auth: Auth{PrivateKey: []byte("x")}}, "ssh-keyscan git.example"},
		{"two refs", Spec{Name: "a", URL: "git@git.example:a", Auth: known, Ref: Ref{Branch: "a", Tag: "b"}}, "ref"},
		{"three refs", Spec{Name: "a", URL: "git@git.example:a", Auth: known, Ref: Ref{Branch: "a", Tag: "b", Commit: strings.Repeat("a", 40)}}, "ref"},
		{"a short commit", Spec{Name: "a", URL: "git@git.example:a", Auth: known, Ref: Ref{Commit: "abc1234"}}, "40"},
		{"no range", Spec{Name: "a", URL: "git@git.example:a", Auth: known, Ref: Ref{SemVer: "newest"}}, "range"},
		{"two credentials", Spec{Name: "a", URL: "https://git.example/a", Auth: Auth{Token: "x", Password: "y"}}, "auth"},
		{"a depth", Spec{Name: "a", URL: "https://git.example/a", Depth: -1}, "depth"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.spec.check()
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want a word of %q", err, c.says)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Fatalf("it tells the password: %v", err)
			}
		})
	}
}

// What has changed between any two commits is what git says.
func TestChangedIsWhatGitSays(t *testing.T) {
	w := sourcetest.NewWork(t)
	c := newCache(t, Options{})
	names := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "b/c", "b/d", "e/f/g", "e/f/h", "a.b", "b.c"}), rapid.ID)
	var commits []string
	for seed := range 8 {
		w.Git("rm", "-r", "-q", "--cached", "--ignore-unmatch", ".")
		w.Git("clean", "-q", "-f", "-d", "-x")
		var files []string
		for _, n := range names.Example(seed) {
			// A name is a file in some commits and a directory in others.
			if (n == "b") == (seed%2 == 0) || !strings.HasPrefix(n, "b") || n == "b.c" {
				files = append(files, n, rapid.SampledFrom([]string{"1", "2"}).Example(seed+len(n)))
			}
		}
		commits = append(commits, w.Commit(files...))
	}
	spec := specOf(sourcetest.File(w))
	spec.MayRewrite = true
	for _, from := range commits {
		for _, to := range commits {
			spec.Since, spec.Ref.Commit = from, to
			rev := fetch(t, c, spec)
			want := strings.Fields(w.Git("diff", "--name-only", "--no-renames", from, to))
			slices.Sort(rev.Changed)
			slices.Sort(want)
			if !slices.Equal(rev.Changed, want) {
				t.Fatalf("got %v, git says %v", rev.Changed, want)
			}
		}
	}
}

// A tree is read by many at once, while the source is fetched.
func TestReadByMany(t *testing.T) {
	w := sourcetest.NewWork(t)
	w.Commit("a/b/c", "1", "a/d", "2")
	c := newCache(t, Options{MaxPacks: 2})
	spec := specOf(sourcetest.File(w))
	tr := tree(t, c, fetch(t, c, spec), ".")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if b, err := tr.ReadFile("a/b/c"); err != nil || string(b) != "1" {
					t.Error(string(b), err)
				}
				if _, err := tr.Hash("a"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	w.Commit("a/d", "3")
	fetch(t, c, spec)
	all.Wait()
}
