package network

import (
	"fmt"
	"net/netip"
	"slices"
)

// Plan orders the operations that make the wanted of the observed; none if it is there. An error is a refusal: it
// names what is in the way and what to do about it, and nothing must be applied.
func Plan(w Wanted, o Observed) ([]Op, error) {
	var p plan
	if err := p.segments(w.Segments, o); err != nil {
		return nil, err
	}
	if err := p.instance(w, o); err != nil {
		return nil, err
	}
	return append(p.ops, p.routes...), nil
}

// PlanSegments is the part of Plan that all instances on the host share: bridges, uplinks, tunnels, gateways. Only what
// is missing is made. What other instances have there is left alone, so that it needs to know of this one only; but two
// must not carry it out at the same time.
func PlanSegments(segments []Segment, o Observed) ([]Op, error) {
	var p plan
	if err := p.segments(segments, o); err != nil {
		return nil, err
	}
	return p.ops, nil
}

// PlanInside is the part of Plan that is the instance's own, on the host and inside. The segments must be there.
//
// An interface is connected only when it is guarded; addresses come after that, and routes, which draw packets, last.
func PlanInside(w Wanted, o Observed) ([]Op, error) {
	var p plan
	if err := p.instance(w, o); err != nil {
		return nil, err
	}
	return append(p.ops, p.routes...), nil
}

// Renew orders the operations that let the addresses of the instance stay for w.Valid from now; 0 is for ever. What has
// expired already must be planned again.
func Renew(w Wanted, o Observed) []Op {
	var ops []Op
	for _, i := range w.Interfaces {
		l := find(o.Inside, i.Inside)
		for _, a := range i.Addresses {
			if l != nil && slices.Contains(l.Addresses, a) {
				ops = append(ops, AddAddress{Link: i.Inside, Address: a, Valid: w.Valid, Inside: true})
			}
		}
	}
	return ops
}

// plan is what is ordered so far; routes come behind ops.
type plan struct{ ops, routes []Op }

func (p *plan) add(ops ...Op) { p.ops = append(p.ops, ops...) }

func (p *plan) segments(segments []Segment, o Observed) error {
	if err := conflict(segments); err != nil {
		return err
	}
	for _, s := range segments {
		if err := p.segment(s, o); err != nil {
			return fmt.Errorf("network %s: %w", s.Network, err)
		}
	}
	return nil
}

func (p *plan) instance(w Wanted, o Observed) error {
	if w.Hosted {
		return nil
	}
	p.settings(w.Settings, o.InsideSettings, true)
	for _, i := range w.Interfaces {
		var err error
		if i.Driver == DriverMACVLAN {
			err = p.macvlan(i, w, o)
		} else {
			err = p.veth(i, w, o)
		}
		if err != nil {
			return fmt.Errorf("network %s: %w", i.Network, err)
		}
	}
	lo := find(o.Inside, "lo")
	// Here it goes together with the rest of what is inside.
	if lo == nil || !lo.Up {
		p.add(SetUp{"lo", true})
	}
	p.loopback(w.Loopback, lo)
	return nil
}

// once adds what several segments or interfaces may ask for. Operations of its type must be comparable.
func (p *plan) once(op Op) {
	if !slices.Contains(p.ops, op) {
		p.add(op)
	}
}

// settings adds those that are not as wanted.
func (p *plan) settings(wanted []Setting, have map[string]string, inside bool) {
	for _, s := range wanted {
		if v, ok := have[s.Key]; !ok || !equalValues(v, s.Value) {
			p.once(Set{s, inside})
		}
	}
}

// loopback makes the addresses of lo those that are wanted, beside its own.
func (p *plan) loopback(wanted []netip.Addr, lo *Link) {
	var have []netip.Prefix
	if lo != nil {
		have = lo.Addresses
	}
	for _, h := range have {
		if a := h.Addr(); !a.IsLoopback() && !a.IsLinkLocalUnicast() && (!h.IsSingleIP() || !slices.Contains(wanted, a)) {
			p.add(DelAddress{"lo", h, true})
		}
	}
	for _, a := range wanted {
		if h := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(have, h) {
			p.add(AddAddress{Link: "lo", Address: h, Inside: true})
		}
	}
}

func find(links []Link, name string) *Link {
	for i := range links {
		if links[i].Name == name {
			return &links[i]
		}
	}
	return nil
}

// defaultOf is the destination of a default route of the family of a.
func defaultOf(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
