package containerd

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"go.uber.org/zap"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/volume/hostfs"
	"padis.io/padis/executor/volume/quota"
)

// bound bounds what a container writes to its root file system, which is not mounted yet, where the file system below can.
func (r *Runtime) bound(s runtime.Spec, name string, mounts []mount.Mount) error {
	bytes := s.Container.Limits.DiskBytes
	if bytes <= 0 {
		return nil
	}
	dirs, err := r.writable(mounts)
	if err == nil {
		err = quota.Limit(name, bytes, dirs...)
	}
	var cannot *quota.Unsupported
	if errors.As(err, &cannot) {
		r.unbounded.Do(func() {
			r.log.Warn("resources.disk is not enforced on this host: containers can fill the disk that containerd has its data on", zap.String("reason", cannot.Why))
		})
		return nil
	}
	if err != nil {
		return fmt.Errorf("bound the root file system to %d bytes: %w", bytes, err)
	}
	return nil
}

// unbound takes the bounds of a container that has ended away, and gives its place among those of the file system back.
func (r *Runtime) unbound(ctx context.Context, name string) error {
	mounts, err := r.snapshots.Mounts(ctx, name)
	if err != nil {
		return err
	}
	dirs, err := r.writable(mounts)
	if err == nil {
		err = quota.Release(dirs[0])
	}
	var cannot *quota.Unsupported
	if err != nil && !errors.As(err, &cannot) && !errdefs.IsNotFound(err) {
		// It holds a number of many.
		r.log.Warn("the disk quota of a container that has ended could not be removed", zap.String("container", name), zap.Error(err))
	}
	return nil
}

// writable are the directories in which an overlay keeps what is written to it, as this process sees them: containerd's
// mounts may be others than ours.
func (r *Runtime) writable(mounts []mount.Mount) ([]string, error) {
	if len(mounts) != 1 || mounts[0].Type != "overlay" {
		return nil, &quota.Unsupported{Why: "containerd keeps file systems with the snapshotter " + r.config.Snapshotter + ": only overlayfs can be bounded"}
	}
	var upper, work string
	for _, o := range mounts[0].Options {
		if v, ok := strings.CutPrefix(o, "upperdir="); ok {
			upper = v
		} else if v, ok := strings.CutPrefix(o, "workdir="); ok {
			work = v
		}
	}
	if upper == "" || work == "" {
		return nil, &quota.Unsupported{Why: "the overlay has no directory to be written to"}
	}
	namespace, err := hostfs.NamespaceOf(r.config.Address)
	if err != nil {
		return nil, &quota.Unsupported{Why: err.Error()}
	}
	// /proc/PID/ns/mnt and /proc/PID/root are of the same process.
	root := filepath.Join(filepath.Dir(filepath.Dir(namespace)), "root")
	return []string{filepath.Join(root, upper), filepath.Join(root, work)}, nil
}
