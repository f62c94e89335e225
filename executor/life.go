package executor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/health/probe"
	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/logs"
	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// life is one instance and what it holds. Its state belongs to the loop. The rest is set by the one action that is
// under way, and read by later ones.
type life struct {
	executor *Executor
	state    instance.State
	// plan is the state's, for those who may not look at the state.
	plan   instance.Plan
	cancel context.CancelFunc
	// awaited: somebody waits for the exit already.
	awaited bool

	instance runtime.Instance
	output   []*logs.Stream
	// probes are those under way; they use the instance's namespaces.
	probes sync.WaitGroup
}

// logDrain bounds the wait for the rest of the output of an instance whose processes have all ended.
const logDrain = time.Second

// carryOut begins an action. Those that take time post their outcome.
func (l *life) carryOut(a instance.Action) {
	switch a := a.(type) {
	case instance.Report:
		l.executor.report(l.plan.TaskID, a)
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
		l.async(true, func() instance.Event {
			err := l.executor.Network.Attach(l.instance.NetworkNamespace(), l.plan.Wanted)
			return instance.Attached{Failure: failure(padisv1.ReasonNetworkFailed, err)}
		})
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
	case instance.Signal:
		if err := l.instance.Stop(a.Name); err != nil {
			l.executor.Log.Error("the program could not be asked to end", zap.String("task", l.plan.TaskID), zap.Error(err))
		}
	case instance.Kill:
		if err := l.instance.Kill(); err != nil {
			l.executor.Log.Error("the program could not be killed", zap.String("task", l.plan.TaskID), zap.Error(err))
		}
		l.awaitExit()
	case instance.Release:
		l.async(false, l.release)
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
		l.post(instance.Exited{Code: e.Code, Signal: e.Signal})
	}()
}

// fetch makes the sandbox and brings the artifacts into it.
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
	return nil
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
	return os.WriteFile(filepath.Join(f.Dir, "etc", "resolv.conf"), []byte(f.ResolvConf), 0o644)
}

func (l *life) probe(ctx context.Context) instance.Event {
	answers, err := l.executor.Network.Probe(ctx, l.plan.Wanted)
	var words []string
	for _, a := range answers {
		words = append(words, a.String())
	}
	return instance.Probed{Answered: strings.Join(words, "; "), Failure: failure(padisv1.ReasonNetworkFailed, err)}
}

func (l *life) create() instance.Event {
	t := l.plan.Launch.GetTemplate()
	limits := logs.Limits{MaxBytes: t.GetLogs().GetMaxBytes(), MaxFiles: int(t.GetLogs().GetMaxFiles())}
	for _, name := range []string{"stdout", "stderr"} {
		s, err := logs.Open(l.plan.Files.Dir, name, limits)
		if err != nil {
			return instance.Created{Failure: failure(padisv1.ReasonSandboxFailed, err)}
		}
		l.output = append(l.output, s)
	}
	i, err := l.executor.Runtime.Create(runtime.Spec{
		ID: l.plan.TaskID, Dir: l.plan.Files.Dir, Hostname: l.plan.Hostname, Command: t.GetCommand(), Env: l.plan.Environment,
		WorkingDir: t.GetWorkingDir(), User: t.GetUser(), Stdout: l.output[0].FD(), Stderr: l.output[1].FD(),
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

func (l *life) check(a instance.Check) {
	h := l.plan.Launch.GetTemplate().GetHealthChecks()[a.Index]
	target := probe.Target{Namespace: l.instance.NetworkNamespace(), Run: l.instance.Run}
	if len(l.plan.Wanted.Interfaces) > 0 {
		target.Address = l.plan.Wanted.Interfaces[0].Address.Addr()
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
func (l *life) release() instance.Event {
	if err := l.executor.Network.Detach(l.plan.Wanted); err != nil {
		l.executor.Log.Error("the network could not be silenced; trying again", zap.String("task", l.plan.TaskID), zap.Error(err))
		return instance.Released{Failure: failure(padisv1.ReasonNetworkFailed, err)}
	}
	drained := time.NewTimer(logDrain)
	defer drained.Stop()
	for _, s := range l.output {
		if l.instance == nil {
			s.Close()
			continue
		}
		select {
		case <-s.Done():
		case <-drained.C:
			drained.Reset(0)
			s.Close()
		}
	}
	go func() {
		l.probes.Wait()
		if l.instance == nil {
			return
		}
		if err := l.instance.Close(); err != nil {
			l.executor.Log.Warn("something was left of an instance", zap.String("task", l.plan.TaskID), zap.Error(err))
		}
	}()
	return instance.Released{}
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
