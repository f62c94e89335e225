// Package process runs instances as plain processes in network, mount, PID, UTS and IPC namespaces of their own.
// Edge: talks to the kernel's namespaces and processes.
//
// Create starts the executor's own binary again, as `padis-executor instance-init`, in the new namespaces. It waits
// for its orders while the caller wires the network, then arranges the mounts, drops privileges and becomes the user's
// program by execve. So the program is PID 1 of its namespace, and no process of ours stays beside it: fifty instances
// cost no memory but their own. The price is what the kernel holds for PID 1:
//
//   - A signal for which PID 1 has neither handler nor mask is dropped instead of taking its default action. Stop
//     therefore reads from /proc what the program has said about the signal. If the default action applies and would
//     end the program, SIGKILL does so at once, and the exit is reported as by the signal asked for. A signal that is
//     ignored, handled or blocked (for sigwait or a signalfd) is delivered as it is.
//   - A program that raises a signal against itself, and leaves it at its default action, lives on. Faults (SIGSEGV,
//     and abort() in the end) do end it: the kernel forces those.
//   - PID 1 inherits orphans. A program that starts daemons must reap them, as in a container without an init; shells do.
//
// When PID 1 ends, the kernel ends all processes of the namespace before it says so. Each PID 1 has SIGKILL as its
// parent-death signal, bound to a thread that lives as long as the executor, so that instances end with the executor
// however that ends. A program could take its death signal back; Sweep finds those.
package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/executor/runtime/signals"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// InitVerb is the argument with which the executor's main must call Init, before anything else.
const InitVerb = "instance-init"

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

// Runtime makes instances.
type Runtime struct {
	binary   string
	spawners chan func()
}

// New prepares a runtime whose instances begin as "binary instance-init" (normally /proc/self/exe). At most parallel
// of them are forked at one time.
func New(binary string, parallel int) *Runtime {
	r := &Runtime{binary: binary, spawners: make(chan func())}
	for range max(parallel, 1) {
		go spawner(r.spawners)
	}
	return r
}

type instance struct {
	spec runtime.Spec
	// pid may name another process once the instance has been waited for; pidfd never does.
	pid   int
	pidfd *os.File
	netns *os.File
	// orders takes the init's orders; verdict gives its failure, or nothing when it became the program.
	orders, verdict *os.File

	ended chan struct{}
	exit  runtime.Exit

	mu sync.Mutex
	// asked is the signal whose default action Stop carried out by SIGKILL.
	asked string
}

// Create implements runtime.Runtime.
func (r *Runtime) Create(s runtime.Spec) (runtime.Instance, error) {
	i, err := r.create(s)
	if err != nil {
		return nil, failure(padisv1.ReasonSandboxFailed, fmt.Errorf("make the namespaces of the instance: %w", err))
	}
	return i, nil
}

func (r *Runtime) create(s runtime.Spec) (*instance, error) {
	ordersIn, orders, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ordersIn.Close()
	verdict, verdictOut, err := os.Pipe()
	if err != nil {
		orders.Close()
		return nil, err
	}
	defer verdictOut.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		orders.Close()
		verdict.Close()
		return nil, err
	}
	defer null.Close()
	i := &instance{spec: s, orders: orders, verdict: verdict, ended: make(chan struct{})}
	pidfd := -1
	attr := &syscall.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1", "GOGC=off"},
		Files: []uintptr{null.Fd(), uintptr(s.Stdout), uintptr(s.Stderr), ordersIn.Fd(), verdictOut.Fd()},
		Sys:   &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL, Setsid: true, PidFD: &pidfd},
	}
	if s.HostNetwork {
		attr.Sys.Cloneflags &^= unix.CLONE_NEWNET
	}
	done := make(chan struct{})
	r.spawners <- func() {
		defer close(done)
		i.pid, err = syscall.ForkExec(r.binary, []string{"padis-executor", InitVerb}, attr)
	}
	<-done
	if err != nil {
		orders.Close()
		verdict.Close()
		return nil, err
	}
	if i.pidfd, err = pollable(pidfd, i.pid); err == nil {
		i.netns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", i.pid))
	}
	if err == nil {
		err = record(s.Dir, i.pid)
	}
	if err != nil {
		unix.Kill(i.pid, unix.SIGKILL)
		var ws unix.WaitStatus
		unix.Wait4(i.pid, &ws, 0, nil)
		i.closeAll()
		return nil, err
	}
	go i.reap()
	return i, nil
}

// pollable turns a pidfd into a file that the runtime's poller can wait for, so that waiting costs no thread.
func pollable(fd, pid int) (*os.File, error) {
	if fd < 0 {
		var err error
		if fd, err = unix.PidfdOpen(pid, 0); err != nil {
			return nil, fmt.Errorf("open a pidfd: %w; the executor needs Linux 5.3 or newer", err)
		}
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

func (i *instance) reap() {
	var ws unix.WaitStatus
	conn, err := i.pidfd.SyscallConn()
	if err == nil {
		err = conn.Read(func(uintptr) bool {
			pid, err := unix.Wait4(i.pid, &ws, unix.WNOHANG, nil)
			return err != unix.EINTR && pid != 0
		})
	}
	if err != nil {
		// The poller cannot wait for it: wait with a thread.
		for {
			if _, err := unix.Wait4(i.pid, &ws, 0, nil); err != unix.EINTR {
				break
			}
		}
	}
	i.mu.Lock()
	i.exit = exitOf(ws)
	if i.asked != "" && i.exit.Signal == "SIGKILL" {
		i.exit.Signal = i.asked
	}
	i.mu.Unlock()
	close(i.ended)
}

func exitOf(ws unix.WaitStatus) runtime.Exit {
	if ws.Signaled() {
		return runtime.Exit{Code: 128 + int(ws.Signal()), Signal: unix.SignalName(ws.Signal())}
	}
	return runtime.Exit{Code: ws.ExitStatus()}
}

func (i *instance) PID() int              { return i.pid }
func (i *instance) NetworkNamespace() int { return int(i.netns.Fd()) }

// Start implements runtime.Instance.
func (i *instance) Start() error {
	err := json.NewEncoder(i.orders).Encode(orders{
		ID: i.spec.ID, Dir: i.spec.Dir, Hostname: i.spec.Hostname, Command: i.spec.Command, Env: i.spec.Env,
		WorkingDir: i.spec.WorkingDir, User: i.spec.User,
	})
	err = errors.Join(err, i.orders.Close())
	// End of file without a word: the pipe was closed by execve.
	word, readErr := io.ReadAll(io.LimitReader(i.verdict, 64<<10))
	i.verdict.Close()
	if len(word) == 0 && err == nil && readErr == nil {
		return nil // also if it was killed before it became the program: Wait tells
	}
	reason, message, ok := strings.Cut(string(word), "\x00")
	if !ok {
		reason, message = padisv1.ReasonSandboxFailed, fmt.Sprintf("the instance ended before its program ran: %v", errors.Join(err, readErr))
	}
	return &runtime.StartError{Reason: reason, Message: message}
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
	if sig != unix.SIGKILL && signals.EndsByDefault(int(sig)) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", i.pid))
		if err == nil && !signals.Said(string(status)).Has(int(sig)) {
			i.asked = name
			sig = unix.SIGKILL
		}
	}
	return i.send(sig)
}

// Kill implements runtime.Instance.
func (i *instance) Kill() error { return i.send(unix.SIGKILL) }

func (i *instance) send(sig unix.Signal) error {
	conn, err := i.pidfd.SyscallConn()
	if err != nil {
		return nil // closed: it has ended
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = unix.PidfdSendSignal(int(fd), sig, nil, 0) }); err != nil {
		return nil
	}
	if failed == unix.ESRCH {
		return nil
	}
	if failed != nil {
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
		return fmt.Errorf("instance %s has not ended", i.spec.ID)
	}
	i.closeAll()
	if err := os.Remove(filepath.Join(i.spec.Dir, recordName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (i *instance) closeAll() {
	for _, f := range []*os.File{i.pidfd, i.netns, i.orders, i.verdict} {
		if f != nil {
			f.Close()
		}
	}
}

func failure(reason string, err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		reason = padisv1.ReasonInsufficientSpace
	}
	return &runtime.StartError{Reason: reason, Message: err.Error()}
}
