package gitops

import (
	"context"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// others are the Syncs of the same repository and what they would declare by these files, as far as who asks may read them.
func (p *preview) others(ctx context.Context, ids []decide.ID) []decide.Claimant {
	var all v1alpha1.SyncList
	if p.reads.List(ctx, &all) != nil && p.reads.List(ctx, &all, client.InNamespace(p.Namespace)) != nil {
		p.note("the other Syncs cannot be read: what moves to one of them is shown as deleted")
		return nil
	}
	var out []decide.Claimant
	for i := range all.Items {
		y := &all.Items[i]
		gs, ref := &v1alpha1.GitSource{}, y.Spec.SourceRef
		if ref.Namespace == "" {
			ref.Namespace = y.Namespace
		}
		if y.Namespace == p.Namespace && y.Name == p.Name || p.reads.Get(ctx, types.NamespacedName(ref), gs) != nil || !related(gs, p.source) {
			continue
		}
		c := decide.Claimant{Name: y.Namespace + "/" + y.Name, Gone: y.DeletionTimestamp != nil, Related: true, Declares: map[decide.ID]bool{}, Barred: map[decide.ID]bool{}}
		for _, id := range ids {
			c.Barred[id] = outside(y, id)
		}
		set, err := readSettings(ctx, p.reads, y)
		if err == nil {
			set.charts = p.Charts.until(ctx)
			objects, wrong := filesOf(y, gs, set, p.files, "", nil)
			for id := range declares(objects) {
				c.Declares[id] = true
			}
			err = wrong
		}
		c.Unknown = err != nil
		out = append(out, c)
	}
	return out
}
