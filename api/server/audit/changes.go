package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"padis.io/padis/api/server/audit/change"
)

const (
	// queued is how many lines of changes wait for the disk; a request waits at most for enqueue for room.
	queued  = 8192
	enqueue = 50 * time.Millisecond
	// syncEvery is how long a line may be only in the memory of the kernel. It is also the most that a power loss takes.
	syncEvery = time.Second
	// maxLine is the longest line that is read back.
	maxLine = 1 << 20
	// maxBatch bounds what is written at once, below the size of a file.
	maxBatch = 1 << 20
)

// Changed has lines written soon. Unlike sessions, changes do not wait for their line: at most a moment for room in the
// queue. False says that lines are lost; they are counted, and the log says how many are missing and where.
func (l *Log) Changed(lines ...change.Line) bool {
	whole := true
	for _, line := range lines {
		b, err := json.Marshal(line)
		if err != nil || !l.enqueue(append(b, '\n')) {
			l.lost.Add(1)
			whole = false
		}
	}
	return whole
}

// Missing counts the lines of changes that were lost since the start.
func (l *Log) Missing() int64 { return l.lost.Load() }

func (l *Log) enqueue(line []byte) bool {
	select {
	case <-l.closing:
		return false
	default:
	}
	select {
	case l.queue <- line:
		return true
	default:
	}
	late := time.NewTimer(enqueue)
	defer late.Stop()
	select {
	case l.queue <- line:
		return true
	case <-late.C:
		return false
	case <-l.closing:
		return false
	}
}

// writeChanges writes what is queued until the log is closed.
func (l *Log) writeChanges() {
	defer close(l.written)
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	dirty, told := false, int64(0)
	put := func(first []byte) {
		batch, n := l.batch(first)
		if missing := l.lost.Load() - told; missing > 0 {
			b, _ := json.Marshal(change.Line{Time: l.clock().UTC(), Event: change.Lost, Missing: missing})
			batch = append(append(b, '\n'), batch...)
			told += missing
		}
		if err := l.append(batch); err != nil {
			l.lost.Add(n)
			return
		}
		dirty = true
	}
	for {
		select {
		case first := <-l.queue:
			put(first)
		case <-tick.C:
			if dirty {
				dirty = l.sync() != nil
			}
		case <-l.closing:
			for {
				select {
				case first := <-l.queue:
					put(first)
				default:
					_ = l.sync()
					return
				}
			}
		}
	}
}

// batch takes what else is queued, so that many lines cost one write.
func (l *Log) batch(first []byte) (lines []byte, n int64) {
	lines, n = first, 1
	for len(lines) < maxBatch {
		select {
		case next := <-l.queue:
			lines, n = append(lines, next...), n+1
		default:
			return lines, n
		}
	}
	return lines, n
}

func (l *Log) append(b []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(b); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// sync has the file on the disk. It goes through a descriptor of its own: which one it is makes no difference to the kernel.
func (l *Log) sync() error {
	f, err := os.OpenFile(l.file.Filename, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Read writes the lines of changes that the query chooses, as JSON, oldest first, those in files that were put aside
// included.
func (l *Log) Read(ctx context.Context, q change.Query, w io.Writer) error {
	kept, err := l.open(q.Since)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range kept {
			_ = f.Close()
		}
	}()
	for _, f := range kept {
		if err := choose(ctx, f, q, w); err != nil {
			return err
		}
	}
	return nil
}

// open opens all files that may have lines since a time, oldest first, while none is put aside.
func (l *Log) open(since time.Time) (out []*os.File, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stem := strings.TrimSuffix(filepath.Base(l.file.Filename), ".log")
	aside, err := filepath.Glob(filepath.Join(l.dir, stem+"-*.log"))
	if err != nil {
		return nil, err
	}
	slices.Sort(aside)
	for _, path := range append(aside, l.file.Filename) {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return out, fmt.Errorf("audit log: %w", err)
		}
		if info, err := f.Stat(); err == nil && info.ModTime().Before(since) {
			_ = f.Close()
			continue
		}
		out = append(out, f)
	}
	return out, nil
}

func choose(ctx context.Context, r io.Reader, q change.Query, w io.Writer) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b := lines.Bytes()
		if !q.May(b) {
			continue
		}
		// What is being written right now has no end yet, and what a crash cut off never gets one.
		if l, ok := change.Parse(bytes.TrimSpace(b)); !ok || !q.Match(l) {
			continue
		}
		if _, err := w.Write(append(b[:len(b):len(b)], '\n')); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}
