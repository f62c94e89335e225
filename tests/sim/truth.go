package sim

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// truth knows what no part of the world knows, and checks the invariants against it.
type truth struct {
	w     *World
	tasks map[string]*fate
	// statuses are the updates that need an acknowledgement, by uuid.
	statuses map[string]mesos.Status
	// starts counts the containers that were started for each slot.
	starts map[record.Slot]int
	// left says who had an address last, and until when.
	left map[string]leaving
	// doomed are the tasks and containers whose end was asked for.
	doomed map[string]bool
	// forsaken is since when containers on a host wait for an executor, with nothing in the way.
	forsaken map[*host]time.Time
	// lost are the containers that were given up because they could not be reached.
	lost map[string]bool
}

// fate is what truly became of a task.
type fate struct {
	id     string
	slot   record.Slot
	launch *padisv1.Launch
	rules  []*padisv1.Constraint
	agent  string
	host   *host
	// reached the agent, running, ended.
	reached, running, ended bool
	// doubt: somebody said something of it other than that it lives.
	doubt bool
	// exorcist: it was sent to end a container that haunts the slot.
	exorcist bool
}

func newTruth(w *World) *truth {
	return &truth{w: w, tasks: map[string]*fate{}, statuses: map[string]mesos.Status{}, starts: map[record.Slot]int{}, lost: map[string]bool{}, doomed: map[string]bool{}, forsaken: map[*host]time.Time{}, left: map[string]leaving{}}
}

// sorted returns the tasks that have not ended.
func (t *truth) alive() []*fate {
	var fs []*fate
	for _, id := range slices.Sorted(maps.Keys(t.tasks)) {
		if f := t.tasks[id]; !f.ended {
			fs = append(fs, f)
		}
	}
	return fs
}

// beings are the tasks that have not ended, and the containers that have no task.
func (t *truth) beings() []*fate {
	fs := t.alive()
	for _, h := range t.w.hosts {
		for _, id := range h.orphans() {
			b := h.containers[id]
			fs = append(fs, &fate{id: id, slot: b.slot(), launch: b.launch, host: h, running: true, doubt: true})
		}
	}
	return fs
}

// started checks that no second container is started beside one that goes on, but for one that could not be reached.
func (t *truth) started(b *container) {
	t.starts[b.slot()]++
	for _, h := range t.w.hosts {
		for _, id := range slices.Sorted(maps.Keys(h.containers)) {
			o := h.containers[id]
			if o.slot() != b.slot() || o.exited || t.lost[id] || t.lost[b.id] {
				continue
			}
			t.w.violate("container %s is started while %s, of the same slot, goes on on %s", b.id, id, h.name)
			return
		}
	}
}

// sent checks a call before it leaves the scheduler.
func (t *truth) sent(call mesos.Call) {
	switch c := call.(type) {
	case mesos.Accept:
		for _, task := range c.Tasks {
			t.launched(task)
		}
	case mesos.Kill:
		t.killed(c)
	case mesos.ToExecutor:
		t.discarded(c)
	case mesos.Acknowledge:
		t.acknowledged(c)
	}
}

func (t *truth) launched(task mesos.Task) {
	w := t.w
	if t.tasks[task.ID] != nil {
		w.violate("task id %s is used twice", task.ID)
		return
	}
	l := &padisv1.Launch{}
	if err := padisv1.Decode(task.Data, l); err != nil {
		w.violate("launch of %s: %v", task.ID, err)
		return
	}
	slot := record.Slot{AppUID: l.GetAppUid(), Index: l.GetSlot()}
	rec := w.store.instance(slot)
	exorcist := l.GetAdopt() && slices.Contains(rec.GetHauntedTasks(), task.ID)
	if !exorcist && (rec.GetTaskId() != task.ID || rec.GetPhase() != padisv1.Phase_STAGING || rec.GetAgentId() != task.AgentID) {
		w.violate("task %s is launched and the ledger does not say so: %v", task.ID, rec)
		return
	}
	for _, at := range l.GetAttachments() {
		if at.GetAddress() == "" && at.GetNetwork().GetDriver() == "host" {
			continue
		}
		lease, _ := w.store.data[record.LeaseKey(at.GetNetwork().GetName(), at.GetAddress())].(*padisv1.LeaseRecord)
		if lease.GetAppUid() != slot.AppUID || lease.GetSlot() != slot.Index {
			w.violate("task %s is launched with %s, which is leased to %v", task.ID, at.GetAddress(), lease)
			return
		}
	}
	exec, _ := w.store.data[record.ExecutorKey(task.AgentID)].(*padisv1.ExecutorRecord)
	if exec.GetExecutorId() != task.Executor.ID || w.store.data[record.AgentKey(task.AgentID)] == nil {
		w.violate("task %s is launched on executor %s, which the ledger does not know", task.ID, task.Executor.ID)
		return
	}
	app, _ := w.store.data[record.AppKey(slot.AppUID)].(*padisv1.WantedApp)
	var rev *padisv1.Revision
	for _, r := range app.GetRevisions() {
		if r.GetHash() == l.GetRevision() {
			rev = r
		}
	}
	if rev == nil && !l.GetAdopt() {
		w.violate("task %s is launched with revision %s, which the ledger does not know", task.ID, l.GetRevision())
		return
	}
	f := &fate{id: task.ID, slot: slot, exorcist: exorcist, launch: l, rules: rev.GetConstraints(), agent: task.AgentID}
	for _, h := range w.hosts {
		if strings.HasPrefix(task.AgentID, "A"+strconv.Itoa(h.index+1)+"-") {
			f.host = h
		}
	}
	for _, o := range t.alive() {
		// What was to replace a container that is adopted after all has never run, and is killed.
		if o.slot == slot && !o.doubt && !exorcist && !o.exorcist && !(l.GetAdopt() && t.lost[o.id]) {
			w.violate("%s is launched while %s, of the same slot, was never said to have ended", f.id, o.id)
			return
		}
	}
	if l.GetLeaseMs() != rec.GetLeaseMs() && !exorcist {
		w.violate("task %s is launched with a lease of %d ms, and the ledger says %d", task.ID, l.GetLeaseMs(), rec.GetLeaseMs())
		return
	}
	if why := t.forbidden(f.slot, l.GetTenant(), rev, f.host); why != "" && !l.GetAdopt() {
		w.violate("%s is launched on %s, but %s", f.id, f.host.name, why)
		return
	}
	t.tasks[task.ID] = f
	w.result.Launches++
}

// forbidden says why an instance must not run on a host, given all that truly exists; empty if it may.
func (t *truth) forbidden(slot record.Slot, tenant string, rev *padisv1.Revision, h *host) string {
	rules := rev.GetConstraints()
	cluster := t.w.user.accepted
	here, owned, own := false, false, false
	for _, tn := range cluster.GetTenants() {
		for _, sel := range tn.GetDedicated() {
			own = own || tn.GetName() == tenant
			if h.value(sel.GetAttribute()) == sel.GetValue() {
				owned = true
				here = here || tn.GetName() == tenant
			}
		}
	}
	if owned && !here || own && !here {
		return "the host, or the tenant, is dedicated"
	}
	// A launch that has not arrived adopts nothing; the container itself is counted.
	alive := slices.DeleteFunc(t.beings(), func(f *fate) bool { return f.launch.GetAdopt() && !f.reached })
	for _, o := range alive {
		if o.host == h && o.slot != slot && foes(cluster, tenant, o.launch.GetTenant()) {
			return "tenants " + tenant + " and " + o.launch.GetTenant() + " must not meet, and " + o.id + " is there"
		}
	}
	for _, o := range alive {
		if hosted(rev.GetNetworks()) && o.host == h && o.slot != slot && slices.ContainsFunc(o.launch.GetAttachments(), func(at *padisv1.Attachment) bool { return at.GetAddress() == "" }) &&
			o.launch.GetTemplate().GetPorts()[0].GetPort() == rev.GetTemplate().GetPorts()[0].GetPort() {
			return o.id + " listens there on the same port of the host"
		}
	}
	for _, c := range rules {
		v := h.value(c.GetAttribute())
		others, values := map[record.Slot]bool{}, map[string]bool{}
		for _, o := range alive {
			if o.slot.AppUID == slot.AppUID && o.slot != slot {
				values[o.host.value(c.GetAttribute())] = true
				if o.host.value(c.GetAttribute()) == v {
					others[o.slot] = true
				}
			}
		}
		most, _ := strconv.Atoi(c.GetValue())
		switch c.GetOperator() {
		case padisv1.Constraint_UNIQUE:
			if len(others) > 0 {
				return "it must be the only one with " + c.GetAttribute() + " " + v
			}
		case padisv1.Constraint_MAX_PER:
			if len(others) >= most {
				return "there are enough with " + c.GetAttribute() + " " + v
			}
		case padisv1.Constraint_CLUSTER:
			if c.GetValue() != "" && c.GetValue() != v {
				return "it must be where " + c.GetAttribute() + " is " + c.GetValue()
			}
		case padisv1.Constraint_LIKE, padisv1.Constraint_UNLIKE:
			ok, err := regexp.MatchString(`\A(?:`+c.GetValue()+`)\z`, v)
			if err != nil || ok != (c.GetOperator() == padisv1.Constraint_LIKE) {
				return c.GetAttribute() + " does not match"
			}
		}
	}
	return ""
}

// hosted tells whether a wish is for the host's own network.
func hosted(wishes []*padisv1.NetworkWish) bool {
	return slices.ContainsFunc(wishes, func(n *padisv1.NetworkWish) bool { return n.GetNetwork() != "" })
}

func (h *host) value(attribute string) string {
	if attribute == "hostname" {
		return h.name
	}
	return h.attributes[attribute]
}

func foes(c *padisv1.Cluster, a, b string) bool {
	for _, t := range c.GetTenants() {
		if t.GetName() == a && slices.Contains(t.GetNotColocatedWith(), b) || t.GetName() == b && slices.Contains(t.GetNotColocatedWith(), a) {
			return true
		}
	}
	return false
}

func (t *truth) killed(c mesos.Kill) {
	f := t.tasks[c.TaskID]
	if f == nil {
		return
	}
	rec := t.w.store.instance(f.slot)
	if rec.GetTaskId() == c.TaskID && instance.HasTask(rec.GetPhase()) && rec.GetPhase() != padisv1.Phase_STOPPING && !rec.GetStopWanted() {
		t.w.violate("task %s is killed and the ledger says %s", c.TaskID, instance.Name(rec.GetPhase()))
	}
	if f.running && !f.ended && !t.doomed[f.id] && t.incumbent(f.slot, f.id, f.launch) {
		t.w.violate("%s, which serves, is killed, and %s, which never ran, is kept", f.id, rec.GetTaskId())
	}
	t.doomed[f.id] = true
}

// discarded checks that no container is discarded for what was to replace it.
func (t *truth) discarded(c mesos.ToExecutor) {
	wish := &padisv1.ToExecutor{}
	if padisv1.Decode(c.Data, wish) != nil {
		return
	}
	for _, h := range t.w.hosts {
		for _, id := range wish.GetDiscard() {
			b := h.containers[id]
			if b == nil || t.doomed[id] {
				continue
			}
			rec := t.w.store.instance(b.slot())
			for _, g := range instance.Ghosts(rec) {
				if g.Container == id && b.task == "" && !b.exited && t.incumbent(b.slot(), g.Task, b.launch) {
					t.w.violate("container %s, which serves, is discarded, and %s, which never ran, is kept", id, rec.GetTaskId())
				}
			}
			t.doomed[id] = true
		}
	}
}

// incumbent tells whether a task that was replaced because it could not be reached is what its slot wants, without a
// lease, and nothing that was launched since was ever seen to run.
func (t *truth) incumbent(slot record.Slot, task string, l *padisv1.Launch) bool {
	rec := t.w.store.instance(slot)
	app, _ := t.w.store.data[record.AppKey(slot.AppUID)].(*padisv1.WantedApp)
	wanted := slices.ContainsFunc(app.GetSlots(), func(s *padisv1.WantedSlot) bool {
		return s.GetIndex() == slot.Index && s.GetRevision() == l.GetRevision()
	})
	if !wanted || app.GetForgotten() || rec.GetRunningMs() != 0 || rec.GetTaskId() == task {
		return false
	}
	for _, g := range instance.Ghosts(rec) {
		if g.Task == task && g.LeaseMs != 0 {
			return false
		}
	}
	for _, end := range rec.GetTerminations() {
		switch {
		case end.GetTaskId() == task:
			return end.GetReason() == padisv1.ReasonAgentUnreachable && end.GetStartedMs() != 0
		case end.GetStartedMs() != 0:
			return false
		}
	}
	return false
}

// promptly is how long containers without an executor may wait for one, on an agent that is there and has room.
const promptly = 25 * time.Second

// watch checks that containers on an agent on which the master knows no executor do not wait for one for longer than they
// must, in times of peace.
func (t *truth) watch() {
	w := t.w
	for _, h := range w.hosts {
		a, m := h.agent, w.mesos.agents[h.agent.id]
		linked := w.sched.alive && w.sched.conn != nil && w.sched.conn.confirmed && w.sched.conn.open
		waits := m != nil && m.connected && len(m.executors) == 0 && a.hears() && a.exec == nil && len(h.orphans()) > 0 && linked
		if waits {
			left := w.mesos.free(a.id)
			for _, o := range w.mesos.offers {
				if o.agent == a.id && w.now.Sub(o.since) < 5*time.Second { // Older ones have got lost on the way.
					left = left.Add(o.what)
				}
			}
			needs := mesos.Amounts{CPUMilli: 100, MemoryMilli: 64 * 1000}
			for _, id := range h.orphans() {
				r := h.containers[id].launch.GetTemplate().GetResources()
				needs.CPUMilli, needs.MemoryMilli = max(needs.CPUMilli, 100+r.GetCpuMilli()), max(needs.MemoryMilli, (64+r.GetMemoryMib())*1000)
			}
			waits = left.Fits(needs)
		}
		switch since, ok := t.forsaken[h]; {
		case !waits:
			delete(t.forsaken, h)
		case !ok:
			t.forsaken[h] = w.now
		case w.now.Sub(since) > promptly:
			w.violate("containers %v on %s have waited for an executor since %s", h.orphans(), h.name, since.Sub(epoch))
			return
		}
	}
}

func (t *truth) acknowledged(c mesos.Acknowledge) {
	if len(c.UUID) == 0 {
		t.w.violate("an update of %s that needs no acknowledgement is acknowledged", c.TaskID)
		return
	}
	st, ok := t.statuses[string(c.UUID)]
	f := t.tasks[c.TaskID]
	if !ok || f == nil {
		return
	}
	rec := t.w.store.instance(f.slot)
	if rec.GetTaskId() != c.TaskID || !instance.HasTask(rec.GetPhase()) {
		return
	}
	p := rec.GetPhase()
	// What the container of an ended task is, is found out by asking for its agent; and a lease is waited for.
	waits := p == padisv1.Phase_ADOPTING || p == padisv1.Phase_UNREACHABLE && (rec.GetContainer() != "" || rec.GetLeaseMs() != 0)
	if st.State.Terminal() && !waits || st.State == mesos.TaskRunning && (p == padisv1.Phase_STAGING || p == padisv1.Phase_STARTING) ||
		st.State == mesos.TaskStarting && p == padisv1.Phase_STAGING {
		t.w.violate("%s of %s is acknowledged while the ledger says %s", st.State, c.TaskID, instance.Name(p))
	}
}

// vanished is a call that will never arrive.
func (t *truth) vanished(call mesos.Call) {
	if c, ok := call.(mesos.Accept); ok {
		for _, task := range c.Tasks {
			t.end(task.ID, "the ACCEPT never arrived")
		}
	}
}

func (t *truth) arrived(id string) {
	if f := t.tasks[id]; f != nil {
		f.reached = true
	}
}

func (t *truth) runs(id string) {
	if f := t.tasks[id]; f != nil {
		f.running = true
	}
}

// end is the true end of a task: nothing of it runs, and nothing of it will.
func (t *truth) end(id, why string) {
	if f := t.tasks[id]; f != nil && !f.ended {
		f.ended, f.running = true, false
		t.w.note("truth: %s is over: %s", id, why)
	}
}

// doubted notes what is said of a task.
func (t *truth) doubted(id string, state mesos.TaskState) {
	switch state {
	case mesos.TaskStaging, mesos.TaskStarting, mesos.TaskRunning, mesos.TaskKilling:
		return
	}
	if f := t.tasks[id]; f != nil {
		f.doubt = true
	}
}

// answers tells whether a probe from the host would be answered: somebody who can hear it has the address.
func (t *truth) answers(h *host, address string) bool {
	for _, o := range t.w.hosts {
		if _, has := o.addresses[address]; has && o.reaches(h) {
			return true
		}
	}
	return false
}

// configured checks the first promise: no address on two hosts. Those with a lease keep it whoever can reach whom.
func (t *truth) configured(h *host, address, id string, leased bool) {
	t.w.note("net: %s is on %s for %s", address, h.name, id)
	for _, o := range t.w.hosts {
		by, has := o.addresses[address]
		if _, also := o.valid[address]; has && (o.reaches(h) || leased && also) {
			t.w.violate("%s is configured on %s for %s while %s has it for %s", address, h.name, id, o.name, by)
			return
		}
	}
}

// leaving is the end of the use of an address.
type leaving struct {
	slot record.Slot
	at   time.Time
}

func (t *truth) deconfigured(h *host, address, id string) {
	t.w.note("net: %s is off %s", address, h.name)
	if f := t.tasks[id]; f != nil {
		t.left[address] = leaving{f.slot, t.w.now}
	}
}

// given checks that an address has rested before it is given to another.
func (t *truth) given(l *padisv1.LeaseRecord) {
	was, ok := t.left[l.GetAddress()]
	if !ok || l.GetReleasedMs() != 0 || was.slot == (record.Slot{AppUID: l.GetAppUid(), Index: l.GetSlot()}) {
		return
	}
	for _, p := range t.w.user.accepted.GetPools() {
		if rest := time.Duration(p.GetReuseDelayMs()) * time.Millisecond; p.GetName() == l.GetPool() && t.w.now.Sub(was.at) < rest {
			t.w.violate("%s is given to %s-%d %s after %s has left it, and must rest for %s", l.GetAddress(), l.GetApp(), l.GetSlot(), t.w.now.Sub(was.at), was.slot, rest)
		}
	}
}

// written checks each write of the ledger.
func (t *truth) written(wr record.Write, before proto.Message) {
	switch v := wr.Value.(type) {
	case *padisv1.Cluster:
		t.w.user.accepted = proto.Clone(v).(*padisv1.Cluster)
	case *padisv1.LeaseRecord:
		if b, ok := before.(*padisv1.LeaseRecord); !ok || b.GetReleasedMs() != 0 || b.GetAppUid() != v.GetAppUid() || b.GetSlot() != v.GetSlot() {
			t.given(v)
		}
	case *padisv1.InstanceRecord:
		b, ok := before.(*padisv1.InstanceRecord)
		if ok {
			t.stopped(b, v)
		}
		for _, g := range instance.Ghosts(v) {
			t.lost[g.Container], t.lost[g.Task] = true, true
		}
		if ok && v.GetAttempt() < b.GetAttempt() {
			t.w.violate("attempts of %s go back from %d to %d", wr.Key, b.GetAttempt(), v.GetAttempt())
		}
	}
}

// stopped checks that a container that runs is stopped for another image only when that is on its host.
func (t *truth) stopped(before, after *padisv1.InstanceRecord) {
	if before.GetPhase() != padisv1.Phase_RUNNING || before.GetContainer() == "" || after.GetPhase() != padisv1.Phase_STOPPING || after.GetReason() != padisv1.ReasonUpdating {
		return
	}
	app, _ := t.w.store.data[record.AppKey(after.GetAppUid())].(*padisv1.WantedApp)
	box := ""
	for _, h := range t.w.hosts {
		b := h.containers[before.GetContainer()]
		if b == nil {
			continue
		}
		if b.stopping {
			return // An earlier KILL has come to it.
		}
		box = b.launch.GetTemplate().GetImage()
		for _, rev := range app.GetRevisions() {
			if image := rev.GetTemplate().GetImage(); image == "" || h.images[image] && rev.GetHash() != before.GetRevision() {
				return
			}
		}
	}
	if box != "" {
		t.w.violate("%s is stopped, and no image of its next revision is on its host", before.GetTaskId())
	}
}
