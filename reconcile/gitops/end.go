package gitops

import (
	"context"
	"errors"
	"fmt"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Finalizer keeps a deleted Sync that prunes until its objects are deleted, too.
const Finalizer = "padis.io/objects"

// ReasonPruned: a Sync was deleted, and its objects were.
const ReasonPruned = "Pruned"

// finalizer sets the finalizer of a Sync that prunes, and takes it from one that does not.
func (r *Syncs) finalizer(ctx context.Context, y *v1alpha1.Sync) error {
	base := y.DeepCopy()
	if y.Spec.Prune && y.DeletionTimestamp == nil {
		controllerutil.AddFinalizer(y, Finalizer)
	} else {
		controllerutil.RemoveFinalizer(y, Finalizer)
	}
	// Not into y: its status would be that of the server, which may be older than what is shown.
	if err := r.client.Patch(ctx, y.DeepCopy(), client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("finalizer of sync %s/%s: %w", y.Namespace, y.Name, err)
	}
	return nil
}

// quiet tries again soon when the Sync changed under us: that is nobody's mistake.
func quiet(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: lagging}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// end deletes what a deleted Sync has applied, if it prunes and is not suspended, and lets the Sync go. Limits do not count:
// who deletes it means all of it.
func (l *look) end(ctx context.Context) (reconcile.Result, error) {
	if !controllerutil.ContainsFinalizer(l.y, Finalizer) {
		return reconcile.Result{}, nil
	}
	var (
		n     int
		waits []decide.Kept
	)
	if l.y.Spec.Prune && !l.y.Spec.Suspend {
		limit, _ := l.y.Spec.Times()
		writing, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		var err error
		if n, waits, err = l.pruneAll(writing); errors.Is(err, errHeldUp) {
			return reconcile.Result{}, nil
		} else if err != nil {
			if going, gone := l.namespaceGoes(ctx); gone != nil || !going {
				return l.refuse(ctx, ReasonRefused, "it is being deleted, and waits for its objects to be: "+err.Error()+
					": have that allowed, or set spec.suspend to have them stay", again)
			}
			// Its service account may have gone before it.
			l.log.Warn("objects of a deleted sync stay, since its namespace is deleted, too", zap.String("sync", l.y.Namespace+"/"+l.y.Name), zap.Error(err))
		}
	}
	if n+len(waits) > 0 {
		message := "the Sync is deleted, and with it " + decide.Plural(n, "object", "objects")
		if len(waits) > 0 {
			message += fmt.Sprintf("; %s for other Syncs: %s", decide.Plural(len(waits), "object stays", "objects stay"), decide.HandingOver(waits))
		}
		l.events.Event(l.y, corev1.EventTypeNormal, ReasonPruned, cut(message, 1000))
	}
	l.log.Info("deleted", zap.String("sync", l.y.Namespace+"/"+l.y.Name), zap.Int("objects", n))
	if err := l.finalizer(ctx, l.y); err != nil {
		return quiet(err)
	}
	return reconcile.Result{}, nil
}

// pruneAll deletes all that is the Sync's and not protected, as far as it may, and counts it. What other Syncs declare stays for
// them, and they need not have it yet; what one may declare is waited for.
func (l *look) pruneAll(ctx context.Context) (int, []decide.Kept, error) {
	// What was wanted is of no interest any more.
	s := &session{name: l.y.Namespace + "/" + l.y.Name}
	plan, left, err := l.compare(ctx, l.y, s, l.shown.Inventory)
	if err != nil {
		return 0, nil, err
	}
	c, err := l.objects.as(user(l.y))
	if err != nil {
		return 0, nil, err
	}
	refused := &refusals{reason: ReasonRefused}
	if err := l.remove(ctx, c, plan.Prune, decide.Applied(l.shown.Inventory), left, true); err != nil && !errors.As(err, &refused) {
		return 0, nil, err
	}
	waits := plan.Waiting()
	for _, k := range waits {
		if k.Unsure {
			refused.lines = append(refused.lines, fmt.Sprintf("%s %s", k.ID, k.Message))
		}
	}
	if len(refused.lines) > 0 {
		return 0, nil, refused
	}
	l.poke(s, waits)
	return len(plan.Prune), waits, nil
}

// namespaceGoes tells whether the namespace of the Sync is being deleted.
func (l *look) namespaceGoes(ctx context.Context) (bool, error) {
	ns := &corev1.Namespace{}
	if err := l.live.Get(ctx, types.NamespacedName{Name: l.y.Namespace}, ns); err != nil {
		return false, err
	}
	return ns.DeletionTimestamp != nil, nil
}
