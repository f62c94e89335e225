package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func attachment(bridge, parent, address string) *padisv1.Attachment {
	return &padisv1.Attachment{Network: &padisv1.Network{Name: "lan", Bridge: bridge, Parent: parent}, Address: address, PrefixLength: 16, Gateway: "10.44.255.254"}
}

func device(name string, addresses ...string) Link {
	l := Link{Name: name, Kind: "device", MTU: 1500, Up: true}
	for _, a := range addresses {
		l.Addresses = append(l.Addresses, netip.MustParsePrefix(a))
	}
	return l
}

func TestPlanReadsAsCommands(t *testing.T) {
	w, err := Want("exec", "shop.web-0.1a2b3c4d.1", "host1", []*padisv1.Attachment{attachment("padis0", "eth1", "10.44.0.5")})
	if err != nil {
		t.Fatal(err)
	}
	world := &world{host: []Link{device("eth1")}, inside: []Link{{Name: "lo"}}}
	ops, err := Plan(w, world.observed())
	if err != nil {
		t.Fatal(err)
	}
	if err := world.apply(ops); err != nil {
		t.Fatal(err)
	}
	end := w.Interfaces[0].Host
	want := strings.ReplaceAll(`ip link add padis0 address 02:50:24:ab:6f:51 mtu 1500 up type bridge forward_delay 0 stp_state 0
ip link set eth1 master padis0
ip -n INSTANCE link set lo up
ip link add END mtu 1500 master padis0 up type veth peer name eth0 netns INSTANCE address 02:42:0a:2c:00:05 mtu 1500
ip netns exec INSTANCE sysctl -w net/ipv4/conf/eth0/arp_notify=1
ip netns exec INSTANCE sysctl -w net/ipv6/conf/eth0/disable_ipv6=1
ip -n INSTANCE addr add 10.44.0.5/16 dev eth0
ip -n INSTANCE link set eth0 up
ip -n INSTANCE route replace default via 10.44.255.254 dev eth0
`, "END", end)
	want = strings.ReplaceAll(want, "02:50:24:ab:6f:51", w.Bridges[0].MAC.String())
	if world.String() != want {
		t.Errorf("got\n%s\nwant\n%s", world, want)
	}
	if ops := Silence(w, world.host); fmt.Sprint(ops) != "[ip link set "+end+" down]" {
		t.Errorf("silence: %v", ops)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	w, err := Want("exec", "t", "h", []*padisv1.Attachment{attachment("padis0", "eth1", "10.44.0.5")})
	if err != nil {
		t.Fatal(err)
	}
	taken := device("eth1")
	taken.Master = "docker0"
	small := device("eth1")
	small.MTU = 1400
	for name, c := range map[string]struct {
		host []Link
		says string
	}{
		"no parent":            {nil, "correct Network.spec.parent"},
		"parent has addresses": {[]Link{device("eth1", "192.0.2.7/24")}, "carries the address 192.0.2.7/24"},
		"parent taken":         {[]Link{taken}, "already a port of docker0"},
		"parent too narrow":    {[]Link{small}, "lower Network.spec.mtu"},
		"bridge is no bridge":  {[]Link{device("eth1"), device("padis0")}, "choose another name in Network.spec.bridge"},
		"end is a stranger":    {[]Link{device("eth1"), device(w.Interfaces[0].Host)}, "remove it"},
	} {
		ops, err := Plan(w, Observed{Host: c.host})
		if err == nil || !strings.Contains(err.Error(), c.says) || ops != nil {
			t.Errorf("%s: ops %v, error %v; want one that says %q", name, ops, err, c.says)
		}
	}
}

func TestBadAttachmentsAreRefused(t *testing.T) {
	change := func(f func(*padisv1.Attachment)) []*padisv1.Attachment {
		a := attachment("padis0", "eth1", "10.44.0.5")
		f(a)
		return []*padisv1.Attachment{a}
	}
	other := attachment("padis0", "eth2", "10.44.0.6")
	for name, in := range map[string][]*padisv1.Attachment{
		"no network":       {{Address: "10.0.0.1", PrefixLength: 8}},
		"driver":           change(func(a *padisv1.Attachment) { a.Network.Driver = "ovs" }),
		"long bridge":      change(func(a *padisv1.Attachment) { a.Network.Bridge = "a-name-that-is-too-long" }),
		"slash":            change(func(a *padisv1.Attachment) { a.Network.Bridge = "../x" }),
		"parent":           change(func(a *padisv1.Attachment) { a.Network.Parent = "a b" }),
		"itself":           change(func(a *padisv1.Attachment) { a.Network.Parent = "padis0" }),
		"mtu":              change(func(a *padisv1.Attachment) { a.Network.Mtu = 70000 }),
		"address":          change(func(a *padisv1.Attachment) { a.Address = "10.44.0.256" }),
		"ipv6":             change(func(a *padisv1.Attachment) { a.Address = "fd00::1" }),
		"loopback":         change(func(a *padisv1.Attachment) { a.Address = "127.0.0.1" }),
		"prefix":           change(func(a *padisv1.Attachment) { a.PrefixLength = 33 }),
		"gateway outside":  change(func(a *padisv1.Attachment) { a.Gateway = "10.45.0.1" }),
		"gateway itself":   change(func(a *padisv1.Attachment) { a.Gateway = "10.44.0.5" }),
		"one bridge, two":  {attachment("padis0", "eth1", "10.44.0.5"), other},
		"the same address": {attachment("padis0", "eth1", "10.44.0.5"), attachment("padis0", "eth1", "10.44.0.5")},
	} {
		if w, err := Want("o", "t", "h", in); err == nil {
			t.Errorf("%s: accepted as %+v", name, w)
		}
	}
}

func TestSweepLeavesStrangersAndTheLivingAlone(t *testing.T) {
	veth := func(name string) Link { return Link{Name: name, Kind: "veth"} }
	mine, kept, other := HostEnd("me", "a", 0), HostEnd("me", "b", 0), HostEnd("other", "a", 0)
	host := []Link{device("eth0"), veth("pdx"), veth("veth0123456789a"), {Name: HostEnd("me", "c", 0), Kind: "device"}, veth(mine), veth(kept), veth(other)}
	ops := Sweep(host, "me", map[string]bool{kept: true})
	if want := fmt.Sprintf("[ip link del %s]", mine); fmt.Sprint(ops) != want {
		t.Errorf("got %v, want %v", ops, want)
	}
}

// Whatever the host looks like: either the plan is refused, or carrying it out leads to what is wanted, planning again
// gives nothing to do, and links of strangers are as they were.
func TestApplyingThePlanGivesTheWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bridges := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"padis0", "padis1", "br0"}), 1, 3, rapid.ID).Draw(t, "bridges")
		var as []*padisv1.Attachment
		for i := range rapid.IntRange(0, 3).Draw(t, "attachments") {
			b := rapid.SampledFrom(bridges).Draw(t, "bridge")
			a := attachment(b, map[string]string{"padis0": "eth1", "padis1": "eth2", "br0": ""}[b], fmt.Sprintf("10.44.%d.%d", i, rapid.IntRange(1, 250).Draw(t, "ip")))
			as = append(as, a)
		}
		w, err := Want("me", "task", "host", as)
		if err != nil {
			t.Fatal(err)
		}
		stranger := device("eth0", "192.0.2.1/24")
		world := &world{host: []Link{stranger}, inside: []Link{{Name: "lo", Up: rapid.Bool().Draw(t, "lo")}}}
		for _, p := range []string{"eth1", "eth2"} {
			if rapid.IntRange(0, 9).Draw(t, p) > 0 {
				l := device(p)
				l.Up = rapid.Bool().Draw(t, p+" up")
				if rapid.IntRange(0, 9).Draw(t, p+" addressed") == 0 {
					l.Addresses = []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24")}
				}
				world.host = append(world.host, l)
			}
		}
		// A part of it may be there already, as after a crash between two operations.
		if ops, err := Plan(w, world.observed()); err == nil {
			if err := world.apply(ops[:rapid.IntRange(0, len(ops)).Draw(t, "done")]); err != nil {
				t.Fatal(err)
			}
		}
		before := clone(world.host)
		ops, err := Plan(w, world.observed())
		if err != nil {
			if ops != nil {
				t.Fatalf("refused (%v) and yet planned %v", err, ops)
			}
			return
		}
		if err := world.apply(ops); err != nil {
			t.Fatal(err)
		}
		for _, i := range w.Interfaces {
			h, in := find(world.host, i.Host), find(world.inside, i.Inside)
			if h == nil || !h.Up || h.Master != i.Bridge {
				t.Fatalf("host end %+v of %+v", h, i)
			}
			if in == nil || !in.Up || in.MAC != i.MAC || in.MTU != i.MTU || !slices.Contains(in.Addresses, i.Address) || in.Settings["ipv4/arp_notify"] != "1" {
				t.Fatalf("inner end %+v of %+v", in, i)
			}
			if i.Gateway.IsValid() && world.gateway != i.Gateway {
				t.Fatalf("default via %s, want %s", world.gateway, i.Gateway)
			}
		}
		for _, b := range w.Bridges {
			if b.Parent != "" && find(world.host, b.Parent).Master != b.Name {
				t.Fatalf("%s is not the uplink of %s", b.Parent, b.Name)
			}
		}
		if again, err := Plan(w, world.observed()); err != nil || len(again) > 0 {
			t.Fatalf("a second time: %v, %v", again, err)
		}
		for _, l := range before {
			if len(l.Addresses) > 0 && find(world.host, l.Name).Master != l.Master {
				t.Fatalf("took %s, which has addresses", l.Name)
			}
		}
		if err := world.apply(Silence(w, world.host)); err != nil {
			t.Fatal(err)
		}
		for _, i := range w.Interfaces {
			if find(world.host, i.Host).Up {
				t.Fatalf("%s still answers", i.Host)
			}
		}
	})
}

func TestNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		owner, task, n := rapid.String().Draw(t, "owner"), rapid.String().Draw(t, "task"), rapid.IntRange(0, 3).Draw(t, "n")
		name := HostEnd(owner, task, n)
		if !ValidName(name) {
			t.Fatalf("%q is not a name", name)
		}
		if tag, ok := ParseHostEnd(name); !ok || tag != OwnerTag(owner) {
			t.Fatalf("%q does not tell its owner", name)
		}
		if HostEnd(owner, task, n+1) == name || HostEnd(owner, task+"x", n) == name {
			t.Fatalf("%q twice", name)
		}
	})
}
