package core

import (
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// replaced lets web-0, which runs on a1, become unreachable, and launches it on a2, where it waits because its address is
// answered. It returns both tasks.
func (b *bench) replaced() (old, next string) {
	b.t.Helper()
	old = b.rec("web", 0).GetTaskId()
	b.mesos(status(old, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	b.mesos(mesos.Failure{AgentID: "a1"})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a2", 1000, 512)}})
	next = b.rec("web", 0).GetTaskId()
	up := status(next, "a2", mesos.TaskStarting, "SOURCE_EXECUTOR")
	up.Status.Data, _ = padisv1.Encode(&padisv1.InstanceReport{Reason: padisv1.ReasonAddressAnswered, Message: "10.0.0.2 is in use"})
	b.mesos(up)
	if r := b.rec("web", 0); r.GetAgentId() != "a2" || r.GetReason() != padisv1.ReasonAddressAnswered || r.GetRestarts() != 1 {
		b.t.Fatalf("%v", r)
	}
	return old, next
}

// back is the word of the master that a task is known again.
func back(id string, state mesos.TaskState) mesos.Update {
	healthy := true
	up := status(id, "a1", state, "SOURCE_MASTER")
	up.Status.Reason, up.Status.Healthy = "REASON_AGENT_REREGISTERED", &healthy
	return up
}

// An agent returns while the replacement of its instance waits for the address: the old one goes on, the other is killed.
func TestRunningTasksAreTakenBack(t *testing.T) {
	for _, image := range []string{"", "web:1"} {
		b := newBench(t, testConfig())
		b.containers(1)
		if image == "" {
			b = newBench(t, testConfig())
			b.on(testCluster(), testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"}))
		}
		before := b.rec("web", 0)
		b.now = b.now.Add(time.Minute)
		old, next := b.replaced()
		eff := b.mesos(back(old, mesos.TaskRunning))
		if k := callsOf[mesos.Kill](eff); len(k) != 1 || k[0].TaskID != next || k[0].AgentID != "a2" {
			t.Fatalf("%v", eff.Calls)
		}
		r := b.rec("web", 0)
		if r.GetPhase() != padisv1.Phase_RUNNING || !r.GetReady() || r.GetTaskId() != old || r.GetAgentId() != "a1" || r.GetHostname() != "host-a1" || r.GetContainer() != before.GetContainer() ||
			r.GetRestarts() != 0 || r.GetRunningMs() != before.GetRunningMs() || r.GetExecutorId() != before.GetExecutorId() || r.GetAttempt() != 2 || !slices.Equal(instance.Superseded(r), []string{next}) {
			t.Fatalf("%v", r)
		}
		if e := r.GetTerminations(); len(e) != 1 || e[0].GetTaskId() != next || !strings.Contains(e[0].GetMessage(), old) {
			t.Errorf("%v", e)
		}
		// It ends: nothing is launched before the end of the other is known.
		b.mesos(status(old, "a1", mesos.TaskFailed, "SOURCE_EXECUTOR"))
		b.wait(time.Minute)
		offers := mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 1000, 512)}}
		if got := launchOf(t, b.mesos(offers)); len(got) != 0 || b.rec("web", 0).GetReason() != padisv1.ReasonAwaitingRelease {
			t.Fatalf("%v: %v", got, b.rec("web", 0))
		}
		b.mesos(status(next, "a2", mesos.TaskKilled, "SOURCE_EXECUTOR"))
		offers.Offers[0].ID = "o4"
		if got := launchOf(t, b.mesos(offers)); len(got) != 1 || got[0].GetAttempt() != 3 || instance.Haunted(b.rec("web", 0)) {
			t.Errorf("%v: %v", got, b.rec("web", 0))
		}
	}
}

// The old one is killed if the other has run, if it is not wanted so any more, or if it was launched with a lease.
func TestWhatIsNotTakenBack(t *testing.T) {
	for name, deed := range map[string]func(b *bench, app *padisv1.WantedApp, next string){
		"the other ran": func(b *bench, _ *padisv1.WantedApp, next string) {
			b.mesos(status(next, "a2", mesos.TaskRunning, "SOURCE_EXECUTOR"))
		},
		"the other ran and ended": func(b *bench, _ *padisv1.WantedApp, next string) {
			b.mesos(status(next, "a2", mesos.TaskRunning, "SOURCE_EXECUTOR"))
			b.mesos(status(next, "a2", mesos.TaskFailed, "SOURCE_EXECUTOR"))
		},
		"another revision": func(b *bench, app *padisv1.WantedApp, _ string) {
			app.Revisions = append(app.Revisions, testApp("web", 1, "r2", &padisv1.NetworkWish{Pool: "pool"}).GetRevisions()...)
			app.Slots[0].Revision = "r2"
			b.step(Want{app})
		},
		"not wanted": func(b *bench, app *padisv1.WantedApp, _ string) {
			app.Slots = nil
			b.step(Want{app})
		},
		"lease": nil,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, testConfig())
			app := testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})
			if deed == nil {
				app.Unreachable = leaseOf(10 * time.Second)
			}
			b.on(testCluster(), app)
			b.now = b.now.Add(time.Minute)
			old, next := b.replaced()
			if deed != nil {
				deed(b, app, next)
			}
			eff := b.mesos(back(old, mesos.TaskRunning))
			if k := callsOf[mesos.Kill](eff); len(k) != 1 || k[0].TaskID != old {
				t.Errorf("%v", eff.Calls)
			}
		})
	}
}

// An agent returns whose executor has ended meanwhile: a container that goes on is adopted.
func TestContainersAreTakenBack(t *testing.T) {
	setup := func(t *testing.T, answered bool) (b *bench, old, next string) {
		b = newBench(t, testConfig())
		b.containers(1)
		b.now = b.now.Add(time.Minute)
		old, next = b.replaced()
		if !answered { // The executor prepares it, and knows nothing yet.
			up := status(next, "a2", mesos.TaskStarting, "SOURCE_EXECUTOR")
			up.Status.Data, _ = padisv1.Encode(&padisv1.InstanceReport{Reason: padisv1.ReasonPulling, Message: "pulls web:1"})
			b.mesos(up)
		}
		return b, old, next
	}
	lost := func(old string) mesos.Update {
		up := status(old, "a1", mesos.TaskFailed, "SOURCE_AGENT")
		up.Status.Reason = "REASON_EXECUTOR_TERMINATED"
		return up
	}
	taken := func(t *testing.T, b *bench, eff Effects, old, next string) {
		t.Helper()
		r := b.rec("web", 0)
		if k := callsOf[mesos.Kill](eff); len(k) != 1 || k[0].TaskID != next || r.GetPhase() != padisv1.Phase_ADOPTING || r.GetContainer() != old || r.GetAgentId() != "a1" || r.GetRestarts() != 0 {
			t.Fatalf("%v: %v", eff.Calls, r)
		}
		got := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 1000, 512)}}))
		if len(got) != 1 || !got[0].GetAdopt() || got[0].GetContainer() != old || got[0].GetAttempt() != 3 {
			t.Fatalf("%v", got)
		}
		up := b.ready(0)
		b.mesos(up)
		b.mesos(status(next, "a2", mesos.TaskKilled, "SOURCE_EXECUTOR"))
		if r := b.rec("web", 0); !r.GetReady() || r.GetAgentId() != "a1" || instance.Haunted(r) {
			t.Errorf("%v", r)
		}
	}
	t.Run("its address is answered", func(t *testing.T) {
		b, old, next := setup(t, true)
		taken(t, b, b.mesos(lost(old)), old, next)
	})
	t.Run("the next executor lists it", func(t *testing.T) {
		b, old, next := setup(t, false)
		if eff := b.mesos(lost(old)); len(callsOf[mesos.Kill](eff)) != 0 || b.rec("web", 0).GetAgentId() != "a2" {
			t.Fatalf("%v", eff.Calls)
		}
		taken(t, b, b.says(&padisv1.FromExecutor{Orphans: []string{old}}), old, next)
	})
	t.Run("the next executor does not list it", func(t *testing.T) {
		b, old, _ := setup(t, true)
		b.says(&padisv1.FromExecutor{})
		gone := status(old, "a1", mesos.TaskGone, "SOURCE_MASTER")
		gone.Status.Reason = "REASON_RECONCILIATION"
		wish := told(t, b.mesos(gone))
		if !slices.Equal(wish.GetDiscard(), []string{old}) || b.rec("web", 0).GetAgentId() != "a2" {
			t.Fatalf("%v: %v", wish, b.rec("web", 0))
		}
	})
	t.Run("nothing is known and the other does not come up", func(t *testing.T) {
		b, old, next := setup(t, false)
		b.mesos(lost(old))
		offer := mesos.Offers{Offers: []mesos.Offer{testOffer("o9", "a1", 1000, 512)}}
		if got := launchOf(t, b.mesos(offer)); len(got) != 0 {
			t.Fatalf("%v", got)
		}
		taken(t, b, b.wait(patience), old, next)
	})
	t.Run("the other runs", func(t *testing.T) {
		b, old, next := setup(t, false)
		b.mesos(lost(old))
		b.mesos(status(next, "a2", mesos.TaskRunning, "SOURCE_EXECUTOR"))
		got := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 1000, 512)}}))
		if len(got) != 1 || !got[0].GetAdopt() || got[0].GetContainer() != old || b.rec("web", 0).GetAgentId() != "a2" {
			t.Errorf("it is not taken over for its end: %v, %v", got, b.rec("web", 0))
		}
	})
}

// That an offer does not list the executor means that it has ended, unless the offer may be older than the last launch.
func TestOffersTellOfTheEndOfExecutors(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(2)
	a := b.core.agents["a1"]
	id := a.executor.GetExecutorId()
	b.says(&padisv1.FromExecutor{})
	for i := range int32(2) {
		b.mesos(status(b.rec("web", i).GetTaskId(), "a1", mesos.TaskUnknown, "SOURCE_MASTER"))
	}
	if b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 100, 64, id)}}); !b.core.runsExecutor(a) || !b.core.listens(a) {
		t.Fatal("an offer lists it")
	}
	b.mesos(mesos.Rescind{OfferID: "o2"})
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 100, 64)}})
	if b.core.runsExecutor(a) || b.core.listens(a) {
		t.Error("it is believed to run")
	}
	if asks := callsOf[mesos.Reconcile](eff); len(asks) != 1 || len(asks[0].Tasks) != 2 {
		t.Errorf("its tasks are not asked for: %v", eff.Calls)
	}
	if b.says(&padisv1.FromExecutor{}); !b.core.runsExecutor(a) || !b.core.listens(a) {
		t.Error("it speaks")
	}
	// A launch is on its way: the offer may be older.
	b.mesos(status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskGone, "SOURCE_MASTER"))
	b.mesos(status(b.rec("web", 1).GetTaskId(), "a1", mesos.TaskGone, "SOURCE_MASTER"))
	if got := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o4", "a1", 4000, 4096)}})); len(got) != 2 {
		t.Fatalf("%v", got)
	}
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o5", "a1", 100, 64)}})
	if !b.core.runsExecutor(a) || a.vacant {
		t.Error("an offer that may be older than the launch was believed")
	}
}

// An agent says that the executor of a task has ended: what it said is void.
func TestAgentsTellOfTheEndOfExecutors(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	a := b.core.agents["a1"]
	b.says(&padisv1.FromExecutor{})
	up := status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskGone, "SOURCE_AGENT")
	up.Status.Reason = "REASON_EXECUTOR_REREGISTRATION_TIMEOUT"
	if b.mesos(up); b.core.listens(a) || b.rec("web", 0).GetPhase() != padisv1.Phase_ADOPTING {
		t.Errorf("%v", b.rec("web", 0))
	}
	// Its successor speaks, and the agent repeats itself.
	b.says(&padisv1.FromExecutor{})
	if b.mesos(up); !b.core.listens(a) {
		t.Error("what was known already was believed of the next executor")
	}
}

// A task that was sent to adopt a container is not killed on the way, though its slot was given to another agent.
func TestAdoptionsAreTakenBack(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	container := b.rec("web", 0).GetContainer()
	b.orphaned(1)
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512)}})
	b.now = b.now.Add(5 * time.Minute)
	old := b.rec("web", 0).GetTaskId()
	b.mesos(status(old, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a2", 1000, 512)}})
	next := b.rec("web", 0).GetTaskId()
	if old == container || b.rec("web", 0).GetAgentId() != "a2" {
		t.Fatalf("%v", b.rec("web", 0))
	}
	for _, state := range []mesos.TaskState{mesos.TaskStaging, mesos.TaskStarting} {
		if eff := b.mesos(back(old, state)); len(callsOf[mesos.Kill](eff)) != 0 || b.rec("web", 0).GetTaskId() != next {
			t.Fatalf("%s: %v", state, eff.Calls)
		}
	}
	b.mesos(back(old, mesos.TaskRunning))
	if r := b.rec("web", 0); r.GetPhase() != padisv1.Phase_RUNNING || r.GetTaskId() != old || r.GetContainer() != container || !r.GetReady() {
		t.Errorf("%v", r)
	}
}

// No executor is told to leave while a launch for it may be lost on its way: nobody would look after its containers then.
func TestUpgradesWaitForLaunches(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	b.step(Want{imageApp(2, "r1", "web:1")})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512)}})
	cfg := testConfig()
	cfg.Artifact.SHA256 = strings.Repeat("cd", 32)
	b.restart(cfg)
	cluster := testCluster()
	cluster.ExecutorUpgrade = &padisv1.ExecutorUpgrade{MaxParallel: 1}
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: "a1", Hostname: "host-a1", Active: true}}})
	b.step(Declare{cluster})
	if up := b.core.Upgrade(); b.core.agents["a1"].executor.GetLeaving() || !strings.Contains(up.Skipped["host-a1"], "launch") {
		t.Fatalf("%+v", up)
	}
	b.mesos(b.ready(1))
	if !b.core.agents["a1"].executor.GetLeaving() {
		t.Error("it is not told to leave")
	}
}
