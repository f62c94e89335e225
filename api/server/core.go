package server

import (
	"fmt"
	"time"

	coordv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/server/audit"
	"padis.io/padis/api/server/live"
)

// eventLife is the time that events are kept.
const eventLife = time.Hour

// resource is a typed kind and how it is served.
type resource struct {
	name, singular string
	short          []string
	namespaced     bool
	object, list   func() kruntime.Object
	hooks          hooks
	fields         func(kruntime.Object) fields.Set // nil: name and namespace only
	table          rest.TableConvertor
	life           time.Duration // 0: until deleted
}

func coreResources() []resource {
	return []resource{
		{name: "namespaces", singular: "namespace", short: []string{"ns"},
			object: func() kruntime.Object { return &corev1.Namespace{} }, list: func() kruntime.Object { return &corev1.NamespaceList{} },
			hooks:  hooks{prepare: prepareNamespace, validate: validateNamespace},
			fields: func(o kruntime.Object) fields.Set { return namespaceFields(o.(*corev1.Namespace)) }, table: namespaceTable()},
		{name: "events", singular: "event", short: []string{"ev"}, namespaced: true,
			object: func() kruntime.Object { return &corev1.Event{} }, list: func() kruntime.Object { return &corev1.EventList{} },
			hooks:  hooks{validate: validateEvent},
			fields: func(o kruntime.Object) fields.Set { return eventFields(o.(*corev1.Event)) }, table: eventTable(), life: eventLife},
		{name: "secrets", singular: "secret", namespaced: true,
			object: func() kruntime.Object { return &corev1.Secret{} }, list: func() kruntime.Object { return &corev1.SecretList{} },
			hooks:  hooks{prepare: prepareSecret, validate: validateSecret},
			fields: func(o kruntime.Object) fields.Set { return secretFields(o.(*corev1.Secret)) }, table: secretTable()},
		{name: "configmaps", singular: "configmap", short: []string{"cm"}, namespaced: true,
			object: func() kruntime.Object { return &corev1.ConfigMap{} }, list: func() kruntime.Object { return &corev1.ConfigMapList{} },
			hooks: hooks{validate: validateConfigMap}, table: configMapTable()},
		{name: "serviceaccounts", singular: "serviceaccount", short: []string{"sa"}, namespaced: true,
			object: func() kruntime.Object { return &corev1.ServiceAccount{} }, list: func() kruntime.Object { return &corev1.ServiceAccountList{} },
			hooks: hooks{validate: validateServiceAccount}, table: serviceAccountTable()},
	}
}

func leaseResource() resource {
	return resource{name: "leases", singular: "lease", namespaced: true,
		object: func() kruntime.Object { return &coordv1.Lease{} }, list: func() kruntime.Object { return &coordv1.LeaseList{} },
		hooks: hooks{validate: validateLease}, table: leaseTable()}
}

// store is a generic store with the short names that discovery wants to know.
type store struct {
	*registry.Store
	short []string
}

func (s store) ShortNames() []string { return s.short }

func (t *typed) newStore(group string, r resource, getter generic.RESTOptionsGetter) (rest.Storage, error) {
	strategy := newStrategy(t.scheme, r.namespaced, r.hooks)
	s := &registry.Store{
		NewFunc: r.object, NewListFunc: r.list,
		DefaultQualifiedResource:  schema.GroupResource{Group: group, Resource: r.name},
		SingularQualifiedResource: schema.GroupResource{Group: group, Resource: r.singular},
		CreateStrategy:            strategy, UpdateStrategy: strategy, DeleteStrategy: strategy,
		TableConvertor: r.table,
	}
	if r.life > 0 {
		s.TTLFunc = func(kruntime.Object, uint64, bool) (uint64, error) { return uint64(r.life.Seconds()), nil }
	}
	opts := &generic.StoreOptions{RESTOptions: getter}
	if r.fields != nil {
		attributes := func(o kruntime.Object) (labels.Set, fields.Set, error) {
			m, err := metaOf(o)
			if err != nil {
				return nil, nil, err
			}
			return m.GetLabels(), r.fields(o), nil
		}
		opts.AttrFunc = attributes
		s.PredicateFunc = func(l labels.Selector, f fields.Selector) storage.SelectionPredicate {
			return storage.SelectionPredicate{Label: l, Field: f, GetAttrs: attributes}
		}
	}
	if err := s.CompleteWithOptions(opts); err != nil {
		return nil, fmt.Errorf("store of %s: %w", r.name, err)
	}
	return store{s, r.short}, nil
}

// install adds the typed kinds to the server.
func (t *typed) install(s *genericapiserver.GenericAPIServer, etcd *options.EtcdOptions, sealed value.ResourceTransformers, cfg *Config, log *audit.Log, who access, tokens *accountTokens) error {
	getter := func(gv schema.GroupVersion) generic.RESTOptionsGetter {
		e := *etcd
		e.StorageConfig.Codec = t.codecs.LegacyCodec(gv)
		return e.CreateRESTOptionsGetter(&options.SimpleStorageFactory{StorageConfig: e.StorageConfig}, sealed)
	}
	core := genericapiserver.NewDefaultAPIGroupInfo("", t.scheme, t.params, t.codecs)
	stores := map[string]rest.Storage{}
	for _, r := range coreResources() {
		one, err := t.newStore("", r, getter(corev1.SchemeGroupVersion))
		if err != nil {
			return err
		}
		stores[r.name] = one
	}
	stores["serviceaccounts/token"] = tokenStorage{stores["serviceaccounts"].(rest.Getter), tokens}
	core.VersionedResourcesStorageMap["v1"] = stores
	if err := s.InstallLegacyAPIGroup(genericapiserver.DefaultLegacyAPIPrefix, &core); err != nil {
		return fmt.Errorf("core kinds: %w", err)
	}
	leases, err := t.newStore(coordv1.GroupName, leaseResource(), getter(coordv1.SchemeGroupVersion))
	if err != nil {
		return err
	}
	granting := map[string]rest.Storage{}
	for _, r := range rbacResources() {
		if granting[r.name], err = t.newStore(rbacv1.GroupName, r, getter(rbacv1.SchemeGroupVersion)); err != nil {
			return err
		}
	}
	for _, g := range []struct {
		group, version string
		storage        map[string]rest.Storage
	}{
		{coordv1.GroupName, "v1", map[string]rest.Storage{"leases": leases}},
		{"authorization.k8s.io", "v1", map[string]rest.Storage{
			"selfsubjectaccessreviews": accessReviews{who}, "selfsubjectrulesreviews": rulesReviews{who}, "subjectaccessreviews": subjectReviews{who}}},
		{rbacv1.GroupName, "v1", granting},
		{"authentication.k8s.io", "v1", map[string]rest.Storage{"selfsubjectreviews": selfReviews{}}},
		{runtime.GroupVersion.Group, runtime.GroupVersion.Version, live.Storage(cfg.Live, live.Doors{Logs: cfg.Logs, Access: cfg.Access, Balances: cfg.Balances, Audit: log, Authorizer: who})},
	} {
		info := genericapiserver.NewDefaultAPIGroupInfo(g.group, t.scheme, t.params, t.codecs)
		info.VersionedResourcesStorageMap[g.version] = g.storage
		if err := s.InstallAPIGroup(&info); err != nil {
			return fmt.Errorf("group %s: %w", g.group, err)
		}
	}
	return nil
}

func namespaceFields(n *corev1.Namespace) fields.Set {
	return fields.Set{"metadata.name": n.Name, "status.phase": string(n.Status.Phase)}
}

func secretFields(s *corev1.Secret) fields.Set {
	return fields.Set{"metadata.name": s.Name, "metadata.namespace": s.Namespace, "type": string(s.Type)}
}

func eventFields(e *corev1.Event) fields.Set {
	i := e.InvolvedObject
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	return fields.Set{
		"metadata.name": e.Name, "metadata.namespace": e.Namespace,
		"involvedObject.kind": i.Kind, "involvedObject.namespace": i.Namespace, "involvedObject.name": i.Name,
		"involvedObject.uid": string(i.UID), "involvedObject.apiVersion": i.APIVersion,
		"involvedObject.resourceVersion": i.ResourceVersion, "involvedObject.fieldPath": i.FieldPath,
		"reason": e.Reason, "reportingComponent": e.ReportingController, "source": source, "type": e.Type,
	}
}
