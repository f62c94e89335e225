// Package balancer reconciles LoadBalancers: their VIPs, listeners and backends go to the scheduler, their directors, too, as
// the instances of an App that nobody declared, and what comes back goes to the status and into events. Edge: talks to the
// API server.
package balancer

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
	"padis.io/padis/reconcile/balanced"
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

// Finalizer keeps a deleted LoadBalancer until its directors have ended.
const Finalizer = "padis.io/directors"

const (
	// writeEvery is the least time between two writes of one LoadBalancer's status.
	writeEvery = 75 * time.Millisecond
	// again is when to try again after something else changed the LoadBalancer at the same time.
	again = 20 * time.Millisecond
	// lagging is when to look again while the cache is known to be behind, or others have to end first.
	lagging = 100 * time.Millisecond
	// retry is when a refused LoadBalancer is looked at again: who had its VIP, or its name, may be gone.
	retry = 5 * time.Second
)

// scheduler is what is needed of the scheduler here.
type scheduler interface {
	// WantBalancer replaces what is wanted of one LoadBalancer and returns when that is durable and shows in Balancer.
	WantBalancer(ctx context.Context, b *padisv1.WantedBalancer) error
	// ForgetBalancer ends a LoadBalancer: its VIPs are given back once nobody has them any more. Forgetting twice, or what
	// was never wanted, is no error.
	ForgetBalancer(ctx context.Context, uid string) error
	// Balancer is what is wanted of one LoadBalancer; nil if nothing is. It must not be changed.
	Balancer(uid string) *padisv1.WantedBalancer
	// Balancers lists all of it; what was forgotten is listed, and marked so, until it has ended.
	Balancers() []*padisv1.WantedBalancer
	// Balance says how it stands with a LoadBalancer; nil before anything was decided.
	Balance(uid string) *runtime.Balance

	// The same of the directors, which are the App of the same uid.
	Want(ctx context.Context, app *padisv1.WantedApp) error
	Forget(ctx context.Context, uid string) error
	Wanted(uid string) *padisv1.WantedApp
	WantedApps() []*padisv1.WantedApp
	WantedNamed(namespace, name string) []*padisv1.WantedApp
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

// Reconciler reconciles LoadBalancers.
type Reconciler struct {
	client client.Client
	// live reads the API itself, not a cache.
	live   client.Reader
	sched  scheduler
	views  views
	events recorder
	// seed gives random numbers.
	seed   func() uint64
	now    func() time.Time
	log    *zap.Logger
	status status.Keeper[v1alpha1.LoadBalancerStatus]

	mu sync.Mutex
	// known are the LoadBalancers that were reconciled, by uid.
	known map[string]types.NamespacedName
}

// New makes a Reconciler that reads and writes through c, whose reads may come from a cache, and reads through live, whose
// reads must not.
func New(c client.Client, live client.Reader, s scheduler, v views, r recorder, seed func() uint64, now func() time.Time, log *zap.Logger) *Reconciler {
	return &Reconciler{client: c, live: live, sched: s, views: v, events: r, seed: seed, now: now, log: log, known: map[string]types.NamespacedName{}}
}

// Concerned gives the LoadBalancer that a change of an App, its instances or a LoadBalancer of that uid concerns. It asks
// nobody, and returns at once.
func (r *Reconciler) Concerned(uid string) (reconcile.Request, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, ok := r.known[uid]
	return reconcile.Request{NamespacedName: name}, ok
}

func (r *Reconciler) know(b *v1alpha1.LoadBalancer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[string(b.UID)] = client.ObjectKeyFromObject(b)
}

// drop forgets a LoadBalancer that is gone.
func (r *Reconciler) drop(uid types.UID) {
	r.status.Drop(uid)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, string(uid))
}

// Reconcile takes the next step of one LoadBalancer.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	b := &v1alpha1.LoadBalancer{}
	if err := r.client.Get(ctx, req.NamespacedName, b); apierrors.IsNotFound(err) {
		return r.orphans(ctx, req)
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("read loadbalancer %s: %w", req, err)
	}
	r.know(b)
	if b.DeletionTimestamp != nil {
		return r.retire(ctx, b)
	}
	// The finalizer makes a newer version of it, but does not declare anything.
	version := b.ResourceVersion
	if !controllerutil.ContainsFinalizer(b, Finalizer) {
		if err := r.finalizer(ctx, b, controllerutil.AddFinalizer); err != nil {
			return quiet(err)
		}
	}
	return r.advance(ctx, b, version)
}

// plan is what comes next for a LoadBalancer.
type plan struct {
	// balancer is what shall be wanted; what is wanted already if the declaration was refused, and nil if nothing is.
	balancer  *padisv1.WantedBalancer
	directors rollout.Plan
	refusal   *rollout.Refusal
	view      *declared.View
}

// advance decides and carries out what comes next for a LoadBalancer that lives, which was declared before version.
func (r *Reconciler) advance(ctx context.Context, b *v1alpha1.LoadBalancer, version string) (reconcile.Result, error) {
	uid := string(b.UID)
	current := r.sched.Balancer(uid)
	if max(current.GetGeneration(), r.sched.Wanted(uid).GetGeneration()) > b.Generation {
		if behind, err := r.behind(ctx, b); err != nil || behind {
			return reconcile.Result{RequeueAfter: lagging}, err
		}
	}
	look := r.views.Current
	if current == nil {
		if wait, err := r.predecessors(ctx, b.Namespace, b.Name, uid); err != nil || wait {
			return reconcile.Result{RequeueAfter: lagging}, err
		}
		look = func(ctx context.Context) (*declared.View, error) { return r.views.Since(ctx, version) }
	}
	view, err := look(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	p, err := r.decide(ctx, b, view)
	if err != nil {
		return reconcile.Result{}, err
	}
	if p.refusal != nil && current != nil && current.Generation != b.Generation {
		// What it needs may have been declared a moment before it.
		if view, err = r.views.Since(ctx, version); err == nil {
			p, err = r.decide(ctx, b, view)
		}
		if err != nil {
			return reconcile.Result{}, err
		}
	}
	// VIPs and real servers first: directors that start have something to do at once.
	if p.balancer != nil && !proto.Equal(p.balancer, current) {
		if err := r.sched.WantBalancer(ctx, p.balancer); err != nil {
			return reconcile.Result{}, fmt.Errorf("hand loadbalancer %s/%s to the scheduler: %w", b.Namespace, b.Name, err)
		}
		r.log.Info("wanted", zap.String("loadbalancer", b.Namespace+"/"+b.Name), zap.Int64("generation", b.Generation), zap.Int("vips", len(p.balancer.Vips)))
	}
	if d := p.directors.Wanted; d != nil && !proto.Equal(d, r.sched.Wanted(uid)) {
		before := r.sched.Wanted(uid)
		if err := r.sched.Want(ctx, d); err != nil {
			return reconcile.Result{}, fmt.Errorf("hand the directors of loadbalancer %s/%s to the scheduler: %w", b.Namespace, b.Name, err)
		}
		r.log.Info("directors wanted", zap.String("loadbalancer", b.Namespace+"/"+b.Name), zap.Stringer("slots", p.directors.Slots()))
		r.tell(b, ofDirectors(rollout.Done(before, p.directors)))
		// The status is that of what the scheduler made of it.
		if p, err = r.decide(ctx, b, view); err != nil {
			return reconcile.Result{}, err
		}
	}
	return r.show(ctx, b, p)
}

// ofDirectors says of whom events of rollout speak.
func ofDirectors(events []rollout.Event) []rollout.Event {
	for i := range events {
		events[i].Message = "directors: " + events[i].Message
	}
	return events
}

func (r *Reconciler) decide(ctx context.Context, b *v1alpha1.LoadBalancer, view *declared.View) (plan, error) {
	uid := string(b.UID)
	current, running := r.sched.Balancer(uid), r.sched.Wanted(uid)
	var all v1alpha1.LoadBalancerList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return plan{}, fmt.Errorf("list loadbalancers: %w", err)
	}
	p := plan{view: view}
	in := balanced.Input{Balancer: b, View: view, Others: all.Items, Current: current, NameTaken: r.nameTaken(b)}
	if current == nil {
		in.Seed = r.seed()
	}
	p.balancer, p.refusal = balanced.Wanted(in)
	id, revision, refusal := wanted.Directors(b, view, running)
	if p.refusal == nil {
		p.refusal = refusal
	}
	if p.refusal != nil {
		p.balancer = current
	}
	d := &b.Spec.Directors
	p.directors = rollout.Decide(rollout.Snapshot{
		App: id, Newest: revision, Refusal: p.refusal, Current: running,
		Replicas: d.Wanted(), MaxUnavailable: d.Update.Unavailable(), Paused: d.Update.Paused,
		Instances: rollout.Observe(r.sched.Instances(uid)),
	})
	if w := p.directors.Wanted; w != nil && !proto.Equal(w, running) {
		p.directors.After = again
	}
	return p, nil
}

// nameTaken tells whether an App has the name that the directors need.
func (r *Reconciler) nameTaken(b *v1alpha1.LoadBalancer) bool {
	name := v1alpha1.DirectorsName(b.Name)
	for _, w := range r.sched.WantedNamed(b.Namespace, name) {
		if !w.Directors {
			return true
		}
	}
	return false
}

// behind tells whether the cache has an older LoadBalancer than the one that is wanted already: after a restart, for example.
func (r *Reconciler) behind(ctx context.Context, b *v1alpha1.LoadBalancer) (bool, error) {
	var now v1alpha1.LoadBalancer
	if err := r.live.Get(ctx, client.ObjectKeyFromObject(b), &now); err != nil {
		return true, client.IgnoreNotFound(err)
	}
	return now.Generation != b.Generation || now.UID != b.UID, nil
}

// predecessors ends LoadBalancers of a name, but that of uid, which were removed without their finalizer, and tells whether their
// directors, which have the names of the new ones, are still there.
func (r *Reconciler) predecessors(ctx context.Context, namespace, name, uid string) (wait bool, err error) {
	for _, w := range r.sched.WantedNamed(namespace, v1alpha1.DirectorsName(name)) {
		if !w.Directors || w.Uid == uid {
			continue
		}
		wait = true
		if w.Forgotten {
			continue
		}
		if err := r.sched.Forget(ctx, w.Uid); err != nil {
			return false, fmt.Errorf("end the directors of loadbalancer %s/%s: %w", namespace, name, err)
		}
		r.log.Info("ended directors of a loadbalancer that is not declared any more", zap.String("loadbalancer", namespace+"/"+name), zap.String("uid", w.Uid))
	}
	if wait {
		return true, nil
	}
	for _, w := range r.sched.Balancers() {
		if w.Forgotten || w.Namespace != namespace || w.Name != name || w.Uid == uid {
			continue
		}
		if err := r.sched.ForgetBalancer(ctx, w.Uid); err != nil {
			return false, fmt.Errorf("end loadbalancer %s/%s: %w", namespace, name, err)
		}
		r.log.Info("ended a loadbalancer that is not declared any more", zap.String("loadbalancer", namespace+"/"+name), zap.String("uid", w.Uid))
	}
	return false, nil
}

// orphans ends LoadBalancers that are wanted but no longer declared. That the cache has none is not enough to end what runs; the
// API itself has to say so.
func (r *Reconciler) orphans(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if !r.concerns(req) {
		return reconcile.Result{}, nil
	}
	var now v1alpha1.LoadBalancer
	switch err := r.live.Get(ctx, req.NamespacedName, &now); {
	case err == nil:
		return reconcile.Result{RequeueAfter: lagging}, nil
	case !apierrors.IsNotFound(err):
		return reconcile.Result{}, fmt.Errorf("read loadbalancer %s: %w", req, err)
	}
	wait, err := r.predecessors(ctx, req.Namespace, req.Name, "")
	if wait {
		return reconcile.Result{RequeueAfter: lagging}, err
	}
	return reconcile.Result{}, err
}

// concerns tells whether anything of a LoadBalancer of that name is wanted.
func (r *Reconciler) concerns(req reconcile.Request) bool {
	for _, w := range r.sched.Balancers() {
		if !w.Forgotten && w.Namespace == req.Namespace && w.Name == req.Name {
			return true
		}
	}
	return slices.ContainsFunc(r.sched.WantedNamed(req.Namespace, v1alpha1.DirectorsName(req.Name)), (*padisv1.WantedApp).GetDirectors)
}

// Orphans lists the LoadBalancers that the scheduler knows, declared or not.
func Orphans(s interface {
	Balancers() []*padisv1.WantedBalancer
	WantedApps() []*padisv1.WantedApp
}) []reconcile.Request {
	var out []reconcile.Request
	add := func(namespace, name string) {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
	}
	for _, w := range s.Balancers() {
		if !w.Forgotten {
			add(w.Namespace, w.Name)
		}
	}
	for _, w := range s.WantedApps() {
		if w.Directors {
			add(w.Namespace, strings.TrimSuffix(w.Name, v1alpha1.DirectorsName("")))
		}
	}
	return out
}

// retire ends a LoadBalancer that is being deleted: directors first, which withdraw what they announce, then the rest.
func (r *Reconciler) retire(ctx context.Context, b *v1alpha1.LoadBalancer) (reconcile.Result, error) {
	uid := string(b.UID)
	running := r.sched.Wanted(uid)
	if running != nil && !running.Forgotten {
		if err := r.sched.Forget(ctx, uid); err != nil {
			return reconcile.Result{}, fmt.Errorf("end the directors of loadbalancer %s/%s: %w", b.Namespace, b.Name, err)
		}
	}
	instances := r.sched.Instances(uid)
	if len(instances) > 0 {
		view, err := r.views.Current(ctx)
		if err != nil {
			return reconcile.Result{}, err
		}
		if !controllerutil.ContainsFinalizer(b, Finalizer) {
			// Somebody took it away; the directors must have ended all the same before the VIPs go.
			return reconcile.Result{RequeueAfter: lagging}, nil
		}
		return r.show(ctx, b, plan{balancer: r.sched.Balancer(uid), view: view, directors: rollout.Decide(rollout.Snapshot{
			App:     &padisv1.WantedApp{Uid: uid, Namespace: b.Namespace, Name: v1alpha1.DirectorsName(b.Name), Generation: b.Generation},
			Leaving: true, Current: running, Instances: rollout.Observe(instances),
		})})
	}
	if w := r.sched.Balancer(uid); w != nil && !w.Forgotten {
		if err := r.sched.ForgetBalancer(ctx, uid); err != nil {
			return reconcile.Result{}, fmt.Errorf("end loadbalancer %s/%s: %w", b.Namespace, b.Name, err)
		}
	}
	if controllerutil.ContainsFinalizer(b, Finalizer) {
		if err := r.finalizer(ctx, b, controllerutil.RemoveFinalizer); err != nil {
			return quiet(client.IgnoreNotFound(err))
		}
		r.log.Info("loadbalancer ended", zap.String("loadbalancer", b.Namespace+"/"+b.Name))
	}
	r.drop(b.UID)
	return reconcile.Result{}, nil
}

// show brings the status up to date, now or a little later.
func (r *Reconciler) show(ctx context.Context, b *v1alpha1.LoadBalancer, p plan) (reconcile.Result, error) {
	now := r.now()
	shown := r.status.Shown(b, b.Status)
	next := balanced.Status(balanced.Facts{
		Balancer: b, View: p.view, Refusal: p.refusal, Wanted: r.sched.Balancer(string(b.UID)),
		Directors: p.directors.Status, Balance: r.sched.Balance(string(b.UID)), Leaving: b.DeletionTimestamp != nil,
	})
	next.Conditions = status.Timed(shown.Conditions, next.Conditions, now)
	if !equality.Semantic.DeepEqual(shown, next) {
		if wait := r.status.Wait(b, now, writeEvery); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
		if err := r.status.Replace(ctx, r.client, b, next, now); err != nil {
			return reconcile.Result{}, err
		}
		r.tell(b, balanced.Transitions(shown, next))
	}
	after := p.directors.After
	if p.refusal != nil && (after == 0 || retry < after) {
		after = retry
	}
	return reconcile.Result{RequeueAfter: after}, nil
}

func (r *Reconciler) tell(b *v1alpha1.LoadBalancer, events []rollout.Event) {
	for _, e := range events {
		kind := corev1.EventTypeNormal
		if e.Warning {
			kind = corev1.EventTypeWarning
		}
		r.events.Event(b, kind, e.Reason, e.Message)
	}
}

func (r *Reconciler) finalizer(ctx context.Context, b *v1alpha1.LoadBalancer, change func(client.Object, string) bool) error {
	base := b.DeepCopy()
	change(b, Finalizer)
	if err := r.client.Patch(ctx, b, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("finalizer of loadbalancer %s/%s: %w", b.Namespace, b.Name, err)
	}
	return nil
}

// quiet tries again soon when the LoadBalancer changed under us: that is nobody's mistake.
func quiet(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	return reconcile.Result{}, err
}
