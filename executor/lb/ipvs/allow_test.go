package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSpans(t *testing.T) {
	for _, c := range []struct{ prefixes, want string }{
		{"10.0.0.0/8", "10.0.0.0-10.255.255.255"},
		{"10.0.0.0/9 10.128.0.0/9", "10.0.0.0-10.255.255.255"},
		{"10.0.0.0/8 10.1.0.0/16 12.0.0.1/32", "10.0.0.0-10.255.255.255 12.0.0.1-12.0.0.1"},
		{"0.0.0.0/0 255.255.255.255/32", "0.0.0.0-255.255.255.255"},
		{"10.0.0.8/29", "10.0.0.8-10.0.0.15"},
		{"fd00::/17 ffff::/16", "fd00::-fd00:7fff:ffff:ffff:ffff:ffff:ffff:ffff ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		got := ""
		for _, s := range spans(prefixesOf(c.prefixes)) {
			got += fmt.Sprintf("%s-%s ", s.first, s.last)
		}
		if got != c.want+" " {
			t.Errorf("%s: %s, want %s", c.prefixes, got, c.want)
		}
	}
}

func prefixesOf(s string) (out []netip.Prefix) {
	for s != "" {
		var one string
		n, _ := fmt.Sscan(s, &one)
		if n == 0 {
			break
		}
		out = append(out, netip.MustParsePrefix(one))
		s = s[min(len(one)+1, len(s)):]
	}
	return out
}

// An address is in one of the spans if and only if it is in one of the prefixes; spans ascend, and neither overlap nor touch.
func TestSpansAreThePrefixes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var prefixes []netip.Prefix
		near := func() netip.Addr { // so that they meet
			return netip.AddrFrom4([4]byte{rapid.SampledFrom([]byte{0, 10, 255}).Draw(t, "net"), rapid.SampledFrom([]byte{0, 1, 255}).Draw(t, "subnet"), 0, rapid.Byte().Draw(t, "host")})
		}
		for range rapid.IntRange(0, 12).Draw(t, "n") {
			prefixes = append(prefixes, netip.PrefixFrom(near(), rapid.IntRange(0, 32).Draw(t, "bits")).Masked())
		}
		got := spans(prefixes)
		for i, s := range got {
			if s.last.Less(s.first) || i > 0 && !got[i-1].last.Next().Less(s.first) {
				t.Fatalf("%v are %v", prefixes, got)
			}
		}
		for range 50 {
			a := near()
			in := slices.ContainsFunc(got, func(s span) bool { return s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0 })
			if want := slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }); in != want {
				t.Fatalf("%s is in %v: %v, in %v: %v", a, prefixes, want, got, in)
			}
		}
	})
}
