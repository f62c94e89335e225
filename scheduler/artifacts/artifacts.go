// Package artifacts serves the executor's binary to the Mesos fetcher, named by its checksum, so that an agent cannot
// start another one than the scheduler means. Edge: talks to the file system and, as a handler, HTTP.
package artifacts

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// name is the file name that the executor's command expects in its sandbox.
const name = "padis-executor"

// Server serves one binary. It is safe for concurrent use.
type Server struct {
	file *os.File
	sum  string
	size int64
	// modified is when the file was last written, to notice that it was written again.
	modified time.Time
}

// New opens the binary at path and computes its checksum, reading it once. The file stays open: it can be replaced by
// renaming another one over it, as package managers do, without touching what is served.
func New(path string) (*Server, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the executor binary: %w; build it, or give the path of the one that is there", err)
	}
	s, err := read(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the executor binary %s: %w", path, err), f.Close())
	}
	return s, nil
}

func read(f *os.File) (*Server, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("it is empty")
	}
	return &Server{file: f, sum: hex.EncodeToString(h.Sum(nil)), size: n, modified: info.ModTime()}, nil
}

// SHA256 is the checksum of the binary in lower-case hex.
func (s *Server) SHA256() string { return s.sum }

// URLPath is where the binary is served, below the root of the server.
func (s *Server) URLPath() string { return "/artifacts/" + name + "/" + s.sum + "/" + name }

// Close closes the file. Downloads that are under way fail.
func (s *Server) Close() error { return s.file.Close() }

// ServeHTTP answers GET and HEAD of URLPath, with ranges and conditions; everything else with an error text.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != s.URLPath() {
		http.Error(w, "not found: this server has "+s.URLPath()+" only; an executor of another version is served by the scheduler of that version",
			http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered here", http.StatusMethodNotAllowed)
		return
	}
	if info, err := s.file.Stat(); err != nil || info.Size() != s.size || !info.ModTime().Equal(s.modified) {
		http.Error(w, "the executor binary was written to after the scheduler had read it, so its checksum does not hold; restart the scheduler",
			http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+s.sum+`"`)
	// The name holds the checksum: what is cached stays right.
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, name, s.modified, io.NewSectionReader(s.file, 0, s.size))
}
