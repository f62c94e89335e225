package hosts

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"padis.io/padis/mesos/local/hosts/supervise"
)

// testContainerd is the containerd of a host that the test binary plays.
func testContainerd(host string) (*Containerd, error) {
	data := os.Getenv(dataVariable)
	if data == "" {
		return nil, nil
	}
	program, err := Containers()
	if err != nil {
		return nil, err
	}
	parent, err := CgroupParent(data)
	if err != nil {
		return nil, err
	}
	return &Containerd{
		Program: program, Root: filepath.Join(data, host), CgroupParent: filepath.Join(parent, host),
		Log: func() (*os.File, error) { return supervise.OpenLog(data, ContainerdLog(host)) },
	}, nil
}

// ctr runs containerd's client on a host.
func ctr(host int, args ...string) (string, error) {
	all := append([]string{"-t", strconv.Itoa(host), "-a", "ctr", "--address", ContainerdAddress, "--connect-timeout", "2s"}, args...)
	out, err := exec.Command("nsenter", all...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func mustCtr(t *testing.T, host int, args ...string) string {
	t.Helper()
	out, err := ctr(host, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Containers run on a host, apart from those of its neighbours; they survive containerd and end with the host, of which
// then only the images are left.
func TestContainers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	data := t.TempDir()
	parent, err := CgroupParent(data)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := groups(t, parent); len(left) > 0 {
			t.Errorf("control groups %v are left", left)
		}
	})
	tr := startTree(t, 0, dataVariable+"="+data)
	t.Cleanup(func() {
		if b, err := os.ReadFile(filepath.Join(data, ContainerdLog("host-1")+".log")); err == nil && t.Failed() {
			t.Logf("containerd:\n%s", b)
		}
	})
	host := tr.hosts["host-1"]
	eventually(t, "containerd on host-1", func() error { _, err := ctr(host, "version"); return err })
	image := busyboxImage(t)
	mustCtr(t, host, "image", "import", image)
	out := mustCtr(t, host, "run", "--rm", "--cgroup", filepath.Join(parent, "host-1", "hello"), imageName, "hello", "/bin/busybox", "sh", "-c", "echo $((6 * 7)); cat /proc/self/cgroup")
	if !strings.HasPrefix(out, "42\n") {
		t.Errorf("a container says %q", out)
	}
	mustCtr(t, host, "run", "-d", "--net-host", "--cgroup", filepath.Join(parent, "host-1", "longer"), imageName, "longer", "/bin/busybox", "sleep", "3600")
	if left := groups(t, filepath.Join(parent, "host-1")); len(left) == 0 {
		t.Errorf("no control group %s", parent)
	}
	task := longer(t, host)

	// The neighbour has nothing of it.
	other := tr.hosts["host-2"]
	eventually(t, "containerd on host-2", func() error { _, err := ctr(other, "version"); return err })
	if out := mustCtr(t, other, "image", "ls", "-q"); out != "" {
		t.Errorf("host-2 has images %s", out)
	}

	// containerd dies, the container does not notice.
	kill(t, containerdOf(t, host))
	eventually(t, "containerd again", func() error { _, err := ctr(host, "version"); return err })
	if again := longer(t, host); again != task {
		t.Errorf("the container was process %s and is %s", task, again)
	}

	// The host loses its power.
	kill(t, host)
	n := tr.next()
	host = tr.outside(n.Pid)
	tr.hosts[n.Name] = host
	eventually(t, "containerd on the host that returned", func() error { _, err := ctr(host, "version"); return err })
	if out := mustCtr(t, host, "task", "ls", "-q"); out != "" {
		t.Errorf("after its return the host still runs %s", out)
	}
	if out := mustCtr(t, host, "container", "ls", "-q"); !strings.Contains(out, "longer") {
		t.Errorf("after its return the host knows of %q", out)
	}
	mustCtr(t, host, "container", "rm", "longer")
	out = mustCtr(t, host, "run", "--rm", "--cgroup", filepath.Join(parent, "host-1", "longer"), imageName, "longer", "/bin/busybox", "echo", "again")
	if out != "again\n" {
		t.Errorf("from the image that is there a container says %q", out)
	}
	mustCtr(t, host, "run", "-d", "--cgroup", filepath.Join(parent, "host-1", "last"), imageName, "last", "/bin/busybox", "sleep", "3600")

	// An orderly end leaves no control group, and no mount keeps the images from being deleted.
	if err := tr.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := tr.launcher.Wait(); err != nil {
		t.Errorf("the tree ended with %v", err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// longer is the process id, on the host, of the container of that name.
func longer(t *testing.T, host int) string {
	t.Helper()
	for line := range strings.Lines(mustCtr(t, host, "task", "ls")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "longer" && f[2] == "RUNNING" {
			return f[1]
		}
	}
	t.Fatalf("the container does not run: %s", mustCtr(t, host, "task", "ls"))
	return ""
}

// containerdOf finds the child of a host that is containerd.
func containerdOf(t *testing.T, host int) int {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		name, _ := statusField(string(b), "Name")
		parent, _ := statusField(string(b), "PPid")
		if name == "containerd" && parent == strconv.Itoa(host) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no containerd on host %d", host)
	return 0
}

// groups lists the control groups at and below parent, in all hierarchies.
func groups(t *testing.T, parent string) (all []string) {
	t.Helper()
	roots, err := cgroupRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		err := filepath.WalkDir(filepath.Join(root, parent), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				all = append(all, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

const imageName = "padis.test/busybox:1"

// busyboxImage is an archive, in the layout of the OCI, of an image of one file.
func busyboxImage(t *testing.T) string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("apt-get install busybox-static: %v", err)
	}
	layer := archive(t, map[string][]byte{"bin/busybox": busybox})
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	blob := func(kind string, content []byte) map[string]any {
		sum := sha256.Sum256(content)
		digest := hex.EncodeToString(sum[:])
		files["blobs/sha256/"+digest] = content
		return map[string]any{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(content)}
	}
	described := blob("layer.v1.tar", layer)
	config := blob("config.v1+json", encode(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Cmd": []string{"/bin/busybox", "sh"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{described["digest"]}},
	}))
	manifest := blob("manifest.v1+json", encode(t, map[string]any{"schemaVersion": 2, "config": config, "layers": []any{described}}))
	manifest["annotations"] = map[string]string{"io.containerd.image.name": imageName}
	files["index.json"] = encode(t, map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	path := filepath.Join(t.TempDir(), "busybox.tar")
	if err := os.WriteFile(path, archive(t, files), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func archive(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, content := range files {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))})
		if _, wrote := w.Write(content); err != nil || wrote != nil {
			t.Fatal(err, wrote)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFindContainerd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ there, missing string }{
		{"containerd containerd-shim-runc-v2 runc", ""},
		{"containerd containerd-shim-runc-v2", "runc: not found in PATH: apt-get install containerd runc"},
		{"containerd runc", "containerd-shim-runc-v2: not found in PATH: apt-get install containerd runc"},
		{"", "runc, containerd-shim-runc-v2, containerd: not found in PATH: apt-get install containerd runc"},
	} {
		path, err := findContainerd(func(name string) (string, error) {
			for _, there := range strings.Fields(c.there) {
				if there == name {
					return "/bin/" + name, nil
				}
			}
			return "", exec.ErrNotFound
		})
		switch {
		case c.missing == "" && (err != nil || path != "/bin/containerd"):
			t.Errorf("with %s: %q, %v", c.there, path, err)
		case c.missing != "" && (err == nil || err.Error() != c.missing):
			t.Errorf("with %s: %v, want %s", c.there, err, c.missing)
		}
	}
}

func TestCgroupParent(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first, err := CgroupParent(data)
	if err != nil || !cgroupName.MatchString(first) {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := CgroupParent(data); err != nil || again != first {
		t.Errorf("it was %s and is %s, %v", first, again, err)
	}
	if other, err := CgroupParent(t.TempDir()); err != nil || other == first {
		t.Errorf("two directories have %s, %v", other, err)
	}
	// What the file says is removed from the machine: nothing else is believed.
	if err := os.WriteFile(filepath.Join(data, "hosts", "cgroup"), []byte("/system.slice\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if replaced, err := CgroupParent(data); err != nil || !cgroupName.MatchString(replaced) {
		t.Errorf("%q, %v", replaced, err)
	}
}

func TestRemoveCgroups(t *testing.T) {
	t.Parallel()
	needRoot(t)
	roots, err := cgroupRoots()
	if err != nil {
		t.Fatal(err)
	}
	parent, err := CgroupParent(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range roots {
		for _, group := range []string{"host-1/a/b", "host-1/c", "host-2"} {
			if err := os.MkdirAll(filepath.Join(root, parent, group), 0o755); err != nil && !errors.Is(err, unix.EROFS) {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if err := RemoveCgroups(parent); err != nil {
			t.Error(err)
		}
	}
	if left := groups(t, parent); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}
