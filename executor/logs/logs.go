// Package logs keeps the output of instances in files of bounded size and number, and reads it back.
// Edge: talks to pipes and the file system.
//
// Output goes through a pipe, so that rotation loses nothing: NAME is the current file, NAME.1 the one before it, and
// so on; beside each is an index by time, NAME.idx (index.go). An instance is never held up by a disk that cannot take
// its output: what cannot be written is dropped, and counted in a line of its own when writing works again. Readers
// look at the files only (read.go), so that they never hold up anybody either. The file of a stream that has ended is
// not writable, which is how readers know.
package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
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

const (
	// bufferSize is what is read at once. A stream has a buffer only while output is there.
	bufferSize = 64 << 10
	// pipeSize is how much a container can write while no executor is there to read. The kernel takes memory for it
	// only when it is written.
	pipeSize = 1 << 20
)

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// Stream is the output of one instance to one of stdout and stderr.
type Stream struct {
	write *os.File
	fifo  string
	done  chan struct{}
	file  *file

	mu   sync.Mutex
	read *os.File
	// next is what is read when the deadline of read has passed, see Drain.
	next *os.File
	// keep the stream open for another executor, see Leave.
	keep bool
}

// Open begins to keep a stream as NAME in dir. It ends with those who write to FD.
func Open(dir, name string, l Limits) (*Stream, error) {
	f, err := open(filepath.Join(dir, name), l)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), f.close())
	}
	return begin(&Stream{write: w, read: r, file: f}), nil
}

// OpenPipe begins to keep, or goes on keeping, what is written to the named pipe fifo as NAME in dir. The pipe is made
// if it is not there. The stream does not end with those who write, who may come and go: Drain, Close or Leave ends it.
func OpenPipe(dir, name, fifo string, l Limits) (*Stream, error) {
	if err := unix.Mkfifo(fifo, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make the named pipe %s: %w", fifo, err)
	}
	// For writing, too: without anybody who writes, a pipe is at its end.
	r, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the named pipe: %w", err)
	}
	info, err := r.Stat()
	if err == nil && info.Mode()&os.ModeNamedPipe == 0 {
		err = fmt.Errorf("%s is no named pipe", fifo)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	f, err := open(filepath.Join(dir, name), l)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	control(r, func(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize) }) // smaller serves as well
	return begin(&Stream{read: r, fifo: fifo, file: f}), nil
}

func begin(s *Stream) *Stream {
	s.done = make(chan struct{})
	go s.copy()
	return s
}

func control(f *os.File, do func(fd int)) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { do(int(fd)) })
	}
}

// FD is what the instance writes to, for a stream of Open.
func (s *Stream) FD() int { return int(s.write.Fd()) }

// HandedOver closes our own writing end, when the instance has its copy. The stream then ends with the instance.
func (s *Stream) HandedOver() { s.write.Close() }

// Done is closed when all output is in the file.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Close ends the stream, even if somebody still writes.
func (s *Stream) Close() { s.end(false) }

// Totals are the bytes that were read since it was opened, and how many of them could not be kept.
func (s *Stream) Totals() (read, lost uint64) { return s.file.read.Load(), s.file.lost.Load() }

// Leave stops reading a named pipe, without ending the stream: what is in the pipe and what comes stays there for the
// executor that opens it next.
func (s *Stream) Leave() { s.end(true) }

func (s *Stream) end(keep bool) {
	if s.write != nil {
		s.write.Close()
	}
	s.mu.Lock()
	s.keep = s.keep || keep
	s.read.Close()
	s.mu.Unlock()
	<-s.done
}

// Drain is called when the program behind a named pipe has ended: what it wrote is read to the end, that is until
// nobody has the pipe open for writing any more, or until the timeout and what is in the pipe then. Then the stream
// has ended.
func (s *Stream) Drain(timeout time.Duration) {
	// A second reading end, from which the end can be seen when the first, which can write, is closed.
	next, err := os.OpenFile(s.fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	s.mu.Lock()
	if err == nil {
		_ = next.SetReadDeadline(time.Now().Add(timeout))
		s.next = next
	} // or else it was deleted: what is in it is all that comes
	_ = s.read.SetReadDeadline(time.Unix(1, 0))
	s.mu.Unlock()
	<-s.done
}

func (s *Stream) copy() {
	defer close(s.done)
	for {
		s.mu.Lock()
		r := s.read
		s.mu.Unlock()
		s.follow(r)
		s.mu.Lock()
		next, keep := s.next, s.keep
		s.next = nil
		if next != nil {
			s.read = next
		}
		s.mu.Unlock()
		if next == nil {
			s.rest(r)
			r.Close()
			_ = s.file.end(keep) // everything was written, or counted
			return
		}
		r.Close()
	}
}

// follow moves what comes through a pipe into the file until its end, its deadline, or that it is closed.
func (s *Stream) follow(r *os.File) {
	c, err := r.SyscallConn()
	if err != nil {
		return
	}
	for more := true; more && err == nil; {
		err = c.Read(func(fd uintptr) bool {
			var empty bool
			empty, more = s.take(int(fd))
			return !empty // if it is, we are called again when it is not
		})
	}
}

// take moves what is in the pipe, up to as much as fits in one, without waiting. It tells that it has found the pipe
// empty, and whether more can come.
func (s *Stream) take(fd int) (empty, more bool) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for taken := 0; taken < pipeSize; {
		n, err := unix.Read(fd, *buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return true, true
		case err != nil || n <= 0:
			return false, false
		default:
			s.file.write((*buf)[:n])
			taken += n
		}
	}
	return false, true
}

// rest takes what is in a pipe when time is up. Of one that was closed or left nothing is taken.
func (s *Stream) rest(r *os.File) {
	control(r, func(fd int) { s.take(fd) })
}
