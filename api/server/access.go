package server

import (
	"context"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"padis.io/padis/api/server/roles"
)

// access decides who may do what, by the roles that are bound. Whom nobody granted anything may only find out what there
// is and what he may do.
type access struct{ granted *grants }

var (
	_ authorizer.Authorizer   = access{}
	_ authorizer.RuleResolver = access{}
)

// Authorize implements authorizer.Authorizer.
func (x access) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	if u == nil {
		return authorizer.DecisionDeny, "the request has no user", nil
	}
	policy, err := x.granted.policy()
	if err != nil {
		return authorizer.DecisionDeny, "", err
	}
	if policy.Allows(subjectOf(u), requestOf(a)) {
		return authorizer.DecisionAllow, "", nil
	}
	where := "a ClusterRoleBinding"
	if a.GetNamespace() != "" {
		where = "a RoleBinding in namespace " + a.GetNamespace()
	}
	return authorizer.DecisionDeny, fmt.Sprintf("only members of the group %s and those to whom a role that allows it is bound may do this: ask for %s, "+
		"or use the administrator's kubeconfig, or a token of tokens.csv in the data directory whose user is in that group", masters, where), nil
}

func subjectOf(u user.Info) roles.Subject {
	return roles.Subject{User: u.GetName(), Groups: u.GetGroups()}
}

func requestOf(a authorizer.Attributes) roles.Request {
	if !a.IsResourceRequest() {
		return roles.Request{Verb: a.GetVerb(), Path: a.GetPath()}
	}
	r := roles.Request{Verb: a.GetVerb(), Group: a.GetAPIGroup(), Resource: a.GetResource(), Name: a.GetName(), Namespace: a.GetNamespace()}
	if sub := a.GetSubresource(); sub != "" {
		r.Resource += "/" + sub
	}
	return r
}

// may asks on behalf of a part of the server that knows more of a request than its address.
func (x access) may(ctx context.Context, u user.Info, verb, group, resource, namespace, name string) bool {
	decision, _, err := x.Authorize(ctx, authorizer.AttributesRecord{User: u, Verb: verb, APIGroup: group, Resource: resource, Namespace: namespace, Name: name, ResourceRequest: true})
	return err == nil && decision == authorizer.DecisionAllow
}

// ConditionsAwareAuthorize decides without conditions.
func (x access) ConditionsAwareAuthorize(ctx context.Context, a authorizer.Attributes) authorizer.ConditionsAwareDecision {
	return authorizer.ConditionsAwareDecisionFromParts(x.Authorize(ctx, a))
}

// EvaluateConditions is never asked, since no decision has conditions.
func (access) EvaluateConditions(context.Context, authorizer.ConditionsAwareDecision, authorizer.ConditionsData) (authorizer.Decision, string, error) {
	return authorizer.DecisionDeny, "", authorizer.ErrorConditionEvaluationNotSupported
}

// RulesFor lists the same rules.
func (x access) RulesFor(_ context.Context, u user.Info, namespace string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	policy, err := x.granted.policy()
	if err != nil {
		return nil, nil, true, err
	}
	var (
		resources []authorizer.ResourceRuleInfo
		paths     []authorizer.NonResourceRuleInfo
	)
	for _, r := range policy.Rules(subjectOf(u), namespace) {
		if len(r.Resources) > 0 {
			resources = append(resources, resourceRule(r))
		}
		if len(r.NonResourceURLs) > 0 {
			paths = append(paths, &authorizer.DefaultNonResourceRuleInfo{Verbs: r.Verbs, NonResourceURLs: r.NonResourceURLs})
		}
	}
	return resources, paths, false, nil
}

func resourceRule(r rbacv1.PolicyRule) *authorizer.DefaultResourceRuleInfo {
	return &authorizer.DefaultResourceRuleInfo{Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, ResourceNames: r.ResourceNames}
}
