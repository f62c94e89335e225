package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	goruntime "runtime"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// drain is how long output is waited for after a command has ended: what it left running in the background may hold
	// its output open for ever.
	drain = 200 * time.Millisecond
	// endOfInput is what a terminal takes for the end of its input (termios(3), VEOF).
	endOfInput = 4
)

// execution is a command that Exec started.
type execution struct {
	pid int
	// terminal is the master of its pseudo-terminal, or nil.
	terminal *os.File

	mu sync.Mutex
	// reaped tells that pid may name another process.
	reaped bool

	// ended is closed when the command has ended, done when its output was written, too.
	ended, done chan struct{}
	exit        runtime.Exit
}

// ends are the two sides of a command's descriptors: those that it gets, and ours.
type ends struct {
	theirs                [3]*os.File
	stdin, stdout, stderr *os.File
	terminal              *os.File
}

func (e *ends) close(ours bool) {
	for _, f := range e.theirs {
		if f != nil {
			_ = f.Close()
		}
	}
	if !ours {
		return
	}
	for _, f := range []*os.File{e.stdin, e.stdout, e.stderr, e.terminal} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// Exec implements runtime.Executor.
func (i *instance) Exec(s runtime.ExecSpec) (runtime.Process, error) {
	select {
	case <-i.ended:
		return nil, failure(padisv1.ReasonExited, fmt.Errorf("instance %s has ended; wait until it runs again", i.spec.ID))
	default:
	}
	e, err := openEnds(s)
	if err != nil {
		return nil, failure(padisv1.ReasonSandboxFailed, fmt.Errorf("prepare the command: %w", err))
	}
	x := &execution{terminal: e.terminal, ended: make(chan struct{}), done: make(chan struct{})}
	begun := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		x.pid, err = i.spawnInside(visitor{
			command: s.Command, env: overlay(i.spec.Env, s.Env), user: either(s.User, i.spec.User), dir: either(s.WorkingDir, i.spec.WorkingDir),
			files: e.theirs, terminal: s.TTY, own: true,
		})
		begun <- err
		if err == nil {
			x.reap()
		}
	}()
	err = <-begun
	e.close(err != nil)
	if err != nil {
		var start *runtime.StartError
		if errors.As(err, &start) {
			return nil, start
		}
		return nil, failure(padisv1.ReasonSandboxFailed, err)
	}
	x.copyAll(e, s)
	return x, nil
}

// openEnds makes a pseudo-terminal, or three pipes.
func openEnds(s runtime.ExecSpec) (*ends, error) {
	e := &ends{}
	var err error
	if s.TTY {
		var slave *os.File
		if e.terminal, slave, err = pty.Open(); err != nil {
			return nil, err
		}
		e.theirs = [3]*os.File{slave, slave, slave}
		if err := pty.Setsize(e.terminal, &pty.Winsize{Cols: s.Width, Rows: s.Height}); err != nil {
			e.close(true)
			return nil, err
		}
		return e, nil
	}
	if e.theirs[0], e.stdin, err = os.Pipe(); err == nil {
		if e.stdout, e.theirs[1], err = os.Pipe(); err == nil {
			e.stderr, e.theirs[2], err = os.Pipe()
		}
	}
	if err != nil {
		e.close(true)
		return nil, err
	}
	return e, nil
}

// copyAll moves what is said between the command and the caller, and closes our ends when all is said.
func (x *execution) copyAll(e *ends, s runtime.ExecSpec) {
	var outputs sync.WaitGroup
	in := e.stdin
	if e.terminal != nil {
		in = e.terminal
		outputs.Go(func() { x.copyOut(e.terminal, s.Stdout) })
	} else {
		outputs.Go(func() { x.copyOut(e.stdout, s.Stdout) })
		outputs.Go(func() { x.copyOut(e.stderr, s.Stderr) })
	}
	go copyIn(in, s.Stdin, e.terminal != nil)
	go func() {
		<-x.ended
		// Whoever reads is woken, and looks whether there is more.
		for _, f := range []*os.File{e.stdout, e.stderr, e.terminal} {
			if f != nil {
				_ = f.SetReadDeadline(time.Now())
			}
		}
		outputs.Wait()
		x.mu.Lock()
		e.close(true)
		x.mu.Unlock()
		close(x.done)
	}()
}

// copyIn gives the command what there is to read, and then the end of it. That the command does not want it is no error.
func copyIn(to *os.File, from io.Reader, terminal bool) {
	if from != nil {
		_, _ = io.Copy(to, from)
	}
	if terminal {
		if from != nil {
			_, _ = to.Write([]byte{endOfInput})
		}
		return
	}
	_ = to.Close()
}

// copyOut writes what the command says until that ends, or until the command has ended and nothing was said for a while.
// A writer that fails stops hearing, but the command is not held up.
func (x *execution) copyOut(from *os.File, to io.Writer) {
	buf := make([]byte, 32<<10)
	for last := false; ; {
		select {
		case <-x.ended:
			last = true
			_ = from.SetReadDeadline(time.Now().Add(drain))
		default:
		}
		n, err := from.Read(buf)
		if n > 0 && to != nil {
			if _, err := to.Write(buf[:n]); err != nil {
				to = nil
			}
		}
		if err != nil && (last || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return // a terminal that nobody has open any more gives EIO
		}
	}
}

func (x *execution) reap() {
	ws := awaitExit(x.pid, func() {
		x.mu.Lock()
		x.reaped = true
	}, x.mu.Unlock)
	x.exit = exitOf(ws)
	close(x.ended)
}

// awaitExit waits until a child has ended, and reaps it between the calls of before and after.
func awaitExit(pid int, before, after func()) unix.WaitStatus {
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	before()
	defer after()
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			return ws
		}
	}
}

// Resize implements runtime.Process.
func (x *execution) Resize(width, height uint16) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	select {
	case <-x.done:
		return nil
	default:
	}
	if x.terminal == nil {
		return errors.New("the command has no terminal")
	}
	if err := pty.Setsize(x.terminal, &pty.Winsize{Cols: width, Rows: height}); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("resize the terminal: %w", err)
	}
	return nil
}

// Signal implements runtime.Process: the command's process group gets it.
func (x *execution) Signal(name string) error {
	sig := unix.SignalNum(name)
	if sig == 0 {
		return fmt.Errorf("there is no signal %q", name)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.reaped {
		return nil
	}
	if err := unix.Kill(-x.pid, sig); err != nil && err != unix.ESRCH {
		return fmt.Errorf("send %s to the command: %w", name, err)
	}
	return nil
}

// Wait implements runtime.Process.
func (x *execution) Wait() runtime.Exit {
	<-x.done
	return x.exit
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// overlay puts the second list of NAME=value over the first.
func overlay(env, over []string) []string {
	out := make([]string, 0, len(env)+len(over))
	at := map[string]int{}
	for _, e := range append(append([]string{}, env...), over...) {
		name, _, _ := strings.Cut(e, "=")
		if i, ok := at[name]; ok {
			out[i] = e
			continue
		}
		at[name] = len(out)
		out = append(out, e)
	}
	return out
}
