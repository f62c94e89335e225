package change

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	if text == "" {
		return nil
	}
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// letters is a digest that shows in tests what it is of, as far as that is allowed: its length.
func letters(b []byte) string { return fmt.Sprint(len(b)) }

func text(fields []Field) string {
	var out strings.Builder
	for _, f := range fields {
		fmt.Fprintf(&out, "%s: %s -> %s\n", f.Path, f.Before, f.After)
	}
	return out.String()
}

func TestDiff(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, kind, before, after, want string }{
		{"a field", "App", "spec: {replicas: 2}", "spec: {replicas: 5}", "spec.replicas: 2 -> 5\n"},
		{"what the server keeps", "App",
			`{metadata: {resourceVersion: "1", generation: 1, managedFields: [{}], annotations: {kubectl.kubernetes.io/last-applied-configuration: a}}, status: {x: 1}}`,
			`{metadata: {resourceVersion: "2", generation: 2, managedFields: [], annotations: {kubectl.kubernetes.io/last-applied-configuration: b}}, status: {x: 2}}`, ""},
		{"a creation", "App", "", "{metadata: {name: web}, spec: {replicas: 1, template: {command: [a, b]}}}",
			"spec.replicas:  -> 1\nspec.template:  -> {\"command\":[\"a\",\"b\"]}\n"},
		{"a deletion", "App", "spec: {replicas: 1}", "", "spec.replicas: 1 -> \n"},
		{"by name", "App", "spec: {env: [{name: A, value: x}, {name: B, value: w}]}", "spec: {env: [{name: B, value: z}, {name: A, value: x}]}",
			"spec.env[name=B].value: \"w\" -> \"z\"\n"},
		{"by place", "App", "spec: {command: [a, b]}", "spec: {command: [a, c]}", "spec.command[1]: \"b\" -> \"c\"\n"},
		{"another length", "App", "spec: {command: [a]}", "spec: {command: [a, c]}", "spec.command: [\"a\"] -> [\"a\",\"c\"]\n"},
		{"another type", "App", "spec: {a: {b: 1}}", "spec: {a: 1}", "spec.a: {\"b\":1} -> 1\n"},
		{"a key with dots", "App", "metadata: {labels: {}}", "metadata: {labels: {a.b/c: d}}", "metadata.labels[\"a.b/c\"]:  -> \"d\"\n"},
		{"a Secret", "Secret", "{data: {a: aHVudGVyMg==, b: eA==}}", "{data: {a: aHVudGVyMw, b: eA==}, metadata: {annotations: {note: hunter3}}}",
			"data.a: \"digest:14\" -> \"digest:12\"\nmetadata.annotations.note:  -> \"digest:9\"\n"},
		{"a new Secret", "Secret", "", "{data: {a: aHVudGVyMg==}, type: Opaque}", "data.a:  -> \"digest:14\"\ntype:  -> \"Opaque\"\n"},
		{"a ConfigMap", "ConfigMap", "", "{data: {a: x}, binaryData: {b: AAAA}}", "binaryData.b:  -> \"digest:6\"\ndata.a:  -> \"x\"\n"},
		{"what comes from a Secret", "App", `{spec: {env: [{name: A, value: hunter2}], args: [a]}, metadata: {annotations: {padis.io/secret-fields: '["spec.env[name=\"A\"].value","spec.args"]'}}}`, `{spec: {env: [{name: A, value: hunter}], args: [a, hunter4]}}`,
			"metadata.annotations: {\"padis.io/secret-fields\":\"[\\\"spec.env[name=\\\\\\\"A\\\\\\\"].value\\\",\\\"spec.args\\\"]\"} -> \n" +
				"spec.args: \"digest:5\" -> \"digest:15\"\nspec.env[name=A].value: \"digest:9\" -> \"digest:8\"\n"},
		{"a long value", "ConfigMap", "", "data: {a: " + strings.Repeat("x", 1000) + "}", "data.a:  -> \"" + strings.Repeat("x", maxValue/2) + "... (1002 bytes)\"\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, omitted := Diff(object(t, c.before), object(t, c.after), Rules{Kind: c.kind, Digest: letters})
			if text(got) != c.want || omitted != 0 {
				t.Errorf("got\n%s(%d omitted), want\n%s", text(got), omitted, c.want)
			}
		})
	}
}

func TestStatusIsComparedWhereItIsMeant(t *testing.T) {
	t.Parallel()
	got, _ := Diff(object(t, "status: {ready: 1}"), object(t, "status: {ready: 2}"), Rules{Kind: "App", Status: true, Digest: letters})
	if text(got) != "status.ready: 1 -> 2\n" {
		t.Errorf("got %s", text(got))
	}
}

func TestMuchIsOmitted(t *testing.T) {
	t.Parallel()
	data := map[string]any{}
	for i := range 1000 {
		data[fmt.Sprintf("k%03d", i)] = strings.Repeat("v", i%300)
	}
	got, omitted := Diff(nil, map[string]any{"data": data}, Rules{Kind: "ConfigMap", Digest: letters})
	if len(got)+omitted != 1000 || len(got) > maxFields || omitted == 0 {
		t.Errorf("%d told, %d omitted", len(got), omitted)
	}
}

// tree makes objects as JSON has them.
func tree() *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.String(), func(s string) any { return s }), rapid.Map(rapid.Int64(), func(i int64) any { return i }), rapid.Map(rapid.Bool(), func(b bool) any { return b }))
	out := leaf
	for range 3 {
		inner := out
		out = rapid.OneOf(leaf, rapid.Map(rapid.SliceOfN(inner, 0, 3), func(l []any) any { return l }),
			rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"name", "data", "a.b", "x", "metadata", "annotations"}), inner, 0, 3), func(m map[string]any) any { return m }))
	}
	return out
}

func objects() *rapid.Generator[map[string]any] {
	return rapid.MapOfN(rapid.SampledFrom([]string{"spec", "data", "metadata", "status", "stringData", "binaryData"}), tree(), 0, 4)
}

func TestEqualObjectsDoNotDiffer(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		o := objects().Draw(t, "object")
		if got, omitted := Diff(o, o, Rules{Kind: "App", Status: true, Digest: letters}); len(got)+omitted > 0 {
			t.Fatalf("%s", text(got))
		}
	})
}

func TestTheWayBackIsTheSameBackwards(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := objects().Draw(t, "a"), objects().Draw(t, "b")
		there, _ := Diff(a, b, Rules{Kind: "App", Digest: letters})
		back, _ := Diff(b, a, Rules{Kind: "App", Digest: letters})
		for i := range back {
			back[i].Before, back[i].After = back[i].After, back[i].Before
		}
		if !reflect.DeepEqual(there, back) {
			t.Fatalf("there\n%sback\n%s", text(there), text(back))
		}
		total := 0
		for _, f := range there {
			total += len(f.Path) + len(f.Before) + len(f.After)
		}
		if total > maxTotal || len(there) > maxFields {
			t.Fatalf("%d fields of %d bytes", len(there), total)
		}
	})
}

func TestNoSecretIsTold(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2"
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"data", "stringData"}).Draw(t, "where")
		before := map[string]any{key: map[string]any{rapid.String().Draw(t, "key"): secret}, "metadata": map[string]any{"annotations": map[string]any{"x": secret, lastApplied: secret}}}
		after := objects().Draw(t, "after")
		for _, pair := range [][2]map[string]any{{before, nil}, {nil, before}, {before, after}, {after, before}} {
			got, _ := Diff(pair[0], pair[1], Rules{Kind: "Secret", Digest: letters})
			if strings.Contains(text(got), secret) {
				t.Fatalf("%s", text(got))
			}
		}
	})
}

func TestQuery(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	line := Line{Time: at, Event: Changed, User: "alice", As: "robot", Resource: "apps.padis.io", Namespace: "shop", Name: "web"}
	b, err := json.Marshal(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		query string
		want  bool
	}{
		{"", true}, {"name=web&namespace=shop&resource=apps.padis.io&actor=alice", true}, {"actor=robot", true}, {"since=2026-01-02T03:04:05Z", true},
		{"since=2026-01-02T03:04:06Z", false}, {"name=we", false}, {"namespace=web", false}, {"actor=bob", false}, {"resource=apps", false},
	} {
		values, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParseQuery(values)
		if err != nil {
			t.Fatal(err)
		}
		if got := q.Match(line); got != c.want || got && !q.May(b) {
			t.Errorf("%q: match %v, may %v, want %v", c.query, got, q.May(b), c.want)
		}
		if again, err := ParseQuery(q.Values()); err != nil || again != q {
			t.Errorf("%q became %+v, %v", c.query, again, err)
		}
	}
	for _, bad := range []string{"since=yesterday", "user=alice"} {
		values, _ := url.ParseQuery(bad)
		if _, err := ParseQuery(values); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"event":"change","name":"web","fields":[{"path":"a","before":1}]}`))
	f.Add([]byte(`{"event":"begin"}`))
	f.Add([]byte(`{"event":"lost","missing":3`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, ok := Parse(b)
		if !ok {
			return
		}
		again, err := json.Marshal(l)
		if err != nil {
			t.Skip() // a year beyond 9999 is read, but not written
		}
		if back, ok := Parse(again); !ok || back.Name != strings.ToValidUTF8(l.Name, "\uFFFD") || !(Query{}).May(again) {
			t.Errorf("%s became %s", b, again)
		}
	})
}

func FuzzParseQuery(f *testing.F) {
	f.Add("since=2026-01-02T03:04:05Z&name=web")
	f.Fuzz(func(t *testing.T, s string) {
		values, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		q, err := ParseQuery(values)
		if err != nil {
			return
		}
		if again, err := ParseQuery(q.Values()); err != nil || !again.Since.Equal(q.Since) || again.Name != q.Name {
			t.Errorf("%q: %+v became %+v, %v", s, q, again, err)
		}
	})
}
