package wire

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/executor"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"
	"pgregory.net/rapid"

	"padis.io/padis/mesos"
)

func genResource(t *rapid.T) mesos.Resource {
	r := mesos.Resource{
		Name:        rapid.SampledFrom([]string{"cpus", "mem", "disk", "gpus"}).Draw(t, "name"),
		AllocatedTo: rapid.SampledFrom([]string{"", "*", "eng"}).Draw(t, "role"),
	}
	if rapid.Bool().Draw(t, "ports") {
		r.Name, r.Ranges = "ports", []mesos.Range{{Begin: 31000, End: 31999}, {Begin: 32001, End: 32001}}
	} else {
		r.Milli = rapid.Int64Range(0, 1<<50).Draw(t, "milli")
	}
	return r
}

func genResources(t *rapid.T) []mesos.Resource {
	return rapid.SliceOfN(rapid.Custom(genResource), 1, 4).Draw(t, "resources")
}

var (
	genID  = rapid.StringMatching(`[a-z0-9.-]{1,12}`)
	genMap = rapid.Custom(func(t *rapid.T) map[string]string {
		m := rapid.MapOfN(genID, rapid.String(), 0, 6).Draw(t, "map")
		if len(m) == 0 {
			return nil
		}
		return m
	})
)

func genExecutor(t *rapid.T) mesos.Executor {
	return mesos.Executor{
		ID: genID.Draw(t, "id"), Name: rapid.String().Draw(t, "name"), Command: rapid.String().Draw(t, "command"),
		Env: genMap.Draw(t, "env"), Resources: genResources(t),
		URIs: []mesos.URI{{
			Value: "http://h/" + genID.Draw(t, "uri"), Executable: rapid.Bool().Draw(t, "x"),
			Extract: rapid.Bool().Draw(t, "extract"), Cache: rapid.Bool().Draw(t, "cache"), OutputFile: rapid.String().Draw(t, "file"),
		}},
		ShutdownGrace: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "grace")),
	}
}

func genTask(t *rapid.T) mesos.Task {
	return mesos.Task{
		ID: genID.Draw(t, "id"), Name: genID.Draw(t, "name"), AgentID: genID.Draw(t, "agent"), Resources: genResources(t),
		Executor: genExecutor(t), Data: rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "data"), Labels: genMap.Draw(t, "labels"),
		KillGrace: time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "grace")),
	}
}

func genStatus(t *rapid.T) mesos.Status {
	s := mesos.Status{
		TaskID:     genID.Draw(t, "task"),
		State:      rapid.SampledFrom([]mesos.TaskState{mesos.TaskRunning, mesos.TaskUnreachable, mesos.TaskGoneByOp, mesos.TaskKilling}).Draw(t, "state"),
		Source:     rapid.SampledFrom([]string{"", "SOURCE_MASTER", "SOURCE_AGENT", "SOURCE_EXECUTOR"}).Draw(t, "source"),
		Reason:     rapid.SampledFrom([]string{"", "REASON_COMMAND_EXECUTOR_FAILED", "REASON_AGENT_DRAINING"}).Draw(t, "reason"),
		Message:    rapid.String().Draw(t, "message"),
		AgentID:    rapid.OneOf(rapid.Just(""), genID).Draw(t, "agent"),
		ExecutorID: rapid.OneOf(rapid.Just(""), genID).Draw(t, "executor"),
		Timestamp:  time.UnixMicro(rapid.Int64Range(1, 4e15).Draw(t, "time")).UTC(),
	}
	if rapid.Bool().Draw(t, "has") {
		healthy := rapid.Bool().Draw(t, "healthy")
		s.Healthy, s.UUID, s.Data = &healthy, []byte("0123456789abcdef"), []byte("x")
	}
	return s
}

// What is sent to an agent or scheduler is what arrives there: nouns survive the way through protobuf and back.
func TestSchedulerEventsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		status := rapid.Int32().Draw(t, "status")
		noun := rapid.SampledFrom([]mesos.Event{
			mesos.Subscribed{FrameworkID: genID.Draw(t, "fid"), Master: "[fd00::1]:5050", Heartbeat: 15 * time.Second},
			mesos.Offers{Offers: []mesos.Offer{{
				ID: genID.Draw(t, "offer"), AgentID: "a", Hostname: "h", URL: "http://[fd00::1]:5051", Role: "*",
				Resources: genResources(t), Attributes: genMap.Draw(t, "attributes"), ExecutorIDs: []string{"e", "f"},
				UnavailableFrom: time.Unix(1800000000, 5).UTC(),
			}, {ID: "o2", AgentID: "b", Hostname: "h", URL: "http://10.0.0.1:5051"}}},
			mesos.InverseOffers{Offers: []mesos.InverseOffer{{ID: "i", AgentID: "a", Start: time.Unix(1800000000, 7).UTC()}}},
			mesos.Rescind{OfferID: "o"},
			mesos.Update{Status: genStatus(t)},
			mesos.FromExecutor{AgentID: "a", ExecutorID: "e", Data: []byte("x")},
			mesos.Failure{AgentID: "a"},
			mesos.Failure{AgentID: "a", ExecutorID: "e", Status: &status},
			mesos.Failed{Message: rapid.String().Draw(t, "error")},
		}).Draw(t, "event")
		w, err := ToEvent(noun, "fw")
		if err != nil {
			t.Fatal(err)
		}
		var got scheduler.Event
		through(t, w, &got)
		if again := Event(&got); !reflect.DeepEqual(again, noun) {
			t.Fatalf("\n got %#v\nwant %#v", again, noun)
		}
	})
}

func TestCallsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grace := time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "grace"))
		refuse := time.Duration(rapid.IntRange(0, 1e6).Draw(t, "refuse")) * time.Second
		ids := rapid.SliceOfN(genID, 1, 4).Draw(t, "offers")
		noun := rapid.SampledFrom([]mesos.Call{
			mesos.Accept{OfferIDs: ids, Tasks: []mesos.Task{genTask(t), genTask(t)}, Refuse: refuse},
			mesos.Decline{OfferIDs: ids, Refuse: refuse},
			mesos.Revive{}, mesos.Revive{Roles: ids}, mesos.Suppress{}, mesos.Suppress{Roles: ids},
			mesos.Kill{TaskID: "t", AgentID: "a", Grace: grace}, mesos.Kill{TaskID: "t"},
			mesos.Acknowledge{AgentID: "a", TaskID: "t", UUID: []byte("0123456789abcdef")},
			mesos.Reconcile{}, mesos.Reconcile{Tasks: []mesos.TaskRef{{TaskID: "t", AgentID: "a"}, {TaskID: "u"}}},
			mesos.ToExecutor{AgentID: "a", ExecutorID: "e", Data: []byte("x")},
			mesos.ShutdownExecutor{AgentID: "a", ExecutorID: "e"},
			mesos.AcceptInverse{IDs: ids},
			mesos.Teardown{},
		}).Draw(t, "call")
		w, err := ToCall(noun, "fw")
		if err != nil {
			t.Fatal(err)
		}
		var got scheduler.Call
		through(t, w, &got)
		if got.FrameworkID.Value != "fw" {
			t.Fatalf("framework id %q", got.FrameworkID.Value)
		}
		again, err := Call(&got)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again, noun) {
			t.Fatalf("\n got %#v\nwant %#v", again, noun)
		}
	})
}

func TestExecutorEventsSurvive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grace := time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "grace"))
		noun := rapid.SampledFrom([]mesos.ExecutorEvent{
			mesos.ExecutorSubscribed{AgentID: "a", Hostname: "h", FrameworkID: "f", ExecutorID: "e"},
			mesos.LaunchTask{Task: genTask(t)},
			mesos.KillTask{TaskID: "t"}, mesos.KillTask{TaskID: "t", Grace: &grace},
			mesos.Acknowledged{TaskID: "t", UUID: []byte("0123456789abcdef")},
			mesos.FromScheduler{Data: []byte("x")},
			mesos.Shutdown{}, mesos.ExecutorFailed{Message: "m"},
		}).Draw(t, "event")
		w, err := ToExecutorEvent(noun, "fw")
		if err != nil {
			t.Fatal(err)
		}
		var got executor.Event
		through(t, w, &got)
		if again := ExecutorEvent(&got); !reflect.DeepEqual(again, noun) {
			t.Fatalf("\n got %#v\nwant %#v", again, noun)
		}
	})
}

func through(t *rapid.T, w interface{ Marshal() ([]byte, error) }, got message) {
	b, err := w.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := Decode(got, b); err != nil {
		t.Fatal(err)
	}
}

// Mesos fails a task whose ExecutorInfo is not that of the running executor.
func TestEqualExecutorsGiveEqualBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genExecutor(t)
		var first []byte
		for range 5 {
			w, err := ToExecutor(e, "fw")
			if err != nil {
				t.Fatal(err)
			}
			b, err := w.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = b
			}
			if !bytes.Equal(b, first) {
				t.Fatalf("%x and %x", first, b)
			}
		}
	})
}

// A launch must repeat to the letter what an offer said of a reservation or a disk; only the amount is ours.
func TestResourcesKeepWhatTheNounDoesNotSay(t *testing.T) {
	role, principal, key, source, v, root := "tenant-b", "rec", "purpose", "test", "tenant-b", "/mnt/d1"
	dynamic := mesosgo.Resource_ReservationInfo_DYNAMIC
	reservation := mesosgo.Resource_ReservationInfo{
		Type: &dynamic, Role: &role, Principal: &principal, Labels: &mesosgo.Labels{Labels: []mesosgo.Label{{Key: key, Value: &source}}},
	}
	allocated := &mesosgo.Resource_AllocationInfo{Role: &role}
	amount := &mesosgo.Value_Scalar{Value: 512}
	refined := mesosgo.Resource{Name: "disk", Type: mesosgo.SCALAR.Enum(), Scalar: amount, AllocationInfo: allocated,
		Reservations: []mesosgo.Resource_ReservationInfo{reservation},
		Disk: &mesosgo.Resource_DiskInfo{Source: &mesosgo.Resource_DiskInfo_Source{
			Type: mesosgo.Resource_DiskInfo_Source_MOUNT, Mount: &mesosgo.Resource_DiskInfo_Source_Mount{Root: &root}}}}
	old := mesosgo.Resource{Name: "cpus", Type: mesosgo.SCALAR.Enum(), Scalar: amount, AllocationInfo: allocated,
		Role: &v, Reservation: &mesosgo.Resource_ReservationInfo{Principal: &principal}}
	static := mesosgo.Resource{Name: "ports", Type: mesosgo.RANGES.Enum(), AllocationInfo: allocated, Role: &v,
		Ranges: &mesosgo.Value_Ranges{Range: []mesosgo.Value_Range{{Begin: 1, End: 5}}}}
	set := mesosgo.Resource{Name: "zones", Type: mesosgo.SET.Enum(), AllocationInfo: allocated,
		Set: &mesosgo.Value_Set{Item: []string{"a", "b"}}}
	for _, w := range []mesosgo.Resource{refined, old, static, set} {
		noun := Resource(&w)
		if noun.Wire == nil {
			t.Fatalf("%s: nothing was kept", w.Name)
		}
		if w.Name != "zones" && noun.ReservedTo != role {
			t.Fatalf("%s: reserved to %q", w.Name, noun.ReservedTo)
		}
		again, err := ToResource(noun)
		if err != nil {
			t.Fatal(err)
		}
		if !again.Equal(&w) {
			t.Fatalf("\n got %v\nwant %v", again, w)
		}
		if w.Scalar != nil {
			noun.Milli = 100250
			part, err := ToResource(noun)
			if err != nil {
				t.Fatal(err)
			}
			if part.Scalar.Value != 100.25 {
				t.Fatalf("%s: asked for 100.25, wrote %v", w.Name, part.Scalar.Value)
			}
			part.Scalar = amount
			if !part.Equal(&w) {
				t.Fatalf("\n got %v\nwant %v", part, w)
			}
		}
	}
	if _, err := ToResource(mesos.Resource{Name: "cpus", Wire: []byte{0xff}}); err == nil {
		t.Fatal("a broken wire form was taken")
	}
}

func TestDeclineHasAFilterEvenForNothing(t *testing.T) {
	for _, c := range []mesos.Call{mesos.Decline{OfferIDs: []string{"o"}}, mesos.Accept{OfferIDs: []string{"o"}, Refuse: -1}} {
		w, err := ToCall(c, "fw")
		if err != nil {
			t.Fatal(err)
		}
		if w.Type != scheduler.Call_DECLINE || w.Decline.Filters.RefuseSeconds == nil || *w.Decline.Filters.RefuseSeconds != 0 {
			t.Fatalf("%T became %v", c, w)
		}
	}
}

func TestNothingOnTheWireForOurOwnEvents(t *testing.T) {
	for _, e := range []mesos.Event{mesos.Disconnected{}, mesos.AgentsSeen{}} {
		if w, err := ToEvent(e, "fw"); err == nil {
			t.Errorf("%T became %v", e, w)
		}
	}
	if w, err := ToExecutorEvent(mesos.ExecutorDisconnected{}, "fw"); err == nil {
		t.Errorf("ExecutorDisconnected became %v", w)
	}
	for _, s := range []mesos.Status{{State: "TASK_ODD"}, {State: mesos.TaskRunning, Source: "x"}, {State: mesos.TaskRunning, Reason: "x"}} {
		if w, err := ToStatus(s); err == nil {
			t.Errorf("%+v became %v", s, w)
		}
	}
}
