package images

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

// journal notes what goes wrong at the endpoints of one pull.
type journal struct {
	mu   sync.Mutex
	last []trouble
}

func (j *journal) note(t trouble) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.last {
		if j.last[i].endpoint == t.endpoint {
			j.last[i] = t
			return
		}
	}
	j.last = append(j.last, t)
}

// accepted forgets that an endpoint asked who we are: it now knows.
func (j *journal) accepted(e endpoint) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, t := range j.last {
		if t.endpoint == e && t.unauthorized() {
			j.last = append(j.last[:i], j.last[i+1:]...)
			return
		}
	}
}

func (j *journal) troubles() []trouble {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]trouble(nil), j.last...)
}

// reachError says that an endpoint could not be reached. It hides what it is made of, lest the resolver repeats what
// has taken its time already.
type reachError struct{ text string }

func (e *reachError) Error() string { return e.text }

// watched is the transport of one endpoint in one pull: it notes what goes wrong, gives up answers that stall, and asks
// a mirror that is away once only.
type watched struct {
	endpoint endpoint
	journal  *journal
	inner    http.RoundTripper
	stall    time.Duration

	mu   sync.Mutex
	away error
}

var (
	// errStalled is why a request was given up.
	errStalled = errors.New("no data came for too long")
	// errPlainHTTP is what a TLS client makes of a server that knows no TLS.
	errPlainHTTP = errors.New("it speaks plain HTTP, not TLS")
)

func (w *watched) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := w.isAway(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	patience := time.AfterFunc(w.stall, func() { cancel(errStalled) })
	resp, err := w.inner.RoundTrip(req.WithContext(ctx))
	patience.Stop()
	if err != nil {
		defer cancel(nil)
		if req.Context().Err() != nil {
			return nil, req.Context().Err()
		}
		return nil, w.failed(firstOf(context.Cause(ctx), err))
	}
	switch {
	case resp.StatusCode >= 400:
		w.journal.note(trouble{endpoint: w.endpoint, status: resp.StatusCode})
	case resp.StatusCode < 300:
		w.journal.accepted(w.endpoint)
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, of: w, asked: req.Context(), ctx: ctx, cancel: cancel, patience: patience}
	return resp, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *watched) isAway() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.away
}

// failed notes that the endpoint cannot be reached, and makes an error of it.
func (w *watched) failed(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, errStalled):
		err = fmt.Errorf("no data came for %v", w.stall)
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		err = errPlainHTTP
	}
	w.journal.note(trouble{endpoint: w.endpoint, err: err})
	reach := &reachError{text: err.Error()}
	if w.endpoint.mirror {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.away = reach
	}
	return reach
}

// watchedBody gives up when nothing comes.
type watchedBody struct {
	io.ReadCloser
	of         *watched
	asked, ctx context.Context
	cancel     context.CancelCauseFunc
	patience   *time.Timer
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.patience.Reset(b.of.stall)
	n, err := b.ReadCloser.Read(p)
	b.patience.Stop()
	if err == nil || err == io.EOF || b.asked.Err() != nil {
		return n, err
	}
	stalled := errors.Is(context.Cause(b.ctx), errStalled)
	reach := b.of.failed(firstOf(context.Cause(b.ctx), err))
	if stalled && !b.of.endpoint.mirror {
		return n, reach
	}
	// The resolver asks again, from where we were: the same registry, or whoever comes after a mirror.
	return n, io.ErrUnexpectedEOF
}

func (b *watchedBody) Close() error {
	b.patience.Stop()
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// hosts makes the resolver's idea of endpoints.
func (s *Store) hosts(all []endpoint, j *journal) ([]docker.RegistryHost, func(), error) {
	var hosts []docker.RegistryHost
	var transports []*http.Transport
	idle := func() {
		for _, t := range transports {
			t.CloseIdleConnections()
		}
	}
	for _, e := range all {
		t, err := s.transport(e)
		if err != nil {
			idle()
			return nil, nil, err
		}
		transports = append(transports, t)
		w := &watched{endpoint: e, journal: j, inner: t, stall: s.config.Stall}
		if e.fallback {
			w.inner = docker.NewHTTPFallback(t)
		}
		client := &http.Client{Transport: w}
		hosts = append(hosts, docker.RegistryHost{
			Client: client, Scheme: e.scheme, Host: e.host, Path: e.path, Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
			Authorizer: docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthCreds(func(host string) (string, string, error) {
				if host != e.host { // it sent us elsewhere
					return "", "", nil
				}
				if e.auth.identityToken != "" {
					return "", e.auth.identityToken, nil
				}
				return e.auth.username, e.auth.password, nil
			})),
		})
	}
	return hosts, idle, nil
}

func (s *Store) transport(e endpoint) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.ca != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM([]byte(e.ca)) {
			return nil, &declarationError{fmt.Sprintf("the ca of the Registry for %s has no certificate: it must be PEM", e.host)}
		}
		config.RootCAs = pool
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: s.config.Connect, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: s.config.Connect,
		TLSClientConfig:     config,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        10,
		IdleConnTimeout:     30 * time.Second,
	}, nil
}
