package project

import (
	"fmt"
	"reflect"
	"regexp"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"

	"padis.io/padis/api/runtime"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func at(ms int64) *metav1.Time {
	t := metav1.NewTime(time.UnixMilli(ms).UTC())
	return &t
}

func TestInstanceShowsItsRecord(t *testing.T) {
	rec := &padisv1.InstanceRecord{
		AppUid: "7d5c", Namespace: "shop", App: "web", Slot: 3, Phase: padisv1.Phase_BACKOFF, Revision: "r1", Attempt: 2,
		TaskId: "shop.web-3.7d5c.2", AgentId: "A-S0", Hostname: "host1", ExecutorId: "padis-1", Addresses: []string{"10.44.0.2"},
		Ready: true, Restarts: 4, CreatedMs: 1000, RunningMs: 2000, ReadyMs: 3000, NotBeforeMs: 9000, Reason: "BackOff", Message: "wait",
		LastTermination: &padisv1.Termination{Hostname: "host0", ExitCode: 1, Signal: "SIGKILL", Reason: "Killed", Message: "m", FinishedMs: 500},
		Terminations:    []*padisv1.Termination{{Hostname: "host0", FinishedMs: 500, StartedMs: 300, OomKilled: true, Revision: "r0", Container: "c0"}},
		Container:       "c1", ImageDigest: "sha256:1",
	}
	refusals, labels := map[string]int32{"NoOffers": 2}, map[string]string{"tier": "front", "padis.io/app": "someone-else"}
	got := Instance(rec, refusals, labels)
	want := &runtime.Instance{
		TypeMeta: metav1.TypeMeta{APIVersion: "runtime.padis.io/v1alpha1", Kind: "Instance"},
		ObjectMeta: metav1.ObjectMeta{Name: "web-3", Namespace: "shop", UID: got.UID, CreationTimestamp: *at(1000),
			Labels: map[string]string{"tier": "front", "padis.io/app": "web"}},
		Status: runtime.InstanceStatus{App: "web", Slot: 3, Phase: "BackOff", Ready: true, Host: "host1", Agent: "A-S0",
			Addresses: []string{"10.44.0.2"}, TaskID: "shop.web-3.7d5c.2", Executor: "padis-1", Revision: "r1", Restarts: 4,
			Reason: "BackOff", Message: "wait", Refusals: map[string]int32{"NoOffers": 2}, StartedAt: at(2000), ReadyAt: at(3000),
			NotBefore: at(9000), LastTermination: &runtime.Termination{Host: "host0", ExitCode: 1, Signal: "SIGKILL", Reason: "Killed",
				Message: "m", FinishedAt: at(500)}, Container: "c1", ImageDigest: "sha256:1",
			Terminations: []runtime.Termination{{Host: "host0", FinishedAt: at(500), StartedAt: at(300), OOMKilled: true, Revision: "r0", Container: "c0"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// What was given stays the giver's.
	got.Labels["x"], got.Status.Refusals["x"], got.Status.Addresses[0] = "y", 1, "z"
	if len(labels) != 2 || len(refusals) != 1 || rec.Addresses[0] != "10.44.0.2" {
		t.Error("the view shares maps or slices with its sources")
	}
	rec.Phase, rec.RunningMs, rec.LastTermination = padisv1.Phase_RUNNING, 0, nil
	if got := Instance(rec, nil, nil).Status; got.NotBefore != nil || got.StartedAt != nil || got.LastTermination != nil {
		t.Errorf("shows what is not there: %+v", got)
	}
}

func TestEveryPhaseHasItsWord(t *testing.T) {
	want := map[string]string{"PHASE_UNSPECIFIED": "Pending", "PENDING": "Pending", "BACKOFF": "BackOff", "STAGING": "Staging",
		"STARTING": "Starting", "RUNNING": "Running", "STOPPING": "Stopping", "UNREACHABLE": "Unreachable", "RETIRED": "Retired", "ADOPTING": "Adopting"}
	for n, name := range padisv1.Phase_name {
		if got := Phase(padisv1.Phase(n)); got != want[name] {
			t.Errorf("%s is shown as %q", name, got)
		}
	}
	if got := Phase(99); got != "Pending" {
		t.Errorf("a phase of the future is shown as %q", got)
	}
}

func TestUIDsAreStableDistinctUUIDs(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]string{}
	note := func(of, uid string) {
		if !form.MatchString(uid) {
			t.Errorf("%s: %q is not a version 5 UUID", of, uid)
		}
		if other, ok := seen[uid]; ok {
			t.Errorf("%s and %s have one uid", of, other)
		}
		seen[uid] = of
	}
	for _, app := range []string{"u1", "u11", "u"} {
		for slot := range int32(20) {
			rec := &padisv1.InstanceRecord{AppUid: app, Slot: slot}
			note(fmt.Sprint(app, "/", slot), string(Instance(rec, nil, nil).UID))
			rec.Attempt, rec.Phase = 7, padisv1.Phase_RUNNING
			if again := string(Instance(rec, nil, nil).UID); seen[again] != fmt.Sprint(app, "/", slot) {
				t.Errorf("the uid changed with the attempt")
			}
		}
	}
	for _, network := range []string{"lan", "dmz"} {
		note(network, string(Address(&padisv1.LeaseRecord{Network: network, Address: "10.0.0.1"}, "", "").UID))
	}
	note("agent", string(Agent(&padisv1.AgentRecord{AgentId: "u1"}, nil, false, mesos.Amounts{}, 0, "").UID))
	// Fixed for ever: clients keep uids.
	if got := Instance(&padisv1.InstanceRecord{AppUid: "u1"}, nil, nil).UID; got != "3f0c1173-6dd5-5560-8d68-050320db2c33" {
		t.Errorf("uid is now %s", got)
	}
}

func TestAgentShowsWhatTheMasterSaysAndElseTheRecord(t *testing.T) {
	rec := &padisv1.AgentRecord{AgentId: "2B9B-S1", Hostname: "old", Attributes: map[string]string{"rack": "r0"}}
	seen := &mesos.Agent{ID: "2B9B-S1", Hostname: "host1", Attributes: map[string]string{"rack": "r1", "text": "two words"}, Active: true,
		Total: mesos.Amounts{CPUMilli: 4000, MemoryMilli: 2048_999, DiskMilli: 10_000}, Version: "1.11.0", Registered: time.UnixMilli(5000).UTC()}
	got := Agent(rec, seen, false, mesos.Amounts{CPUMilli: 100, MemoryMilli: 32_000}, 2, "padis-1")
	want := &runtime.Agent{
		TypeMeta:   metav1.TypeMeta{APIVersion: "runtime.padis.io/v1alpha1", Kind: "Agent"},
		ObjectMeta: metav1.ObjectMeta{Name: "2b9b-s1", UID: got.UID, CreationTimestamp: *at(5000), Labels: map[string]string{"rack": "r1"}},
		Status: runtime.AgentStatus{ID: "2B9B-S1", Hostname: "host1", Attributes: seen.Attributes, State: "Active",
			Total: runtime.Amounts{CPUMilli: 4000, MemoryMiB: 2048, DiskMiB: 10}, Used: runtime.Amounts{CPUMilli: 100, MemoryMiB: 32},
			Instances: 2, Executor: "padis-1", Version: "1.11.0"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := Agent(rec, nil, false, mesos.Amounts{}, 0, "").Status; got.Hostname != "old" || got.Attributes["rack"] != "r0" {
		t.Errorf("without the master's word: %+v", got)
	}
	if got := Agent(nil, seen, true, mesos.Amounts{}, 0, ""); got.Name != "2b9b-s1" {
		t.Errorf("without a record: %+v", got)
	}
}

func TestAgentStates(t *testing.T) {
	for _, c := range []struct {
		seen    *mesos.Agent
		offered bool
		want    string
	}{
		{nil, false, "Unreachable"},
		{nil, true, "Active"},
		{&mesos.Agent{}, false, "Inactive"},
		{&mesos.Agent{}, true, "Active"},
		{&mesos.Agent{Active: true}, false, "Active"},
		{&mesos.Agent{Active: true, Drain: "DRAINING"}, true, "Draining"},
		{&mesos.Agent{Drain: "Drained"}, false, "Drained"},
	} {
		if got := Agent(nil, c.seen, c.offered, mesos.Amounts{}, 0, "").Status.State; got != c.want {
			t.Errorf("%+v, offered %v: %s, want %s", c.seen, c.offered, got, c.want)
		}
	}
}

func TestAddressShowsItsLease(t *testing.T) {
	lease := &padisv1.LeaseRecord{Address: "10.44.0.2", Pool: "web", Network: "lan", AppUid: "u1", Namespace: "shop", App: "web", Slot: 3, LeasedMs: 1000}
	got := Address(lease, "host1", "02:42:00:00:00:01")
	want := &runtime.Address{
		TypeMeta:   metav1.TypeMeta{APIVersion: "runtime.padis.io/v1alpha1", Kind: "Address"},
		ObjectMeta: metav1.ObjectMeta{Name: "10.44.0.2", UID: got.UID, CreationTimestamp: *at(1000), Labels: map[string]string{"padis.io/app": "web"}},
		Status: runtime.AddressStatus{Address: "10.44.0.2", Network: "lan", Pool: "web", State: "Allocated", Namespace: "shop", Instance: "web-3", Host: "host1",
			Since: at(1000), Conflict: "02:42:00:00:00:01"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// What is cooling belongs to nobody: no selector by App or instance finds it.
func TestAnAddressThatIsCoolingHasNoHolder(t *testing.T) {
	lease := &padisv1.LeaseRecord{Address: "10.44.0.2", Pool: "web", Network: "lan", AppUid: "u1", Namespace: "shop", App: "web", Slot: 3, LeasedMs: 1000, ReleasedMs: 5000}
	got := Address(lease, "host1", "")
	want := &runtime.Address{
		TypeMeta:   metav1.TypeMeta{APIVersion: "runtime.padis.io/v1alpha1", Kind: "Address"},
		ObjectMeta: metav1.ObjectMeta{Name: "10.44.0.2", UID: got.UID, CreationTimestamp: *at(1000)},
		Status:     runtime.AddressStatus{Address: "10.44.0.2", Network: "lan", Pool: "web", State: "Cooling", Since: at(5000), Former: "shop/web-3"},
	}
	if !reflect.DeepEqual(got, want) || got.Status.Held() {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	lease.ReleasedMs = 0
	if again := Address(lease, "", ""); again.UID != got.UID || !again.Status.Held() {
		t.Errorf("the same address, held again: %+v", again)
	}
}

func TestAnAddressThatOthersUse(t *testing.T) {
	got := Foreign("lan", "web", "fd00::7", "eth0 of host1", 2000)
	want := &runtime.Address{
		TypeMeta:   metav1.TypeMeta{APIVersion: "runtime.padis.io/v1alpha1", Kind: "Address"},
		ObjectMeta: metav1.ObjectMeta{Name: "fd00::7", UID: got.UID, CreationTimestamp: *at(2000)},
		Status:     runtime.AddressStatus{Address: "fd00::7", Network: "lan", Pool: "web", State: "Foreign", Since: at(2000), Conflict: "eth0 of host1"},
	}
	if !reflect.DeepEqual(got, want) || got.Status.Held() {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Whatever an agent is called and has for attributes, the object is one that the API machinery accepts.
func TestAgentsAreValidObjects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-zA-Z0-9 ._/-]{0,70}`)
		key, value, id := text.Draw(t, "key"), text.Draw(t, "value"), rapid.StringMatching(`[a-zA-Z0-9_. :-]{0,50}`).Draw(t, "id")
		got := Agent(nil, &mesos.Agent{ID: "s" + id, Attributes: map[string]string{key: value}}, true, mesos.Amounts{}, 0, "")
		if bad := validation.IsDNS1123Subdomain(got.Name); len(bad) > 0 {
			t.Fatalf("name %q of %q: %v", got.Name, id, bad)
		}
		_, labelled := got.Labels[key]
		valid := len(validation.IsQualifiedName(key)) == 0 && len(validation.IsValidLabelValue(value)) == 0
		if labelled != valid {
			t.Fatalf("%q=%q: label %v, valid %v", key, value, labelled, valid)
		}
	})
}

func BenchmarkInstance(b *testing.B) {
	rec := &padisv1.InstanceRecord{AppUid: "u1", App: "web", Addresses: []string{"10.44.0.2"}, CreatedMs: 1, RunningMs: 2}
	labels := map[string]string{"tier": "front"}
	for b.Loop() {
		Instance(rec, nil, labels)
	}
}
