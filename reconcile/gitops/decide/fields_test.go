package decide

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Managed fields are written by the API server, but also by who restores a backup.
func FuzzManagedFields(f *testing.F) {
	for _, s := range []string{
		`{"f:spec":{"f:replicas":{},"f:template":{"f:env":{".":{},"k:{\"name\":\"A\"}":{".":{},"f:name":{},"f:value":{}}}}}}`,
		`{"f:spec":{"f:loopbackAddresses":{"v:\"10.0.0.1\"":{}}}}`, `{"f:spec":7}`, `{"f:spec":{"f:template":{"f:env":{"k:{":{},"v:":{},"k:[]":{}}}}}`, `{}`, `[]`, `{".":null}`,
	} {
		f.Add([]byte(s), []byte(`{"spec":{"replicas":3,"loopbackAddresses":["10.0.0.2"],"template":{"env":[{"name":"A","value":"1"}]}}}`),
			[]byte(`{"spec":{"replicas":4,"loopbackAddresses":["10.0.0.1"],"template":{"env":[{"name":"A","value":"2"},7]}}}`))
	}
	f.Fuzz(func(t *testing.T, fields, want, live []byte) {
		w, l := &unstructured.Unstructured{}, &unstructured.Unstructured{}
		if json.Unmarshal(want, &w.Object) != nil || json.Unmarshal(live, &l.Object) != nil || w.Object == nil || l.Object == nil {
			return
		}
		entries := []metav1.ManagedFieldsEntry{
			{Manager: Manager, Operation: metav1.ManagedFieldsOperationApply, FieldsV1: metav1.NewFieldsV1(string(fields))},
			{Manager: "other", Operation: metav1.ManagedFieldsOperationUpdate, FieldsV1: metav1.NewFieldsV1(string(fields))},
			{Manager: "none", Operation: metav1.ManagedFieldsOperationUpdate},
		}
		changes := Drift(w, l, entries)
		for _, c := range changes {
			if c.Path == "" {
				t.Errorf("a change of nothing: %+v", c)
			}
			c.Report(ID{})
		}
		keep(w, changes)
	})
}

func TestDriftSaysWhoAndWhen(t *testing.T) {
	then := time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	entry := func(manager string, op metav1.ManagedFieldsOperationType, at time.Time, fields string) metav1.ManagedFieldsEntry {
		stamp := metav1.NewTime(at)
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: op, Time: &stamp, FieldsV1: metav1.NewFieldsV1(fields)}
	}
	want := app(t, `{replicas: 3, template: {command: [a]}}`).Tree()
	live := want.DeepCopy()
	_ = unstructured.SetNestedField(live.Object, int64(5), "spec", "replicas")
	changes := Drift(want, live, []metav1.ManagedFieldsEntry{
		entry(Manager, metav1.ManagedFieldsOperationApply, then.Add(time.Hour), `{"f:spec":{"f:template":{"f:command":{}}}}`),
		entry("early", metav1.ManagedFieldsOperationUpdate, then, `{"f:spec":{"f:replicas":{}}}`),
		entry("late", metav1.ManagedFieldsOperationUpdate, then.Add(time.Minute), `{"f:spec":{"f:replicas":{}}}`),
		entry("elsewhere", metav1.ManagedFieldsOperationUpdate, then.Add(time.Hour), `{"f:spec":{"f:update":{}}}`),
	})
	if len(changes) != 1 {
		t.Fatal(changes)
	}
	r := changes[0].Report(IDOf(want))
	if got := fmt.Sprint(r.Object, r.Path, r.Want, r.Is, r.By, r.At.UTC()); got != fmt.Sprint("app/shop/web", "spec.replicas", "3", "5", "late", then.Add(time.Minute)) {
		t.Error(got)
	}
}

func TestKeepWhatOthersHave(t *testing.T) {
	want := app(t, `{replicas: 3, template: {command: [a], env: [{name: A, value: "1"}, {name: B, value: "2"}]}}`).Tree()
	changes := []FieldChange{
		{steps: []any{"spec", "replicas"}, live: int64(5)},
		{steps: []any{"spec", "template", "env", 0}},
		{steps: []any{"spec", "template", "env", 1, "value"}, live: "x"},
	}
	got := keep(want, changes)
	if text(got.Object["spec"]) != `{"replicas":5,"template":{"command":["a"],"env":[{"name":"B","value":"x"}]}}` {
		t.Error(text(got.Object["spec"]))
	}
	if text(want.Object["spec"]) != `{"replicas":3,"template":{"command":["a"],"env":[{"name":"A","value":"1"},{"name":"B","value":"2"}]}}` {
		t.Errorf("the object itself was changed: %s", text(want.Object["spec"]))
	}
}

// A thousand Apps in order, looked at anew and known from before; and the size of an inventory.
func BenchmarkCompare(b *testing.B) {
	a := newAPI(newConverter(b))
	first := app(b, plain)
	a.apply(b, first.Tree(), Manager, false)
	s := Snapshot{Sync: ours, Applied: map[ID]string{}, Live: map[ID]*unstructured.Unstructured{}, Prune: true, Correct: true}
	known := map[ID]Known{}
	for i := range 1000 {
		id := first.ID
		id.Name = fmt.Sprintf("web-%04d", i)
		s.Rendered = append(s.Rendered, Rendered{ID: id, APIVersion: first.APIVersion, JSON: first.JSON, Digest: first.Digest})
		s.Live[id], s.Applied[id] = a.live, "padis.io/v1alpha1"
		known[id] = Known{first.Digest, a.live.GetResourceVersion()}
	}
	for name, k := range map[string]map[ID]Known{"anew": nil, "known": known} {
		b.Run(name, func(b *testing.B) {
			s.Known = k
			for b.Loop() {
				if p := Compare(s); len(p.Unchanged) != 1000 {
					b.Fatal(said(p))
				}
			}
		})
	}
}
