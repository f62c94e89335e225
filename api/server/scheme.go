package server

import (
	"errors"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/live"
)

// typed are the kinds that are served from Go types and not from a CustomResourceDefinition.
type typed struct {
	scheme *kruntime.Scheme
	codecs serializer.CodecFactory
	params kruntime.ParameterCodec
}

// newTyped registers the kinds. Each Go type stands for its internal version too, so that there is nothing to convert.
func newTyped() (*typed, error) {
	s := kruntime.NewScheme()
	var errs []error
	both := func(gv schema.GroupVersion, objects ...kruntime.Object) {
		s.AddKnownTypes(gv, objects...)
		s.AddKnownTypes(schema.GroupVersion{Group: gv.Group, Version: kruntime.APIVersionInternal}, objects...)
		metav1.AddToGroupVersion(s, gv)
		errs = append(errs, s.SetVersionPriority(gv))
	}
	both(corev1.SchemeGroupVersion, &corev1.Namespace{}, &corev1.NamespaceList{}, &corev1.Event{}, &corev1.EventList{},
		&corev1.Secret{}, &corev1.SecretList{}, &corev1.ConfigMap{}, &corev1.ConfigMapList{},
		&corev1.ServiceAccount{}, &corev1.ServiceAccountList{})
	both(coordv1.SchemeGroupVersion, &coordv1.Lease{}, &coordv1.LeaseList{})
	both(authzv1.SchemeGroupVersion, &authzv1.SelfSubjectAccessReview{}, &authzv1.SelfSubjectRulesReview{}, &authzv1.SubjectAccessReview{})
	both(authnv1.SchemeGroupVersion, &authnv1.SelfSubjectReview{}, &authnv1.TokenRequest{})
	both(rbacv1.SchemeGroupVersion, &rbacv1.Role{}, &rbacv1.RoleList{}, &rbacv1.ClusterRole{}, &rbacv1.ClusterRoleList{},
		&rbacv1.RoleBinding{}, &rbacv1.RoleBindingList{}, &rbacv1.ClusterRoleBinding{}, &rbacv1.ClusterRoleBindingList{})
	both(runtime.GroupVersion, &runtime.Instance{}, &runtime.InstanceList{}, &runtime.Agent{}, &runtime.AgentList{},
		&runtime.Address{}, &runtime.AddressList{}, &runtime.Usage{}, &runtime.UsageList{})
	runtime.AddBalances(s, runtime.GroupVersion)
	runtime.AddBalances(s, schema.GroupVersion{Group: runtime.GroupVersion.Group, Version: kruntime.APIVersionInternal})
	s.AddUnversionedTypes(schema.GroupVersion{Version: "v1"}, &metav1.Status{}, &metav1.APIVersions{}, &metav1.APIGroupList{},
		&metav1.APIGroup{}, &metav1.APIResourceList{})
	errs = append(errs,
		s.AddFieldLabelConversionFunc(corev1.SchemeGroupVersion.WithKind("Event"), knownFields(eventFields(&corev1.Event{}))),
		s.AddFieldLabelConversionFunc(corev1.SchemeGroupVersion.WithKind("Secret"), knownFields(secretFields(&corev1.Secret{}))),
		s.AddFieldLabelConversionFunc(corev1.SchemeGroupVersion.WithKind("Namespace"), knownFields(namespaceFields(&corev1.Namespace{}))),
		live.AddFieldLabels(s))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &typed{scheme: s, codecs: serializer.NewCodecFactory(s), params: kruntime.NewParameterCodec(s)}, nil
}

func knownFields(known fields.Set) kruntime.FieldLabelConversionFunc {
	return func(label, value string) (string, string, error) {
		if !known.Has(label) {
			return "", "", errors.New("objects cannot be selected by field " + label)
		}
		return label, value, nil
	}
}
