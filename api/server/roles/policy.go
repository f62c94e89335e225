// Package roles decides by roles and their bindings who may do what, and which roles there are from the beginning. Pure.
package roles

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

// Names of groups and users that Kubernetes gives a meaning.
const (
	Masters       = "system:masters"
	Authenticated = "system:authenticated"

	serviceAccountPrefix = "system:serviceaccount:"
)

// PublicPaths may be read by anybody: they say whether the server lives, and which it is.
var PublicPaths = []string{"/healthz", "/readyz", "/livez", "/version"}

// Subject is who asks.
type Subject struct {
	User   string
	Groups []string
}

// Request is what is asked for: a path, or a resource. Resource is "RESOURCE/SUBRESOURCE" for a subresource. Namespace is
// empty for what is in none, and for all namespaces at once.
type Request struct {
	Verb, Group, Resource, Name, Namespace string
	Path                                   string
}

// rule is the rule that permits the request and nothing else.
func (r Request) rule() rbacv1.PolicyRule {
	if r.Path != "" {
		return rbacv1.PolicyRule{Verbs: []string{r.Verb}, NonResourceURLs: []string{r.Path}}
	}
	out := rbacv1.PolicyRule{Verbs: []string{r.Verb}, APIGroups: []string{r.Group}, Resources: []string{r.Resource}}
	if r.Name != "" {
		out.ResourceNames = []string{r.Name}
	}
	return out
}

// Objects are all roles and bindings.
type Objects struct {
	Roles               []*rbacv1.Role
	ClusterRoles        []*rbacv1.ClusterRole
	RoleBindings        []*rbacv1.RoleBinding
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
}

// named is a role; namespace is empty for ClusterRoles.
type named struct{ namespace, name string }

// bound is a subject in a namespace in which roles are bound to it; namespace is empty for bindings that hold everywhere.
// user is false for groups.
type bound struct {
	namespace, subject string
	user               bool
}

// Policy answers who may do what. It is not changed after New.
type Policy struct {
	rules  map[named][]rbacv1.PolicyRule
	grants map[bound][]named
}

// New makes a Policy. A binding to a role that is not there grants nothing.
func New(o Objects) *Policy {
	p := &Policy{rules: map[named][]rbacv1.PolicyRule{}, grants: map[bound][]named{}}
	for _, r := range o.Roles {
		p.rules[named{r.Namespace, r.Name}] = r.Rules
	}
	for _, r := range o.ClusterRoles {
		p.rules[named{"", r.Name}] = r.Rules
	}
	for _, b := range o.RoleBindings {
		p.bind(b.Namespace, b.RoleRef, b.Subjects)
	}
	for _, b := range o.ClusterRoleBindings {
		if b.RoleRef.Kind == "ClusterRole" {
			p.bind("", b.RoleRef, b.Subjects)
		}
	}
	return p
}

func (p *Policy) bind(namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
	role := named{namespace, ref.Name}
	switch ref.Kind {
	case "ClusterRole":
		role.namespace = ""
	case "Role":
	default:
		return
	}
	for _, s := range subjects {
		key := bound{namespace: namespace, subject: s.Name, user: true}
		switch s.Kind {
		case rbacv1.UserKind:
		case rbacv1.GroupKind:
			key.user = false
		case rbacv1.ServiceAccountKind:
			home := s.Namespace
			if home == "" {
				home = namespace
			}
			if home == "" {
				continue
			}
			key.subject = serviceAccountPrefix + home + ":" + s.Name
		default:
			continue
		}
		p.grants[key] = append(p.grants[key], role)
	}
}

// Allows tells whether a subject may do what it asks for.
func (p *Policy) Allows(s Subject, r Request) bool {
	want := []rbacv1.PolicyRule{r.rule()}
	return p.visit(s, r.Namespace, func(rules []rbacv1.PolicyRule) bool {
		covered, _ := validation.Covers(rules, want)
		return covered
	})
}

// Rules are all that hold for a subject in a namespace; those that hold everywhere without one.
func (p *Policy) Rules(s Subject, namespace string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	p.visit(s, namespace, func(rules []rbacv1.PolicyRule) bool {
		out = append(out, rules...)
		return false
	})
	return out
}

// visit shows the rules of each role of a subject, until it is told that this is enough.
func (p *Policy) visit(s Subject, namespace string, enough func([]rbacv1.PolicyRule) bool) bool {
	if enough(builtIn(s)) {
		return true
	}
	for _, in := range slices.Compact([]string{"", namespace}) {
		if p.visitGrants(bound{in, s.User, true}, enough) {
			return true
		}
		for _, g := range s.Groups {
			if p.visitGrants(bound{in, g, false}, enough) {
				return true
			}
		}
	}
	return false
}

func (p *Policy) visitGrants(key bound, enough func([]rbacv1.PolicyRule) bool) bool {
	return slices.ContainsFunc(p.grants[key], func(role named) bool { return enough(p.rules[role]) })
}

// builtIn are the rules that no object grants, so that nobody can lock himself out: masters may do everything, known
// users may find out what there is and what they may do, anybody whether the server lives.
func builtIn(s Subject) []rbacv1.PolicyRule {
	if slices.Contains(s.Groups, Masters) {
		return everything()
	}
	out := []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: PublicPaths}}
	if slices.Contains(s.Groups, Authenticated) {
		out = append(out,
			rbacv1.PolicyRule{Verbs: []string{"get"}, NonResourceURLs: []string{"/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"}},
			// Each object of a plan is asked for again: only what somebody may apply can he plan.
			rbacv1.PolicyRule{Verbs: []string{"post"}, NonResourceURLs: []string{"/plan"}},
			rbacv1.PolicyRule{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
			rbacv1.PolicyRule{Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}})
	}
	return out
}

func everything() []rbacv1.PolicyRule {
	return []rbacv1.PolicyRule{
		{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
		{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
	}
}

// Missing are the rules that somebody who has some lacks to have others, each of one verb and one resource.
func Missing(have, want []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	_, missing := validation.Covers(have, want)
	return missing
}
