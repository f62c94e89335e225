package access

import (
	"io"
	"sync"

	"padis.io/padis/proto/padis/stream"
)

// inbox keeps what a command has still to read. Who puts into it never waits; the window bounds it.
type inbox struct {
	mu    sync.Mutex
	some  sync.Cond
	data  []byte
	ended bool
	taken func(n int)
}

// newInbox calls taken, without a lock, for what was read.
func newInbox(taken func(n int)) *inbox {
	i := &inbox{taken: taken}
	i.some.L = &i.mu
	return i
}

// put tells whether there was room. After the end, nothing is kept.
func (i *inbox) put(p []byte) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.data)+len(p) > stream.Window {
		return false
	}
	if !i.ended {
		i.data = append(i.data, p...)
		i.some.Signal()
	}
	return true
}

// end lets readers have the rest, and then the end.
func (i *inbox) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.some.Broadcast()
}

// Read implements io.Reader.
func (i *inbox) Read(p []byte) (int, error) {
	i.mu.Lock()
	for len(i.data) == 0 && !i.ended {
		i.some.Wait()
	}
	n := copy(p, i.data)
	i.data = i.data[n:]
	if len(i.data) == 0 {
		i.data = nil
	}
	i.mu.Unlock()
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	i.taken(n)
	return n, nil
}
