package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/process"
	"padis.io/padis/proto/padis/stream"
)

// patience bounds how long a test waits for something that should happen at once.
const patience = 30 * time.Second

// TestMain is, by its first argument, also the init of an instance and a program in one. Without root, the tests run in
// a user namespace.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == process.InitVerb:
		os.Exit(process.Init())
	case len(os.Args) > 1 && os.Args[1] == greetVerb:
		greet(os.Args[2])
	case os.Getuid() != 0:
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		if err := cmd.Run(); err != nil {
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

const greetVerb = "greet"

// greet is a program that listens on an address and answers each connection's input, after its end, with a greeting.
func greet(address string) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		os.Exit(1)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(1)
		}
		go func() {
			b, _ := io.ReadAll(c)
			_, _ = c.Write(append([]byte("hello "), b...))
			_ = c.Close()
		}()
	}
}

// authority signs certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a authority) client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// host is a host with instances, and a client that is let in.
type host struct {
	t *testing.T
	*Server
	address   string
	authority authority
	client    tls.Certificate

	mu        sync.Mutex
	instances map[string]Instance
}

func newHost(t *testing.T, maxStreams int) *host {
	t.Helper()
	h := &host{t: t, instances: map[string]Instance{}, authority: newAuthority(t)}
	h.client = h.authority.client(t, stream.SchedulerName)
	var err error
	h.Server, err = New(Config{
		Instances: h, Logs: h, Usage: h, Dial: probe.New(&kernel.Network{}).Dial, MaxStreams: maxStreams, Log: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	at, err := h.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.address = at.String()
	return h
}

func (h *host) open() *host {
	if err := h.SetClientCA(h.authority.pem()); err != nil {
		h.t.Fatal(err)
	}
	return h
}

func (h *host) Find(name string) (Instance, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, ok := h.instances[name]
	return i, ok
}

// Read gives the file as it is, and when following what is appended until the instance has ended.
func (h *host) Read(ctx context.Context, dir string, r stream.LogRequest, ended <-chan struct{}) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(dir, r.Stream))
	if err != nil || !r.Follow {
		return f, err
	}
	return &tail{ctx, f, ended}, nil
}

type tail struct {
	ctx context.Context
	*os.File
	ended <-chan struct{}
}

func (f *tail) Read(p []byte) (int, error) {
	for {
		over := f.ctx.Err() != nil
		select {
		case <-f.ended:
			over = true
		default:
		}
		if n, err := f.File.Read(p); n > 0 || over {
			return n, err
		}
		select {
		case <-f.ended:
		case <-f.ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (h *host) Usage(_ context.Context, names []string) (map[string]stream.Usage, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]stream.Usage{}
	for name := range h.instances {
		out[name] = stream.Usage{MemoryBytes: uint64(len(names))}
	}
	return out, nil
}

// run starts an instance.
func (h *host) run(name string, command ...string) {
	h.t.Helper()
	dir := h.t.TempDir()
	for _, sub := range []string{"work", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	for _, file := range []string{"etc/hosts", "etc/resolv.conf", "stdout"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
	i, err := process.New("/proc/self/exe", 1).Create(runtime.Spec{
		ID: name, Dir: dir, Hostname: name, Command: command, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, Stdout: 2, Stderr: 2,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		i.Wait()
		close(ended)
	}()
	h.t.Cleanup(func() {
		if err := i.Kill(); err != nil {
			h.t.Error(err)
		}
		<-ended
		if err := i.Close(); err != nil {
			h.t.Error(err)
		}
	})
	if err := i.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.instances[name] = Instance{Runtime: i, Logs: dir, Ended: ended, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}
}

// ask sends a request over a connection of its own.
func (h *host) ask(method, path string, body any) (*http.Response, *tls.Conn, *bufio.Reader) {
	h.t.Helper()
	resp, conn, from, err := h.try(&h.client, method, path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp, conn, from
}

func (h *host) try(client *tls.Certificate, method, path string, body any) (*http.Response, *tls.Conn, *bufio.Reader, error) {
	h.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true}
	if client != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client, nil }
	}
	conn, err := tls.Dial("tcp", h.address, config)
	if err != nil {
		return nil, nil, nil, err
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		h.t.Fatal(err)
	}
	if !bytes.Equal(conn.ConnectionState().PeerCertificates[0].Raw, h.Certificate()) {
		h.t.Error("the endpoint shows another certificate than it says")
	}
	b, err := json.Marshal(body)
	if err != nil {
		h.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "https://instance"+path, bytes.NewReader(b))
	if err != nil {
		h.t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", stream.Upgrade)
	}
	if err := req.Write(conn); err != nil {
		return nil, nil, nil, err
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, req)
	return resp, conn, from, err
}

// refused asks for something and returns why it was not given.
func (h *host) refused(status int, method, path string, body any) stream.Failure {
	h.t.Helper()
	resp, _, _ := h.ask(method, path, body)
	defer resp.Body.Close()
	var why stream.Failure
	if err := json.NewDecoder(resp.Body).Decode(&why); err != nil || resp.StatusCode != status {
		h.t.Errorf("%s %s: status %d, want %d: %v, %v", method, path, resp.StatusCode, status, why, err)
	}
	return why
}
