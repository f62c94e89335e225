package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStreamKeepsEverythingInOrder(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, "stdout", Limits{MaxBytes: 1000, MaxFiles: 100})
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	for i := range 2000 {
		fmt.Fprintln(io.MultiWriter(&want, s.write), "line", i)
	}
	s.HandedOver()
	<-s.Done()
	var got []byte
	for i := 99; i >= 0; i-- {
		b, err := os.ReadFile(numbered(filepath.Join(dir, "stdout"), i))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if len(b) > 1000 {
			t.Errorf("file %d has %d bytes", i, len(b))
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Errorf("got %d bytes, wrote %d", len(got), want.Len())
	}
}

func TestCloseEndsAStreamThatSomebodyHolds(t *testing.T) {
	s, err := Open(t.TempDir(), "stdout", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(filepath.Join(t.TempDir(), "missing"), "stdout", Limits{}); err == nil {
		t.Error("kept output in a directory that does not exist")
	}
}

// However much is written: no file is larger than it may be, there are no more than there may be, and they hold the
// newest output.
func TestRotation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "logs")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l := Limits{MaxBytes: int64(rapid.IntRange(1, 50).Draw(t, "bytes")), MaxFiles: rapid.IntRange(1, 4).Draw(t, "files")}
		f, err := open(filepath.Join(dir, "log"), l)
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		for _, b := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 120)).Draw(t, "writes") {
			f.write(b)
			all = append(all, b...)
		}
		if err := f.close(); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), indexSuffix) })
		if len(entries) > l.MaxFiles {
			t.Fatalf("%d files, may be %d", len(entries), l.MaxFiles)
		}
		var kept []byte
		for i := len(entries) - 1; i >= 0; i-- {
			b, err := os.ReadFile(numbered(filepath.Join(dir, "log"), i))
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(b)) > l.MaxBytes {
				t.Fatalf("a file of %d bytes", len(b))
			}
			kept = append(kept, b...)
		}
		if !bytes.HasSuffix(all, kept) || (len(kept) < len(all) && int64(len(kept)) < l.MaxBytes*int64(l.MaxFiles-1)) {
			t.Fatalf("kept %d of %d bytes", len(kept), len(all))
		}
	})
}

// disk takes free bytes in all.
type disk struct {
	bytes.Buffer
	free int
}

func (d *disk) Write(b []byte) (int, error) {
	n := min(len(b), d.free)
	d.free -= n
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func (d *disk) Close() error { return nil }

func TestAFullDiskLosesOutputAndSaysHowMuch(t *testing.T) {
	d := &disk{free: 10}
	f := &file{path: filepath.Join(t.TempDir(), "log"), limits: Limits{1 << 20, 2}, now: time.Now, create: func(string) (io.WriteCloser, int64, error) { return d, 0, nil }}
	f.write([]byte("0123456789abc"))
	f.write([]byte("defg"))
	d.free = 1000
	f.write([]byte("on again\n"))
	if got := d.String(); !strings.HasPrefix(got, "0123456789\n[padis: 7 bytes") || !strings.HasSuffix(got, "\non again\n") {
		t.Errorf("got %q", got)
	}
	// A file that cannot even be made is the same.
	f = &file{path: f.path, limits: f.limits, now: time.Now, create: func(string) (io.WriteCloser, int64, error) { return nil, 0, os.ErrPermission }}
	f.write([]byte("xyz"))
	if f.dropped != 3 {
		t.Errorf("counted %d bytes, lost 3", f.dropped)
	}
}
