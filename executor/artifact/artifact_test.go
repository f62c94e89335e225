package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func store(t testing.TB, l Limits) *Store {
	t.Helper()
	s, err := Open(t.TempDir(), l)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFetchOnceForManyAndFromTheStoreAfterwards(t *testing.T) {
	content := []byte("#!/bin/sh\necho hi\n")
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		w.Write(content)
	}))
	s := store(t, DefaultLimits)
	a := &padisv1.Artifact{Uri: server.URL + "/dir/hello.sh?x=1", Sha256: sum(content), Executable: true}
	var wg sync.WaitGroup
	for range 10 {
		dir := t.TempDir()
		wg.Go(func() {
			if err := s.Fetch(context.Background(), a, dir); err != nil {
				t.Error(err)
			}
			if info, err := os.Stat(filepath.Join(dir, "hello.sh")); err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
	wg.Wait()
	if n := hits.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	server.Close()
	dir := t.TempDir()
	a.Path = "bin/tool"
	if err := s.Fetch(context.Background(), a, dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "bin/tool"); got != string(content) {
		t.Errorf("got %q", got)
	}
}

func TestAFileThatRottedInTheStoreIsFetchedAnew(t *testing.T) {
	src := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(src, []byte("good"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := store(t, DefaultLimits)
	a := &padisv1.Artifact{Uri: "file://" + src, Sha256: sum([]byte("good"))}
	if err := os.WriteFile(s.kept(a.Sha256), []byte("rotten"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := s.Fetch(context.Background(), a, dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "f"); got != "good" {
		t.Errorf("got %q", got)
	}
}

func TestTheStoreForgetsWhatWasUsedLongestAgo(t *testing.T) {
	l := DefaultLimits
	l.Kept = 10
	s := store(t, l)
	src := t.TempDir()
	for i := range 4 {
		content := fmt.Appendf(nil, "file%d", i)
		name := filepath.Join(src, fmt.Sprint(i))
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := s.Fetch(context.Background(), &padisv1.Artifact{Uri: "file://" + name, Sha256: sum(content)}, t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("%d kept, %v", len(entries), err)
	}
}

func TestWhatIsRefusedSaysWhy(t *testing.T) {
	old := retryPauses
	t.Cleanup(func() { retryPauses = old })
	retryPauses = nil
	content := []byte("content")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/missing":
			http.NotFound(w, r)
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/cut":
			w.Header().Set("Content-Length", "100")
			w.Write(content)
		case "/large":
			w.Write(make([]byte, 5000))
		default:
			w.Write(content)
		}
	}))
	defer server.Close()
	l := DefaultLimits
	l.Download = 1000
	good := sum(content)
	for name, c := range map[string]struct {
		a    *padisv1.Artifact
		says string
	}{
		"no checksum":    {&padisv1.Artifact{Uri: server.URL + "/f"}, "artifacts[].sha256"},
		"short checksum": {&padisv1.Artifact{Uri: server.URL + "/f", Sha256: "abcd"}, "artifacts[].sha256"},
		"upper case":     {&padisv1.Artifact{Uri: server.URL + "/f", Sha256: strings.ToUpper(good)}, "lower-case"},
		"wrong checksum": {&padisv1.Artifact{Uri: server.URL + "/f", Sha256: sum(nil)}, good},
		"not there":      {&padisv1.Artifact{Uri: server.URL + "/missing", Sha256: good}, "404"},
		"server broken":  {&padisv1.Artifact{Uri: server.URL + "/broken", Sha256: good}, "500"},
		"cut off":        {&padisv1.Artifact{Uri: server.URL + "/cut", Sha256: good}, "cut off after 7 bytes"},
		"too large":      {&padisv1.Artifact{Uri: server.URL + "/large", Sha256: good}, "larger than 1000"},
		"no server":      {&padisv1.Artifact{Uri: "http://127.0.0.1:1/f", Sha256: good}, "refused"},
		"scheme":         {&padisv1.Artifact{Uri: "ftp://host/f", Sha256: good}, "http://"},
		"no name":        {&padisv1.Artifact{Uri: server.URL, Sha256: good}, "artifacts[].path"},
		"path outside":   {&padisv1.Artifact{Uri: server.URL + "/f", Sha256: good, Path: "../f"}, "below the sandbox"},
		"path absolute":  {&padisv1.Artifact{Uri: server.URL + "/f", Sha256: good, Path: "/etc/f"}, "below the sandbox"},
		"not a file":     {&padisv1.Artifact{Uri: "file:///dev/zero", Sha256: good}, "not a regular file"},
		"no file":        {&padisv1.Artifact{Uri: "file:///no/such", Sha256: good}, "no such file"},
		"not an archive": {&padisv1.Artifact{Uri: server.URL + "/f", Sha256: good, Extract: true}, "not a whole tar"},
	} {
		s, dir := store(t, l), t.TempDir()
		err := s.Fetch(context.Background(), c.a, dir)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.a.Uri) {
			t.Errorf("%s: got %v, want an error that says %q", name, err, c.says)
		}
		if parts, err := filepath.Glob(filepath.Join(s.dir, partPrefix+"*")); err != nil || len(parts) > 0 {
			t.Errorf("%s: left %v behind", name, parts)
		}
	}
}

func TestFetchIsCancelled(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := store(t, DefaultLimits).Fetch(ctx, &padisv1.Artifact{Uri: server.URL + "/f", Sha256: sum(nil)}, t.TempDir())
	if err == nil {
		t.Error("fetched")
	}
}

type entry struct {
	tar.Header
	body string
}

func tarOf(t testing.TB, entries ...entry) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		if e.Typeflag == 0 {
			e.Typeflag = tar.TypeReg
		}
		if e.Mode == 0 {
			e.Mode = 0o644
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, in []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(in); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t testing.TB, names ...string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, n := range names {
		h := &zip.FileHeader{Name: n, Method: zip.Deflate}
		h.SetMode(0o755)
		target, link := strings.CutPrefix(n, "link:")
		if link {
			h.Name = "link"
			h.SetMode(0o777 | fs.ModeSymlink)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, target)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// into unpacks an archive and returns the directory.
func into(t testing.TB, archive []byte, l Limits) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in", "side")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, unpackInto(t, dir, archive, l)
}

func unpackInto(t testing.TB, dir string, archive []byte, l Limits) error {
	f, err := os.Create(filepath.Join(filepath.Dir(dir), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(archive); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return unpack(f, root, l)
}

func TestUnpack(t *testing.T) {
	plain := tarOf(t,
		entry{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir}},
		entry{Header: tar.Header{Name: "./bin/", Typeflag: tar.TypeDir}},
		entry{Header: tar.Header{Name: "./bin/app", Mode: 0o4755}, body: "program"},
		entry{Header: tar.Header{Name: "etc/app.conf"}, body: "conf"},
		entry{Header: tar.Header{Name: "current", Typeflag: tar.TypeSymlink, Linkname: "bin/app"}},
		entry{Header: tar.Header{Name: "etc/up", Typeflag: tar.TypeSymlink, Linkname: "../bin"}},
		entry{Header: tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "bin/app"}},
	)
	for name, archive := range map[string][]byte{"tar": plain, "tar.gz": gz(t, plain)} {
		dir, err := into(t, archive, DefaultLimits)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for file, want := range map[string]string{"bin/app": "program", "current": "program", "hard": "program", "etc/up/app": "program", "etc/app.conf": "conf"} {
			if got := read(t, dir, file); got != want {
				t.Errorf("%s: %s is %q", name, file, got)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "bin/app")); err != nil || info.Mode() != 0o755 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	dir, err := into(t, zipOf(t, "a/b", "link:a/b"), DefaultLimits)
	if err != nil || read(t, dir, "link") != "a/b" {
		t.Errorf("zip: %v", err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	l := Limits{Unpacked: 1000, Entries: 5}
	link := func(name, target string) entry {
		return entry{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}}
	}
	file := func(name string) entry { return entry{Header: tar.Header{Name: name}, body: "x"} }
	whole := gz(t, tarOf(t, file("a")))
	for name, archive := range map[string][]byte{
		"path upwards":       tarOf(t, file("../evil")),
		"hidden upwards":     tarOf(t, file("a/../../evil")),
		"absolute path":      tarOf(t, file("/evil")),
		"zip upwards":        zipOf(t, "../evil"),
		"zip absolute":       zipOf(t, "/evil"),
		"zip backslash":      zipOf(t, `..\evil`),
		"zip link outside":   zipOf(t, "link:../evil"),
		"link outside":       tarOf(t, link("l", "../evil")),
		"link absolute":      tarOf(t, link("l", "/etc/passwd")),
		"through a link":     tarOf(t, entry{Header: tar.Header{Name: "d", Typeflag: tar.TypeDir}}, link("l", "d"), file("l/evil")),
		"links together":     tarOf(t, link("p/q", ".."), link("r", "p/q/../../in")),
		"hard link outside":  tarOf(t, entry{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "../archive"}}),
		"hard link to link":  tarOf(t, link("l", "x"), entry{Header: tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "l"}}),
		"device":             tarOf(t, entry{Header: tar.Header{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5}}),
		"pipe":               tarOf(t, entry{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo}}),
		"too many entries":   tarOf(t, file("1"), file("2"), file("3"), file("4"), file("5"), file("6")),
		"too large":          tarOf(t, entry{Header: tar.Header{Name: "a"}, body: strings.Repeat("x", 2000)}),
		"bomb":               gz(t, tarOf(t, entry{Header: tar.Header{Name: "a"}, body: strings.Repeat("x", 1<<20)})),
		"trailing bomb":      gz(t, append(tarOf(t, file("a")), make([]byte, 1<<20)...)),
		"file over dir":      tarOf(t, file("d/f"), file("d")),
		"dir over file":      tarOf(t, file("d"), entry{Header: tar.Header{Name: "d", Typeflag: tar.TypeDir}}),
		"cut off":            tarOf(t, file("a"))[:512],
		"gzip cut off":       whole[:len(whole)-4],
		"gzip of nothing":    {0x1f, 0x8b},
		"text":               []byte("hello, I am no archive"),
		"zip without an end": []byte("PK\x03\x04 and so on"),
	} {
		dir, err := into(t, archive, l)
		if err == nil {
			t.Errorf("%s: unpacked", name)
		}
		outside(t, dir)
	}
}

// outside checks that nothing was written beside the directory.
func outside(t testing.TB, dir string) {
	t.Helper()
	above, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range above {
		if e.Name() != "side" && e.Name() != "archive" {
			t.Errorf("%s was written outside", e.Name())
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(tarOf(f, entry{Header: tar.Header{Name: "a/b"}, body: "x"}, entry{Header: tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a/b"}}))
	f.Add(gz(f, tarOf(f, entry{Header: tar.Header{Name: "../x"}, body: "x"})))
	f.Add(zipOf(f, "a", "link:a"))
	f.Add([]byte{})
	base := f.TempDir()
	f.Fuzz(func(t *testing.T, archive []byte) {
		in, err := os.MkdirTemp(base, "in")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(in)
		dir := filepath.Join(in, "side")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err = unpackInto(t, dir, archive, Limits{Unpacked: 1 << 16, Entries: 20})
		outside(t, dir)
		if err != nil {
			return
		}
		// Whatever was unpacked, no link leads out of it.
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.Type() != fs.ModeSymlink {
				return err
			}
			rel, err := filepath.Rel(dir, name)
			if err != nil {
				return err
			}
			if _, err := root.Stat(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("link %s: %v", rel, err)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
