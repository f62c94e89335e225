package images

import (
	"context"
	"sync"
	"time"

	"padis.io/padis/executor/runtime"
)

// beat is how often callers hear of progress.
const beat = 200 * time.Millisecond

// flight is a download that any number of callers wait for. It is cancelled when the last one has left.
type flight struct {
	progress counter
	cancel   context.CancelFunc
	// callers is guarded by the store's lock.
	callers int

	done  chan struct{}
	image runtime.Image
	err   error
}

// join takes part in the flight of that key, or begins it. One that was cancelled still cleans up behind itself: it is
// waited for.
func (s *Store) join(ctx context.Context, key string, download func(context.Context, *counter) (runtime.Image, error)) (*flight, error) {
	for {
		s.mu.Lock()
		f, ok := s.flights[key]
		if !ok {
			f = s.takeOff(key, download)
		}
		dying := f.callers == 0 && ok
		if !dying {
			f.callers++
		}
		s.mu.Unlock()
		if !dying {
			return f, nil
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// takeOff begins a flight. The store is locked.
func (s *Store) takeOff(key string, download func(context.Context, *counter) (runtime.Image, error)) *flight {
	ctx, cancel := context.WithCancel(s.namespaced(context.Background()))
	f := &flight{cancel: cancel, done: make(chan struct{})}
	s.flights[key] = f
	go func() {
		defer cancel()
		f.image, f.err = download(ctx, &f.progress)
		s.mu.Lock()
		delete(s.flights, key)
		s.mu.Unlock()
		close(f.done)
	}()
	return f
}

// leave is called by every caller once. A flight that nobody waits for any more is cancelled.
func (s *Store) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.callers--
	if f.callers == 0 {
		f.cancel()
	}
}

// follow tells a caller how far it is until it is done.
func (s *Store) follow(ctx context.Context, n name, f *flight, progress func(done, total int64)) (runtime.Image, error) {
	defer s.leave(f)
	ticks := time.NewTicker(beat)
	defer ticks.Stop()
	var last [2]int64
	tell := func() {
		done, total := f.progress.read()
		if now := [2]int64{done, total}; progress != nil && now != last {
			last = now
			progress(done, total)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return runtime.Image{}, givenUp(n, ctx.Err())
		case <-ticks.C:
			tell()
		case <-f.done:
			if f.err == nil {
				tell()
			}
			return f.image, f.err
		}
	}
}

// counter counts the bytes of layers of one image.
type counter struct {
	mu     sync.Mutex
	layers map[string]*layerCount
}

type layerCount struct{ done, size int64 }

// expect makes a layer part of the whole.
func (c *counter) expect(digest string, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.layers == nil {
		c.layers = map[string]*layerCount{}
	}
	if c.layers[digest] == nil {
		c.layers[digest] = &layerCount{size: size}
	}
}

// at says how much of a layer is here. Less than before is a repeated request, and not told.
func (c *counter) at(digest string, done int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.layers[digest]; l != nil {
		l.done = min(max(l.done, done), l.size)
	}
}

// complete says that everything is here.
func (c *counter) complete() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.layers {
		l.done = l.size
	}
}

func (c *counter) read() (done, total int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.layers {
		done += l.done
		total += l.size
	}
	return done, total
}
