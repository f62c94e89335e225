package v1alpha1

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sort"

	"k8s.io/apimachinery/pkg/util/validation/field"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// span is a closed interval of IPv4 addresses as numbers.
type span struct{ from, to uint32 }

func (s span) has(a uint32) bool { return s.from <= a && a <= s.to }

func (s span) String() string {
	if s.from == s.to {
		return address(s.from).String()
	}
	return address(s.from).String() + "-" + address(s.to).String()
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// subnet is an IPPool's spec, understood.
type subnet struct {
	prefix   netip.Prefix
	all      span
	gateway  uint32 // 0: none
	ranges   []span // sorted, without overlap
	reserved []span // as written
}

// ParseIPv4 reads a dotted IPv4 address.
func ParseIPv4(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 address: write one like 10.44.0.10", s)
	}
	return a, nil
}

func parseSubnet(s *IPPoolSpec) (subnet, field.ErrorList) {
	var (
		out  subnet
		errs field.ErrorList
		path = field.NewPath("spec")
	)
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 30 || p != p.Masked() {
		return out, append(errs, field.Invalid(path.Child("cidr"), s.CIDR,
			"must be an IPv4 subnet from /8 to /30 without bits behind the prefix, for example 10.44.0.0/16"))
	}
	first := number(p.Addr())
	out.prefix = p
	out.all = span{first, first | (1<<(32-p.Bits()) - 1)}
	if s.Gateway != "" {
		switch g, err := ParseIPv4(s.Gateway); {
		case err != nil:
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, "must be an IPv4 address, for example 10.44.0.1"))
		case !out.all.has(number(g)):
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, "is not within "+s.CIDR+": the next hop must be an address of the subnet"))
		case number(g) == out.all.from || number(g) == out.all.to:
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, "is the network or broadcast address of "+s.CIDR+": choose another address of the subnet"))
		default:
			out.gateway = number(g)
		}
	}
	var more field.ErrorList
	out.ranges, more = parseRanges(s.Ranges, out, path.Child("ranges"))
	errs = append(errs, more...)
	out.reserved, more = parseRanges(s.Reserved, out, path.Child("reserved"))
	errs = append(errs, more...)
	if len(s.Ranges) == 0 {
		out.ranges = []span{out.all}
	}
	sort.Slice(out.ranges, func(i, j int) bool { return out.ranges[i].from < out.ranges[j].from })
	for i := 1; i < len(out.ranges); i++ {
		if out.ranges[i].from <= out.ranges[i-1].to {
			errs = append(errs, field.Invalid(path.Child("ranges"), out.ranges[i].String(),
				"overlaps "+out.ranges[i-1].String()+": join the two ranges"))
		}
	}
	return out, errs
}

func parseRanges(in []AddressRange, sub subnet, path *field.Path) ([]span, field.ErrorList) {
	var (
		out  []span
		errs field.ErrorList
	)
	for i, r := range in {
		at := path.Index(i)
		from, err := ParseIPv4(r.From)
		if err != nil {
			errs = append(errs, field.Invalid(at.Child("from"), r.From, "must be an IPv4 address, for example 10.44.0.10"))
			continue
		}
		to := from
		if r.To != "" {
			if to, err = ParseIPv4(r.To); err != nil {
				errs = append(errs, field.Invalid(at.Child("to"), r.To, "must be an IPv4 address, for example 10.44.0.10"))
				continue
			}
		}
		switch s := (span{number(from), number(to)}); {
		case s.from > s.to:
			errs = append(errs, field.Invalid(at.Child("to"), r.To, "is below from ("+r.From+"): swap the two"))
		case !sub.all.has(s.from) || !sub.all.has(s.to):
			errs = append(errs, field.Invalid(at, s.String(), "is not within "+sub.prefix.String()+": use addresses of the subnet, or another pool"))
		default:
			out = append(out, s)
		}
	}
	return out, errs
}

// refusal says why a cannot be handed out: a reason and a sentence with the remedy; both empty if it can.
func (s subnet) refusal(pool string, a uint32) (reason, message string) {
	switch {
	case !s.all.has(a):
		return padisv1.ReasonAddressOutsidePool, fmt.Sprintf("is not within %s of pool %s: use an address of the subnet, or another pool", s.prefix, pool)
	case a == s.all.from || a == s.all.to:
		return padisv1.ReasonAddressReserved, fmt.Sprintf("is the network or broadcast address of %s of pool %s: choose another address", s.prefix, pool)
	case a == s.gateway && s.gateway != 0:
		return padisv1.ReasonAddressReserved, fmt.Sprintf("is the gateway of pool %s: choose another address", pool)
	}
	for _, r := range s.reserved {
		if r.has(a) {
			return padisv1.ReasonAddressReserved, fmt.Sprintf("is reserved in pool %s (%s): choose another address, or remove it from spec.reserved of the pool", pool, r)
		}
	}
	for _, r := range s.ranges {
		if r.has(a) {
			return "", ""
		}
	}
	return padisv1.ReasonAddressOutsidePool, fmt.Sprintf("is in no range of pool %s: choose an address of its ranges, or extend spec.ranges of the pool", pool)
}

// empty tells that no address at all can be handed out.
func (s subnet) empty() bool {
	for _, r := range s.ranges {
		for a := r.from; ; {
			if reason, _ := s.refusal("", a); reason == "" {
				return false
			}
			// Jump over the reserved span that a lies in: a range may hold millions of addresses.
			next := a
			for _, v := range s.reserved {
				if v.has(a) && v.to > next {
					next = v.to
				}
			}
			if next >= r.to {
				break
			}
			a = next + 1
		}
	}
	return true
}
