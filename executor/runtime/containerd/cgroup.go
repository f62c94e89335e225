package containerd

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const cgroupRoot = "/sys/fs/cgroup"

// swapAccounted tells whether swap can be limited. Where it cannot, a limit of it would be an error (version 1), and
// there is normally none to limit.
func swapAccounted() bool {
	_, err := os.Stat(cgroupRoot + "/memory/memory.memsw.limit_in_bytes")
	return err == nil || unified()
}

// unified tells whether control groups are of version 2.
func unified() bool {
	_, err := os.Stat(cgroupRoot + "/cgroup.controllers")
	return err == nil
}

// oomKills counts the processes of a control group that the kernel has killed for want of memory. What cannot be read
// counts none: the group is gone, or the kernel does not count.
func oomKills(cgroup string) int {
	for _, name := range []string{filepath.Join(cgroupRoot, cgroup, "memory.events"), filepath.Join(cgroupRoot, "memory", cgroup, "memory.oom_control")} {
		b, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return parseOOMKills(string(b))
	}
	return 0
}

func parseOOMKills(text string) int {
	for line := range strings.Lines(text) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == "oom_kill" {
			if n, err := strconv.ParseUint(value, 10, 31); err == nil {
				return int(n)
			}
		}
	}
	return 0
}
