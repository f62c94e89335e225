package server

import (
	"context"
	"fmt"
	"slices"
	"sort"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/storage/names"
)

// maxData is the most that a Secret or ConfigMap may hold, in bytes.
const maxData = 1 << 20

// hooks are what differs between the typed kinds. old is nil when an object is created.
type hooks struct {
	prepare  func(obj, old kruntime.Object)
	validate func(obj, old kruntime.Object) field.ErrorList
}

// strategy implements the rules of the generic store for creating, updating and deleting.
type strategy struct {
	kruntime.ObjectTyper
	names.NameGenerator
	namespaced bool
	hooks      hooks
}

func newStrategy(scheme *kruntime.Scheme, namespaced bool, h hooks) strategy {
	return strategy{ObjectTyper: scheme, NameGenerator: names.SimpleNameGenerator, namespaced: namespaced, hooks: h}
}

func (s strategy) NamespaceScoped() bool { return s.namespaced }

func (s strategy) PrepareForCreate(_ context.Context, obj kruntime.Object) {
	if s.hooks.prepare != nil {
		s.hooks.prepare(obj, nil)
	}
}

func (s strategy) PrepareForUpdate(_ context.Context, obj, old kruntime.Object) {
	if s.hooks.prepare != nil {
		s.hooks.prepare(obj, old)
	}
}

func (s strategy) Validate(_ context.Context, obj kruntime.Object) field.ErrorList {
	return s.check(obj, nil)
}

func (s strategy) ValidateUpdate(_ context.Context, obj, old kruntime.Object) field.ErrorList {
	return s.check(obj, old)
}

func (s strategy) check(obj, old kruntime.Object) field.ErrorList {
	if s.hooks.validate == nil {
		return nil
	}
	return s.hooks.validate(obj, old)
}

func (strategy) WarningsOnCreate(context.Context, kruntime.Object) []string { return nil }
func (strategy) WarningsOnUpdate(context.Context, kruntime.Object, kruntime.Object) []string {
	return nil
}
func (strategy) AllowCreateOnUpdate(context.Context) bool      { return false }
func (strategy) AllowUnconditionalUpdate(context.Context) bool { return true }
func (strategy) Canonicalize(kruntime.Object)                  {}

func metaOf(o kruntime.Object) (metav1.Object, error) { return meta.Accessor(o) }

func checkName(name string, rule func(string) []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range rule(name) {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), name, msg))
	}
	return errs
}

// namespaceContents keeps a deleted namespace until the namespace controller has emptied it.
const namespaceContents = "padis.io/contents"

func prepareNamespace(obj, old kruntime.Object) {
	n := obj.(*corev1.Namespace)
	if old == nil {
		n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
		if !slices.Contains(n.Finalizers, namespaceContents) {
			n.Finalizers = append(n.Finalizers, namespaceContents)
		}
	}
	if n.Status.Phase == "" {
		n.Status.Phase = corev1.NamespaceActive
	}
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
}

func validateNamespace(obj, _ kruntime.Object) field.ErrorList {
	return checkName(obj.(*corev1.Namespace).Name, validation.IsDNS1123Label)
}

func validateEvent(obj, _ kruntime.Object) field.ErrorList {
	e := obj.(*corev1.Event)
	errs := checkName(e.Name, validation.IsDNS1123Subdomain)
	if e.InvolvedObject.Namespace != "" && e.InvolvedObject.Namespace != e.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), e.InvolvedObject.Namespace,
			"is not the event's namespace "+e.Namespace+": write the event into the namespace of the object"))
	}
	return errs
}

func prepareSecret(obj, _ kruntime.Object) {
	s := obj.(*corev1.Secret)
	if s.Type == "" {
		s.Type = corev1.SecretTypeOpaque
	}
	// stringData is for writing only: it is data that need not be encoded.
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
}

func validateSecret(obj, old kruntime.Object) field.ErrorList {
	s := obj.(*corev1.Secret)
	errs := checkName(s.Name, validation.IsDNS1123Subdomain)
	size := 0
	for k, v := range s.Data {
		size += len(v)
		errs = append(errs, checkKey(field.NewPath("data"), k)...)
	}
	errs = append(errs, checkSize(size)...)
	errs = append(errs, checkSecretType(s)...)
	if o, ok := old.(*corev1.Secret); ok {
		if s.Type != o.Type {
			errs = append(errs, field.Invalid(field.NewPath("type"), s.Type, "cannot be changed: delete the secret and create it anew"))
		}
		if isTrue(o.Immutable) && (!isTrue(s.Immutable) || !equality.Semantic.DeepEqual(s.Data, o.Data)) {
			errs = append(errs, field.Forbidden(field.NewPath("data"), "the secret is immutable: delete it and create it anew"))
		}
	}
	return errs
}

func validateConfigMap(obj, old kruntime.Object) field.ErrorList {
	c := obj.(*corev1.ConfigMap)
	errs := checkName(c.Name, validation.IsDNS1123Subdomain)
	size := 0
	for k, v := range c.Data {
		size += len(v)
		errs = append(errs, checkKey(field.NewPath("data"), k)...)
		if _, both := c.BinaryData[k]; both {
			errs = append(errs, field.Invalid(field.NewPath("binaryData").Key(k), k, "is in data too: choose another key"))
		}
	}
	for k, v := range c.BinaryData {
		size += len(v)
		errs = append(errs, checkKey(field.NewPath("binaryData"), k)...)
	}
	errs = append(errs, checkSize(size)...)
	if o, ok := old.(*corev1.ConfigMap); ok && isTrue(o.Immutable) &&
		(!isTrue(c.Immutable) || !equality.Semantic.DeepEqual(c.Data, o.Data) || !equality.Semantic.DeepEqual(c.BinaryData, o.BinaryData)) {
		errs = append(errs, field.Forbidden(field.NewPath("data"), "the config map is immutable: delete it and create it anew"))
	}
	return errs
}

func checkKey(path *field.Path, key string) field.ErrorList {
	var errs field.ErrorList
	msgs := validation.IsConfigMapKey(key)
	sort.Strings(msgs)
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(path.Key(key), key, msg))
	}
	return errs
}

func checkSize(n int) field.ErrorList {
	if n <= maxData {
		return nil
	}
	return field.ErrorList{field.TooLong(field.NewPath("data"), fmt.Sprintf("%d bytes", n), maxData)}
}

func isTrue(b *bool) bool { return b != nil && *b }

func validateLease(obj, _ kruntime.Object) field.ErrorList {
	l := obj.(*coordv1.Lease)
	errs := checkName(l.Name, func(n string) []string { return apivalidation.NameIsDNSSubdomain(n, false) })
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "leaseTransitions"), *n, "must not be negative"))
	}
	return errs
}
