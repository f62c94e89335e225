package hosts

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestRegistry(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadRegistry(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a tree: %v", err)
	}
	lock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || !strings.Contains(err.Error(), "is in use by process") {
		t.Errorf("a second Lock: %v", err)
	}
	want := []Entry{{Name: "host-1", Kind: KindHost, Pid: 12, Address: "172.31.0.11"}, {Name: "client", Kind: KindClient, Pid: 3, Network: "/proc/3/fd/9"}}
	if err := WriteRegistry(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRegistry(dir)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ReadRegistry = %v, %v", got, err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRegistry(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after the end of the tree its registry is believed: %v", err)
	}
	again, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	if err := os.WriteFile(filepath.Join(dir, "run", "hosts.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRegistry(dir); err == nil {
		t.Error("a broken registry is read")
	}
}

func FuzzRegistry(f *testing.F) {
	f.Add([]byte(`[{"name":"host-1","kind":"host","pid":12}]`))
	f.Add([]byte(`[{"name":"","pid":-1}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := decodeRegistry(b)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.Name == "" || e.Pid <= 0 {
				t.Errorf("decoded %+v", e)
			}
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add("Name:\tx\nPPid:\t12\nNSpid:\t345\t7\t1\n", 12, 7)
	f.Add("PPid:\nNSpid:", 0, 0)
	f.Fuzz(func(t *testing.T, status string, parent, inside int) {
		if outside, ok := matchChild(status, parent, inside); ok && !strings.Contains(status, "NSpid") {
			t.Errorf("found %d", outside)
		}
	})
}

func TestMatchChild(t *testing.T) {
	t.Parallel()
	const status = "Name:\tpadis-mesos\nPPid:\t12\nNSpid:\t345\t7\t1\n"
	if pid, ok := matchChild(status, 12, 7); !ok || pid != 345 {
		t.Errorf("got %d, %v", pid, ok)
	}
	for _, c := range []struct{ parent, inside int }{{13, 7}, {12, 1}, {12, 345}} {
		if pid, ok := matchChild(status, c.parent, c.inside); ok {
			t.Errorf("child %d of %d is %d", c.inside, c.parent, pid)
		}
	}
}
