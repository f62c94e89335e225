package agent

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"padis.io/padis/mesos/local/words"
)

// executorPath is the PATH of executors, as Mesos sets it when the agent has none.
const executorPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Launch says how to start an executor.
type Launch struct {
	Container, Framework, Executor string
	Dir                            string // the sandbox
	Cache                          string // directory of the fetcher's cache
	Command                        mesos.CommandInfo
	Env                            []string
}

// Launcher starts and ends executors. Its methods do not block; results go to the Reports.
type Launcher interface {
	// Bind tells where results go. It is called once, before all else.
	Bind(Reports)
	Start(Launch)
	// Kill ends the whole process tree of a container.
	Kill(container string)
	// Adopt watches a process that an earlier agent has started, and reports its end even if it has died long ago.
	Adopt(container string, pid int, start uint64, dir string)
}

// Reports is how a Launcher tells what happened.
type Reports interface {
	// Started tells the pid of an executor, and its start time in clock ticks since boot.
	Started(container string, pid int, start uint64)
	// Ended tells that nothing of the tree is left. status is the raw wait status; failure is set if the executor
	// could not be started.
	Ended(container string, status int, failure string)
}

// processes is the Launcher that starts executors as processes of this host, each in a session of its own, so that
// they survive the agent.
type processes struct {
	log       *zap.Logger
	subreaper bool
	fetcher   *fetcher
	reports   Reports

	mu      sync.Mutex
	running map[string]*process
	fork    sync.Mutex // held while a process is started and not yet in running
}

type process struct {
	pid    int
	dir    string
	cancel context.CancelFunc // ends the fetching
	killed bool
}

func newProcesses(log *zap.Logger, subreaper bool) *processes {
	return &processes{log: log, subreaper: subreaper, fetcher: newFetcher(), running: map[string]*process{}}
}

func (l *processes) Bind(r Reports) { l.reports = r }

func (l *processes) Start(launch Launch) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{dir: launch.Dir, cancel: cancel}
	l.mu.Lock()
	l.running[launch.Container] = p
	l.mu.Unlock()
	go l.start(ctx, launch, p)
}

func (l *processes) start(ctx context.Context, launch Launch, p *process) {
	defer p.cancel()
	if err := makeSandbox(launch.Dir); err != nil {
		l.end(launch.Container, 1<<8, "Failed to create the sandbox: "+err.Error())
		return
	}
	if err := l.fetcher.fetchAll(ctx, launch); err != nil {
		l.log.Warn("fetch failed", zap.String("container", launch.Container), zap.Error(err))
		appendLine(filepath.Join(launch.Dir, "stderr"), err.Error())
		l.end(launch.Container, 1<<8, "Failed to fetch all URIs for container '"+launch.Container+"': exited with status 1")
		return
	}
	cmd, err := l.spawn(launch, p)
	if err != nil {
		l.end(launch.Container, 1<<8, err.Error())
		return
	}
	l.reports.Started(launch.Container, cmd.Process.Pid, startTime(cmd.Process.Pid))
	err = cmd.Wait()
	status := 0
	if cmd.ProcessState != nil {
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
			status = int(ws)
		}
	} else if err != nil {
		status = -1
	}
	l.sweep(cmd.Process.Pid, launch.Dir, launch.Container)
	l.end(launch.Container, status, "")
}

// spawn starts the command, unless the container was killed meanwhile.
func (l *processes) spawn(launch Launch, p *process) (*exec.Cmd, error) {
	command := launch.Command
	var cmd *exec.Cmd
	if command.Shell == nil || *command.Shell {
		cmd = exec.Command("/bin/sh", "-c", command.GetValue())
	} else {
		path := command.GetValue()
		if !filepath.IsAbs(path) && filepath.Base(path) != path {
			path = filepath.Join(launch.Dir, path)
		}
		cmd = exec.Command(path)
		if len(command.Arguments) > 0 {
			cmd.Args = command.Arguments
		}
	}
	cmd.Dir, cmd.Env = launch.Dir, launch.Env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdout, err := openLog(filepath.Join(launch.Dir, "stdout"))
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := openLog(filepath.Join(launch.Dir, "stderr"))
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	l.fork.Lock()
	defer l.fork.Unlock()
	l.mu.Lock()
	killed := p.killed
	l.mu.Unlock()
	if killed {
		return nil, words.Errorf("Container destroyed during launch")
	}
	if err := cmd.Start(); err != nil {
		return nil, words.Errorf("Failed to start: %w", err)
	}
	l.mu.Lock()
	p.pid = cmd.Process.Pid
	l.mu.Unlock()
	return cmd, nil
}

func (l *processes) end(container string, status int, failure string) {
	l.mu.Lock()
	delete(l.running, container)
	l.mu.Unlock()
	l.reports.Ended(container, status, failure)
}

// Kill ends the executor itself; whoever waits for it sweeps the rest.
func (l *processes) Kill(container string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.running[container]
	if p == nil {
		return
	}
	p.killed = true
	if p.cancel != nil {
		p.cancel()
	}
	if p.pid > 0 {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may be gone already
	}
}

func (l *processes) Adopt(container string, pid int, start uint64, dir string) {
	l.mu.Lock()
	l.running[container] = &process{pid: pid, dir: dir}
	l.mu.Unlock()
	go func() {
		l.await(pid, start)
		l.sweep(pid, dir, container)
		l.mu.Lock()
		killed := l.running[container] != nil && l.running[container].killed
		l.mu.Unlock()
		status := -1
		if killed {
			status = int(syscall.SIGKILL)
		}
		l.end(container, status, "")
	}()
}

// await waits until a process that is not a child has ended.
func (l *processes) await(pid int, start uint64) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil || startTime(pid) != start {
		if err == nil {
			_ = unix.Close(fd)
		}
		return
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

func makeSandbox(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	latest := filepath.Join(filepath.Dir(dir), "latest")
	temporary := latest + ".new"
	_ = os.Remove(temporary)
	if err := os.Symlink(dir, temporary); err != nil {
		return err
	}
	return os.Rename(temporary, latest)
}

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

func appendLine(path, line string) {
	if f, err := openLog(path); err == nil {
		_, _ = f.WriteString(line + "\n")
		_ = f.Close()
	}
}

// runDir is the sandbox of a run, in the layout of Mesos.
func runDir(workDir, agent, framework, executor, container string) string {
	return filepath.Join(workDir, "slaves", agent, "frameworks", framework, "executors", executor, "runs", container)
}

func fetchDir(workDir string) string { return filepath.Join(workDir, "fetch") }
