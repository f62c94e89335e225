package place

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// naive checks agents the slow way, straight from the definitions and without any index: it is what Decide is held
// against.
type naive struct {
	Snapshot
	free     map[string]mesos.Amounts
	executor map[string]bool
}

func newNaive(s Snapshot) *naive {
	n := &naive{Snapshot: s, free: map[string]mesos.Amounts{}, executor: map[string]bool{}}
	n.Occupants = slices.Clone(s.Occupants)
	for _, a := range s.Agents {
		n.free[a.ID], n.executor[a.ID] = a.Offered, a.HasExecutor
	}
	return n
}

// place enters a decision.
func (n *naive) place(w Want, agent string) {
	n.free[agent] = n.free[agent].Sub(n.needs(w, agent))
	n.executor[agent] = true
	n.Occupants = append(n.Occupants, Occupant{Slot: w.Slot, Tenant: w.Tenant, AgentID: agent, Ports: w.Ports})
}

func (n *naive) needs(w Want, agent string) mesos.Amounts {
	if n.executor[agent] {
		return w.Needs
	}
	return w.Needs.Add(n.Executor)
}

func (n *naive) agent(id string) (Agent, bool) {
	i := slices.IndexFunc(n.Agents, func(a Agent) bool { return a.ID == id })
	if i < 0 {
		return Agent{}, false
	}
	return n.Agents[i], true
}

func value(a Agent, attribute string) (string, bool) {
	if attribute == "hostname" {
		return a.Hostname, a.Hostname != ""
	}
	v, ok := a.Attributes[attribute]
	return v, ok
}

// share is the part of the largest offer of CPU or memory that is left, whichever is less.
func (n *naive) share(agent string) float64 {
	var largest mesos.Amounts
	for _, a := range n.Agents {
		if a.HasOffer {
			largest.CPUMilli = max(largest.CPUMilli, a.Offered.CPUMilli)
			largest.MemoryMilli = max(largest.MemoryMilli, a.Offered.MemoryMilli)
		}
	}
	if largest.CPUMilli == 0 || largest.MemoryMilli == 0 {
		return 0
	}
	free := n.free[agent]
	return min(float64(free.CPUMilli)/float64(largest.CPUMilli), float64(free.MemoryMilli)/float64(largest.MemoryMilli))
}

// reason is why the agent must not take the instance; empty if it may.
func (n *naive) reason(w Want, a Agent) string {
	for _, c := range w.Constraints {
		if unreadable(c) {
			return padisv1.ReasonConstraintInvalid
		}
	}
	if r := n.never(w, a); r != "" {
		return r
	}
	for _, op := range []padisv1.Constraint_Operator{padisv1.Constraint_CLUSTER, padisv1.Constraint_UNIQUE,
		padisv1.Constraint_MAX_PER, padisv1.Constraint_GROUP_BY} {
		if op == padisv1.Constraint_UNIQUE && n.isolated(w, a) {
			return padisv1.ReasonTenantIsolation
		}
		for _, c := range w.Constraints {
			if c.Operator == op && !n.satisfied(w, a, c) {
				return reasons[codeOf(c)]
			}
		}
	}
	free, needs := n.free[a.ID], n.needs(w, a.ID)
	if n.occupied(w, a) {
		return padisv1.ReasonPortInUse
	}
	switch {
	case !a.HasOffer:
		return padisv1.ReasonNoOffers
	case needs.CPUMilli > free.CPUMilli:
		return padisv1.ReasonInsufficientCPU
	case needs.MemoryMilli > free.MemoryMilli:
		return padisv1.ReasonInsufficientMemory
	case needs.DiskMilli > free.DiskMilli:
		return padisv1.ReasonInsufficientDisk
	}
	return ""
}

func unreadable(c *padisv1.Constraint) bool {
	n, err := strconv.Atoi(c.Value)
	_, bad := regexp.Compile(c.Value)
	switch c.Operator {
	case padisv1.Constraint_UNIQUE, padisv1.Constraint_CLUSTER:
		return false
	case padisv1.Constraint_MAX_PER:
		return err != nil || n < 1
	case padisv1.Constraint_GROUP_BY:
		return c.Value != "" && (err != nil || n < 1)
	case padisv1.Constraint_LIKE, padisv1.Constraint_UNLIKE:
		return bad != nil
	}
	return true
}

// never is why the agent could not take the instance even if it were empty.
func (n *naive) never(w Want, a Agent) string {
	if a.Unavailable || slices.Contains(w.Avoid, a.ID) {
		return padisv1.ReasonAgentUnavailable
	}
	var owners []string
	has := false
	for _, t := range n.Tenants {
		has = has || t.Name == w.Tenant && len(t.Dedicated) > 0
		for _, s := range t.Dedicated {
			if v, ok := value(a, s.Attribute); ok && v == s.Value {
				owners = append(owners, t.Name)
			}
		}
	}
	if has != slices.Contains(owners, w.Tenant) || !has && len(owners) > 0 {
		return padisv1.ReasonAgentDedicated
	}
	for _, op := range []padisv1.Constraint_Operator{padisv1.Constraint_LIKE, padisv1.Constraint_UNLIKE, padisv1.Constraint_CLUSTER} {
		for _, c := range w.Constraints {
			v, ok := value(a, c.Attribute)
			full := ok && regexp.MustCompile(`^(?:`+plain(c)+`)$`).MatchString(v)
			switch {
			case c.Operator != op:
			case op == padisv1.Constraint_LIKE && !full:
				return padisv1.ReasonConstraintLike
			case op == padisv1.Constraint_UNLIKE && full:
				return padisv1.ReasonConstraintUnlike
			case op == padisv1.Constraint_CLUSTER && c.Value != "" && (!ok || v != c.Value):
				return padisv1.ReasonConstraintCluster
			}
		}
	}
	return ""
}

// plain is the expression of a constraint that has one.
func plain(c *padisv1.Constraint) string {
	if c.Operator == padisv1.Constraint_LIKE || c.Operator == padisv1.Constraint_UNLIKE {
		return c.Value
	}
	return ""
}

// isolated tells whether an instance of a tenant that must be kept apart is, or may be, on the agent's host.
func (n *naive) isolated(w Want, a Agent) bool {
	for _, o := range n.Occupants {
		there, ok := n.agent(o.AgentID)
		same := ok && (there.ID == a.ID || there.Hostname != "" && there.Hostname == a.Hostname)
		if !same {
			continue
		}
		for _, t := range n.Tenants {
			if t.Name == w.Tenant && slices.Contains(t.NotColocatedWith, o.Tenant) ||
				t.Name == o.Tenant && slices.Contains(t.NotColocatedWith, w.Tenant) {
				return true
			}
		}
	}
	return false
}

// occupied tells whether another slot has one of the ports of the agent's host.
func (n *naive) occupied(w Want, a Agent) bool {
	for _, o := range n.Occupants {
		there, ok := n.agent(o.AgentID)
		if o.Slot == w.Slot || !ok || there.ID != a.ID && (there.Hostname == "" || there.Hostname != a.Hostname) {
			continue
		}
		for _, p := range w.Ports {
			for _, q := range o.Ports {
				protocol := func(s string) string {
					if s == "" {
						return "tcp"
					}
					return strings.ToLower(s)
				}
				if p.Number == q.Number && protocol(p.Protocol) == protocol(q.Protocol) {
					return true
				}
			}
		}
	}
	return false
}

// others are the other slots of the App that have the value.
func (n *naive) others(w Want, attribute, v string) int {
	slots := map[int32]bool{}
	for _, o := range n.Occupants {
		if o.Slot.AppUID != w.Slot.AppUID || o.Slot == w.Slot {
			continue
		}
		a, ok := n.agent(o.AgentID)
		if have, has := value(a, attribute); ok && has && have == v {
			slots[o.Slot.Index] = true
		}
	}
	return len(slots)
}

func (n *naive) satisfied(w Want, a Agent, c *padisv1.Constraint) bool {
	v, ok := value(a, c.Attribute)
	if !ok {
		return false
	}
	limit, _ := strconv.Atoi(c.Value)
	switch c.Operator {
	case padisv1.Constraint_UNIQUE:
		return n.others(w, c.Attribute, v) == 0
	case padisv1.Constraint_MAX_PER:
		return n.others(w, c.Attribute, v) < limit
	case padisv1.Constraint_GROUP_BY:
		return n.others(w, c.Attribute, v) <= n.least(w, c, limit)
	}
	anchor, settled := n.anchor(w, c)
	return c.Value != "" || !settled || v == anchor
}

// least is the smallest count over the values of agents that could ever take the instance.
func (n *naive) least(w Want, c *padisv1.Constraint, groups int) int {
	counts := map[string]int{}
	least := -1
	for _, a := range n.Agents {
		if v, ok := value(a, c.Attribute); ok && n.never(w, a) == "" {
			counts[v] = n.others(w, c.Attribute, v)
		}
	}
	for _, have := range counts {
		if least < 0 || have < least {
			least = have
		}
	}
	if len(counts) < groups {
		return 0
	}
	return max(least, 0)
}

// anchor is where the other slot with the lowest index is, on available agents if there are such.
func (n *naive) anchor(w Want, c *padisv1.Constraint) (string, bool) {
	for _, unavailable := range []bool{false, true} {
		best, found := int32(0), false
		var at string
		for _, o := range n.Occupants {
			a, ok := n.agent(o.AgentID)
			v, has := value(a, c.Attribute)
			if !ok || !has || o.Slot.AppUID != w.Slot.AppUID || o.Slot == w.Slot || slices.Contains(w.Avoid, a.ID) || a.Unavailable != unavailable {
				continue
			}
			if !found || o.Slot.Index < best || o.Slot.Index == best && v < at {
				best, at, found = o.Slot.Index, v, true
			}
		}
		if found {
			return at, true
		}
	}
	return "", false
}
