package server

import (
	"context"
	"errors"
	"sync"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"padis.io/padis/api/v1alpha1"
)

func newBalancer() *v1alpha1.LoadBalancer { return &v1alpha1.LoadBalancer{} }
func newPeer() *v1alpha1.BGPPeer          { return &v1alpha1.BGPPeer{} }

func (d *declared) balancers(ctx context.Context) ([]v1alpha1.LoadBalancer, error) {
	var l v1alpha1.LoadBalancerList
	err := d.list(ctx, "loadbalancers", &l)
	return l.Items, err
}

// poolsAndNetworks reads both at once: each may take a tenth of a second, until the server knows that nothing was missed.
func (d *declared) poolsAndNetworks(ctx context.Context) ([]v1alpha1.IPPool, []v1alpha1.Network, error) {
	var (
		pools    v1alpha1.IPPoolList
		networks v1alpha1.NetworkList
		second   error
		other    sync.WaitGroup
	)
	other.Go(func() { second = d.list(ctx, "networks", &networks) })
	first := d.list(ctx, "ippools", &pools)
	other.Wait()
	return pools.Items, networks.Items, errors.Join(first, second)
}

func (c *admissionChain) judgeBalancer(ctx context.Context, old, b *v1alpha1.LoadBalancer) (field.ErrorList, error) {
	errs := v1alpha1.ValidateLoadBalancer(b)
	pools, networks, err := c.declared.poolsAndNetworks(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range v1alpha1.ValidateBalancerPools(b, pools, networks) {
		errs = append(errs, p.Err())
	}
	if len(errs) > 0 {
		return errs, nil
	}
	balancers, err := c.declared.balancers(ctx)
	if err != nil {
		return nil, err
	}
	if p := v1alpha1.VIPClash(b, balancers); p != nil {
		errs = append(errs, p.Err())
	}
	apps, err := c.declared.apps(ctx)
	if err != nil {
		return nil, err
	}
	if old == nil {
		if p := v1alpha1.DirectorsNameClash(b, apps); p != nil {
			errs = append(errs, p.Err())
		}
	}
	for i := range balancers {
		apps = append(apps, *v1alpha1.DirectorsApp(&balancers[i]))
	}
	if p := v1alpha1.AddressClash(v1alpha1.DirectorsApp(b), apps); p != nil {
		e := p.Err()
		e.Field = v1alpha1.OfDirectors(e.Field)
		errs = append(errs, e)
	}
	return errs, nil
}

func (c *admissionChain) judgePeer(ctx context.Context, _, peer *v1alpha1.BGPPeer) (field.ErrorList, error) {
	errs := v1alpha1.ValidateBGPPeer(peer)
	var peers v1alpha1.BGPPeerList
	if err := c.declared.list(ctx, "bgppeers", &peers); err != nil {
		return nil, err
	}
	for i := range peers.Items {
		if p := v1alpha1.PeerClash(peer, &peers.Items[i]); p != nil {
			errs = append(errs, p.Err())
		}
	}
	return errs, nil
}
