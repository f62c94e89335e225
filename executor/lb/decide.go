package lb

// Decide is what a director with the MAC own does with a frame that came in: every packet of a flow goes to the owner of its
// slot, whatever packet it is. Nothing is remembered but fragments.
func Decide(frame []byte, own MAC, t *Tables) Verdict {
	p, g, v := t.read(frame, own)
	if g == nil {
		return v
	}
	if !g.Service.allows(p.Tuple.Src) {
		return v.with(Drop, NotAllowed)
	}
	owner := g.Owner(g.Service.Slot(p.Tuple))
	if owner == nil {
		return v.with(Drop, NoServer)
	}
	return v.to(owner.MAC, mark{fromDirector, generationMark(g.Number)}.stamp(own), Placed)
}
