package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Found implements runtime.Keeper.
func (r *Runtime) Found(ctx context.Context) ([]string, error) {
	all, err := r.containers.List(ctx, "labels."+strconv.Quote(ownerLabel)+"=="+strconv.Quote(r.config.Owner))
	if err != nil {
		return nil, fmt.Errorf("list the containers: %w", err)
	}
	ids := make([]string, 0, len(all))
	for _, c := range all {
		if id := c.Labels[idLabel]; id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Adopt implements runtime.Keeper.
func (r *Runtime) Adopt(ctx context.Context, id string) (runtime.Instance, error) {
	i, err := r.adopt(ctx, id)
	if err != nil {
		return nil, failure("adopt instance "+id, err)
	}
	return i, nil
}

func gone(id, why string) error {
	return refuse(padisv1.ReasonContainerGone, "the container of instance %s is gone: %s", id, why)
}

func (r *Runtime) adopt(ctx context.Context, id string) (*instance, error) {
	name := r.name(id)
	record, err := r.containers.Get(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil, gone(id, "containerd knows of none")
	}
	if err != nil {
		return nil, err
	}
	var spec specs.Spec
	if err := typeurl.UnmarshalTo(record.Spec, &spec); err != nil || spec.Process == nil {
		return nil, fmt.Errorf("read its OCI spec: %w", errors.Join(err, errors.New("it says nothing of a process")))
	}
	i := newInstance(r, id, name, record.Labels[dirLabel], &spec)
	i.readAsked()
	p, err := r.state(ctx, name)
	if errdefs.IsNotFound(err) {
		exit, ok := i.readExit()
		if !ok {
			return nil, gone(id, "its processes ended without a word, as when the host starts anew")
		}
		i.exit = exit
		close(i.ended)
		return i, nil
	}
	if err != nil {
		return nil, err
	}
	switch p.Status {
	case task.Status_CREATED:
		return nil, gone(id, "it was made, but never started")
	case task.Status_STOPPED:
	default:
		if err := i.attachRunning(ctx, int(p.Pid)); err != nil {
			return nil, err
		}
		i.endCommands(ctx)
	}
	go i.reap()
	return i, nil
}

// attachRunning attaches to a process that containerd said to run, unless it has ended meanwhile: then nothing is attached.
func (i *instance) attachRunning(ctx context.Context, pid int) error {
	err := i.attach(pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := i.r.state(ctx, i.name)
	if err == nil && now.Status != task.Status_STOPPED {
		return nil // still the same process, so what was opened is not a stranger's
	}
	_, _ = i.pidfd.Close(), i.netns.Close()
	i.pid, i.pidfd, i.netns = 0, nil, nil
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

// endCommands ends what the earlier executor ran beside the program: nobody hears it any more.
func (i *instance) endCommands(ctx context.Context) {
	answer, err := i.r.tasks.ListPids(ctx, &tasks.ListPidsRequest{ContainerID: i.name})
	if err != nil {
		return // they stay, which harms little
	}
	for _, p := range answer.Processes {
		var details options.ProcessDetails
		if p.Info == nil || typeurl.UnmarshalTo(p.Info, &details) != nil || details.ExecID == "" {
			continue
		}
		_, _ = i.r.tasks.Kill(ctx, &tasks.KillRequest{ContainerID: i.name, ExecID: details.ExecID, Signal: uint32(unix.SIGKILL)})
	}
	_ = os.RemoveAll(i.commandDir())
}

// Discard implements runtime.Keeper.
func (r *Runtime) Discard(ctx context.Context, id string) error {
	if err := r.discard(ctx, r.name(id)); err != nil {
		return fmt.Errorf("discard instance %s: %w", id, err)
	}
	return nil
}

func (r *Runtime) discard(ctx context.Context, name string) error {
	if err := r.end(ctx, name); err != nil {
		return err
	}
	return r.remove(ctx, name)
}

// end kills the processes of a container and deletes its task. That there is none is no error. Whoever else waits for the
// same container deletes the task, too, and then requests under way fail in many ways: so they are repeated.
func (r *Runtime) end(ctx context.Context, name string) error {
	const attempts = 10
	var err error
	pause := retryMin
	for range attempts {
		if err = r.tryEnd(ctx, name); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(pause)
		pause = min(2*pause, retryMax)
	}
	return err
}

func (r *Runtime) tryEnd(ctx context.Context, name string) error {
	p, err := r.state(ctx, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.Status != task.Status_STOPPED {
		if _, err := r.tasks.Kill(ctx, &tasks.KillRequest{ContainerID: name, Signal: uint32(unix.SIGKILL), All: true}); err != nil && !errdefs.IsNotFound(native(err)) {
			return fmt.Errorf("kill: %w", native(err))
		}
		if _, err := r.tasks.Wait(ctx, &tasks.WaitRequest{ContainerID: name}); err != nil && !errdefs.IsNotFound(native(err)) {
			return fmt.Errorf("wait for the end: %w", native(err))
		}
	}
	if _, err := r.tasks.Delete(ctx, &tasks.DeleteTaskRequest{ContainerID: name}); err != nil && !errdefs.IsNotFound(native(err)) {
		return fmt.Errorf("delete the task: %w", native(err))
	}
	return nil
}

// remove deletes the file system and the record of a container without a task.
func (r *Runtime) remove(ctx context.Context, name string) error {
	again := func(f func() error) error {
		for {
			err := f()
			if err == nil || errdefs.IsNotFound(err) {
				return nil
			}
			if !errdefs.IsUnavailable(err) || ctx.Err() != nil {
				return err
			}
			time.Sleep(retryMin)
		}
	}
	if err := again(func() error { return r.unbound(ctx, name) }); err != nil {
		return fmt.Errorf("look at the file system: %w", err)
	}
	if err := again(func() error { return r.snapshots.Remove(ctx, name) }); err != nil {
		return fmt.Errorf("remove the file system: %w", err)
	}
	r.littered()
	return again(func() error { return r.containers.Delete(ctx, name) })
}
