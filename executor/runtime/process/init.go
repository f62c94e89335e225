package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	padis "padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// orders is what the init does, as JSON on its descriptor 3.
type orders struct {
	ID, Dir, Hostname string
	Command, Env      []string
	WorkingDir, User  string
}

const (
	ordersFD  = 3
	verdictFD = 4
)

// Init is the first process of an instance: it waits for its orders and becomes the user's program. It returns only
// when that failed, with the exit code; the reason went to the executor.
func Init() int {
	// The parent-death signal belongs to the thread that calls execve.
	runtime.LockOSThread()
	unix.CloseOnExec(ordersFD)
	unix.CloseOnExec(verdictFD)
	b, err := io.ReadAll(os.NewFile(ordersFD, "orders"))
	if err == nil && len(b) == 0 {
		return 1 // the executor went away
	}
	var o orders
	if err == nil {
		err = json.Unmarshal(b, &o)
	}
	if err == nil {
		err = become(o)
	}
	reason := padisv1.ReasonSandboxFailed
	var start *padis.StartError
	if errors.As(err, &start) {
		reason = start.Reason
	}
	_, _ = unix.Write(verdictFD, []byte(reason+"\x00"+err.Error()))
	return 1
}

func become(o orders) error {
	if err := unix.Sethostname([]byte(o.Hostname)); err != nil {
		return fmt.Errorf("set the host name %q: %w", o.Hostname, err)
	}
	who, err := lookUp(o.User)
	if err != nil {
		return err
	}
	if err := arrangeMounts(o.Dir); err != nil {
		return err
	}
	if err := own(who, filepath.Join(o.Dir, "work")); err != nil {
		return err
	}
	if err := drop(who); err != nil {
		return err
	}
	dir := o.WorkingDir
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(o.Dir, "work", dir)
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("enter the working directory: %w; create it, or correct template.workingDir", err)
	}
	path, err := resolve(o.Command, o.Env)
	if err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// Descriptors that the executor itself inherited, without knowing of them, stay ours.
	if err := unix.CloseRange(ordersFD, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS && err != unix.EINVAL {
		return fmt.Errorf("close descriptors: %w", err)
	}
	// Changing the user took the parent-death signal away.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set the parent-death signal: %w", err)
	}
	if orphaned() {
		return errors.New("the executor ended")
	}
	err = unix.Exec(path, o.Command, o.Env)
	return &padis.StartError{Reason: padisv1.ReasonCommandNotFound, Message: fmt.Sprintf("run %s: %v; is it a program for this machine, and is its interpreter installed?", path, err)}
}

// orphaned tells whether nobody holds the other end of the verdict any more: the executor ended before the
// parent-death signal was set.
func orphaned() bool {
	p := []unix.PollFd{{Fd: verdictFD}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLERR != 0
}

// arrangeMounts gives the instance a /proc of its own processes, a private /dev/shm and /tmp, and its own name
// resolution. The rest of the file system is the host's.
func arrangeMounts(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w; in a container, run the executor with an unmasked /proc", err)
	}
	for _, name := range []string{"hosts", "resolv.conf"} {
		target := "/etc/" + name
		if _, err := os.Stat(target); errors.Is(err, os.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "padis: this host has no %s, so the instance has none of its own; create it (touch %s)\n", target, target)
			continue
		}
		if err := unix.Mount(filepath.Join(dir, "etc", name), target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	// A sandbox below one of these must stay reachable: then it is shared with the host.
	if !strings.HasPrefix(dir, "/dev/shm/") {
		if err := unix.Mount("shm", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil && err != unix.ENOENT {
			return fmt.Errorf("mount /dev/shm: %w", err)
		}
	}
	if !strings.HasPrefix(dir, "/tmp/") {
		if err := unix.Mount(filepath.Join(dir, "tmp"), "/tmp", "", unix.MS_BIND, ""); err != nil && err != unix.ENOENT {
			return fmt.Errorf("mount /tmp: %w", err)
		}
	}
	return nil
}

// resolve finds the program as a shell would.
func resolve(command, env []string) (string, error) {
	if len(command) == 0 {
		return "", &padis.StartError{Reason: padisv1.ReasonCommandNotFound, Message: "the template has no command"}
	}
	name := command[0]
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", &padis.StartError{Reason: padisv1.ReasonCommandNotFound, Message: fmt.Sprintf("command %q: %v; correct template.command, or fetch it with template.artifacts and executable: true", name, err)}
		}
		return name, nil
	}
	var path string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		if p := dir + "/" + name; executable(p) == nil {
			return p, nil
		}
	}
	return "", &padis.StartError{Reason: padisv1.ReasonCommandNotFound, Message: fmt.Sprintf("command %q is not in PATH (%s) of this host; install it there, fetch it with template.artifacts, or correct template.command", name, path)}
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	if info.IsDir() {
		return unix.EISDIR
	}
	return unix.Access(path, unix.X_OK)
}
