package containerd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func TestExitOf(t *testing.T) {
	for _, c := range []struct {
		status uint32
		init   bool
		asked  string
		want   runtime.Exit
	}{
		{0, false, "", runtime.Exit{}},
		{255, false, "", runtime.Exit{Code: 255}},
		{137, false, "", runtime.Exit{Code: 137, Signal: "SIGKILL"}},
		{137, false, "SIGTERM", runtime.Exit{Code: 143, Signal: "SIGTERM"}},
		{139, false, "", runtime.Exit{Code: 139, Signal: "SIGSEGV"}},
		{143, false, "", runtime.Exit{Code: 143}},
		{143, true, "", runtime.Exit{Code: 143, Signal: "SIGTERM"}},
		{7, false, "SIGTERM", runtime.Exit{Code: 7}},
	} {
		if got := exitOf(c.status, c.init, c.asked); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
}

func TestFailure(t *testing.T) {
	for text, want := range map[string]string{
		`runc create failed: unable to start container process: exec: "x": executable file not found in $PATH: unknown`: padisv1.ReasonCommandNotFound,
		`unable to start container process: exec: "/etc/passwd": permission denied: unknown`:                            padisv1.ReasonCommandNotFound,
		"executable file `x` not found in $PATH: No such file or directory: unknown":                                    padisv1.ReasonCommandNotFound,
		`error mounting "/a" to rootfs at "/b": mount /a:/b, flags: 0x5000: not a directory: unknown`:                   padisv1.ReasonVolumeFailed,
		"mount `/a` to `b`: Not a directory: unknown":                                                                   padisv1.ReasonVolumeFailed,
		"mkdir /var/lib/containerd/x: no space left on device":                                                          padisv1.ReasonInsufficientSpace,
		"something else": padisv1.ReasonContainerFailed,
	} {
		if err := failure("create", errors.New(text)); reason(err) != want {
			t.Errorf("%s: %s, want %s", text, reason(err), want)
		}
	}
	if err := failure("create", &os.PathError{Op: "write", Path: "x", Err: unix.EDQUOT}); reason(err) != padisv1.ReasonInsufficientSpace {
		t.Error(err)
	}
	kept := refuse(padisv1.ReasonUserNotFound, "no user")
	if err := failure("create", kept); err != kept {
		t.Error(err)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"A=1", "B=2", "A=3"}, []string{"B=4", "C=5"})
	if want := []string{"A=3", "B=4", "C=5"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLimit(t *testing.T) {
	var r specs.LinuxResources
	limit(&r, runtime.Limits{CPUMilli: 1500, MemoryBytes: 1 << 20, Pids: 5}, true)
	if *r.CPU.Quota != 150000 || *r.CPU.Period != 100000 || *r.Memory.Limit != 1<<20 || *r.Memory.Swap != 1<<20 || *r.Pids.Limit != 5 {
		t.Errorf("%+v %+v %+v", r.CPU, r.Memory, r.Pids)
	}
	r = specs.LinuxResources{}
	limit(&r, runtime.Limits{CPUMilli: 1, MemoryBytes: 1 << 20}, false)
	if *r.CPU.Quota != minQuota || r.Memory.Swap != nil || r.Pids != nil {
		t.Errorf("%+v %+v %+v", r.CPU, r.Memory, r.Pids)
	}
	r = specs.LinuxResources{}
	limit(&r, runtime.Limits{}, true)
	if r.CPU != nil || r.Memory != nil || r.Pids != nil {
		t.Errorf("%+v", r)
	}
}

func TestAccountsOfStrangers(t *testing.T) {
	write := func(root, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := func() string {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		return root
	}
	// A link leads to the image's own files, never to those of the host.
	root := dir()
	if err := os.Symlink("/elsewhere", filepath.Join(root, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	write(root, "elsewhere", "eve:x:5:6::/:/bin/sh\n")
	a, err := readAccounts(root)
	if err != nil {
		t.Fatal(err)
	}
	if u, err := a.lookUp("eve"); err != nil || u.UID != 5 || u.GID != 6 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := a.lookUp("root:eve"); reason(err) != padisv1.ReasonUserNotFound {
		t.Error(err)
	}
	// Files that are none do not hold anybody up.
	root = dir()
	if err := unix.Mkfifo(filepath.Join(root, "etc/passwd"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readAccounts(root); err == nil {
		t.Error("a named pipe was read")
	}
	root = dir()
	write(root, "etc/group", string(make([]byte, accountsSize+1)))
	if _, err := readAccounts(root); err == nil {
		t.Error("a huge file was read")
	}
	// An image without users has numbers.
	if u, err := (accounts{}).lookUp("7:8"); err != nil || u.UID != 7 || u.GID != 8 {
		t.Errorf("%+v, %v", u, err)
	}
	for _, who := range []string{"-1", "4294967295", "1:4294967295", "99999999999", "eve"} {
		if u, err := (accounts{}).lookUp(who); reason(err) != padisv1.ReasonUserNotFound {
			t.Errorf("%s: %+v, %v", who, u, err)
		}
	}
}

func FuzzWhatIsRead(f *testing.F) {
	f.Add([]byte("root:x:0:0::/root:/bin/sh\n"), "root:root")
	f.Add([]byte(`{"code":3,"signal":"SIGTERM"}`), "0:0")
	f.Add([]byte("oom_kill 1\n"), "4294967296")
	f.Fuzz(func(t *testing.T, b []byte, who string) {
		parseExit(b)
		if parseOOMKills(string(b)) < 0 {
			t.Error("fewer than none")
		}
		if _, err := (accounts{passwd: b, group: b}).lookUp(who); err != nil && reason(err) != padisv1.ReasonUserNotFound {
			t.Error(err)
		}
	})
}

// What was made for the instance is not looked at: the server that it is on may have gone silent. Other sources are waited
// for a while.
func TestMountsDoNotWaitForServers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	with := func(source string) runtime.Spec {
		return runtime.Spec{Dir: dir, Hostname: "web-0", Container: &runtime.Container{Mounts: []runtime.Mount{{Type: "bind", Source: source, Target: "/data"}}}}
	}
	// Seen, it would be missing.
	made := filepath.Join(dir, "volumes", "data")
	all, err := mountsOf(t.Context(), with(made))
	if err != nil || all[len(all)-1].Source != made {
		t.Errorf("%+v, %v", all, err)
	}
	for source, want := range map[string]string{
		filepath.Join(dir, "volumes", "..", "absent"): "create it on the host",
		filepath.Join(dir, "volumes-of-others"):       "create it on the host",
	} {
		if _, err := mountsOf(t.Context(), with(source)); reason(err) != padisv1.ReasonVolumeFailed || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", source, err)
		}
	}
	if _, err := mountsOf(t.Context(), with(dir)); err != nil {
		t.Error(err)
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer fuse.Close()
	silent := t.TempDir()
	if err := unix.Mount("silent", silent, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		t.Skip(err)
	}
	defer func() { _ = unix.Unmount(silent, unix.MNT_DETACH) }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := mountsOf(ctx, with(silent)); reason(err) != padisv1.ReasonVolumeFailed || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("a silent server: %v", err)
	}
}

func TestPatternsFitAllButWhatIsForbidden(t *testing.T) {
	patterns := patternsOfOthers(changesAttributes, pattern{}, 0)
	fits := func(n uint32) bool {
		return slices.ContainsFunc(patterns, func(p pattern) bool { return n&p.mask == p.value })
	}
	if len(patterns) > 40 {
		t.Errorf("%d patterns", len(patterns))
	}
	check := func(n uint32) {
		if fits(n) == slices.Contains(changesAttributes, n) {
			t.Fatalf("%#x: %v", n, fits(n))
		}
	}
	for _, n := range changesAttributes {
		check(n)
		for a := range 32 {
			check(n ^ 1<<a)
			for b := range a {
				check(n ^ 1<<a ^ 1<<b)
			}
		}
	}
	// All numbers that have what those have in common.
	varying := (changesAttributes[0] ^ changesAttributes[1]) | (changesAttributes[0] ^ changesAttributes[2])
	for sub := varying; ; sub = (sub - 1) & varying {
		check(changesAttributes[0]&^varying | sub)
		if sub == 0 {
			break
		}
	}
	for range 100_000 {
		check(rand.Uint32())
	}
}
