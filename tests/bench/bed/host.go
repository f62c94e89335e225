package bed

import (
	"time"

	"padis.io/padis/executor/network"
	"padis.io/padis/executor/network/guard"
	"padis.io/padis/executor/network/kernel"
)

// Host is an executor's network on a host.
type Host struct {
	*kernel.Network
	guard *guard.Guard
	// Owner names the executor, Name the machine.
	Owner, Name string
}

// OpenHost opens it in the network namespace of the calling thread, as an executor does when it starts.
func OpenHost(owner, name, state string) (*Host, error) {
	g, err := guard.New(network.OwnerTag(owner))
	if err != nil {
		return nil, err
	}
	n, err := kernel.Open(owner, 10*time.Second, kernel.Parts{Guard: g, State: state})
	if err != nil {
		g.Close()
		return nil, err
	}
	return &Host{n, g, owner, name}, nil
}

// Close leaves instances as they are.
func (h *Host) Close() {
	h.Network.Close()
	h.guard.Close()
}
