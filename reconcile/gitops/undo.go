package gitops

import (
	"context"
	"fmt"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/csaupgrade"
)

// saying is what a bad commit says, with some settings, of the objects that were asked for: nothing of one is empty.
type saying struct {
	settings string
	of       map[decide.ID]string
}

func (s saying) has(ids []decide.ID) bool {
	for _, id := range ids {
		if _, ok := s.of[id]; !ok {
			return false
		}
	}
	return true
}

// hold finds out which of the wanted objects are left as they are by spec.undo.
func (l *look) hold(ctx context.Context) {
	s, undo := l.s, l.y.Spec.Undo
	s.held, l.holds, l.next.Undone = nil, nil, nil
	if len(undo) == 0 {
		s.sayings = nil
		return
	}
	l.holds = decide.Holds(undo, decide.Digests(s.wanted), l.said(ctx, undo))
	s.held = make(map[decide.ID]bool, len(l.holds))
	for _, h := range l.holds {
		s.held[h.ID] = true
		// Once it is not held any more, nothing of what was in order before counts.
		delete(s.known, h.ID)
		l.next.Undone = append(l.next.Undone, h.ID.String())
	}
}

// said reads what the bad commits say of these objects: each once, as long as the settings are the same.
func (l *look) said(ctx context.Context, undo []v1alpha1.SyncUndo) map[string]decide.Said {
	s := l.s
	asked := map[string][]decide.ID{}
	for i := range undo {
		asked[undo[i].From] = append(asked[undo[i].From], decide.Target(&undo[i]))
	}
	out, sayings := map[string]decide.Said{}, map[string]saying{}
	for from, ids := range asked {
		known := s.sayings[from]
		if known.settings != l.set.digest || !known.has(ids) {
			all, err := l.digests(ctx, l.y, s, l.set, from)
			if err != nil {
				out[from] = decide.Said{Problem: err.Error()}
				continue
			}
			known = saying{settings: l.set.digest, of: make(map[decide.ID]string, len(ids))}
			for _, id := range ids {
				known.of[id] = all[id]
			}
		}
		sayings[from] = known
		out[from] = decide.Said{Digests: known.of}
	}
	s.sayings = sayings
	return out
}

// takeOver makes the fields that padis rollback has set the Sync's own, as if it had applied them: what of them is not wanted
// is then removed when it applies.
func (o *objects) takeOver(ctx context.Context, c dynamic.Interface, w write) error {
	live, err := o.live(ctx, w.Kind(), w.ID)
	if err != nil || live == nil {
		return err
	}
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, sets.New(v1alpha1.UndoManager), decide.Manager)
	if err != nil {
		return fmt.Errorf("fields of %s: %w", w.ID, err)
	}
	if patch == nil {
		return nil
	}
	resource, err := o.resource(c, w.Kind(), w.ID.Namespace)
	if err != nil {
		return err
	}
	_, err = resource.Patch(ctx, w.ID.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: decide.Manager})
	return err
}
