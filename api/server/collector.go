package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// retryKinds is the delay after which kinds are listed again: those that could not be listed, and those of a definition
// that has changed, because discovery tells of them a moment after the definition does.
const retryKinds = time.Second

// collector deletes objects whose owners are gone, and carries out foreground and orphaning deletions. It watches the
// metadata of all kinds that can be deleted.
type collector struct {
	objects metadata.Interface
	kinds   kindLister
	log     *zap.Logger
	queue   workqueue.TypedRateLimitingInterface[types.UID]

	mu    sync.Mutex
	graph *ownership
	// mapping finds the resource of an owner.
	mapping map[schema.GroupKind]servedKind
	// watches are the kinds that are followed now.
	watches map[schema.GroupVersionResource]*kindWatch
}

type kindWatch struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
}

func newCollector(objects metadata.Interface, kinds kindLister, log *zap.Logger) *collector {
	return &collector{
		objects: objects, kinds: kinds, log: log.Named("collector"), queue: newQueue[types.UID](),
		graph: newOwnership(), mapping: map[schema.GroupKind]servedKind{}, watches: map[schema.GroupVersionResource]*kindWatch{},
	}
}

func (c *collector) run(ctx context.Context, changed <-chan struct{}) {
	var running sync.WaitGroup
	running.Go(func() {
		<-ctx.Done()
		c.queue.ShutDown()
	})
	defer running.Wait()
	running.Go(func() { c.followKinds(ctx, changed, &running) })
	work(c.queue, func(uid types.UID) error { return c.settle(ctx, uid) }, func(uid types.UID, err error) {
		if ctx.Err() == nil {
			c.log.Debug("object cannot be collected yet", zap.String("uid", string(uid)), zap.Error(err))
		}
	})
}

// followKinds keeps one watch per kind.
func (c *collector) followKinds(ctx context.Context, changed <-chan struct{}, running *sync.WaitGroup) {
	late := true
	for {
		var again <-chan time.Time
		if err := c.syncKinds(ctx, running); err != nil {
			c.log.Debug("kinds cannot be listed yet", zap.Error(err))
			late = true
		}
		if late {
			again = time.After(retryKinds)
		}
		select {
		case <-changed:
			late = true
		case <-again:
			late = false
		case <-ctx.Done():
			return
		}
	}
}

func (c *collector) syncKinds(ctx context.Context, running *sync.WaitGroup) error {
	served, err := servedKinds(c.kinds)
	if len(served) == 0 {
		return errors.Join(err, errors.New("no kinds"))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[schema.GroupVersionResource]bool{}
	for _, k := range served {
		c.mapping[schema.GroupKind{Group: k.resource.Group, Kind: k.kind}] = k
		// Events come and go by themselves, and in great numbers.
		if !k.can("list", "watch", "delete", "patch") || k.resource.Resource == "events" {
			continue
		}
		wanted[k.resource] = true
		if c.watches[k.resource] != nil {
			continue
		}
		w, err := c.newWatch(k.resource)
		if err != nil {
			return err
		}
		var watching context.Context
		watching, w.stop = context.WithCancel(ctx)
		c.watches[k.resource] = w
		running.Go(func() { w.informer.RunWithContext(watching) })
	}
	if err != nil {
		return err // a kind that is missing now may only be unavailable
	}
	for r, w := range c.watches {
		if !wanted[r] {
			w.stop()
			delete(c.watches, r)
			c.forget(r)
		}
	}
	return nil
}

func (c *collector) newWatch(resource schema.GroupVersionResource) (*kindWatch, error) {
	informer := metadatainformer.NewFilteredMetadataInformer(c.objects, resource, "", 0, cache.Indexers{}, nil).Informer()
	// Only who owns whom matters; the rest need not stay in memory.
	if err := informer.SetTransform(func(o any) (any, error) {
		if m, ok := o.(*metav1.PartialObjectMetadata); ok {
			m.ManagedFields, m.Annotations, m.Labels = nil, nil, nil
		}
		return o, nil
	}); err != nil {
		return nil, err
	}
	observe := func(o any) {
		if m, ok := o.(*metav1.PartialObjectMetadata); ok {
			c.take(func() []types.UID { return c.graph.observe(ownedOf(resource, m)) })
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, o any) { observe(o) },
		DeleteFunc: func(o any) {
			if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = last.Obj
			}
			if m, ok := o.(*metav1.PartialObjectMetadata); ok {
				c.take(func() []types.UID { return c.graph.remove(m.UID) })
			}
		},
	})
	return &kindWatch{informer: informer}, err
}

func (c *collector) take(change func() []types.UID) {
	c.mu.Lock()
	affected := change()
	c.mu.Unlock()
	for _, uid := range affected {
		c.queue.Add(uid)
	}
}

// forget removes the objects of a kind that is no longer served. The caller holds mu.
func (c *collector) forget(resource schema.GroupVersionResource) {
	for uid, o := range c.graph.objects {
		if o.resource == resource {
			for _, affected := range c.graph.remove(uid) {
				c.queue.Add(affected)
			}
		}
	}
}

// settle carries out what is decided about one object.
func (c *collector) settle(ctx context.Context, uid types.UID) error {
	c.mu.Lock()
	absent := c.graph.absent(uid)
	var namespace string
	if o := c.graph.objects[uid]; o != nil {
		namespace = o.namespace
	}
	for r, w := range c.watches {
		if !w.informer.HasSynced() {
			c.mu.Unlock()
			return fmt.Errorf("%s are still being listed", r.Resource)
		}
	}
	c.mu.Unlock()

	exists := map[types.UID]bool{}
	for _, r := range absent {
		found, err := c.ownerExists(ctx, namespace, r)
		if err != nil {
			return err
		}
		exists[r.UID] = found
	}
	c.mu.Lock()
	actions := c.graph.decide(uid, exists)
	c.mu.Unlock()
	for _, a := range actions {
		if err := c.do(ctx, a); err != nil {
			return fmt.Errorf("%s %s/%s: %w", a.target.resource.Resource, a.target.namespace, a.target.name, err)
		}
	}
	return nil
}

// ownerExists asks the API. An owner of a kind that is not served counts as existing: it is not ours to judge.
func (c *collector) ownerExists(ctx context.Context, namespace string, r metav1.OwnerReference) (bool, error) {
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	if err != nil {
		return true, nil
	}
	c.mu.Lock()
	k, served := c.mapping[schema.GroupKind{Group: gv.Group, Kind: r.Kind}]
	c.mu.Unlock()
	if !served {
		return true, nil
	}
	if !k.namespaced {
		namespace = ""
	}
	owner, err := c.in(k.resource, namespace).Get(ctx, r.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("owner %s %s: %w", r.Kind, r.Name, err)
	}
	return owner.UID == r.UID, nil
}

func (c *collector) in(r schema.GroupVersionResource, namespace string) metadata.ResourceInterface {
	if namespace == "" {
		return c.objects.Resource(r)
	}
	return c.objects.Resource(r).Namespace(namespace)
}

func (c *collector) do(ctx context.Context, a action) error {
	in := c.in(a.target.resource, a.target.namespace)
	if a.kind == deleteObject {
		err := in.Delete(ctx, a.target.name, metav1.DeleteOptions{PropagationPolicy: &a.policy, Preconditions: &metav1.Preconditions{UID: &a.target.uid}})
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return nil // gone, or another object of the same name
		}
		return err
	}
	now, err := in.Get(ctx, a.target.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && now.UID != a.target.uid {
		return nil
	}
	if err != nil {
		return err
	}
	change := map[string]any{"uid": now.UID, "resourceVersion": now.ResourceVersion}
	if a.kind == dropOwners {
		change["ownerReferences"] = slices.DeleteFunc(slices.Clone(now.OwnerReferences), func(r metav1.OwnerReference) bool { return slices.Contains(a.owners, r.UID) })
	} else {
		if !slices.Contains(now.Finalizers, a.finalizer) {
			return nil
		}
		change["finalizers"] = slices.DeleteFunc(slices.Clone(now.Finalizers), func(f string) bool { return f == a.finalizer })
	}
	patch, err := json.Marshal(map[string]any{"metadata": change})
	if err != nil {
		return err
	}
	_, err = in.Patch(ctx, a.target.name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
