package decide

import (
	"fmt"
	"slices"
	"strings"
)

// Claimant is a Sync and what is known of its wishes, for another one that has, or wants, the same objects.
type Claimant struct {
	// Name is its NAMESPACE/NAME.
	Name string
	// Gone: it does not exist, or is being deleted.
	Gone bool
	// Declares is what the commit that shall be in force renders to, and the newest one, where that is another. Held is what it
	// leaves as it is by spec.undo.
	Declares, Held map[ID]bool
	// Unknown: a commit of these cannot be rendered, so that Declares may lack something.
	Unknown bool
	// Related: its source is the same ref of the same repository.
	Related bool
	// Barred are objects that it may not write.
	Barred map[ID]bool
}

// Why is the command that says what a Sync waits for.
func (c Claimant) Why() string {
	namespace, name, _ := strings.Cut(c.Name, "/")
	return fmt.Sprintf("`padis why sync/%s -n %s`", name, namespace)
}

// keeps says why an object that carries the name of this Sync is its own still; empty if it has let go of it.
func (c Claimant) keeps(id ID) string {
	switch {
	case c.Gone:
	case c.Declares[id]:
		return "declares it"
	case c.Held[id]:
		return "leaves it as it is by spec.undo"
	case c.Unknown:
		return "may declare it still, which cannot be told before it can be rendered (" + c.Why() + ")"
	}
	return ""
}

// heir says who is to have an object that a Sync gives up: who declares it, or else who may do, for what is deleted too early
// cannot be brought back.
func heir(id ID, all []Claimant) (Kept, bool) {
	may := func(c Claimant) bool { return !c.Gone && !c.Barred[id] }
	for _, c := range all {
		if may(c) && c.Declares[id] {
			return Kept{ID: id, To: c.Name, Message: fmt.Sprintf(
				"has left the repository and stays, since the Sync %s declares it and has not taken it over yet: %s says what that waits for", c.Name, c.Why())}, true
		}
	}
	for _, c := range all {
		if may(c) && c.Unknown && c.Related {
			return Kept{ID: id, To: c.Name, Unsure: true, Message: fmt.Sprintf(
				"has left the repository and stays, since the Sync %s of the same repository may declare it, which cannot be told before it can be rendered: mend that (%s), or delete it by hand if nobody needs it", c.Name, c.Why())}, true
		}
	}
	return Kept{}, false
}

// HandOver has objects stay that would be deleted and that another Sync is about to own, or may be.
func (p *Plan) HandOver(all []Claimant) {
	all = slices.SortedFunc(slices.Values(all), func(a, b Claimant) int { return strings.Compare(a.Name, b.Name) })
	p.Prune = slices.DeleteFunc(p.Prune, func(id ID) bool {
		kept, found := heir(id, all)
		if found {
			p.Protected = append(p.Protected, kept)
		}
		return found
	})
}

// Waiting are the objects that stay for another Sync.
func (p *Plan) Waiting() []Kept {
	return slices.DeleteFunc(slices.Clone(p.Protected), func(k Kept) bool { return k.To == "" })
}

// HandingOver says which objects stay for other Syncs, and why; empty if none does.
func HandingOver(kept []Kept) string {
	const most = 5
	var out []string
	for _, k := range kept[:min(len(kept), most)] {
		out = append(out, k.ID.String()+" "+k.Message)
	}
	if more := len(kept) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, "; ")
}

// Plural counts something.
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
