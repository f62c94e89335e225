package master

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
)

const (
	// defaultHeartbeat is what Mesos uses unless SUBSCRIBED says otherwise.
	defaultHeartbeat = 15 * time.Second
	// missedHeartbeats is how many may be missing before the master is given up.
	missedHeartbeats = 5
	// queued events between the goroutine that reads and the one that handles; beyond, TCP holds the master back.
	queued = 256
)

// Run stays subscribed until ctx ends or the framework can go on no more. It finds the leader, subscribes (with
// frameworkID unless it is empty; afterwards with the id that the master gave), and calls handle for each event in the
// order of arrival, always from this goroutine. When a subscription ends, handle gets one mesos.Disconnected after
// the last event, and Run subscribes again after a pause that doubles up to Config.MaxBackoff.
//
// It returns the context's error, or one of class ErrFrameworkRemoved or ErrFailedOver; handle has then seen the
// mesos.Failed that brought it. Every other refusal (an ERROR about an invalid role, HTTP 401) reaches handle as
// mesos.Failed too, and is tried again, because an operator can put it right.
func (c *Client) Run(ctx context.Context, frameworkID string, handle func(mesos.Event)) error {
	leaders, err := c.detector()
	if err != nil {
		return err
	}
	defer leaders.close()
	defer c.http.CloseIdleConnections()
	for attempt := 0; ; {
		known := frameworkID
		err := c.session(ctx, leaders, &frameworkID, func(e mesos.Event) {
			if _, ok := e.(mesos.Subscribed); ok {
				attempt = 0
			}
			handle(e)
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrFrameworkRemoved), errors.Is(err, ErrFailedOver):
			return err
		}
		pause := c.pause(attempt)
		attempt++
		c.log.Info("subscription to the Mesos master ended", zap.Error(err), zap.String("frameworkID", known), zap.Duration("pause", pause))
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// pause is the time to wait after so many failures in a row: exponential, the upper half of it random.
func (c *Client) pause(attempt int) time.Duration {
	d := c.config.MaxBackoff
	if attempt < 32 {
		d = min(d, c.config.MinBackoff<<attempt)
	}
	return d/2 + time.Duration(c.config.Rand()*float64(d/2))
}

// session is one subscription, from finding the leader to the end of the stream.
func (c *Client) session(ctx context.Context, leaders detector, frameworkID *string, handle func(mesos.Event)) error {
	hosts, changed, err := leaders.detect(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-changed:
			cancel(errLeaderChanged)
		case <-ctx.Done():
		}
	}()
	var errs []error
	for _, host := range hosts {
		s, err := c.subscribe(ctx, cancel, c.masters.url(host)+schedulerPath, *frameworkID)
		if err != nil {
			errs = append(errs, err)
			var refused *CallError
			if errors.As(err, &refused) && refused.Status/100 == 4 {
				handle(mesos.Failed{Message: refused.Error()})
			}
			if ctx.Err() != nil {
				break
			}
			continue
		}
		return c.follow(ctx, s, frameworkID, handle)
	}
	return errors.Join(errs...)
}

// stream is an answered SUBSCRIBE.
type stream struct {
	sub    *subscription
	frames *wire.Frames
	body   *watched
}

// subscribe opens the stream at one master, or at the one it redirects to.
func (c *Client) subscribe(ctx context.Context, cancel context.CancelCauseFunc, endpoint, frameworkID string) (*stream, error) {
	call := &scheduler.Call{Type: scheduler.Call_SUBSCRIBE, Subscribe: &scheduler.Call_Subscribe{FrameworkInfo: c.info(frameworkID)}}
	if frameworkID != "" {
		call.FrameworkID = &mesosgo.FrameworkID{Value: frameworkID}
	}
	body, err := call.Marshal()
	if err != nil {
		return nil, fmt.Errorf("call SUBSCRIBE: %w", err)
	}
	// A master that does not answer the SUBSCRIBE is as silent as one that sends no heartbeats.
	attempt, abort := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.config.CallTimeout, func() { abort(errSilent) })
	resp, answered, err := c.post(attempt, endpoint, "", body)
	if !timer.Stop() && err == nil {
		resp.Body.Close()
		err = errSilent
	}
	if err != nil {
		abort(nil)
		return nil, fmt.Errorf("subscribe at %s: %w", endpoint, err)
	}
	s := &stream{sub: &subscription{endpoint: answered, streamID: resp.Header.Get(streamHeader), ctx: ctx}}
	switch {
	case resp.StatusCode != http.StatusOK:
		err = &CallError{Call: "SUBSCRIBE", Status: resp.StatusCode, Body: reason(resp)}
	case !isProtobuf(resp):
		err = fmt.Errorf("the answer is of type %q, not %s: is there a proxy in between?", resp.Header.Get("Content-Type"), protobuf)
	case s.sub.streamID == "":
		err = errors.New("the answer has no " + streamHeader)
	default:
		s.body = watch(resp.Body, missedHeartbeats*defaultHeartbeat, func() { cancel(errSilent) })
		s.frames = wire.NewFrames(s.body, c.config.MaxFrame)
		// The attempt's context is the parent of the body's reads; it ends with the session.
		context.AfterFunc(ctx, func() { abort(context.Cause(ctx)) })
		return s, nil
	}
	resp.Body.Close()
	abort(nil)
	return nil, fmt.Errorf("subscribe at %s: %w", answered, err)
}

// follow handles the events of a stream until it ends, and says why it did.
func (c *Client) follow(ctx context.Context, s *stream, frameworkID *string, handle func(mesos.Event)) error {
	events := make(chan mesos.Event, queued)
	var ended error
	ctx, cancel := context.WithCancelCause(ctx)
	s.sub.ctx = ctx
	go func() {
		defer close(events)
		ended = c.read(ctx, s, events)
		c.set(nil)
		cancel(ended)
	}()
	subscribed := false
	var terminal error
	for e := range events {
		switch e := e.(type) {
		case mesos.Subscribed:
			subscribed = true
			if *frameworkID != "" && *frameworkID != e.FrameworkID {
				c.log.Error("the master gave us another framework id", zap.String("had", *frameworkID), zap.String("given", e.FrameworkID))
			}
			*frameworkID = e.FrameworkID
		case mesos.Failed:
			terminal = failure(e.Message)
		}
		handle(e)
		if terminal != nil {
			cancel(terminal)
			break
		}
	}
	s.body.Close()
	for range events { // until the reader is done; what it read after an ERROR does not matter
	}
	if terminal == nil {
		terminal = ended
	}
	if subscribed {
		handle(mesos.Disconnected{Err: terminal})
	}
	return terminal
}

// failure classifies the text of an ERROR event.
func failure(text string) error {
	switch {
	case strings.Contains(text, "Framework has been removed"):
		return fmt.Errorf("%w: %s", ErrFrameworkRemoved, text)
	case strings.Contains(text, "Framework failed over"):
		return fmt.Errorf("%w: %s", ErrFailedOver, text)
	}
	return errors.New("the master refused the subscription: " + text)
}

// read decodes the stream into events. The subscription is in force from SUBSCRIBED on.
func (c *Client) read(ctx context.Context, s *stream, events chan<- mesos.Event) error {
	for {
		frame, err := s.frames.Next()
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			return fmt.Errorf("stream of events from %s: %w", s.sub.endpoint, err)
		}
		var w scheduler.Event
		if err := wire.Decode(&w, frame); err != nil {
			return fmt.Errorf("stream of events from %s: %w", s.sub.endpoint, err)
		}
		e := wire.Event(&w)
		if e == nil {
			if w.Type != scheduler.Event_HEARTBEAT {
				c.log.Debug("event of no concern to us", zap.String("type", w.Type.String()))
			}
			continue
		}
		if up, ok := e.(mesos.Subscribed); ok {
			if up.Heartbeat == 0 {
				up.Heartbeat = defaultHeartbeat
				e = up
			}
			s.body.allow(missedHeartbeats * up.Heartbeat)
			s.sub.frameworkID = up.FrameworkID
			c.set(s.sub)
		}
		select {
		case events <- e:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
