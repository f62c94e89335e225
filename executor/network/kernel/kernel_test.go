package kernel

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

func (m *machine) attach(t testing.TB, ns int, w network.Wanted) {
	t.Helper()
	m.do(t, func() error { return m.Attach(ns, w) })
}

func (m *machine) answers(t testing.TB, w network.Wanted) []network.Answer {
	t.Helper()
	var out []network.Answer
	m.do(t, func() (err error) {
		out, err = m.Probe(context.Background(), w)
		return err
	})
	return out
}

func TestProbeFindsWhoHasTheAddress(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	ns := namespace(t)
	wa, wb := want(t, "exec", "old", "a", "10.44.0.5"), want(t, "exec", "new", "b", "10.44.0.5")
	if got := b.answers(t, wb); len(got) != 0 {
		t.Fatalf("nobody has it, but %v answered", got)
	}
	a.attach(t, ns, wa)
	expect := []network.Answer{{Address: netip.MustParseAddr("10.44.0.5"), MAC: network.AddressMAC(netip.MustParseAddr("10.44.0.5"))}}
	// The uplink of a starts forwarding in the kernel's own time.
	until(t, "the squatter answers", func() bool { return slices.Equal(b.answers(t, wb), expect) })
	if err := a.Detach(-1, wa); err != nil {
		t.Fatal(err)
	}
	if got := b.answers(t, wb); len(got) != 0 {
		t.Fatalf("released, but %v answered", got)
	}
}

func TestProbeWithoutCarrierSaysNothing(t *testing.T) {
	m := newMachine(t, "a", "exec")
	sw, err := netlink.LinkByName("sw-a")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetDown(sw); err != nil {
		t.Fatal(err)
	}
	err = inside(m.ns, func() error {
		_, err := m.Probe(context.Background(), want(t, "exec", "t", "a", "10.44.0.5"))
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "no carrier") {
		t.Fatalf("got %v", err)
	}
}

func TestSweepRemovesWhatNobodyUses(t *testing.T) {
	m := newMachine(t, "a", "exec")
	mine, kept := want(t, "exec", "x", "a", "10.44.0.6"), want(t, "exec", "y", "a", "10.44.0.7")
	dead, living := want(t, "dead", "x", "a", "10.44.0.5"), want(t, "living", "x", "a", "10.44.0.8")
	for _, w := range []network.Wanted{dead, mine, kept, living} {
		m.attach(t, namespace(t), w)
	}
	other := &machine{ns: m.ns}
	other.open(t, "living")
	var removed []string
	m.do(t, func() (err error) {
		removed, err = m.Sweep(map[string]bool{kept.Interfaces[0].Host: true})
		return err
	})
	if expect := []string{mine.Interfaces[0].Host}; !slices.Equal(removed, expect) {
		t.Errorf("removed %v, want %v", removed, expect)
	}
	for _, w := range []network.Wanted{kept, living, dead} {
		if _, err := m.host.link(w.Interfaces[0].Host); err != nil {
			t.Errorf("%s: %v", w.Interfaces[0].Host, err)
		}
	}
	second := &machine{ns: m.ns}
	err := inside(m.ns, func() (err error) {
		second.Network, err = Open("living", 0, Parts{})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "alive") {
		t.Errorf("two executors of one name: %v", err)
	}
}

func TestInstancesOfTwoHostsReachEachOther(t *testing.T) {
	a, b := newMachine(t, "a", "exec"), newMachine(t, "b", "exec")
	na, nb := namespace(t), namespace(t)
	a.attach(t, na, want(t, "exec", "x", "a", "10.44.0.5"))
	b.attach(t, nb, want(t, "exec", "y", "b", "10.44.0.6"))
	if err := a.Announce(want(t, "exec", "x", "a", "10.44.0.5")); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := inside(na, func() (err error) {
		l, err = net.Listen("tcp4", "10.44.0.5:80")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	until(t, "a connection between the hosts", func() bool {
		fd, err := b.StreamSocket(nb)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2}); err != nil {
			t.Fatal(err)
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{10, 44, 0, 5}}) == nil
	})
}

// An address moves to and fro between two hosts, twenty times, always released before it is configured. A watcher on
// the switch asks for it all the time: no question is ever answered through two ports. Each question is from a hardware
// address of its own, which the answer goes to: in which order answers are read tells nothing on a busy machine.
func TestAMovingAddressIsNeverAnsweredByTwo(t *testing.T) {
	hosts := []*machine{newMachine(t, "a", "exec"), newMachine(t, "b", "exec")}
	addr := netip.MustParseAddr("10.44.0.5")
	type seen struct {
		port     string
		at       time.Time
		question [6]byte
	}
	var mu sync.Mutex
	var log []seen
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, h := range hosts {
		l, err := netlink.LinkByName("sw-" + h.name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := listen(l.Attrs().Index)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.close)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := p.file.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
					return
				}
				frame, _, err := p.read()
				if err != nil {
					continue
				}
				// Answers only: announcements go to all.
				if _, found := conflict(frame, network.MAC{}, addr); found && frame[0]&1 == 0 {
					mu.Lock()
					log = append(log, seen{h.name, time.Now(), [6]byte(frame)})
					mu.Unlock()
				}
			}
		})
	}
	sw, err := netlink.LinkByName("switch0")
	if err != nil {
		t.Fatal(err)
	}
	question, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(question)
	wg.Go(func() {
		for n := uint32(0); ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				asker := network.MAC{2, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
				_ = unix.Sendto(question, arpRequest(asker, asker, netip.MustParseAddr("10.44.9.9"), addr), 0, &unix.SockaddrLinklayer{Ifindex: sw.Attrs().Index})
			}
		}
	})
	moves := 0
	for i := range 20 {
		h := hosts[i%2]
		w := want(t, "exec", fmt.Sprint("task", i), h.name, addr.String())
		ns := namespace(t)
		from := time.Now()
		h.attach(t, ns, w)
		until(t, "an answer", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.ContainsFunc(log, func(s seen) bool { return s.port == h.name && s.at.After(from) })
		})
		if err := h.Detach(-1, w); err != nil {
			t.Fatal(err)
		}
		moves++
	}
	close(stop)
	wg.Wait()
	by := map[[6]byte]string{}
	for _, s := range log {
		if port, ok := by[s.question]; ok && port != s.port {
			t.Errorf("question %x was answered by %s and by %s", s.question, port, s.port)
		}
		by[s.question] = s.port
	}
	t.Logf("%d questions answered, %d moves", len(by), moves)
}

func BenchmarkAttachDetach(b *testing.B) {
	m := newMachine(b, "a", "exec")
	var attach, detach time.Duration
	for i := range b.N {
		b.StopTimer()
		ns := openNamespace(b)
		w := want(b, "exec", fmt.Sprint("task", i), "a", "10.44.0.5")
		b.StartTimer()
		t0 := time.Now()
		if err := m.Attach(ns, w); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := m.Detach(-1, w); err != nil {
			b.Fatal(err)
		}
		attach, detach = attach+t1.Sub(t0), detach+time.Since(t1)
		unix.Close(ns) // with it goes the pair; a bridge has 1023 ports
	}
	b.ReportMetric(float64(attach.Microseconds())/float64(b.N), "attach-µs")
	b.ReportMetric(float64(detach.Microseconds())/float64(b.N), "detach-µs")
}
