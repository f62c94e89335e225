package sim

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// container is what an executor made of an image. It lives on its host whatever becomes of the executor.
type container struct {
	id        string
	launch    *padisv1.Launch
	host      *host
	addresses []string
	// task that has it; empty if none does.
	task string
	// exited: its program ended, and nobody has taken it down yet.
	exited bool
	// stopping: a KILL has come to it.
	stopping bool
}

func (b *container) slot() record.Slot {
	return record.Slot{AppUID: b.launch.GetAppUid(), Index: b.launch.GetSlot()}
}

// remove takes a container down: first its addresses, then the rest.
func (h *host) remove(b *container, why string) {
	for _, addr := range b.addresses {
		if h.addresses[addr] == b.id {
			h.unconfigure(addr)
		}
	}
	delete(h.containers, b.id)
	h.w.note("container %s is gone: %s", b.id, why)
}

// orphans are the containers without a task.
func (h *host) orphans() []string {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(h.containers)) {
		if h.containers[id].task == "" {
			ids = append(ids, id)
		}
	}
	return ids
}

// pull brings an image to the host, and calls do when it is there; at once if it is.
func (ex *executor) pull(image string, do func()) {
	h := ex.agent.host
	if image == "" || h.images[image] {
		do()
		return
	}
	wait := h.w.between(20*time.Millisecond, 800*time.Millisecond)
	if h.w.chance(0.1) {
		wait = h.w.between(time.Second, 10*time.Second)
	}
	if h.w.chance(0.05) { // longer than what was launched is waited for
		wait = h.w.between(20*time.Second, 4*time.Minute)
	}
	ex.after(wait, func() {
		switch {
		case ex.dead:
		case h.w.chance(0.2):
			ex.failed[image] = true
			ex.report()
			ex.after(time.Second, func() { ex.pull(image, do) })
		default:
			if !h.images[image] {
				h.w.note("%s is on %s", image, h.name)
			}
			h.images[image] = true
			delete(ex.failed, image)
			do()
		}
	})
}

// adopt takes over a container that an earlier executor, or an earlier task, left.
func (ex *executor) adopt(r *run) {
	h := ex.agent.host
	b := h.containers[r.launch.GetContainer()]
	switch {
	case b == nil:
		ex.end(r, mesos.TaskFailed, &padisv1.InstanceReport{Reason: padisv1.ReasonContainerGone, Message: "there is no container " + r.launch.GetContainer()})
		return
	case b.task != "" && ex.runs[b.task] != nil && b.task != r.id:
		h.w.violate("%s is to adopt %s, which %s has", r.id, b.id, b.task)
		return
	}
	b.task, r.box, r.addresses = r.id, b, b.addresses
	if b.exited {
		ex.end(r, mesos.TaskFailed, &padisv1.InstanceReport{Reason: padisv1.ReasonExited, ExitCode: 1})
		return
	}
	r.running = true
	h.w.truth.runs(r.id)
	ready := r.launch.GetWasReady()
	if lease(r.launch) > 0 {
		// How long it may use what it has nobody knows but the kernel.
		if r.silenced = !ex.complete(r); r.silenced {
			ready = false
		}
		ex.expireLater(r)
		ex.renew()
	}
	ex.agent.update(r.id, mesos.TaskRunning, "SOURCE_EXECUTOR", "", &padisv1.InstanceReport{Reason: padisv1.ReasonRunning, Ready: ready, Addresses: r.addresses, Container: b.id})
	ex.report()
	if !ready {
		ex.becomeReady(r)
	}
}

// told takes in what is wanted beside tasks.
func (ex *executor) told(data []byte) {
	if ex.dead || !ex.ready {
		return
	}
	w := ex.agent.host.w
	wish := &padisv1.ToExecutor{}
	if err := padisv1.Decode(data, wish); err != nil {
		w.violate("message to the executor on %s: %v", ex.agent.host.name, err)
		return
	}
	if r := wish.GetRenewed(); r != nil {
		ex.renewed(r.GetSerial())
		return
	}
	if b := wish.GetBalance(); b != nil {
		ex.instructed(b)
		return
	}
	if wish.GetGeneration() < ex.wish.GetGeneration() {
		return
	}
	ex.wish = wish
	if wish.GetLeave() {
		ex.after(w.between(time.Millisecond, 200*time.Millisecond), func() { ex.leave() })
		return
	}
	ex.after(w.between(time.Millisecond, 300*time.Millisecond), func() {
		if ex.dead || ex.wish != wish {
			return
		}
		h := ex.agent.host
		for _, id := range wish.GetDiscard() {
			if b := h.containers[id]; b != nil && b.task == "" {
				h.remove(b, "it was discarded")
			}
		}
		ex.rewire(wish)
		ex.undirected(wish)
		ex.applied = wish.GetGeneration()
		for _, image := range wish.GetImages() {
			if name := image.GetImage(); !h.images[name] && !ex.pulling[name] {
				ex.pulling[name] = true
				ex.pull(name, func() {
					delete(ex.pulling, name)
					ex.report()
				})
			}
		}
		ex.report()
	})
}

// report says everything that there is to say beside statuses. It may be lost.
func (ex *executor) report() {
	h := ex.agent.host
	if ex.dead || !ex.ready {
		return
	}
	said := &padisv1.FromExecutor{Generation: ex.applied, Version: "sim", Endpoint: h.name + ":7070", Orphans: h.orphans(), HostAddresses: h.own(), Addresses: h.used(), Balances: ex.balances()}
	for _, addr := range slices.Sorted(maps.Keys(ex.conflicts)) {
		said.Conflicts = append(said.Conflicts, &padisv1.AddressConflict{Network: h.w.network(addr), Address: addr})
	}
	for _, image := range ex.wish.GetImages() {
		st := &padisv1.ImageState{Image: image.GetImage(), Present: h.images[image.GetImage()]}
		if !st.Present && ex.failed[st.Image] {
			st.Reason, st.Message = padisv1.ReasonRegistryUnavailable, "the registry does not answer"
		}
		said.Images = append(said.Images, st)
	}
	data, err := padisv1.Encode(said)
	if err != nil {
		h.w.violate("report of the executor on %s: %v", h.name, err)
		return
	}
	ex.speak(data)
}

// leave ends the executor and leaves the containers to the next one.
func (ex *executor) leave() {
	h := ex.agent.host
	if ex.dead || h.off || h.w.chance(0.1) {
		return // It may hang; it is asked again.
	}
	h.w.note("executor on %s leaves", h.name)
	ex.die(true)
	h.w.after(h.w.between(time.Millisecond, 20*time.Millisecond), func() { ex.buried() })
}

// shutdown ends the executor and all that it runs.
func (ex *executor) shutdown() {
	if ex.dead {
		return
	}
	h := ex.agent.host
	h.w.note("executor on %s is shut down", h.name)
	for _, id := range slices.Sorted(maps.Keys(ex.runs)) {
		ex.end(ex.runs[id], mesos.TaskKilled, &padisv1.InstanceReport{Reason: padisv1.ReasonKilled})
	}
	ex.die(true)
	h.w.after(h.w.between(time.Millisecond, 20*time.Millisecond), func() { ex.buried() })
}

// buried makes the agent notice, if it is there to do so.
func (ex *executor) buried() {
	if a := ex.agent; a.up && !a.dead && !a.host.off && a.exec == ex {
		a.bury(mesos.TaskFailed, "REASON_EXECUTOR_TERMINATED")
	}
}

// exitAlone lets the program of a container end that has no executor to notice it.
func (w *World) exitAlone() {
	for _, h := range w.hosts {
		for _, id := range h.orphans() {
			if b := h.containers[id]; !b.exited {
				w.fault("program of container %s exits, and nobody looks", id)
				b.exited = true
				return
			}
		}
	}
}

// roll offers another version of the executor, as the upgrade of the scheduler does, and asks for it everywhere.
func (w *World) roll() {
	w.version++
	w.note("executor version %d is offered", w.version)
	w.user.cluster.ExecutorUpgrade = &padisv1.ExecutorUpgrade{MaxParallel: int32(1 + w.rng.IntN(2)), RestartProcesses: w.rng.IntN(2) == 0}
	if w.sched.alive {
		w.sched.stop("to be upgraded")
	}
}

// artifact is the checksum of the executor that is offered.
func (w *World) artifact() string {
	s := strconv.Itoa(w.version)
	return "abcdef"[w.version%6:w.version%6+1] + s
}
