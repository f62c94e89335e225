package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
	"padis.io/padis/mesos/local/hosts"
)

// Instances with both families, and with IPv6 only, are reached by a machine outside through the gateways of their pools, and
// reach it.
func TestNetworkOutside(t *testing.T) {
	s := newNetSpace(t)
	six := fmt.Sprintf("fd00:70:%d::", s.n)
	s.must(s.pool("", "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1", s.prefix, s.prefix)),
		s.pool("6", "e2e", fmt.Sprintf("cidr: '%s/64', gateway: '%s1'", six, six)),
		s.app("both", 2, spread, "", "6"), s.app("six", 2, spread, "6"))
	both, only := s.ready("both", 2), s.ready("six", 2)
	for _, i := range append(both, only...) {
		for _, a := range i.Status.Addresses {
			until(t, ctx(t), "the outside reaches "+i.Name+" at "+a, func() (bool, string) {
				out, err := cluster.On(ctx(t), "client", fetching(a, 2)...)
				return err == nil && strings.Contains(out, i.Name), fmt.Sprint(out, err)
			})
			outside := hosts.ClientPrefix6().Addr().String()
			if !strings.Contains(a, ":") {
				outside = hosts.ClientPrefix().Addr().String()
			}
			if out, err := s.in(i.Name, "ping", "-c", "1", "-W", "5", outside); err != nil {
				t.Errorf("%s does not reach %s: %v\n%s", i.Name, outside, err, out)
			}
		}
	}
	if len(both[0].Status.Addresses) != 2 || len(only[0].Status.Addresses) != 1 || !strings.Contains(only[0].Status.Addresses[0], ":") {
		t.Errorf("addresses are %v and %v", both[0].Status.Addresses, only[0].Status.Addresses)
	}
	out, err := s.in(only[0].Name, "ip", "-o", "addr", "show", "dev", "eth0")
	must(t, err)
	if strings.Contains(out, "inet ") {
		t.Errorf("%s has an IPv4 address:\n%s", only[0].Name, out)
	}
	env, err := s.in(only[0].Name, "sh", "-c", "echo $PADIS_ADDRESS")
	must(t, err)
	if strings.TrimSpace(env) != only[0].Status.Addresses[0] {
		t.Errorf("PADIS_ADDRESS is %q", env)
	}
	if body, err := s.get(both[0].Name, only[1].Status.Addresses[0], 10); err != nil || !strings.Contains(body, only[1].Name) {
		t.Errorf("%s does not reach %s: %v\n%s", both[0].Name, only[1].Name, err, body)
	}
}

// An address of a pool that a host has on an interface of its own is nobody's, and is shown.
func TestNetworkForeignAddress(t *testing.T) {
	const host = "host-1"
	s := newNetSpace(t)
	foreign := s.prefix + ".11"
	_, err := cluster.On(ctx(t), host, "ip", "addr", "add", foreign+"/32", "dev", "lo")
	must(t, err)
	t.Cleanup(func() { _, _ = cluster.On(context.Background(), host, "ip", "addr", "del", foreign+"/32", "dev", "lo") })
	// A host is looked at anew when it gets a network, else each minute.
	there := "  placement: {constraints: [{attribute: hostname, operator: Like, value: " + host + "}]}\n"
	s.must(s.net("", "driver: bridge"),
		s.pool("", s.name, fmt.Sprintf("cidr: %s.0/24, ranges: [{from: %s.10, to: %s.12}]", s.prefix, s.prefix, s.prefix)),
		s.app("web", 1, there, ""))
	if got := s.ready("web", 1)[0].Status.Addresses[0]; got != s.prefix+".10" {
		t.Fatalf("web-0 has %s", got)
	}
	told(t, ctx(t), []string{"Foreign", host}, "ip", "show", foreign)
	until(t, ctx(t), "addresses list it as Foreign", func() (bool, string) {
		out, err := cluster.Padis(ctx(t), "get", "addresses")
		return err == nil && strings.Contains(lineWith(out, foreign), "Foreign"), out
	})
	told(t, ctx(t), []string{"ForeignAddresses", foreign}, "get", "ippool", s.name, "-o", "yaml")
	must(t, cluster.Scale(ctx(t), s.name, "web", 3))
	told(t, ctx(t), []string{"PoolExhausted"}, "why", "app/web", "-n", s.name)
	is, err := cluster.WaitInstances(ctx(t), s.name, "web", func(is []runtime.Instance) bool { return len(is) == 3 && is[1].Status.Ready })
	must(t, err)
	if got := is[1].Status.Addresses[0]; got != s.prefix+".12" {
		t.Errorf("web-1 has %s", got)
	}

	_, err = cluster.On(ctx(t), host, "ip", "addr", "del", foreign+"/32", "dev", "lo")
	must(t, err)
	s.must(s.net("-other", "driver: bridge"), s.pool("-other", s.name+"-other", fmt.Sprintf("cidr: 10.79.%d.0/24", s.n)), s.app("other", 1, there, "-other"))
	if got := s.ready("web", 3)[2].Status.Addresses[0]; got != foreign {
		t.Errorf("web-2 has %s, not %s", got, foreign)
	}
}
