// Package access lets the scheduler reach into the instances of one host: it reads their output, runs commands in them,
// connects to their ports and tells what they use. Edge: talks to the scheduler over TLS.
//
// The certificate is made at the start and signed by nobody: the executor reports it, and the scheduler takes no other.
// In return the scheduler says which authority signs its own; before that nobody is let in.
package access

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/proto/padis/stream"
)

const (
	// DefaultMaxStreams is how many sessions and followed logs there may be at one time.
	DefaultMaxStreams = 256
	// headerTime bounds a handshake, and the time until a request has been said.
	headerTime = 10 * time.Second
	// idleTime is how long a connection may wait for its next request.
	idleTime = 2 * time.Minute
	// keepAlive finds out that a client's host has gone, after four of it.
	keepAlive = 15 * time.Second
	// maxRequest bounds the body of a request.
	maxRequest = 256 << 10
)

// Instance is one that is on the host.
type Instance struct {
	// Runtime is the running instance; nil if it does not run (any more).
	Runtime runtime.Instance
	// Logs is the directory in which its output is kept.
	Logs string
	// Ended is closed when it has ended and all its output is in Logs.
	Ended <-chan struct{}
	// Addresses of its interfaces.
	Addresses []netip.Addr
}

// Instances finds instances by their name on this host.
type Instances interface {
	Find(container string) (Instance, bool)
}

// Logs reads the output that is kept of an instance. The reader ends at the end of the output; when following, that is
// when ended is closed, or with ctx. Whoever reads slowly holds nobody up. An error that is fs.ErrNotExist says that
// there is no such output.
type Logs interface {
	Read(ctx context.Context, dir string, r stream.LogRequest, ended <-chan struct{}) (io.ReadCloser, error)
}

// Usage tells what instances use; without names, all. Those that do not run are missing in the answer.
type Usage interface {
	Usage(ctx context.Context, containers []string) (map[string]stream.Usage, error)
}

// Config is what a Server needs. All but MaxStreams is required.
type Config struct {
	Instances Instances
	Logs      Logs
	Usage     Usage
	// Dial connects to an address from within the network namespace that is open as a file descriptor.
	Dial func(namespace int, to netip.AddrPort, timeout time.Duration) (net.Conn, error)
	// MaxStreams is DefaultMaxStreams if it is 0.
	MaxStreams int
	Log        *zap.Logger
}

// Server is the access endpoint of an executor.
type Server struct {
	cfg      Config
	der      []byte
	tls      *tls.Config
	clients  atomic.Pointer[x509.CertPool]
	streams  chan struct{}
	http     *http.Server
	ctx      context.Context
	cancel   context.CancelFunc
	sessions sessions
}

// New makes a server and its certificate.
func New(cfg Config) (*Server, error) {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = DefaultMaxStreams
	}
	certificate, err := newCertificate(time.Now())
	if err != nil {
		return nil, fmt.Errorf("make the certificate of the access endpoint: %w", err)
	}
	s := &Server{cfg: cfg, der: certificate.Certificate[0], streams: make(chan struct{}, cfg.MaxStreams)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tls = &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.admit(certificate) }}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+stream.UsagePath, s.usage)
	mux.HandleFunc("GET "+stream.InstancesPath+"{container}"+stream.LogVerb, s.limited(s.log))
	mux.HandleFunc("POST "+stream.InstancesPath+"{container}"+stream.ExecVerb, s.limited(s.exec))
	mux.HandleFunc("POST "+stream.InstancesPath+"{container}"+stream.ForwardVerb, s.limited(s.forward))
	s.http = &http.Server{
		Handler: http.MaxBytesHandler(mux, maxRequest), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: 64 << 10,
		ErrorLog: zap.NewStdLog(cfg.Log), BaseContext: func(net.Listener) context.Context { return s.ctx },
	}
	return s, nil
}

// Certificate is what clients must demand, as DER.
func (s *Server) Certificate() []byte { return s.der }

// SetClientCA says, in PEM, which authority signs the certificates of clients.
func (s *Server) SetClientCA(pem []byte) error {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("the client authority of the access endpoint is no certificate in PEM")
	}
	s.clients.Store(pool)
	return nil
}

// Listen begins to serve at HOST:PORT, and returns where: ":0" is any port. It is to be called once.
func (s *Server) Listen(address string) (net.Addr, error) {
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3}}
	l, err := config.Listen(s.ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for access to instances: %w", err)
	}
	// A client that is let in has a connection for each of its streams, and a few for short questions.
	limited := netutil.LimitListener(l, s.cfg.MaxStreams+64)
	go func() {
		if err := s.http.Serve(tls.NewListener(limited, s.tls)); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("the access endpoint ended", zap.Error(err))
		}
	}()
	return l.Addr(), nil
}

// Close ends the server and all its sessions; the commands of these are ended, too.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	s.sessions.wait()
	return err
}

// limited refuses a request when there are too many of its kind.
func (s *Server) limited(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.streams <- struct{}{}:
			defer func() { <-s.streams }()
			next(w, r)
		default:
			fail(w, http.StatusServiceUnavailable, "", fmt.Sprintf("this executor has %d sessions and followed logs open, which is the most: close one and try again", cap(s.streams)))
		}
	}
}

// find answers for itself if the instance is not there.
func (s *Server) find(w http.ResponseWriter, r *http.Request) (string, Instance, bool) {
	name := r.PathValue("container")
	i, ok := s.cfg.Instances.Find(name)
	if !ok {
		fail(w, http.StatusNotFound, "", fmt.Sprintf("instance %s is not on this host", name))
	}
	return name, i, ok
}

// findRunning answers for itself if the instance does not run.
func (s *Server) findRunning(w http.ResponseWriter, r *http.Request) (string, Instance, bool) {
	name, i, ok := s.find(w, r)
	if ok && i.Runtime == nil {
		fail(w, http.StatusConflict, "", fmt.Sprintf("instance %s does not run: wait until it does", name))
		return name, i, false
	}
	return name, i, ok
}

func (s *Server) usage(w http.ResponseWriter, r *http.Request) {
	used, err := s.cfg.Usage.Usage(r.Context(), r.URL.Query()["container"])
	if err != nil {
		fail(w, http.StatusInternalServerError, "", fmt.Sprintf("read what instances use: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(used) // the client has gone
}

func fail(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(stream.Failure{Reason: reason, Message: message}) // the client has gone
}
