package place

import (
	"fmt"
	"reflect"
	"testing"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// gib is one GiB in thousandths of a MiB.
const gib = 1024 * 1000

// agents makes n hosts h0, h1, ... of one size in racks of two.
func agents(n int) []Agent {
	out := make([]Agent, n)
	for i := range out {
		out[i] = Agent{ID: fmt.Sprintf("agent-%d", i), Hostname: fmt.Sprintf("h%d", i), HasOffer: true, HasExecutor: true,
			Attributes: map[string]string{"rack": fmt.Sprint(i / 2)},
			Offered:    mesos.Amounts{CPUMilli: 4000, MemoryMilli: 4 * gib, DiskMilli: 100 * gib}}
	}
	return out
}

// wants makes n instances of an App.
func wants(app string, n int, constraints ...*padisv1.Constraint) []Want {
	out := make([]Want, n)
	for i := range out {
		out[i] = Want{Slot: record.Slot{AppUID: app, Index: int32(i)}, Constraints: constraints,
			Needs: mesos.Amounts{CPUMilli: 100, MemoryMilli: 512 * 1000}}
	}
	return out
}

func asks(op padisv1.Constraint_Operator, attribute, value string) *padisv1.Constraint {
	return &padisv1.Constraint{Operator: op, Attribute: attribute, Value: value}
}

// where lists the agents of decisions; "-" for none.
func where(ds []Decision) []string {
	out := make([]string, len(ds))
	for i, d := range ds {
		if out[i] = d.AgentID; d.AgentID == "" {
			out[i] = "-"
		}
	}
	return out
}

// perValue counts decisions by the value of an attribute.
func perValue(s Snapshot, ds []Decision, attribute string) map[string]int {
	out := map[string]int{}
	for _, d := range ds {
		for _, a := range s.Agents {
			if a.ID == d.AgentID {
				v, _ := value(a, attribute)
				out[v]++
			}
		}
	}
	return out
}

func TestTheMessageCountsTheReasonsAndNamesTheRemedy(t *testing.T) {
	unique := asks(padisv1.Constraint_UNIQUE, "hostname", "")
	for name, c := range map[string]struct {
		change          func(*Snapshot)
		reason, message string
	}{
		"unique and memory": {func(s *Snapshot) {
			s.Wants[0].Constraints = []*padisv1.Constraint{unique}
			for i := range 2 {
				s.Occupants = append(s.Occupants, Occupant{Slot: record.Slot{AppUID: "web", Index: int32(i + 7)}, AgentID: s.Agents[i].ID})
			}
			s.Agents[2].Offered.MemoryMilli = 128 * 1000
		}, padisv1.ReasonConstraintUnique,
			"0 of 3 agents fit: 2 ConstraintUnique (already run an instance of this app on hostname), 1 InsufficientMemory (needs 512 MiB, 128 MiB offered); add agents or relax the constraint"},
		"no agents": {func(s *Snapshot) { s.Agents = nil }, padisv1.ReasonNoOffers,
			"no agent is known; start agents, or look at the connection to the Mesos master"},
		"no offers": {func(s *Snapshot) {
			for i := range s.Agents {
				s.Agents[i].HasOffer = false
			}
			s.Agents[0].Unavailable, s.Agents[1].Unavailable = true, true
		}, padisv1.ReasonNoOffers,
			"0 of 3 agents fit: 2 AgentUnavailable (draining, in maintenance or not answering), 1 NoOffers (nothing offered at the moment); wait for offers, free resources, or look at the weights and quota of the role"},
		"an executor on top": {func(s *Snapshot) {
			s.Executor = mesos.Amounts{MemoryMilli: 32 * 1000, CPUMilli: 50}
			for i := range s.Agents {
				s.Agents[i].HasExecutor, s.Agents[i].Offered.MemoryMilli = false, int64(520+i)*1000+500
			}
		}, padisv1.ReasonInsufficientMemory,
			"0 of 3 agents fit: 3 InsufficientMemory (needs 512 MiB and 32 MiB for an executor, at most 522.5 MiB offered); add agents, or ask for less memory"},
		"cpu": {func(s *Snapshot) { s.Wants[0].Needs.CPUMilli = 4500 }, padisv1.ReasonInsufficientCPU,
			"0 of 3 agents fit: 3 InsufficientCPU (needs 4.5 CPUs, at most 4 CPUs offered); add agents, or ask for less CPU"},
		"disk": {func(s *Snapshot) { s.Wants[0].Needs.DiskMilli = 200 * gib }, padisv1.ReasonInsufficientDisk,
			"0 of 3 agents fit: 3 InsufficientDisk (needs 204800 MiB, at most 102400 MiB offered); add agents, or ask for less disk"},
		"like and unlike": {func(s *Snapshot) {
			s.Wants[0].Constraints = []*padisv1.Constraint{asks(padisv1.Constraint_LIKE, "rack", "0|7"), asks(padisv1.Constraint_UNLIKE, "hostname", "h[01]")}
		}, padisv1.ReasonConstraintUnlike,
			`0 of 3 agents fit: 2 ConstraintUnlike (hostname matches "h[01]"), 1 ConstraintLike (rack does not match "0|7"); add agents or relax the constraint`},
		"an attribute that is nowhere": {func(s *Snapshot) {
			s.Wants[0].Constraints = []*padisv1.Constraint{asks(padisv1.Constraint_MAX_PER, "zone", "2")}
		}, padisv1.ReasonConstraintMaxPer,
			"0 of 3 agents fit: 3 ConstraintMaxPer (already run 2 instances of this app on zone; 3 lack the attribute); add agents or relax the constraint"},
		"a constraint that cannot be read": {func(s *Snapshot) {
			s.Wants[0].Constraints = []*padisv1.Constraint{asks(padisv1.Constraint_MAX_PER, "rack", "two")}
		}, padisv1.ReasonConstraintInvalid,
			`0 of 3 agents fit: 3 ConstraintInvalid (MAX_PER on rack with value "two": the value must be a whole number of at least 1); correct the constraint`},
		"an operator of the future": {func(s *Snapshot) { s.Wants[0].Constraints = []*padisv1.Constraint{asks(99, "rack", "")} },
			padisv1.ReasonConstraintInvalid,
			`0 of 3 agents fit: 3 ConstraintInvalid (99 on rack with value "": the operator is not known to this version); correct the constraint`},
		"isolation and dedication": {func(s *Snapshot) {
			s.Wants[0].Tenant = "life"
			s.Tenants = []*padisv1.Tenant{{Name: "property", NotColocatedWith: []string{"life"}},
				{Name: "bank", Dedicated: []*padisv1.AgentSelector{{Attribute: "rack", Value: "1"}}}}
			for i := range 2 {
				s.Occupants = append(s.Occupants, Occupant{Slot: record.Slot{AppUID: "p", Index: int32(i)}, Tenant: "property", AgentID: s.Agents[i].ID})
			}
		}, padisv1.ReasonTenantIsolation,
			"0 of 3 agents fit: 2 TenantIsolation (run instances of a tenant that must not share a host with life), 1 AgentDedicated (not for tenant life); add agents that the other tenant does not use"},
		"too few groups": {func(s *Snapshot) {
			s.Wants[0].Constraints = []*padisv1.Constraint{asks(padisv1.Constraint_GROUP_BY, "rack", "3")}
			for i := range 3 {
				s.Occupants = append(s.Occupants, Occupant{Slot: record.Slot{AppUID: "web", Index: int32(i + 7)}, AgentID: s.Agents[i].ID})
			}
		}, padisv1.ReasonConstraintGroupBy,
			"0 of 3 agents fit: 3 ConstraintGroupBy (rack holds more instances of this app than another one, or there are fewer than 3 of them); add agents or relax the constraint"},
		"a cluster elsewhere": {func(s *Snapshot) {
			s.Wants[0].Constraints = []*padisv1.Constraint{asks(padisv1.Constraint_CLUSTER, "hostname", "")}
			s.Occupants = []Occupant{{Slot: record.Slot{AppUID: "web", Index: 7}, AgentID: "agent-0"}}
			s.Agents[0].Offered.CPUMilli = 0
		}, padisv1.ReasonConstraintCluster,
			"0 of 3 agents fit: 2 ConstraintCluster (hostname is not that of the other instances of this app), 1 InsufficientCPU (needs 0.1 CPUs, 0 CPUs offered); add agents or relax the constraint"},
	} {
		t.Run(name, func(t *testing.T) {
			s := Snapshot{Agents: agents(3), Wants: wants("web", 1)}
			c.change(&s)
			d := Decide(s)[0]
			if d.AgentID != "" || d.Reason != c.reason || d.Message != c.message {
				t.Errorf("placed on %q\n%s: %s\nwant\n%s: %s", d.AgentID, d.Reason, d.Message, c.reason, c.message)
			}
		})
	}
}

func TestConstraintsSpreadAsTheirNamesSay(t *testing.T) {
	for name, c := range map[string]struct {
		constraint *padisv1.Constraint
		wants      int
		attribute  string
		want       map[string]int
	}{
		"unique":                    {asks(padisv1.Constraint_UNIQUE, "rack", ""), 9, "rack", map[string]int{"0": 1, "1": 1, "2": 1}},
		"at most two of a rack":     {asks(padisv1.Constraint_MAX_PER, "rack", "2"), 9, "rack", map[string]int{"0": 2, "1": 2, "2": 2}},
		"all in a given rack":       {asks(padisv1.Constraint_CLUSTER, "rack", "1"), 5, "rack", map[string]int{"1": 5}},
		"even over racks":           {asks(padisv1.Constraint_GROUP_BY, "rack", ""), 7, "rack", nil},
		"even over enough racks":    {asks(padisv1.Constraint_GROUP_BY, "rack", "3"), 6, "rack", map[string]int{"0": 2, "1": 2, "2": 2}},
		"not even over enough":      {asks(padisv1.Constraint_GROUP_BY, "rack", "4"), 6, "rack", map[string]int{"0": 1, "1": 1, "2": 1}},
		"like, over the whole":      {asks(padisv1.Constraint_LIKE, "hostname", "h1|h"), 2, "hostname", map[string]int{"h1": 2}},
		"unlike what is not there":  {asks(padisv1.Constraint_UNLIKE, "gpu", ".*"), 6, "rack", map[string]int{"0": 2, "1": 2, "2": 2}},
		"no constraint: least used": {asks(padisv1.Constraint_LIKE, "rack", ".*"), 6, "hostname", map[string]int{"h0": 1, "h1": 1, "h2": 1, "h3": 1, "h4": 1, "h5": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := Snapshot{Agents: agents(6), Wants: wants("web", c.wants, c.constraint)}
			got := perValue(s, Decide(s), c.attribute)
			if c.want == nil {
				for v, n := range got {
					if n < 2 || n > 3 {
						t.Errorf("%d on %s: %v", n, v, got)
					}
				}
				return
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestAClusterFollowsItsFirstInstanceAndLeavesADeadHostTogether(t *testing.T) {
	cluster := asks(padisv1.Constraint_CLUSTER, "rack", "")
	s := Snapshot{Agents: agents(6), Wants: wants("web", 5, cluster)}
	first := Decide(s)
	if got := perValue(s, first, "rack"); len(got) != 1 {
		t.Fatalf("not in one rack: %v", got)
	}
	// All of the rack is dead, and what ran there cannot be asked: the App moves, and again into one rack.
	dead := ""
	for i, d := range first {
		s.Occupants = append(s.Occupants, Occupant{Slot: s.Wants[i].Slot, AgentID: d.AgentID})
		for _, a := range s.Agents {
			if a.ID == d.AgentID {
				dead = a.Attributes["rack"]
			}
		}
	}
	for i := range s.Agents {
		if s.Agents[i].Attributes["rack"] == dead {
			s.Agents[i].HasOffer, s.Agents[i].Unavailable = false, true
		}
	}
	for i := range s.Wants {
		s.Wants[i].Avoid = []string{first[0].AgentID, first[1].AgentID}
	}
	second := Decide(s)
	got := perValue(s, second, "rack")
	if len(got) != 1 || got[dead] != 0 {
		t.Errorf("from rack %s to %v: %v", dead, got, where(second))
	}
	// One more instance, which knows nothing of the dead host, joins the living ones.
	for i, d := range second {
		s.Occupants = append(s.Occupants, Occupant{Slot: s.Wants[i].Slot, AgentID: d.AgentID})
	}
	s.Wants = wants("web", 6, cluster)[5:]
	third := Decide(s)
	for rack := range perValue(s, third, "rack") {
		if got[rack] == 0 {
			t.Errorf("the new instance is in rack %s, the others are in %v", rack, got)
		}
	}
}

func TestAReplacementMayStandInForItselfOnly(t *testing.T) {
	unique := asks(padisv1.Constraint_UNIQUE, "rack", "")
	s := Snapshot{Agents: agents(2), Wants: wants("web", 2, unique)}
	s.Occupants = []Occupant{{Slot: s.Wants[0].Slot, AgentID: "agent-0"}}
	s.Wants[0].Avoid = []string{"agent-0"}
	if got := where(Decide(s)); !reflect.DeepEqual(got, []string{"agent-1", "-"}) {
		t.Errorf("got %v", got)
	}
}

func TestTwoAgentsOfOneNameAreOneHost(t *testing.T) {
	s := Snapshot{Agents: agents(2), Wants: wants("life", 1), Tenants: []*padisv1.Tenant{{Name: "life", NotColocatedWith: []string{"property"}}}}
	s.Agents[1].Hostname = "h0"
	s.Wants[0].Tenant = "life"
	s.Occupants = []Occupant{{Slot: record.Slot{AppUID: "p"}, Tenant: "property", AgentID: "agent-0"}}
	if got := where(Decide(s)); got[0] != "-" {
		t.Errorf("placed on %v beside property", got)
	}
}

func TestSeveralTenantsMayShareDedicatedAgents(t *testing.T) {
	rack0 := []*padisv1.AgentSelector{{Attribute: "rack", Value: "0"}}
	s := Snapshot{Agents: agents(4), Tenants: []*padisv1.Tenant{{Name: "a", Dedicated: rack0}, {Name: "b", Dedicated: rack0}}}
	for i, tenant := range []string{"a", "b", "c", ""} {
		w := wants(fmt.Sprint("app", i), 1)[0]
		w.Tenant = tenant
		s.Wants = append(s.Wants, w)
	}
	for i, d := range Decide(s) {
		if got, want := d.AgentID < "agent-2", i < 2; got != want {
			t.Errorf("tenant %q is on %s", s.Wants[i].Tenant, d.AgentID)
		}
	}
}

func TestTheExecutorIsChargedOncePerAgent(t *testing.T) {
	s := Snapshot{Agents: agents(1), Wants: wants("web", 5), Executor: mesos.Amounts{MemoryMilli: 100 * 1000}}
	s.Agents[0].HasExecutor = false
	s.Agents[0].Offered.MemoryMilli = (4*512 + 100) * 1000
	if got := where(Decide(s)); !reflect.DeepEqual(got, []string{"agent-0", "agent-0", "agent-0", "agent-0", "-"}) {
		t.Errorf("got %v", got)
	}
}

func TestTheSeedTurnsEqualAgentsAround(t *testing.T) {
	taken := map[string]bool{}
	for seed := range uint64(40) {
		taken[Decide(Snapshot{Seed: seed, Agents: agents(4), Wants: wants("web", 1)})[0].AgentID] = true
	}
	if len(taken) != 4 {
		t.Errorf("40 seeds took only %v", taken)
	}
}

func TestARefusalSpeaksOfWhatIsLeftAtThatMoment(t *testing.T) {
	s := Snapshot{Agents: agents(1)}
	large := wants("large", 2)
	for i := range large {
		large[i].Needs.MemoryMilli = 8 * gib
	}
	s.Wants = []Want{large[0], wants("small", 1)[0], large[1]}
	for i, want := range []string{
		"0 of 1 agent fits: 1 InsufficientMemory (needs 8192 MiB, 4096 MiB offered); add agents, or ask for less memory", "",
		"0 of 1 agent fits: 1 InsufficientMemory (needs 8192 MiB, 3584 MiB offered); add agents, or ask for less memory",
	} {
		if got := Decide(s)[i].Message; got != want {
			t.Errorf("%d: %s\nwant %s", i, got, want)
		}
	}
}

// What is on an agent already stays there, whatever rules have come since, if only the offer is large enough.
func TestPin(t *testing.T) {
	s := Snapshot{
		Executor: mesos.Amounts{CPUMilli: 100},
		Agents: []Agent{
			{ID: "a1", Hostname: "h1", HasOffer: true, Offered: mesos.Amounts{CPUMilli: 1000, MemoryMilli: 1000}, Unavailable: true},
			{ID: "a2", Hostname: "h2", HasOffer: true, Offered: mesos.Amounts{CPUMilli: 9000, MemoryMilli: 9000}},
			{ID: "a3", Hostname: "h3"},
		},
		Tenants: []*padisv1.Tenant{{Name: "t", NotColocatedWith: []string{"u"}}},
	}
	at := func(index int32, agent string) Want {
		slot := record.Slot{AppUID: "x", Index: index}
		s.Occupants = append(s.Occupants, Occupant{Slot: slot, Tenant: "t", AgentID: agent}, Occupant{Slot: record.Slot{AppUID: "y"}, Tenant: "u", AgentID: agent})
		return Want{Slot: slot, Tenant: "t", Pin: agent, Needs: mesos.Amounts{CPUMilli: 450, MemoryMilli: 100},
			Constraints: []*padisv1.Constraint{asks(padisv1.Constraint_UNIQUE, "hostname", "")}}
	}
	s.Wants = []Want{at(0, "a1"), at(1, "a1"), at(2, "a1"), at(3, "a3"), at(4, "a9")}
	for i, want := range []struct{ agent, reason, message string }{
		{"a1", "", ""}, {"a1", "", ""},
		{"", padisv1.ReasonInsufficientCPU, "needs 0.45 CPUs of h1, which offers 0 CPUs; free resources there"},
		{"", padisv1.ReasonNoOffers, "h3 offers nothing at the moment; " + remedies[noOffer]},
		{"", padisv1.ReasonNoOffers, "a9 offers nothing at the moment; " + remedies[noOffer]},
	} {
		if d := Decide(s)[i]; d.AgentID != want.agent || d.Reason != want.reason || d.Message != want.message {
			t.Errorf("want %d: %+v", i, d)
		}
	}
}
