package decide

import (
	"cmp"
	"slices"
)

// Wave are objects that are applied together, in this order. All must be healthy before the next wave begins.
type Wave struct {
	Number  int32
	Objects []Rendered
}

// kinds in the order in which they need each other. Others come last.
var kinds = map[string]int{
	"Namespace":                1,
	"CustomResourceDefinition": 2,
	"Tenant":                   3,
	"Network":                  4,
	"IPPool":                   5,
	"BGPPeer":                  6,
	"Registry":                 7,
	"ConfigMap":                8,
	"Secret":                   8,
	"ServiceAccount":           9,
	"Role":                     10,
	"ClusterRole":              10,
	"RoleBinding":              11,
	"ClusterRoleBinding":       11,
	"GitSource":                12,
	"ImagePrepull":             13,
	"App":                      14,
	"LoadBalancer":             15,
	"Sync":                     16,
	"ExecutorUpgrade":          17,
	"AppRevision":              18,
}

const otherKinds = 100

func rank(kind string) int {
	if n, known := kinds[kind]; known {
		return n
	}
	return otherKinds
}

func byKind(a, b ID) int { return cmp.Or(cmp.Compare(rank(a.Kind), rank(b.Kind)), compareIDs(a, b)) }

// Order sorts objects into waves: by their number, and within a wave by kind, so that what others need comes first.
func Order(objects []Rendered) []Wave {
	sorted := slices.SortedFunc(slices.Values(objects), func(a, b Rendered) int {
		return cmp.Or(cmp.Compare(a.Wave, b.Wave), byKind(a.ID, b.ID))
	})
	var out []Wave
	for _, r := range sorted {
		if len(out) == 0 || out[len(out)-1].Number != r.Wave {
			out = append(out, Wave{Number: r.Wave})
		}
		last := &out[len(out)-1]
		last.Objects = append(last.Objects, r)
	}
	return out
}

// Together is how many of the first of some objects, in the order of a Wave or of Plan.Prune, can be written at the same time:
// their kinds do not need each other.
func Together[T any](list []T, id func(T) ID) int {
	for n := range list {
		a, b := id(list[0]), id(list[n])
		if same := a.Kind == b.Kind && a.Group == b.Group; !same && (rank(a.Kind) != rank(b.Kind) || rank(a.Kind) == otherKinds) {
			return n
		}
	}
	return len(list)
}

// pruneOrder is the opposite: what needs others goes first.
func pruneOrder(ids []ID) {
	slices.SortFunc(ids, func(a, b ID) int { return byKind(b, a) })
}
