package process

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/conformance"
)

const holdVerb = "hold-instances"

// TestMain is, by its first argument, also the init of an instance and an executor that can be killed. Without root, the
// tests run in a user namespace.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == InitVerb:
		os.Exit(Init())
	case len(os.Args) > 1 && os.Args[1] == holdVerb:
		hold(os.Args[2:])
	case os.Getuid() != 0:
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
			Pdeathsig:   syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		if err := cmd.Run(); err != nil {
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func TestConformance(t *testing.T) { conformance.Run(t, New("/proc/self/exe", 4)) }

// hold starts the instance that its arguments describe (sandbox, user, command), says its process id, and waits.
func hold(args []string) {
	i, err := New("/proc/self/exe", 2).Create(runtime.Spec{
		ID: "held", Dir: args[0], User: args[1], Command: args[2:], Hostname: "held", Env: []string{"PATH=/usr/bin:/bin"}, Stdout: 2, Stderr: 2,
	})
	if err == nil && args[2] != "never-started" {
		err = i.Start()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(i.PID())
	select {}
}

// executor starts a process that holds an instance and returns both process ids.
func executor(t *testing.T, args ...string) (parent, instance int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{holdVerb}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &instance); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	t.Cleanup(func() { unix.Kill(instance, unix.SIGKILL) })
	return cmd.Process.Pid, instance
}

func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return f[0] != "Z" && f[0] != "X"
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestInstancesEndWithAKilledExecutor(t *testing.T) {
	for name, args := range map[string][]string{
		"as root":      {"", "sh", "-c", "trap '' TERM HUP INT; sleep 1000 & while :; do sleep 1; done"},
		"as a user":    {"nobody", "sleep", "1000"},
		"not yet told": {"", "never-started"},
	} {
		t.Run(name, func(t *testing.T) {
			if b, err := os.ReadFile("/proc/self/uid_map"); args[0] != "" && err == nil && strings.Fields(string(b))[2] == "1" {
				t.Skip("a user namespace with one user has nobody else to run as")
			}
			parent, instance := executor(t, append([]string{conformance.Sandbox(t)}, args...)...)
			if !running(instance) {
				t.Fatal("it does not run")
			}
			if err := unix.Kill(parent, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			until(t, "the end of the instance", func() bool { return !running(instance) })
		})
	}
}

func TestSweepEndsWhatAKilledExecutorLeft(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run", "tasks", "held")
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(conformance.Sandbox(t), dir); err != nil {
		t.Fatal(err)
	}
	_, instance := executor(t, dir, "", "sleep", "1000")
	// A record of a process id that has been used again names a stranger.
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stranger.Process.Kill(); _ = stranger.Wait() })
	other := filepath.Join(root, "run", "tasks", "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(other, recordName), fmt.Appendf(nil, "%d 1\n", stranger.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	pattern := filepath.Join(root, "*", "tasks", "*")
	swept, err := Sweep(pattern)
	if err != nil || len(swept) != 1 || swept[0] != dir {
		t.Fatalf("swept %v, %v", swept, err)
	}
	until(t, "the end of the instance", func() bool { return !running(instance) })
	if !running(stranger.Process.Pid) {
		t.Error("a stranger was killed")
	}
	if swept, err := Sweep(pattern); err != nil || len(swept) != 0 {
		t.Errorf("a second time: %v, %v", swept, err)
	}
}

func TestNothingOfTheExecutorIsInherited(t *testing.T) {
	// A descriptor without close-on-exec, as an executor may have been given.
	fds := make([]int, 2)
	if err := unix.Pipe(fds); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	i, err := New("/proc/self/exe", 1).Create(runtime.Spec{
		ID: "x", Dir: conformance.Sandbox(t), Hostname: "x", Env: []string{"PATH=/usr/bin:/bin"}, Stdout: int(w.Fd()), Stderr: int(w.Fd()),
		Command: []string{"sh", "-c", "ls /proc/1/fd; env"},
	})
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	if err := i.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	b := make([]byte, 4096)
	n := 0
	for err == nil {
		var m int
		m, err = r.Read(b[n:])
		n += m
	}
	i.Wait()
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	got := strings.Fields(string(b[:n]))
	slices.Sort(got)
	// The shell itself adds PWD.
	if want := []string{"0", "1", "2", "PATH=/usr/bin:/bin", "PWD=" + i.(*instance).spec.Dir + "/work"}; !slices.Equal(got, want) {
		t.Errorf("descriptors and environment: %q, want %q", got, want)
	}
}

func TestTemporaryFilesAreTheInstancesOwn(t *testing.T) {
	// Not below /tmp, which would then be shared.
	dir, err := os.MkdirTemp("/var/tmp", "padis-process")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for _, d := range []string{"work", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"hosts", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dir, "etc", f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Base(dir)
	i, err := New("/proc/self/exe", 1).Create(runtime.Spec{
		ID: "x", Dir: dir, Hostname: "x", Env: []string{"PATH=/usr/bin:/bin"}, Stdout: 2, Stderr: 2,
		Command: []string{"sh", "-c", "echo mine >/tmp/" + name + " && echo mine >/dev/shm/" + name},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Start(); err != nil {
		t.Fatal(err)
	}
	if e := i.Wait(); e != (runtime.Exit{}) {
		t.Error(e)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "tmp", name)); err != nil || string(b) != "mine\n" {
		t.Errorf("its /tmp: %q, %v", b, err)
	}
	for _, shared := range []string{"/tmp/", "/dev/shm/"} {
		if _, err := os.Stat(shared + name); err == nil {
			t.Errorf("it wrote to the host's %s", shared)
		}
	}
}

func FuzzProc(f *testing.F) {
	stat, _ := os.ReadFile("/proc/self/stat")
	f.Add(string(stat))
	f.Add("1 (a) b) S 0")
	f.Fuzz(func(t *testing.T, s string) { _, _ = parseStartTime(s) })
}

func BenchmarkStart(b *testing.B) {
	r := New("/proc/self/exe", 4)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for b.Loop() {
		i, err := r.Create(runtime.Spec{ID: "x", Dir: conformance.Sandbox(b), Hostname: "x", Env: []string{"PATH=/usr/bin:/bin"}, Command: []string{"sleep", "1000"}, Stdout: int(null.Fd()), Stderr: int(null.Fd())})
		if err != nil {
			b.Fatal(err)
		}
		if err := i.Start(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		_ = i.Kill()
		i.Wait()
		_ = i.Close()
		b.StartTimer()
	}
}
