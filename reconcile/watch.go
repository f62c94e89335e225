package reconcile

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/app"
	"padis.io/padis/reconcile/balancer"
	"padis.io/padis/reconcile/cluster"
	"padis.io/padis/reconcile/config"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	ctrl "sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

const (
	// gather is how long changes of an App's instances are gathered before the App is looked at.
	gather = 20 * time.Millisecond
	// gatherUse is how long changes of addresses are gathered before the pools' counts are written.
	gatherUse = 250 * time.Millisecond
	// Failed requests are tried again after retryFirst, then twice as late each time, at most after retryLast.
	retryFirst, retryLast = 10 * time.Millisecond, 5 * time.Second
)

type queue = workqueue.TypedRateLimitingInterface[ctrl.Request]

func options(workers int) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: workers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](retryFirst, retryLast),
	}
}

// meant lets pass what somebody meant to change, and holds back our own statuses.
var meant = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		old, now := e.ObjectOld, e.ObjectNew
		return old.GetGeneration() != now.GetGeneration() || old.GetUID() != now.GetUID() ||
			old.GetDeletionTimestamp().IsZero() != now.GetDeletionTimestamp().IsZero() ||
			!reflect.DeepEqual(old.GetLabels(), now.GetLabels()) || !reflect.DeepEqual(old.GetFinalizers(), now.GetFinalizers())
	},
}

// watchCluster has all that is declared for the cluster judged together, by one reconciler with three requests.
func watchCluster(mgr manager.Manager, r *cluster.Reconciler, sched Scheduler) error {
	declared := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{cluster.Declared} })
	b := builder.ControllerManagedBy(mgr).Named("cluster").WithOptions(options(1))
	for _, o := range []client.Object{&v1alpha1.IPPool{}, &v1alpha1.Tenant{}, &v1alpha1.Registry{}, &v1alpha1.BGPPeer{}} {
		b = b.Watches(o, declared, builder.WithPredicates(meant))
	}
	b = b.Watches(&v1alpha1.Network{}, handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request {
		return []ctrl.Request{cluster.Declared, cluster.Used}
	}), builder.WithPredicates(meant))
	moving := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request {
		return []ctrl.Request{cluster.Declared, cluster.Progress}
	})
	for _, o := range []client.Object{&v1alpha1.ExecutorUpgrade{}, &v1alpha1.ImagePrepull{}} {
		b = b.Watches(o, moving, builder.WithPredicates(meant))
	}
	b = b.Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []ctrl.Request {
		return needed(ctx, mgr.GetCache(), o)
	}), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{}))
	return b.WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
		// What the ledger has may be older than what is declared, also when nothing is.
		q.Add(cluster.Declared)
		q.Add(cluster.Progress)
		q.Add(cluster.Used)
		sched.OnChange(ctx, func(string, string, string) { q.AddAfter(cluster.Used, gatherUse) })
		return nil
	})).Complete(r)
}

// needed asks for a new reading when an ImagePrepull, a Network or a BGPPeer refers to the Secret.
func needed(ctx context.Context, cache client.Reader, secret client.Object) []ctrl.Request {
	var prepulls v1alpha1.ImagePrepullList
	var networks v1alpha1.NetworkList
	var peers v1alpha1.BGPPeerList
	if err := errors.Join(cache.List(ctx, &prepulls, client.InNamespace(secret.GetNamespace()), client.UnsafeDisableDeepCopy),
		cache.List(ctx, &networks, client.UnsafeDisableDeepCopy), cache.List(ctx, &peers, client.UnsafeDisableDeepCopy)); err != nil {
		// Read again rather than not at all.
		return []ctrl.Request{cluster.Declared}
	}
	var refs []config.Ref
	for i := range prepulls.Items {
		refs = append(refs, config.PullRefs(&prepulls.Items[i])...)
	}
	for i := range networks.Items {
		refs = append(refs, config.NetworkRefs(&networks.Items[i])...)
	}
	for i := range peers.Items {
		refs = append(refs, config.PeerRefs(&peers.Items[i])...)
	}
	if slices.Contains(refs, config.Ref{Kind: config.Secret, Namespace: secret.GetNamespace(), Name: secret.GetName()}) {
		return []ctrl.Request{cluster.Declared}
	}
	return nil
}

// byRef is the index of Apps by the ConfigMaps and Secrets that they refer to.
const byRef = "config"

func refsOf(o client.Object) []string {
	var out []string
	for _, r := range config.Refs(o.(*v1alpha1.App)) {
		out = append(out, r.String())
	}
	return out
}

// users gives the Apps that refer to a ConfigMap or Secret.
func users(cache client.Reader, kind config.Kind, log *zap.Logger) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []ctrl.Request {
		var apps v1alpha1.AppList
		ref := config.Ref{Kind: kind, Name: o.GetName()}.String()
		if err := cache.List(ctx, &apps, client.InNamespace(o.GetNamespace()), client.MatchingFields{byRef: ref}, client.UnsafeDisableDeepCopy); err != nil {
			if ctx.Err() == nil {
				log.Error("list apps that refer to a changed object", zap.String("object", ref), zap.String("namespace", o.GetNamespace()),
					zap.Error(fmt.Errorf("they keep what they have until they change: %w", err)))
			}
			return nil
		}
		var out []ctrl.Request
		for i := range apps.Items {
			out = append(out, request(apps.Items[i].Namespace, apps.Items[i].Name))
		}
		return out
	})
}

// watchApps has Apps reconciled when they, their instances or what they depend on change.
func watchApps(ctx context.Context, mgr manager.Manager, r *app.Reconciler, sched Scheduler, d *cluster.Declarer, log *zap.Logger) error {
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.App{}, byRef, refsOf); err != nil {
		return err
	}
	changed := builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})
	return builder.ControllerManagedBy(mgr).Named("app").WithOptions(options(workers)).
		For(&v1alpha1.App{}, builder.WithPredicates(meant)).
		Watches(&corev1.ConfigMap{}, users(mgr.GetCache(), config.ConfigMap, log), changed).
		Watches(&corev1.Secret{}, users(mgr.GetCache(), config.Secret, log), changed).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			// The ledger may have Apps that were deleted while nobody watched. They come to light when their name is looked
			// up, which happens once all Apps are cached.
			for _, w := range sched.WantedApps() {
				q.Add(request(w.Namespace, w.Name))
			}
			sched.OnChange(ctx, func(namespace, name, _ string) { q.AddAfter(request(namespace, name), gather) })
			d.OnChange(func() { go all(ctx, mgr.GetCache(), q, log, &v1alpha1.AppList{}) })
			return nil
		})).Complete(r)
}

// watchBalancers has LoadBalancers reconciled when they, their directors, their real servers or what they depend on change.
func watchBalancers(mgr manager.Manager, r *balancer.Reconciler, sched Scheduler, d *cluster.Declarer, log *zap.Logger) error {
	return builder.ControllerManagedBy(mgr).Named("balancer").WithOptions(options(workers)).
		For(&v1alpha1.LoadBalancer{}, builder.WithPredicates(meant)).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			// The ledger may have LoadBalancers that were deleted while nobody watched.
			for _, req := range balancer.Orphans(sched) {
				q.Add(req)
			}
			sched.OnChange(ctx, func(_, _, uid string) {
				if req, ok := r.Concerned(uid); ok {
					q.AddAfter(req, gather)
				}
			})
			d.OnChange(func() { go all(ctx, mgr.GetCache(), q, log, &v1alpha1.LoadBalancerList{}) })
			return nil
		})).Complete(r)
}

func request(namespace, name string) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// all has every object of a kind looked at.
func all(ctx context.Context, cache client.Reader, q queue, log *zap.Logger, list client.ObjectList) {
	if err := cache.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		if ctx.Err() == nil {
			log.Error("list objects after a change of what is declared for the cluster", zap.Error(fmt.Errorf("they keep what they have until they change: %w", err)))
		}
		return
	}
	_ = meta.EachListItem(list, func(o runtime.Object) error {
		if m, err := meta.Accessor(o); err == nil {
			q.Add(request(m.GetNamespace(), m.GetName()))
		}
		return nil
	})
}
