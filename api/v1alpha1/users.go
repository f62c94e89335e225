package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxUsers is the number of objects that a refusal names.
const maxUsers = 3

// PoolUsers says why a pool must not be deleted: who needs it, of all Apps and LoadBalancers, and of the instances that hold
// its addresses, by address. Empty if nobody does.
func PoolUsers(pool string, apps []App, balancers []LoadBalancer, holders map[string]string) string {
	var users []string
	for i := range apps {
		if slices.ContainsFunc(apps[i].Spec.Networks, func(n NetworkAttachment) bool { return n.Pool == pool }) {
			users = append(users, apps[i].Namespace+"/"+apps[i].Name)
		}
	}
	if len(users) > 0 {
		return fmt.Sprintf("the pool is used by apps %s: remove it from their spec.networks or delete them first", someOf(users))
	}
	for i := range balancers {
		if UsesPool(&balancers[i], pool) {
			users = append(users, balancers[i].Namespace+"/"+balancers[i].Name)
		}
	}
	if len(users) > 0 {
		return fmt.Sprintf("the pool is used by loadbalancers %s: remove it from their spec.vips and spec.directors.networks or delete them first", someOf(users))
	}
	for _, address := range slices.Sorted(maps.Keys(holders)) {
		users = append(users, address+" by "+holders[address])
	}
	if len(users) > 0 {
		return fmt.Sprintf("addresses of the pool are still held (%s): wait until these instances have ended", someOf(users))
	}
	return ""
}

// NetworkUsers says why a network must not be deleted: which pools need it, or Apps with the network of their hosts. Empty
// if none does.
func NetworkUsers(network string, pools []IPPool, apps []App) string {
	var users []string
	for i := range pools {
		if pools[i].Spec.Network == network {
			users = append(users, pools[i].Name)
		}
	}
	if len(users) > 0 {
		return fmt.Sprintf("the network is used by ippools %s: delete them first", someOf(users))
	}
	for i := range apps {
		if HostNetwork(&apps[i]) == network {
			users = append(users, apps[i].Namespace+"/"+apps[i].Name)
		}
	}
	if len(users) > 0 {
		return fmt.Sprintf("the network is used by apps %s: remove it from their spec.networks or delete them first", someOf(users))
	}
	return ""
}

func someOf(names []string) string {
	if len(names) <= maxUsers {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:maxUsers], ", "), len(names)-maxUsers)
}
