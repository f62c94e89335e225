package decide

import (
	"fmt"
	"io/fs"
	"testing"

	apiextv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/managedfields/managedfieldstest"
	"sigs.k8s.io/yaml"

	"padis.io/padis/api/crds"
)

// api keeps objects as the API server does: it is the server's own merging of fields, with the schema of the kind App.
type api struct {
	merge   *managedfields.FieldManager
	live    *unstructured.Unstructured
	version int
}

var appKind = schema.GroupVersionKind{Group: "padis.io", Version: "v1alpha1", Kind: "App"}

func newConverter(t testing.TB) managedfields.TypeConverter {
	t.Helper()
	b, err := fs.ReadFile(crds.Files, "padis.io_apps.yaml")
	if err != nil {
		t.Fatal(err)
	}
	crd := &apiextv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(b, crd); err != nil {
		t.Fatal(err)
	}
	spec, err := builder.BuildOpenAPIV3(crd, appKind.Version, builder.Options{StripValueValidation: true, StripNullable: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := managedfields.NewTypeConverter(spec.Components.Schemas, false)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newAPI(c managedfields.TypeConverter) *api {
	return &api{merge: managedfieldstest.NewFakeFieldManager(c, appKind)}
}

func (a *api) object() *unstructured.Unstructured {
	if a.live != nil {
		return a.live.DeepCopy()
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(appKind)
	return u
}

func (a *api) store(u *unstructured.Unstructured) {
	// What the schema would fill in.
	if _, found, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "replicas"); !found {
		_ = unstructured.SetNestedField(u.Object, int64(1), "spec", "replicas")
	}
	a.version++
	u.SetResourceVersion(fmt.Sprint(a.version))
	a.live = u
}

// apply is a server-side apply; it tells whether there was a conflict.
func (a *api) apply(t testing.TB, u *unstructured.Unstructured, manager string, force bool) (conflict bool) {
	t.Helper()
	out, err := a.merge.Apply(a.object(), u.DeepCopy(), manager, force)
	if apierrors.IsConflict(err) {
		return true
	}
	if err != nil {
		t.Fatalf("%s applies: %v", manager, err)
	}
	a.store(out.(*unstructured.Unstructured))
	return false
}

// edit is an ordinary update.
func (a *api) edit(t testing.TB, manager string, change func(map[string]any)) {
	t.Helper()
	next := a.object()
	change(next.Object)
	out, err := a.merge.Update(a.object(), next, manager)
	if err != nil {
		t.Fatalf("%s edits: %v", manager, err)
	}
	a.store(out.(*unstructured.Unstructured))
}

const ours = "ops/shop"

func prepare(t testing.TB, text string) Rendered {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	r, err := Prepare(u, ours)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func app(t testing.TB, spec string) Rendered {
	t.Helper()
	return prepare(t, "apiVersion: padis.io/v1alpha1\nkind: App\nmetadata: {name: web, namespace: shop}\nspec: "+spec+"\n")
}

// look compares one object with what is there.
func (a *api) look(r Rendered, applied, correct bool, known map[ID]Known) Plan {
	s := Snapshot{Sync: ours, Rendered: []Rendered{r}, Applied: map[ID]string{}, Live: map[ID]*unstructured.Unstructured{}, Known: known, Prune: true, Correct: correct}
	if applied {
		s.Applied[r.ID] = r.APIVersion
	}
	if a.live != nil {
		s.Live[r.ID] = a.live
	}
	return Compare(s)
}
