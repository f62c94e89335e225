package roles

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a verb is good for.
var (
	read   = []string{"get", "list", "watch"}
	write  = []string{"create", "update", "patch", "delete", "deletecollection"}
	manage = append(append([]string{}, read...), write...)
)

func rule(group string, verbs []string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
}

// Groups of kinds.
const (
	padis  = "padis.io"
	live   = "runtime.padis.io"
	leases = "coordination.k8s.io"
)

// Defaults are the ClusterRoles that are always there. Each of view, edit and admin has all that the one before it has. What they
// say of kinds that are in no namespace holds for who is bound to them cluster-wide.
func Defaults() []rbacv1.ClusterRole {
	view := viewRules()
	edit := append(view, editRules()...)
	admin := append(edit[:len(edit):len(edit)], adminRules()...)
	return []rbacv1.ClusterRole{
		role("view", "sees everything but Secrets and who may do what", view),
		role("edit", "declares and reaches into instances", edit),
		role("admin", "does as edit, and decides who may do what in a namespace", admin),
		role("cluster-admin", "does everything", everything()),
	}
}

func role(name, what string, rules []rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
		"padis.io/description": what, rbacv1.AutoUpdateAnnotationKey: "true",
	}}, Rules: rules}
}

func viewRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("", read, "configmaps", "events", "namespaces", "serviceaccounts"),
		rule(leases, read, "leases"),
		rule(padis, read, "apps", "apprevisions", "loadbalancers", "imageprepulls", "gitsources", "syncs"),
		rule(padis, read, "networks", "ippools", "bgppeers", "tenants", "registries", "executorupgrades"),
		rule(padis, []string{"get"}, "apps/status", "apps/scale", "loadbalancers/status", "imageprepulls/status", "gitsources/status", "syncs/status",
			"networks/status", "ippools/status", "bgppeers/status", "tenants/status", "registries/status", "executorupgrades/status"),
		rule(live, read, "instances", "agents", "addresses"),
		rule(live, []string{"get", "list"}, "usages", "balances"),
		rule(live, []string{"get"}, "instances/log", "balances/trace"),
	}
}

func editRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("", write, "configmaps"),
		rule("", manage, "secrets"),
		rule(leases, write, "leases"),
		rule(padis, write, "apps", "loadbalancers", "imageprepulls"),
		rule(padis, []string{"update", "patch"}, "apps/scale"),
		// WebSockets come with GET, SPDY with POST.
		rule(live, []string{"get", "create"}, "instances/exec", "instances/portforward"),
	}
}

// adminRules has service accounts and Syncs, which edit has not: who may have the tokens of the former, play them, or let a
// Sync write by their rights, has the rights of all of them; and a GitSource says whose signatures count.
func adminRules() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		rule("", append([]string{"impersonate"}, write...), "serviceaccounts"),
		rule("", []string{"create"}, "serviceaccounts/token"),
		rule(padis, write, "gitsources", "syncs"),
		rule(rbacv1.GroupName, manage, "roles", "rolebindings"),
	}
}
