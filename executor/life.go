package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/logs"
	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// stream is the output of one instance to one of stdout and stderr, as package logs keeps it.
type stream interface {
	FD() int
	HandedOver()
	Done() <-chan struct{}
	Close()
	Drain(timeout time.Duration)
	Leave()
	// Totals are the bytes that were read, and how many of them could not be kept.
	Totals() (read, lost uint64)
}

// life is one instance and what it holds. Its state belongs to the loop. The rest is set by the one action that is
// under way, and read by later ones.
type life struct {
	executor *Executor
	state    instance.State
	counted
	// plan is the state's, for those who may not look at the state.
	plan   instance.Plan
	cancel context.CancelFunc
	// awaited: somebody waits for the exit already; exit is it, until the state takes it.
	awaited bool
	exit    *instance.Exited
	// left: the container is the next executor's; nothing that still happens here counts.
	left bool
	// ended is closed when the instance has ended and all its output is kept.
	ended chan struct{}
	// remains: the instance has ended, but its container could not be removed.
	remains atomic.Bool

	wire wire
	// director is the socket of one; directed is what it said last, which belongs to the loop.
	director *director
	directed *padisv1.DirectorState
	instance runtime.Instance
	output   []stream
	image    runtime.Image
	mounts   []runtime.Mount
	// probes are those under way; they use the instance's namespaces.
	probes sync.WaitGroup
}

// killRetry is the pause after a kill that failed; it doubles up to lastRetry.
const killRetry = 100 * time.Millisecond

// logDrain bounds the wait for the rest of the output of an instance whose processes have all ended.
const logDrain = time.Second

// carryOut begins an action. Those that take time post their outcome.
func (l *life) carryOut(a instance.Action) {
	switch a := a.(type) {
	case instance.Report:
		l.executor.report(l.plan.TaskID, a)
	case instance.Adopt:
		ctx := l.cancellable()
		l.async(true, func() instance.Event { return l.adopt(ctx) })
	case instance.Pull:
		ctx := l.cancellable()
		l.async(false, func() instance.Event { return l.pull(ctx) })
	case instance.Fetch:
		ctx := l.cancellable()
		l.async(false, func() instance.Event { return instance.Fetched{Failure: l.fetch(ctx)} })
	case instance.Probe:
		ctx := l.cancellable()
		l.async(false, func() instance.Event { return l.probe(ctx) })
	case instance.Cancel:
		if l.cancel != nil {
			l.cancel()
		}
	case instance.Create:
		l.async(true, l.create)
	case instance.Attach:
		l.async(true, l.attach)
	case instance.Renew:
		l.async(false, l.renew)
	case instance.Silence:
		l.async(false, l.silence)
	case instance.Start:
		l.async(true, func() instance.Event {
			return instance.Started{Failure: failure(padisv1.ReasonSandboxFailed, l.instance.Start())}
		})
	case instance.Check:
		l.check(a)
	case instance.Announce:
		go func() {
			if err := l.executor.Network.Announce(l.plan.Wanted); err != nil {
				l.executor.Log.Warn("an address could not be announced", zap.String("task", l.plan.TaskID), zap.Error(err))
			}
		}()
	case instance.Linger:
		ctx := l.cancellable()
		go l.linger(ctx)
	case instance.Signal:
		go func() {
			if err := l.instance.Stop(a.Name); err != nil {
				l.executor.Log.Error("the program could not be asked to end", zap.String("task", l.plan.TaskID), zap.Error(err))
			}
		}()
	case instance.Kill:
		l.awaitExit()
		go l.kill()
	case instance.Release:
		l.async(false, func() instance.Event { return l.release(a.Discard) })
	}
}

// async runs f on a goroutine of its own and posts the event it returns; bounded ones wait for a slot.
func (l *life) async(bounded bool, f func() instance.Event) {
	go func() {
		if bounded {
			l.executor.slots <- struct{}{}
		}
		ev := f()
		if bounded {
			<-l.executor.slots
		}
		l.post(ev)
	}()
}

func (l *life) post(ev instance.Event) {
	l.executor.post(func(now time.Time) { l.executor.step(now, l, ev) })
}

func (l *life) cancellable() context.Context {
	if l.cancel != nil {
		l.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	return ctx
}

// awaitExit posts the exit when it comes, once.
func (l *life) awaitExit() {
	if l.awaited {
		return
	}
	l.awaited = true
	go func() {
		e := l.instance.Wait()
		l.executor.post(func(now time.Time) {
			exit := instance.Exited{Code: e.Code, Signal: e.Signal, OOMKilled: e.OOMKilled}
			if l.state.AwaitsExit() {
				l.executor.step(now, l, exit)
			} else {
				l.exit = &exit
			}
		})
	}()
}

// kill ends all processes. Whoever serves containers may be away for a moment: then it is tried until it is done.
func (l *life) kill() {
	for pause := killRetry; ; pause = min(2*pause, lastRetry) {
		err := l.instance.Kill()
		if err == nil {
			return
		}
		l.executor.Log.Error("the program could not be killed; trying again", zap.String("task", l.plan.TaskID), zap.Error(err))
		if !sleep(l.executor.background, pause) {
			return
		}
	}
}

// fetch makes the sandbox and brings the artifacts and volumes into it.
func (l *life) fetch(ctx context.Context) *instance.Failure {
	f := l.plan.Files
	if err := makeSandbox(f); err != nil {
		return failure(padisv1.ReasonSandboxFailed, fmt.Errorf("make the sandbox: %w", err))
	}
	for _, a := range l.plan.Launch.GetTemplate().GetArtifacts() {
		if err := l.executor.Artifacts.Fetch(ctx, a, filepath.Join(f.Dir, "work")); err != nil {
			return failure(padisv1.ReasonArtifactFailed, err)
		}
	}
	if l.plan.Image == "" {
		return nil
	}
	if err := l.noteLaunch(); err != nil {
		return failure(padisv1.ReasonSandboxFailed, fmt.Errorf("note the launch: %w", err))
	}
	mounts, err := l.executor.Volumes.Prepare(ctx, f.Dir, l.plan.Launch)
	l.mounts = mounts
	return failure(padisv1.ReasonVolumeFailed, err)
}

func makeSandbox(f instance.Files) error {
	for _, d := range []string{"work", "etc", "tmp"} {
		if err := os.MkdirAll(filepath.Join(f.Dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(f.Dir, "tmp"), 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.Dir, "etc", "hosts"), []byte(f.Hosts), 0o644); err != nil {
		return err
	}
	conf := []byte(f.ResolvConf)
	if f.ResolvConf == "" {
		var err error
		if conf, err = os.ReadFile("/etc/resolv.conf"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.WriteFile(filepath.Join(f.Dir, "etc", "resolv.conf"), conf, 0o644)
}

func (l *life) create() instance.Event {
	if l.plan.Image != "" {
		return l.createContainer()
	}
	t := l.plan.Launch.GetTemplate()
	for _, name := range outputs {
		s, err := l.executor.open(l.plan.Files.Dir, name, l.logLimits())
		if err != nil {
			return instance.Created{Failure: failure(padisv1.ReasonSandboxFailed, err)}
		}
		l.output = append(l.output, s)
	}
	if t.GetDirector() {
		d, err := listenForDirector(filepath.Join(l.plan.Files.Dir, "work"), l.executor.Log.With(zap.String("task", l.plan.TaskID)), l.reported)
		if err != nil {
			return instance.Created{Failure: failure(padisv1.ReasonSandboxFailed, err)}
		}
		l.director = d
	}
	i, err := l.executor.Runtime.Create(runtime.Spec{
		ID: l.plan.TaskID, Dir: l.plan.Files.Dir, Hostname: l.plan.Hostname, Command: slices.Concat(t.GetCommand(), t.GetArgs()), Env: l.plan.Environment,
		HostNetwork: l.plan.Wanted.Hosted, WorkingDir: t.GetWorkingDir(), User: t.GetUser(), Stdout: l.output[0].FD(), Stderr: l.output[1].FD(),
	})
	if err != nil {
		return instance.Created{Failure: failure(padisv1.ReasonSandboxFailed, err)}
	}
	for _, s := range l.output {
		s.HandedOver()
	}
	l.instance = i
	return instance.Created{PID: i.PID()}
}

// outputs are the streams that are kept.
var outputs = [...]string{"stdout", "stderr"}

func (l *life) logLimits() logs.Limits {
	p := l.plan.Launch.GetTemplate().GetLogs()
	return logs.Limits{MaxBytes: p.GetMaxBytes(), MaxFiles: int(p.GetMaxFiles())}
}

func (l *life) check(a instance.Check) {
	h := l.plan.Launch.GetTemplate().GetHealthChecks()[a.Index]
	target := probe.Target{Namespace: l.instance.NetworkNamespace(), Run: l.instance.Run}
	if all := l.addresses(); len(all) > 0 {
		target.Address = all[0]
	} else {
		target.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	l.probes.Add(1)
	go func() {
		err := l.executor.Prober.Probe(h, target, a.Timeout)
		l.probes.Done()
		result := instance.Checked{Index: a.Index, OK: err == nil}
		if err != nil {
			result.Message = err.Error()
		}
		l.post(result)
	}()
}

// release silences the network, and then, when all output is kept, frees what is left without making anybody wait.
func (l *life) release(discard bool) instance.Event {
	if err := l.cut(); err != nil {
		l.executor.Log.Error("the network could not be silenced; trying again", zap.String("task", l.plan.TaskID), zap.Error(err))
		return instance.Released{Failure: failure(padisv1.ReasonNetworkFailed, err)}
	}
	if discard {
		if f := l.discard(); f != nil {
			return instance.Released{Failure: f}
		}
	}
	l.drain()
	l.executor.closing.Add(1)
	go func() {
		defer l.executor.closing.Done()
		l.probes.Wait()
		l.free()
	}()
	return instance.Released{}
}

// drain waits until what the instance has written is kept, but not for long.
func (l *life) drain() {
	var drained sync.WaitGroup
	for _, s := range l.output {
		drained.Go(func() {
			switch {
			case l.instance == nil:
				s.Close()
			case l.plan.Image != "":
				s.Drain(logDrain)
			default:
				drainProgram(s)
			}
		})
	}
	drained.Wait()
}

// drainProgram waits for those who have the other end of the pipe.
func drainProgram(s stream) {
	late := time.NewTimer(logDrain)
	defer late.Stop()
	select {
	case <-s.Done():
	case <-late.C:
		s.Close()
	}
}

// free gives back what the instance held on the host.
func (l *life) free() {
	if l.director != nil {
		l.director.close()
	}
	if l.instance != nil {
		if err := l.instance.Close(); err != nil {
			l.executor.Log.Warn("something was left of an instance", zap.String("task", l.plan.TaskID), zap.Error(err))
			l.leftBehind()
		}
	}
	if l.plan.Image != "" && l.executor.Volumes != nil {
		l.executor.freed(l.plan.Files.Dir)
	}
}

// failure gives an error its reason; nil for nil.
func failure(reason string, err error) *instance.Failure {
	if err == nil {
		return nil
	}
	var start *runtime.StartError
	switch {
	case errors.As(err, &start):
		reason = start.Reason
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &instance.Failure{Reason: padisv1.ReasonInsufficientSpace, Message: err.Error() + "; free space on this host, or raise template.resources.disk"}
	}
	return &instance.Failure{Reason: reason, Message: err.Error()}
}
