package containerd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/errdefs"
	"github.com/containerd/typeurl/v2"
	"github.com/google/uuid"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// textLimit bounds what is kept of the output of a command that Run runs.
	textLimit = 1024
	// drain is how long output is waited for after a command has ended: what it left running in the background may hold
	// its output open for ever.
	drain = 200 * time.Millisecond
	// endOfInput is what a terminal takes for the end of its input (termios(3), VEOF).
	endOfInput = "\x04"
)

// command is one that runs in a container beside its program.
type command struct {
	i   *instance
	id  string
	pid int
	io  cio.IO
	// heard is when it last said something.
	heard *clock
	// begun is closed when it runs, or will not; done when it has ended and its output was written.
	begun, done chan struct{}
	exit        runtime.Exit
}

func (i *instance) commandDir() string { return filepath.Join(i.dir, "io", "exec") }

// Exec implements runtime.Executor.
func (i *instance) Exec(s runtime.ExecSpec) (runtime.Process, error) {
	c, err := i.exec(s)
	if err != nil {
		return nil, failure("run a command in instance "+i.id, err)
	}
	return c, nil
}

func (i *instance) exec(s runtime.ExecSpec) (*command, error) {
	select {
	case <-i.ended:
		return nil, refuse(padisv1.ReasonExited, "instance %s has ended; wait until it runs again", i.id)
	default:
	}
	process, err := i.processOf(s)
	if err != nil {
		return nil, err
	}
	text, err := typeurl.MarshalAnyToProto(process)
	if err != nil {
		return nil, fmt.Errorf("encode the command: %w", err)
	}
	c := &command{i: i, id: "x-" + uuid.NewString(), heard: &clock{}, begun: make(chan struct{}), done: make(chan struct{})}
	if c.io, err = c.openStreams(s); err != nil {
		return nil, fmt.Errorf("make the pipes of the command: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	err = c.begin(ctx, text)
	close(c.begun)
	if err != nil {
		c.io.Cancel()
		c.io.Wait()
		_ = c.io.Close()
		return nil, err
	}
	go c.reap()
	return c, nil
}

// processOf is the program's process with what is to be different.
func (i *instance) processOf(s runtime.ExecSpec) (*specs.Process, error) {
	if len(s.Command) == 0 || s.Command[0] == "" {
		return nil, refuse(padisv1.ReasonCommandNotFound, "there is no command to run in instance %s", i.id)
	}
	p := *i.process
	p.Args, p.Env, p.Terminal, p.Cwd = s.Command, environment(i.process.Env, s.Env), s.TTY, directory(s.WorkingDir, i.process.Cwd)
	if s.TTY {
		p.Env = environment([]string{"TERM=xterm"}, p.Env)
		p.ConsoleSize = &specs.Box{Width: uint(s.Width), Height: uint(s.Height)}
	}
	if s.User != "" {
		// Programs may have changed the files of the image.
		a, err := readAccounts(i.proc("root"))
		if err != nil {
			return nil, fmt.Errorf("read the users of the container: %w", err)
		}
		if p.User, err = a.lookUp(s.User); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func (c *command) openStreams(s runtime.ExecSpec) (cio.IO, error) {
	out := func(to io.Writer) io.Writer {
		if to == nil {
			to = io.Discard
		}
		return &hearing{to: to, at: c.heard}
	}
	opts := []cio.Opt{cio.WithFIFODir(c.i.commandDir())}
	var stdin io.Reader
	if s.Stdin != nil {
		in := s.Stdin
		if s.TTY {
			in = io.MultiReader(in, strings.NewReader(endOfInput))
		}
		stdin = &ending{from: in, then: c.closeInput}
	}
	opts = append(opts, cio.WithStreams(stdin, out(s.Stdout), out(s.Stderr)))
	if s.TTY {
		opts = append(opts, cio.WithTerminal)
	}
	return cio.NewCreator(opts...)(c.id)
}

// begin has containerd make and start the command.
func (c *command) begin(ctx context.Context, process typeurl.Any) error {
	config := c.io.Config()
	_, err := c.i.r.tasks.Exec(ctx, &tasks.ExecProcessRequest{
		ContainerID: c.i.name, ExecID: c.id, Stdin: config.Stdin, Stdout: config.Stdout, Stderr: config.Stderr, Terminal: config.Terminal,
		Spec: typeurl.MarshalProto(process),
	})
	if err != nil {
		return native(err)
	}
	started, err := c.i.r.tasks.Start(ctx, &tasks.StartRequest{ContainerID: c.i.name, ExecID: c.id})
	if err != nil {
		c.forget()
		return native(err)
	}
	c.pid = int(started.Pid)
	return nil
}

// closeInput tells the command that there is nothing more to read. A terminal was told so in its own words.
func (c *command) closeInput() {
	if c.io.Config().Terminal {
		return
	}
	go func() {
		<-c.begun // there may have been nothing to read at all
		ctx, cancel := context.WithTimeout(context.Background(), requestTime)
		defer cancel()
		_, _ = c.i.r.tasks.CloseIO(ctx, &tasks.CloseIORequest{ContainerID: c.i.name, ExecID: c.id, Stdin: true})
	}()
}

// reap waits for the end of the command and for its output.
func (c *command) reap() {
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		answer, err := c.i.r.tasks.Wait(context.Background(), &tasks.WaitRequest{ContainerID: c.i.name, ExecID: c.id})
		if err = native(err); err == nil {
			c.exit = exitOfCommand(answer.ExitStatus)
			break
		}
		if !errdefs.IsUnavailable(err) {
			// The container has ended, and with it the command.
			c.exit = exitOfCommand(exitSignal + uint32(unix.SIGKILL))
			break
		}
		time.Sleep(pause)
	}
	c.heard.now()
	said := make(chan struct{})
	go func() { c.io.Wait(); close(said) }()
	for silent := false; !silent; {
		select {
		case <-said:
			silent = true
		case <-time.After(drain):
			silent = c.heard.since() >= drain
		}
	}
	c.io.Cancel()
	<-said // nobody writes to the caller any more
	_ = c.io.Close()
	close(c.done)
	c.forget()
}

// forget deletes the command. The shim waits with that for its output, so nobody should wait for this.
func (c *command) forget() {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	_, _ = c.i.r.tasks.DeleteProcess(ctx, &tasks.DeleteProcessRequest{ContainerID: c.i.name, ExecID: c.id})
}

// Wait implements runtime.Process.
func (c *command) Wait() runtime.Exit {
	<-c.done
	return c.exit
}

// Resize implements runtime.Process.
func (c *command) Resize(width, height uint16) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	_, err := c.i.r.tasks.ResizePty(ctx, &tasks.ResizePtyRequest{ContainerID: c.i.name, ExecID: c.id, Width: uint32(width), Height: uint32(height)})
	return c.unlessEnded("resize the terminal", native(err))
}

// Signal implements runtime.Process.
func (c *command) Signal(name string) error {
	sig := unix.SignalNum(name)
	if sig == 0 {
		return fmt.Errorf("there is no signal %q", name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestTime)
	defer cancel()
	_, err := c.i.r.tasks.Kill(ctx, &tasks.KillRequest{ContainerID: c.i.name, ExecID: c.id, Signal: uint32(sig)})
	return c.unlessEnded("send "+name, native(err))
}

func (c *command) unlessEnded(doing string, err error) error {
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	select {
	case <-c.done:
		return nil
	default:
		return fmt.Errorf("%s in instance %s: %w", doing, c.i.id, err)
	}
}

// killAll kills the command and what it started, as far as that is of its process group, which the command leads.
func (c *command) killAll() {
	// While it has not been reaped, the number is its own.
	if groups, err := os.ReadFile("/proc/" + strconv.Itoa(c.pid) + "/cgroup"); err == nil && strings.Contains(string(groups), c.i.name) && c.pid > 1 {
		_ = unix.Kill(-c.pid, unix.SIGKILL)
	}
	_ = c.Signal("SIGKILL")
}

// Run implements runtime.Instance.
func (i *instance) Run(line []string, timeout time.Duration) (runtime.Output, error) {
	text := &head{}
	c, err := i.exec(runtime.ExecSpec{Command: line, Stdout: text, Stderr: text})
	if err != nil {
		return runtime.Output{}, failure("run a command in instance "+i.id, err)
	}
	alarm := time.NewTimer(timeout)
	defer alarm.Stop()
	var out runtime.Output
	select {
	case <-c.done:
	case <-alarm.C:
		out.TimedOut = true
		c.killAll()
		<-c.done
	}
	out.Exit, out.Text = c.exit, text.String()
	return out, nil
}

// head keeps the beginning of what is written to it.
type head struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(b[:min(len(b), textLimit-h.text.Len())])
	return len(b), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(h.text.String()), "?")
}

// clock remembers a time.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Now()
}

func (c *clock) since() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.at)
}

// hearing notes when something was said. A writer that fails stops hearing, but the command is not held up.
type hearing struct {
	to     io.Writer
	at     *clock
	failed bool
}

func (h *hearing) Write(b []byte) (int, error) {
	h.at.now()
	if !h.failed {
		_, err := h.to.Write(b)
		h.failed = err != nil
	}
	return len(b), nil
}

// ending calls then once, when there is nothing more to read.
type ending struct {
	from io.Reader
	then func()
	once sync.Once
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.from.Read(b)
	if err != nil {
		e.once.Do(e.then)
	}
	return n, err
}
