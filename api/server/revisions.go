package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/admission"
	machinery "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authentication/user"

	"padis.io/padis/api/conceal"
	"padis.io/padis/api/v1alpha1"
)

const revisions = "apprevisions"

// checkRevision refuses what people would write into the past of an App. They may delete of it, if a role says so.
func checkRevision(a admission.Attributes) error {
	if a.GetUserInfo().GetName() == user.APIServerUser {
		return nil
	}
	return apierrors.NewForbidden(a.GetResource().GroupResource(), a.GetName(),
		errors.New("it is written by Padis when an App is changed: change the App, or put an earlier spec back with padis rollback app"))
}

// remember stores what the spec of an App was, before another one is stored. The number of instances is no part of it. A write
// that fails after all leaves a revision of the generation that is still in force; the next one replaces it.
func (c *admissionChain) remember(ctx context.Context, a admission.Attributes, old, app *v1alpha1.App) error {
	if old == nil || a.IsDryRun() {
		return nil
	}
	same := old.Spec
	same.Replicas = app.Spec.Replicas
	if equality.Semantic.DeepEqual(same, app.Spec) {
		return nil
	}
	u, ok := a.GetOldObject().(*unstructured.Unstructured)
	if !ok {
		return apierrors.NewInternalError(fmt.Errorf("%T is not a custom resource", a.GetOldObject()))
	}
	spec, err := json.Marshal(u.Object["spec"])
	if err != nil {
		return apierrors.NewInternalError(fmt.Errorf("spec of app %s/%s: %w", old.Namespace, old.Name, err))
	}
	r := &v1alpha1.AppRevision{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "AppRevision"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: old.Namespace, Name: v1alpha1.RevisionName(old.Name, old.Generation), Labels: map[string]string{v1alpha1.LabelApp: old.Name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: "App", Name: old.Name, UID: old.UID}},
		},
		Spec: v1alpha1.AppRevisionSpec{
			App: old.Name, Generation: old.Generation, Spec: kruntime.RawExtension{Raw: spec},
			ReplacedBy: a.GetUserInfo().GetName(), ReplacedAt: metav1.NewTime(time.Now().UTC().Truncate(time.Second)), Commit: commitOf(ctx),
		},
	}
	if hidden := conceal.Of(u.Object).Moved("spec", "spec.spec"); len(hidden) > 0 {
		r.Annotations = map[string]string{conceal.Annotation: hidden.String()}
	}
	err = c.declared.put(ctx, r)
	if apierrors.HasStatusCause(err, "NamespaceTerminating") {
		// Nobody goes back there.
		return nil
	}
	if err != nil {
		return fmt.Errorf("keep what the spec of app %s/%s was: %w", old.Namespace, old.Name, err)
	}
	return nil
}

// put creates a revision, or another one in its place: that of a write that failed, or of an App that is gone.
func (d *declared) put(ctx context.Context, r *v1alpha1.AppRevision) error {
	for {
		err := d.client.Post().Namespace(r.Namespace).Resource(revisions).Body(r).Do(ctx).Error()
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		// What is of an App that is gone may be collected at any moment: it is never made anew in place.
		err = d.client.Delete().Namespace(r.Namespace).Resource(revisions).Name(r.Name).Do(ctx).Error()
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
}

// commitOf is the commit that a Sync writes for; empty for others. It is asked who the request came from, not as whom: whoever
// may impersonate can make up what is known of the one he plays.
func commitOf(ctx context.Context) string {
	event := machinery.AuditContextFrom(ctx)
	if event == nil {
		return ""
	}
	if who := event.GetEventUser(); who.Username == SyncUser {
		return first(who.Extra[commitExtra])
	}
	return ""
}

// surplus are the revisions of the same owner that are too many once this object is there, the oldest first.
func (g *ownership) surplus(o *owned) []*owned {
	if o.resource.Resource != revisions || o.resource.Group != v1alpha1.GroupVersion.Group || len(o.owners) != 1 {
		return nil
	}
	var all []*owned
	for d := range g.dependents[o.owners[0].UID] {
		if other := g.objects[d]; other.resource == o.resource && !other.deleting {
			all = append(all, other)
		}
	}
	if len(all) <= v1alpha1.MaxRevisions {
		return nil
	}
	slices.SortFunc(all, func(a, b *owned) int { return int(generationOf(a.name) - generationOf(b.name)) })
	return all[:len(all)-v1alpha1.MaxRevisions]
}

// generationOf is the one that the name of a revision ends with.
func generationOf(name string) int64 {
	n, err := strconv.ParseInt(name[strings.LastIndexByte(name, '-')+1:], 10, 64)
	if err != nil {
		return 0
	}
	return n
}
