package runtime

// Balance is how it stands with a LoadBalancer: what the scheduler has decided and what hosts and directors say.
//
// +kubebuilder:object:generate=false
type Balance struct {
	UID, Namespace, Name string
	// Number of the newest decision.
	Number int64
	VIPs   []BalanceVIP
	// Servers in rotation, on their way in or out, and why, by instance.
	Servers   []BalanceServer
	Directors []BalanceDirector
	// Hosts of real servers that cannot do their part, or have not yet.
	Hosts []BalanceHost
	// Backends that give no real server, and why.
	Backends []BalanceBackend
}

// BalanceVIP is a VIP, in the order of the declaration.
//
// +kubebuilder:object:generate=false
type BalanceVIP struct {
	Pool, Address string
	// Why it has no address; empty if it has.
	Reason, Message string
	// Announcing are the instances of the directors that say so.
	Announcing []string
}

// BalanceServer is an instance that a backend selects.
//
// +kubebuilder:object:generate=false
type BalanceServer struct {
	// ID in the table; Instance is APP-SLOT.
	ID, Instance, Host, Address string
	// State is serving, draining, suspect, or waiting: not in the table.
	State string
	// Why it does not serve; empty if it does.
	Reason, Message string
	// Weight as it was declared, and Slots of how many it owns.
	Weight       int32
	Slots, Table int32
}

// BalanceDirector is an instance of the directors.
//
// +kubebuilder:object:generate=false
type BalanceDirector struct {
	Instance, Host, Address string
	// Phase and Ready are those of the instance.
	Phase string
	Ready bool
	// Number of what it has in force; 0 if nothing was heard of it.
	Number    int64
	Dataplane string
	Announced []string
	Sessions  []DirectorSession
	// Failures are real servers that it does not reach: instance and why.
	Failures []ServerFailure
	Draining bool
	// Why it cannot do all of it; empty if it does.
	Reason, Message string
}

// DirectorSession is the session of a director with a router.
//
// +kubebuilder:object:generate=false
type DirectorSession struct {
	// Peer is the name of the BGPPeer.
	Peer, Address string
	Established   bool
	// Message says why it is not established.
	Message string
	// BFD is up, down, or empty if there is none.
	BFD string
}

// ServerFailure is a real server that a director does not reach.
//
// +kubebuilder:object:generate=false
type ServerFailure struct{ Instance, Message string }

// BalanceHost is a host of real servers.
//
// +kubebuilder:object:generate=false
type BalanceHost struct {
	Host string
	// Number that it has.
	Number          int64
	Reason, Message string
}

// BalanceBackend is what a backend selects, by its index in the declaration.
//
// +kubebuilder:object:generate=false
type BalanceBackend struct {
	Index           int
	Reason, Message string
}

// Trace is the way of one flow.
//
// +kubebuilder:object:generate=false
type Trace struct {
	// Listener that takes it; Slot of Table slots.
	Listener    string
	Slot, Table int32
	Number      int64
	// Chain of its slot: instances, the owner first, then those who had the slot before.
	Chain []BalanceServer
	// Directors that take it, whichever the router chooses.
	Directors []string
	// Why nobody takes it; empty if somebody does.
	Refusal string
}
