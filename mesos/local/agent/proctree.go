package agent

import (
	"bytes"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// proc is what /proc says of a process.
type proc struct {
	pid, ppid, session int
	start              uint64
	zombie             bool
}

// readProc reads /proc/PID/stat.
func readProc(pid int) (proc, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return proc{}, false
	}
	return parseStat(b)
}

// parseStat reads the line of /proc/PID/stat; the name in it may contain anything.
func parseStat(b []byte) (proc, bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return proc{}, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:open])))
	fields := strings.Fields(string(b[end+1:]))
	if err != nil || len(fields) < 20 {
		return proc{}, false
	}
	ppid, err1 := strconv.Atoi(fields[1])
	session, err2 := strconv.Atoi(fields[3])
	start, err3 := strconv.ParseUint(fields[19], 10, 64)
	return proc{pid, ppid, session, start, fields[0] == "Z" || fields[0] == "X"}, err1 == nil && err2 == nil && err3 == nil
}

// startTime tells reused pids apart; 0 if there is no such process.
func startTime(pid int) uint64 {
	p, ok := readProc(pid)
	if !ok || p.zombie {
		return 0
	}
	return p.start
}

func allProcs() []proc {
	paths, _ := filepath.Glob("/proc/[0-9]*")
	var out []proc
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			out = append(out, p)
		}
	}
	return out
}

// sweep kills what an executor that has ended left behind, and returns when nothing of it runs. It finds processes
// by their session, by the sandbox in their environment, by descent, and, when this process is the subreaper, by
// having been orphaned to it.
func (l *processes) sweep(pid int, dir, container string) {
	if pid > 1 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	marker := []byte("MESOS_DIRECTORY=" + dir + "\x00")
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		left := l.leftovers(pid, marker, container)
		if len(left) == 0 {
			return
		}
		for _, p := range left {
			if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				l.log.Warn("cannot kill what an executor left", zap.Int("pid", p.pid), zap.Error(err))
				return
			}
		}
		l.reapOrphans()
		time.Sleep(wait) // the kernel needs a moment to take a killed process down
	}
}

func (l *processes) leftovers(pid int, marker []byte, container string) []proc {
	all := allProcs()
	self := os.Getpid()
	owned := map[int]bool{}
	var out []proc
	add := func(p proc) {
		if !owned[p.pid] && p.pid != self && !p.zombie {
			owned[p.pid] = true
			out = append(out, p)
		}
	}
	orphans := l.orphansAreOurs(container)
	for _, p := range all {
		switch {
		case pid > 1 && p.session == pid, orphans && p.ppid == self && !l.isChild(p.pid):
			add(p)
		case !p.zombie && p.pid != self && hasEnv(p.pid, marker):
			add(p)
		}
	}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if owned[p.ppid] && !owned[p.pid] {
				before := len(out)
				add(p)
				grew = grew || len(out) > before
			}
		}
	}
	return out
}

// orphansAreOurs tells whether everything orphaned to this process must come from this container: no other runs.
func (l *processes) orphansAreOurs(container string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := range l.running {
		if other != container {
			return false
		}
	}
	return l.subreaper
}

// isChild tells whether a pid is an executor that is waited for.
func (l *processes) isChild(pid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.running {
		if p.pid == pid {
			return true
		}
	}
	return false
}

// hasEnv looks for an exact variable in the environment a process was started with.
func hasEnv(pid int, variable []byte) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	return bytes.HasPrefix(b, variable) || bytes.Contains(b, slices.Concat([]byte{0}, variable))
}

// becomeSubreaper makes orphans of executors children of this process, and buries them.
func (l *processes) becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, syscall.SIGCHLD)
	go func() {
		for range deaths {
			l.reapOrphans()
		}
	}()
	return nil
}

// reapOrphans buries dead children that nobody waits for.
func (l *processes) reapOrphans() {
	if !l.subreaper {
		return
	}
	l.fork.Lock()
	defer l.fork.Unlock()
	self := os.Getpid()
	for _, p := range allProcs() {
		if p.ppid == self && p.zombie && !l.isChild(p.pid) {
			_, _ = syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		}
	}
}
