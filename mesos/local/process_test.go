package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"

	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/local/master"
)

// serverSpec is what a test tells the process that it starts.
type serverSpec struct {
	Role, Listen, Dir, Master, BootID string
}

// runServer is a master or an agent in a process of its own, so that it can get kill -9.
func runServer() {
	var spec serverSpec
	if err := json.Unmarshal([]byte(os.Getenv("LOCAL_TEST_SPEC")), &spec); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	listener, err := net.Listen("tcp", spec.Listen)
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	fmt.Println(listener.Addr()) // the parent waits for this
	if spec.Role == "master" {
		m, err := master.New(master.Config{Listener: listener, DataDir: spec.Dir, Log: zap.NewNop()})
		if err == nil {
			err = m.Run(context.Background())
		}
		fmt.Println(err)
		os.Exit(1)
	}
	a, err := agent.New(agent.Config{
		Listener: listener, Master: spec.Master, WorkDir: spec.Dir, Hostname: "host", BootID: spec.BootID, Subreaper: true, Log: zap.NewNop(),
	})
	if err == nil {
		err = a.Run(context.Background())
	}
	fmt.Println(err)
	os.Exit(1)
}

// server is such a process.
type server struct {
	t       *testing.T
	spec    serverSpec
	cmd     *exec.Cmd
	address string
}

func startServer(t *testing.T, spec serverSpec) *server {
	t.Helper()
	if spec.Listen == "" {
		spec.Listen = "127.0.0.1:0"
	}
	s := &server{t: t, spec: spec}
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *server) start() {
	s.t.Helper()
	spec, err := json.Marshal(s.spec)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(os.Args[0])
	s.cmd.Env = []string{"LOCAL_TEST_ROLE=server", "LOCAL_TEST_SPEC=" + string(spec)}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	buffer := make([]byte, 256)
	n, err := out.Read(buffer)
	if err != nil {
		s.t.Fatalf("%s does not start: %v", s.spec.Role, err)
	}
	s.address = strings.TrimSpace(string(buffer[:n]))
	s.spec.Listen = s.address
}

// kill is kill -9.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// restart starts the process again at the same address.
func (s *server) restart() {
	s.t.Helper()
	s.kill()
	s.start()
}

// killExecutors ends what a test has left, by the pids it knows.
func killExecutors(t *testing.T, s *testScheduler) {
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.events {
			if pid := e.GetUpdate().GetStatus().ContainerStatus.GetExecutorPID(); pid > 1 {
				_ = syscall.Kill(-int(pid), syscall.SIGKILL)
			}
		}
	})
}

// executorPID waits for a task to run and returns the pid of its executor.
func (s *testScheduler) executorPID(task string) int {
	s.t.Helper()
	return int(s.status(task, mesos.TASK_RUNNING).ContainerStatus.GetExecutorPID())
}

// reconciled asks for the state of a task until it is this one: silence is an answer too, of a master that waits
// for its agents.
func (s *testScheduler) reconciled(task string, agentID mesos.AgentID, state mesos.TaskState) mesos.TaskStatus {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		_, _, _ = s.tryCall(&scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{
			Tasks: []scheduler.Call_Reconcile_Task{{TaskID: mesos.TaskID{Value: task}, AgentID: &agentID}},
		}})
		<-time.After(20 * time.Millisecond)
		s.mu.Lock()
		for i, e := range s.events {
			u := e.GetUpdate()
			if u != nil && !s.taken[i] && u.Status.TaskID.Value == task && u.Status.GetReason() == mesos.REASON_RECONCILIATION && u.Status.GetState() == state {
				s.taken[i] = true
				s.mu.Unlock()
				return u.Status
			}
		}
		s.mu.Unlock()
	}
	s.t.Fatalf("%s is not %s", task, state)
	return mesos.TaskStatus{}
}

// states lists the states a task was reported in by updates that have a uuid.
func (s *testScheduler) states(task string) []mesos.TaskState {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []mesos.TaskState
	for _, e := range s.events {
		if u := e.GetUpdate(); u != nil && u.Status.TaskID.Value == task && len(u.Status.UUID) > 0 {
			if n := len(out); n == 0 || out[n-1] != u.Status.GetState() {
				out = append(out, u.Status.GetState())
			}
		}
	}
	return out
}

// kill -9 of the agent: executors and tasks live on, the agent comes back under its id, kills work again.
func TestAgentProcessDies(t *testing.T) {
	t.Parallel()
	m := startServer(t, serverSpec{Role: "master", Dir: t.TempDir()})
	a := startServer(t, serverSpec{Role: "agent", Dir: t.TempDir(), Master: "http://" + m.address})
	s := newScheduler(t, "http://"+m.address, "application/x-protobuf")
	killExecutors(t, s)
	s.subscribe()
	offer := s.offers()[0]
	s.launch(offer, newTask("one", executorInfo("e")), newTask("two", executorInfo("e", "")), newTask("three", executorInfo("gone")))
	pid, gone := s.executorPID("one"), s.executorPID("three")
	s.status("two", mesos.TASK_RUNNING)
	a.kill()
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the executor died with its agent: %v", err)
	}
	if err := syscall.Kill(-gone, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.kill("two") // remembered by the master
	a.start()
	s.status("two", mesos.TASK_KILLED)
	s.status("three", mesos.TASK_FAILED)
	st := s.reconciled("one", offer.AgentID, mesos.TASK_RUNNING)
	if st.AgentID.Value != offer.AgentID.Value {
		t.Errorf("agent id changed from %s to %s", offer.AgentID.Value, st.AgentID.Value)
	}
	s.kill("one")
	s.status("one", mesos.TASK_KILLED)
	if got := fmt.Sprint(s.states("one")); got != "[TASK_RUNNING TASK_KILLED]" {
		t.Errorf("states of one: %s", got)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Errorf("the executor died: %v", err)
	}
}

// kill -9 of the master: the scheduler and the agents come back by themselves, tasks are as before.
func TestMasterProcessDies(t *testing.T) {
	t.Parallel()
	m := startServer(t, serverSpec{Role: "master", Dir: t.TempDir()})
	startServer(t, serverSpec{Role: "agent", Dir: t.TempDir(), Master: "http://" + m.address})
	s := newScheduler(t, "http://"+m.address, "application/json")
	killExecutors(t, s)
	s.subscribe()
	offer := s.offers()[0]
	s.launch(offer, newTask("one", executorInfo("e")), newTask("two", executorInfo("e")))
	s.executorPID("one")
	s.status("two", mesos.TASK_RUNNING)
	id := s.id
	for range 3 {
		m.restart()
		s.subscribe()
		if s.id != id {
			t.Fatalf("framework id changed from %s to %s", id, s.id)
		}
		s.reconciled("one", offer.AgentID, mesos.TASK_RUNNING)
	}
	s.kill("one")
	s.status("one", mesos.TASK_KILLED)
	if got := fmt.Sprint(s.states("two")); got != "[TASK_RUNNING]" {
		t.Errorf("states of two: %s", got)
	}
	s.call(&scheduler.Call{Type: scheduler.Call_TEARDOWN})
}

// Nothing that an executor started survives it, not even what left the session and emptied its environment; and the
// scheduler hears of the end only when all are gone.
func TestNothingOfATreeStays(t *testing.T) {
	t.Parallel()
	m := startServer(t, serverSpec{Role: "master", Dir: t.TempDir()})
	startServer(t, serverSpec{Role: "agent", Dir: t.TempDir(), Master: "http://" + m.address})
	s := newScheduler(t, "http://"+m.address, "application/json")
	killExecutors(t, s)
	s.subscribe()
	s.launch(s.offers()[0], newTask("one", executorInfo("e", "stray")))
	pid := s.executorPID("one")
	if len(strays()) == 0 {
		t.Fatal("the executor did not start its stray process")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	failure := s.wait("FAILURE", func(e *scheduler.Event) bool { return e.Type == scheduler.Event_FAILURE })
	if left := strays(); len(left) > 0 {
		t.Errorf("FAILURE is told while %v still run", left)
	}
	if failure.Failure.GetStatus() != 9 {
		t.Errorf("status %d", failure.Failure.GetStatus())
	}
	if st := s.status("one", mesos.TASK_FAILED); st.GetReason() != mesos.REASON_EXECUTOR_TERMINATED {
		t.Errorf("reason %v", st.GetReason())
	}
}

// strays finds the processes that executors with the option "stray" have started.
func strays() []int {
	var out []int
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err == nil && bytes.Contains(b, []byte("\x001000.125\x00")) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			out = append(out, pid)
		}
	}
	return out
}

// After a reboot of the host the executors are known to be dead.
func TestRebootedHost(t *testing.T) {
	t.Parallel()
	m := startServer(t, serverSpec{Role: "master", Dir: t.TempDir()})
	a := startServer(t, serverSpec{Role: "agent", Dir: t.TempDir(), Master: "http://" + m.address, BootID: "first"})
	s := newScheduler(t, "http://"+m.address, "application/json")
	killExecutors(t, s)
	s.subscribe()
	offer := s.offers()[0]
	s.launch(offer, newTask("one", executorInfo("e")))
	pid := s.executorPID("one")
	a.kill()
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	a.spec.BootID = "second"
	a.start()
	if st := s.status("one", mesos.TASK_FAILED); st.AgentID.Value != offer.AgentID.Value {
		t.Errorf("agent id changed to %s", st.AgentID.Value)
	}
	s.reconciled("one", offer.AgentID, mesos.TASK_GONE)
	// The host takes tasks again.
	s.call(&scheduler.Call{Type: scheduler.Call_REVIVE})
	s.launch(s.usableOffer(), newTask("again", executorInfo("e")))
	s.status("again", mesos.TASK_RUNNING)
}
