package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// upgrading is the replacement of one executor: it is told to leave its containers to the next one, which Mesos starts
// with the first adoption.
type upgrading struct {
	since time.Time
	// executor is the one that was told to leave.
	executor string
	// ready are the instances that were ready when it began, with their containers.
	ready map[record.Slot]string
}

// leavePatience is how long an executor may take to leave before the status says so.
const leavePatience = 2 * time.Minute

// upgrade replaces outdated executors, a few at a time. The next one is told to leave when all instances of the last one
// are what they were before.
func (c *Core) upgrade(now time.Time) {
	for _, id := range slices.Sorted(maps.Keys(c.upgrading)) {
		if a := c.agents[id]; a == nil || !c.busy(a) {
			delete(c.upgrading, id)
		}
	}
	up := c.cluster.GetExecutorUpgrade()
	if up == nil || up.GetPaused() || !c.link.connected || c.otherTarget(up) || len(c.turn.agents)+len(c.turn.slots)+len(c.turn.heed) == 0 {
		return
	}
	busy, next := 0, []*agent(nil)
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		switch a := c.agents[id]; {
		case c.busy(a):
			busy++
			if a.executor.GetLeaving() && c.upgrading[id] == nil {
				c.upgrading[id] = c.begin(now, a) // An earlier scheduler began it.
			}
		case c.outdated(a) && c.unfit(a, up) == "":
			next = append(next, a)
		}
	}
	slices.SortStableFunc(next, func(a, b *agent) int { return cmp.Compare(a.hostname, b.hostname) })
	for _, a := range next[:min(len(next), max(0, int(max(1, up.GetMaxParallel()))-busy))] {
		n := proto.Clone(a.executor).(*padisv1.ExecutorRecord)
		n.Leaving = true
		a.executor = n
		c.turn.puts[record.ExecutorKey(a.id)] = n
		c.turn.agents[a.id], c.turn.heed[a.id], c.turn.place = true, true, true
		c.upgrading[a.id] = c.begin(now, a)
	}
}

// begin notes who is ready.
func (c *Core) begin(now time.Time, a *agent) *upgrading {
	u := &upgrading{since: now, executor: a.executor.GetExecutorId(), ready: map[record.Slot]string{}}
	for key := range a.slots {
		if r := c.slots[key].rec; r.GetAgentId() == a.id && r.GetReady() && r.GetContainer() != "" {
			u.ready[key] = r.GetContainer()
		}
	}
	return u
}

// otherTarget tells whether another executor is asked for than this scheduler offers.
func (c *Core) otherTarget(up *padisv1.ExecutorUpgrade) bool {
	return up.GetArtifactSha256() != "" && up.GetArtifactSha256() != c.cfg.Artifact.SHA256
}

// outdated tells whether an executor of another version runs there.
func (c *Core) outdated(a *agent) bool {
	return a.executor != nil && a.executor.GetArtifactSha256() != c.cfg.Artifact.SHA256 && c.runsExecutor(a)
}

// busy tells whether the agent is between two executors: the old one was told to leave, containers wait for the next one,
// or one that was ready is not ready again.
func (c *Core) busy(a *agent) bool {
	if a.executor.GetLeaving() && c.runsExecutor(a) {
		return true
	}
	u := c.upgrading[a.id]
	for key := range a.slots {
		r := c.slots[key].rec
		if r.GetAgentId() != a.id {
			continue
		}
		if u != nil && r.GetExecutorId() == u.executor {
			return true // Its end was not told yet.
		}
		switch r.GetPhase() {
		case padisv1.Phase_ADOPTING:
			return true
		case padisv1.Phase_STAGING, padisv1.Phase_STARTING:
			if instance.Adopted(r) {
				return true
			}
		case padisv1.Phase_RUNNING:
			if u != nil && u.ready[key] == r.GetContainer() && r.GetContainer() != "" && !r.GetReady() {
				return true
			}
		}
	}
	return false
}

// unfit says why an outdated executor is left alone; empty if it is not.
func (c *Core) unfit(a *agent, up *padisv1.ExecutorUpgrade) string {
	if !a.present {
		return "its agent does not answer"
	}
	if c.staged(a) {
		// Lost on its way, it would be waited for, with nobody there who looks after the containers.
		return "a launch is on its way there"
	}
	processes := 0
	for key := range a.slots {
		if r := c.slots[key].rec; r.GetAgentId() == a.id && instance.HasTask(r.GetPhase()) && r.GetContainer() == "" {
			processes++
		}
	}
	if processes > 0 && !up.GetRestartProcesses() {
		return fmt.Sprintf("it runs %d plain processes, which would end with it; set restartProcesses, or move them away", processes)
	}
	return ""
}

// Upgrade is how far the replacement of executors is.
type Upgrade struct {
	Target         string
	Total, Updated int
	// Upgrading are hosts; Skipped says, by host, why an outdated executor stays.
	Upgrading []string
	Skipped   map[string]string
	Message   string
}

// Upgrade tells how far the replacement of executors is; nil if none is asked for.
func (c *Core) Upgrade() *Upgrade {
	up := c.cluster.GetExecutorUpgrade()
	if up == nil {
		return nil
	}
	out := &Upgrade{Target: c.cfg.Artifact.SHA256, Skipped: map[string]string{}}
	switch {
	case c.otherTarget(up):
		out.Message = fmt.Sprintf("executor %.12s is wanted, and this scheduler offers %.12s; start the scheduler of that version", up.GetArtifactSha256(), c.cfg.Artifact.SHA256)
	case up.GetPaused():
		out.Message = "is paused"
	case !c.link.connected:
		out.Message = "waits for the Mesos master"
	}
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		busy := c.busy(a)
		if !busy && (a.executor == nil || !c.runsExecutor(a)) {
			continue
		}
		out.Total++
		switch {
		case busy:
			out.Upgrading = append(out.Upgrading, a.hostname)
			if u := c.upgrading[id]; u != nil && a.executor.GetLeaving() && c.now.Sub(u.since) >= leavePatience {
				out.Skipped[a.hostname] = fmt.Sprintf("its executor was told to leave %s ago and has not ended; look at its log, or kill it: its containers go on", c.now.Sub(u.since).Round(time.Second))
			}
		case !c.outdated(a):
			out.Updated++
		default:
			if why := c.unfit(a, up); why != "" {
				out.Skipped[a.hostname] = why
			}
		}
	}
	return out
}
