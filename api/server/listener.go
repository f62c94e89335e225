package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/rest"
)

// joinedListener accepts from a TCP listener and from this process itself. The latter needs no network: the TCP
// listener may belong to another network namespace, in which loopback is not ours.
type joinedListener struct {
	tcp      net.Listener
	accepted chan net.Conn
	failed   chan error
	closed   chan struct{}
	once     sync.Once
}

func listen(tcp net.Listener, address string) (*joinedListener, error) {
	if tcp == nil {
		if address == "" {
			address = DefaultListenAddress
		}
		var err error
		if tcp, err = net.Listen("tcp", address); err != nil {
			return nil, fmt.Errorf("API listener: %w: stop what uses the port, or choose another address", err)
		}
	}
	l := &joinedListener{tcp: tcp, accepted: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
	return l, nil
}

// open lets clients in. Until then their connections wait in the kernel, which is better for them than an answer that is
// not true yet: that a kind is unknown, or that there are no instances.
func (l *joinedListener) open() { go l.acceptTCP() }

func (l *joinedListener) acceptTCP() {
	for {
		conn, err := l.tcp.Accept()
		if err != nil {
			// What can be tried again, the server tries again; it is told, so that it can wait in between.
			select {
			case l.failed <- err:
			case <-l.closed:
				return
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		select {
		case l.accepted <- conn:
		case <-l.closed:
			_ = conn.Close()
			return
		}
	}
}

// Accept returns the next connection from either side.
func (l *joinedListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case err := <-l.failed:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes both sides.
func (l *joinedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.tcp.Close()
}

// Addr is the TCP side's.
func (l *joinedListener) Addr() net.Addr { return l.tcp.Addr() }

// dial connects this process with itself through a socket pair.
func (l *joinedListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket pair: %w", err)
	}
	client, err := connOf(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, err
	}
	server, err := connOf(fds[1])
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	select {
	case l.accepted <- server:
		return client, nil
	case <-l.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, client.Close(), server.Close())
}

func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "loopback")
	defer func() { _ = f.Close() }() // FileConn works on a duplicate
	return net.FileConn(f)
}

// clientConfig makes the configuration of clients in this process. They share one connection.
func (l *joinedListener) clientConfig(ca []byte) (*rest.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the certificate authority's certificate cannot be read")
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("random token: %w", err)
	}
	return &rest.Config{
		Host:        "https://localhost",
		BearerToken: hex.EncodeToString(secret),
		QPS:         -1,
		Transport: &http.Transport{
			DialContext:         l.dial,
			TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13},
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			DisableCompression:  true,
		},
	}, nil
}

// host is the address that clients on this machine use.
func (l *joinedListener) host() (string, string) {
	host, port, err := net.SplitHostPort(l.tcp.Addr().String())
	if err != nil {
		return "127.0.0.1", "6443"
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return host, port
}

func (l *joinedListener) url() string {
	host, port := l.host()
	return "https://" + net.JoinHostPort(host, port)
}

// names are what the serving certificate must be valid for.
func (l *joinedListener) names(more []string) []string {
	host, _ := l.host()
	out := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" {
		more = append([]string{host, name}, more...)
	} else {
		more = append([]string{host}, more...)
	}
	seen := map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true}
	for _, n := range more {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}
