package usage

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A server with two VIPs on its loopback; clients from elsewhere have addresses that are not VIPs.
func TestClients(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Unshare(unix.CLONE_NEWNET))
	lo, err := netlink.LinkByName("lo")
	must(err)
	must(netlink.LinkSetUp(lo))
	for _, a := range []string{"192.0.2.1/32", "198.51.100.1/32", "2001:db8::1/128", "2001:db8:9::1/128"} {
		p, err := netlink.ParseAddr(a)
		must(err)
		p.Flags = unix.IFA_F_NODAD
		must(netlink.AddrAdd(lo, p))
	}
	vips := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	process := fmt.Sprintf("%d/task/%d", os.Getpid(), unix.Gettid())
	see := func(want Clients) {
		t.Helper()
		var got Clients
		for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
			var err error
			got, err = clients(process, vips)
			must(err)
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v, want %+v", got, want)
			}
		}
	}
	listen := func(address string) net.Listener {
		t.Helper()
		l, err := net.Listen("tcp", address)
		must(err)
		t.Cleanup(func() { l.Close() })
		return l
	}
	connect := func(l net.Listener, from, to string) (client, server net.Conn) {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		client, err := d.Dial("tcp", net.JoinHostPort(to, "80"))
		must(err)
		server, err = l.Accept()
		must(err)
		t.Cleanup(func() { client.Close(); server.Close() })
		return client, server
	}
	see(Clients{})
	// One socket for both families, as most programs have it.
	l := listen(":80")
	c4, s4 := connect(l, "198.51.100.1", "192.0.2.1")
	see(Clients{Connections: 1})
	c6, s6 := connect(l, "2001:db8:9::1", "2001:db8::1")
	see(Clients{Connections: 2})
	// Its own connections are nobody's affair.
	connect(l, "192.0.2.1", "192.0.2.1")
	connect(l, "127.0.0.1", "127.0.0.1")
	see(Clients{Connections: 2})
	// The client has said all, and waits for the answer.
	must(c4.(*net.TCPConn).CloseWrite())
	see(Clients{Connections: 2})
	must(s4.Close())
	see(Clients{Connections: 1})
	// The server has said all, and its program has closed: the kernel waits for a client that goes away without a word.
	must(s6.Close())
	see(Clients{})
	must(c6.Close())

	u, err := net.ListenPacket("udp", "127.0.0.1:53")
	must(err)
	defer u.Close()
	d, err := net.Dial("udp", "192.0.2.1:53")
	must(err)
	defer d.Close()
	see(Clients{})
	v, err := net.ListenPacket("udp", "192.0.2.1:53")
	must(err)
	see(Clients{Datagrams: true})
	must(v.Close())
	w, err := net.ListenPacket("udp", ":54")
	must(err)
	defer w.Close()
	see(Clients{Datagrams: true})

	if _, err := ClientsOf(-1, vips); err == nil {
		t.Error("no process, and no error")
	}
}
