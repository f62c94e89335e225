package hosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// OutsidePid returns the process id, in the caller's PID namespace, of the child of process parent that has the id
// inside in parent's own PID namespace. parent is an id in the caller's namespace.
func OutsidePid(parent, inside int) (int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		status, err := os.ReadFile(path)
		if err != nil {
			// Processes come and go while they are listed.
			continue
		}
		if outside, ok := matchChild(string(status), parent, inside); ok {
			return outside, nil
		}
	}
	return 0, fmt.Errorf("process %d of the tree of process %d: %w", inside, parent, os.ErrNotExist)
}

// matchChild reads a /proc/PID/status: "PPid: 12" and "NSpid: 345 7 1", outermost namespace first.
func matchChild(status string, parent, inside int) (outside int, ok bool) {
	ppid, ok := statusField(status, "PPid")
	if !ok || ppid != strconv.Itoa(parent) {
		return 0, false
	}
	all, ok := statusField(status, "NSpid")
	if !ok {
		return 0, false
	}
	pids := strings.Fields(all)
	if len(pids) < 2 || pids[1] != strconv.Itoa(inside) {
		return 0, false
	}
	outside, err := strconv.Atoi(pids[0])
	return outside, err == nil
}

// statusField returns the value of a line "NAME:\tVALUE".
func statusField(status, name string) (string, bool) {
	for line := range strings.Lines(status) {
		if key, value, found := strings.Cut(line, ":"); found && key == name {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}

// SharesUserNamespace says whether process pid is in the caller's user namespace.
func SharesUserNamespace(pid int) (bool, error) {
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false, err
	}
	other, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if errors.Is(err, os.ErrPermission) {
		return false, fmt.Errorf("process %d belongs to another user; become that user, or root: %w", pid, err)
	}
	if err != nil {
		return false, err
	}
	return own == other, nil
}
