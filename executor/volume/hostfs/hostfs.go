// Package hostfs makes the volumes of instances on the host, and takes them away. Edge: talks to mount(2) and the file system.
//
// Whatever is mounted for an instance is mounted below its directory, so that an executor that did not make it finds it
// there. A container that runs keeps what it sees: its own mount namespace holds it.
package hostfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/volume"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Config of a Host.
type Config struct {
	// State is the directory of all instances of the host. Logs of addresses are kept below it.
	State string
	// HostPaths are the directories that hostPath volumes may show; none: every path but / and those that show State.
	HostPaths []string
	// Namespace finds the mount namespace in which whoever starts containers lives, as a path: /proc/PID/ns/mnt. Mounts
	// made elsewhere would be invisible to it. It is asked each time, for the process may be another; while it cannot
	// tell, the last answer holds. Nil is the executor's own namespace.
	Namespace func() (string, error)
	// MountNFS is the program that mounts NFS; if empty, mount.nfs of the host, or else mount(8) and the kernel alone.
	MountNFS string
	// NFSTimeout is how long a server, or a path of the host, may take; 10 seconds if not positive.
	NFSTimeout time.Duration
	Log        *zap.Logger
}

// Host makes volumes on one host. Its methods may be called at the same time for different directories.
type Host struct {
	Config

	mu sync.Mutex
	// entered is the last mount namespace that was found; open, so that it stays.
	entered *os.File
}

// New needs nothing of the host yet.
func New(c Config) *Host {
	if c.NFSTimeout <= 0 {
		c.NFSTimeout = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return &Host{Config: c}
}

// Prepare makes the volumes of an instance that is to be started, below its directory, which exists. After an error
// nothing is left of them. Its errors are *runtime.StartError.
func (h *Host) Prepare(ctx context.Context, dir string, l *padisv1.Launch) (mounts []runtime.Mount, err error) {
	plan, failure := volume.Make(dir, h.State, l)
	if failure != nil {
		return nil, startError(failure)
	}
	if len(plan.Volumes) == 0 {
		return nil, nil
	}
	if err := h.resolveAll(ctx, plan); err != nil {
		return nil, asStartError(err)
	}
	err = h.inNamespace(func() error {
		if err := os.Mkdir(volume.Dir(dir), 0o700); err != nil {
			return failed("prepare volumes, which must not be there already", err)
		}
		for _, v := range plan.Volumes {
			m, err := h.make(ctx, v, plan.Owner)
			if err != nil {
				return errors.Join(err, release(dir))
			}
			mounts = append(mounts, m)
		}
		return nil
	})
	if err != nil {
		return nil, asStartError(err)
	}
	return mounts, nil
}

// Update writes what ConfigMaps and Secrets contain now, for those volumes of a running instance that follow them, and
// returns the signals that its program is to get: none where nothing has changed. A volume that cannot follow is in the
// error; the others have followed nevertheless.
func (h *Host) Update(dir string, l *padisv1.Launch, configs []*padisv1.ConfigData) (signals []string, err error) {
	plan, failures := volume.Changed(dir, l, configs)
	var errs []error
	for _, f := range failures {
		errs = append(errs, startError(f))
	}
	if len(plan.Volumes) > 0 {
		errs = append(errs, h.inNamespace(func() error {
			var errs []error
			for _, v := range plan.Volumes {
				done, err := update(v, plan.Owner)
				errs = append(errs, err)
				if done && v.Config.Signal != "" {
					signals = append(signals, v.Config.Signal)
				}
			}
			return errors.Join(errs...)
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return unique(signals), asStartError(err)
	}
	return unique(signals), nil
}

// Release takes away what Prepare made for the instance with that directory, by whichever executor. That there is
// nothing is no error. Files that other containers, hosts or people own are not touched.
func (h *Host) Release(dir string) error {
	return h.inNamespace(func() error { return release(dir) })
}

func release(dir string) error {
	// mountinfo knows real paths only.
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("release volumes: %w", err)
	}
	if err := unmountBelow(volume.Dir(real)); err != nil {
		return err
	}
	giveBack(volume.Dir(real))
	if err := os.RemoveAll(volume.Dir(real)); err != nil {
		return fmt.Errorf("release volumes: %w", err)
	}
	return nil
}

// make one volume. The owner of the instance is the owner of what it may write to.
func (h *Host) make(ctx context.Context, v volume.Volume, who volume.Owner) (runtime.Mount, error) {
	var err error
	switch v.Kind {
	case volume.Host: // resolved already
	case volume.Disk:
		err = h.disk(v, who)
	case volume.Memory:
		return runtime.Mount{Target: v.Target, Type: "tmpfs", Options: memoryOptions(v)}, nil
	case volume.NFS:
		err = h.nfs(ctx, v)
	case volume.Files:
		err = files(v, who)
	case volume.Logs:
		err = logs(v, who)
	default:
		err = &runtime.StartError{Reason: padisv1.ReasonVolumeFailed, Message: fmt.Sprintf("volume %s: this executor cannot make %s", v.Name, v.Kind)}
	}
	return runtime.Mount{Source: v.Path, Target: v.Target, Type: "bind", Options: bindOptions(v)}, err
}

func bindOptions(v volume.Volume) []string {
	options := []string{"rbind", "rprivate", "rw"}
	if v.ReadOnly {
		options[2] = "ro"
	}
	if v.Kind != volume.Host {
		options = append(options, "nosuid", "nodev")
	}
	return options
}

func memoryOptions(v volume.Volume) []string {
	options := []string{"nosuid", "nodev", "mode=1777"}
	if v.Size > 0 {
		options = append(options, fmt.Sprintf("size=%d", v.Size))
	}
	if v.ReadOnly {
		options = append(options, "ro")
	}
	return options
}

// resolveAll puts into a plan where the paths of the host lead. They may lie on a server that is down, where whoever asks
// waits for as long as it is: then the question is left behind.
func (h *Host) resolveAll(ctx context.Context, p volume.Plan) error {
	ctx, cancel := context.WithTimeout(ctx, h.NFSTimeout)
	defer cancel()
	for n, v := range p.Volumes {
		if v.Kind != volume.Host {
			continue
		}
		type answer struct {
			path string
			err  error
		}
		answered := make(chan answer, 1)
		go func() {
			var a answer
			a.err = h.inNamespace(func() (err error) {
				a.path, err = h.resolve(v)
				return err
			})
			answered <- a
		}()
		select {
		case a := <-answered:
			if a.err != nil {
				return a.err
			}
			p.Volumes[n].Path = a.path
		case <-ctx.Done():
			return &runtime.StartError{Reason: padisv1.ReasonVolumeFailed, Message: fmt.Sprintf("volume %s: %s does not answer; if it lies on a server, is that up and reachable from this host?", v.Name, v.Path)}
		}
	}
	return nil
}

// resolve follows the symbolic links of a path of the host, and judges where they lead.
func (h *Host) resolve(v volume.Volume) (string, error) {
	real, err := filepath.EvalSymlinks(v.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", &runtime.StartError{Reason: padisv1.ReasonVolumeFailed, Message: fmt.Sprintf("volume %s: this host has no %s; create it there, or constrain the App to hosts that have it", v.Name, v.Path)}
	}
	if err != nil {
		return "", failed("volume "+v.Name, err)
	}
	state, err := filepath.EvalSymlinks(h.State)
	if err != nil {
		return "", failed("volume "+v.Name, err)
	}
	var prefixes []string
	for _, p := range h.HostPaths {
		// One that is not there allows nothing, but is still worth naming.
		if r, err := filepath.EvalSymlinks(p); err == nil {
			p = r
		}
		prefixes = append(prefixes, p)
	}
	if f := volume.Allowed(v.Name, real, state, prefixes); f != nil {
		return "", startError(f)
	}
	return real, nil
}

// logs outlive the instance, and belong to whoever has the address now. Below a directory that only root can enter, it
// matters to nobody else on the host that all users of the container may write.
func logs(v volume.Volume, who volume.Owner) error {
	if err := os.MkdirAll(filepath.Dir(v.Path), 0o750); err != nil {
		return failed("volume "+v.Name, err)
	}
	if err := os.Mkdir(v.Path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return failed("volume "+v.Name, err)
	}
	if who.Known {
		return own(v, who, 0o755)
	}
	return own(v, who, 0o777|fs.ModeSticky)
}

func own(v volume.Volume, who volume.Owner, mode fs.FileMode) error {
	if err := os.Chown(v.Path, who.UID, who.GID); err != nil {
		return failed("volume "+v.Name, err)
	}
	if err := os.Chmod(v.Path, mode); err != nil {
		return failed("volume "+v.Name, err)
	}
	return nil
}

func startError(f *volume.Failure) error {
	return &runtime.StartError{Reason: f.Reason, Message: f.Message}
}

// failed is an error of the host.
func failed(what string, err error) error {
	reason, remedy := padisv1.ReasonVolumeFailed, ""
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		reason, remedy = padisv1.ReasonInsufficientSpace, "; free space on the host, or ask for less"
	}
	return &runtime.StartError{Reason: reason, Message: fmt.Sprintf("%s: %v%s", what, err, remedy)}
}

// asStartError keeps the reason of an error that already has one.
func asStartError(err error) error {
	var s *runtime.StartError
	if errors.As(err, &s) {
		return &runtime.StartError{Reason: s.Reason, Message: err.Error()}
	}
	return failed("volumes", err)
}

func unique(signals []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range signals {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
