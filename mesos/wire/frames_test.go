package wire

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
		err      error
	}{
		{"nothing", "", nil, io.EOF},
		{"two records", "3\nabc2\nde", []string{"abc", "de"}, io.EOF},
		{"an empty record", "0\n1\nx", []string{"", "x"}, io.EOF},
		{"leading zeros", "0003\nabc", []string{"abc"}, io.EOF},
		{"end within a record", "5\nabc", nil, io.ErrUnexpectedEOF},
		{"end within a length", "12", nil, io.ErrUnexpectedEOF},
		{"end after a length", "5\n", nil, io.ErrUnexpectedEOF},
		{"a length that lies", "1000\nabc", nil, io.ErrUnexpectedEOF},
		{"too large", "1025\n", nil, ErrFrame},
		{"larger than any number", "99999999999999999999\n", nil, ErrFrame},
		{"a length without end", strings.Repeat("1", 100), nil, ErrFrame},
		{"no length", "\nabc", nil, ErrFrame},
		{"negative", "-1\n", nil, ErrFrame},
		{"HTML", "<html>", nil, ErrFrame},
		{"carriage return", "3\r\nabc", nil, ErrFrame},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, in := range map[string]io.Reader{
				"at once": strings.NewReader(c.in), "slowly": iotest.OneByteReader(strings.NewReader(c.in)),
			} {
				f := NewFrames(in, 1024)
				for _, want := range c.want {
					got, err := f.Next()
					if err != nil || string(got) != want {
						t.Fatalf("%s: got %q, %v; want %q", name, got, err, want)
					}
				}
				if got, err := f.Next(); !errors.Is(err, c.err) {
					t.Fatalf("%s: got %q, %v; want %v", name, got, err, c.err)
				}
			}
		})
	}
}

// Who announces half a gigabyte and sends ten bytes must not cost half a gigabyte.
func TestFramesTrustNoLength(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := NewFrames(strings.NewReader("536870912\n0123456789"), 0).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Fatalf("allocated %d bytes", used)
	}
}

func TestFramesOfAnySize(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // four times what some clients allow
	stream := AppendFrame(AppendFrame(nil, big), []byte("next"))
	f := NewFrames(bytes.NewReader(stream), 0)
	if got, err := f.Next(); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if got, err := f.Next(); err != nil || string(got) != "next" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestFramesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "records")
		var stream []byte
		for _, r := range records {
			stream = AppendFrame(stream, r)
		}
		f := NewFrames(bytes.NewReader(stream), 0)
		for _, r := range records {
			if got, err := f.Next(); err != nil || !bytes.Equal(got, r) {
				t.Fatalf("got %q, %v; want %q", got, err, r)
			}
		}
		if _, err := f.Next(); err != io.EOF {
			t.Fatal(err)
		}
	})
}
