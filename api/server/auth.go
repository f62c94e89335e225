package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/token/tokenfile"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// masters is the group that is allowed everything.
const masters = user.SystemPrivilegedGroup

// publicPaths may be read by anybody: they say whether the server lives, and which it is.
var publicPaths = []string{"/healthz", "/readyz", "/livez", "/version"}

// newAuthenticator knows clients by their certificate or by a token of DATA/tokens.csv, which has lines of
// TOKEN,USER,UID,"GROUP,GROUP". The file is read at the start; without it there are no tokens.
func newAuthenticator(dataDir string, clientCA dynamiccertificates.CAContentProvider) (authenticator.Request, error) {
	known := []authenticator.Request{x509.NewDynamic(clientCA.VerifyOptions, x509.CommonNameUserConversion)}
	path := filepath.Join(dataDir, "tokens.csv")
	tokens, err := tokenfile.NewCSV(path)
	switch {
	case err == nil:
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			return nil, fmt.Errorf("%s can be read by others: chmod 600 %s", path, path)
		}
		known = append(known, bearertoken.New(tokens))
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w: write lines of TOKEN,USER,UID,\"GROUP,GROUP\"", path, err)
	}
	var public []apiserver.AnonymousAuthCondition
	for _, p := range publicPaths {
		public = append(public, apiserver.AnonymousAuthCondition{Path: p})
	}
	return union.New(group.NewAuthenticatedGroupAdder(union.New(known...)), anonymous.NewAuthenticator(public)), nil
}

// access decides who may do what: masters everything, other known users nothing but to find out what there is and
// what they may do.
type access struct{}

var (
	_ authorizer.Authorizer   = access{}
	_ authorizer.RuleResolver = access{}
)

func (access) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	u := a.GetUser()
	if u == nil {
		return authorizer.DecisionDeny, "the request has no user", nil
	}
	if slices.Contains(u.GetGroups(), masters) {
		return authorizer.DecisionAllow, "", nil
	}
	if !a.IsResourceRequest() && a.IsReadOnly() {
		if slices.Contains(publicPaths, a.GetPath()) {
			return authorizer.DecisionAllow, "", nil
		}
		if slices.Contains(u.GetGroups(), user.AllAuthenticated) && isDiscovery(a.GetPath()) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	if slices.Contains(u.GetGroups(), user.AllAuthenticated) && isSelfReview(a) {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionDeny, "only members of the group " + masters + " may do this: use the administrator's kubeconfig, " +
		"or a token of tokens.csv in the data directory whose user is in that group", nil
}

func isDiscovery(path string) bool {
	for _, p := range []string{"/api", "/apis", "/openapi"} {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

func isSelfReview(a authorizer.Attributes) bool {
	if !a.IsResourceRequest() || a.GetVerb() != "create" {
		return false
	}
	switch a.GetAPIGroup() {
	case "authorization.k8s.io":
		return a.GetResource() == "selfsubjectaccessreviews" || a.GetResource() == "selfsubjectrulesreviews"
	case "authentication.k8s.io":
		return a.GetResource() == "selfsubjectreviews"
	}
	return false
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
func (access) RulesFor(_ context.Context, u user.Info, _ string) ([]authorizer.ResourceRuleInfo, []authorizer.NonResourceRuleInfo, bool, error) {
	if slices.Contains(u.GetGroups(), masters) {
		return []authorizer.ResourceRuleInfo{&authorizer.DefaultResourceRuleInfo{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}},
			[]authorizer.NonResourceRuleInfo{&authorizer.DefaultNonResourceRuleInfo{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}}, false, nil
	}
	return []authorizer.ResourceRuleInfo{
			&authorizer.DefaultResourceRuleInfo{Verbs: []string{"create"}, APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
			&authorizer.DefaultResourceRuleInfo{Verbs: []string{"create"}, APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}},
		}, []authorizer.NonResourceRuleInfo{
			&authorizer.DefaultNonResourceRuleInfo{Verbs: []string{"get"}, NonResourceURLs: append([]string{"/api", "/api/*", "/apis", "/apis/*", "/openapi/*"}, publicPaths...)},
		}, false, nil
}
