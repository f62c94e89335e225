package master

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"padis.io/padis/mesos/local/amount"
	"padis.io/padis/mesos/local/wire"
)

// tape keeps what was sent.
type tape struct {
	events []proto.Message
	frames []wire.Frame
	closed bool
}

type tapeStream struct{ *tape }

func (t tapeStream) Send(e proto.Message) { t.events = append(t.events, e) }
func (t tapeStream) Close()               { t.closed = true }

type tapeLink struct{ *tape }

func (t tapeLink) Send(f wire.Frame) { t.frames = append(t.frames, f) }
func (t tapeLink) Close()            { t.closed = true }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func testCore(t interface{ Fatal(...any) }) *core {
	cfg := Config{
		Address: "127.0.0.1:5050", ID: "m", AgentPingTimeout: time.Second, MaxAgentPingTimeouts: 3, AgentReregisterTimeout: time.Minute,
		AllocationInterval: 100 * time.Millisecond, Log: zap.NewNop(), NewUUID: func() string { return "u" },
	}
	return newCore(cfg, registry{}, epoch)
}

func testAgentInfo(t interface{ Fatal(...any) }, cpus int) []byte {
	resources, err := amount.Parse(fmt.Sprintf("cpus:%d;mem:%d;ports:[31000-31010]", cpus, cpus*1024))
	if err != nil {
		t.Fatal(err)
	}
	info := mesos.AgentInfo{Hostname: "h", Port: new(int32(5051)), Resources: resources}
	b, err := info.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// model is a random cluster: agents that do what they are told, late or never, and schedulers that take what they get.
type model struct {
	t       *rapid.T
	c       *core
	now     time.Time
	links   map[string]tapeLink // agent id -> its present link
	streams map[string]tapeStream
	infos   map[string][]byte
	tasks   int
}

func (m *model) tick(d time.Duration) {
	m.now = m.now.Add(d)
	m.c.tick(m.now)
}

func (m *model) addAgent() {
	if len(m.infos) >= 4 {
		return
	}
	info := testAgentInfo(m.t, rapid.IntRange(1, 4).Draw(m.t, "cpus"))
	link := tapeLink{&tape{}}
	a, err := m.c.register(link, wire.Registration{Info: info, Version: Version, IP: "127.0.0.1"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.infos[a.id], m.links[a.id] = info, link
}

// returnAgent registers an agent again with some of what the master thinks it has.
func (m *model) returnAgent() {
	id, ok := m.anyAgent()
	if !ok {
		return
	}
	link := tapeLink{&tape{}}
	r := wire.Registration{AgentID: id, Info: m.infos[id], Version: Version, IP: "127.0.0.1"}
	if a := m.c.agents[id]; a != nil {
		for fid, tasks := range a.tasks {
			for _, t := range tasksByAge(tasks) {
				if rapid.Bool().Draw(m.t, "still has the task") {
					b, err := t.info.Marshal()
					if err != nil {
						m.t.Fatal(err)
					}
					r.Tasks = append(r.Tasks, b)
				}
			}
			for _, e := range executorsByAge(a.executors[fid]) {
				if rapid.Bool().Draw(m.t, "still has the executor") {
					b, err := e.info.Marshal()
					if err != nil {
						m.t.Fatal(err)
					}
					r.Executors = append(r.Executors, wire.RegisteredExecutor{Framework: fid, Info: b})
				}
			}
		}
	}
	if _, err := m.c.register(link, r); err == nil {
		m.links[id] = link
	}
}

func (m *model) anyAgent() (string, bool) {
	ids := slices.Sorted(maps.Keys(m.infos))
	if len(ids) == 0 {
		return "", false
	}
	return rapid.SampledFrom(ids).Draw(m.t, "agent"), true
}

func (m *model) anyFramework() *framework {
	list := m.c.byAge()
	if len(list) == 0 {
		return nil
	}
	return rapid.SampledFrom(list).Draw(m.t, "framework")
}

func (m *model) subscribe() {
	info := &mesos.FrameworkInfo{User: "u", Name: "n", Roles: []string{"*"}, FailoverTimeout: new(5.0), Checkpoint: new(rapid.Bool().Draw(m.t, "checkpoint")),
		Capabilities: []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE}}}
	if rapid.Bool().Draw(m.t, "two roles") {
		info.Roles = []string{"a", "b"}
	}
	if f := m.anyFramework(); f != nil && (len(m.c.frameworks) > 2 || rapid.Bool().Draw(m.t, "again")) {
		info.ID = &mesos.FrameworkID{Value: f.id}
		info.Roles = f.roles
	}
	out := tapeStream{&tape{}}
	m.c.subscribe(&scheduler.Call_Subscribe{FrameworkInfo: info}, out, "s")
	for _, f := range m.c.frameworks {
		if f.out == stream(out) {
			m.streams[f.id] = out
		}
	}
}

func (m *model) call(f *framework, call *scheduler.Call) {
	call.FrameworkID = &mesos.FrameworkID{Value: f.id}
	m.c.call(call, "s")
}

// accept launches tasks, some too big, with some of the offers of a framework.
func (m *model) accept() {
	f := m.anyFramework()
	if f == nil {
		return
	}
	accept := &scheduler.Call_Accept{Filters: &mesos.Filters{RefuseSeconds: new(float64(rapid.IntRange(0, 2).Draw(m.t, "refuse")))}}
	agentID := ""
	for _, o := range m.c.offersByAge() {
		if o.framework == f && (agentID == "" || rapid.Bool().Draw(m.t, "more")) {
			agentID = o.agent.id
			accept.OfferIDs = append(accept.OfferIDs, mesos.OfferID{Value: o.id})
		}
	}
	var tasks []mesos.TaskInfo
	for range rapid.IntRange(0, 3).Draw(m.t, "tasks") {
		m.tasks++
		id := fmt.Sprint("t", m.tasks)
		tasks = append(tasks, mesos.TaskInfo{
			Name: id, TaskID: mesos.TaskID{Value: id}, AgentID: mesos.AgentID{Value: agentID},
			Resources: []mesos.Resource{{Name: "cpus", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: float64(rapid.IntRange(1, 15).Draw(m.t, "cpus")) / 10}}},
			Executor: &mesos.ExecutorInfo{
				Type: mesos.ExecutorInfo_CUSTOM, ExecutorID: mesos.ExecutorID{Value: rapid.SampledFrom([]string{"e", "f"}).Draw(m.t, "executor")},
				Command:   &mesos.CommandInfo{Value: new("true")},
				Resources: []mesos.Resource{{Name: "mem", Type: mesos.SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: 64}}},
			},
		})
	}
	accept.Operations = []mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH, Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks}}}
	m.call(f, &scheduler.Call{Type: scheduler.Call_ACCEPT, Accept: accept})
}

// report lets an agent tell something of a task or of an executor.
func (m *model) report() {
	id, ok := m.anyAgent()
	a := m.c.agents[id]
	if !ok || a == nil || a.out == nil {
		return
	}
	for _, fid := range slices.Sorted(maps.Keys(a.tasks)) {
		if tasks := tasksByAge(a.tasks[fid]); len(tasks) > 0 {
			t := tasks[0]
			state := rapid.SampledFrom([]mesos.TaskState{mesos.TASK_RUNNING, mesos.TASK_FINISHED, mesos.TASK_FAILED}).Draw(m.t, "state")
			s := mesos.TaskStatus{TaskID: t.info.TaskID, State: &state, UUID: []byte("0123456789abcdef")}
			b, err := s.Marshal()
			if err != nil {
				m.t.Fatal(err)
			}
			m.c.frame(a, wire.Frame{Kind: wire.Update, Framework: fid, State: int32(state), Bodies: [][]byte{b}})
			if f := m.c.frameworks[fid]; f != nil && rapid.Bool().Draw(m.t, "acknowledge") {
				m.call(f, &scheduler.Call{Type: scheduler.Call_ACKNOWLEDGE, Acknowledge: &scheduler.Call_Acknowledge{
					AgentID: mesos.AgentID{Value: id}, TaskID: t.info.TaskID, UUID: s.UUID,
				}})
			}
			return
		}
		if ids := slices.Sorted(maps.Keys(a.executors[fid])); len(ids) > 0 {
			m.c.frame(a, wire.Frame{Kind: wire.ExecutorExited, Framework: fid, Executor: ids[0]})
			return
		}
	}
}

// check holds the sentences that must be true at any moment.
func (m *model) check() {
	usedByRole := map[string]map[string]map[string]int64{}
	charge := func(f *framework, l amount.List) {
		for _, r := range l {
			role := r.GetAllocationInfo().GetRole()
			if usedByRole[f.id] == nil {
				usedByRole[f.id] = map[string]map[string]int64{}
			}
			if usedByRole[f.id][role] == nil {
				usedByRole[f.id][role] = map[string]int64{}
			}
			usedByRole[f.id][role][r.Name] += amount.Milli(amount.List{r}, r.Name)
		}
	}
	for _, a := range m.c.agentsByAge() {
		sum := amount.Sum(a.available)
		for fid := range a.executors {
			for _, e := range a.executors[fid] {
				sum = amount.Sum(sum, amount.Unallocated(e.resources))
				if f := m.c.frameworks[fid]; f != nil {
					charge(f, e.resources)
				} else {
					m.t.Fatalf("executor of framework %s, which is not there", fid)
				}
			}
		}
		for fid := range a.tasks {
			for id, t := range a.tasks[fid] {
				f := m.c.frameworks[fid]
				if f == nil || f.tasks[id] != t {
					m.t.Fatalf("task %s is filed under agent %s but not under framework %s", id, a.id, fid)
				}
				if !t.released {
					sum = amount.Sum(sum, amount.Unallocated(t.resources))
					charge(f, t.resources)
				}
			}
		}
		for _, o := range m.c.offers {
			if o.agent == a {
				sum = amount.Sum(sum, amount.Unallocated(o.resources))
			}
		}
		if !amount.Contains(sum, a.total) || !amount.Contains(a.total, sum) {
			m.t.Fatalf("agent %s has %s, but free, used and offered are %s", a.id, amount.Text(a.total), amount.Text(sum))
		}
	}
	for _, o := range m.c.offers {
		if o.framework.out == nil || o.agent.out == nil || m.c.agents[o.agent.id] != o.agent || m.c.frameworks[o.framework.id] != o.framework {
			m.t.Fatalf("offer %s is outstanding, but its framework or agent is not connected", o.id)
		}
		charge(o.framework, o.resources)
	}
	for _, f := range m.c.frameworks {
		for role, names := range f.used {
			for name, n := range names {
				if name != "ports" && n != usedByRole[f.id][role][name] {
					m.t.Fatalf("framework %s is charged %d thousandths of %s in role %s, but has %d", f.id, n, name, role, usedByRole[f.id][role][name])
				}
			}
		}
	}
	if due := m.c.deadline(); !due.IsZero() && m.now.Sub(due) > time.Second {
		m.t.Fatalf("something was due at %v and is still not done", due)
	}
}

// Whatever happens, no resource is lost or given twice, and no offer outlives its parties.
func TestResourcesAreConserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, c: testCore(t), now: epoch, links: map[string]tapeLink{}, streams: map[string]tapeStream{}, infos: map[string][]byte{}}
		m.addAgent()
		t.Repeat(map[string]func(*rapid.T){
			"":          func(*rapid.T) { m.check() },
			"agent":     func(*rapid.T) { m.addAgent() },
			"return":    func(*rapid.T) { m.returnAgent() },
			"subscribe": func(*rapid.T) { m.subscribe() },
			"accept":    func(*rapid.T) { m.accept() },
			"report":    func(*rapid.T) { m.report() },
			"tick":      func(t *rapid.T) { m.tick(time.Duration(rapid.IntRange(1, 4000).Draw(t, "ms")) * time.Millisecond) },
			"cut": func(*rapid.T) {
				if id, ok := m.anyAgent(); ok && m.c.agents[id] != nil {
					m.c.cut(m.c.agents[id], m.links[id])
				}
			},
			"gone": func(t *rapid.T) {
				if id, ok := m.anyAgent(); ok && rapid.IntRange(0, 5).Draw(t, "rarely") == 0 {
					_ = m.c.markGone(id) // unknown agents are refused
				}
			},
			"pong": func(*rapid.T) {
				for id, link := range m.links {
					if a := m.c.agents[id]; a != nil && a.out == master(link) {
						m.c.frame(a, wire.Frame{Kind: wire.Pong})
					}
				}
			},
			"disconnect": func(*rapid.T) {
				if f := m.anyFramework(); f != nil {
					m.c.disconnected(f.id, m.streams[f.id])
				}
			},
			"calls": func(t *rapid.T) {
				f := m.anyFramework()
				if f == nil {
					return
				}
				switch rapid.IntRange(0, 4).Draw(t, "call") {
				case 0:
					m.call(f, &scheduler.Call{Type: scheduler.Call_REVIVE})
				case 1:
					m.call(f, &scheduler.Call{Type: scheduler.Call_SUPPRESS})
				case 2:
					m.call(f, &scheduler.Call{Type: scheduler.Call_RECONCILE, Reconcile: &scheduler.Call_Reconcile{}})
				case 3:
					var ids []mesos.OfferID
					for id := range m.c.offers {
						ids = append(ids, mesos.OfferID{Value: id})
					}
					m.call(f, &scheduler.Call{Type: scheduler.Call_DECLINE, Decline: &scheduler.Call_Decline{OfferIDs: ids}})
				case 4:
					if rapid.IntRange(0, 5).Draw(t, "rarely") == 0 {
						m.call(f, &scheduler.Call{Type: scheduler.Call_TEARDOWN})
					}
				}
			},
		})
	})
}

// master is a link as the core compares it.
func master(l tapeLink) link { return l }

// The poorest framework gets the offer.
func TestFairShare(t *testing.T) {
	c := testCore(t)
	for range 2 {
		if _, err := c.register(tapeLink{&tape{}}, wire.Registration{Info: testAgentInfo(t, 2), IP: "127.0.0.1"}); err != nil {
			t.Fatal(err)
		}
	}
	first, second := tapeStream{&tape{}}, tapeStream{&tape{}}
	info := func() *mesos.FrameworkInfo {
		return &mesos.FrameworkInfo{User: "u", Name: "n", Roles: []string{"*"}, Capabilities: []mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE}}}
	}
	c.subscribe(&scheduler.Call_Subscribe{FrameworkInfo: info()}, first, "1")
	c.subscribe(&scheduler.Call_Subscribe{FrameworkInfo: info()}, second, "2")
	one := c.offersByAge()[0]
	c.decline(one.framework, []mesos.OfferID{{Value: one.id}}, 0)
	c.tick(epoch.Add(time.Second))
	counts := map[string]int{}
	for _, o := range c.offers {
		counts[o.framework.id]++
	}
	if counts["m-0000"] != 1 || counts["m-0001"] != 1 {
		t.Errorf("offers %v: the framework that has nothing should have got the one that was given back", counts)
	}
}

func FuzzDecodeRegistry(f *testing.F) {
	f.Add([]byte(`{"agents":[{"id":"a"},{"id":"b","state":"gone","since":"2026-01-01T00:00:00Z"},{"id":"c","state":"unreachable"}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		reg, err := decodeRegistry(b)
		if err != nil {
			return
		}
		c := newCore(Config{ID: "m", AllocationInterval: time.Second, Log: zap.NewNop()}, reg, epoch)
		c.registry()
		c.state()
	})
}

// What an agent says may be anything.
func FuzzAgentFrames(f *testing.F) {
	f.Add("register", []byte("{}"), []byte{})
	f.Add("update", []byte{}, []byte{1, 2, 3})
	f.Add("executor-exited", []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, kind string, data, body []byte) {
		c := testCore(t)
		link := tapeLink{&tape{}}
		a, err := c.register(link, wire.Registration{Info: body, Tasks: [][]byte{body, data}, Frameworks: [][]byte{data, body}, Executors: []wire.RegisteredExecutor{{Framework: string(data), Info: body}}})
		if err != nil {
			a, err = c.register(link, wire.Registration{Info: testAgentInfo(t, 1)})
			if err != nil {
				t.Fatal(err)
			}
		}
		c.frame(a, wire.Frame{Kind: wire.Kind(kind), Framework: string(data), Task: string(body), Bodies: [][]byte{body}})
		c.tick(epoch.Add(time.Minute))
		c.state()
	})
}
