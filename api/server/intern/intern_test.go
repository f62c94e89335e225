package intern

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
)

// tree draws a value as JSON has it.
func tree(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.Int64Range(-2, 2), func(n int64) any { return n }), rapid.Map(rapid.Float64Range(-1, 1), func(f float64) any { return f }),
		rapid.Map(rapid.SampledFrom([]string{"", "a", "b"}), func(s string) any { return s }))
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(leaf,
		rapid.Map(rapid.SliceOfN(tree(depth-1), 0, 3), func(l []any) any { return l }),
		rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "c"}), tree(depth-1), 0, 3), func(m map[string]any) any { return m }))
}

// What is left is equal to what was given, and parts are the same as equal ones before.
func TestShare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := New()
		known := map[string]any{}
		for _, v := range rapid.SliceOfN(tree(3), 1, 30).Draw(t, "trees") {
			o := map[string]any{"spec": v, "status": v, "metadata": v}
			before := copied(o)
			o = copied(o).(map[string]any)
			parts.Share(o)
			if !reflect.DeepEqual(o, before) {
				t.Fatalf("%#v for %#v", o, before)
			}
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			// Floats that are whole numbers, and maps that are nil, are written as others are.
			m, ok := o["spec"].(map[string]any)
			if other, found := known[string(text)]; !ok || m == nil || found && !reflect.DeepEqual(other, v) {
				continue
			} else if found && reflect.ValueOf(other).Pointer() != reflect.ValueOf(m).Pointer() {
				t.Fatalf("%#v is there twice", v)
			}
			known[string(text)] = m
		}
	})
}

func copied(v any) any {
	u := unstructured.Unstructured{Object: map[string]any{"v": v}}
	return u.DeepCopy().Object["v"]
}

// The table does not grow for ever, and what is seen again and again stays.
func TestTablesAreBounded(t *testing.T) {
	parts := New()
	object := func(key string, value any) map[string]any {
		o := map[string]any{"spec": map[string]any{key: value}}
		parts.Share(o)
		return o["spec"].(map[string]any)
	}
	often := object("often", true)
	for i := range 5 * generation {
		object("n", int64(i))
		if i%100 == 0 && reflect.ValueOf(object("often", true)).Pointer() != reflect.ValueOf(often).Pointer() {
			t.Fatalf("forgotten after %d others", i)
		}
	}
	if n := len(parts.now) + len(parts.before); n > 2*generation {
		t.Errorf("%d parts are remembered", n)
	}
}

// What is the same in objects that differ is there once.
func TestShareAcrossObjects(t *testing.T) {
	text := `{"metadata":{"name":%q,"labels":{"a":"b"},"managedFields":[{"manager":"a","time":%[1]q,"fieldsV1":{"f:spec":{"f:x":{}}}},{"manager":"b"}]},
		"spec":{"x":[1,{"y":"z"}],"name":%[1]q},"status":{"n":%[1]q,"conditions":[{"type":"Ready"},{"type":%[1]q}]}}`
	parts := New()
	var all []map[string]any
	for i := range 2 {
		u := unstructured.Unstructured{}
		if err := json.Unmarshal(fmt.Appendf(nil, text, fmt.Sprint(i)), &u.Object); err != nil {
			t.Fatal(err)
		}
		before := u.DeepCopy().Object
		parts.Share(u.Object)
		if !reflect.DeepEqual(u.Object, before) {
			t.Errorf("%v was %v", u.Object, before)
		}
		all = append(all, u.Object)
	}
	for _, path := range [][]any{{"spec", "x"}, {"metadata", "labels"}, {"metadata", "managedFields", 0, "fieldsV1"}, {"metadata", "managedFields", 1}, {"status", "conditions", 0}} {
		a, b := at(all[0], path), at(all[1], path)
		if reflect.ValueOf(a).Pointer() != reflect.ValueOf(b).Pointer() {
			t.Errorf("%v is there twice", a)
		}
	}
	for _, o := range []map[string]any{{}, {"metadata": "x", "spec": []any{}}, {"metadata": map[string]any{"managedFields": []any{1, map[string]any{"fieldsV1": "x"}}}}} {
		parts.Share(o)
	}
}

func at(v any, path []any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(map[string]any)[step]
		case int:
			v = v.([]any)[step]
		}
	}
	return v
}
