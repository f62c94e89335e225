package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/lb"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/balance"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

const vip = "192.0.2.1"

func balancedCluster() *padisv1.Cluster {
	c := testCluster()
	c.Networks = append(c.Networks, &padisv1.Network{Name: "edge", Driver: "virtual"}, &padisv1.Network{Name: "other", Driver: "bridge"})
	c.Pools = append(c.Pools, &padisv1.Pool{Name: "vips", Network: "edge", Cidr: "192.0.2.0/24"}, &padisv1.Pool{Name: "other", Network: "other", Cidr: "10.9.0.0/24"})
	return c
}

func testBalancer() *padisv1.WantedBalancer {
	return &padisv1.WantedBalancer{
		Uid: "front-uid-of-it", Namespace: "shop", Name: "front", Vips: []*padisv1.VirtualAddress{{Pool: "vips", Address: vip}}, TableSize: 53, Seed: 7, Scheduler: "maglev", DrainMs: 20000,
		Listeners: []*padisv1.Listener{{Name: "http", Protocol: "tcp", FirstPort: 80, LastPort: 80}}, Backends: []*padisv1.Backend{{App: "web", Weight: 100}}, MinServers: 1, Dataplane: "auto",
		Announcement: &padisv1.Announcement{Asn: 64512, Peers: []*padisv1.AnnouncementPeer{{Name: "tor", Router: &padisv1.BgpPeer{Address: "10.0.0.1", Asn: 64500}},
			{Name: "elsewhere", Router: &padisv1.BgpPeer{Address: "10.0.0.2", Agents: []*padisv1.AgentSelector{{Attribute: "rack", Value: "9"}}}}}},
	}
}

func testDirectors(n int) *padisv1.WantedApp {
	d := testApp("front", n, "d1", &padisv1.NetworkWish{Pool: "pool"})
	d.Name, d.Directors = "front-director", true
	d.Revisions[0].Template.Director = true
	return d
}

// lbench is a bench with executors that hear what they are told, and answer when they are let.
type lbench struct {
	*bench
	// told are the Balances that the executors have, by agent: of real servers, of directors.
	relays, directs map[string]*padisv1.Balance
	wishes          map[string]*padisv1.ToExecutor
	states          map[string]*padisv1.DirectorState // by task
	mute            map[string]bool
	// script is what was sent, in its order.
	script []string
}

// newLB has two real servers, on a1 and a2, and directors on a3.
func newLB(t *testing.T, directors int) *lbench {
	t.Helper()
	b := &lbench{bench: newBench(t, testConfig()), relays: map[string]*padisv1.Balance{}, directs: map[string]*padisv1.Balance{},
		wishes: map[string]*padisv1.ToExecutor{}, states: map[string]*padisv1.DirectorState{}, mute: map[string]bool{}}
	b.hear(b.step(Declare{balancedCluster()}, WantBalancer{testBalancer()}, Want{testDirectors(directors)}))
	b.hear(b.mesos(mesos.Subscribed{FrameworkID: "F"}))
	b.hear(b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("d", "a3", 4000, 4096)}}))
	b.web(1, "a1")
	b.web(2, "a2")
	for i := range int32(directors) {
		b.run("front", i)
	}
	b.run("web", 0)
	b.run("web", 1)
	return b
}

// web wants n instances, the last of which goes to an agent.
func (b *lbench) web(n int, agent string) {
	b.t.Helper()
	b.hear(b.step(Want{testApp("web", n, "r1", &padisv1.NetworkWish{Pool: "pool"})}))
	var executors []string
	if a := b.core.agents[agent]; a != nil && a.executor != nil {
		executors = append(executors, a.executor.GetExecutorId())
	}
	b.hear(b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer(fmt.Sprintf("o-%d-%s", n, agent), agent, 4000, 4096, executors...)}}))
}

func (b *lbench) run(app string, i int32) {
	b.t.Helper()
	r := b.rec(app, i)
	data, _ := padisv1.Encode(&padisv1.InstanceReport{Ready: true, Reason: padisv1.ReasonReady})
	st := mesos.Status{TaskID: r.GetTaskId(), AgentID: r.GetAgentId(), State: mesos.TaskRunning, Source: "SOURCE_EXECUTOR", UUID: []byte("u" + r.GetTaskId()), Data: data}
	b.hear(b.mesos(mesos.Update{Status: st}))
}

// hear takes in what was sent to executors.
func (b *lbench) hear(eff Effects) Effects {
	b.t.Helper()
	if !eff.Next.IsZero() && !eff.Next.After(b.now) {
		b.t.Errorf("it is due again at once: %s", b.now.Sub(eff.Next))
	}
	for _, c := range callsOf[mesos.ToExecutor](eff) {
		m := &padisv1.ToExecutor{}
		if err := padisv1.Decode(c.Data, m); err != nil {
			b.t.Fatal(err)
		}
		switch x := m.GetBalance(); {
		case x == nil:
			if b.wishes[c.AgentID] = m; len(m.GetNetworks()) > 0 {
				b.script = append(b.script, c.AgentID+" loopback "+strings.Join(m.GetNetworks()[0].GetLoopbackAddresses(), " "))
			}
		case x.GetDirector() != nil:
			b.directs[c.AgentID] = x
			b.script = append(b.script, fmt.Sprintf("%s direct %d %s", c.AgentID, x.GetNumber(), table(b.t, x)))
		default:
			b.relays[c.AgentID] = x
			b.script = append(b.script, fmt.Sprintf("%s relay %d %s", c.AgentID, x.GetNumber(), table(b.t, x)))
		}
	}
	for _, k := range callsOf[mesos.Kill](eff) {
		b.script = append(b.script, "kill "+strings.Split(k.TaskID, ".")[1])
	}
	return eff
}

func table(t testing.TB, x *padisv1.Balance) string {
	if len(x.GetTcp()) == 0 {
		return "-"
	}
	g, err := lb.Decode(x.GetTcp())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, s := range g.Servers {
		words = append(words, strings.Split(s.ID, ".")[1]+"="+s.State.String())
	}
	return strings.Join(words, " ")
}

// answer has the executor on an agent do and say all that it was told, but for what does not concern directors.
func (b *lbench) answer(agent string) {
	b.t.Helper()
	if b.mute[agent] || b.core.agents[agent].executor == nil {
		return
	}
	said := &padisv1.FromExecutor{Generation: b.wishes[agent].GetGeneration()}
	st := &padisv1.BalanceState{Uid: "front-uid-of-it", Number: b.relays[agent].GetNumber()}
	for _, task := range b.directs[agent].GetDirector().GetTasks() {
		if b.states[task] == nil {
			b.states[task] = &padisv1.DirectorState{TaskId: task, Dataplane: "tcx"}
		}
		b.states[task].Number, b.states[task].Announced = b.directs[agent].GetNumber(), []string{vip}
		st.Directors = append(st.Directors, b.states[task])
	}
	said.Balances = append(said.Balances, st)
	b.hear(b.word(agent, said))
}

// settle lets all answer until nothing more is said.
func (b *lbench) settle() {
	b.t.Helper()
	for range 10 {
		n := len(b.script)
		for _, agent := range []string{"a1", "a2", "a3"} {
			b.answer(agent)
		}
		if len(b.script) == n {
			return
		}
	}
	b.t.Fatalf("it never ends:\n%s", strings.Join(b.script, "\n"))
}

// expect compares the script since the last time.
func (b *lbench) expect(what string, lines ...string) {
	b.t.Helper()
	if !slices.Equal(b.script, lines) {
		b.t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(b.script, "\n"), strings.Join(lines, "\n"))
	}
	b.script = nil
}

func (b *lbench) tick(d time.Duration) Effects { b.t.Helper(); return b.hear(b.wait(d)) }

func (b *lbench) again() {
	b.t.Helper()
	b.restart(testConfig())
	b.script = nil
	b.hear(b.mesos(mesos.Subscribed{FrameworkID: "F"}))
	var seen []mesos.Agent
	for _, id := range []string{"a1", "a2", "a3"} {
		seen = append(seen, mesos.Agent{ID: id, Hostname: "host-" + id, Active: true})
	}
	b.hear(b.mesos(mesos.AgentsSeen{Agents: seen}))
}

func (b *lbench) view() balance.View { v, _ := b.core.Balance("front-uid-of-it"); return v }

// Instances are launched with the VIP; hosts are told before directors.
func TestBalanceJoin(t *testing.T) {
	b := newLB(t, 1)
	b.script = nil
	b.settle()
	l := b.relays["a1"]
	if l.GetNumber() != b.relays["a2"].GetNumber() || l.GetNumber() != b.directs["a3"].GetNumber() || table(t, l) != "web-0=serving web-1=serving" {
		t.Fatalf("%v %v", l, b.directs["a3"])
	}
	if d := b.directs["a3"].GetDirector(); !slices.Equal(d.GetTasks(), []string{b.rec("front", 0).GetTaskId()}) || len(d.GetAnnouncement().GetPeers()) != 1 || d.GetMinServers() != 1 {
		t.Errorf("%v", d)
	}
	if w := b.wishes["a1"]; !slices.Equal(w.GetBalancers(), []string{"front-uid-of-it"}) || len(w.GetDirected()) > 0 || w.GetNetworks()[0].GetDrainMs() != 20000 {
		t.Errorf("%v", w)
	}
	if w := b.wishes["a3"]; !slices.Equal(w.GetDirected(), []string{"front-uid-of-it"}) || len(w.GetBalancers()) > 0 {
		t.Errorf("%v", w)
	}
	b.script = nil
	n := l.GetNumber()
	b.web(3, "a1")
	b.run("web", 2)
	b.expect("a third", "a1 loopback "+vip, fmt.Sprintf("a1 relay %d web-0=serving web-1=serving web-2=serving", n+1), fmt.Sprintf("a2 relay %d web-0=serving web-1=serving web-2=serving", n+1))
	b.answer("a1")
	b.expect("one host has it")
	b.answer("a2")
	b.expect("both have it", fmt.Sprintf("a3 direct %d web-0=serving web-1=serving web-2=serving", n+1))
	b.answer("a3")
	b.expect("all have it")
	v := b.view()
	if len(v.Servers) != 3 || v.Servers[2].Why != "" || len(v.Directors) != 1 || v.Directors[0].State.GetNumber() != n+1 || v.VIPs[0] != (balance.VIP{Pool: "vips", Address: vip}) || len(v.Backends) > 0 {
		t.Errorf("%+v", v)
	}
	if rec := b.store[record.BalanceKey("front-uid-of-it")].(*padisv1.BalanceRecord); rec.GetNumber() != n+1 {
		t.Errorf("%v", rec)
	}
	if eff := b.tick(time.Minute); len(callsOf[mesos.ToExecutor](eff)) != 0 || len(eff.Changed.Balancers) != 0 {
		t.Errorf("nothing has changed: %v", eff)
	}
}

// The launch has the VIP and the drain time.
func TestBalanceLaunch(t *testing.T) {
	b := newLB(t, 1)
	b.hear(b.step(Want{testApp("web", 3, "r1", &padisv1.NetworkWish{Pool: "pool"})}))
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("x", "a1", 4000, 4096, b.core.agents["a1"].executor.GetExecutorId())}})
	l := &padisv1.Launch{}
	if err := padisv1.Decode(callsOf[mesos.Accept](eff)[0].Tasks[0].Data, l); err != nil || !slices.Equal(l.GetLoopbackAddresses(), []string{vip}) || l.GetDrainMs() != 20000 {
		t.Errorf("%v %v", l, err)
	}
}

// What is told to stop is drained in the table while it is killed, and leaves it when it has ended. It is never given up for
// taking its time.
func TestBalanceDrain(t *testing.T) {
	b := newLB(t, 1)
	b.settle()
	n := b.relays["a1"].GetNumber()
	b.script = nil
	id := b.rec("web", 1).GetTaskId()
	b.hear(b.step(Want{testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})}))
	b.settle()
	b.expect("stop", fmt.Sprintf("a1 relay %d web-0=serving web-1=draining", n+1), fmt.Sprintf("a2 relay %d web-0=serving web-1=draining", n+1), "kill web-1",
		fmt.Sprintf("a3 direct %d web-0=serving web-1=draining", n+1))
	for range 40 {
		b.hear(b.wait(time.Second))
	}
	if p := b.rec("web", 1).GetPhase(); p != padisv1.Phase_STOPPING {
		t.Fatalf("it is %s", p)
	}
	b.script = nil
	b.hear(b.mesos(status(id, "a2", mesos.TaskKilled, "SOURCE_EXECUTOR")))
	b.settle()
	b.expect("ended", fmt.Sprintf("a1 relay %d web-0=serving", n+2), fmt.Sprintf("a3 direct %d web-0=serving", n+2))
	if w := b.wishes["a2"]; len(w.GetBalancers()) != 0 {
		t.Errorf("a2 has no real server any more: %v", w)
	}
}

// A director that starts gets what the others have, and does not change anything.
func TestBalanceDirectorJoins(t *testing.T) {
	b := newLB(t, 1)
	b.settle()
	n := b.relays["a1"].GetNumber()
	b.script = nil
	b.hear(b.step(Want{testDirectors(2)}))
	b.hear(b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("e", "a2", 4000, 4096, b.core.agents["a2"].executor.GetExecutorId())}}))
	b.run("front", 1)
	b.settle()
	if d := b.directs["a2"]; d.GetNumber() != n || !slices.Equal(d.GetDirector().GetTasks(), []string{b.rec("front", 1).GetTaskId()}) || b.relays["a2"].GetNumber() != n {
		t.Errorf("%v\n%v", d, b.script)
	}
	if w := b.wishes["a2"]; len(w.GetDirected()) != 1 || len(w.GetBalancers()) != 1 {
		t.Errorf("%v", w)
	}
}

// A host that does not answer holds up the others for two seconds; then its server is suspect, until it answers.
func TestBalanceSilentHost(t *testing.T) {
	b := newLB(t, 1)
	b.settle()
	n := b.relays["a1"].GetNumber()
	b.mute["a2"], b.script = true, nil
	b.web(3, "a1")
	b.run("web", 2)
	b.answer("a1")
	b.script = nil
	eff := b.tick(500 * time.Millisecond)
	b.expect("repeated", fmt.Sprintf("a2 relay %d web-0=serving web-1=serving web-2=serving", n+1))
	if !eff.Next.Equal(b.now.Add(time.Second)) {
		t.Errorf("next %s", eff.Next.Sub(b.now))
	}
	b.tick(1499 * time.Millisecond)
	b.script = nil
	b.tick(time.Millisecond)
	b.expect("given up", fmt.Sprintf("a1 relay %d web-0=serving web-1=suspect web-2=serving", n+2), fmt.Sprintf("a2 relay %d web-0=serving web-1=suspect web-2=serving", n+2))
	b.answer("a1")
	b.expect("the others go on", fmt.Sprintf("a3 direct %d web-0=serving web-1=suspect web-2=serving", n+2))
	b.answer("a3")
	v := b.view()
	if v.Servers[1].Why != padisv1.ReasonHostSilent || v.Hosts[1].Reason != padisv1.ReasonHostSilent || v.Hosts[1].Host != "host-a2" {
		t.Errorf("%+v %+v", v.Servers[1], v.Hosts)
	}
	b.mute["a2"], b.script = false, nil
	b.settle()
	if got := table(t, b.directs["a3"]); got != "web-0=serving web-1=serving web-2=serving" || b.directs["a3"].GetNumber() != n+3 {
		t.Errorf("%s\n%v", got, b.script)
	}
}

// A scheduler that restarts, at any point, goes on with the same number, from what executors say.
func TestBalanceRestart(t *testing.T) {
	b := newLB(t, 1)
	b.settle()
	n := b.relays["a1"].GetNumber()
	b.again()
	b.settle()
	b.expect("nobody is told again what it has", "a1 loopback "+vip, "a2 loopback "+vip, "a3 loopback ")
	if v := b.view(); v.Record.GetNumber() != n || len(v.Servers) != 2 || v.Servers[0].Why != "" {
		t.Errorf("%+v", v)
	}
	// In the middle: one host has the next number, and nobody else.
	b.hear(b.step(Want{testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})}))
	b.answer("a1")
	b.again()
	if got := b.store[record.BalanceKey("front-uid-of-it")].(*padisv1.BalanceRecord).GetNumber(); got != n+1 {
		t.Fatalf("number %d", got)
	}
	b.answer("a1")
	if slices.ContainsFunc(b.script, func(l string) bool { return strings.Contains(l, "direct") }) {
		t.Errorf("directors before hosts: %v", b.script)
	}
	b.settle()
	if d := b.directs["a3"]; d.GetNumber() != n+1 || table(t, d) != "web-0=serving web-1=draining" {
		t.Errorf("%d %s", d.GetNumber(), table(t, d))
	}
}

// A VIP that is exchanged for another stays on loopbacks, and leased, until the director has taken it back.
func TestBalanceVIPChange(t *testing.T) {
	b := newLB(t, 1)
	b.settle()
	n := b.relays["a1"].GetNumber()
	w := testBalancer()
	w.Vips = []*padisv1.VirtualAddress{{Pool: "vips", Address: "192.0.2.9"}, {Pool: "vips", Address: vip}}
	b.script = nil
	b.hear(b.step(WantBalancer{w}))
	b.expect("first the loopbacks", "a1 loopback 192.0.2.1 192.0.2.9", "a2 loopback 192.0.2.1 192.0.2.9")
	b.settle()
	if d := b.directs["a3"]; d.GetNumber() != n+1 || len(d.GetServices()) != 2 {
		t.Fatalf("%v", b.script)
	}
	w = proto.CloneOf(w)
	w.Vips = w.Vips[:1]
	b.script = nil
	b.hear(b.step(WantBalancer{w}))
	b.answer("a1")
	b.answer("a2")
	if len(b.relays["a1"].GetServices()) != 1 || slices.ContainsFunc(b.script, func(l string) bool { return strings.Contains(l, "loopback") }) {
		t.Errorf("%v", b.script)
	}
	if b.core.Lease(Address{"edge", vip}) == nil {
		t.Error("released while a director may announce it")
	}
	b.script = nil
	b.answer("a3")
	b.expect("the director has taken it back", "a1 loopback 192.0.2.9", "a2 loopback 192.0.2.9")
	b.answer("a1")
	if b.core.Lease(Address{"edge", vip}) == nil {
		t.Error("released while an instance may have it")
	}
	b.answer("a2")
	if b.core.Lease(Address{"edge", vip}) != nil || b.core.Lease(Address{"edge", "192.0.2.9"}) == nil {
		t.Error("not released")
	}
}

// A LoadBalancer that is forgotten leaves nothing, and not before directors and instances have nothing of it; over a restart.
func TestBalanceForgotten(t *testing.T) {
	for _, restart := range []bool{false, true} {
		b := newLB(t, 1)
		b.settle()
		b.hear(b.step(ForgetBalancer{"front-uid-of-it"}))
		if !b.core.Balancer("front-uid-of-it").GetForgotten() {
			t.Error("it does not say so")
		}
		if restart {
			b.again()
		}
		b.settle()
		for _, k := range []string{record.BalancerKey("front-uid-of-it"), record.BalanceKey("front-uid-of-it"), record.LeaseKey("edge", vip)} {
			if b.store[k] != nil {
				t.Errorf("restart %v: %s is still there", restart, k)
			}
		}
		b.settle()
		if w := b.wishes["a1"]; len(w.GetBalancers()) > 0 || len(w.GetNetworks()) != 1 || len(w.GetNetworks()[0].GetLoopbackAddresses()) > 0 || b.core.Balancer("front-uid-of-it") != nil {
			t.Errorf("%v", w)
		}
		if w := b.wishes["a3"]; len(w.GetDirected()) > 0 {
			t.Errorf("%v", w)
		}
	}
}

// What cannot be is said: VIPs, backends, instances elsewhere.
func TestBalanceReasons(t *testing.T) {
	b := newLB(t, 1)
	w := testBalancer()
	w.Vips = append(w.Vips, &padisv1.VirtualAddress{Pool: "vips", Address: "203.0.113.1"}, &padisv1.VirtualAddress{Pool: "pool"}, &padisv1.VirtualAddress{Pool: "none"}, &padisv1.VirtualAddress{Pool: "vips"})
	w.Backends = append(w.Backends, &padisv1.Backend{App: "nobody", Weight: 1}, &padisv1.Backend{Labels: map[string]string{"tier": "x"}, Weight: 1})
	b.hear(b.step(WantBalancer{w}))
	far := testApp("far", 1, "f1", &padisv1.NetworkWish{Pool: "other"})
	far.Labels = map[string]string{"tier": "x"}
	b.hear(b.step(Want{far}))
	b.hear(b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("f", "a4", 4000, 4096)}}))
	b.run("far", 0)
	v := b.view()
	var got []string
	for _, x := range v.VIPs {
		got = append(got, x.Address+x.Reason)
	}
	if want := []string{vip, padisv1.ReasonAddressOutsidePool, padisv1.ReasonPoolForbidden, padisv1.ReasonPoolNotFound, "192.0.2.0" + padisv1.ReasonJoining}; !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if len(v.Backends) != 2 || v.Backends[0].Index != 1 || v.Backends[0].Reason != padisv1.ReasonNoBackends || v.Backends[1].Reason != padisv1.ReasonBackendUnreachable || !strings.Contains(v.Backends[1].Message, `network "net"`) {
		t.Errorf("%+v", v.Backends)
	}
	// An App must not have a VIP, and another LoadBalancer not this one.
	o := testBalancer()
	o.Uid, o.Name = "second-uid", "second"
	b.hear(b.step(WantBalancer{o}))
	if v, _ := b.core.Balance("second-uid"); v.VIPs[0].Reason != padisv1.ReasonAddressInUse || !strings.Contains(v.VIPs[0].Message, "LoadBalancer shop/front") {
		t.Errorf("%+v", v.VIPs)
	}
	b.settle()
	b.hear(b.step(ForgetBalancer{"front-uid-of-it"}))
	b.settle()
	b.hear(b.wait(time.Second))
	if b.core.Lease(Address{"edge", vip}).GetApp() != "front" {
		t.Error("released while an instance may have it that has not answered")
	}
	b.answer("a4")
	if v, _ := b.core.Balance("second-uid"); v.VIPs[0].Address != vip {
		t.Errorf("it is free, and not given: %+v", v.VIPs)
	}
	if st, _ := b.core.AddressState(Address{"edge", vip}); st.State != ipam.Allocated {
		t.Errorf("%+v", st)
	}
}

// Directors that do not reach a real server by more than half make it suspect.
func TestBalanceChecks(t *testing.T) {
	b := newLB(t, 2)
	b.settle()
	n := b.relays["a1"].GetNumber()
	tasks := b.directs["a3"].GetDirector().GetTasks()
	if len(tasks) != 2 {
		t.Fatal(tasks)
	}
	for i, task := range tasks {
		b.states[task].Failures = []*padisv1.ServerFailure{{Server: b.rec("web", 0).GetTaskId(), Message: "refused"}}
		b.settle()
		if got := b.relays["a1"].GetNumber(); got != n+int64(i) {
			t.Errorf("%d directors fail: number %d after %d", i+1, got, n)
		}
	}
	if v := b.view(); v.Servers[0].Why != padisv1.ReasonCheckFailed || table(t, b.directs["a3"]) != "web-0=suspect web-1=serving" {
		t.Errorf("%+v", v.Servers[0])
	}
	b.states[tasks[0]].Failures = nil
	b.settle()
	if got := table(t, b.directs["a3"]); got != "web-0=serving web-1=serving" {
		t.Error(got)
	}
}
