package containerd

import (
	"context"
	"fmt"
	"os"
	"testing"
	"unsafe"

	"github.com/containerd/containerd/v2/core/mount"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/volume/quota/quotatest"
)

// writes runs a program that writes 16 MiB, and tells how it ended.
func (b *bed) writes(t *testing.T, r *Runtime, id string, most int64) (*instance, runtime.Exit) {
	t.Helper()
	s := b.prepared(t, id)
	s.Command = []string{"sh", "-c", "dd if=/dev/zero of=/data/file bs=1M count=16 2>/dev/null && exit 3; test $(wc -c </data/file) -gt 4194304 && exit 4; exit 5"}
	s.Container.Limits.DiskBytes = most
	made, err := r.Create(s)
	if err == nil {
		err = made.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return made.(*instance), made.Wait()
}

func TestDiskIsBounded(t *testing.T) {
	t.Setenv("TMPDIR", quotatest.Mount(t, "ext4"))
	b := newBed(t, "")
	r := b.open(t, "framework-1")
	t.Cleanup(func() { r.Close() })
	other, e := b.writes(t, r, "unbounded", 0)
	if e.Code != 3 {
		t.Errorf("without a limit: %+v", e)
	}
	i, e := b.writes(t, r, "bounded", 4<<20)
	if e.Code != 5 {
		t.Errorf("beyond its limit: %+v", e)
	}
	mounts, err := r.snapshots.Mounts(context.Background(), i.name)
	if err != nil {
		t.Fatal(err)
	}
	dirs, err := r.writable(mounts)
	if err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(dirs[0], &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks) * st.Bsize
	}
	if n := size(); n != 4<<20 {
		t.Errorf("df shows %d bytes", n)
	}
	if err := r.unbound(context.Background(), i.name); err != nil {
		t.Error(err)
	}
	if n := size(); n < 64<<20 {
		t.Errorf("released, df shows %d bytes", n)
	}
	for _, i := range []*instance{i, other} {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
}

const attributesVerb = "change-attributes"

// changeAttributes is a program in a container, and tells whether it may take its files out of their project: 10 if it may,
// 11 if not, others when it is a bit of both.
func changeAttributes() int {
	f, err := os.Create("/tmp/file")
	if err != nil {
		return 20
	}
	var buffer [64]byte
	request := func(n uintptr) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), n, uintptr(unsafe.Pointer(&buffer))); errno != 0 {
			return errno
		}
		return nil
	}
	const highBit = 1 << 40 // the kernel does not look at it
	refused := 0
	for _, n := range changesAttributes {
		for _, n := range []uintptr{uintptr(n), uintptr(n) | highBit} {
			if request(n) == unix.EPERM {
				refused++
			}
		}
	}
	if err := request(unix.FS_IOC_GETFLAGS); err != nil {
		return 21
	}
	if err := request(unix.TIOCINQ); err != nil {
		return 22
	}
	switch refused {
	case 0:
		return 10
	case 2 * len(changesAttributes):
		return 11
	}
	return 30 + refused
}

// The owner of a file could give it another project.
func TestContainersKeepTheirProject(t *testing.T) {
	for _, binary := range []string{"runc", "crun"} {
		t.Run(binary, func(t *testing.T) {
			b := newBed(t, binary)
			r := b.open(t, "framework-1")
			t.Cleanup(func() { r.Close() })
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			for most, want := range map[int64]int{0: 10, 64 << 20: 11} {
				s := b.prepared(t, fmt.Sprint(most))
				s.Command = []string{"/program", attributesVerb}
				s.Container.Limits.DiskBytes = most
				s.Container.Mounts = []runtime.Mount{{Source: self, Target: "/program", Type: "bind", Options: []string{"ro"}}}
				i, err := r.Create(s)
				if err == nil {
					err = i.Start()
				}
				if err != nil {
					t.Fatal(err)
				}
				if e := i.Wait(); e.Code != want {
					t.Errorf("limit %d: %+v, want %d", most, e, want)
				}
				if err := i.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestThatDiskCannotBeBoundedIsSaidOnce(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", dir)
	b := newBed(t, "")
	r := b.open(t, "framework-1")
	t.Cleanup(func() { r.Close() })
	log, said := observer.New(zap.InfoLevel)
	r.log = zap.New(log)
	for n, most := range []int64{0, 1 << 20, 1 << 20} {
		i, e := b.writes(t, r, fmt.Sprint(n), most)
		if e.Code != 3 {
			t.Errorf("limit %d: %+v", most, e)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
		if all := said.FilterMessageSnippet("resources.disk").All(); len(all) != min(n, 1) {
			t.Errorf("said after limit %d: %v", most, all)
		}
	}
	if err := r.bound(runtime.Spec{Container: &runtime.Container{Limits: runtime.Limits{DiskBytes: 1}}}, "p-1", []mount.Mount{{Type: "bind"}}); err != nil {
		t.Errorf("no overlay: %v", err)
	}
}
