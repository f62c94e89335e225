package gitops

import (
	"context"
	"fmt"
	"sync"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// objects reads, watches and writes objects of any kind.
type objects struct {
	cfg    *rest.Config
	mapper meta.RESTMapper
	scheme *runtime.Scheme
	cache  cache.Cache
	// changed is told of each object of a Sync that has changed.
	changed func(sync string, id decide.ID)

	mu      sync.Mutex
	watched map[schema.GroupVersionKind]bool
	clients map[string]dynamic.Interface
}

// tellTo has f told of changes from now on.
func (o *objects) tellTo(f func(sync string, id decide.ID)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed = f
}

// tell says that a Sync has something to look at.
func (o *objects) tell(sync string, id decide.ID) {
	o.mu.Lock()
	changed := o.changed
	o.mu.Unlock()
	changed(sync, id)
}

// as gives a client with the rights of a user; with all rights for the empty one.
func (o *objects) as(user string) (dynamic.Interface, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c, ok := o.clients[user]; ok {
		return c, nil
	}
	cfg := rest.CopyConfig(o.cfg)
	cfg.Impersonate = rest.ImpersonationConfig{UserName: user}
	// It is in this very process, and writes are bounded by workers.
	cfg.QPS = -1
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	o.clients[user] = c
	return c, nil
}

func gvk(id decide.ID, apiVersion string) schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(apiVersion, id.Kind)
}

func (o *objects) resource(c dynamic.Interface, kind schema.GroupVersionKind, namespace string) (dynamic.ResourceInterface, error) {
	m, err := o.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("kind %s of %s is not served: correct apiVersion and kind: %w", kind.Kind, kind.GroupVersion(), err)
	}
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.Resource(m.Resource).Namespace(namespace), nil
	}
	return c.Resource(m.Resource), nil
}

// empty is what a cache fills for a kind: the type by which others watch it already, if there is one.
func (o *objects) empty(kind schema.GroupVersionKind) client.Object {
	if typed, err := o.scheme.New(kind); err == nil {
		if c, ok := typed.(client.Object); ok {
			return c
		}
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	return u
}

// watch has changes of a kind told. It returns when all objects of it are in the cache.
func (o *objects) watch(ctx context.Context, kind schema.GroupVersionKind) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watched[kind] {
		return nil
	}
	if _, err := o.mapper.RESTMapping(kind.GroupKind(), kind.Version); err != nil {
		return fmt.Errorf("kind %s of %s is not served: correct apiVersion and kind: %w", kind.Kind, kind.GroupVersion(), err)
	}
	informer, err := o.cache.GetInformer(ctx, o.empty(kind))
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind.Kind, err)
	}
	changed := o.changed
	tell := func(x any) {
		if gone, ok := x.(toolscache.DeletedFinalStateUnknown); ok {
			x = gone.Obj
		}
		m, ok := x.(client.Object)
		if !ok {
			return
		}
		if name := m.GetAnnotations()[v1alpha1.AnnotationSync]; name != "" {
			changed(name, decide.ID{Group: kind.Group, Kind: kind.Kind, Namespace: m.GetNamespace(), Name: m.GetName()})
		}
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: tell, DeleteFunc: tell,
		UpdateFunc: func(old, now any) {
			tell(now)
			if a, b := old.(client.Object), now.(client.Object); a.GetAnnotations()[v1alpha1.AnnotationSync] != b.GetAnnotations()[v1alpha1.AnnotationSync] {
				tell(old)
			}
		},
	}); err != nil {
		return fmt.Errorf("watch %s: %w", kind.Kind, err)
	}
	o.watched[kind] = true
	return nil
}

// cached is an object as the cache has it, without managed fields; nil if it has none.
func (o *objects) cached(ctx context.Context, kind schema.GroupVersionKind, id decide.ID) (*unstructured.Unstructured, error) {
	into := o.empty(kind)
	err := o.cache.Get(ctx, types.NamespacedName{Namespace: id.Namespace, Name: id.Name}, into)
	if apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	if u, ok := into.(*unstructured.Unstructured); ok {
		return u, nil
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(into)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	u := &unstructured.Unstructured{Object: m}
	u.SetGroupVersionKind(kind)
	return u, nil
}

// live is an object as the API server has it, with managed fields; nil if there is none.
func (o *objects) live(ctx context.Context, kind schema.GroupVersionKind, id decide.ID) (*unstructured.Unstructured, error) {
	all, err := o.as("")
	if err != nil {
		return nil, err
	}
	resource, err := o.resource(all, kind, id.Namespace)
	if err != nil {
		return nil, err
	}
	return get(ctx, resource, id)
}

// get reads an object; nil if there is none.
func get(ctx context.Context, resource dynamic.ResourceInterface, id decide.ID) (*unstructured.Unstructured, error) {
	u, err := resource.Get(ctx, id.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", id, err)
	}
	return u, nil
}

// pageSize is how many objects are listed at a time.
const pageSize = 500

// list reads all objects of a kind and namespace, a page at a time.
func list(ctx context.Context, resource dynamic.ResourceInterface, page func([]unstructured.Unstructured)) error {
	for next := ""; ; {
		l, err := resource.List(ctx, metav1.ListOptions{Limit: pageSize, Continue: next})
		if err != nil {
			return err
		}
		page(l.Items)
		if next = l.GetContinue(); next == "" {
			return nil
		}
	}
}

// write is one object that is applied.
type write struct {
	decide.Rendered
	// body is what is sent: the object, or it with the values of others.
	body   []byte
	force  bool
	create bool
	// takeOver: what padis rollback has set is the Sync's from now on.
	takeOver bool
	// drift is what others have changed and keep.
	drift []decide.FieldChange
}

// apply writes an object, or only tries to.
func (o *objects) apply(ctx context.Context, c dynamic.Interface, w write, dry bool) (*unstructured.Unstructured, error) {
	resource, err := o.resource(c, w.Kind(), w.ID.Namespace)
	if err != nil {
		return nil, err
	}
	options := metav1.PatchOptions{FieldManager: decide.Manager, Force: &w.force}
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	} else if w.takeOver {
		if err := o.takeOver(ctx, c, w); err != nil {
			return nil, err
		}
	}
	return resource.Patch(ctx, w.ID.Name, types.ApplyPatchType, w.body, options)
}

// remove deletes an object unless it is another, or another Sync's, by now.
func (o *objects) remove(ctx context.Context, c dynamic.Interface, kind schema.GroupVersionKind, live *unstructured.Unstructured) error {
	resource, err := o.resource(c, kind, live.GetNamespace())
	if err != nil {
		return err
	}
	uid, owner, background := live.GetUID(), decide.Owner(live), metav1.DeletePropagationBackground
	for {
		version := live.GetResourceVersion()
		err := resource.Delete(ctx, live.GetName(), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}, PropagationPolicy: &background})
		if !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
		// It has changed since it was looked at: its status, mostly.
		if live, err = get(ctx, resource, decide.IDOf(live)); err != nil {
			return err
		}
		if live == nil || live.GetUID() != uid || decide.Owner(live) != owner {
			return nil
		}
	}
}
