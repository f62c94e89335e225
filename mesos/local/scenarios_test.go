package local

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"padis.io/padis/mesos/local/agent"
	"padis.io/padis/mesos/local/master"
)

// scenario says how to replay one recording: the flags the servers had, what the harness did besides calls, and
// which differences are accepted.
type scenario struct {
	name     string
	master   master.Config
	agent    agent.Config
	launches map[string]outcome // by executor id: executors that never came up
	hangsUp  []string           // conns whose stream the scheduler itself closed
	notTicks []float64          // times of OFFERS that were provoked by something else than a tick
	tick     float64            // time of a tick, where no OFFERS shows one plainly
	steps    []step
	allowed  []difference
	// withStreamID are conns whose first SUBSCRIBE carried a Mesos-Stream-Id, which the recording does not show.
	withStreamID []string
	retries      bool    // compare repeated deliveries too
	window       float64 // instead of the usual ones
	late         float64
}

type outcome struct {
	status  int
	failure string
}

// step is what the harness did at a note, or at a time.
type step struct {
	note string
	at   float64
	do   func(*replay)
}

func killExecutor(name string) func(*replay) {
	return func(r *replay) {
		r.mu.Lock()
		e := r.byName[name]
		r.mu.Unlock()
		r.exit(e, 9)
	}
}

func killAgent(n int) func(*replay) { return func(r *replay) { r.cluster.KillAgent(n) } }

func restartAgent(n int) func(*replay) {
	return func(r *replay) {
		if err := r.cluster.RestartAgent(n); err != nil {
			r.t.Error(err)
		}
	}
}

func freeze(n int, closed bool) func(*replay) {
	return func(r *replay) { r.network.gate(r.agents[n]).set(closed) }
}

// both does several things.
func both(steps ...func(*replay)) func(*replay) {
	return func(r *replay) {
		for _, s := range steps {
			s(r)
		}
	}
}

// soon does a thing after a moment, when the next call of the recording is under way.
func soon(do func(*replay)) func(*replay) {
	return func(r *replay) {
		go func() {
			<-time.After(3 * time.Millisecond)
			do(r)
		}()
	}
}

// leaveAgent is SIGUSR1.
func leaveAgent(r *replay) {
	go func() {
		if err := r.cluster.LeaveAgent(0); err != nil {
			r.t.Error(err)
		}
	}()
}

// changeAttributes starts the agent with others than its work directory was made with.
func changeAttributes(r *replay) {
	r.cluster.KillAgent(0)
	err := r.cluster.RestartAgentWith(0, func(c *agent.Config) { c.Attributes = "rack:other" })
	if err == nil {
		err = r.cluster.WaitAgent(0)
	}
	if err == nil {
		r.t.Error("an agent with changed attributes started")
	}
}

// restartMaster starts the master under the id that the recording shows from then on. forget loses its registry.
func restartMaster(forget bool) func(*replay) {
	return func(r *replay) {
		for _, l := range r.lines {
			for _, o := range list(l.Body, "offers", "offers") {
				if id, _, _ := strings.Cut(str(o, "id", "value"), "-O"); id != r.masterID {
					r.cluster.cfg.Master.ID = id
				}
			}
		}
		if forget {
			if err := os.RemoveAll(filepath.Join(r.cluster.cfg.Dir, "master")); err != nil {
				r.t.Error(err)
			}
		}
		if err := r.cluster.RestartMaster(); err != nil {
			r.t.Error(err)
		}
	}
}

var realDefaults = master.Config{AgentPingTimeout: 15 * time.Second, MaxAgentPingTimeouts: 5}

var scenarios = []scenario{
	{name: "01-subscribe-offers", master: realDefaults},
	{name: "02-launch-custom-executor", master: realDefaults},
	{
		name: "03-message", master: realDefaults, hangsUp: []string{"sched1"},
		steps: []step{{note: "executor is killed (-9)", do: killExecutor("exec1")}},
	},
	{name: "04-kill", master: realDefaults},
	{name: "05-decline-filters", master: realDefaults},
	{name: "05b-offer-timeout-suppressed-roles", master: master.Config{AgentPingTimeout: 15 * time.Second, OfferTimeout: 3 * time.Second}},
	{
		name: "06-executor-crash", master: realDefaults, tick: 8.414,
		launches: map[string]outcome{
			"exec-6": {32512, ""},
			"exec-7": {256, "Failed to fetch all URIs for container 'CONTAINER': exited with status 1"},
		},
		steps: []step{{note: "kill -9 of the executor process", do: killExecutor("exec1")}},
	},
	{name: "06b-executor-never-subscribes", master: realDefaults, agent: agent.Config{ExecutorRegistrationTimeout: 4 * time.Second}},
	{
		name: "10-failover", master: realDefaults, hangsUp: []string{"sched4", "sched6"}, withStreamID: []string{"sched2c"},
		allowed: []difference{{"sched6", "403", "", "the call crossed the end of its own connection; here it comes first"}},
	},
	{
		name: "11-teardown", master: realDefaults,
		allowed: []difference{{"sched2", "202", "", "the ACKNOWLEDGE crossed the operator's TEARDOWN; here TEARDOWN is done sooner"}},
	},
	{name: "12-unacked-updates", master: realDefaults, retries: true},
	{
		name: "07-agent-loss", master: master.Config{AgentPingTimeout: time.Second, MaxAgentPingTimeouts: 2},
		allowed: []difference{
			{"exec", "503", "", "this agent recovers before it listens; there is no time in which it answers 503"},
			{"exec", "SHUTDOWN", "time", "this agent registers as soon as its executors are back, Mesos waits out the 2 s"},
			{"exec", "SHUTDOWN", "ours", "so SHUTDOWN has been said when the recorded second SUBSCRIBE comes, and is said again"},
			{"exec", "SUBSCRIBED", "ours", "the first SUBSCRIBE, which Mesos answered 503"},
			{"exec", "SUBSCRIBED", "recorded", "the second SUBSCRIBE finds the executor shutting down"},
		},
		steps: []step{
			{note: "kill -STOP of the agent", do: freeze(0, true)},
			{note: "kill -CONT of the agent", do: freeze(0, false)},
			{note: "part 2: kill -9 of the agent process", do: killAgent(0)},
			{note: "agent started again with the same work_dir after being marked gone", do: restartAgent(0)},
		},
	},
	{
		// Mesos waits out the 2 s for executors and then up to 1 s more before it registers; this agent registers as
		// soon as it may, so all that follows comes up to 2.6 s sooner.
		name: "08-agent-restart", master: realDefaults, window: 2, late: 3,
		allowed: []difference{
			{"sched2", "OFFERS", "", "the sooner registration meets other ticks, and finds other tasks running"},
			{"sched2", "RESCIND", "", "as many as there were offers"},
			{"sched1", "FAILURE before updates", "", "of an executor that died while there was no agent there are updates but no FAILURE, in Mesos too"},
		},
		steps: []step{
			{note: "SIGTERM to the agent", do: killAgent(0)},
			{note: "agent started again, same work_dir", do: restartAgent(0)},
			{note: "second round: kill -9 of the agent", do: killAgent(0)},
			{at: 18.1, do: restartAgent(0)},
			{note: "third round: agent stopped", do: killAgent(0)},
			{at: 27, do: killExecutor("exec1")},
			{at: 28, do: restartAgent(0)},
			{note: "fourth: agent stopped", do: changeAttributes},
		},
	},
	{
		name: "08b-agent-restart-forgetful-executor", master: realDefaults, late: 3, // as in 08
		steps: []step{
			{note: "agent stopped (SIGTERM)", do: killAgent(0)},
			{at: 2.4, do: restartAgent(0)},
			{note: "SIGUSR1 to the agent", do: leaveAgent},
			{note: "agent started again with the same work_dir", do: restartAgent(0)},
		},
	},
	{
		name: "09-master-restart", master: master.Config{AgentPingTimeout: time.Second, MaxAgentPingTimeouts: 5},
		allowed: []difference{
			{"sched1", "503", "", "this master reads its registry within a millisecond; REVIVE is answered as after the recovery, SUBSCRIBE succeeds"},
			{"sched1", "SUBSCRIBED", "ours", "so the recorded second SUBSCRIBE is a failover"},
			{"sched1", "Framework failed over", "ours", "so the recorded second SUBSCRIBE is a failover"},
		},
		steps: []step{
			{note: "kill -9 of the master", do: func(r *replay) { r.cluster.KillMaster() }},
			{note: "the other agent (no tasks", do: both(killAgent(0), freeze(1, true), restartMaster(false))},
			{at: 7.2, do: freeze(1, false)},
		},
	},
	{
		name: "09b-master-restart-registry-in-memory", master: master.Config{AgentPingTimeout: time.Second, MaxAgentPingTimeouts: 5},
		steps: []step{
			{note: "kill -9 of the master", do: func(r *replay) { r.cluster.KillMaster() }},
			{note: "the other agent (no tasks", do: both(killAgent(1), freeze(0, true), restartMaster(true))},
			{at: 7.2, do: freeze(0, false)},
		},
	},
	{
		name: "13-offer-rescind", master: realDefaults,
		steps: []step{
			{note: "agent 1 gets kill -9", do: killAgent(1)},
			{note: "agent 1 is started again", do: restartAgent(1)},
			{note: "race: kill -9 of agent 1", do: soon(killAgent(1))},
			{at: 6, do: restartAgent(1)},
		},
	},
	{name: "18-errors", master: realDefaults},
}
