package executor

import (
	"context"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/usage"
)

// drainLook is how often it is looked whether somebody still has a connection to an instance that is out of rotation.
const drainLook = 250 * time.Millisecond

// linger waits until no client has a connection that came by a load balancer. Not before directors had time to hear that
// they shall send no more; and whoever receives datagrams may have clients that nobody sees, and gets a little longer.
func (l *life) linger(ctx context.Context) {
	look := time.NewTicker(drainLook)
	defer look.Stop()
	began, failed := time.Now(), false
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		case <-l.ended:
			return
		}
		c, err := l.executor.Clients(l.instance.PID(), l.virtual())
		if err != nil {
			if !failed {
				l.executor.Log.Warn("nobody knows who still has a connection; it has all of its drain time", zap.String("task", l.plan.TaskID), zap.Error(err))
			}
			failed = true
			continue
		}
		if drained(time.Since(began), c) {
			l.post(instance.Drained{})
			return
		}
	}
}

func drained(since time.Duration, c usage.Clients) bool {
	least := instance.LeastDrain
	if c.Datagrams {
		least = instance.UnseenDrain
	}
	return c.Connections == 0 && since >= least
}

// virtual are the addresses by which load balancers send clients.
func (l *life) virtual() []netip.Addr {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	return l.wire.wanted.Loopback
}

// drainTime is how long it keeps its connections, as was said last.
func (l *life) drainTime() time.Duration {
	l.wire.mu.Lock()
	defer l.wire.mu.Unlock()
	return instance.Drain(l.wire.launch(l.plan.Launch))
}
