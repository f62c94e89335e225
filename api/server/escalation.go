package server

import (
	"context"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"

	"padis.io/padis/api/server/roles"
)

// missingShown bounds how many rights a refusal names.
const missingShown = 5

// checkGrant refuses to let somebody grant what he does not have himself: by the rules of a role, unless he may
// "escalate" it, or by a binding, unless he may "bind" its role.
func (x access) checkGrant(ctx context.Context, a admission.Attributes) error {
	switch o := a.GetObject().(type) {
	case *rbacv1.Role:
		if old, ok := a.GetOldObject().(*rbacv1.Role); ok && equality.Semantic.DeepEqual(old.Rules, o.Rules) {
			return nil
		}
		return x.checkRules(ctx, a, o.Rules, "escalate", "roles", o.Name)
	case *rbacv1.ClusterRole:
		if old, ok := a.GetOldObject().(*rbacv1.ClusterRole); ok && equality.Semantic.DeepEqual(old.Rules, o.Rules) {
			return nil
		}
		return x.checkRules(ctx, a, o.Rules, "escalate", "clusterroles", o.Name)
	case *rbacv1.RoleBinding:
		if old, ok := a.GetOldObject().(*rbacv1.RoleBinding); ok && equality.Semantic.DeepEqual(old.Subjects, o.Subjects) && old.RoleRef == o.RoleRef {
			return nil
		}
		return x.checkBinding(ctx, a, o.RoleRef)
	case *rbacv1.ClusterRoleBinding:
		if old, ok := a.GetOldObject().(*rbacv1.ClusterRoleBinding); ok && equality.Semantic.DeepEqual(old.Subjects, o.Subjects) && old.RoleRef == o.RoleRef {
			return nil
		}
		return x.checkBinding(ctx, a, o.RoleRef)
	}
	return nil
}

func (x access) checkBinding(ctx context.Context, a admission.Attributes, ref rbacv1.RoleRef) error {
	resource := "clusterroles"
	if ref.Kind == "Role" {
		resource = "roles"
	}
	policy, err := x.granted.policy()
	if err != nil {
		return err
	}
	if policy.Allows(subjectOf(a.GetUserInfo()), roles.Request{Verb: "bind", Group: rbacv1.GroupName, Resource: resource, Namespace: a.GetNamespace(), Name: ref.Name}) {
		return nil
	}
	if !x.granted.isConnected() {
		return starting()
	}
	rules, err := x.granted.rulesNow(ctx, a.GetNamespace(), ref)
	if apierrors.IsNotFound(err) {
		return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), fmt.Errorf("%s %q does not exist: only who may bind whatever it will be can bind it already; create it first", ref.Kind, ref.Name))
	}
	if err != nil {
		return err
	}
	return x.checkRules(ctx, a, rules, "bind", resource, ref.Name)
}

// rulesNow asks for the rules of a role as they are, not as they were known a moment ago.
func (g *grants) rulesNow(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	if ref.Kind == "Role" {
		r, err := g.client.RbacV1().Roles(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return r.Rules, nil
	}
	r, err := g.client.RbacV1().ClusterRoles().Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return r.Rules, nil
}

// checkRules refuses rules that the user does not have, unless he may do with the role what verb says.
func (x access) checkRules(ctx context.Context, a admission.Attributes, rules []rbacv1.PolicyRule, verb, resource, name string) error {
	u := a.GetUserInfo()
	if x.may(ctx, u, verb, rbacv1.GroupName, resource, a.GetNamespace(), name) {
		return nil
	}
	policy, err := x.granted.policy()
	if err != nil {
		return err
	}
	missing := roles.Missing(policy.Rules(subjectOf(u), a.GetNamespace()), rules)
	if len(missing) == 0 {
		return nil
	}
	return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), fmt.Errorf(
		"user %q cannot grant what he does not have himself (%s): leave it away, or ask somebody who has it, or who may %q %s", u.GetName(), describe(missing), verb, resource))
}

func describe(rules []rbacv1.PolicyRule) string {
	var out []string
	for i, r := range rules {
		if i == missingShown {
			out = append(out, fmt.Sprintf("and %d more", len(rules)-i))
			break
		}
		what := strings.Join(r.NonResourceURLs, ",")
		if len(r.Resources) > 0 {
			what = strings.Join(r.Resources, ",")
			if g := strings.Join(r.APIGroups, ","); g != "" {
				what += "." + g
			}
			if len(r.ResourceNames) > 0 {
				what += " " + strings.Join(r.ResourceNames, ",")
			}
		}
		out = append(out, strings.Join(r.Verbs, ",")+" "+what)
	}
	return strings.Join(out, "; ")
}

// checkSync refuses a Sync that writes by the rights of a service account that its author may not play. Any change counts:
// also another path is something that is written by these rights.
func (x access) checkSync(ctx context.Context, a admission.Attributes) error {
	account := accountOf(a.GetObject())
	if account == "" {
		return nil
	}
	u := a.GetUserInfo()
	if x.may(ctx, u, "impersonate", "", "serviceaccounts", a.GetNamespace(), account) {
		return nil
	}
	return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(), fmt.Errorf(
		"spec.serviceAccount: user %q may not act as service account %q: leave it away, or ask for the verb impersonate on it", u.GetName(), account))
}

func accountOf(o kruntime.Object) string {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return ""
	}
	name, _, err := unstructured.NestedString(u.Object, "spec", "serviceAccount")
	if err != nil {
		return "" // the schema refuses it
	}
	return name
}
