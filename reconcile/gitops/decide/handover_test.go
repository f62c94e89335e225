package decide

import (
	"strings"
	"testing"

	"padis.io/padis/api/v1alpha1"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func these(ids ...ID) map[ID]bool {
	out := map[ID]bool{}
	for _, id := range ids {
		out[id] = true
	}
	return out
}

func TestWhatAnotherSyncIsAboutToOwnIsNotDeleted(t *testing.T) {
	web := appID("web")
	for _, c := range []struct {
		name string
		all  []Claimant
		want string
	}{
		{"nobody else", nil, "prune"},
		{"another one declares other things", []Claimant{{Name: "ops/b", Declares: these(appID("db")), Related: true}}, "prune"},
		{"another one declares it", []Claimant{{Name: "ops/b", Declares: these(web)}}, "ops/b declares it"},
		{"another one that is being deleted", []Claimant{{Name: "ops/b", Declares: these(web), Gone: true}}, "prune"},
		{"another one that may not write it", []Claimant{{Name: "ops/b", Declares: these(web), Barred: these(web)}}, "prune"},
		{"another one that may not write something else", []Claimant{{Name: "ops/b", Declares: these(web), Barred: these(appID("db"))}}, "ops/b declares it"},
		{"another one of this repository that cannot be rendered", []Claimant{{Name: "ops/b", Unknown: true, Related: true}}, "ops/b of the same repository may declare it (unsure)"},
		{"another one of this repository, of which only an earlier commit can be rendered", []Claimant{{Name: "ops/b", Declares: these(appID("db")), Unknown: true, Related: true}},
			"ops/b of the same repository may declare it (unsure)"},
		{"another one of this repository that cannot be rendered, and may not write it", []Claimant{{Name: "ops/b", Unknown: true, Related: true, Barred: these(web)}}, "prune"},
		{"another one of another repository that cannot be rendered", []Claimant{{Name: "ops/b", Unknown: true}}, "prune"},
		{"who declares it counts more than who may", []Claimant{{Name: "ops/b", Unknown: true, Related: true}, {Name: "ops/c", Declares: these(web)}}, "ops/c declares it"},
		{"two declare it", []Claimant{{Name: "ops/c", Declares: these(web)}, {Name: "ops/b", Declares: these(web)}}, "ops/b declares it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Plan{Prune: []ID{web}}
			p.HandOver(c.all)
			got := "prune"
			if len(p.Prune) == 0 {
				k := p.Waiting()[0]
				got = k.To + " may declare it"
				switch {
				case strings.Contains(k.Message, "since the Sync "+k.To+" declares it"):
					got = k.To + " declares it"
				case strings.Contains(k.Message, "since the Sync "+k.To+" of the same repository may declare it"):
					got = k.To + " of the same repository may declare it"
				}
				if k.Unsure {
					got += " (unsure)"
				}
				namespace, name, _ := strings.Cut(k.To, "/")
				if text := HandingOver(p.Waiting()); !strings.Contains(text, "app/shop/web has left") || !strings.Contains(text, "`padis why sync/"+name+" -n "+namespace+"`") {
					t.Errorf("it is said: %s", text)
				}
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhatOthersKeepForOtherReasonsDoesNotWait(t *testing.T) {
	p := Plan{Protected: []Kept{{ID: appID("web"), Message: "stays"}}}
	if w := p.Waiting(); len(w) != 0 || HandingOver(w) != "" {
		t.Errorf("waits for %v", w)
	}
}

func TestWhatAnotherSyncHasLetGoOfIsTakenOver(t *testing.T) {
	converter := newConverter(t)
	web := appID("web")
	scaled := func(t *testing.T, a *api) { a.edit(t, "kubectl-scale", setField(int64(7), "spec", "replicas")) }
	const mine = "update {metadata.annotations.padis.io/sync: ops/other -> ops/shop}"
	for _, c := range []struct {
		name   string
		owner  *Claimant
		others func(t *testing.T, a *api)
		want   string
		says   string
	}{
		{"nothing is known of it", nil, nil, "conflict {:  -> }", "is of the Sync ops/other, which has applied it"},
		{"it has let go", &Claimant{Declares: these(appID("db"))}, nil, mine, ""},
		{"it declares it still", &Claimant{Declares: these(web)}, nil, "conflict {:  -> }", "which declares it"},
		{"it may declare it still", &Claimant{Unknown: true}, nil, "conflict {:  -> }", "`padis why sync/other -n ops`"},
		{"it holds it", &Claimant{Held: these(web)}, nil, "conflict {:  -> }", "spec.undo"},
		{"it is gone", &Claimant{Gone: true}, nil, mine, ""},
		{"it has let go, and somebody has changed it", &Claimant{}, scaled,
			"force {metadata.annotations.padis.io/sync: ops/other -> ops/shop; spec.replicas: 7 -> 3 by kubectl-scale} drift {spec.replicas: 7 -> 3 by kubectl-scale}", ""},
		{"it is gone, and somebody has changed it", &Claimant{Gone: true}, scaled,
			"conflict {spec.replicas: 7 -> 3 by kubectl-scale}", "kubectl-scale"},
		{"it has let go, and somebody has applied another value", &Claimant{}, func(t *testing.T, a *api) {
			o := app(t, `{replicas: 4}`).Tree()
			o.SetAnnotations(nil)
			a.apply(t, o, "other", true)
		}, "conflict {spec.replicas: 4 -> 3 by other}", "other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, r := newAPI(converter), app(t, plain)
			theirs := r.Tree()
			theirs.SetAnnotations(map[string]string{v1alpha1.AnnotationSync: "ops/other"})
			a.apply(t, theirs, Manager, false)
			if c.others != nil {
				c.others(t, a)
			}
			s := Snapshot{Sync: ours, Rendered: []Rendered{r}, Live: map[ID]*unstructured.Unstructured{r.ID: a.live}, Correct: true}
			if c.owner != nil {
				c.owner.Name = "ops/other"
				s.Owners = map[string]Claimant{"ops/other": *c.owner}
			}
			p := Compare(s)
			if got := said(p); got != c.want {
				t.Errorf("said %s\nwant %s", got, c.want)
			}
			if c.says != "" && (len(p.Conflicts) == 0 || !strings.Contains(p.Conflicts[0].Message, c.says)) {
				t.Errorf("it is not said that it %s: %+v", c.says, p.Conflicts)
			}
			if c.want == mine {
				if conflict := a.apply(t, Tree(p.Update[0].Apply), Manager, p.Update[0].Force); conflict || p.Update[0].Force {
					t.Errorf("it needs force")
				}
				if Owner(a.live) != ours {
					t.Errorf("it is of %s", Owner(a.live))
				}
			}
		})
	}
}
