package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// writer opens a named pipe as a shim does, which also holds a reading end, so that nobody who writes is ever alone.
func writer(t testing.TB, fifo string) *os.File {
	t.Helper()
	r, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); r.Close() })
	return w
}

func openPipe(t testing.TB, dir string, l Limits) *Stream {
	t.Helper()
	s, err := OpenPipe(dir, "stdout", filepath.Join(dir, "pipe"), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func write(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// What a container writes is kept whether or not an executor is there, and the reader does not see the change.
func TestPipeOutlivesTheExecutor(t *testing.T) {
	dir := t.TempDir()
	first := openPipe(t, dir, Limits{MaxBytes: 100, MaxFiles: 100})
	w := writer(t, filepath.Join(dir, "pipe"))
	got := make(chan string)
	go func() { got <- readAll(t, dir, ReadOptions{Follow: true}) }()
	write(t, w, lines(0, 50))
	first.Leave()
	write(t, w, lines(50, 100))
	second := openPipe(t, dir, Limits{MaxBytes: 100, MaxFiles: 100})
	write(t, w, lines(100, 150))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	second.Drain(10 * time.Second)
	if text := <-got; text != lines(0, 150) {
		t.Errorf("got %q", text)
	}
	if records, err := readIndex(filepath.Join(dir, "stdout"), indexFirst); err != nil || len(records) == 0 || records[0].offset == 0 {
		t.Errorf("the second executor began the stream anew: %v, %v", records, err)
	}
}

func TestDrain(t *testing.T) {
	// Nobody has ever opened the pipe: there is nothing to wait for.
	s := openPipe(t, t.TempDir(), Limits{})
	s.Drain(time.Hour)

	// The shim is behind: what it writes after the program's end is waited for.
	dir := t.TempDir()
	s = openPipe(t, dir, Limits{})
	w := writer(t, filepath.Join(dir, "pipe"))
	drained := make(chan struct{})
	go func() { s.Drain(time.Minute); close(drained) }()
	write(t, w, "late\n")
	select {
	case <-drained:
		t.Error("drained while somebody could write")
	default:
	}
	w.Close()
	<-drained
	if got := readAll(t, dir, ReadOptions{Follow: true}); got != "late\n" {
		t.Errorf("got %q", got)
	}

	// Somebody holds the pipe for ever: time is up, and what is in it is kept.
	dir = t.TempDir()
	s = openPipe(t, dir, Limits{})
	w = writer(t, filepath.Join(dir, "pipe"))
	write(t, w, "held\n")
	s.Drain(time.Millisecond)
	if got := readAll(t, dir, ReadOptions{Follow: true}); got != "held\n" {
		t.Errorf("got %q", got)
	}

	// The pipe was deleted: what is in it is kept.
	dir = t.TempDir()
	s = openPipe(t, dir, Limits{})
	w = writer(t, filepath.Join(dir, "pipe"))
	write(t, w, "gone\n")
	if err := os.Remove(filepath.Join(dir, "pipe")); err != nil {
		t.Fatal(err)
	}
	s.Drain(time.Hour)
	if got := readAll(t, dir, ReadOptions{Follow: true}); got != "gone\n" {
		t.Errorf("got %q", got)
	}
}

func TestOpenPipeRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenPipe(dir, "stdout", file, Limits{}); err == nil {
		t.Error("took a file for a pipe")
	}
	if _, err := OpenPipe(dir, "stdout", filepath.Join(dir, "missing", "pipe"), Limits{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := OpenPipe(filepath.Join(dir, "missing"), "stdout", filepath.Join(dir, "pipe"), Limits{}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without a directory for the file: %v", err)
	}
}

// All of what goes through is in the files.
func BenchmarkPipeThroughput(b *testing.B) {
	for _, size := range []int{128, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			dir := b.TempDir()
			s := openPipe(b, dir, Limits{})
			w := writer(b, filepath.Join(dir, "pipe"))
			line := append(bytes.Repeat([]byte("x"), size-1), '\n')
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := w.Write(line); err != nil {
					b.Fatal(err)
				}
			}
			w.Close()
			s.Drain(time.Minute)
			b.StopTimer()
			if got := s.file.base + s.file.size; got != int64(b.N)*int64(size) {
				b.Errorf("%d bytes are missing", int64(b.N)*int64(size)-got)
			}
		})
	}
}

// What two hundred streams cost while nothing is written.
func BenchmarkIdleStreams(b *testing.B) {
	const n = 200
	for b.Loop() {
		dir := b.TempDir()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var all []*Stream
		for i := range n {
			s, err := OpenPipe(dir, fmt.Sprintf("out%d", i), filepath.Join(dir, fmt.Sprintf("pipe%d", i)), Limits{})
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, s)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/n, "bytes/stream")
		for _, s := range all {
			s.Close()
		}
	}
}
