package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
)

// ErrAgentGone ends Run: the agent is away for longer than it may be, or does not know us any more. Tasks must be ended
// now, because the master will let them be started elsewhere.
var ErrAgentGone = errors.New("the Mesos agent is gone")

// maxMessages that wait to be sent; older ones are dropped, for Mesos promises nothing about messages.
const maxMessages = 64

// Client is an executor's connection to its agent.
type Client struct {
	config Config
	http   *http.Client
	log    *zap.Logger

	mu       sync.Mutex
	book     book
	messages [][]byte
	// work is signalled when there is something to send.
	work chan struct{}
	// less is closed and replaced when an update needs no keeping any more.
	less chan struct{}
}

// New checks the configuration. It connects to nothing.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("mesos agent client: %w", err)
	}
	if cfg.RecoveryTimeout == 0 {
		cfg.RecoveryTimeout = defaultRecoveryTimeout
	}
	if cfg.SubscriptionBackoffMax == 0 {
		cfg.SubscriptionBackoffMax = defaultBackoffMax
	}
	if cfg.Dial == nil {
		// Agents send no heartbeats, so the kernel has to notice that one's host is gone.
		cfg.Dial = (&net.Dialer{
			Timeout:         5 * time.Second,
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
		}).DialContext
	}
	return &Client{
		config: cfg, log: cfg.Logger, work: make(chan struct{}, 1), less: make(chan struct{}),
		http: &http.Client{
			Transport:     &http.Transport{DialContext: cfg.Dial, DisableCompression: true, IdleConnTimeout: 90 * time.Second},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Update queues a status; it never blocks. Source, executor and uuid are filled in, and the time if it is zero. A
// status that no agent would take (no task id, TASK_STAGING, a state or reason that does not exist) is logged and
// dropped.
func (c *Client) Update(s mesos.Status) {
	s.Source, s.ExecutorID, s.AgentID = "SOURCE_EXECUTOR", c.config.ExecutorID, c.config.AgentID
	s.UUID = newUUID()
	if s.Timestamp.IsZero() {
		s.Timestamp = time.Now()
	}
	w, err := wire.ToStatus(s)
	switch {
	case err == nil && s.TaskID == "":
		err = errors.New("no task id")
	case err == nil && s.State == mesos.TaskStaging:
		err = errors.New("TASK_STAGING is the agent's to say")
	}
	if err != nil {
		c.log.Error("a status update is not valid and was dropped", zap.String("task", s.TaskID), zap.String("state", string(s.State)), zap.Error(err))
		return
	}
	c.mu.Lock()
	c.book.add(w)
	c.mu.Unlock()
	c.wake()
}

// Message queues a message to the scheduler; it never blocks. The message may be lost, as any message of Mesos may.
func (c *Client) Message(data []byte) {
	c.mu.Lock()
	if len(c.messages) == maxMessages {
		c.messages = c.messages[1:]
	}
	c.messages = append(c.messages, append([]byte{}, data...))
	c.mu.Unlock()
	c.wake()
}

// Flush waits until the agent has acknowledged all updates, for example before the executor exits.
func (c *Client) Flush(ctx context.Context) error {
	for {
		c.mu.Lock()
		pending, less := c.book.pending(), c.less
		c.mu.Unlock()
		if !pending {
			return nil
		}
		select {
		case <-less:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *Client) wake() {
	select {
	case c.work <- struct{}{}:
	default:
	}
}

// settle changes the book and tells those who wait for it.
func (c *Client) settle(change func(*book)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.book)
	close(c.less)
	c.less = make(chan struct{})
}

// newUUID is a random UUID (RFC 9562, version 4) in its binary form.
func newUUID() []byte {
	u := make([]byte, 16)
	rand.Read(u) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
