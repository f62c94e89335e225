package source

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"padis.io/padis/reconcile/gitops/source/sourcetest"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// packOf gives a real pack, with deltas.
func packOf(t testing.TB) []byte {
	t.Helper()
	w := sourcetest.NewWork(t)
	lines := bytes.Repeat([]byte("the same line again and again\n"), 50)
	for i := range 4 {
		w.Commit("a", string(lines)+string(rune('0'+i)), "dir/b", string(rune('0'+i)))
	}
	w.Git("repack", "-q", "-a", "-d", "-f")
	packs, err := filepath.Glob(filepath.Join(w.Dir, ".git", "objects", "pack", "*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	b, err := os.ReadFile(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fileOf(t testing.TB, b []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// The index is, byte by byte, what git itself writes.
func TestIndexIsGits(t *testing.T) {
	b := packOf(t)
	f := fileOf(t, b)
	var got bytes.Buffer
	if _, err := writeIndex(context.Background(), f, &got); err != nil {
		t.Fatal(err)
	}
	sourcetest.Run(t, filepath.Dir(f.Name()), "git", "index-pack", "-o", "git.idx", f.Name())
	want, err := os.ReadFile(filepath.Join(filepath.Dir(f.Name()), "git.idx"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%d bytes, git writes %d others", got.Len(), len(want))
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(packOf(f))
	f.Add([]byte("PACK\x00\x00\x00\x02\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = writeIndex(context.Background(), fileOf(t, b), new(bytes.Buffer))
	})
}

// Of what is advertised, something that was advertised is found, or it is said why not.
func FuzzResolve(f *testing.F) {
	f.Add("refs/tags/v1.2.3", "refs/heads/main", ">=1", "main")
	f.Add("refs/tags/1.x", "refs/heads/", "*", "")
	f.Fuzz(func(t *testing.T, a, b, within, branch string) {
		adv := packp.NewAdvRefs()
		for i, name := range []string{a, b} {
			adv.References[name] = plumbing.Hash{byte(i + 1)}
		}
		for _, ref := range []Ref{{SemVer: within}, {Branch: branch}, {Tag: branch}, {}} {
			w, err := resolve(adv, ref)
			if err == nil && adv.References[w.ref] != w.hash {
				t.Fatalf("%+v: %+v", ref, w)
			}
		}
	})
}

// No URL that is taken holds a password, and none is taken for another scheme.
func FuzzURL(f *testing.F) {
	for _, u := range []string{"https://git.example/a.git", "git@git.example:a/b", "file:///srv/git", "ssh://git@[::1]:2222/a", "https://u:p@h/x", "ext::sh -c x"} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, u string) {
		r, err := parseURL(u)
		if err != nil {
			return
		}
		switch r.scheme {
		case "http", "https", "ssh":
			if r.host == "" || r.path == "" {
				t.Fatalf("%+v", r)
			}
		case "file":
		default:
			t.Fatalf("%+v", r)
		}
	})
}
