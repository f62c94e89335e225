package wire

import "fmt"

// ErrDecode wraps what made a message unreadable.
type ErrDecode struct{ Cause any }

func (e *ErrDecode) Error() string { return fmt.Sprintf("message does not decode: %v", e.Cause) }

// Decode unmarshals b into m. The generated decoders can panic on hostile lengths; that too becomes an *ErrDecode.
func Decode(m interface{ Unmarshal([]byte) error }, b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &ErrDecode{p}
		}
	}()
	if err := m.Unmarshal(b); err != nil {
		return &ErrDecode{err}
	}
	return nil
}
