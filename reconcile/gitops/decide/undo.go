package decide

import (
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/api/v1alpha1"
)

// Said is what a bad commit says.
type Said struct {
	// Digests are those of what it renders to with the settings of now.
	Digests map[ID]string
	// Problem is why that cannot be told; empty if it can.
	Problem string
}

// Hold is an object of spec.undo that is left as it is.
type Hold struct {
	ID ID
	// Problem is why it cannot be told whether the wanted commit says something new of it; empty if it says the same as the bad
	// one.
	Problem string
}

// Target is the object that an entry of spec.undo is of.
func Target(u *v1alpha1.SyncUndo) ID {
	return ID{Group: u.Group, Kind: u.Kind, Namespace: u.Namespace, Name: u.Name}
}

// Holds tells which objects of spec.undo are left as they are: those of which the wanted commit says what the bad one says, be it
// nothing. wanted are the Digests of the wanted commit, said is what the bad ones say, by commit. Where that cannot be told, an
// object is left as it is, too: what was undone must not come back because a repository has forgotten it.
func Holds(undo []v1alpha1.SyncUndo, wanted map[ID]string, said map[string]Said) []Hold {
	held := map[ID]Hold{}
	for _, u := range undo {
		id := Target(&u)
		bad, known := said[u.From]
		if !known {
			bad.Problem = "it was not read"
		}
		switch {
		case bad.Problem != "":
			if _, twice := held[id]; !twice {
				held[id] = Hold{ID: id, Problem: fmt.Sprintf("what commit %s says of it cannot be told: %s", u.From, bad.Problem)}
			}
		case bad.Digests[id] == wanted[id]:
			held[id] = Hold{ID: id}
		}
	}
	var out []Hold
	for _, h := range held {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b Hold) int { return compareIDs(a.ID, b.ID) })
	return out
}

// Undone says which objects are left as they are, and until when; empty if none is.
func Undone(holds []Hold) string {
	if len(holds) == 0 {
		return ""
	}
	var names, problems []string
	for _, h := range holds {
		names = append(names, h.ID.String())
		if h.Problem != "" {
			problems = append(problems, fmt.Sprintf("%s: %s: remove it from spec.undo if it may be applied", h.ID, h.Problem))
		}
	}
	out := "by spec.undo, left as they are until a commit says something else of them: " + strings.Join(names, ", ")
	if len(problems) > 0 {
		out += "; " + strings.Join(problems, "; ")
	}
	return out
}
