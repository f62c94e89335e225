package ipam

import (
	"fmt"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// segment is what shares one network: pools, which may overlap, and uses of addresses, which may not.
type segment struct {
	pools []*pool
	uses  map[address]use
	// foreign are those of the uses that strangers have.
	foreign []address
}

// use is what is known of one address.
type use struct {
	// lease is held, or rests; nil if it is neither.
	lease *padisv1.LeaseRecord
	// fixed counts the wishes for it. It is not chosen freely then, so that it is there when its slot comes.
	fixed int
	// foreign says who has it without a lease; empty if nobody does.
	foreign string
}

// class is what of a use decides whether an address can be chosen.
type class int

const (
	classFree class = iota
	classHeld
	classResting
	classForeign
	classAside // a fixed wish that is not granted yet
	classes
)

func (u use) class() class {
	switch {
	case u.lease != nil && !rests(u.lease):
		return classHeld
	case u.lease != nil:
		return classResting
	case u.foreign != "":
		return classForeign
	case u.fixed > 0:
		return classAside
	}
	return classFree
}

// rests tells whether a lease has ended and its address is given to nobody else yet.
func rests(l *padisv1.LeaseRecord) bool { return l.GetReleasedMs() != 0 }

// set changes the use of an address and brings the pools in line.
func (s *segment) set(a address, u use) {
	before, now := s.uses[a].class(), u.class()
	if u == (use{}) {
		delete(s.uses, a)
	} else {
		s.uses[a] = u
	}
	if before == now {
		return
	}
	for _, p := range s.pools {
		if !p.gives(a) {
			continue
		}
		if before != classFree {
			p.uses[before]--
		} else {
			p.free.take(a)
		}
		if now != classFree {
			p.uses[now]++
		} else {
			p.free.put(a)
		}
	}
}

// enter counts all uses in pools that were just filled.
func (s *segment) enter() {
	for a, u := range s.uses {
		for _, p := range s.pools {
			if p.gives(a) {
				p.uses[u.class()]++
				p.free.take(a)
			}
		}
	}
}

// obstacle says why a pool does not give an address.
type obstacle struct {
	// reason is one of the Reason constants of padisv1.
	reason string
	// what completes "ADDRESS is ...".
	what, remedy string
	// wire is true if the address can work nowhere on the network, false if it is only not meant to be handed out.
	wire bool
}

func (o *obstacle) refusal(a address) *Refusal {
	return refuse(o.reason, "%s is %s; %s", a, o.what, o.remedy)
}

// obstacle is nil if the pool gives the address.
func (s *segment) obstacle(p *pool, a address) *obstacle {
	if p.gives(a) {
		return nil
	}
	if !p.contains(a) {
		return &obstacle{padisv1.ReasonAddressOutsidePool, fmt.Sprintf("not in %s of pool %q", p.prefix, p.name),
			"choose an address of the pool, or widen its cidr", true}
	}
	for _, q := range s.pools {
		if what := q.fact(a); what != "" {
			return &obstacle{padisv1.ReasonAddressReserved, fmt.Sprintf("the %s of pool %q", what, q.name), "choose another address", true}
		}
	}
	if slices.ContainsFunc(p.reserved, func(r interval) bool { return r.has(a) }) {
		return &obstacle{padisv1.ReasonAddressReserved, fmt.Sprintf("reserved in pool %q", p.name),
			"choose another address, or take it out of the pool's reserved", false}
	}
	return &obstacle{padisv1.ReasonAddressOutsidePool, fmt.Sprintf("not in the ranges of pool %q", p.name),
		"choose an address of the ranges, or widen them", false}
}

// fact names what the address is on the wire because of this pool; empty if it is nothing but an address.
func (p *pool) fact(a address) string {
	switch {
	case p.problem != "":
	case p.gated && a == p.gateway:
		return "gateway"
	case !p.hasEdges():
	case a == p.subnet.from && a.is4():
		return "network address"
	case a == p.subnet.from:
		return "subnet-router anycast address"
	case a == p.subnet.to && a.is4():
		return "broadcast address"
	}
	return ""
}
