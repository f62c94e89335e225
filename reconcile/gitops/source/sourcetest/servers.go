package sourcetest

import (
	"crypto/subtle"
	"encoding/pem"
	"fmt"
	"io"
	"log"
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

// Server serves a working copy and those beside it.
type Server struct {
	// Name is the scheme.
	Name string
	// URL of the working copy that it was started for.
	URL string
	// CA is the certificate, in PEM, that vouches for an https server.
	CA []byte
	// Login is what the server asks for.
	Login
	// PrivateKey of the user of an ssh server, and KnownHosts by which its clients know it.
	PrivateKey, KnownHosts []byte
	name                   string
	gate                   *gate
}

// Stop cuts off all HTTP clients, and whoever connects from now on. The address stays the server's.
func (s *Server) Stop() { s.gate.stop() }

// Start serves again after Stop.
func (s *Server) Start() { s.gate.start() }

// Login is a user with a password, or a bearer token; without any, everybody is let in.
type Login struct{ Username, Password, Token string }

// Of gives the URL of another working copy beside.
func (s *Server) Of(name string) string {
	i := strings.LastIndex(s.URL, "/"+s.name)
	return s.URL[:i] + "/" + name + s.URL[i+1+len(s.name):]
}

// File serves by the files themselves. It cannot be stopped.
func File(w *Work) *Server {
	return &Server{Name: "file", URL: "file://" + w.Dir, name: filepath.Base(w.Dir)}
}

// HTTP serves without encryption. What is pushed is taken from those who may read.
func HTTP(t testing.TB, w *Work, login Login) *Server {
	t.Helper()
	s, h := backend(t, w, login)
	s.Name = "http"
	h.Start()
	s.URL = h.URL + "/" + s.name + "/.git"
	return s
}

// HTTPS serves by TLS, with a certificate that nobody knows.
func HTTPS(t testing.TB, w *Work, login Login) *Server {
	t.Helper()
	s, h := backend(t, w, login)
	s.Name = "https"
	h.StartTLS()
	s.URL = h.URL + "/" + s.name + "/.git"
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	return s
}

func backend(t testing.TB, w *Work, login Login) (*Server, *httptest.Server) {
	t.Helper()
	git := &cgi.Handler{Path: Run(t, w.Dir, "git", "--exec-path") + "/git-http-backend",
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(w.Dir), "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=/nonexistent"}, Stderr: io.Discard}
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !login.lets(r.Header.Get("Authorization")) {
			rw.Header().Set("WWW-Authenticate", "Basic")
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		git.ServeHTTP(rw, r)
	}))
	h.Config.ErrorLog = log.New(io.Discard, "", 0)
	_ = h.Listener.Close()
	s := &Server{Login: login, name: filepath.Base(w.Dir), gate: listen(t)}
	h.Listener = s.gate
	t.Cleanup(h.Close)
	return s, h
}

// lets tells whether the header lets its sender in.
func (l Login) lets(header string) bool {
	want := ""
	switch {
	case l.Token != "":
		want = "Bearer " + l.Token
	case l.Username+l.Password != "":
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(l.Username, l.Password)
		want = r.Header.Get("Authorization")
	default:
		return true
	}
	return subtle.ConstantTimeCompare([]byte(header), []byte(want)) == 1
}

// SSH serves by OpenSSH, one process for each connection, with keys of its own.
func SSH(t testing.TB, w *Work) *Server {
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
		Run(t, dir, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", "ed25519", "-f", filepath.Join(dir, k))
	}
	Run(t, dir, "ssh-keygen", "-q", "-N", "", "-C", "", "-t", "rsa", "-b", "2048", "-f", filepath.Join(dir, "host_rsa"))
	config := fmt.Sprintf("HostKey %s/host_rsa\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPidFile none\n", dir, dir, dir)
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	g := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := g.Accept()
			if err != nil {
				return
			}
			f, err := conn.(*passed).Conn.(*net.TCPConn).File()
			conn.Close()
			if err != nil {
				continue
			}
			cmd := exec.Command("/usr/sbin/sshd", "-i", "-e", "-f", filepath.Join(dir, "config"))
			cmd.Stdin, cmd.Stdout = f, f
			all.Go(func() {
				defer f.Close()
				_ = cmd.Run()
			})
		}
	})
	t.Cleanup(func() { g.Close(); all.Wait() })
	_, port, _ := net.SplitHostPort(g.Addr().String())
	return &Server{Name: "ssh", URL: fmt.Sprintf("ssh://%s@127.0.0.1:%s%s", Run(t, dir, "id", "-un"), port, w.Dir), name: filepath.Base(w.Dir), gate: g,
		PrivateKey: content(t, dir, "user"), KnownHosts: fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, content(t, dir, "host.pub"))}
}

func content(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
