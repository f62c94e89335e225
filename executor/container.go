package executor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/runtime"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// pull brings the image to the host.
func (l *life) pull(ctx context.Context) instance.Event {
	launch := l.plan.Launch
	image, err := l.executor.Containers.Pull(ctx, runtime.Pull{
		Image: l.plan.Image, Auths: launch.GetRegistryAuths(), Registries: launch.GetRegistries(), Always: launch.GetTemplate().GetAlwaysPull(),
	}, seldom(func(done, total int64) { l.post(instance.PullProgress{Done: done, Total: total}) }))
	l.image = image
	return instance.Pulled{Digest: image.Digest, Failure: failure(padisv1.ReasonRegistryUnavailable, err)}
}

func (l *life) createContainer() instance.Event {
	failed := func(err error) instance.Event {
		return instance.Created{Failure: failure(padisv1.ReasonContainerFailed, err)}
	}
	dir := l.plan.Files.Dir
	if err := l.keepOutput(); err != nil {
		return failed(err)
	}
	if err := os.WriteFile(filepath.Join(dir, imageFile), []byte(l.image.Digest), 0o644); err != nil {
		return failed(err)
	}
	i, err := l.executor.Containers.Create(l.spec())
	if err != nil {
		return failed(err)
	}
	l.instance = i
	if err := l.noteProcess(); err != nil {
		l.executor.Log.Warn("operators cannot look at the network of a container", zap.String("container", l.plan.Container), zap.Error(err))
	}
	return instance.Created{PID: i.PID()}
}

func (l *life) spec() runtime.Spec {
	t := l.plan.Launch.GetTemplate()
	r := t.GetResources()
	return runtime.Spec{
		ID: l.plan.Container, Dir: l.plan.Files.Dir, Hostname: l.plan.Hostname, Command: t.GetCommand(), Env: l.plan.Environment,
		HostNetwork: l.plan.Wanted.Hosted, WorkingDir: t.GetWorkingDir(), User: t.GetUser(), Stdout: -1, Stderr: -1,
		Container: &runtime.Container{
			Image: l.image, Args: t.GetArgs(), Security: t.GetSecurity(), Mounts: l.mounts, Init: t.GetInit(),
			Limits: runtime.Limits{CPUMilli: r.GetCpuMilli(), MemoryBytes: r.GetMemoryMib() << 20, Pids: r.GetPids(), DiskBytes: r.GetDiskMib() << 20},
			Labels: map[string]string{
				"padis.io/namespace": l.plan.Launch.GetNamespace(), "padis.io/app": l.plan.Launch.GetApp(),
				"padis.io/instance": l.plan.Name(), "padis.io/revision": l.plan.Launch.GetRevision(),
			},
		},
	}
}

// keepOutput opens the named pipes that the container writes to, which it finds in its directory.
func (l *life) keepOutput() error {
	pipes := filepath.Join(l.plan.Files.Dir, "io")
	if err := os.MkdirAll(pipes, 0o755); err != nil {
		return err
	}
	for _, name := range outputs[len(l.output):] {
		s, err := l.executor.openPipe(l.plan.Files.Dir, name, filepath.Join(pipes, name), l.logLimits())
		if err != nil {
			return err
		}
		l.output = append(l.output, s)
	}
	return nil
}

// adopt takes the container over. What is held after a failure is used again.
func (l *life) adopt(ctx context.Context) instance.Event {
	if l.executor.Containers == nil {
		return instance.Adopted{Failure: &instance.Failure{Reason: padisv1.ReasonRuntimeUnavailable, Message: l.executor.NoContainers}}
	}
	if l.instance == nil {
		ctx, cancel := context.WithTimeout(ctx, keeperTime)
		defer cancel()
		i, err := l.executor.Containers.Adopt(ctx, l.plan.Container)
		if err != nil {
			return instance.Adopted{Failure: failure(padisv1.ReasonContainerFailed, err)}
		}
		l.instance = i
	}
	if err := l.keepOutput(); err != nil {
		return instance.Adopted{Failure: failure(padisv1.ReasonSandboxFailed, err)}
	}
	// Bandwidths and the like may have changed while there was no executor.
	if err := l.noteLaunch(); err != nil {
		return instance.Adopted{Failure: failure(padisv1.ReasonSandboxFailed, err)}
	}
	if err := l.noteProcess(); err != nil {
		l.executor.Log.Warn("operators cannot look at the network of a container", zap.String("container", l.plan.Container), zap.Error(err))
	}
	e := instance.Adopted{PID: l.instance.PID(), Digest: l.digest()}
	if e.PID == 0 {
		exit := l.instance.Wait()
		e.Ended = &instance.Exited{Code: exit.Code, Signal: exit.Signal, OOMKilled: exit.OOMKilled}
	}
	return e
}

// digest of the image that an earlier executor used; empty if that is not known.
func (l *life) digest() string {
	b, err := os.ReadFile(filepath.Join(l.plan.Files.Dir, imageFile))
	if err != nil {
		l.executor.Log.Warn("the image of a container is not known", zap.String("container", l.plan.Container), zap.Error(err))
	}
	return strings.TrimSpace(string(b))
}

// discard removes what there may be of a container that is not held. A container that was to be adopted may run: its end
// is not reported before it is one. What is left of one that never ran is an orphan, like any other.
func (l *life) discard() *instance.Failure {
	err := l.executor.remove(l.plan.Container)
	if err == nil {
		return nil
	}
	l.executor.Log.Error("a container could not be removed", zap.String("task", l.plan.TaskID), zap.String("container", l.plan.Container), zap.Error(err))
	if l.plan.Launch.GetAdopt() {
		return failure(padisv1.ReasonContainerFailed, err)
	}
	l.leftBehind()
	return nil
}

// leftBehind makes an orphan of what could not be removed.
func (l *life) leftBehind() {
	if l.plan.Image == "" {
		return
	}
	l.remains.Store(true)
	l.executor.post(func(now time.Time) {
		if l.state.Phase == instance.Ended {
			l.executor.orphaned(now, l.plan.Container)
		}
	})
}

// letGo leaves the container to the next executor. What was read of its output is kept; the rest waits in its pipes.
func (l *life) letGo() {
	l.left = true
	if l.cancel != nil {
		l.cancel()
	}
	if !l.state.Runs() {
		return // whoever is about to take it over holds the streams
	}
	for _, s := range l.output {
		s.Leave()
	}
}
