package place

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	padisv1 "padis.io/padis/proto/padis/v1"
)

// Hostname is the attribute of a constraint or selector that stands for the name of the host.
const Hostname = "hostname"

// codeOf is the check that stands for a constraint.
func codeOf(c *padisv1.Constraint) code {
	switch c.GetOperator() {
	case padisv1.Constraint_UNIQUE:
		return unique
	case padisv1.Constraint_MAX_PER:
		return maxPer
	case padisv1.Constraint_CLUSTER:
		return cluster
	case padisv1.Constraint_GROUP_BY:
		return groupBy
	case padisv1.Constraint_LIKE:
		return like
	case padisv1.Constraint_UNLIKE:
		return unlike
	}
	return invalid
}

// isStatic tells whether placements leave the constraint's verdict on an agent as it is.
func isStatic(c *padisv1.Constraint) bool {
	switch codeOf(c) {
	case like, unlike:
		return true
	case cluster:
		return c.GetValue() != ""
	}
	return false
}

// fault says why a constraint cannot be read; empty if it can.
func (w *world) fault(c *padisv1.Constraint) string {
	switch codeOf(c) {
	case maxPer:
		if number(c.GetValue()) < 1 {
			return "the value must be a whole number of at least 1"
		}
	case groupBy:
		if c.GetValue() != "" && number(c.GetValue()) < 1 {
			return "the value must be empty or a whole number of at least 1"
		}
	case like, unlike:
		if err := w.pattern(c.GetValue()).err; err != nil {
			return err.Error()
		}
	case invalid:
		return "the operator is not known to this version"
	}
	return ""
}

// number reads a whole number; 0 if it is none.
func number(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// pattern is a compiled regular expression.
type pattern struct {
	re  *regexp.Regexp
	err error
}

// pattern compiles an expression once for each Decide. It must match the whole value.
func (w *world) pattern(expr string) *pattern {
	p := w.patterns[expr]
	if p == nil {
		p = &pattern{}
		// Compiled alone first: "a)|(b" is valid only inside the anchors.
		if _, p.err = regexp.Compile(expr); p.err == nil {
			p.re, p.err = regexp.Compile(`\A(?:` + expr + `)\z`)
		}
		w.patterns[expr] = p
	}
	return p
}

// static is what can be said of all agents for a tenant and its static constraints, whatever is placed.
type static struct {
	specs []*padisv1.Constraint
	// codes and by are the verdict on each agent: a code, and for constraints the index into specs.
	codes []code
	by    []int32
	// groups count the eligible agents for each value of an attribute.
	groups map[string][]int32
}

func (s *static) verdict(at int) (code, *padisv1.Constraint) {
	switch c := s.codes[at]; c {
	case fits, unavailable, dedicated:
		return c, nil
	default:
		return c, s.specs[s.by[at]]
	}
}

// static returns the verdicts for a Want; Wants of one tenant and of equal static constraints share them.
func (w *world) static(want *Want) *static {
	var specs []*padisv1.Constraint
	for _, c := range []code{like, unlike, cluster} {
		for _, spec := range want.Constraints {
			if codeOf(spec) == c && isStatic(spec) && w.fault(spec) == "" {
				specs = append(specs, spec)
			}
		}
	}
	key := staticKey(want.Tenant, specs)
	s := w.statics[key]
	if s == nil {
		s = w.judge(want.Tenant, specs)
		w.statics[key] = s
	}
	return s
}

func staticKey(tenant string, specs []*padisv1.Constraint) string {
	var b strings.Builder
	b.WriteString(strconv.Quote(tenant))
	for _, c := range specs {
		fmt.Fprintf(&b, " %d %q %q", c.GetOperator(), c.GetAttribute(), c.GetValue())
	}
	return b.String()
}

// judge asks all agents.
func (w *world) judge(tenant string, specs []*padisv1.Constraint) *static {
	s := &static{specs: specs, codes: make([]code, len(w.agents)), by: make([]int32, len(w.agents)), groups: map[string][]int32{}}
	mine, own := w.owners[w.tenant(tenant)]
	for i := range w.agents {
		switch {
		case w.agents[i].Unavailable:
			s.codes[i] = unavailable
		case own && !mine[i], !own && w.owned[i]:
			s.codes[i] = dedicated
		}
	}
	for n, spec := range specs {
		c := w.column(spec.GetAttribute())
		admits := w.admitted(spec, c)
		for i, v := range c.of {
			// An agent without the attribute matches nothing.
			admitted := v != missing && admits[v] || v == missing && codeOf(spec) == unlike
			if s.codes[i] == fits && !admitted {
				s.codes[i], s.by[i] = codeOf(spec), int32(n)
			}
		}
	}
	return s
}

// admitted tells for each value of the column whether the constraint admits it.
func (w *world) admitted(spec *padisv1.Constraint, c *column) []bool {
	out := make([]bool, len(c.values))
	for v, value := range c.values {
		switch codeOf(spec) {
		case like:
			out[v] = w.pattern(spec.GetValue()).re.MatchString(value)
		case unlike:
			out[v] = !w.pattern(spec.GetValue()).re.MatchString(value)
		default:
			out[v] = value == spec.GetValue()
		}
	}
	return out
}

// eligible counts, for each value of the attribute, the agents that the static checks admit.
func (s *static) eligible(attribute string, c *column) []int32 {
	groups := s.groups[attribute]
	if groups == nil {
		groups = make([]int32, len(c.values))
		for i, v := range c.of {
			if v != missing && s.codes[i] == fits {
				groups[v]++
			}
		}
		s.groups[attribute] = groups
	}
	return groups
}

// rule is a constraint whose verdict depends on where the other instances are.
type rule struct {
	code   code
	spec   *padisv1.Constraint
	column *column
	// counts are the slots of the App for each value, and own the values that the slot itself has.
	counts []int32
	own    []int32
	// limit is the number of other slots that a value may hold (Unique, MaxPer, GroupBy), or the value that must be met
	// (Cluster; missing if any will do).
	limit int32
}

// rule prepares a constraint for a query.
func (w *world) rule(q *query, c code, spec *padisv1.Constraint) rule {
	r := rule{code: c, spec: spec, column: w.column(spec.GetAttribute()), counts: w.count(q.app, spec.GetAttribute())}
	for _, at := range q.app.at[q.want.Slot.Index] {
		if v := r.column.of[at]; v != missing {
			r.own = append(r.own, v)
		}
	}
	switch c {
	case cluster:
		r.limit = w.anchor(q, r.column)
	case maxPer:
		r.limit = number(spec.GetValue()) - 1
	case groupBy:
		r.limit = w.least(q, &r)
	}
	return r
}

// allows tells whether the constraint admits the agent. One without the attribute is not admitted.
func (r *rule) allows(at int) bool {
	v := r.column.of[at]
	switch {
	case v == missing:
		return false
	case r.code == cluster:
		return r.limit == missing || v == r.limit
	}
	return r.others(v) <= r.limit
}

// others counts the other slots of the App that have the value.
func (r *rule) others(v int32) int32 {
	if slices.Contains(r.own, v) {
		return r.counts[v] - 1
	}
	return r.counts[v]
}

// least is the smallest number of other slots that a value holds, over the values for which there is an agent that could
// ever take the instance: one that is available and that the static checks admit. With fewer values than the constraint
// demands it is 0, as if the missing ones were there and empty.
func (w *world) least(q *query, r *rule) int32 {
	groups := q.static.eligible(r.spec.GetAttribute(), r.column)
	if len(q.avoid) > 0 {
		groups = slices.Clone(groups)
		for i, at := range q.avoid {
			v := r.column.of[at]
			if v != missing && q.static.codes[at] == fits && !slices.Contains(q.avoid[:i], at) {
				groups[v]--
			}
		}
	}
	least, values := int32(-1), int32(0)
	for v, n := range groups {
		if n == 0 {
			continue
		}
		values++
		if have := r.others(int32(v)); least < 0 || have < least {
			least = have
		}
	}
	if values < number(r.spec.GetValue()) {
		return 0
	}
	return max(least, 0)
}

// anchor is the value that a Cluster without a value has settled on: that of the other slot with the lowest index. What
// is on agents that the instance must avoid does not hold it back, or an App whose host died could never move as a
// whole; agents that take nothing new count only if there are no others.
func (w *world) anchor(q *query, c *column) int32 {
	const none = int32(-1)
	type candidate struct {
		slot, value int32
	}
	best := [2]candidate{{none, missing}, {none, missing}}
	for slot, agents := range q.app.at {
		if slot == q.want.Slot.Index {
			continue
		}
		for _, at := range agents {
			v := c.of[at]
			if v == missing || slices.Contains(q.avoid, at) {
				continue
			}
			b := &best[0]
			if w.agents[at].Unavailable {
				b = &best[1]
			}
			if b.slot == none || slot < b.slot || slot == b.slot && c.values[v] < c.values[b.value] {
				*b = candidate{slot, v}
			}
		}
	}
	if best[0].slot != none {
		return best[0].value
	}
	return best[1].value
}
