package mesos

import "time"

// Event is what the master tells a scheduler. The client adds Disconnected.
type Event interface{ schedulerEvent() }

// Subscribed opens a subscription.
type Subscribed struct {
	FrameworkID string
	// Master is host:port of the leader.
	Master    string
	Heartbeat time.Duration
}

// Disconnected tells that the subscription ended; offers of it are void.
type Disconnected struct{ Err error }

// Offers brings offers.
type Offers struct{ Offers []Offer }

// Rescind takes an offer back.
type Rescind struct{ OfferID string }

// Update brings a status.
type Update struct{ Status Status }

// FromExecutor brings a message of an executor.
type FromExecutor struct {
	AgentID, ExecutorID string
	Data                []byte
}

// Failure tells that an executor ended (ExecutorID set) or that an agent was removed (ExecutorID empty).
type Failure struct {
	AgentID, ExecutorID string
	// Status is the raw wait status; nil for an agent.
	Status *int32
}

// InverseOffer announces maintenance of an agent of ours.
type InverseOffer struct {
	ID, AgentID string
	Start       time.Time
}

// InverseOffers brings announcements of maintenance.
type InverseOffers struct{ Offers []InverseOffer }

// Failed is an ERROR event: the subscription was refused or taken over; the client reconnects if that can help.
type Failed struct{ Message string }

// AgentsSeen is a poll of the operator API: all agents that the master knows at this moment.
type AgentsSeen struct{ Agents []Agent }

func (Subscribed) schedulerEvent()    {}
func (Disconnected) schedulerEvent()  {}
func (Offers) schedulerEvent()        {}
func (Rescind) schedulerEvent()       {}
func (Update) schedulerEvent()        {}
func (FromExecutor) schedulerEvent()  {}
func (Failure) schedulerEvent()       {}
func (InverseOffers) schedulerEvent() {}
func (Failed) schedulerEvent()        {}
func (AgentsSeen) schedulerEvent()    {}

// Call is what a scheduler asks of the master. Subscribing is the client's own affair.
type Call interface{ schedulerCall() }

// Accept launches tasks with the resources of offers of one agent. Without tasks it is a decline.
type Accept struct {
	OfferIDs []string
	Tasks    []Task
	// Refuse filters the unused rest for this long.
	Refuse time.Duration
}

// Decline gives offers back and wants no like ones for the time of Refuse.
type Decline struct {
	OfferIDs []string
	Refuse   time.Duration
}

// Revive ends filters and suppression.
type Revive struct{ Roles []string }

// Suppress asks for no offers until Revive.
type Suppress struct{ Roles []string }

// Kill asks for the end of a task.
type Kill struct {
	TaskID, AgentID string
	Grace           time.Duration
}

// Acknowledge ends the retries of an update.
type Acknowledge struct {
	AgentID, TaskID string
	UUID            []byte
}

// TaskRef names a task for reconciliation.
type TaskRef struct{ TaskID, AgentID string }

// Reconcile asks for the state of these tasks, or, when there are none, of all that the master knows.
type Reconcile struct{ Tasks []TaskRef }

// ToExecutor sends a message to an executor. It may be lost.
type ToExecutor struct {
	AgentID, ExecutorID string
	Data                []byte
}

// ShutdownExecutor ends an executor and all of its tasks.
type ShutdownExecutor struct{ AgentID, ExecutorID string }

// AcceptInverse agrees to announced maintenance.
type AcceptInverse struct{ IDs []string }

// Teardown ends the framework and all its tasks.
type Teardown struct{}

func (Accept) schedulerCall()           {}
func (Decline) schedulerCall()          {}
func (Revive) schedulerCall()           {}
func (Suppress) schedulerCall()         {}
func (Kill) schedulerCall()             {}
func (Acknowledge) schedulerCall()      {}
func (Reconcile) schedulerCall()        {}
func (ToExecutor) schedulerCall()       {}
func (ShutdownExecutor) schedulerCall() {}
func (AcceptInverse) schedulerCall()    {}
func (Teardown) schedulerCall()         {}
