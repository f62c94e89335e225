package decide

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// syncs reads "a:b,c" for a that depends on b and c; "a!" is ready.
func syncs(text string) []Dependent {
	var out []Dependent
	for f := range strings.FieldsSeq(text) {
		name, on, _ := strings.Cut(f, ":")
		d := Dependent{Name: strings.TrimSuffix(name, "!"), Ready: strings.HasSuffix(name, "!")}
		if on != "" {
			d.DependsOn = strings.Split(on, ",")
		}
		out = append(out, d)
	}
	return out
}

func TestDepends(t *testing.T) {
	for _, c := range []struct{ syncs, of, want string }{
		{"a", "a", "waits for nobody"},
		{"a:b b!", "a", "waits for nobody"},
		{"a:b,c b! c", "a", "waits for c"},
		{"a:b b! c:a", "c", "waits for a"},
		{"a:c,b", "a", "waits for b, c, which does not exist: declare it, or remove it from spec.dependsOn"},
		{"a:a", "a", "waits for itself: a -> a: remove one of these from spec.dependsOn"},
		{"a:b b:c c:a", "b", "waits for itself: b -> c -> a -> b: remove one of these from spec.dependsOn"},
		{"a:b,d b:c c:a d:a", "a", "waits for itself: a -> d -> a: remove one of these from spec.dependsOn"},
		{"a:b! b!:c c!:b x:a", "x", "waits for a"},
	} {
		got := Depends(syncs(c.syncs))[c.of]
		if got.String() != c.want || got.Ready != (c.want == "waits for nobody") {
			t.Errorf("%s: %s: %s, want %s", c.syncs, c.of, got, c.want)
		}
	}
}

// A cycle that is named is one; and who waits for itself is named in one.
func TestCyclesAreNamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "syncs")
		var in []Dependent
		on := map[string][]string{}
		for i := range n {
			d := Dependent{Name: fmt.Sprint(i), Ready: rapid.Bool().Draw(t, "ready")}
			for _, j := range rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 3).Draw(t, "on") {
				d.DependsOn = append(d.DependsOn, fmt.Sprint(j))
			}
			in, on[d.Name] = append(in, d), d.DependsOn
		}
		// Which reach which, by Warshall.
		reach := map[[2]string]bool{}
		for a, bs := range on {
			for _, b := range bs {
				reach[[2]string{a, b}] = true
			}
		}
		for k := range on {
			for a := range on {
				for b := range on {
					if reach[[2]string{a, k}] && reach[[2]string{k, b}] {
						reach[[2]string{a, b}] = true
					}
				}
			}
		}
		for name, d := range Depends(in) {
			if (len(d.Cycle) > 0) != reach[[2]string{name, name}] {
				t.Fatalf("%s: %v", name, d.Cycle)
			}
			if len(d.Cycle) == 0 {
				continue
			}
			if d.Ready || d.Cycle[0] != name || d.Cycle[len(d.Cycle)-1] != name {
				t.Fatalf("%s: %+v", name, d)
			}
			for i := range d.Cycle[1:] {
				if !slices.Contains(on[d.Cycle[i]], d.Cycle[i+1]) {
					t.Fatalf("%s: %v: %s does not wait for %s", name, d.Cycle, d.Cycle[i], d.Cycle[i+1])
				}
			}
		}
	})
}
