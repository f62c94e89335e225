package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"padis.io/padis/api/server"
	"padis.io/padis/cmd/pages"
	"padis.io/padis/reconcile"
	"padis.io/padis/reconcile/fake"
	"padis.io/padis/reconcile/gitops"
	"padis.io/padis/scheduler/garbage"
)

const (
	// beat is how often instances that are wanted are made to run, and their descriptions forgotten.
	beat = 200 * time.Millisecond
	// fresh is how long a kind that was declared just now is treated as new.
	fresh = 2 * time.Second
	// quiet is the processor time in a second below which the control plane is idle.
	quiet = 50 * time.Millisecond
)

// runPlane is the control plane: API server and reconcilers, with a scheduler that starts at once whatever is wanted. Lines at
// its standard input ask for profiles; what it has to say is at its standard output.
func runPlane(ctx context.Context, dir string) error {
	// A profile that was begun is of use even if what was measured has not come to its end.
	defer pprof.StopCPUProfile()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	log := zap.Must(zap.NewProduction(zap.IncreaseLevel(zap.WarnLevel)))
	s, err := server.New(server.Config{DataDir: dir, Listener: l, Version: "0.0.0-bench", Logger: log})
	if err != nil {
		return err
	}
	// As `padis scheduler` does.
	go garbage.Pace(ctx, func() { _ = errors.Join(pages.ReleaseProgram(), s.Database(pages.Release)) })
	sched := &fake.Scheduler{}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.Run(ctx) })
	group.Go(func() error {
		select {
		case <-s.Ready():
		case <-ctx.Done():
			return nil
		}
		fmt.Println("ready")
		go writeProfiles()
		go live(ctx, sched)
		return reconcile.StartWithGit(ctx, s.LoopbackConfig(), sched, gitops.Config{Dir: filepath.Join(dir, "git"), Writer: s.SyncConfig()}, log)
	})
	return group.Wait()
}

// live has the instances of each App run, and again whenever something else is wanted of it.
func live(ctx context.Context, sched *fake.Scheduler) {
	tick := time.NewTicker(beat)
	defer tick.Stop()
	known := map[string]uint64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if sched.Log() == "" {
			// To look at tens of thousands of Apps that are as they were would take longer than all else while nothing happens.
			continue
		}
		for _, w := range sched.WantedApps() {
			if have, ok := known[w.Uid]; !ok || have != uint64(w.AttemptFloor) {
				known[w.Uid] = uint64(w.AttemptFloor)
				sched.Live(w.Uid)
			}
		}
	}
}

// writeProfiles does what the lines at the standard input say: heap FILE, processor FILE or done, which ends the latter.
func writeProfiles() {
	in := bufio.NewScanner(os.Stdin)
	var processor *os.File
	for in.Scan() {
		what, path, _ := strings.Cut(in.Text(), " ")
		if what == "heap" {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Fprintf(os.Stderr, "of the heap %d MB are allocated, %d in spans in use, %d in idle ones, %d of them released; stacks %d, metadata %d, other %d\n",
				m.HeapAlloc>>20, m.HeapInuse>>20, m.HeapIdle>>20, m.HeapReleased>>20, m.StackInuse>>20, m.GCSys>>20, (m.OtherSys+m.BuckHashSys+m.MSpanSys+m.MCacheSys)>>20)
		}
		if processor != nil {
			pprof.StopCPUProfile()
			_ = processor.Close()
			processor = nil
		}
		var f *os.File
		var err error
		switch what {
		case "heap":
			if f, err = os.Create(path); err == nil {
				debug.FreeOSMemory()
				err = errors.Join(pprof.Lookup("heap").WriteTo(f, 0), f.Close())
			}
		case "processor":
			if f, err = os.Create(path); err == nil {
				processor, err = f, pprof.StartCPUProfile(f)
			}
		}
		fmt.Println(what, err)
	}
}

// plane is a control plane in a process of its own, so that what it costs is not mixed with what its clients cost.
type plane struct {
	dir string
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startPlane(ctx context.Context, dir string) (*plane, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &plane{dir: dir, cmd: exec.CommandContext(ctx, exe, "-serve", dir)}
	p.cmd.Stderr = os.Stderr
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if !p.out.Scan() || p.out.Text() != "ready" {
		return nil, errors.Join(errors.New("the control plane did not start"), p.cmd.Wait())
	}
	// A server holds up all creations of a custom kind that it has served for less than that time.
	select {
	case <-time.After(fresh):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return p, p.settle(ctx)
}

func (p *plane) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
}

func (p *plane) kubeconfig() string { return filepath.Join(p.dir, "kubeconfig") }

// settle waits until the control plane does next to nothing for a second.
func (p *plane) settle(ctx context.Context) error {
	before, err := p.cpu()
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
		var now time.Duration
		if now, err = p.cpu(); err == nil && now-before < quiet {
			return nil
		}
		before = now
	}
	return err
}

// cpu is the processor time that it has used.
func (p *plane) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", p.cmd.Process.Pid, b)
	}
	user, err := strconv.Atoi(f[11])
	system, err2 := strconv.Atoi(f[12])
	return time.Duration(user+system) * (time.Second / 100), errors.Join(err, err2)
}

// rss is its memory in MB, as the kernel counts it: now (VmRSS), or the most that it ever was (VmHWM).
func (p *plane) rss(counts string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == counts+":" {
			kib, err := strconv.Atoi(f[1])
			return float64(kib) * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("process %d has no %s", p.cmd.Process.Pid, counts)
}

// heap has it write a profile of what is in use, when all that is not was collected.
func (p *plane) heap(file string) error { return p.ask("heap", file) }

// profiles has it write where it spends its time, until it is asked again without a name; nothing without a prefix.
func (p *plane) profiles(prefix, name string) error {
	switch {
	case prefix == "":
		return nil
	case name == "":
		return p.ask("done", "")
	}
	return p.ask("processor", prefix+name+".pprof")
}

func (p *plane) ask(what, file string) error {
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.in, what, path); err != nil {
		return err
	}
	if !p.out.Scan() || p.out.Text() != what+" <nil>" {
		return fmt.Errorf("the control plane wrote no profile: %s", p.out.Text())
	}
	return nil
}
