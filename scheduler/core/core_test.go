package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/record"
)

// bench drives a core by hand and keeps what it wrote.
type bench struct {
	t     testing.TB
	now   time.Time
	core  *Core
	store map[string]proto.Message
}

func testConfig() Config {
	return Config{Role: "padis", Artifact: Artifact{URI: "http://padis/executor", SHA256: strings.Repeat("ab", 32)}}
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	b := &bench{t: t, now: time.UnixMilli(1_700_000_000_000), store: map[string]proto.Message{}}
	b.restart(cfg)
	return b
}

// restart makes a new core from what was written.
func (b *bench) restart(cfg Config) {
	b.t.Helper()
	var snap record.Snapshot
	keys := make([]string, 0, len(b.store))
	for k := range b.store {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		switch v := b.store[k].(type) {
		case *padisv1.FrameworkRecord:
			snap.Framework = v
		case *padisv1.Cluster:
			snap.Cluster = v
		case *padisv1.WantedApp:
			snap.Apps = append(snap.Apps, v)
		case *padisv1.InstanceRecord:
			snap.Instances = append(snap.Instances, v)
		case *padisv1.LeaseRecord:
			snap.Leases = append(snap.Leases, v)
		case *padisv1.ExecutorRecord:
			snap.Executors = append(snap.Executors, v)
		case *padisv1.AgentRecord:
			snap.Agents = append(snap.Agents, v)
		case *padisv1.WantedBalancer:
			snap.Balancers = append(snap.Balancers, v)
		case *padisv1.BalanceRecord:
			snap.Balances = append(snap.Balances, v)
		}
	}
	c, err := New(cfg, snap)
	if err != nil {
		b.t.Fatal(err)
	}
	b.core = c
}

func (b *bench) step(events ...Event) Effects {
	b.t.Helper()
	eff := b.core.Step(b.now, events...)
	for _, err := range eff.Errors {
		b.t.Errorf("unexpected: %v", err)
	}
	for _, w := range eff.Writes {
		if w.Value == nil {
			delete(b.store, w.Key)
		} else {
			b.store[w.Key] = proto.Clone(w.Value)
		}
	}
	return eff
}

func (b *bench) mesos(ev mesos.Event) Effects { b.t.Helper(); return b.step(FromMesos{ev}) }

func (b *bench) wait(d time.Duration) Effects {
	b.t.Helper()
	b.now = b.now.Add(d)
	return b.step(Tick{})
}

func testApp(name string, n int, hash string, networks ...*padisv1.NetworkWish) *padisv1.WantedApp {
	a := &padisv1.WantedApp{Uid: name + "-uid-of-it", Namespace: "shop", Name: name, Revisions: []*padisv1.Revision{{
		Hash: hash, Networks: networks, Template: &padisv1.Template{Command: []string{"serve"}, Resources: &padisv1.Resources{CpuMilli: 100, MemoryMib: 32}},
	}}}
	for i := range n {
		a.Slots = append(a.Slots, &padisv1.WantedSlot{Index: int32(i), Revision: hash})
	}
	return a
}

func testCluster() *padisv1.Cluster {
	return &padisv1.Cluster{
		Networks: []*padisv1.Network{{Name: "net", Driver: "bridge", Bridge: "padis0"}},
		Pools:    []*padisv1.Pool{{Name: "pool", Network: "net", Cidr: "10.0.0.0/24", Gateway: "10.0.0.1", DnsServers: []string{"10.0.0.53"}}},
	}
}

func testOffer(id, agent string, cpus, mem int64, executors ...string) mesos.Offer {
	return mesos.Offer{ID: id, AgentID: agent, Hostname: "host-" + agent, URL: "http://" + agent, Role: "padis", ExecutorIDs: executors, Resources: []mesos.Resource{
		{Name: "cpus", Milli: cpus, AllocatedTo: "padis"}, {Name: "mem", Milli: mem * 1000, AllocatedTo: "padis"},
	}}
}

func callsOf[T mesos.Call](eff Effects) (cs []T) {
	for _, c := range eff.Calls {
		if x, ok := c.(T); ok {
			cs = append(cs, x)
		}
	}
	return cs
}

func status(id, agent string, state mesos.TaskState, source string) mesos.Update {
	st := mesos.Status{TaskID: id, AgentID: agent, State: state, Source: source}
	if source != "SOURCE_MASTER" {
		st.UUID = []byte(id + string(state))
	}
	return mesos.Update{Status: st}
}

func (b *bench) rec(app string, index int32) *padisv1.InstanceRecord {
	return b.core.Instance(record.Slot{AppUID: app + "-uid-of-it", Index: index})
}

// running brings an app of n slots to RUNNING on one agent.
func (b *bench) running(n int) {
	b.t.Helper()
	b.step(Declare{testCluster()})
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{testApp("web", n, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 4000, 4096)}})
	for i := range int32(n) {
		b.mesos(status(b.rec("web", i).GetTaskId(), "a1", mesos.TaskRunning, "SOURCE_EXECUTOR"))
	}
}

// Nothing is wanted: offers go back and no more are asked for. Something is: they are asked for, and one ACCEPT per
// agent takes all, with everything durable in the same step.
func TestFromWishToLaunch(t *testing.T) {
	b := newBench(t, testConfig())
	eff := b.mesos(mesos.Subscribed{FrameworkID: "F"})
	if len(callsOf[mesos.Suppress](eff)) != 1 || len(callsOf[mesos.Reconcile](eff)) != 1 {
		t.Errorf("after subscribing: %v", eff.Calls)
	}
	eff = b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o0", "a1", 1000, 512)}})
	if d := callsOf[mesos.Decline](eff); len(d) != 1 || d[0].Refuse != time.Hour {
		t.Errorf("unwanted offer: %v", eff.Calls)
	}
	b.step(Declare{testCluster()})
	eff = b.step(Want{testApp("web", 3, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	if len(callsOf[mesos.Revive](eff)) != 1 {
		t.Errorf("wanted and not revived: %v", eff.Calls)
	}
	if r := b.rec("web", 0); r.GetReason() != padisv1.ReasonNoOffers && r.GetReason() != padisv1.ReasonAgentUnavailable || r.GetMessage() == "" {
		t.Errorf("pending without a reason: %v", r)
	}
	eff = b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 1000, 512), testOffer("o2", "a1", 1000, 512)}})
	acc := callsOf[mesos.Accept](eff)
	if len(acc) != 1 || len(acc[0].Tasks) != 3 || !slices.Equal(acc[0].OfferIDs, []string{"o1", "o2"}) {
		t.Fatalf("calls %v", eff.Calls)
	}
	launch := &padisv1.Launch{}
	if err := padisv1.Decode(acc[0].Tasks[0].Data, launch); err != nil {
		t.Fatal(err)
	}
	if at := launch.GetAttachments(); len(at) != 1 || at[0].GetProbe() || at[0].GetPrefixLength() != 24 || at[0].GetNetwork().GetBridge() != "padis0" || launch.GetHostname() != "web-0" || launch.GetDnsServers()[0] != "10.0.0.53" {
		t.Errorf("launch %v", launch)
	}
	var keys []string
	for _, w := range eff.Writes {
		keys = append(keys, w.Key)
	}
	for _, want := range []string{record.AgentKey("a1"), record.ExecutorKey("a1"), record.InstanceKey(record.Slot{AppUID: "web-uid-of-it", Index: 2})} {
		if !slices.Contains(keys, want) {
			t.Errorf("%s is not written with the launch: %v", want, keys)
		}
	}
	if b.store[record.LeaseKey("net", b.rec("web", 1).GetAddresses()[0])] == nil {
		t.Error("no lease")
	}
	// The instance comes after what it needs, should the ledger have to split the writes.
	if i, j := slices.Index(keys, record.ExecutorKey("a1")), slices.Index(keys, record.InstanceKey(record.Slot{AppUID: "web-uid-of-it"})); i > j {
		t.Errorf("executor written after instance: %v", keys)
	}
}

// Each launch on an agent repeats the executor that runs there, also after a new version was configured and after a
// restart; the new one is used once the old has ended.
func TestExecutorIsRepeated(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	first := b.rec("web", 0).GetExecutorId()
	cfg := testConfig()
	cfg.Artifact.SHA256 = strings.Repeat("cd", 32)
	b.restart(cfg)
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{testApp("web", 2, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512, first)}})
	acc := callsOf[mesos.Accept](eff)
	if len(acc) != 1 || acc[0].Tasks[0].Executor.ID != first || !strings.Contains(acc[0].Tasks[0].Executor.Command, "abab") {
		t.Fatalf("calls %v", eff.Calls)
	}
	b.mesos(mesos.Failure{AgentID: "a1", ExecutorID: first})
	for i := range int32(2) {
		b.mesos(status(b.rec("web", i).GetTaskId(), "a1", mesos.TaskFailed, "SOURCE_AGENT"))
	}
	b.wait(time.Second)
	eff = b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 1000, 512)}})
	acc = callsOf[mesos.Accept](eff)
	if len(acc) != 1 || len(acc[0].Tasks) != 2 || acc[0].Tasks[0].Executor.ID == first {
		t.Fatalf("calls %v", eff.Calls)
	}
	launch := &padisv1.Launch{}
	if err := padisv1.Decode(acc[0].Tasks[0].Data, launch); err != nil || !launch.GetAttachments()[0].GetProbe() {
		t.Errorf("its executor died and the address is not probed: %v, %v", launch, err)
	}
}

// An executor of an earlier version that has nothing to do is ended before anything new is launched there.
func TestIdleOutdatedExecutorIsEnded(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	first, id := b.rec("web", 0).GetExecutorId(), b.rec("web", 0).GetTaskId()
	b.step(Want{testApp("web", 0, "r1")})
	b.mesos(status(id, "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	cfg := testConfig()
	cfg.Artifact.SHA256 = strings.Repeat("cd", 32)
	b.restart(cfg)
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{testApp("web", 1, "r1")})
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512, first)}})
	if s := callsOf[mesos.ShutdownExecutor](eff); len(s) != 1 || s[0].ExecutorID != first || len(callsOf[mesos.Accept](eff)) != 0 {
		t.Fatalf("calls %v", eff.Calls)
	}
	eff = b.mesos(mesos.Failure{AgentID: "a1", ExecutorID: first})
	if acc := callsOf[mesos.Accept](eff); len(acc) != 1 || acc[0].Tasks[0].Executor.ID == first {
		// The held offer still lists the dead executor; the record is gone, so the next one is used.
		t.Fatalf("calls %v", eff.Calls)
	}
}

// Tasks that nobody wants are killed, whoever they are, and acknowledged; updates of the master are not.
func TestStraysAreKilled(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	for _, id := range []string{"shop.old-0.deadbeef.3", "something else", "shop.web-0.webuidof.0"} {
		eff := b.mesos(status(id, "a9", mesos.TaskRunning, "SOURCE_EXECUTOR"))
		if k := callsOf[mesos.Kill](eff); len(k) != 1 || k[0].TaskID != id || len(eff.Acks) != 1 {
			t.Errorf("%s: %v, acks %v", id, eff.Calls, eff.Acks)
		}
		eff = b.mesos(status(id, "a9", mesos.TaskRunning, "SOURCE_MASTER"))
		if len(callsOf[mesos.Kill](eff)) != 0 || len(eff.Acks) != 0 {
			t.Errorf("%s again: %v, acks %v", id, eff.Calls, eff.Acks)
		}
		if eff = b.wait(6 * time.Second); len(callsOf[mesos.Kill](eff)) != 1 {
			t.Errorf("%s is not killed again: %v", id, eff.Calls)
		}
		eff = b.mesos(status(id, "a9", mesos.TaskKilled, "SOURCE_EXECUTOR"))
		if len(eff.Acks) != 1 || b.core.Stats().Strays != 0 {
			t.Errorf("%s: the end is not taken in", id)
		}
	}
	// A status may lack the agent.
	b.mesos(status("shop.web-0.webuidof.0", "", mesos.TaskRunning, "SOURCE_MASTER"))
	if p := b.rec("web", 0).GetPhase(); p != padisv1.Phase_RUNNING {
		t.Errorf("the instance is %s", instance.Name(p))
	}
}

// Silence is no answer: what is asked is asked again, more and more slowly, until it is answered.
func TestReconciliationIsRepeated(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(2)
	b.restart(testConfig())
	eff := b.mesos(mesos.Subscribed{FrameworkID: "F"})
	if r := callsOf[mesos.Reconcile](eff); len(r) != 2 || len(r[0].Tasks) != 0 || len(r[1].Tasks) != 2 {
		t.Fatalf("first round: %v", r)
	}
	b.mesos(status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskRunning, "SOURCE_MASTER"))
	for i, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		if eff := b.wait(pause*time.Second - time.Millisecond); len(callsOf[mesos.Reconcile](eff)) != 0 {
			t.Errorf("question %d too early", i)
		}
		eff := b.wait(time.Millisecond)
		if r := callsOf[mesos.Reconcile](eff); len(r) != 1 || len(r[0].Tasks) != 1 || r[0].Tasks[0].TaskID != b.rec("web", 1).GetTaskId() {
			t.Errorf("question %d: %v", i, eff.Calls)
		}
	}
	b.mesos(status(b.rec("web", 1).GetTaskId(), "a1", mesos.TaskRunning, "SOURCE_MASTER"))
	if eff := b.wait(2 * time.Minute); len(callsOf[mesos.Reconcile](eff)) != 0 {
		t.Errorf("asked after the answer: %v", eff.Calls)
	}
	for _, i := range []int32{0, 1} {
		if p := b.rec("web", i).GetPhase(); p != padisv1.Phase_RUNNING || b.rec("web", i).GetRestarts() != 0 {
			t.Errorf("web-%d is %s", i, instance.Name(p))
		}
	}
}

// An App that is scaled in releases the highest slots and their addresses; scaled out again, no task id comes twice.
func TestScaleInAndOut(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(3)
	id, addr := b.rec("web", 2).GetTaskId(), b.rec("web", 2).GetAddresses()[0]
	eff := b.step(Want{testApp("web", 2, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	if k := callsOf[mesos.Kill](eff); len(k) != 1 || k[0].TaskID != id {
		t.Fatalf("calls %v", eff.Calls)
	}
	if b.store[record.LeaseKey("net", addr)] == nil {
		t.Error("the address was released before the end")
	}
	b.mesos(status(id, "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	if b.rec("web", 2) != nil || b.store[record.LeaseKey("net", addr)] != nil {
		t.Error("the slot or its lease is still there")
	}
	b.restart(testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{testApp("web", 3, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512)}})
	if got := b.rec("web", 2).GetTaskId(); got == id || got == "" {
		t.Errorf("task id %q after %q", got, id)
	}
}

// A new template replaces in place: the same slot, address and agent, no restart counted.
func TestUpdateInPlace(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	before := b.rec("web", 0)
	b.step(Want{testApp("web", 1, "r2", &padisv1.NetworkWish{Pool: "pool"})})
	if p := b.rec("web", 0); p.GetPhase() != padisv1.Phase_STOPPING || p.GetReason() != padisv1.ReasonUpdating {
		t.Fatalf("%v", p)
	}
	b.mesos(status(before.GetTaskId(), "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a2", 4000, 4096), testOffer("o3", "a1", 1000, 512)}})
	after := b.rec("web", 0)
	if after.GetRevision() != "r2" || after.GetAgentId() != "a1" || !slices.Equal(after.GetAddresses(), before.GetAddresses()) || after.GetRestarts() != 0 {
		t.Errorf("%v", after)
	}
}

// An unwanted instance that cannot be reached keeps its address until its end is certain.
func TestUnreachableKeepsItsAddress(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	id, addr := b.rec("web", 0).GetTaskId(), b.rec("web", 0).GetAddresses()[0]
	b.mesos(status(id, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	b.step(Forget{"web-uid-of-it"})
	b.mesos(status(id, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	if b.rec("web", 0) == nil || b.store[record.LeaseKey("net", addr)] == nil || b.store[record.AppKey("web-uid-of-it")] == nil {
		t.Fatal("released without certainty")
	}
	eff := b.mesos(status(id, "a1", mesos.TaskRunning, "SOURCE_MASTER"))
	if len(callsOf[mesos.Kill](eff)) != 1 {
		t.Errorf("it is back and not killed: %v", eff.Calls)
	}
	b.mesos(status(id, "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	for k := range b.store {
		if k != record.KeyCluster && k != record.KeyFramework && k != record.ExecutorKey("a1") {
			t.Errorf("%s is left", k)
		}
	}
}

// What a commit that was cut short left behind is put right at the start.
func TestStartCleansUp(t *testing.T) {
	b := newBench(t, testConfig())
	b.store[record.LeaseKey("net", "10.0.0.9")] = &padisv1.LeaseRecord{Address: "10.0.0.9", Network: "net", Pool: "pool", AppUid: "gone"}
	b.store[record.AppKey("gone-uid-of-it")] = &padisv1.WantedApp{Uid: "gone-uid-of-it", Forgotten: true}
	half := testApp("web", 2, "r1")
	b.store[record.AppKey(half.Uid)] = half
	b.restart(testConfig())
	b.step(Tick{})
	if b.store[record.LeaseKey("net", "10.0.0.9")] != nil || b.store[record.AppKey("gone-uid-of-it")] != nil || b.rec("web", 1) == nil {
		t.Errorf("%v", b.store)
	}
}

// What a master, or a bug, may say at any time is reported and changes nothing.
func TestNonsenseIsReported(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	st := status(b.rec("web", 0).GetTaskId(), "a1", "TASK_DANCING", "SOURCE_EXECUTOR")
	eff := b.core.Step(b.now, FromMesos{st}, FromMesos{mesos.Failed{Message: "no"}}, Want{&padisv1.WantedApp{}})
	if len(eff.Errors) != 3 || len(eff.Acks) != 1 {
		t.Errorf("errors %v, acks %v", eff.Errors, eff.Acks)
	}
	st = status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskRunning, "SOURCE_EXECUTOR")
	st.Status.Data = []byte{0xff, 0xff}
	if eff = b.core.Step(b.now, FromMesos{st}); len(eff.Errors) != 1 {
		t.Errorf("errors %v", eff.Errors)
	}
}

// Offers that fit nothing wanted are held for a bounded time only.
func TestOffersAreNotHoarded(t *testing.T) {
	b := newBench(t, testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	app := testApp("web", 1, "r1")
	app.Revisions[0].Template.Resources.CpuMilli = 9000
	b.step(Want{app})
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 1000, 512)}})
	if len(callsOf[mesos.Decline](eff)) != 0 || eff.Next.IsZero() || eff.Next.Sub(b.now) > time.Second {
		t.Fatalf("calls %v, next %s", eff.Calls, eff.Next.Sub(b.now))
	}
	if r := b.rec("web", 0); r.GetReason() != padisv1.ReasonInsufficientCPU || b.core.Refusals(instance.SlotOf(r))[padisv1.ReasonInsufficientCPU] != 1 {
		t.Errorf("%v", r)
	}
	eff = b.wait(time.Second)
	if d := callsOf[mesos.Decline](eff); len(d) != 1 || d[0].Refuse != 5*time.Second {
		t.Errorf("calls %v", eff.Calls)
	}
}

// A decline that could not be sent is repeated: offers must not stay with us unknown to us.
func TestUnsentDeclineIsRepeated(t *testing.T) {
	b := newBench(t, testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Unsent{mesos.Decline{OfferIDs: []string{"o1"}}}, Unsent{mesos.Suppress{}})
	eff := b.wait(time.Second)
	if d := callsOf[mesos.Decline](eff); len(d) != 1 || d[0].OfferIDs[0] != "o1" || len(callsOf[mesos.Suppress](eff)) != 1 {
		t.Errorf("calls %v", eff.Calls)
	}
}

// What waited for an address needs offers when it has one, also while it is unknown whether a SUPPRESS arrived.
func TestOffersForWhatWaitedForAnAddress(t *testing.T) {
	b := newBench(t, testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	if r := b.rec("web", 0).GetReason(); r != padisv1.ReasonPoolNotFound {
		t.Fatal(r)
	}
	b.step(Unsent{mesos.Suppress{}})
	eff := b.step(Declare{testCluster()})
	for range 3 {
		if len(callsOf[mesos.Revive](eff)) > 0 {
			return
		}
		eff = b.wait(time.Second)
	}
	t.Error("never revived")
}

func BenchmarkPlaceFiftyOverThree(b *testing.B) {
	for b.Loop() {
		x := newBench(b, testConfig())
		x.step(Declare{testCluster()})
		x.mesos(mesos.Subscribed{FrameworkID: "F"})
		x.step(Want{testApp("web", 50, "r1", &padisv1.NetworkWish{Pool: "pool"})})
		var offers []mesos.Offer
		for i := range 3 {
			offers = append(offers, testOffer(fmt.Sprintf("o%d", i), fmt.Sprintf("a%d", i), 4000, 4096))
		}
		if eff := x.mesos(mesos.Offers{Offers: offers}); len(callsOf[mesos.Accept](eff)) != 3 {
			b.Fatal(eff.Calls)
		}
	}
}
