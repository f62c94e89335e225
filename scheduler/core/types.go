// Package core decides what the framework does next: event in, effects out. It performs no I/O, keeps no clock, and
// equal histories give equal effects. Pure.
package core

import (
	"time"

	"padis.io/padis/mesos"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/scheduler/record"
)

// Event is something that happened.
type Event interface{ coreEvent() }

// FromMesos is an event of the master.
type FromMesos struct{ Event mesos.Event }

// Want replaces what is wanted of one App.
type Want struct{ App *padisv1.WantedApp }

// Forget ends an App: its instances are stopped, its addresses released, its records removed.
type Forget struct{ AppUID string }

// Declare replaces all networks, pools and tenants.
type Declare struct{ Cluster *padisv1.Cluster }

// Unsent tells that a call could not be sent, or that nobody knows whether it was.
type Unsent struct{ Call mesos.Call }

// Tick lets time pass.
type Tick struct{}

func (FromMesos) coreEvent() {}
func (Want) coreEvent()      {}
func (Forget) coreEvent()    {}
func (Declare) coreEvent()   {}
func (Unsent) coreEvent()    {}
func (Tick) coreEvent()      {}

// Effects are what the shell carries out, in this order: persist all Writes in one transaction, then send the Calls,
// then send the Acks. If persisting fails, nothing is sent.
type Effects struct {
	Writes []record.Write
	Calls  []mesos.Call
	Acks   []mesos.Acknowledge
	// Changed names the instances, agents, addresses and LoadBalancers whose view changed.
	Changed Changed
	// Errors are findings for the log: reports that cannot be read, transitions that do not exist. They change nothing.
	Errors []error
	// Next is the time of the next Tick that is needed; zero if none.
	Next time.Time
}

// Changed names what a view must show anew.
type Changed struct {
	Slots     []record.Slot
	Agents    []string
	Addresses []Address
	// Balancers are uids.
	Balancers []string
}

// Address names an address on its network.
type Address struct{ Network, Address string }
