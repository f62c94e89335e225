// Package artifact fetches what a program needs into its sandbox: over http, https or from a file, whole and with the
// declared SHA-256, or not at all. Edge: talks to HTTP servers and the file system.
//
// A host keeps what it fetched in a store, by content: DIR/sha256/HEX. Files enter it by rename, so that only whole ones
// are there; each copy out of it is hashed again, so that a file which rotted is fetched anew instead of used. Within a
// process equal artifacts are fetched once.
package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Limits of what is taken.
type Limits struct {
	// Download is the most bytes of one artifact.
	Download int64
	// Unpacked is the most bytes of one unpacked archive, Entries its most files and directories.
	Unpacked int64
	Entries  int
	// Kept is the most bytes that stay in the store; those used longest ago go first.
	Kept int64
}

// DefaultLimits are generous for a program and small for a disk.
var DefaultLimits = Limits{Download: 4 << 30, Unpacked: 8 << 30, Entries: 200_000, Kept: 10 << 30}

// The pauses between attempts to download, as long as the fault may pass by itself.
var retryPauses = []time.Duration{200 * time.Millisecond, time.Second}

// Store keeps artifacts of one host.
type Store struct {
	dir    string
	limits Limits
	client *http.Client

	mu       sync.Mutex
	fetching map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

// Open prepares a store in dir, which is made if it is not there.
func Open(dir string, l Limits) (*Store, error) {
	s := &Store{dir: filepath.Join(dir, "sha256"), limits: l, fetching: map[string]*flight{}, client: &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, ResponseHeaderTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		DisableCompression: true, DisableKeepAlives: true,
	}}}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the artifact store: %w", err)
	}
	// What a fetch that was cut off left behind; younger ones may be another executor's.
	stale, err := filepath.Glob(filepath.Join(s.dir, partPrefix+"*"))
	if err != nil {
		return nil, err
	}
	for _, name := range stale {
		if info, err := os.Stat(name); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.Remove(name)
		}
	}
	return s, nil
}

const partPrefix = ".part-"

// Fetch puts an artifact into the directory, at its path, and unpacks it there if it says so. The error names the
// artifact and what is wrong with it.
func (s *Store) Fetch(ctx context.Context, a *padisv1.Artifact, dir string) error {
	if err := s.fetch(ctx, a, dir); err != nil {
		return fmt.Errorf("artifact %s: %w", a.GetUri(), err)
	}
	return nil
}

func (s *Store) fetch(ctx context.Context, a *padisv1.Artifact, dir string) error {
	name, err := Path(a)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// Once more if what the store had was rotten.
	for attempt := 0; ; attempt++ {
		if err := s.ensure(ctx, a); err != nil {
			return err
		}
		err := s.place(root, name, a)
		if err == nil {
			break
		}
		if attempt > 0 || !(errors.Is(err, errRotten) || errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	s.trim()
	return nil
}

// Path is where an artifact is put, below the sandbox's working directory.
func Path(a *padisv1.Artifact) (string, error) {
	sum := a.GetSha256()
	if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size || strings.ToLower(sum) != sum {
		return "", fmt.Errorf("%q is not a SHA-256 in lower-case hex; set artifacts[].sha256 (sha256sum FILE)", sum)
	}
	u, err := url.Parse(a.GetUri())
	if err != nil {
		return "", err
	}
	switch {
	case u.Scheme == "file" && u.Path != "" && (u.Host == "" || u.Host == "localhost"):
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	default:
		return "", errors.New("only http://, https:// and file:///PATH can be fetched")
	}
	name := a.GetPath()
	if name == "" {
		name = u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	}
	name = filepath.Clean(name)
	if name == "." || !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%q is not a path below the sandbox; set artifacts[].path", a.GetPath())
	}
	return name, nil
}

func (s *Store) kept(sum string) string { return filepath.Join(s.dir, sum) }

// ensure sees to it that the store has the artifact. Equal ones wait for the first.
func (s *Store) ensure(ctx context.Context, a *padisv1.Artifact) error {
	sum := a.GetSha256()
	for {
		if _, err := os.Stat(s.kept(sum)); err == nil {
			return nil
		}
		s.mu.Lock()
		f, busy := s.fetching[sum]
		if !busy {
			f = &flight{done: make(chan struct{})}
			s.fetching[sum] = f
		}
		s.mu.Unlock()
		if !busy {
			f.err = s.download(ctx, a)
			s.mu.Lock()
			delete(s.fetching, sum)
			s.mu.Unlock()
			close(f.done)
			return f.err
		}
		select {
		case <-f.done:
			// Another address, or another's cancellation: try ourselves.
			if f.err != nil && ctx.Err() != nil {
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Store) download(ctx context.Context, a *padisv1.Artifact) error {
	for attempt := 0; ; attempt++ {
		err := s.downloadOnce(ctx, a)
		var final *finalError
		if err == nil || errors.As(err, &final) || attempt == len(retryPauses) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryPauses[attempt]):
		}
	}
}

// finalError is one that another attempt would not cure.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

func (s *Store) downloadOnce(ctx context.Context, a *padisv1.Artifact) error {
	from, err := s.open(ctx, a.GetUri())
	if err != nil {
		return err
	}
	defer from.Close()
	part, err := os.CreateTemp(s.dir, partPrefix)
	if err != nil {
		return &finalError{err}
	}
	defer os.Remove(part.Name())
	defer part.Close()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(part, hash), io.LimitReader(from, s.limits.Download+1))
	var disk *fs.PathError
	switch {
	case errors.As(err, &disk):
		return &finalError{err}
	case err != nil:
		return fmt.Errorf("cut off after %d bytes: %w", n, err)
	case n > s.limits.Download:
		return &finalError{fmt.Errorf("larger than %d bytes, the most that is fetched", s.limits.Download)}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != a.GetSha256() {
		return &finalError{fmt.Errorf("SHA-256 is %s (of %d bytes), but %s was declared; correct artifacts[].sha256, or find out who changed the file", got, n, a.GetSha256())}
	}
	if err := errors.Join(part.Chmod(0o644), part.Close()); err != nil {
		return &finalError{err}
	}
	if err := os.Rename(part.Name(), s.kept(a.GetSha256())); err != nil {
		return &finalError{err}
	}
	return nil
}

func (s *Store) open(ctx context.Context, uri string) (io.ReadCloser, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, &finalError{err}
	}
	if u.Scheme == "file" {
		f, err := os.Open(u.Path)
		if err != nil {
			return nil, &finalError{fmt.Errorf("on this host: %w", err)}
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
			f.Close()
			return nil, &finalError{fmt.Errorf("on this host: %s is not a regular file", u.Path)}
		}
		return f, nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, &finalError{err}
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err := fmt.Errorf("the server answered %s", resp.Status)
		if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
			err = &finalError{err}
		}
		return nil, err
	}
	return resp.Body, nil
}

var errRotten = errors.New("the copy in the store is damaged")

// place copies the artifact out of the store, hashing it again, and unpacks it.
func (s *Store) place(root *os.Root, name string, a *padisv1.Artifact) error {
	from, err := os.Open(s.kept(a.GetSha256()))
	if err != nil {
		return err
	}
	defer from.Close()
	now := time.Now()
	_ = os.Chtimes(from.Name(), now, now) // used now; only trim looks at it
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if a.GetExecutable() {
		mode = 0o755
	}
	to, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, mode)
	if err != nil {
		return err
	}
	defer to.Close()
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(to, hash), from); err != nil {
		return err
	}
	if hex.EncodeToString(hash.Sum(nil)) != a.GetSha256() {
		os.Remove(from.Name())
		return errRotten
	}
	if err := to.Chmod(mode); err != nil {
		return err
	}
	if !a.GetExtract() {
		return to.Close()
	}
	into := root
	if d := filepath.Dir(name); d != "." {
		if into, err = root.OpenRoot(d); err != nil {
			return err
		}
		defer into.Close()
	}
	if err := unpack(to, into, s.limits); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// trim removes what was used longest ago until the rest is small enough.
func (s *Store) trim() {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && !strings.HasPrefix(e.Name(), partPrefix) {
			files = append(files, info)
			total += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if total <= s.limits.Kept {
			return
		}
		if os.Remove(s.kept(f.Name())) == nil {
			total -= f.Size()
		}
	}
}
