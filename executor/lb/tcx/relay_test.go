package tcx

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// sockets makes real connections from clients to the TCP services, all on the loopback of this network namespace, and returns
// their flows.
func sockets(t *testing.T, f *frames, each int) map[lb.Tuple]bool {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	add := func(p string) {
		a, err := netlink.ParseAddr(p)
		if err != nil {
			t.Fatal(err)
		}
		a.Flags = 0x02 // no duplicate address detection
		if err := netlink.AddrAdd(lo, a); err != nil {
			t.Fatal(err)
		}
	}
	add(clients4.String())
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: net.ParseIP("2001:db8::"), Mask: net.CIDRMask(32, 128)}}); err != nil {
		t.Fatal(err)
	}
	for i := range 256 { // clients bind to these
		a := clients6.Addr().As16()
		a[15] = byte(i)
		if i > 0 {
			add(netip.AddrFrom16(a).String() + "/128")
		}
	}
	added := map[netip.Addr]bool{}
	open := map[lb.Tuple]bool{}
	for _, s := range f.services {
		if !added[s.VIP] {
			add(netip.PrefixFrom(s.VIP, s.VIP.BitLen()).String())
			added[s.VIP] = true
		}
		if s.Protocol != lb.TCP {
			continue
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(s.VIP, s.Ports.First).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		for range each {
			client := f.address(s.VIP.Is6()).As16()
			if client[15] = byte(1 + f.r.IntN(254)); s.VIP.Is6() {
				client[14] = 0
			}
			from := netip.AddrFrom16(client).Unmap()
			c, err := net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), l.Addr().(*net.TCPAddr))
			for deadline := time.Now().Add(10 * time.Second); errors.Is(err, unix.ENETUNREACH) && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond) // the kernel makes routes to new IPv6 addresses a little later
				c, err = net.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), l.Addr().(*net.TCPAddr))
			}
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { accepted.Close(); c.Close() })
			flow := lb.Tuple{Src: from, Dst: s.VIP, SrcPort: uint16(c.LocalAddr().(*net.TCPAddr).Port), DstPort: s.Ports.First, Protocol: lb.TCP}
			open[flow] = true
			f.flows = append(f.flows, flow)
		}
	}
	return open
}

// relayOn loads a relay of which every frame to self is judged: the loopback is its port, and has the instance's sockets.
func relayOn(t testing.TB, self lb.MAC) *Dataplane {
	d, err := Load(Options{Mode: Relay, Services: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	// Not attached: what the sockets say to each other is not its affair.
	v := port{First4: binary.LittleEndian.Uint32(self[:4]), Last2: binary.LittleEndian.Uint16(self[4:]),
		Last4: binary.LittleEndian.Uint32(self[2:]), Netns: -1, Out: 1}
	if err := d.maps[relayMapPorts].Put(uint32(1), v); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRelaysDecideAsReference(t *testing.T) {
	needsRoot(t)
	inNetns(t)
	s := seed(t)
	r := rand.New(rand.NewPCG(s, 2))
	self := server(3).MAC
	d := relayOn(t, self)
	gs := farm(t, r)
	j := newJudge(t, d, gs, map[lb.Action]uint32{lb.Pass: 0xffffffff, lb.Forward: 7, lb.Drop: 2})
	f := &frames{r: r, own: self, wholeIP: true}
	for _, g := range gs {
		f.services = append(f.services, &g.Service)
	}
	open := sockets(t, f, 10)
	// As directors and relays stamp, of this generation and others; and as others send.
	for range 200 {
		f.senders = append(f.senders, lb.MAC{0x0e, byte(r.IntN(16))<<4 | byte(1+r.IntN(15)), 10, 1, 0, 1}, lb.MAC{0x0e, byte(r.Uint32()), 10, 1, 0, 2})
	}
	for _, g := range gs {
		for range 40 {
			f.senders = append(f.senders, lb.MAC{0x0e, byte(r.IntN(16))<<4 | byte(1+g.Number%15), 10, 1, 0, 1})
		}
	}
	f.senders = append(f.senders, lb.MAC{2, 0x42, 10, 1, 0, 1})
	has := func(p lb.Packet) bool { return open[p.Tuple] }
	for range packets {
		frame := f.next()
		j.see(frame, lb.Relay(frame, self, j.tables, has))
	}
	j.end(lb.NotForUs, lb.NotIP, lb.Malformed, lb.Other, lb.NoService, lb.FragmentUnknown, lb.NewFlow, lb.Datagram, lb.Held, lb.LastInChain, lb.Relayed, lb.Disagreed)
}
