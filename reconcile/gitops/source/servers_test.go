package source

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// work is a working copy that real git commits in.
type work struct {
	t   testing.TB
	dir string
}

func newWork(t testing.TB) *work {
	t.Helper()
	w := &work{t, filepath.Join(t.TempDir(), "shop")}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.git("init", "-q", "-b", "main", ".")
	w.git("config", "gc.auto", "0")
	return w
}

func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=C", "GIT_COMMITTER_EMAIL=c@example.com",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=protocol.file.allow", "GIT_CONFIG_VALUE_0=always")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (w *work) git(args ...string) string {
	w.t.Helper()
	return run(w.t, w.dir, "git", args...)
}

func (w *work) write(name, content string) {
	w.t.Helper()
	p := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// commit writes files, given as name and content, and gives the hash.
func (w *work) commit(files ...string) string {
	w.t.Helper()
	for i := 0; i < len(files); i += 2 {
		w.write(files[i], files[i+1])
	}
	w.git("add", "-A")
	w.git("commit", "-q", "--allow-empty", "-m", "a change")
	return w.git("rev-parse", "HEAD")
}

// server serves working copies below a directory.
type server struct {
	name string
	url  string
	auth Auth
	ca   []byte
}

func fileServer(w *work) server { return server{name: "file", url: "file://" + w.dir} }

// httpServer asks for the user and password, if there are any.
func httpServer(t testing.TB, w *work, user, password string, secure bool) server {
	t.Helper()
	path := run(t, w.dir, "git", "--exec-path") + "/git-http-backend"
	backend := &cgi.Handler{Path: path, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(w.dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=/nonexistent"}}
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			rw.Header().Set("WWW-Authenticate", "Basic")
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(rw, r)
	})
	var s *httptest.Server
	out := server{name: "http", auth: Auth{Username: user, Password: password}}
	if secure {
		s = httptest.NewTLSServer(h)
		out.name, out.ca = "https", pemOf(s.Certificate().Raw)
	} else {
		s = httptest.NewServer(h)
	}
	t.Cleanup(s.Close)
	out.url = s.URL + "/shop/.git"
	return out
}

// sshServer is OpenSSH's, one process for each connection, with keys of its own.
func sshServer(t testing.TB, w *work) server {
	t.Helper()
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Fatal("openssh-server is needed: make setup")
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for _, k := range []string{"host", "user"} {
		run(t, dir, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", "ed25519", "-f", filepath.Join(dir, k))
	}
	run(t, dir, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", "rsa", "-b", "2048", "-f", filepath.Join(dir, "host_rsa"))
	config := fmt.Sprintf("HostKey %s/host_rsa\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPidFile none\n", dir, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				continue
			}
			cmd := exec.Command("/usr/sbin/sshd", "-i", "-e", "-f", filepath.Join(dir, "config"))
			cmd.Stdin, cmd.Stdout = f, f
			all.Add(1)
			go func() {
				defer all.Done()
				defer f.Close()
				_ = cmd.Run()
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); all.Wait() })
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	user := run(t, dir, "id", "-un")
	return server{name: "ssh", url: fmt.Sprintf("ssh://%s@127.0.0.1:%s%s", user, port, w.dir),
		auth: Auth{PrivateKey: []byte(read("user")), KnownHosts: []byte(fmt.Sprintf("[127.0.0.1]:%s %s", port, read("host.pub")))}}
}
