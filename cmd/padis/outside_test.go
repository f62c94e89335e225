package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"padis.io/padis/reconcile/gitops/notify/post"
)

func outside(t *testing.T, way string) dialer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "o")
	// What a process that was killed has left is no hindrance.
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := listenOutside(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveOutside(l, waysOut(false))
	return dialOutside(path, way)
}

func TestOutsideReachesServers(t *testing.T) {
	t.Parallel()
	dial := outside(t, toServers)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d bytes", len(b))
	}))
	t.Cleanup(s.Close)
	client := s.Client()
	client.Transport.(*http.Transport).DialContext = dial
	res, err := client.Post(s.URL, "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "1048576 bytes" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestOutsideSaysWhyNot(t *testing.T) {
	t.Parallel()
	dial := outside(t, toServers)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	_, err = dial(t.Context(), "tcp", closed.Addr().String())
	var network *net.OpError
	if !errors.As(err, &network) || !strings.HasPrefix(err.Error(), "dial tcp: "+closed.Addr().String()+": ") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("refused: %v", err)
	}
	if _, err := dial(t.Context(), "tcp", "nonsense"); err == nil || !strings.Contains(err.Error(), "missing port") {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := dialOutside(filepath.Join(t.TempDir(), "o"), toServers)(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("nobody listens, and somebody answers")
	}
	if _, err := outside(t, "elsewhere")(t.Context(), "tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), `no way out is called "elsewhere"`) {
		t.Errorf("another way: %v", err)
	}
}

// Whither no notification goes is judged where names become addresses, by the words that a control plane without this way says.
func TestOutsideJudgesReceivers(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	p := post.New(outside(t, toReceivers))
	for url, want := range map[string]string{
		s.URL:                               "address 127.0.0.1 is this host itself: no messages are sent there: name another receiver",
		"http://localhost:" + port:          "is this host itself",
		"http://[::ffff:127.0.0.1]:" + port: "is this host itself",
		"http://0.0.0.0:" + port:            "is this host itself",
		"http://169.254.169.254/latest":     "address 169.254.169.254 is link-local",
		"http://receiver.invalid":           "lookup receiver.invalid",
	} {
		if err := p.Post(t.Context(), post.Receiver{URL: url}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("it was sent %d times", n)
	}
}

// With --loopback-receivers this machine is one, by TLS, too; all else stays refused.
func TestOutsideLetsReceiversBeOnThisMachine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "o")
	l, err := listenOutside(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveOutside(l, waysOut(true))
	var reached atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(s.Close)
	p := post.New(dialOutside(path, toReceivers))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := p.Post(t.Context(), post.Receiver{URL: s.URL, CA: ca}, nil); err != nil || reached.Load() != 1 {
		t.Errorf("%v, reached %d times", err, reached.Load())
	}
	if err := p.Post(t.Context(), post.Receiver{URL: s.URL}, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an authority that nobody knows: %v", err)
	}
	if err := p.Post(t.Context(), post.Receiver{URL: "http://169.254.169.254"}, nil); err == nil || !strings.Contains(err.Error(), "is link-local") {
		t.Errorf("a cloud's secrets: %v", err)
	}
}

// Whoever gives up does not wait for an answer.
func TestOutsideIsGivenUp(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "o")
	l, err := listenOutside(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked := make(chan struct{})
	go serveOutside(l, ways{toServers: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(asked)
		<-t.Context().Done()
		return nil, t.Context().Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		<-asked
		cancel()
	}()
	if _, err := dialOutside(path, toServers)(ctx, "tcp", "192.0.2.1:1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
