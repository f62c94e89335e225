package gitops

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"
	"padis.io/padis/reconcile/gitops/render"

	"go.uber.org/zap"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// claimsOfOne bounds how many renderings of one Sync are remembered: of the newest commit, of the one that it is rolled back
// to, and of the newest one of another source of its repository.
const claimsOfOne = 3

// claims are the objects that commits of Syncs come to, so that others need not render them again. Safe for concurrent use.
type claims struct {
	mu sync.Mutex
	by map[string][]claim
}

// claim is what one rendering has come to.
type claim struct {
	source, commit, settings string
	// declares are the objects; that a Sync has rendered itself shares them with its session.
	declares map[decide.ID]int
	// unknown: it cannot be rendered.
	unknown bool
}

func (c *claims) get(sync, source, commit, settings string) (claim, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.by[sync] {
		if one.source == source && one.commit == commit && one.settings == settings {
			return one, true
		}
	}
	return claim{}, false
}

// put remembers a rendering, and forgets the oldest one.
func (c *claims) put(sync string, one claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil {
		c.by = map[string][]claim{}
	}
	list := slices.DeleteFunc(c.by[sync], func(o claim) bool {
		return o.settings != one.settings || o.source == one.source && o.commit == one.commit
	})
	c.by[sync] = append(list[max(0, len(list)+1-claimsOfOne):], one)
}

func (c *claims) drop(sync string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, sync)
}

// claim renders a commit of a Sync, as a source has it, if that is not known yet.
func (r *Syncs) claim(ctx context.Context, y *v1alpha1.Sync, set settings, from *v1alpha1.Sync, gs *v1alpha1.GitSource, commit string) (claim, error) {
	name, source := y.Namespace+"/"+y.Name, gs.Namespace+"/"+gs.Name
	if known, ok := r.claims.get(name, source, commit, set.digest); ok {
		return known, nil
	}
	one := claim{source: source, commit: commit, settings: set.digest}
	rev, _, err := r.revision(ctx, from, commit)
	if err != nil {
		return one, err
	}
	files, done, err := r.repos.Files(rev)
	if err != nil {
		return one, err
	}
	defer done()
	objects, err := filesOf(y, gs, set, files, "", nil)
	var broken problems
	if errors.As(err, &broken) {
		one.unknown = true
	} else if err != nil {
		return one, err
	}
	one.declares = declares(objects)
	r.claims.put(name, one)
	return one, nil
}

func declares(objects []render.Object) map[decide.ID]int {
	out := make(map[decide.ID]int, len(objects))
	for i, o := range objects {
		out[decide.IDOf(o.Unstructured)] = i
	}
	return out
}

// claimant finds out which of some objects a Sync declares. asks is the Sync that wants to know and gives them up, and commit
// what it has rendered; nil where that is of no interest.
func (r *Syncs) claimant(ctx context.Context, y, asks *v1alpha1.Sync, commit string, ids []decide.ID) decide.Claimant {
	out := decide.Claimant{Name: y.Namespace + "/" + y.Name, Gone: y.DeletionTimestamp != nil, Declares: map[decide.ID]bool{}}
	if out.Gone {
		return out
	}
	gs, err := r.source(ctx, y)
	if err != nil {
		out.Unknown = true
		return out
	}
	var theirs *v1alpha1.GitSource
	if asks != nil {
		if theirs, err = r.source(ctx, asks); err == nil {
			out.Related = related(gs, theirs)
		}
	}
	set, err := readSettings(ctx, r.client, y)
	if err != nil {
		out.Unknown = true
		return out
	}
	set.charts = r.charts.until(ctx)
	add := func(from *v1alpha1.Sync, gs *v1alpha1.GitSource, commit string) {
		one, err := r.claim(ctx, y, set, from, gs, commit)
		if err != nil {
			r.log.Warn("it cannot be told what a sync declares", zap.String("sync", out.Name), zap.String("commit", commit), zap.Error(err))
		}
		out.Unknown = out.Unknown || one.unknown || err != nil
		for _, id := range ids {
			if _, ok := one.declares[id]; ok {
				out.Declares[id] = true
			}
		}
	}
	state := decide.Restore(y, set.digest)
	if state.Head = gs.Status.Commit; state.Head != "" {
		add(y, gs, state.Head)
	}
	if target := state.Target(); target != state.Head {
		add(y, gs, target)
	}
	switch {
	case out.Related && theirs.UID != gs.UID && commit != gs.Status.Commit && commit != "":
		// Its source is another one of the same repository, which will see the same commit sooner or later, or has seen a newer one.
		add(asks, theirs, commit)
	case state.Head == "":
		out.Unknown = true
	}
	return out
}

// related tells whether two sources are of the same ref of the same repository.
func related(a, b *v1alpha1.GitSource) bool {
	url := func(s *v1alpha1.GitSource) string {
		return strings.TrimSuffix(strings.TrimSuffix(s.Spec.URL, "/"), ".git")
	}
	return url(a) == url(b) && equality.Semantic.DeepEqual(a.Spec.Ref, b.Spec.Ref)
}

// heirs are the Syncs that may be about to own some of the objects that a Sync gives up.
func (r *Syncs) heirs(ctx context.Context, y *v1alpha1.Sync, commit string, ids []decide.ID, versions map[decide.ID]string) ([]decide.Claimant, error) {
	var all v1alpha1.SyncList
	if err := r.client.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	var out []decide.Claimant
	for i := range all.Items {
		o := &all.Items[i]
		if o.Namespace == y.Namespace && o.Name == y.Name {
			continue
		}
		within := slices.DeleteFunc(slices.Clone(ids), func(id decide.ID) bool { return outside(o, id) })
		if len(within) == 0 {
			continue
		}
		c := r.claimant(ctx, o, y, commit, ids)
		c.Barred = map[decide.ID]bool{}
		for _, id := range ids {
			c.Barred[id] = outside(o, id)
		}
		for _, id := range within {
			if o.Namespace != y.Namespace && (c.Declares[id] || c.Unknown && c.Related) {
				// Whoever administers this namespace can neither see nor mend that one.
				c.Barred[id] = !r.may(ctx, user(o), gvk(id, versions[id]), id)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// outside tells whether a Sync cannot declare an object, wherever it is in its files.
func outside(y *v1alpha1.Sync, id decide.ID) bool {
	target := y.Spec.TargetNamespace
	return beyond(y, id) != "" || target != "" && id.Namespace != "" && id.Namespace != target
}

// may tells whether a user may apply an object. If that cannot be told, he may.
func (r *Syncs) may(ctx context.Context, user string, kind schema.GroupVersionKind, id decide.ID) bool {
	if user == "" {
		return true
	}
	m, err := r.objects.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return true
	}
	c, err := r.objects.as(user)
	if err != nil {
		return true
	}
	allowed, err := allows(ctx, c, authorizationv1.ResourceAttributes{Namespace: id.Namespace, Verb: "patch", Group: m.Resource.Group, Version: m.Resource.Version, Resource: m.Resource.Resource, Name: id.Name})
	if err != nil {
		r.log.Warn("it cannot be told whether a sync may write an object", zap.String("user", user), zap.String("object", id.String()), zap.Error(err))
		return true
	}
	return allowed
}

// allows asks whether a client may do something.
func allows(ctx context.Context, c dynamic.Interface, what authorizationv1.ResourceAttributes) (bool, error) {
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": map[string]any{"resourceAttributes": map[string]any{
		"namespace": what.Namespace, "verb": what.Verb, "group": what.Group, "version": what.Version, "resource": what.Resource, "name": what.Name}}}}
	out, err := c.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}).Create(ctx, u, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	allowed, _, err := unstructured.NestedBool(out.Object, "status", "allowed")
	return allowed, err
}

// owner finds out whether a Sync, whose name some objects carry, has them still.
func (r *Syncs) owner(ctx context.Context, name string, ids []decide.ID) decide.Claimant {
	namespace, short, _ := strings.Cut(name, "/")
	y := &v1alpha1.Sync{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: short}, y)
	if apierrors.IsNotFound(err) {
		// The cache may be behind.
		err = r.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: short}, y)
	}
	switch {
	case apierrors.IsNotFound(err):
		return decide.Claimant{Name: name, Gone: true}
	case err != nil:
		return decide.Claimant{Name: name, Unknown: true}
	}
	out := r.claimant(ctx, y, nil, "", ids)
	out.Held = map[decide.ID]bool{}
	for i := range y.Spec.Undo {
		id := decide.Target(&y.Spec.Undo[i])
		out.Held[id] = slices.Contains(y.Status.Undone, id.String())
	}
	return out
}
