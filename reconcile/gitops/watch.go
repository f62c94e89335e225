package gitops

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/notify/post"
	"padis.io/padis/reconcile/gitops/source"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	ctrlsource "sigs.k8s.io/controller-runtime/pkg/source"
)

const (
	// workers is how many GitSources, and how many Syncs, are reconciled at the same time.
	workers = 4
	// gather is how long changes of a Sync's objects are gathered before it is looked at.
	gather = 50 * time.Millisecond
	// After a look, it rests that many times as long as that took, but not longer than longestRest.
	rests, longestRest = 8, time.Second
	// Failed requests are tried again after retryFirst, then twice as late each time, at most after retryLast.
	retryFirst, retryLast = 20 * time.Millisecond, 5 * time.Second
)

// Config is what reconciling from git needs beside a manager.
type Config struct {
	// Dir keeps what was fetched, over restarts.
	Dir string
	// FileRoots are the directories of this host whose repositories may be named by file://; without any, none.
	FileRoots []string
	// Writer is for writing objects, and may impersonate service accounts.
	Writer *rest.Config
	// Charts renders Helm charts. Without it, they are refused.
	Charts Charts
	// Dial connects to git servers; without it, this host does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// DialReceivers connects to receivers of notifications, and judges whither none goes; without it, this host does, and to none
	// of its own addresses.
	DialReceivers func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the clock of change windows, time-outs and back-off; without it, that of this host.
	Now func() time.Time
}

// Add has GitSources and Syncs reconciled by a manager.
func Add(mgr manager.Manager, cfg Config, events recorder, log *zap.Logger) error {
	// More of them than it holds are fetched when it is their time.
	damaged := make(chan event.GenericEvent, 64)
	cache, err := source.Open(cfg.Dir, source.Options{FileRoots: cfg.FileRoots, Dial: cfg.Dial, Damaged: func(name string) {
		s := &v1alpha1.GitSource{}
		s.Namespace, s.Name, _ = strings.Cut(name, "/")
		select {
		case damaged <- event.GenericEvent{Object: s}:
		default:
		}
	}})
	if err != nil {
		return err
	}
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	dial := cfg.DialReceivers
	if dial == nil {
		dial = post.Dialer(false).DialContext
	}
	revisions := &Revisions{}
	sources := NewSources(mgr.GetClient(), mgr.GetAPIReader(), Cached{cache}, revisions, events, now, log.Named("source"))
	syncs := &Syncs{
		client: mgr.GetClient(), live: mgr.GetAPIReader(), repos: Cached{cache}, revisions: revisions, events: events, now: now, log: log.Named("sync"), charts: cfg.Charts,
		sessions: map[string]*session{},
		objects: &objects{cfg: cfg.Writer, mapper: mgr.GetRESTMapper(), scheme: mgr.GetScheme(), cache: mgr.GetCache(),
			watched: map[schema.GroupVersionKind]bool{}, clients: map[string]dynamic.Interface{}},
	}
	syncs.teller = newTeller(mgr.GetAPIReader(), post.New(dial), events, time.Now, log.Named("notify"))
	if err := mgr.Add(manager.RunnableFunc(syncs.teller.run)); err != nil {
		return err
	}
	if err := watchSources(mgr, sources, damaged); err != nil {
		return fmt.Errorf("watch gitsources: %w", err)
	}
	if err := watchSyncs(mgr, syncs); err != nil {
		return fmt.Errorf("watch syncs: %w", err)
	}
	return mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		var all v1alpha1.GitSourceList
		if err := mgr.GetClient().List(ctx, &all); err != nil {
			return nil //nolint:nilerr // it is tried at the next start
		}
		var names []string
		for _, s := range all.Items {
			names = append(names, s.Namespace+"/"+s.Name)
		}
		if err := cache.Retain(names); err != nil {
			log.Warn("what was fetched for sources that are gone stays", zap.Error(err))
		}
		return nil
	}))
}

func options() controller.Options {
	return controller.Options{MaxConcurrentReconciles: workers,
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](retryFirst, retryLast)}
}

// meant lets pass what somebody meant to change, and holds back our own statuses.
var meant = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	old, now := e.ObjectOld, e.ObjectNew
	return old.GetGeneration() != now.GetGeneration() || old.GetUID() != now.GetUID() || !equality.Semantic.DeepEqual(old.GetAnnotations(), now.GetAnnotations())
}}

func watchSources(mgr manager.Manager, r *Sources, damaged <-chan event.GenericEvent) error {
	changed := builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})
	users := func(secret bool) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var all v1alpha1.GitSourceList
			if mgr.GetCache().List(ctx, &all, client.InNamespace(o.GetNamespace()), client.UnsafeDisableDeepCopy) != nil {
				// It is read again at the next fetch.
				return nil
			}
			var out []reconcile.Request
			for i := range all.Items {
				if needs(&all.Items[i], secret, o.GetName()) {
					out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
				}
			}
			return out
		})
	}
	return builder.ControllerManagedBy(mgr).Named("gitsource").WithOptions(options()).
		For(&v1alpha1.GitSource{}, builder.WithPredicates(meant)).
		WatchesRawSource(ctrlsource.Channel(damaged, &handler.EnqueueRequestForObject{})).
		Watches(&corev1.Secret{}, users(true), changed).Watches(&corev1.ConfigMap{}, users(false), changed).Complete(r)
}

// needs tells whether a source has credentials or keys from a Secret or ConfigMap of its namespace.
func needs(s *v1alpha1.GitSource, secret bool, name string) bool {
	if r := s.Spec.SecretRef; secret && r != nil && r.Name == name {
		return true
	}
	if p := s.Spec.Proxy; secret && p != nil && p.SecretRef != nil && p.SecretRef.Name == name {
		return true
	}
	if s.Spec.Verify == nil {
		return false
	}
	for _, signer := range s.Spec.Verify.Signers {
		ref := signer.ConfigMapKeyRef
		if secret {
			ref = signer.SecretKeyRef
		}
		if ref != nil && ref.Name == name {
			return true
		}
	}
	return false
}

func watchSyncs(mgr manager.Manager, r *Syncs) error {
	// those gives the Syncs that a change concerns.
	those := func(concerned func(y *v1alpha1.Sync, o client.Object) bool) handler.EventHandler {
		return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, o client.Object) []reconcile.Request {
			var all v1alpha1.SyncList
			if err := mgr.GetCache().List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
				if ctx.Err() == nil {
					r.log.Error("list syncs that a change concerns", zap.Error(err))
				}
				return nil
			}
			var out []reconcile.Request
			for i := range all.Items {
				if concerned(&all.Items[i], o) {
					out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
				}
			}
			return out
		})
	}
	key := func(o client.Object) string { return o.GetNamespace() + "/" + o.GetName() }
	changed := builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})
	return builder.ControllerManagedBy(mgr).Named("sync").WithOptions(options()).
		For(&v1alpha1.Sync{}, builder.WithPredicates(meant)).
		Watches(&v1alpha1.GitSource{}, those(func(y *v1alpha1.Sync, o client.Object) bool { return y.Spec.SourceRef.In(y.Namespace) == key(o) }), changed).
		Watches(&v1alpha1.Sync{}, those(func(y *v1alpha1.Sync, o client.Object) bool {
			for _, d := range y.Spec.DependsOn {
				if d.In(y.Namespace) == key(o) {
					return true
				}
			}
			return false
		}), changed).
		Watches(&corev1.ConfigMap{}, those(func(y *v1alpha1.Sync, o client.Object) bool {
			return y.Namespace == o.GetNamespace() && refers(y, false, o.GetName())
		}), changed).
		Watches(&corev1.ServiceAccount{}, those(func(y *v1alpha1.Sync, o client.Object) bool {
			return y.Namespace == o.GetNamespace() && y.Spec.ServiceAccount == o.GetName()
		}), changed).
		Watches(&corev1.Secret{}, those(func(y *v1alpha1.Sync, o client.Object) bool {
			return y.Namespace == o.GetNamespace() && refers(y, true, o.GetName())
		}), changed).
		WatchesRawSource(ctrlsource.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.objects.tellTo(func(sync string, id decide.ID) {
				namespace, name, _ := strings.Cut(sync, "/")
				if after, known := r.mark(sync, id); known {
					q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}}, after)
				}
			})
			return nil
		})).
		WatchesRawSource(ctrlsource.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
			r.teller.tellTo(func(name types.NamespacedName) { q.Add(reconcile.Request{NamespacedName: name}) })
			return nil
		})).Complete(r)
}
