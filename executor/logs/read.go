package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// pollEvery is how often a reader that follows looks for more.
const pollEvery = 50 * time.Millisecond

// ReadOptions say what of a stream is read. Zero is all that is kept.
type ReadOptions struct {
	// TailLines, if not nil, is how many lines at the end are read at most.
	TailLines *int64
	// Since leaves out what was written before, up to about a second.
	Since time.Time
	// Follow goes on with what comes, until the stream has ended.
	Follow bool
	// LimitBytes, if positive, is how much is read at most.
	LimitBytes int64
}

// Read reads the stream NAME in dir, the oldest output first. Follow or not, it never holds up who writes: if files
// were rotated away before they were read, a line says how much is missing, and reading goes on. The reader ends with
// io.EOF, or with the error of ctx. A stream that was never there is fs.ErrNotExist.
func Read(ctx context.Context, dir, name string, o ReadOptions) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &reader{ctx: ctx, cancel: cancel, path: filepath.Join(dir, name), options: o, lineStart: true}
	index := int64(indexFirst)
	if !o.Since.IsZero() {
		index = indexMost
	}
	parts, err := openAll(r.path, index)
	if err == nil && len(parts) == 0 {
		err = fmt.Errorf("no output is kept as %s: %w", r.path, fs.ErrNotExist)
	}
	if err == nil {
		r.parts, err = o.from(parts)
	}
	if err != nil {
		closeAll(parts)
		cancel()
		return nil, err
	}
	return r, nil
}

// part is one file of a stream, open for reading.
type part struct {
	*os.File
	info fs.FileInfo
	// base is where in the stream it begins, if that is known.
	base  int64
	known bool
	// at is what is read next, until is where to stop, if somebody still writes.
	at, until int64
	records   []record
}

func (p *part) read(b []byte) (int, error) {
	n, err := p.ReadAt(b, p.at)
	p.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ended tells that this is the last file of a stream that has ended.
func (p *part) ended() bool {
	info, err := p.Stat()
	return err == nil && info.Mode().Perm()&0o200 == 0
}

func closeAll(parts []*part) {
	for _, p := range parts {
		p.Close()
	}
}

// openAt opens the file that is at a number now, with as much of its index as is asked for. That it is moved meanwhile
// is fs.ErrNotExist.
func openAt(path string, number int, index int64) (*part, error) {
	at := numbered(path, number)
	f, err := os.Open(at)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	p := &part{File: f, info: info, until: info.Size()}
	if p.records, err = readIndex(at, index); err == nil && len(p.records) > 0 {
		p.base, p.known = p.records[0].offset, true
	}
	// An index moves before its file: if the file is still here, so was its index, or none was.
	if !p.isAt(path, number) {
		return nil, errors.Join(fs.ErrNotExist, f.Close())
	}
	return p, nil
}

func (p *part) isAt(path string, number int) bool {
	info, err := os.Stat(numbered(path, number))
	return err == nil && os.SameFile(info, p.info)
}

// openAll opens all files of a stream, and returns them the oldest first. It looks from the newest to the oldest: what
// is moved meanwhile is then met twice instead of never.
func openAll(path string, index int64) ([]*part, error) {
	var parts []*part
	missing := 0
	for number := 0; missing < 2; number++ { // one may be missing in the middle of a rotation
		p, err := openAt(path, number, index)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			closeAll(parts)
			return nil, err
		}
		if slices.ContainsFunc(parts, func(o *part) bool { return os.SameFile(o.info, p.info) }) {
			p.Close()
			continue
		}
		parts = append(parts, p)
	}
	slices.Reverse(parts)
	if !slices.ContainsFunc(parts, func(p *part) bool { return !p.known }) {
		slices.SortStableFunc(parts, func(a, b *part) int { return cmp.Compare(a.base, b.base) })
	}
	for _, p := range parts[:max(len(parts)-1, 0)] {
		if info, err := p.Stat(); err == nil { // it was the newest when it was opened, and is not now
			p.until = info.Size()
		}
	}
	return parts, nil
}

// reader reads parts, and if it follows looks for the next.
type reader struct {
	ctx     context.Context
	cancel  context.CancelFunc
	path    string
	options ReadOptions
	// mu guards all below.
	mu sync.Mutex
	// parts are what is still to be read; the last may still grow.
	parts []*part
	// final tells that the only part left does not grow any more.
	final bool
	// notice is a line of our own that is read next.
	notice    []byte
	given     int64
	lineStart bool
}

// Close ends the reader, and a Read that waits.
func (r *reader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	closeAll(r.parts)
	r.parts = nil
	return nil
}

func (r *reader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.next(b)
	if err != nil {
		closeAll(r.parts)
		r.parts = nil
	}
	return n, err
}

func (r *reader) next(b []byte) (int, error) {
	if limit := r.options.LimitBytes; limit > 0 {
		b = b[:min(int64(len(b)), limit-r.given)]
		if limit == r.given {
			return 0, io.EOF
		}
	}
	if len(b) == 0 {
		return 0, nil
	}
	for r.ctx.Err() == nil {
		n, err := r.some(b)
		if n > 0 {
			r.given += int64(n)
			r.lineStart = b[n-1] == '\n'
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		more, err := r.advance()
		if err != nil {
			return 0, err
		}
		if !more {
			r.wait()
		}
	}
	return 0, r.ctx.Err()
}

// some reads what is here.
func (r *reader) some(b []byte) (int, error) {
	if len(r.notice) > 0 {
		n := copy(b, r.notice)
		r.notice = r.notice[n:]
		return n, nil
	}
	if len(r.parts) == 0 {
		return 0, io.EOF
	}
	p := r.parts[0]
	if !r.options.Follow {
		b = b[:min(int64(len(b)), max(p.until-p.at, 0))]
		if len(b) == 0 {
			return 0, io.EOF
		}
	}
	return p.read(b)
}

func (r *reader) wait() {
	t := time.NewTimer(pollEvery)
	defer t.Stop()
	select {
	case <-r.ctx.Done():
	case <-t.C:
	}
}

// advance is called at the end of what is here: it says that there may be more now, or that there is none yet, or io.EOF.
func (r *reader) advance() (bool, error) {
	if len(r.parts) > 1 { // all but the last do not grow any more
		r.drop()
		return true, nil
	}
	if !r.options.Follow {
		return false, io.EOF
	}
	p := r.parts[0]
	if !r.final {
		// From what we see here on it cannot grow any more. Something may have come since we have read the last of it.
		if r.final = p.ended() || !p.isAt(r.path, 0); r.final {
			return true, nil
		}
		return false, nil
	}
	if p.ended() {
		return false, io.EOF
	}
	return r.successor(p)
}

func (r *reader) drop() {
	r.parts[0].Close()
	r.parts = r.parts[1:]
	r.final = false
}

// successor finds what follows a file that is at its end and was moved.
func (r *reader) successor(p *part) (bool, error) {
	missing := 0
	for number := 0; missing < 2; number++ {
		switch info, err := os.Stat(numbered(r.path, number)); {
		case err != nil:
			missing++
		case os.SameFile(info, p.info):
			if number == 0 { // it was not moved: the newest was not there for a moment
				return false, nil
			}
			return r.moveTo(p, number)
		}
	}
	return r.catchUp(p)
}

func (r *reader) moveTo(p *part, number int) (bool, error) {
	next, err := openAt(r.path, number-1, indexFirst)
	if errors.Is(err, fs.ErrNotExist) { // in the middle of a rotation
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !p.isAt(r.path, number) {
		return false, next.Close()
	}
	r.parts = append(r.parts, next)
	r.drop()
	return true, nil
}

// catchUp goes on with the oldest file there is, after ours was rotated away.
func (r *reader) catchUp(p *part) (bool, error) {
	parts, err := openAll(r.path, indexFirst)
	if err != nil {
		return false, err
	}
	if len(parts) == 0 {
		if _, err := os.Stat(filepath.Dir(r.path)); errors.Is(err, fs.ErrNotExist) {
			return false, io.EOF // the instance was taken away
		}
		return false, nil
	}
	r.tellMissed(p, parts[0])
	r.parts = append(r.parts, parts...)
	r.drop()
	return true, nil
}

func (r *reader) tellMissed(last, next *part) {
	text := "an unknown number of bytes"
	if last.known && next.known {
		missed := next.base - (last.base + last.at)
		if missed <= 0 {
			return
		}
		text = fmt.Sprintf("%d bytes", missed)
	}
	if !r.lineStart {
		r.notice = append(r.notice, '\n')
	}
	r.notice = fmt.Appendf(r.notice, "[padis: %s of output were rotated away here before they could be read]\n", text)
}
