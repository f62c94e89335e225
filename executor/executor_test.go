package executor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func (w *world) expect(task, want string) {
	w.t.Helper()
	lines := strings.Split(strings.TrimSpace(want), "\n")
	w.until(task, lines[len(lines)-1])
	if got := w.history(task); got != strings.Join(lines, "\n") {
		w.t.Errorf("%s: got\n%s\nwant\n%s", task, got, want)
	}
}

func checks(l *padisv1.Launch) {
	l.Template.HealthChecks = []*padisv1.HealthCheck{{
		Probe: &padisv1.HealthCheck_Tcp{Tcp: &padisv1.TcpProbe{Port: 80}}, IntervalMs: 5, TimeoutMs: 1000, GracePeriodMs: 60_000, FailureThreshold: 2, SuccessThreshold: 1,
	}}
}

func TestALifeAndItsEnd(t *testing.T) {
	w := newWorld(t)
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite")})
	w.until("web-1", "TASK_RUNNING Ready ready")
	w.until("10.44.0.1", "announced")
	dir := w.instance("web-1").spec.Dir
	for name, want := range map[string]string{"etc/hosts": "10.44.0.1\tweb-1", "etc/resolv.conf": "#", "stdout": "", "stderr": ""} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if env := strings.Join(w.instance("web-1").spec.Env, " "); !strings.Contains(env, "PADIS_HOST=agent1 ") {
		t.Errorf("the host is called as the agent calls it: %s", env)
	}
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite")})
	w.Handle(mesos.KillTask{TaskID: "web-1"})
	w.expect("web-1", `
TASK_STARTING Starting
TASK_RUNNING Ready ready
TASK_KILLING Stopping
SIGTERM
TASK_KILLED Killed`)
	// What has ended is not started or ended again; what was never here has ended.
	w.Handle(mesos.KillTask{TaskID: "web-1"})
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite")})
	w.Handle(mesos.KillTask{TaskID: "never"})
	w.expect("never", "TASK_KILLED Killed")
	if h := w.history("web-1"); strings.Count(h, "TASK_KILLED") != 1 {
		t.Errorf("reported again:\n%s", h)
	}
}

func TestEndsOfThePrograms(t *testing.T) {
	w := newWorld(t)
	for n, exit := range []runtime.Exit{{Code: 0}, {Code: 3}, {Code: 139, Signal: "SIGSEGV"}} {
		id := task(t, n, "x").ID
		w.Handle(mesos.LaunchTask{Task: task(t, n, "x")})
		w.until(id, "TASK_RUNNING Ready ready")
		w.instance(id).end(exit)
		w.until(id, []string{"TASK_FINISHED Exited", "TASK_FAILED Exited exit=3", "TASK_FAILED Exited exit=139SIGSEGV"}[n])
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite", checks)})
	w.until("web-1", "TASK_RUNNING Running healthy=false")
	w.mu.Lock()
	w.healthy = true
	w.mu.Unlock()
	w.until("web-1", "TASK_RUNNING Ready healthy=true ready")
	w.mu.Lock()
	w.healthy = false
	w.mu.Unlock()
	w.expect("web-1", `
TASK_STARTING Starting
TASK_RUNNING Running
TASK_RUNNING Running healthy=false
TASK_RUNNING Ready healthy=true ready
TASK_RUNNING Unhealthy healthy=false
SIGTERM
TASK_FAILED HealthCheckFailed`)
}

func TestAProbeThatAnswersAfterTheEndIsNobodysBusiness(t *testing.T) {
	w := newWorld(t, func(w *world, _ *Config) { w.late = make(chan struct{}) })
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "x", checks)})
	w.until("web-1", "TASK_RUNNING Running")
	w.instance("web-1").end(runtime.Exit{Code: 7})
	w.until("web-1", "TASK_FAILED Exited exit=7")
	close(w.late)
	w.Handle(mesos.LaunchTask{Task: task(t, 2, "x")})
	w.until("web-2", "TASK_RUNNING Ready ready")
	if h := w.history("web-1"); strings.Count(h, "TASK_FAILED") != 1 {
		t.Errorf("reported again:\n%s", h)
	}
}

func TestAnAddressThatIsAnsweredIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.answers["10.44.0.1"] = 2
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "x", func(l *padisv1.Launch) { l.Attachments[0].Probe = true })})
	w.expect("web-1", `
TASK_STARTING Starting
TASK_STARTING AddressAnswered
TASK_RUNNING Ready ready`)
}

func TestWhatCannotBeStarted(t *testing.T) {
	for name, c := range map[string]struct {
		fails  string
		err    error
		reason string
	}{
		"artifact":   {"fetch", errors.New("404"), padisv1.ReasonArtifactFailed},
		"full disk":  {"fetch", &os.PathError{Op: "write", Err: syscall.ENOSPC}, padisv1.ReasonInsufficientSpace},
		"namespaces": {"create", &runtime.StartError{Reason: padisv1.ReasonSandboxFailed, Message: "no"}, padisv1.ReasonSandboxFailed},
		"network":    {"attach", errors.New("no parent"), padisv1.ReasonNetworkFailed},
		"command":    {"start", &runtime.StartError{Reason: padisv1.ReasonCommandNotFound, Message: "no"}, padisv1.ReasonCommandNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.failing[c.fails] = c.err
			w.Handle(mesos.LaunchTask{Task: task(t, 1, "x", func(l *padisv1.Launch) { l.Template.Artifacts = []*padisv1.Artifact{{Uri: "x"}} })})
			w.until("web-1", "TASK_FAILED "+c.reason+map[string]string{"network": " exit=137SIGKILL", "command": " exit=1"}[name])
		})
	}
	w := newWorld(t)
	w.Handle(mesos.LaunchTask{Task: mesos.Task{ID: "bad", Data: []byte("\xff\xff")}})
	w.Handle(mesos.LaunchTask{Task: mesos.Task{ID: "../bad"}})
	w.expect("bad", "TASK_FAILED InvalidLaunch")
	w.expect("../bad", "TASK_FAILED InvalidLaunch")
}

func TestAnAddressIsReportedFreeOnlyWhenItIs(t *testing.T) {
	w := newWorld(t)
	w.failing["detach"] = errors.New("not now")
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "x")})
	w.until("web-1", "TASK_RUNNING Ready ready")
	w.instance("web-1").end(runtime.Exit{})
	w.Handle(mesos.LaunchTask{Task: task(t, 2, "x")})
	w.until("web-2", "TASK_RUNNING Ready ready")
	if h := w.history("web-1"); strings.Contains(h, "TASK_FINISHED") {
		t.Error("reported the end before the network was silent")
	}
	w.mu.Lock()
	delete(w.failing, "detach")
	w.mu.Unlock()
	w.until("web-1", "TASK_FINISHED Exited")
	w.until("10.44.0.1", "down")
}

func TestShutdown(t *testing.T) {
	for name, ask := range map[string]func(*world){
		"by the agent":  func(w *world) { w.Handle(mesos.Shutdown{}) },
		"by the system": func(w *world) { w.cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite")})
			w.Handle(mesos.LaunchTask{Task: task(t, 2, "stubborn")})
			w.Handle(mesos.LaunchTask{Task: task(t, 3, "x", func(l *padisv1.Launch) { l.Template.Artifacts = []*padisv1.Artifact{{Uri: "slow"}} })})
			w.until("web-1", "TASK_RUNNING Ready ready")
			w.until("web-2", "TASK_RUNNING Ready ready")
			ask(w)
			w.Handle(mesos.Shutdown{})
			w.until("web-1", "TASK_KILLED Killed")
			w.Handle(mesos.LaunchTask{Task: task(t, 4, "late")})
			w.until("web-4", "TASK_KILLED Killed")
			w.until("web-2", "TASK_KILLED Killed exit=137SIGKILL")
			w.until("web-3", "TASK_KILLED Killed")
			select {
			case err := <-w.result:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
			w.until("", "flush")
			w.Handle(mesos.LaunchTask{Task: task(t, 5, "too late")}) // must not block
		})
	}
}

func TestOtherEventsChangeNothing(t *testing.T) {
	w := newWorld(t)
	w.Handle(mesos.LaunchTask{Task: task(t, 1, "x")})
	w.until("web-1", "TASK_RUNNING Ready ready")
	for _, e := range []mesos.ExecutorEvent{
		mesos.ExecutorDisconnected{Err: errors.New("gone")}, mesos.ExecutorSubscribed{}, mesos.Acknowledged{TaskID: "web-1"},
		mesos.FromScheduler{Data: []byte("hello")}, mesos.ExecutorFailed{Message: "x"},
	} {
		w.Handle(e)
	}
	w.Handle(mesos.KillTask{TaskID: "none"})
	w.until("none", "TASK_KILLED Killed")
	if h := w.history("web-1"); h != "TASK_STARTING Starting\nTASK_RUNNING Ready ready" {
		t.Errorf("got\n%s", h)
	}
}

func TestMemoryForgetsTheOldest(t *testing.T) {
	m := memory{known: map[string]bool{}}
	for i := range memorySize + 10 {
		m.add(fmt.Sprint(i))
		m.add(fmt.Sprint(i))
	}
	if len(m.known) != memorySize || len(m.order) != memorySize || m.has("9") || !m.has("10") {
		t.Errorf("%d known, %d in order", len(m.known), len(m.order))
	}
}

func TestWhatIsNotWiredIsRefused(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("accepted nothing at all")
	}
}
