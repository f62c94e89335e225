package e2e

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
)

// What is wrong with networks, pools and addresses is refused when it is applied, with the remedy.
func TestNetworkRefusedAtApply(t *testing.T) {
	s := newNetSpace(t)
	six := fmt.Sprintf("fd00:70:%d::", s.n)
	s.must(s.net("", "driver: vxlan, vni: "+fmt.Sprint(30_000+s.n)),
		s.pool("", "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1", s.prefix, s.prefix)),
		s.pool("-theirs", s.name, fmt.Sprintf("cidr: 10.78.%d.0/24, namespaces: [somebody-else]", s.n)),
		s.app("web", 1, "", ""))
	is := s.ready("web", 1)
	before := incarnations(t, s.name, is)
	held := is[0].Status.Addresses[0]
	network := func(spec string) string {
		return "apiVersion: padis.io/v1alpha1\nkind: Network\nmetadata: {name: bad}\nspec: {" + spec + "}\n"
	}
	pool := func(name, on, spec string) string {
		return fmt.Sprintf("apiVersion: padis.io/v1alpha1\nkind: IPPool\nmetadata: {name: %s}\nspec: {network: %s, %s}\n", name, on, spec)
	}
	for name, k := range map[string]struct {
		manifest string
		want     []string
	}{
		"VLAN out of range":     {network("driver: vlan, parent: eth1, vlan: 4095"), []string{"vlan", "4094"}},
		"VLAN without parent":   {network("driver: vlan, vlan: 7"), []string{"parent", "eth1"}},
		"VXLAN without VNI":     {network("driver: vxlan"), []string{"vni", "16777215"}},
		"unknown driver":        {network("driver: carrier-pigeon"), []string{"driver", "bridge"}},
		"gateway of its parent": {network("driver: bridge, parent: eth1, gateway: Host"), []string{"gateway", "unset parent"}},
		"MTU too small for any": {network("driver: vxlan, vni: 5, mtu: 500"), []string{"mtu", "576"}},
		"MTU too small for IPv6": {network("driver: vxlan, vni: 5, mtu: 1000") + "---\n" + pool("bad", "bad", "cidr: '"+six+"/64'"),
			[]string{"1280", "spec.mtu"}},
		"gateway outside":    {pool("bad", "e2e", "cidr: 10.79.0.0/24, gateway: 10.80.0.1"), []string{"10.80.0.1", "10.79.0.0/24"}},
		"IPv4 range in IPv6": {pool("bad", "e2e", "cidr: '"+six+"/64', ranges: [{from: 10.79.0.1, to: 10.79.0.9}]"), []string{"10.79.0.1", six}},
		"shrunk below what is held": {pool(s.name, "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1, ranges: [{from: %s.200}]", s.prefix, s.prefix, s.prefix)),
			[]string{held, "web-0", "spec.ranges"}},
		"gateway that is held": {pool(s.name, "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s", s.prefix, held)), []string{held, "web-0"}},
		"another cidr":         {pool(s.name, "e2e", "cidr: 10.79.0.0/24"), []string{"cannot be changed", "new IPPool"}},
		"another tenant's pool": {strings.TrimPrefix(s.app("bad", 1, "", "-theirs"), "---\n"),
			[]string{s.name + "-theirs", s.name, "namespaces"}},
		"another tenant's address": {strings.Replace(s.app("bad", 1, "", "-theirs"), "-theirs}", fmt.Sprintf("-theirs, addresses: [10.78.%d.7]}", s.n), 1),
			[]string{s.name + "-theirs", "namespaces"}},
		"loopback address of a pool": {s.app("bad", 1, "  loopbackAddresses: ["+s.prefix+".7]\n", ""), []string{s.prefix + ".7", s.name}},
		"driver under a pool":        {strings.Replace(network("driver: bridge"), "{name: bad}", "{name: "+s.name+"}", 1), []string{"driver", "new Network"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := apply(ctx(t), k.manifest)
			if err == nil {
				t.Errorf("it is accepted:\n%s", out)
			}
			for _, w := range k.want {
				if !strings.Contains(out, w) {
					t.Errorf("%q is not said:\n%s", w, out)
				}
			}
		})
	}
	if _, err := cluster.Padis(ctx(t), "delete", "network", "bad", "--ignore-not-found"); err != nil {
		t.Error(err)
	}

	// Nor is a pool deleted that is in use, and its instances do not notice.
	out, err := cluster.Padis(ctx(t), "delete", "ippool", s.name, "--wait=false")
	if err == nil || !strings.Contains(out, s.name+"/web") || !strings.Contains(out, "delete them first") {
		t.Errorf("the deletion of a pool in use: %v\n%s", err, out)
	}
	now := s.ready("web", 1)
	if after := incarnations(t, s.name, now); after["web-0"] != before["web-0"] || now[0].Status.Addresses[0] != held {
		t.Errorf("web-0 was process %d with %s and is process %d with %v", before["web-0"], held, after["web-0"], now[0].Status.Addresses)
	}
	must(t, cluster.FetchAll(ctx(t), now, 8080, "/"))
}

// What only hosts can know is told by the network and by the instance within seconds.
func TestNetworkShownAsCondition(t *testing.T) {
	s := newNetSpace(t)
	kinds := []struct {
		name, spec string
		words      []string
	}{
		{"-no-parent", "driver: bridge, parent: eth77", []string{"eth77"}},
		{"-macvlan", "driver: macvlan, parent: eth78, allowSpoofing: true", []string{"eth78"}},
		{"-uplink", "driver: bridge, parent: eth0", []string{"eth0", "takeParent"}},
		{"-fat", fmt.Sprintf("driver: vxlan, parent: eth0, vni: %d, mtu: 1500", 40_000+s.n), []string{"eth0 has MTU 1500", "spec.mtu to 1450"}},
	}
	for i, k := range kinds {
		s.must(s.net(k.name, k.spec), s.pool(k.name, s.name+k.name, fmt.Sprintf("cidr: 10.%d.%d.0/24", 80+i, s.n)), s.app("app"+k.name, 1, "", k.name))
	}
	for _, k := range kinds {
		c := ctx(t)
		told(t, c, k.words, "get", "network", s.name+k.name, "-o", `jsonpath={.status.conditions[?(@.type=="HostsReady")].message}`)
		told(t, c, append([]string{"NetworkFailed"}, k.words...), "why", "app/app"+k.name, "-n", s.name)
		is, err := cluster.WaitInstances(c, s.name, "app"+k.name, func(is []runtime.Instance) bool { return len(is) == 1 })
		must(t, err)
		if is[0].Status.Ready {
			t.Errorf("%s is ready", is[0].Name)
		}
	}
}
