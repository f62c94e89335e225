package core

import (
	"cmp"
	"maps"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/instance"
	"padis.io/padis/scheduler/ipam"
)

// AddressState is what is known of one address.
type AddressState struct {
	ipam.Standing
	// Host has it configured, as far as is known; empty if nobody of ours does.
	Host string
	// Conflict says who else uses an address that is allocated; empty if nobody does.
	Conflict string
}

// AddressState tells what becomes of an address; false if it is in no pool of the network and nothing is known of it.
func (c *Core) AddressState(at Address) (AddressState, bool) {
	standing, ok := c.book.State(at.Network, at.Address)
	out := AddressState{Standing: standing}
	if s := c.holder(at); ok && s != nil {
		if instance.HasTask(s.rec.GetPhase()) && s.rec.GetRunningMs() != 0 {
			out.Host = s.rec.GetHostname()
		}
		out.Conflict = first(c.disputes[at])
	}
	return out, ok
}

// Addresses lists the addresses that are allocated, cooling or foreign, by network and address text. Which of them have
// changed, or are none of these any more, is in Changed.
func (c *Core) Addresses() []Address {
	all := map[Address]bool{}
	for at := range c.leases {
		all[at] = true
	}
	for at := range c.strangers {
		all[at] = true
	}
	return slices.SortedFunc(maps.Keys(all), compareAddresses)
}

func compareAddresses(a, b Address) int {
	return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.Address, b.Address))
}

// Foreign is an address of a pool that somebody has without a lease.
type Foreign struct {
	Address
	// Who completes "is used by ...".
	Who string
}

// ForeignAddresses lists them by network and address text.
func (c *Core) ForeignAddresses() []Foreign {
	var out []Foreign
	for _, at := range slices.SortedFunc(maps.Keys(c.strangers), compareAddresses) {
		if s, ok := c.book.State(at.Network, at.Address); ok && s.State == ipam.Foreign {
			out = append(out, Foreign{at, s.Note})
		}
	}
	return out
}

// Utilisation counts the addresses of a pool; zeros for a pool that is not in force.
func (c *Core) Utilisation(pool string) ipam.Utilisation { return c.book.Utilisation(pool) }

// NetworkState is how a network fares on one host.
type NetworkState struct {
	Agent, Host string
	State       *padisv1.NetworkState
}

// NetworkStates are what the executors said last of the networks on their hosts, by network, sorted by host. A change
// shows as that of the agent.
func (c *Core) NetworkStates() map[string][]NetworkState {
	out := map[string][]NetworkState{}
	for _, id := range slices.Sorted(maps.Keys(c.agents)) {
		a := c.agents[id]
		for _, st := range a.talk.said.GetNetworks() {
			out[st.GetNetwork()] = append(out[st.GetNetwork()], NetworkState{id, a.hostname, st})
		}
	}
	for _, list := range out {
		slices.SortStableFunc(list, func(x, y NetworkState) int { return cmp.Compare(x.Host, y.Host) })
	}
	return out
}
