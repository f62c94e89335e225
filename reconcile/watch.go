package reconcile

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/app"
	"padis.io/padis/reconcile/cluster"

	"go.uber.org/zap"
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

// watchCluster has all cluster-scoped kinds judged together, by one reconciler with two requests.
func watchCluster(mgr manager.Manager, r *cluster.Reconciler, sched Scheduler) error {
	declared := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{cluster.Declared} })
	b := builder.ControllerManagedBy(mgr).Named("cluster").WithOptions(options(1))
	for _, o := range []client.Object{&v1alpha1.Network{}, &v1alpha1.IPPool{}, &v1alpha1.Tenant{}} {
		b = b.Watches(o, declared, builder.WithPredicates(meant))
	}
	return b.WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
		// What the ledger has may be older than what is declared, also when nothing is.
		q.Add(cluster.Declared)
		sched.OnChange(ctx, func(string, string, string) { q.AddAfter(cluster.Used, gatherUse) })
		return nil
	})).Complete(r)
}

// watchApps has Apps reconciled when they, their instances or what they depend on change.
func watchApps(mgr manager.Manager, r *app.Reconciler, sched Scheduler, d *cluster.Declarer, log *zap.Logger) error {
	return builder.ControllerManagedBy(mgr).Named("app").WithOptions(options(workers)).
		For(&v1alpha1.App{}, builder.WithPredicates(meant)).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			// The ledger may have Apps that were deleted while nobody watched. They come to light when their name is looked
			// up, which happens once all Apps are cached.
			for _, w := range sched.WantedApps() {
				q.Add(request(w.Namespace, w.Name))
			}
			sched.OnChange(ctx, func(namespace, name, _ string) { q.AddAfter(request(namespace, name), gather) })
			d.OnChange(func() { go all(ctx, mgr.GetCache(), q, log) })
			return nil
		})).Complete(r)
}

func request(namespace, name string) ctrl.Request {
	return ctrl.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}
}

// all has every App looked at.
func all(ctx context.Context, cache client.Reader, q queue, log *zap.Logger) {
	var apps v1alpha1.AppList
	if err := cache.List(ctx, &apps, client.UnsafeDisableDeepCopy); err != nil {
		if ctx.Err() == nil {
			log.Error("list apps after a change of networks, pools or tenants", zap.Error(fmt.Errorf("apps keep what they have until they change: %w", err)))
		}
		return
	}
	for i := range apps.Items {
		q.Add(request(apps.Items[i].Namespace, apps.Items[i].Name))
	}
}
