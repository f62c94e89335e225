// Package logs keeps the output of instances in files of bounded size and number.
// Edge: talks to pipes and the file system.
//
// Output goes through a pipe, so that rotation loses nothing: NAME is the current file, NAME.1 the one before it, and
// so on. An instance is never held up by a disk that cannot take its output: what cannot be written is dropped, and
// counted in a line of its own when writing works again.
package logs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Limits of one stream.
type Limits struct {
	// MaxBytes at which a file is rotated; DefaultMaxBytes if not positive.
	MaxBytes int64
	// MaxFiles that are kept, the current one included; DefaultMaxFiles if not positive.
	MaxFiles int
}

// Defaults, as in the API.
const (
	DefaultMaxBytes = 10 << 20
	DefaultMaxFiles = 3
)

// bufferSize bounds the memory of a stream: fifty instances have a hundred.
const bufferSize = 4096

// Stream is the output of one instance to one of stdout and stderr.
type Stream struct {
	write, read *os.File
	done        chan struct{}
	file        *file
}

// Open begins to keep a stream as NAME in dir.
func Open(dir, name string, l Limits) (*Stream, error) {
	f, err := open(filepath.Join(dir, name), l)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), f.close())
	}
	s := &Stream{write: w, read: r, done: make(chan struct{}), file: f}
	go s.copy()
	return s, nil
}

// FD is what the instance writes to.
func (s *Stream) FD() int { return int(s.write.Fd()) }

// HandedOver closes our own writing end, when the instance has its copy. The stream then ends with the instance.
func (s *Stream) HandedOver() { s.write.Close() }

// Done is closed when all output is in the file.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Close ends the stream, even if somebody still writes.
func (s *Stream) Close() {
	s.write.Close()
	s.read.Close()
	<-s.done
}

func (s *Stream) copy() {
	defer close(s.done)
	buf := make([]byte, bufferSize)
	for {
		n, err := s.read.Read(buf)
		s.file.write(buf[:n])
		if err != nil {
			s.read.Close()
			_ = s.file.close()
			return
		}
	}
}

// file is a rotated file. It takes everything; what the disk does not take is counted.
type file struct {
	path    string
	limits  Limits
	current io.WriteCloser
	size    int64
	dropped int64
	// create opens the current file; tests put a full disk there.
	create func(path string) (io.WriteCloser, int64, error)
}

func open(path string, l Limits) (*file, error) {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxFiles <= 0 {
		l.MaxFiles = DefaultMaxFiles
	}
	f := &file{path: path, limits: l, create: appendTo}
	var err error
	if f.current, f.size, err = f.create(path); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	return f, nil
}

func appendTo(path string) (io.WriteCloser, int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (f *file) close() error {
	f.tellDropped()
	if f.current == nil {
		return nil
	}
	return f.current.Close()
}

func (f *file) write(b []byte) {
	for len(b) > 0 {
		if f.size >= f.limits.MaxBytes || f.current == nil {
			f.rotate()
		}
		f.tellDropped()
		room := f.limits.MaxBytes - f.size
		part := b[:min(int64(len(b)), max(room, 1))]
		b = b[len(part):]
		f.put(part)
	}
}

func (f *file) put(b []byte) {
	if f.current == nil {
		f.dropped += int64(len(b))
		return
	}
	n, err := f.current.Write(b)
	f.size += int64(n)
	if err != nil {
		f.dropped += int64(len(b) - n)
	}
}

// tellDropped writes the notice of lost output, if there is any and the disk takes it.
func (f *file) tellDropped() {
	if f.dropped == 0 || f.current == nil {
		return
	}
	notice := fmt.Appendf(nil, "\n[padis: %d bytes of output were lost here because they could not be written]\n", f.dropped)
	n, err := f.current.Write(notice)
	f.size += int64(n)
	if err == nil {
		f.dropped = 0
	}
}

func (f *file) rotate() {
	if f.current != nil {
		_ = f.current.Close() // everything was written, or counted
		f.current = nil
	}
	if f.size >= f.limits.MaxBytes {
		for i := f.limits.MaxFiles - 1; i > 0; i-- {
			// A file that is not there yet, or a directory that is gone: the next step tells.
			_ = os.Rename(numbered(f.path, i-1), numbered(f.path, i))
		}
		if f.limits.MaxFiles == 1 {
			_ = os.Remove(f.path)
		}
	}
	if c, size, err := f.create(f.path); err == nil {
		f.current, f.size = c, size
	}
}

func numbered(path string, i int) string {
	if i == 0 {
		return path
	}
	return fmt.Sprintf("%s.%d", path, i)
}
