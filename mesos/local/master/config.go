// Package master is the embedded Mesos master: the v1 scheduler API, the part of the operator API that Padis uses,
// and the link of the agents, with the behaviour of Apache Mesos 1.11. Edge: talks to HTTP clients and one file.
package master

import (
	"fmt"
	"net"
	"time"

	"go.uber.org/zap"
)

// Config is all that a master is told.
type Config struct {
	// Listener is where the API is served; required.
	Listener net.Listener
	// Address is the host:port that clients are told; the address of the listener if empty.
	Address string
	// DataDir keeps the registry of agents; empty means in memory.
	DataDir string
	// ID of this run of the master; a new UUID if empty.
	ID string
	// AgentPingTimeout times MaxAgentPingTimeouts is how long a silent agent is reachable. Default 1 s and 3.
	AgentPingTimeout     time.Duration
	MaxAgentPingTimeouts int
	// AgentReregisterTimeout is how long a restarted master waits for the agents of its registry. Default 10 min.
	AgentReregisterTimeout time.Duration
	// AllocationInterval is the time between offers. Default 100 ms.
	AllocationInterval time.Duration
	// OfferTimeout is how long an offer stands; 0 means for ever.
	OfferTimeout time.Duration
	// NewUUID makes stream ids and the ID; random ones if nil.
	NewUUID func() string
	// Log is required.
	Log *zap.Logger
}

func (c *Config) complete() error {
	if c.Listener == nil || c.Log == nil {
		return fmt.Errorf("master: Listener and Log are required")
	}
	if c.Address == "" {
		c.Address = c.Listener.Addr().String()
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return fmt.Errorf("master: address %q: %w", c.Address, err)
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&c.AgentPingTimeout, time.Second}, {&c.AgentReregisterTimeout, 10 * time.Minute}, {&c.AllocationInterval, 100 * time.Millisecond}} {
		if *d.value < 0 {
			return fmt.Errorf("master: negative duration %v", *d.value)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if c.OfferTimeout < 0 || c.MaxAgentPingTimeouts < 0 {
		return fmt.Errorf("master: negative offer timeout or ping count")
	}
	if c.MaxAgentPingTimeouts == 0 {
		c.MaxAgentPingTimeouts = 3
	}
	if c.NewUUID == nil {
		c.NewUUID = newUUID
	}
	if c.ID == "" {
		c.ID = c.NewUUID()
	}
	return nil
}
