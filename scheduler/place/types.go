// Package place decides which agent runs which instance. Pure.
package place

import (
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// Snapshot is all that placement depends on. It is not mutated.
type Snapshot struct {
	Now time.Time
	// Seed breaks ties, so that a decision can be replayed.
	Seed uint64
	// Agents that are known, offered or not: constraints count instances on all of them.
	Agents []Agent
	// Occupants are all instances that have an agent, in whatever phase, until their end is certain.
	Occupants []Occupant
	// Wants are the instances to place, most urgent first.
	Wants   []Want
	Tenants []*padisv1.Tenant
	// Executor is what a new executor takes on an agent that has none of ours.
	Executor mesos.Amounts
}

// Agent is a host.
type Agent struct {
	ID         string
	Hostname   string
	Attributes map[string]string
	// Offered is the sum of the offers that are held; zero when there is none.
	Offered mesos.Amounts
	// HasOffer tells an agent without offers from one whose offer is empty.
	HasOffer    bool
	HasExecutor bool
	// Unavailable agents (draining, in maintenance) take nothing new.
	Unavailable bool
}

// Occupant is an instance that has an agent.
type Occupant struct {
	Slot    record.Slot
	Tenant  string
	AgentID string
	// Ports are those of the host that it listens on, or may; none if its network is its own.
	Ports []Port
}

// Port is one of a host. An empty protocol is TCP.
type Port struct {
	Protocol string
	Number   int32
}

// Want is an instance that needs an agent.
type Want struct {
	Slot        record.Slot
	Tenant      string
	Needs       mesos.Amounts
	Constraints []*padisv1.Constraint
	// Ports are those of the host that it listens on; none if its network is its own.
	Ports []Port
	// Prefer is the agent it ran on before; taken if it fits.
	Prefer string
	// Avoid holds agents that must not be used, for example the one that does not answer.
	Avoid []string
	// Pin is the agent on which what is wanted is already. Nothing but its offer decides then: what is there breaks no
	// rule that it did not break before.
	Pin string
}

// Decision is the answer to one Want.
type Decision struct {
	Slot record.Slot
	// AgentID is empty when no agent fits.
	AgentID string
	// Refusals counts the agents that refused, by Reason constant; empty when the instance was placed.
	Refusals map[string]int32
	// Reason is the commonest refusal, and Message a sentence that names the counts and the remedy; both empty when
	// the instance was placed.
	Reason, Message string
}
