package decide

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"padis.io/padis/api/v1alpha1"
)

// Snapshot is what Compare looks at.
type Snapshot struct {
	// Sync is the NAMESPACE/NAME of the Sync.
	Sync string
	// Rendered is what the commit wants.
	Rendered []Rendered
	// Applied is what the Sync has applied so far, from its inventory.
	Applied map[ID]string
	// Live are those of all these objects that are there.
	Live map[ID]*unstructured.Unstructured
	// Known is what was found in order before. It may be empty: it saves looking, and tells drift from new wishes.
	Known map[ID]Known
	// Owners are the other Syncs whose names live objects carry, by name. Objects of one that is not listed are its own.
	Owners map[string]Claimant
	// Prune: objects that have left the repository are deleted. Correct: fields that others have changed are put back.
	Prune, Correct bool
	// Contests are what others change again and again, as it is at Now. Empty, all is put back at once.
	Contests Contests
	Now      time.Time
}

// Known is a state of an object that was in order.
type Known struct {
	// Digest is that of the rendered object, and Version the resourceVersion of the live one.
	Digest, Version string
}

// Plan says what becomes of each object. Each that is rendered is in one of Create, Update, Unchanged and Conflicts, and
// may be in Drifted, too; each that was applied and is not rendered is in one of Prune, Protected and Released.
type Plan struct {
	// Create and Update in the order of Snapshot.Rendered.
	Create []Rendered
	Update []Update
	// Unchanged need no write.
	Unchanged []ID
	// Prune in the order in which they can go: what needs others goes first.
	Prune []ID
	// Protected have left the repository and stay.
	Protected []Kept
	// Released have left the repository and are gone, or somebody else's: the inventory forgets them.
	Released []ID
	// Conflicts are objects that others have a better right to. They are not written.
	Conflicts []Conflict
	// Drifted are objects that others have changed: what is put back, or only reported.
	Drifted []Drifted
	// Contested is what is put back later, since it is changed again as soon as it is.
	Contested []Drifted
}

// Update is an object that is written.
type Update struct {
	Rendered
	// Apply is what is applied: the object, but where others have changed it and are only reported, with their values.
	Apply []byte
	// Fields differ; there may be none if the Sync only becomes their manager.
	Fields []FieldChange
	// Force: what others have changed is put back.
	Force bool
	// TakeOver: what padis rollback has set becomes the Sync's first, so that what of it is not wanted is removed.
	TakeOver bool
}

// Kept is an object that stays.
type Kept struct {
	ID ID
	// Message says why.
	Message string
	// To is the Sync that it stays for; empty if it stays for another reason. Unsure: nobody knows whether that wants it.
	To     string
	Unsure bool
}

// Conflict is an object, or a field of it, that is somebody else's.
type Conflict struct {
	ID ID
	// Field is empty if it is the whole object. Owner is the Sync that has it then.
	Field FieldChange
	Owner string
	// Message says whose it is, and what to do.
	Message string
}

// Drifted is an object that others have changed. A field without a path is the whole object: somebody has deleted it.
type Drifted struct {
	ID     ID
	Fields []FieldChange
}

// Writes is the number of writes that the plan needs.
func (p *Plan) Writes() int { return len(p.Create) + len(p.Update) + len(p.Prune) }

// Add takes in a plan of other objects of the same Sync.
func (p *Plan) Add(o Plan) {
	p.Create, p.Update, p.Unchanged = append(p.Create, o.Create...), append(p.Update, o.Update...), append(p.Unchanged, o.Unchanged...)
	p.Prune, p.Protected, p.Released = append(p.Prune, o.Prune...), append(p.Protected, o.Protected...), append(p.Released, o.Released...)
	p.Conflicts, p.Drifted, p.Contested = append(p.Conflicts, o.Conflicts...), append(p.Drifted, o.Drifted...), append(p.Contested, o.Contested...)
	pruneOrder(p.Prune)
}

// Sort puts what a plan says of rendered objects in their order.
func (p *Plan) Sort(place func(ID) int) {
	slices.SortStableFunc(p.Create, func(a, b Rendered) int { return place(a.ID) - place(b.ID) })
	slices.SortStableFunc(p.Update, func(a, b Update) int { return place(a.ID) - place(b.ID) })
	slices.SortStableFunc(p.Unchanged, func(a, b ID) int { return place(a) - place(b) })
	slices.SortStableFunc(p.Conflicts, func(a, b Conflict) int { return place(a.ID) - place(b.ID) })
	slices.SortStableFunc(p.Drifted, func(a, b Drifted) int { return place(a.ID) - place(b.ID) })
	slices.SortStableFunc(p.Contested, func(a, b Drifted) int { return place(a.ID) - place(b.ID) })
}

// Keep has objects stay that would be deleted, if there is a reason for it.
func (p *Plan) Keep(why func(ID) string) {
	p.Prune = slices.DeleteFunc(p.Prune, func(id ID) bool {
		message := why(id)
		if message != "" {
			p.Protected = append(p.Protected, Kept{ID: id, Message: message})
		}
		return message != ""
	})
}

// Compare decides what becomes of each object of a Sync.
func Compare(s Snapshot) Plan {
	var p Plan
	wanted := make(map[ID]bool, len(s.Rendered))
	for _, r := range s.Rendered {
		wanted[r.ID] = true
		p.one(&s, r)
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.Applied), compareIDs) {
		if wanted[id] {
			continue
		}
		live := s.Live[id]
		switch {
		case live == nil, Owner(live) != s.Sync:
			p.Released = append(p.Released, id)
		case id == SyncID(s.Sync):
			p.Protected = append(p.Protected, Kept{ID: id, Message: "has left the repository and stays, since it is the Sync itself"})
		case !s.Prune:
			p.Protected = append(p.Protected, Kept{ID: id, Message: "has left the repository and stays, since spec.prune is not set"})
		case live.GetAnnotations()[v1alpha1.AnnotationPrune] == v1alpha1.PruneDisabled:
			p.Protected = append(p.Protected, Kept{ID: id, Message: "has left the repository and stays, since its annotation " + v1alpha1.AnnotationPrune + " is " + v1alpha1.PruneDisabled})
		default:
			p.Prune = append(p.Prune, id)
		}
	}
	pruneOrder(p.Prune)
	return p
}

// SyncID is the Sync of a name as an object, which a repository may hold, too.
func SyncID(sync string) ID {
	namespace, name, _ := strings.Cut(sync, "/")
	return ID{Group: v1alpha1.GroupVersion.Group, Kind: "Sync", Namespace: namespace, Name: name}
}

// one decides what becomes of an object that is rendered.
func (p *Plan) one(s *Snapshot, r Rendered) {
	live, known := s.Live[r.ID], s.Known[r.ID]
	_, applied := s.Applied[r.ID]
	settled := known.Digest == r.Digest
	if live == nil {
		if !applied || !settled {
			p.Create = append(p.Create, r)
			return
		}
		gone := Drifted{r.ID, []FieldChange{{Want: "present"}}}
		if s.Correct && s.Contests.waits(Contender{ID: r.ID}, s.Now) {
			p.Contested, p.Unchanged = append(p.Contested, gone), append(p.Unchanged, r.ID)
			return
		}
		p.Drifted = append(p.Drifted, gone)
		if s.Correct {
			p.Create = append(p.Create, r)
		} else {
			p.Unchanged = append(p.Unchanged, r.ID)
		}
		return
	}
	if settled && known.Version == live.GetResourceVersion() && known.Version != "" {
		p.Unchanged = append(p.Unchanged, r.ID)
		return
	}
	ours := applied || Owner(live) == s.Sync
	if other := Owner(live); other != "" && other != s.Sync {
		owner, known := s.Owners[other]
		keeps := owner.keeps(r.ID)
		if !known {
			keeps = "has applied it"
		}
		if keeps != "" {
			p.Conflicts = append(p.Conflicts, Conflict{ID: r.ID, Owner: other, Message: fmt.Sprintf(
				"is of the Sync %s, which %s: remove it from one of the two repositories, or take the annotation %s from it", other, keeps, v1alpha1.AnnotationSync)})
			return
		}
		// That one has let go of it. What others have changed is drift, as it was there; if there is no such Sync any more, they may
		// have made it their own since.
		ours = applied || !owner.Gone
	}
	p.field(s, r, live, settled, ours)
}

// field decides by the fields of an object that is there.
func (p *Plan) field(s *Snapshot, r Rendered, live *unstructured.Unstructured, settled, ours bool) {
	tree := r.Tree()
	changes, adopts := compareFields(tree, live, live.GetManagedFields(), ours)
	var drift, mine, waiting []FieldChange
	conflicts := len(p.Conflicts)
	for _, c := range changes {
		switch {
		case c.others == byApply, c.others == byUpdate && !ours:
			p.Conflicts = append(p.Conflicts, Conflict{ID: r.ID, Field: c, Message: fmt.Sprintf(
				"%s is %s by %s and would be %s: take it out of the repository, or have %s give it up", c.Path, text(c.Is), c.By, text(c.Want), c.By)})
		case ours && (c.others == byUpdate || settled) && s.Correct && s.Contests.waits(Contender{r.ID, c.By}, s.Now):
			waiting = append(waiting, c)
		case ours && (c.others == byUpdate || settled):
			drift = append(drift, c)
		default:
			mine = append(mine, c)
		}
	}
	if len(drift) > 0 {
		p.Drifted = append(p.Drifted, Drifted{r.ID, drift})
	}
	if len(waiting) > 0 {
		p.Contested = append(p.Contested, Drifted{r.ID, waiting})
	}
	if len(p.Conflicts) > conflicts {
		return
	}
	u := Update{Rendered: r, Apply: r.JSON, Fields: mine}
	if ours && slices.ContainsFunc(live.GetManagedFields(), undoes) {
		// Nothing but that stands in the way of a rehearsal: fields of others are conflicts.
		u.TakeOver, u.Force = true, true
	}
	switch {
	case len(drift) > 0 && s.Correct:
		u.Fields, u.Force = slices.Concat(drift, mine), true
		if len(waiting) > 0 {
			u.Apply = kept(tree, waiting)
		} else {
			u.Fields = changes
		}
	case len(mine) == 0 && (!adopts || len(drift)+len(waiting) > 0):
		p.Unchanged = append(p.Unchanged, r.ID)
		return
	case len(drift)+len(waiting) > 0:
		u.Apply = kept(tree, slices.Concat(drift, waiting))
	}
	p.Update = append(p.Update, u)
}

// kept is an object with the values that others have given to some of its fields.
func kept(tree *unstructured.Unstructured, fields []FieldChange) []byte {
	// Both were read from JSON.
	text, _ := json.Marshal(keep(tree, fields).Object)
	return text
}

// Reasons why a Sync deletes nothing.
const (
	ReasonPruneLimit = "PruneLimit"
	ReasonPruneAll   = "PruneAll"
)

// Refusal is why something is not done, and what to do about it.
type Refusal struct{ Reason, Message string }

// names are the first of some objects, as a message has room for.
func names(ids []ID) string {
	const most = 5
	var out []string
	for _, id := range ids[:min(len(ids), most)] {
		out = append(out, id.String())
	}
	if more := len(ids) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// MayPrune says why the deletions of a plan need confirmation; nil if they may be made. confirmed is the value of the
// annotation AnnotationConfirmPrune of the Sync: it counts for one commit. A limit of 0 asks for each deletion. Without a
// limit, only the deletion of all that a Sync has asks: an empty directory is rarely meant.
func MayPrune(p Plan, applied int, limit *v1alpha1.PruneLimit, commit, confirmed string) *Refusal {
	n := len(p.Prune)
	if n == 0 || commit != "" && confirmed == commit {
		return nil
	}
	refuse := func(reason, format string, args ...any) *Refusal {
		return &Refusal{reason, fmt.Sprintf(format, args...) + fmt.Sprintf(" (%s): if that is meant, annotate the Sync with %s=%s; nothing is deleted until then", names(p.Prune), v1alpha1.AnnotationConfirmPrune, commit)}
	}
	if limit == nil || limit.Count == nil && limit.Percent == nil {
		if n == applied && n > 1 {
			return refuse(ReasonPruneAll, "the commit would delete all %d objects of the Sync", n)
		}
		return nil
	}
	if limit.Count != nil && int64(n) > int64(*limit.Count) {
		return refuse(ReasonPruneLimit, "the commit would delete %s, more than the %d of spec.pruneLimit.count", Plural(n, "object", "objects"), *limit.Count)
	}
	if limit.Percent != nil && int64(n)*100 > int64(*limit.Percent)*int64(applied) {
		return refuse(ReasonPruneLimit, "the commit would delete %d of %s, more than the %d %% of spec.pruneLimit.percent", n, Plural(applied, "object", "objects"), *limit.Percent)
	}
	return nil
}
