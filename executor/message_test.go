package executor

import (
	"encoding/hex"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// told is what the scheduler heard last, once nothing moves any more.
func (w *world) heard() *padisv1.FromExecutor {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return proto.CloneOf(w.message)
}

func (w *world) messages() int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.log["scheduler"])
}

func TestWhatTheSchedulerIsTold(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor(func(_ *world, c *Config) {
			c.Version, c.Access = "1.2", Access{Endpoint: ":4711", Certificate: []byte{1}, Clients: k}
		})
		if m := w.heard(); m.GetVersion() != "1.2" || m.GetEndpoint() != "agent1:4711" || len(m.GetCertificate()) != 1 || m.GetGeneration() != 0 {
			t.Errorf("%v", m)
		}
		w.running(1, "c1")
		n := w.messages()
		w.Handle(mesos.ExecutorDisconnected{Err: errNo})
		w.send(&padisv1.ToExecutor{Generation: 7, ClientCa: "ca"})
		if w.messages() != n {
			t.Error("spoke to nobody")
		}
		w.Handle(mesos.ExecutorSubscribed{AgentID: "a", Hostname: "agent1"})
		if m := w.heard(); m.GetGeneration() != 7 || w.messages() != n+1 || !k.said("trust ca") {
			t.Errorf("%v", m)
		}
		// Each question has an answer, and what is the same is done once.
		w.send(&padisv1.ToExecutor{Generation: 7, ClientCa: "ca"})
		if w.messages() != n+2 || strings.Count(strings.Join(k.log, "\n"), "trust") != 1 {
			t.Errorf("%d messages; %v", w.messages(), k.log)
		}
		// A new scheduler may begin anew; what cannot be done is not said to be.
		w.send(&padisv1.ToExecutor{Generation: 2})
		k.fail("trust", errNo)
		w.send(&padisv1.ToExecutor{Generation: 3, ClientCa: "no ca"})
		if m := w.heard(); m.GetGeneration() != 2 {
			t.Errorf("%v", m)
		}
		n = w.messages()
		w.Handle(mesos.FromScheduler{Data: []byte("\xff\xff")})
		if w.messages() != n {
			t.Error("answered nonsense")
		}
	})
}

func TestOnlyOrphansAreDiscarded(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		for n, c := range []string{"c0", "c1", "c2"} {
			old.running(n, c)
		}
		old.cancel()
		old.over()
		k.fail("found", errNo)
		w := k.executor()
		w.launch(0, "t0", adoption("c0"))
		w.until("t0", "TASK_RUNNING Ready ready")
		want := &padisv1.ToExecutor{Generation: 1, Discard: []string{"c1", "../../etc", "never"}}
		w.send(want)
		if m := w.heard(); m.GetGeneration() != 0 || k.names() != "c0 c1 c2" {
			t.Errorf("discarded what it does not know: %v, %s", m, k.names())
		}
		k.fail("found", nil)
		w.until("scheduler", "0 [c1 c2]")
		k.fail("discard", errNo)
		w.send(want)
		if m := w.heard(); m.GetGeneration() != 0 {
			t.Errorf("said to be gone: %v", m)
		}
		k.fail("discard", nil)
		w.send(want)
		w.until("scheduler", "1 [c2]")
		if k.names() != "c0 c2" || !strings.Contains(w.history("10.44.0.1"), "down") || strings.Contains(w.history("10.44.0.0"), "down") {
			t.Errorf("left: %s", k.names())
		}
		// What a task has is not gone, and will not be.
		w.send(&padisv1.ToExecutor{Generation: 2, Discard: []string{"c0", "c2"}})
		w.until("scheduler", "1 []")
		if k.names() != "c0" {
			t.Errorf("left: %s", k.names())
		}
	})
}

func TestImagesAreBroughtBeforeTheyAreNeeded(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		k.fail("pull bad:1", &runtime.StartError{Reason: padisv1.ReasonRegistryUnavailable, Message: "It does not answer."})
		w := k.executor()
		wish := func(images ...string) *padisv1.ToExecutor {
			m := &padisv1.ToExecutor{Generation: int64(len(images))}
			for _, i := range images {
				m.Images = append(m.Images, &padisv1.ImageWish{Image: i})
			}
			return m
		}
		w.send(wish("good:1", "bad:1"))
		w.until("scheduler", "2 [] bad:1 false RegistryUnavailable good:1 true sha256:good:1")
		if s := w.heard().GetImages()[0]; s.GetMessage() != "It does not answer." {
			t.Errorf("%v", s)
		}
		time.Sleep(20 * time.Second)
		if n := k.pulls["bad:1"]; n < 3 || n > 5 {
			t.Errorf("asked %d times in 20 s", n)
		}
		k.fail("pull bad:1", nil)
		w.until("scheduler", "2 [] bad:1 true sha256:bad:1 good:1 true sha256:good:1")
		// It is looked after, quietly.
		n := w.messages()
		time.Sleep(2 * lookAgain)
		if w.messages() != n || k.pulls["good:1"] < 2 {
			t.Errorf("%d messages, %d pulls", w.messages()-n, k.pulls["good:1"])
		}
		w.send(wish("slow:1"))
		w.until("scheduler", "1 [] slow:1 true sha256:slow:1")
		if h := w.history("scheduler"); strings.Count(h, "slow:1 false  ") < 3 || strings.Count(h, "slow:1 false  ") > 6 {
			t.Errorf("progress:\n%s", h)
		}
		w.send(wish("slow:2", "slow:1", "good:1"))
		w.send(wish())
		time.Sleep(time.Minute)
		if m := w.heard(); len(m.GetImages()) != 0 || m.GetGeneration() != 0 {
			t.Errorf("forgotten wishes: %v", m)
		}
	})
	w := newWorld(t)
	w.send(&padisv1.ToExecutor{Generation: 1, Images: []*padisv1.ImageWish{{Image: "good:1"}}})
	w.until("scheduler", "1 [] good:1 false RuntimeUnavailable")
}

func TestChangedFilesAreBroughtToTheirContainer(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.running(1, "c1")
		w.launch(2, "c2", contained, func(l *padisv1.Launch) { l.Template.Image = "slow/web" })
		w.until("c2", "TASK_STARTING Pulling")
		w.launch(3, "p3", func(l *padisv1.Launch) { l.Template.Command = []string{"polite"} })
		w.until("p3", "TASK_RUNNING Ready ready")
		change := func(container, hash string) *padisv1.ConfigChange {
			return &padisv1.ConfigChange{Container: container, Configs: []*padisv1.ConfigData{{Name: "configmap/web", Hash: hash}}}
		}
		k.fail("update", errNo)
		w.send(&padisv1.ToExecutor{Generation: 1, Configs: []*padisv1.ConfigChange{change("c1", "aa")}})
		if w.heard().GetGeneration() != 0 {
			t.Error("a failure was said to be applied")
		}
		k.fail("update", nil)
		w.send(&padisv1.ToExecutor{Generation: 1, Configs: []*padisv1.ConfigChange{change("c1", "aa"), change("p3", "bb"), change("gone", "cc")}})
		w.until("scheduler", "1 []")
		if !k.said("update aa") || !k.said("SIGHUP to c1") || k.said("update bb") {
			t.Errorf("%v", k.log)
		}
		// One that is being made has it later.
		later := &padisv1.ToExecutor{Generation: 2, Configs: []*padisv1.ConfigChange{change("c2", "dd")}}
		w.send(later)
		if w.heard().GetGeneration() != 1 || k.said("update dd") {
			t.Errorf("%v", k.log)
		}
		w.until("c2", "TASK_RUNNING Ready ready")
		w.send(later)
		w.until("scheduler", "2 []")
		if !k.said("SIGHUP to c2") {
			t.Errorf("%v", k.log)
		}
		w.Handle(mesos.KillTask{TaskID: "p3"})
		w.until("p3", "TASK_KILLED Killed")
	})
}

// Whatever comes as a message, no container that a task claims ends, and the executor lives on.
func FuzzMessages(f *testing.F) {
	seed, err := padisv1.Encode(&padisv1.ToExecutor{
		Generation: 1, ClientCa: "ca", Discard: []string{"c1", "../c1"}, Images: []*padisv1.ImageWish{{Image: "good:1"}},
		Configs: []*padisv1.ConfigChange{{Container: "c1", Configs: []*padisv1.ConfigData{{}}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m padisv1.ToExecutor
		if padisv1.Decode(data, &m) == nil && m.GetLeave() {
			t.Skip("leaving is another test's")
		}
		scene(t, func(t *testing.T, k *keeper) {
			w := k.executor()
			w.running(1, "c1")
			w.Handle(mesos.FromScheduler{Data: data})
			synctest.Wait()
			w.running(2, "c2")
			if k.names() != "c1 c2" {
				t.Errorf("%s after %s", k.names(), hex.EncodeToString(data))
			}
		})
	})
}
