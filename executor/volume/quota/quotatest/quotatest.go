// Package quotatest mounts file systems that enforce quotas of projects, for tests. Edge: talks to mount(8) and loop devices.
package quotatest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Kinds are the file systems that have quotas of projects, and how one is made.
var Kinds = map[string][]string{
	"ext4": {"mke2fs", "-q", "-F", "-t", "ext4", "-O", "quota,project", "-E", "quotatype=prjquota"},
	"xfs":  {"mkfs.xfs", "-q", "-f"},
}

// Mount mounts a file system that enforces quotas of projects, until the test ends. Where the kernel cannot, the
// test is skipped.
func Mount(t testing.TB, kind string) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("to mount a file system needs root")
	}
	mkfs := Kinds[kind]
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skip(err)
	}
	run := func(name string, args ...string) error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Logf("%s %q: %v: %s", name, args, err, out)
		}
		return err
	}
	// Not t.TempDir: the path of a socket is short.
	base, err := os.MkdirTemp("", "quota")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "m")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 320<<20); err != nil {
		t.Fatal(err)
	}
	if err := run(mkfs[0], append(mkfs[1:len(mkfs):len(mkfs)], image)...); err != nil {
		t.Fatal(err)
	}
	if err := run("mount", "-t", kind, "-o", "loop,prjquota", image, dir); err != nil {
		t.Skipf("this kernel mounts no %s with prjquota: it lacks CONFIG_QUOTA, CONFIG_QFMT_V2 (ext4) or CONFIG_XFS_QUOTA, or there are no loop devices", kind)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}
