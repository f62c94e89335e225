// Package post sends messages to the receivers of notifications. Edge: talks to receivers over HTTP.
package post

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"padis.io/padis/reconcile/gitops/notify"
)

const (
	// timeout bounds one attempt, and dialTimeout the connection.
	timeout, dialTimeout = 10 * time.Second, 5 * time.Second
	// maxAnswer is how much of an answer is read so that the connection can be used again.
	maxAnswer = 4 << 10
)

// Receiver is who gets messages.
type Receiver struct {
	// URL may be secret as a whole: it is in no error.
	URL string
	// Token is a bearer token; empty for none.
	Token string
	// CA are certificates in PEM of the authorities that are believed instead of those of the host; empty for these.
	CA []byte
}

// Poster sends messages. Safe for concurrent use.
type Poster struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// New makes a Poster that connects by a dialer: that of Dialer, or one that asks somebody who has it.
func New(dial func(ctx context.Context, network, address string) (net.Conn, error)) *Poster {
	return &Poster{dial}
}

// Dialer connects to receivers, and to nobody else. loopback lets it connect to this host.
func Dialer(loopback bool) *net.Dialer {
	// What a name means is judged when it is dialled: before, it could still come to mean something else.
	judge := func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %s: %w", address, err)
		}
		if why := notify.Barred(ap.Addr(), loopback); why != "" {
			return fmt.Errorf("address %s %s: no messages are sent there: name another receiver", ap.Addr(), why)
		}
		return nil
	}
	return &net.Dialer{Timeout: dialTimeout, Control: judge}
}

// Post sends a message, and is nil if the receiver has taken it.
func (p *Poster) Post(ctx context.Context, r Receiver, body []byte) error {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("the key url is no URL of a receiver: write http:// or https://, HOST and what follows")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the key url is no URL of a receiver: write http:// or https://, HOST and what follows")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "padis")
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	t := &http.Transport{DialContext: p.dial, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if len(r.CA) > 0 {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(r.CA) {
			return errors.New("the key ca.crt holds no certificate: put in PEM, -----BEGIN CERTIFICATE----- and so on")
		}
	}
	client := http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if whole := (*url.Error)(nil); errors.As(err, &whole) {
		err = whole.Err
	}
	if err != nil {
		return fmt.Errorf("the receiver cannot be reached: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("the receiver has answered %d, and redirects are not followed: put the URL that it points to into the key url", resp.StatusCode)
	case resp.StatusCode >= 400:
		return fmt.Errorf("the receiver has answered %d %s: compare the keys url and token with its settings", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return nil
}
