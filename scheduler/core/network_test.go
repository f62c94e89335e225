package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/ipam"
	"padis.io/padis/scheduler/record"
)

// on is running with a cluster and an app that were changed before.
func (b *bench) on(cluster *padisv1.Cluster, app *padisv1.WantedApp) Effects {
	b.t.Helper()
	b.step(Declare{cluster})
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.step(Want{app})
	eff := b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 4000, 4096)}})
	for i := range int32(len(app.GetSlots())) {
		if b.rec("web", i).GetAgentId() == "a1" {
			b.mesos(b.ready(i))
		}
	}
	return eff
}

// word is what the executor on an agent says.
func (b *bench) word(agent string, said *padisv1.FromExecutor) Effects {
	b.t.Helper()
	data, err := padisv1.Encode(said)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.mesos(mesos.FromExecutor{AgentID: agent, ExecutorID: b.core.agents[agent].executor.GetExecutorId(), Data: data})
}

func coolCluster(delay time.Duration) *padisv1.Cluster {
	c := testCluster()
	c.Pools[0].ReuseDelayMs = delay.Milliseconds()
	return c
}

// An address rests when its slot is gone, in the same commit, over a restart, and no longer than it must.
func TestAddressesCool(t *testing.T) {
	b := newBench(t, testConfig())
	b.on(coolCluster(time.Minute), testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"}))
	r := b.rec("web", 0)
	at := Address{"net", r.GetAddresses()[0]}
	key := record.LeaseKey(at.Network, at.Address)
	b.step(Want{testApp("web", 0, "r1")})
	eff := b.mesos(status(r.GetTaskId(), "a1", mesos.TaskKilled, "SOURCE_EXECUTOR"))
	wrote := map[string]bool{}
	for _, w := range eff.Writes {
		wrote[w.Key] = true
	}
	lease, _ := b.store[key].(*padisv1.LeaseRecord)
	if !wrote[key] || !wrote[record.InstanceKey(record.Slot{AppUID: r.GetAppUid()})] || lease.GetReleasedMs() != b.now.UnixMilli() || !slices.Contains(eff.Changed.Addresses, at) {
		t.Fatalf("writes %v, lease %v", eff.Writes, lease)
	}
	if b.core.Lease(at) != nil {
		t.Error("it is still leased")
	}
	for range 2 {
		if s, ok := b.core.AddressState(at); !ok || s.State != ipam.Cooling || s.UntilMs != b.now.Add(time.Minute).UnixMilli() {
			t.Errorf("%+v", s)
		}
		if !slices.Equal(b.core.Addresses(), []Address{at}) {
			t.Errorf("%v", b.core.Addresses())
		}
		b.restart(testConfig())
	}
	if eff := b.step(Tick{}); !eff.Next.Equal(b.now.Add(time.Minute)) {
		t.Errorf("next %s", eff.Next.Sub(b.now))
	}
	b.wait(time.Minute - time.Millisecond)
	if b.store[key] == nil {
		t.Error("too early")
	}
	eff = b.wait(time.Millisecond)
	if s, _ := b.core.AddressState(at); b.store[key] != nil || s.State != ipam.Unallocated || !slices.Contains(eff.Changed.Addresses, at) {
		t.Errorf("too late: %+v", s)
	}
}

// What a commit that was cut short between lease and instance left is put right by the instance.
func TestCutShortRelease(t *testing.T) {
	b := newBench(t, testConfig())
	b.on(coolCluster(time.Minute), testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"}))
	key := record.LeaseKey("net", b.rec("web", 0).GetAddresses()[0])
	b.store[key].(*padisv1.LeaseRecord).ReleasedMs = b.now.UnixMilli()
	b.restart(testConfig())
	b.step(Tick{})
	if l := b.store[key].(*padisv1.LeaseRecord); l.GetReleasedMs() != 0 || b.core.Lease(Address{"net", l.GetAddress()}) == nil {
		t.Errorf("%v", l)
	}
}

// Addresses that hosts have themselves are given to nobody, as long as anybody has them, and also after a restart.
func TestForeignAddresses(t *testing.T) {
	b := newBench(t, testConfig())
	cluster := testCluster()
	cluster.Pools[0].Ranges = []*padisv1.AddressRange{{From: "10.0.0.2", To: "10.0.0.4"}}
	b.on(cluster, testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"}))
	if a := b.rec("web", 0).GetAddresses()[0]; a != "10.0.0.2" {
		t.Fatal(a)
	}
	said := &padisv1.FromExecutor{
		HostAddresses: []*padisv1.HostAddress{{Interface: "lo", Address: "127.0.0.1/8"}, {Interface: "eth0", Address: "10.0.0.3/24"}, {Interface: "br0", Address: "10.0.0.1/24"}},
		Conflicts:     []*padisv1.AddressConflict{{Network: "net", Address: "10.0.0.4", Mac: "52:54:00:00:00:01"}},
	}
	eff := b.says(said)
	want := []Foreign{{Address{"net", "10.0.0.3"}, "host host-a1 (eth0)"}, {Address{"net", "10.0.0.4"}, "a machine with hardware address 52:54:00:00:00:01"}}
	if got := b.core.ForeignAddresses(); !slices.Equal(got, want) || !slices.Contains(eff.Changed.Addresses, Address{"net", "10.0.0.3"}) {
		t.Errorf("%v; changed %v", got, eff.Changed.Addresses)
	}
	b.step(Want{testApp("web", 2, "r1", &padisv1.NetworkWish{Pool: "pool"})})
	if r := b.rec("web", 1); r.GetReason() != padisv1.ReasonPoolExhausted || !strings.Contains(r.GetMessage(), "2 are used by others") {
		t.Errorf("%v", r)
	}
	b.restart(testConfig())
	if got := b.core.ForeignAddresses(); len(got) != 1 || got[0] != want[0] {
		t.Errorf("after a restart: %v", got)
	}
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: "a1", Hostname: "host-a1", Active: true}}})
	said.HostAddresses, said.Conflicts = nil, nil
	b.says(said)
	if s, _ := b.core.AddressState(want[0].Address); len(b.core.ForeignAddresses()) != 0 || s.State != ipam.Unallocated {
		t.Errorf("taken away: %+v", s)
	}
}

// Whoever else uses an instance's address is named, while that is so; the instance is as ready as before.
func TestConflicts(t *testing.T) {
	mac := "52:54:00:00:00:01"
	for _, c := range []struct {
		name string
		said *padisv1.FromExecutor
		want string
	}{
		{"on the wire", &padisv1.FromExecutor{Conflicts: []*padisv1.AddressConflict{{Network: "net", Address: "10.0.0.2", Mac: mac}}}, "10.0.0.2 is also used by a machine with hardware address " + mac},
		{"a host's own", &padisv1.FromExecutor{HostAddresses: []*padisv1.HostAddress{{Interface: "eth1", Address: "10.0.0.2/24"}}}, "10.0.0.2 is also used by host host-a1 (eth1)"},
		{"of another network", &padisv1.FromExecutor{Conflicts: []*padisv1.AddressConflict{{Network: "other", Address: "10.0.0.2", Mac: mac}}}, ""},
	} {
		b := newBench(t, testConfig())
		b.running(1)
		b.mesos(b.ready(0))
		eff := b.says(c.said)
		r := b.rec("web", 0)
		if !strings.HasPrefix(r.GetMessage(), c.want) || (r.GetReason() == padisv1.ReasonAddressConflict) != (c.want != "") || !r.GetReady() {
			t.Errorf("%s: %v", c.name, r)
		}
		at := Address{"net", "10.0.0.2"}
		if s, _ := b.core.AddressState(at); (s.Conflict != "") != (c.want != "") || s.State != ipam.Allocated || c.want != "" && !slices.Contains(eff.Changed.Addresses, at) {
			t.Errorf("%s: %+v", c.name, s)
		}
		b.mesos(b.ready(0))
		if got := b.rec("web", 0).GetReason(); (got == padisv1.ReasonAddressConflict) != (c.want != "") {
			t.Errorf("%s: after news of it: %s", c.name, got)
		}
		b.says(&padisv1.FromExecutor{})
		if r := b.rec("web", 0); r.GetReason() != padisv1.ReasonReady || !r.GetReady() {
			t.Errorf("%s: when it is over: %v", c.name, r)
		}
	}
}

// A container that uses an address which the ledger does not give it is in the log once, and the holder is told.
func TestLeaks(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(2)
	mine, other := b.rec("web", 0), b.rec("web", 1)
	use := func(container, address string) *padisv1.UsedAddress {
		return &padisv1.UsedAddress{Container: container, Network: "net", Address: address}
	}
	say := func(said *padisv1.FromExecutor) Effects {
		data, err := padisv1.Encode(said)
		if err != nil {
			t.Fatal(err)
		}
		return b.core.Step(b.now, FromMesos{mesos.FromExecutor{AgentID: "a1", ExecutorID: mine.GetExecutorId(), Data: data}})
	}
	right := []*padisv1.UsedAddress{use(mine.GetContainer(), mine.GetAddresses()[0]), use(other.GetContainer(), other.GetAddresses()[0])}
	if eff := say(&padisv1.FromExecutor{Addresses: right}); len(eff.Errors) != 0 {
		t.Errorf("%v", eff.Errors)
	}
	if eff := say(&padisv1.FromExecutor{Addresses: append(right, use("nobody's", mine.GetAddresses()[0])), Orphans: []string{"nobody's"}}); len(eff.Errors) != 0 {
		t.Errorf("it is discarded, and: %v", eff.Errors)
	}
	wrong := &padisv1.FromExecutor{Addresses: append(right, use(other.GetContainer(), mine.GetAddresses()[0]), use(other.GetContainer(), "10.0.0.77"))}
	eff := say(wrong)
	if len(eff.Errors) != 2 || !strings.Contains(fmt.Sprint(eff.Errors), "leased to shop/web-0") || !strings.Contains(fmt.Sprint(eff.Errors), "leased to nobody") {
		t.Errorf("%v", eff.Errors)
	}
	if r := b.rec("web", 0); r.GetReason() != padisv1.ReasonAddressConflict || !strings.Contains(r.GetMessage(), "container "+other.GetContainer()+" on host host-a1") {
		t.Errorf("%v", r)
	}
	if got := b.core.ForeignAddresses(); len(got) != 1 || got[0].Address.Address != "10.0.0.77" {
		t.Errorf("%v", got)
	}
	if eff := say(wrong); len(eff.Errors) != 0 {
		t.Errorf("said again: %v", eff.Errors)
	}
	say(&padisv1.FromExecutor{Addresses: right})
	if r := b.rec("web", 0); r.GetReason() != padisv1.ReasonReady || len(b.core.ForeignAddresses()) != 0 {
		t.Errorf("%v", r)
	}
}

// What an executor is told of the network of an instance.
func TestNetworkOfALaunch(t *testing.T) {
	slow, fast := &padisv1.Bandwidth{Ingress: 1e6}, &padisv1.Bandwidth{Egress: 1e9}
	lease := &padisv1.UnreachablePolicy{Replace: padisv1.UnreachablePolicy_LEASE, LeaseMs: 30000}
	own, host := &padisv1.NetworkWish{Pool: "pool"}, &padisv1.NetworkWish{Network: "host"}
	for _, c := range []struct {
		name   string
		wishes []*padisv1.NetworkWish
		change func(*padisv1.WantedApp, *padisv1.Cluster)
		want   string
	}{
		{"plain", []*padisv1.NetworkWish{own}, func(*padisv1.WantedApp, *padisv1.Cluster) {}, "10.0.0.2 0/0; lo []; lease 0"},
		{"the network's", []*padisv1.NetworkWish{own}, func(_ *padisv1.WantedApp, c *padisv1.Cluster) { c.Networks[0].Bandwidth = fast }, "10.0.0.2 0/1000000000; lo []; lease 0"},
		{"the app's, of the second", []*padisv1.NetworkWish{own, own}, func(a *padisv1.WantedApp, c *padisv1.Cluster) {
			c.Networks[0].Bandwidth = fast
			a.Bandwidths = []*padisv1.Bandwidth{{}, slow}
		}, "10.0.0.2 0/1000000000 10.0.0.3 1000000/0; lo []; lease 0"},
		{"all", []*padisv1.NetworkWish{own}, func(a *padisv1.WantedApp, _ *padisv1.Cluster) {
			a.LoopbackAddresses, a.Unreachable = []string{"10.9.9.9"}, lease
		}, "10.0.0.2 0/0; lo [10.9.9.9]; lease 30000"},
		{"the host's", []*padisv1.NetworkWish{host}, func(a *padisv1.WantedApp, _ *padisv1.Cluster) {
			a.LoopbackAddresses, a.Unreachable, a.Bandwidths = []string{"10.9.9.9"}, lease, []*padisv1.Bandwidth{slow}
		}, "host 0/0; lo []; lease 0"},
	} {
		b := newBench(t, testConfig())
		cluster, app := testCluster(), testApp("web", 1, "r1", c.wishes...)
		cluster.Networks = append(cluster.Networks, &padisv1.Network{Name: "host", Driver: "host"})
		c.change(app, cluster)
		l := launchOf(t, b.on(cluster, app))
		if len(l) != 1 {
			t.Errorf("%s: %v", c.name, b.rec("web", 0))
			continue
		}
		got := ""
		for _, at := range l[0].GetAttachments() {
			name := at.GetAddress()
			if name == "" {
				name = at.GetNetwork().GetName()
			}
			got += fmt.Sprintf("%s %d/%d ", name, at.GetBandwidth().GetIngress(), at.GetBandwidth().GetEgress())
		}
		got = strings.TrimSpace(got) + fmt.Sprintf("; lo %v; lease %d", l[0].GetLoopbackAddresses(), l[0].GetLeaseMs())
		if got != c.want || b.rec("web", 0).GetLeaseMs() != l[0].GetLeaseMs() {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Bandwidths and loopback addresses change while an instance runs; what was taken away is said, too. A launch with the
// same needs no word.
func TestNetworksChangeLive(t *testing.T) {
	b := newBench(t, testConfig())
	app := func(loop ...string) *padisv1.WantedApp {
		a := testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"})
		a.LoopbackAddresses = loop
		return a
	}
	b.on(testCluster(), app())
	wish := func() []*padisv1.NetworkChange { return b.core.agents["a1"].talk.wish.GetNetworks() }
	if len(wish()) != 0 {
		t.Errorf("it has nothing: %v", wish())
	}
	id := b.rec("web", 0).GetTaskId()
	b.step(Want{app("10.9.9.9")})
	if n := wish(); len(n) != 1 || n[0].GetContainer() != id || !slices.Equal(n[0].GetLoopbackAddresses(), []string{"10.9.9.9"}) || len(n[0].GetBandwidths()) != 1 || b.rec("web", 0).GetTaskId() != id {
		t.Fatalf("%v", n)
	}
	generation := b.core.agents["a1"].talk.wish.GetGeneration()
	b.mesos(b.ready(0))
	if g := b.core.agents["a1"].talk.wish.GetGeneration(); g != generation {
		t.Errorf("generation %d after %d, and nothing has changed", g, generation)
	}
	b.step(Want{app()})
	if n := wish(); len(n) != 1 || len(n[0].GetLoopbackAddresses()) != 0 {
		t.Errorf("it is not told that it has none any more: %v", n)
	}
	b.restart(testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: "a1", Hostname: "host-a1", Active: true}}})
	if n := wish(); len(n) != 1 {
		t.Errorf("a new scheduler does not know what it was told, and says %v", n)
	}
}

// Where the tunnels of a VXLAN network end.
func TestOverlays(t *testing.T) {
	b := newBench(t, testConfig())
	cluster := testCluster()
	cluster.Networks[0] = &padisv1.Network{Name: "net", Driver: "vxlan", Vni: 7, Parent: "eth1"}
	b.step(Declare{cluster})
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	app := testApp("web", 3, "r1", &padisv1.NetworkWish{Pool: "pool"})
	app.Revisions[0].Constraints = []*padisv1.Constraint{{Attribute: "hostname", Operator: padisv1.Constraint_UNIQUE}}
	other := testApp("other", 1, "r1")
	b.step(Want{app}, Want{other})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 500, 400), testOffer("o2", "a2", 500, 400), testOffer("o3", "a3", 500, 400), testOffer("o4", "a4", 900, 900)}})
	at := map[string]string{}
	for i := range int32(3) {
		r := b.rec("web", i)
		at[r.GetAgentId()] = r.GetAddresses()[0]
		b.mesos(status(r.GetTaskId(), r.GetAgentId(), mesos.TaskRunning, "SOURCE_EXECUTOR"))
	}
	agents := []string{b.rec("web", 0).GetAgentId(), b.rec("web", 1).GetAgentId(), b.rec("web", 2).GetAgentId()}
	for i, id := range agents {
		b.word(id, &padisv1.FromExecutor{HostAddresses: []*padisv1.HostAddress{
			{Interface: "eth0", Address: fmt.Sprintf("198.51.100.%d/24", i+1)}, {Interface: "eth1", Address: "fe80::1/64"}, {Interface: "eth1", Address: fmt.Sprintf("192.0.2.%d/24", i+1)},
		}})
	}
	show := func(id string) string {
		var out []string
		for _, o := range b.core.agents[id].talk.wish.GetOverlays() {
			for _, h := range o.GetHosts() {
				out = append(out, o.GetNetwork()+" "+h.GetEndpoint()+" "+strings.Join(h.GetAddresses(), ","))
			}
		}
		return strings.Join(out, "; ")
	}
	if got, want := show(agents[0]), "net 192.0.2.2 "+at[agents[1]]+"; net 192.0.2.3 "+at[agents[2]]; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// What ends is taken away there where somebody is left, and where nobody is concerned nothing is said.
	before := map[string]int64{}
	for id, a := range b.core.agents {
		before[id] = a.talk.wish.GetGeneration()
	}
	b.now = b.now.Add(time.Second)
	next := testApp("web", 2, "r1", &padisv1.NetworkWish{Pool: "pool"})
	next.Revisions[0].Constraints = app.GetRevisions()[0].GetConstraints()
	gone := b.rec("web", 2).GetTaskId()
	b.step(Want{next})
	b.mesos(status(gone, agents[2], mesos.TaskKilled, "SOURCE_EXECUTOR"))
	if got, want := show(agents[0]), "net 192.0.2.2 "+at[agents[1]]; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if show(agents[2]) != "" {
		t.Errorf("nothing of the network is there, and it is told %s", show(agents[2]))
	}
	for id, a := range b.core.agents {
		if slices.Contains(agents, id) == (a.talk.wish.GetGeneration() == before[id]) {
			t.Errorf("%s: generation %d after %d", id, a.talk.wish.GetGeneration(), before[id])
		}
	}
	// A scheduler that starts takes no tunnel away, though no executor has spoken yet.
	b.restart(testConfig())
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	b.mesos(mesos.AgentsSeen{Agents: []mesos.Agent{{ID: agents[0], Hostname: "host-" + agents[0], Active: true}}})
	if got, want := show(agents[0]), "net 192.0.2.2 "+at[agents[1]]; got != want {
		t.Errorf("after a restart: %s, want %s", got, want)
	}
}

// Both families of an interface are one entry, since its hardware address follows from both; two of one family are two.
func TestOverlaysOfBothFamilies(t *testing.T) {
	b := newBench(t, testConfig())
	cluster := testCluster()
	cluster.Networks[0] = &padisv1.Network{Name: "net", Driver: "vxlan", Vni: 7}
	cluster.Pools = append(cluster.Pools, &padisv1.Pool{Name: "six", Network: "net", Cidr: "fd00::/64", Gateway: "fd00::1"})
	b.step(Declare{cluster})
	b.mesos(mesos.Subscribed{FrameworkID: "F"})
	wish := func(pools ...string) (out []*padisv1.NetworkWish) {
		for _, p := range pools {
			out = append(out, &padisv1.NetworkWish{Pool: p})
		}
		return out
	}
	app := testApp("web", 1, "r1", wish("six", "pool", "pool", "six", "six")...)
	peer := testApp("peer", 1, "r1", wish("pool")...)
	for i, a := range []*padisv1.WantedApp{app, peer} {
		a.Revisions[0].Constraints = []*padisv1.Constraint{{Attribute: "hostname", Operator: padisv1.Constraint_CLUSTER, Value: fmt.Sprintf("host-a%d", i+1)}}
	}
	b.step(Want{app}, Want{peer})
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o1", "a1", 900, 900), testOffer("o2", "a2", 900, 900)}})
	for range 2 {
		for i, name := range []string{"web", "peer"} {
			id := fmt.Sprintf("a%d", i+1)
			b.mesos(status(b.rec(name, 0).GetTaskId(), id, mesos.TaskRunning, "SOURCE_EXECUTOR"))
			b.word(id, &padisv1.FromExecutor{HostAddresses: []*padisv1.HostAddress{{Interface: "eth0", Address: fmt.Sprintf("192.0.2.%d/24", i+1)}}})
		}
		a := b.rec("web", 0).GetAddresses()
		want := []string{a[1] + "," + a[0], a[2] + "," + a[3], a[4]}
		slices.Sort(want)
		if got := b.core.agents["a2"].talk.wish.GetOverlays()[0].GetHosts()[0].GetAddresses(); len(a) != 5 || !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		b.restart(testConfig())
		b.mesos(mesos.Subscribed{FrameworkID: "F"})
	}
}

func TestEndpoints(t *testing.T) {
	eth := []*padisv1.HostAddress{{Interface: "lo", Address: "127.0.0.1/8"}, {Interface: "eth0", Address: "192.0.2.7/24"}, {Interface: "pb-x", Address: "198.51.100.7/24"},
		{Interface: padisv1.BridgeName("unnamed"), Address: "198.51.100.8/24"}}
	for _, c := range []struct {
		name, parent, hostname, url string
		hosts                       []*padisv1.HostAddress
		want                        string
	}{
		{"the parent's", "eth0", "203.0.113.9", "", eth, "192.0.2.7"},
		{"the bridge's that took the parent", "eth1", "h", "", eth, "198.51.100.7"},
		{"the unnamed bridge's that took the parent", "eth3", "h", "", eth, "198.51.100.8"},
		{"nothing known of the parent", "eth2", "203.0.113.9", "", eth, ""},
		{"the host name", "", "203.0.113.9", "http://203.0.113.10:5051", eth, "203.0.113.9"},
		{"the url", "", "h", "http://[2001:db8::1]:5051", eth, "2001:db8::1"},
		{"the first", "", "h", "http://h:5051", eth, "192.0.2.7"},
		{"none", "", "h", "http://127.0.0.1:5051", nil, ""},
	} {
		core := &Core{cluster: &padisv1.Cluster{Networks: []*padisv1.Network{{Name: "flat", Driver: "bridge", Bridge: "pb-x", Parent: "eth1", TakeParent: true},
			{Name: "unnamed", Driver: "bridge", Parent: "eth3", TakeParent: true}}}}
		a := &agent{hostname: c.hostname, url: c.url, seen: sighting{hosts: c.hosts}}
		if got := core.endpoint(a, &padisv1.Network{Driver: "vxlan", Parent: c.parent}); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// A host is told of the routers that are its own.
func TestRoutersOfAnAgent(t *testing.T) {
	all := &padisv1.BgpPeer{Address: "192.0.2.1"}
	left := &padisv1.BgpPeer{Address: "192.0.2.2", Agents: []*padisv1.AgentSelector{{Attribute: "rack", Value: "left"}}}
	n := &padisv1.Network{Name: "net", Driver: "routed", Bgp: &padisv1.Bgp{Asn: 65001, Peers: []*padisv1.BgpPeer{left, all}}}
	if got := (&agent{attributes: map[string]string{"rack": "left"}}).routers(n); got != n {
		t.Errorf("%v", got)
	}
	got := (&agent{attributes: map[string]string{"rack": "right"}}).routers(n)
	if peers := got.GetBgp().GetPeers(); len(peers) != 1 || peers[0].GetAddress() != "192.0.2.1" || len(n.GetBgp().GetPeers()) != 2 {
		t.Errorf("%v of %v", got, n)
	}
}

// What is declared of routers reaches hosts whose instances run.
func TestRoutersChangeWhileInstancesRun(t *testing.T) {
	b := newBench(t, testConfig())
	declared := func(asn uint32) *padisv1.Cluster {
		cluster := testCluster()
		cluster.Networks[0].Driver = "routed"
		cluster.Networks[0].Bgp = &padisv1.Bgp{Asn: 64512, Peers: []*padisv1.BgpPeer{{Address: "192.0.2.1", Asn: asn},
			{Address: "192.0.2.2", Asn: asn, Agents: []*padisv1.AgentSelector{{Attribute: "hostname", Value: "elsewhere"}}}}}
		return cluster
	}
	b.on(declared(64513), testApp("web", 1, "r1", &padisv1.NetworkWish{Pool: "pool"}))
	told := func() string {
		var out []string
		for _, n := range b.core.agents["a1"].talk.wish.GetAnnounced() {
			for _, p := range n.GetBgp().GetPeers() {
				out = append(out, fmt.Sprint(n.GetName(), " ", p.GetAddress(), " ", p.GetAsn()))
			}
		}
		return strings.Join(out, ", ")
	}
	if got := told(); got != "net 192.0.2.1 64513" {
		t.Errorf("told %q", got)
	}
	before := b.core.agents["a1"].talk.wish.GetGeneration()
	b.step(Declare{declared(64514)})
	if got := told(); got != "net 192.0.2.1 64514" || b.core.agents["a1"].talk.wish.GetGeneration() <= before {
		t.Errorf("told %q", got)
	}
}

// Two instances with the host's network do not listen on one port of a host.
func TestPortsOfHosts(t *testing.T) {
	b := newBench(t, testConfig())
	cluster := testCluster()
	cluster.Networks = append(cluster.Networks, &padisv1.Network{Name: "host", Driver: "host"})
	app := testApp("web", 2, "r1", &padisv1.NetworkWish{Network: "host"})
	app.Revisions[0].Template.Ports = []*padisv1.Port{{Name: "http", Port: 80}}
	b.on(cluster, app)
	if r := b.rec("web", 1); r.GetReason() != padisv1.ReasonPortInUse || !strings.Contains(r.GetMessage(), "80/tcp") || len(r.GetAddresses()) != 0 {
		t.Fatalf("%v", r)
	}
	b.mesos(mesos.Offers{Offers: []mesos.Offer{testOffer("o2", "a2", 1000, 512)}})
	if r := b.rec("web", 1); r.GetAgentId() != "a2" {
		t.Errorf("%v", r)
	}
}

// A tenant holds no more addresses than it may.
func TestAddressQuotas(t *testing.T) {
	b := newBench(t, testConfig())
	cluster := testCluster()
	cluster.Tenants = []*padisv1.Tenant{{Name: "t", Namespaces: []string{"shop"}, AddressQuotas: []*padisv1.AddressQuota{{Max: 1}}}}
	app := testApp("web", 2, "r1", &padisv1.NetworkWish{Pool: "pool"})
	app.Tenant = "t"
	b.on(cluster, app)
	if r := b.rec("web", 1); r.GetReason() != padisv1.ReasonAddressQuotaExceeded || b.core.Refusals(record.Slot{AppUID: r.GetAppUid(), Index: 1})[padisv1.ReasonAddressQuotaExceeded] != 1 {
		t.Errorf("%v", r)
	}
	raised := testCluster()
	raised.Tenants = []*padisv1.Tenant{{Name: "t", Namespaces: []string{"shop"}, AddressQuotas: []*padisv1.AddressQuota{{Max: 2}}}}
	b.step(Declare{raised})
	if r := b.rec("web", 1); len(r.GetAddresses()) != 1 {
		t.Errorf("%v", r)
	}
}

// A message is never larger than Mesos takes; what is left out is said.
func TestMessagesAreBounded(t *testing.T) {
	b := newBench(t, testConfig())
	b.containers(1)
	a := b.core.agents["a1"]
	big := &padisv1.ConfigChange{Container: "big", Configs: []*padisv1.ConfigData{{Name: "configmap/x", Data: map[string][]byte{"k": make([]byte, 900<<10)}}}}
	small := &padisv1.ConfigChange{Container: "small", Configs: []*padisv1.ConfigData{{Name: "configmap/y", Data: map[string][]byte{"k": make([]byte, 300<<10)}}}}
	overlay := &padisv1.Overlay{Network: "net", Hosts: []*padisv1.OverlayHost{{Endpoint: "192.0.2.1"}}}
	w := b.core.bounded(a, &padisv1.ToExecutor{Generation: 5, Configs: []*padisv1.ConfigChange{small, big}}, []*padisv1.Overlay{overlay})
	if len(w.GetConfigs()) != 1 || w.GetConfigs()[0] != small || len(w.GetOverlays()) != 1 || w.GetGeneration() != 5 {
		t.Errorf("%d configs, %d overlays", len(w.GetConfigs()), len(w.GetOverlays()))
	}
	if errs := b.core.turn.errs; len(errs) != 1 || !strings.Contains(errs[0].Error(), "the files of big") {
		t.Errorf("%v", errs)
	}
}

// How networks fare is what executors said last.
func TestNetworkStates(t *testing.T) {
	b := newBench(t, testConfig())
	b.running(1)
	st := &padisv1.NetworkState{Network: "net", Reason: padisv1.ReasonPeerDown, Message: "m"}
	eff := b.says(&padisv1.FromExecutor{Networks: []*padisv1.NetworkState{st}})
	got := b.core.NetworkStates()["net"]
	if len(got) != 1 || got[0].Host != "host-a1" || got[0].State.GetReason() != padisv1.ReasonPeerDown || !slices.Contains(eff.Changed.Agents, "a1") {
		t.Errorf("%v", got)
	}
}

// A scheduler that starts with a whole /16 leased.
func BenchmarkStart(b *testing.B) {
	cluster := testCluster()
	cluster.Pools[0].Cidr, cluster.Pools[0].Gateway = "10.0.0.0/15", "10.0.0.1"
	app := testApp("web", 1<<16, "r1", &padisv1.NetworkWish{Pool: "pool"})
	snap := record.Snapshot{Framework: &padisv1.FrameworkRecord{FrameworkId: "F"}, Cluster: cluster, Apps: []*padisv1.WantedApp{app}}
	for i := range int32(1 << 16) {
		n := i + 256
		agent, address := fmt.Sprintf("a%d", i%1000), fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&0xff, n&0xff)
		r := &padisv1.InstanceRecord{
			AppUid: app.GetUid(), Namespace: "shop", App: "web", Slot: i, Phase: padisv1.Phase_RUNNING, Revision: "r1", Attempt: 1,
			AgentId: agent, Addresses: []string{address}, RunningMs: 1, Ready: true, ReadyMs: 1,
		}
		r.TaskId = fmt.Sprintf("shop.web-%d.webuidof.1", i)
		snap.Instances = append(snap.Instances, r)
		snap.Leases = append(snap.Leases, &padisv1.LeaseRecord{Address: address, Pool: "pool", Network: "net", AppUid: app.GetUid(), Namespace: "shop", App: "web", Slot: i, LeasedMs: 1})
	}
	now := time.UnixMilli(1_700_000_000_000)
	for b.Loop() {
		c, err := New(testConfig(), snap)
		if err != nil {
			b.Fatal(err)
		}
		c.Step(now, FromMesos{mesos.Subscribed{FrameworkID: "F"}})
	}
}
