package logs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"time"
)

// file is a rotated file. It takes everything; what the disk does not take is counted.
type file struct {
	path    string
	limits  Limits
	current io.WriteCloser
	// base is where in the whole stream the current file begins, size how long it is.
	base, size int64
	// dropped is what the next notice tells; read and lost are all there ever was.
	dropped    int64
	read, lost atomic.Uint64
	// index is nil if it cannot be written: positions are then found without it.
	index io.WriteCloser
	// indexed is when the last record was written. lineStart tells that the next byte begins a line.
	indexed   time.Time
	lineStart bool
	// create opens the current file; tests put a full disk there.
	create func(path string) (io.WriteCloser, int64, error)
	now    func() time.Time
}

func open(path string, l Limits) (*file, error) {
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxFiles <= 0 {
		l.MaxFiles = DefaultMaxFiles
	}
	f := &file{path: path, limits: l, create: appendTo, now: time.Now}
	f.base = continues(path)
	var err error
	if f.current, f.size, err = f.create(path); err != nil {
		return nil, fmt.Errorf("keep the output: %w", err)
	}
	f.openIndex()
	return f, nil
}

// continues is where in the stream the current file begins, as files of an executor before us tell.
func continues(path string) int64 {
	if records, err := readIndex(path, indexFirst); err == nil && len(records) > 0 {
		return records[0].offset
	}
	if info, err := os.Stat(numbered(path, 1)); err == nil {
		return continues(numbered(path, 1)) + info.Size()
	}
	return 0
}

func appendTo(path string) (io.WriteCloser, int64, error) {
	if err := os.Chmod(path, 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have ended
		return nil, 0, err
	}
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

// openIndex goes on with the index of the current file, or begins it.
func (f *file) openIndex() {
	f.index, f.lineStart = nil, f.size == 0
	records, err := readIndex(f.path, indexFirst)
	idx, err2 := os.OpenFile(f.path+indexSuffix, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err2 != nil {
		return
	}
	f.index = idx
	if err != nil || len(records) == 0 {
		f.record(f.base)
	}
}

func (f *file) record(offset int64) {
	f.indexed = f.now()
	if _, err := f.index.Write(record{f.indexed, offset}.encode()); err != nil {
		f.closeIndex()
	}
}

func (f *file) closeIndex() {
	if f.index != nil {
		_ = f.index.Close() // it only helps to find things
		f.index = nil
	}
}

// end closes the file and, unless another executor goes on with it, marks it as the last one.
func (f *file) end(keep bool) error {
	f.tellDropped()
	if !keep {
		_ = os.Chmod(f.path, 0o444) // without it, readers that follow wait for more
	}
	return f.close()
}

func (f *file) close() error {
	f.tellDropped()
	f.closeIndex()
	if f.current == nil {
		return nil
	}
	return f.current.Close()
}

func (f *file) write(b []byte) {
	f.read.Add(uint64(len(b)))
	for len(b) > 0 {
		if f.size >= f.limits.MaxBytes || f.current == nil {
			f.rotate()
		}
		f.tellDropped()
		if f.index != nil && f.lineStart && f.now().Sub(f.indexed) >= indexEvery {
			f.record(f.base + f.size)
		}
		room := f.limits.MaxBytes - f.size
		part := b[:min(int64(len(b)), max(room, 1))]
		b = b[len(part):]
		f.put(part)
	}
}

func (f *file) put(b []byte) {
	if f.current == nil {
		f.drop(len(b))
		return
	}
	n, err := f.current.Write(b)
	f.size += int64(n)
	f.lineStart = n > 0 && b[n-1] == '\n'
	if err != nil {
		f.drop(len(b) - n)
	}
}

func (f *file) drop(n int) {
	f.dropped += int64(n)
	f.lost.Add(uint64(n))
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
		f.dropped, f.lineStart = 0, true
	}
}

// rotate begins a new file. The order of the steps is what readers rely on: a file's index is moved before the file,
// older ones before newer ones, and an index is there before its file.
func (f *file) rotate() {
	if f.current != nil {
		_ = f.current.Close() // everything was written, or counted
		f.current = nil
	}
	f.closeIndex()
	if f.size >= f.limits.MaxBytes {
		for i := f.limits.MaxFiles - 1; i > 0; i-- {
			// A file that is not there yet, or a directory that is gone: the next step tells.
			_ = os.Rename(numbered(f.path, i-1)+indexSuffix, numbered(f.path, i)+indexSuffix)
			_ = os.Rename(numbered(f.path, i-1), numbered(f.path, i))
		}
		if f.limits.MaxFiles == 1 {
			_ = os.Remove(f.path + indexSuffix)
			_ = os.Remove(f.path)
		}
		f.base, f.size = f.base+f.size, 0
	}
	f.openIndex()
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
