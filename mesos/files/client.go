package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mesos/mesos-go/api/v1/lib/agent"

	"padis.io/padis/mesos/wire"
)

// ErrNotFound is the class of errors about a file, or a whole sandbox, that is not (or no longer) there.
var ErrNotFound = errors.New("no such file on the agent")

// ErrForbidden is the class of errors about a file that the agent does not let us read.
var ErrForbidden = errors.New("the agent does not allow to read this file")

const (
	protobuf = "application/x-protobuf"
	// chunk is the most that an agent gives for one call (16 pages of memory, says Mesos).
	chunk = 64 << 10
	// maxResponse leaves room for pages of 64 KiB.
	maxResponse = 2 << 20
)

// Config of a Client; the zero value is useful.
type Config struct {
	// Dial opens connections to agents; a TCP dialer if nil.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Principal and Secret are sent as HTTP basic authentication, if set.
	Principal, Secret string
	// Timeout of one call; 10 s if 0.
	Timeout time.Duration
}

// Client reads files of agents. It may be used by several goroutines.
type Client struct {
	config Config
	http   *http.Client
}

// New makes a client. It connects to nothing.
func New(cfg Config) *Client {
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	return &Client{config: cfg, http: &http.Client{Transport: &http.Transport{
		DialContext: cfg.Dial, DisableCompression: true, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 2,
	}}}
}

// TaskPath is the agent's virtual path of a file of one instance, name being stdout, stderr or a rotated one.
func TaskPath(frameworkID, executorID, taskID, name string) string {
	return "/frameworks/" + frameworkID + "/executors/" + executorID + "/runs/latest/tasks/" + taskID + "/" + name
}

// Read gives at most length bytes from offset on, and the size of the file at that moment. An agent gives no more than
// 16 pages (64 KiB) for one call; Read makes one call, so it too may give less than was asked for. Beyond the end there
// are no bytes and no error. agentURL is scheme://host:port as in mesos.Offer and mesos.Agent.
//
// Errors are of class ErrNotFound, ErrForbidden, or others (the agent cannot be reached, or answers nonsense).
func (c *Client) Read(ctx context.Context, agentURL, path string, offset, length int64) (data []byte, size int64, err error) {
	data, size, err = c.read(ctx, agentURL, path, offset, length)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s on agent %s: %w", path, agentURL, err)
	}
	return data, size, nil
}

func (c *Client) read(ctx context.Context, agentURL, path string, offset, length int64) ([]byte, int64, error) {
	u, err := url.Parse(agentURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, 0, errors.New("the agent's URL is not http://HOST:PORT")
	}
	if offset < 0 || length < 0 {
		return nil, 0, fmt.Errorf("offset %d and length %d must not be negative", offset, length)
	}
	n := uint64(length)
	body, err := (&agent.Call{
		Type: agent.Call_READ_FILE, ReadFile: &agent.Call_ReadFile{Path: path, Offset: uint64(offset), Length: &n},
	}).Marshal()
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.Scheme+"://"+u.Host+"/api/v1", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", protobuf)
	req.Header.Set("Accept", protobuf)
	if c.config.Secret != "" {
		req.SetBasicAuth(c.config.Principal, c.config.Secret)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	switch text := strings.TrimSpace(string(b[:min(len(b), 1<<10)])); {
	case err != nil:
		return nil, 0, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, 0, fmt.Errorf("%w: %s", ErrNotFound, text)
	case resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized:
		return nil, 0, fmt.Errorf("%w: %s", ErrForbidden, text)
	case resp.StatusCode != http.StatusOK:
		return nil, 0, fmt.Errorf("HTTP %d: %s", resp.StatusCode, text)
	case len(b) > maxResponse:
		return nil, 0, fmt.Errorf("the answer is larger than %d bytes", maxResponse)
	}
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != protobuf {
		return nil, 0, fmt.Errorf("the answer is of type %q, not %s", kind, protobuf)
	}
	return decode(b, length)
}

// decode takes the answer apart, and trusts it only as far as it is consistent.
func decode(b []byte, length int64) ([]byte, int64, error) {
	var w agent.Response
	if err := wire.Decode(&w, b); err != nil {
		return nil, 0, err
	}
	switch f := w.ReadFile; {
	case f == nil:
		return nil, 0, errors.New("the answer is not one to READ_FILE")
	case f.Size_ > 1<<62:
		return nil, 0, fmt.Errorf("a file of %d bytes is announced", f.Size_)
	case int64(len(f.Data)) > length:
		return nil, 0, fmt.Errorf("%d bytes were asked for, %d came", length, len(f.Data))
	default:
		return f.Data, int64(f.Size_), nil
	}
}
