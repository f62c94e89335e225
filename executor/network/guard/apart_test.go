package guard

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Three networks with host gateways; instances of br1 and br2 talk to each other only if both bridges name each other.
func TestNetworksOfAHostAreApart(t *testing.T) {
	host := newNamespace(t)
	inside := map[int]*namespace{}
	echo := map[int]*net.UDPConn{}
	host.do(t, func() error {
		for _, s := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := sysctl(s, "1"); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link("lo"))
	})
	for i := 1; i <= 3; i++ {
		bridge := fmt.Sprintf("br%d", i)
		host.do(t, func() error {
			if err := addBridge(bridge, false); err != nil {
				return err
			}
			if err := addAddress(bridge, fmt.Sprintf("10.%d.0.1/16", i)); err != nil {
				return err
			}
			return addAddress(bridge, fmt.Sprintf("fd0%d::1/64", i))
		})
		inside[i] = newNamespace(t)
		plug(t, host, inside[i], fmt.Sprintf("v%d", i), bridge, network.MAC{2, 0x42, 10, byte(i), 0, 5}, fmt.Sprintf("10.%d.0.5/16", i), fmt.Sprintf("fd0%d::5/64", i))
		inside[i].do(t, func() error {
			for _, gw := range []string{fmt.Sprintf("10.%d.0.1", i), fmt.Sprintf("fd0%d::1", i)} {
				if err := netlink.RouteAdd(&netlink.Route{Gw: netip.MustParseAddr(gw).AsSlice(), LinkIndex: link("eth0").Attrs().Index}); err != nil {
					return err
				}
			}
			return nil
		})
		echo[i] = listen(t, inside[i], "[::]:4000")
	}
	g, other := open(t, host, "apart"), open(t, host, "apart-other")
	talk := func(what string, want bool) {
		t.Helper()
		for _, to := range []string{"10.2.0.5:4000", "[fd02::5]:4000"} {
			// Neighbours are resolved once; then no packet may be lost on the way.
			if what == "nobody apart" {
				reaches(t, "first", listen(t, inside[1], "[::]:0"), echo[2], to)
			}
			if got := comes(t, what, inside[1], echo, to); got != want {
				t.Errorf("%s: %s is reached: %v, want %v", what, to, got, want)
			}
		}
	}
	talk("nobody apart", true)
	apply(t, g, network.KeepApart{Bridge: "br1"})
	talk("one apart", true)
	// Each by another executor: they see each other's.
	apply(t, other, network.KeepApart{Bridge: "br2", Peers: []string{"br1"}})
	talk("one names the other", false)
	apply(t, g, network.KeepApart{Bridge: "br1", Peers: []string{"br2"}})
	talk("both name each other", true)
	_, now, err := g.Observe([]string{})
	if err != nil || !maps.EqualFunc(now, map[string][]string{"br1": {"br2"}, "br2": {"br1"}}, slices.Equal) {
		t.Errorf("observed %v, %v", now, err)
	}
	apply(t, other, network.KeepApart{Bridge: "br2", Peers: []string{"br3"}})
	talk("one does no more", false)
	// Another executor takes the bridge over and lets it be reached again.
	apply(t, g, network.KeepApart{Bridge: "br2", Peers: []string{"br1", "br3"}})
	talk("again", true)
}

// comes sends to an address behind the host and then, by the same way, to one that is allowed; what comes there has
// overtaken nothing.
func comes(t *testing.T, what string, from *namespace, echo map[int]*net.UDPConn, to string) bool {
	t.Helper()
	c := listen(t, from, "[::]:0")
	ap := netip.MustParseAddrPort(to)
	from.do(t, func() error {
		_, err := c.WriteToUDPAddrPort([]byte(what), ap)
		return err
	})
	behind := map[bool]string{true: "10.3.0.5:4000", false: "[fd03::5]:4000"}[ap.Addr().Is4()]
	for range 3 {
		from.do(t, func() error {
			reaches(t, what+", marker", c, echo[3], behind)
			return nil
		})
	}
	return slices.Contains(pending(t, echo[2]), what)
}

// pending is what has come already.
func pending(t *testing.T, c *net.UDPConn) (all []string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	rc, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = rc.Read(func(fd uintptr) bool {
		for b := make([]byte, 200); ; {
			n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if err != nil {
				return true
			}
			all = append(all, string(b[:n]))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
