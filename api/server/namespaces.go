package server

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

var namespaceResource = schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}

const (
	// retryFirst and retryMost bound the back-off of the controllers.
	retryFirst = 50 * time.Millisecond
	retryMost  = 10 * time.Second
)

// namespaceController empties deleted namespaces and then lets them go.
type namespaceController struct {
	objects    metadata.Interface
	namespaces corev1client.NamespaceInterface
	kinds      kindLister
	log        *zap.Logger
	informer   cache.SharedIndexInformer
	queue      workqueue.TypedRateLimitingInterface[string]
}

func newNamespaceController(objects metadata.Interface, namespaces corev1client.NamespaceInterface, kinds kindLister, log *zap.Logger) *namespaceController {
	return &namespaceController{
		objects: objects, namespaces: namespaces, kinds: kinds, log: log.Named("namespaces"),
		informer: metadatainformer.NewFilteredMetadataInformer(objects, namespaceResource, "", 0, cache.Indexers{}, nil).Informer(),
		queue:    newQueue[string](),
	}
}

func newQueue[T comparable]() workqueue.TypedRateLimitingInterface[T] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[T](retryFirst, retryMost))
}

func (c *namespaceController) run(ctx context.Context) {
	enqueue := func(o any) {
		if m, ok := o.(*metav1.PartialObjectMetadata); ok && m.DeletionTimestamp != nil {
			c.queue.Add(m.Name)
		}
	}
	if _, err := c.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: enqueue, UpdateFunc: func(_, o any) { enqueue(o) }}); err != nil {
		c.log.Error("namespaces cannot be watched", zap.Error(err))
		return
	}
	var running sync.WaitGroup
	running.Go(func() { c.informer.RunWithContext(ctx) })
	running.Go(func() {
		<-ctx.Done()
		c.queue.ShutDown()
	})
	work(c.queue, func(name string) error { return c.empty(ctx, name) }, func(name string, err error) {
		if ctx.Err() == nil {
			c.log.Debug("namespace is not empty yet", zap.String("namespace", name), zap.Error(err))
		}
	})
	running.Wait()
}

// work handles items until the queue is shut down, and those that fail again, later and later.
func work[T comparable](queue workqueue.TypedRateLimitingInterface[T], handle func(T) error, failed func(T, error)) {
	for {
		item, stop := queue.Get()
		if stop {
			return
		}
		if err := handle(item); err != nil {
			failed(item, err)
			queue.AddRateLimited(item)
		} else {
			queue.Forget(item)
		}
		queue.Done(item)
	}
}

// empty deletes what a terminating namespace holds, and the namespace when nothing is left. It fails while something is.
func (c *namespaceController) empty(ctx context.Context, name string) error {
	ns, err := c.namespaces.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if ns.DeletionTimestamp == nil || !slices.Contains(ns.Finalizers, namespaceContents) {
		return nil
	}
	if ns.Status.Phase != corev1.NamespaceTerminating {
		ns.Status.Phase = corev1.NamespaceTerminating
		if ns, err = c.namespaces.Update(ctx, ns, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	left, err := c.deleteContents(ctx, name)
	if err != nil {
		return err
	}
	if left != "" {
		return c.report(ctx, ns, left)
	}
	ns.Finalizers = slices.DeleteFunc(ns.Finalizers, func(f string) bool { return f == namespaceContents })
	_, err = c.namespaces.Update(ctx, ns, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// deleteContents says what is left, as a sentence.
func (c *namespaceController) deleteContents(ctx context.Context, namespace string) (left string, err error) {
	// A group that cannot be listed might hide objects, so that the namespace must wait.
	kinds, err := servedKinds(c.kinds)
	if err != nil {
		return "", err
	}
	background := metav1.DeletePropagationBackground
	for _, k := range kinds {
		if !k.namespaced || !k.can("list", "deletecollection") {
			continue
		}
		in := c.objects.Resource(k.resource).Namespace(namespace)
		if err := in.DeleteCollection(ctx, metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return "", fmt.Errorf("delete %s: %w", k.resource.Resource, err)
		}
		rest, err := in.List(ctx, metav1.ListOptions{Limit: 10})
		if err != nil {
			return "", fmt.Errorf("list %s: %w", k.resource.Resource, err)
		}
		if len(rest.Items) > 0 && left == "" {
			o := rest.Items[0]
			left = fmt.Sprintf("%s %s is still there", k.kind, o.Name)
			if len(o.Finalizers) > 0 {
				left += fmt.Sprintf(": it waits for %v", o.Finalizers)
			}
		}
	}
	return left, nil
}

// report writes what is left into the status, and returns it as an error so that the namespace is tried again.
func (c *namespaceController) report(ctx context.Context, ns *corev1.Namespace, left string) error {
	condition := corev1.NamespaceCondition{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, Reason: "SomeResourcesRemain",
		Message: left, LastTransitionTime: metav1.Now()}
	if len(ns.Status.Conditions) != 1 || ns.Status.Conditions[0].Message != left {
		ns.Status.Conditions = []corev1.NamespaceCondition{condition}
		if _, err := c.namespaces.Update(ctx, ns, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	return fmt.Errorf("namespace %s: %s", ns.Name, left)
}
