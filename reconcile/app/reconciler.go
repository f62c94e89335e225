// Package app reconciles Apps: what is declared, what was wanted until now and the instances go into package rollout, and
// what comes out goes to the scheduler, to the App's status and into events. Edge: talks to the API server.
package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"
	"padis.io/padis/reconcile/config"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/rollout"
	"padis.io/padis/reconcile/status"
	"padis.io/padis/reconcile/wanted"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Finalizer keeps a deleted App until its instances have ended and its addresses are given back.
const Finalizer = "padis.io/instances"

const (
	// writeEvery is the least time between two writes of one App's status: when 50 instances become ready within a
	// second, the status is written about ten times, the last time with the end result.
	writeEvery = 75 * time.Millisecond
	// again is when to try again after something else changed the App at the same time.
	again = 20 * time.Millisecond
	// lagging is when to look again while the cache is known to be behind.
	lagging = 100 * time.Millisecond
)

// scheduler is what is needed of the scheduler here.
type scheduler interface {
	// Want replaces what is wanted of one App and returns when that is durable and shows in Wanted and Instances.
	Want(ctx context.Context, app *padisv1.WantedApp) error
	// Forget ends an App: its instances are stopped, its addresses given back. It returns when that is durable; Instances
	// lists the instances until each has ended. Forgetting twice, or what was never wanted, is no error.
	Forget(ctx context.Context, uid string) error
	// Wanted is what is wanted of one App; nil if nothing is. It must not be changed. What was forgotten is marked so until
	// its last instance has ended.
	Wanted(uid string) *padisv1.WantedApp
	// WantedNamed lists all of it that has a name; what was forgotten is listed, and marked so, until its last instance has ended.
	WantedNamed(namespace, name string) []*padisv1.WantedApp
	// Instances lists the instances of one App. They must not be changed.
	Instances(uid string) []*runtime.Instance
}

// views says what is in force of the cluster-scoped kinds. The scheduler has it durably.
type views interface {
	// Since gives all that was declared before a version of whatever object.
	Since(ctx context.Context, version string) (*declared.View, error)
	Current(ctx context.Context) (*declared.View, error)
}

// recorder takes events; record.EventRecorder is one.
type recorder interface {
	Event(object apiruntime.Object, eventtype, reason, message string)
}

// Reconciler reconciles Apps.
type Reconciler struct {
	client client.Client
	// live reads the API itself, not a cache.
	live   client.Reader
	sched  scheduler
	views  views
	events recorder
	now    func() time.Time
	log    *zap.Logger
	status status.Keeper[v1alpha1.AppStatus]
	// contents are the ConfigMaps and Secrets that Apps refer to.
	contents contents

	mu      sync.Mutex
	worries map[types.UID]rollout.Worry
}

// New makes a Reconciler that reads and writes through c, whose reads may come from a cache, and reads through live, whose
// reads must not.
func New(c client.Client, live client.Reader, s scheduler, v views, r recorder, now func() time.Time, log *zap.Logger) *Reconciler {
	return &Reconciler{
		client: c, live: live, sched: s, views: v, events: r, now: now, log: log,
		contents: contents{cache: c, live: live}, worries: map[types.UID]rollout.Worry{},
	}
}

// Reconcile takes the next step of one App.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	a := &v1alpha1.App{}
	if err := r.client.Get(ctx, req.NamespacedName, a); apierrors.IsNotFound(err) {
		return r.orphans(ctx, req)
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("read app %s: %w", req, err)
	}
	if a.DeletionTimestamp != nil {
		return r.retire(ctx, a)
	}
	// The finalizer makes a newer version of it, but does not declare anything.
	version := a.ResourceVersion
	if controllerutil.ContainsFinalizer(a, Finalizer) {
		return r.advance(ctx, a, version)
	}
	if err := r.finalizer(ctx, a, controllerutil.AddFinalizer); err != nil {
		return quiet(err)
	}
	return r.advance(ctx, a, version)
}

// advance decides and carries out what comes next for an App that lives, which was declared before version.
func (r *Reconciler) advance(ctx context.Context, a *v1alpha1.App, version string) (reconcile.Result, error) {
	current := r.sched.Wanted(string(a.UID))
	if current.GetGeneration() > a.Generation {
		if behind, err := r.behind(ctx, a); err != nil || behind {
			return reconcile.Result{RequeueAfter: lagging}, err
		}
	}
	look := r.views.Current
	if current == nil {
		if wait, err := r.predecessors(ctx, a); err != nil || wait {
			return reconcile.Result{RequeueAfter: lagging}, err
		}
		look = func(ctx context.Context) (*declared.View, error) { return r.views.Since(ctx, version) }
	}
	view, err := look(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	objects, err := r.contents.of(ctx, a, current.GetGeneration() != a.Generation)
	if err != nil {
		return reconcile.Result{}, err
	}
	plan := r.decide(a, view, objects, current)
	if plan.Refused && current != nil && current.Generation != a.Generation {
		// What it needs may have been declared a moment before it.
		if view, err = r.views.Since(ctx, version); err != nil {
			return reconcile.Result{}, err
		}
		plan = r.decide(a, view, objects, current)
	}
	if plan.Wanted == nil || proto.Equal(plan.Wanted, current) {
		return r.show(ctx, a, plan)
	}
	if err := r.sched.Want(ctx, plan.Wanted); err != nil {
		return reconcile.Result{}, fmt.Errorf("hand app %s/%s to the scheduler: %w", a.Namespace, a.Name, err)
	}
	r.log.Info("wanted", zap.String("app", a.Namespace+"/"+a.Name), zap.Int64("generation", a.Generation), zap.Stringer("slots", plan.Slots()))
	r.tell(a, rollout.Done(current, plan))
	// The status is that of what the scheduler made of it. Should there be a next step already, it is taken after that.
	return r.show(ctx, a, r.decide(a, view, objects, r.sched.Wanted(string(a.UID))))
}

func (r *Reconciler) decide(a *v1alpha1.App, view *declared.View, objects config.Objects, current *padisv1.WantedApp) rollout.Plan {
	id, revision, refusal := wanted.App(a, view, objects, current)
	if refusal == nil && r.isDirectors(a) {
		p := v1alpha1.AppOfDirectors(a)
		refusal = &rollout.Refusal{Reason: p.Reason, Message: fmt.Sprintf("%s: %q %s", p.Field, p.Value, p.Message)}
	}
	plan := rollout.Decide(rollout.Snapshot{
		App: id, Newest: revision, Refusal: refusal, Current: current,
		Replicas: a.Spec.Wanted(), MaxUnavailable: a.Spec.Update.Unavailable(), Paused: a.Spec.Update.Paused,
		Instances: rollout.Observe(r.sched.Instances(string(a.UID))),
	})
	if plan.Wanted != nil && !proto.Equal(plan.Wanted, current) {
		plan.After = again
	}
	return plan
}

// isDirectors tells whether directors of a LoadBalancer have the name of an App, and so its instances' names.
func (r *Reconciler) isDirectors(a *v1alpha1.App) bool {
	if !strings.HasSuffix(a.Name, v1alpha1.DirectorsName("")) {
		return false
	}
	return slices.ContainsFunc(r.sched.WantedNamed(a.Namespace, a.Name), (*padisv1.WantedApp).GetDirectors)
}

// behind tells whether the cache has an older App than the one that is wanted already: after a restart, for example.
func (r *Reconciler) behind(ctx context.Context, a *v1alpha1.App) (bool, error) {
	var now v1alpha1.App
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(a), &now); err != nil {
		return true, client.IgnoreNotFound(err)
	}
	return now.Generation != a.Generation || now.UID != a.UID, nil
}

// predecessors ends Apps of the same name that were removed without their finalizer, and tells whether their instances,
// which have the names of the new ones, are still there.
func (r *Reconciler) predecessors(ctx context.Context, a *v1alpha1.App) (wait bool, err error) {
	for _, w := range r.sched.WantedNamed(a.Namespace, a.Name) {
		if w.Directors || w.Uid == string(a.UID) {
			continue
		}
		wait = true
		if err := r.forget(ctx, w); err != nil {
			return false, err
		}
	}
	return wait, nil
}

// orphans ends Apps that are wanted but no longer declared: deleted while nobody watched, or without their finalizer.
// That the cache has no such App is not enough to end what runs; the API itself has to say so.
func (r *Reconciler) orphans(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	for _, w := range r.sched.WantedNamed(req.Namespace, req.Name) {
		if w.Directors {
			continue
		}
		var now v1alpha1.App
		err := r.live.Get(ctx, req.NamespacedName, &now)
		if err != nil && !apierrors.IsNotFound(err) {
			return reconcile.Result{}, fmt.Errorf("read app %s: %w", req, err)
		}
		if err == nil && string(now.UID) == w.Uid {
			return reconcile.Result{RequeueAfter: lagging}, nil
		}
		if err := r.forget(ctx, w); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

func (r *Reconciler) forget(ctx context.Context, w *padisv1.WantedApp) error {
	if w.Forgotten {
		return nil
	}
	if err := r.sched.Forget(ctx, w.Uid); err != nil {
		return fmt.Errorf("end app %s/%s: %w", w.Namespace, w.Name, err)
	}
	r.log.Info("ended an app that is not declared any more", zap.String("app", w.Namespace+"/"+w.Name), zap.String("uid", w.Uid))
	return nil
}

// retire ends an App that is being deleted, and lets it go when nothing of it is left.
func (r *Reconciler) retire(ctx context.Context, a *v1alpha1.App) (reconcile.Result, error) {
	uid := string(a.UID)
	current := r.sched.Wanted(uid)
	if current != nil && !current.Forgotten {
		if err := r.sched.Forget(ctx, uid); err != nil {
			return reconcile.Result{}, fmt.Errorf("end app %s/%s: %w", a.Namespace, a.Name, err)
		}
	}
	instances := r.sched.Instances(uid)
	if !controllerutil.ContainsFinalizer(a, Finalizer) {
		// Somebody took it away; there is nothing to wait for.
		return reconcile.Result{}, nil
	}
	if len(instances) == 0 {
		if err := r.finalizer(ctx, a, controllerutil.RemoveFinalizer); err != nil {
			return quiet(client.IgnoreNotFound(err))
		}
		r.drop(a.UID)
		r.log.Info("app ended", zap.String("app", a.Namespace+"/"+a.Name))
		return reconcile.Result{}, nil
	}
	return r.show(ctx, a, rollout.Decide(rollout.Snapshot{
		App:     &padisv1.WantedApp{Uid: uid, Namespace: a.Namespace, Name: a.Name, Generation: a.Generation},
		Leaving: true, Current: current, Instances: rollout.Observe(instances),
	}))
}

// show brings the App's status up to date, now or a little later.
func (r *Reconciler) show(ctx context.Context, a *v1alpha1.App, plan rollout.Plan) (reconcile.Result, error) {
	now := r.now()
	shown := r.status.Shown(a, a.Status)
	next := plan.Status
	next.Conditions = status.Timed(shown.Conditions, next.Conditions, now)
	if !equality.Semantic.DeepEqual(shown, next) {
		if wait := r.status.Wait(a, now, writeEvery); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
		if err := r.status.Replace(ctx, r.client, a, next, now); err != nil {
			return reconcile.Result{}, err
		}
		r.tell(a, rollout.Transitions(shown, next))
	}
	after := plan.After
	if worry := r.worry(a, next, now); worry > 0 && (after == 0 || worry < after) {
		after = worry
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

// worry tells of instances that are not ready for some time, and gives the time after which to look again.
func (r *Reconciler) worry(a *v1alpha1.App, s v1alpha1.AppStatus, now time.Time) time.Duration {
	r.mu.Lock()
	next, event, after := r.worries[a.UID].Next(s, now)
	r.worries[a.UID] = next
	r.mu.Unlock()
	if event != nil {
		r.tell(a, []rollout.Event{*event})
	}
	return after
}

// drop forgets an App that is gone.
func (r *Reconciler) drop(uid types.UID) {
	r.status.Drop(uid)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.worries, uid)
}

func (r *Reconciler) tell(a *v1alpha1.App, events []rollout.Event) {
	for _, e := range events {
		kind := corev1.EventTypeNormal
		if e.Warning {
			kind = corev1.EventTypeWarning
		}
		r.events.Event(a, kind, e.Reason, e.Message)
	}
}

func (r *Reconciler) finalizer(ctx context.Context, a *v1alpha1.App, change func(client.Object, string) bool) error {
	base := a.DeepCopy()
	change(a, Finalizer)
	if err := r.client.Patch(ctx, a, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("finalizer of app %s/%s: %w", a.Namespace, a.Name, err)
	}
	return nil
}

// quiet tries again soon when the App changed under us: that is nobody's mistake.
func quiet(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	return reconcile.Result{}, err
}
