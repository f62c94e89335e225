package decide

import (
	"slices"
	"testing"
)

// Plans of some objects at a time are the plan of all of them.
func TestPlansAddUp(t *testing.T) {
	t.Parallel()
	id := func(kind, name string) ID { return ID{Kind: kind, Namespace: "shop", Name: name} }
	var p Plan
	p.Add(Plan{Create: []Rendered{{ID: id("ConfigMap", "b")}}, Prune: []ID{id("ConfigMap", "x")}, Drifted: []Drifted{{ID: id("ConfigMap", "d")}}})
	p.Add(Plan{Create: []Rendered{{ID: id("ConfigMap", "a")}}, Prune: []ID{id("App", "y"), id("Role", "z")}, Drifted: []Drifted{{ID: id("ConfigMap", "c")}}})
	p.Sort(func(i ID) int { return int(i.Name[0]) })
	if p.Create[0].ID.Name != "a" || p.Create[1].ID.Name != "b" || p.Drifted[0].ID.Name != "c" || p.Drifted[1].ID.Name != "d" {
		t.Errorf("not sorted: %+v", p)
	}
	if want := []ID{id("App", "y"), id("Role", "z"), id("ConfigMap", "x")}; !slices.Equal(p.Prune, want) {
		t.Errorf("prune %v, want %v", p.Prune, want)
	}
	p.Keep(func(i ID) string { return map[bool]string{true: "gives rights"}[i.Kind == "Role"] })
	if len(p.Prune) != 2 || len(p.Protected) != 1 || p.Protected[0] != (Kept{ID: id("Role", "z"), Message: "gives rights"}) {
		t.Errorf("prune %v, protected %v", p.Prune, p.Protected)
	}
}
