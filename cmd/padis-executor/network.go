package main

import (
	"context"
	"net/netip"

	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	netplan "padis.io/padis/executor/network"
	"padis.io/padis/executor/network/guard"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/network/ovs"
	"padis.io/padis/executor/speaker"
)

// openNetwork takes hold of the host's network, with what guards instances there.
func openNetwork(host instance.Host, log *zap.Logger) (*kernel.Network, func(), error) {
	parts, closeParts := openParts(host, log)
	n, err := kernel.Open(host.Owner, claimWait, parts)
	if err != nil {
		closeParts()
		return nil, nil, err
	}
	return n, func() { n.Close(); closeParts() }, nil
}

// openParts opens what the kernel's network is wired with. A host without nf_tables runs instances that need no guard; the
// others are refused, and say why.
func openParts(host instance.Host, log *zap.Logger) (kernel.Parts, func()) {
	tag := netplan.OwnerTag(host.Owner)
	parts := kernel.Parts{Switches: switches{ovs.New(tag, ovs.Config{}), log}, State: host.State}
	g, err := guard.New(tag)
	if err != nil {
		log.Warn("instances cannot be kept to their own addresses on this host", zap.Error(err))
		return parts, func() {}
	}
	parts.Guard = g
	return parts, g.Close
}

// switches are the Open vSwitches of a host that may have none. Whoever asks for one by name is told what is wrong; whoever
// asks for all of them, to see what was left, gets none.
type switches struct {
	*ovs.Switches
	log *zap.Logger
}

func (s switches) Observe(names []string) ([]netplan.Switch, error) {
	all, err := s.Switches.Observe(names)
	if err != nil && names == nil {
		s.log.Debug("this host has no Open vSwitch", zap.Error(err))
		return nil, nil
	}
	return all, err
}

func (s switches) Guarded(links []string) (map[string]netplan.GuardedPort, error) {
	all, err := s.Switches.Guarded(links)
	if err != nil && links == nil {
		return nil, nil
	}
	return all, err
}

// ownAddresses are what instances with the host's network are told: the address that the agent is known by, or else the
// first of the host, and behind it that of the other family on the same interface.
func ownAddresses(n *kernel.Network, agentEndpoint string) ([]netip.Addr, error) {
	all, err := n.Addresses()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	first := all[0]
	if at, err := netip.ParseAddrPort(agentEndpoint); err == nil {
		for _, a := range all {
			if a.Address.Addr() == at.Addr() {
				first = a
			}
		}
	}
	out := []netip.Addr{first.Address.Addr()}
	for _, a := range all {
		if x := a.Address.Addr(); a.Interface == first.Interface && x.Is4() != out[0].Is4() {
			return append(out, x), nil
		}
	}
	return out, nil
}

// startSpeaker starts what announces addresses, in a process of its own as soon as there is something to announce. Routers
// keep what was announced for a while when it is closed: the next executor says it again.
func startSpeaker(log *zap.Logger) (*speaker.Speaker, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	s := speaker.Start(ctx, "/proc/self/exe", log.Named("speaker"))
	return s, func() { cancel(); <-s.Done() }
}
