package hostfs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/volume"
	"padis.io/padis/executor/volume/quota"
)

// unmountBelow unmounts all that is mounted below a directory, and does not return without an error while there is any:
// what is then removed must be the instance's. What is in use goes when its users have gone.
func unmountBelow(dir string) error {
	for range 100 {
		// The thread may be in another mount namespace than the process.
		info, err := os.ReadFile("/proc/thread-self/mountinfo")
		if err != nil {
			return fmt.Errorf("find mounts below %s: %w", dir, err)
		}
		points := volume.MountPoints(string(info), dir)
		if len(points) == 0 {
			return nil
		}
		for _, p := range points {
			// EINVAL: it went together with one that it was mounted on.
			if err := unix.Unmount(p, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("unmount %s: %w", p, err)
			}
		}
	}
	return fmt.Errorf("there is still something mounted below %s", dir)
}

// disk makes an empty directory. Its size is bounded by a file system of its own, where the host can: a sparse file on a
// loop device; or else by a quota.
func (h *Host) disk(v volume.Volume, who volume.Owner) error {
	if err := os.Mkdir(v.Path, 0o700); err != nil {
		return failed("volume "+v.Name, err)
	}
	if v.Size > 0 {
		missing, err := missingForImages(), error(nil)
		if missing == "" {
			err = image(v, who)
		} else {
			err = h.limit(v, missing)
		}
		if err != nil {
			return err
		}
	}
	return own(v, who, 0o777)
}

// limit bounds a directory where there are no file systems in files.
func (h *Host) limit(v volume.Volume, missing string) error {
	err := quota.Limit(v.Path, v.Size, v.Path)
	var cannot *quota.Unsupported
	if errors.As(err, &cannot) {
		h.Log.Warn("size of a volume is not enforced", zap.String("volume", v.Name), zap.String("path", v.Path), zap.Int64("bytes", v.Size),
			zap.String("missing", missing), zap.String("quota", cannot.Why))
		return nil
	}
	if err != nil {
		return failed("volume "+v.Name, err)
	}
	return nil
}

// giveBack the quotas of the volumes in a directory. One that remains is a number of many that is not used again.
func giveBack(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			_ = quota.Release(filepath.Join(dir, e.Name()))
		}
	}
}

// missingForImages says what a host lacks for file systems in files; empty if nothing.
func missingForImages() string {
	if program(mkfs) == "" {
		return mkfs + " (package e2fsprogs)"
	}
	if _, err := os.Stat(loopControl); err != nil {
		return loopControl
	}
	return ""
}

// program finds a program of the host's administrator; the PATH of an executor may be a user's. Empty: there is none.
func program(name string) string {
	for _, p := range [...]string{name, "/usr/sbin/" + name, "/sbin/" + name} {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	return ""
}

const (
	mkfs        = "mkfs.ext4"
	loopControl = "/dev/loop-control"
)

// image mounts a new file system of the volume's size. No journal: it does not outlive the host's crash.
func image(v volume.Volume, who volume.Owner) error {
	wrap := func(err error) error {
		return failed(fmt.Sprintf("volume %s: make a file system of %d MiB", v.Name, v.Size>>20), err)
	}
	f, err := os.OpenFile(v.Image, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return wrap(err)
	}
	defer f.Close()
	if err := f.Truncate(v.Size); err != nil {
		return wrap(err)
	}
	out, err := exec.Command(program(mkfs), "-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard", v.Image).CombinedOutput()
	if err != nil {
		return wrap(errors.Join(full(v.Image), fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))))
	}
	device, err := attach(f)
	if err != nil {
		return wrap(err)
	}
	// The mount holds the device; when it goes, the device does.
	defer device.Close()
	if err := unix.Mount(device.Name(), v.Path, "ext4", unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return wrap(err)
	}
	// Some programs demand that their directory be empty.
	if err := os.Remove(v.Path + "/lost+found"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return wrap(err)
	}
	return nil
}

// full is ENOSPC if a file is on a file system that has no space left, which programs say in words only.
func full(path string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err == nil && s.Bavail == 0 {
		return unix.ENOSPC
	}
	return nil
}

// attach makes a file a block device, which the kernel frees when nobody uses it.
func attach(f *os.File) (*os.File, error) {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := &unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(device.Fd()), config); err == nil {
			return device, nil
		}
		device.Close()
		// Somebody else was given the same device.
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", device.Name(), err)
		}
	}
	return nil, fmt.Errorf("set up a loop device: all that were found free were taken by others: %w", unix.EBUSY)
}
