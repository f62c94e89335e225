package decide

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"padis.io/padis/api/conceal"
	"padis.io/padis/api/v1alpha1"
)

// said is a plan as one line, for tables.
func said(p Plan) string {
	var out []string
	fields := func(fs []FieldChange) string {
		var parts []string
		for _, f := range fs {
			s := fmt.Sprintf("%s: %s -> %s", f.Path, text(f.Is), text(f.Want))
			if f.By != "" {
				s += " by " + f.By
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, "; ")
	}
	for _, r := range p.Create {
		out = append(out, "create "+r.ID.Name)
	}
	for _, u := range p.Update {
		s := "update"
		if u.Force {
			s = "force"
		}
		out = append(out, s+" {"+fields(u.Fields)+"}")
	}
	for range p.Unchanged {
		out = append(out, "unchanged")
	}
	for _, c := range p.Conflicts {
		out = append(out, "conflict {"+fields([]FieldChange{c.Field})+"}")
	}
	for _, d := range p.Drifted {
		out = append(out, "drift {"+fields(d.Fields)+"}")
	}
	return strings.Join(out, " ")
}

const plain = `{replicas: 3, template: {command: [sleep, "9"], env: [{name: A, value: "1"}, {name: B, value: "2"}], labels: {tier: web}, ports: [{name: http, port: 80}]}, loopbackAddresses: [10.0.0.1, 10.0.0.2], networks: [{pool: blue}]}`

func setField(value any, path ...string) func(map[string]any) {
	return func(o map[string]any) { _ = unstructured.SetNestedField(o, value, path...) }
}

func TestCompare(t *testing.T) {
	converter := newConverter(t)
	env := func(o map[string]any) []any {
		l, _, _ := unstructured.NestedSlice(o, "spec", "template", "env")
		return l
	}
	for _, c := range []struct {
		name    string
		others  func(t *testing.T, a *api)
		next    string
		correct bool
		want    string
	}{
		{"nothing", nil, plain, true, "unchanged"},
		{"another order of keyed items", nil, strings.Replace(plain, `{name: A, value: "1"}, {name: B, value: "2"}`, `{name: B, value: "2"}, {name: A, value: "1"}`, 1), true, "unchanged"},
		{"a changed value", nil, strings.Replace(plain, `"1"`, `"7"`, 1), true, "update {spec.template.env[name=A].value: 1 -> 7}"},
		{"a changed program", nil, strings.Replace(plain, `"9"`, `"10"`, 1), true, "update {spec.template.command[1]: 9 -> 10}"},
		{"a longer command", nil, strings.Replace(plain, `"9"`, `"9", "8"`, 1), true, `update {spec.template.command: ["sleep","9"] -> ["sleep","9","8"]}`},
		{"a new item", nil, strings.Replace(plain, `[{name: A`, `[{name: C, value: "3"}, {name: A`, 1), true, `update {spec.template.env[0]:  -> {"name":"C","value":"3"}}`},
		{"an item has left", nil, strings.Replace(plain, `, {name: B, value: "2"}`, "", 1), true, `update {spec.template.env[name=B]: {"name":"B","value":"2"} -> }`},
		{"a field has left", nil, strings.Replace(plain, `, labels: {tier: web}`, "", 1), true, `update {spec.template.labels: {"tier":"web"} -> }`},
		{"a member of a set", nil, strings.Replace(plain, `10.0.0.2`, "10.0.0.3", 1), true, `update {spec.loopbackAddresses[1]:  -> 10.0.0.3; spec.loopbackAddresses[10.0.0.2]: 10.0.0.2 -> }`},
		{"others add what we do not name", func(t *testing.T, a *api) {
			a.edit(t, "kubectl-label", setField("x", "metadata", "labels", "team"))
			a.edit(t, "kubectl-edit", func(o map[string]any) {
				_ = unstructured.SetNestedSlice(o, append(env(o), map[string]any{"name": "C", "value": "3"}), "spec", "template", "env")
			})
		}, plain, true, "unchanged"},
		{"somebody scales", func(t *testing.T, a *api) { a.edit(t, "kubectl-scale", setField(int64(5), "spec", "replicas")) }, plain, true,
			"force {spec.replicas: 5 -> 3 by kubectl-scale} drift {spec.replicas: 5 -> 3 by kubectl-scale}"},
		{"somebody scales, which is reported", func(t *testing.T, a *api) { a.edit(t, "kubectl-scale", setField(int64(5), "spec", "replicas")) }, plain, false,
			"unchanged drift {spec.replicas: 5 -> 3 by kubectl-scale}"},
		{"reported, and the repository changes something else", func(t *testing.T, a *api) { a.edit(t, "kubectl-scale", setField(int64(5), "spec", "replicas")) },
			strings.Replace(plain, `"1"`, `"7"`, 1), false, "update {spec.template.env[name=A].value: 1 -> 7} drift {spec.replicas: 5 -> 3 by kubectl-scale}"},
		{"somebody edits an item", func(t *testing.T, a *api) {
			a.edit(t, "kubectl-edit", func(o map[string]any) {
				l := env(o)
				l[0].(map[string]any)["value"] = "x"
				_ = unstructured.SetNestedSlice(o, l, "spec", "template", "env")
			})
		}, plain, true, "force {spec.template.env[name=A].value: x -> 1 by kubectl-edit} drift {spec.template.env[name=A].value: x -> 1 by kubectl-edit}"},
		{"somebody removes an item", func(t *testing.T, a *api) {
			a.edit(t, "kubectl-edit", func(o map[string]any) {
				_ = unstructured.SetNestedSlice(o, env(o)[1:], "spec", "template", "env")
			})
		}, plain, true, `force {spec.template.env[0]:  -> {"name":"A","value":"1"}} drift {spec.template.env[0]:  -> {"name":"A","value":"1"}}`},
		{"somebody applies the same", func(t *testing.T, a *api) { a.apply(t, app(t, `{replicas: 3}`).Tree(), "other", false) }, plain, true, "unchanged"},
		{"somebody applies another value", func(t *testing.T, a *api) { a.apply(t, app(t, `{replicas: 4}`).Tree(), "other", true) }, plain, true,
			"conflict {spec.replicas: 4 -> 3 by other}"},
		{"somebody takes the object", func(t *testing.T, a *api) {
			a.edit(t, "x", setField("ops/other", "metadata", "annotations", v1alpha1.AnnotationSync))
		}, plain, true, "conflict {:  -> }"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, first := newAPI(converter), app(t, plain)
			if got := said(a.look(first, false, true, nil)); got != "create web" {
				t.Fatal(got)
			}
			a.apply(t, first.Tree(), Manager, false)
			known := map[ID]Known{first.ID: {first.Digest, a.live.GetResourceVersion()}}
			if c.others != nil {
				c.others(t, a)
			}
			if got := said(a.look(app(t, c.next), true, c.correct, known)); got != c.want {
				t.Errorf("said %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestObjectsThatAreNotOurs(t *testing.T) {
	converter := newConverter(t)
	r := app(t, plain)
	a := newAPI(converter)
	a.edit(t, "kubectl-create", func(o map[string]any) {
		o["metadata"] = map[string]any{"name": "web", "namespace": "shop"}
		o["spec"] = map[string]any{"replicas": int64(9)}
	})
	if got := said(a.look(r, false, true, nil)); got != "conflict {spec.replicas: 9 -> 3 by kubectl-create}" {
		t.Error(got)
	}
	// What is the same can be adopted.
	a.edit(t, "kubectl-create", setField(int64(3), "spec", "replicas"))
	p := a.look(r, false, true, nil)
	if len(p.Update) != 1 || p.Update[0].Force || a.apply(t, Tree(p.Update[0].Apply), Manager, false) {
		t.Errorf("%s", said(p))
	}
	if got := said(a.look(r, true, true, nil)); got != "unchanged" {
		t.Error(got)
	}
}

func TestDeletedByOthers(t *testing.T) {
	r := app(t, plain)
	known := map[ID]Known{r.ID: {Digest: r.Digest, Version: "1"}}
	a := newAPI(newConverter(t))
	if got := said(a.look(r, true, true, known)); got != "create web drift {:  -> present}" {
		t.Error(got)
	}
	if got := said(a.look(r, true, false, known)); got != "unchanged drift {:  -> present}" {
		t.Error(got)
	}
}

// filled leaves out what is empty, which is as good as absent.
func filled(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for k, v := range m {
		v = filled(v)
		if s := text(v); s != "" && s != "{}" && s != "[]" {
			out[k] = v
		}
	}
	return out
}

// Whatever the repository and others do to an object: a plan says truly what the API server does, and carried out leaves
// nothing to do.
func TestPlansAreTrue(t *testing.T) {
	converter := newConverter(t)
	pick := func(t *rapid.T, name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	spec := func(t *rapid.T, more ...string) string {
		parts := []string{pick(t, "template", append(more, `template: {command: [a], env: [{name: A, value: "1"}]}`, `template: {command: [a, b], labels: {x: z}}`,
			`template: {command: [a], env: [{name: B, value: "2"}, {name: A, value: "3"}], ports: [{name: http, port: 80}]}`)...)}
		parts = append(parts, pick(t, "replicas", "replicas: 1", "replicas: 2", "paused: null"))
		parts = append(parts, pick(t, "addresses", "loopbackAddresses: [10.0.0.1]", "loopbackAddresses: [10.0.0.2, 10.0.0.1]", "x: null"))
		parts = append(parts, pick(t, "networks", "networks: [{pool: blue}]", "networks: [{pool: red}, {pool: blue}]", "y: null"))
		return "{" + strings.Join(parts, ", ") + "}"
	}
	rapid.Check(t, func(rt *rapid.T) {
		a := newAPI(converter)
		var applied bool
		known := map[ID]Known{}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			switch who := pick(rt, "who", "repository", "repository", "edit", "applier"); {
			case who == "edit" && a.live != nil:
				a.edit(t, "kubectl-edit", func(o map[string]any) {
					o["spec"] = maps.Clone(app(t, spec(rt)).Tree().Object["spec"].(map[string]any))
				})
			case who == "applier":
				other := app(t, spec(rt)).Tree()
				delete(other.Object["metadata"].(map[string]any), "annotations")
				a.apply(t, other, "other", rapid.Bool().Draw(rt, "force"))
			default:
				// Others do not apply what is empty: the server has conflicts about that which depend on what was there before.
				r := app(t, spec(rt, `template: {command: [b], env: [], labels: {}}`))
				correct := rapid.Bool().Draw(rt, "correct")
				p := a.look(r, applied, correct, known)
				before := a.object()
				trial := *a
				refused := trial.apply(t, r.Tree(), Manager, false)
				switch {
				case len(p.Conflicts) > 0:
					if !refused {
						rt.Fatalf("a conflict that the server does not see: %s", said(p))
					}
				case len(p.Create) > 0:
					a.apply(t, r.Tree(), Manager, false)
					applied = true
				case len(p.Update) > 0:
					u := p.Update[0]
					if a.apply(t, Tree(u.Apply), Manager, u.Force) {
						rt.Fatalf("the server sees a conflict: %s", said(p))
					}
					applied = true
				case refused == (len(p.Drifted) == 0):
					rt.Fatalf("unchanged, drifted %d, refused %t", len(p.Drifted), refused)
				case !refused && !reflect.DeepEqual(filled(before.Object["spec"]), filled(trial.live.Object["spec"])):
					rt.Fatalf("unchanged, but to apply it changes\n%v\nto\n%v", before.Object["spec"], trial.live.Object["spec"])
				}
				if len(p.Conflicts) > 0 {
					continue
				}
				known[r.ID] = Known{Digest: r.Digest}
				again := a.look(r, applied, correct, known)
				if again.Writes() != 0 || len(again.Conflicts) != 0 || correct && len(again.Drifted) != 0 {
					rt.Fatalf("once more: %s, after %s", said(again), said(p))
				}
			}
		}
	})
}

func TestPrune(t *testing.T) {
	live := func(kind, name, annotations string) *unstructured.Unstructured {
		r := prepare(t, "apiVersion: v1\nkind: "+kind+"\nmetadata: {name: "+name+", namespace: shop, annotations: {"+annotations+"}}\n")
		return r.Tree()
	}
	s := Snapshot{Sync: ours, Prune: true, Applied: map[ID]string{}, Live: map[ID]*unstructured.Unstructured{}}
	for _, u := range []*unstructured.Unstructured{live("ConfigMap", "a", ""), live("App", "b", ""), live("Namespace", "ns", ""), live("Secret", "kept", v1alpha1.AnnotationPrune+": disabled"),
		live("Secret", "other", ""), live("Secret", "gone", ""), live("Secret", "stays", "")} {
		s.Applied[IDOf(u)] = "v1"
		s.Live[IDOf(u)] = u
	}
	s.Rendered = []Rendered{prepare(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: stays, namespace: shop}\n")}
	s.Live[ID{Kind: "Secret", Namespace: "shop", Name: "other"}].SetAnnotations(map[string]string{v1alpha1.AnnotationSync: "ops/other"})
	delete(s.Live, ID{Kind: "Secret", Namespace: "shop", Name: "gone"})
	p := Compare(s)
	if got, want := fmt.Sprint(p.Prune, p.Released), "[app/shop/b configmap/shop/a namespace/shop/ns] [secret/shop/gone secret/shop/other]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if len(p.Protected) != 1 || p.Protected[0].ID.Name != "kept" || !strings.Contains(p.Protected[0].Message, "padis.io/prune is disabled") {
		t.Error(p.Protected)
	}
	s.Prune = false
	if p := Compare(s); len(p.Prune) != 0 || len(p.Protected) != 4 {
		t.Error(p.Prune, p.Protected)
	}
}

func TestMayPrune(t *testing.T) {
	n := func(i int32) *int32 { return &i }
	for _, c := range []struct {
		prune, applied int
		limit          *v1alpha1.PruneLimit
		confirmed      string
		want           string
	}{
		{0, 10, &v1alpha1.PruneLimit{Count: n(0)}, "", ""},
		{9, 10, nil, "", ""},
		{10, 10, nil, "", "all 10 objects"},
		{1, 1, nil, "", ""},
		{10, 10, nil, "abc", ""},
		{10, 10, &v1alpha1.PruneLimit{Percent: n(100)}, "", ""},
		{1, 10, &v1alpha1.PruneLimit{Count: n(0)}, "", "1 object, more than the 0"},
		{5, 10, &v1alpha1.PruneLimit{Count: n(5)}, "", ""},
		{6, 10, &v1alpha1.PruneLimit{Count: n(5)}, "", "6 objects, more than the 5 of spec.pruneLimit.count"},
		{6, 10, &v1alpha1.PruneLimit{Count: n(5)}, "other", "padis.io/confirm-prune=abc"},
		{6, 10, &v1alpha1.PruneLimit{Count: n(5)}, "abc", ""},
		{2, 10, &v1alpha1.PruneLimit{Percent: n(20)}, "", ""},
		{3, 10, &v1alpha1.PruneLimit{Percent: n(20)}, "", "3 of 10 objects, more than the 20 %"},
		{3, 10, &v1alpha1.PruneLimit{Percent: n(20), Count: n(100)}, "", "20 %"},
	} {
		got := MayPrune(Plan{Prune: make([]ID, c.prune)}, c.applied, c.limit, "abc", c.confirmed)
		if (got == nil) != (c.want == "") || got != nil && !strings.Contains(got.Message, c.want) {
			t.Errorf("%d of %d: %+v, want %q", c.prune, c.applied, got, c.want)
		}
	}
	gone := Plan{}
	for i := range 7 {
		gone.Prune = append(gone.Prune, ID{Kind: "ConfigMap", Namespace: "shop", Name: fmt.Sprint("c", i)})
	}
	if got := MayPrune(gone, 7, nil, "abc", ""); got == nil || !strings.Contains(got.Message, "all 7 objects of the Sync (configmap/shop/c0, ") || !strings.Contains(got.Message, "configmap/shop/c4, and 2 more): ") {
		t.Errorf("what would go is not named: %+v", got)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	want := prepare(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {password: new-password}\n")
	if data, _, _ := unstructured.NestedString(want.Tree().Object, "data", "password"); data != "bmV3LXBhc3N3b3Jk" {
		t.Errorf("stringData is not folded: %v", want.Tree().Object)
	}
	live := prepare(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\ndata: {password: b2xkLXBhc3N3b3Jk}\n").Tree()
	bare := live.DeepCopy()
	delete(bare.Object, "data")
	for _, l := range []*unstructured.Unstructured{live, bare} {
		changes := Drift(want.Tree(), l, nil)
		if len(changes) != 1 {
			t.Fatal(changes)
		}
		r := changes[0].Report(want.ID)
		if all := fmt.Sprint(r.Want, r.Is); strings.Contains(all, "new-password") || strings.Contains(all, "bmV3") || strings.Contains(all, "b2xk") || r.Want != conceal.Hidden {
			t.Errorf("tells %+v", r)
		}
	}
	if _, err := Prepare(&unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s"}, "stringData": map[string]any{"pin": int64(4711)}}}, ours); err == nil ||
		strings.Contains(err.Error(), "4711") || !strings.Contains(err.Error(), "stringData[pin]") {
		t.Error(err)
	}
}

// Fields that hold what comes from a Secret are hidden, whatever is there instead, and also after they have left the repository.
func TestSecretFieldsAreHidden(t *testing.T) {
	const names = `{padis.io/secret-fields: '["spec.template.env[name=\"A\"].value","spec.template.command","spec.loopbackAddresses"]'}`
	of := func(meta, env string) Rendered {
		return prepare(t, "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: web, namespace: shop, annotations: "+meta+"}\nspec: {template: "+env+"}\n")
	}
	want := of(names, `{command: [run, hunter2], env: [{name: A, value: hunter2}, {name: B, value: told}]}`)
	for name, live := range map[string]string{
		"other values":    `{command: [run, hunter3], env: [{name: A, value: "47"}, {name: B, value: other}]}`,
		"another length":  `{command: [run, hunter2, hunter4], env: [{name: A, value: hunter2}, {name: B, value: other}]}`,
		"items are gone":  `{command: [run, hunter2], env: [{name: B, value: other}]}`,
		"another order":   `{command: [run, hunter3], env: [{name: B, value: other}, {name: A, value: "47"}]}`,
		"all is gone":     `{env: [{name: B, value: other}]}`,
		"of another type": `{command: hunter3, env: [{name: A, value: 47}, {name: B, value: other}]}`,
	} {
		for _, annotation := range []string{names, "{}"} {
			var told string
			for _, c := range Drift(want.Tree(), of(annotation, live).Tree(), nil) {
				told += fmt.Sprintf("%+v\n", c.Report(want.ID))
			}
			if strings.Contains(told, "hunter") || strings.Contains(told, "47") || !strings.Contains(told, "other") || !strings.Contains(told, conceal.Hidden) {
				t.Errorf("%s: %s", name, told)
			}
		}
	}
	if _, err := Prepare(prepare(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a, annotations: {padis.io/secret-fields: '["metadata.annotations[\"padis.io/wave\"]"]'}}}`).Tree(), ours); err != nil {
		t.Error(err)
	}
	bad := prepare(t, `{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}`).Tree()
	bad.SetAnnotations(map[string]string{v1alpha1.AnnotationWave: "hunter2", conceal.Annotation: `["metadata.annotations[\"padis.io/wave\"]"]`})
	if _, err := Prepare(bad, ours); err == nil || strings.Contains(err.Error(), "hunter") {
		t.Errorf("told: %v", err)
	}
}

// What has left the repository and is of no field that is named any more is hidden by the annotation of what is there.
func TestRemovedSecretFieldsAreHidden(t *testing.T) {
	a := newAPI(newConverter(t))
	first := app(t, `{template: {command: [run, hunter2], env: [{name: A, value: hunter2}]}}`)
	tree := first.Tree()
	tree.SetAnnotations(map[string]string{v1alpha1.AnnotationSync: ours, conceal.Annotation: `["spec.template.env[name=\"A\"].value","spec.template.command"]`})
	a.apply(t, tree, Manager, false)
	got := said(a.look(app(t, `{template: {image: x}}`), true, true, nil))
	if strings.Contains(got, "hunter") || !strings.Contains(got, conceal.Hidden) {
		t.Error(got)
	}
}

func TestInventoryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var in []Rendered
		want := map[ID]string{}
		for range rapid.IntRange(0, 20).Draw(t, "objects") {
			u := &unstructured.Unstructured{}
			u.SetAPIVersion(rapid.SampledFrom([]string{"v1", "padis.io/v1alpha1"}).Draw(t, "version"))
			u.SetKind(rapid.SampledFrom([]string{"App", "Secret"}).Draw(t, "kind"))
			u.SetNamespace(rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "namespace"))
			u.SetName(rapid.StringMatching(`[a-c]{1,2}`).Draw(t, "name"))
			in = append(in, Rendered{ID: IDOf(u), APIVersion: u.GetAPIVersion()})
			want[IDOf(u)] = u.GetAPIVersion()
		}
		groups := Inventory(in)
		if got := Applied(groups); !maps.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
		slices.Reverse(in)
		if !reflect.DeepEqual(groups, Inventory(in)) {
			t.Fatal("depends on the order of objects")
		}
	})
}
