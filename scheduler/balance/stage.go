package balance

import (
	"slices"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// lacks tells whether a host of real servers does not have the record's number.
func (w *work) lacks(agent string) bool { return w.hosts[agent].Acked < w.rec.GetNumber() }

// silent tells whether a host has not acknowledged the record's number in time.
func (w *work) silent(agent string) bool {
	h, ok := w.hosts[agent]
	if !ok || h.Due.IsZero() || !w.lacks(agent) {
		return false
	}
	w.later(h.Due)
	return !w.Now.Before(h.Due)
}

// givenUp tells whether nobody waits for the host of a candidate.
func (w *work) givenUp(c *Candidate) bool {
	return c.Phase == padisv1.Phase_UNREACHABLE || w.silent(c.Agent)
}

// relays are the agents that have yet to be told the record's number for their real servers.
func (w *work) relays() []string {
	var out []string
	for _, s := range w.rec.GetServers() {
		if w.lacks(s.GetAgentId()) {
			out = append(out, s.GetAgentId())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// waiting tells whether a host of a real server that is there has not had its time to acknowledge.
func (w *work) waiting() bool {
	found := false
	for _, s := range w.rec.GetServers() {
		if c := w.alive[s.GetId()]; c != nil && w.lacks(s.GetAgentId()) && !w.givenUp(c) {
			found = true // All are looked at, for the time of the next.
		}
	}
	return found
}

// clear tells whether directors may have the record's number: all hosts of servers that flows are sent to have it. Of one that
// has ended meanwhile nobody knows; it leaves with the next number.
func (w *work) clear() bool {
	if w.rec.GetNumber() == 0 || w.waiting() {
		return false
	}
	return !slices.ContainsFunc(w.rec.GetServers(), func(s *padisv1.RealServer) bool {
		in, _ := w.tables.server(s.GetId())
		return in.State != lb.Suspect && w.lacks(s.GetAgentId())
	})
}

// lacking are the agents with directors that have yet to be told the record's number.
func (w *work) lacking() []string {
	var out []string
	for _, d := range w.Directors {
		if d.acked() < w.rec.GetNumber() {
			out = append(out, d.Agent)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// settled tells whether the next number may be decided: all have this one, or are given up. A host of a server that serves
// and does not have it is a reason for the next.
func (w *work) settled() bool {
	switch {
	case w.rec.GetNumber() == 0:
		return true
	case w.waiting():
		return false
	case !w.clear():
		return true
	}
	held := false
	for _, d := range w.Directors {
		switch {
		case d.acked() >= w.rec.GetNumber() || d.Phase == padisv1.Phase_UNREACHABLE:
		case d.acked() == 0 && (d.State != nil || !d.Ready): // It starts: what it has then is the newest that there is.
		case d.Due.IsZero() || w.Now.Before(d.Due):
			w.later(d.Due)
			held = true
		}
	}
	return !held
}
