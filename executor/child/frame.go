package child

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxFrame bounds what one side makes the other remember.
const MaxFrame = 64 << 20

// Frame is an order, or a status; the status that answers an order has its generation.
type Frame[T any] struct {
	Generation uint64 `json:"generation"`
	Body       T      `json:"body"`
}

// Orders are those that come on in. The error is nil when they have ended, between two of them: so must the child.
func Orders[O any](in io.Reader) (<-chan Frame[O], <-chan error) {
	orders, over := make(chan Frame[O]), make(chan error, 1)
	go func() {
		for {
			var f Frame[O]
			err := read(in, &f)
			if err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				over <- err
				return
			}
			orders <- f
		}
	}()
	return orders, over
}

// Tell says how it stands with an order. On an error the executor is gone.
func Tell[S any](out io.Writer, generation uint64, status S) error {
	return write(out, Frame[S]{generation, status})
}

// write sends one frame: its length in four bytes, big end first, and as many bytes of JSON.
func write(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is more than the %d that are allowed", len(body), MaxFrame)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...))
	return err
}

// read takes one frame. The error is io.EOF if the other side ended between two frames.
func read(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is more than the %d that are allowed", n, MaxFrame)
	}
	// Grows with what comes, not with what is promised.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(body) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("a frame cannot be read: %w", err)
	}
	return nil
}
