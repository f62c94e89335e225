package executor

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"padis.io/padis/executor/usage"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func balanced(l *padisv1.Launch) {
	l.LoopbackAddresses, l.DrainMs = []string{"192.0.2.1"}, 30_000
}

// hearing has an executor hear of these clients.
func hearing(now *atomic.Pointer[usage.Clients]) func(*world, *Config) {
	return func(w *world, c *Config) {
		c.Clients = func(pid int, addresses []netip.Addr) (usage.Clients, error) {
			if len(addresses) == 0 {
				w.t.Error("asks for the clients of no address")
			}
			if n := now.Load(); n != nil {
				return *n, nil
			}
			return usage.Clients{}, errors.New("nobody knows")
		}
	}
}

func TestConnectionsEndBeforeTheProgram(t *testing.T) {
	for name, c := range map[string]struct {
		clients *usage.Clients
		// leave is when the last client goes; signal when the program gets its signal.
		leave, signal time.Duration
	}{
		"no client":          {&usage.Clients{}, 0, time.Second},
		"a client that goes": {&usage.Clients{Connections: 1}, 7 * time.Second, 7 * time.Second},
		"one that stays":     {&usage.Clients{Connections: 1}, time.Hour, 30 * time.Second},
		"datagrams":          {&usage.Clients{Datagrams: true}, time.Hour, 5 * time.Second},
		"nobody knows":       {nil, time.Hour, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, func(t *testing.T, k *keeper) {
				var now atomic.Pointer[usage.Clients]
				now.Store(c.clients)
				w := k.executor(hearing(&now))
				w.running(1, "c1", balanced)
				began := time.Now()
				w.Handle(mesos.KillTask{TaskID: "c1"})
				synctest.Wait()
				if r := w.report("c1"); r.GetReady() || r.GetReason() != padisv1.ReasonDraining || !strings.Contains(r.GetMessage(), "at most 30s") {
					t.Errorf("%v", r)
				}
				time.AfterFunc(c.leave, func() { now.Store(&usage.Clients{}) })
				time.Sleep(max(0, c.signal-time.Second))
				w.until("c1", "TASK_KILLED Killed exit=143SIGTERM")
				if took := time.Since(began); took < c.signal || took > c.signal+drainLook+10*time.Millisecond {
					t.Errorf("after %s, want %s", took, c.signal)
				}
				if h := w.history("c1"); !strings.Contains(h, "TASK_KILLING Draining\nTASK_KILLING Stopping\nTASK_KILLED") {
					t.Errorf("%s", h)
				}
			})
		})
	}
}

func TestADrainChangesWhileItLasts(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		var now atomic.Pointer[usage.Clients]
		now.Store(&usage.Clients{Connections: 1})
		w := k.executor(hearing(&now))
		w.running(1, "c1")
		w.send(&padisv1.ToExecutor{Generation: 1, Networks: []*padisv1.NetworkChange{{Container: "c1", LoopbackAddresses: []string{"192.0.2.1"}, DrainMs: 60_000}}})
		w.heard()
		// The next executor knows.
		if l, err := readLaunch(w.holder("c1").plan.Files.Dir); err != nil || l.GetDrainMs() != 60_000 {
			t.Errorf("%v, %v", l, err)
		}
		began := time.Now()
		w.Handle(mesos.KillTask{TaskID: "c1"})
		w.until("c1", "TASK_KILLING Draining")
		time.Sleep(2 * time.Second)
		w.send(&padisv1.ToExecutor{Generation: 2, Networks: []*padisv1.NetworkChange{{Container: "c1", LoopbackAddresses: []string{"192.0.2.1"}, DrainMs: 9000}}})
		w.until("c1", "TASK_KILLING Stopping")
		if took := time.Since(began); took < 9*time.Second || took > 9*time.Second+10*time.Millisecond {
			t.Errorf("after %s", took)
		}
	})
}

// An executor that the scheduler replaces has time.
func TestLeavingDrains(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		var now atomic.Pointer[usage.Clients]
		now.Store(&usage.Clients{Connections: 1})
		w := k.executor(hearing(&now))
		w.Handle(mesos.LaunchTask{Task: task(t, 1, "polite", balanced)})
		w.until("web-1", "TASK_RUNNING Ready ready")
		began := time.Now()
		w.send(&padisv1.ToExecutor{Generation: 1, Leave: true})
		w.until("web-1", "TASK_KILLING Draining")
		time.AfterFunc(4*time.Second, func() { now.Store(&usage.Clients{}) })
		w.until("web-1", "SIGTERM")
		if took := time.Since(began); took < 4*time.Second || took > 5*time.Second {
			t.Errorf("after %s", took)
		}
		w.over()
	})
}

func TestAnEndThatCannotWaitDoesNotDrain(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		var now atomic.Pointer[usage.Clients]
		now.Store(&usage.Clients{Connections: 1})
		w := k.executor(hearing(&now))
		w.running(1, "c1", balanced)
		w.running(2, "c2", balanced)
		w.Handle(mesos.KillTask{TaskID: "c2"})
		w.until("c2", "TASK_KILLING Draining")
		began := time.Now()
		w.Handle(mesos.Shutdown{})
		w.until("c1", "TASK_KILLED Killed exit=143SIGTERM")
		w.until("c2", "TASK_KILLED Killed exit=143SIGTERM")
		if took := time.Since(began); took > 500*time.Millisecond {
			t.Errorf("after %s", took)
		}
		if h := w.history("c1"); strings.Contains(h, "Draining") {
			t.Errorf("%s", h)
		}
	})
}
