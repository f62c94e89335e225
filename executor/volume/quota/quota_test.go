package quota

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/volume/quota/quotatest"
)

// layer is the writable one of an overlay, mounted when it is bounded.
type layer struct{ base, upper, work, merged string }

func newLayer(t *testing.T, dir, name string) layer {
	t.Helper()
	base := filepath.Join(dir, name)
	l := layer{base, filepath.Join(base, "upper"), filepath.Join(base, "work"), filepath.Join(base, "merged")}
	for _, d := range []string{l.upper, l.work, l.merged, filepath.Join(base, "lower", "of-the-image")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l layer) mount(t *testing.T) {
	t.Helper()
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", filepath.Join(l.base, "lower"), l.upper, l.work)
	if err := unix.Mount("overlay", l.merged, "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(l.merged, unix.MNT_DETACH) })
}

// fill writes MiB to a file until it fails.
func fill(name string, most int) (mib int, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for ; mib < most; mib++ {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			return mib, err
		}
	}
	return mib, f.Sync()
}

// onEach runs a test on each kind of file system that has projects.
func onEach(t *testing.T, f func(t *testing.T, dir string)) {
	for kind := range quotatest.Kinds {
		t.Run(kind, func(t *testing.T) { f(t, quotatest.Mount(t, kind)) })
	}
}

func full(err error) bool { return errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.ENOSPC) }

func projectOf(t *testing.T, dir string) uint32 {
	t.Helper()
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	a, err := attributesOf(d)
	if err != nil {
		t.Fatal(err)
	}
	return a.Project
}

func quotaOf(t *testing.T, dir string, id uint32) (l limits) {
	t.Helper()
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := get(d, id, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestWhatIsWrittenIsBounded(t *testing.T) { onEach(t, testWhatIsWrittenIsBounded) }

func testWhatIsWrittenIsBounded(t *testing.T, dir string) {
	a, b := newLayer(t, dir, "a"), newLayer(t, dir, "b")
	if err := Limit("a", 4<<20, a.upper, a.work); err != nil {
		t.Fatal(err)
	}
	// Another one of the same name, as if two names were spread to the same number.
	if err := Limit("a", 8<<20, b.upper, b.work); err != nil {
		t.Fatal(err)
	}
	first, second := projectOf(t, a.upper), projectOf(t, b.upper)
	if first != candidate("a", 0) || second != candidate("a", 1) || projectOf(t, a.work) != first {
		t.Errorf("projects %d and %d", first, second)
	}
	a.mount(t)
	b.mount(t)
	// A directory of the image is copied up, and is bounded like all others.
	if n, err := fill(filepath.Join(a.merged, "of-the-image", "file"), 16); n > 4 || n < 3 || !full(err) {
		t.Errorf("%d MiB, %v", n, err)
	}
	if n, err := fill(filepath.Join(a.merged, "other"), 1); !full(err) {
		t.Errorf("beside a full file: %d MiB, %v", n, err)
	}
	if n, err := fill(filepath.Join(b.merged, "file"), 16); n > 8 || n < 7 || !full(err) {
		t.Errorf("the other one: %d MiB, %v", n, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(a.merged, &st); err != nil || int64(st.Blocks)*st.Bsize != 4<<20 {
		t.Errorf("df shows %d bytes, %v", int64(st.Blocks)*st.Bsize, err)
	}

	if err := Release(a.upper); err != nil {
		t.Fatal(err)
	}
	if l := quotaOf(t, dir, first); l.BlocksHard != 0 || l.Bytes == 0 {
		t.Errorf("after release: %+v", l)
	}
	if err := unix.Unmount(a.merged, 0); err != nil {
		t.Fatal(err)
	}
	// What is there still holds the number, until it is removed.
	c := newLayer(t, dir, "c")
	if err := Limit("a", 1<<20, c.upper, c.work); err != nil || projectOf(t, c.upper) != candidate("a", 2) {
		t.Errorf("project %d, %v", projectOf(t, c.upper), err)
	}
	if err := os.RemoveAll(a.base); err != nil {
		t.Fatal(err)
	}
	// xfs frees what is removed a little later.
	for deadline := time.Now().Add(30 * time.Second); quotaOf(t, dir, first).Inodes > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	d := newLayer(t, dir, "d")
	if err := Limit("a", 1<<20, d.upper, d.work); err != nil || projectOf(t, d.upper) != first {
		t.Errorf("project %d, %v", projectOf(t, d.upper), err)
	}
}

func TestReleaseLeavesWhatIsNotOurs(t *testing.T) { onEach(t, testReleaseLeavesWhatIsNotOurs) }

func testReleaseLeavesWhatIsNotOurs(t *testing.T, dir string) {
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := set(d, 7, 1<<20); err != nil {
		t.Fatal(err)
	}
	a, err := attributesOf(d)
	a.Project = 7
	if err != nil || setProject(d, &a) != nil {
		t.Fatal("no project", err)
	}
	if err := Release(dir); err != nil {
		t.Error(err)
	}
	if l := quotaOf(t, dir, 7); l.BlocksHard != 1024 {
		t.Errorf("%+v", l)
	}
	// What is on the whole disk holds no container back: it gets a project of its own.
	l := newLayer(t, dir, "l")
	if err := Limit("l", 1<<20, l.upper, l.work); err != nil || projectOf(t, l.upper) != candidate("l", 0) {
		t.Errorf("project %d, %v", projectOf(t, l.upper), err)
	}
}

// The device is for kernels that know no quotas of descriptors.
func TestDeviceOfAFileSystem(t *testing.T) { onEach(t, testDeviceOfAFileSystem) }

func testDeviceOfAFileSystem(t *testing.T, dir string) {
	d, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := set(d, first, 3<<20); err != nil {
		t.Fatal(err)
	}
	var l limits
	if err := quotactlOfDevice(d, getQuota<<8|project, first, unsafe.Pointer(&l)); err != nil || l.BlocksHard != 3<<10 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestWhatCannotBeBoundedIsSaid(t *testing.T) {
	dir := t.TempDir()
	var cannot *Unsupported
	if err := Limit("a", 1<<20, dir); err != nil && !errors.As(err, &cannot) {
		t.Error(err)
	}
	if err := Release(dir); err != nil {
		t.Error(err)
	}
	// What shows processes has no projects at all.
	if err := Limit("a", 1<<20, "/proc/1"); !errors.As(err, &cannot) {
		t.Errorf("a file system without projects: %v", err)
	}
	if err := Release("/proc/1"); err != nil {
		t.Error(err)
	}
	if err := Limit("a", 1<<20, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}
