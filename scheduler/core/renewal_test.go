package core

import (
	"strings"
	"testing"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// leaseOf is a policy by which instances are started elsewhere when their lease is over.
func leaseOf(d time.Duration) *padisv1.UnreachablePolicy {
	return &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_LEASE, LeaseMs: d.Milliseconds()}
}

// asks is a request for renewal of the executor on a1; it returns the serial of the answer, 0 if there is none.
func (b *bench) asks(serial int64) int64 {
	b.t.Helper()
	for _, call := range callsOf[mesos.ToExecutor](b.says(&padisv1.FromExecutor{Renew: &padisv1.Renewal{Serial: serial}})) {
		answer := &padisv1.ToExecutor{}
		if err := padisv1.Decode(call.Data, answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.GetRenewed() != nil {
			return answer.GetRenewed().GetSerial()
		}
	}
	return 0
}

// When an instance that cannot be reached is started elsewhere, by its App's policy.
func TestUnreachablePolicies(t *testing.T) {
	never := &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_NEVER}
	after := &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_AFTER, AfterMs: 90_000}
	for _, c := range []struct {
		name    string
		launch  *padisv1.UnreachablePolicy // when it was launched
		policy  *padisv1.UnreachablePolicy // when it was lost
		state   mesos.TaskState
		running bool
		// wait is the time from the loss to the replacement; negative is never.
		wait    time.Duration
		message string
	}{
		{"default", nil, nil, mesos.TaskUnreachable, true, 0, "it is started elsewhere from "},
		{"default, not known", nil, nil, mesos.TaskUnknown, true, 30 * time.Second, "does not know the task; it is started elsewhere from "},
		{"default, may still start", nil, nil, mesos.TaskUnreachable, false, 2*time.Minute - 10*time.Second, "it is started elsewhere from "},
		{"never", never, never, mesos.TaskUnreachable, true, -1, "because its App says never: bring the agent back"},
		{"never, not known", never, never, mesos.TaskUnknown, true, -1, "because its App says never"},
		{"after", after, after, mesos.TaskUnreachable, true, 90 * time.Second, "it is started elsewhere from "},
		{"after, may still start", after, after, mesos.TaskUnreachable, false, 2*time.Minute - 10*time.Second, "it is started elsewhere from "},
		// The renewal was granted four seconds before.
		{"lease", leaseOf(20 * time.Second), leaseOf(20 * time.Second), mesos.TaskUnreachable, true, 21 * time.Second, "when its lease is certainly over"},
		{"lease, not known", leaseOf(20 * time.Second), leaseOf(20 * time.Second), mesos.TaskUnknown, true, 30 * time.Second, "when its lease is certainly over"},
		{"lease that was longer", leaseOf(time.Minute), leaseOf(20 * time.Second), mesos.TaskUnreachable, true, 65 * time.Second, "when its lease is certainly over"},
		{"lease that it does not have", nil, leaseOf(20 * time.Second), mesos.TaskUnreachable, true, -1, "launched without the lease"},
		{"lease that is not demanded any more", leaseOf(20 * time.Second), nil, mesos.TaskUnreachable, true, 0, "it is started elsewhere from "},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, testConfig())
			app := testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})
			app.Unreachable = c.launch
			b.step(Declare{testCluster()})
			b.mesos(mesos.Subscribed{FrameworkID: "F"})
			b.step(Want{app})
			b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 4000, 4096)}})
			id := b.rec("web", 0).GetTaskId()
			if c.running {
				b.mesos(status(id, "a1", mesos.TaskRunning, "SOURCE_EXECUTOR"))
			}
			b.wait(6 * time.Second)
			if c.launch.GetLeaseMs() > 0 && b.asks(7) != 7 {
				t.Fatal("no renewal")
			}
			changed := testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})
			changed.Unreachable = c.policy
			b.step(Want{changed})
			b.wait(4 * time.Second)
			b.mesos(status(id, "a1", c.state, "SOURCE_MASTER"))
			r := b.rec("web", 0)
			if r.GetPhase() != padisv1.Phase_UNREACHABLE || !strings.Contains(r.GetMessage(), c.message) {
				t.Fatalf("%v", r)
			}
			replaced := func(id string) bool {
				b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer(id, "a2", 4000, 4096)}})
				return b.rec("web", 0).GetAgentId() == "a2"
			}
			if c.wait < 0 {
				if b.wait(24 * time.Hour); replaced("o2") {
					t.Fatal("it was replaced")
				}
				// The policy changes while it is away.
				changed = testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})
				if b.step(Want{changed}); !replaced("o3") {
					t.Errorf("it may be replaced and is not: %v", b.rec("web", 0))
				}
				return
			}
			if c.wait > 0 {
				if b.wait(c.wait - time.Millisecond); replaced("o2") {
					t.Fatal("too early")
				}
				b.wait(time.Millisecond)
			}
			if !replaced("o3") {
				t.Errorf("too late: %v", b.rec("web", 0))
			}
			if r := b.rec("web", 0); instance.Ghosts(r)[0].LeaseMs != c.launch.GetLeaseMs() {
				t.Errorf("%v", r)
			}
		})
	}
}

// A renewal that comes in spite of all puts the replacement off; a replaced instance is not renewed until it is gone.
func TestRenewals(t *testing.T) {
	b := newBench(t, testConfig())
	app := testApp("web", 2, "r1", &padisv1.NetworkWish{Pool: "pool"})
	app.Unreachable = leaseOf(10 * time.Second)
	b.on(testCluster(), app)
	id, other := b.rec("web", 0).GetTaskId(), b.rec("web", 1).GetTaskId()
	eff := b.says(&padisv1.FromExecutor{Renew: &padisv1.Renewal{Serial: 3}})
	if len(callsOf[mesos.ToExecutor](eff)) != 1 || len(eff.Writes) != 0 || b.core.agents["a1"].talk.said != nil {
		t.Fatalf("%v", eff)
	}
	b.mesos(status(id, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	b.wait(13 * time.Second)
	before := b.rec("web", 0).GetMessage()
	if b.asks(4) != 4 || b.rec("web", 0).GetMessage() == before {
		t.Error("the replacement was not put off")
	}
	place := func(offer string) string {
		b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer(offer, "a2", 1000, 512)}})
		return b.rec("web", 0).GetAgentId()
	}
	b.wait(14*time.Second - time.Millisecond)
	if at := place("o2"); at != "a1" {
		t.Fatalf("replaced on %s", at)
	}
	b.wait(time.Millisecond)
	if at := place("o3"); at != "a2" {
		t.Fatalf("on %s: %v", at, b.rec("web", 0))
	}
	if b.asks(5) != 0 {
		t.Error("what was replaced is renewed")
	}
	b.restart(testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: "a1", Hostname: "host-a1", Active: true}}})
	if b.asks(6) != 0 {
		t.Error("what was replaced is renewed by the next scheduler")
	}
	b.mesos(status(id, "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	if b.asks(7) != 7 {
		t.Error("it is gone, and the others are not renewed")
	}
	// Of what was granted before nothing is known: it counts from the subscription.
	b.mesos(status(other, "a1", mesos.TaskRunning, "SOURCE_EXECUTOR"))
	b.restart(testConfig())
	b.now = b.now.Add(time.Hour)
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(status(other, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	b.wait(14*time.Second - time.Millisecond)
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o4", "a3", 1000, 512)}})
	if at := b.rec("web", 1).GetAgentId(); at != "a1" {
		t.Errorf("replaced on %s", at)
	}
	b.wait(time.Millisecond)
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o5", "a3", 1000, 512)}})
	if at := b.rec("web", 1).GetAgentId(); at != "a3" {
		t.Errorf("on %s: %v", at, b.rec("web", 1))
	}
}

// What is said to have never arrived may have arrived after all: with a lease that is waited for, without it is not.
func TestDroppedWithLease(t *testing.T) {
	for _, c := range []struct {
		policy *padisv1.UnreachablePolicy
		want   padisv1.Phase
	}{{nil, padisv1.Phase_BACKOFF}, {leaseOf(time.Minute), padisv1.Phase_UNREACHABLE}} {
		b := newBench(t, testConfig())
		app := testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})
		app.Unreachable = c.policy
		b.on(testCluster(), app)
		up := status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskDropped, "SOURCE_AGENT")
		b.mesos(up)
		if got := b.rec("web", 0).GetPhase(); got != c.want {
			t.Errorf("%v: %s", c.policy, instance.Name(got))
		}
	}
}

// An adoption whose launch was lost with its agent: the container goes on. That is asked for until it is known, before
// anything is started elsewhere.
func TestDroppedAdoption(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	container := b.rec("web", 0).GetContainer()
	b.orphaned(1)
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512)}})
	id := b.rec("web", 0).GetTaskId()
	b.mesos(status(id, "a1", mesos.TaskDropped, "SOURCE_AGENT"))
	if p := b.rec("web", 0).GetPhase(); p != padisv1.Phase_UNREACHABLE {
		t.Fatal(instance.Name(p))
	}
	// The master answers with what it heard last, until that is acknowledged.
	b.mesos(status(id, "a1", mesos.TaskDropped, "SOURCE_MASTER"))
	eff := b.wait(10 * time.Second)
	if r := callsOf[mesos.Reconcile](eff); len(r) != 1 || r[0].Tasks[0].TaskID != id {
		t.Fatalf("%v", eff.Calls)
	}
	b.mesos(status(id, "a1", mesos.TaskGone, "SOURCE_MASTER"))
	if r := b.rec("web", 0); r.GetPhase() != padisv1.Phase_ADOPTING || r.GetContainer() != container {
		t.Errorf("%v", r)
	}
}

// A container that waits for adoption does not serve when its lease is over, and is as ready as before when it is adopted.
func TestLeaseOfAnOrphan(t *testing.T) {
	b := newBench(t, testConfig())
	app := imageApp(1, "r1", "web:1")
	app.Unreachable = leaseOf(20 * time.Second)
	b.on(testCluster(), app)
	b.orphaned(1)
	b.wait(25*time.Second - time.Millisecond)
	if !b.rec("web", 0).GetReady() {
		t.Error("not ready too early")
	}
	b.wait(time.Millisecond)
	if r := b.rec("web", 0); r.GetReady() || r.GetPhase() != padisv1.Phase_ADOPTING {
		t.Errorf("%v", r)
	}
	if eff := b.wait(time.Millisecond); !eff.Next.After(b.now) {
		t.Errorf("due at %v, at once again", eff.Next)
	}
	l := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512)}}))
	if len(l) != 1 || !l[0].GetAdopt() || !l[0].GetWasReady() || l[0].GetLeaseMs() != 20000 {
		t.Errorf("%v", l)
	}
}
