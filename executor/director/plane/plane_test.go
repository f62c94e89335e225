package plane

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
)

// veth makes the interface eth0 of a namespace that ends with the test's thread, and returns its MAC and the index of its peer.
func veth(t *testing.T) (lb.MAC, int) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("eBPF and network namespaces take root")
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"link add eth0 type veth peer name peer", "link set eth0 up", "link set peer up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	i, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	peer, err := net.InterfaceByName("peer")
	if err != nil {
		t.Fatal(err)
	}
	return lb.MAC(i.HardwareAddr), peer.Index
}

func forwarding(t *testing.T, vip string) lb.Forwarding {
	t.Helper()
	g, err := lb.Next(nil, lb.Service{VIP: netip.MustParseAddr(vip), Protocol: lb.TCP, Ports: lb.Ports{First: 80, Last: 80}, TableSize: 251},
		[]lb.Server{{ID: "a", MAC: lb.MAC{2, 1}, Weight: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return lb.Forwarding{Generation: g}
}

// syn is a frame for a VIP.
func syn(to lb.MAC, vip string) []byte {
	a := netip.MustParseAddr(vip).As4()
	f := append(append([]byte(nil), to[:]...), 2, 9, 9, 9, 9, 9, 8, 0,
		0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1)
	f = append(f, a[:]...)
	return append(f, 0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0)
}

// What was forwarded never becomes less, though the kernel's counters go with their services; and what eBPF cannot do is refused
// with the remedy.
func TestAdapter(t *testing.T) {
	mac, peer := veth(t)
	for name, open := range map[string]func(string) (lb.Dataplane, error){"tcx": TCX, "xdp": XDP} {
		d, err := open("eth0")
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		var sent uint64
		for _, vips := range [][]string{{"10.9.0.1", "10.9.0.2"}, {"10.9.0.2"}, {}, {"10.9.0.1"}} {
			var all []lb.Forwarding
			for _, v := range vips {
				all = append(all, forwarding(t, v))
			}
			if err := d.Set(all); err != nil {
				t.Fatal(err)
			}
			if n, err := d.Forwarded(); err != nil || n != sent {
				t.Errorf("%s: %d forwarded after Set %v, want %d: %v", name, n, vips, sent, err)
			}
			for _, v := range vips {
				if err := unix.Sendto(fd, syn(mac, v), 0, &unix.SockaddrLinklayer{Ifindex: peer}); err != nil {
					t.Fatal(err)
				}
				sent++
			}
			deadline := time.Now().Add(30 * time.Second)
			for n := uint64(0); n != sent; {
				if n, err = d.Forwarded(); err != nil || time.Now().After(deadline) {
					t.Fatalf("%s: %d forwarded of %d: %v", name, n, sent, err)
				}
			}
		}
		for want, change := range map[string]func(*lb.Forwarding){
			"scheduler wlc needs the dataplane ipvs":  func(f *lb.Forwarding) { f.Method = "wlc" },
			"maxConnections needs the dataplane ipvs": func(f *lb.Forwarding) { f.MaxConnections = 1 },
		} {
			f := forwarding(t, "10.9.0.1")
			change(&f)
			if err := d.Set([]lb.Forwarding{f}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		unix.Close(fd)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if _, err := d.Forwarded(); err == nil {
			t.Errorf("%s: counts when it is closed", name)
		}
	}
	if _, err := TCX("eth7"); err == nil || !strings.Contains(err.Error(), "eth7") {
		t.Error(err)
	}
	if _, err := TCX("lo"); err == nil || !strings.Contains(err.Error(), "needs an Ethernet interface") {
		t.Error(err)
	}
}

func TestPrepare(t *testing.T) {
	veth(t)
	if err := Prepare("eth0"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/eth0/accept_local"); err != nil || strings.TrimSpace(string(b)) != "1" {
		t.Errorf("%q, %v", b, err)
	}
	if err := Prepare("eth7"); err == nil || !strings.Contains(err.Error(), "eth7/rp_filter") {
		t.Error(err)
	}
}
