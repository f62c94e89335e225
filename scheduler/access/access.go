// Package access reaches into instances through the access endpoints of their executors. Edge: talks to executors over
// TLS.
//
// An endpoint is known by its very certificate, which the executor has reported; what it says then is believed. The
// scheduler shows a certificate of its own, which the executor checks.
package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"padis.io/padis/proto/padis/stream"
)

const (
	// dialTime bounds a connection's beginning, handshake included.
	dialTime = 10 * time.Second
	// answerTime bounds the wait for the beginning of an answer; of a command's, whose start may take a while, too.
	answerTime = time.Minute
	// keepAlive finds out that an executor's host has gone, after four of it.
	keepAlive = 15 * time.Second
	// maxFailure bounds what is read of an answer that is no success, maxUsage of one about usage.
	maxFailure = 64 << 10
	maxUsage   = 16 << 20
)

// Endpoint is where an instance can be reached.
type Endpoint struct {
	// Address is HOST:PORT of its executor.
	Address string
	// Certificate is the executor's, as DER.
	Certificate []byte
	// Container is what the instance is called there.
	Container string
}

// Error is a refusal of an executor.
type Error struct {
	// Status is the HTTP status.
	Status int
	stream.Failure
}

func (e *Error) Error() string { return e.Message }

// ErrUnreachable says that nothing could be asked: the executor does not answer, or is another one.
var ErrUnreachable = errors.New("the executor cannot be reached")

// Client asks executors. Its methods may be called at the same time.
type Client struct{ identity tls.Certificate }

// New takes the certificate and key, in PEM, that executors are shown.
func New(certificate, key []byte) (*Client, error) {
	identity, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("the certificate for executors: %w", err)
	}
	return &Client{identity}, nil
}

// Log reads the output of an instance. When following, it ends with the instance, or with ctx.
func (c *Client) Log(ctx context.Context, e Endpoint, r stream.LogRequest) (io.ReadCloser, error) {
	conn, resp, _, err := c.ask(ctx, e, http.MethodGet, e.path(stream.LogVerb), r.Query(), nil)
	if err != nil {
		return nil, err
	}
	if err := refusal(resp); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &body{resp.Body, conn}, nil
}

// body is an answer that is still being read; closing it closes the connection.
type body struct {
	io.Reader
	conn io.Closer
}

func (b *body) Close() error { return b.conn.Close() }

// Usage tells what instances of one executor use, by their names there; without names, all. Those that do not run are
// missing.
func (c *Client) Usage(ctx context.Context, e Endpoint, containers []string) (map[string]stream.Usage, error) {
	conn, resp, _, err := c.ask(ctx, e, http.MethodGet, stream.UsagePath, url.Values{"container": containers}, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if err := refusal(resp); err != nil {
		return nil, err
	}
	var used map[string]stream.Usage
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxUsage)).Decode(&used); err != nil {
		return nil, fmt.Errorf("%w: its answer about usage: %w", ErrUnreachable, err)
	}
	return used, nil
}

// Forward connects to a port of an instance. The connection has CloseWrite.
func (c *Client) Forward(ctx context.Context, e Endpoint, port uint16) (net.Conn, error) {
	conn, from, err := c.upgrade(ctx, e, stream.ForwardVerb, url.Values{"port": {fmt.Sprint(port)}}, nil)
	if err != nil {
		return nil, err
	}
	return &forwarded{conn, from}, nil
}

// forwarded is a connection of which the beginning may have been read already.
type forwarded struct {
	*session
	from io.Reader
}

func (f *forwarded) Read(p []byte) (int, error) { return f.from.Read(p) }

func (e Endpoint) path(verb string) string {
	return stream.InstancesPath + url.PathEscape(e.Container) + verb
}

// upgrade asks for a session.
func (c *Client) upgrade(ctx context.Context, e Endpoint, verb string, query url.Values, request []byte) (*session, io.Reader, error) {
	conn, resp, from, err := c.ask(ctx, e, http.MethodPost, e.path(verb), query, request)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		err := refusal(resp)
		if err == nil {
			err = fmt.Errorf("%w: it answered %s to a request for %s", ErrUnreachable, resp.Status, stream.Upgrade)
		}
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, from, nil
}

// session is a connection that ends with its context.
type session struct {
	*tls.Conn
	release func() bool
}

// Close ends the connection.
func (s *session) Close() error {
	s.release()
	return s.Conn.Close()
}

// ask sends a request over a connection of its own, which ends with ctx, and reads the head of the answer.
func (c *Client) ask(ctx context.Context, e Endpoint, method, path string, query url.Values, request []byte) (*session, *http.Response, *bufio.Reader, error) {
	conn, err := c.dial(ctx, e)
	if err != nil {
		return nil, nil, nil, err
	}
	s := &session{conn, context.AfterFunc(ctx, func() { _ = conn.Close() })}
	resp, from, err := converse(conn, method, path, query, request)
	if err != nil {
		_ = s.Close()
		if ctx.Err() != nil {
			return nil, nil, nil, ctx.Err()
		}
		return nil, nil, nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, e.Address, err)
	}
	return s, resp, from, nil
}

func converse(conn *tls.Conn, method, path string, query url.Values, request []byte) (*http.Response, *bufio.Reader, error) {
	if err := conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return nil, nil, err
	}
	target := &url.URL{Scheme: "https", Host: "executor", RawQuery: query.Encode()}
	var err error
	if target.Path, err = url.PathUnescape(path); err != nil {
		return nil, nil, err
	}
	target.RawPath = path
	req, err := http.NewRequest(method, target.String(), bytes.NewReader(request))
	if err != nil {
		return nil, nil, err
	}
	if method == http.MethodPost {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", stream.Upgrade)
	} else {
		req.Close = true
	}
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, req)
	if err != nil {
		return nil, nil, err
	}
	return resp, from, conn.SetDeadline(time.Time{})
}

// dial connects to an endpoint and makes sure that it is that one.
func (c *Client) dial(ctx context.Context, e Endpoint) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3}},
		Config: &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"},
			// The certificate is compared as it is: names and signatures say nothing more.
			InsecureSkipVerify: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				if len(e.Certificate) == 0 || !bytes.Equal(state.PeerCertificates[0].Raw, e.Certificate) {
					return errors.New("it shows another certificate than the executor has reported; if the executor was started anew, its report comes within seconds")
				}
				return nil
			},
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.identity, nil },
		},
	}
	conn, err := dialer.DialContext(ctx, "tcp", e.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnreachable, e.Address, err)
	}
	return conn.(*tls.Conn), nil
}

// refusal is the error of an answer that is no success.
func refusal(resp *http.Response) error {
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxFailure))
	e := &Error{Status: resp.StatusCode}
	if err != nil || json.Unmarshal(b, &e.Failure) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("the executor answered %s", resp.Status)
	}
	return e
}
