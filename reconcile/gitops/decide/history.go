package decide

import (
	"slices"

	"padis.io/padis/api/v1alpha1"
)

// Remember adds a commit, all of which is applied now, to the applied ones. A new one comes first, and so does one that is applied
// again because it is the newest of the source. back: a rollback goes to it. Then it stays where it is, and those before it
// are marked as rolled back, so that what is left is the way that another rollback would take: never to what was just left,
// nor, once a newer commit is applied, to what was rolled back before.
func Remember(history []v1alpha1.AppliedCommit, now v1alpha1.AppliedCommit, back bool) []v1alpha1.AppliedCommit {
	out := slices.Clone(history)
	now.RolledBack = false
	at := slices.IndexFunc(out, func(c v1alpha1.AppliedCommit) bool { return c.Commit == now.Commit })
	if at >= 0 && now.Author == "" {
		now.Author = out[at].Author
	}
	switch {
	case back && at >= 0:
		for i := range at {
			out[i].RolledBack = true
		}
		out[at] = now
		return out
	case back:
		// Whether the others are older or newer than this one is not known.
		for i := range out {
			out[i].RolledBack = true
		}
	case at >= 0:
		out = slices.Delete(out, at, at+1)
	}
	out = slices.Insert(out, 0, now)
	return out[:min(len(out), v1alpha1.MaxHistory)]
}
