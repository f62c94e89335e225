package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
)

// textLimit bounds what is kept of the output of a command.
const textLimit = 1024

// Run implements runtime.Instance. It enters the namespaces on a thread of its own, which ends with the command.
func (i *instance) Run(command []string, timeout time.Duration) (runtime.Output, error) {
	select {
	case <-i.ended:
		return runtime.Output{}, fmt.Errorf("instance %s has ended", i.spec.ID)
	default:
	}
	out, in, err := os.Pipe()
	if err != nil {
		return runtime.Output{}, err
	}
	defer out.Close()
	defer in.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return runtime.Output{}, err
	}
	defer null.Close()
	type started struct {
		pid int
		err error
	}
	begun, done := make(chan started, 1), make(chan unix.WaitStatus, 1)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends with the goroutine
		pid, err := i.spawnInside(visitor{
			command: command, env: i.spec.Env, user: i.spec.User, dir: i.spec.WorkingDir, files: [3]*os.File{null, in, in},
		})
		begun <- started{pid, err}
		if err != nil {
			return
		}
		var ws unix.WaitStatus
		for {
			if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
				break
			}
		}
		done <- ws
	}()
	s := <-begun
	if s.err != nil {
		return runtime.Output{}, s.err
	}
	in.Close()
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(io.LimitReader(out, textLimit))
		text <- strings.ToValidUTF8(strings.TrimSpace(string(b)), "?")
		_, _ = io.Copy(io.Discard, out)
	}()
	alarm := time.NewTimer(timeout)
	defer alarm.Stop()
	var result runtime.Output
	select {
	case ws := <-done:
		result.Exit = exitOf(ws)
	case <-alarm.C:
		result.TimedOut = true
		// It leads a process group, and is not reaped before the thread above says so.
		_ = unix.Kill(-s.pid, unix.SIGKILL)
		result.Exit = exitOf(<-done)
	}
	// What it left running in the background must not hold the answer up.
	if err := out.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err == nil {
		result.Text = <-text
	}
	return result, nil
}

// visitor is a command that is run in an instance beside its program.
type visitor struct {
	command, env []string
	user, dir    string
	// files become its first descriptors. With terminal they are one, which becomes its controlling terminal.
	files    [3]*os.File
	terminal bool
	// own tells that the files are its own: its user may open them again.
	own bool
}

// spawnInside starts the command in the instance. It changes the calling thread for good.
func (i *instance) spawnInside(v visitor) (int, error) {
	// A mount namespace can be entered only by who shares the root and working directory with nobody.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, fmt.Errorf("prepare to enter the instance: %w", err)
	}
	conn, err := i.pidfd.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("instance %s has ended", i.spec.ID)
	}
	var failed error
	err = conn.Control(func(fd uintptr) { failed = unix.Setns(int(fd), namespaces) })
	if err := errors.Join(err, failed); err != nil {
		return 0, fmt.Errorf("enter the instance: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("set no_new_privs: %w", err)
	}
	who, err := lookUp(v.user)
	if err != nil {
		return 0, err
	}
	dir := v.dir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(i.spec.Dir, "work", dir)
	}
	if err := unix.Chdir(dir); err != nil {
		return 0, fmt.Errorf("enter the working directory %s: %w", dir, err)
	}
	path, err := resolve(v.command, v.env)
	if err != nil {
		return 0, err
	}
	// No parent-death signal: the command ends with the instance, which ends with the executor. (The Go runtime would
	// take its absent parent process id, seen from inside the namespace, for a parent that has died.)
	sys := &syscall.SysProcAttr{Setpgid: !v.terminal, Setsid: v.terminal, Setctty: v.terminal}
	if who != nil && who.uid != os.Getuid() {
		sys.Credential = &syscall.Credential{Uid: uint32(who.uid), Gid: uint32(who.gid)}
		for _, g := range who.groups {
			sys.Credential.Groups = append(sys.Credential.Groups, uint32(g))
		}
		for _, f := range v.files {
			if !v.own {
				break
			}
			if err := f.Chown(who.uid, who.gid); err != nil {
				return 0, unmapped(who, err)
			}
		}
	}
	return syscall.ForkExec(path, v.command, &syscall.ProcAttr{
		Env: v.env, Files: []uintptr{v.files[0].Fd(), v.files[1].Fd(), v.files[2].Fd()}, Sys: sys,
	})
}
