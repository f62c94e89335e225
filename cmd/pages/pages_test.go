package pages

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadOnly(t *testing.T) {
	const maps = `00400000-01234000 r-xp 00000000 fe:01 1234                               /opt/a b
01234000-02000000 r--p 00e34000 fe:01 1234                               /opt/a b
02000000-02100000 rw-p 01c00000 fe:01 1234                               /opt/a b
02100000-02200000 r--p 00000000 fe:01 1235                               /opt/other
c000000000-c000400000 rw-p 00000000 00:00 0                              [anon: Go: heap]
7f0000000000-7f0000001000 r--p 00000000 00:00 0
nonsense
zz-yy r--p 00000000 fe:01 1234 /opt/a b
`
	want := [][2]uintptr{{0x400000, 0x1234000}, {0x1234000, 0x2000000}}
	if got := readOnly(strings.NewReader(maps), "/opt/a b"); !reflect.DeepEqual(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if err := ReleaseProgram(); err != nil {
		t.Error(err)
	}
}

// Pages of a file that was read through a mapping are given back, and are there again when they are needed.
func TestRelease(t *testing.T) {
	path, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(path, "file")
	want := bytes.Repeat([]byte("padis"), 1<<20)
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := unix.Mmap(int(f.Fd()), 0, len(want), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(got) }()
	for _, resident := range []bool{true, false, true} {
		if !resident {
			if err := Release(path); err != nil {
				t.Fatal(err)
			}
		} else if !bytes.Equal(got, want) {
			t.Fatal("the file is another")
		}
		if n := rss(t, path); (n > 0) != resident {
			t.Errorf("%d kB are resident, wanted: %t", n, resident)
		}
	}
	if err := Release(path + " that is mapped nowhere"); err != nil {
		t.Error(err)
	}
}

// rss is what is resident of a file, in kB.
func rss(t *testing.T, path string) (kb int) {
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, of, found := strings.Cut(string(b), path+"\n")
	if _, at, ok := strings.Cut(of, "\nRss:"); !found || !ok {
		t.Fatal("it is not mapped")
	} else if _, err := fmt.Sscan(at, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
