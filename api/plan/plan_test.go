package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

// full has something of everything.
func full() *Plan {
	return &Plan{
		Version: Version, World: "3f2a",
		Objects: []Object{
			{Kind: "App", Namespace: "shop", Name: "api", Action: Create},
			{Kind: "App", Namespace: "shop", Name: "web", Action: Update, Fields: []Field{
				{Path: "spec.replicas", Before: json.RawMessage("3"), After: json.RawMessage("5")},
				{Path: "spec.template.env[A]", After: json.RawMessage(`{"name":"A","value":"` + strings.Repeat("ä", 80) + `"}`)},
				{Path: "spec.placement", Before: json.RawMessage("{}")},
			}},
			{Kind: "App", Namespace: "shop", Name: "odd", Action: Create, Verdict: &Refusal{Reason: "PoolNotFound", Message: "there is no IPPool: create it"}},
			{Kind: "IPPool", Name: "old", Action: Delete},
			{Kind: "Secret", Namespace: "old", Name: "keys", Action: Delete, Because: "goes with Namespace old"},
			{Kind: "IPPool", Name: "front", Action: Update, Refusals: []Refusal{{Reason: "Invalid", Field: "spec.cidr", Message: "is too small"}}},
			{Kind: "Network", Name: "lan", Action: Unchanged},
		},
		Apps: []App{
			{Namespace: "shop", Name: "web", Instances: append([]Instance{
				{Name: "web-0", Fate: Replaced, From: "host1", To: "host1", Batch: 1, Addresses: []string{"10.0.0.2"}, Cause: "its fixed address changes", Why: "where it ran before"},
				{Name: "web-1", Fate: Moved, From: "host1", To: "host2", Batch: 2, Why: "the agent where it ran does not fit any more"},
				{Name: "web-2", Fate: Stopped, From: "host3", Addresses: []string{"10.0.0.4"}},
				{Name: "web-3", Fate: Waiting, From: "host3", Reason: "InsufficientCPU", Why: "0 of 3 agents fit; add agents"},
				{Name: "web-4", Fate: Waiting, Reason: "InsufficientCPU", Why: "0 of 3 agents fit; add agents"},
			}, started(23)...), Rollout: &Rollout{Batches: [][]int32{{0, 1, 2}, {4, 6, 7}}, Replicas: 8, Minimum: 5, Lowest: 5, Held: []int32{5}, Because: "at most 3 may be not ready"}},
			{Namespace: "shop", Name: "quiet", Rollout: &Rollout{Held: []int32{0, 1}, Because: "the update is paused"}},
		},
		Addresses: []Address{
			{Network: "lan", Pool: "front", Address: "10.0.0.2", From: "shop/web-2", Cooling: true},
			{Network: "lan", Pool: "front", Address: "10.0.0.3", To: "loadbalancer shop/front"},
			{Network: "lan", Pool: "front", Address: "10.0.0.4", From: "shop/web-3", To: "shop/api-0"},
		},
		Quotas:     []Quota{{Tenant: "red", Pool: "front", Max: 6, Held: 6, Refused: 2, Namespaces: []string{"shop"}}, {Tenant: "blue", Pool: "front", Max: 1, Held: 2}},
		Unfinished: "1 Unreachable",
		Sync: &Sync{Namespace: "shop", Name: "main", Commit: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", Ref: "refs/heads/main",
			From: "https://git.example.com/shop.git", Notes: []string{"spec.suspend is set: nothing is applied until it is unset"}},
		Kept:       []Kept{{Kind: "App", Namespace: "shop", Name: "legacy", Message: "has left the repository and stays, since spec.prune is not set"}},
		Violations: []Refusal{{Reason: "PruneLimit", Message: "the commit would delete 9 objects, more than the 5 of spec.pruneLimit.count"}},
		ServerSide: &ServerSide{FieldManager: "padis"},
		Deletions:  []Deletion{{APIVersion: "padis.io/v1alpha1", Kind: "IPPool", Name: "old", UID: "u-1"}},
	}
}

func started(n int) []Instance {
	out := make([]Instance, n)
	for i := range out {
		out[i] = Instance{Name: "web-" + strings.Repeat("x", i+1), Fate: Started, To: "host4"}
	}
	return out
}

func TestText(t *testing.T) {
	got := []byte(Text(full()))
	path := filepath.Join("testdata", "full.txt")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update writes it anew:\n%s", path, got)
	}
	if got := Text(&Plan{Objects: []Object{{Kind: "App", Name: "a", Action: Unchanged}}}); got != "Nothing would change.\n" {
		t.Errorf("%q", got)
	}
}

func TestJSONGoesThereAndBack(t *testing.T) {
	p := full()
	b, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Encode(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, again) || Text(got) == "" {
		t.Errorf("%s\n%s", b, again)
	}
}

func TestWhatIsNoPlanIsRefused(t *testing.T) {
	for _, c := range []struct{ in, say string }{
		{``, "padis plan --out"},
		{`{"version":2,"world":"x"}`, "version is 2"},
		{`{"version":1}`, "world is empty"},
		{`{"version":1,"world":"x","more":1}`, "more"},
		{`{"version":1,"world":"x","objects":5}`, "objects"},
	} {
		if _, err := Decode([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.in, err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		p    Plan
		want int
	}{
		{Plan{}, ExitNone},
		{Plan{Objects: []Object{{Action: Unchanged, Verdict: &Refusal{}}}}, ExitNone},
		{Plan{Objects: []Object{{Action: Update}}}, ExitChanges},
		{Plan{Apps: []App{{}}}, ExitChanges},
		{Plan{Objects: []Object{{Action: Update}, {Action: Unchanged, Refusals: []Refusal{{}}}}}, ExitError},
	} {
		if got := c.p.ExitCode(); got != c.want {
			t.Errorf("%+v: %d instead of %d", c.p, got, c.want)
		}
	}
}

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDiff(t *testing.T) {
	for _, c := range []struct{ before, after, want string }{
		{`{"a":1,"b":[1,2]}`, `{"a":1,"b":[1,3,4]}`, `b[1] 2>3; b[2] >4`},
		{`{"e":[{"name":"A","v":1},{"name":"B","v":2}]}`, `{"e":[{"name":"B","v":3},{"name":"C.d","v":2}]}`, `e["C.d"] >{"name":"C.d","v":2}; e[A] {"name":"A","v":1}>; e[B].v 2>3`},
		{`{"e":[{"name":"A"},{"name":"B"}]}`, `{"e":[{"name":"B"},{"name":"A"}]}`, `e [{"name":"A"},{"name":"B"}]>[{"name":"B"},{"name":"A"}]`},
		{`{"e":[{"name":"A"}]}`, `{"e":[]}`, `e[0] {"name":"A"}>`},
		{`{"a":{"b":null}}`, `{"a":"x"}`, `a {"b":null}>"x"`},
		{`{"metadata":{"name":"x","uid":"u","resourceVersion":"4","managedFields":[],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"all"}},"status":{"a":1}}`,
			`{"metadata":{"name":"x","annotations":{"a.b/c":"1"}}}`, `metadata.annotations >{"a.b/c":"1"}`},
		{`{"kind":"Secret","data":{"p":"cGFzcw=="}}`, `{"kind":"Secret","stringData":{"p":"pass"}}`, ``},
	} {
		var got []string
		for _, f := range Diff(object(t, c.before), object(t, c.after)) {
			got = append(got, f.Path+" "+string(f.Before)+">"+string(f.After))
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%s -> %s:\n got %s\nwant %s", c.before, c.after, s, c.want)
		}
	}
}

var values = func() *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Map(rapid.IntRange(0, 3), func(i int) any { return float64(i) }), rapid.Map(rapid.SampledFrom([]string{"", "a", "x.y"}), func(s string) any { return s }))
	level := leaf
	for range 3 {
		inner := level
		key := rapid.SampledFrom([]string{"name", "a", "b.c", "d"})
		level = rapid.OneOf(leaf, rapid.Map(rapid.SliceOfN(inner, 0, 3), func(l []any) any { return l }), rapid.Map(rapid.MapOfN(key, inner, 0, 3), func(m map[string]any) any { return m }))
	}
	return level
}()

// Two objects are the same if and only if nothing differs, no path comes twice, and nothing is mutated.
func TestDiffsAreTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := map[string]any{"spec": values.Draw(t, "a")}, map[string]any{"spec": values.Draw(t, "b")}
		if rapid.Bool().Draw(t, "same") {
			b = map[string]any{"spec": a["spec"]}
		}
		x, y := string(encode(a)), string(encode(b))
		fields := Diff(a, b)
		if (len(fields) == 0) != (x == y) {
			t.Fatalf("%s and %s: %v", x, y, fields)
		}
		seen := map[string]bool{}
		for _, f := range fields {
			if seen[f.Path] || f.Before == nil && f.After == nil || bytes.Equal(f.Before, f.After) {
				t.Fatalf("%s and %s: %v", x, y, fields)
			}
			seen[f.Path] = true
		}
		if x != string(encode(a)) || y != string(encode(b)) || !reflect.DeepEqual(fields, Diff(a, b)) {
			t.Fatal("it changed something, or its mind")
		}
	})
}

// No content of a Secret is in a difference, whatever happens to it.
func TestSecretsStaySecret(t *testing.T) {
	const secret = "c3VwZXItc2VjcmV0LXZhbHVl"
	of := func(text string) map[string]any { return object(t, text) }
	states := []map[string]any{
		nil, of(`{"kind":"Secret"}`), of(`{"kind":"Secret","data":{"a":"` + secret + `","b":"` + secret + `x"}}`), of(`{"kind":"Secret","stringData":{"a":"` + secret + `"}}`),
		of(`{"kind":"Secret","data":{"a":["` + secret + `"]}}`),
		of(`{"kind":"Secret","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"` + secret + `"}}}`),
	}
	for _, a := range states {
		for _, b := range states {
			if got := string(encode(Diff(a, b))); strings.Contains(got, secret) || strings.Contains(got, "super-secret") {
				t.Error(got)
			}
		}
	}
}

// What comes from a Secret is not in a difference either, and no digest of it; that it changes is.
func TestFieldsWithSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const names = `"metadata":{"annotations":{"padis.io/secret-fields":"[\"data.pin\",\"data.dsn\"]"}}`
	before := object(t, `{"kind":"ConfigMap","data":{"pin":"47","dsn":"x:hunter2@y","a":"1"}}`)
	for after, want := range map[string]int{
		`{"kind":"ConfigMap","data":{"pin":"48","dsn":"x:hunter2@y","a":"2"},` + names + `}`: 3,
		`{"kind":"ConfigMap","data":{"pin":"47","a":"1"},` + names + `}`:                     2,
	} {
		got := Diff(before, object(t, after))
		text := string(encode(got))
		if strings.Contains(text, "hunter") || strings.Contains(text, "47") || strings.Contains(text, "48") || !strings.Contains(text, "(secret)") || strings.Contains(text, mark) || len(got) != want {
			t.Error(text)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := Encode(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"world":"x","apps":[{"rollout":{"batches":[null,[2,1]]}}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := Decode(in)
		if err != nil {
			return
		}
		Text(p)
		out, err := Encode(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Decode(out); err != nil || Text(again) != Text(p) {
			t.Fatalf("%v: %s", err, out)
		}
	})
}
