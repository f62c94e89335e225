package lb

// Relay is what the host of a real server does with a frame towards its instance, whose MAC is self. has tells whether the
// instance would take the packet as one of its own flows:
//
//   - an established socket (or one that is closing) of the packet's tuple;
//   - a half-open connection of it, if the packet's Ack is one more than the number that its SYN-ACK had. Another number
//     answers another server's SYN-ACK;
//   - a listener, if the packet's Ack is a valid SYN cookie. A listener alone does not count.
//
// What the instance has not is sent on to the next former owner of the slot. The last one passes it to its instance, which
// answers RST as any server would: but only if all that were asked are of one generation. Otherwise somebody may have been
// left out; then the packet is dropped, and found by its repetition.
func Relay(frame []byte, self MAC, t *Tables, has func(Packet) bool) Verdict {
	p, g, v := t.read(frame, self)
	switch {
	case g == nil:
		return v
	case p.Tuple.Protocol != TCP:
		return v.with(Pass, Datagram)
	case p.opens():
		return v.with(Pass, NewFlow)
	case has(p):
		return v.with(Pass, Held)
	}
	next, m, reason := g.relay(g.Service.Slot(p.Tuple), self, markOf(MAC(frame[6:12]), g.Number))
	switch reason {
	case Relayed:
		return v.to(next.MAC, m.stamp(self), Relayed)
	case Disagreed:
		return v.with(Drop, Disagreed)
	}
	return v.with(Pass, LastInChain)
}

// relay is the next in the chain of a slot after self, who got a packet with the mark m and has no socket for it, and the mark
// it gets. The number of servers left falls with every hop, whatever generations the hosts have, so that no packet goes in a
// circle. Who is not in its own chain asks it from its beginning.
func (g *Generation) relay(slot uint32, self MAC, m mark) (*Server, mark, Reason) {
	chain := g.Chain(slot)
	left := len(chain) // behind self
	for i, e := range chain {
		if g.Servers[e].MAC == self {
			left = len(chain) - 1 - i
		}
	}
	if m.generation != generationMark(g.Number) {
		m.generation = disagreed
	}
	left = min(left, int(m.left))
	if left > 0 {
		return &g.Servers[chain[len(chain)-left]], mark{uint8(left - 1), m.generation}, Relayed
	}
	if m.generation == disagreed {
		return nil, m, Disagreed
	}
	return nil, m, LastInChain
}
