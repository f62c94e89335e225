package files

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"
)

// Options of Open. The zero value reads the whole file once.
type Options struct {
	// TailLines begins that many lines before the end, TailBytes that many bytes; 0 means no such limit. With both,
	// the later beginning counts.
	TailLines int
	TailBytes int64
	// Follow waits for more at the end of the file, asking every Poll (250 ms if 0), until the reader is closed.
	Follow bool
	Poll   time.Duration
}

// maxTail bounds how far back TailLines is sought.
const maxTail = 16 << 20

// stream reads on where it stopped.
type stream struct {
	client  *Client
	ctx     context.Context
	cancel  context.CancelFunc
	url     string
	path    string
	opts    Options
	offset  int64
	started bool
	rest    []byte
	rotated bool // reading what is left of the file before it was rotated
	missing int  // answers in a row that the file is not there
}

// Open gives the content of a file as a stream. Nothing is read until the first Read, which reports a missing file with
// an error of class ErrNotFound. When a followed file becomes shorter it was rotated: what is left of the old one is
// read from path+".1" first. While following, an agent that cannot be reached (it restarts, say) is asked again
// for as long as ctx allows. Close ends a waiting Read.
func (c *Client) Open(ctx context.Context, agentURL, path string, opts Options) io.ReadCloser {
	if opts.Poll <= 0 {
		opts.Poll = 250 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(ctx)
	return &stream{client: c, ctx: ctx, cancel: cancel, url: agentURL, path: path, opts: opts}
}

func (s *stream) Close() error {
	s.cancel()
	return nil
}

func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(s.rest) == 0 {
		data, err := s.more()
		switch {
		case s.ctx.Err() != nil:
			return 0, s.ctx.Err()
		case err != nil && !errors.Is(err, io.EOF) && !s.retry(err):
			return 0, err
		case errors.Is(err, io.EOF) && !s.opts.Follow:
			return 0, io.EOF
		case err != nil:
			if err := s.wait(); err != nil {
				return 0, err
			}
			continue
		}
		s.rest = data
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// retry tells whether an error may pass: only while following, after the file was seen, and if it is not the agent
// that says no. That the file is not there it may say twice: rotation makes a new one after moving the old one away.
func (s *stream) retry(err error) bool {
	if !s.opts.Follow || !s.started || errors.Is(err, ErrForbidden) {
		return false
	}
	if errors.Is(err, ErrNotFound) {
		s.missing++
		return s.missing <= 2
	}
	return true
}

func (s *stream) wait() error {
	t := time.NewTimer(s.opts.Poll)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// more gives the next bytes, io.EOF if there are none for now.
func (s *stream) more() ([]byte, error) {
	if !s.started {
		offset, err := s.begin()
		if err != nil {
			return nil, err
		}
		s.offset, s.started = offset, true
	}
	path := s.path
	if s.rotated {
		path += ".1"
	}
	data, size, err := s.client.Read(s.ctx, s.url, path, s.offset, chunk)
	switch {
	case s.rotated && (errors.Is(err, ErrNotFound) || err == nil && len(data) == 0):
		s.rotated, s.offset = false, 0
		return s.more()
	case err != nil:
		return nil, err
	}
	s.missing = 0
	switch {
	case len(data) > 0:
		s.offset += int64(len(data))
		return data, nil
	case size < s.offset && !s.rotated:
		s.rotated = true
		return s.more()
	}
	return nil, io.EOF
}

// begin finds the offset that the options ask for.
func (s *stream) begin() (int64, error) {
	_, size, err := s.client.Read(s.ctx, s.url, s.path, 0, 0)
	if err != nil {
		return 0, err
	}
	var offset int64
	if n := s.opts.TailBytes; n > 0 {
		offset = max(0, size-n)
	}
	if s.opts.TailLines <= 0 {
		return offset, nil
	}
	lines := s.opts.TailLines
	for end := size; end > offset && size-end < maxTail; {
		from := max(offset, end-chunk)
		data, err := s.exactly(from, end-from)
		if err != nil {
			return 0, err
		}
		if end == size && bytes.HasSuffix(data, []byte("\n")) {
			lines++ // the last newline ends the last line, it does not begin another
		}
		for i := len(data) - 1; i >= 0; i-- {
			if data[i] == '\n' {
				if lines--; lines == 0 {
					return from + int64(i) + 1, nil
				}
			}
		}
		end = from
	}
	return max(offset, size-maxTail), nil
}

// exactly reads n bytes, less only if the file has become shorter.
func (s *stream) exactly(offset, n int64) ([]byte, error) {
	var out []byte
	for int64(len(out)) < n {
		data, _, err := s.client.Read(s.ctx, s.url, s.path, offset+int64(len(out)), n-int64(len(out)))
		if err != nil {
			return nil, err
		}
		if len(data) == 0 {
			break
		}
		out = append(out, data...)
	}
	return out, nil
}
