package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	"padis.io/padis/api/runtime"
	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/declared"
	"padis.io/padis/reconcile/status"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Finalizers keep what others need: a pool until its addresses are given back, a network until no pool is on it.
const (
	PoolFinalizer    = "padis.io/addresses"
	NetworkFinalizer = "padis.io/pools"
)

// Requests of the one reconciler that all cluster-scoped kinds share.
var (
	// Declared is the request to read what is declared.
	Declared = reconcile.Request{NamespacedName: types.NamespacedName{Name: "declared"}}
	// Used is the request to show how many addresses are in use, and how networks fare on their hosts. It comes again by
	// itself while there are any networks or routers.
	Used = reconcile.Request{NamespacedName: types.NamespacedName{Name: "used"}}
	// Progress is the request to show how far pulls and the upgrade of executors are. It comes again by itself while there
	// are any.
	Progress = reconcile.Request{NamespacedName: types.NamespacedName{Name: "progress"}}
)

const (
	// settle is how long a pool that is being deleted waits before it looks at its addresses again, told or not.
	settle = 5 * time.Second
	// listen is the time between two looks at what hosts say of their networks and routers: nobody tells of each session.
	listen = 5 * time.Second
)

// Reconciler shows what is in force, and lets go what nobody needs any more.
type Reconciler struct {
	client   client.Client
	declarer *Declarer
	now      func() time.Time
	log      *zap.Logger

	networks status.Keeper[v1alpha1.NetworkStatus]
	pools    status.Keeper[v1alpha1.IPPoolStatus]
	tenants  status.Keeper[v1alpha1.TenantStatus]
	peers    status.Keeper[v1alpha1.BGPPeerStatus]

	registries status.Keeper[v1alpha1.RegistryStatus]
	upgrades   status.Keeper[v1alpha1.ExecutorUpgradeStatus]
	prepulls   status.Keeper[v1alpha1.ImagePrepullStatus]
}

// NewReconciler makes a Reconciler that writes through c.
func NewReconciler(c client.Client, d *Declarer, now func() time.Time, log *zap.Logger) *Reconciler {
	return &Reconciler{client: c, declarer: d, now: now, log: log}
}

// Reconcile serves Declared, Used and Progress.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if req == Progress {
		return r.progress(ctx)
	}
	if req == Used {
		view, input, err := r.declarer.current(ctx)
		if err != nil {
			return reconcile.Result{}, err
		}
		if !leaving(input.Pools) {
			if err := r.usage(ctx, view, input); err != nil || len(input.Networks)+len(input.Peers) == 0 {
				return reconcile.Result{}, err
			}
			return reconcile.Result{RequeueAfter: listen}, nil
		}
		// Whether a pool can go depends on its addresses: that is a new reading.
	}
	view, input, err := r.declarer.fresh(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	alive := map[types.UID]bool{}
	states, foreign := r.declarer.sched.NetworkStates(), r.declarer.sched.Foreign()
	for i := range input.Networks {
		n := input.Networks[i].DeepCopy()
		alive[n.UID] = true
		if err := r.network(ctx, n, view.Networks[n.Name], states[n.Name]); err != nil {
			return quiet(err)
		}
	}
	for i := range input.Pools {
		p := input.Pools[i].DeepCopy()
		alive[p.UID] = true
		if err := r.pool(ctx, p, view.Pools[p.Name], foreign); err != nil {
			return quiet(err)
		}
	}
	balances := r.balances(input)
	for i := range input.Peers {
		p := &input.Peers[i]
		alive[p.UID] = true
		if err := r.peer(ctx, p, view.Peers[p.Name], balances); err != nil {
			return quiet(err)
		}
	}
	for i := range input.Tenants {
		t := &input.Tenants[i]
		alive[t.UID] = true
		if err := r.tenant(ctx, t, view.Tenants[t.Name]); err != nil {
			return quiet(err)
		}
	}
	for i := range input.Registries {
		o := &input.Registries[i]
		alive[o.UID] = true
		if err := r.registry(ctx, o, view.Registries[o.Name]); err != nil {
			return quiet(err)
		}
	}
	if err := r.showProgress(ctx, view, input, alive); err != nil {
		return quiet(err)
	}
	approve := func(uid types.UID) bool { return alive[uid] }
	r.networks.Retain(approve)
	r.pools.Retain(approve)
	r.tenants.Retain(approve)
	r.peers.Retain(approve)
	r.registries.Retain(approve)
	r.upgrades.Retain(approve)
	r.prepulls.Retain(approve)
	if leaving(input.Pools) {
		return reconcile.Result{RequeueAfter: settle}, nil
	}
	return reconcile.Result{}, nil
}

func leaving(pools []v1alpha1.IPPool) bool {
	return slices.ContainsFunc(pools, func(p v1alpha1.IPPool) bool { return p.DeletionTimestamp != nil })
}

// usage shows how many addresses are in use, and how networks fare, and leaves all else alone.
func (r *Reconciler) usage(ctx context.Context, view *declared.View, input declared.Input) error {
	states, foreign := r.declarer.sched.NetworkStates(), r.declarer.sched.Foreign()
	for i := range input.Networks {
		n := &input.Networks[i]
		if err := r.showNetwork(ctx, n, view.Networks[n.Name], states[n.Name]); err != nil {
			return err
		}
	}
	for i := range input.Pools {
		p := &input.Pools[i]
		if err := r.show(ctx, p, view.Pools[p.Name], foreign); err != nil {
			return err
		}
	}
	balances := r.balances(input)
	for i := range input.Peers {
		p := &input.Peers[i]
		if err := r.peer(ctx, p, view.Peers[p.Name], balances); err != nil {
			return err
		}
	}
	return nil
}

// balances says how it stands with all LoadBalancers, if there are routers that have to do with them.
func (r *Reconciler) balances(input declared.Input) []*runtime.Balance {
	if len(input.Peers) == 0 {
		return nil
	}
	sched := r.declarer.sched
	var out []*runtime.Balance
	for _, b := range sched.Balancers() {
		out = append(out, sched.Balance(b.Uid))
	}
	return out
}

func (r *Reconciler) peer(ctx context.Context, p *v1alpha1.BGPPeer, v declared.Verdict, balances []*runtime.Balance) error {
	if p.DeletionTimestamp != nil {
		return nil
	}
	shown := r.peers.Shown(p, p.Status)
	next := v1alpha1.BGPPeerStatus{}
	if v.Accepted {
		next = declared.PeerProgress(p, balances)
	}
	next.ObservedGeneration, next.Conditions = p.Generation, r.conditions(shown.Conditions, p.Generation, v, next.Conditions...)
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.peers.Replace(ctx, r.client, p, next, r.now())
}

// quiet tries again soon when an object changed under us: that is nobody's mistake.
func quiet(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: 20 * time.Millisecond}, nil
	}
	return reconcile.Result{}, err
}

func (r *Reconciler) network(ctx context.Context, n *v1alpha1.Network, v declared.Verdict, states []runtime.HostNetworkState) error {
	if gone, err := r.hold(ctx, n, NetworkFinalizer, v.Protected); gone || err != nil {
		return err
	}
	return r.showNetwork(ctx, n, v, states)
}

func (r *Reconciler) showNetwork(ctx context.Context, n *v1alpha1.Network, v declared.Verdict, states []runtime.HostNetworkState) error {
	shown := r.networks.Shown(n, n.Status)
	var others []metav1.Condition
	if v.Accepted {
		others = declared.NetworkProgress(&n.Spec, states)
	}
	next := v1alpha1.NetworkStatus{ObservedGeneration: n.Generation, Conditions: r.conditions(shown.Conditions, n.Generation, v, others...)}
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.networks.Replace(ctx, r.client, n, next, r.now())
}

func (r *Reconciler) pool(ctx context.Context, p *v1alpha1.IPPool, v declared.Verdict, foreign []runtime.ForeignAddress) error {
	protected := v.Protected
	if p.DeletionTimestamp != nil && !protected {
		// The pool was taken out of force; only now can nobody lease from it any more.
		protected = len(r.declarer.holders(p.Name)) > 0
	}
	if gone, err := r.hold(ctx, p, PoolFinalizer, protected); gone || err != nil {
		return err
	}
	return r.show(ctx, p, v, foreign)
}

func (r *Reconciler) show(ctx context.Context, p *v1alpha1.IPPool, v declared.Verdict, foreign []runtime.ForeignAddress) error {
	shown := r.pools.Shown(p, p.Status)
	next := declared.PoolProgress(p, r.declarer.sched.Usage(p.Name), foreign)
	next.ObservedGeneration, next.Conditions = p.Generation, r.conditions(shown.Conditions, p.Generation, v, next.Conditions...)
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.pools.Replace(ctx, r.client, p, next, r.now())
}

func (r *Reconciler) tenant(ctx context.Context, t *v1alpha1.Tenant, v declared.Verdict) error {
	if t.DeletionTimestamp != nil {
		return nil
	}
	shown := r.tenants.Shown(t, t.Status)
	next := v1alpha1.TenantStatus{ObservedGeneration: t.Generation, Conditions: r.conditions(shown.Conditions, t.Generation, v)}
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.tenants.Replace(ctx, r.client, t, next, r.now())
}

// conditions gives Accepted as the verdict says, and others.
func (r *Reconciler) conditions(before []metav1.Condition, generation int64, v declared.Verdict, others ...metav1.Condition) []metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: v.Reason, Message: v.Message}
	if v.Accepted {
		c.Status = metav1.ConditionTrue
	}
	after := append([]metav1.Condition{c}, others...)
	for n := range after {
		after[n].ObservedGeneration = generation
	}
	return status.Timed(before, after, r.now())
}

// hold sets the finalizer on an object that lives and takes it from one that is being deleted and not protected. It
// tells whether the object is on its way out, so that there is nothing more to show.
func (r *Reconciler) hold(ctx context.Context, o client.Object, finalizer string, protected bool) (gone bool, err error) {
	base := o.DeepCopyObject().(client.Object)
	leaving := o.GetDeletionTimestamp() != nil
	switch {
	case !leaving && controllerutil.AddFinalizer(o, finalizer):
	case leaving && !protected && controllerutil.RemoveFinalizer(o, finalizer):
		r.log.Info("let go", zap.String("name", o.GetName()), zap.String("finalizer", finalizer))
	default:
		return leaving && !protected, nil
	}
	err = r.client.Patch(ctx, o, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("finalizer %s of %s: %w", finalizer, o.GetName(), err)
	}
	return leaving, nil
}
