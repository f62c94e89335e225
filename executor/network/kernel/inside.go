package kernel

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// inside runs f on a thread of its own in the network namespace that is open as ns. The thread is not used again.
func inside(ns int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter the instance's network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// StreamSocket opens a non-blocking TCP (IPv4) socket in the network namespace that is open as ns. A socket stays in its
// namespace, so that the caller can use it from any thread.
func (n *Network) StreamSocket(ns int) (int, error) {
	fd := -1
	err := inside(ns, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	return fd, err
}

// packetSocket opens a socket for ARP on the link. Close it with closeLater.
func packetSocket(index int) (*os.File, error) {
	const arp = 0x0608 // ETH_P_ARP in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: index}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind a packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "arp"), nil
}

// closeLater closes a packet socket without making the caller wait for the kernel's grace period (about 10 ms).
func closeLater(f *os.File) {
	go f.Close()
}

// pollInterval is how often a link is looked at that shall come up.
const pollInterval = 10 * time.Millisecond
