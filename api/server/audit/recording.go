package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Recording is a session in the format asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/): what was shown,
// what was typed, and sizes of the terminal. Its methods may be called at the same time.
type Recording struct {
	clock func() time.Time
	began time.Time

	mu   sync.Mutex
	file *os.File
	// rest are bytes of a character of which the others have not come yet, by kind of event.
	rest map[string][]byte
	err  error
}

// Header is what a recording says of itself.
type Header struct {
	Namespace, Instance, User string
	Command                   []string
	Width, Height             uint16
}

// Record begins a recording. Path is relative to the data directory.
func (l *Log) Record(h Header) (r *Recording, path string, err error) {
	began := l.clock()
	dir := filepath.Join("recordings", safe(h.Namespace))
	if err := os.MkdirAll(filepath.Join(l.dir, dir), 0o700); err != nil {
		return nil, "", fmt.Errorf("recording: %w", err)
	}
	name := fmt.Sprintf("%s-%s-%s", safe(h.Instance), began.UTC().Format("20060102T150405.000000000Z"), safe(h.User))
	path = filepath.Join(dir, name+".cast")
	f, err := os.OpenFile(filepath.Join(l.dir, path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, "", fmt.Errorf("recording: %w", err)
	}
	r = &Recording{clock: l.clock, began: began, file: f, rest: map[string][]byte{}}
	if h.Width == 0 || h.Height == 0 {
		h.Width, h.Height = 80, 24
	}
	r.line(struct {
		Version   int    `json:"version"`
		Width     uint16 `json:"width"`
		Height    uint16 `json:"height"`
		Timestamp int64  `json:"timestamp"`
		Command   string `json:"command"`
		Title     string `json:"title"`
	}{2, h.Width, h.Height, began.Unix(), strings.Join(h.Command, " "), h.User + " in " + h.Namespace + "/" + h.Instance})
	if r.err != nil {
		return nil, "", errors.Join(r.err, f.Close())
	}
	return r, path, nil
}

// safe makes a possible name of a file of what a user may be called.
func safe(name string) string {
	out := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '@', c == '.':
			return c
		}
		return '_'
	}, name)
	if len(out) > 100 {
		out = out[:100]
	}
	if strings.Trim(out, ".") == "" {
		return "_"
	}
	return out
}

// Output keeps what was shown, Input what was typed. Their error is that of this or any earlier writing.
func (r *Recording) Output(p []byte) error { return r.text("o", p) }

// Input keeps what was typed.
func (r *Recording) Input(p []byte) error { return r.text("i", p) }

// Resize keeps a new size of the terminal.
func (r *Recording) Resize(width, height uint16) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.event("r", fmt.Sprintf("%dx%d", width, height))
	return r.err
}

func (r *Recording) text(kind string, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	whole, rest := complete(append(r.rest[kind], p...))
	r.rest[kind] = append([]byte(nil), rest...)
	if len(whole) > 0 {
		r.event(kind, string(whole))
	}
	return r.err
}

// complete splits off the beginning of a character at the end of b.
func complete(b []byte) (whole, rest []byte) {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				return b[:i], b[i:]
			}
			break
		}
	}
	return b, nil
}

func (r *Recording) event(kind, data string) {
	r.line([]any{float64(r.clock().Sub(r.began).Microseconds()) / 1e6, kind, strings.ToValidUTF8(data, "\uFFFD")})
}

func (r *Recording) line(v any) {
	if r.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err == nil {
		_, err = r.file.Write(append(b, '\n'))
	}
	if err != nil {
		r.err = fmt.Errorf("recording: %w", err)
	}
}

// Close ends the recording.
func (r *Recording) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, kind := range []string{"i", "o"} {
		if len(r.rest[kind]) > 0 {
			r.event(kind, string(r.rest[kind]))
		}
	}
	if err := r.file.Close(); err != nil && r.err == nil {
		r.err = fmt.Errorf("recording: %w", err)
	}
	return r.err
}
