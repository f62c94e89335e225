package process

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// spawner forks on a thread that ends with the executor only: the parent-death signal of an instance is sent when the
// thread that forked it ends, and the Go runtime ends threads as it likes.
func spawner(work <-chan func()) {
	runtime.LockOSThread()
	for f := range work {
		f()
	}
	select {}
}

func pointer(list []uint32) uintptr { return uintptr(unsafe.Pointer(&list[0])) }

// recordName is a file in the instance's sandbox that names its first process: process id and start time.
const recordName = "init"

func record(dir string, pid int) error {
	start, err := StartTime(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, recordName), fmt.Appendf(nil, "%d %d\n", pid, start), 0o600)
}

// StartTime of a process in clock ticks after boot: with the process id it names a process for all times.
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStartTime(string(b))
}

func parseStartTime(stat string) (uint64, error) {
	// The name, in parentheses, may contain anything (proc(5)); start time is field 22.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("%q is not a line of /proc/PID/stat", stat)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// Sweep ends instances that an earlier executor left running in the sandboxes that match the pattern (filepath.Glob),
// and returns those sandboxes. Normally there are none: instances end with their executor.
func Sweep(pattern string) ([]string, error) {
	records, err := filepath.Glob(filepath.Join(pattern, recordName))
	if err != nil {
		return nil, err
	}
	var swept []string
	for _, name := range records {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		var pid int
		var start uint64
		if _, err := fmt.Sscanf(string(b), "%d %d", &pid, &start); err != nil || pid <= 1 {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			// The pidfd was opened first: if the start time is still the one recorded, it is that process.
			if now, err := StartTime(pid); err == nil && now == start {
				if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err == nil {
					swept = append(swept, filepath.Dir(name))
				}
			}
			unix.Close(fd)
		}
		os.Remove(name)
	}
	return swept, nil
}
