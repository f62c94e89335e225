package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// widest is the shortest prefix of a pool, of either family.
const widest = 8

// pool is one declared pool and which of its addresses are free: those that it gives, that are not leased on the
// network, do not rest, are nobody's fixed wish and are not used by strangers.
type pool struct {
	name, network string
	spec          *padisv1.Pool
	// problem says why the pool cannot be used at all; empty if it can.
	problem string
	// virtual: its network is one, where addresses are VIPs: they are in no subnet, so that each can be handed out.
	virtual  bool
	prefix   netip.Prefix
	subnet   interval
	ranges   []interval
	reserved []interval
	gateway  address
	gated    bool // gateway is set

	// given are the addresses that may be handed out.
	given spans
	free  free
	// cursor is where the search for a free address starts.
	cursor address

	// uses counts the addresses in given by their class; those of classFree are not counted.
	uses [classes]int
	// held and resting count the leases of this pool, wherever their addresses are now.
	held, resting int
}

// newPool reads a declaration. What it cannot read is in problem.
func newPool(spec *padisv1.Pool) *pool {
	p := &pool{name: spec.GetName(), network: spec.GetNetwork(), spec: spec}
	prefix, err := netip.ParsePrefix(spec.GetCidr())
	switch {
	case err != nil || prefix.Addr().Is4In6():
		p.problem = fmt.Sprintf("its cidr %q is not a subnet of IPv4 or IPv6", spec.GetCidr())
		return p
	case prefix.Bits() < widest:
		p.problem = fmt.Sprintf("its cidr %s is larger than a /%d", prefix, widest)
		return p
	case prefix.Addr().Is6() && number(prefix.Addr()).hi>>56 == 0:
		p.problem = fmt.Sprintf("its cidr %s is in ::/8, which is not for hosts", prefix)
		return p
	}
	p.prefix = prefix.Masked()
	p.subnet = interval{number(p.prefix.Addr()), broadcast(p.prefix)}
	p.cursor = p.subnet.from
	if g := spec.GetGateway(); g != "" {
		if p.gateway, p.gated = parse(g); !p.gated || p.gateway.is4() != p.prefix.Addr().Is4() {
			p.problem = fmt.Sprintf("its gateway %q is not an %s address", g, p.family())
			return p
		}
	}
	if p.ranges, p.problem = p.intervals("ranges", spec.GetRanges()); p.problem != "" {
		return p
	}
	if len(p.ranges) == 0 {
		p.ranges = []interval{p.subnet}
	}
	p.reserved, p.problem = p.intervals("reserved", spec.GetReserved())
	return p
}

// broadcast is the last address of a subnet.
func broadcast(p netip.Prefix) address {
	a, host := number(p.Addr()), p.Addr().BitLen()-p.Bits()
	if host >= 64 {
		return address{a.hi | (1<<(host-64) - 1), ^uint64(0)}
	}
	return address{a.hi, a.lo | (1<<host - 1)}
}

// intervals reads ranges; an entry that cannot be read makes the whole pool unusable, because ignoring one of the
// reserved ones would hand out an address that somebody else has.
func (p *pool) intervals(field string, in []*padisv1.AddressRange) (out []interval, problem string) {
	for i, r := range in {
		from, ok := parse(r.GetFrom())
		to, ok2 := from, true
		if r.GetTo() != "" {
			to, ok2 = parse(r.GetTo())
		}
		is4 := p.prefix.Addr().Is4()
		if !ok || !ok2 || from.is4() != is4 || to.is4() != is4 || to.compare(from) < 0 {
			return nil, fmt.Sprintf("its %s[%d] from %q to %q is not a range of %s addresses", field, i, r.GetFrom(), r.GetTo(), p.family())
		}
		out = append(out, interval{from, to})
	}
	return out, ""
}

// fill computes what may be given. Gateways and edges of all pools of the network are kept out: they are facts of the
// wire, not of one pool.
func (p *pool) fill(peers []*pool, limit uint64) {
	if p.problem != "" {
		return
	}
	cuts := slices.Clone(p.reserved)
	for _, q := range peers {
		if q.problem == "" {
			cuts = append(cuts, q.facts()...)
		}
	}
	p.given = union(p.ranges, p.subnet).without(union(cuts, p.subnet))
	p.free = newFree(p.given, limit)
}

// facts are the gateway and the edges.
func (p *pool) facts() []interval {
	var out []interval
	if p.gated {
		out = append(out, only(p.gateway))
	}
	if p.hasEdges() {
		if out = append(out, only(p.subnet.from)); p.prefix.Addr().Is4() {
			out = append(out, only(p.subnet.to))
		}
	}
	return out
}

// hasEdges tells whether the subnet has addresses that mean the subnet itself: of IPv4 network and broadcast address,
// but not of a /31 (RFC 3021) or /32; of IPv6 the subnet-router anycast address (RFC 4291, 2.6.1), but not of a /127
// (RFC 6164) or /128. VIPs are in no subnet at all.
func (p *pool) hasEdges() bool { return !p.virtual && p.prefix.Addr().BitLen()-p.prefix.Bits() >= 2 }

func (p *pool) family() string {
	if p.prefix.Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (p *pool) contains(a address) bool { return p.problem == "" && p.subnet.has(a) }

// gives tells whether the address may be handed out by this pool, leased or not.
func (p *pool) gives(a address) bool { return p.given.has(a) }

// serves tells whether the namespace may use the pool.
func (p *pool) serves(namespace string) bool {
	allowed := p.spec.GetNamespaces()
	return len(allowed) == 0 || slices.Contains(allowed, namespace)
}

// reuseDelay is how long an address of the pool rests, in milliseconds.
func (p *pool) reuseDelay() int64 {
	if p == nil {
		return 0
	}
	return max(p.spec.GetReuseDelayMs(), 0)
}

// inherit goes on where an earlier form of the pool was.
func (p *pool) inherit(o *pool) {
	if p.contains(o.cursor) {
		p.cursor = o.cursor
	}
	if d, ok := p.free.(*dense); ok {
		if before, ok := o.free.(*dense); ok {
			d.inherit(before)
		}
	}
}

// advance puts the cursor behind an address.
func (p *pool) advance(a address) {
	if p.cursor = a.plus(1); a == p.subnet.to {
		p.cursor = p.subnet.from
	}
}
