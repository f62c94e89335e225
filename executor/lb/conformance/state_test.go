package conformance

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// What counts or tells the time is no state.
var volatile = regexp.MustCompile(`(?m) (expires|used|age) \S+|^  -> .*\n`)

// state is all that a dataplane may change in the namespace of a director: addresses, routes, rules, settings, nf_tables, IPVS,
// programs at the interface.
func (m *machine) state() string {
	m.s.t.Helper()
	var b strings.Builder
	for _, args := range [][]string{{"-d", "link"}, {"addr"}, {"-4", "rule"}, {"-6", "rule"}, {"-4", "route", "show", "table", "all"}, {"-6", "route", "show", "table", "all"}} {
		b.WriteString(m.run("ip", args...))
	}
	m.do(func() error {
		// Who asks nft where there is no nf_tables gets an error, which is a state, too.
		rules, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
		b.Write(rules)
		services, _ := os.ReadFile("/proc/thread-self/net/ip_vs")
		b.Write(services)
		settings := map[string]string{}
		for _, of := range []string{"all", "default", "eth0", "lo"} {
			for _, key := range []string{"ipv4/conf/%s/arp_ignore", "ipv4/conf/%s/arp_announce", "ipv4/conf/%s/rp_filter", "ipv4/conf/%s/accept_local", "ipv4/conf/%s/forwarding", "ipv6/conf/%s/forwarding"} {
				key = fmt.Sprintf(key, of)
				value, err := os.ReadFile("/proc/sys/net/" + key)
				if err != nil {
					return err
				}
				settings[key] = string(value)
			}
		}
		entries, _ := os.ReadDir("/proc/sys/net/ipv4/vs")
		for _, e := range entries {
			value, _ := os.ReadFile("/proc/sys/net/ipv4/vs/" + e.Name())
			settings["ipv4/vs/"+e.Name()] = string(value)
		}
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			fmt.Fprintf(&b, "%s = %s", key, settings[key])
		}
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		programs, err := link.QueryPrograms(link.QueryOptions{Target: eth0.Attrs().Index, Attach: ebpf.AttachTCXIngress})
		if err == nil {
			fmt.Fprintf(&b, "%d programs of tcx\n", len(programs.Programs))
		}
		return nil
	})
	return volatile.ReplaceAllString(b.String(), "")
}
