package forecast

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/core"
)

// cluster plays Mesos and its executors: agents have what they have left, and whoever is asked to do something has done it
// at once. What does not answer now does not answer.
type cluster struct {
	role       string
	framework  string
	hosts      map[string]*host
	order      []string
	tasks      map[string]*task
	suppressed bool
	offers     int
	now        time.Time
	news       []core.Event
}

// host is one agent.
type host struct {
	record *padisv1.AgentRecord
	seen   *mesos.Agent
	// there: the master knows it, and it answers.
	there, leaving bool
	free           mesos.Amounts
	// executor that runs there, empty if none does, and what it takes.
	executor string
	charged  mesos.Amounts
	says     *padisv1.FromExecutor
	// offer is out; refused is until when none is sent, more that there is more than it says.
	offer   string
	refused time.Time
	more    bool
	// directing are the numbers of Balances that it was told, by uid, for directors and for what relays.
	directing map[string]map[string]int64
	relaying  map[string]int64
	// apps counts the tasks of each App there, by uid.
	apps map[string]int
}

// task is one that the master knows.
type task struct {
	agent, container string
	// app is the uid of its App, and beside how many more of it were there when it was launched.
	app    string
	beside int
	takes  mesos.Amounts
	// data is nil of what was there before: nothing new is said of it.
	data  []byte
	ready bool
}

func newCluster(s *core.Snapshot, now time.Time) *cluster {
	m := &cluster{role: s.Config.Role, framework: s.Records.Framework.GetFrameworkId(), hosts: map[string]*host{}, tasks: map[string]*task{}, now: now}
	needs := map[string]map[string]*padisv1.Resources{}
	for _, a := range s.Records.Apps {
		needs[a.GetUid()] = map[string]*padisv1.Resources{}
		for _, r := range a.GetRevisions() {
			needs[a.GetUid()][r.GetHash()] = r.GetTemplate().GetResources()
		}
	}
	for _, a := range s.Agents {
		h := &host{record: a.Record, seen: a.Seen, there: a.Present, leaving: a.Leaving, says: a.Says, free: left(a), charged: a.Charged, directing: map[string]map[string]int64{}, relaying: map[string]int64{}, apps: map[string]int{}}
		if a.Manned {
			h.executor = a.Executor
		}
		for _, b := range a.Says.GetBalances() {
			h.relaying[b.GetUid()] = b.GetNumber()
			h.directing[b.GetUid()] = map[string]int64{}
			for _, d := range b.GetDirectors() {
				h.directing[b.GetUid()][d.GetTaskId()] = d.GetNumber()
			}
		}
		m.hosts[a.Record.GetAgentId()] = h
	}
	m.order = slices.Sorted(maps.Keys(m.hosts))
	for _, r := range s.Records.Instances {
		if r.GetTaskId() == "" || !hasTask(r.GetPhase()) {
			continue
		}
		if h := m.hosts[r.GetAgentId()]; h != nil {
			h.apps[r.GetAppUid()]++
		}
		res := needs[r.GetAppUid()][r.GetRevision()]
		m.tasks[r.GetTaskId()] = &task{agent: r.GetAgentId(), container: r.GetContainer(), app: r.GetAppUid(), ready: r.GetReady() || starts(r.GetPhase()),
			takes: mesos.Amounts{CPUMilli: res.GetCpuMilli(), MemoryMilli: res.GetMemoryMib() * 1000, DiskMilli: res.GetDiskMib() * 1000}}
	}
	return m
}

// hasTask tells whether an instance has a task that the master knows, in a phase.
func hasTask(p padisv1.Phase) bool {
	switch p {
	case padisv1.Phase_STAGING, padisv1.Phase_STARTING, padisv1.Phase_RUNNING, padisv1.Phase_STOPPING, padisv1.Phase_UNREACHABLE:
		return true
	}
	return false
}

// starts tells whether an instance is on its way: it is taken to get there.
func starts(p padisv1.Phase) bool { return p == padisv1.Phase_STAGING || p == padisv1.Phase_STARTING }

// left is what an agent has left: by the operator API, but what the newest launches took may not be in there yet. An agent
// of which that is not known has what it offers.
func left(a core.AgentState) mesos.Amounts {
	if a.Seen == nil {
		return a.Offered
	}
	x, y := a.Seen.Total.Sub(a.Seen.Allocated), a.Seen.Total.Sub(a.Used).Sub(a.Charged)
	return mesos.Amounts{
		CPUMilli: max(0, min(x.CPUMilli, y.CPUMilli)), MemoryMilli: max(0, min(x.MemoryMilli, y.MemoryMilli)), DiskMilli: max(0, min(x.DiskMilli, y.DiskMilli)),
	}
}

// subscribe is how a subscription begins: all that is known is said again.
func (m *cluster) subscribe() {
	m.tell(mesos.Subscribed{FrameworkID: m.framework, Master: "forecast"})
	var seen mesos.AgentsSeen
	for _, id := range m.order {
		if h := m.hosts[id]; h.seen != nil {
			seen.Agents = append(seen.Agents, *h.seen)
		}
	}
	if len(seen.Agents) > 0 {
		m.tell(seen)
	}
	for _, id := range m.order {
		if h := m.hosts[id]; h.there && h.executor != "" && h.says != nil {
			m.speak(id, h)
		}
	}
}

func (m *cluster) tell(e mesos.Event) { m.news = append(m.news, core.FromMesos{Event: e}) }

// take hands out what has happened, with offers of all who may make some.
func (m *cluster) take(now time.Time) []core.Event {
	m.now = now
	var offers []mesos.Offer
	for _, id := range m.order {
		h := m.hosts[id]
		if h.more && h.offer != "" { // All that there is is offered together, from now on.
			m.tell(mesos.Rescind{OfferID: h.offer})
			h.offer = ""
		}
		h.more = false
		if m.suppressed || !h.there || h.offer != "" || h.refused.After(now) || h.free == (mesos.Amounts{}) {
			continue
		}
		m.offers++
		h.offer = fmt.Sprintf("forecast-%d", m.offers)
		o := mesos.Offer{ID: h.offer, AgentID: id, Hostname: h.record.GetHostname(), URL: h.record.GetUrl(), Role: m.role, Attributes: h.record.GetAttributes()}
		for _, r := range []mesos.Resource{{Name: "cpus", Milli: h.free.CPUMilli}, {Name: "mem", Milli: h.free.MemoryMilli}, {Name: "disk", Milli: h.free.DiskMilli}} {
			if r.AllocatedTo = m.role; r.Milli > 0 {
				o.Resources = append(o.Resources, r)
			}
		}
		if h.executor != "" {
			o.ExecutorIDs = []string{h.executor}
		}
		if h.leaving {
			o.UnavailableFrom = now
		}
		offers = append(offers, o)
	}
	if len(offers) > 0 {
		m.tell(mesos.Offers{Offers: offers})
	}
	news := m.news
	m.news = nil
	return news
}

// call carries out what the framework asks for.
func (m *cluster) call(call mesos.Call) error {
	switch e := call.(type) {
	case mesos.Accept:
		return m.accept(e)
	case mesos.Decline:
		for _, id := range e.OfferIDs {
			m.back(id, e.Refuse)
		}
	case mesos.Revive:
		m.suppressed = false
		for _, h := range m.hosts {
			h.refused = time.Time{}
		}
	case mesos.Suppress:
		m.suppressed = true
	case mesos.Kill:
		m.kill(e)
	case mesos.Reconcile:
		m.reconcile(e)
	case mesos.ShutdownExecutor:
		if h := m.hosts[e.AgentID]; h != nil && h.there && h.executor == e.ExecutorID {
			m.shutdown(e.AgentID, h)
		}
	case mesos.ToExecutor:
		return m.instruct(e)
	}
	return nil
}

func (m *cluster) back(offer string, refuse time.Duration) *host {
	for _, h := range m.hosts {
		if h.offer == offer {
			h.offer, h.refused = "", m.now.Add(refuse)
			return h
		}
	}
	return nil
}

func (m *cluster) accept(e mesos.Accept) error {
	var h *host
	for _, id := range e.OfferIDs {
		h = m.back(id, e.Refuse)
	}
	if h == nil {
		return fmt.Errorf("offers %v are not out", e.OfferIDs)
	}
	for _, t := range e.Tasks {
		if h.executor != t.Executor.ID {
			h.executor, h.charged, h.says = t.Executor.ID, mesos.Sum(t.Executor.Resources), nil
			h.free = h.free.Sub(h.charged)
		}
		launch := &padisv1.Launch{}
		if err := padisv1.Decode(t.Data, launch); err != nil {
			return fmt.Errorf("launch of %s: %w", t.ID, err)
		}
		report := &padisv1.InstanceReport{Ready: !launch.GetAdopt() || launch.GetWasReady(), Container: launch.GetContainer()}
		for _, at := range launch.GetAttachments() {
			report.Addresses = append(report.Addresses, at.GetAddress())
		}
		data, err := padisv1.Encode(report)
		if err != nil {
			return fmt.Errorf("report of %s: %w", t.ID, err)
		}
		x := &task{agent: t.AgentID, container: launch.GetContainer(), app: launch.GetAppUid(), takes: mesos.Sum(t.Resources), data: data, ready: report.Ready}
		h.free = h.free.Sub(x.takes)
		x.beside = h.apps[x.app]
		h.apps[x.app]++
		m.tasks[t.ID] = x
		m.running(t.ID, x, "SOURCE_EXECUTOR", "")
	}
	return nil
}

func (m *cluster) running(id string, t *task, source, reason string) {
	m.tell(mesos.Update{Status: mesos.Status{TaskID: id, AgentID: t.agent, State: mesos.TaskRunning, Source: source, Reason: reason, Data: t.data, Healthy: &t.ready, Timestamp: m.now}})
}

func (m *cluster) kill(e mesos.Kill) {
	t := m.tasks[e.TaskID]
	switch {
	case t == nil:
		m.tell(mesos.Update{Status: mesos.Status{TaskID: e.TaskID, AgentID: e.AgentID, State: mesos.TaskUnknown, Source: "SOURCE_MASTER", Reason: "REASON_RECONCILIATION", Timestamp: m.now}})
	case m.hosts[t.agent] != nil && m.hosts[t.agent].there:
		m.end(e.TaskID, t)
	}
}

func (m *cluster) end(id string, t *task) {
	h := m.hosts[t.agent]
	delete(m.tasks, id)
	h.apps[t.app]--
	h.free, h.refused, h.more = h.free.Add(t.takes), time.Time{}, true
	// What an executor calls a plain program is its task.
	its := func(a *padisv1.UsedAddress) bool { return a.GetContainer() == cmp.Or(t.container, id) }
	if slices.ContainsFunc(h.says.GetAddresses(), its) {
		h.says = proto.CloneOf(h.says)
		h.says.Addresses = slices.DeleteFunc(h.says.Addresses, its)
	}
	m.tell(mesos.Update{Status: mesos.Status{TaskID: id, AgentID: t.agent, State: mesos.TaskKilled, Source: "SOURCE_EXECUTOR", Timestamp: m.now}})
}

func (m *cluster) reconcile(e mesos.Reconcile) {
	refs := e.Tasks
	if len(refs) == 0 {
		for _, id := range slices.Sorted(maps.Keys(m.tasks)) {
			refs = append(refs, mesos.TaskRef{TaskID: id, AgentID: m.tasks[id].agent})
		}
	}
	for _, ref := range refs {
		t, h := m.tasks[ref.TaskID], m.hosts[ref.AgentID]
		switch {
		case h == nil || !h.there:
			m.tell(mesos.Update{Status: mesos.Status{TaskID: ref.TaskID, AgentID: ref.AgentID, State: mesos.TaskUnreachable, Source: "SOURCE_MASTER", Reason: "REASON_RECONCILIATION", Timestamp: m.now}})
		case t == nil:
			m.tell(mesos.Update{Status: mesos.Status{TaskID: ref.TaskID, AgentID: ref.AgentID, State: mesos.TaskGone, Source: "SOURCE_MASTER", Reason: "REASON_RECONCILIATION", Timestamp: m.now}})
		default:
			m.running(ref.TaskID, t, "SOURCE_MASTER", "REASON_RECONCILIATION")
		}
	}
}

func (m *cluster) shutdown(id string, h *host) {
	for _, x := range slices.Sorted(maps.Keys(m.tasks)) {
		if t := m.tasks[x]; t.agent == id {
			m.end(x, t)
		}
	}
	m.tell(mesos.Failure{AgentID: id, ExecutorID: h.executor})
	h.free, h.refused, h.more, h.executor, h.says, h.charged = h.free.Add(h.charged), time.Time{}, true, "", nil, mesos.Amounts{}
}

// instruct has an executor do what it is told.
func (m *cluster) instruct(e mesos.ToExecutor) error {
	h := m.hosts[e.AgentID]
	if h == nil || !h.there || h.executor != e.ExecutorID {
		return nil
	}
	wish := &padisv1.ToExecutor{}
	if err := padisv1.Decode(e.Data, wish); err != nil {
		return fmt.Errorf("message to the executor on %s: %w", e.AgentID, err)
	}
	if wish.GetRenewed() != nil {
		return nil
	}
	said := proto.CloneOf(h.says)
	if said == nil {
		said = &padisv1.FromExecutor{Version: "forecast", HostAddresses: h.record.GetAddresses()}
	}
	if b := wish.GetBalance(); b != nil {
		m.direct(h, b)
	} else {
		said.Generation, said.Images = wish.GetGeneration(), nil
		for _, w := range wish.GetImages() {
			said.Images = append(said.Images, &padisv1.ImageState{Image: w.GetImage(), Present: true})
		}
		said.Orphans = slices.DeleteFunc(said.Orphans, func(o string) bool { return slices.Contains(wish.GetDiscard(), o) })
		maps.DeleteFunc(h.relaying, func(uid string, _ int64) bool { return !slices.Contains(wish.GetBalancers(), uid) })
		maps.DeleteFunc(h.directing, func(uid string, _ map[string]int64) bool { return !slices.Contains(wish.GetDirected(), uid) })
	}
	said.Balances = h.balances()
	h.says = said
	return m.speakErr(e.AgentID, h)
}

// direct takes in a Balance, for directors or for what relays.
func (m *cluster) direct(h *host, b *padisv1.Balance) {
	if b.GetDirector() == nil {
		h.relaying[b.GetUid()] = max(h.relaying[b.GetUid()], b.GetNumber())
		return
	}
	if h.directing[b.GetUid()] == nil {
		h.directing[b.GetUid()] = map[string]int64{}
	}
	for _, id := range b.GetDirector().GetTasks() {
		if m.tasks[id] != nil {
			h.directing[b.GetUid()][id] = b.GetNumber()
		}
	}
}

func (h *host) balances() []*padisv1.BalanceState {
	uids := map[string]bool{}
	for uid := range h.relaying {
		uids[uid] = true
	}
	for uid := range h.directing {
		uids[uid] = true
	}
	var out []*padisv1.BalanceState
	for _, uid := range slices.Sorted(maps.Keys(uids)) {
		st := &padisv1.BalanceState{Uid: uid, Number: h.relaying[uid]}
		for _, id := range slices.Sorted(maps.Keys(h.directing[uid])) {
			st.Directors = append(st.Directors, &padisv1.DirectorState{TaskId: id, Number: h.directing[uid][id]})
		}
		out = append(out, st)
	}
	return out
}

// speak says again what an executor said last.
func (m *cluster) speak(id string, h *host) {
	if err := m.speakErr(id, h); err != nil {
		h.says = nil // It was decoded before, and is too large to be said again: as if it had said nothing.
	}
}

func (m *cluster) speakErr(id string, h *host) error {
	data, err := padisv1.Encode(h.says)
	if err != nil {
		return fmt.Errorf("word of the executor on %s: %w", id, err)
	}
	m.tell(mesos.FromExecutor{AgentID: id, ExecutorID: h.executor, Data: data})
	return nil
}
