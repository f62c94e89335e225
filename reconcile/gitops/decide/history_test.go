package decide

import (
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"padis.io/padis/api/v1alpha1"
)

// commits writes a history as one line: an asterisk marks what is rolled back.
func commits(h []v1alpha1.AppliedCommit) string {
	var out []string
	for _, c := range h {
		if c.RolledBack {
			c.Commit += "*"
		}
		out = append(out, c.Commit)
	}
	return strings.Join(out, " ")
}

func TestRemember(t *testing.T) {
	for _, c := range []struct{ name, applied, want string }{
		{"one after the other", "a b c", "c b a"},
		{"the same again", "a b b", "b a"},
		{"back by one", "a b c <b", "c* b a"},
		{"back by two", "a b c <a", "c* b* a"},
		{"back, and back again", "a b c <b <a", "c* b* a"},
		{"back, and then a newer one", "a b c <b d", "d c* b a"},
		{"what is resumed is first again", "a b c <a c", "c b* a"},
		{"back to what is not listed", "a b <x", "x b* a*"},
		{"and on from there", "a b <x c", "c x b* a*"},
		{"what is applied with other settings while rolled back", "a b c <b <b", "c* b a"},
		{"at most ten", "a b c d e f g h i j k l", "l k j i h g f e d c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h []v1alpha1.AppliedCommit
			for _, f := range strings.Fields(c.applied) {
				commit, back := strings.CutPrefix(f, "<")
				before := commits(h)
				next := Remember(h, v1alpha1.AppliedCommit{Commit: commit}, back)
				if commits(h) != before {
					t.Fatalf("what was given has changed: %s, before %s", commits(h), before)
				}
				h = next
			}
			if got := commits(h); got != c.want {
				t.Errorf("history is %s, not %s", got, c.want)
			}
		})
	}
}

func TestRememberKeepsTheAuthor(t *testing.T) {
	at := metav1.NewTime(begin)
	h := Remember(nil, v1alpha1.AppliedCommit{Commit: "a", Author: "me", Time: at}, false)
	h = Remember(h, v1alpha1.AppliedCommit{Commit: "b", Author: "you", Time: at}, false)
	later := metav1.NewTime(begin.Add(time.Hour))
	h = Remember(h, v1alpha1.AppliedCommit{Commit: "a", Time: later}, true)
	if h[1].Author != "me" || !h[1].Time.Equal(&later) || h[0].Author != "you" {
		t.Errorf("history is %+v", h)
	}
}

// Whatever was applied: what is in force is the first that is not rolled back, each commit is listed once, and not too many.
func TestHistoryKnowsWhatIsInForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h []v1alpha1.AppliedCommit
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			commit := rapid.StringMatching(`[a-p]`).Draw(t, "commit")
			h = Remember(h, v1alpha1.AppliedCommit{Commit: commit}, rapid.Bool().Draw(t, "back"))
			first := slices.IndexFunc(h, func(c v1alpha1.AppliedCommit) bool { return !c.RolledBack })
			if first < 0 || h[first].Commit != commit {
				t.Fatalf("%s is in force: %s", commit, commits(h))
			}
			seen := map[string]bool{}
			for _, c := range h {
				if seen[c.Commit] {
					t.Fatalf("twice: %s", commits(h))
				}
				seen[c.Commit] = true
			}
			if len(h) > v1alpha1.MaxHistory {
				t.Fatalf("too many: %s", commits(h))
			}
		}
	})
}
