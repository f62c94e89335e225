// Package registry starts a real registry of images (Debian's docker-registry) for tests, demos and benchmarks, and
// makes images for it without any tool for building. Edge: talks to a process, HTTP and files.
package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// program is in Debian's package docker-registry.
const program = "docker-registry"

// Options of a registry.
type Options struct {
	// Dir keeps what was pushed; empty is a directory of its own that Stop removes.
	Dir string
	// Address to listen on; empty is a free port of 127.0.0.1.
	Address string
	// Users and their passwords; none: everybody may do everything.
	Users map[string]string
	// TLS is spoken with a certificate of the registry's own authority.
	TLS bool
}

// Registry is one that runs.
type Registry struct {
	options Options
	address string
	ca      string
	dir     string
	own     bool
	client  *http.Client
	cmd     *exec.Cmd
	ended   chan struct{}
	log     *accessLog
	asked   atomic.Int64
	stop    sync.Once
}

// Start opens a registry that ends with the test.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// Open starts a registry and returns when it answers. A registry with the Dir of a stopped one has its images.
func Open(o Options) (*Registry, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%w: install Debian's package docker-registry", err)
	}
	r := &Registry{options: o, address: o.Address, dir: o.Dir, client: &http.Client{Timeout: 5 * time.Second}, log: &accessLog{}}
	if r.dir == "" {
		r.own = true
		if r.dir, err = os.MkdirTemp("", "padis-registry-"); err != nil {
			return nil, err
		}
	}
	if err := r.run(path); err != nil {
		r.Stop()
		return nil, fmt.Errorf("start a registry on %s: %w", r.address, err)
	}
	return r, nil
}

func (r *Registry) run(path string) error {
	if r.address == "" {
		var err error
		if r.address, err = freeAddress(); err != nil {
			return err
		}
	}
	config, err := r.configure()
	if err != nil {
		return err
	}
	r.cmd = exec.Command(path, "serve", config)
	r.cmd.Stdout, r.cmd.Stderr = r.log, r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.cmd = nil
		return err
	}
	r.ended = make(chan struct{})
	go func() {
		_ = r.cmd.Wait() // that it was killed, or complained in its log
		close(r.ended)
	}()
	return r.await()
}

// await polls until the registry answers, whatever it answers.
func (r *Registry) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		err := r.ask(ctx, 0)
		if err == nil {
			return nil
		}
		select {
		case <-r.ended:
			return fmt.Errorf("it ended: %s", r.log)
		case <-ctx.Done():
			return fmt.Errorf("%w\n%s", err, r.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// marker is in requests of our own, which are not counted.
const marker = "/v2/?padis="

// ask makes a request that can be found in the log.
func (r *Registry) ask(ctx context.Context, number int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s%d", r.URL(), marker, number), nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// configure writes the registry's configuration and what it names.
func (r *Registry) configure() (string, error) {
	var c strings.Builder
	fmt.Fprintf(&c, "version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %q}\n  delete: {enabled: true}\n  maintenance: {uploadpurging: {enabled: false}}\n", filepath.Join(r.dir, "images"))
	fmt.Fprintf(&c, "http:\n  addr: %q\n  secret: of-no-importance\n", r.address)
	if r.options.TLS {
		ca, cert, key, err := certificates(r.address)
		if err != nil {
			return "", err
		}
		if err := errors.Join(r.put("cert.pem", cert), r.put("key.pem", key)); err != nil {
			return "", err
		}
		r.ca = string(ca)
		r.client.Transport = transport(ca)
		fmt.Fprintf(&c, "  tls: {certificate: %q, key: %q}\n", filepath.Join(r.dir, "cert.pem"), filepath.Join(r.dir, "key.pem"))
	}
	if len(r.options.Users) > 0 {
		var users bytes.Buffer
		for name, password := range r.options.Users {
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
			if err != nil {
				return "", fmt.Errorf("password of %q: %w", name, err)
			}
			fmt.Fprintf(&users, "%s:%s\n", name, hash)
		}
		if err := r.put("htpasswd", users.Bytes()); err != nil {
			return "", err
		}
		fmt.Fprintf(&c, "auth:\n  htpasswd: {realm: padis, path: %q}\n", filepath.Join(r.dir, "htpasswd"))
	}
	return filepath.Join(r.dir, "config.yml"), r.put("config.yml", []byte(c.String()))
}

func (r *Registry) put(name string, b []byte) error {
	return os.WriteFile(filepath.Join(r.dir, name), b, 0o600)
}

// Host is what names of images begin with.
func (r *Registry) Host() string { return r.address }

// URL is how it is reached.
func (r *Registry) URL() string {
	if r.options.TLS {
		return "https://" + r.address
	}
	return "http://" + r.address
}

// CA is the PEM of the authority that signed its certificate; empty without TLS.
func (r *Registry) CA() string { return r.ca }

// Ref is the full name of an image in this registry.
func (r *Registry) Ref(name string) string { return r.address + "/" + name }

// Stop ends the registry and removes the directory that it made. To stop twice is no mistake.
func (r *Registry) Stop() {
	r.stop.Do(func() {
		if r.cmd != nil {
			_ = r.cmd.Process.Kill()
			<-r.ended
		}
		if r.own {
			_ = os.RemoveAll(r.dir)
		}
	})
}

// Corrupt damages a blob on the registry's disk: its length stays, its digest ("sha256:...") is wrong.
func (r *Registry) Corrupt(digest string) error {
	algorithm, hex, ok := strings.Cut(digest, ":")
	if !ok || len(hex) < 2 {
		return fmt.Errorf("digest %q: must be sha256: and 64 hexadecimal digits", digest)
	}
	path := filepath.Join(r.dir, "images/docker/registry/v2/blobs", algorithm, hex[:2], hex, "data")
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return fmt.Errorf("blob %s is empty", digest)
	}
	b[len(b)/2] ^= 0xff
	return os.WriteFile(path, b, 0o600)
}

// Requests that were answered whose request line contains all of the given parts, as in ("GET", "/blobs/").
func (r *Registry) Requests(parts ...string) int {
	// The log is behind the answers. A request of ours that is in the log has those before it in front of it.
	number := r.asked.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if r.ask(ctx, number) == nil {
		for !strings.Contains(r.log.String(), fmt.Sprintf("%s%d ", marker, number)) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	return r.log.count(parts)
}

// accessLog keeps what the registry writes: one line for each request that it answered, among complaints.
type accessLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *accessLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *accessLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *accessLog) count(parts []string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		fields := strings.Split(line, `"`)
		if len(fields) < 2 || !strings.Contains(fields[1], " HTTP/") || strings.Contains(fields[1], marker) {
			continue
		}
		matches := true
		for _, p := range parts {
			matches = matches && strings.Contains(fields[1], p)
		}
		if matches {
			n++
		}
	}
	return n
}
