package hosts

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupMount is where control groups are found: one unified hierarchy, or a directory with one for each controller.
const cgroupMount = "/sys/fs/cgroup"

// cgroupPatience is how long a group may stay busy with processes that are dying.
const cgroupPatience = 2 * time.Second

var cgroupName = regexp.MustCompile(`^/padis-[0-9a-f]{16}$`)

// CgroupParent is the control group below which all containers of the tree of a data directory are: control groups
// belong to the machine, not to a namespace. The name is chosen once, so that what a tree that was killed has left can
// be found by the next one.
func CgroupParent(dataDir string) (string, error) {
	path := filepath.Join(dataDir, "hosts", "cgroup")
	b, err := os.ReadFile(path)
	if name := strings.TrimSpace(string(b)); err == nil && cgroupName.MatchString(name) {
		return name, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("name of the control group: %w", err)
	}
	id := make([]byte, 8)
	if _, err := rand.Read(id); err != nil {
		return "", fmt.Errorf("name of the control group: %w", err)
	}
	name := "/padis-" + hex.EncodeToString(id)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("name of the control group: %w", err)
	}
	if err := os.WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("name of the control group: %w", err)
	}
	return name, nil
}

// RemoveCgroups removes a control group and those below it, in all hierarchies. Their processes must have ended. That
// there are none is no error.
func RemoveCgroups(parent string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	var failed []error
	for _, root := range roots {
		failed = append(failed, removeGroups(filepath.Join(root, parent)))
	}
	return errors.Join(failed...)
}

// cgroupRoots lists the hierarchies.
func cgroupRoots() ([]string, error) {
	kind, err := fileSystem(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	if kind == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroupMount}, nil
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("control groups: %w", err)
	}
	var roots []string
	for _, e := range entries {
		dir := filepath.Join(cgroupMount, e.Name())
		// Beside the hierarchies there are links to them: "cpu" to "cpu,cpuacct".
		if kind, err := fileSystem(dir); err == nil && e.IsDir() && (kind == unix.CGROUP_SUPER_MAGIC || kind == unix.CGROUP2_SUPER_MAGIC) {
			roots = append(roots, dir)
		}
	}
	return roots, nil
}

// removeGroups removes a directory of groups from its leaves up. The files in it are the kernel's and go with it.
func removeGroups(dir string) error {
	var groups []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir():
			groups = append(groups, path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	slices.Reverse(groups)
	for _, group := range groups {
		if err := removeGroup(group); err != nil {
			return fmt.Errorf("control groups: %w", err)
		}
	}
	return nil
}

// removeGroup waits for processes that are dying: the kernel takes them out of their group at the very end.
func removeGroup(dir string) error {
	for deadline := time.Now().Add(cgroupPatience); ; time.Sleep(5 * time.Millisecond) {
		err := os.Remove(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

func fileSystem(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return int64(st.Type), nil
}
