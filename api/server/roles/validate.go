package roles

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// CheckRules judges the rules of a role.
func CheckRules(rules []rbacv1.PolicyRule, namespaced bool) field.ErrorList {
	var errs field.ErrorList
	for i, r := range rules {
		at := field.NewPath("rules").Index(i)
		if len(r.Verbs) == 0 {
			errs = append(errs, field.Required(at.Child("verbs"), `name verbs, for example get, or "*" for all`))
		}
		if len(r.NonResourceURLs) > 0 {
			if namespaced {
				errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "paths are in no namespace: write them into a ClusterRole"))
			}
			if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
				errs = append(errs, field.Invalid(at.Child("nonResourceURLs"), r.NonResourceURLs, "a rule is of paths or of resources: write two rules"))
			}
			continue
		}
		if len(r.APIGroups) == 0 {
			errs = append(errs, field.Required(at.Child("apiGroups"), `name groups, for example padis.io, or "" for Secrets and ConfigMaps`))
		}
		if len(r.Resources) == 0 {
			errs = append(errs, field.Required(at.Child("resources"), "name resources in the plural, for example apps"))
		}
	}
	return errs
}

// Default fills in what of a binding goes without saying.
func Default(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	if ref.APIGroup == "" {
		ref.APIGroup = rbacv1.GroupName
	}
	for i := range subjects {
		if s := &subjects[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

// CheckBinding judges what is bound to whom. old is nil for a new binding.
func CheckBinding(ref rbacv1.RoleRef, subjects []rbacv1.Subject, namespaced bool, old *rbacv1.RoleRef) field.ErrorList {
	at := field.NewPath("roleRef")
	if old != nil && *old != ref {
		return field.ErrorList{field.Invalid(at, ref, "cannot be changed: delete the binding and create it anew")}
	}
	var errs field.ErrorList
	if ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), ref.APIGroup, []string{rbacv1.GroupName}))
	}
	kinds := []string{"ClusterRole"}
	if namespaced {
		kinds = []string{"ClusterRole", "Role"}
	}
	if ref.Kind != "ClusterRole" && (!namespaced || ref.Kind != "Role") {
		errs = append(errs, field.NotSupported(at.Child("kind"), ref.Kind, kinds))
	}
	errs = append(errs, checkSegment(at.Child("name"), ref.Name)...)
	for i, s := range subjects {
		errs = append(errs, checkSubject(field.NewPath("subjects").Index(i), s)...)
	}
	return errs
}

func checkSubject(at *field.Path, s rbacv1.Subject) field.ErrorList {
	var errs field.ErrorList
	group := rbacv1.GroupName
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		group = ""
		for _, msg := range validation.ValidateServiceAccountName(s.Name, false) {
			errs = append(errs, field.Invalid(at.Child("name"), s.Name, msg))
		}
		if s.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), "name the namespace of the service account"))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), "name the "+s.Kind))
		}
		if s.Namespace != "" {
			errs = append(errs, field.Invalid(at.Child("namespace"), s.Namespace, "a "+s.Kind+" is in no namespace: leave it away"))
		}
	default:
		return field.ErrorList{field.NotSupported(at.Child("kind"), s.Kind, []string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind})}
	}
	if s.APIGroup != group {
		errs = append(errs, field.NotSupported(at.Child("apiGroup"), s.APIGroup, []string{group}))
	}
	return errs
}

// CheckName judges the name of a role or binding, which may have characters that other names must not have.
func CheckName(name string) field.ErrorList {
	return checkSegment(field.NewPath("metadata", "name"), name)
}

func checkSegment(at *field.Path, name string) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(at, "name the role")}
	}
	var errs field.ErrorList
	for _, msg := range content.IsPathSegmentName(name) {
		errs = append(errs, field.Invalid(at, name, msg))
	}
	return errs
}
