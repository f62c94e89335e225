package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

const (
	// Settle is how long routers still send after they were told that a VIP goes: it stays in the table meanwhile.
	Settle = 100 * time.Millisecond
	// Patience is how long a dataplane may refuse what it shall do before nothing is announced any more. What it had stays in
	// force, and a table that is a little late breaks nothing.
	Patience = 3 * time.Second
)

// Reach is what checks say of a real server.
type Reach uint8

// Unchecked is a server of which nothing is known yet. It keeps what is announced, but nothing is begun to be announced for it:
// neither does a director that reaches nobody begin, nor do all withdraw because a server was replaced.
const (
	Unchecked Reach = iota
	Reached
	Failing
)

// State is what a director knows when it decides.
type State struct {
	Now time.Time
	// Wanted is the newest order, Applied what the dataplane has; nil is none.
	Wanted, Applied *Order
	// Anew: the dataplane must be made anew for Wanted, with nothing announced meanwhile.
	Anew bool
	// Refused is since when the dataplane does not take Wanted, Why what it says, Retry when it is asked again.
	Refused, Retry time.Time
	Why            string
	// Reach by server; one that is missing is unchecked.
	Reach map[string]Reach
	// Announced are the VIPs that routers were told, sorted; Withdrew is when one was taken back last.
	Announced []netip.Addr
	Withdrew  time.Time
	// Leaving: nothing is announced any more.
	Leaving bool
}

// Decision is what to do now: first announce these and no others, then, if Apply, put Wanted into the dataplane, and decide
// again after either changed something, at Look at the latest (the zero time: when something happens).
type Decision struct {
	Announce []netip.Addr
	Apply    bool
	Look     time.Time
	// Why something is not done; empty if all is.
	Reason, Message string
}

// Decide decides. Equal states give equal decisions.
func Decide(s State) Decision {
	var d Decision
	var short []string
	if s.Applied != nil && !s.Leaving && !s.Anew {
		t := s.tally()
		for _, v := range s.Applied.VIPs {
			if !s.wants(v) {
				continue
			}
			have, need := s.count(v, t)
			switch {
			case have < need:
				short = append(short, fmt.Sprintf("%s: %d real servers are in rotation and reached, minServers is %d", v, have, need))
			case !s.gaveUp():
				d.Announce = append(d.Announce, v)
			}
		}
	}
	if s.Wanted != nil && s.Wanted != s.Applied || s.Anew {
		d.Apply, d.Look = s.apply()
	}
	if !s.Refused.IsZero() && !s.gaveUp() && len(d.Announce) > 0 {
		d.Look = earlier(d.Look, s.Refused.Add(Patience))
	}
	d.Reason, d.Message = s.explain(short)
	return d
}

// Undecided tells whether a VIP is not announced only because real servers were not checked yet. A director that is not ready
// until then is not taken for one that has the place of the next to leave.
func (s State) Undecided() bool {
	if s.Applied == nil || s.Wanted == nil || s.Leaving {
		return false
	}
	t := s.tally()
	return slices.ContainsFunc(s.Applied.VIPs, func(v netip.Addr) bool {
		if _, announced := slices.BinarySearchFunc(s.Announced, v, netip.Addr.Compare); announced || !s.wants(v) {
			return false
		}
		perhaps := lb.MaxServers
		for _, protocol := range s.Applied.uses[v] {
			perhaps = min(perhaps, t[protocol][1])
		}
		have, need := s.count(v, t)
		return have < need && perhaps >= need
	})
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func (s State) gaveUp() bool { return !s.Refused.IsZero() && !s.Now.Before(s.Refused.Add(Patience)) }

func (s State) wants(vip netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(s.Wanted.VIPs, vip, netip.Addr.Compare)
	return ok
}

// apply tells whether the dataplane can have Wanted now: VIPs that leave have been taken back, and routers had their time.
func (s State) apply() (now bool, look time.Time) {
	if s.Now.Before(s.Retry) {
		return false, s.Retry
	}
	leaves := false
	if s.Applied != nil {
		for _, v := range s.Applied.VIPs {
			if !s.Anew && s.wants(v) {
				continue
			}
			leaves = true
			if slices.Contains(s.Announced, v) {
				return false, s.Now // it is taken back first
			}
		}
	}
	if until := s.Withdrew.Add(Settle); leaves && s.Now.Before(until) {
		return false, until
	}
	return true, time.Time{}
}

// tally is, by protocol, how many servers serve and are reached, for VIPs that are not announced and for those that are.
type tally map[uint8][2]int

func (s State) tally() tally {
	out := tally{}
	for protocol, g := range s.Applied.tables {
		var n [2]int
		for _, x := range g.Servers {
			if x.State != lb.Serving || x.Weight == 0 {
				continue
			}
			for i, announced := range []bool{false, true} {
				if s.reaches(x.ID, announced) {
					n[i]++
				}
			}
		}
		out[protocol] = n
	}
	return out
}

// count is the least number of such servers of a VIP's listeners, and how many it takes.
func (s State) count(vip netip.Addr, t tally) (have, need int) {
	i := 0
	if _, announced := slices.BinarySearchFunc(s.Announced, vip, netip.Addr.Compare); announced {
		i = 1
	}
	have = lb.MaxServers
	for _, protocol := range s.Applied.uses[vip] {
		have = min(have, t[protocol][i])
	}
	return have, max(1, int(s.Wanted.Asked.GetMinServers()))
}

func (s State) reaches(server string, announced bool) bool {
	if len(s.Wanted.Asked.GetChecks()) == 0 {
		return true
	}
	switch s.Reach[server] {
	case Reached:
		return true
	case Unchecked:
		return announced
	}
	return false
}

func (s State) explain(short []string) (reason, message string) {
	switch {
	case s.Wanted == nil:
		return "", ""
	case !s.Refused.IsZero():
		return padisv1.ReasonDataplaneUnavailable, s.Why
	case len(short) > 0:
		return padisv1.ReasonTooFewServers, some(short)
	case len(s.Wanted.Left) > 0:
		return padisv1.ReasonInvalid, some(s.Wanted.Left)
	}
	return "", ""
}

// some of many lines.
func some(lines []string) string {
	const most = 3
	if len(lines) > most {
		lines = append(lines[:most:most], fmt.Sprintf("and %d more", len(lines)-most))
	}
	return strings.Join(lines, "; ")
}
