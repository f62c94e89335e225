package source

import (
	"fmt"
	"io/fs"
	"testing"

	"padis.io/padis/reconcile/gitops/source/sourcetest"
)

// One changed file among 50,000: what a fetch costs, and reading the directory that has changed.
func BenchmarkOneOf50000(b *testing.B) {
	w := sourcetest.NewWork(b)
	for i := range 50_000 {
		w.Write(fmt.Sprintf("apps/%03d/app-%05d.yaml", i/100, i), fmt.Sprintf("kind: App\nmetadata: {name: app-%05d}\nspec: {replicas: 1}\n", i))
	}
	spec := specOf(sourcetest.File(w))
	spec.Since = w.Commit()
	c := newCache(b, Options{})
	fetch(b, c, spec)
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		commit := w.Commit("apps/123/app-12345.yaml", fmt.Sprint("kind: App # ", i))
		b.StartTimer()
		rev := fetch(b, c, spec)
		if len(rev.Changed) != 1 {
			b.Fatal(rev.Changed)
		}
		t, err := c.Tree(rev, "apps/123")
		if err != nil {
			b.Fatal(err)
		}
		if err := fs.WalkDir(t, ".", func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				_, err = t.ReadFile(p)
			}
			return err
		}); err != nil {
			b.Fatal(err)
		}
		t.Close()
		spec.Since = commit
	}
}

// All of 50,000 files, as the first sync reads them, with nothing to fetch.
func BenchmarkReadAll50000(b *testing.B) {
	w := sourcetest.NewWork(b)
	for i := range 50_000 {
		w.Write(fmt.Sprintf("apps/%03d/app-%05d.yaml", i/100, i), fmt.Sprintf("kind: App\nmetadata: {name: app-%05d}\nspec: {replicas: 1}\n", i))
	}
	w.Commit()
	c := newCache(b, Options{})
	spec := specOf(sourcetest.File(w))
	rev := fetch(b, c, spec)
	for b.Loop() {
		t, err := c.Tree(rev, ".")
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := fs.WalkDir(t, ".", func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
				_, err = t.ReadFile(p)
			}
			return err
		}); err != nil || n != 50_000 {
			b.Fatal(n, err)
		}
		t.Close()
	}
}
