package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types/task"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/signals"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// startTime bounds how long Start watches the OCI runtime become the program.
const startTime = 5 * time.Second

// instance is a container.
type instance struct {
	r *Runtime
	// id is the instance's, name the container's.
	id, name, dir string
	// process is how its program was started, and so how others are started beside it.
	process *specs.Process
	cgroup  string

	// What names the first process, while it runs; 0 and nil if it had ended when it was adopted.
	pid          int
	pidfd, netns *os.File

	// starting is held while containerd starts the program: a task that ends meanwhile is not deleted yet, because containerd
	// looks at it once more before it answers.
	starting sync.Mutex

	mu    sync.Mutex
	asked string

	ended chan struct{}
	exit  runtime.Exit
}

func newInstance(r *Runtime, id, name, dir string, spec *specs.Spec) *instance {
	i := &instance{r: r, id: id, name: name, dir: dir, process: spec.Process, ended: make(chan struct{})}
	if spec.Linux != nil {
		i.cgroup = spec.Linux.CgroupsPath
	}
	return i
}

// attach opens what names the first process. It must not have been reaped, or the number could be a stranger's: containerd
// has just said that it runs.
func (i *instance) attach(pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if err == unix.EINVAL { // Linux before 5.10
		if fd, err = unix.PidfdOpen(pid, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if err != nil {
		return fmt.Errorf("open a pidfd of process %d: %w; the executor needs Linux 5.6 or newer, and the process ids of containerd", pid, err)
	}
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("open the network namespace: %w", err)
	}
	i.pid, i.pidfd, i.netns = pid, os.NewFile(uintptr(fd), "pidfd"), netns
	return nil
}

// PID implements runtime.Instance.
func (i *instance) PID() int { return i.pid }

// NetworkNamespace implements runtime.Instance.
func (i *instance) NetworkNamespace() int {
	if i.netns == nil {
		return -1
	}
	return int(i.netns.Fd())
}

func (i *instance) withInit() bool { return len(i.process.Args) > 0 && i.process.Args[0] == initPath }

// Start implements runtime.Instance.
func (i *instance) Start() error {
	err := i.start()
	if err == nil {
		return nil
	}
	// It has ended then, whatever became of it.
	_ = i.Kill()
	<-i.ended
	return failure("start instance "+i.id, err)
}

func (i *instance) start() error {
	if i.withInit() {
		if err := i.findProgram(); err != nil {
			return err
		}
	}
	before, err := os.Stat(i.proc("exe"))
	if err != nil {
		return fmt.Errorf("it ended before it was started: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	for {
		i.starting.Lock()
		_, err := i.r.tasks.Start(ctx, &tasks.StartRequest{ContainerID: i.name})
		i.starting.Unlock()
		err = native(err)
		if err == nil {
			break
		}
		if !errdefs.IsUnavailable(err) {
			return err
		}
		// containerd ended meanwhile: what became of the request?
		p, failed := i.r.state(ctx, i.name)
		if failed != nil {
			return errors.Join(err, failed)
		}
		if p.Status != task.Status_CREATED {
			break
		}
	}
	i.awaitProgram(before)
	return nil
}

func (i *instance) proc(name string) string { return filepath.Join("/proc", strconv.Itoa(i.pid), name) }

// awaitProgram returns when the first process has become the program: until then it is the OCI runtime's, which does
// other things with signals. With an init, also the init's child must be there.
func (i *instance) awaitProgram(before os.FileInfo) {
	deadline := time.Now().Add(startTime)
	for pause := 100 * time.Microsecond; time.Now().Before(deadline); pause = min(2*pause, 2*time.Millisecond) {
		now, err := os.Stat(i.proc("exe"))
		if err != nil {
			return // it has ended
		}
		if !os.SameFile(before, now) && i.hasChild() {
			return
		}
		time.Sleep(pause)
	}
	i.r.log.Warn("the OCI runtime has not become the program", zap.String("instance", i.id))
}

// hasChild tells whether the init, if there is one, has started the program. Kernels that do not list children are believed.
func (i *instance) hasChild() bool {
	if !i.withInit() {
		return true
	}
	tasks, err := filepath.Glob(i.proc("task/*/children"))
	if err != nil || len(tasks) == 0 {
		return true
	}
	for _, name := range tasks {
		if b, err := os.ReadFile(name); err != nil || len(b) > 0 {
			return true
		}
	}
	return false
}

// findProgram looks for the program that the init is to start: the OCI runtime has only looked for the init.
func (i *instance) findProgram() error {
	root, err := unix.Open(i.proc("root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("it ended before it was started: %w", err)
	}
	defer unix.Close(root)
	name := i.process.Args[3] // behind the init, its verb and "--"
	dirs := []string{""}
	if !strings.Contains(name, "/") {
		for _, e := range i.process.Env {
			if v, ok := strings.CutPrefix(e, "PATH="); ok {
				dirs = filepath.SplitList(v)
			}
		}
	}
	for _, dir := range dirs {
		p := filepath.Join(dir, name)
		if !filepath.IsAbs(p) {
			p = filepath.Join(i.process.Cwd, p)
		}
		if executable(root, p) {
			return nil
		}
	}
	return refuse(padisv1.ReasonCommandNotFound, "start instance %s: the image has no program %q; correct template.command or template.args, or the image", i.id, name)
}

func executable(root int, name string) bool {
	fd, err := openInside(root, name, unix.O_PATH)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Mode&0o111 != 0
}

// Stop implements runtime.Instance.
func (i *instance) Stop(name string) error {
	sig := unix.SignalNum(name)
	if sig == 0 {
		return fmt.Errorf("there is no signal %q", name)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	select {
	case <-i.ended:
		return nil
	default:
	}
	// An init hands signals on to a program that is not PID 1.
	if sig != unix.SIGKILL && signals.EndsByDefault(int(sig)) && !i.withInit() {
		status, err := os.ReadFile(i.proc("status"))
		if err == nil && !signals.Said(string(status)).Has(int(sig)) {
			i.asked = name
			// For who adopts it before it has ended; without this, its end is told less well.
			if err := os.WriteFile(i.askedFile(), []byte(name), 0o600); err != nil {
				i.r.log.Warn("the signal asked for could not be noted", zap.String("instance", i.id), zap.Error(err))
			}
			sig = unix.SIGKILL
		}
	}
	return i.send(sig)
}

// Kill implements runtime.Instance. With PID 1, the kernel ends all others of its namespace.
func (i *instance) Kill() error { return i.send(unix.SIGKILL) }

func (i *instance) send(sig unix.Signal) error {
	if i.pidfd == nil {
		return nil // it had ended when it was adopted
	}
	conn, err := i.pidfd.SyscallConn()
	if err != nil {
		return nil // closed: it has ended
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return nil
	}
	if failed != nil && failed != unix.ESRCH {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(sig), i.pid, failed)
	}
	return nil
}

// Wait implements runtime.Instance.
func (i *instance) Wait() runtime.Exit {
	<-i.ended
	return i.exit
}

// Close implements runtime.Instance.
func (i *instance) Close() error {
	select {
	case <-i.ended:
	default:
		return fmt.Errorf("instance %s has not ended", i.id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	if err := i.r.remove(ctx, i.name); err != nil {
		return fmt.Errorf("remove the container of instance %s: %w", i.id, err)
	}
	for _, f := range []*os.File{i.pidfd, i.netns} {
		if f != nil {
			_ = f.Close()
		}
	}
	return nil
}
