package udp

import (
	"golang.org/x/sys/unix"
)

const (
	// SCHED_RESET_ON_FORK: what this thread starts, if anything, is ordinary.
	resetOnFork = 1
	nice        = -15
)

// raise gives the calling thread the best place in the kernel's queue that it may have, and says which.
func raise() string {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1, Flags: resetOnFork}
	if unix.SchedSetAttr(0, &attr, 0) == nil {
		return "SCHED_RR"
	}
	if unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice) == nil {
		return "nice -15"
	}
	return "as any other: grant CAP_SYS_NICE, or use longer intervals where hosts are busy"
}
