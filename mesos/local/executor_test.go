package local

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	executorpb "github.com/mesos/mesos-go/api/v1/lib/executor"

	"padis.io/padis/mesos/local/wire"
)

// TestMain makes the test binary an executor, a master or an agent when it is started as one.
func TestMain(m *testing.M) {
	switch os.Getenv("LOCAL_TEST_ROLE") {
	case "executor":
		runExecutor()
	case "server":
		runServer()
	default:
		os.Exit(m.Run())
	}
}

// executorInfo is an ExecutorInfo that starts this test binary as an executor. Options are words:
//
//	stray     starts a process that leaves the session, and empties its environment
//	protobuf  speaks protobuf
//	env       prints its environment
//	silent    never subscribes
//	mute      sends no update
//	stay      does not reconnect when the agent is gone
func executorInfo(id string, options ...string) mesos.ExecutorInfo {
	return mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: id}, Resources: []mesos.Resource{scalar("cpus", 0.1), scalar("mem", 32)},
		Command: &mesos.CommandInfo{Value: new("exec '" + os.Args[0] + "'"), Environment: &mesos.Environment{Variables: []mesos.Environment_Variable{
			{Name: "LOCAL_TEST_ROLE", Value: new("executor")}, {Name: "OPTIONS", Value: new(strings.Join(options, " "))},
		}}},
	}
}

type scriptedExecutor struct {
	url, media  string
	framework   mesos.FrameworkID
	id          mesos.ExecutorID
	mu          sync.Mutex
	unacked     map[string]executorpb.Call_Update
	unackedTask map[string]mesos.TaskInfo
}

// runExecutor is a small but truthful executor: tasks run until they are killed.
func runExecutor() {
	options := map[string]bool{}
	for _, o := range strings.Fields(os.Getenv("OPTIONS")) {
		options[o] = true
	}
	e := &scriptedExecutor{
		url: "http://" + os.Getenv("MESOS_AGENT_ENDPOINT") + "/api/v1/executor", media: wire.JSON,
		framework: mesos.FrameworkID{Value: os.Getenv("MESOS_FRAMEWORK_ID")}, id: mesos.ExecutorID{Value: os.Getenv("MESOS_EXECUTOR_ID")},
		unacked: map[string]executorpb.Call_Update{}, unackedTask: map[string]mesos.TaskInfo{},
	}
	if options["protobuf"] {
		e.media = wire.Protobuf
	}
	fmt.Println("executor", e.id.Value, "pid", os.Getpid())
	if options["stray"] {
		cmd := exec.Command("/bin/sleep", "1000.125")
		cmd.Env = []string{"A=b"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
		}
	}
	if options["env"] {
		for _, v := range os.Environ() {
			fmt.Println("env", v)
		}
	}
	if options["silent"] {
		_ = syscall.Pause() // select{} alone would be a deadlock to the runtime
	}
	var lost time.Time
	for {
		if e.session(options) {
			lost = time.Time{}
		}
		if options["stay"] {
			_ = syscall.Pause()
		}
		if lost.IsZero() {
			lost = time.Now()
		}
		if time.Since(lost) > 15*time.Second {
			os.Exit(1)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// session is one subscription; it reports whether there was one.
func (e *scriptedExecutor) session(options map[string]bool) bool {
	call := &executorpb.Call{Type: executorpb.Call_SUBSCRIBE, FrameworkID: e.framework, ExecutorID: e.id, Subscribe: &executorpb.Call_Subscribe{}}
	e.mu.Lock()
	for _, t := range e.unackedTask {
		call.Subscribe.UnacknowledgedTasks = append(call.Subscribe.UnacknowledgedTasks, t)
	}
	for _, u := range e.unacked {
		call.Subscribe.UnacknowledgedUpdates = append(call.Subscribe.UnacknowledgedUpdates, u)
	}
	e.mu.Unlock()
	body, err := wire.Encode(e.media, call)
	if err != nil {
		return false
	}
	request, err := http.NewRequest(http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", e.media)
	request.Header.Set("Accept", e.media)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false
	}
	_ = readFrames(response.Body, func(frame []byte) {
		var event executorpb.Event
		if err := decodeEvent(e.media, frame, &event); err == nil {
			e.handle(&event, options)
		}
	})
	return true
}

func (e *scriptedExecutor) handle(event *executorpb.Event, options map[string]bool) {
	switch event.Type {
	case executorpb.Event_LAUNCH:
		e.mu.Lock()
		e.unackedTask[event.Launch.Task.TaskID.Value] = event.Launch.Task
		e.mu.Unlock()
		if !options["mute"] {
			go e.update(event.Launch.Task.TaskID, mesos.TASK_RUNNING)
		}
	case executorpb.Event_KILL:
		go e.update(event.Kill.TaskID, mesos.TASK_KILLED)
	case executorpb.Event_ACKNOWLEDGED:
		e.mu.Lock()
		delete(e.unacked, string(event.Acknowledged.UUID))
		delete(e.unackedTask, event.Acknowledged.TaskID.Value)
		e.mu.Unlock()
	case executorpb.Event_MESSAGE:
		e.send(&executorpb.Call{Type: executorpb.Call_MESSAGE, Message: &executorpb.Call_Message{Data: event.Message.Data}})
	case executorpb.Event_SHUTDOWN:
		os.Exit(0)
	}
}

func (e *scriptedExecutor) update(id mesos.TaskID, state mesos.TaskState) {
	u := uuid.New()
	update := executorpb.Call_Update{Status: mesos.TaskStatus{
		TaskID: id, State: &state, Source: mesos.SOURCE_EXECUTOR.Enum(), UUID: u[:], Timestamp: new(float64(time.Now().UnixMicro()) / 1e6),
	}}
	e.mu.Lock()
	e.unacked[string(u[:])] = update
	e.mu.Unlock()
	e.send(&executorpb.Call{Type: executorpb.Call_UPDATE, Update: &update})
}

func (e *scriptedExecutor) send(call *executorpb.Call) {
	call.FrameworkID, call.ExecutorID = e.framework, e.id
	status, text, err := post(http.DefaultClient, e.url, e.media, "", call)
	if err != nil || status != http.StatusAccepted {
		fmt.Println("call failed:", call.Type, status, text, err)
	}
}
