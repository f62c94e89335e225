package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"padis.io/padis/api/v1alpha1"
)

// waitForAPI returns the administrator's configuration as soon as the API answers with it. The control plane writes the
// kubeconfig anew at each start, so it is read again before each attempt.
func waitForAPI(ctx context.Context, dataDir string) (*rest.Config, error) {
	for {
		config, err := answering(ctx, dataDir)
		if err == nil {
			return config, nil
		}
		if waitErr := pause(ctx, 20*time.Millisecond); waitErr != nil {
			return nil, fmt.Errorf("the API does not answer: %w", err)
		}
	}
}

func answering(ctx context.Context, dataDir string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfigPath(dataDir))
	if err != nil {
		return nil, err
	}
	config.Timeout = 5 * time.Second
	client, err := newReader(config)
	if err != nil {
		return nil, err
	}
	if err := client.get(ctx, declaredPath("", "apps"), &metav1.PartialObjectMetadataList{}, "limit", "1"); err != nil {
		return nil, err
	}
	config.Timeout = 0
	return config, nil
}

// watchGateways calls set with the gateways of all IPPools but those that hosts have themselves, at the beginning, at each change and after each
// reconnection, until ctx ends.
func watchGateways(ctx context.Context, config *rest.Config, set func([]netip.Prefix)) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	pools := client.Resource(v1alpha1.GroupVersion.WithResource("ippools"))
	networks := client.Resource(v1alpha1.GroupVersion.WithResource("networks"))
	for ctx.Err() == nil {
		// What went wrong does not matter: the control plane is being restarted, and the next list says all.
		_ = followPools(ctx, pools, networks, set)
		if pause(ctx, 500*time.Millisecond) != nil {
			break
		}
	}
	return nil
}

func followPools(ctx context.Context, pools, networks dynamic.ResourceInterface, set func([]netip.Prefix)) error {
	list, err := pools.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	inner, err := innerNetworks(ctx, networks)
	if err != nil {
		return err
	}
	known := map[string]netip.Prefix{}
	for i := range list.Items {
		remember(known, inner, &list.Items[i])
	}
	set(distinct(known))
	events, err := pools.Watch(ctx, metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	if err != nil {
		return err
	}
	defer events.Stop()
	for e := range events.ResultChan() {
		pool, ok := e.Object.(*unstructured.Unstructured)
		if !ok || e.Type == watch.Error {
			return fmt.Errorf("watch of IPPools: %v", e.Object)
		}
		// A pool also changes, in its status, when its Network comes.
		if inner, err = innerNetworks(ctx, networks); err != nil {
			return err
		}
		before := distinct(known)
		if e.Type == watch.Deleted {
			delete(known, pool.GetName())
		} else {
			remember(known, inner, pool)
		}
		if after := distinct(known); !slices.Equal(before, after) {
			set(after)
		}
	}
	return nil
}

// innerNetworks are those that are not on the switch: tunnels, routes, and what hosts are the gateway of themselves.
func innerNetworks(ctx context.Context, networks dynamic.ResourceInterface) (map[string]bool, error) {
	list, err := networks.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	inner := map[string]bool{}
	for i := range list.Items {
		driver, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "driver")
		gateway, _, _ := unstructured.NestedString(list.Items[i].Object, "spec", "gateway")
		inner[list.Items[i].GetName()] = driver == v1alpha1.DriverVXLAN || driver == v1alpha1.DriverRouted || driver == v1alpha1.DriverVirtual || gateway == v1alpha1.GatewayHost
	}
	return inner, nil
}

// remember notes the gateway of a pool: an address with the prefix length of the CIDR. A pool without one, or whose
// gateway is not in its CIDR, or not on the switch, has none.
func remember(known map[string]netip.Prefix, inner map[string]bool, pool *unstructured.Unstructured) {
	network, _, _ := unstructured.NestedString(pool.Object, "spec", "network")
	if inner[network] {
		delete(known, pool.GetName())
		return
	}
	cidr, _, _ := unstructured.NestedString(pool.Object, "spec", "cidr")
	gateway, _, _ := unstructured.NestedString(pool.Object, "spec", "gateway")
	prefix, err := gatewayOf(cidr, gateway)
	if err != nil {
		delete(known, pool.GetName())
		return
	}
	known[pool.GetName()] = prefix
}

func gatewayOf(cidr, gateway string) (netip.Prefix, error) {
	subnet, err := netip.ParsePrefix(cidr)
	if err != nil {
		return netip.Prefix{}, err
	}
	address, err := netip.ParseAddr(gateway)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !subnet.Contains(address) {
		return netip.Prefix{}, fmt.Errorf("gateway %v is not in %v", address, subnet)
	}
	return netip.PrefixFrom(address, subnet.Bits()), nil
}

func distinct(known map[string]netip.Prefix) []netip.Prefix {
	all := slices.SortedFunc(maps.Values(known), func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	// Not nil: no gateways is a wish, too.
	return append([]netip.Prefix{}, slices.Compact(all)...)
}

// pause waits for d, or returns the error of ctx when that ends first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
