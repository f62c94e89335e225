package kernel

import (
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// The pair is a way into the bridge, for frames of whatever source, and none out of it but for those to addresses that came by
// it; nothing else of the host notices it.
func TestRelayPair(t *testing.T) {
	for _, driver := range []*padisv1.Network{
		{Name: "lan0", Bridge: "padis0", Parent: "eth1"},
		{Name: "tenant", Driver: "vxlan", Parent: "eth1", Vni: 77, Mtu: 1400},
	} {
		t.Run(driver.GetName(), func(t *testing.T) {
			g := &recorder{ports: map[string]network.GuardedPort{}}
			m := newMachineWith(t, "a", "exec", Parts{Guard: g})
			if driver.GetDriver() == "vxlan" {
				m.configure(t, "eth1", "192.0.2.1/24")
			}
			ns := namespace(t)
			w := wantLaunch(t, "exec", "x", "a", &padisv1.Launch{Attachments: dual(driver, "10.44.0.5", "fd00::5")})
			m.attach(t, ns, w)
			var outs map[string]int
			prune := true
			set := func(segments ...network.Segment) {
				t.Helper()
				m.do(t, func() (err error) {
					outs, err = m.SetRelays(segments, prune)
					return err
				})
			}
			set(w.Segments...)
			first := outs[w.Segments[0].Bridge]
			set(w.Segments...)
			if first == 0 || outs[w.Segments[0].Bridge] != first {
				t.Errorf("made again: %d, %v", first, outs)
			}
			m.settled(t, ns, w)
			m.do(t, func() error {
				removed, err := m.Sweep(map[string]bool{w.Interfaces[0].Host: true})
				if len(removed) > 0 {
					t.Errorf("swept %v", removed)
				}
				return err
			})
			name, port := network.RelayNames("exec", w.Segments[0].Bridge)
			m.do(t, func() error {
				out, err := netlink.LinkByName(name)
				if err != nil {
					return err
				}
				in, err := netlink.LinkByName(port)
				if err != nil {
					return err
				}
				bridge, err := netlink.LinkByName(w.Segments[0].Bridge)
				if err != nil {
					return err
				}
				if out.Attrs().MTU != bridge.Attrs().MTU || in.Attrs().MTU != bridge.Attrs().MTU || in.Attrs().MasterIndex != bridge.Attrs().Index || out.Attrs().Index != first || out.Attrs().RawFlags&unix.IFF_NOARP == 0 {
					t.Errorf("%+v\n%+v", out.Attrs(), in.Attrs())
				}
				p, err := netlink.LinkGetProtinfo(in)
				if err != nil || p.Flood || !p.Learning {
					t.Errorf("port %+v, %v", p, err)
				}
				for _, l := range []string{name, port} {
					if b, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + l + "/disable_ipv6"); err != nil || string(b) != "1\n" {
						t.Errorf("%s: %q, %v", l, b, err)
					}
				}
				return nil
			})
			m.relayed(t, ns, first, w)
			prune = false
			set()
			if l, err := m.host.link(name); err != nil || l.index != first {
				t.Errorf("it is taken away: %v, %v", l, err)
			}
			prune = true
			set()
			if _, err := m.host.link(name); err == nil {
				t.Error("it stays")
			}
		})
	}
}

// relayed sends a frame from an address of nobody, with a source as relays mark it, and sees it inside; a broadcast of the
// instance does not come out.
func (m *machine) relayed(t *testing.T, ns, out int, w network.Wanted) {
	t.Helper()
	open := func(ns int, index int) int {
		fd := -1
		if err := inside(ns, func() (err error) {
			if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300); err != nil {
				return err
			}
			if index == 0 {
				l, err := net.InterfaceByName("eth0")
				if err != nil {
					return err
				}
				index = l.Index
			}
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: index})
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	from, to := open(m.ns, out), open(ns, 0)
	mac := w.Interfaces[0].MAC
	const mark = "relayed"
	frame := append(append(append([]byte{}, mac[:]...), 0x0e, 0xf1, 1, 2, 3, 4, 0x88, 0xb5), make([]byte, 50)...)
	copy(frame[14:], mark)
	got := make([]byte, 2048)
	until(t, "it arrives", func() bool {
		if _, err := unix.Write(from, frame); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := unix.Recvfrom(to, got, unix.MSG_DONTWAIT)
			if err != nil {
				return false
			}
			if n >= 21 && string(got[14:21]) == mark && got[6] == 0x0e {
				return true
			}
		}
	})
	broadcast := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, mac[:]...)
	broadcast = append(append(broadcast, 0x88, 0xb5), make([]byte, 50)...)
	bridge := 0
	m.do(t, func() error {
		l, err := net.InterfaceByName(w.Segments[0].Bridge)
		if err == nil {
			bridge = l.Index
		}
		return err
	})
	seen := open(m.ns, bridge)
	until(t, "the bridge itself has the broadcast", func() bool {
		if _, err := unix.Write(to, broadcast); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(seen, got, unix.MSG_DONTWAIT)
		return err == nil && n == len(broadcast)
	})
	for {
		n, who, err := unix.Recvfrom(from, got, unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		if who.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && string(got[6:12]) == string(mac[:]) {
			t.Errorf("%d bytes came out: %x", n, got[:n])
		}
	}
}

func TestRelayPort(t *testing.T) {
	m := newMachine(t, "a", "exec")
	ns, other := namespace(t), namespace(t)
	w := want(t, "exec", "x", "a", "10.44.0.5")
	m.attach(t, ns, w)
	port := func(ns int) RelayPort {
		t.Helper()
		var p RelayPort
		m.do(t, func() (err error) {
			p, err = m.RelayPort(ns, w.Interfaces[0].Host)
			return err
		})
		return p
	}
	first := port(ns)
	if again := port(ns); again != first || first.Index == 0 || first.Netns < 0 {
		t.Errorf("%+v, then %+v", first, again)
	}
	if p := port(other); p.Netns == first.Netns {
		t.Errorf("two namespaces have number %d", p.Netns)
	}
	m.do(t, func() error {
		id, err := netlink.GetNetNsIdByFd(ns)
		if err != nil || id != first.Netns {
			t.Errorf("it is %d: %v", id, err)
		}
		return nil
	})
	if _, err := m.RelayPort(ns, "pdnone"); err == nil {
		t.Error("finds what is not there")
	}
}
