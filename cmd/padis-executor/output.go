package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"padis.io/padis/executor/logs"
	"padis.io/padis/proto/padis/stream"
)

// output reads what is kept of instances' output.
type output struct{}

// allStreams asks for stdout and stderr together.
const allStreams = "all"

// Read implements access.Logs. The stream itself knows its end.
func (output) Read(ctx context.Context, dir string, r stream.LogRequest, _ <-chan struct{}) (io.ReadCloser, error) {
	o := logs.ReadOptions{Follow: r.Follow, LimitBytes: max(r.LimitBytes, 0)}
	if r.TailLines >= 0 {
		o.TailLines = &r.TailLines
	}
	if r.SinceMS > 0 {
		o.Since = time.UnixMilli(r.SinceMS)
	}
	if r.Stream != allStreams {
		return logs.Read(ctx, dir, r.Stream, o)
	}
	o.LimitBytes = 0
	var sources []io.ReadCloser
	for _, name := range []string{"stdout", "stderr"} {
		source, err := logs.Read(ctx, dir, name, o)
		if errors.Is(err, fs.ErrNotExist) && name == "stderr" && len(sources) > 0 {
			break
		}
		if err != nil {
			for _, s := range sources {
				_ = s.Close()
			}
			return nil, err
		}
		sources = append(sources, source)
	}
	return merge(sources, r.LimitBytes), nil
}

// merged is several streams as one, line by line.
type merged struct {
	io.Reader
	pipe    *io.PipeReader
	sources []io.ReadCloser
}

// merge reads all sources at the same time; of each no more than a line and a buffer ahead of the reader.
func merge(sources []io.ReadCloser, limit int64) io.ReadCloser {
	out, in := io.Pipe()
	m := &merged{Reader: out, pipe: out, sources: sources}
	if limit > 0 {
		m.Reader = io.LimitReader(out, limit)
	}
	var line sync.Mutex
	var all sync.WaitGroup
	for _, s := range sources {
		all.Go(func() {
			lines := bufio.NewReader(s)
			for {
				text, err := lines.ReadSlice('\n')
				if len(text) > 0 {
					line.Lock()
					_, failed := in.Write(text)
					line.Unlock()
					if failed != nil {
						return
					}
				}
				// A line longer than the buffer comes in pieces.
				if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
					if !errors.Is(err, io.EOF) {
						_ = in.CloseWithError(err)
					}
					return
				}
			}
		})
	}
	go func() {
		all.Wait()
		_ = in.Close()
	}()
	return m
}

func (m *merged) Close() error {
	err := m.pipe.Close()
	for _, s := range m.sources {
		err = errors.Join(err, s.Close())
	}
	return err
}
