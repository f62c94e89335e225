package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// written makes a stream of lines in files of some size, one line a second, and ends it.
func written(t *testing.T, l Limits, lines int) (dir string, began time.Time) {
	t.Helper()
	dir, began = t.TempDir(), time.UnixMilli(1_700_000_000_000)
	f, err := open(filepath.Join(dir, "stdout"), l)
	if err != nil {
		t.Fatal(err)
	}
	f.closeIndex()
	if err := os.Remove(f.path + indexSuffix); err != nil {
		t.Fatal(err)
	}
	now := began
	f.now = func() time.Time { return now }
	f.openIndex()
	for i := range lines {
		f.write(fmt.Appendf(nil, "line %d\n", i))
		now = now.Add(time.Second)
	}
	if err := f.end(false); err != nil {
		t.Fatal(err)
	}
	return dir, began
}

func readAll(t *testing.T, dir string, o ReadOptions) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := Read(ctx, dir, "stdout", o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lines(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.String()
}

// A file may begin in the middle of a line; together they are whole.
func TestReadOptions(t *testing.T) {
	n := func(i int64) *int64 { return &i }
	dir, began := written(t, Limits{MaxBytes: 100, MaxFiles: 100}, 200)
	for _, c := range []struct {
		name string
		o    ReadOptions
		want string
	}{
		{"all", ReadOptions{}, lines(0, 200)},
		{"followed to the end", ReadOptions{Follow: true}, lines(0, 200)},
		{"tail", ReadOptions{TailLines: n(3)}, lines(197, 200)},
		{"tail of many files", ReadOptions{TailLines: n(150), Follow: true}, lines(50, 200)},
		{"tail of more than there is", ReadOptions{TailLines: n(1000)}, lines(0, 200)},
		{"tail of nothing", ReadOptions{TailLines: n(0)}, ""},
		{"limit", ReadOptions{LimitBytes: 10}, "line 0\nlin"},
		{"tail and limit", ReadOptions{TailLines: n(2), LimitBytes: 9}, "line 198\n"},
		{"since before all", ReadOptions{Since: began.Add(-time.Hour)}, lines(0, 200)},
		{"since", ReadOptions{Since: began.Add(120 * time.Second)}, lines(120, 200)},
		{"since and tail", ReadOptions{Since: began.Add(120 * time.Second), TailLines: n(5)}, lines(195, 200)},
		{"since after all", ReadOptions{Since: began.Add(time.Hour)}, lines(199, 200)},
	} {
		got := readAll(t, dir, c.o)
		// A position found by time may be earlier, by what was written in a second: here where a file begins.
		if !strings.HasSuffix(got, c.want) || c.o.Since.IsZero() && got != c.want || len(got) > len(c.want)+20 {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if _, err := Read(context.Background(), dir, "stderr", ReadOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stream that never was: %v", err)
	}
}

// Without indexes, as after a full disk, everything is read; only times are not found.
func TestReadWithoutIndexes(t *testing.T) {
	dir, began := written(t, Limits{MaxBytes: 100, MaxFiles: 100}, 50)
	all, err := filepath.Glob(filepath.Join(dir, "*"+indexSuffix))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range all {
		if i%2 == 0 {
			err = os.Remove(name)
		} else {
			err = os.WriteFile(name, []byte("no index\n\x00 5\n9"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := readAll(t, dir, ReadOptions{Since: began.Add(40 * time.Second), Follow: true}); got != lines(0, 50) {
		t.Errorf("got %q", got)
	}
}

// Readers that follow get everything once and in order, however the files turn, and end with the stream.
func TestFollowAcrossRotations(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, "stdout", Limits{MaxBytes: 4000, MaxFiles: 100})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20_000
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if got := readAll(t, dir, ReadOptions{Follow: true}); got != lines(0, n) {
				t.Errorf("got %d bytes, written %d", len(got), len(lines(0, n)))
			}
		})
	}
	for i := range n {
		fmt.Fprintf(s.write, "line %d\n", i)
	}
	s.HandedOver()
	<-s.Done()
	wg.Wait()
}

var missedNotice = regexp.MustCompile(`(?m)^\[padis: (\d+) bytes of output were rotated away here before they could be read\]\n`)

// A reader that is too slow is told how much it missed: what it got and what it missed is everything.
func TestSlowReaderIsToldWhatItMissed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "logs")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l := Limits{MaxBytes: int64(rapid.IntRange(8, 60).Draw(t, "bytes")), MaxFiles: rapid.IntRange(1, 4).Draw(t, "files")}
		f, err := open(filepath.Join(dir, "stdout"), l)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		r, err := Read(ctx, dir, "stdout", ReadOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var all, got []byte
		buf := make([]byte, 16)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			b := fmt.Appendf(nil, "%s\n", strings.Repeat("x", rapid.IntRange(0, 100).Draw(t, "length")))
			f.write(b)
			all = append(all, b...)
			for range rapid.IntRange(0, 2).Draw(t, "reads") {
				if len(all) > seen(got) {
					n, err := r.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, buf[:n]...)
				}
			}
		}
		if err := f.end(false); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, rest...)
		missed := 0
		for _, m := range missedNotice.FindAllSubmatch(got, -1) {
			n, err := strconv.Atoi(string(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			missed += n
		}
		kept := missedNotice.ReplaceAll(got, nil)
		// A newline of ours comes before a notice in the middle of a line.
		if n := len(kept) + missed - len(all); n < 0 || n > bytes.Count(got, []byte("[padis")) {
			t.Fatalf("%d bytes written, %d read and %d missed:\n%s", len(all), len(kept), missed, got)
		}
	})
}

// seen is at least how much of the stream a reader knows of, so that reading on cannot wait for ever.
func seen(got []byte) int {
	n := len(got)
	for _, m := range missedNotice.FindAllSubmatch(got, -1) {
		missed, _ := strconv.Atoi(string(m[1]))
		n += missed
	}
	return n
}

func TestReaderEnds(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, "stdout", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r, err := Read(ctx, dir, "stdout", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("with its context: %v", err)
	}
	closed, err := Read(context.Background(), dir, "stdout", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := closed.Read(make([]byte, 1)); err == nil {
		t.Error("read from what was closed")
	}
	r, err = Read(context.Background(), dir, "stdout", ReadOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if b, err := io.ReadAll(r); err != nil || len(b) != 0 {
		t.Errorf("with its stream: %q, %v", b, err)
	}
}
