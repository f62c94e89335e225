package ipam

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// address is an IPv4 or IPv6 address as a number of 128 bits. IPv4 is at ::ffff:0:0/96 (RFC 4291, 2.5.5.2), where no
// IPv6 address of ours can be: parse refuses that form, and pools must not be in ::/8.
type address struct{ hi, lo uint64 }

// number turns an address into its number.
func number(a netip.Addr) address {
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// String gives the canonical form: of IPv6 that of RFC 5952.
func (a address) String() string { return a.netip().String() }

func (a address) netip() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b).Unmap()
}

func (a address) is4() bool { return a.hi == 0 && a.lo>>32 == 0xffff }

func (a address) compare(b address) int {
	return cmp.Or(cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
}

// plus is the address n further on; it goes round at the end.
func (a address) plus(n uint64) address {
	lo, carry := bits.Add64(a.lo, n, 0)
	return address{a.hi + carry, lo}
}

func (a address) prev() address {
	lo, borrow := bits.Sub64(a.lo, 1, 0)
	return address{a.hi - borrow, lo}
}

// parse reads an address of either family in any written form, but without a zone, and IPv4 not as an IPv6 address.
func parse(s string) (address, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Is4In6() || a.Zone() != "" {
		return address{}, false
	}
	return number(a), true
}

// canonical is the form in which leases have an address; what is none stays as it is.
func canonical(s string) string {
	if a, ok := parse(s); ok {
		return a.String()
	}
	return s
}

// compareAddresses orders addresses by number, and what is none by its text.
func compareAddresses(x, y string) int {
	if x == y {
		return 0
	}
	a, _ := parse(x)
	b, _ := parse(y)
	return cmp.Or(a.compare(b), cmp.Compare(x, y))
}

// size counts addresses.
type size struct{ hi, lo uint64 }

func (n size) plus(m size) size {
	lo, carry := bits.Add64(n.lo, m.lo, 0)
	return size{n.hi + m.hi + carry, lo}
}

func (n size) minus(m int) size {
	lo, borrow := bits.Sub64(n.lo, uint64(m), 0)
	return size{n.hi - borrow, lo}
}

// int64 saturates.
func (n size) int64() int64 {
	if n.hi > 0 || n.lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n.lo)
}

// interval is a closed range of addresses.
type interval struct{ from, to address }

func only(a address) interval { return interval{a, a} }

func (r interval) has(a address) bool { return r.from.compare(a) <= 0 && a.compare(r.to) <= 0 }

func (r interval) size() size {
	lo, borrow := bits.Sub64(r.to.lo, r.from.lo, 0)
	return size{r.to.hi - r.from.hi - borrow, lo}.plus(size{0, 1})
}

// spans are intervals in ascending order that neither touch nor overlap.
type spans []interval

// union is all that is in the list and within bounds.
func union(list []interval, bounds interval) spans {
	var out spans
	for _, r := range list {
		if r.from.compare(bounds.from) < 0 {
			r.from = bounds.from
		}
		if r.to.compare(bounds.to) > 0 {
			r.to = bounds.to
		}
		if r.from.compare(r.to) <= 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(x, y interval) int { return cmp.Or(x.from.compare(y.from), x.to.compare(y.to)) })
	n := 0
	for _, r := range out {
		if n > 0 && (out[n-1].has(r.from) || out[n-1].to.plus(1) == r.from) {
			if r.to.compare(out[n-1].to) > 0 {
				out[n-1].to = r.to
			}
			continue
		}
		out[n] = r
		n++
	}
	return out[:n]
}

// without is what remains when the cuts are taken out.
func (s spans) without(cuts spans) spans {
	var out spans
	for _, r := range s {
		i, _ := cuts.find(r.from)
		rest := true
		for ; i < len(cuts) && cuts[i].from.compare(r.to) <= 0; i++ {
			if r.from.compare(cuts[i].from) < 0 {
				out = append(out, interval{r.from, cuts[i].from.prev()})
			}
			if rest = cuts[i].to.compare(r.to) < 0; !rest {
				break
			}
			r.from = cuts[i].to.plus(1)
		}
		if rest {
			out = append(out, r)
		}
	}
	return out
}

// find gives the index of the first interval that does not end before the address, and whether the address is in it.
func (s spans) find(a address) (i int, in bool) {
	i, end := 0, len(s)
	for i < end {
		if m := int(uint(i+end) / 2); s[m].to.compare(a) < 0 {
			i = m + 1
		} else {
			end = m
		}
	}
	return i, i < len(s) && s[i].from.compare(a) <= 0
}

func (s spans) has(a address) bool {
	_, in := s.find(a)
	return in
}

func (s spans) size() (n size) {
	for _, r := range s {
		n = n.plus(r.size())
	}
	return n
}
