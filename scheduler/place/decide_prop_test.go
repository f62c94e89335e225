package place

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// pick draws an element.
func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

func amounts(t *rapid.T, most int64) mesos.Amounts {
	return mesos.Amounts{
		CPUMilli:    rapid.Int64Range(0, most).Draw(t, "cpu"),
		MemoryMilli: rapid.Int64Range(0, most).Draw(t, "memory"),
		DiskMilli:   rapid.Int64Range(0, most/4).Draw(t, "disk"),
	}
}

// snapshot draws a small world in which everything touches everything.
func snapshot(t *rapid.T) Snapshot {
	s := Snapshot{Now: time.UnixMilli(1), Seed: rapid.Uint64().Draw(t, "seed"), Executor: amounts(t, 40)}
	tenants := []string{"", "life", "property", "bank"}
	for i := range rapid.IntRange(0, 9).Draw(t, "agents") {
		a := Agent{ID: fmt.Sprintf("a%d", i), Hostname: pick(t, "host", fmt.Sprintf("h%d", i), fmt.Sprintf("h%d", i/2), ""),
			Attributes: map[string]string{}, HasOffer: pick(t, "offer", true, true, true, false),
			HasExecutor: rapid.Bool().Draw(t, "executor"), Unavailable: pick(t, "unavailable", false, false, false, true)}
		for _, k := range []string{"rack", "zone"} {
			if v := pick(t, k, "", "1", "2", "3", "10"); v != "" {
				a.Attributes[k] = v
			}
		}
		if a.HasOffer {
			a.Offered = amounts(t, 1000)
		}
		s.Agents = append(s.Agents, a)
	}
	constraints, needs := map[string][]*padisv1.Constraint{}, map[string]mesos.Amounts{}
	for _, app := range []string{"u1", "u2"} {
		constraints[app] = rapid.SliceOfN(rapid.Custom(constraint), 0, 3).Draw(t, "constraints")
		needs[app] = amounts(t, 300)
	}
	type key struct {
		slot  record.Slot
		agent string
	}
	seen := map[key]bool{}
	for range rapid.IntRange(0, 8).Draw(t, "occupants") {
		o := Occupant{Slot: slot(t), Tenant: pick(t, "tenant", tenants...), AgentID: fmt.Sprintf("a%d", rapid.IntRange(0, 10).Draw(t, "agent")), Ports: ports(t)}
		if k := (key{o.Slot, o.AgentID}); !seen[k] {
			seen[k] = true
			s.Occupants = append(s.Occupants, o)
		}
	}
	for _, name := range tenants[1:] {
		tn := &padisv1.Tenant{Name: name, NotColocatedWith: rapid.SliceOfN(rapid.SampledFrom(tenants[1:]), 0, 2).Draw(t, "foes")}
		if pick(t, "dedicated", false, false, true) {
			tn.Dedicated = []*padisv1.AgentSelector{{Attribute: pick(t, "attribute", "rack", "zone", "hostname"), Value: pick(t, "value", "1", "2", "h1")}}
		}
		s.Tenants = append(s.Tenants, tn)
	}
	for range rapid.IntRange(1, 8).Draw(t, "wants") {
		slot := slot(t)
		w := Want{Slot: slot, Tenant: pick(t, "tenant", tenants...), Needs: needs[slot.AppUID], Prefer: pick(t, "prefer", "", "", "a1", "a2")}
		w.Constraints, w.Ports = constraints[w.Slot.AppUID], ports(t)
		w.Avoid = rapid.SliceOfN(rapid.SampledFrom([]string{"a0", "a1", "a2", "gone"}), 0, 2).Draw(t, "avoid")
		s.Wants = append(s.Wants, w)
	}
	return s
}

func ports(t *rapid.T) []Port {
	return rapid.SliceOfN(rapid.SampledFrom([]Port{{"", 80}, {"tcp", 80}, {"udp", 80}, {"TCP", 443}}), 0, 2).Draw(t, "ports")
}

func slot(t *rapid.T) record.Slot {
	return record.Slot{AppUID: pick(t, "app", "u1", "u1", "u2"), Index: rapid.Int32Range(0, 9).Draw(t, "slot")}
}

func constraint(t *rapid.T) *padisv1.Constraint {
	c := &padisv1.Constraint{Attribute: pick(t, "attribute", "hostname", "rack", "zone"),
		Operator: padisv1.Constraint_Operator(rapid.IntRange(1, 6).Draw(t, "operator"))}
	switch c.Operator {
	case padisv1.Constraint_MAX_PER:
		c.Value = pick(t, "value", "1", "2", "3", "3", "x")
	case padisv1.Constraint_GROUP_BY:
		c.Value = pick(t, "value", "", "", "2", "3")
	case padisv1.Constraint_CLUSTER:
		c.Value = pick(t, "value", "", "", "1")
	case padisv1.Constraint_LIKE, padisv1.Constraint_UNLIKE:
		c.Value = pick(t, "value", "1", "[12]", "h.*", "a|1|h2", ".*", "(")
	}
	return c
}

// Each decision breaks no rule, and when there is none, no agent could have been chosen, for the reasons that are given.
func TestDecisionsAreThoseThatTheDefinitionsAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshot(t)
		n := newNaive(s)
		got := Decide(s)
		if len(got) != len(s.Wants) {
			t.Fatalf("%d decisions for %d wants", len(got), len(s.Wants))
		}
		for i, w := range s.Wants {
			d := got[i]
			if d.Slot != w.Slot {
				t.Fatalf("decision %d is for %s, not %s", i, d.Slot, w.Slot)
			}
			refusals := map[string]int32{}
			fitting := map[string]bool{}
			for _, a := range s.Agents {
				if r := n.reason(w, a); r != "" {
					refusals[r]++
				} else {
					fitting[a.ID] = true
				}
			}
			if d.AgentID == "" {
				checkRefusal(t, d, refusals, len(fitting), s)
				continue
			}
			if !fitting[d.AgentID] {
				a, _ := n.agent(d.AgentID)
				t.Fatalf("want %d is placed on %s, which must refuse it: %s", i, d.AgentID, n.reason(w, a))
			}
			if d.Reason != "" || d.Message != "" || len(d.Refusals) > 0 {
				t.Fatalf("placed, with a reason: %+v", d)
			}
			checkChoice(t, n, w, d.AgentID, fitting)
			n.place(w, d.AgentID)
		}
	})
}

func checkRefusal(t *rapid.T, d Decision, refusals map[string]int32, fitting int, s Snapshot) {
	if fitting > 0 {
		t.Fatalf("not placed although %d agents fit: %+v", fitting, d)
	}
	if !maps.Equal(d.Refusals, refusals) {
		t.Fatalf("refusals %v, should be %v", d.Refusals, refusals)
	}
	if len(s.Agents) == 0 {
		if d.Reason != padisv1.ReasonNoOffers || d.Message == "" {
			t.Fatalf("no agents at all: %+v", d)
		}
		return
	}
	most := slices.Max(slices.Collect(maps.Values(refusals)))
	offered := slices.ContainsFunc(s.Agents, func(a Agent) bool { return a.HasOffer })
	leading := refusals[d.Reason] == most || !offered && d.Reason == padisv1.ReasonNoOffers && refusals[d.Reason] > 0
	if !leading {
		t.Fatalf("reason %s, but counts are %v", d.Reason, refusals)
	}
	for reason, count := range refusals {
		if !strings.Contains(d.Message, fmt.Sprintf("%d %s (", count, reason)) {
			t.Fatalf("%q does not tell of %d %s", d.Message, count, reason)
		}
	}
	if !strings.HasPrefix(d.Message, fmt.Sprintf("0 of %d agent", len(s.Agents))) || !strings.Contains(d.Message, "; ") || strings.Contains(d.Message, "()") {
		t.Fatalf("message %q", d.Message)
	}
}

// checkChoice holds the choice against the order of preference, as far as it is promised.
func checkChoice(t *rapid.T, n *naive, w Want, agent string, fitting map[string]bool) {
	if fitting[w.Prefer] {
		if agent != w.Prefer {
			t.Fatalf("%s fits and is preferred, but %s was taken", w.Prefer, agent)
		}
		return
	}
	instances := func(agent string) int {
		count := 0
		for _, o := range n.Occupants {
			if o.AgentID == agent && o.Slot.AppUID == w.Slot.AppUID {
				count++
			}
		}
		return count
	}
	for other := range fitting {
		if instances(other) < instances(agent) {
			t.Fatalf("%s has fewer instances of the app than %s, which was taken", other, agent)
		}
		if instances(other) == instances(agent) && n.share(other) > n.share(agent) {
			t.Fatalf("%s has as many instances and more left than %s, which was taken", other, agent)
		}
	}
}

// Equal snapshots give equal decisions, whatever order Go keeps its maps in, and nothing that was given is changed.
func TestDecideIsAFunction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := snapshot(t)
		before := clone(s)
		first := Decide(s)
		if !same(s, before) {
			t.Fatalf("the snapshot was changed")
		}
		if again := Decide(clone(s)); !reflect.DeepEqual(first, again) {
			t.Fatalf("first %+v\nthen %+v", first, again)
		}
		// The order of what is there does not matter either, only that of what is wanted.
		rnd := rand.New(rand.NewPCG(1, 2))
		shuffle(rnd, before.Agents)
		shuffle(rnd, before.Occupants)
		shuffle(rnd, before.Tenants)
		for i, d := range Decide(before) {
			if d.AgentID != first[i].AgentID || d.Reason != first[i].Reason || !maps.Equal(d.Refusals, first[i].Refusals) {
				t.Fatalf("want %d: %+v\nin another order %+v", i, first[i], d)
			}
		}
	})
}

func shuffle[T any](rnd *rand.Rand, list []T) {
	rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

func clone(s Snapshot) Snapshot {
	s.Agents, s.Occupants, s.Wants, s.Tenants = slices.Clone(s.Agents), slices.Clone(s.Occupants), slices.Clone(s.Wants), slices.Clone(s.Tenants)
	for i := range s.Agents {
		s.Agents[i].Attributes = maps.Clone(s.Agents[i].Attributes)
	}
	for i := range s.Tenants {
		s.Tenants[i] = proto.CloneOf(s.Tenants[i])
	}
	for i := range s.Wants {
		w := &s.Wants[i]
		w.Avoid, w.Constraints = slices.Clone(w.Avoid), slices.Clone(w.Constraints)
		for j := range w.Constraints {
			w.Constraints[j] = proto.CloneOf(w.Constraints[j])
		}
	}
	return s
}

func same(a, b Snapshot) bool {
	if len(a.Tenants) != len(b.Tenants) || len(a.Wants) != len(b.Wants) {
		return false
	}
	for i := range a.Tenants {
		if !proto.Equal(a.Tenants[i], b.Tenants[i]) {
			return false
		}
	}
	for i := range a.Wants {
		x, y := a.Wants[i], b.Wants[i]
		if !slices.EqualFunc(x.Constraints, y.Constraints, func(p, q *padisv1.Constraint) bool { return proto.Equal(p, q) }) {
			return false
		}
		x.Constraints, y.Constraints = nil, nil
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return reflect.DeepEqual(a.Agents, b.Agents) && reflect.DeepEqual(a.Occupants, b.Occupants) && a.Seed == b.Seed && a.Executor == b.Executor
}
