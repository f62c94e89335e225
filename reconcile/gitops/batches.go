package gitops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// writers is how many objects of a Sync are written at the same time, and batch how many until it is asked whether that shall
// go on: less than a second's.
const writers, batch = 48, 256

// errHeldUp: the Sync was suspended or deleted while it was being applied.
var errHeldUp = errors.New("the Sync was suspended or deleted meanwhile")

// each does something with each of n objects, some at a time, as long as nobody holds up the Sync.
func (l *look) each(ctx context.Context, n int, do func(i int)) error {
	var group errgroup.Group
	group.SetLimit(writers)
	var stop error
	for i := range n {
		if i%batch == 0 {
			if stop = l.goesOn(ctx); stop != nil {
				break
			}
		}
		group.Go(func() error { do(i); return nil })
	}
	_ = group.Wait()
	return stop
}

// goesOn tells whether the Sync is wanted still: what comes of it is decided in the next look, which its change has caused.
func (l *look) goesOn(ctx context.Context) error {
	now := &v1alpha1.Sync{}
	err := l.client.Get(ctx, client.ObjectKeyFromObject(l.y), now)
	switch {
	case apierrors.IsNotFound(err):
		return errHeldUp
	case err != nil:
		return fmt.Errorf("read sync %s/%s: %w", l.y.Namespace, l.y.Name, err)
	case now.Spec.Suspend && !l.y.Spec.Suspend, now.DeletionTimestamp != nil && l.y.DeletionTimestamp == nil:
		return errHeldUp
	}
	return nil
}

// remove deletes objects, what needs others first: those whose kinds do not need each other at the same time. It stops where
// something is not deleted, unless all shall be tried.
func (l *look) remove(ctx context.Context, c dynamic.Interface, ids []decide.ID, versions map[decide.ID]string, live map[decide.ID]*unstructured.Unstructured, all bool) error {
	refused := &refusals{reason: ReasonRefused}
	for len(ids) > 0 {
		these := ids[:decide.Together(ids, func(id decide.ID) decide.ID { return id })]
		ids = ids[len(these):]
		var mu sync.Mutex
		err := l.each(ctx, len(these), func(i int) {
			id := these[i]
			if err := l.objects.remove(ctx, c, gvk(id, versions[id]), live[id]); err != nil {
				mu.Lock()
				defer mu.Unlock()
				refused.lines = append(refused.lines, fmt.Sprintf("delete %s: %s", id, said(err)))
			}
		})
		if err != nil {
			return err
		}
		if len(refused.lines) > 0 && !all {
			break
		}
	}
	if len(refused.lines) > 0 {
		slices.Sort(refused.lines)
		return refused
	}
	return nil
}
