package master

import (
	"io"
	"sync"
	"time"
)

// watched is the body of a stream that must not be silent. Only the time spent waiting for bytes counts: a slow
// handler is no fault of the master, and a large event that arrives slowly is not silence.
type watched struct {
	body   io.ReadCloser
	silent func()

	mu    sync.Mutex
	limit time.Duration
}

func watch(body io.ReadCloser, limit time.Duration, silent func()) *watched {
	return &watched{body: body, limit: limit, silent: silent}
}

// allow changes the limit from the next read on.
func (w *watched) allow(limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limit = limit
}

func (w *watched) Read(p []byte) (int, error) {
	w.mu.Lock()
	limit := w.limit
	w.mu.Unlock()
	defer time.AfterFunc(limit, w.silent).Stop()
	return w.body.Read(p)
}

func (w *watched) Close() error { return w.body.Close() }
