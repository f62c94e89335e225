package core

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
)

// imageApp is testApp of containers.
func imageApp(n int, hash, image string) *padisv1.WantedApp {
	a := testApp("web", n, hash, &padisv1.NetworkWish{Pool: "pool"})
	a.Revisions[0].Template.Image = image
	return a
}

// containers brings an app of n containers to RUNNING and ready on one agent.
func (b *bench) containers(n int) {
	b.t.Helper()
	b.step(Declare{testCluster()})
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{imageApp(n, "r1", "web:1")})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 4000, 4096)}})
	for i := range int32(n) {
		b.mesos(b.ready(i))
	}
}

// ready is the news that the instance's task runs and is ready.
func (b *bench) ready(i int32) mesos.Update {
	up := status(b.rec("web", i).GetTaskId(), "a1", mesos.TaskRunning, "SOURCE_EXECUTOR")
	data, err := padisv1.Encode(&padisv1.InstanceReport{Reason: padisv1.ReasonReady, Ready: true, ImageDigest: "sha256:1"})
	if err != nil {
		b.t.Fatal(err)
	}
	up.Status.Data = data
	return up
}

// says is a word of the executor on a1.
func (b *bench) says(said *padisv1.FromExecutor) Effects {
	b.t.Helper()
	data, err := padisv1.Encode(said)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.mesos(mesos.FromExecutor{AgentID: "a1", ExecutorID: b.core.agents["a1"].executor.GetExecutorId(), Data: data})
}

// told is the only word to an executor in the effects; nil if there is none.
func told(t *testing.T, eff Effects) *padisv1.ToExecutor {
	t.Helper()
	calls := callsOf[mesos.ToExecutor](eff)
	if len(calls) == 0 {
		return nil
	}
	wish := &padisv1.ToExecutor{}
	if err := padisv1.Decode(calls[len(calls)-1].Data, wish); err != nil {
		t.Fatal(err)
	}
	return wish
}

func launchOf(t *testing.T, eff Effects) []*padisv1.Launch {
	t.Helper()
	var out []*padisv1.Launch
	for _, acc := range callsOf[mesos.Accept](eff) {
		for _, task := range acc.Tasks {
			l := &padisv1.Launch{}
			if err := padisv1.Decode(task.Data, l); err != nil {
				t.Fatal(err)
			}
			out = append(out, l)
		}
	}
	return out
}

// orphaned lets the executor on a1 die.
func (b *bench) orphaned(n int) {
	b.t.Helper()
	b.mesos(mesos.Failure{AgentID: "a1", ExecutorID: b.rec("web", 0).GetExecutorId()})
	for i := range int32(n) {
		up := status(b.rec("web", i).GetTaskId(), "a1", mesos.TaskFailed, "SOURCE_AGENT")
		up.Status.Reason = "REASON_EXECUTOR_TERMINATED"
		b.mesos(up)
	}
}

// An executor dies: its containers are adopted on their agent, by a launch of the revision that runs, before anything new.
func TestContainersAreAdopted(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(2)
	before := b.rec("web", 1)
	b.step(Want{imageApp(3, "r1", "web:1")})
	b.orphaned(2)
	if r := b.rec("web", 1); r.GetPhase() != padisv1.Phase_ADOPTING || !r.GetReady() || r.GetAddresses()[0] != before.GetAddresses()[0] || r.GetMessage() == "" {
		t.Fatalf("%v", r)
	}
	// An offer of another agent is for the new one only.
	if got := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a2", 1000, 512)}})); len(got) != 1 || got[0].GetSlot() != 2 || got[0].GetAdopt() {
		t.Fatalf("%v", got)
	}
	if r := b.rec("web", 1); r.GetReason() != padisv1.ReasonAdopting || !strings.Contains(r.GetMessage(), "host-a1 offers nothing") {
		t.Errorf("%v", r)
	}
	got := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 1000, 512)}}))
	if len(got) != 2 || !got[1].GetAdopt() || got[1].GetContainer() != before.GetTaskId() || !got[1].GetWasReady() || got[1].GetAttachments()[0].GetProbe() {
		t.Fatalf("%v", got)
	}
	if r := b.rec("web", 1); r.GetPhase() != padisv1.Phase_STAGING || !r.GetReady() || r.GetTaskId() == before.GetTaskId() || r.GetContainer() != before.GetContainer() {
		t.Errorf("%v", r)
	}
	b.mesos(b.ready(1))
	if r := b.rec("web", 1); r.GetRestarts() != 0 || r.GetRunningMs() != before.GetRunningMs() || r.GetReadyMs() != before.GetReadyMs() || instance.Haunted(r) {
		t.Errorf("%v", r)
	}
	// The other one is gone: it starts anew at once, and its address is free for sure.
	up := status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskFailed, "SOURCE_EXECUTOR")
	up.Status.Data, _ = padisv1.Encode(&padisv1.InstanceReport{Reason: padisv1.ReasonContainerGone, Message: "there is none"})
	b.mesos(up)
	if r := b.rec("web", 0); r.GetPhase() != padisv1.Phase_BACKOFF || r.GetContainer() != "" || instance.Haunted(r) || r.GetNotBeforeMs()-b.now.UnixMilli() > 500 {
		t.Errorf("%v", r)
	}
}

// What is not wanted any more is adopted and then killed, not before.
func TestUnwantedContainersAreAdoptedFirst(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	b.orphaned(1)
	b.step(Forget{"web-uid-of-it"})
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a1", 1000, 512)}})
	if got := launchOf(t, eff); len(got) != 1 || !got[0].GetAdopt() || len(callsOf[mesos.Kill](eff)) != 0 {
		t.Fatalf("%v", eff.Calls)
	}
	eff = b.mesos(b.ready(0))
	if k := callsOf[mesos.Kill](eff); len(k) != 1 || k[0].TaskID != b.rec("web", 0).GetTaskId() {
		t.Fatalf("%v", eff.Calls)
	}
	b.mesos(status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	if b.rec("web", 0) != nil {
		t.Error("it is still there")
	}
}

// An agent that is full to the last CPU offers nothing at all. After a while its executor is asked for the containers that
// wait there for adoption: one that is gone is not waited for, one that is not wanted is discarded, all others wait on.
func TestFullAgentsAreAskedForContainers(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(4)
	there, unwanted := b.rec("web", 1).GetContainer(), b.rec("web", 2).GetContainer()
	app := imageApp(4, "r1", "web:1")
	app.Slots = slices.Delete(app.Slots, 2, 3)
	// The fourth runs in the next executor already.
	for i := range int32(3) {
		b.mesos(status(b.rec("web", i).GetTaskId(), "a1", mesos.TaskGone, "SOURCE_MASTER"))
	}
	b.step(Want{app})
	talk := func() *talk { return &b.core.agents["a1"].talk }
	b.says(&padisv1.FromExecutor{Generation: talk().wish.GetGeneration(), Orphans: []string{there, unwanted}})
	if b.wait(patience - time.Second); len(talk().wish.GetDiscard()) != 0 {
		t.Fatal("it was discarded before its adoption was waited for")
	}
	before := talk().wish.GetGeneration()
	wish := told(t, b.wait(time.Second))
	if wish.GetGeneration() <= before || !slices.Equal(wish.GetDiscard(), []string{unwanted}) {
		t.Fatalf("told %v", wish)
	}
	if eff := b.wait(time.Nanosecond); !eff.Next.After(b.now) {
		t.Errorf("due at %v, at once again", eff.Next)
	}
	answer := &padisv1.FromExecutor{Generation: wish.GetGeneration() - 1, Orphans: []string{there}}
	if b.says(answer); b.rec("web", 0).GetPhase() != padisv1.Phase_ADOPTING {
		t.Fatal("an earlier word was believed")
	}
	answer.Generation, answer.NoContainers = wish.GetGeneration(), "containerd does not answer"
	if b.says(answer); b.rec("web", 0).GetPhase() != padisv1.Phase_ADOPTING {
		t.Fatal("the word of an executor was believed that knows no containers")
	}
	answer.Generation, answer.NoContainers = talk().wish.GetGeneration(), ""
	b.says(answer)
	if r := b.rec("web", 0); r.GetPhase() != padisv1.Phase_BACKOFF || r.GetContainer() != "" {
		t.Errorf("it waits for a container that is gone: %v", r)
	}
	if r := b.rec("web", 1); r.GetPhase() != padisv1.Phase_ADOPTING {
		t.Errorf("its container is there: %v", r)
	}
	if r := b.rec("web", 2); r != nil {
		t.Errorf("it is not wanted, and its container was discarded: %v", r)
	}
}

// An executor was told to leave, and never was: its only launch was lost. Offers list it all the same. When it has not
// answered for long, what waits there for adoption starts it.
func TestLeavingExecutorsThatNeverWere(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	b.mesos(status(b.rec("web", 0).GetTaskId(), "a1", mesos.TaskGone, "SOURCE_MASTER"))
	old := proto.Clone(b.core.agents["a1"].executor).(*padisv1.ExecutorRecord)
	old.Leaving = true
	b.core.agents["a1"].executor = old
	var launches []*padisv1.Launch
	began := b.now
	for i := 0; len(launches) == 0 && i < 20; i++ {
		b.now = b.now.Add(5 * time.Second)
		launches = launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("late"+strconv.Itoa(i), "a1", 1000, 512, old.GetExecutorId())}}))
	}
	if waited := b.now.Sub(began); len(launches) != 1 || !launches[0].GetAdopt() || waited < 30*time.Second || b.rec("web", 0).GetExecutorId() != old.GetExecutorId() {
		t.Errorf("after %s: %v", waited, launches)
	}
}

// A container that was given up with its agent haunts its slot until an executor there says that it is discarded.
func TestHauntingContainersAreDiscarded(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(2)
	old := b.rec("web", 0).GetTaskId()
	b.mesos(status(old, "a1", mesos.TaskUnreachable, "SOURCE_MASTER"))
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a2", 1000, 512)}})
	if r := b.rec("web", 0); r.GetAgentId() != "a2" || instance.Ghosts(r)[0].Container != old {
		t.Fatalf("%v", r)
	}
	b.mesos(status(b.rec("web", 0).GetTaskId(), "a2", mesos.TaskRunning, "SOURCE_EXECUTOR"))
	b.says(&padisv1.FromExecutor{Orphans: []string{old, "nobody's", b.rec("web", 1).GetTaskId()}})
	gone := status(old, "a1", mesos.TaskGone, "SOURCE_MASTER")
	gone.Status.Reason = "REASON_RECONCILIATION"
	b.now = b.now.Add(time.Minute)
	b.mesos(gone)
	b.now = b.now.Add(time.Minute)
	b.mesos(gone)
	wish := b.core.agents["a1"].talk.wish
	if !instance.Haunted(b.rec("web", 0)) || !slices.Equal(wish.GetDiscard(), []string{"nobody's", old}) {
		t.Fatalf("discard %v, %v", wish.GetDiscard(), b.rec("web", 0))
	}
	b.says(&padisv1.FromExecutor{Generation: wish.GetGeneration() - 1})
	b.says(&padisv1.FromExecutor{Generation: wish.GetGeneration(), Orphans: []string{old}})
	if !instance.Haunted(b.rec("web", 0)) {
		t.Fatal("the ghost was laid before the container was gone")
	}
	b.says(&padisv1.FromExecutor{Generation: b.core.agents["a1"].talk.wish.GetGeneration()})
	if instance.Haunted(b.rec("web", 0)) {
		t.Error("the ghost was not laid")
	}
}

// What is wanted of an executor is said until it has been applied, more and more slowly; generations grow, also from one
// scheduler to the next.
func TestWordsToExecutors(t *testing.T) {
	cfg := testConfig()
	cfg.ClientCA = "PEM"
	b := newBench(t, cfg)
	b.containers(1)
	var wish *padisv1.ToExecutor
	for i, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if wish = told(t, b.wait(pause*time.Second)); wish == nil || wish.GetClientCa() != "PEM" {
			t.Fatalf("word %d: %v", i, wish)
		}
	}
	if again := told(t, b.says(&padisv1.FromExecutor{Endpoint: "h:1"})); !proto.Equal(again, wish) {
		t.Errorf("a new executor is told %v", again)
	}
	if got := told(t, b.says(&padisv1.FromExecutor{Generation: wish.GetGeneration(), Endpoint: "h:1"})); got != nil {
		t.Errorf("it has applied that and is told %v", got)
	}
	if v, _ := b.core.Agent("a1"); v.Says.GetEndpoint() != "h:1" {
		t.Errorf("%v", v.Says)
	}
	if got := told(t, b.wait(5*time.Minute)); got != nil {
		t.Errorf("later it is told %v", got)
	}
	b.restart(cfg)
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: "a1", Hostname: "host-a1", Active: true}}})
	if next := b.core.agents["a1"].talk.wish; next.GetGeneration() <= wish.GetGeneration() {
		t.Errorf("generation %d after %d", next.GetGeneration(), wish.GetGeneration())
	}
	eff := b.core.Step(b.now, FromMesos{mesos.FromExecutor{AgentID: "a1", ExecutorID: b.rec("web", 0).GetExecutorId(), Data: []byte{0xff}}})
	if len(eff.Errors) != 1 {
		t.Errorf("errors %v", eff.Errors)
	}
}

// The old container serves until the new image is on its host, whatever the registry says meanwhile.
func TestPrepull(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	id := b.rec("web", 0).GetTaskId()
	next := imageApp(1, "r2", "web:2")
	next.Revisions = append(next.Revisions, imageApp(1, "r1", "web:1").Revisions...)
	next.RegistryAuths = []*padisv1.RegistryAuth{{Registry: "reg", Username: "u"}}
	eff := b.step(Want{next})
	wish := told(t, b.wait(2*time.Second))
	if r := b.rec("web", 0); r.GetPhase() != padisv1.Phase_RUNNING || !r.GetReady() || !r.GetPrepulling() || r.GetReason() != padisv1.ReasonPrepulling || len(callsOf[mesos.Kill](eff)) != 0 {
		t.Fatalf("%v", r)
	}
	if len(wish.GetImages()) != 1 || wish.GetImages()[0].GetImage() != "web:2" || len(wish.GetImages()[0].GetRegistryAuths()) != 1 {
		t.Fatalf("%v", wish)
	}
	b.wait(time.Minute)
	if r := b.rec("web", 0); !strings.Contains(r.GetMessage(), "has not answered") {
		t.Errorf("%s", r.GetMessage())
	}
	state := func(st *padisv1.ImageState) Effects {
		st.Image = "web:2"
		return b.says(&padisv1.FromExecutor{Generation: wish.GetGeneration(), Images: []*padisv1.ImageState{st}})
	}
	state(&padisv1.ImageState{Progress: &padisv1.ImageProgress{DoneBytes: 12 << 20, TotalBytes: 40 << 20}})
	if r := b.rec("web", 0); r.GetMessage() != "Prepulling web:2: 12 of 40 MiB" {
		t.Errorf("%s", r.GetMessage())
	}
	eff = state(&padisv1.ImageState{Reason: padisv1.ReasonImageNotFound, Message: "there is no tag 2"})
	if r := b.rec("web", 0); r.GetReason() != padisv1.ReasonImageNotFound || !strings.Contains(r.GetMessage(), "there is no tag 2") || !r.GetReady() || len(callsOf[mesos.Kill](eff)) != 0 {
		t.Errorf("%v", r)
	}
	// The old one is wanted again: nothing is waited for any more.
	back := proto.Clone(next).(*padisv1.WantedApp)
	back.Slots[0].Revision = "r1"
	b.step(Want{back})
	if r := b.rec("web", 0); r.GetPrepulling() || r.GetReason() != padisv1.ReasonReady || len(b.core.agents["a1"].talk.wish.GetImages()) != 0 {
		t.Errorf("%v", r)
	}
	b.step(Want{next})
	wish = b.core.agents["a1"].talk.wish
	if eff = b.says(&padisv1.FromExecutor{Generation: wish.GetGeneration() - 1, Images: []*padisv1.ImageState{{Image: "web:2", Present: true}}}); len(callsOf[mesos.Kill](eff)) != 0 {
		t.Error("killed for what an earlier word said")
	}
	if k := callsOf[mesos.Kill](state(&padisv1.ImageState{Present: true})); len(k) != 1 || k[0].TaskID != id {
		t.Errorf("%v", k)
	}
}

// Outdated executors leave one after the other; the next one when the last one's containers are ready again. Where plain
// processes run they stay.
func TestUpgrade(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	b.step(Want{testApp("old", 1, "r1")})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a2", 1000, 512)}})
	b.mesos(status(b.rec("old", 0).GetTaskId(), "a2", mesos.TaskRunning, "SOURCE_EXECUTOR"))
	first := b.rec("web", 0).GetExecutorId()
	cfg := testConfig()
	cfg.Artifact.SHA256 = strings.Repeat("cd", 32)
	b.restart(cfg)
	cluster := testCluster()
	cluster.ExecutorUpgrade = &padisv1.ExecutorUpgrade{MaxParallel: 1}
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: "a1", Hostname: "host-a1", Active: true}, {ID: "a2", Hostname: "host-a2", Active: true}}})
	b.step(Declare{cluster})
	if !b.core.agents["a1"].talk.wish.GetLeave() || b.core.agents["a2"].talk.wish.GetLeave() {
		t.Fatal("the wrong executor was told to leave")
	}
	up := b.core.Upgrade()
	if up.Total != 2 || up.Updated != 0 || !slices.Equal(up.Upgrading, []string{"host-a1"}) || !strings.Contains(up.Skipped["host-a2"], "plain processes") {
		t.Errorf("%+v", up)
	}
	b.wait(2*time.Minute + time.Second)
	if up = b.core.Upgrade(); !strings.Contains(up.Skipped["host-a1"], "has not ended") {
		t.Errorf("%+v", up)
	}
	b.mesos(mesos.Failure{AgentID: "a1", ExecutorID: first})
	if up = b.core.Upgrade(); len(up.Upgrading) != 1 {
		t.Errorf("its executor has ended, nothing else was said: %+v", up)
	}
	b.orphaned(1)
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o3", "a1", 1000, 512)}})
	if acc := callsOf[mesos.Accept](eff); len(acc) != 1 || acc[0].Tasks[0].Executor.ID == first {
		t.Fatalf("%v", eff.Calls)
	}
	b.mesos(b.ready(0))
	if up = b.core.Upgrade(); up.Updated != 1 || len(up.Upgrading) != 0 || up.Message != "" {
		t.Errorf("%+v", up)
	}
	cluster = proto.Clone(cluster).(*padisv1.Cluster)
	cluster.ExecutorUpgrade.ArtifactSha256 = strings.Repeat("ef", 32)
	b.step(Declare{cluster})
	if up = b.core.Upgrade(); !strings.Contains(up.Message, "efefef") {
		t.Errorf("%+v", up)
	}
}

// Files that change under a program go to the containers that were made of others; launches carry what they mount.
func TestConfigs(t *testing.T) {
	b := newBench(t, testConfig())
	b.step(Declare{testCluster()})
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	app := func(hash string) *padisv1.WantedApp {
		a := imageApp(1, "r1", "web:1")
		mount := func(name string, on padisv1.ConfigFiles_OnChange) *padisv1.Volume {
			return &padisv1.Volume{Source: &padisv1.Volume_Config{Config: &padisv1.ConfigFiles{Config: name, OnChange: on, Signal: "SIGHUP"}}}
		}
		a.Revisions[0].Template.Volumes = []*padisv1.Volume{mount("configmap/live", padisv1.ConfigFiles_ON_CHANGE_SIGNAL), mount("configmap/next", padisv1.ConfigFiles_ON_CHANGE_NONE)}
		for _, name := range []string{"configmap/other", "configmap/next", "configmap/live"} {
			a.Configs = append(a.Configs, &padisv1.ConfigData{Name: name, Hash: hash})
		}
		return a
	}
	b.step(Want{app("h1")})
	got := launchOf(t, b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 4000, 4096)}}))
	if len(got) != 1 || len(got[0].GetConfigs()) != 2 || got[0].GetConfigs()[0].GetName() != "configmap/live" {
		t.Fatalf("%v", got)
	}
	b.mesos(b.ready(0))
	if w := b.core.agents["a1"].talk.wish; len(w.GetConfigs()) != 0 {
		t.Errorf("nothing has changed: %v", w)
	}
	b.step(Want{app("h2")})
	w := b.core.agents["a1"].talk.wish.GetConfigs()
	if len(w) != 1 || w[0].GetContainer() != b.rec("web", 0).GetContainer() || len(w[0].GetConfigs()) != 1 || w[0].GetConfigs()[0].GetHash() != "h2" || b.rec("web", 0).GetPhase() != padisv1.Phase_RUNNING {
		t.Errorf("%v", w)
	}
}

// Images and registries go to the agents that they are declared for.
func TestPrepullsAndRegistries(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	cluster := testCluster()
	here, there := []*padisv1.AgentSelector{{Attribute: "hostname", Value: "host-a1"}}, []*padisv1.AgentSelector{{Attribute: "rack", Value: "r9"}}
	cluster.Prepulls = []*padisv1.Prepull{{Namespace: "n", Name: "p", Images: []string{"b:1", "a:1"}, Agents: here}, {Namespace: "n", Name: "q", Images: []string{"c:1"}, Agents: there}}
	cluster.Registries = []*padisv1.Registry{
		{Name: "x", Host: "x:5000", Mirrors: []string{"http://m"}, MirrorsOnly: true, PlainHttp: true, Agents: there}, {Name: "y", Host: "y:5000", Mirrors: []string{"http://n"}},
	}
	b.step(Declare{cluster})
	w := b.core.agents["a1"].talk.wish
	if len(w.GetImages()) != 2 || w.GetImages()[0].GetImage() != "a:1" {
		t.Errorf("%v", w)
	}
	// The mirrors of x are for others; that x speaks plain HTTP is so for all.
	rs := w.GetImages()[0].GetRegistries()
	if len(rs) != 2 || rs[0].GetName() != "y" || rs[1].GetName() != "x" || !rs[1].GetPlainHttp() || len(rs[1].GetMirrors()) != 0 || rs[1].GetMirrorsOnly() {
		t.Errorf("%v", rs)
	}
	// What is not there yet is asked for again, since the word of it may be lost.
	b.says(&padisv1.FromExecutor{Generation: w.GetGeneration(), Images: []*padisv1.ImageState{{Image: "a:1", Present: true}}})
	if told(t, b.wait(time.Minute)) == nil {
		t.Error("nothing is said")
	}
	b.says(&padisv1.FromExecutor{Generation: w.GetGeneration(), Images: []*padisv1.ImageState{{Image: "a:1", Present: true}, {Image: "b:1", Present: true}}})
	if got := told(t, b.wait(time.Minute)); got != nil {
		t.Errorf("all is there, and it is told %v", got)
	}
}
