package executor

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/instance"
	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/speaker"
	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

func leased(ms int64) func(*padisv1.Launch) {
	return func(l *padisv1.Launch) { l.LeaseMs = ms }
}

// requests that were not answered yet.
func (w *world) requests() []int64 {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int64(nil), w.renewals...)
}

// grant answers the newest request.
func (w *world) grant() {
	w.t.Helper()
	all := w.requests()
	if len(all) == 0 {
		w.t.Fatal("nothing was asked for")
	}
	w.send(&padisv1.ToExecutor{Renewed: &padisv1.Renewal{Serial: all[len(all)-1]}})
	w.mu.Lock()
	w.renewals = nil
	w.mu.Unlock()
	synctest.Wait()
}

func TestALeaseIsWhatItsRequestWas(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.launch(1, "c1", contained, leased(9000))
		w.until("c1", "TASK_STARTING Starting")
		if len(w.requests()) == 0 || strings.Contains(w.history("10.44.0.1"), "up") {
			t.Fatalf("asked %v; %s", w.requests(), w.history("10.44.0.1"))
		}
		// The answer takes its time: the lease began when it was asked for.
		time.Sleep(50 * time.Millisecond)
		first := w.requests()[0]
		time.Sleep(2 * time.Second)
		w.send(&padisv1.ToExecutor{Renewed: &padisv1.Renewal{Serial: first + 1_000_000}})
		synctest.Wait()
		if strings.Contains(w.history("10.44.0.1"), "up") {
			t.Fatal("configured by an answer to nobody")
		}
		w.send(&padisv1.ToExecutor{Renewed: &padisv1.Renewal{Serial: first}})
		w.until("c1", "TASK_RUNNING Ready ready")
		w.mu.Lock()
		until := w.valid["10.44.0.1"]
		w.mu.Unlock()
		if left := time.Until(until); left > 7*time.Second || left < 5*time.Second {
			t.Errorf("configured for %s", left)
		}
		// It is renewed every third of it.
		for range 5 {
			time.Sleep(3*time.Second + 200*time.Millisecond)
			w.grant()
		}
		if h := w.history("10.44.0.1"); !strings.Contains(h, "kept for 8s") || strings.Contains(h, "down") {
			t.Errorf("%s", h)
		}
		w.mu.Lock()
		w.answers["10.44.0.1"] = 1
		w.mu.Unlock()
		time.Sleep(10 * time.Second)
		w.until("c1", "TASK_RUNNING LeaseExpired")
		if h := w.history("10.44.0.1"); !strings.HasSuffix(h, "down") {
			t.Errorf("%s", h)
		}
		if u := w.heard().GetAddresses(); len(u) != 0 {
			t.Errorf("said to be used: %v", u)
		}
		w.grant()
		w.until("c1", "TASK_RUNNING AddressAnswered")
		time.Sleep(time.Second)
		if h := w.history("c1"); !strings.HasSuffix(h, "TASK_RUNNING Ready ready") || !strings.HasSuffix(w.history("10.44.0.1"), "announced") {
			t.Errorf("%s\n%s", h, w.history("10.44.0.1"))
		}
		if c := w.Counters(); c.Renewals != 7 || c.Expiries != 1 || c.Interfaces != 1 {
			t.Errorf("%+v", c)
		}
		// Timers stand still while a host sleeps.
		w.mu.Lock()
		w.slept += time.Hour
		w.mu.Unlock()
		time.Sleep(leaseLook + time.Millisecond)
		if h := w.history("c1"); !strings.HasSuffix(h, "TASK_RUNNING LeaseExpired") {
			t.Errorf("after a long sleep: %s", h)
		}
		w.Handle(mesos.KillTask{TaskID: "c1"})
		w.until("c1", "TASK_KILLED Killed exit=143SIGTERM")
	})
}

func TestWhatIsAdoptedIsRenewedBeforeAnythingElse(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		old.launch(1, "c1", contained, leased(9000))
		old.grant()
		old.until("c1", "TASK_RUNNING Ready ready")
		kernel := old.valid
		old.cancel()
		old.over()
		time.Sleep(2 * time.Second)
		w := k.executor(func(w *world, _ *Config) { w.valid = kernel })
		w.until("scheduler", "0 [c1]")
		w.launch(1, "t2", adoption("c1"), leased(9000))
		w.grant()
		w.until("t2", "TASK_RUNNING Ready ready")
		if h := w.history("10.44.0.1"); !strings.HasPrefix(h, "kept for") || strings.Contains(h, "down") {
			t.Errorf("%s", h)
		}
		// It is left alone while its executor leaves, and silent when the next one comes.
		w.cancel()
		w.over()
		time.Sleep(20 * time.Second)
		w = k.executor(func(w *world, _ *Config) { w.valid = kernel })
		w.launch(1, "t3", adoption("c1"), leased(9000))
		w.grant()
		w.until("t3", "TASK_RUNNING Ready ready")
		if h := w.history("10.44.0.1"); !strings.HasPrefix(h, "down\nup") {
			t.Errorf("%s", h)
		}
	})
}

func TestNetworksChangeWhileInstancesRun(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		w.running(1, "c1")
		w.launch(2, "p2", func(l *padisv1.Launch) { l.Template.Command = []string{"polite"} })
		w.until("p2", "TASK_RUNNING Ready ready")
		change := func(container string, in, out int64, lo ...string) *padisv1.NetworkChange {
			return &padisv1.NetworkChange{Container: container, Bandwidths: []*padisv1.Bandwidth{{Ingress: in, Egress: out}}, LoopbackAddresses: lo}
		}
		w.mu.Lock()
		w.failing["adjust"] = errNo
		w.mu.Unlock()
		want := &padisv1.ToExecutor{Generation: 1, Networks: []*padisv1.NetworkChange{change("c1", 8e6, 16e6, "192.0.2.1"), change("p2", 80000, 0), change("gone", 1, 1)}}
		w.send(want)
		time.Sleep(5 * time.Second)
		if m := w.heard(); m.GetGeneration() != 0 || len(m.GetNetworks()) != 1 || m.GetNetworks()[0].GetReason() != padisv1.ReasonNetworkFailed || m.GetNetworks()[0].GetNetwork() != "lan" {
			t.Errorf("%v", m)
		}
		w.mu.Lock()
		delete(w.failing, "adjust")
		w.mu.Unlock()
		w.send(want)
		time.Sleep(5 * time.Second)
		if m := w.heard(); m.GetGeneration() != 1 || len(m.GetNetworks()) != 0 {
			t.Errorf("%v", m)
		}
		w.send(want) // changes nothing
		synctest.Wait()
		if h := w.history("10.44.0.1"); !strings.HasSuffix(h, "8000000/16000000 [192.0.2.1]") || strings.Count(h, "8000000/") != 1 {
			t.Errorf("%s", h)
		}
		if h := w.history("10.44.0.2"); !strings.HasSuffix(h, "80000/0 []") {
			t.Errorf("%s", h)
		}
		// The next executor, and operators, find it so.
		l, err := readLaunch(instance.Directory(k.state, "c1"))
		if err != nil || l.GetLoopbackAddresses()[0] != "192.0.2.1" || l.GetAttachments()[0].GetBandwidth().GetEgress() != 16e6 {
			t.Errorf("%v, %v", l, err)
		}
		w.send(&padisv1.ToExecutor{Generation: 2, Networks: []*padisv1.NetworkChange{change("c1", 0, 0, "10.44.0.1")}})
		if w.heard().GetGeneration() != 1 {
			t.Error("its own address became one of its loopback")
		}
		w.send(&padisv1.ToExecutor{Generation: 3, Networks: []*padisv1.NetworkChange{change("c1", 0, 0)}})
		w.until("10.44.0.1", "0/0 []")
		w.Handle(mesos.KillTask{TaskID: "p2"})
		w.until("p2", "TASK_KILLED Killed")
	})
}

func TestOverlaysAreKnownBeforeInstancesSpeak(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		overlay := func(generation int64, addresses ...string) *padisv1.ToExecutor {
			return &padisv1.ToExecutor{Generation: generation, Overlays: []*padisv1.Overlay{{Network: "blue", Hosts: []*padisv1.OverlayHost{{Endpoint: "198.51.100.2", Addresses: addresses}}}}}
		}
		w.send(overlay(1, "10.44.0.9"))
		w.until("scheduler", "1 []")
		if w.history("blue") != "" {
			t.Errorf("a network that is not here: %s", w.history("blue"))
		}
		w.running(1, "c1", func(l *padisv1.Launch) {
			l.Attachments[0].Network = &padisv1.Network{Name: "blue", Driver: "vxlan", Vni: 7, Parent: "eth0"}
		})
		const first = "[{198.51.100.2 [[10.44.0.9]]}]"
		if w.history("blue") != first {
			t.Errorf("%s", w.history("blue"))
		}
		w.mu.Lock()
		w.failing["overlay"] = errNo
		w.mu.Unlock()
		w.send(overlay(2, "10.44.0.8"))
		if w.heard().GetGeneration() != 1 {
			t.Error("said to be done")
		}
		w.mu.Lock()
		delete(w.failing, "overlay")
		w.mu.Unlock()
		w.send(&padisv1.ToExecutor{Generation: 3}) // does not mention it
		w.until("scheduler", "3 []")
		w.send(overlay(4, "nonsense"))
		w.send(overlay(5, "10.44.0.8,fd00::8"))
		w.until("scheduler", "5 []")
		if h := w.history("blue"); h != first+"\n[{198.51.100.2 [[10.44.0.8 fd00::8]]}]" {
			t.Errorf("%s", h)
		}
	})
}

func TestWhatIsSeenOfAddresses(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		old.running(7, "c7")
		old.cancel()
		old.over()
		w := k.executor()
		w.running(1, "c1")
		time.Sleep(5 * time.Second)
		m := w.heard()
		if h := m.GetHostAddresses(); len(h) != 1 || h[0].GetInterface() != "eth0" || h[0].GetAddress() != "192.0.2.7/24" {
			t.Errorf("%v", h)
		}
		used := []*padisv1.UsedAddress{{Container: "c1", Network: "lan", Address: "10.44.0.1"}, {Container: "c7", Network: "lan", Address: "10.44.0.7"}}
		if u := m.GetAddresses(); len(u) != 2 || !proto.Equal(u[0], used[0]) || !proto.Equal(u[1], used[1]) {
			t.Errorf("%v", u)
		}
		stranger := kernel.Conflict{Network: "lan", Address: netip.MustParseAddr("10.44.0.1"), MAC: network.MAC{2, 0x42, 1, 2, 3, 4}}
		for range 10 {
			w.strangers <- stranger
			time.Sleep(time.Second)
		}
		time.Sleep(3 * time.Second)
		if c := w.heard().GetConflicts(); len(c) != 1 || c[0].GetNetwork() != "lan" || c[0].GetAddress() != "10.44.0.1" || c[0].GetMac() != "02:42:01:02:03:04" || c[0].GetSeenMs() == 0 {
			t.Errorf("%v", c)
		}
		if n := w.Counters().Conflicts; n != 1 {
			t.Errorf("%d conflicts", n)
		}
		time.Sleep(forgetConflict + 2*auditPause)
		if c := w.heard().GetConflicts(); len(c) != 0 {
			t.Errorf("not forgotten: %v", c)
		}
		w.Handle(mesos.KillTask{TaskID: "c1"})
		w.until("c1", "TASK_KILLED Killed exit=143SIGTERM")
		time.Sleep(5 * time.Second)
		if u := w.heard().GetAddresses(); len(u) != 1 || u[0].GetContainer() != "c7" {
			t.Errorf("%v", u)
		}
	})
}

// What a network needs of its host goes with the last instance that has it.
func TestGatewaysThatNobodyNeedsGo(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor()
		gateway := func(l *padisv1.Launch) {
			l.Attachments[0].Network = &padisv1.Network{Name: "inner", HostGateway: true}
			l.Attachments[0].Gateway = "10.44.0.254"
		}
		w.running(1, "c1", gateway)
		w.running(2, "c2", gateway)
		time.Sleep(2 * firstKeep)
		n := len(w.history("surplus"))
		w.Handle(mesos.KillTask{TaskID: "c1"})
		time.Sleep(2 * surplusPause)
		w.Handle(mesos.KillTask{TaskID: "c2"})
		time.Sleep(2 * surplusPause)
		if h := w.history("surplus"); n == 0 || h[n:] != "\ninner [10.44.0.254/16]\ninner []\ninner []" {
			t.Errorf("%s", h)
		}
	})
}

// An executor that does not know yet what there is has not applied anything: its list of orphans would be believed.
func TestNothingIsAppliedBeforeContainersAreKnown(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		old := k.executor()
		old.running(1, "c1")
		old.cancel()
		old.over()
		k.fail("found", errNo)
		w := k.executor()
		w.send(&padisv1.ToExecutor{Generation: 5})
		if m := w.heard(); m.GetGeneration() != 0 {
			t.Errorf("%v", m)
		}
		k.fail("found", nil)
		w.until("scheduler", "5 [c1]")
		if strings.Contains(w.history("scheduler"), "5 []") {
			t.Errorf("%s", w.history("scheduler"))
		}
	})
}

// fakeSpeaker writes down what routers hear.
type fakeSpeaker struct {
	w       *world
	changed chan struct{}
}

func (s *fakeSpeaker) Set(st speaker.State) uint64 {
	var all []string
	for _, n := range st.Networks {
		for _, a := range n.Addresses {
			all = append(all, n.Name+" "+a.String())
		}
		for _, p := range n.Peers {
			s.w.say("peers", "%v AS%d", p.Address, p.ASN)
		}
	}
	s.w.say("routers", "%s %v %s", st.RouterID, st.NextHop6, strings.Join(all, ", "))
	return 1
}
func (s *fakeSpeaker) Wait(context.Context, uint64) error { return nil }
func (s *fakeSpeaker) Changed() <-chan struct{}           { return s.changed }
func (s *fakeSpeaker) Sessions() []speaker.Session {
	return []speaker.Session{{Network: "out", Peer: netip.MustParseAddr("192.0.2.1"), Message: "It does not answer."}}
}

func TestRoutersAreTold(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		routed := func(l *padisv1.Launch) {
			l.Attachments[0].Network = &padisv1.Network{Name: "out", Driver: "routed", Bgp: &padisv1.Bgp{Asn: 64512, Peers: []*padisv1.BgpPeer{{Address: "192.0.2.1", Asn: 64513, Password: "secret"}}}}
		}
		speaks := func(w *world, c *Config) { c.Speaker = &fakeSpeaker{w, make(chan struct{})} }
		old := k.executor(speaks)
		old.running(1, "c1", routed)
		old.until("routers", "192.0.2.7 invalid IP out 10.44.0.1")
		if b, err := os.ReadFile(instance.Directory(k.state, "c1") + "/" + launchFile); err != nil || strings.Contains(string(b), "secret") {
			t.Errorf("a password lies on the disk: %v", err)
		}
		old.cancel()
		old.over()
		// The next executor says nothing before it has taken over what was announced.
		w := k.executor(speaks)
		w.until("scheduler", "0 [c1]")
		w.running(2, "c2", routed)
		if h := w.history("routers"); h != "" {
			t.Errorf("too early: %s", h)
		}
		w.launch(1, "t1", adoption("c1"), routed)
		w.until("routers", "192.0.2.7 invalid IP out 10.44.0.1, out 10.44.0.2")
		if n := w.heard().GetNetworks(); len(n) != 1 || n[0].GetNetwork() != "out" || len(n[0].GetSessions()) != 1 || n[0].GetSessions()[0].GetEstablished() {
			t.Errorf("%v", n)
		}
		// A network may name other routers while its instances run.
		w.send(&padisv1.ToExecutor{Generation: 7, Announced: []*padisv1.Network{
			{Name: "out", Driver: "routed", Bgp: &padisv1.Bgp{Asn: 64512, Peers: []*padisv1.BgpPeer{{Address: "192.0.2.2", Asn: 64514}}}}}})
		w.until("peers", "192.0.2.2 AS64514")
		w.Handle(mesos.KillTask{TaskID: "t1"})
		w.until("t1", "TASK_KILLED Killed exit=143SIGTERM")
		if h := w.history("routers"); !strings.HasSuffix(h, "7 invalid IP out 10.44.0.2") {
			t.Errorf("%s", h)
		}
	})
}

// With the network of its host an instance is told the host's addresses.
func TestTheNetworkOfTheHost(t *testing.T) {
	scene(t, func(t *testing.T, k *keeper) {
		w := k.executor(func(_ *world, c *Config) {
			c.Host.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
		})
		w.running(1, "c1", func(l *padisv1.Launch) {
			l.Attachments = []*padisv1.Attachment{{Network: &padisv1.Network{Name: "host", Driver: "host"}}}
		})
		s := k.container("c1").spec
		env := strings.Join(s.Env, " ")
		if !s.HostNetwork || !strings.Contains(env, "PADIS_ADDRESS=192.0.2.7 ") || !strings.Contains(env, "PADIS_ADDRESSES=192.0.2.7,2001:db8::7") {
			t.Errorf("%+v", s)
		}
		b, err := os.ReadFile(s.Dir + "/etc/hosts")
		if err != nil || !strings.Contains(string(b), "192.0.2.7\tweb-1\n2001:db8::7\tweb-1\n") {
			t.Errorf("%s, %v", b, err)
		}
		if p, _ := w.Lookup("c1"); len(p.Addresses) != 2 {
			t.Errorf("%+v", p)
		}
	})
}
