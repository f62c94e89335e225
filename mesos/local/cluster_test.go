package local

import (
	"fmt"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
)

func start(t testing.TB, agents int) *Cluster {
	t.Helper()
	c, err := Start(Config{Dir: t.TempDir(), Agents: make([]agent.Config, agents)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	return c
}

// The whole path with real processes, in both encodings: offers, launch on a shared executor, updates, message,
// kill, teardown.
func TestLaunchAndKill(t *testing.T) {
	for _, media := range []string{wire.JSON, wire.Protobuf} {
		t.Run(media, func(t *testing.T) {
			t.Parallel()
			c := start(t, 1)
			s := newScheduler(t, c.MasterURL(), media)
			s.subscribe()
			offer := s.offers()[0]
			option := ""
			if media == wire.Protobuf {
				option = "protobuf"
			}
			begin := time.Now()
			s.launch(offer, newTask("one", executorInfo("e", option)), newTask("two", executorInfo("e", option)))
			first := s.status("one", mesos.TASK_RUNNING)
			t.Logf("ACCEPT until RUNNING on a new executor: %v", time.Since(begin))
			if first.GetContainerStatus().GetContainerID().GetValue() == "" {
				t.Errorf("no container status: %v", first)
			}
			next := s.offers()[0]
			if len(next.ExecutorIDs) != 1 {
				t.Errorf("executor ids %v", next.ExecutorIDs)
			}
			begin = time.Now()
			var more []mesos.TaskInfo
			for i := range 14 {
				more = append(more, newTask(fmt.Sprint("more", i), executorInfo("e", option)))
			}
			s.launch(next, more...)
			for i := range 14 {
				s.status(fmt.Sprint("more", i), mesos.TASK_RUNNING)
			}
			t.Logf("14 tasks on a running executor: %v", time.Since(begin))
			s.call(&scheduler.Call{Type: scheduler.Call_MESSAGE, Message: &scheduler.Call_Message{
				AgentID: offer.AgentID, ExecutorID: mesos.ExecutorID{Value: "e"}, Data: []byte("hello"),
			}})
			s.wait("MESSAGE", func(e *scheduler.Event) bool { return string(e.GetMessage().GetData()) == "hello" })
			s.kill("two")
			s.status("two", mesos.TASK_KILLED)
			s.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
		})
	}
}

// 42 tasks on three agents whose executors run: from the ACCEPTs to the last TASK_RUNNING.
func BenchmarkLaunch42(b *testing.B) {
	c := start(b, 3)
	s := newScheduler(b, c.MasterURL(), wire.Protobuf)
	s.subscribe()
	warm := 0
	for warm < 3 {
		for _, o := range s.offers() {
			s.launch(o, newTask(fmt.Sprint("warm", warm), executorInfo("e", "protobuf")))
			warm++
		}
	}
	for i := range 3 {
		s.status(fmt.Sprint("warm", i), mesos.TASK_RUNNING)
	}
	held := map[string][]mesos.OfferID{}
	cpus := map[string]float64{}
	for n := 0; b.Loop(); n++ {
		b.StopTimer()
		s.call(&scheduler.Call{Type: scheduler.Call_REVIVE})
		for enough := 0; enough < 3; {
			for _, o := range s.offers() {
				held[o.AgentID.Value] = append(held[o.AgentID.Value], o.ID)
				cpus[o.AgentID.Value] += float64(amount.Milli(o.Resources, "cpus")) / 1000
			}
			enough = 0
			for _, free := range cpus {
				if free > 3 {
					enough++
				}
			}
		}
		var ids []string
		var calls []*scheduler.Call
		for agentID, offers := range held {
			var tasks []mesos.TaskInfo
			for range 14 {
				ids = append(ids, fmt.Sprintf("t%d-%d", n, len(ids)))
				task := newTask(ids[len(ids)-1], executorInfo("e", "protobuf"))
				task.AgentID.Value = agentID
				tasks = append(tasks, task)
			}
			calls = append(calls, &scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: &scheduler.Call_Accept{
				OfferIDs: offers, Filters: &mesos.Filters{RefuseSeconds: new(0.0)},
				Operations: []mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks}}},
			}})
		}
		clear(held)
		clear(cpus)
		b.StartTimer()
		for _, call := range calls {
			s.call(call)
		}
		for _, id := range ids {
			s.status(id, mesos.TASK_RUNNING)
		}
		b.StopTimer()
		for _, id := range ids {
			s.kill(id)
		}
		for _, id := range ids {
			s.status(id, mesos.TASK_KILLED)
		}
		b.StartTimer()
	}
}
