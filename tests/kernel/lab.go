// Package kernel boots a Linux kernel of its own for tests that need what the kernel of the machine may lack: VLANs, the
// datapath of Open vSwitch, IPVS. It is Debian's user-mode-linux, which runs as an ordinary process, in a second, on the
// machine's own file system: a test binary runs in it as it is.
//
// It has one processor and is slow where system calls are many. It is a place for what is right, not for how fast.
package kernel

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lab is a machine that is made for one command.
type Lab struct {
	// Modules are loaded before the command, in order. What the kernel is asked for (ip link add type vlan) it loads itself.
	Modules []string
	// Memory in MiB; 0 is 512.
	Memory int
	// Env is added to the environment of the command, which has PATH, HOME and TMPDIR only. /run and TMPDIR are the lab's
	// own; everything else that is written is written to the machine.
	Env []string
	// Output gets what the command writes as it is written, too; nil is nobody.
	Output io.Writer

	// shim has the kernel boot with the preloaded ptrace, whether it is needed or not.
	shim bool
}

// Result of a command.
type Result struct {
	// Output is standard output and standard error.
	Output string
	// ExitCode of the command, 128 and the signal if it was killed.
	ExitCode int
}

// Missing says why no lab can be had here, and what to do; empty if one can. impossible: nothing can be done, because
// the package exists for Debian on x86 only.
func Missing() (reason string, impossible bool) {
	for _, tool := range []string{"linux.uml", "modprobe"} {
		if _, err := find(tool); err == nil {
			continue
		}
		if _, err := os.Stat("/etc/debian_version"); err != nil || runtime.GOARCH != "amd64" {
			return "user-mode-linux is a package of Debian for x86; its tests cannot run here", true
		}
		return tool + " is not there: run .ci/setup, which installs user-mode-linux and kmod", false
	}
	return "", false
}

// find looks also where only root's PATH leads.
func find(tool string) (string, error) {
	if path, err := exec.LookPath(tool); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + tool)
}

// Run boots a kernel, runs the command in it and returns when the command has ended; nothing is left of the kernel then.
// A command that fails is a Result. An error means that there is none: the kernel did not boot, died, or ctx is done.
func (l Lab) Run(ctx context.Context, command string, args ...string) (Result, error) {
	if reason, _ := Missing(); reason != "" {
		return Result{}, errors.New(reason)
	}
	dir, err := os.MkdirTemp("", "padis-lab-")
	if err != nil {
		return Result{}, err
	}
	defer os.RemoveAll(dir)
	if l.shim || smallState() {
		return l.boot(ctx, dir, true, command, args)
	}
	r, err := l.boot(ctx, dir, false, command, args)
	var dead *deadError
	if errors.As(err, &dead) && strings.Contains(dead.console, stateRefused) {
		tooSmall.Do(func() { close(tooSmallSeen) })
		return l.boot(ctx, dir, true, command, args)
	}
	return r, err
}

// stateRefused is what the kernel says as it dies on a processor with more state than it knows of, before the first
// process of its own.
const stateRefused = "fp regs failed"

var (
	tooSmall     sync.Once
	tooSmallSeen = make(chan struct{})
)

// smallState tells whether a kernel of this process died of it before.
func smallState() bool {
	select {
	case <-tooSmallSeen:
		return true
	default:
		return false
	}
}

type deadError struct{ console string }

func (e *deadError) Error() string {
	return "the kernel ended before the command did; its console says:\n" + e.console
}

func (l Lab) boot(ctx context.Context, dir string, shim bool, command string, args []string) (Result, error) {
	path, err := exec.LookPath(command)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return Result{}, err
	}
	mark := "padis-lab-" + rand.Text()
	first := filepath.Join(dir, "init")
	if err := os.WriteFile(first, l.script(mark, append([]string{path}, args...)), 0o700); err != nil {
		return Result{}, err
	}
	cmd, err := l.kernel(ctx, dir, first, shim)
	if err != nil {
		return Result{}, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	defer out.Close()
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &console, &console, []*os.File{in}
	err = cmd.Start()
	in.Close()
	if err != nil {
		return Result{}, fmt.Errorf("boot the lab's kernel: %w", err)
	}
	r, ended := l.read(out, mark)
	// The kernel would write its last words only to halt.
	cmd.Process.Kill()
	cmd.Wait()
	switch {
	case ended:
		return r, nil
	case ctx.Err() != nil:
		return Result{}, fmt.Errorf("the lab was ended: %w; until then the command wrote:\n%s", ctx.Err(), r.Output)
	}
	return Result{}, &deadError{console.String() + r.Output}
}

// kernel is the process of the kernel; descriptor 3 will be its serial line. It is the first in a PID namespace: when it is
// killed, the host's kernel ends what runs in it, too.
func (l Lab) kernel(ctx context.Context, dir, first string, shim bool) (*exec.Cmd, error) {
	uml, err := find("linux.uml")
	if err != nil {
		return nil, err
	}
	memory := l.Memory
	if memory == 0 {
		memory = 512
	}
	cmd := exec.CommandContext(ctx, uml, fmt.Sprintf("mem=%dM", memory), "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw",
		"init="+first, "con=null", "con0=null,fd:1", "ssl=null", "ssl0=null,fd:3", "quiet", "uml_dir="+dir, "umid=lab")
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	if shim {
		lib, err := buildShim(ctx, dir)
		if err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+lib)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	}
	return cmd, nil
}

// read takes what comes by the serial line up to the mark, behind which is the exit code. ended: it came.
func (l Lab) read(line io.Reader, mark string) (r Result, ended bool) {
	var all []byte
	shown := 0
	buf := make([]byte, 16<<10)
	for {
		n, err := line.Read(buf)
		all = append(all, buf[:n]...)
		at := bytes.Index(all, []byte(mark))
		show := at
		if at < 0 {
			show = len(all)
			// What may become the mark is held back.
			for begun := min(len(mark)-1, len(all)); begun > 0 && err == nil; begun-- {
				if bytes.HasSuffix(all, []byte(mark[:begun])) {
					show -= begun
					break
				}
			}
		}
		if l.Output != nil && show > shown {
			_, _ = l.Output.Write(all[shown:show])
			shown = show
		}
		if at >= 0 {
			code, rest, whole := strings.Cut(string(all[at+len(mark):]), "\n")
			if whole || rest != "" {
				r.Output = string(all[:at])
				r.ExitCode, err = strconv.Atoi(strings.TrimSpace(code))
				return r, err == nil
			}
		}
		if err != nil {
			r.Output = string(all)
			return r, false
		}
	}
}
