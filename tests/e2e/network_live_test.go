package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// Addresses of load balancers and bandwidths reach instances that run, and leave them again; no instance is started anew.
func TestNetworkLiveChanges(t *testing.T) {
	s := newNetSpace(t)
	vip, vip6 := fmt.Sprintf("10.73.%d.100", s.n), fmt.Sprintf("fd00:73:%d::100", s.n)
	pool := s.pool("", "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1", s.prefix, s.prefix))
	s.must(pool, s.app("web", 2, spread, ""))
	is := s.ready("web", 2)
	before := incarnations(t, s.name, is)

	more := fmt.Sprintf("%s  loopbackAddresses: [%s, '%s']\n", spread, vip, vip6)
	limited := strings.Replace(s.app("web", 2, more, ""), "{pool: "+s.name+"}", "{pool: "+s.name+", bandwidth: {ingress: 77M, egress: 33M}}", 1)
	s.must(pool, limited)
	for _, i := range is {
		has := func(what string, wanted bool, word string, ask func() (string, error)) {
			t.Helper()
			until(t, ctx(t), fmt.Sprintf("%s of %s: %s %t", what, i.Name, word, wanted), func() (bool, string) {
				out, err := ask()
				return err == nil && strings.Contains(out, word) == wanted, out
			})
		}
		inside := func(args ...string) func() (string, error) {
			return func() (string, error) { return s.in(i.Name, args...) }
		}
		host := func() (string, error) { return cluster.On(ctx(t), i.Status.Host, "tc", "qdisc", "show") }
		has("loopback", true, vip+"/32", inside("ip", "addr", "show", "dev", "lo"))
		has("loopback", true, vip6+"/128", inside("ip", "addr", "show", "dev", "lo"))
		has("what it sends", true, "tbf", inside("tc", "qdisc", "show", "dev", "eth0"))
		has("what it sends", true, "rate 33Mbit", inside("tc", "qdisc", "show", "dev", "eth0"))
		has("what it receives", true, "rate 77Mbit", host)

		// A director sends it packets for the address, as they are; nobody else finds it there.
		if out, err := cluster.On(ctx(t), "switch", "busybox", "arping", "-I", "switch0", "-c", "1", "-w", "5", i.Status.Addresses[0]); err != nil {
			t.Errorf("%s does not answer for its own address: %v\n%s", i.Name, err, out)
		}
		if out, err := cluster.On(ctx(t), "switch", "busybox", "arping", "-I", "switch0", "-c", "2", "-w", "2", vip); err == nil {
			t.Errorf("somebody answers for %s:\n%s", vip, out)
		}
		_, err := cluster.On(ctx(t), "switch", "ip", "route", "replace", vip+"/32", "via", i.Status.Addresses[0], "dev", "switch0")
		must(t, err)
		out, err := cluster.On(ctx(t), "client", fetching(vip, 10)...)
		if err != nil || !strings.Contains(out, i.Name) {
			t.Errorf("%s does not serve at %s: %v\n%s", i.Name, vip, err, out)
		}
	}
	_, err := cluster.On(ctx(t), "switch", "ip", "route", "del", vip+"/32")
	must(t, err)

	s.must(pool, s.app("web", 2, spread, ""))
	for _, i := range is {
		until(t, ctx(t), i.Name+" is as before", func() (bool, string) {
			out, err := s.in(i.Name, "sh", "-c", "ip addr show dev lo; tc qdisc show dev eth0")
			on, failed := cluster.On(ctx(t), i.Status.Host, "tc", "qdisc", "show")
			clean := !strings.Contains(out, vip) && !strings.Contains(out, vip6) && !strings.Contains(out, "tbf") && !strings.Contains(on, "77Mbit")
			return err == nil && failed == nil && clean, out + on
		})
	}
	is = s.ready("web", 2)
	if after := incarnations(t, s.name, is); !maps.Equal(before, after) {
		t.Errorf("the processes were %v and are %v", before, after)
	}
	for _, i := range is {
		if i.Status.Restarts != 0 {
			t.Errorf("%s was started anew: %d", i.Name, i.Status.Restarts)
		}
	}
}
