package cluster

import (
	"context"
	"time"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/declared"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// lookEvery is the time between two looks at pulls and at the upgrade: nobody tells of each layer.
const lookEvery = 2 * time.Second

// progress shows how far pulls and the upgrade are, and comes again while there are any.
func (r *Reconciler) progress(ctx context.Context) (reconcile.Result, error) {
	// What is declared may be newer than what was last in force: then this comes before its own Declared.
	view, input, err := r.declarer.fresh(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	if err := r.showProgress(ctx, view, input, map[types.UID]bool{}); err != nil {
		return quiet(err)
	}
	if len(input.Prepulls) == 0 && len(input.Upgrades) == 0 {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: lookEvery}, nil
}

// showProgress writes the statuses that have changed, and notes in alive which objects there are.
func (r *Reconciler) showProgress(ctx context.Context, view *declared.View, input declared.Input, alive map[types.UID]bool) error {
	for i := range input.Upgrades {
		u := &input.Upgrades[i]
		alive[u.UID] = true
		if err := r.upgrade(ctx, u, view.Upgrades[u.Name]); err != nil {
			return err
		}
	}
	for i := range input.Prepulls {
		p := &input.Prepulls[i]
		alive[p.UID] = true
		if err := r.prepull(ctx, p, view.Prepulls[declared.Key(p.Namespace, p.Name)]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) registry(ctx context.Context, o *v1alpha1.Registry, v declared.Verdict) error {
	if o.DeletionTimestamp != nil {
		return nil
	}
	shown := r.registries.Shown(o, o.Status)
	next := v1alpha1.RegistryStatus{ObservedGeneration: o.Generation, Conditions: r.conditions(shown.Conditions, o.Generation, v)}
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.registries.Replace(ctx, r.client, o, next, r.now())
}

func (r *Reconciler) upgrade(ctx context.Context, u *v1alpha1.ExecutorUpgrade, v declared.Verdict) error {
	if u.DeletionTimestamp != nil {
		return nil
	}
	shown := r.upgrades.Shown(u, u.Status)
	next := v1alpha1.ExecutorUpgradeStatus{ObservedGeneration: u.Generation}
	if v.Accepted {
		p := declared.UpgradeProgress(&u.Spec, r.declarer.sched.UpgradeStatus())
		next.Total, next.Updated, next.Upgrading, next.Skipped = p.Total, p.Updated, p.Upgrading, p.Skipped
		next.Conditions = p.Conditions
	}
	next.Conditions = r.conditions(shown.Conditions, u.Generation, v, next.Conditions...)
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.upgrades.Replace(ctx, r.client, u, next, r.now())
}

func (r *Reconciler) prepull(ctx context.Context, p *v1alpha1.ImagePrepull, v declared.Verdict) error {
	if p.DeletionTimestamp != nil {
		return nil
	}
	shown := r.prepulls.Shown(p, p.Status)
	next := v1alpha1.ImagePrepullStatus{ObservedGeneration: p.Generation}
	if v.Accepted {
		next = declared.PrepullProgress(r.declarer.sched.PrepullStates(p.Namespace, p.Name))
		next.ObservedGeneration = p.Generation
	}
	next.Conditions = r.conditions(shown.Conditions, p.Generation, v, next.Conditions...)
	if equality.Semantic.DeepEqual(shown, next) {
		return nil
	}
	return r.prepulls.Replace(ctx, r.client, p, next, r.now())
}
