package server

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"
)

func thing(uid string, owners ...string) *owned {
	o := &owned{uid: types.UID(uid), name: uid, namespace: "ns"}
	for _, w := range owners {
		name, block := strings.CutSuffix(w, "!")
		o.owners = append(o.owners, metav1.OwnerReference{UID: types.UID(name), Name: name, BlockOwnerDeletion: &block})
	}
	return o
}

func (o *owned) being(state string) *owned {
	o.deleting = true
	o.foreground, o.orphan = state == "foreground", state == "orphan"
	return o
}

func say(actions []action) string {
	var out []string
	for _, a := range actions {
		switch a.kind {
		case deleteObject:
			out = append(out, fmt.Sprintf("delete %s %s", a.target.uid, a.policy))
		case dropOwners:
			out = append(out, fmt.Sprintf("drop owners %v of %s", a.owners, a.target.uid))
		case dropFinalizer:
			out = append(out, fmt.Sprintf("let %s go", a.target.uid))
		}
	}
	return strings.Join(out, "; ")
}

func TestDecisionsOfTheCollector(t *testing.T) {
	for _, c := range []struct {
		name    string
		objects []*owned
		about   types.UID
		exists  map[types.UID]bool
		want    string
	}{
		{"no owner", []*owned{thing("a")}, "a", nil, ""},
		{"living owner", []*owned{thing("a"), thing("b", "a")}, "b", nil, ""},
		{"owner gone", []*owned{thing("b", "a")}, "b", nil, "delete b Background"},
		{"owner only not seen yet", []*owned{thing("b", "a")}, "b", map[types.UID]bool{"a": true}, ""},
		{"one of two owners gone", []*owned{thing("c"), thing("b", "a", "c")}, "b", nil, "drop owners [a] of b"},
		{"already going", []*owned{thing("b", "a").being("")}, "b", nil, ""},
		{"orphaning", []*owned{thing("a").being("orphan"), thing("b", "a"), thing("c", "a")}, "a", nil, "drop owners [a] of b; drop owners [a] of c; let a go"},
		{"foreground, nobody blocks", []*owned{thing("a").being("foreground"), thing("b", "a")}, "a", nil, "delete b Background; let a go"},
		{"foreground, one blocks", []*owned{thing("a").being("foreground"), thing("b", "a!")}, "a", nil, "delete b Background"},
		{"foreground, the blocking one is going", []*owned{thing("a").being("foreground"), thing("b", "a!").being("")}, "a", nil, ""},
		{"foreground goes down the tree", []*owned{thing("a").being("foreground"), thing("b", "a!"), thing("c", "b!")}, "a", nil, "delete b Foreground"},
		{"foreground, without dependents", []*owned{thing("a").being("foreground")}, "a", nil, "let a go"},
		{"foreground owner and a living one", []*owned{thing("a").being("foreground"), thing("o"), thing("b", "a!", "o")}, "b", nil, "drop owners [a] of b"},
		{"owner in another namespace", []*owned{{uid: "a", namespace: "other"}, thing("b", "a")}, "b", nil, "delete b Background"},
		{"cluster-scoped owner", []*owned{{uid: "a"}, thing("b", "a")}, "b", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newOwnership()
			for _, o := range c.objects {
				g.observe(o)
			}
			if got := say(g.decide(c.about, c.exists)); got != c.want {
				t.Errorf("decided %q, want %q", got, c.want)
			}
		})
	}
}

// Whatever the trees and the order of deletions: carrying out the decisions about what is reported as affected leaves
// nothing that has lost all of its owners, and no foreground deletion hangs.
func TestCollectorConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := newOwnership()
		world := map[types.UID]*owned{}
		n := rapid.IntRange(1, 12).Draw(t, "objects")
		had := map[types.UID]bool{}
		for i := range n {
			var owners []string
			for j := range i {
				if rapid.IntRange(0, 3).Draw(t, "owns") == 0 {
					owners = append(owners, fmt.Sprintf("o%02d%s", j, rapid.SampledFrom([]string{"", "!"}).Draw(t, "blocks")))
				}
			}
			o := thing(fmt.Sprintf("o%02d", i), owners...)
			had[o.uid] = len(owners) > 0
			world[o.uid] = o
			g.observe(o)
		}
		var queue []types.UID
		change := func(o *owned) { world[o.uid] = o; queue = append(queue, g.observe(o)...) }
		finish := func(uid types.UID) { delete(world, uid); queue = append(queue, g.remove(uid)...) }
		remove := func(uid types.UID, policy metav1.DeletionPropagation) {
			o := world[uid]
			if o == nil || o.deleting {
				return
			}
			switch policy {
			case metav1.DeletePropagationForeground:
				c := *o
				change(c.being("foreground"))
			case metav1.DeletePropagationOrphan:
				c := *o
				change(c.being("orphan"))
			default:
				finish(uid)
			}
		}
		remove(types.UID(fmt.Sprintf("o%02d", rapid.IntRange(0, n-1).Draw(t, "victim"))),
			rapid.SampledFrom([]metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan}).Draw(t, "policy"))
		for steps := 0; len(queue) > 0; steps++ {
			if steps > 10_000 {
				t.Fatal("the collector does not come to rest")
			}
			uid := queue[0]
			queue = queue[1:]
			for _, a := range g.decide(uid, nil) {
				if world[a.target.uid] == nil {
					continue
				}
				switch a.kind {
				case deleteObject:
					remove(a.target.uid, a.policy)
				case dropOwners:
					c := *world[a.target.uid]
					c.owners = slices.DeleteFunc(slices.Clone(c.owners), func(r metav1.OwnerReference) bool { return slices.Contains(a.owners, r.UID) })
					change(&c)
				case dropFinalizer:
					finish(a.target.uid)
				}
			}
		}
		for uid, o := range world {
			if o.deleting {
				t.Errorf("%s is still being deleted", uid)
			}
			for _, r := range o.owners {
				if world[r.UID] == nil {
					t.Errorf("%s still names %s, which is gone", uid, r.UID)
				}
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"padis.io/v1alpha1","kind":"App","metadata":{"name":"x"},"spec":{"template":{"command":["a"]}}}`))
	f.Add([]byte(`{"kind":"App","spec":{"replicas":"x","networks":[{"addresses":[1]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		u := &unstructured.Unstructured{}
		if u.UnmarshalJSON(data) != nil {
			return
		}
		for _, into := range []any{newApp(), newPool(), newTenant()} {
			_ = decode(u, into)
		}
	})
}
