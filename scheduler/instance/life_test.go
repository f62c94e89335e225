package instance

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		state          mesos.TaskState
		source, reason string
		cause          Cause
		certain        bool
	}{
		{mesos.TaskFinished, "SOURCE_EXECUTOR", "", Exited, true},
		{mesos.TaskFailed, "SOURCE_EXECUTOR", "", Exited, true},
		{mesos.TaskFailed, "SOURCE_AGENT", "REASON_EXECUTOR_TERMINATED", Collapsed, false},
		{mesos.TaskFailed, "SOURCE_AGENT", "REASON_CONTAINER_LIMITATION_MEMORY", Collapsed, false},
		{mesos.TaskKilled, "SOURCE_EXECUTOR", "", Killed, true},
		{mesos.TaskKilled, "SOURCE_AGENT", "REASON_TASK_KILLED_DURING_LAUNCH", Killed, true},
		{mesos.TaskKilled, "SOURCE_MASTER", "REASON_RECONCILIATION", Killed, false},
		{mesos.TaskError, "SOURCE_MASTER", "REASON_TASK_INVALID", Rejected, true},
		{mesos.TaskDropped, "SOURCE_MASTER", "REASON_INVALID_OFFERS", Dropped, true},
		{mesos.TaskDropped, "SOURCE_AGENT", "REASON_AGENT_RESTARTED", Dropped, false},
		{mesos.TaskGone, "SOURCE_AGENT", "REASON_EXECUTOR_REREGISTRATION_TIMEOUT", Collapsed, false},
		{mesos.TaskGoneByOp, "SOURCE_MASTER", "", Collapsed, true},
		{mesos.TaskLost, "SOURCE_MASTER", "REASON_AGENT_REMOVED", Dropped, false},
	} {
		e := Verdict(mesos.Status{State: c.state, Source: c.source, Reason: c.reason})
		if e.Cause != c.cause || e.Certain != c.certain || e.Reason == "" || e.Message == "" {
			t.Errorf("%s by %s: %s certain %v (%s: %s), want %s certain %v", c.state, c.source, e.Cause, e.Certain, e.Reason, e.Message, c.cause, c.certain)
		}
	}
}

// Failures in a row wait longer and longer, up to the maximum; a stable run starts over.
func TestBackOff(t *testing.T) {
	policy := &padisv1.RestartPolicy{InitialDelayMs: 1000, MaxDelayMs: 8000, StableAfterMs: 60000}
	r := in(padisv1.Phase_RUNNING)
	at := now
	for i, want := range []time.Duration{1, 2, 4, 8, 8} {
		n, err := End(r, Ending{Cause: Exited, Certain: true, Reason: "Exited"}, true, policy, at)
		if err != nil {
			t.Fatal(err)
		}
		got := time.Duration(n.GetNotBeforeMs()-at.UnixMilli()) * time.Millisecond
		if want *= time.Second; got < want*9/10 || got > want*11/10 {
			t.Errorf("failure %d waits %s, want %s", i+1, got, want)
		}
		if n.GetRestarts() != int64(i+1) || n.GetFailures() != int32(i+1) {
			t.Errorf("failure %d: %d restarts, %d failures", i+1, n.GetRestarts(), n.GetFailures())
		}
		at = at.Add(got)
		r = must(t)(Wake(n, false))
		r = must(t)(Place(r, Placement{Revision: "r1", AgentID: "a1", Hostname: "host1", ExecutorID: "e1"}, at))
		ready := true
		r = must(t)(Run(r, nil, &ready, at))
	}
	n := must(t)(End(r, Ending{Cause: Exited}, true, policy, at.Add(time.Minute)))
	if n.GetFailures() != 1 {
		t.Errorf("after a stable run: %d failures", n.GetFailures())
	}
}

func must(t *testing.T) func(*padisv1.InstanceRecord, error) *padisv1.InstanceRecord {
	return func(r *padisv1.InstanceRecord, err error) *padisv1.InstanceRecord {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// A delay is never negative, never more than a tenth over the maximum, and the same for the same history.
func TestDelayBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &padisv1.RestartPolicy{InitialDelayMs: rapid.Int64Range(0, 1e6).Draw(t, "initial"), MaxDelayMs: rapid.Int64Range(0, 1e7).Draw(t, "max")}
		cause := Cause(rapid.IntRange(0, int(Rejected)).Draw(t, "cause"))
		failures := rapid.Int32Range(1, 1<<30).Draw(t, "failures")
		slot := record.Slot{AppUID: "u", Index: rapid.Int32Range(0, 100).Draw(t, "slot")}
		d := Delay(cause, failures, p, slot, 7)
		most := millis(p.GetMaxDelayMs(), defaultMaxDelay)
		if d <= 0 || d > most*11/10 {
			t.Fatalf("%s with a maximum of %s", d, most)
		}
		if d != Delay(cause, failures, p, slot, 7) {
			t.Fatal("the same history waits differently")
		}
	})
}

// What a replaced instance leaves behind: a ghost, a restart, a termination that says why.
func TestReplaceUnreachable(t *testing.T) {
	r := in(padisv1.Phase_UNREACHABLE)
	old := r.GetTaskId()
	n := must(t)(Place(r, Placement{Revision: "r1", AgentID: "a2", Hostname: "host2", ExecutorID: "e1"}, now))
	if n.GetHauntedAgents()[0] != "a1" || n.GetHauntedTasks()[0] != old || n.GetTaskId() == old || n.GetRestarts() != 1 {
		t.Errorf("%v", n)
	}
	if n = Release(n, old); Haunted(n) {
		t.Error("still haunted")
	}
	if Release(n, old) != n {
		t.Error("releasing nothing made a new record")
	}
}

// An executor's death alone changes nothing of a container's run: the next task takes it over with its address, readiness
// and times, on the same agent, and no restart is counted. Failing adoptions are tried more and more slowly.
func TestAdoption(t *testing.T) {
	ready := true
	r := must(t)(Place(New(app, 3, 4, now), Placement{Revision: "r1", AgentID: "a1", Hostname: "host1", ExecutorID: "e1", Container: true}, now))
	r = must(t)(Run(r, &padisv1.InstanceReport{Ready: true, ImageDigest: "sha256:1"}, &ready, now))
	container := r.GetTaskId()
	n := must(t)(Orphan(r, "Executor terminated", nil, now))
	if n.GetContainer() != container || !n.GetReady() || n.GetAgentId() != "a1" || n.GetRunningMs() != r.GetRunningMs() || n.GetNotBeforeMs() != 0 || !strings.Contains(n.GetMessage(), "its container goes on") {
		t.Fatalf("%v", n)
	}
	n = must(t)(Adopt(n, "e2", now))
	if n.GetContainer() != container || n.GetTaskId() == container || !n.GetReady() || n.GetReadyMs() != r.GetReadyMs() || n.GetRestarts() != 0 || !Adopted(n) {
		t.Fatalf("%v", n)
	}
	again := must(t)(Orphan(n, "Executor terminated", nil, now))
	if first := again.GetNotBeforeMs() - now.UnixMilli(); first <= 0 || first > 1000 {
		t.Errorf("the second adoption waits %d ms", first)
	}
	n = must(t)(Run(must(t)(Start(n, nil)), nil, nil, now))
	if !n.GetReady() || n.GetImageDigest() != "sha256:1" {
		t.Errorf("%v", n)
	}
	gone := must(t)(End(n, Ending{Cause: Collapsed, Certain: true, Report: &padisv1.InstanceReport{Reason: padisv1.ReasonContainerGone, OomKilled: true}}, true, nil, now))
	if last := gone.GetTerminations()[0]; gone.GetContainer() != "" || Haunted(gone) || last.GetContainer() != container || last.GetRevision() != "r1" || !last.GetOomKilled() || last.GetStartedMs() == 0 {
		t.Errorf("%v", gone)
	}
}

// Whose container may go on after which end.
func TestOutlives(t *testing.T) {
	uncertain, certain, never := Ending{}, Ending{Certain: true}, Ending{Certain: true, Never: true}
	unable := Ending{Certain: true, Report: &padisv1.InstanceReport{Reason: padisv1.ReasonRuntimeUnavailable}}
	for _, c := range []struct {
		name      string
		phase     padisv1.Phase
		container string
		end       Ending
		want      bool
	}{
		{"a process", padisv1.Phase_RUNNING, "", uncertain, false},
		{"its executor died", padisv1.Phase_RUNNING, "own", uncertain, true},
		{"its executor spoke", padisv1.Phase_RUNNING, "own", certain, false},
		{"nobody had it", padisv1.Phase_STAGING, "own", uncertain, false},
		{"killed before anybody had it", padisv1.Phase_STOPPING, "own", never, false},
		{"an adoption that nobody had", padisv1.Phase_STAGING, "earlier", uncertain, true},
		{"an adoption that was refused", padisv1.Phase_STAGING, "earlier", never, true},
		{"an adoption that found nothing", padisv1.Phase_STARTING, "earlier", certain, false},
		{"an adoption without a runtime", padisv1.Phase_STARTING, "earlier", unable, true},
	} {
		r := in(c.phase)
		r.Container = c.container
		if c.container == "own" {
			r.Container = r.GetTaskId()
		}
		if got := Outlives(r, c.end); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestReadyMemory(t *testing.T) {
	ready, not := true, false
	r := must(t)(Run(in(padisv1.Phase_STARTING), nil, &ready, now))
	r = must(t)(Lose(r, "AgentUnreachable", "m", now))
	if r.GetReady() {
		t.Error("an unreachable instance is not ready")
	}
	if r = must(t)(Run(r, nil, nil, now)); !r.GetReady() {
		t.Error("it came back and nobody said that it is not ready any more")
	}
	if r = must(t)(Run(r, nil, &not, now)); r.GetReady() || r.GetReadyMs() != 0 {
		t.Error("it is not ready and says so")
	}
}

func TestTaskKey(t *testing.T) {
	r := in(padisv1.Phase_RUNNING)
	if got := TaskID(r); got != "shop.web-3.11112222.5" {
		t.Errorf("task id %s", got)
	}
	key, attempt, ok := TaskKey(TaskID(r))
	if !ok || attempt != 5 || key != "shop.web-3.11112222" {
		t.Errorf("%s %d %v", key, attempt, ok)
	}
}

// Whatever a framework of the same role calls its tasks, reading the id does not fail, and ours are read back.
func FuzzTaskKey(f *testing.F) {
	for _, s := range []string{"shop.web-3.11112222.5", "", ".", "a.b.c.-1", "a.b.c.99999999999999999999", "x.y.z.1.2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		key, attempt, ok := TaskKey(id)
		if !ok && (key != "" || attempt != 0) {
			t.Errorf("%q: %q %d", id, key, attempt)
		}
		if ok && len(key) >= len(id) {
			t.Errorf("%q: key %q", id, key)
		}
	})
}
