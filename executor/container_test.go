package executor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

var errNo = errors.New("no")

// scene runs f under a clock of its own, on a host with containers.
func scene(t *testing.T, f func(t *testing.T, k *keeper)) {
	synctest.Test(t, func(t *testing.T) { f(t, newKeeper(t)) })
}

// running makes container c of App instance n run as task c.
func (w *world) running(n int, c string, change ...func(*padisv1.Launch)) {
	w.t.Helper()
	w.launch(n, c, append([]func(*padisv1.Launch){contained}, change...)...)
	w.until(c, "TASK_RUNNING Ready ready")
}

func TestAContainersLife(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.running(1, "c1", func(l *padisv1.Launch) {
			l.Template.Args, l.RegistryAuths = []string{"-v"}, []*padisv1.RegistryAuth{{Password: "secret"}}
		})
		s := k.container("c1").spec
		c := s.Container
		if len(s.Command) > 0 || c == nil || c.Image.Digest != "sha256:shop/web:1" || !slices.Equal(c.Args, []string{"-v"}) || len(c.Mounts) != 1 || c.Labels["padis.io/instance"] != "web-1" {
			t.Errorf("%+v %+v", s, c)
		}
		if want := (runtime.Limits{CPUMilli: 500, MemoryBytes: 64 << 20, Pids: 10, DiskBytes: 1 << 20}); c.Limits != want {
			t.Errorf("limits %+v", c.Limits)
		}
		dir := filepath.Join(k.state, "instances", "c1")
		note, err := os.ReadFile(filepath.Join(dir, launchFile))
		if err != nil || s.Dir != dir || strings.Contains(string(note), "secret") {
			t.Errorf("%s: %q, %v", s.Dir, note, err)
		}
		p, ok := w.Lookup("c1")
		if !ok || p.PID != 4712 || p.Dir != dir || p.Instance == nil || !p.Ready || p.Launch.GetApp() != "web" || p.Addresses[0].String() != "10.44.0.1" {
			t.Errorf("%+v", p)
		}
		if all := w.Instances(); len(all) != 1 || all[0].Container != "c1" {
			t.Errorf("%+v", all)
		}
		k.container("c1").end(runtime.Exit{Code: 137, Signal: "SIGKILL", OOMKilled: true})
		w.expect("c1", `
TASK_STARTING Starting
TASK_RUNNING Ready ready
TASK_FAILED OOMKilled exit=137SIGKILL`)
		<-p.Ended
		synctest.Wait()
		if k.names() != "" {
			t.Errorf("left: %s", k.names())
		}
		if p, ok := w.Lookup("c1"); !ok || p.Dir != dir || p.Instance != nil || p.Launch.GetApp() != "web" {
			t.Errorf("afterwards %+v", p)
		}
		if !k.said(filepath.Join(dir, "io", "stdout")+" drained") || !k.said(filepath.Join(dir, "io", "stderr")+" drained") {
			t.Errorf("its output: %v", k.log)
		}
		for _, none := range []string{"c9", "../c1", ""} {
			if p, ok := w.Lookup(none); ok {
				t.Errorf("%q is %+v", none, p)
			}
		}
	})
}

func TestWhatAContainerCannotHave(t *testing.T) {
	for what, want := range map[string]string{
		"pull shop/web:1": "TASK_FAILED ImageNotFound", "prepare": "TASK_FAILED VolumeForbidden", "create": "TASK_FAILED RuntimeUnavailable",
	} {
		scene(t, func(t *testing.T, k *keeper) {
			w := k.executor()
			k.fail(what, &runtime.StartError{Reason: strings.Fields(want)[1], Message: "No."})
			w.launch(1, "c1", contained)
			w.until("c1", want)
		})
	}
	w := newWorld(t, func(_ *world, c *Config) { c.NoContainers = "containerd is not there; install it" })
	w.launch(1, "c1", contained)
	w.until("c1", "TASK_FAILED RuntimeUnavailable")
	if w.mu.Lock(); w.message.GetNoContainers() != "containerd is not there; install it" {
		t.Errorf("told %v", w.message)
	}
	w.mu.Unlock()
	// What may run is not said to have failed.
	w.launch(2, "t2", adoption("c2"))
	w.until("t2", "TASK_STARTING RuntimeUnavailable ready")
}

func TestPullingIsReported(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.launch(1, "c1", contained, func(l *padisv1.Launch) { l.Template.Image = "slow/web:1" })
		w.expect("c1", `
TASK_STARTING Starting
TASK_STARTING Pulling
TASK_STARTING Pulling
TASK_STARTING Pulling
TASK_STARTING Pulling
TASK_STARTING Pulling
TASK_RUNNING Ready ready`)
		w.launch(2, "c2", contained, func(l *padisv1.Launch) { l.Template.Image = "slow/web:2" })
		w.until("c2", "TASK_STARTING Pulling")
		w.Handle(mesos.KillTask{TaskID: "c2"})
		w.until("c2", "TASK_KILLED Killed")
	})
}

func TestTheNextExecutorTakesContainersOver(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		for n, c := range []string{"c0", "c1", "c2", "c3"} {
			old.running(n, c)
		}
		old.cancel()
		old.over()
		if h := old.history("c0"); strings.Contains(h, "KILL") || k.names() != "c0 c1 c2 c3" {
			t.Fatalf("%s after %s", k.names(), h)
		}
		k.container("c1").end(runtime.Exit{Code: 3})
		k.container("c2").end(runtime.Exit{})
		if err := k.container("c2").Close(); err != nil {
			t.Fatal(err)
		}
		k.fail("found", errNo)

		w := k.executor()
		w.launch(0, "t0", adoption("c0"))
		w.expect("t0", "TASK_STARTING Adopting ready\nTASK_RUNNING Ready ready")
		w.launch(1, "t1", adoption("c1"))
		w.expect("t1", "TASK_STARTING Adopting ready\nTASK_FAILED Exited exit=3")
		w.launch(2, "t2", adoption("c2"))
		w.expect("t2", "TASK_STARTING Adopting ready\nTASK_FAILED ContainerGone")
		k.fail("found", nil)
		w.until("scheduler", "0 [c3]")
		w.launch(3, "t3", adoption("c3"))
		w.until("scheduler", "0 []")
		w.until("t3", "TASK_RUNNING Ready ready")
		w.launch(0, "t9", adoption("c0"))
		w.until("t9", "TASK_FAILED InvalidLaunch")
		for _, id := range []string{"t0", "c0"} {
			if p, ok := w.Lookup(id); !ok || p.TaskID != "t0" || p.Container != "c0" || p.Instance == nil {
				t.Errorf("%s is %+v", id, p)
			}
		}
		if r := w.report("t0"); r.GetContainer() != "c0" || r.GetImageDigest() != "sha256:shop/web:1" {
			t.Errorf("reported %v", r)
		}
		w.Handle(mesos.KillTask{TaskID: "t0"})
		w.until("t0", "TASK_KILLED Killed exit=143SIGTERM")
		synctest.Wait()
		if k.names() != "c3" {
			t.Errorf("left: %s", k.names())
		}
	})
}

// Whoever serves containers may be away: nothing is said to have ended that may run.
func TestAdoptionWaitsForTheRuntime(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		old.running(0, "c0")
		old.running(1, "c1")
		old.cancel()
		old.over()
		k.fail("adopt", errNo)
		k.fail("discard", errNo)
		w := k.executor()
		w.launch(0, "t0", adoption("c0"))
		w.launch(1, "t1", adoption("c1"))
		w.until("t0", "TASK_STARTING ContainerFailed ready")
		w.until("t1", "TASK_STARTING ContainerFailed ready")
		w.Handle(mesos.KillTask{TaskID: "t1"})
		w.until("t1", "TASK_KILLING ContainerFailed")
		time.Sleep(time.Minute)
		if h := w.history("t1"); strings.Contains(h, "TASK_KILLED") {
			t.Errorf("ended, it may run: %s", h)
		}
		k.fail("discard", nil)
		w.until("t1", "TASK_KILLED Killed")
		k.fail("adopt", nil)
		w.until("t0", "TASK_RUNNING Ready ready")
		if k.names() != "c0" {
			t.Errorf("left: %s", k.names())
		}
	})
}

func TestWhatCannotBeRemovedIsAnOrphan(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.running(1, "c1")
		w.running(2, "c2")
		k.fail("close", errNo)
		k.container("c1").end(runtime.Exit{})
		w.until("c1", "TASK_FINISHED Exited")
		w.until("scheduler", "0 [c1]")
		k.fail("create", errNo)
		k.fail("discard", errNo)
		w.launch(3, "c3", contained)
		w.until("c3", "TASK_FAILED ContainerFailed")
		w.until("scheduler", "0 [c1 c3]")
		k.fail("close", nil)
		k.fail("discard", nil)
		w.send(&padisv1.ToExecutor{Generation: 4, Discard: []string{"c1", "c3"}})
		w.until("scheduler", "4 []")
		if k.names() != "c2" {
			t.Errorf("left: %s", k.names())
		}
		k.fail("kill", errNo)
		w.Handle(mesos.KillTask{TaskID: "c2", Grace: new(time.Duration)})
		time.Sleep(time.Second)
		k.fail("kill", nil)
		w.until("c2", "TASK_KILLED Killed exit=137SIGKILL")
	})
}

func TestShutdownEndsAllContainers(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		old.running(1, "c1")
		old.running(2, "c2")
		old.cancel()
		old.over()
		w := k.executor()
		w.launch(1, "t1", adoption("c1"))
		w.until("t1", "TASK_RUNNING Ready ready")
		w.until("scheduler", "0 [c2]")
		w.Handle(mesos.Shutdown{})
		w.launch(2, "t2", adoption("c2")) // too late, and not ours to end in words
		w.over()
		if k.names() != "" || !strings.Contains(w.history("t1"), "TASK_KILLED") || w.history("t2") != "" {
			t.Errorf("left: %s\n%s\n%s", k.names(), w.history("t1"), w.history("t2"))
		}
		if h := w.history("10.44.0.2"); !strings.Contains(h, "down") {
			t.Errorf("the orphan's address: %s", h)
		}
	})
}

func TestLeaving(t *testing.T) {
	for name, ask := range map[string]func(*world){
		"for the system":    func(w *world) { w.cancel() },
		"for the scheduler": func(w *world) { w.send(&padisv1.ToExecutor{Generation: 3, Leave: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, k *keeper) {
				w := k.executor()
				w.running(1, "c1")
				w.launch(2, "p2", func(l *padisv1.Launch) { l.Template.Command = []string{"polite"} })
				w.until("p2", "TASK_RUNNING Ready ready")
				w.launch(3, "c3", contained, func(l *padisv1.Launch) { l.Template.Image = "slow/web" })
				w.until("c3", "TASK_STARTING Pulling")
				w.running(4, "c4")
				k.fail("kill", errNo)
				w.Handle(mesos.KillTask{TaskID: "c4", Grace: new(time.Duration)})
				ask(w)
				w.until("c3", "TASK_KILLED Killed")
				w.until("p2", "TASK_KILLED Killed")
				w.launch(5, "c5", contained)
				w.until("c5", "TASK_KILLED Killed")
				w.launch(6, "t6", adoption("c6"))
				k.fail("kill", nil)
				w.over()
				if k.names() != "c1" || w.history("t6") != "" || w.history("c1") != "TASK_STARTING Starting\nTASK_RUNNING Ready ready" || !strings.Contains(w.history("c4"), "TASK_KILLED") {
					t.Errorf("left: %s\n%s", k.names(), w.history("c1"))
				}
				if !k.said(filepath.Join(k.state, "instances", "c1", "io", "stdout") + " left") {
					t.Errorf("its output: %v", k.log)
				}
				if strings.Contains(w.history("10.44.0.1"), "down") {
					t.Error("its address is silent")
				}
			})
		})
	}
}

// A program may have a long grace when the scheduler asks; not when the system does.
func TestHurry(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.running(1, "c1")
		w.launch(2, "p2")
		w.until("p2", "TASK_RUNNING Ready ready")
		w.send(&padisv1.ToExecutor{Generation: 3, Leave: true})
		w.until("p2", "TASK_KILLING Stopping")
		begin := time.Now()
		w.cancel()
		w.over()
		if took := time.Since(begin); took > 5*time.Second || k.names() != "c1" {
			t.Errorf("after %s there is %s", took, k.names())
		}
	})
}

// A SHUTDOWN that follows a SIGTERM still ends what was to be left.
func TestShutdownAfterLeaving(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.running(1, "c1")
		w.launch(2, "p2")
		w.until("p2", "TASK_RUNNING Ready ready")
		w.send(&padisv1.ToExecutor{Generation: 3, Leave: true})
		w.until("p2", "TASK_KILLING Stopping")
		w.Handle(mesos.Shutdown{})
		w.over()
		if k.names() != "" {
			t.Errorf("left: %s", k.names())
		}
	})
}

func TestContainersNeedTheirFriends(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config, *keeper)
		ok     bool
	}{
		"all":        {func(*Config, *keeper) {}, true},
		"no volumes": {func(c *Config, _ *keeper) { c.Volumes = nil }, false},
		"no state":   {func(c *Config, _ *keeper) { c.Host.State = "" }, false},
	} {
		k := newKeeper(t)
		var got Config
		newWorld(t, func(_ *world, usual *Config) { got = *usual })
		got.Containers, got.Volumes, got.Host.State = k, k, k.state
		c.change(&got, k)
		if _, err := New(got); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
