package containerdtest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bundles is where containerd keeps what it knows of running containers: State/bundles/NAMESPACE/ID.
const bundles = "io.containerd.runtime.v2.task"

// sweep removes what containers have left when the daemon is dead, whatever state they are in.
func (d *Daemon) sweep(t testing.TB) {
	found, err := filepath.Glob(filepath.Join(d.State, bundles, "*", "*"))
	if err != nil {
		t.Error(err)
	}
	for _, b := range found {
		d.end(b)
	}
	d.eachShim(func(pid int) { _ = unix.Kill(pid, unix.SIGKILL) })
	d.until(t, "the end of the shims", func() bool {
		any := false
		d.eachShim(func(int) { any = true })
		return !any
	})
	for _, b := range found {
		forget(b)
	}
	mounts := d.Mounts()
	slices.Reverse(mounts)
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", m, err)
		}
	}
	if err := os.RemoveAll(d.dir); err != nil {
		t.Error(err)
	}
}

func (d *Daemon) until(t testing.TB, what string, done func() bool) {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("never: %s", what)
			return
		}
	}
}

// end kills the first process of a container, and with it all others.
func (d *Daemon) end(bundle string) {
	b, err := os.ReadFile(filepath.Join(bundle, "init.pid"))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return
	}
	// The number could be another process's by now; in a container's control group it is not.
	if groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup"); err == nil && strings.Contains(string(groups), filepath.Base(bundle)) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// eachShim calls f with the process id of each shim of this daemon.
func (d *Daemon) eachShim(f func(pid int)) {
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return
	}
	for _, name := range all {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		args := strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
		if at := slices.Index(args, "-address"); at >= 0 && at+1 < len(args) && args[at+1] == d.Address && strings.Contains(args[0], "containerd-shim") {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
				f(pid)
			}
		}
	}
}

// forget removes what lies outside of the daemon's directories: the shim's socket, runc's record, control groups.
func forget(bundle string) {
	if b, err := os.ReadFile(filepath.Join(bundle, "address")); err == nil {
		_ = os.Remove(strings.TrimPrefix(string(b), "unix://"))
	}
	id, namespace := filepath.Base(bundle), filepath.Base(filepath.Dir(bundle))
	_ = os.RemoveAll(filepath.Join("/run/containerd/runc", namespace, id))
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return
	}
	var config struct {
		Linux struct {
			CgroupsPath string `json:"cgroupsPath"`
		} `json:"linux"`
	}
	if json.Unmarshal(b, &config) == nil && config.Linux.CgroupsPath != "" {
		RemoveCgroups(config.Linux.CgroupsPath)
	}
}

// Mounts lists the mounts below the daemon's directories, outer ones first.
func (d *Daemon) Mounts() []string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], d.dir+"/") {
			all = append(all, f[4])
		}
	}
	return all
}

// Shims counts the shims of this daemon.
func (d *Daemon) Shims() int {
	n := 0
	d.eachShim(func(int) { n++ })
	return n
}

// Cgroups lists the control groups below a path of all hierarchies (version 1 and 2), the path itself included.
func Cgroups(path string) []string {
	var all []string
	for _, root := range append([]string{"/sys/fs/cgroup"}, hierarchies()...) {
		_ = filepath.WalkDir(filepath.Join(root, path), func(p string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				all = append(all, p)
			}
			return nil
		})
	}
	return all
}

func hierarchies() []string {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	for i, d := range dirs {
		dirs[i] = filepath.Dir(d)
	}
	return dirs
}

// RemoveCgroups removes a path of all hierarchies with what is below it, as far as no process is in there.
func RemoveCgroups(path string) {
	all := Cgroups(path)
	slices.Reverse(all)
	for _, p := range all {
		_ = os.Remove(p)
	}
}
