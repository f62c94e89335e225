package main

import (
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// balancer decides about LoadBalancers.
type balancer interface {
	Balancers() []*padisv1.WantedBalancer
	Balance(uid string) *runtime.Balance
	Trace(uid string, client, vip netip.AddrPort, protocol string) (runtime.Trace, error)
}

// Balances implements live.Balances. One that the scheduler has not looked at yet is missing.
func (d *door) Balances(namespace string) ([]*runtime.Balance, error) {
	f, err := d.finder()
	if err != nil {
		return nil, err
	}
	var out []*runtime.Balance
	for _, w := range f.balancer.Balancers() {
		if namespace != "" && w.GetNamespace() != namespace || w.GetForgotten() {
			continue
		}
		if b := f.balancer.Balance(w.GetUid()); b != nil {
			out = append(out, b)
		}
	}
	return out, nil
}

// Trace implements live.Balances.
func (d *door) Trace(uid string, flow live.Flow) (runtime.Trace, error) {
	f, err := d.finder()
	if err != nil {
		return runtime.Trace{}, err
	}
	trace, err := f.balancer.Trace(uid, flow.Client, flow.VIP, flow.Protocol)
	if err != nil {
		return trace, apierrors.NewBadRequest(fmt.Sprintf("flow %s %v -> %v: %v", flow.Protocol, flow.Client, flow.VIP, err))
	}
	return trace, nil
}
