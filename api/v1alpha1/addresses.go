package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Lengths of prefixes that a pool may have.
const (
	minBits4 = 8
	minBits6 = 48
	// maxHosts4 is the longest prefix of IPv4 that has hosts beside its edges.
	maxHosts4 = 30
)

const (
	wantAddress = "must be an IP address, for example 10.44.0.10 or fd00:44::10"
	wantSubnet  = "must be a subnet, IPv4 from /8 to /30 (to /32 on a Network with the driver virtual) or IPv6 from /48 to /128, without bits behind the prefix, for example 10.44.0.0/16 or fd00:44::/64"
)

// span is a closed interval of addresses of one family.
type span struct{ from, to netip.Addr }

func (s span) has(a netip.Addr) bool { return s.from.Compare(a) <= 0 && a.Compare(s.to) <= 0 }

func (s span) String() string {
	if s.from == s.to {
		return s.from.String()
	}
	return s.from.String() + "-" + s.to.String()
}

// subnet is an IPPool's spec, understood.
type subnet struct {
	prefix   netip.Prefix
	all      span
	gateway  netip.Addr // not valid: none
	ranges   []span     // sorted, without overlap
	reserved []span     // as written
	// virtual: of no segment, so that no address means anything beside a host.
	virtual bool
}

// ParseAddress reads an address of either family. Zones, and IPv4 written as IPv6, are none.
func ParseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%q is no IP address: write one like 10.44.0.10 or fd00:44::10", s)
	}
	return a, nil
}

// Family is "IPv4" or "IPv6".
func Family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func parsePrefix(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() || p != p.Masked() {
		return p, false
	}
	if p.Addr().Is4() {
		return p, p.Bits() >= minBits4
	}
	return p, p.Bits() >= minBits6
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func parseSubnet(s *IPPoolSpec) (subnet, field.ErrorList) {
	var (
		out  subnet
		errs field.ErrorList
		path = field.NewPath("spec")
	)
	p, ok := parsePrefix(s.CIDR)
	if !ok {
		return out, append(errs, field.Invalid(path.Child("cidr"), s.CIDR, wantSubnet))
	}
	out.prefix = p
	out.all = span{p.Addr(), last(p)}
	if s.Gateway != "" {
		g, err := ParseAddress(s.Gateway)
		switch edge := out.edge(g); {
		case err != nil:
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, "must be an IP address, for example 10.44.0.1 or fd00:44::1"))
		case g.Is4() != p.Addr().Is4():
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, otherFamily(g, p)))
		case !out.all.has(g):
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, "is not within "+s.CIDR+": the next hop must be an address of the subnet"))
		case edge != "":
			errs = append(errs, field.Invalid(path.Child("gateway"), s.Gateway, "is the "+edge+" of "+s.CIDR+": choose another address of the subnet"))
		default:
			out.gateway = g
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
	slices.SortFunc(out.ranges, func(a, b span) int { return a.from.Compare(b.from) })
	for i := 1; i < len(out.ranges); i++ {
		if out.ranges[i].from.Compare(out.ranges[i-1].to) <= 0 {
			errs = append(errs, field.Invalid(path.Child("ranges"), out.ranges[i].String(),
				"overlaps "+out.ranges[i-1].String()+": join the two ranges"))
		}
	}
	return out, errs
}

func otherFamily(a netip.Addr, p netip.Prefix) string {
	return fmt.Sprintf("is an %s address, and the pool has %s (%s): write one of the subnet; each family has IPPools of its own", Family(a), Family(p.Addr()), p)
}

func parseRanges(in []AddressRange, sub subnet, path *field.Path) ([]span, field.ErrorList) {
	var (
		out  []span
		errs field.ErrorList
	)
	for i, r := range in {
		at := path.Index(i)
		s, wrong, err := r.span()
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at.Child(wrong), err.value, err.detail))
		case s.from.Is4() != sub.prefix.Addr().Is4():
			errs = append(errs, field.Invalid(at.Child("from"), r.From, otherFamily(s.from, sub.prefix)))
		case !sub.all.has(s.from) || !sub.all.has(s.to):
			errs = append(errs, field.Invalid(at, s.String(), "is not within "+sub.prefix.String()+": use addresses of the subnet, or another pool"))
		default:
			out = append(out, s)
		}
	}
	return out, errs
}

type badRange struct{ value, detail string }

// span understands a range; wrong is the field that cannot be.
func (r AddressRange) span() (s span, wrong string, bad *badRange) {
	var err error
	if s.from, err = ParseAddress(r.From); err != nil {
		return s, "from", &badRange{r.From, wantAddress}
	}
	s.to = s.from
	if r.To == "" {
		return s, "", nil
	}
	if s.to, err = ParseAddress(r.To); err != nil {
		return s, "to", &badRange{r.To, wantAddress}
	}
	switch {
	case s.from.Is4() != s.to.Is4():
		return s, "to", &badRange{r.To, "is of another family than from (" + r.From + "): write two ranges, in pools of their own"}
	case s.to.Less(s.from):
		return s, "to", &badRange{r.To, "is below from (" + r.From + "): swap the two"}
	}
	return s, "", nil
}

// edge says what a means in the subnet beside a host: of IPv4 its network and broadcast address, but not of a /31 or /32, of
// IPv6 the subnet-router anycast address (RFC 4291, 2.6.1), but not of a /127 (RFC 6164) or a /128. It is empty for all
// others, and without a segment.
func (s subnet) edge(a netip.Addr) string {
	switch {
	case s.virtual:
	case s.prefix.Addr().Is4() && s.prefix.Bits() <= maxHosts4 && (a == s.all.from || a == s.all.to):
		return "network or broadcast address"
	case s.prefix.Addr().Is6() && s.prefix.Bits() < 127 && a == s.all.from:
		return "subnet-router anycast address"
	}
	return ""
}

// refusal says why a cannot be handed out: a reason and a sentence with the remedy; both empty if it can.
func (s subnet) refusal(pool string, a netip.Addr) (reason, message string) {
	switch edge := s.edge(a); {
	case a.Is4() != s.prefix.Addr().Is4():
		return padisv1.ReasonAddressOutsidePool, fmt.Sprintf("is an %s address, and %s of pool %s is %s: use an address of the subnet, or another pool",
			Family(a), s.prefix, pool, Family(s.prefix.Addr()))
	case !s.all.has(a):
		return padisv1.ReasonAddressOutsidePool, fmt.Sprintf("is not within %s of pool %s: use an address of the subnet, or another pool", s.prefix, pool)
	case edge != "":
		return padisv1.ReasonAddressReserved, fmt.Sprintf("is the %s of %s of pool %s: choose another address", edge, s.prefix, pool)
	case a == s.gateway:
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

// free gives up to n addresses that can be handed out and are not taken, in order.
func (s subnet) free(n int, taken func(netip.Addr) bool) []netip.Addr {
	var out []netip.Addr
	for _, r := range s.ranges {
		for a := r.from; len(out) < n; a = a.Next() {
			if reason, _ := s.refusal("", a); reason == "" && !taken(a) {
				out = append(out, a)
			}
			// Jump over the reserved span that a lies in: a range may hold millions of addresses.
			for _, v := range s.reserved {
				if v.has(a) && a.Less(v.to) {
					a = v.to
				}
			}
			if !a.Less(r.to) {
				break
			}
		}
	}
	return out
}

// empty tells that no address at all can be handed out.
func (s subnet) empty() bool {
	return len(s.free(1, func(netip.Addr) bool { return false })) == 0
}

// Refusal says why a pool does not hand out an address: a padisv1.Reason constant and a sentence with the remedy. Both are
// empty if it does, and for a pool that is invalid.
func (p *IPPool) Refusal(a netip.Addr) (reason, message string) { return p.Refuser()(a) }

// Refuser gives Refusal for many addresses.
func (p *IPPool) Refuser() func(netip.Addr) (reason, message string) {
	s, errs := parseSubnet(&p.Spec)
	if len(errs) > 0 {
		return func(netip.Addr) (string, string) { return "", "" }
	}
	return func(a netip.Addr) (string, string) { return s.refusal(p.Name, a) }
}

// VirtualRefuser is Refuser of a pool of a Network with the driver virtual.
func (p *IPPool) VirtualRefuser() func(netip.Addr) (reason, message string) {
	s, errs := parseSubnet(&p.Spec)
	if len(errs) > 0 {
		return func(netip.Addr) (string, string) { return "", "" }
	}
	s.virtual = true
	return func(a netip.Addr) (string, string) { return s.refusal(p.Name, a) }
}

// Contains tells whether an address is of the pool's subnet, handed out or not.
func (p *IPPool) Contains(a netip.Addr) bool {
	prefix, ok := parsePrefix(p.Spec.CIDR)
	return ok && prefix.Contains(a)
}

// FreeAddresses gives up to n addresses that the pool hands out and that are not taken, in order.
func (p *IPPool) FreeAddresses(n int, taken func(netip.Addr) bool) []netip.Addr {
	s, errs := parseSubnet(&p.Spec)
	if len(errs) > 0 {
		return nil
	}
	return s.free(n, taken)
}
