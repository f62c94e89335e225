package sim

import (
	"maps"
	"slices"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// mischief does one thing to the world now and then, while faults happen.
func (w *World) mischief() {
	w.after(w.between(300*time.Millisecond, 5*time.Second), func() {
		if !w.chaos {
			return
		}
		h := w.hosts[w.rng.IntN(len(w.hosts))]
		switch n := w.rng.IntN(106); {
		case n < 18:
			w.exitOne()
		case n < 19:
			w.exitAlone()
		case n < 21:
			w.roll()
		case n < 33:
			h.killExecutor()
		case n < 44:
			h.crashAgent(w.between(200*time.Millisecond, 6*time.Second))
		case n < 64:
			control, data := true, false
			if k := w.rng.IntN(10); k >= 9 {
				control, data = false, true
			} else if k >= 6 {
				data = true
			}
			h.cut(control, data, w.between(time.Second, 30*time.Second))
		case n < 74:
			h.powerOff(w.between(time.Second, 20*time.Second), w.rng.IntN(3) == 0)
		case n < 80:
			w.mesos.fail(w.rng.IntN(3) == 0)
		case n < 88:
			if w.mesos.conn != nil {
				w.fault("subscription breaks")
				w.sched.hangUp(w.mesos.conn)
			}
		case n < 94:
			if w.sched.alive {
				w.sched.stop("from outside")
			}
		case n < 100:
			h.steal()
		default:
			h.stall(w.between(time.Second, 20*time.Second))
		}
		w.mischief()
	})
}

// exitOne lets the program of a random instance end.
func (w *World) exitOne() {
	var all []*run
	var execs []*executor
	for _, h := range w.hosts {
		if h.off || h.agent.exec == nil {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(h.agent.exec.runs)) {
			if r := h.agent.exec.runs[id]; r.running && !r.stopping && !r.ended && !h.agent.exec.stalled {
				all, execs = append(all, r), append(execs, h.agent.exec)
			}
		}
	}
	if len(all) == 0 {
		return
	}
	i := w.rng.IntN(len(all))
	w.fault("program of %s exits", all[i].id)
	state := mesos.TaskFailed
	if w.rng.IntN(4) == 0 {
		state = mesos.TaskFinished
	}
	execs[i].end(all[i], state, &padisv1.InstanceReport{Reason: padisv1.ReasonExited, ExitCode: 1})
}

// kill ends the executor and all that it runs. The kernel takes the addresses down a little later, unless there is no kernel.
func (ex *executor) die(lingers bool) {
	h := ex.agent.host
	ex.dead = true
	for _, id := range slices.Sorted(maps.Keys(ex.runs)) {
		r := ex.runs[id]
		r.ended = true
		h.w.truth.end(id, "its executor died")
		if r.box != nil {
			r.box.task = ""
			continue
		}
		for _, addr := range r.addresses {
			remove := func() {
				if h.addresses[addr] == id {
					h.unconfigure(addr)
				}
			}
			delete(h.valid, addr) // They go with their namespaces, sooner than any lease.
			if lingers {
				h.w.after(h.w.between(0, 1500*time.Millisecond), remove)
			} else {
				remove()
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ex.agent.tasks)) {
		h.w.truth.end(id, "its executor died")
	}
}

// bury makes the agent notice that its executor is dead.
func (a *agent) bury(state mesos.TaskState, reason string) {
	ex := a.exec
	if ex == nil {
		return
	}
	a.exec = nil
	if a.hears() {
		a.host.w.mesos.executorEnded(a, ex.id)
	}
	for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
		a.tasks[id].deferred = false
		a.host.w.truth.end(id, "its executor died before it could start it")
		a.update(id, state, "SOURCE_AGENT", reason, nil)
	}
}

func (h *host) killExecutor() {
	a := h.agent
	if h.off || a.exec == nil || a.exec.dead {
		return
	}
	h.w.fault("executor on %s dies", h.name)
	a.exec.die(true)
	ex := a.exec
	h.w.after(h.w.between(time.Millisecond, 20*time.Millisecond), func() { ex.buried() })
}

// crashAgent kills the agent's process; executors live on.
func (h *host) crashAgent(d time.Duration) {
	a := h.agent
	if h.off || !a.up || a.dead {
		return
	}
	h.w.fault("agent %s crashes for %s", a.id, d)
	a.up = false
	a.life++
	a.wire++
	h.w.mesos.silent(a)
	h.watch(a)
	h.w.after(d, func() {
		if h.off || a.dead || a.up || h.agent != a {
			return
		}
		h.w.note("agent %s is back", a.id)
		a.up = true
		if a.exec != nil && !a.exec.dead && h.w.chance(0.1) {
			h.w.fault("executor on %s does not find back to its agent", h.name)
			a.exec.die(true)
		}
		if a.exec != nil && a.exec.dead {
			a.bury(mesos.TaskGone, "REASON_EXECUTOR_REREGISTRATION_TIMEOUT")
		}
		a.registerSoon(h.w.between(0, time.Second))
	})
}

// watch lets the master notice that an agent does not answer its pings.
func (h *host) watch(a *agent) {
	h.w.after(pingTimeout+h.w.between(0, time.Second), func() {
		m := h.w.mesos
		if member := m.agents[a.id]; !a.hears() || member != nil && !member.connected {
			m.unreach(a)
		}
	})
}

// cut separates the host from the master, from the other hosts, or both.
func (h *host) cut(control, data bool, d time.Duration) {
	if h.off || h.cutControl || h.cutData {
		return
	}
	a := h.agent
	h.w.fault("%s is cut off (control %v, data %v) for %s", h.name, control, data, d)
	h.cutControl, h.cutData = control, data
	if control {
		h.watch(a)
	}
	if control && data && h.w.chance(0.5) {
		// The way to the master is there again before the one to the other hosts.
		h.w.after(d-h.w.between(0, min(d, 5*time.Second)), h.rejoin)
	}
	h.w.after(d, h.mend)
}

// rejoin lets the agent and the master hear each other again.
func (h *host) rejoin() {
	if !h.cutControl {
		return
	}
	h.w.note("%s and the master hear each other again", h.name)
	h.cutControl = false
	if a := h.agent; a.up && !h.off {
		a.registerSoon(h.w.between(0, time.Second))
	}
}

func (h *host) mend() {
	if !h.cutControl && !h.cutData {
		return
	}
	h.w.note("%s is connected again", h.name)
	h.cutData = false
	h.w.clash()
	h.rejoin()
}

// powerOff takes the host down, and brings it back with the same agent or with a new one.
func (h *host) powerOff(d time.Duration, fresh bool) {
	if h.off {
		return
	}
	h.w.fault("%s loses power for %s", h.name, d)
	a := h.agent
	if a.exec != nil && !a.exec.dead {
		a.exec.die(false)
	}
	for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
		h.w.truth.end(id, "power loss")
	}
	for _, addr := range slices.Sorted(maps.Keys(h.addresses)) {
		h.unconfigure(addr)
	}
	clear(h.containers)
	h.off, a.up = true, false
	a.life++
	a.wire++
	h.watch(a)
	h.w.after(d, func() {
		h.off = false
		if fresh {
			h.w.note("%s is back, with a new agent", h.name)
			a.dead, a.exec = true, nil
			h.newAgent()
			return
		}
		h.w.note("%s is back, with agent %s", h.name, a.id)
		a.up = true
		h.w.mesos.silent(a)
		a.exec = nil
		for _, id := range slices.Sorted(maps.Keys(a.tasks)) {
			a.tasks[id].deferred = false
			a.update(id, mesos.TaskGone, "SOURCE_AGENT", "REASON_EXECUTOR_TERMINATED", nil)
		}
		a.registerSoon(h.w.between(0, time.Second))
	})
}

// steal lets another framework use a part of the host for a while.
func (h *host) steal() {
	m := h.w.mesos
	a := m.agents[h.agent.id]
	if a == nil || a.stolen != (mesos.Amounts{}) {
		return
	}
	m.rescindOf(h.agent.id)
	left := m.free(h.agent.id)
	if left.CPUMilli < 200 || left.MemoryMilli < 200 {
		return
	}
	h.w.fault("another framework takes what is free on %s", h.name)
	a.stolen = mesos.Amounts{CPUMilli: left.CPUMilli - 100, MemoryMilli: left.MemoryMilli - 100}
	h.w.after(h.w.between(time.Second, 10*time.Second), func() { a.stolen = mesos.Amounts{} })
}

// peace ends all faults: what is cut is mended, what is down comes back by itself, what will never return is marked so.
func (w *World) peace() {
	w.chaos = false
	w.note("the faults end")
	for _, h := range w.hosts {
		h.mend()
		if a := w.mesos.agents[h.agent.id]; a != nil {
			a.stolen = mesos.Amounts{}
		}
	}
	w.user.finally()
	w.bury()
}

// bury marks agents gone that will never return, as an operator does.
func (w *World) bury() {
	w.after(5*time.Second, func() {
		for _, h := range w.hosts {
			for n := 1; n < h.agents; n++ {
				id := agentID(h, n)
				if w.mesos.up && w.mesos.known[id] != gone {
					w.mesos.markGone(id)
				}
			}
		}
		w.bury()
	})
}
