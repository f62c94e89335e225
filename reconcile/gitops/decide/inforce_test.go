package decide

import (
	"slices"
	"strings"
	"testing"
	"time"

	"padis.io/padis/api/v1alpha1"
)

func TestWhatStaysInForce(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"nothing is applied":              {[]string{"seen a"}, ""},
		"a part of the first":             {[]string{"seen a", "write a", "broke a"}, "a"},
		"the first":                       {[]string{"seen a", "write a", "ok a"}, "a"},
		"a refused one":                   {[]string{"seen a", "write a", "ok a", "seen b", "broke b"}, "a"},
		"one that waits":                  {[]string{"seen a", "write a", "ok a", "close WaitingForSyncs", "seen b"}, "a"},
		"a part of another":               {[]string{"seen a", "write a", "ok a", "seen b", "write b", "broke b"}, "b a"},
		"a part, and a refused one":       {[]string{"seen a", "write a", "ok a", "seen b", "write b", "broke b", "seen c", "broke c final"}, "b a"},
		"a part of each":                  {[]string{"seen a", "write a", "ok a", "seen b", "write b", "seen c", "write c", "broke c"}, "c a"},
		"a part, and back":                {[]string{"seen a", "write a", "ok a", "seen b", "write b", "seen a", "write a"}, "a"},
		"words about what was abandoned":  {[]string{"seen a", "write a", "ok a", "seen b", "seen c", "write b"}, "a"},
		"a part of another, then applied": {[]string{"seen a", "write a", "ok a", "seen b", "write b", "broke b", "seen c", "write c", "ok c"}, "c"},
	} {
		t.Run(name, func(t *testing.T) {
			y := &story{now: begin, s: State{Initial: time.Second, Longest: time.Second}}
			for _, l := range c.lines {
				y.tell(l)
			}
			if got := strings.Join(y.s.InForce(), " "); got != c.want {
				t.Errorf("in force is %q, want %q", got, c.want)
			}
			// The status has it for the next start.
			var st v1alpha1.SyncStatus
			y.s.Save(&st)
			again := Restore(&v1alpha1.Sync{Status: st}, "")
			if got := strings.Join(again.InForce(), " "); got != c.want {
				t.Errorf("after a start, in force is %q, want %q", got, c.want)
			}
		})
	}
}

func TestOnlyWhatWasInOrderIsUpheld(t *testing.T) {
	objects := func(digests ...string) (out []Rendered) {
		for _, d := range digests {
			name, digest, _ := strings.Cut(d, "=")
			out = append(out, Rendered{ID: ID{Name: name}, Digest: digest})
		}
		return out
	}
	// b was written in part: a and new are as it says, late, old and same as the commit before says, torn is not known.
	known := map[string]string{"a": "2", "new": "2", "late": "1", "old": "1", "same": "1"}
	digest := func(id ID) string { return known[id.Name] }
	for _, c := range []struct{ rendered, want []Rendered }{
		{objects("a=2", "new=2", "late=2", "same=1", "torn=2", "next=2"), objects("a=2", "new=2", "same=1")},
		{objects("a=1", "late=1", "old=1", "same=1", "torn=1"), objects("late=1", "old=1", "same=1")},
	} {
		got := Upheld(c.rendered, digest)
		if !slices.EqualFunc(got, c.want, func(a, b Rendered) bool { return a.ID == b.ID && a.Digest == b.Digest }) {
			t.Errorf("upheld is %v, want %v", got, c.want)
		}
	}
}
