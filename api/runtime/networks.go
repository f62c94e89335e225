package runtime

// PoolUsage counts the addresses of a pool. What is more than an int64 holds is the largest int64.
//
// +kubebuilder:object:generate=false
type PoolUsage struct {
	// Capacity are those that can be handed out at all.
	Capacity int64
	// Allocated belong to an instance, Cooling rest for the pool's reuse delay, Free are the others.
	Allocated, Cooling, Free int64
}

// HostNetworkState is how a network fares on one host.
//
// +kubebuilder:object:generate=false
type HostNetworkState struct {
	Host string
	// Reason and Message say why it does not work there; empty if it does.
	Reason, Message string
	// Sessions are those of BGP.
	Sessions []BGPSession
}

// BGPSession is the session of a host with a router.
//
// +kubebuilder:object:generate=false
type BGPSession struct {
	Peer        string
	Established bool
	// Message says why it is not established.
	Message string
}

// ForeignAddress is an address of a pool's network that somebody uses who does not hold it.
//
// +kubebuilder:object:generate=false
type ForeignAddress struct {
	Network, Address string
	// Who uses it, for people: a host and its interface, or a hardware address.
	Who string
}
