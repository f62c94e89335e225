package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/tests/harness"
	"padis.io/padis/tests/registry"
)

const balancedASN = 64512

// balanceSpace is a netSpace with a router that takes directors of its pool, and a pool of VIPs.
type balanceSpace struct {
	*netSpace
	router *harness.Router
}

func newBalanceSpace(t *testing.T) *balanceSpace {
	s := &balanceSpace{netSpace: newNetSpace(t)}
	var err error
	s.router, err = cluster.StartVIPRouter(ctx(t), t.TempDir(), netip.MustParsePrefix(s.subnet()), balancedASN)
	must(t, err)
	t.Cleanup(func() {
		c, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if t.Failed() {
			out, _ := cluster.Padis(c, "describe", "lb", "-n", s.name)
			t.Logf("%s\nthe router says\n%s", out, s.router.Log())
		}
		for _, args := range [][]string{{"lb", "--all", "-n", s.name}, {"bgppeer", s.name, "--ignore-not-found"}} {
			if out, err := cluster.Padis(c, append([]string{"delete", "--timeout=60s"}, args...)...); err != nil {
				t.Errorf("clean-up: %v\n%s", err, out)
			}
		}
		s.router.Stop()
	})
	return s
}

func (s *balanceSpace) subnet() string   { return fmt.Sprintf("10.70.%d.0/24", s.n) }
func (s *balanceSpace) vip(n int) string { return fmt.Sprintf("198.18.%d.%d", s.n, n) }

// peer is the BGPPeer of the test: the router, if its autonomous system is right.
func (s *balanceSpace) peer(asn int, more string) string {
	return fmt.Sprintf("---\napiVersion: padis.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: %s}\nspec: {address: 10.70.%d.1, asn: %d%s}\n", s.name, s.n, asn, more)
}

// segment is where instances and directors are, and the pool of VIPs.
func (s *balanceSpace) segment() string {
	s.pools = append(s.pools, s.name)
	return fmt.Sprintf("---\napiVersion: padis.io/v1alpha1\nkind: IPPool\nmetadata: {name: %s}\nspec: {network: e2e, cidr: %s, gateway: 10.70.%d.1, ranges: [{from: 10.70.%d.10, to: 10.70.%d.99}]}\n",
		s.name, s.subnet(), s.n, s.n, s.n) +
		s.net("-vips", "driver: virtual") + s.pool("-vips", s.name+"-vips", fmt.Sprintf("cidr: 198.18.%d.0/24", s.n))
}

// lb is a LoadBalancer of the test; more is the rest of its spec, in lines.
func (s *balanceSpace) lb(name, vips, backends, more string) string {
	return fmt.Sprintf(`---
apiVersion: padis.io/v1alpha1
kind: LoadBalancer
metadata: {name: %s, namespace: %s}
spec:
  vips: [%s]
  listeners: [{name: http, port: 8080}]
  backends: [%s]
  directors: {replicas: 2, networks: [{pool: %s}]}
  drainTime: 5s
  healthChecks: [{http: {port: 8080, path: /healthz}, interval: 1s}]
  bgp: {asn: %d, peers: [%s]}
%s`, name, s.name, vips, backends, s.name, balancedASN, s.name, more)
}

// condition waits until a condition of a LoadBalancer has a status, and says all the words.
func (s *balanceSpace) condition(kind, name, condition, status string, words ...string) {
	s.t.Helper()
	path := fmt.Sprintf(`jsonpath={range .status.conditions[?(@.type==%q)]}{.status} {.reason} {.message}{end}`, condition)
	until(s.t, ctx(s.t), fmt.Sprintf("%s of %s %s is %s and says %q", condition, kind, name, status, words), func() (bool, string) {
		out, err := cluster.Kubectl(ctx(s.t), "get", kind, name, "-n", s.name, "-o", path)
		said := strings.HasPrefix(out, status+" ") && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) })
		return err == nil && said, out
	})
}

func answering(body string) string {
	_, rest, _ := strings.Cut(body, ": ")
	name, _, _ := strings.Cut(rest, " at ")
	return name
}

// No request fails and no connection to a live server breaks while real servers come, directors die and change, and the
// scheduler and executors are killed; no new request fails while real servers go and are replaced.
func TestLoadBalancer(t *testing.T) {
	s := newBalanceSpace(t)
	r := images(t, ctx(t), s.space, registry.Options{})
	for _, tag := range []string{"1", "2"} {
		img, err := registry.Program(filepath.Join(cluster.Bin, "shop"), registry.Config{Entrypoint: []string{"/program", "-name", "shop " + tag}})
		must(t, err)
		_, err = r.Push("shop:"+tag, img)
		must(t, err)
	}
	web := func(tag string, replicas int) string {
		m := s.container(r.Ref("shop:"+tag), "web", replicas, "  update: {maxUnavailable: 1}\n", "")
		return strings.Replace(m, "path: /}", "path: /healthz}", 1)
	}
	vip := s.vip(10)
	balanced := func(more string) string {
		return s.lb("web", "{pool: "+s.name+"-vips, address: "+vip+"}, {pool: "+s.name+"-vips}", "{app: web}", more)
	}
	s.must(s.segment(), s.peer(harness.RouterASN, ", bfd: {}, maximumPaths: 8"), web("1", 3), balanced(""))
	s.ready("web", 3)
	at := netip.MustParseAddr(vip)
	_, err := s.router.AwaitPaths(ctx(t), at, 2)
	must(t, err)
	s.condition("lb", "web", v1alpha1.ConditionServersReady, "True")
	s.condition("lb", "web", v1alpha1.ConditionAnnounced, "True")
	s.condition("lb", "web", v1alpha1.ConditionRedundant, "True")
	lb, err := cluster.Kubectl(ctx(t), "get", "lb", "web", "-n", s.name, "-o", "jsonpath={.status.vips[1].address}")
	must(t, err)
	if lb == vip || !strings.HasPrefix(lb, fmt.Sprintf("198.18.%d.", s.n)) {
		t.Errorf("the VIP that was chosen is %q", lb)
	}

	url := fmt.Sprintf("http://%s:8080/", vip)
	begin := func(kept int) *harness.Load {
		l, err := cluster.StartLoad(url, 4, kept, 5*time.Millisecond, answering)
		must(t, err)
		must(t, l.AwaitRequests(ctx(t), 100))
		return l
	}
	end := func(what string, l *harness.Load) harness.LoadResult {
		t.Helper()
		must(t, l.AwaitRequests(ctx(t), 100))
		res := l.Stop()
		t.Logf("%s: %d requests, %d failed, %d connections lost, slowest %s, by %v", what, res.Requests, res.Failed, res.Lost, res.Slowest, res.By)
		if res.Failed > 0 || res.Lost > 0 {
			out, _ := cluster.Padis(ctx(t), "describe", "lb", "web", "-n", s.name)
			ends, _ := cluster.Kubectl(ctx(t), "get", "instances", "-n", s.name, "-o", `jsonpath={range .items[*]}{.metadata.name} {.status.restarts} {.status.terminations}{"\n"}{end}`)
			t.Errorf("%s: %s\n%s\n%s", what, strings.Join(res.Errors, "; "), ends, out)
		}
		return res
	}
	killed := func(pid int) { t.Helper(); must(t, syscall.Kill(pid, syscall.SIGKILL)) }

	l := begin(12)
	must(t, cluster.Scale(ctx(t), s.name, "web", 6))
	is := s.ready("web", 6)
	s.condition("lb", "web", v1alpha1.ConditionServersReady, "True", "6")
	if res := end("3 real servers became 6", l); len(res.By) < 6 {
		t.Errorf("only %v answered", res.By)
	}

	l = begin(12)
	d, err := cluster.Instance(ctx(t), s.name, "web-director-0")
	must(t, err)
	p, err := cluster.InstanceProcess(s.name, d.Name)
	must(t, err)
	killed(p.Pid)
	_, err = s.router.AwaitPaths(ctx(t), at, 1)
	must(t, err)
	_, err = s.router.AwaitPaths(ctx(t), at, 2)
	must(t, err)
	end("a director was killed", l)

	l = begin(12)
	p, err = cluster.FindOne("padis", " scheduler ")
	must(t, err)
	killed(p.Pid)
	until(t, ctx(t), "web is scaled to 7", func() (bool, string) {
		err := cluster.Scale(ctx(t), s.name, "web", 7)
		return err == nil, fmt.Sprint(err)
	})
	s.ready("web", 7)
	s.condition("lb", "web", v1alpha1.ConditionServersReady, "True", "7")
	end("the scheduler was killed, and another real server came", l)

	// The executor takes its director along, and leaves its containers and what its host relays.
	l = begin(12)
	before := incarnations(t, s.name, is)
	old, err := cluster.ExecutorOn(d.Status.Host)
	must(t, err)
	killed(old.Pid)
	until(t, ctx(t), "another executor on "+d.Status.Host, func() (bool, string) {
		p, err := cluster.ExecutorOn(d.Status.Host)
		return err == nil && p.Pid != old.Pid, fmt.Sprint(err)
	})
	_, err = s.router.AwaitPaths(ctx(t), at, 2)
	must(t, err)
	s.condition("lb", "web", v1alpha1.ConditionServersReady, "True", "7")
	end("an executor was killed", l)
	for name, pid := range incarnations(t, s.name, is) {
		if before[name] != pid {
			t.Errorf("%s was process %d and is %d", name, before[name], pid)
		}
	}

	// Another template of directors: one after the other drains, ends and starts anew.
	l = begin(12)
	s.must(strings.Replace(balanced(""), "{replicas: 2,", "{replicas: 2, resources: {cpu: 120m}, update: {maxUnavailable: 1},", 1))
	fresh := func(is []runtime.Instance) bool {
		return len(is) == 2 && is[0].Status.Ready && is[1].Status.Ready && is[0].Status.Revision == is[1].Status.Revision && is[0].Status.Revision != d.Status.Revision
	}
	_, err = cluster.WaitInstances(longer(t), s.name, "web-director", fresh)
	must(t, err)
	_, err = s.router.AwaitPaths(ctx(t), at, 2)
	must(t, err)
	end("the directors were updated", l)

	// What has no connection ends at once; so no new request meets a server that goes.
	l = begin(0)
	s.must(web("2", 7))
	_, err = cluster.WaitInstances(longer(t), s.name, "web", func(now []runtime.Instance) bool {
		return len(now) == 7 && !slices.ContainsFunc(now, func(i runtime.Instance) bool { return !i.Status.Ready || i.Status.Revision == is[0].Status.Revision })
	})
	must(t, err)
	must(t, cluster.Scale(ctx(t), s.name, "web", 2))
	s.ready("web", 2)
	end("all real servers were replaced, and 5 of 7 went", l)

	must(t, cluster.Scale(ctx(t), s.name, "web", 0))
	_, err = s.router.AwaitPaths(ctx(t), at, 0)
	must(t, err)
	s.condition("lb", "web", v1alpha1.ConditionAnnounced, "False", "TooFewServers")

	out, err := cluster.Padis(longer(t), "delete", "lb", "web", "-n", s.name, "--timeout=60s")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	until(t, ctx(t), "nothing is left of the LoadBalancer", func() (bool, string) {
		addresses, err := cluster.Kubectl(ctx(t), "get", "addresses", "-o", "name")
		is, failed := cluster.Instances(ctx(t), s.name)
		return err == nil && failed == nil && len(is) == 0 && !strings.Contains(addresses, vip), addresses
	})
}

// What cannot be in force is refused at apply, or said by conditions within seconds, with the remedy; nothing is announced then.
func TestLoadBalancerRefusals(t *testing.T) {
	s := newBalanceSpace(t)
	s.must(s.segment(), s.peer(64999, ""), s.app("web", 1, "", ""))
	s.ready("web", 1)
	pool := s.name + "-vips"
	vips := "{pool: " + pool + "}"
	for name, c := range map[string]struct {
		manifest string
		words    []string
	}{
		"overlap":        {strings.Replace(s.lb("bad", vips, "{app: web}", ""), "[{name: http, port: 8080}]", "[{name: a, port: 80, endPort: 90}, {name: b, port: 85}]", 1), []string{"listeners", "85"}},
		"outside":        {s.lb("bad", "{pool: "+pool+", address: 203.0.113.9}", "{app: web}", ""), []string{"203.0.113.9", pool}},
		"no backends":    {s.lb("bad", vips, "", ""), []string{"backends"}},
		"pool of a wire": {s.lb("bad", "{pool: "+s.name+"}", "{app: web}", ""), []string{s.name, "virtual"}},
		"ipvs only":      {s.lb("bad", vips, "{app: web}", "  scheduler: RoundRobin\n"), []string{"RoundRobin", "IPVS"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := apply(ctx(t), c.manifest)
			if err == nil {
				t.Fatalf("accepted:\n%s", out)
			}
			for _, w := range c.words {
				if !strings.Contains(out, w) {
					t.Errorf("%q is not said:\n%s", w, out)
				}
			}
		})
	}
	// The router is not who it is said to be: it tells so at once.
	s.must(s.lb("stranger", vips, "{app: web}", ""))
	s.condition("lb", "stranger", "PeersUp", "False", "64999", fmt.Sprint(harness.RouterASN))
	s.condition("lb", "stranger", v1alpha1.ConditionAnnounced, "False")
	s.must(s.peer(harness.RouterASN, ""))
	s.condition("lb", "stranger", "PeersUp", "True")
	s.condition("lb", "stranger", v1alpha1.ConditionAnnounced, "True")

	s.must(s.lb("first", "{pool: "+pool+", address: "+s.vip(20)+"}", "{app: web}", ""))
	s.condition("lb", "first", v1alpha1.ConditionAnnounced, "True")
	if out, err := apply(ctx(t), s.lb("second", "{pool: "+pool+", address: "+s.vip(20)+"}", "{app: web}", "")); err == nil {
		s.condition("lb", "second", v1alpha1.ConditionAnnounced, "False", s.vip(20), "first")
	} else if !strings.Contains(out, s.vip(20)) || !strings.Contains(out, "first") {
		t.Errorf("a VIP that is in use: %s", out)
	}
	s.must(s.lb("nobody", vips, "{app: no-such-app}", ""))
	s.condition("lb", "nobody", v1alpha1.ConditionAnnounced, "False", "no-such-app")
	s.must(strings.Replace(s.lb("lost", vips, "{app: web}", ""), "peers: ["+s.name+"]", "peers: [no-such-peer]", 1))
	s.condition("lb", "lost", "Accepted", "False", "no-such-peer")
}

// A session over IPv4 also brings VIPs of IPv6 to the router, if both sides want that.
func TestLoadBalancerBothFamilies(t *testing.T) {
	s := newBalanceSpace(t)
	six := fmt.Sprintf("fd00:70:%x::", s.n)
	s.must(s.segment(), s.pool("-6", "e2e", fmt.Sprintf("cidr: '%s/64', gateway: '%s1'", six, six)), s.pool("-vips6", s.name+"-vips", fmt.Sprintf("cidr: '2001:db8:%x::/112'", s.n)),
		s.peer(harness.RouterASN, ", bothFamilies: true"), s.app("web", 3, "", "", "-6"))
	s.ready("web", 3)
	vip := fmt.Sprintf("2001:db8:%x::80", s.n)
	s.must(strings.Replace(s.lb("web", "{pool: "+s.name+"-vips}, {pool: "+s.name+"-vips6, address: '"+vip+"'}", "{app: web}", ""),
		"networks: [{pool: "+s.name+"}]", "networks: [{pool: "+s.name+"}, {pool: "+s.name+"-6}]", 1))
	_, err := s.router.AwaitPaths(ctx(t), netip.MustParseAddr(vip), 2)
	must(t, err)
	s.condition("lb", "web", v1alpha1.ConditionRedundant, "True")
	l, err := cluster.StartLoad("http://["+vip+"]:8080/", 4, 4, time.Millisecond, answering)
	must(t, err)
	must(t, l.AwaitRequests(ctx(t), 200))
	if res := l.Stop(); res.Failed > 0 || res.Lost > 0 || len(res.By) != 3 {
		t.Errorf("%+v", res)
	}
}

// Directors forward by what is asked for, each by itself; what their kernel has not is said.
func TestLoadBalancerDataplanes(t *testing.T) {
	s := newBalanceSpace(t)
	s.must(s.segment(), s.peer(harness.RouterASN, ""), s.app("web", 3, "", ""))
	s.ready("web", 3)
	for n, dataplane := range []string{"NFT", "XDP"} {
		name, vip := strings.ToLower(dataplane), s.vip(30+n)
		s.must(s.lb(name, "{pool: "+s.name+"-vips, address: "+vip+"}", "{app: web}", "  dataplane: "+dataplane+"\n"))
		_, err := s.router.AwaitPaths(ctx(t), netip.MustParseAddr(vip), 2)
		must(t, err)
		s.condition("lb", name, v1alpha1.ConditionServersReady, "True", "3")
		l, err := cluster.StartLoad(fmt.Sprintf("http://%s:8080/", vip), 4, 4, time.Millisecond, answering)
		must(t, err)
		must(t, l.AwaitRequests(ctx(t), 200))
		if res := l.Stop(); res.Failed > 0 || res.Lost > 0 || len(res.By) != 3 {
			t.Errorf("%s: %+v", dataplane, res)
		}
		told(t, ctx(t), []string{" " + name + " "}, "describe", "lb", name, "-n", s.name)
	}
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		return
	}
	s.must(s.lb("ipvs", "{pool: "+s.name+"-vips}", "{app: web}", "  dataplane: IPVS\n"))
	s.condition("lb", "ipvs", v1alpha1.ConditionAnnounced, "False", "ip_vs")
}
