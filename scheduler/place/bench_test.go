package place

import (
	"fmt"
	"testing"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// fleet is a cluster with many agents and wants: 20 Apps, unique per host and spread over racks, of four tenants two of
// which must be kept apart, beside as many instances as there are wants.
func fleet(hosts, instances int) Snapshot {
	tenants := []string{"life", "property", "bank", "fund"}
	s := Snapshot{Seed: 7, Executor: mesos.Amounts{CPUMilli: 50, MemoryMilli: 32 * 1000},
		Tenants: []*padisv1.Tenant{{Name: "life", NotColocatedWith: []string{"property"}}, {Name: "property"}, {Name: "bank"}, {Name: "fund"}}}
	s.Agents = agents(hosts)
	for i := range s.Agents {
		s.Agents[i].Attributes = map[string]string{"rack": fmt.Sprint(i % 40), "zone": fmt.Sprint(i % 3)}
		s.Agents[i].Offered.CPUMilli += int64(i % 17 * 100)
		s.Agents[i].HasExecutor = i%2 == 0
	}
	constraints := []*padisv1.Constraint{asks(padisv1.Constraint_UNIQUE, "hostname", ""), asks(padisv1.Constraint_GROUP_BY, "rack", "")}
	for i := range instances {
		app := i % 20
		slot := record.Slot{AppUID: fmt.Sprintf("app-%d", app), Index: int32(i / 20)}
		s.Wants = append(s.Wants, Want{Slot: slot, Tenant: tenants[app%4], Constraints: constraints,
			Needs: mesos.Amounts{CPUMilli: 100, MemoryMilli: 64 * 1000}})
		slot.Index += int32(instances)
		s.Occupants = append(s.Occupants, Occupant{Slot: slot, Tenant: tenants[app%4], AgentID: s.Agents[i*7%hosts].ID})
	}
	return s
}

func BenchmarkDecide(b *testing.B) {
	for _, c := range []struct{ agents, wants int }{{3, 50}, {100, 50}, {10_000, 1}, {10_000, 1000}} {
		b.Run(fmt.Sprintf("agents=%d/wants=%d", c.agents, c.wants), func(b *testing.B) {
			s := fleet(c.agents, c.wants)
			placed := 0
			for b.Loop() {
				placed = 0
				for _, d := range Decide(s) {
					if d.AgentID != "" {
						placed++
					}
				}
			}
			b.ReportMetric(float64(placed), "placed")
		})
	}
	// The worst case: every agent is asked by every want, and none fits.
	b.Run("agents=10000/wants=1000/none-fits", func(b *testing.B) {
		s := fleet(10_000, 1000)
		for i := range s.Wants {
			s.Wants[i].Needs.MemoryMilli = 1 << 40
		}
		for b.Loop() {
			Decide(s)
		}
	})
}
