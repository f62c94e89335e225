package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	padisv1 "padis.io/padis/proto/padis/v1"
)

func pool(name, network, cidr string, ranges ...string) IPPool {
	p := IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: IPPoolSpec{Network: network, CIDR: cidr}}
	for _, r := range ranges {
		from, to, _ := strings.Cut(r, "-")
		p.Spec.Ranges = append(p.Spec.Ranges, AddressRange{From: from, To: to})
	}
	return p
}

func app(name string, addresses ...string) App {
	return App{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: AppSpec{Networks: []NetworkAttachment{{Pool: "blue", Addresses: addresses}}}}
}

func mustParse(s string) netip.Addr { return netip.MustParseAddr(s) }

func born[T any](at int64, o T, meta func(*T) *metav1.ObjectMeta) T {
	meta(&o).CreationTimestamp = metav1.Unix(at, 0)
	return o
}

func TestPoolsThatClash(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b IPPool
		want string
	}{
		{"apart", pool("a", "n", "10.1.0.0/24"), pool("b", "n", "10.2.0.0/24"), ""},
		{"same subnet, ranges apart", pool("a", "n", "10.1.0.0/24", "10.1.0.1-10.1.0.9"), pool("b", "n", "10.1.0.0/24", "10.1.0.10-10.1.0.19"), ""},
		{"same subnet, ranges touch", pool("a", "n", "10.1.0.0/24", "10.1.0.1-10.1.0.10"), pool("b", "n", "10.1.0.0/24", "10.1.0.10"), "10.1.0.10 of pool b"},
		{"same subnet, one whole", pool("a", "n", "10.1.0.0/24"), pool("b", "n", "10.1.0.0/24", "10.1.0.10"), "10.1.0.10 of pool b"},
		{"within, one network", pool("a", "n", "10.1.0.0/16"), pool("b", "n", "10.1.2.0/24"), "disjoint"},
		{"two networks", pool("a", "n", "10.1.0.0/24", "10.1.0.1"), pool("b", "m", "10.1.0.0/24", "10.1.0.9"), "on one network only"},
		{"itself", pool("a", "n", "10.1.0.0/24"), pool("a", "n", "10.1.0.0/24"), ""},
		{"an invalid one", pool("a", "n", "10.1.0.0/24"), pool("b", "n", "10.1.0.7/24"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			there, back := PoolClash(&c.a, &c.b), PoolClash(&c.b, &c.a)
			if (there == nil) != (c.want == "") || (there == nil) != (back == nil) {
				t.Fatalf("a against b: %v, b against a: %v", there, back)
			}
			if there != nil && (!strings.Contains(there.Message, c.want) || there.Reason != padisv1.ReasonPoolOverlap) {
				t.Errorf("%v, want %q in it", there, c.want)
			}
		})
	}
}

func TestTheYoungerHasTheProblem(t *testing.T) {
	pools := []IPPool{
		born(20, pool("a", "n", "10.1.0.0/24"), func(p *IPPool) *metav1.ObjectMeta { return &p.ObjectMeta }),
		born(10, pool("z", "n", "10.1.0.0/24"), func(p *IPPool) *metav1.ObjectMeta { return &p.ObjectMeta }),
		pool("broken", "n", "10.9.0.0/33"),
	}
	got := fmt.Sprint(ValidatePools(pools))
	if !strings.Contains(got, `ippool/a: spec.cidr: "10.1.0.0/24" overlaps 10.1.0.0-10.1.0.255 of pool z`) || strings.Contains(got, "ippool/z") || !strings.Contains(got, "ippool/broken") {
		t.Error(got)
	}
	apps := []App{
		born(20, app("a", "10.1.0.5", "10.1.0.6"), func(a *App) *metav1.ObjectMeta { return &a.ObjectMeta }),
		born(10, app("z", "10.1.0.6"), func(a *App) *metav1.ObjectMeta { return &a.ObjectMeta }),
	}
	problems := ValidateApps(apps)
	if len(problems) != 1 || problems[0].Object != "app/shop/a" || problems[0].Field != "spec.networks[0].addresses[1]" || problems[0].Reason != padisv1.ReasonAddressInUse ||
		!strings.Contains(problems[0].Message, "instance z-0") {
		t.Error(problems)
	}
	if p := AddressClash(&apps[1], apps); p == nil || p.Value != "10.1.0.6" || !strings.Contains(p.Message, "instance a-1") {
		t.Error(p)
	}
	if p := AddressClash(&apps[1], apps[1:]); p != nil {
		t.Errorf("an App clashes with itself: %v", p)
	}
	tenants := []Tenant{
		{ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: metav1.Unix(20, 0)}, Spec: TenantSpec{Namespaces: []string{"x", "y"}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "z", CreationTimestamp: metav1.Unix(10, 0)}, Spec: TenantSpec{Namespaces: []string{"y"}}},
	}
	if p := ValidateTenants(tenants); len(p) != 1 || p[0].Object != "tenant/a" || p[0].Field != "spec.namespaces[1]" || p[0].Value != "y" {
		t.Error(p)
	}
}

func TestAddressesAgainstTheirPool(t *testing.T) {
	p := pool("blue", "n", "10.1.0.0/24", "10.1.0.0-10.1.0.99", "10.1.0.200-10.1.0.255")
	p.Spec.Gateway = "10.1.0.1"
	p.Spec.Reserved = []AddressRange{{From: "10.1.0.50", To: "10.1.0.59"}, {From: "10.1.0.70"}}
	p.Spec.Namespaces = []string{"shop"}
	for address, want := range map[string]string{
		"10.1.0.2": "", "10.1.0.99": "", "10.1.0.254": "",
		"10.2.0.1": padisv1.ReasonAddressOutsidePool, "10.1.0.100": padisv1.ReasonAddressOutsidePool,
		"10.1.0.0": padisv1.ReasonAddressReserved, "10.1.0.255": padisv1.ReasonAddressReserved, "10.1.0.1": padisv1.ReasonAddressReserved,
		"fd00::1": padisv1.ReasonAddressOutsidePool, "10.1.0.50": padisv1.ReasonAddressReserved, "10.1.0.59": padisv1.ReasonAddressReserved, "10.1.0.70": padisv1.ReasonAddressReserved,
	} {
		a := app("web", address)
		problems := ValidateAddresses(&a, []IPPool{p})
		got := ""
		if len(problems) > 0 {
			got = problems[0].Reason
		}
		if got != want {
			t.Errorf("%s: %v, want %q", address, problems, want)
		}
	}
	a := app("web")
	a.Namespace = "other"
	if got := ValidateAddresses(&a, []IPPool{p}); len(got) != 1 || got[0].Reason != padisv1.ReasonPoolForbidden {
		t.Error(got)
	}
	if got := ValidateAddresses(&a, nil); got != nil {
		t.Errorf("a pool that is not there yet: %v", got)
	}
}

func TestWhatTheSchemaCannotSay(t *testing.T) {
	a := app("web", "10.1.0.5", "10.1.0.5", "x")
	a.Spec.Placement.Constraints = []Constraint{{Attribute: "rack", Operator: "Like", Value: "["}, {Attribute: "rack", Operator: "Cluster", Value: "["}}
	errs := ValidateApp(&a)
	if len(errs) != 3 {
		t.Fatalf("%d errors, want 3: %v", len(errs), errs)
	}
	for _, want := range []string{"constraints[0].value", "missing closing ]", "addresses[1]", "already given at spec.networks[0].addresses[0]", "addresses[2]"} {
		if !strings.Contains(errs.ToAggregate().Error(), want) {
			t.Errorf("%q is not in %v", want, errs)
		}
	}
}

func TestDefaultsAreThoseOfTheSchema(t *testing.T) {
	var (
		a AppSpec
		h HealthCheck
		s Stop
		r RestartPolicy
		u UpdateStrategy
	)
	grace, interval, timeout := h.Times()
	failure, success := h.Thresholds()
	initial, maximum, stable := r.Delays()
	got := fmt.Sprintln(a.Wanted(), grace, interval, timeout, failure, success, s.Grace(), s.SignalName(), initial, maximum, stable, u.Unavailable())
	if want := "1 30s 5s 2s 3 1 10s SIGTERM 1s 5m0s 1m0s 1\n"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	h.Interval = &metav1.Duration{Duration: time.Second}
	if _, interval, _ = h.Times(); interval != time.Second {
		t.Errorf("interval %s", interval)
	}
}

// An address that a pool gives lies within it, is in a range, and is none of those that are kept back; and a pool is
// empty if and only if it gives none.
func TestRefusalAgreesWithCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := rapid.IntRange(0, 6).Draw(t, "bits of the host part")
		prefix := netip.PrefixFrom(netip.MustParseAddr("fd00::40"), 128-hosts).Masked()
		if rapid.Bool().Draw(t, "IPv4") {
			hosts = max(hosts, 2)
			prefix = netip.PrefixFrom(netip.MustParseAddr("10.1.0.64"), 32-hosts).Masked()
		}
		all := []netip.Addr{prefix.Addr()}
		for len(all) < 1<<hosts {
			all = append(all, all[len(all)-1].Next())
		}
		within := func(label string) string { return all[rapid.IntRange(0, len(all)-1).Draw(t, label)].String() }
		p := IPPool{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: IPPoolSpec{Network: "n", CIDR: prefix.String()}}
		if rapid.Bool().Draw(t, "gateway") {
			p.Spec.Gateway = within("gateway")
		}
		for range rapid.IntRange(0, 3).Draw(t, "ranges") {
			p.Spec.Ranges = append(p.Spec.Ranges, AddressRange{From: within("from"), To: within("to")})
		}
		for range rapid.IntRange(0, 3).Draw(t, "reserved") {
			p.Spec.Reserved = append(p.Spec.Reserved, AddressRange{From: within("from"), To: within("to")})
		}
		s, errs := parseSubnet(&p.Spec)
		if len(errs) > 0 {
			return
		}
		in := func(list []AddressRange, a netip.Addr) bool {
			return slices.ContainsFunc(list, func(r AddressRange) bool { return r.Has(a) })
		}
		first, last := all[0], all[len(all)-1]
		edge := func(a netip.Addr) bool {
			if a.Is4() {
				return a == first || a == last
			}
			return hosts > 1 && a == first
		}
		var given []netip.Addr
		for _, a := range append(all, first.Prev(), last.Next()) {
			want := prefix.Contains(a) && !edge(a) && a.String() != p.Spec.Gateway &&
				!in(p.Spec.Reserved, a) && (len(p.Spec.Ranges) == 0 || in(p.Spec.Ranges, a))
			reason, message := p.Refusal(a)
			if (reason == "") != want || (reason == "") != (message == "") {
				t.Fatalf("%s: refused with %q %q, want given: %v", a, reason, message, want)
			}
			if want {
				given = append(given, a)
			}
		}
		if s.empty() != (len(given) == 0) {
			t.Fatalf("empty says %v, %d addresses are given", s.empty(), len(given))
		}
		// Those that are free, in order, are those that are given and not taken.
		odd := func(a netip.Addr) bool { b := a.AsSlice(); return b[len(b)-1]%2 == 1 }
		n := rapid.IntRange(0, len(given)).Draw(t, "number")
		free := p.FreeAddresses(n, odd)
		even := slices.DeleteFunc(slices.Clone(given), odd)
		if want := even[:min(n, len(even))]; !slices.Equal(free, want) {
			t.Fatalf("%v are free, want %v", free, want)
		}
	})
}

func FuzzValidatePool(f *testing.F) {
	f.Add("10.0.0.0/8", "10.0.0.1", "10.0.0.0", "10.255.255.255", "0.0.0.0", "255.255.255.255")
	f.Add("10.0.0.4/30", "", "10.0.0.5", "", "10.0.0.6", "")
	f.Add("::/0", "::", "a", "b", "c", "d")
	f.Fuzz(func(t *testing.T, cidr, gateway, from, to, reservedFrom, reservedTo string) {
		p := IPPool{Spec: IPPoolSpec{CIDR: cidr, Gateway: gateway, Ranges: []AddressRange{{From: from, To: to}}, Reserved: []AddressRange{{From: reservedFrom, To: reservedTo}}}}
		a := app("web", from, to, gateway)
		_ = ValidateApp(&a)
		_ = ValidateAddresses(&a, []IPPool{p})
		if errs := ValidatePool(&p); len(errs) == 0 {
			other := p
			other.Name = "other"
			if PoolClash(&p, &other) == nil {
				t.Errorf("%s does not clash with itself under another name", cidr)
			}
		}
	})
}
