// Package containerdtest starts a real containerd for tests: with directories and a socket of its own, so that it has
// nothing to do with one that the machine runs. Edge: talks to containerd, its shims, mounts and control groups.
package containerdtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds how long is waited for a daemon; no test depends on how long something takes.
const patience = 30 * time.Second

// unneeded are plugins that tests do without.
var unneeded = []string{
	"io.containerd.grpc.v1.cri",
	"io.containerd.internal.v1.opt",
	"io.containerd.internal.v1.restart",
	"io.containerd.internal.v1.tracing",
	"io.containerd.monitor.v1.cgroups",
	"io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.zfs",
	"io.containerd.tracing.processor.v1.otlp",
}

// Daemon is a running containerd.
type Daemon struct {
	// Address is the path of its socket. It stays the same when the daemon is started again.
	Address string
	// Root holds images and file systems, State what is there while containers run.
	Root, State string

	dir    string
	hideV2 bool
	mu     sync.Mutex
	cmd    *exec.Cmd
}

// Start starts a containerd, which ends with the test, along with all containers. Without root, the test is skipped.
func Start(t testing.TB) *Daemon {
	t.Helper()
	return start(t, false)
}

// StartForCrun is Start for tests of crun, which refuses machines with control groups of both versions: there, this
// containerd sees those of version 1 only.
func StartForCrun(t testing.TB) *Daemon {
	t.Helper()
	return start(t, true)
}

// both is where control groups of version 2 are on machines that have both.
const both = "/sys/fs/cgroup/unified"

func start(t testing.TB, crun bool) *Daemon {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("containers need root")
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "runc"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%v: install what the tests need: apt-get install containerd runc", err)
		}
	}
	// Not t.TempDir: the path of a socket is short.
	dir, err := os.MkdirTemp("", "ctrd")
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(both)
	d := &Daemon{dir: dir, hideV2: crun && err == nil, Address: filepath.Join(dir, "sock"), Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd said last:\n%s", d.said())
		}
		d.Kill()
		d.sweep(t)
	})
	if err := os.WriteFile(d.config(), []byte(d.configText()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *Daemon) config() string { return filepath.Join(d.dir, "config.toml") }
func (d *Daemon) log() string    { return filepath.Join(d.dir, "log") }

// said is the end of what the daemon said that is no mere information.
func (d *Daemon) said() string {
	const most = 30
	b, _ := os.ReadFile(d.log())
	var all []string
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "level=info") {
			all = append(all, line)
		}
	}
	return strings.Join(all[max(0, len(all)-most):], "")
}

func (d *Daemon) configText() string {
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\n", d.Root, d.State)
	for _, name := range unneeded {
		text += fmt.Sprintf("  %q,\n", name)
	}
	return text + fmt.Sprintf("]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n[debug]\nlevel = \"warn\"\n", d.Address, d.Address+".ttrpc")
}

func (d *Daemon) start() error {
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("containerd", "--config", d.config())
	if d.hideV2 {
		cmd = exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "umount "+both+`; exec containerd --config "$1"`, "sh", d.config())
	}
	cmd.Stdout, cmd.Stderr = log, log
	// If the test itself is killed. The signal is sent when the thread ends that made the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	begun := make(chan error, 1)
	go func() {
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-begun; err != nil {
		return err
	}
	d.mu.Lock()
	d.cmd = cmd
	d.mu.Unlock()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", d.Address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("containerd does not listen: %w\n%s", err, d.said())
		}
	}
}

// Kill ends the daemon as kill -9 does; containers go on. Killing it twice is no error.
func (d *Daemon) Kill() {
	d.mu.Lock()
	cmd := d.cmd
	d.cmd = nil
	d.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill()
	for {
		// The goroutine that started it reaps it.
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Restart kills the daemon, if it runs, and starts it again.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.Kill()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
}
