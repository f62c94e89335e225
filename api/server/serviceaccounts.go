package server

import (
	"context"
	"fmt"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
)

// How long tokens of service accounts may be valid.
const (
	tokenLifeDefault = time.Hour
	tokenLifeLeast   = 10 * time.Minute
	tokenLifeMost    = 365 * 24 * time.Hour
)

func validateServiceAccount(obj, _ kruntime.Object) field.ErrorList {
	return checkName(obj.(*corev1.ServiceAccount).Name, func(n string) []string { return validation.ValidateServiceAccountName(n, false) })
}

func serviceAccountTable() table {
	return table{columns("Name:string", "Age:string"), func(o kruntime.Object, now time.Time) []any {
		a := o.(*corev1.ServiceAccount)
		return []any{a.Name, since(a.CreationTimestamp.Time, now)}
	}}
}

// tokenStorage makes tokens of service accounts, for `kubectl create token`.
type tokenStorage struct {
	accounts rest.Getter
	tokens   *accountTokens
}

var (
	_ rest.NamedCreater             = tokenStorage{}
	_ rest.GroupVersionKindProvider = tokenStorage{}
)

func (tokenStorage) New() kruntime.Object { return &authnv1.TokenRequest{} }
func (tokenStorage) Destroy()             {}

// GroupVersionKind says that the kind is of another group than the resource.
func (tokenStorage) GroupVersionKind(schema.GroupVersion) schema.GroupVersionKind {
	return authnv1.SchemeGroupVersion.WithKind("TokenRequest")
}

// Create makes a token; it is not kept.
func (s tokenStorage) Create(ctx context.Context, name string, obj kruntime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (kruntime.Object, error) {
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	request := obj.(*authnv1.TokenRequest)
	found, err := s.accounts.Get(ctx, name, &metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	account := found.(*corev1.ServiceAccount)
	life := tokenLifeDefault
	if seconds := request.Spec.ExpirationSeconds; seconds != nil {
		// Before it becomes a duration, which could overflow.
		if *seconds < int64(tokenLifeLeast.Seconds()) || *seconds > int64(tokenLifeMost.Seconds()) {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("spec.expirationSeconds: %d is not between %d and %d", *seconds, int64(tokenLifeLeast.Seconds()), int64(tokenLifeMost.Seconds())))
		}
		life = time.Duration(*seconds) * time.Second
	}
	if request.Spec.BoundObjectRef != nil {
		return nil, apierrors.NewBadRequest("spec.boundObjectRef: tokens are bound to their service account only: leave it away")
	}
	token, until, err := s.tokens.issue(account, request.Spec.Audiences, life)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	out := request.DeepCopy()
	out.Name, out.Namespace = account.Name, account.Namespace
	seconds := int64(life.Seconds())
	out.Spec.ExpirationSeconds = &seconds
	if len(out.Spec.Audiences) == 0 {
		out.Spec.Audiences = []string{tokenAudience}
	}
	out.Status = authnv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(until)}
	return out, nil
}
