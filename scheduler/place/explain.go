package place

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// code is the check that an agent failed, in the order of the checks.
type code uint8

const (
	fits code = iota
	invalid
	unavailable
	dedicated
	like
	unlike
	cluster
	isolation
	unique
	maxPer
	groupBy
	portInUse
	noOffer
	noCPU
	noMemory
	noDisk
	codes
)

// reasons are the words for the codes, remedies what helps against them.
var (
	reasons = [codes]string{
		invalid:     padisv1.ReasonConstraintInvalid,
		unavailable: padisv1.ReasonAgentUnavailable,
		dedicated:   padisv1.ReasonAgentDedicated,
		like:        padisv1.ReasonConstraintLike,
		unlike:      padisv1.ReasonConstraintUnlike,
		cluster:     padisv1.ReasonConstraintCluster,
		isolation:   padisv1.ReasonTenantIsolation,
		unique:      padisv1.ReasonConstraintUnique,
		maxPer:      padisv1.ReasonConstraintMaxPer,
		groupBy:     padisv1.ReasonConstraintGroupBy,
		portInUse:   padisv1.ReasonPortInUse,
		noOffer:     padisv1.ReasonNoOffers,
		noCPU:       padisv1.ReasonInsufficientCPU,
		noMemory:    padisv1.ReasonInsufficientMemory,
		noDisk:      padisv1.ReasonInsufficientDisk,
	}
	remedies = [codes]string{
		invalid:     "correct the constraint",
		unavailable: "wait until the agents are back, or add agents",
		dedicated:   "add agents that serve this tenant, or change whom agents are dedicated to",
		like:        "add agents or relax the constraint",
		unlike:      "add agents or relax the constraint",
		cluster:     "add agents or relax the constraint",
		isolation:   "add agents that the other tenant does not use",
		unique:      "add agents or relax the constraint",
		maxPer:      "add agents or relax the constraint",
		groupBy:     "add agents or relax the constraint",
		portInUse:   "add agents, or let the instances listen on different ports",
		noOffer:     "wait for offers, free resources, or look at the weights and quota of the role",
		noCPU:       "add agents, or ask for less CPU",
		noMemory:    "add agents, or ask for less memory",
		noDisk:      "add agents, or ask for less disk",
	}
)

// failure is the answer to a Want that nobody could take.
type failure struct {
	query    *query
	version  int
	decision Decision
}

// refuse explains why no agent fits.
func (w *world) refuse(q *query) Decision {
	if w.failed.query != nil && w.failed.version == w.version && alike(w.failed.query, q) {
		d := w.failed.decision
		d.Slot, d.Refusals = q.want.Slot, maps.Clone(d.Refusals)
		return d
	}
	t := tally{world: w, query: q, by: map[code][]*padisv1.Constraint{}}
	for at := range w.agents {
		t.add(at)
	}
	d := t.decision()
	w.failed = failure{q, w.version, d}
	d.Refusals = maps.Clone(d.Refusals)
	return d
}

// alike tells whether two Wants get the same answer as long as nothing is placed.
func alike(a, b *query) bool {
	bound := func(q *query) bool { return len(q.avoid) > 0 || len(q.app.at[q.want.Slot.Index]) > 0 }
	return a.app == b.app && a.static == b.static && a.want.Needs == b.want.Needs && !bound(a) && !bound(b) &&
		a.want.Tenant == b.want.Tenant && slices.Equal(a.want.Ports, b.want.Ports) && slices.EqualFunc(a.want.Constraints, b.want.Constraints, equal)
}

func equal(a, b *padisv1.Constraint) bool {
	return a == b || a.GetAttribute() == b.GetAttribute() && a.GetOperator() == b.GetOperator() && a.GetValue() == b.GetValue()
}

// stuck explains why the agent of a Pin does not take what is on it already.
func (w *world) stuck(want *Want, c code) Decision {
	host, left := want.Pin, mesos.Amounts{}
	if at, ok := w.byID[want.Pin]; ok {
		host, left = cmp.Or(w.agents[at].Hostname, host), w.free[at].amounts
	}
	d := Decision{Slot: want.Slot, Refusals: map[string]int32{reasons[c]: 1}, Reason: reasons[c]}
	switch c {
	case noOffer:
		d.Message = fmt.Sprintf("%s offers nothing at the moment; %s", host, remedies[c])
	case noCPU:
		d.Message = fmt.Sprintf("needs %s of %s, which offers %s; free resources there", cpus(want.Needs.CPUMilli), host, cpus(left.CPUMilli))
	default:
		d.Message = fmt.Sprintf("needs %s of %s, which offers %s; free resources there", mebibytes(amount(want.Needs, c)), host, mebibytes(amount(left, c)))
	}
	return d
}

// tally counts refusals.
type tally struct {
	world  *world
	query  *query
	counts [codes]int32
	// by are the constraints that refused, and lacking the agents that do not have their attribute.
	by      map[code][]*padisv1.Constraint
	lacking [codes]int32
	// ports are those that others have.
	ports []Port
	// most is the largest amount offered by an agent that had not enough, and bare tells whether one of these had no
	// executor yet.
	most [codes]int64
	bare [codes]bool
}

func (t *tally) add(at int) {
	c, by := t.world.check(t.query, at)
	t.counts[c]++
	if by != nil && !slices.Contains(t.by[c], by) {
		t.by[c] = append(t.by[c], by)
	}
	if by != nil && c != invalid && t.world.column(by.GetAttribute()).of[at] == missing {
		t.lacking[c]++
	}
	free := &t.world.free[at]
	switch c {
	case portInUse:
		for _, p := range t.world.taken(t.query.want, at) {
			if !slices.Contains(t.ports, p) {
				t.ports = append(t.ports, p)
			}
		}
	case noCPU, noMemory, noDisk:
		t.most[c] = max(t.most[c], amount(free.amounts, c))
		t.bare[c] = t.bare[c] || !free.hasExecutor
	}
}

// amount is the dimension that a code speaks of.
func amount(a mesos.Amounts, c code) int64 {
	switch c {
	case noCPU:
		return a.CPUMilli
	case noMemory:
		return a.MemoryMilli
	}
	return a.DiskMilli
}

// decision puts the counts into words, the commonest first.
func (t *tally) decision() Decision {
	d := Decision{Slot: t.query.want.Slot, Refusals: map[string]int32{}}
	var order []code
	for c := fits + 1; c < codes; c++ {
		if t.counts[c] > 0 {
			order = append(order, c)
			d.Refusals[reasons[c]] = t.counts[c]
		}
	}
	if len(order) == 0 {
		d.Reason = padisv1.ReasonNoOffers
		d.Message = "no agent is known; start agents, or look at the connection to the Mesos master"
		return d
	}
	slices.SortStableFunc(order, func(a, b code) int { return cmp.Compare(t.counts[b], t.counts[a]) })
	leading := order[0]
	// Nobody offers anything: that comes first, unless an offer would not help either.
	if len(t.world.order) == 0 && t.counts[noOffer] > 0 {
		leading = noOffer
	}
	parts := make([]string, len(order))
	for i, c := range order {
		parts[i] = fmt.Sprintf("%d %s (%s)", t.counts[c], reasons[c], t.text(c))
	}
	d.Reason = reasons[leading]
	d.Message = fmt.Sprintf("0 of %d %s: %s; %s", len(t.world.agents), plural(len(t.world.agents), "agent fits", "agents fit"),
		strings.Join(parts, ", "), remedies[leading])
	return d
}

// text says what a code means for this Want.
func (t *tally) text(c code) string {
	var said []string
	for _, by := range t.by[c] {
		if s := t.constraint(c, by); !slices.Contains(said, s) {
			said = append(said, s)
		}
	}
	if n := t.lacking[c]; n > 0 && c != like && c != unlike {
		said = append(said, fmt.Sprintf("%d %s the attribute", n, plural(int(n), "lacks", "lack")))
	}
	tenant := t.query.want.Tenant
	switch c {
	case unavailable:
		return "draining, in maintenance or not answering"
	case dedicated:
		if tenant == "" {
			return "dedicated to tenants"
		}
		return fmt.Sprintf("not for tenant %s", tenant)
	case isolation:
		return fmt.Sprintf("run instances of a tenant that must not share a host with %s", tenant)
	case portInUse:
		return t.listeners()
	case noOffer:
		return "nothing offered at the moment"
	case noCPU, noMemory, noDisk:
		return t.shortage(c)
	}
	return strings.Join(said, "; ")
}

// constraint says what a constraint that refused holds against the agents.
func (t *tally) constraint(c code, by *padisv1.Constraint) string {
	attribute, value := by.GetAttribute(), by.GetValue()
	switch c {
	case invalid:
		return fmt.Sprintf("%s on %s with value %q: %s", by.GetOperator(), attribute, value, t.world.fault(by))
	case like:
		return fmt.Sprintf("%s does not match %q", attribute, value)
	case unlike:
		return fmt.Sprintf("%s matches %q", attribute, value)
	case cluster:
		if value != "" {
			return fmt.Sprintf("%s is not %q", attribute, value)
		}
		return fmt.Sprintf("%s is not that of the other instances of this app", attribute)
	case unique:
		return fmt.Sprintf("already run an instance of this app on %s", attribute)
	case maxPer:
		return fmt.Sprintf("already run %s instances of this app on %s", value, attribute)
	}
	if value != "" {
		return fmt.Sprintf("%s holds more instances of this app than another one, or there are fewer than %s of them", attribute, value)
	}
	return fmt.Sprintf("%s holds more instances of this app than another one", attribute)
}

// listeners names the ports of the hosts that others have.
func (t *tally) listeners() string {
	slices.SortFunc(t.ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Protocol, b.Protocol))
	})
	names := make([]string, len(t.ports))
	for i, p := range t.ports {
		names[i] = fmt.Sprintf("%d/%s", p.Number, p.Protocol)
	}
	return fmt.Sprintf("others listen there on %s %s of the host", plural(len(names), "port", "ports"), strings.Join(names, ", "))
}

// shortage says how much is needed and offered.
func (t *tally) shortage(c code) string {
	format := mebibytes
	if c == noCPU {
		format = cpus
	}
	needs := format(amount(t.query.want.Needs, c))
	if overhead := amount(t.world.executor, c); t.bare[c] && overhead > 0 {
		needs += fmt.Sprintf(" and %s for an executor", format(overhead))
	}
	most := "at most "
	if t.counts[c] == 1 {
		most = ""
	}
	return fmt.Sprintf("needs %s, %s%s offered", needs, most, format(t.most[c]))
}

func mebibytes(milli int64) string { return thousandths(milli) + " MiB" }

func cpus(milli int64) string { return thousandths(milli) + " CPUs" }

// thousandths writes n/1000 without trailing zeros.
func thousandths(n int64) string { return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) }

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
