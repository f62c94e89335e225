package server

import (
	"context"
	"io"
	"strings"
	"sync"

	"padis.io/padis/api/server/live"
)

// scriptedLogs answers with what it was asked for, so that tests see that the question arrived.
type scriptedLogs struct {
	mu    sync.Mutex
	asked []live.LogOptions
}

func (s *scriptedLogs) Log(_ context.Context, namespace, name string, o live.LogOptions) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, o)
	return io.NopCloser(strings.NewReader(namespace + "/" + name + " " + o.Stream + "\n")), nil
}
