package server

import (
	"context"
	"errors"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

var errNoUser = errors.New("the request has no user")

// accessReviews answers `kubectl auth can-i`.
type accessReviews struct{ access access }

func (accessReviews) New() kruntime.Object    { return &authzv1.SelfSubjectAccessReview{} }
func (accessReviews) Destroy()                {}
func (accessReviews) NamespaceScoped() bool   { return false }
func (accessReviews) GetSingularName() string { return "selfsubjectaccessreview" }

// Create answers a review; nothing is kept.
func (r accessReviews) Create(ctx context.Context, obj kruntime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (kruntime.Object, error) {
	review := obj.(*authzv1.SelfSubjectAccessReview)
	u, err := reviewer(ctx, obj, validate)
	if err != nil {
		return nil, err
	}
	review.Status, err = r.access.review(ctx, u, review.Spec.ResourceAttributes, review.Spec.NonResourceAttributes)
	return review, err
}

// subjectReviews answers the same about others.
type subjectReviews struct{ access access }

func (subjectReviews) New() kruntime.Object    { return &authzv1.SubjectAccessReview{} }
func (subjectReviews) Destroy()                {}
func (subjectReviews) NamespaceScoped() bool   { return false }
func (subjectReviews) GetSingularName() string { return "subjectaccessreview" }

// Create answers a review; nothing is kept.
func (r subjectReviews) Create(ctx context.Context, obj kruntime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (kruntime.Object, error) {
	review := obj.(*authzv1.SubjectAccessReview)
	if _, err := reviewer(ctx, obj, validate); err != nil {
		return nil, err
	}
	s := review.Spec
	if s.User == "" && len(s.Groups) == 0 {
		return nil, apierrors.NewBadRequest("spec: set user, groups or both, to say whose rights are asked for")
	}
	about := &user.DefaultInfo{Name: s.User, UID: s.UID, Groups: s.Groups, Extra: map[string][]string{}}
	for k, v := range s.Extra {
		about.Extra[k] = v
	}
	var err error
	review.Status, err = r.access.review(ctx, about, s.ResourceAttributes, s.NonResourceAttributes)
	return review, err
}

// review answers one question. A question that cannot be answered is a bad request.
func (x access) review(ctx context.Context, u user.Info, resource *authzv1.ResourceAttributes, path *authzv1.NonResourceAttributes) (authzv1.SubjectAccessReviewStatus, error) {
	var status authzv1.SubjectAccessReviewStatus
	if (resource == nil) == (path == nil) {
		return status, apierrors.NewBadRequest("spec: set exactly one of resourceAttributes and nonResourceAttributes")
	}
	a := authorizer.AttributesRecord{User: u}
	if resource != nil {
		a.Verb, a.Namespace, a.APIGroup, a.APIVersion = resource.Verb, resource.Namespace, resource.Group, resource.Version
		a.Resource, a.Subresource, a.Name, a.ResourceRequest = resource.Resource, resource.Subresource, resource.Name, true
	} else {
		a.Verb, a.Path = path.Verb, path.Path
	}
	decision, reason, err := x.Authorize(ctx, a)
	status.Allowed, status.Denied, status.Reason = decision == authorizer.DecisionAllow, decision == authorizer.DecisionDeny, reason
	if err != nil {
		status.EvaluationError = err.Error()
	}
	return status, nil
}

// rulesReviews answers `kubectl auth can-i --list`.
type rulesReviews struct{ access access }

func (rulesReviews) New() kruntime.Object    { return &authzv1.SelfSubjectRulesReview{} }
func (rulesReviews) Destroy()                {}
func (rulesReviews) NamespaceScoped() bool   { return false }
func (rulesReviews) GetSingularName() string { return "selfsubjectrulesreview" }

// Create answers a review; nothing is kept.
func (r rulesReviews) Create(ctx context.Context, obj kruntime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (kruntime.Object, error) {
	review := obj.(*authzv1.SelfSubjectRulesReview)
	u, err := reviewer(ctx, obj, validate)
	if err != nil {
		return nil, err
	}
	resources, paths, incomplete, err := r.access.RulesFor(ctx, u, review.Spec.Namespace)
	// Empty lists, not null: the fields are required.
	review.Status = authzv1.SubjectRulesReviewStatus{Incomplete: incomplete, ResourceRules: []authzv1.ResourceRule{}, NonResourceRules: []authzv1.NonResourceRule{}}
	if err != nil {
		review.Status.EvaluationError = err.Error()
	}
	for _, rule := range resources {
		review.Status.ResourceRules = append(review.Status.ResourceRules, authzv1.ResourceRule{
			Verbs: rule.GetVerbs(), APIGroups: rule.GetAPIGroups(), Resources: rule.GetResources(), ResourceNames: rule.GetResourceNames()})
	}
	for _, rule := range paths {
		review.Status.NonResourceRules = append(review.Status.NonResourceRules, authzv1.NonResourceRule{Verbs: rule.GetVerbs(), NonResourceURLs: rule.GetNonResourceURLs()})
	}
	return review, nil
}

// selfReviews answers `kubectl auth whoami`.
type selfReviews struct{}

func (selfReviews) New() kruntime.Object    { return &authnv1.SelfSubjectReview{} }
func (selfReviews) Destroy()                {}
func (selfReviews) NamespaceScoped() bool   { return false }
func (selfReviews) GetSingularName() string { return "selfsubjectreview" }

// Create answers a review; nothing is kept.
func (selfReviews) Create(ctx context.Context, obj kruntime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (kruntime.Object, error) {
	review := obj.(*authnv1.SelfSubjectReview)
	u, err := reviewer(ctx, obj, validate)
	if err != nil {
		return nil, err
	}
	review.Status.UserInfo = authnv1.UserInfo{Username: u.GetName(), UID: u.GetUID(), Groups: u.GetGroups()}
	for k, v := range u.GetExtra() {
		if review.Status.UserInfo.Extra == nil {
			review.Status.UserInfo.Extra = map[string]authnv1.ExtraValue{}
		}
		review.Status.UserInfo.Extra[k] = v
	}
	return review, nil
}

func reviewer(ctx context.Context, obj kruntime.Object, validate rest.ValidateObjectFunc) (user.Info, error) {
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	u, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewInternalError(errNoUser)
	}
	return u, nil
}
