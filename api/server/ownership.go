package server

import (
	"slices"
	"sort"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// owned is what the garbage collector knows of an object.
type owned struct {
	uid             types.UID
	resource        schema.GroupVersionResource
	namespace, name string
	owners          []metav1.OwnerReference
	deleting        bool
	// foreground and orphan tell which finalizers of the deletion policies it carries.
	foreground, orphan bool
}

func ownedOf(resource schema.GroupVersionResource, m *metav1.PartialObjectMetadata) *owned {
	return &owned{
		uid: m.UID, resource: resource, namespace: m.Namespace, name: m.Name, owners: m.OwnerReferences, deleting: m.DeletionTimestamp != nil,
		foreground: slices.Contains(m.Finalizers, metav1.FinalizerDeleteDependents),
		orphan:     slices.Contains(m.Finalizers, metav1.FinalizerOrphanDependents),
	}
}

// ownership is who owns whom. It does nothing by itself: decide says what is to be done.
type ownership struct {
	objects    map[types.UID]*owned
	dependents map[types.UID]map[types.UID]struct{}
}

func newOwnership() *ownership {
	return &ownership{objects: map[types.UID]*owned{}, dependents: map[types.UID]map[types.UID]struct{}{}}
}

// observe takes in the newest state of an object, and says for which objects a decision may have changed.
func (g *ownership) observe(o *owned) []types.UID {
	old := g.objects[o.uid]
	g.objects[o.uid] = o
	var affected []types.UID
	if old != nil {
		for _, r := range old.owners {
			g.unlink(r.UID, o.uid)
			if !refersTo(o, r.UID) {
				affected = append(affected, r.UID) // a foreground deletion may have waited for it
			}
		}
	}
	for _, r := range o.owners {
		if g.dependents[r.UID] == nil {
			g.dependents[r.UID] = map[types.UID]struct{}{}
		}
		g.dependents[r.UID][o.uid] = struct{}{}
		// A dependent that appears or changes may matter to an owner that is being deleted.
		if owner := g.objects[r.UID]; owner != nil && owner.deleting {
			affected = append(affected, r.UID)
		}
	}
	if len(o.owners) > 0 || o.deleting && (o.foreground || o.orphan) {
		affected = append(affected, o.uid)
	}
	return affected
}

// remove forgets an object that is gone, and says for which objects a decision may have changed.
func (g *ownership) remove(uid types.UID) []types.UID {
	old := g.objects[uid]
	if old == nil {
		return nil
	}
	delete(g.objects, uid)
	affected := g.dependentsOf(uid)
	for _, r := range old.owners {
		g.unlink(r.UID, uid)
		affected = append(affected, r.UID)
	}
	return affected
}

func (g *ownership) unlink(owner, dependent types.UID) {
	delete(g.dependents[owner], dependent)
	if len(g.dependents[owner]) == 0 {
		delete(g.dependents, owner)
	}
}

func (g *ownership) dependentsOf(uid types.UID) []types.UID {
	out := make([]types.UID, 0, len(g.dependents[uid]))
	for d := range g.dependents[uid] {
		out = append(out, d)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func refersTo(o *owned, uid types.UID) bool {
	return slices.ContainsFunc(o.owners, func(r metav1.OwnerReference) bool { return r.UID == uid })
}

// action is what is to be done with one object.
type action struct {
	kind   actionKind
	target *owned
	// policy is that of a deletion.
	policy metav1.DeletionPropagation
	// owners are the references to be taken away by dropOwners.
	owners []types.UID
	// finalizer is the one to be taken away by dropFinalizer.
	finalizer string
}

type actionKind int

const (
	// deleteObject deletes the target.
	deleteObject actionKind = iota
	// dropOwners takes owner references away from the target.
	dropOwners
	// dropFinalizer lets the target go.
	dropFinalizer
)

// absent are the owners of an object that are not known here; whether they exist must be found out before deciding.
func (g *ownership) absent(uid types.UID) []metav1.OwnerReference {
	o := g.objects[uid]
	if o == nil || o.deleting {
		return nil
	}
	var out []metav1.OwnerReference
	for _, r := range o.owners {
		if owner := g.objects[r.UID]; owner == nil || owner.namespace != "" && owner.namespace != o.namespace {
			out = append(out, r)
		}
	}
	return out
}

// decide says what is to be done about an object. exists tells of the absent owners which exist nevertheless.
func (g *ownership) decide(uid types.UID, exists map[types.UID]bool) []action {
	o := g.objects[uid]
	switch {
	case o == nil:
		return nil
	case o.deleting && o.orphan:
		return g.decideOrphan(o)
	case o.deleting && o.foreground:
		return g.decideForeground(o)
	case o.deleting || len(o.owners) == 0:
		return nil
	}
	var gone, waiting []types.UID
	alive := 0
	absent := map[types.UID]bool{}
	for _, r := range g.absent(uid) {
		absent[r.UID] = true
	}
	for _, r := range o.owners {
		switch owner := g.objects[r.UID]; {
		case absent[r.UID] && !exists[r.UID]:
			gone = append(gone, r.UID)
		case !absent[r.UID] && owner.deleting && owner.foreground:
			waiting = append(waiting, r.UID)
		default:
			alive++
		}
	}
	if alive > 0 {
		if drop := append(gone, waiting...); len(drop) > 0 {
			return []action{{kind: dropOwners, target: o, owners: drop}}
		}
		var out []action
		for _, s := range g.surplus(o) {
			out = append(out, action{kind: deleteObject, target: s, policy: metav1.DeletePropagationBackground})
		}
		return out
	}
	policy := metav1.DeletePropagationBackground
	switch {
	case o.orphan:
		policy = metav1.DeletePropagationOrphan
	case o.foreground, len(waiting) > 0 && len(g.dependents[uid]) > 0:
		policy = metav1.DeletePropagationForeground
	}
	return []action{{kind: deleteObject, target: o, policy: policy}}
}

// decideOrphan lets the dependents of a deleted object live on without it.
func (g *ownership) decideOrphan(o *owned) []action {
	var out []action
	for _, d := range g.dependentsOf(o.uid) {
		out = append(out, action{kind: dropOwners, target: g.objects[d], owners: []types.UID{o.uid}})
	}
	return append(out, action{kind: dropFinalizer, target: o, finalizer: metav1.FinalizerOrphanDependents})
}

// decideForeground deletes the dependents of a deleted object first; those that block it hold it until they are gone.
func (g *ownership) decideForeground(o *owned) []action {
	var out []action
	blocked := false
	for _, uid := range g.dependentsOf(o.uid) {
		d := g.objects[uid]
		for _, r := range d.owners {
			if r.UID == o.uid && r.BlockOwnerDeletion != nil && *r.BlockOwnerDeletion {
				blocked = true
			}
		}
		if !d.deleting {
			// What becomes of a dependent with other owners is its own decision.
			out = append(out, g.decide(uid, nil)...)
		}
	}
	if !blocked {
		out = append(out, action{kind: dropFinalizer, target: o, finalizer: metav1.FinalizerDeleteDependents})
	}
	return out
}
