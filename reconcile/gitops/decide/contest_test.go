package decide

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var noon = time.Date(2026, 7, 6, 12, 0, 0, 0, time.UTC)

func TestWhoGoesOnIsPutBackMoreAndMoreSeldom(t *testing.T) {
	a := newAPI(newConverter(t))
	want := app(t, `{replicas: 3}`)
	a.apply(t, want.Tree(), Manager, false)
	var c Contests
	now, put := noon, []time.Duration(nil)
	// Somebody changes it each tenth of a second.
	for ; now.Before(noon.Add(20 * time.Minute)); now = now.Add(100 * time.Millisecond) {
		if fmt.Sprint(a.live.Object["spec"].(map[string]any)["replicas"]) == "3" {
			a.edit(t, "scaler", setField(int64(5), "spec", "replicas"))
		}
		waits := c.waits(Contender{want.ID, "scaler"}, now)
		p := Compare(Snapshot{Sync: ours, Rendered: []Rendered{want}, Applied: map[ID]string{want.ID: "v"}, Live: lives(want.ID, a), Correct: true, Contests: c, Now: now})
		if waits {
			if len(p.Contested) != 1 || len(p.Drifted)+p.Writes() > 0 || len(p.Unchanged) != 1 {
				t.Fatalf("at %s: %s, waiting %v", now, said(p), p.Contested)
			}
			continue
		}
		if len(p.Drifted) != 1 || p.Writes() != 1 || len(p.Contested) > 0 {
			t.Fatalf("at %s: %s, waiting %v", now, said(p), p.Contested)
		}
		put = append(put, now.Sub(noon))
		a.apply(t, want.Tree(), Manager, true)
		c = c.After(p.Drifted, now)
	}
	if len(put) < 13 || len(put) > 20 || put[4] != 400*time.Millisecond || put[5]-put[4] != time.Second || put[len(put)-1]-put[len(put)-2] != longestPause {
		t.Errorf("put back at %v", put)
	}
	words := c.Words([]Drifted{{ID: want.ID, Fields: []FieldChange{{Path: "spec.replicas", By: "scaler"}}}}, now)
	if len(words) != 1 || !strings.Contains(words[0], "scaler has changed spec.replicas of app/shop/web ") || !strings.Contains(words[0], " times since 2026-07-06T12:00:00Z; it is put back again at ") {
		t.Errorf("%q", words)
	}
	// When it has stopped, all is as it was.
	later := now.Add(2*longestPause + time.Second)
	if after := c.After(nil, later); len(after) > 0 || len(c.Words(nil, later)) > 0 || !c.Wake(nil, later).IsZero() {
		t.Errorf("%v is not forgotten", after)
	}
}

func lives(id ID, a *api) map[ID]*unstructured.Unstructured {
	return map[ID]*unstructured.Unstructured{id: a.live}
}

func TestOnlyTheFieldsOfWhoGoesOnWait(t *testing.T) {
	a := newAPI(newConverter(t))
	want := app(t, plain)
	a.apply(t, want.Tree(), Manager, false)
	a.edit(t, "scaler", setField(int64(5), "spec", "replicas"))
	a.edit(t, "hand", setField("db", "spec", "template", "labels", "tier"))
	c := Contests{{want.ID, "scaler"}: {Times: atOnce, Since: noon, Last: noon, Path: "spec.replicas"}}
	p := Compare(Snapshot{Sync: ours, Rendered: []Rendered{want}, Applied: map[ID]string{want.ID: "v"}, Live: lives(want.ID, a), Correct: true, Contests: c, Now: noon})
	if got := said(p); !strings.HasPrefix(got, "force {spec.template.labels.tier: db -> web by hand} drift {spec.template.labels.tier") || len(p.Contested) != 1 || p.Contested[0].Fields[0].Path != "spec.replicas" {
		t.Fatalf("%s, waiting %v", got, p.Contested)
	}
	a.apply(t, Tree(p.Update[0].Apply), Manager, true)
	spec := a.live.Object["spec"].(map[string]any)
	if fmt.Sprint(spec["replicas"]) != "5" || spec["template"].(map[string]any)["labels"].(map[string]any)["tier"] != "web" {
		t.Errorf("%v", spec)
	}
	// Its turn comes, and it is known still who has changed it.
	p = Compare(Snapshot{Sync: ours, Rendered: []Rendered{want}, Applied: map[ID]string{want.ID: "v"}, Live: lives(want.ID, a), Correct: true, Contests: c, Now: noon.Add(firstPause)})
	if got := said(p); got != "force {spec.replicas: 5 -> 3 by scaler} drift {spec.replicas: 5 -> 3 by scaler}" {
		t.Error(got)
	}
	// Who deletes it again and again waits, too.
	c = Contests{{ID: want.ID}: {Times: atOnce, Since: noon, Last: noon}}
	p = Compare(Snapshot{Sync: ours, Rendered: []Rendered{want}, Applied: map[ID]string{want.ID: "v"}, Known: map[ID]Known{want.ID: {Digest: want.Digest}}, Correct: true, Contests: c, Now: noon})
	if len(p.Create) > 0 || len(p.Contested) != 1 || !strings.Contains(c.Words(p.Contested, noon)[0], "somebody has deleted app/shop/web 6 times") {
		t.Errorf("%s, %q", said(p), c.Words(p.Contested, noon))
	}
}
