package artifacts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve writes a binary and serves it.
func serve(t *testing.T, content []byte) (s *Server, base, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "bin")
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := New(path)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s)
	t.Cleanup(func() {
		web.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, web.URL, path
}

func do(t *testing.T, method, url string, header http.Header) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, body
}

func TestTheBinaryIsServedUnderItsChecksum(t *testing.T) {
	content := bytes.Repeat([]byte("padis "), 100_000)
	sum := sha256.Sum256(content)
	s, base, path := serve(t, content)
	if s.SHA256() != hex.EncodeToString(sum[:]) || s.URLPath() != "/artifacts/padis-executor/"+s.SHA256()+"/padis-executor" {
		t.Errorf("%s %s", s.SHA256(), s.URLPath())
	}
	// A new version takes the file's place: what was read is still what is served.
	next := path + ".new"
	if err := os.WriteFile(next, []byte("other"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
	res, body := do(t, http.MethodGet, base+s.URLPath(), nil)
	if res.StatusCode != http.StatusOK || !bytes.Equal(body, content) || res.ContentLength != int64(len(content)) {
		t.Errorf("GET: %s, %d bytes, Content-Length %d", res.Status, len(body), res.ContentLength)
	}
	etag := res.Header.Get("ETag")
	if etag != `"`+s.SHA256()+`"` || res.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("headers %v", res.Header)
	}
	if res, body := do(t, http.MethodHead, base+s.URLPath(), nil); res.ContentLength != int64(len(content)) || len(body) != 0 {
		t.Errorf("HEAD: %s, Content-Length %d", res.Status, res.ContentLength)
	}
	if res, _ := do(t, http.MethodGet, base+s.URLPath(), http.Header{"If-None-Match": {etag}}); res.StatusCode != http.StatusNotModified {
		t.Errorf("not modified: %s", res.Status)
	}
	if res, body := do(t, http.MethodGet, base+s.URLPath(), http.Header{"Range": {"bytes=6-10"}}); res.StatusCode != http.StatusPartialContent || string(body) != "padis" {
		t.Errorf("range: %s %q", res.Status, body)
	}
}

func TestEverythingElseIsRefusedWithAText(t *testing.T) {
	s, base, _ := serve(t, []byte("binary"))
	for path, want := range map[string]int{
		"/":                          http.StatusNotFound,
		"/artifacts/padis-executor/": http.StatusNotFound,
		"/artifacts/padis-executor/" + strings.Repeat("0", 64) + "/padis-executor": http.StatusNotFound,
		"/artifacts/padis-executor/../../etc/passwd":                               http.StatusNotFound,
		s.URLPath() + "/": http.StatusNotFound,
	} {
		if res, body := do(t, http.MethodGet, base+path, nil); res.StatusCode != want || !strings.Contains(string(body), s.URLPath()) {
			t.Errorf("%s: %s %q", path, res.Status, body)
		}
	}
	res, body := do(t, http.MethodPost, base+s.URLPath(), nil)
	if res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET, HEAD" || len(body) == 0 {
		t.Errorf("POST: %s %q", res.Status, body)
	}
}

func TestABinaryThatIsWrittenToIsNotServed(t *testing.T) {
	s, base, path := serve(t, []byte("binary"))
	if err := os.WriteFile(path, []byte("BINARY"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.UnixMilli(1)); err != nil {
		t.Fatal(err)
	}
	if res, body := do(t, http.MethodGet, base+s.URLPath(), nil); res.StatusCode != http.StatusInternalServerError || !strings.Contains(string(body), "restart the scheduler") {
		t.Errorf("%s %q", res.Status, body)
	}
}

func TestWhatIsNoBinaryIsRefused(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "missing"): "build it",
		dir:                           "not a regular file",
		empty:                         "it is empty",
	} {
		if _, err := New(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzServeHTTP sends any path and method: it is the binary or an error, never a panic.
func FuzzServeHTTP(f *testing.F) {
	path := filepath.Join(f.TempDir(), "bin")
	if err := os.WriteFile(path, []byte("binary"), 0o755); err != nil {
		f.Fatal(err)
	}
	s, err := New(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Add("GET", s.URLPath(), "bytes=1-2")
	f.Add("HEAD", "/", "bytes=9-1,-")
	f.Fuzz(func(t *testing.T, method, path, ranges string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.URL.Path = method, path
		r.Header.Set("Range", ranges)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if path != s.URLPath() && w.Code != http.StatusNotFound {
			t.Errorf("%q: %d", path, w.Code)
		}
	})
}
