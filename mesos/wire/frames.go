package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// MaxFrame is the size above which a frame is taken for a fault of the other side. The largest frame seen in practice
// is an OFFERS event: half a kilobyte per agent.
const MaxFrame = 512 << 20

// keepBuffer is how much memory a Frames holds on to between frames.
const keepBuffer = 1 << 20

// ErrFrame is the class of errors about a stream that is not RecordIO.
var ErrFrame = errors.New("not a RecordIO stream")

// Frames cuts a RecordIO stream ("LENGTH\nBYTES" repeated, LENGTH in decimal) into its records.
type Frames struct {
	in  *bufio.Reader
	max int
	buf bytes.Buffer
}

// NewFrames reads records of at most max bytes from in; max 0 means MaxFrame.
func NewFrames(in io.Reader, max int) *Frames {
	if max <= 0 {
		max = MaxFrame
	}
	return &Frames{in: bufio.NewReader(in), max: max}
}

// Next returns the next record, valid until the following call. It returns io.EOF at a clean end, io.ErrUnexpectedEOF
// when the stream ends within a record, and an error of class ErrFrame when the length is not a number or too large.
// Memory grows with the bytes that arrive, not with the length that was announced.
func (f *Frames) Next() ([]byte, error) {
	n, err := f.length()
	if err != nil {
		return nil, err
	}
	if f.buf.Cap() > keepBuffer {
		f.buf = bytes.Buffer{}
	}
	f.buf.Reset()
	got, err := io.CopyN(&f.buf, f.in, int64(n))
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("record of %d bytes ended after %d: %w", n, got, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	return f.buf.Bytes(), nil
}

func (f *Frames) length() (int, error) {
	const digits = 20 // enough for any 64-bit number, as Mesos writes them
	line := make([]byte, 0, digits)
	for {
		c, err := f.in.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(line) > 0:
			return 0, fmt.Errorf("stream ended within a length: %w", io.ErrUnexpectedEOF)
		case err != nil:
			return 0, err
		case c == '\n':
			n, err := strconv.ParseUint(string(line), 10, 63)
			if err != nil {
				return 0, fmt.Errorf("%w: length %q is no number", ErrFrame, line)
			}
			if n > uint64(f.max) {
				return 0, fmt.Errorf("%w: a record of %d bytes is announced, at most %d are allowed", ErrFrame, n, f.max)
			}
			return int(n), nil
		case c < '0' || c > '9':
			return 0, fmt.Errorf("%w: length begins with %q", ErrFrame, append(line, c))
		case len(line) == digits:
			return 0, fmt.Errorf("%w: length has more than %d digits", ErrFrame, digits)
		}
		line = append(line, c)
	}
}

// AppendFrame appends record to dst as one RecordIO frame.
func AppendFrame(dst, record []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(record)), 10)
	dst = append(dst, '\n')
	return append(dst, record...)
}
