package kernel

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// origin is the network namespace that the process started in, to which each thread returns: no other edge must find
// one that is elsewhere.
var origin = openOrigin()

func openOrigin() int {
	fd, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// locked runs f on a thread that nobody else uses meanwhile, and brings the thread back. One that cannot come back ends.
func locked(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := f()
		if unix.Setns(origin, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func enter(ns int) error {
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network namespace: %w; the executor needs CAP_SYS_ADMIN", err)
	}
	return nil
}

// inside runs f in the network namespace that is open as ns.
func inside(ns int, f func() error) error {
	return locked(func() error {
		if err := enter(ns); err != nil {
			return err
		}
		return f()
	})
}

// same tells whether two open files are one file.
func same(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// StreamSocket opens a non-blocking TCP socket for IPv4 in the network namespace that is open as ns, StreamSocket6 one for
// IPv6. A socket stays in its namespace, so that the caller can use it from any thread.
func (n *Network) StreamSocket(ns int) (int, error)  { return streamSocket(ns, unix.AF_INET) }
func (n *Network) StreamSocket6(ns int) (int, error) { return streamSocket(ns, unix.AF_INET6) }

func streamSocket(ns, family int) (int, error) {
	fd := -1
	err := inside(ns, func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	return fd, err
}
