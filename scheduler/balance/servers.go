package balance

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// judgement is what shall become of a candidate.
type judgement struct {
	// in: it shall be in the table, with this state.
	in    bool
	state lb.State
	// why it does not serve, and a sentence; empty if it does.
	reason, message string
	// left is since when no backend selects it; 0 if one does.
	left int64
}

func waits(reason, message string) judgement { return judgement{reason: reason, message: message} }

// judge says what shall become of a candidate, when these VIPs are served.
func (w *work) judge(c *Candidate, vips []string) judgement {
	was, known := w.tables.server(c.ID)
	if c.ID == "" {
		return waits(c.Reason, c.Message)
	}
	if _, err := netip.ParseAddr(c.Address); err != nil {
		if w.Network == "" {
			return waits(padisv1.ReasonNoDirectors, "the LoadBalancer has no directors yet, and only by their network real servers are reached; see why its directors wait")
		}
		return waits(padisv1.ReasonBackendUnreachable, fmt.Sprintf("%s has no address in network %q of the directors, and direct routing reaches nobody else: give its App a pool of that network", c.Instance, w.Network))
	}
	if !known {
		return w.join(c, vips)
	}
	j := w.stay(c, was, vips)
	switch {
	case !j.in || j.state == lb.Suspect:
	case c.Phase == padisv1.Phase_UNREACHABLE:
		j.state, j.reason, j.message = lb.Suspect, padisv1.ReasonAgentUnreachable, fmt.Sprintf("agent %s does not answer: nothing new is sent there until it does", c.Host)
	case w.silent(c.Agent):
		j.state, j.reason, j.message = lb.Suspect, padisv1.ReasonHostSilent, w.silence(c)
	}
	return j
}

func (w *work) silence(c *Candidate) string {
	return fmt.Sprintf("the executor on %s does not answer: nothing new is sent there until it does; look at it if that takes long", c.Host)
}

// join says whether one that is not in the table may come in.
func (w *work) join(c *Candidate, vips []string) judgement {
	switch {
	case c.Backend < 0:
		return judgement{}
	case c.Phase == padisv1.Phase_STOPPING:
		return waits(padisv1.ReasonDraining, "is being stopped")
	case c.Phase != padisv1.Phase_RUNNING || !c.Ready:
		return waits(cmp.Or(c.Reason, padisv1.ReasonStarting), cmp.Or(c.Message, "is not ready"))
	case w.silent(c.Agent):
		return waits(padisv1.ReasonHostSilent, w.silence(c))
	}
	if missing := w.lackingVIPs(vips, c.VIPs); len(missing) > 0 {
		return waits(padisv1.ReasonJoining, w.missing(c, missing))
	}
	return judgement{in: true, state: lb.Serving}
}

func (w *work) missing(c *Candidate, missing []string) string {
	text := fmt.Sprintf("%s is being configured on its loopback", missing[0])
	if n := len(missing) - 1; n > 0 {
		text = fmt.Sprintf("%s and %d more are being configured on its loopback", missing[0], n)
	}
	if w.overdue(c) {
		text += fmt.Sprintf(", which takes long: look at the executor on %s", c.Host)
	}
	return text
}

// overdue tells whether its VIPs should have been on its loopback.
func (w *work) overdue(c *Candidate) bool {
	if c.VIPsDue.IsZero() {
		return false
	}
	w.later(c.VIPsDue)
	return !w.Now.Before(c.VIPsDue)
}

// stay says what becomes of one that is in the table.
func (w *work) stay(c *Candidate, was lb.Server, vips []string) judgement {
	if c.Backend < 0 {
		return w.leave(c)
	}
	switch c.Phase {
	case padisv1.Phase_STOPPING:
		return judgement{in: true, state: lb.Draining, reason: padisv1.ReasonDraining, message: "is being stopped, and keeps the connections that it has until they end or the drain time is over"}
	case padisv1.Phase_RUNNING:
	default:
		// It does not answer, which is judged by itself; or its executor is being replaced; its container serves as before.
		j := judgement{in: true, state: was.State}
		if was.State != lb.Serving {
			j.reason, j.message = cmp.Or(c.Reason, padisv1.ReasonAdopting), c.Message
		}
		return j
	}
	suspect := func(reason, message string) judgement {
		return judgement{in: true, state: lb.Suspect, reason: reason, message: message}
	}
	if !c.Ready {
		return suspect(cmp.Or(c.Reason, padisv1.ReasonUnhealthy), cmp.Or(c.Message, "is not ready"))
	}
	if failing, of, say := w.failures(c.ID); 2*failing > of {
		return suspect(padisv1.ReasonCheckFailed, fmt.Sprintf("%d of %d directors do not reach it on the path that clients take: %s", failing, of, say))
	}
	if missing := w.lackingVIPs(vips, c.VIPs); len(missing) > 0 {
		return suspect(padisv1.ReasonJoining, w.missing(c, missing))
	}
	return judgement{in: true, state: lb.Serving}
}

// leave lets one that no backend selects any more keep its connections for the drain time.
func (w *work) leave(c *Candidate) judgement {
	left := w.Now.UnixMilli()
	for _, s := range w.rec.GetServers() {
		if s.GetId() == c.ID && s.GetLeftMs() != 0 {
			left = s.GetLeftMs()
		}
	}
	over := time.UnixMilli(left + w.Wanted.GetDrainMs())
	if !w.Now.Before(over) {
		return judgement{}
	}
	w.later(over)
	return judgement{in: true, state: lb.Draining, left: left, reason: padisv1.ReasonDraining,
		message: "no backend selects it any more; it keeps the connections that it has until " + over.UTC().Format(time.RFC3339)}
}

// failures counts the directors whose checks of a server fail, of those that say anything, with what the first says.
func (w *work) failures(id string) (failing, of int, say string) {
	for i := range w.Directors {
		st := w.Directors[i].State
		if st.GetNumber() == 0 || st.GetDraining() || w.Directors[i].Phase == padisv1.Phase_UNREACHABLE {
			continue
		}
		of++
		for _, f := range st.GetFailures() {
			if f.GetServer() == id {
				failing++
				say = cmp.Or(say, strings.TrimSpace(f.GetMessage()))
				break
			}
		}
	}
	return failing, of, say
}

// servers judges all candidates and gives those that shall be in the table, sorted by ID.
func (w *work) servers(vips []string) ([]lb.Server, []*padisv1.RealServer) {
	var list []lb.Server
	real := map[string]*padisv1.RealServer{}
	serving := map[string]int{} // the backend, by ID
	for i := range w.Candidates {
		c := &w.Candidates[i]
		j := w.judge(c, vips)
		w.judged[c.Instance] = j
		if !j.in {
			continue
		}
		addr, _ := netip.ParseAddr(c.Address)
		list = append(list, lb.Server{ID: c.ID, MAC: padisv1.AddressMAC(addr), State: j.state})
		real[c.ID] = &padisv1.RealServer{Id: c.ID, AgentId: c.Agent, Address: c.Address, Namespace: c.Namespace, Instance: c.Instance, LeftMs: j.left}
		if j.state == lb.Serving {
			serving[c.ID] = c.Backend
		}
	}
	weights := weigh(w.Wanted.GetBackends(), serving)
	slices.SortFunc(list, func(a, b lb.Server) int { return cmp.Compare(a.ID, b.ID) })
	out := make([]*padisv1.RealServer, len(list))
	for i := range list {
		list[i].Weight = weights[list[i].ID]
		out[i] = real[list[i].ID]
	}
	return list, out
}

// shown is how each candidate stands.
func (w *work) shown() []Server {
	out := make([]Server, 0, len(w.Candidates))
	vips := vipsOf(w.rec.GetServices())
	for _, c := range w.Candidates {
		in, ok := w.tables.server(c.ID)
		if !ok && c.Backend < 0 {
			continue
		}
		j, judged := w.judged[c.Instance]
		if !judged { // The next number waits for this one; what it will say can be told already.
			j = w.judge(&c, vips)
		}
		s := Server{Candidate: c, InTable: ok, State: in.State, Why: j.reason, Say: j.message}
		if s.Why == "" && (!ok || in.State != lb.Serving) {
			s.Why, s.Say = padisv1.ReasonJoining, "hosts and directors are being told"
		}
		if b := w.Wanted.GetBackends(); c.Backend >= 0 && c.Backend < len(b) {
			s.Declared = b[c.Backend].GetWeight()
		}
		out = append(out, s)
	}
	return out
}

// lackingVIPs are those that an instance does not have. Instances that were told the same share one list, and there may be a
// thousand of both.
func (w *work) lackingVIPs(vips, has []string) []string {
	if len(vips) == 0 || len(has) == 0 {
		return vips
	}
	key := compared{&vips[0], &has[0], len(vips), len(has)}
	out, done := w.compared[key]
	if !done {
		out = without(vips, has)
		w.compared[key] = out
	}
	return out
}

// compared are two lists that were compared.
type compared struct {
	vips, has *string
	n, m      int
}

// without are those of a that are not in b; both are sorted.
func without(a, b []string) []string {
	var out []string
	for _, v := range a {
		if _, ok := slices.BinarySearch(b, v); !ok {
			out = append(out, v)
		}
	}
	return out
}
