package containerd

import (
	"context"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"go.uber.org/zap"
)

// collectPause is how long removed file systems may wait for company.
const collectPause = 5 * time.Second

// collect has containerd free the space of removed file systems. Otherwise it would do so after a hundred changes, which
// on a quiet host may be never.
func (r *Runtime) collect() {
	for {
		select {
		case <-r.closed:
			return
		case <-r.garbage:
		}
		select {
		case <-r.closed:
			return
		case <-time.After(collectPause):
		}
		if err := r.collectNow(context.Background()); err != nil {
			r.log.Warn("containerd does not free the space of removed containers now; it will some time", zap.Error(err))
		}
	}
}

// collectNow returns when the space is free: a lease's deletion can be asked to wait for that.
func (r *Runtime) collectNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	manager := r.client.LeasesService()
	l, err := manager.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseTime))
	if err != nil {
		return err
	}
	return manager.Delete(ctx, l, leases.SynchronousDelete)
}

// littered says that a file system was removed.
func (r *Runtime) littered() {
	select {
	case r.garbage <- struct{}{}:
	default:
	}
}
