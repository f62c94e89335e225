package local

import (
	"fmt"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/local/wire"
)

func start(t *testing.T, agents int) *Cluster {
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
