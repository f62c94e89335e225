package stream

import (
	"bytes"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

func TestFramesComeBack(t *testing.T) {
	t.Parallel()
	frames := []Frame{
		{Stdin, []byte("ls\n")}, {Stdin, nil}, {Stdout, bytes.Repeat([]byte{7}, MaxPayload)}, {Resize, Size{80, 24}.Payload()},
		{Credit, CreditPayload(Window)}, {Exit, []byte(`{"code":3}`)},
	}
	var wire []byte
	for _, f := range frames {
		var err error
		if wire, err = Append(wire, f); err != nil {
			t.Fatal(err)
		}
	}
	for name, from := range map[string]io.Reader{"whole": bytes.NewReader(wire), "byte by byte": iotest.OneByteReader(bytes.NewReader(wire))} {
		r := NewReader(from)
		for i, want := range frames {
			got, err := r.Next()
			if err != nil || got.Channel != want.Channel || !bytes.Equal(got.Payload, want.Payload) {
				t.Fatalf("%s: frame %d is %s with %d bytes, %v", name, i, got.Channel, len(got.Payload), err)
			}
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
	}
	if s, err := ParseSize(frames[3].Payload); err != nil || s != (Size{80, 24}) {
		t.Errorf("size %v, %v", s, err)
	}
	if n, err := ParseCredit(frames[4].Payload); err != nil || n != Window {
		t.Errorf("credit %d, %v", n, err)
	}
}

func TestWhatIsMalformedIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := Append(nil, Frame{Stdout, make([]byte, MaxPayload+1)}); err == nil {
		t.Error("a frame that is too long was made")
	}
	for name, c := range map[string]struct {
		wire []byte
		want error
	}{
		"too long":        {[]byte{1, 0, 1, 0, 0}, ErrMalformed},
		"unknown channel": {[]byte{99, 0, 0, 0, 0}, ErrMalformed},
		"cut in header":   {[]byte{1, 0}, io.ErrUnexpectedEOF},
		"cut in payload":  {[]byte{1, 0, 0, 0, 9, 1}, io.ErrUnexpectedEOF},
		"cut before it":   {[]byte{1, 0, 0, 0, 9}, io.ErrUnexpectedEOF},
	} {
		if _, err := NewReader(bytes.NewReader(c.wire)).Next(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseSize([]byte{1}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a size of one byte: %v", err)
	}
	if _, err := ParseCredit(CreditPayload(Window + 1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a credit beyond the window: %v", err)
	}
}

func TestLogRequestsComeBack(t *testing.T) {
	t.Parallel()
	for _, r := range []LogRequest{
		{Stream: "stdout", TailLines: -1, LimitBytes: -1},
		{Stream: "all", Follow: true, TailLines: 0, LimitBytes: 12, SinceMS: 1_700_000_000_123},
	} {
		if got, err := ParseLogRequest(r.Query()); err != nil || got != r {
			t.Errorf("%+v came back as %+v, %v", r, got, err)
		}
	}
	for _, bad := range []string{"stream=both", "follow=maybe", "tailLines=-1", "limitBytes=x", "sinceTime=today", "other=1"} {
		q, err := url.ParseQuery(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseLogRequest(q); err == nil || !strings.Contains(err.Error(), strings.SplitN(bad, "=", 2)[0]) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Whatever arrives: a reader neither crashes nor invents, and what it takes off is what it would have written.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 'x', 4, 0, 0, 0, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := NewReader(bytes.NewReader(wire))
		var again []byte
		rest := wire
		for {
			frame, err := r.Next()
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrMalformed) {
					t.Fatalf("%v", err)
				}
				break
			}
			direct, size, err := Decode(rest)
			if err != nil || direct.Channel != frame.Channel || !bytes.Equal(direct.Payload, frame.Payload) {
				t.Fatalf("Decode gives %v, %v", direct, err)
			}
			rest = rest[size:]
			if again, err = Append(again, frame); err != nil {
				t.Fatal(err)
			}
			_, _ = ParseSize(frame.Payload)
			_, _ = ParseCredit(frame.Payload)
		}
		if !bytes.HasPrefix(wire, again) {
			t.Errorf("%x was read as %x", wire, again)
		}
	})
}

func FuzzLogRequest(f *testing.F) {
	f.Add("tailLines", "3")
	f.Add("sinceTime", "2024-01-01T00:00:00Z")
	f.Fuzz(func(t *testing.T, key, value string) {
		r, err := ParseLogRequest(url.Values{key: {value}})
		if err != nil {
			return
		}
		if again, err := ParseLogRequest(r.Query()); err != nil || again != r {
			t.Errorf("%+v came back as %+v, %v", r, again, err)
		}
	})
}
