package gitops

import (
	"context"
	"slices"
	"time"

	"padis.io/padis/reconcile/gitops/decide"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// ownersOf finds out what the other Syncs declare whose names some objects carry.
func (c *comparison) ownersOf(ctx context.Context, live map[decide.ID]*unstructured.Unstructured) map[string]decide.Claimant {
	of := map[string][]decide.ID{}
	for id, u := range live {
		if name := decide.Owner(u); name != "" && name != c.s.name {
			of[name] = append(of[name], id)
		}
	}
	out := make(map[string]decide.Claimant, len(of))
	for name, ids := range of {
		out[name] = c.owner(ctx, name, ids)
	}
	return out
}

// contested tells whether another Sync has something that is wanted. When it lets go of it, the object does not change.
func contested(p decide.Plan) bool {
	return slices.ContainsFunc(p.Conflicts, func(c decide.Conflict) bool { return c.Owner != "" })
}

// uncontested tells whether what the failed attempt wanted and other Syncs had is to be had by now.
func (l *look) uncontested(ctx context.Context) bool {
	if l.render(ctx, l.y, l.s, l.set, l.s.state.Attempt) != nil {
		return false
	}
	l.hold(ctx)
	plan, _, err := l.compare(ctx, l.y, l.s, l.shown.Inventory)
	return err == nil && !contested(plan)
}

// soon is when to come back, if not earlier, where another Sync has what is wanted.
func (l *look) soon(after time.Duration) time.Duration {
	if l.s.contested && after > again {
		return again
	}
	return after
}

// handOver tells other Syncs of what stays for them, and says when to look again whether they still want it.
func (l *look) handOver(p decide.Plan) time.Duration {
	waits := p.Waiting()
	l.poke(l.s, waits)
	if len(waits) > 0 || contested(p) {
		return again
	}
	return 0
}

// poke has Syncs look at what stays for them, once: that it was let go of changes nothing that they watch.
func (r *Syncs) poke(s *session, waits []decide.Kept) {
	told := make(map[decide.ID]string, len(waits))
	for _, k := range waits {
		if s.told[k.ID] != k.To {
			r.objects.tell(k.To, k.ID)
		}
		told[k.ID] = k.To
	}
	s.told = told
}
