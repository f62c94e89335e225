package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"padis.io/padis/mesos"
)

// Times of the simulated Mesos.
const (
	allocation   = time.Second
	pingTimeout  = 3 * time.Second
	offerTimeout = 30 * time.Second
	// recovery is how long a new master waits for the agents of the old one.
	recovery = 30 * time.Second
)

// master is the leading Mesos master, as its recordings show it.
type master struct {
	w         *World
	up        bool
	framework string
	conn      *connection
	// known are the agents that ever registered and what became of them; a master with amnesia has lost it.
	known  map[string]standing
	agents map[string]*member
	offers map[string]*offer
	serial int
	// suppressed and filters are what the framework asked for.
	suppressed bool
	filters    map[string]filter
}

// standing of an agent in the registry.
type standing int

const (
	recovering standing = iota + 1
	registered
	unreachable
	gone
)

// member is a registered agent.
type member struct {
	agent     *agent
	connected bool
	tasks     map[string]*known
	executors map[string]mesos.Amounts
	// stolen is what another framework uses.
	stolen mesos.Amounts
	link   pipe
}

// known is a task as the master knows it.
type known struct {
	id, executor string
	state        mesos.TaskState
	needs        mesos.Amounts
	healthy      *bool
}

type offer struct {
	id    string
	agent string
	what  mesos.Amounts
	since time.Time
}

type filter struct {
	until time.Time
	what  mesos.Amounts
}

func newMaster(w *World) *master {
	return &master{w: w, up: true, framework: "F-1", known: map[string]standing{}, agents: map[string]*member{}, offers: map[string]*offer{}, filters: map[string]filter{}}
}

// run starts the allocator's clock and the poll of the operator API.
func (m *master) run() {
	m.w.after(allocation, func() {
		m.allocate()
		m.run()
	})
}

func (m *master) poll() {
	m.w.after(m.w.between(4*time.Second, 6*time.Second), func() {
		if m.up && m.conn != nil {
			seen := mesos.AgentsSeen{}
			for _, id := range slices.Sorted(maps.Keys(m.agents)) {
				a := m.agents[id]
				seen.Agents = append(seen.Agents, mesos.Agent{ID: id, Hostname: a.agent.host.name, URL: "http://" + a.agent.host.name + ":5051", Attributes: a.agent.host.attributes, Total: a.agent.host.total, Active: a.connected})
			}
			m.w.sched.event(m.conn, seen)
		}
		m.poll()
	})
}

// subscribe takes a scheduler in; false if there is no master to do it.
func (m *master) subscribe(conn *connection) bool {
	if !m.up {
		return false
	}
	if m.conn != nil {
		old := m.conn
		m.conn = nil
		m.w.sched.hangUp(old)
	}
	clear(m.offers)
	clear(m.filters)
	m.conn, m.suppressed = conn, false
	m.w.sched.event(conn, mesos.Subscribed{FrameworkID: m.framework, Master: "master:5050"})
	m.allocate()
	return true
}

// lost is the end of a connection.
func (m *master) lost(conn *connection) {
	if m.conn == conn {
		m.conn = nil
		clear(m.offers)
	}
}

func (m *master) tell(ev mesos.Event) {
	if m.conn == nil {
		return
	}
	if m.w.chance(0.003) {
		m.w.fault("event lost: %s", describeEvent(ev))
		if o, ok := ev.(mesos.Offers); ok {
			for _, o := range o.Offers {
				m.mislaid(o.ID)
			}
		}
		return
	}
	m.w.sched.event(m.conn, ev)
	if up, ok := ev.(mesos.Update); ok && len(up.Status.UUID) > 0 && m.w.chance(0.02) {
		m.w.fault("update twice")
		m.w.sched.event(m.conn, ev)
	}
}

// say tells a state that the master itself made up: without uuid.
func (m *master) say(taskID, agentID string, state mesos.TaskState, reason string) {
	m.w.truth.doubted(taskID, state)
	m.tell(mesos.Update{Status: mesos.Status{TaskID: taskID, AgentID: agentID, State: state, Source: "SOURCE_MASTER", Reason: reason, Timestamp: m.w.now}})
}

// free is what nobody uses of an agent.
func (m *master) free(id string) mesos.Amounts {
	a := m.agents[id]
	left := a.agent.host.total.Sub(a.stolen)
	for _, t := range a.tasks {
		if !t.state.Terminal() {
			left = left.Sub(t.needs)
		}
	}
	for _, e := range a.executors {
		left = left.Sub(e)
	}
	for _, o := range m.offers {
		if o.agent == id {
			left = left.Sub(o.what)
		}
	}
	return left
}

func (m *master) allocate() {
	if !m.up || m.conn == nil || m.suppressed {
		return
	}
	var offers mesos.Offers
	for _, id := range slices.Sorted(maps.Keys(m.agents)) {
		a := m.agents[id]
		left := m.free(id)
		if !a.connected || left.CPUMilli <= 0 || left.MemoryMilli <= 0 {
			continue
		}
		if f, ok := m.filters[id]; ok && m.w.now.Before(f.until) && f.what.Fits(left) {
			continue
		}
		m.serial++
		o := &offer{id: "O" + strconv.Itoa(m.serial), agent: id, what: left, since: m.w.now}
		m.offers[o.id] = o
		offers.Offers = append(offers.Offers, mesos.Offer{
			ID: o.id, AgentID: id, Hostname: a.agent.host.name, URL: "http://" + a.agent.host.name + ":5051", Role: role, Attributes: a.agent.host.attributes,
			ExecutorIDs: slices.Sorted(maps.Keys(a.executors)), Resources: []mesos.Resource{
				{Name: "cpus", Milli: left.CPUMilli, AllocatedTo: role}, {Name: "mem", Milli: left.MemoryMilli, AllocatedTo: role}, {Name: "disk", Milli: left.DiskMilli, AllocatedTo: role},
			},
		})
	}
	if len(offers.Offers) > 0 {
		m.tell(offers)
	}
}

func (m *master) rescind(id string) {
	if m.offers[id] != nil {
		delete(m.offers, id)
		m.tell(mesos.Rescind{OfferID: id})
	}
}

// mislaid is an offer, or the answer to it, that was lost without a trace. Only a master with an offer timeout notices.
func (m *master) mislaid(ids ...string) {
	m.w.after(offerTimeout, func() {
		for _, id := range ids {
			m.rescind(id)
		}
	})
}

// hoarded finds an offer that the scheduler keeps for too long, or has forgotten; empty if there is none.
func (m *master) hoarded() string {
	for _, id := range slices.Sorted(maps.Keys(m.offers)) {
		if m.w.now.Sub(m.offers[id].since) > offerTimeout {
			return id
		}
	}
	return ""
}

func (m *master) rescindOf(agentID string) {
	for _, id := range slices.Sorted(maps.Keys(m.offers)) {
		if m.offers[id].agent == agentID {
			m.rescind(id)
		}
	}
}

// call takes a call of the subscribed scheduler.
func (m *master) call(conn *connection, call mesos.Call) {
	if conn != m.conn {
		m.w.truth.vanished(call)
		return
	}
	switch c := call.(type) {
	case mesos.Accept:
		m.accept(c)
	case mesos.Decline:
		for _, id := range c.OfferIDs {
			if o := m.offers[id]; o != nil {
				delete(m.offers, id)
				m.filters[o.agent] = filter{m.w.now.Add(c.Refuse), o.what}
			}
		}
	case mesos.Revive:
		m.suppressed = false
		clear(m.filters)
		m.allocate()
	case mesos.Suppress:
		m.suppressed = true
	case mesos.Kill:
		m.kill(c)
	case mesos.Reconcile:
		m.reconcile(c)
	case mesos.Acknowledge:
		if a := m.agents[c.AgentID]; a != nil {
			m.toAgent(a, func(ag *agent) { ag.acknowledged(c) }, nil)
		}
	case mesos.ToExecutor:
		if a := m.agents[c.AgentID]; a != nil {
			m.toAgent(a, func(ag *agent) {
				if ex := ag.exec; ex != nil && ex.id == c.ExecutorID {
					ex.when(func() { ex.told(c.Data) })
				}
			}, nil)
		}
	case mesos.ShutdownExecutor:
		if a := m.agents[c.AgentID]; a != nil {
			m.toAgent(a, func(ag *agent) {
				if ag.exec != nil && ag.exec.id == c.ExecutorID {
					ag.exec.shutdown()
				}
			}, nil)
		}
	case mesos.AcceptInverse:
	default:
		m.w.violate("call %T is not expected", call)
	}
}

func (m *master) accept(c mesos.Accept) {
	var have mesos.Amounts
	agentID, valid := "", true
	for _, id := range c.OfferIDs {
		o := m.offers[id]
		if o == nil || agentID != "" && o.agent != agentID {
			valid = false
			continue
		}
		agentID = o.agent
		have = have.Add(o.what)
	}
	for _, id := range c.OfferIDs {
		delete(m.offers, id)
	}
	if !valid {
		for _, t := range c.Tasks {
			m.w.truth.end(t.ID, "its offers were void")
			m.say(t.ID, t.AgentID, mesos.TaskDropped, "REASON_INVALID_OFFERS")
		}
		return
	}
	a := m.agents[agentID]
	for _, t := range c.Tasks {
		needs := mesos.Sum(t.Resources)
		if t.AgentID != agentID || a == nil {
			m.w.violate("task %s is for agent %s, its offers are of %s", t.ID, t.AgentID, agentID)
			return
		}
		charge := needs
		_, running := a.executors[t.Executor.ID]
		if !running {
			charge = charge.Add(mesos.Sum(t.Executor.Resources))
		}
		if !have.Fits(charge) {
			m.w.truth.end(t.ID, "the offer is too small")
			m.say(t.ID, agentID, mesos.TaskError, "REASON_TASK_INVALID")
			continue
		}
		have = have.Sub(charge)
		a.executors[t.Executor.ID] = mesos.Sum(t.Executor.Resources)
		a.tasks[t.ID] = &known{id: t.ID, executor: t.Executor.ID, state: mesos.TaskStaging, needs: needs}
		m.toAgent(a, func(ag *agent) { ag.launch(t, !running) }, func() { m.w.truth.end(t.ID, "the launch was lost") })
	}
	if c.Refuse > 0 {
		m.filters[agentID] = filter{m.w.now.Add(c.Refuse), have}
	}
}

// toAgent sends a message, or calls lost, which may be nil, when it does not arrive.
func (m *master) toAgent(a *member, do func(*agent), lost func()) {
	ag, wire := a.agent, a.agent.wire
	missed := func() {
		m.w.note("message to agent %s lost", ag.id)
		if lost != nil {
			lost()
		}
	}
	if !a.connected || m.w.chance(0.002) {
		missed()
		return
	}
	a.link.send(m.w, func() {
		if ag.hears() && ag.wire == wire {
			do(ag)
		} else {
			missed()
		}
	})
}

func (m *master) kill(c mesos.Kill) {
	for _, id := range slices.Sorted(maps.Keys(m.agents)) {
		a := m.agents[id]
		if t := a.tasks[c.TaskID]; t != nil && !t.state.Terminal() {
			m.toAgent(a, func(ag *agent) { ag.kill(c.TaskID) }, nil)
			return
		}
	}
	if m.known[c.AgentID] == unreachable {
		m.say(c.TaskID, c.AgentID, mesos.TaskUnreachable, "REASON_RECONCILIATION")
		return
	}
	if m.known[c.AgentID] == recovering {
		return
	}
	m.say(c.TaskID, c.AgentID, mesos.TaskUnknown, "REASON_RECONCILIATION")
}

func (m *master) reconcile(c mesos.Reconcile) {
	if len(c.Tasks) == 0 {
		for _, id := range slices.Sorted(maps.Keys(m.agents)) {
			for _, tid := range slices.Sorted(maps.Keys(m.agents[id].tasks)) {
				m.recall(id, m.agents[id].tasks[tid])
			}
		}
		return
	}
	for _, ref := range c.Tasks {
		a := m.agents[ref.AgentID]
		if a != nil && a.tasks[ref.TaskID] != nil {
			m.recall(ref.AgentID, a.tasks[ref.TaskID])
			continue
		}
		switch m.known[ref.AgentID] {
		case recovering:
			// Silence is no answer.
		case registered:
			m.say(ref.TaskID, ref.AgentID, mesos.TaskGone, "REASON_RECONCILIATION")
		case unreachable:
			m.say(ref.TaskID, ref.AgentID, mesos.TaskUnreachable, "REASON_RECONCILIATION")
		case gone:
			m.say(ref.TaskID, ref.AgentID, mesos.TaskGoneByOp, "REASON_RECONCILIATION")
		default:
			m.say(ref.TaskID, ref.AgentID, mesos.TaskUnknown, "REASON_RECONCILIATION")
		}
	}
}

// recall tells the state of a task that the master knows.
func (m *master) recall(agentID string, t *known) {
	if t.state.Terminal() {
		m.w.truth.doubted(t.id, t.state)
	}
	m.tell(mesos.Update{Status: mesos.Status{TaskID: t.id, AgentID: agentID, State: t.state, Source: "SOURCE_MASTER", Reason: "REASON_RECONCILIATION", Healthy: t.healthy, Timestamp: m.w.now}})
}

// update takes a status from an agent.
func (m *master) update(ag *agent, st mesos.Status) {
	a := m.agents[ag.id]
	if !m.up || a == nil || a.agent != ag {
		return
	}
	if t := a.tasks[st.TaskID]; t != nil && !t.state.Terminal() {
		t.state, t.healthy = st.State, st.Healthy
	}
	m.w.truth.doubted(st.TaskID, st.State)
	m.w.truth.statuses[string(st.UUID)] = st
	m.tell(mesos.Update{Status: st})
}

// forget removes a task whose end was acknowledged.
func (m *master) forget(ag *agent, taskID string) {
	if a := m.agents[ag.id]; a != nil && a.agent == ag {
		delete(a.tasks, taskID)
	}
}

// register takes an agent in, for the first time or again.
func (m *master) register(ag *agent) bool {
	if !m.up || !ag.hears() {
		return false
	}
	if m.known[ag.id] == gone {
		return false
	}
	was := m.known[ag.id]
	a := m.agents[ag.id]
	if a == nil {
		a = &member{agent: ag, tasks: map[string]*known{}, executors: map[string]mesos.Amounts{}}
		m.agents[ag.id] = a
	}
	m.known[ag.id] = registered
	a.connected = true
	if ag.exec != nil {
		a.executors[ag.exec.id] = ag.exec.takes
	} else {
		clear(a.executors)
	}
	for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
		if t := a.tasks[id]; ag.tasks[id] == nil && !t.state.Terminal() {
			// The master knows a task that its agent does not: it asks, behind what is still on its way.
			m.toAgent(a, func(ag *agent) { ag.explain(id) }, nil)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ag.tasks)) {
		t := ag.tasks[id]
		k := a.tasks[id]
		if k == nil {
			k = &known{id: id, executor: t.task.Executor.ID, needs: mesos.Sum(t.task.Resources)}
			a.tasks[id] = k
		}
		k.state, k.healthy = t.sent, t.healthy
		if t.sent == "" {
			k.state = mesos.TaskStaging
		}
		if (was == unreachable || was == recovering) && !k.state.Terminal() {
			m.say(id, ag.id, k.state, "REASON_AGENT_REREGISTERED")
		}
	}
	m.w.note("agent %s registers", ag.id)
	return true
}

// silent is an agent whose connection broke: its offers are void.
func (m *master) silent(ag *agent) {
	if a := m.agents[ag.id]; a != nil && a.connected {
		a.connected = false
		m.rescindOf(ag.id)
	}
}

// unreach is an agent that has not answered for too long.
func (m *master) unreach(ag *agent) {
	a := m.agents[ag.id]
	if !m.up || m.known[ag.id] == unreachable || m.known[ag.id] == gone {
		return
	}
	m.w.note("agent %s is unreachable", ag.id)
	ag.wire++
	m.known[ag.id] = unreachable
	if a == nil {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
		if !a.tasks[id].state.Terminal() {
			m.say(id, ag.id, mesos.TaskUnreachable, "REASON_SLAVE_REMOVED")
		}
	}
	m.rescindOf(ag.id)
	delete(m.agents, ag.id)
	m.tell(mesos.Failure{AgentID: ag.id})
}

// markGone is what an operator does with an agent that will never return.
func (m *master) markGone(dead string) {
	m.w.note("operator marks agent %s gone", dead)
	if a := m.agents[dead]; a != nil {
		for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
			if !a.tasks[id].state.Terminal() {
				m.say(id, dead, mesos.TaskGoneByOp, "REASON_SLAVE_REMOVED_BY_OPERATOR")
			}
		}
		m.rescindOf(dead)
		delete(m.agents, dead)
		m.tell(mesos.Failure{AgentID: dead})
	}
	m.known[dead] = gone
}

// executorEnded frees what an executor took and tells of it.
func (m *master) executorEnded(ag *agent, id string) {
	if a := m.agents[ag.id]; a != nil && a.agent == ag {
		delete(a.executors, id)
		status := int32(9)
		m.tell(mesos.Failure{AgentID: ag.id, ExecutorID: id, Status: &status})
	}
}

// fail is the death of the leading master. With amnesia its successor knows no agents.
func (m *master) fail(amnesia bool) {
	if !m.up {
		return
	}
	m.w.fault("master fails over, amnesia %v", amnesia)
	m.up = false
	for _, id := range slices.Sorted(maps.Keys(m.agents)) {
		m.agents[id].agent.wire++ // Agents ignore what a master sent that leads no more.
	}
	if m.conn != nil {
		m.w.sched.hangUp(m.conn)
	}
	m.conn = nil
	clear(m.agents)
	clear(m.offers)
	clear(m.filters)
	for _, id := range slices.Sorted(maps.Keys(m.known)) {
		switch {
		case amnesia && m.known[id] != gone:
			delete(m.known, id)
		case m.known[id] == registered:
			m.known[id] = recovering
		}
	}
	m.w.after(m.w.between(500*time.Millisecond, 4*time.Second), func() {
		m.up = true
		m.w.note("a new master leads")
		for _, h := range m.w.hosts {
			if h.agent != nil {
				h.agent.registerSoon(m.w.between(0, 4*time.Second))
			}
		}
		m.w.after(recovery, func() {
			for _, id := range slices.Sorted(maps.Keys(m.known)) {
				if m.up && m.known[id] == recovering {
					m.w.note("agent %s is unreachable: it did not return", id)
					m.known[id] = unreachable
				}
			}
		})
	})
}

func (s standing) String() string {
	switch s {
	case recovering:
		return "recovering"
	case registered:
		return "registered"
	case unreachable:
		return "unreachable"
	case gone:
		return "gone"
	}
	return fmt.Sprintf("standing(%d)", int(s))
}
