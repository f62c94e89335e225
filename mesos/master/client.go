package master

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"

	"padis.io/padis/mesos/wire"
)

// Client is a framework's connection to the leading master. Run keeps it subscribed; the other methods may be called
// at any time, by several goroutines.
type Client struct {
	config  Config
	masters masters
	http    *http.Client
	log     *zap.Logger

	mu sync.Mutex
	// sub is the subscription in force, nil while there is none.
	sub *subscription
	// up is closed when sub is set, and replaced when it is cleared.
	up chan struct{}
}

// subscription is what calls need to know of the stream that is open.
type subscription struct {
	endpoint    string // URL that took the SUBSCRIBE, after redirects
	streamID    string
	frameworkID string
	// ctx ends with the stream.
	ctx context.Context
}

// New checks the configuration. It connects to nothing.
func New(cfg Config) (*Client, error) {
	m, err := cfg.validate()
	if err != nil {
		return nil, fmt.Errorf("mesos master client: %w", err)
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 30 * time.Second
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = 100 * time.Millisecond
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 10 * time.Second
	}
	if cfg.MaxFrame == 0 {
		cfg.MaxFrame = wire.MaxFrame
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{
			Timeout:         5 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext
	}
	if len(cfg.Framework.Roles) == 0 {
		cfg.Framework.Roles = []string{"*"}
	}
	if cfg.Framework.User == "" {
		cfg.Framework.User = "root"
	}
	if cfg.Framework.FailoverTimeout == 0 {
		cfg.Framework.FailoverTimeout = 4 * 7 * 24 * time.Hour
	}
	return &Client{
		config: cfg, masters: m, log: cfg.Logger, up: make(chan struct{}),
		http: &http.Client{
			// No proxy: masters are reached directly. No compression: events are small and latency counts.
			Transport: &http.Transport{
				DialContext: cfg.Dial, DisableCompression: true, MaxIdleConnsPerHost: parallel + 1, IdleConnTimeout: 90 * time.Second,
			},
			// Redirects are followed by post, which keeps method, body and headers.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// info is the FrameworkInfo of a SUBSCRIBE. Capabilities and checkpointing are fixed: the rest of the program relies
// on what they mean.
func (c *Client) info(frameworkID string) *mesosgo.FrameworkInfo {
	f := c.config.Framework
	checkpoint, failover := true, f.FailoverTimeout.Seconds()
	out := &mesosgo.FrameworkInfo{
		Name: f.Name, User: f.User, Roles: f.Roles, Checkpoint: &checkpoint, FailoverTimeout: &failover,
		Capabilities: []mesosgo.FrameworkInfo_Capability{
			{Type: mesosgo.FrameworkInfo_Capability_PARTITION_AWARE},
			{Type: mesosgo.FrameworkInfo_Capability_MULTI_ROLE},
			{Type: mesosgo.FrameworkInfo_Capability_TASK_KILLING_STATE},
		},
	}
	if frameworkID != "" {
		out.ID = &mesosgo.FrameworkID{Value: frameworkID}
	}
	if f.Hostname != "" {
		out.Hostname = &f.Hostname
	}
	if f.Principal != "" {
		out.Principal = &f.Principal
	}
	if f.WebUI != "" {
		out.WebUiURL = &f.WebUI
	}
	return out
}

func (c *Client) current() *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sub
}

func (c *Client) set(s *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s != nil && c.sub == nil:
		close(c.up)
	case s == nil && c.sub != nil:
		c.up = make(chan struct{})
	}
	c.sub = s
}

// subscribed waits for a subscription.
func (c *Client) subscribed(ctx context.Context) (*subscription, error) {
	for {
		c.mu.Lock()
		s, up := c.sub, c.up
		c.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
