package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// keeper has the containers of a host, which outlive executors, its images and its volumes.
type keeper struct {
	t *testing.T
	// state is the directory of all containers.
	state string

	mu         sync.Mutex
	containers map[string]*fakeContainer
	// failing is what fails, by name; pulls are how often each image was asked for.
	failing map[string]error
	pulls   map[string]int
	log     []string
}

func newKeeper(t *testing.T) *keeper {
	k := &keeper{t: t, state: t.TempDir(), containers: map[string]*fakeContainer{}, failing: map[string]error{}, pulls: map[string]int{}}
	// Nothing may wait for the end of a container for longer than the test.
	t.Cleanup(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, c := range k.containers {
			c.end(runtime.Exit{Code: 137, Signal: "SIGKILL"})
		}
	})
	return k
}

// executor is a new one on the keeper's host.
func (k *keeper) executor(change ...func(*world, *Config)) *world {
	return newWorld(k.t, append([]func(*world, *Config){func(_ *world, c *Config) {
		c.Containers, c.Volumes, c.Host.State = k, k, k.state
	}}, change...)...)
}

func (k *keeper) say(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log = append(k.log, fmt.Sprintf(format, args...))
}

func (k *keeper) said(line string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Contains(k.log, line)
}

func (k *keeper) fail(what string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failing[what] = err
}

func (k *keeper) fails(what string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failing[what]
}

// names of the containers that exist, those that have ended in brackets.
func (k *keeper) names() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(k.containers)) {
		if k.containers[name].PID() == 0 {
			name = "(" + name + ")"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

func (k *keeper) container(name string) *fakeContainer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.containers[name]
}

func (k *keeper) Create(s runtime.Spec) (runtime.Instance, error) {
	if err := k.fails("create"); err != nil {
		return nil, err
	}
	c := &fakeContainer{k: k, spec: s, ended: make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.containers[s.ID] = c
	return c, nil
}

func (k *keeper) Pull(ctx context.Context, p runtime.Pull, progress func(done, total int64)) (runtime.Image, error) {
	k.mu.Lock()
	k.pulls[p.Image]++
	k.mu.Unlock()
	if strings.HasPrefix(p.Image, "slow") {
		for i := range 10 {
			progress(int64(i)<<20, 10<<20)
			if !sleep(ctx, time.Second) {
				return runtime.Image{}, ctx.Err()
			}
		}
	}
	if err := k.fails("pull " + p.Image); err != nil {
		return runtime.Image{}, err
	}
	return runtime.Image{Ref: p.Image, Digest: "sha256:" + p.Image}, nil
}

func (k *keeper) Found(context.Context) ([]string, error) {
	if err := k.fails("found"); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.containers)), nil
}

func (k *keeper) Adopt(_ context.Context, id string) (runtime.Instance, error) {
	if err := k.fails("adopt"); err != nil {
		return nil, err
	}
	if c := k.container(id); c != nil {
		return c, nil
	}
	return nil, &runtime.StartError{Reason: padisv1.ReasonContainerGone, Message: "It is gone."}
}

func (k *keeper) Discard(_ context.Context, id string) error {
	if err := k.fails("discard"); err != nil {
		return err
	}
	if c := k.container(id); c != nil {
		c.end(runtime.Exit{Code: 137, Signal: "SIGKILL"})
		return c.Close()
	}
	return nil
}

func (k *keeper) Remove(_ context.Context, unused time.Duration) ([]string, error) {
	k.say("remove images unused for %s", unused)
	return nil, k.fails("remove")
}

func (k *keeper) Prepare(_ context.Context, dir string, l *padisv1.Launch) ([]runtime.Mount, error) {
	if err := k.fails("prepare"); err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	return []runtime.Mount{{Source: dir, Target: "/data", Type: "bind"}}, nil
}

func (k *keeper) Update(dir string, l *padisv1.Launch, configs []*padisv1.ConfigData) ([]string, error) {
	if err := k.fails("update"); err != nil {
		return nil, err
	}
	k.say("update %s", configs[0].GetHash())
	return []string{"SIGHUP"}, nil
}

func (k *keeper) Release(dir string) error { return k.fails("release") }

// SetClientCA is what the access endpoint is told.
func (k *keeper) SetClientCA(pem []byte) error {
	k.say("trust %s", pem)
	return k.fails("trust")
}

// fakeContainer runs until somebody ends it, whoever looks.
type fakeContainer struct {
	k     *keeper
	spec  runtime.Spec
	once  sync.Once
	ended chan struct{}
	exit  runtime.Exit
}

func (c *fakeContainer) end(e runtime.Exit) { c.once.Do(func() { c.exit = e; close(c.ended) }) }

func (c *fakeContainer) PID() int {
	select {
	case <-c.ended:
		return 0
	default:
		return 4712
	}
}
func (c *fakeContainer) NetworkNamespace() int { return 6 }
func (c *fakeContainer) Start() error          { return nil }
func (c *fakeContainer) Stop(signal string) error {
	c.k.say("%s to %s", signal, c.spec.ID)
	if signal == "SIGTERM" {
		c.end(runtime.Exit{Code: 143, Signal: signal})
	}
	return nil
}

func (c *fakeContainer) Kill() error {
	if err := c.k.fails("kill"); err != nil {
		return err
	}
	c.end(runtime.Exit{Code: 137, Signal: "SIGKILL"})
	return nil
}

func (c *fakeContainer) Wait() runtime.Exit { <-c.ended; return c.exit }
func (c *fakeContainer) Run([]string, time.Duration) (runtime.Output, error) {
	return runtime.Output{}, errors.New("there is nothing to run")
}

func (c *fakeContainer) Close() error {
	if err := c.k.fails("close"); err != nil {
		return err
	}
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	delete(c.k.containers, c.spec.ID)
	return nil
}

// fakeStream ends when it is told to.
type fakeStream struct {
	// k and pipe are those of a container's.
	k    *keeper
	pipe string
	once sync.Once
	done chan struct{}
}

func (s *fakeStream) FD() int                     { return 9 }
func (s *fakeStream) HandedOver()                 {}
func (s *fakeStream) Done() <-chan struct{}       { return s.done }
func (s *fakeStream) Close()                      { s.once.Do(func() { close(s.done) }) }
func (s *fakeStream) Drain(time.Duration)         { s.k.say("%s drained", s.pipe); s.Close() }
func (s *fakeStream) Totals() (read, lost uint64) { return 0, 0 }
func (s *fakeStream) Leave()                      { s.k.say("%s left", s.pipe); s.Close() }

// contained makes a task run an image; adoption makes it take a container over.
func contained(l *padisv1.Launch) {
	l.Template.Image, l.Template.Command = "shop/web:1", nil
	l.Template.Resources = &padisv1.Resources{MemoryMib: 64, CpuMilli: 500, Pids: 10, DiskMib: 1}
}

func adoption(container string) func(*padisv1.Launch) {
	return func(l *padisv1.Launch) {
		contained(l)
		l.Adopt, l.WasReady, l.Container = true, true, container
	}
}

func (w *world) launch(n int, id string, change ...func(*padisv1.Launch)) {
	k := task(w.t, n, "x", change...)
	k.ID = id
	w.Handle(mesos.LaunchTask{Task: k})
}

func (w *world) send(m *padisv1.ToExecutor) {
	data, err := padisv1.Encode(m)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Handle(mesos.FromScheduler{Data: data})
}

// over waits for the end of the executor.
func (w *world) over() {
	w.t.Helper()
	select {
	case err := <-w.result:
		if err != nil {
			w.t.Error(err)
		}
	case <-time.After(time.Minute):
		w.t.Fatal("the executor does not end")
	}
}
