package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func outside(t *testing.T) dialer {
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
	go serveOutside(l, (&net.Dialer{}).DialContext)
	return dialOutside(path)
}

func TestOutsideReachesServers(t *testing.T) {
	t.Parallel()
	dial := outside(t)
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
	dial := outside(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	_, err = dial(t.Context(), "tcp", closed.Addr().String())
	var network *net.OpError
	if !errors.As(err, &network) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("refused: %v", err)
	}
	if _, err := dial(t.Context(), "tcp", "nonsense"); err == nil || !strings.Contains(err.Error(), "missing port") {
		t.Errorf("nonsense: %v", err)
	}
	if _, err := dialOutside(filepath.Join(t.TempDir(), "o"))(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
		t.Error("nobody listens, and somebody answers")
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
	go serveOutside(l, func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(asked)
		<-t.Context().Done()
		return nil, t.Context().Err()
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	go func() {
		<-asked
		cancel()
	}()
	if _, err := dialOutside(path)(ctx, "tcp", "192.0.2.1:1"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
