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
	if h.Namespace == "" {
		return f()
	}
	ns, err := os.Open(h.Namespace)
	if err != nil {
		return failed("find the mount namespace of the container runtime", err)
	}
	defer ns.Close()
	if same, err := isOurs(ns); err != nil || same {
		if err != nil {
			return failed("find the mount namespace of the container runtime", err)
		}
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		// A thread that shares its working directory with others cannot change its namespace.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- failed("enter the mount namespace of the container runtime", err)
			return
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			done <- failed("enter the mount namespace of the container runtime", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// isOurs tells whether a namespace is our own.
func isOurs(ns *os.File) (bool, error) {
	mine, err := os.Stat("/proc/self/ns/mnt")
	if err != nil {
		return false, err
	}
	theirs, err := ns.Stat()
	if err != nil {
		return false, err
	}
	return os.SameFile(mine, theirs), nil
}

// NamespaceOf finds the mount namespace of the process that listens at a Unix socket: Config.Namespace, for the socket
// of containerd.
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
