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

// What comes back is equal to what was given, and the same as an equal one before.
func TestSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trees := New()
		for _, v := range rapid.SliceOfN(tree(3), 1, 30).Draw(t, "trees") {
			got := trees.Same(v)
			if !reflect.DeepEqual(got, v) {
				t.Fatalf("%#v for %#v", got, v)
			}
			m, ok := v.(map[string]any)
			if !ok || m == nil {
				continue
			}
			again := trees.Same(copied(v)).(map[string]any)
			if reflect.ValueOf(again).Pointer() != reflect.ValueOf(got).Pointer() {
				t.Fatalf("%#v is there twice", v)
			}
		}
	})
}

func copied(v any) any {
	u := unstructured.Unstructured{Object: map[string]any{"v": v}}
	return u.DeepCopy().Object["v"]
}

// The table does not grow for ever, and what is seen again and again stays.
func TestTablesAreBounded(t *testing.T) {
	trees := New()
	often := map[string]any{"often": true}
	trees.Same(often)
	for i := range 5 * generation {
		trees.Same(map[string]any{"n": int64(i)})
		if i%100 == 0 {
			if got := trees.Same(map[string]any{"often": true}).(map[string]any); reflect.ValueOf(got).Pointer() != reflect.ValueOf(often).Pointer() {
				t.Fatalf("forgotten after %d others", i)
			}
		}
	}
	if n := len(trees.now) + len(trees.before); n > 2*generation {
		t.Errorf("%d trees are remembered", n)
	}
}

func TestShare(t *testing.T) {
	text := `{"metadata":{"name":%q,"managedFields":[{"manager":"a","fieldsV1":{"f:spec":{"f:x":{}}}},{"manager":"b"}]},"spec":{"x":[1,{"y":"z"}]},"status":{"n":%d}}`
	c := NewCodec(nil)
	var all []map[string]any
	for i := range 2 {
		u := unstructured.Unstructured{}
		if err := json.Unmarshal(fmt.Appendf(nil, text, fmt.Sprint(i), i), &u.Object); err != nil {
			t.Fatal(err)
		}
		before := u.DeepCopy().Object
		c.share(u.Object)
		if !reflect.DeepEqual(u.Object, before) {
			t.Errorf("%v was %v", u.Object, before)
		}
		all = append(all, u.Object)
	}
	fields := func(o map[string]any) any {
		return o["metadata"].(map[string]any)["managedFields"].([]any)[0].(map[string]any)["fieldsV1"]
	}
	for _, p := range []struct{ a, b any }{{all[0]["spec"], all[1]["spec"]}, {fields(all[0]), fields(all[1])}} {
		if reflect.ValueOf(p.a).Pointer() != reflect.ValueOf(p.b).Pointer() {
			t.Errorf("%v is there twice", p.a)
		}
	}
	for _, o := range []map[string]any{{}, {"metadata": "x", "spec": []any{}}, {"metadata": map[string]any{"managedFields": []any{1, map[string]any{"fieldsV1": "x"}}}}} {
		c.share(o)
	}
}
