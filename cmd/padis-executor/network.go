package main

import (
	"go.uber.org/zap"

	"padis.io/padis/executor/instance"
	netplan "padis.io/padis/executor/network"
	"padis.io/padis/executor/network/guard"
	"padis.io/padis/executor/network/kernel"
	"padis.io/padis/executor/network/ovs"
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
	parts := kernel.Parts{Switches: ovs.New(tag, ovs.Config{}), State: host.State}
	g, err := guard.New(tag)
	if err != nil {
		log.Warn("instances cannot be kept to their own addresses on this host", zap.Error(err))
		return parts, func() {}
	}
	parts.Guard = g
	return parts, g.Close
}
