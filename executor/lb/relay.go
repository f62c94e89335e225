package lb

import "slices"

// Relay is what the host of a real server does with a frame towards its instance, whose MAC is self. has tells whether the
// instance would take the packet as one of its own flows:
//
//   - an established socket (or one that is closing) of the packet's tuple;
//   - a half-open connection of it, if the packet's Ack is one more than the number that its SYN-ACK had. Another number
//     answers another server's SYN-ACK;
//   - a listener, if the packet's Ack is a valid SYN cookie. A listener alone does not count.
//
// A SYN passes if the server is in the slot's chain, whatever it has: so whoever accepts a flow is found later, by every host,
// even if a director sent it that knows nothing of the last hours. Else it is treated like other packets.
//
// What the instance has not is sent on to the next former owner of the slot. The last one passes it to its instance, which
// answers RST as any server would: but only if a whole chain was asked by hosts of one generation. Otherwise somebody may have
// been left out; then the packet is dropped, and its repetition finds them.
func Relay(frame []byte, self MAC, t *Tables, has func(Packet) bool) Verdict {
	p, g, v := t.read(frame, self)
	if g == nil {
		return v
	}
	if p.Tuple.Protocol != TCP {
		return v.with(Pass, Datagram)
	}
	slot := g.Service.Slot(p.Tuple)
	if p.opens() {
		if g.at(slot, self) >= 0 {
			return v.with(Pass, NewFlow)
		}
	} else if has(p) {
		return v.with(Pass, Held)
	}
	next, m, reason := g.relay(slot, self, markOf(MAC(frame[6:12])))
	switch reason {
	case Relayed:
		return v.to(next.MAC, m.stamp(self), Relayed)
	case Disagreed:
		return v.with(Drop, Disagreed)
	}
	return v.with(Pass, LastInChain)
}

// at is the server's place in the slot's chain, or -1.
func (g *Generation) at(slot uint32, self MAC) int {
	return slices.IndexFunc(g.Chain(slot), func(e uint16) bool { return g.Servers[e].MAC == self })
}

// relay is the next in the chain of a slot after self, who got a packet with the mark m and has no socket for it, and the mark
// it gets. The number of servers left falls with every hop, whatever generations the hosts have, so that no packet goes in a
// circle or further than MaxChain+1 hops.
//
// Who gets a packet from a director of another generation, or is not in the chain, begins the chain of its own generation anew,
// from the owner; so a flow is found though its director is late.
func (g *Generation) relay(slot uint32, self MAC, m mark) (*Server, mark, Reason) {
	own, chain := generationMark(g.Number), g.Chain(slot)
	anew := m.left == fromDirector && m.generation != own
	at := g.at(slot, self)
	if anew && at > 0 {
		at = -1
	}
	left := min(len(chain)-1-at, int(m.left)) // behind self
	if anew {
		m.generation = own
	} else if m.generation != own {
		m.generation = disagreed
	}
	if left > 0 {
		return &g.Servers[chain[len(chain)-left]], mark{uint8(left - 1), m.generation}, Relayed
	}
	if m.generation == disagreed {
		return nil, m, Disagreed
	}
	return nil, m, LastInChain
}
