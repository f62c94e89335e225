package executor

import (
	"context"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Times for what is asked of the keeper of containers.
const (
	keeperTime = time.Minute
	// findRetry is the pause before the containers of this host are asked for again; it doubles up to lastRetry.
	findRetry = time.Second
	lastRetry = time.Minute
)

// containers are those that are there beside those of the instances.
type containers struct {
	// found exist: an earlier executor made them, or we could not remove them. known: the keeper has told.
	found map[string]bool
	known bool
	// discards that the end waits for.
	discards int
	keepAt   time.Time
}

// orphans are the containers without a task.
func (e *Executor) orphans() []string {
	var out []string
	for _, c := range slices.Sorted(maps.Keys(e.found)) {
		if e.holder(c) == nil {
			out = append(out, c)
		}
	}
	return out
}

// knows tells whether it is known which containers there are.
func (e *Executor) knows() bool { return e.known || e.Containers == nil }

func (e *Executor) present(container string) {
	if e.found == nil {
		e.found = map[string]bool{}
	}
	e.found[container] = true
}

func (e *Executor) orphaned(now time.Time, container string) {
	e.present(container)
	e.tell(now)
}

func (e *Executor) gone(container string) { delete(e.found, container) }

// find asks which containers there are, until there is an answer.
func (e *Executor) find() {
	if e.Containers == nil {
		return
	}
	go func() {
		for pause := findRetry; ; pause = min(2*pause, lastRetry) {
			ctx, cancel := context.WithTimeout(e.background, keeperTime)
			found, err := e.Containers.Found(ctx)
			cancel()
			if err == nil {
				e.post(func(now time.Time) { e.foundContainers(now, found) })
				return
			}
			e.Log.Error("the containers of this host are not known; asking again", zap.Error(err))
			if !sleep(e.background, pause) {
				return
			}
		}
	}()
}

func (e *Executor) foundContainers(now time.Time, found []string) {
	for _, c := range found {
		if !instance.ValidName(c) {
			e.Log.Warn("a container has a name that no task can have had; it is left alone", zap.String("container", c))
			continue
		}
		if !e.ended.has(c) { // it may have ended since the keeper looked
			e.present(c)
		}
	}
	e.known, e.keepAt, e.surplusAt = true, now.Add(firstKeep), now.Add(firstKeep)
	if e.held != 0 && !e.applying {
		e.generation, e.held = e.held, 0
	}
	if e.heard {
		e.relay(now)
	}
	e.auditBy(now)
	e.settle(now)
	if o := e.orphans(); len(o) > 0 {
		e.Log.Info("containers run without a task", zap.Strings("containers", o))
	}
	e.tell(now)
	if e.course == ending {
		for _, c := range e.orphans() {
			e.discardAtEnd(c)
		}
	}
}

// discardAtEnd removes an orphan while the executor ends.
func (e *Executor) discardAtEnd(container string) {
	e.discards++
	host := e.Host
	go func() {
		err := e.discard(host, container)
		if err != nil {
			e.Log.Error("a container without a task could not be removed", zap.String("container", container), zap.Error(err))
		}
		e.post(func(time.Time) { e.discards-- })
	}()
}

// discard removes a container and what it has on the host. Its addresses are silent before anything else happens.
func (e *Executor) discard(host instance.Host, container string) error {
	dir := instance.Directory(host.State, container)
	if l, err := readLaunch(dir); err == nil {
		p, f := instance.Recall(container, l, host)
		if f == nil {
			if err := e.Network.Detach(-1, p.Wanted); err != nil {
				return err
			}
		}
	} else {
		e.Log.Warn("it is not known which network a container had; its links go with it", zap.String("container", container), zap.Error(err))
	}
	if err := e.remove(container); err != nil {
		return err
	}
	e.freed(dir)
	return nil
}

// remove ends and removes whatever there is of a container.
func (e *Executor) remove(container string) error {
	if e.Containers == nil {
		return &runtime.StartError{Reason: padisv1.ReasonRuntimeUnavailable, Message: e.NoContainers}
	}
	ctx, cancel := context.WithTimeout(e.background, keeperTime)
	defer cancel()
	return e.Containers.Discard(ctx, container)
}

// sleep tells whether the time passed before the end of ctx.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
