package hosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// TreeAttributes start the process that all embedded hosts live in: process 1 of a PID namespace, with a network and a
// mount namespace of its own, in a session of its own (so that a terminal's Ctrl-C reaches the caller only) and killed
// by the kernel when the calling thread ends: lock the goroutine to it. Without the needed capabilities a user
// namespace is added, in which the caller's user is root; that needs no entry in /etc/subuid.
func TreeAttributes() (*syscall.SysProcAttr, error) {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	privileged, err := privileged()
	if err != nil {
		return nil, err
	}
	if !privileged {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr, nil
}

// HostAttributes start one embedded host inside the tree.
func HostAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		Setsid:     true,
	}
}

// privileged says whether this process may make namespaces and interfaces without a user namespace.
func privileged() (bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	value, ok := statusField(string(status), "CapEff")
	if !ok {
		return false, errors.New("/proc/self/status has no CapEff")
	}
	effective, err := strconv.ParseUint(value, 16, 64)
	if err != nil {
		return false, fmt.Errorf("CapEff of /proc/self/status: %w", err)
	}
	const needed = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return effective&needed == needed, nil
}

// ExplainStart adds to an error of starting the tree what the user can do about it.
func ExplainStart(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: this user may not make namespaces; run as root, or allow it: sysctl kernel.unprivileged_userns_clone=1 (Debian), kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: the limit of namespaces is reached; raise sysctl user.max_user_namespaces, user.max_net_namespaces and user.max_pid_namespaces", err)
	default:
		return err
	}
}

// PrivateMounts prepares the mount namespace of a process 1 that was started with TreeAttributes or HostAttributes: no
// mount made in it is seen outside, /proc and /sys show its own namespaces but the machine's control groups, and /run and /var/cache are empty but for the
// directories in keep, which stay what they are. In /var/cache executors keep what they fetched: on a machine that only
// lends its file system that would be left behind.
func PrivateMounts(keep ...string) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	const plain = unix.MS_NOSUID | unix.MS_NODEV
	if err := unix.Mount("proc", "/proc", "proc", plain|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w (in a container, run it with unmasked /proc and /sys)", err)
	}
	if err := mountSys(plain | unix.MS_NOEXEC); err != nil {
		return fmt.Errorf("mount /sys: %w (in a container, run it with unmasked /proc and /sys)", err)
	}
	for _, target := range []string{"/run", "/var/cache"} {
		if err := mountEmpty(target, keep); err != nil {
			return err
		}
	}
	return nil
}

// mountSys mounts a /sys of this network namespace, with the control groups that were visible in the one before.
func mountSys(flags uintptr) error {
	kind, err := fileSystem(cgroupMount)
	if err != nil || kind == unix.SYSFS_MAGIC {
		// There are none.
		return unix.Mount("sysfs", "/sys", "sysfs", flags, "")
	}
	groups, err := os.OpenFile(cgroupMount, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer groups.Close()
	if err := unix.Mount("sysfs", "/sys", "sysfs", flags, ""); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", groups.Fd()), cgroupMount, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	return nil
}

// mountEmpty puts an empty file system on target and binds those of keep that it hides into it.
func mountEmpty(target string, keep []string) error {
	var hidden []string
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, dir := range keep {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		if below, err := filepath.Rel(target, real); err != nil || below == ".." || strings.HasPrefix(below, "../") {
			continue
		}
		f, err := os.OpenFile(real, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		hidden, files = append(hidden, real), append(files, f)
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	for i, dir := range hidden {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
		if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", files[i].Fd()), dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("keep %s: %w", dir, err)
		}
	}
	return nil
}

func gone(err error) bool {
	return errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.ESRCH)
}
