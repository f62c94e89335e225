package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Create implements runtime.Runtime. It costs containerd four requests: record, snapshot, task, and later the start.
func (r *Runtime) Create(s runtime.Spec) (runtime.Instance, error) {
	if s.Container == nil {
		return nil, refuse(padisv1.ReasonInvalidLaunch, "instance %s has no image; plain processes are run by another runtime", s.ID)
	}
	ctx, cancel := context.WithTimeout(context.Background(), createTime)
	defer cancel()
	i, err := r.create(ctx, s)
	if err != nil {
		return nil, failure("create "+r.describe(s), err)
	}
	return i, nil
}

func (r *Runtime) create(ctx context.Context, s runtime.Spec) (*instance, error) {
	img, err := r.image(ctx, s.Container.Image)
	if err != nil {
		return nil, err
	}
	name := r.name(s.ID)
	spec, err := r.spec(ctx, s, img, name)
	if err != nil {
		return nil, err
	}
	if err := r.record(ctx, s, name, spec); err != nil {
		return nil, err
	}
	i, err := r.task(ctx, s, name, img.chain, spec)
	if err != nil {
		// Whatever there is of it goes; what cannot be removed now is found by who asks for what there is.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTime)
		defer cancel()
		if gone := r.discard(clean, name); gone != nil {
			r.log.Warn("a container that was not created could not be removed", zap.String("instance", s.ID), zap.Error(gone))
		}
		return nil, err
	}
	return i, nil
}

func (r *Runtime) record(ctx context.Context, s runtime.Spec, name string, spec *specs.Spec) error {
	labels, err := r.labelsOf(s)
	if err != nil {
		return err
	}
	text, err := typeurl.MarshalAny(spec)
	if err != nil {
		return fmt.Errorf("encode the OCI spec: %w", err)
	}
	_, err = r.containers.Create(ctx, containers.Container{
		ID: name, Labels: labels, Image: s.Container.Image.Ref, Spec: text,
		Runtime: containers.RuntimeInfo{Name: runtimeName}, Snapshotter: r.config.Snapshotter, SnapshotKey: name,
	})
	if errdefs.IsAlreadyExists(err) {
		return refuse(padisv1.ReasonContainerFailed, "instance %s exists already; adopt or discard it", s.ID)
	}
	return err
}

// task makes the processes of a container whose record is there.
func (r *Runtime) task(ctx context.Context, s runtime.Spec, name, chain string, spec *specs.Spec) (*instance, error) {
	mounts, err := r.snapshots.Prepare(ctx, name, chain)
	if errdefs.IsNotFound(err) {
		return nil, fmt.Errorf("the image is not unpacked: %w; pull it again", err)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the file system: %w", err)
	}
	if err := r.bound(s, name, mounts); err != nil {
		return nil, err
	}
	pipes, err := openPipes(s.Dir)
	if err != nil {
		return nil, err
	}
	defer pipes.close()
	opts, err := typeurl.MarshalAnyToProto(&options.Options{BinaryName: r.config.RuntimeBinary, IoUid: spec.Process.User.UID, IoGid: spec.Process.User.GID})
	if err != nil {
		return nil, fmt.Errorf("encode the options of the OCI runtime: %w", err)
	}
	made, err := r.tasks.Create(ctx, &tasks.CreateTaskRequest{
		ContainerID: name, Rootfs: protoMounts(mounts), Stdout: pipePath(s.Dir, "stdout"), Stderr: pipePath(s.Dir, "stderr"), Options: opts,
	})
	if err != nil {
		return nil, native(err)
	}
	i := newInstance(r, s.ID, name, s.Dir, spec)
	if err := i.attach(int(made.Pid)); err != nil {
		return nil, err
	}
	go i.reap()
	return i, nil
}

func protoMounts(from []mount.Mount) []*types.Mount {
	all := make([]*types.Mount, len(from))
	for n, m := range from {
		all[n] = &types.Mount{Type: m.Type, Source: m.Source, Target: m.Target, Options: m.Options}
	}
	return all
}

func pipePath(dir, name string) string { return filepath.Join(dir, "io", name) }

// pipes are both ends of the named pipes of a container, open for as long as its shim opens them: the shim would wait
// for a reader.
type pipes []*os.File

func openPipes(dir string) (pipes, error) {
	var all pipes
	for _, name := range []string{"stdout", "stderr"} {
		f, err := os.OpenFile(pipePath(dir, name), os.O_RDWR|unix.O_NONBLOCK, 0)
		if err == nil {
			all = append(all, f)
			var info os.FileInfo
			if info, err = f.Stat(); err == nil && info.Mode()&os.ModeNamedPipe == 0 {
				err = errors.New(f.Name() + " is no named pipe")
			}
		}
		if err != nil {
			all.close()
			return nil, fmt.Errorf("open the pipes of the output: %w", err)
		}
	}
	return all, nil
}

func (p pipes) close() {
	for _, f := range p {
		_ = f.Close()
	}
}
