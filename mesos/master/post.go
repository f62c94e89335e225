package master

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	protobuf      = "application/x-protobuf"
	streamHeader  = "Mesos-Stream-Id"
	schedulerPath = "/api/v1/scheduler"
	operatorPath  = "/api/v1"
	maxRedirects  = 5
	maxReason     = 4 << 10
)

// post sends one protobuf body and follows 307 to wherever the master says the leader is. The caller closes the body
// of the response. endpoint is the URL that answered.
func (c *Client) post(ctx context.Context, endpoint, streamID string, body []byte) (resp *http.Response, answered string, err error) {
	for range maxRedirects + 1 {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
		if err != nil {
			return nil, endpoint, err
		}
		req.Header.Set("Content-Type", protobuf)
		req.Header.Set("Accept", protobuf)
		if streamID != "" {
			req.Header.Set(streamHeader, streamID)
		}
		if f := c.config.Framework; f.Secret != "" {
			req.SetBasicAuth(f.Principal, f.Secret)
		}
		resp, err := c.http.Do(req)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = fmt.Errorf("%w: %w", cause, err)
			}
			return nil, endpoint, err
		}
		if resp.StatusCode != http.StatusTemporaryRedirect {
			return resp, endpoint, nil
		}
		location := resp.Header.Get("Location")
		reason(resp)
		next, err := redirect(endpoint, location)
		if err != nil {
			return nil, endpoint, err
		}
		endpoint = next
	}
	return nil, endpoint, fmt.Errorf("gave up after %d redirects, the last to %s: the masters do not agree on a leader", maxRedirects, endpoint)
}

// redirect resolves a Location. Masters write it without a scheme and sometimes without the path of the API
// ("//10.0.0.1:5050" as well as "//10.0.0.1:5050/api/v1/scheduler").
func redirect(from, location string) (string, error) {
	if location == "" {
		return "", fmt.Errorf("%s redirects, but not where to", from)
	}
	base, err := url.Parse(from)
	if err != nil {
		return "", err
	}
	to, err := base.Parse(location)
	if err != nil {
		return "", fmt.Errorf("%s redirects to %q, which is no URL: %w", from, location, err)
	}
	if to.Host == "" || to.Scheme != "http" && to.Scheme != "https" {
		return "", fmt.Errorf("%s redirects to %q, which is no HTTP URL", from, location)
	}
	if to.Path == "" || to.Path == "/" {
		to.Path = base.Path
	}
	return to.String(), nil
}

// reason reads and closes a response whose body is a text for people, so that the connection can be used again.
func reason(resp *http.Response) string {
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	return strings.TrimSpace(string(b))
}

// isProtobuf tells whether a response is what we asked for, and not, say, the error page of a proxy.
func isProtobuf(resp *http.Response) bool {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind) == protobuf
}
