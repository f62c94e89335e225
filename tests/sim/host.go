package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// host is a machine: an agent, at most one executor, and the addresses that are configured on it.
type host struct {
	w          *World
	index      int
	name       string
	attributes map[string]string
	total      mesos.Amounts
	// off: without power. cutControl: the master and the agent do not hear each other. cutData: no other host hears it.
	off, cutControl, cutData bool
	agents                   int
	agent                    *agent
	// addresses are those configured, with the task or container that they were configured for.
	addresses map[string]string
	// valid is until when the kernel leaves those of leases there.
	valid map[string]time.Time
	// stray is an address of the host's own that is in a pool; empty if there is none.
	stray string
	// containers by id, and the images that are there.
	containers map[string]*container
	images     map[string]bool
	// relayed is the newest number of the LoadBalancer that its kernel has.
	relayed int64
}

// agent is one agent id and what it knows. It survives the crash of its process, as its work directory does.
type agent struct {
	id   string
	host *host
	up   bool
	// dead: the id will never be used again.
	dead  bool
	tasks map[string]*held
	exec  *executor
	link  pipe
	// life counts processes and connections, to make old timers void.
	life int
	// wire counts connections to the master: what is in flight when one breaks is lost.
	wire int
	uuid int
}

// held is a task as its agent knows it.
type held struct {
	task    mesos.Task
	sent    mesos.TaskState
	healthy *bool
	// unacked updates, the oldest first; only that is sent.
	unacked []mesos.Status
	tries   int
	// over: a terminal update was made.
	over bool
	// deferred: the launch waits for the executor.
	deferred bool
}

// executor is the process that runs instances.
type executor struct {
	id    string
	info  string
	takes mesos.Amounts
	agent *agent
	ready bool
	runs  map[string]*run
	dead  bool
	// wish is what it was told last beside tasks, applied the generation that it has applied.
	wish    *padisv1.ToExecutor
	applied int64
	// pulling and failed are images.
	pulling, failed map[string]bool
	// stalled: its process does not go on; missed is what it does when it does.
	stalled bool
	missed  []func()
	// granted is when the newest renewal that was granted was asked for; asked are those that were not answered, by serial.
	granted             time.Time
	asked               map[int64]time.Time
	serial              int64
	renewing, reporting bool
	// conflicts are addresses that were seen on the wire.
	conflicts map[string]bool
	overlays  map[string]*padisv1.Overlay
	// relayed is the number that it says it has for its real servers, directs what its directors shall have.
	relayed int64
	directs *padisv1.Balance
}

// run is one instance in an executor.
type run struct {
	id        string
	launch    *padisv1.Launch
	begun     time.Time
	addresses []string
	running   bool
	ended     bool
	stopping  bool
	answered  bool
	// waits: for a lease; silenced: its lease is over, its addresses are down.
	waits, silenced bool
	shape           shape
	// box is its container, if it has an image.
	box *container
	// balance is what it has in force, if it is a director.
	balance *padisv1.Balance
}

// owner is the name for which its addresses are configured.
func (r *run) owner() string {
	if r.box != nil {
		return r.box.id
	}
	return r.id
}

func (w *World) addHost(attributes map[string]string, total mesos.Amounts) *host {
	h := &host{w: w, index: len(w.hosts), name: "host" + strconv.Itoa(len(w.hosts)+1), attributes: attributes, total: total, addresses: map[string]string{}, valid: map[string]time.Time{}, containers: map[string]*container{}, images: map[string]bool{}}
	w.hosts = append(w.hosts, h)
	h.newAgent()
	return h
}

func (h *host) newAgent() {
	h.agents++
	a := &agent{id: agentID(h, h.agents), host: h, up: true, tasks: map[string]*held{}}
	h.agent = a
	a.registerSoon(h.w.between(0, 200*time.Millisecond))
}

// reaches tells whether a frame from h arrives at o.
func (h *host) reaches(o *host) bool {
	return h == o || !h.off && !o.off && !h.cutData && !o.cutData
}

// hears tells whether the master and the agent hear each other.
func (a *agent) hears() bool { return a.up && !a.dead && !a.host.off && !a.host.cutControl }

// registerSoon makes the agent register, again and again until a master takes it.
func (a *agent) registerSoon(d time.Duration) {
	a.life++
	life := a.life
	a.host.w.after(d, func() {
		if a.life != life || a.dead || !a.up || a.host.off {
			return
		}
		if a.host.w.mesos.register(a) {
			a.resend()
			return
		}
		if a.host.w.mesos.known[a.id] == gone {
			return
		}
		a.registerSoon(a.host.w.between(500*time.Millisecond, 1500*time.Millisecond))
	})
}

// resend starts the updates anew.
func (a *agent) resend() {
	for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
		a.tasks[id].tries = 0
		a.forward(id)
	}
}

// forward sends the oldest unacknowledged update of a task, and again until it is acknowledged.
func (a *agent) forward(taskID string) {
	t := a.tasks[taskID]
	if t == nil || len(t.unacked) == 0 {
		return
	}
	w := a.host.w
	st := t.unacked[0]
	if a.hears() && !w.chance(0.003) {
		t.sent, t.healthy = st.State, st.Healthy
		a.link.send(w, func() {
			if a.hears() {
				w.mesos.update(a, st)
			}
		})
	}
	t.tries++
	wait := min(time.Duration(10<<min(t.tries-1, 3))*time.Second, 40*time.Second)
	life := a.life
	w.after(wait, func() {
		if a.life == life && !a.dead && a.up && a.tasks[taskID] == t && len(t.unacked) > 0 && string(t.unacked[0].UUID) == string(st.UUID) {
			a.forward(taskID)
		}
	})
}

// update enters a new status of a task.
func (a *agent) update(taskID string, state mesos.TaskState, source, reason string, rep *padisv1.InstanceReport) {
	t := a.tasks[taskID]
	if t == nil || a.dead || t.over {
		return
	}
	t.over = state.Terminal()
	a.uuid++
	st := mesos.Status{TaskID: taskID, AgentID: a.id, ExecutorID: t.task.Executor.ID, State: state, Source: source, Reason: reason,
		Timestamp: a.host.w.now, UUID: []byte(fmt.Sprintf("%s/%d", a.id, a.uuid))}
	if rep != nil {
		data, err := padisv1.Encode(rep)
		if err != nil {
			a.host.w.violate("report: %v", err)
			return
		}
		st.Data, st.Healthy = data, &rep.Ready
	}
	t.unacked = append(t.unacked, st)
	if len(t.unacked) == 1 {
		t.tries = 0
		a.forward(taskID)
	}
}

func (a *agent) acknowledged(c mesos.Acknowledge) {
	t := a.tasks[c.TaskID]
	if t == nil || len(t.unacked) == 0 || string(t.unacked[0].UUID) != string(c.UUID) {
		return
	}
	over := t.unacked[0].State.Terminal()
	t.unacked = t.unacked[1:]
	if over {
		delete(a.tasks, c.TaskID)
		a.host.w.mesos.forget(a, c.TaskID)
		return
	}
	t.tries = 0
	a.forward(c.TaskID)
}

// launch takes a task; the executor is started if there is none and the master believes so, too. Otherwise it would not
// know that the executor is there.
func (a *agent) launch(task mesos.Task, start bool) {
	w := a.host.w
	if a.tasks[task.ID] != nil {
		w.violate("task %s is launched a second time on its agent", task.ID)
		return
	}
	a.tasks[task.ID] = &held{task: task, deferred: true}
	if a.exec == nil && !start {
		a.tasks[task.ID].deferred = false
		w.truth.end(task.ID, "its executor has ended")
		a.update(task.ID, mesos.TaskDropped, "SOURCE_AGENT", "REASON_EXECUTOR_TERMINATED", nil)
		if a.hears() {
			w.mesos.executorEnded(a, task.Executor.ID)
		}
		return
	}
	w.truth.arrived(task.ID)
	info := fmt.Sprintf("%+v", task.Executor)
	if a.exec != nil && a.exec.id == task.Executor.ID && a.exec.info != info {
		w.violate("task %s: the ExecutorInfo differs from that of the running executor: %s, not %s", task.ID, info, a.exec.info)
		return
	}
	if a.exec != nil && !a.exec.dead && a.exec.id != task.Executor.ID {
		w.violate("task %s starts a second executor on %s", task.ID, a.host.name)
		return
	}
	if a.exec == nil {
		ex := &executor{id: task.Executor.ID, info: info, takes: mesos.Sum(task.Executor.Resources), agent: a, runs: map[string]*run{}, pulling: map[string]bool{}, failed: map[string]bool{},
			asked: map[int64]time.Time{}, conflicts: map[string]bool{}, overlays: map[string]*padisv1.Overlay{}}
		a.exec = ex
		fetch := w.between(100*time.Millisecond, 160*time.Millisecond)
		if w.chance(0.1) {
			fetch = w.between(time.Second, 8*time.Second)
		}
		w.after(fetch, func() {
			if ex.dead {
				return
			}
			ex.ready = true
			a.host.sweep()
			ex.report()
			a.deliver()
		})
		return
	}
	a.deliver()
}

// sweep removes what an earlier executor left; it is the first thing that an executor does.
func (h *host) sweep() {
	for _, addr := range slices.Sorted(maps.Keys(h.addresses)) {
		if h.containers[h.addresses[addr]] != nil {
			continue
		}
		h.unconfigure(addr)
	}
}

// deliver hands the deferred launches to the executor.
func (a *agent) deliver() {
	if a.exec == nil || !a.exec.ready {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
		t := a.tasks[id]
		if !t.deferred {
			continue
		}
		t.deferred = false
		ex := a.exec
		ex.after(a.host.w.between(time.Millisecond, 5*time.Millisecond), func() { ex.launch(t.task) })
	}
}

// explain tells what became of a task that the master believes is here and that never came.
func (a *agent) explain(taskID string) {
	if a.tasks[taskID] == nil {
		a.tasks[taskID] = &held{task: mesos.Task{ID: taskID}}
		a.update(taskID, mesos.TaskDropped, "SOURCE_AGENT", "REASON_RECONCILIATION", nil)
	}
}

func (a *agent) kill(taskID string) {
	t := a.tasks[taskID]
	switch {
	case t == nil:
		a.explain(taskID)
	case t.deferred:
		t.deferred = false
		a.host.w.truth.end(taskID, "killed before it reached the executor")
		a.update(taskID, mesos.TaskKilled, "SOURCE_AGENT", "REASON_TASK_KILLED_DURING_LAUNCH", nil)
		a.dismiss()
	case a.exec != nil:
		ex := a.exec
		ex.when(func() { ex.kill(taskID) })
	}
}

// dismiss ends an executor that has not come up and has nothing to come up for any more, as Mesos does.
func (a *agent) dismiss() {
	ex := a.exec
	if ex == nil || ex.dead || ex.ready {
		return
	}
	for _, t := range a.tasks {
		if t.deferred {
			return
		}
	}
	a.host.w.note("executor on %s is not needed any more", a.host.name)
	ex.die(false)
	a.host.w.after(a.host.w.between(time.Millisecond, 20*time.Millisecond), func() { ex.buried() })
}

// launch prepares an instance.
func (ex *executor) launch(task mesos.Task) {
	if ex.dead {
		return
	}
	w := ex.agent.host.w
	l := &padisv1.Launch{}
	if err := padisv1.Decode(task.Data, l); err != nil {
		w.violate("launch payload of %s: %v", task.ID, err)
		return
	}
	r := &run{id: task.ID, launch: l, begun: w.now, shape: launchedShape(l)}
	ex.runs[task.ID] = r
	ex.agent.update(task.ID, mesos.TaskStarting, "SOURCE_EXECUTOR", "", &padisv1.InstanceReport{Reason: padisv1.ReasonStarting})
	prepare := w.between(5*time.Millisecond, 60*time.Millisecond)
	if w.chance(0.1) {
		prepare = w.between(time.Second, 8*time.Second)
	}
	if lease(l) > 0 {
		ex.renew()
	}
	ex.after(prepare, func() {
		switch {
		case ex.dead || r.ended || r.stopping:
		case l.GetAdopt():
			ex.adopt(r)
		default:
			ex.pull(l.GetTemplate().GetImage(), func() { ex.attach(r) })
		}
	})
}

// prompt is to StartBound what it is in executor/instance: what comes to its network later probes for its addresses.
const prompt = 5 * time.Second

// attach configures the addresses; where the launch says so, and late, only after a probe that nobody answered.
func (ex *executor) attach(r *run) {
	if ex.dead || r.ended || r.stopping {
		return
	}
	h := ex.agent.host
	w := h.w
	until, ok := ex.covered(r.launch)
	if !ok {
		r.waits = true // A renewal goes on with it.
		return
	}
	for _, at := range r.launch.GetAttachments() {
		if at.GetAddress() == "" {
			continue // The host's own.
		}
		if (at.GetProbe() || w.now.Sub(r.begun) > prompt) && !w.opt.Rude && w.truth.answers(h, at.GetAddress()) {
			if !r.answered {
				r.answered = true
				ex.agent.update(r.id, mesos.TaskStarting, "SOURCE_EXECUTOR", "", &padisv1.InstanceReport{Reason: padisv1.ReasonAddressAnswered, Message: at.GetAddress() + " is in use"})
			}
			ex.after(time.Second, func() { ex.attach(r) })
			return
		}
	}
	if r.launch.GetTemplate().GetImage() != "" {
		r.box = &container{id: r.id, launch: r.launch, host: h, task: r.id}
		w.truth.started(r.box)
		h.containers[r.id] = r.box
	}
	for _, at := range r.launch.GetAttachments() {
		if at.GetAddress() != "" {
			h.configure(at.GetAddress(), r.id, until)
			r.addresses = append(r.addresses, at.GetAddress())
		}
	}
	if lease(r.launch) > 0 {
		ex.expireLater(r)
	}
	ex.reportSoon()
	if r.box != nil {
		r.box.addresses = r.addresses
	}
	r.running = true
	w.truth.runs(r.id)
	ex.agent.update(r.id, mesos.TaskRunning, "SOURCE_EXECUTOR", "", &padisv1.InstanceReport{Reason: padisv1.ReasonRunning, Addresses: r.addresses, Container: r.launch.GetContainer()})
	ex.becomeReady(r)
}

// becomeReady lets the checks of an instance pass after a while.
func (ex *executor) becomeReady(r *run) {
	w := ex.agent.host.w
	ex.after(w.between(10*time.Millisecond, 400*time.Millisecond), func() {
		if !ex.dead && !r.ended && !r.stopping && !r.silenced {
			ex.agent.update(r.id, mesos.TaskRunning, "SOURCE_EXECUTOR", "", &padisv1.InstanceReport{Reason: padisv1.ReasonReady, Ready: true, Addresses: r.addresses, Container: r.launch.GetContainer()})
		}
	})
}

func (ex *executor) kill(taskID string) {
	r := ex.runs[taskID]
	if r == nil || r.stopping || r.ended {
		return
	}
	r.stopping = true
	if r.box != nil {
		r.box.stopping = true
	}
	w := ex.agent.host.w
	grace := time.Duration(0)
	if r.running {
		grace = w.between(time.Millisecond, 1500*time.Millisecond)
		ex.agent.update(taskID, mesos.TaskKilling, "SOURCE_EXECUTOR", "", nil)
	}
	ex.after(grace, func() {
		if !ex.dead && !r.ended {
			ex.end(r, mesos.TaskKilled, &padisv1.InstanceReport{Reason: padisv1.ReasonKilled, Signal: "SIGTERM"})
		}
	})
}

// end takes an instance down: first its addresses, then the word of it.
func (ex *executor) end(r *run, state mesos.TaskState, rep *padisv1.InstanceReport) {
	h := ex.agent.host
	r.ended = true
	for _, addr := range r.addresses {
		if h.addresses[addr] == r.owner() {
			h.unconfigure(addr)
		}
	}
	if r.box != nil {
		h.remove(r.box, string(state))
	}
	delete(ex.runs, r.id)
	ex.reportSoon()
	h.w.truth.end(r.id, string(state))
	ex.agent.update(r.id, state, "SOURCE_EXECUTOR", "", rep)
}
