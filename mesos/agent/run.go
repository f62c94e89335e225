package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
)

const (
	protobuf  = "application/x-protobuf"
	maxReason = 4 << 10
	// maxFrame bounds an event. Messages of 8 MB pass through Mesos.
	maxFrame = 64 << 20
	// callTimeout is generous: an agent that starts a thousand tasks was seen to answer after 18 s, and an executor
	// that gave up after 10 s lost updates.
	callTimeout = 3 * time.Minute
	// firstTimeout is how long an agent that has just started us may be unreachable when it does not checkpoint.
	firstTimeout = time.Minute
)

// refusal is an answer other than the one hoped for.
type refusal struct {
	call   string
	status int
	body   string
}

func (e *refusal) Error() string {
	return fmt.Sprintf("agent refused %s with HTTP %d: %s", e.call, e.status, e.body)
}

// Run keeps the executor subscribed and calls handle for each event in the order of arrival, always from this
// goroutine. After each loss of the agent handle gets one mesos.ExecutorDisconnected. With checkpointing, Run then tries
// for Config.RecoveryTimeout to subscribe again; without, or when that time is over, or when the agent says that it
// does not know us, it returns an error of class ErrAgentGone.
//
// It returns nil after a mesos.Shutdown once the agent has closed the stream, and the context's error when ctx ends.
// Updates are sent only while Run runs.
func (c *Client) Run(ctx context.Context, handle func(mesos.ExecutorEvent)) error {
	defer c.http.CloseIdleConnections()
	limit := firstTimeout
	if c.config.Checkpoint {
		limit = max(limit, c.config.RecoveryTimeout)
	}
	lost := time.Now()
	for attempt := 0; ; attempt++ {
		subscribed, shutdown := false, false
		err := c.session(ctx, func(e mesos.ExecutorEvent) {
			switch e.(type) {
			case mesos.ExecutorSubscribed:
				subscribed = true
			case mesos.Shutdown:
				shutdown = true
			}
			handle(e)
		})
		if subscribed && ctx.Err() == nil {
			lost, attempt = time.Now(), 0
			if limit = 0; c.config.Checkpoint {
				limit = c.config.RecoveryTimeout
			}
			handle(mesos.ExecutorDisconnected{Err: err})
		}
		var refused *refusal
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case shutdown:
			return nil
		case errors.As(err, &refused) && refused.status == http.StatusBadRequest:
			return fmt.Errorf("%w: %w", ErrAgentGone, err)
		case time.Since(lost) >= limit:
			return fmt.Errorf("%w: away for %s: %w", ErrAgentGone, time.Since(lost).Round(time.Second), err)
		}
		pause := c.pause(attempt)
		c.log.Debug("subscription to the Mesos agent ended", zap.Error(err), zap.Duration("pause", pause))
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// pause is the time to wait after so many failures in a row. The agent says how long it may be, but also kills every
// executor that is not back within executor_reregistration_timeout, by default the same 2 s. Never waiting for more
// than a quarter of it makes sure that an attempt falls into that time.
func (c *Client) pause(attempt int) time.Duration {
	d := c.config.SubscriptionBackoffMax / 4
	if attempt < 16 {
		d = min(d, 50*time.Millisecond<<attempt)
	}
	return d/2 + time.Duration(c.config.Rand()*float64(d/2))
}

// session is one subscription.
func (c *Client) session(ctx context.Context, handle func(mesos.ExecutorEvent)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	tasks, updates := c.book.lists()
	c.mu.Unlock()
	subscribe := &executor.Call_Subscribe{UnacknowledgedTasks: tasks}
	for _, u := range updates {
		subscribe.UnacknowledgedUpdates = append(subscribe.UnacknowledgedUpdates, executor.Call_Update{Status: u.status})
	}
	timer := time.AfterFunc(callTimeout, cancel)
	resp, err := c.post(ctx, &executor.Call{Type: executor.Call_SUBSCRIBE, Subscribe: subscribe})
	timer.Stop()
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &refusal{"SUBSCRIBE", resp.StatusCode, reason(resp)}
	}
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != protobuf {
		return fmt.Errorf("the agent's answer is of type %q, not %s", kind, protobuf)
	}
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	sending := false
	frames := wire.NewFrames(resp.Body, maxFrame)
	for {
		frame, err := frames.Next()
		if err != nil {
			return fmt.Errorf("stream of events: %w", err)
		}
		var w executor.Event
		if err := wire.Decode(&w, frame); err != nil {
			return fmt.Errorf("stream of events: %w", err)
		}
		e := wire.ExecutorEvent(&w)
		switch e := e.(type) {
		case nil:
			if w.Type != executor.Event_HEARTBEAT {
				c.log.Warn("event that this executor cannot serve", zap.String("type", w.Type.String()))
			}
			continue
		case mesos.ExecutorSubscribed:
			c.settle(func(b *book) {
				for _, u := range updates {
					b.delivered(u)
				}
			})
			updates = nil
			if !sending {
				sending = true
				sender.Go(func() { c.send(ctx) })
			}
		case mesos.LaunchTask:
			task := w.Launch.Task
			c.settle(func(b *book) { b.launch(&task) })
		case mesos.Acknowledged:
			c.settle(func(b *book) { b.acknowledge(e.TaskID, e.UUID) })
		}
		handle(e)
	}
}

// send delivers updates, then messages, until the session ends.
func (c *Client) send(ctx context.Context) {
	for attempt := 0; ; {
		c.mu.Lock()
		u := c.book.next()
		var message []byte
		if u == nil && len(c.messages) > 0 {
			message, c.messages = c.messages[0], c.messages[1:]
		}
		c.mu.Unlock()
		var err error
		switch {
		case u != nil:
			err = c.call(ctx, &executor.Call{Type: executor.Call_UPDATE, Update: &executor.Call_Update{Status: u.status}})
			var refused *refusal
			switch {
			case err == nil:
				c.settle(func(b *book) { b.delivered(u) })
			case errors.As(err, &refused) && refused.status == http.StatusBadRequest:
				c.log.Error("the agent refused a status update; it is dropped", zap.String("task", u.status.TaskID.Value),
					zap.String("state", u.status.GetState().String()), zap.Error(err))
				c.settle(func(b *book) { b.forget(u) })
				err = nil
			}
		case message != nil:
			// Not repeated after a failure: who sends messages must be ready to lose them.
			err = c.call(ctx, &executor.Call{Type: executor.Call_MESSAGE, Message: &executor.Call_Message{Data: message}})
		default:
			select {
			case <-c.work:
				continue
			case <-ctx.Done():
				return
			}
		}
		if err == nil {
			attempt = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		c.log.Warn("a call to the Mesos agent failed", zap.Error(err))
		if sleep(ctx, min(2*time.Second, 100*time.Millisecond<<min(attempt, 8))) != nil {
			return
		}
		attempt++
	}
}

// call makes one call and wants 202.
func (c *Client) call(ctx context.Context, call *executor.Call) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.post(ctx, call)
	if err != nil {
		return err
	}
	text := reason(resp)
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusOK {
		return &refusal{call.Type.String(), resp.StatusCode, text}
	}
	return nil
}

func (c *Client) post(ctx context.Context, call *executor.Call) (*http.Response, error) {
	call.FrameworkID = mesosgo.FrameworkID{Value: c.config.FrameworkID}
	call.ExecutorID = mesosgo.ExecutorID{Value: c.config.ExecutorID}
	body, err := call.Marshal()
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", call.Type, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.config.Endpoint+"/api/v1/executor", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", call.Type, err)
	}
	req.Header.Set("Content-Type", protobuf)
	req.Header.Set("Accept", protobuf)
	if c.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", call.Type, err)
	}
	return resp, nil
}

// reason reads and closes a response whose body is a text for people, so that the connection can be used again.
func reason(resp *http.Response) string {
	defer resp.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	return strings.TrimSpace(string(b))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
