package containerd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/signals"
)

const (
	// exitSignal and the number of a signal is the exit code of who ended by it.
	exitSignal = 128
	retryMin   = 10 * time.Millisecond
	retryMax   = time.Second
)

func (i *instance) askedFile() string { return filepath.Join(i.dir, "asked") }
func (i *instance) exitFile() string  { return filepath.Join(i.dir, "exit.json") }

// reap waits for the end of the container, and makes it known.
func (i *instance) reap() {
	i.awaitEnd()
	if exit, ok := i.conclude(); ok {
		i.exit = exit
		close(i.ended)
	}
}

// awaitEnd returns when the first process has ended. It costs no thread.
func (i *instance) awaitEnd() {
	if i.pidfd == nil {
		return
	}
	ended := func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR
	}
	conn, err := i.pidfd.SyscallConn()
	if err == nil {
		err = conn.Read(ended)
	}
	if err != nil {
		// The runtime cannot wait for it: wait with a thread.
		for {
			if _, err := unix.Poll([]unix.PollFd{{Fd: int32(i.pidfd.Fd()), Events: unix.POLLIN}}, -1); err != unix.EINTR {
				return
			}
		}
	}
}

// conclude learns how the first process ended, notes it, and has containerd forget the task. It gives up only when the
// runtime is closed: then another executor concludes.
func (i *instance) conclude() (exit runtime.Exit, ok bool) {
	ok = i.r.insist("learn how an instance ended", i.id, func(ctx context.Context) (err error) {
		exit, err = i.status(ctx)
		return err
	})
	if !ok {
		return exit, false
	}
	exit.OOMKilled = exit.OOMKilled || oomKills(i.cgroup) > 0
	if err := i.writeExit(exit); err != nil {
		i.r.log.Warn("the end of an instance could not be noted; if the executor ends now, nobody learns it", zap.String("instance", i.id), zap.Error(err))
	}
	ok = i.r.insist("delete the task of an instance", i.id, func(ctx context.Context) error {
		i.starting.Lock()
		_, err := i.r.tasks.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: i.name})
		i.starting.Unlock()
		if err = native(err); errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
	return exit, ok
}

// status is how the first process, which has ended, did so.
func (i *instance) status(ctx context.Context) (runtime.Exit, error) {
	answer, err := i.r.tasks.Wait(ctx, &tasks.WaitRequest{ContainerID: i.name})
	switch err = native(err); {
	case err == nil:
		return i.exitOf(answer.ExitStatus), nil
	case !errdefs.IsNotFound(err):
		return runtime.Exit{}, err
	}
	// Somebody else had the task deleted: another executor, or containerd itself when the shim was killed.
	if known, ok := i.readExit(); ok {
		return known, nil
	}
	return i.exitOf(exitSignal + uint32(unix.SIGKILL)), nil
}

// insist repeats a request until it succeeds: containerd may be away for a while, and a container that has ended stays
// as it is until containerd is back. It is false when the runtime was closed.
func (r *Runtime) insist(doing, id string, f func(context.Context) error) bool {
	said := false
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		err := f(ctx)
		cancel()
		if err == nil {
			return true
		}
		if pause == retryMax && !said {
			said = true
			r.log.Warn("containerd does not do what it is asked for; it is asked again", zap.String("doing", doing), zap.String("instance", id), zap.Error(err))
		}
		select {
		case <-r.closed:
			return false
		case <-time.After(pause):
		}
	}
}

// exitOf says what the status of the shim means.
func (i *instance) exitOf(status uint32) runtime.Exit {
	i.mu.Lock()
	asked := i.asked
	i.mu.Unlock()
	return exitOf(status, i.withInit(), asked)
}

func exitOf(status uint32, init bool, asked string) runtime.Exit {
	e := runtime.Exit{Code: int(status)}
	n := int(status) - exitSignal
	if n > 0 && (init || signals.EndsFirst(n)) {
		e.Signal = unix.SignalName(unix.Signal(n))
	}
	if e.Signal == "SIGKILL" && asked != "" {
		e.Signal, e.Code = asked, exitSignal+int(unix.SignalNum(asked))
	}
	return e
}

// exitOfCommand is exitOf for what is not PID 1.
func exitOfCommand(status uint32) runtime.Exit { return exitOf(status, true, "") }

// note is exit.json.
type note struct {
	Code      int    `json:"code"`
	Signal    string `json:"signal,omitempty"`
	OOMKilled bool   `json:"oomKilled,omitempty"`
}

// writeExit notes the exit so that it is there whole, or not at all, even if the host loses power.
func (i *instance) writeExit(e runtime.Exit) error {
	b, err := json.Marshal(note(e))
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(i.dir, ".exit")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), i.exitFile())
	}
	return err
}

func (i *instance) readExit() (runtime.Exit, bool) {
	b, err := os.ReadFile(i.exitFile())
	if err != nil {
		return runtime.Exit{}, false
	}
	return parseExit(b)
}

func parseExit(b []byte) (runtime.Exit, bool) {
	var n note
	if json.Unmarshal(b, &n) != nil {
		return runtime.Exit{}, false
	}
	return runtime.Exit(n), true
}

// readAsked finds out what an earlier executor noted in Stop.
func (i *instance) readAsked() {
	b, err := os.ReadFile(i.askedFile())
	if err != nil {
		return
	}
	if name := strings.TrimSpace(string(b)); unix.SignalNum(name) != 0 {
		i.mu.Lock()
		i.asked = name
		i.mu.Unlock()
	}
}

// state of the first process of a container, asked for until containerd answers or ctx ends. The error may be NotFound.
func (r *Runtime) state(ctx context.Context, name string) (*task.Process, error) {
	for {
		answer, err := r.tasks.Get(ctx, &tasks.GetRequest{ContainerID: name})
		if err = native(err); err == nil {
			return answer.Process, nil
		}
		if !errdefs.IsUnavailable(err) || ctx.Err() != nil {
			return nil, fmt.Errorf("state of the task: %w", err)
		}
	}
}
