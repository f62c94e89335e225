package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"padis.io/padis/proto/padis/stream"
)

// Streams are the ends of a command. Each may be nil, and Stdin must be if the request is without it.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Resize gives new sizes of the terminal.
	Resize <-chan stream.Size
}

// Exec runs a command in an instance and returns when it has ended and all its output was written. Stdin may still be
// being read then: it is for the caller to end it.
func (c *Client) Exec(ctx context.Context, e Endpoint, r stream.ExecRequest, s Streams) (stream.Ended, error) {
	request, err := json.Marshal(r)
	if err != nil {
		return stream.Ended{}, err
	}
	conn, from, err := c.upgrade(ctx, e, stream.ExecVerb, nil, request)
	if err != nil {
		return stream.Ended{}, err
	}
	x := &command{to: conn, credit: stream.Window, over: make(chan struct{})}
	x.more.L = &x.mu
	if r.Stdin {
		go x.feed(s.Stdin)
	}
	if s.Resize != nil {
		go x.resize(s.Resize)
	}
	ended, err := x.hear(from, s)
	// First, so that nobody who writes keeps the lock.
	_ = conn.Close()
	x.end()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return ended, err
}

// command is one that runs.
type command struct {
	mu     sync.Mutex
	more   sync.Cond
	to     io.Writer
	wire   []byte
	credit int
	over   chan struct{}
	ended  bool
}

// end lets those go that wait for credit or for a size.
func (x *command) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	close(x.over)
	x.more.Broadcast()
}

// send writes one frame. Input waits until there is credit for it.
func (x *command) send(channel stream.Channel, payload []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if channel == stream.Stdin {
		for x.credit < len(payload) && !x.ended {
			x.more.Wait()
		}
		x.credit -= len(payload)
	}
	if x.ended {
		return io.ErrClosedPipe
	}
	var err error
	if x.wire, err = stream.Append(x.wire[:0], stream.Frame{Channel: channel, Payload: payload}); err != nil {
		return err
	}
	_, err = x.to.Write(x.wire)
	return err
}

// feed sends the input and its end. If the connection breaks, hear says so.
func (x *command) feed(from io.Reader) {
	buffer := make([]byte, stream.MaxPayload)
	for from != nil {
		n, err := from.Read(buffer)
		if n > 0 && x.send(stream.Stdin, buffer[:n]) != nil {
			return
		}
		if err != nil {
			break
		}
	}
	_ = x.send(stream.Stdin, nil)
}

func (x *command) resize(sizes <-chan stream.Size) {
	for {
		select {
		case size, ok := <-sizes:
			if !ok || x.send(stream.Resize, size.Payload()) != nil {
				return
			}
		case <-x.over:
			return
		}
	}
}

// hear takes what the executor says, until the command has ended.
func (x *command) hear(from io.Reader, s Streams) (stream.Ended, error) {
	frames := stream.NewReader(from)
	for {
		f, err := frames.Next()
		if err != nil {
			return stream.Ended{}, fmt.Errorf("%w: the session broke off: %w", ErrUnreachable, err)
		}
		switch f.Channel {
		case stream.Stdout:
			err = write(s.Stdout, f.Payload)
		case stream.Stderr:
			err = write(s.Stderr, f.Payload)
		case stream.Credit:
			err = x.allow(f.Payload)
		case stream.Exit:
			var ended stream.Ended
			if err := json.Unmarshal(f.Payload, &ended); err != nil {
				return stream.Ended{}, fmt.Errorf("%w: how the command ended: %w", ErrUnreachable, err)
			}
			return ended, nil
		case stream.Failed:
			var why stream.Failure
			if err := json.Unmarshal(f.Payload, &why); err != nil {
				return stream.Ended{}, fmt.Errorf("%w: why the session failed: %w", ErrUnreachable, err)
			}
			return stream.Ended{}, errors.New(why.Message)
		default:
			err = fmt.Errorf("%w: an executor does not send %s", stream.ErrMalformed, f.Channel)
		}
		if err != nil {
			return stream.Ended{}, err
		}
	}
}

func (x *command) allow(payload []byte) error {
	n, err := stream.ParseCredit(payload)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.credit += n
	x.more.Broadcast()
	return nil
}

func write(to io.Writer, p []byte) error {
	if to == nil {
		return nil
	}
	_, err := to.Write(p)
	return err
}
