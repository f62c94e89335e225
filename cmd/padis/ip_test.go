package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
	"padis.io/padis/api/v1alpha1"
)

// showAddresses puts addresses of the pools ips and ips6 into the memory of the shared API server.
func showAddresses(views *live.Stores) {
	for _, s := range []runtime.AddressStatus{
		{Address: "10.60.0.11", Pool: "ips", State: runtime.AddressAllocated, Namespace: "default", Instance: "web-0", Host: "host-1", Conflict: "02:42:00:00:00:09"},
		{Address: "10.60.0.12", Pool: "ips", State: runtime.AddressCooling, Former: "default/old-3"},
		{Address: "10.60.0.13", Pool: "ips", State: runtime.AddressForeign, Conflict: "eth0 of host-2"},
		{Address: "fd00:60::1", Pool: "ips6", State: runtime.AddressAllocated, Namespace: "default", Instance: "web-1"},
	} {
		s.Network = "ips"
		s.Since = &metav1.Time{Time: time.Now().Add(-time.Hour)}
		views.Addresses.Set(&runtime.Address{ObjectMeta: metav1.ObjectMeta{Name: s.Address}, Status: s})
	}
}

const ipManifest = `
apiVersion: padis.io/v1alpha1
kind: Network
metadata: {name: ips}
spec: {bridge: ips0}
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: ips}
spec:
  network: ips
  cidr: 10.60.0.0/24
  gateway: 10.60.0.1
  ranges: [{from: 10.60.0.10, to: 10.60.0.20}]
  reserved: [{from: 10.60.0.15, to: 10.60.0.17, comment: printers}]
---
apiVersion: padis.io/v1alpha1
kind: IPPool
metadata: {name: ips6}
spec: {network: ips, cidr: "fd00:60::/64"}
---
apiVersion: padis.io/v1alpha1
kind: App
metadata: {name: fixed}
spec:
  replicas: 1
  template: {command: ["true"]}
  networks: [{pool: ips, addresses: [10.60.0.14]}]
  loopbackAddresses: [10.60.0.16]
`

func TestIP(t *testing.T) {
	useAPI(t)
	file := manifest(t, ipManifest)
	padis("apply", "-f", file).expect(t, exitOK)
	t.Cleanup(func() {
		padis("delete", "app", "fixed", "--wait=false").expect(t, exitOK)
	})

	r := padis("ip", "list")
	for _, want := range []string{
		"POOL ADDRESS STATE INSTANCE HOST SINCE NOTE",
		"ips 10.60.0.1 Reserved - - - gateway",
		"ips 10.60.0.11 Allocated default/web-0 host-1 60m used by 02:42:00:00:00:09",
		"ips 10.60.0.12 Cooling - - 60m was of default/old-3",
		"ips 10.60.0.13 Foreign - - 60m used by eth0 of host-2",
		"ips 10.60.0.14 SetAside default/fixed-0 - - its App asks for it",
		"ips 10.60.0.15-10.60.0.17 Reserved - - - printers",
		"ips6 fd00:60::1 Allocated default/web-1 - 60m",
	} {
		if !slices.ContainsFunc(strings.Split(r.out, "\n"), func(line string) bool { return strings.Join(strings.Fields(line), " ") == want }) {
			t.Errorf("%q is missing in\n%s%s", want, r.out, r.err)
		}
	}
	if r := padis("ip", "list", "--pool", "ips6"); r.status != exitOK || strings.Contains(r.out, "10.60.") {
		t.Errorf("of one pool: %+v", r)
	}
	padis("ip", "list", "--pool", "none").expect(t, exitError, `there is no IPPool "none"`, "padis get ippools")
	for n, want := range map[string]string{"2": "10.60.0.10\n10.60.0.18\n", "99": "10.60.0.10\n10.60.0.18\n10.60.0.19\n10.60.0.20\n"} {
		if r := padis("ip", "list", "--pool", "ips", "--free", n); r.out != want {
			t.Errorf("%s free: %q %s, want %q", n, r.out, r.err, want)
		}
	}
	if r := padis("ip", "list", "--pool", "ips6", "--free", "2"); r.out != "fd00:60::2\nfd00:60::3\n" {
		t.Errorf("free of IPv6: %q %s", r.out, r.err)
	}

	for address, want := range map[string][]string{
		"10.60.0.11": {"Pool: ips, 10.60.0.0/24 on network ips", "State: Allocated", "Instance: default/web-0", "Host: host-1", "Used by: 02:42:00:00:00:09"},
		"10.60.0.12": {"State: Cooling", "Was of: default/old-3"},
		"10.60.0.14": {"State: SetAside", "Asked for by: default/fixed-0"},
		"10.60.0.16": {"State: Reserved", "On the loopback of: default/fixed", "Comment: printers", "is reserved in pool ips"},
		"10.60.0.18": {"State: Free"},
		"10.60.0.99": {"State: NotHandedOut", "is in no range of pool ips"},
		"10.60.0.1":  {"State: Reserved", "is the gateway of pool ips"},
		"FD00:60::1": {"Address: fd00:60::1", "State: Allocated", "Instance: default/web-1"},
		"192.0.2.1":  {"State: of no pool"},
	} {
		r := padis("ip", "show", address)
		for _, line := range want {
			if !strings.Contains(strings.Join(strings.Fields(r.out), " "), line) {
				t.Errorf("%s: %q is missing in\n%s%s", address, line, r.out, r.err)
			}
		}
	}
}

func TestIPReserveAndRelease(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, ipManifest)).expect(t, exitOK)
	t.Cleanup(func() { padis("apply", "-f", manifest(t, ipManifest)).expect(t, exitOK) })
	reserved := func(want string) {
		t.Helper()
		if r := padis("get", "ippool", "ips", "-o", "jsonpath={range .spec.reserved[*]}{.from}-{.to} {.comment};{end}"); r.out != want {
			t.Errorf("reserved is %q %s, want %q", r.out, r.err, want)
		}
	}
	padis("ip", "reserve", "ips", "10.60.0.18-10.60.0.19", "--comment", "scanner").expect(t, exitOK, "ippool/ips: 10.60.0.18-10.60.0.19 is reserved\n")
	reserved("10.60.0.15-10.60.0.17 printers;10.60.0.18-10.60.0.19 scanner;")
	padis("ip", "reserve", "ips", "10.60.0.16").expect(t, exitOK, "10.60.0.16 is reserved already\n")
	padis("ip", "reserve", "ips", "10.60.0.11").expect(t, exitError, "10.60.0.11 cannot be reserved", "is held by default/web-0 on host-1", "scale the App in")
	padis("ip", "reserve", "ips", "10.60.0.10-10.60.0.14").expect(t, exitError, "10.60.0.11 is held by default/web-0", "10.60.0.14 is set aside for default/fixed-0")
	padis("ip", "reserve", "ips", "10.60.0.12").expect(t, exitOK, "10.60.0.12 is reserved\n")
	padis("ip", "reserve", "ips", "10.61.0.1").expect(t, exitError, "10.61.0.1 is not within 10.60.0.0/24 of pool ips")
	padis("ip", "reserve", "none", "10.61.0.1").expect(t, exitError, `there is no IPPool "none"`)
	padis("ip", "release", "ips", "10.60.0.12").expect(t, exitOK, "ippool/ips: 10.60.0.12 is not reserved any more\n")
	padis("ip", "release", "ips", "10.60.0.16").expect(t, exitOK, "10.60.0.16 is not reserved any more")
	reserved("10.60.0.15- printers;10.60.0.17- printers;10.60.0.18-10.60.0.19 scanner;")
	padis("ip", "release", "ips", "10.60.0.20").expect(t, exitError, "10.60.0.20 is not reserved in pool ips", "padis ip list --pool ips")
	padis("ip", "release", "ips", "10.60.0.11").expect(t, exitError, "10.60.0.11 is held by default/web-0 on host-1", "scaled in or deleted")
	padis("ip", "release", "ips", "10.60.0.0-10.60.0.255").expect(t, exitOK, "nothing changes for who has it: 10.60.0.11 is held by default/web-0")
	reserved("")
}

// A change that somebody else made after the pool was read is never overwritten.
func TestIPReserveHeedsOthers(t *testing.T) {
	useAPI(t)
	padis("apply", "-f", manifest(t, ipManifest)).expect(t, exitOK)
	t.Cleanup(func() { padis("apply", "-f", manifest(t, ipManifest)).expect(t, exitOK) })
	s, err := sharedAPI()
	if err != nil {
		t.Fatal(err)
	}
	a, err := newReader(s.LoopbackConfig())
	if err != nil {
		t.Fatal(err)
	}
	var before v1alpha1.IPPool
	if err := a.get(t.Context(), declaredPath("", "ippools", "ips"), &before); err != nil {
		t.Fatal(err)
	}
	padis("ip", "reserve", "ips", "10.60.0.19").expect(t, exitOK)
	before.Spec.Reserve(v1alpha1.AddressRange{From: "10.60.0.20"})
	if err := patchReserved(t.Context(), a, &before); err == nil || !strings.Contains(err.Error(), "modified") {
		t.Errorf("an older pool was written: %v", err)
	}
}

// Whatever is reserved and taken out again: an address is reserved if and only if the last command that named it said so.
func TestReservedRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParseAddr(rapid.SampledFrom([]string{"10.1.0.0", "fd00::"}).Draw(t, "family"))
		all := []netip.Addr{base}
		for len(all) < 16 {
			all = append(all, all[len(all)-1].Next())
		}
		var spec v1alpha1.IPPoolSpec
		model := map[netip.Addr]bool{}
		for range rapid.IntRange(1, 8).Draw(t, "commands") {
			from := rapid.IntRange(0, 15).Draw(t, "from")
			to := rapid.IntRange(from, 15).Draw(t, "to")
			r, err := v1alpha1.ParseRange(fmt.Sprintf("%s-%s", all[from], all[to]))
			if err != nil {
				t.Fatal(err)
			}
			add := rapid.Bool().Draw(t, "reserve")
			changes := false
			for _, a := range all[from : to+1] {
				changes = changes || model[a] != add
				model[a] = add
			}
			if !add {
				if spec.Unreserve(r) != changes {
					t.Fatalf("taking out %s says that it changes %v", r, !changes)
				}
			} else if !spec.Reserve(r) && changes {
				t.Fatalf("reserving %s says that nothing changes", r)
			}
			for _, a := range all {
				if got := slices.ContainsFunc(spec.Reserved, func(r v1alpha1.AddressRange) bool { return r.Has(a) }); got != model[a] {
					t.Fatalf("%s is reserved: %v, want %v", a, got, model[a])
				}
			}
		}
	})
}
