package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// One apply makes a tenant's own segment across hosts, with both families, and what runs on it; another tenant's is apart.
func TestNetworkOverlay(t *testing.T) {
	s := newNetSpace(t)
	for _, colour := range []struct {
		suffix, gateway string
		block           int
	}{{"-red", "Host", 70}, {"-blue", "External", 71}} {
		gateway4, gateway6 := "", ""
		if colour.gateway == "Host" {
			gateway4, gateway6 = fmt.Sprintf(", gateway: 10.%d.%d.1", colour.block, s.n), fmt.Sprintf(", gateway: 'fd00:%d:%d::1'", colour.block, s.n)
		}
		app := strings.TrimPrefix(colour.suffix, "-")
		s.must(
			s.net(colour.suffix, fmt.Sprintf("driver: vxlan, vni: %d, gateway: %s", 10_000+colour.block*100+s.n, colour.gateway)),
			s.pool(colour.suffix+"4", s.name+colour.suffix, fmt.Sprintf("cidr: 10.%d.%d.0/24%s", colour.block, s.n, gateway4)),
			s.pool(colour.suffix+"6", s.name+colour.suffix, fmt.Sprintf("cidr: 'fd00:%d:%d::/64'%s", colour.block, s.n, gateway6)),
			s.app(app, 3, spread, colour.suffix+"4", colour.suffix+"6"),
		)
	}
	red, blue := s.ready("red", 3), s.ready("blue", 3)
	if len(hostsOf(red)) != 3 || len(hostsOf(blue)) != 3 {
		t.Errorf("instances are on %v and %v", hostsOf(red), hostsOf(blue))
	}
	for _, from := range red {
		for _, to := range red {
			if from.Name == to.Name {
				continue
			}
			for _, a := range to.Status.Addresses {
				out, err := s.get(from.Name, a, 10)
				if err != nil || !strings.Contains(out, to.Name) {
					t.Errorf("%s does not reach %s at %s: %v\n%s", from.Name, to.Name, a, err, out)
				}
			}
		}
	}
	for _, a := range blue[1].Status.Addresses {
		if out, err := s.get("blue-0", a, 10); err != nil || !strings.Contains(out, "blue-1") {
			t.Errorf("blue-0 does not reach blue-1 at %s: %v\n%s", a, err, out)
		}
	}
	// On the same host and on another one.
	for _, to := range blue[:2] {
		for _, a := range to.Status.Addresses {
			if out, err := s.get("red-0", a, 2); err == nil {
				t.Errorf("red-0 reaches %s at %s: %s", to.Name, a, out)
			}
		}
	}

	for _, i := range red {
		if len(i.Status.Addresses) != 2 {
			t.Fatalf("%s has the addresses %v", i.Name, i.Status.Addresses)
		}
		four := netip.MustParseAddr(i.Status.Addresses[0]).As4()
		want := net.HardwareAddr{0x02, 0x42, four[0], four[1], four[2], four[3]}.String()
		out, err := s.in(i.Name, "ip", "link", "show", "eth0")
		must(t, err)
		if !strings.Contains(out, "link/ether "+want+" ") {
			t.Errorf("%s has not the hardware address %s:\n%s", i.Name, want, out)
		}
	}
	for _, command := range [][]string{{"ip", "list"}, {"get", "addresses"}} {
		out, err := cluster.Padis(ctx(t), command...)
		must(t, err)
		for _, i := range red {
			for _, a := range i.Status.Addresses {
				if !strings.Contains(lineWith(out, a), "Allocated") {
					t.Errorf("%v does not show %s as Allocated:\n%s", command, a, out)
				}
			}
		}
	}
}
