package usage

import (
	"os"
	"strconv"
	"strings"
)

// nanosPerTick: the unit of /proc/PID/stat is a hundredth of a second on all machines (USER_HZ).
const nanosPerTick = 10_000_000

// treeMax bounds a walk through processes that are made faster than we count.
const treeMax = 1 << 16

// tree sums up over a process and its descendants. One that ends meanwhile is missed in this sample only: whoever waited
// for it has its time.
func tree(first int, b *buffer, s *Sample, wanted metrics) {
	page := uint64(os.Getpagesize())
	if wanted.memory {
		s.MemoryBytes = 0
	}
	var found uint64
	for todo := []int{first}; len(todo) > 0 && found < treeMax; {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		dir := "/proc/" + strconv.Itoa(pid)
		text, err := b.read(dir + "/stat")
		if err != nil {
			continue
		}
		one, _ := parseStat(text)
		found++
		if wanted.cpu {
			s.CPUNanos += one.ticks * nanosPerTick
		}
		if wanted.memory {
			s.MemoryBytes += one.pages * page
		}
		if wanted.io {
			// Of other users' processes only root may know.
			if text, err := b.read(dir + "/io"); err == nil {
				s.ReadBytes += value(text, "read_bytes:")
				s.WriteBytes += value(text, "write_bytes:")
			}
		}
		todo = append(todo, children(dir, b)...)
	}
	if wanted.pids {
		s.Processes = found
	}
}

// children of all threads of a process; each thread has its own.
func children(dir string, b *buffer) (pids []int) {
	threads, err := os.ReadDir(dir + "/task")
	if err != nil {
		return nil
	}
	for _, t := range threads {
		text, err := b.read(dir + "/task/" + t.Name() + "/children")
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(text) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
