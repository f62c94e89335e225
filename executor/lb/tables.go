package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Tables are the generations of all services that a director or a relay knows, and the fragments it has seen.
type Tables struct {
	listeners map[listener][]*Generation // by their first port
	// Fragments finds what the first fragment of a datagram told. Nil: none is known.
	Fragments func(FragmentKey) (Fragment, bool)
}

type listener struct {
	vip      netip.Addr
	protocol uint8
}

// NewTables refuses services that share a port of one VIP.
func NewTables(generations ...*Generation) (*Tables, error) {
	t := &Tables{listeners: map[listener][]*Generation{}}
	for _, g := range generations {
		l := listener{g.Service.VIP, g.Service.Protocol}
		t.listeners[l] = append(t.listeners[l], g)
	}
	for _, gs := range t.listeners {
		slices.SortFunc(gs, func(a, b *Generation) int { return cmp.Compare(a.Service.Ports.First, b.Service.Ports.First) })
		for i := 1; i < len(gs); i++ {
			if a, b := &gs[i-1].Service, &gs[i].Service; a.Ports.Last >= b.Ports.First {
				return nil, fmt.Errorf("listeners %s and %s overlap in ports %s and %s: give each port to one", a, b, a.Ports, b.Ports)
			}
		}
	}
	return t, nil
}

// Service is the generation that serves a flow, or nil.
func (t *Tables) Service(f Tuple) *Generation {
	gs := t.listeners[listener{f.Dst, f.Protocol}]
	i, found := slices.BinarySearchFunc(gs, f.DstPort, func(g *Generation, port uint16) int { return cmp.Compare(g.Service.Ports.First, port) })
	if !found {
		i--
	}
	if i < 0 || gs[i].Service.Ports.Last < f.DstPort {
		return nil
	}
	return gs[i]
}

// read is what directors and relays begin with: whether the frame is for own, its flow and its service. If it returns nil, v
// is the verdict.
func (t *Tables) read(frame []byte, own MAC) (p Packet, g *Generation, v Verdict) {
	if len(frame) < etherLen {
		return p, nil, Verdict{Reason: NotIP}
	}
	if MAC(frame[:6]) != own { // what a bridge floods is not ours; forwarding it would multiply it
		return p, nil, Verdict{Reason: NotForUs}
	}
	p, reason := Parse(frame)
	if reason != Placed {
		return p, nil, Verdict{Reason: reason}
	}
	if p.Kind == LaterFragment {
		var f Fragment
		known := false
		if t.Fragments != nil {
			f, known = t.Fragments(p.Fragment)
		}
		if !known {
			return p, nil, Verdict{Reason: FragmentUnknown}
		}
		p.Tuple.SrcPort, p.Tuple.DstPort, p.Tuple.Protocol, p.Flags = f.SrcPort, f.DstPort, f.Protocol, f.Flags
	}
	if g = t.Service(p.Tuple); g == nil {
		return p, nil, Verdict{Reason: NoService}
	}
	if p.Kind == FirstFragment {
		v = Verdict{Learn: true, FragmentKey: p.Fragment, Fragment: Fragment{p.Tuple.SrcPort, p.Tuple.DstPort, p.Tuple.Protocol, p.Flags}}
	}
	return p, g, v
}

// with is the verdict v with what has been decided.
func (v Verdict) with(a Action, r Reason) Verdict {
	v.Action, v.Reason = a, r
	return v
}

func (v Verdict) to(dst, src MAC, r Reason) Verdict {
	v.DstMAC, v.SrcMAC = dst, src
	return v.with(Forward, r)
}
