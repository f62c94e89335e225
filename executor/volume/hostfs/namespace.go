package hostfs

import (
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace runs f where its mounts are seen by whoever starts containers. Elsewhere than in our own namespace that
// takes a thread, which is not used again. Programs that f starts are started there, too.
func (h *Host) inNamespace(f func() error) error {
	ns, err := h.find()
	if err != nil {
		return failed("find the mount namespace of the container runtime", err)
	}
	if ns == nil {
		return f()
	}
	elsewhere(func() {
		// A thread that shares its working directory with others cannot change its namespace.
		if err = unix.Unshare(unix.CLONE_FS); err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS)
		}
		if err != nil {
			err = failed("enter the mount namespace of the container runtime", err)
			return
		}
		err = f()
	})
	return err
}

// elsewhere runs f on a thread that ends with it. The main thread cannot end: /proc/self would be what f made of it for
// ever, so that it is held while f gets another one.
func elsewhere(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			elsewhere(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// find returns the namespace to be entered, or nil if it is our own. A file that is replaced here may be in use; the
// garbage collector closes it.
func (h *Host) find() (*os.File, error) {
	if h.Namespace == nil {
		return nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	path, err := h.Namespace()
	if err == nil {
		var ns *os.File
		if ns, err = os.Open(path); err == nil {
			h.entered = ns
		}
	}
	if h.entered == nil {
		return nil, err
	}
	mine, err := os.Stat("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	theirs, err := h.entered.Stat()
	if err != nil {
		return nil, err
	}
	if os.SameFile(mine, theirs) {
		return nil, nil
	}
	return h.entered, nil
}

// NamespaceOf finds the mount namespace of the process that listens at a Unix socket: of use as
// Config.Namespace with the socket of containerd.
func NamespaceOf(socket string) (string, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "", fmt.Errorf("find the mount namespace of the container runtime: %w", err)
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return "", err
	}
	var peer *unix.Ucred
	if e := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return "", e
	}
	if err != nil {
		return "", fmt.Errorf("find who listens at %s: %w", socket, err)
	}
	if peer.Pid == 0 {
		return "", fmt.Errorf("who listens at %s is in a PID namespace that this process cannot see; run the executor in the host's PID namespace", socket)
	}
	return fmt.Sprintf("/proc/%d/ns/mnt", peer.Pid), nil
}
