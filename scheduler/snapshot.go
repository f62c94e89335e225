package scheduler

import (
	"context"

	"padis.io/padis/scheduler/core"
)

// Snapshot gives all that the core knows between two turns, durable all of it, in the one order that equal snapshots have.
// The loop only collects pointers, which takes it about two milliseconds of CPU time for five thousand instances; its
// records must not be changed.
func (l *Loop) Snapshot(ctx context.Context) (core.Snapshot, error) {
	var s core.Snapshot
	err := l.request(ctx, request{look: func(c *core.Core) { s = c.Snapshot() }, done: make(chan error, 1)})
	if err != nil {
		return core.Snapshot{}, err
	}
	s.Sort()
	return s, nil
}
