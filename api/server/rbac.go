package server

import (
	"context"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/wait"
	rbacv1client "k8s.io/client-go/kubernetes/typed/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/reconciliation"

	"padis.io/padis/api/server/roles"
)

func rbacResources() []resource {
	return []resource{
		{name: "roles", singular: "role", namespaced: true,
			object: func() kruntime.Object { return &rbacv1.Role{} }, list: func() kruntime.Object { return &rbacv1.RoleList{} },
			hooks: hooks{validate: validateRole}, table: roleTable()},
		{name: "clusterroles", singular: "clusterrole",
			object: func() kruntime.Object { return &rbacv1.ClusterRole{} }, list: func() kruntime.Object { return &rbacv1.ClusterRoleList{} },
			hooks: hooks{validate: validateClusterRole}, table: roleTable()},
		{name: "rolebindings", singular: "rolebinding", namespaced: true,
			object: func() kruntime.Object { return &rbacv1.RoleBinding{} }, list: func() kruntime.Object { return &rbacv1.RoleBindingList{} },
			hooks: hooks{prepare: prepareRoleBinding, validate: validateRoleBinding}, table: bindingTable()},
		{name: "clusterrolebindings", singular: "clusterrolebinding",
			object: func() kruntime.Object { return &rbacv1.ClusterRoleBinding{} }, list: func() kruntime.Object { return &rbacv1.ClusterRoleBindingList{} },
			hooks: hooks{prepare: prepareClusterRoleBinding, validate: validateClusterRoleBinding}, table: bindingTable()},
	}
}

func validateRole(obj, _ kruntime.Object) field.ErrorList {
	r := obj.(*rbacv1.Role)
	return append(roles.CheckName(r.Name), roles.CheckRules(r.Rules, true)...)
}

func validateClusterRole(obj, _ kruntime.Object) field.ErrorList {
	r := obj.(*rbacv1.ClusterRole)
	errs := append(roles.CheckName(r.Name), roles.CheckRules(r.Rules, false)...)
	if r.AggregationRule != nil {
		errs = append(errs, field.Forbidden(field.NewPath("aggregationRule"), "roles are not put together here: write all rules into this one"))
	}
	return errs
}

func prepareRoleBinding(obj, _ kruntime.Object) {
	b := obj.(*rbacv1.RoleBinding)
	roles.Default(&b.RoleRef, b.Subjects)
}

func prepareClusterRoleBinding(obj, _ kruntime.Object) {
	b := obj.(*rbacv1.ClusterRoleBinding)
	roles.Default(&b.RoleRef, b.Subjects)
}

func validateRoleBinding(obj, old kruntime.Object) field.ErrorList {
	b := obj.(*rbacv1.RoleBinding)
	var was *rbacv1.RoleRef
	if o, ok := old.(*rbacv1.RoleBinding); ok {
		was = &o.RoleRef
	}
	return append(roles.CheckName(b.Name), roles.CheckBinding(b.RoleRef, b.Subjects, true, was)...)
}

func validateClusterRoleBinding(obj, old kruntime.Object) field.ErrorList {
	b := obj.(*rbacv1.ClusterRoleBinding)
	var was *rbacv1.RoleRef
	if o, ok := old.(*rbacv1.ClusterRoleBinding); ok {
		was = &o.RoleRef
	}
	return append(roles.CheckName(b.Name), roles.CheckBinding(b.RoleRef, b.Subjects, false, was)...)
}

func roleTable() table {
	return table{columns("Name:string", "Created At:date"), func(o kruntime.Object, _ time.Time) []any {
		m, err := metaOf(o)
		if err != nil {
			return []any{"", ""}
		}
		return []any{m.GetName(), m.GetCreationTimestamp().UTC().Format(time.RFC3339)}
	}}
}

func bindingTable() table {
	return table{columns("Name:string", "Role:string", "Age:string"), func(o kruntime.Object, now time.Time) []any {
		switch b := o.(type) {
		case *rbacv1.RoleBinding:
			return []any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, since(b.CreationTimestamp.Time, now)}
		case *rbacv1.ClusterRoleBinding:
			return []any{b.Name, b.RoleRef.Kind + "/" + b.RoleRef.Name, since(b.CreationTimestamp.Time, now)}
		}
		return []any{"", "", ""}
	}}
}

// installRoles makes the ClusterRoles that are always there, and gives those of an older version the rules that they
// lack, unless they are annotated with rbac.authorization.kubernetes.io/autoupdate: "false".
func installRoles(ctx context.Context, client rbacv1client.ClusterRolesGetter) error {
	for _, r := range roles.Defaults() {
		want := reconciliation.ReconcileRoleOptions{
			Role:   reconciliation.ClusterRoleRuleOwner{ClusterRole: &r},
			Client: reconciliation.ClusterRoleModifier{Client: client.ClusterRoles()}, Confirm: true,
		}
		// Two servers on one etcd may start at once, so that a conflict means that the other was faster.
		err := wait.PollUntilContextCancel(ctx, bootPoll, true, func(context.Context) (bool, error) {
			_, err := want.Run()
			if apierrors.IsConflict(err) {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
