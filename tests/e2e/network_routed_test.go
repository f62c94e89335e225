package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

// container is an App of a container that serves its page; more is the rest of its spec.
func (s *netSpace) container(image, name string, replicas int, more string, pools ...string) string {
	m := strings.Replace(s.app(name, replicas, more, pools...), "    command: [shop, -name, "+name+"]\n", "    image: "+image+"\n    stop: {gracePeriod: 1s}\n", 1)
	return strings.Replace(m, "path: /healthz", "path: /", 1)
}

// Addresses without a segment of their own are routes that hosts announce: they are reached by a router that learned them,
// and stay so while the executor is away.
func TestNetworkRouted(t *testing.T) {
	s := newNetSpace(t)
	r := images(t, ctx(t), s.space, registry.Options{})
	_, err := r.PushBusybox("page:1", version("one"))
	must(t, err)
	const asn = 64512
	router, err := cluster.StartRouter(ctx(t), t.TempDir(), asn)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the router says\n%s", router.Log())
		}
		router.Stop()
	})
	net := func(routerASN int) string {
		s.networks = nil
		return s.net("", fmt.Sprintf("driver: routed, bgp: {asn: %d, peers: [{address: %s, asn: %d, holdTime: 9s}]}", asn, router.Address(), routerASN))
	}
	s.must(net(64999), s.pool("", s.name, fmt.Sprintf("cidr: 10.74.%d.0/24", s.n)), s.container(r.Ref("page:1"), "page", 2, spread, ""))
	is := s.ready("page", 2)
	peers := func(status string, words ...string) {
		t.Helper()
		until(t, ctx(t), fmt.Sprintf("PeersUp is %s and says %q", status, words), func() (bool, string) {
			out, err := cluster.Kubectl(ctx(t), "get", "network", s.name, "-o", `jsonpath={range .status.conditions[?(@.type=="PeersUp")]}{.status} {.reason} {.message}{end}`)
			said := strings.HasPrefix(out, status+" ")
			for _, w := range words {
				said = said && strings.Contains(out, w)
			}
			return err == nil && said, out
		})
	}
	// The router is not who the Network says it is: it tells so at once.
	peers("False", router.Address(), "64999", fmt.Sprint(harness.RouterASN))
	s.must(net(harness.RouterASN))
	peers("True")

	for _, i := range is {
		a := i.Status.Addresses[0]
		until(t, ctx(t), a+" is reached by the router", func() (bool, string) {
			out, err := cluster.On(ctx(t), "client", fetching(a, 2)...)
			if err != nil {
				routes, _ := router.Ask("show", "route")
				return false, err.Error() + routes
			}
			return strings.Contains(out, i.Name), out
		})
	}
	if out, err := s.in("page-0", "busybox", "ping", "-c", "1", "-W", "5", is[1].Status.Addresses[0]); err != nil {
		t.Errorf("page-0 does not reach page-1: %v\n%s", err, out)
	}

	// The executor dies: what it announced stays until the next one says it again.
	stop, err := cluster.WatchRoutes()
	must(t, err)
	before := incarnations(t, s.name, is)
	for _, i := range is {
		old, err := cluster.ExecutorOn(i.Status.Host)
		must(t, err)
		must(t, syscall.Kill(old.Pid, syscall.SIGKILL))
		until(t, ctx(t), "another executor on "+i.Status.Host, func() (bool, string) {
			p, err := cluster.ExecutorOn(i.Status.Host)
			if out, failed := cluster.On(ctx(t), "client", fetching(i.Status.Addresses[0], 2)...); failed != nil {
				t.Fatalf("while its executor was away, %s was not reached: %v\n%s", i.Name, failed, out)
			}
			return err == nil && p.Pid != old.Pid, fmt.Sprint(err)
		})
	}
	is = s.ready("page", 2)
	peers("True")
	seen := stop()
	for _, i := range is {
		if strings.Contains(seen, "Deleted "+i.Status.Addresses[0]) {
			t.Errorf("the route to %s went away:\n%s", i.Name, seen)
		}
		if p, err := cluster.InstanceProcess(s.name, i.Name); err != nil || p.Pid != before[i.Name] {
			t.Errorf("%s was started anew: %d, then %d, %v", i.Name, before[i.Name], p.Pid, err)
		}
	}
	must(t, cluster.Scale(ctx(t), s.name, "page", 1))
	s.ready("page", 1)
	until(t, ctx(t), "the address of page-1 is not announced any more", func() (bool, string) {
		out, err := router.Ask("show", "route")
		return err == nil && !strings.Contains(out, is[1].Status.Addresses[0]+"/32") && strings.Contains(out, is[0].Status.Addresses[0]+"/32"), out
	})
}
