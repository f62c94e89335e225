package webhooks

import (
	"context"
	"maps"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// gap is the least time between two fetches of a source that webhooks ask for.
const gap = time.Second

// joins has many calls for a source do with one fetch: the first is passed on at once, those of the next second together at
// its end. Nobody is answered before what he has asked for is passed on. Safe for concurrent use.
type joins struct {
	gap time.Duration
	now func() time.Time

	mu sync.Mutex
	by map[types.NamespacedName]*join
}

// join is what goes on with one source.
type join struct {
	last time.Time
	// next is what is passed on at the end of the gap; nil if nothing is.
	next *batch
}

type batch struct {
	done chan struct{}
	err  error
}

// do calls pass, or waits until somebody who came at the same time has called his.
func (j *joins) do(ctx context.Context, name types.NamespacedName, pass func() error) error {
	j.mu.Lock()
	now := j.now()
	maps.DeleteFunc(j.by, func(_ types.NamespacedName, o *join) bool { return o.next == nil && now.Sub(o.last) >= j.gap })
	one := j.by[name]
	if one == nil {
		if j.by == nil {
			j.by = map[types.NamespacedName]*join{}
		}
		j.by[name] = &join{last: now}
		j.mu.Unlock()
		return pass()
	}
	if one.next == nil {
		b := &batch{done: make(chan struct{})}
		one.next = b
		time.AfterFunc(one.last.Add(j.gap).Sub(now), func() {
			// Who comes from here on may know of a push that this pass is too early for.
			j.mu.Lock()
			one.next, one.last = nil, j.now()
			j.mu.Unlock()
			b.err = pass()
			close(b.done)
		})
	}
	b := one.next
	j.mu.Unlock()
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
