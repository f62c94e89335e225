// Package stream is what the scheduler and the executors say to each other when people reach into instances: the frames
// of a session over one byte stream, and the questions and answers around them. Pure.
//
// A frame is a channel (1 byte), the length of its payload (4 bytes, big endian) and the payload. The side that runs the
// command is the server, the other one the client.
package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Channel says what the payload of a frame is.
type Channel byte

// The channels.
const (
	// Stdin, from the client: what the command shall read. An empty payload is its end.
	Stdin Channel = iota
	// Stdout and Stderr, from the server: what the command has written.
	Stdout
	Stderr
	// Resize, from the client: the terminal's new width and height, 2 bytes each, big endian.
	Resize
	// Exit, from the server: how the command ended, as JSON of Exit. Nothing follows.
	Exit
	// Failed, from the server: why the session cannot go on, as JSON of Failure. Nothing follows.
	Failed
	// Credit, from the server: so many more bytes of Stdin may be sent, 4 bytes, big endian.
	Credit
	channels
)

// String is the name of a channel.
func (c Channel) String() string {
	if c >= channels {
		return fmt.Sprintf("channel %d", byte(c))
	}
	return [channels]string{"stdin", "stdout", "stderr", "resize", "exit", "failed", "credit"}[c]
}

const (
	// MaxPayload bounds a frame, and with it the memory of who reads it.
	MaxPayload = 32 << 10
	// Window is how much of Stdin may be on its way, or wait at the server, before there is a Credit. So the server
	// always reads, and hears of a resize and of the client's end, whatever the command does with its input.
	Window = 256 << 10
	// header is the size of a frame without its payload.
	header = 5
)

// Frame is one message of a session.
type Frame struct {
	Channel Channel
	Payload []byte
}

// ErrMalformed is an error of the other side: the stream cannot be used any more.
var ErrMalformed = errors.New("malformed stream")

// Append adds a frame in its wire form to b. The payload must not be longer than MaxPayload.
func Append(b []byte, f Frame) ([]byte, error) {
	if f.Channel >= channels || len(f.Payload) > MaxPayload {
		return b, fmt.Errorf("frame of %s with %d bytes: a payload has at most %d", f.Channel, len(f.Payload), MaxPayload)
	}
	b = append(b, byte(f.Channel))
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Payload)))
	return append(b, f.Payload...), nil
}

// Decode takes the first frame of b. Size is what it took of b, and 0 when b is only the beginning of a frame. The
// payload is a part of b. An error is ErrMalformed.
func Decode(b []byte) (f Frame, size int, err error) {
	if len(b) < header {
		return Frame{}, 0, nil
	}
	n := binary.BigEndian.Uint32(b[1:])
	if f.Channel = Channel(b[0]); f.Channel >= channels || n > MaxPayload {
		return Frame{}, 0, fmt.Errorf("%w: %s with %d bytes", ErrMalformed, f.Channel, n)
	}
	if len(b) < header+int(n) {
		return Frame{}, 0, nil
	}
	f.Payload = b[header : header+int(n)]
	return f, header + int(n), nil
}

// Reader takes frames off a stream.
type Reader struct {
	from   io.Reader
	buffer [header + MaxPayload]byte
}

// NewReader reads from a stream, no further than to the end of the frame that is asked for.
func NewReader(from io.Reader) *Reader { return &Reader{from: from} }

// Next returns the next frame. Its payload is valid until the call after. The error is io.EOF at the end of the stream
// between two frames, io.ErrUnexpectedEOF within one, ErrMalformed, or that of the stream.
func (r *Reader) Next() (Frame, error) {
	if _, err := io.ReadFull(r.from, r.buffer[:header]); err != nil {
		return Frame{}, err
	}
	f, size, err := Decode(r.buffer[:header])
	if err != nil || size > 0 {
		return f, err
	}
	end := header + int(binary.BigEndian.Uint32(r.buffer[1:]))
	if _, err := io.ReadFull(r.from, r.buffer[header:end]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	f, _, err = Decode(r.buffer[:end])
	return f, err
}

// Size of a terminal.
type Size struct{ Width, Height uint16 }

// Payload is the wire form.
func (s Size) Payload() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Width), s.Height)
}

// ParseSize reads the payload of Resize.
func ParseSize(b []byte) (Size, error) {
	if len(b) != 4 {
		return Size{}, fmt.Errorf("%w: a size has 4 bytes, not %d", ErrMalformed, len(b))
	}
	return Size{Width: binary.BigEndian.Uint16(b), Height: binary.BigEndian.Uint16(b[2:])}, nil
}

// CreditPayload is the wire form of a credit.
func CreditPayload(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// ParseCredit reads the payload of Credit.
func ParseCredit(b []byte) (int, error) {
	if len(b) != 4 || binary.BigEndian.Uint32(b) > Window {
		return 0, fmt.Errorf("%w: a credit of %x", ErrMalformed, b)
	}
	return int(binary.BigEndian.Uint32(b)), nil
}
