package tcx

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// webs are the two services of the lab, IPv4 and IPv6, after a history of real servers in order: each generation has one list.
func (l *lab) webs(prev []*lb.Generation, states map[*machine]lb.State) []*lb.Generation {
	l.t.Helper()
	var servers []lb.Server
	for m, s := range states {
		servers = append(servers, lb.Server{ID: m.name, MAC: m.mac, Weight: 1, State: s})
	}
	var gs []*lb.Generation
	for i, vip := range []string{vip4Text, vip6Text} {
		var p *lb.Generation
		if prev != nil {
			p = prev[i]
		}
		g, err := lb.Next(p, lb.Service{VIP: netip.MustParseAddr(vip), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: 251, Seed: 7}, servers)
		l.must(err)
		gs = append(gs, g)
	}
	return gs
}

// director loads one in its namespace. With out it names the interface that frames leave by, which is the one they come in by.
func (l *lab) director(m *machine, mode Mode, out bool) *Dataplane {
	l.t.Helper()
	var d *Dataplane
	m.do(l, func() (err error) {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		o := Options{Mode: mode, MAC: m.mac, Services: 4}
		if out {
			o.Out = eth0.Attrs().Index
		}
		if d, err = Load(o); err != nil {
			return err
		}
		return d.Attach(eth0.Attrs().Index)
	})
	l.t.Cleanup(func() { d.Close() })
	return d
}

// passAtPeer hangs a program at the other end of a veth, without which it drops what XDP sends.
func (l *lab) passAtPeer(m *machine) {
	l.t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}})
	l.must(err)
	at, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: m.port.Attrs().Index, Flags: link.XDPDriverMode})
	l.must(err)
	l.t.Cleanup(func() { at.Close(); p.Close() })
}

func TestDirectorsInTraffic(t *testing.T) {
	for _, c := range []struct {
		mode Mode
		out  bool
	}{{DirectorTCX, false}, {DirectorXDP, false}, {DirectorXDPGeneric, false}, {DirectorTCX, true}, {DirectorXDP, true}} {
		mode := c.mode
		t.Run(fmt.Sprintf("%s out %v", mode, c.out), func(t *testing.T) {
			l := newLab(t)
			client, dir := l.machine("client", 2), l.machine("dir", 10)
			servers := []*machine{l.machine("s1", 21), l.machine("s2", 22)}
			for _, s := range servers {
				l.serve(s)
			}
			l.routeVIPs(client, dir)
			if mode == DirectorXDP {
				l.passAtPeer(dir)
				l.noChecksumOffload(client)
			}
			d := l.director(dir, mode, c.out)
			gs := l.webs(nil, map[*machine]lb.State{servers[0]: lb.Serving, servers[1]: lb.Serving})
			l.must(d.Set(gs...))
			replies := l.replies(dir)
			served := map[string]int{}
			for i := range 40 {
				g := gs[i%2]
				c := l.dial(client, g.Service.VIP.String())
				name, err := c.who()
				if err != nil {
					t.Fatalf("%v: %v", c.flow, err)
				}
				if want := g.Owner(g.Service.Slot(c.flow)).ID; name != want {
					t.Errorf("%v is served by %s, its slot is %s's", c.flow, name, want)
				}
				served[name]++
			}
			if served["s1"] == 0 || served["s2"] == 0 {
				t.Errorf("connections: %v", served)
			}
			if n := replies(); n != 0 {
				t.Errorf("%d replies went through the director", n)
			}
			counters, err := d.Counters()
			l.must(err)
			for _, g := range gs {
				if c := counters.Services[listenerOf(&g.Service)]; c.Packets[lb.Placed] < 20*4 || c.Bytes < 20*4000 {
					t.Errorf("%s: %+v", g.Service, c)
				}
			}
		})
	}
}

// relays makes relays of the ports of real servers. What they relay goes into the bridge by a pair of interfaces, or by ingress at
// the port.
func (l *lab) relays(ingress bool, servers ...*machine) *Dataplane {
	l.t.Helper()
	d, err := Load(Options{Mode: Relay, Services: 4})
	l.must(err)
	l.t.Cleanup(func() { d.Close() })
	for _, s := range servers {
		l.must(d.AttachPort(l.portOf(s, ingress)))
	}
	return d
}

func (l *lab) portOf(s *machine, ingress bool) Port {
	l.t.Helper()
	p := Port{Index: s.port.Attrs().Index, MAC: s.mac, Netns: s.id}
	if ingress {
		p.Out, p.Ingress = p.Index, true
		return p
	}
	out, err := netlink.LinkByName("relay0")
	if err != nil {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "relay0"}, PeerName: "relay1"}
		l.must(netlink.LinkAdd(pair))
		l.t.Cleanup(func() { netlink.LinkDel(pair) })
		other, err := netlink.LinkByName("relay1")
		l.must(err)
		l.must(netlink.LinkSetMaster(other, l.bridge))
		l.must(netlink.LinkSetUp(other))
		l.must(netlink.LinkSetUp(pair))
		out = pair
	}
	p.Out = out.Attrs().Index
	return p
}

// Connections stay with their servers while others join, drain and come back, through a chain of all of them on one host.
func TestRelaysInTraffic(t *testing.T) {
	for _, ingress := range []bool{false, true} {
		t.Run(fmt.Sprintf("ingress %v", ingress), func(t *testing.T) {
			const n = 9
			l := newLab(t)
			client, dir := l.machine("client", 2), l.machine("dir", 10)
			l.routeVIPs(client, dir)
			var servers []*machine
			for i := range n {
				s := l.machine(fmt.Sprintf("s%d", i), byte(21+i))
				l.serve(s)
				servers = append(servers, s)
			}
			// One host answers by SYN cookies alone.
			servers[n-1].do(l, func() error {
				return os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0)
			})
			d, relays := l.director(dir, DirectorTCX, false), l.relays(ingress, servers...)
			states := map[*machine]lb.State{}
			var gs []*lb.Generation
			holder := map[*conn]string{}
			var conns []*conn
			for i, s := range servers {
				// All slots move to the newest; those before drain.
				for m := range states {
					states[m] = lb.Draining
				}
				states[s] = lb.Serving
				gs = l.webs(gs, states)
				l.must(relays.Set(gs...))
				l.must(d.Set(gs...))
				for _, vip := range []string{vip4Text, vip6Text} {
					c := l.dial(client, vip)
					conns = append(conns, c)
					name, err := c.who()
					if err != nil || name != s.name {
						t.Fatalf("a new connection after change %d is served by %q: %v", i, name, err)
					}
					holder[c] = name
				}
				for _, c := range conns {
					if name, err := c.who(); err != nil || name != holder[c] {
						t.Fatalf("after change %d, %v of %s: %q, %v", i, c.flow, holder[c], name, err)
					}
				}
			}
			counters, err := relays.Counters()
			l.must(err)
			for _, g := range gs {
				if c := counters.Services[listenerOf(&g.Service)]; c.Packets[lb.Relayed] < n || c.Packets[lb.Held] < n || c.Packets[lb.NewFlow] < n {
					t.Errorf("%s: %v", g.Service, c)
				}
			}
			// The first server forgets one of its connections: the packet goes down the whole chain, and is answered by a reset.
			l.forget(servers[0], conns[0])
			if name, err := conns[0].who(); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) {
				t.Errorf("a connection that nobody has: %q, %v", name, err)
			}
		})
	}
}

// A pinned relay outlives its process, and the next one takes it over.
func TestPinnedRelay(t *testing.T) {
	l := newLab(t)
	server := l.machine("s1", 21)
	dir := t.TempDir()
	l.must(unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	hanging := func() []ebpf.ProgramID {
		q, err := link.QueryPrograms(link.QueryOptions{Target: server.port.Attrs().Index, Attach: ebpf.AttachTCXEgress})
		l.must(err)
		var ids []ebpf.ProgramID
		for _, p := range q.Programs {
			ids = append(ids, p.ID)
		}
		return ids
	}
	id := func(d *Dataplane) ebpf.ProgramID {
		info, err := d.Program().Info()
		l.must(err)
		id, _ := info.ID()
		return id
	}
	gs := l.webs(nil, map[*machine]lb.State{server: lb.Serving})
	load := func() *Dataplane {
		d, err := Load(Options{Mode: Relay, Services: 4, Pin: dir})
		l.must(err)
		t.Cleanup(func() { d.Close() })
		l.must(d.Set(gs...))
		l.must(d.AttachPort(l.portOf(server, true)))
		return d
	}
	first := load()
	l.must(first.Close())
	if got := hanging(); len(got) != 1 {
		t.Fatalf("programs after the first process: %v", got)
	}
	second := load()
	if got := hanging(); len(got) != 1 || got[0] != id(second) {
		t.Errorf("programs %v, want %d", got, id(second))
	}
	l.must(second.Detach(server.port.Attrs().Index))
	if got := hanging(); len(got) != 0 {
		t.Errorf("programs after Detach: %v", got)
	}
}
