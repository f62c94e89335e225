package v1alpha1

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseRange reads ADDRESS or FROM-TO.
func ParseRange(text string) (AddressRange, error) {
	from, to, _ := strings.Cut(text, "-")
	r := AddressRange{From: from, To: to}
	s, _, bad := r.span()
	if bad != nil {
		return r, fmt.Errorf("%q %s", bad.value, bad.detail)
	}
	r.From = s.from.String()
	if r.To = ""; s.to != s.from {
		r.To = s.to.String()
	}
	return r, nil
}

// Has tells whether a range that is valid holds an address.
func (r AddressRange) Has(a netip.Addr) bool {
	s, _, bad := r.span()
	return bad == nil && s.has(a)
}

// String gives ADDRESS or FROM-TO.
func (r AddressRange) String() string {
	if r.To == "" || r.To == r.From {
		return r.From
	}
	return r.From + "-" + r.To
}

// Reserve adds a range to spec.reserved. It changes nothing, and tells so, if one entry holds all of it already.
func (s *IPPoolSpec) Reserve(r AddressRange) (changed bool) {
	in, _, bad := r.span()
	if bad != nil {
		return false
	}
	for _, have := range s.Reserved {
		if have.Has(in.from) && have.Has(in.to) {
			return false
		}
	}
	s.Reserved = append(s.Reserved, r)
	return true
}

// Unreserve takes a range out of spec.reserved, and divides entries that hold more than that. It tells whether any did.
func (s *IPPoolSpec) Unreserve(r AddressRange) (changed bool) {
	out, _, bad := r.span()
	if bad != nil {
		return false
	}
	var kept []AddressRange
	for _, have := range s.Reserved {
		in, _, bad := have.span()
		if bad != nil || in.from.Is4() != out.from.Is4() || in.to.Less(out.from) || out.to.Less(in.from) {
			kept = append(kept, have)
			continue
		}
		changed = true
		if in.from.Less(out.from) {
			kept = append(kept, rangeOf(in.from, out.from.Prev(), have.Comment))
		}
		if out.to.Less(in.to) {
			kept = append(kept, rangeOf(out.to.Next(), in.to, have.Comment))
		}
	}
	s.Reserved = kept
	return changed
}

func rangeOf(from, to netip.Addr, comment string) AddressRange {
	r := AddressRange{From: from.String(), Comment: comment}
	if to != from {
		r.To = to.String()
	}
	return r
}
