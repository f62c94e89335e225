package e2e

import (
	"fmt"
	"strings"
	"testing"

	"padis.io/padis/api/runtime"
)

// An address that was given back rests: only who had it gets it before its time.
func TestNetworkLeases(t *testing.T) {
	s := newNetSpace(t)
	pool := func(delay string) string {
		s.pools = nil
		return s.pool("", "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1, reuseDelay: %s, ranges: [{from: %s.10, to: %s.12}]", s.prefix, s.prefix, delay, s.prefix, s.prefix))
	}
	kept := s.prefix + ".12"
	s.must(pool("1h"))
	ip := func(words []string, args ...string) {
		t.Helper()
		told(t, ctx(t), words, append([]string{"ip"}, args...)...)
	}
	ip([]string{"reserved"}, "reserve", s.name, kept, "--comment", "the printer's")
	ip([]string{"Reserved", "the printer's", s.name}, "show", kept)

	s.must(s.app("first", 2, "", ""))
	had := addresses(s.ready("first", 2))
	must(t, cluster.Scale(ctx(t), s.name, "first", 1))
	s.ready("first", 1)
	rests := had["first-1"]
	ip([]string{"Cooling", s.name + "/first-1"}, "show", rests)
	list := told(t, ctx(t), []string{rests}, "ip", "list", "--pool", s.name)
	if !strings.Contains(lineWith(list, rests), "Cooling") || !strings.Contains(lineWith(list, kept), "Reserved") || !strings.Contains(lineWith(list, had["first-0"]), "Allocated") {
		t.Errorf("the list says\n%s", list)
	}
	if out, err := cluster.Padis(ctx(t), "ip", "list", "--pool", s.name, "--free", "1"); err == nil || !strings.Contains(out, "no free address") {
		t.Errorf("free is %v\n%s", err, out)
	}

	s.must(s.app("second", 1, "", ""))
	told(t, ctx(t), []string{"PoolExhausted", s.name, "1 rest"}, "why", "app/second", "-n", s.name)
	// Who had it gets it back at once.
	must(t, cluster.Scale(ctx(t), s.name, "first", 2))
	if again := addresses(s.ready("first", 2))["first-1"]; again != rests {
		t.Errorf("first-1 had %s and has %s", rests, again)
	}
	must(t, cluster.Scale(ctx(t), s.name, "first", 1))
	s.ready("first", 1)
	told(t, ctx(t), []string{"PoolExhausted"}, "why", "app/second", "-n", s.name)
	// A shorter rest counts for what rests already.
	s.must(pool("1s"))
	if got := addresses(s.ready("second", 1))["second-0"]; got != rests {
		t.Errorf("second-0 has %s, not %s", got, rests)
	}
	ip([]string{"not reserved any more"}, "release", s.name, kept)
	must(t, cluster.Scale(ctx(t), s.name, "second", 2))
	if got := addresses(s.ready("second", 2))["second-1"]; got != kept {
		t.Errorf("second-1 has %s, not %s", got, kept)
	}
	if out, err := cluster.Padis(ctx(t), "ip", "reserve", s.name, kept); err == nil || !strings.Contains(out, "second-1") {
		t.Errorf("an address that is held: %v\n%s", err, out)
	}
}

// A tenant that holds as many addresses as it may gets no more, and is told what to do.
func TestNetworkAddressQuota(t *testing.T) {
	s := newNetSpace(t)
	pool := s.pool("", "e2e", fmt.Sprintf("cidr: %s.0/24, gateway: %s.1", s.prefix, s.prefix))
	s.must(pool, s.tenant("addressQuotas: [{max: 2}]"), s.app("web", 3, "", ""))
	_, err := cluster.WaitInstances(ctx(t), s.name, "web", func(is []runtime.Instance) bool {
		ready, over := 0, 0
		for _, i := range is {
			if i.Status.Ready {
				ready++
			} else if i.Status.Reason == "AddressQuotaExceeded" {
				over++
			}
		}
		return ready == 2 && over == 1
	})
	must(t, err)
	told(t, ctx(t), []string{"AddressQuotaExceeded", s.name, "may hold 2", "raise"}, "why", "app/web", "-n", s.name)
	s.must(s.tenant("addressQuotas: [{max: 3}]"))
	s.ready("web", 3)
}
