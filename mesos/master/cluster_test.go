package master_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"padis.io/padis/mesos"
	"padis.io/padis/mesos/files"
	"padis.io/padis/mesos/local"
	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/master"
)

// patience is how long a test waits for what has to come.
const patience = time.Minute

func cluster(t *testing.T) *local.Cluster {
	t.Helper()
	c, err := local.Start(local.Config{Dir: t.TempDir(), Agents: []agent.Config{{Attributes: "rack:r1;slots:[1-4]"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Shutdown)
	return c
}

// framework is a scheduler that does what the test says.
type framework struct {
	t *testing.T
	*master.Client
	id     string
	agent  string
	offers []mesos.Offer
	events chan mesos.Event
	cancel context.CancelFunc
	result chan error
}

func subscribe(t *testing.T, c *local.Cluster, id string) *framework {
	t.Helper()
	client, err := master.New(master.Config{
		Masters: c.MasterURL(), Framework: master.Framework{Name: "padis", FailoverTimeout: time.Hour}, Logger: zap.NewNop(), Rand: rand.Float64,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &framework{t: t, Client: client, events: make(chan mesos.Event, 1000), cancel: cancel, result: make(chan error, 1)}
	go func() { f.result <- client.Run(ctx, id, func(e mesos.Event) { f.events <- e }) }()
	t.Cleanup(cancel)
	f.id = wait(f, func(mesos.Subscribed) bool { return true }).FrameworkID
	return f
}

// wait reads events until one fits, and forgets those on the way, having acknowledged their updates.
func wait[E mesos.Event](f *framework, fits func(E) bool) E {
	f.t.Helper()
	late := time.After(patience)
	for {
		select {
		case e := <-f.events:
			if u, ok := e.(mesos.Update); ok && len(u.Status.UUID) > 0 {
				f.send(mesos.Acknowledge{AgentID: u.Status.AgentID, TaskID: u.Status.TaskID, UUID: u.Status.UUID})
			}
			if got, ok := e.(E); ok && fits(got) {
				return got
			}
			if u, ok := e.(mesos.Update); ok && (u.Status.State == mesos.TaskDropped || u.Status.State == mesos.TaskError) {
				f.t.Fatalf("%+v", u)
			}
		case <-late:
			var want E
			f.t.Fatalf("no %T that fits within %s", want, patience)
		}
	}
}

// state waits until a task is in a state.
func (f *framework) state(task string, state mesos.TaskState) mesos.Status {
	f.t.Helper()
	return wait(f, func(u mesos.Update) bool { return u.Status.TaskID == task && u.Status.State == state }).Status
}

func (f *framework) send(c mesos.Call) {
	f.t.Helper()
	if err := f.Send(f.t.Context(), c); err != nil {
		f.t.Fatalf("%T: %v", c, err)
	}
}

// launch starts tasks on one shared executor, with what the next offer has. The data of each task is its kind.
func (f *framework) launch(kinds map[string]string) {
	f.t.Helper()
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	offer := wait(f, func(o mesos.Offers) bool { return len(o.Offers) > 0 }).Offers[0]
	f.agent = offer.AgentID
	f.offers = append(f.offers, offer)
	own, rest, ok := mesos.Carve(offer.Resources, mesos.Amounts{CPUMilli: 100, MemoryMilli: 32000})
	if !ok {
		f.t.Fatalf("offer %+v is too small", offer)
	}
	executor := mesos.Executor{ID: "ex", Name: "scripted", Command: "exec " + self, Env: map[string]string{scripted: "1", "B": "2", "A": "1"}, Resources: own}
	accept := mesos.Accept{OfferIDs: []string{offer.ID}}
	for id, kind := range kinds {
		var taken []mesos.Resource
		if taken, rest, ok = mesos.Carve(rest, mesos.Amounts{CPUMilli: 100, MemoryMilli: 32000}); !ok {
			f.t.Fatalf("offer %+v is too small", offer)
		}
		accept.Tasks = append(accept.Tasks, mesos.Task{
			ID: id, Name: id, AgentID: offer.AgentID, Resources: taken, Executor: executor, Data: []byte(kind), Labels: map[string]string{"k": "v"},
		})
	}
	f.send(accept)
}

// tell sends a message to the executor until it answers: Mesos may lose either.
func (f *framework) tell(text string) (pid string) {
	f.t.Helper()
	f.send(mesos.ToExecutor{AgentID: f.agent, ExecutorID: "ex", Data: []byte(text)})
	answer := wait(f, func(m mesos.FromExecutor) bool { return strings.HasSuffix(string(m.Data), ": "+text) })
	pid, _, _ = strings.Cut(string(answer.Data), ":")
	return pid
}

func TestALifeOnACluster(t *testing.T) {
	c := cluster(t)
	f := subscribe(t, c, "")
	f.launch(map[string]string{"t1": "one", "t2": "two"})
	for id, kind := range map[string]string{"t1": "one", "t2": "two"} {
		f.send(mesos.Reconcile{Tasks: []mesos.TaskRef{{TaskID: id, AgentID: f.agent}}}) // the updates may come in any order
		if st := f.state(id, mesos.TaskRunning); st.Reason == "" && string(st.Data) != kind {
			t.Fatalf("%+v", st)
		}
	}
	offer := f.offers[0]
	if offer.Attributes["rack"] != "r1" || offer.Attributes["slots"] != "[1-4]" || offer.Hostname != "agent0" || offer.URL != c.AgentURL(0) {
		t.Fatalf("%+v", offer)
	}

	// Every call there is, while the executor lives.
	f.tell("hello")
	logs := files.New(files.Config{})
	path := files.TaskPath(f.id, "ex", "t1", "stdout")
	if data, size, err := logs.Read(t.Context(), offer.URL, path, 6, 4); err != nil || string(data) != "from" || size != 14 {
		t.Fatalf("%q, %d, %v", data, size, err)
	}
	if _, _, err := logs.Read(t.Context(), offer.URL, path+"x", 0, 4); !errors.Is(err, files.ErrNotFound) {
		t.Fatal(err)
	}
	f.send(mesos.Suppress{})
	f.send(mesos.Revive{})
	rest := wait(f, func(o mesos.Offers) bool { return len(o.Offers) > 0 }).Offers[0]
	if len(rest.ExecutorIDs) != 1 || rest.ExecutorIDs[0] != "ex" {
		t.Fatalf("%+v", rest)
	}
	if got := mesos.Sum(rest.Resources).CPUMilli; got != 4000-300 {
		t.Fatalf("%d thousandths of a CPU are left", got)
	}
	f.send(mesos.Decline{OfferIDs: []string{rest.ID}, Refuse: time.Hour})
	f.send(mesos.Kill{TaskID: "t1", AgentID: f.agent, Grace: time.Second})
	f.state("t1", mesos.TaskKilled)
	var refused *master.CallError
	if err := f.Send(t.Context(), mesos.Acknowledge{AgentID: f.agent, TaskID: "t1", UUID: []byte("short")}); !errors.As(err, &refused) || refused.Status != 400 {
		t.Fatal(err)
	}
	f.send(mesos.ShutdownExecutor{AgentID: f.agent, ExecutorID: "ex"})
	wait(f, func(e mesos.Failure) bool { return e.ExecutorID == "ex" && e.AgentID == f.agent })
	f.state("t2", mesos.TaskFailed)

	// Torn down: the master ends the stream, and will not have us again.
	f.send(mesos.Teardown{})
	wait(f, func(mesos.Disconnected) bool { return true })
	wait(f, func(mesos.Failed) bool { return true })
	if err := <-f.result; !errors.Is(err, master.ErrFrameworkRemoved) {
		t.Fatal(err)
	}
}

func TestFailover(t *testing.T) {
	c := cluster(t)
	first := subscribe(t, c, "")
	first.launch(map[string]string{"t1": "one"})
	first.state("t1", mesos.TaskRunning)
	pid := first.tell("before")
	first.cancel() // dies without a word
	<-first.result

	second := subscribe(t, c, first.id)
	second.agent = first.agent
	if second.id != first.id {
		t.Fatalf("%s became %s", first.id, second.id)
	}
	second.send(mesos.Reconcile{})
	second.state("t1", mesos.TaskRunning)
	if again := second.tell("after"); again != pid {
		t.Fatalf("process %s became %s", pid, again)
	}

	// A third one takes over while the second is there.
	third := subscribe(t, c, first.id)
	if err := <-second.result; !errors.Is(err, master.ErrFailedOver) {
		t.Fatal(err)
	}
	third.send(mesos.Reconcile{})
	third.state("t1", mesos.TaskRunning)
}

func TestMasterDiesAndReturns(t *testing.T) {
	c := cluster(t)
	f := subscribe(t, c, "")
	f.launch(map[string]string{"t1": "one"})
	f.state("t1", mesos.TaskRunning)
	pid := f.tell("before")
	seen := make(chan mesos.AgentsSeen, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	polled := make(chan error, 1)
	go func() {
		polled <- f.PollAgents(ctx, 50*time.Millisecond, func(e mesos.Event) { seen <- e.(mesos.AgentsSeen) })
	}()
	defer func() { cancel(); <-polled }()
	active := func() {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case s := <-seen:
				if len(s.Agents) == 1 && s.Agents[0].Active && s.Agents[0].ID == f.agent && s.Agents[0].URL == c.AgentURL(0) && s.Agents[0].Total.CPUMilli == 4000 {
					return
				}
			case <-late:
				t.Fatal("the agent was not seen")
			}
		}
	}
	active()

	c.KillMaster()
	wait(f, func(mesos.Disconnected) bool { return true })
	if err := f.Send(t.Context(), mesos.Revive{}); !errors.Is(err, master.ErrNotSubscribed) {
		t.Fatal(err)
	}
	if err := c.RestartMaster(); err != nil {
		t.Fatal(err)
	}
	if again := wait(f, func(mesos.Subscribed) bool { return true }); again.FrameworkID != f.id {
		t.Fatalf("%+v", again)
	}
	active()
	// The agent may not be back: silence is no answer, so ask until there is one.
	f.send(mesos.Reconcile{Tasks: []mesos.TaskRef{{TaskID: "t1", AgentID: f.agent}}})
	f.state("t1", mesos.TaskRunning)
	if again := f.tell("after"); again != pid {
		t.Fatalf("process %s became %s", pid, again)
	}
}

func TestAgentDiesAndReturns(t *testing.T) {
	c := cluster(t)
	f := subscribe(t, c, "")
	f.launch(map[string]string{"t1": "one", "t2": "two", "t3": "silent"})
	f.send(mesos.Reconcile{})
	f.state("t1", mesos.TaskRunning)
	f.send(mesos.Reconcile{})
	f.state("t2", mesos.TaskRunning)
	pid := f.tell("before")

	// The executor lives on. What happens while the agent is away is told when it is back, and what it never heard of is not dropped.
	f.tell("TASK_FINISHED t1 300ms")
	c.KillAgent(0)
	if err := c.RestartAgent(0); err != nil {
		t.Fatal(err)
	}
	f.state("t1", mesos.TaskFinished)
	if again := f.tell("TASK_RUNNING t3"); again != pid {
		t.Fatalf("process %s became %s", pid, again)
	}
	for _, id := range []string{"t2", "t3"} {
		f.send(mesos.Reconcile{Tasks: []mesos.TaskRef{{TaskID: id, AgentID: f.agent}}})
		f.state(id, mesos.TaskRunning)
	}
}
