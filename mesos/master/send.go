package master

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/wire"
)

const (
	// retries of a call that is answered 503: the master is between leaders.
	retries = 4
	// parallel calls of SendAll. The master handles calls one by one; this only hides the round trips.
	parallel = 8
)

// Send makes one call and returns when the master has taken it (which does not mean that it came to anything: see the
// events). Calls made one after the other arrive in that order.
//
// Errors: ErrNotSubscribed; *CallError when the master refused, after some retries if it said 503; otherwise the
// connection failed, and whether the call arrived is unknown. It is not sent twice: a second ACCEPT would be answered
// with TASK_ERROR for the tasks that the first one started.
func (c *Client) Send(ctx context.Context, call mesos.Call) error {
	sub := c.current()
	if sub == nil {
		return ErrNotSubscribed
	}
	w, err := wire.ToCall(call, sub.frameworkID)
	if err != nil {
		return err
	}
	name := w.Type.String()
	body, err := w.Marshal()
	if err != nil {
		return fmt.Errorf("call %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.CallTimeout)
	defer cancel()
	if _, ends := call.(mesos.Teardown); !ends {
		// A call must not outlive its stream: another master would not know the stream id. But one that ends the stream may be
		// answered after it.
		defer context.AfterFunc(sub.ctx, cancel)()
	}

	pause := 100 * time.Millisecond
	for attempt := 0; ; attempt++ {
		resp, _, err := c.post(ctx, sub.endpoint, sub.streamID, body)
		if err != nil {
			if sub.ctx.Err() != nil {
				return fmt.Errorf("call %s: %w: %w", name, ErrNotSubscribed, err)
			}
			return fmt.Errorf("call %s: %w", name, err)
		}
		text := reason(resp)
		switch {
		case resp.StatusCode == http.StatusAccepted || resp.StatusCode == http.StatusOK:
			return nil
		case resp.StatusCode == http.StatusServiceUnavailable && attempt < retries && sleep(ctx, pause) == nil:
			pause *= 2
			continue
		}
		return &CallError{Call: name, Status: resp.StatusCode, Body: text}
	}
}

// SendAll makes calls in order, one error (or nil) for each. Neighbours that cannot depend on each other (launches,
// kills, declines or acknowledgements in a row) travel side by side; all of them are answered before the next kind
// begins.
func (c *Client) SendAll(ctx context.Context, calls []mesos.Call) []error {
	errs := make([]error, len(calls))
	for begin := 0; begin < len(calls); {
		end := begin + 1
		for end < len(calls) && independent(calls[begin], calls[end]) {
			end++
		}
		var wg sync.WaitGroup
		for first := range min(parallel, end-begin) {
			wg.Go(func() {
				for i := begin + first; i < end; i += parallel {
					errs[i] = c.Send(ctx, calls[i])
				}
			})
		}
		wg.Wait()
		begin = end
	}
	return errs
}

func independent(a, b mesos.Call) bool {
	switch a.(type) {
	case mesos.Accept, mesos.Decline, mesos.Kill, mesos.Acknowledge:
		return reflect.TypeOf(a) == reflect.TypeOf(b)
	}
	return false
}

// sleep returns early with the context's error.
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
