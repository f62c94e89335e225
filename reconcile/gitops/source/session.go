package source

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"golang.org/x/net/http/httpproxy"
)

// maxAdvertised is the size of the list of a server's refs; a ref takes some 70 bytes.
const maxAdvertised = 64 << 20

// session is one conversation with a server. pack may be asked for once, after advertised.
type session interface {
	advertised(context.Context) (*packp.AdvRefs, error)
	pack(context.Context, *packp.UploadPackRequest) (*packp.UploadPackResponse, error)
	close()
}

func (c *Cache) connect(ctx context.Context, r remote, s Spec) (session, error) {
	switch r.scheme {
	case "ssh":
		return dialSSH(ctx, r, s, c.options.Dial)
	case "file":
		return c.openFile(ctx, r)
	}
	return dialHTTP(r, s, c.options.Dial)
}

// httpSession is go-git's, with a client of ours.
type httpSession struct {
	transport.UploadPackSession
	client *http.Client
}

func dialHTTP(r remote, s Spec, dial dialer) (session, error) {
	t := &http.Transport{
		DialContext:           dial,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
	}
	env := httpproxy.FromEnvironment().ProxyFunc()
	t.Proxy = func(req *http.Request) (*url.URL, error) { return env(req.URL) }
	if s.Proxy != "" {
		p, err := url.Parse(s.Proxy)
		if err != nil || p.Host == "" {
			return nil, fail(ReasonInvalid, "proxy: it is not a URL of the form http://HOST:PORT or socks5://HOST:PORT")
		}
		t.Proxy = http.ProxyURL(p)
	}
	if len(s.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(s.CA) {
			return nil, fail(ReasonInvalid, "ca: it holds no certificate in PEM")
		}
		t.TLSClientConfig.RootCAs = pool
	}
	client := &http.Client{Transport: bounded{t}}
	ep, err := transport.NewEndpoint(r.url)
	if err != nil {
		return nil, fail(ReasonInvalid, "url %q: %v", r.url, err)
	}
	// A nil interface and not a nil pointer stands for no credentials.
	var auth transport.AuthMethod
	switch {
	case s.Auth.Token != "":
		auth = &githttp.TokenAuth{Token: s.Auth.Token}
	case s.Auth.Username != "" || s.Auth.Password != "":
		auth = &githttp.BasicAuth{Username: s.Auth.Username, Password: s.Auth.Password}
	}
	up, err := githttp.NewClient(client).NewUploadPackSession(ep, auth)
	if err != nil {
		return nil, err
	}
	return &httpSession{up, client}, nil
}

func (s *httpSession) advertised(ctx context.Context) (*packp.AdvRefs, error) {
	return s.AdvertisedReferencesContext(ctx)
}

func (s *httpSession) pack(ctx context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	return s.UploadPack(ctx, req)
}

func (s *httpSession) close() { s.client.CloseIdleConnections() }

// bounded bounds what servers may list before anything is known of them; packs are bounded where they are written.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(req)
	if err == nil && req.Method == http.MethodGet {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxAdvertised), res.Body}
	}
	return res, err
}

func (b bounded) CloseIdleConnections() { b.RoundTripper.(*http.Transport).CloseIdleConnections() }

// streamSession speaks with git-upload-pack over a stream, as ssh and a child process have one.
type streamSession struct {
	in  io.WriteCloser
	out io.Reader
	// said is what the other side wrote to stderr; it is complete once end has returned.
	said *head
	end  func()
}

func (s *streamSession) advertised(context.Context) (*packp.AdvRefs, error) {
	adv := packp.NewAdvRefs()
	err := adv.Decode(io.LimitReader(s.out, maxAdvertised))
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs), err == nil && adv.IsEmpty():
		return nil, transport.ErrEmptyRemoteRepository
	case err != nil:
		s.end()
		if said := s.said.String(); said != "" {
			return nil, fmt.Errorf("%s (%w)", said, err)
		}
		return nil, err
	}
	transport.FilterUnsupportedCapabilities(adv.Capabilities)
	return adv, nil
}

func (s *streamSession) pack(_ context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if err := req.UploadRequest.Encode(s.in); err != nil {
		return nil, err
	}
	if err := req.UploadHaves.Encode(s.in, true); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(s.in, "0009done\n"); err != nil {
		return nil, err
	}
	if err := s.in.Close(); err != nil {
		return nil, err
	}
	res := packp.NewUploadPackResponse(req)
	if err := res.Decode(io.NopCloser(s.out)); err != nil {
		s.end()
		if said := s.said.String(); said != "" {
			return nil, fmt.Errorf("%s (%w)", said, err)
		}
		return nil, err
	}
	return res, nil
}

func (s *streamSession) close() { s.end() }

// head keeps the beginning of what is written.
type head struct{ b bytes.Buffer }

func (t *head) Write(p []byte) (int, error) {
	if room := 1024 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *head) String() string { return string(bytes.TrimSpace(bytes.ToValidUTF8(t.b.Bytes(), nil))) }
