package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/runtime"
)

// netSpace is a namespace of a test that makes its own networks and pools: all are named after it, and go with it.
type netSpace struct {
	space
	n        int
	t        *testing.T
	networks []string
	pools    []string
	tenants  []string
}

// newNetSpace numbers the test; 10.7N.0.0/16 of its number and fd00:70:N::/48 are its own.
func newNetSpace(t *testing.T) *netSpace {
	t.Helper()
	if err := network(); err != nil {
		t.Fatal(err)
	}
	subnet.Lock()
	subnet.next++
	n := subnet.next
	subnet.Unlock()
	s := &netSpace{space: space{name: fmt.Sprintf("net-%d", n), prefix: fmt.Sprintf("10.70.%d", n)}, n: n, t: t}
	t.Cleanup(s.clean)
	return s
}

// clean deletes what the test has declared. What waits to be released, waits.
func (s *netSpace) clean() {
	c, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if s.t.Failed() {
		out, _ := cluster.Kubectl(c, "get", "apps,instances,addresses,networks,ippools", "-n", s.name, "-o", "wide")
		s.t.Logf("%s", out)
	}
	remove := func(kind string, names ...string) {
		if len(names) == 0 {
			return
		}
		args := append([]string{"delete", kind, "--ignore-not-found", "--timeout=90s"}, names...)
		if out, err := cluster.Padis(c, args...); err != nil {
			s.t.Errorf("clean-up: %v\n%s", err, out)
		}
	}
	remove("namespace", s.name)
	remove("tenant", s.tenants...)
	remove("ippool", s.pools...)
	remove("network", s.networks...)
}

// net is the name of a network of the test; spec is its specification in YAML.
func (s *netSpace) net(suffix, spec string) string {
	name := s.name + suffix
	s.networks = append(s.networks, name)
	return fmt.Sprintf("---\napiVersion: padis.io/v1alpha1\nkind: Network\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// pool is an IPPool of a network of the test.
func (s *netSpace) pool(suffix, network, spec string) string {
	name := s.name + suffix
	s.pools = append(s.pools, name)
	return fmt.Sprintf("---\napiVersion: padis.io/v1alpha1\nkind: IPPool\nmetadata: {name: %s}\nspec: {network: %s, %s}\n", name, network, spec)
}

// tenant owns the namespace of the test.
func (s *netSpace) tenant(spec string) string {
	s.tenants = []string{s.name}
	return fmt.Sprintf("---\napiVersion: padis.io/v1alpha1\nkind: Tenant\nmetadata: {name: %s}\nspec: {namespaces: [%s], %s}\n", s.name, s.name, spec)
}

// app is an App that serves HTTP on each of its addresses; more is the rest of its spec, in lines.
func (s *netSpace) app(name string, replicas int, more string, pools ...string) string {
	var on []string
	for _, p := range pools {
		on = append(on, "{pool: "+s.name+p+"}")
	}
	return fmt.Sprintf(`---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: %s, namespace: %s}
spec:
  replicas: %d
  template:
    command: [shop, -name, %s]
    resources: {cpu: 20m, memory: 16Mi}
    healthChecks: [{http: {port: 8080, path: /healthz}, interval: 1s, timeout: 1s}]
  networks: [%s]
  restart: {initialDelay: 100ms}
%s`, name, s.name, replicas, name, strings.Join(on, ", "), more)
}

// spread has one instance on each host.
const spread = "  placement: {constraints: [{attribute: hostname, operator: Unique}]}\n"

func (s *netSpace) must(manifests ...string) {
	s.t.Helper()
	_, err := apply(ctx(s.t), "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+s.name+"}\n"+strings.Join(manifests, ""))
	must(s.t, err)
}

func (s *netSpace) ready(app string, n int) []runtime.Instance {
	s.t.Helper()
	is, err := cluster.WaitReady(ctx(s.t), s.name, app, n)
	must(s.t, err)
	return is
}

// in runs a command inside an instance.
func (s *netSpace) in(instance string, args ...string) (string, error) {
	return cluster.Padis(ctx(s.t), append([]string{"exec", "-n", s.name, instance, "--"}, args...)...)
}

// get is the page of an address as an instance sees it, in at most so many seconds.
func (s *netSpace) get(instance, address string, seconds int) (string, error) {
	return s.in(instance, fetching(address, seconds)...)
}

func fetching(address string, seconds int) []string {
	return []string{"curl", "-sS", "--fail", "--max-time", fmt.Sprint(seconds), "--noproxy", "*", "http://" + netip.AddrPortFrom(netip.MustParseAddr(address), 8080).String() + "/"}
}

// told waits until a command of padis prints all the words.
func told(t *testing.T, c context.Context, words []string, args ...string) string {
	t.Helper()
	var last string
	until(t, c, fmt.Sprintf("padis %s says %q", strings.Join(args, " "), words), func() (bool, string) {
		out, err := cluster.Padis(c, args...)
		if c.Err() == nil {
			last = out
		}
		return err == nil && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(out, w) }), last
	})
	return last
}

// longer is ctx for what waits for leases, agents and ghosts one after the other.
func longer(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return c
}

// lineWith is the first line of a text with the word in it.
func lineWith(text, word string) string {
	for _, l := range strings.Split(text, "\n") {
		if slices.Contains(strings.Fields(l), word) {
			return l
		}
	}
	return ""
}

func hostsOf(is []runtime.Instance) map[string]bool {
	m := map[string]bool{}
	for _, i := range is {
		m[i.Status.Host] = true
	}
	return m
}
