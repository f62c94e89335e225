// Package bed is what the figures of the network are measured in: namespaces that hosts and instances live in, the control
// plane's part of an attach on the real ledger, and eyes on the wire. Edge: talks to namespaces, etcd, packet sockets.
package bed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"padis.io/padis/mesos/local/hosts"
)

// Own runs this program once more with these arguments, as process 1 of namespaces of its own: they take everything along
// when it ends.
func Own(arguments ...string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", arguments...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	runtime.LockOSThread() // by which the kernel knows that this process is alive
	var err error
	if cmd.SysProcAttr, err = hosts.TreeAttributes(); err != nil {
		return err
	}
	return cmd.Run()
}

// IP runs commands of ip(8), one on each line, in the namespace of the calling thread.
func IP(lines string) error {
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

// NewNamespace makes a network namespace and returns it open.
func NewNamespace() (fd int, err error) {
	fd = -1
	err = away(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// Inside runs f on a thread that is in the network namespace.
func Inside(ns int, f func() error) error {
	return away(func() error { return unix.Setns(ns, unix.CLONE_NEWNET) }, f)
}

// away runs f on a thread that has left for another network namespace, and brings the thread back: the first thread of a
// process does not end with its goroutine, and would keep the namespace.
func away(leave, f func() error) error {
	home, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := leave()
		if err == nil {
			err = f()
		}
		if back := unix.Setns(home, unix.CLONE_NEWNET); back == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("in another network namespace: %w", err)
	}
	return nil
}

// Pin keeps a network namespace at a path, whatever becomes of its makers.
func Pin(ns int, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns), path, "", unix.MS_BIND, "")
}

// Unpin lets it go.
func Unpin(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH)
	if errors.Is(err, unix.EINVAL) {
		err = nil // the file only
	}
	return errors.Join(err, os.Remove(path))
}
