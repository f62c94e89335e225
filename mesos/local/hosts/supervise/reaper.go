package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Command is one start of a child. Its standard input is /dev/null.
type Command struct {
	// Path of the program, and the arguments that follow its name.
	Path string
	Args []string
	Env  []string
	Dir  string
	// Output receives standard output and standard error; nil discards them.
	Output *os.File
	// Files become file descriptors 3 and up.
	Files []*os.File
	Attr  *syscall.SysProcAttr
}

// Process is a child that was started. Its end is known when Done is closed.
type Process struct {
	pid    int
	done   chan struct{}
	reaper *Reaper
	// Written before done is closed.
	status syscall.WaitStatus
}

// Pid is the child's process id in the PID namespace of the caller.
func (p *Process) Pid() int { return p.pid }

// Done is closed when the child has been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status is the wait status; it is valid once Done is closed.
func (p *Process) Status() syscall.WaitStatus { return p.status }

// Signal sends sig to the child; it does nothing once the child was reaped, so it never hits a process that
// inherited the number.
func (p *Process) Signal(sig syscall.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.reaper.children[p.pid] != p {
		return nil
	}
	if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Reaper starts children and waits for every child of this process, orphans that were handed to it included. A process
// has at most one, and must not wait for children in another way: os/exec would miss their end.
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Process
}

// NewReaper returns a Reaper; Run does the waiting.
func NewReaper() *Reaper { return &Reaper{children: map[int]*Process{}} }

// Start starts a child. The lock is held from the fork until the child is known, or its end could be reaped unseen.
func (r *Reaper) Start(c Command) (*Process, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	output := c.Output
	if output == nil {
		output = null
	}
	attr := &os.ProcAttr{
		Dir:   c.Dir,
		Env:   c.Env,
		Files: append([]*os.File{null, output, output}, c.Files...),
		Sys:   c.Attr,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	started, err := os.StartProcess(c.Path, append([]string{c.Path}, c.Args...), attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p := &Process{pid: started.Pid, done: make(chan struct{}), reaper: r}
	if err := started.Release(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	r.children[p.pid] = p
	return p, nil
}

// Run reaps until ctx ends.
func (r *Reaper) Run(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	defer signal.Stop(ended)
	for {
		r.reap()
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

// reap waits for all children that have ended, and says whether any are left.
func (r *Reaper) reap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return !errors.Is(err, syscall.ECHILD)
		}
		if p, ours := r.children[pid]; ours {
			delete(r.children, pid)
			p.status = status
			close(p.done)
		}
	}
}

// EndAll kills all other processes of the PID namespace whose process 1 this is, and returns when the last was reaped.
// Nothing may be started any more.
func (r *Reaper) EndAll(timeout time.Duration) error {
	if os.Getpid() != 1 {
		return errors.New("end all processes: this is not process 1 of a PID namespace")
	}
	if err := syscall.Kill(-1, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("end all processes: %w", err)
	}
	for deadline := time.Now().Add(timeout); r.reap(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("end all processes: some still live after %v", timeout)
		}
	}
	return nil
}

// Describe says in words how a process ended.
func Describe(status syscall.WaitStatus) string {
	switch {
	case status.Signaled():
		return fmt.Sprintf("killed by %v", status.Signal())
	case status.Exited():
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	default:
		return fmt.Sprintf("wait status %#x", uint32(status))
	}
}
