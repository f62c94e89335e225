package network

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// networks are what random launches choose from; the address of an attachment tells which.
func networks() []*padisv1.Network {
	return []*padisv1.Network{
		{Name: "flat", Driver: "bridge", Bridge: "padis0", Parent: "eth1"},
		{Name: "own", Bridge: "padis1", Parent: "eth0", TakeParent: true},
		{Name: "inner", Driver: "bridge", HostGateway: true, Peers: []string{"overlay", "elsewhere"}},
		{Name: "tagged", Driver: "vlan", Parent: "eth1", Vlan: 100, Mtu: 1400},
		{Name: "overlay", Driver: "vxlan", Parent: "eth2", Vni: 7, HostGateway: true, Mtu: 1400},
		{Name: "switch", Driver: "ovs", Bridge: "br-ov", Parent: "eth3", Vlan: 5},
		{Name: "switch2", Driver: "ovs", Bridge: "br-ov", Parent: "eth3", Vlan: 6, AllowSpoofing: true},
		{Name: "child", Driver: "macvlan", Parent: "eth4", AllowSpoofing: true},
		{Name: "routed", Driver: "routed", Parent: "eth4", Sysctls: []*padisv1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}, {Name: "net.ipv4.tcp_rmem", Value: "1 2  3"}}},
	}
}

func drawLaunch(t *rapid.T) *padisv1.Launch {
	l := &padisv1.Launch{LeaseMs: rapid.SampledFrom([]int64{0, 30000}).Draw(t, "lease")}
	all := networks()
	for i := range rapid.IntRange(0, 5).Draw(t, "attachments") {
		k := rapid.IntRange(0, len(all)-1).Draw(t, "network")
		a := &padisv1.Attachment{Network: all[k], Pool: "pool", Address: fmt.Sprintf("10.%d.0.%d", k+1, i+1), PrefixLength: 16, Gateway: fmt.Sprintf("10.%d.255.254", k+1)}
		if rapid.Bool().Draw(t, "ipv6") {
			a.Address, a.PrefixLength, a.Gateway = fmt.Sprintf("fd00:%d::%d", k+1, i+1), 64, fmt.Sprintf("fd00:%d::ffff", k+1)
		}
		if !all[k].GetHostGateway() && rapid.IntRange(0, 3).Draw(t, "gateway") == 0 {
			a.Gateway = ""
		}
		l.Attachments = append(l.Attachments, a)
	}
	change(t, l)
	return l
}

// change draws what may change while an instance runs.
func change(t *rapid.T, l *padisv1.Launch) {
	for _, a := range l.Attachments {
		a.Bandwidth = &padisv1.Bandwidth{Egress: rapid.SampledFrom([]int64{0, 8000, 1_000_003}).Draw(t, "egress")}
		if a.Network.GetDriver() != "macvlan" {
			a.Bandwidth.Ingress = rapid.SampledFrom([]int64{0, 9000, 1e9}).Draw(t, "ingress")
		}
	}
	l.LoopbackAddresses = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"192.0.2.80", "192.0.2.81", "2001:db8::80"}), 0, 3, rapid.ID).Draw(t, "loopback")
}

// drawWorld is a host with strangers, and with parents that mostly will do.
func drawWorld(t *rapid.T) *world {
	odd := func(name string) bool { return rapid.IntRange(0, 19).Draw(t, name) == 0 }
	w := newWorld(device("mgmt0", "203.0.113.1/24"), Link{Name: "docker0", Kind: "bridge", Up: true, MTU: 1500}, Link{Name: HostEnd("other", "task", 0), Kind: "veth", Up: true, Master: "docker0", MTU: 1500})
	w.inside[0].Up = rapid.Bool().Draw(t, "lo")
	w.guarded[HostEnd("me", "another", 0)] = GuardedPort{Link: HostEnd("me", "another", 0), Driver: "bridge"}
	w.hosted["docker0"] = []string{"x"}
	w.hostSet = map[string]string{"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": rapid.SampledFrom([]string{"0", "1"}).Draw(t, "forwarding"), "ipv4/tcp_rmem": "4096 5 6"}
	w.insideSet = map[string]string{"core/somaxconn": "4096", "ipv4/tcp_rmem": "1\t2\t3", "ipv4/conf/all/arp_ignore": "0", "ipv4/conf/all/arp_announce": "0"}
	for i := range 5 {
		l := Link{Name: fmt.Sprintf("eth%d", i), Kind: "device", MTU: 1500, Up: rapid.Bool().Draw(t, "up"), MAC: MAC{0, 0x16, 0x3e, 0, 0, byte(i)}}
		if i == 0 || i == 2 || odd("address") {
			l.Addresses = prefixes(fmt.Sprintf("198.51.%d.1/24", i))
		}
		if odd("master") {
			l.Master = "docker0"
		}
		if odd("narrow") {
			l.MTU = 1300
		}
		if !odd("gone") {
			w.host = append(w.host, l)
			w.hostSet["ipv6/conf/"+l.Name+"/accept_ra"] = rapid.SampledFrom([]string{"0", "1", "2"}).Draw(t, "ra")
		}
	}
	if l := find(w.host, "eth0"); l != nil && l.Up && rapid.Bool().Draw(t, "uplink") {
		w.hostRoutes = []Route{{Destination: netip.MustParsePrefix("198.51.0.0/24"), Link: "eth0"},
			{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("198.51.0.254"), Link: "eth0"}}
	}
	return w
}

// disturb changes something that is ours, as others, the kernel and time do.
func disturb(t *rapid.T, w *world, wanted Wanted) {
	for _, i := range wanted.Interfaces {
		if h := find(w.host, i.Host); h != nil {
			switch rapid.IntRange(0, 12).Draw(t, "disturb "+i.Host) {
			case 0:
				w.one(SetDown{i.Host, false})
			case 1:
				h.Master = ""
			case 2:
				h.Rate += 8
			case 3:
				w.one(Unguard{i.Host})
			case 4:
				if g, ok := w.guarded[i.Host]; ok {
					g.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.99")}
					w.guarded[i.Host] = g
				}
			case 5:
				w.one(DelSwitchPort{i.Bridge, i.Host})
			case 6:
				w.one(DelLink{i.Host, false})
			case 7:
				h.MTU = 999
			case 8:
				w.hostRoutes = slices.DeleteFunc(w.hostRoutes, func(r Route) bool { return r.Link == i.Host })
			case 9:
				w.one(AddRoute{Route: Route{Destination: netip.MustParsePrefix("192.0.2.99/32"), Link: i.Host}})
			}
		}
		if in := find(w.inside, i.Inside); in != nil {
			switch rapid.IntRange(0, 9).Draw(t, "disturb "+i.Inside) {
			case 0:
				w.one(SetDown{i.Inside, true})
			case 1:
				in.MAC = MAC{2}
			case 2:
				in.Addresses = nil
				w.insideRoutes = nil
			case 3:
				in.Addresses = slices.Insert(in.Addresses, 0, netip.PrefixFrom(i.Addresses[0].Addr().Next(), i.Addresses[0].Bits()))
			case 4:
				in.Rate = 80
			case 5:
				w.insideSet["ipv6/conf/"+i.Inside+"/disable_ipv6"] = "0"
			case 6:
				w.one(AddRoute{Route{defaultOf(i.Addresses[0].Addr()), i.Addresses[0].Addr().Next(), i.Inside, true}, true})
			}
		}
	}
	lo := find(w.inside, "lo")
	if rapid.Bool().Draw(t, "old loopback") {
		lo.Addresses = append(lo.Addresses, prefixes("192.0.2.99/32")...)
	}
}

// reached tells what of the wanted is not there.
func (w *world) reached(wanted Wanted) error {
	o := w.observed()
	for _, s := range wanted.Segments {
		switch b := find(w.host, s.Bridge); {
		case s.Driver == DriverOVS:
			if sw := findSwitch(o, s.Bridge); sw == nil || sw.port(s.Uplink) == nil || !find(w.host, s.Uplink).Up {
				return fmt.Errorf("switch %s", s.Bridge)
			}
		case s.Bridge != "":
			if b == nil || !b.Up {
				return fmt.Errorf("bridge %s", s.Bridge)
			}
			if s.Uplink != "" {
				if u := find(w.host, s.Uplink); u == nil || !u.Up || u.Master != s.Bridge || u.VLAN != s.VLAN || u.VNI != s.VNI || u.PortFlags != (PortFlags{Suppress: s.Driver == DriverVXLAN}) {
					return fmt.Errorf("uplink %s: %+v", s.Uplink, u)
				}
			}
			for _, g := range s.Gateways {
				if !slices.Contains(b.Addresses, g) || !slices.Equal(w.hosted[s.Bridge], s.Peers) {
					return fmt.Errorf("gateway %s", g)
				}
			}
		}
		if s.Parent != "" && s.Driver != DriverRouted && !find(w.host, s.Parent).Up {
			return fmt.Errorf("parent %s is down", s.Parent)
		}
	}
	for _, i := range wanted.Interfaces {
		h, in := find(w.host, i.Host), find(w.inside, i.Inside)
		if in == nil || !in.Up || in.MAC != i.MAC || in.MTU != i.MTU || in.Rate != i.Bandwidth.Egress {
			return fmt.Errorf("inner end %+v of %+v", in, i)
		}
		have := slices.Clone(in.Addresses)
		slices.SortFunc(have, netip.Prefix.Compare)
		if !slices.Equal(have, slices.SortedFunc(slices.Values(i.Addresses), netip.Prefix.Compare)) {
			return fmt.Errorf("addresses %v of %+v", have, i)
		}
		for _, s := range slices.Concat(i.Settings, wanted.Settings) {
			if !equalValues(w.insideSet[s.Key], s.Value) {
				return fmt.Errorf("setting %s is %q", s.Key, w.insideSet[s.Key])
			}
		}
		for _, g := range i.Gateways {
			if !slices.ContainsFunc(w.insideRoutes, func(r Route) bool { return r.Destination == defaultOf(g) && r.Gateway == g && r.Link == i.Inside }) {
				return fmt.Errorf("no default by %s in %v", g, w.insideRoutes)
			}
		}
		if i.Driver == DriverMACVLAN {
			continue
		}
		if h == nil || !h.Up || h.Rate != i.Bandwidth.Ingress || h.MTU != i.MTU || !w.connected(i) {
			return fmt.Errorf("host end %+v of %+v", h, i)
		}
		if _, any := w.guarded[i.Host]; any != i.Guarded || any && !w.guards(i, wanted) {
			return fmt.Errorf("guard %+v of %+v", w.guarded[i.Host], i)
		}
		switch i.Driver {
		case DriverOVS:
			if p := findSwitch(o, i.Bridge).port(i.Host); p.VLAN != i.VLAN || w.number[i.Host] == 0 {
				return fmt.Errorf("port %+v", p)
			}
		case DriverRouted:
			have := slices.DeleteFunc(slices.Clone(w.hostRoutes), func(r Route) bool { return r.Link != i.Host })
			if len(have) != len(i.Addresses) {
				return fmt.Errorf("routes %v", have)
			}
			if i.has4() && (w.hostSet["ipv4/conf/"+i.Host+"/proxy_arp"] != "1" || w.hostSet["ipv4/ip_forward"] != "1") ||
				i.has6() && (!slices.Contains(h.Addresses, netip.MustParsePrefix("fe80::1/64")) || w.hostSet["ipv6/conf/all/forwarding"] != "1") {
				return fmt.Errorf("%s does not route", i.Host)
			}
		default:
			if h.Master != i.Bridge {
				return fmt.Errorf("host end %+v", h)
			}
		}
	}
	lo := find(w.inside, "lo")
	if !lo.Up || len(lo.Addresses) != 2+len(wanted.Loopback) {
		return fmt.Errorf("loopback %+v", lo)
	}
	return nil
}

// strangers is all that the wanted does not name, as text.
func (w *world) strangers(wanted Wanted) string {
	o := w.observed()
	named := map[string]bool{}
	for _, n := range wanted.HostLinks() {
		named[n] = true
	}
	for _, k := range wanted.HostSettings() {
		named[k] = true
	}
	o.Host = slices.DeleteFunc(o.Host, func(l Link) bool { return named[l.Name] })
	o.HostRoutes = slices.DeleteFunc(o.HostRoutes, func(r Route) bool { return named[r.Link] })
	o.Inside, o.InsideRoutes, o.InsideSettings = nil, nil, nil
	for _, m := range []map[string]string{o.HostSettings} {
		for k := range m {
			for _, i := range wanted.Interfaces {
				if named[k] || settingOf(k, i.Host) {
					delete(m, k)
				}
			}
			for _, s := range wanted.Segments {
				if named[k] || settingOf(k, s.Bridge) || settingOf(k, s.Uplink) {
					delete(m, k)
				}
			}
		}
	}
	for _, i := range wanted.Interfaces {
		delete(o.Guarded, i.Host)
	}
	for _, s := range wanted.Segments {
		delete(o.Hosted, s.Bridge)
	}
	o.Switches = slices.DeleteFunc(o.Switches, func(s Switch) bool { return slices.Contains(wanted.Switches(), s.Name) })
	return fmt.Sprintf("%+v", o)
}

// watch lets each operation fail that connects an interface which is not guarded, unless it was so when we came.
func (w *world) watch(wanted Wanted) {
	was := map[string]bool{}
	for _, i := range wanted.Interfaces {
		was[i.Host] = w.connected(i)
	}
	w.check = func(Op) error {
		for _, i := range wanted.Interfaces {
			if i.Guarded && i.Driver != DriverMACVLAN && !was[i.Host] && w.connected(i) && !w.guards(i, wanted) {
				return fmt.Errorf("%s is connected and not guarded", i.Host)
			}
			was[i.Host] = was[i.Host] && w.connected(i) && !w.guards(i, wanted)
		}
		return nil
	}
}

func mustWant(t interface{ Fatal(...any) }, l *padisv1.Launch) Wanted {
	w, err := Want("me", "task", "host", l)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Whatever the host looks like: either the plan is refused, or carrying it out leads to what is wanted, planning again
// gives nothing to do, and what is of strangers is as it was. That holds, too, when the executor dies after any of the
// operations and plans anew, and when what an older plan made was disturbed. Nothing is connected before it is guarded.
func TestApplyingThePlanGivesTheWanted(t *testing.T) {
	refused, applied := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		l := drawLaunch(t)
		w, world := mustWant(t, l), drawWorld(t)
		strangers := world.strangers(w)
		if rapid.Bool().Draw(t, "was there") {
			before := proto.Clone(l).(*padisv1.Launch)
			change(t, before)
			old := mustWant(t, before)
			if ops, err := Plan(old, world.observed()); err == nil {
				world.watch(old)
				if err := world.apply(ops); err != nil {
					t.Fatalf("at first: %v after\n%s", err, world)
				}
				world.check = nil
				disturb(t, world, w)
			}
		}
		taken := map[string]string{}
		for _, l := range world.host {
			taken[l.Name] = fmt.Sprint(l.Master, l.Addresses)
		}
		for round := 0; ; round++ {
			ops, err := Plan(w, world.observed())
			if err != nil {
				if ops != nil || round > 0 {
					t.Fatalf("refused (%v) in round %d and yet planned %v", err, round, ops)
				}
				refused++
				return
			}
			world.watch(w)
			if round < 3 {
				ops = ops[:rapid.IntRange(0, len(ops)).Draw(t, "crash")]
			}
			if err := world.apply(ops); err != nil {
				t.Fatalf("%v after\n%s", err, world)
			}
			if round == 3 {
				break
			}
		}
		applied++
		if err := world.reached(w); err != nil {
			t.Fatalf("not there: %v after\n%s", err, world)
		}
		if again, err := Plan(w, world.observed()); err != nil || len(again) > 0 {
			t.Fatalf("a second time: %v, %v after\n%s", again, err, world)
		}
		if got := world.strangers(w); got != strangers {
			t.Fatalf("strangers are\n%s\nwere\n%s", got, strangers)
		}
		for _, s := range w.Segments {
			if l := find(world.host, s.Parent); l != nil && !s.TakeParent && taken[l.Name] != fmt.Sprint("", l.Addresses) && taken[l.Name] != fmt.Sprint(l.Master, l.Addresses) {
				t.Fatalf("took %+v, which was %s", l, taken[l.Name])
			}
		}
		silenced(t, w, world)
	})
	if refused == 0 || applied == 0 {
		t.Fatalf("%d refused and %d applied: this proves little", refused, applied)
	}
}

func silenced(t *rapid.T, w Wanted, world *world) {
	world.check = nil
	if err := world.apply(Silence(w, world.observed())); err != nil {
		t.Fatal(err)
	}
	for _, i := range w.Interfaces {
		if i.Driver == DriverMACVLAN && find(world.inside, i.Inside).Up || i.Driver != DriverMACVLAN && find(world.host, i.Host).Up {
			t.Fatalf("%+v still answers", i)
		}
		if _, ok := world.guarded[i.Host]; ok || slices.ContainsFunc(world.hostRoutes, func(r Route) bool { return r.Link == i.Host }) {
			t.Fatalf("something of %+v is left", i)
		}
	}
	if again := Silence(w, world.observed()); len(again) > 0 {
		t.Fatalf("a second time: %v", again)
	}
	if err := world.apply(Sweep(world.observed(), "me", map[string]bool{HostEnd("me", "another", 0): true})); err != nil {
		t.Fatal(err)
	}
	for _, i := range w.Interfaces {
		if find(world.host, i.Host) != nil {
			t.Fatalf("%s was not swept", i.Host)
		}
	}
}

// Bandwidths, loopback addresses and the lease change by planning again, and nothing that carries packets is touched.
func TestWhatChangesLiveDisturbsNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLaunch(t)
		w, world := mustWant(t, l), drawWorld(t)
		ops, err := Plan(w, world.observed())
		if err != nil {
			return
		}
		if err := world.apply(ops); err != nil {
			t.Fatal(err)
		}
		change(t, l)
		l.LeaseMs = 60000
		now := mustWant(t, l)
		ops, err = Plan(now, world.observed())
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range ops {
			switch op := op.(type) {
			case SetRate, Set:
			case Guard:
				if reflect.DeepEqual(w.Loopback, now.Loopback) {
					t.Fatalf("%s", op)
				}
			case AddAddress:
				if op.Link != "lo" {
					t.Fatalf("%s", op)
				}
			case DelAddress:
				if op.Link != "lo" {
					t.Fatalf("%s", op)
				}
			default:
				t.Fatalf("%s", op)
			}
		}
		if err := world.apply(append(ops, Renew(now, world.observed())...)); err != nil {
			t.Fatal(err)
		}
		if err := world.reached(now); err != nil {
			t.Fatal(err)
		}
		for _, i := range now.Interfaces {
			for _, a := range i.Addresses {
				if v := world.valid[i.Inside+" "+a.String()]; v != "1m0s" {
					t.Fatalf("%s stays %s", a, v)
				}
			}
		}
	})
}
