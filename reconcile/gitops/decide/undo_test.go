package decide

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"padis.io/padis/api/v1alpha1"
)

func undo(name, from string) v1alpha1.SyncUndo {
	return v1alpha1.SyncUndo{Group: "padis.io", Kind: "App", Namespace: "shop", Name: name, From: from}
}

func appID(name string) ID { return ID{"padis.io", "App", "shop", name} }

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		name   string
		undo   []v1alpha1.SyncUndo
		wanted map[ID]string
		said   map[string]Said
		want   string
	}{
		{"nothing is undone", nil, map[ID]string{appID("web"): "1"}, nil, ""},
		{"the bad commit is the wanted one", []v1alpha1.SyncUndo{undo("web", "bad")}, map[ID]string{appID("web"): "1"},
			map[string]Said{"bad": {Digests: map[ID]string{appID("web"): "1"}}}, "app/shop/web"},
		{"a commit says something else", []v1alpha1.SyncUndo{undo("web", "bad")}, map[ID]string{appID("web"): "2"},
			map[string]Said{"bad": {Digests: map[ID]string{appID("web"): "1"}}}, ""},
		{"a commit says nothing of it any more", []v1alpha1.SyncUndo{undo("web", "bad")}, map[ID]string{appID("db"): "1"},
			map[string]Said{"bad": {Digests: map[ID]string{appID("web"): "1"}}}, ""},
		{"the bad commit has removed it, and so has the wanted one", []v1alpha1.SyncUndo{undo("web", "bad")}, nil,
			map[string]Said{"bad": {Digests: map[ID]string{}}}, "app/shop/web"},
		{"the bad commit has removed it, and it is back", []v1alpha1.SyncUndo{undo("web", "bad")}, map[ID]string{appID("web"): "1"},
			map[string]Said{"bad": {Digests: map[ID]string{}}}, ""},
		{"the bad commit is gone", []v1alpha1.SyncUndo{undo("web", "bad")}, map[ID]string{appID("web"): "2"},
			map[string]Said{"bad": {Problem: "there is no such commit"}}, "app/shop/web (what commit bad says of it cannot be told: there is no such commit)"},
		{"two bad commits, one of which the wanted one repeats", []v1alpha1.SyncUndo{undo("web", "bad"), undo("web", "worse")}, map[ID]string{appID("web"): "2"},
			map[string]Said{"bad": {Digests: map[ID]string{appID("web"): "1"}}, "worse": {Digests: map[ID]string{appID("web"): "2"}}}, "app/shop/web"},
		{"what is known counts more than what is not", []v1alpha1.SyncUndo{undo("web", "gone"), undo("web", "bad")}, map[ID]string{appID("web"): "1"},
			map[string]Said{"gone": {Problem: "no"}, "bad": {Digests: map[ID]string{appID("web"): "1"}}}, "app/shop/web"},
		{"two objects", []v1alpha1.SyncUndo{undo("web", "bad"), undo("db", "bad")}, map[ID]string{appID("web"): "1", appID("db"): "1"},
			map[string]Said{"bad": {Digests: map[ID]string{appID("web"): "1", appID("db"): "1"}}}, "app/shop/db app/shop/web"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			holds := Holds(c.undo, c.wanted, c.said)
			for _, h := range holds {
				s := h.ID.String()
				if h.Problem != "" {
					s += " (" + h.Problem + ")"
				}
				got = append(got, s)
				if message := Undone(holds); !strings.Contains(message, h.ID.String()) || !strings.Contains(message, h.Problem) {
					t.Errorf("it is not said of %s: %s", s, message)
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("held are %q, not %q", s, c.want)
			}
			if len(holds) == 0 && Undone(holds) != "" {
				t.Errorf("it is said that %s", Undone(holds))
			}
		})
	}
}

// As long as a commit says what the bad one says, nothing is applied; what was not undone is never held; and the order of the
// entries does not matter.
func TestHeldUntilSomethingElseIsSaid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d"}
		says := func(label string) map[ID]string {
			out := map[ID]string{}
			for _, n := range names {
				if d := rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, label+n); d != "" {
					out[appID(n)] = d
				}
			}
			return out
		}
		wanted := says("wanted")
		said := map[string]Said{}
		for _, commit := range []string{"x", "y", "z"} {
			said[commit] = Said{Digests: says(commit)}
			if rapid.IntRange(0, 4).Draw(t, "gone"+commit) == 0 {
				said[commit] = Said{Problem: "gone"}
			}
		}
		var list []v1alpha1.SyncUndo
		for i := range rapid.IntRange(0, 6).Draw(t, "entries") {
			list = append(list, undo(rapid.SampledFrom(names).Draw(t, fmt.Sprint("name", i)), rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, fmt.Sprint("from", i))))
		}
		held := func(list []v1alpha1.SyncUndo) map[ID]bool {
			out := map[ID]bool{}
			for _, h := range Holds(list, wanted, said) {
				out[h.ID] = true
			}
			return out
		}
		got := held(list)
		for _, n := range names {
			want := false
			for _, u := range list {
				s := said[u.From]
				want = want || u.Name == n && (s.Problem != "" || s.Digests[appID(n)] == wanted[appID(n)])
			}
			if got[appID(n)] != want {
				t.Fatalf("%s is held: %t, with %+v, wanted %v, said %+v", n, got[appID(n)], list, wanted, said)
			}
		}
		turned := slices.Clone(list)
		slices.Reverse(turned)
		if !maps.Equal(got, held(turned)) {
			t.Fatalf("the order matters: %v, %v", got, held(turned))
		}
	})
}

// What padis rollback has set in an object of the Sync is the Sync's: it is no drift, no conflict, and goes if it is not wanted.
func TestWhatWasUndoneIsTakenOver(t *testing.T) {
	converter := newConverter(t)
	old := app(t, `{replicas: 3, template: {command: [sleep, "1"], env: [{name: OLD, value: "1"}]}}`)
	bad := app(t, `{replicas: 3, template: {command: [sleep, "2"], labels: {bad: "yes"}}}`)
	fix := app(t, `{replicas: 3, template: {command: [sleep, "3"]}}`)
	for _, correct := range []bool{true, false} {
		a := newAPI(converter)
		a.apply(t, old.Tree(), Manager, false)
		spec := a.object().Object["spec"]
		a.apply(t, bad.Tree(), Manager, false)
		a.edit(t, v1alpha1.UndoManager, func(o map[string]any) { o["spec"] = spec })

		want := `force {spec.template.command[1]: 1 -> 3 by padis-rollback; spec.template.env: [{"name":"OLD","value":"1"}] -> }`
		// Also after a restart, when nothing is known.
		for _, known := range []map[ID]Known{{bad.ID: {Digest: bad.Digest, Version: "2"}}, nil} {
			p := a.look(fix, true, correct, known)
			if got := said(p); got != want || !p.Update[0].TakeOver || len(p.Drifted)+len(p.Conflicts) > 0 {
				t.Errorf("correct %t: %s, %+v", correct, got, p)
			}
		}
		// The same in an object that is not the Sync's is somebody else's.
		a.edit(t, "x", func(o map[string]any) {
			delete(o["metadata"].(map[string]any), "annotations")
		})
		if p := a.look(fix, false, correct, nil); len(p.Conflicts) == 0 {
			t.Errorf("it would be stolen: %s", said(p))
		}
	}
}
