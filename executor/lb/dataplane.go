package lb

import "net/netip"

// Forwarding is one service on one director: its table, and what those dataplanes need that do not go by hardware addresses.
type Forwarding struct {
	*Generation
	// Addresses of the real servers in the directors' network, by ID.
	Addresses map[string]netip.Addr
	// Method is the scheduler of IPVS that is asked for where flows are not placed by the table: "rr", "wrr", "wlc"; empty
	// means that they are.
	Method string
	// MaxConnections of one real server, where the dataplane counts them; 0 is without a limit.
	MaxConnections uint32
}

// Dataplane forwards on one director, in the network namespace in which it was made. Its methods may be called at the same
// time.
type Dataplane interface {
	// Set puts exactly these in force. On an error what was before stays, or all of the new is in force but what the error
	// names; the same Set again tries it.
	Set([]Forwarding) error
	// Forwarded are the packets that were sent to real servers since the dataplane was made, of all services together.
	Forwarded() (uint64, error)
	// Close takes everything back that Set has done.
	Close() error
}
