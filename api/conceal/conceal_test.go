package conceal

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

const app = `{"kind":"App","metadata":{"name":"web"},"spec":{"replicas":3,"env":[{"name":"A","value":"VALUE"},{"name":"B","value":"b"}],"command":["run","VALUE"],"a.b":{"c":"VALUE"}}}`

func TestWhatDiffersIsNamedAndHidden(t *testing.T) {
	t.Parallel()
	o, other := object(t, strings.ReplaceAll(app, "VALUE", "hunter2")), object(t, strings.ReplaceAll(app, "VALUE", "x"))
	paths := Differing(o, other)
	want := []string{`spec.command`, `spec.env[name="A"].value`, `spec["a.b"].c`}
	if !slices.Equal(paths, want) {
		t.Fatalf("%q", paths)
	}
	Set(o, paths)
	f := Of(o)
	got, _ := json.Marshal(f.Hide("", o))
	if strings.Contains(string(got), "hunter2") || !strings.Contains(string(got), `"B","value":"b"`) || !strings.Contains(string(got), `"replicas":3`) {
		t.Errorf("%s", got)
	}
	if b, _ := json.Marshal(o); !strings.Contains(string(b), "hunter2") {
		t.Error("the object itself was changed")
	}
	if texts := Texts(o); len(texts) != 4 || !slices.Contains(texts, "run") {
		t.Errorf("%q", texts)
	}
	if !f.Covers("spec.command[1]") || f.Covers("spec.commands") || f.Covers("spec") {
		t.Error("covers what it should not, or not what it should")
	}
	// What else is named stays so.
	Set(o, []string{"spec.more", "metadata.name"})
	if more := Of(o); len(more) != 4 || !more["spec.more"] {
		t.Errorf("%v", more)
	}
}

func TestWhatCannotBeToldIsHiddenAsAWhole(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"spec", "[", `[""]`} {
		o := object(t, `{"kind":"App","metadata":{"name":"web","annotations":{}},"spec":{"a":"hunter2"}}`)
		o["metadata"].(map[string]any)["annotations"].(map[string]any)[Annotation] = text
		if f := Of(o); !f["spec"] {
			t.Errorf("%q: %v", text, f)
		}
	}
	if got := Differing(object(t, app), nil); !slices.Equal(got, []string{"spec"}) {
		t.Errorf("%q", got)
	}
	many := object(t, `{"data":{}}`)
	var paths []string
	for i := range 100 {
		paths = append(paths, Key("data", string(rune('a'+i%26))+strings.Repeat("x", i)))
	}
	if Set(many, paths); !reflect.DeepEqual(Of(many), Fields{"data": true}) {
		t.Errorf("%v", Of(many))
	}
}

func TestASecretIsHiddenAnyway(t *testing.T) {
	t.Parallel()
	o := object(t, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"a":"x"}}`)
	if Set(o, []string{"data.a", "stringData"}); len(Of(o)) > 0 {
		t.Errorf("%v", o)
	}
}

func TestMoved(t *testing.T) {
	t.Parallel()
	f := Fields{"spec.a": true, "metadata.labels.b": true, "spectrum": true}
	if got := f.Moved("spec", "spec.spec"); !reflect.DeepEqual(got, Fields{"spec.spec.a": true}) {
		t.Errorf("%v", got)
	}
	if got := (Fields{"spec": true}).Moved("spec.template", "t"); !reflect.DeepEqual(got, Fields{"t": true}) {
		t.Errorf("%v", got)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	secrets := []string{"hunter2", "hunter2more", "47", "", "two\nlines"}
	for message, want := range map[string]string{
		`Invalid value: "hunter2more": no`:     `Invalid value: "(secret)": no`,
		`Invalid value: "47" of 147`:           `Invalid value: "(secret)" of 147`,
		`Invalid value: "two\nlines"`:          `Invalid value: "(secret)"`,
		"hunter2 at the end of hunter2more 47": "(secret) at the end of (secret) 47",
	} {
		if got := Text(message, secrets); got != want {
			t.Errorf("%q: %q", message, got)
		}
	}
}

// Whatever holds a secret, nothing of it is told.
func TestNothingIsTold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const secret = "hunter2"
		var tree func(depth int) *rapid.Generator[any]
		tree = func(depth int) *rapid.Generator[any] {
			return rapid.Custom(func(t *rapid.T) any {
				kind := rapid.IntRange(0, 5).Draw(t, "kind")
				if depth == 0 {
					kind %= 3
				}
				switch kind {
				case 0:
					return "plain"
				case 1:
					return int64(7)
				case 2:
					return "a " + secret
				case 3:
					out := []any{}
					for range rapid.IntRange(0, 3).Draw(t, "items") {
						item := tree(depth-1).Draw(t, "item")
						if m, ok := item.(map[string]any); ok && rapid.Bool().Draw(t, "named") {
							m["name"] = rapid.SampledFrom([]string{"a", "b", secret}).Draw(t, "name")
						}
						out = append(out, item)
					}
					return out
				}
				out := map[string]any{}
				for range rapid.IntRange(0, 3).Draw(t, "keys") {
					out[rapid.SampledFrom([]string{"a", "b.c", "name", ""}).Draw(t, "key")] = tree(depth-1).Draw(t, "value")
				}
				return out
			})
		}
		o := map[string]any{"kind": "App", "spec": tree(4).Draw(t, "spec")}
		b, _ := json.Marshal(o)
		var other map[string]any
		_ = json.Unmarshal([]byte(strings.ReplaceAll(string(b), secret, "xhunter")), &other)
		_ = json.Unmarshal(b, &o)
		Set(o, Differing(o, other))
		if got, _ := json.Marshal(Of(o).Hide("", o)); strings.Contains(string(got), secret) {
			t.Fatalf("%s", got)
		}
	})
}
