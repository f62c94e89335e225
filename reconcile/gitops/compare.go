package gitops

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"padis.io/padis/api/v1alpha1"
	"padis.io/padis/reconcile/gitops/decide"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/dynamic"
)

// From manyReads objects of one kind and namespace on, they are listed rather than read one by one, if they are at least one
// in listShare of those that the Sync has there.
const manyReads, listShare = 64, 8

// shelf is where objects are that can be listed together.
type shelf struct {
	kind      schema.GroupVersionKind
	namespace string
}

// comparison gathers what is to be done from what is read, some objects at a time: all of them, with what their managers
// have set, would be too much to keep.
type comparison struct {
	*Syncs
	y       *v1alpha1.Sync
	s       *session
	applied map[decide.ID]string
	// wanted are those of the session that are looked at.
	wanted []decide.Rendered

	mu      sync.Mutex
	plan    decide.Plan
	refused refusals
}

// compare looks at all objects that are not known to be in order, and says what is to be done. It reads by the rights of the
// Sync: what that may not see is not told of either. The objects that it returns have left the repository.
func (r *Syncs) compare(ctx context.Context, y *v1alpha1.Sync, s *session, inventory []v1alpha1.InventoryGroup) (decide.Plan, map[decide.ID]*unstructured.Unstructured, error) {
	c := &comparison{Syncs: r, y: y, s: s, applied: s.appliedIn(inventory), wanted: s.wanted}
	if err := c.run(ctx); err != nil {
		return decide.Plan{}, nil, err
	}
	left, err := c.left(ctx)
	return c.plan, left, err
}

// compareThese does so with some of the wanted objects, and says nothing of others.
func (r *Syncs) compareThese(ctx context.Context, y *v1alpha1.Sync, s *session, inventory []v1alpha1.InventoryGroup, these []decide.Rendered) (decide.Plan, error) {
	c := &comparison{Syncs: r, y: y, s: s, applied: s.appliedIn(inventory), wanted: these}
	err := c.run(ctx)
	return c.plan, err
}

// run looks at the wanted objects.
func (c *comparison) run(ctx context.Context) error {
	s, marked := c.s, c.s.take()
	for id := range marked {
		if k := s.known[id]; k != nil {
			// It is not forgotten where it is not looked at now: another commit in force has it.
			k.changed = true
		}
	}
	if err := c.readAll(ctx); err != nil {
		for id := range marked {
			s.again(id)
		}
		return err
	}
	c.plan.Sort(func(id decide.ID) int { return s.index[id] })
	// They are looked at again until they are in order, even if nothing is done about them now.
	for _, w := range c.plan.Create {
		s.again(w.ID)
	}
	for _, w := range c.plan.Update {
		s.again(w.ID)
	}
	for _, w := range c.plan.Conflicts {
		s.again(w.ID)
	}
	return nil
}

func (c *comparison) readAll(ctx context.Context) error {
	suspects, err := c.suspects(ctx)
	if err != nil {
		return err
	}
	client, err := c.objects.as(user(c.y))
	if err != nil {
		return err
	}
	for at, these := range suspects {
		if err := c.read(ctx, client, at, these); err != nil {
			return err
		}
	}
	if len(c.refused.lines) > 0 {
		slices.Sort(c.refused.lines)
		return &c.refused
	}
	return nil
}

// suspects are the wanted objects that are to be read, by where they are. Those of which the cache says enough are compared
// at once.
func (c *comparison) suspects(ctx context.Context) (map[shelf][]decide.Rendered, error) {
	out := map[shelf][]decide.Rendered{}
	var fresh []decide.Rendered
	for _, w := range c.wanted {
		if c.s.held[w.ID] {
			continue
		}
		k := c.s.known[w.ID]
		if k != nil && len(k.drift) > 0 && c.y.Spec.Corrects() {
			// It was only reported so far.
			k = &object{Known: decide.Known{Digest: k.Digest}}
			c.s.known[w.ID] = k
		}
		settled := k != nil && k.Digest == w.Digest
		if settled && k.looked && !k.changed {
			continue
		}
		kind := w.Kind()
		if err := c.objects.watch(ctx, kind); meta.IsNoMatchError(err) {
			c.refuse(w.ID, err)
			continue
		} else if err != nil {
			return nil, err
		}
		cached, err := c.objects.cached(ctx, kind, w.ID)
		if err != nil {
			return nil, err
		}
		if settled && c.inOrder(k, w, cached) {
			continue
		}
		if _, mine := c.applied[w.ID]; cached == nil && !mine {
			fresh = append(fresh, w)
			continue
		}
		at := shelf{kind, w.ID.Namespace}
		out[at] = append(out[at], w)
	}
	c.judge(ctx, fresh, nil)
	return out, nil
}

// refuse remembers that an object cannot be looked at.
func (c *comparison) refuse(id decide.ID, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused.add(c.s.place(id), id, err)
}

// judge compares some objects with what is there of them, and remembers those that are in order.
func (c *comparison) judge(ctx context.Context, these []decide.Rendered, live map[decide.ID]*unstructured.Unstructured) {
	if len(these) == 0 {
		return
	}
	owners := c.ownersOf(ctx, live)
	c.mu.Lock()
	defer c.mu.Unlock()
	snapshot := decide.Snapshot{Sync: c.s.name, Rendered: these, Owners: owners, Applied: map[decide.ID]string{}, Live: live, Known: map[decide.ID]decide.Known{}, Correct: c.y.Spec.Corrects(), Contests: c.s.contests, Now: c.now()}
	for _, w := range these {
		if k := c.s.known[w.ID]; k != nil {
			snapshot.Known[w.ID] = k.Known
		}
		if version, ok := c.applied[w.ID]; ok {
			snapshot.Applied[w.ID] = version
		}
	}
	p := decide.Compare(snapshot)
	c.learn(c.s, p, snapshot)
	c.plan.Add(p)
}

// read looks at objects of one kind and namespace, one by one or all at once.
func (c *comparison) read(ctx context.Context, client dynamic.Interface, at shelf, these []decide.Rendered) error {
	resource, err := c.objects.resource(client, at.kind, at.namespace)
	if err != nil {
		return err
	}
	if c.lists(at, these) {
		want := make(map[string]decide.Rendered, len(these))
		for _, w := range these {
			want[w.ID.Name] = w
		}
		err := list(ctx, resource, func(page []unstructured.Unstructured) {
			live, some := map[decide.ID]*unstructured.Unstructured{}, []decide.Rendered(nil)
			for i := range page {
				if w, ok := want[page[i].GetName()]; ok {
					live[w.ID], some = &page[i], append(some, w)
					delete(want, w.ID.Name)
				}
			}
			c.judge(ctx, some, live)
		})
		these = slices.Collect(maps.Values(want))
		switch {
		case err == nil:
			c.judge(ctx, these, nil)
			return nil
		case !apierrors.IsForbidden(err) && !apierrors.IsResourceExpired(err):
			return fmt.Errorf("list %s: %w", at.kind.Kind, err)
		}
		// Who may not list may still get each one.
	}
	var group errgroup.Group
	group.SetLimit(writers)
	for _, w := range these {
		group.Go(func() error {
			live, err := get(ctx, resource, w.ID)
			if apierrors.IsForbidden(err) {
				c.refuse(w.ID, err)
				return nil
			} else if err != nil {
				return err
			}
			found := map[decide.ID]*unstructured.Unstructured{}
			if live != nil {
				found[w.ID] = live
			}
			c.judge(ctx, []decide.Rendered{w}, found)
			return nil
		})
	}
	return group.Wait()
}

// lists tells whether so many are to be read that it is cheaper to list all.
func (c *comparison) lists(at shelf, these []decide.Rendered) bool {
	if len(these) < manyReads {
		return false
	}
	all := 0
	for _, w := range c.s.wanted {
		if w.ID.Kind == at.kind.Kind && w.ID.Group == at.kind.Group && w.ID.Namespace == at.namespace {
			all++
		}
	}
	return len(these)*listShare >= all
}

// left looks at what was applied and has left the repository, and gives what is there of it.
func (c *comparison) left(ctx context.Context) (map[decide.ID]*unstructured.Unstructured, error) {
	snapshot := decide.Snapshot{Sync: c.s.name, Applied: map[decide.ID]string{}, Live: map[decide.ID]*unstructured.Unstructured{}, Prune: c.y.Spec.Prune}
	for id, version := range c.applied {
		if _, ok := c.s.index[id]; ok || c.s.held[id] {
			continue
		}
		live, err := c.former(ctx, id, version)
		if err != nil {
			return nil, err
		}
		snapshot.Applied[id] = version
		if live != nil {
			snapshot.Live[id] = live
		}
	}
	p := decide.Compare(snapshot)
	// An earlier service account may have applied it.
	p.Keep(func(id decide.ID) string { return beyond(c.y, id) })
	if len(p.Prune) > 0 {
		heirs, err := c.heirs(ctx, c.y, c.s.commit, p.Prune, snapshot.Applied)
		if err != nil {
			return nil, fmt.Errorf("list syncs: %w", err)
		}
		p.HandOver(heirs)
	}
	c.plan.Add(p)
	return snapshot.Live, nil
}

// former is an object that is not wanted any more; nil if it is gone, with its kind maybe. What the cache does not know to be
// the Sync's may have been written a moment ago.
func (c *comparison) former(ctx context.Context, id decide.ID, version string) (*unstructured.Unstructured, error) {
	kind := gvk(id, version)
	err := c.objects.watch(ctx, kind)
	if meta.IsNoMatchError(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	cached, err := c.objects.cached(ctx, kind, id)
	if err != nil || cached != nil && decide.Owner(cached) == c.s.name {
		return cached, err
	}
	return c.objects.live(ctx, kind, id)
}

// inOrder looks at an object that was in order, as the cache has it by now, and tells whether it still is.
func (r *Syncs) inOrder(k *object, w decide.Rendered, cached *unstructured.Unstructured) bool {
	if cached == nil {
		return false
	}
	version := cached.GetResourceVersion()
	order, err := resourceversion.CompareResourceVersion(version, k.Version)
	switch {
	case err != nil:
		return false
	case order < 0:
		// The cache is behind: it will tell of what was written.
		k.changed = false
		return true
	case order > 0 && (len(k.drift) > 0 || decide.Owner(cached) == "" || len(decide.Drift(w.Tree(), cached, nil)) > 0):
		return false
	}
	k.Version, k.verdict, k.looked, k.changed = version, decide.HealthOf(cached), true, false
	return true
}

// learn remembers what is in order.
func (r *Syncs) learn(s *session, p decide.Plan, snapshot decide.Snapshot) {
	for _, id := range p.Unchanged {
		live := snapshot.Live[id]
		k := &object{Known: decide.Known{Digest: s.wanted[s.index[id]].Digest}, verdict: decide.HealthOf(live), looked: true}
		if live != nil {
			k.Version = live.GetResourceVersion()
		}
		s.known[id] = k
	}
	shown := p.Contested
	if !snapshot.Correct {
		shown = p.Drifted
	}
	for _, d := range shown {
		if k := s.known[d.ID]; k != nil {
			k.drift = d.Fields
		}
	}
}
