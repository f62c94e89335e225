package speaker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// maxFrame bounds what one side makes the other remember: enough for 65,536 addresses.
const maxFrame = 8 << 20

// order is what the executor says: the whole State. The status that answers repeats the generation.
type order struct {
	Generation uint64 `json:"generation"`
	State      State  `json:"state"`
}

// status is what the child says, after each order and whenever a session changes.
type status struct {
	Generation uint64    `json:"generation"`
	Sessions   []Session `json:"sessions,omitempty"`
	// What of the State could not be done.
	Error string `json:"error,omitempty"`
}

// write sends one frame: its length in four bytes, big end first, and as many bytes of JSON.
func write(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > maxFrame {
		return fmt.Errorf("speaker: a frame of %d bytes is more than the %d that are allowed", len(body), maxFrame)
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
	if n > maxFrame {
		return fmt.Errorf("speaker: a frame of %d bytes is more than the %d that are allowed", n, maxFrame)
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
		return fmt.Errorf("speaker: a frame cannot be read: %w", err)
	}
	return nil
}
