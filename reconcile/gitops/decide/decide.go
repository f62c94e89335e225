// Package decide says what a Sync shall do next: which commit to apply and when, what of its objects to create, change,
// delete or leave alone, in which order, and how they fare. It compares what was rendered with what is there. Pure.
//
// Times, time zones and live objects are given to it; equal snapshots give equal plans.
package decide

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"padis.io/padis/api/conceal"
	"padis.io/padis/api/v1alpha1"
)

// Manager is the field manager by which Syncs apply.
const Manager = "padis-sync"

// ID names an object, whatever version of its API it is written in.
type ID struct{ Group, Kind, Namespace, Name string }

// IDOf is the name of an object.
func IDOf(u *unstructured.Unstructured) ID {
	group, _, found := strings.Cut(u.GetAPIVersion(), "/")
	if !found {
		group = ""
	}
	return ID{Group: group, Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName()}
}

// String is KIND/NAMESPACE/NAME or KIND/NAME, the kind in lower case.
func (id ID) String() string {
	kind := strings.ToLower(id.Kind)
	if id.Namespace == "" {
		return kind + "/" + id.Name
	}
	return kind + "/" + id.Namespace + "/" + id.Name
}

// compareIDs sorts by what people look for first: the namespace.
func compareIDs(a, b ID) int {
	for _, p := range [][2]string{{a.Namespace, b.Namespace}, {a.Kind, b.Kind}, {a.Name, b.Name}, {a.Group, b.Group}} {
		if c := strings.Compare(p[0], p[1]); c != 0 {
			return c
		}
	}
	return 0
}

// Rendered is an object as a Sync wants it.
type Rendered struct {
	ID ID
	// APIVersion is that of the object.
	APIVersion string
	// JSON is the object: Syncs keep tens of thousands, and as trees of maps they would take ten times as much.
	JSON []byte
	// Digest is equal for equal objects only.
	Digest string
	// Wave is when it is applied.
	Wave int32
}

// Kind is the group, version and kind of the object.
func (r Rendered) Kind() schema.GroupVersionKind {
	return schema.FromAPIVersionAndKind(r.APIVersion, r.ID.Kind)
}

// Tree is the object, new each time.
func (r Rendered) Tree() *unstructured.Unstructured { return Tree(r.JSON) }

// Tree reads an object that this package has written.
func Tree(text []byte) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	// What was written is an object for sure.
	_ = u.UnmarshalJSON(text)
	return u
}

// Problem is why an object cannot be applied.
type Problem struct {
	ID ID
	// Field and Value are what it says, and Message is what to write.
	Field, Value, Message string
}

// Error is the problem as one line.
func (p *Problem) Error() string {
	return fmt.Sprintf("%s: %s: %q %s", p.ID, p.Field, p.Value, p.Message)
}

// serverFields are written by the API server only; in a repository they are what somebody has copied.
var serverFields = []string{"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}

// Prepare makes of an object of a repository what is applied: it says which Sync (NAMESPACE/NAME) it is of, and holds
// nothing that the API server would leave out or store in another form, so that what is applied can be compared with what
// is there. The object itself stays as it is.
func Prepare(o *unstructured.Unstructured, sync string) (Rendered, error) {
	id := IDOf(o)
	u := own(o, id)
	delete(u.Object, "status")
	if m, ok := u.Object["metadata"].(map[string]any); ok {
		for _, f := range serverFields {
			delete(m, f)
		}
	}
	if id.Group == "" && id.Kind == "Secret" {
		if err := foldStringData(u, id); err != nil {
			return Rendered{}, err
		}
	}
	dropNulls(u.Object)
	dropEmpty(u, id)
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	wave := int32(0)
	if text, set := annotations[v1alpha1.AnnotationWave]; set {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return Rendered{}, &Problem{ID: id, Field: "metadata.annotations[" + v1alpha1.AnnotationWave + "]", Value: told(o, v1alpha1.AnnotationWave, text), Message: "is not a whole number: write for example \"10\""}
		}
		wave = int32(n)
	}
	if p, set := annotations[v1alpha1.AnnotationPrune]; set && p != v1alpha1.PruneDisabled && p != "enabled" {
		return Rendered{}, &Problem{ID: id, Field: "metadata.annotations[" + v1alpha1.AnnotationPrune + "]", Value: told(o, v1alpha1.AnnotationPrune, p), Message: "is neither enabled nor disabled: write one of these"}
	}
	annotations[v1alpha1.AnnotationSync] = sync
	u.SetAnnotations(annotations)
	// Marshalling sorts the keys of maps, so that equal objects are equal bytes.
	b, err := json.Marshal(u.Object)
	if err != nil {
		return Rendered{}, fmt.Errorf("%s: %w", id, err)
	}
	sum := sha256.Sum256(b)
	return Rendered{ID: id, APIVersion: u.GetAPIVersion(), JSON: b, Digest: hex.EncodeToString(sum[:16]), Wave: wave}, nil
}

// told is what may be told of an annotation.
func told(o *unstructured.Unstructured, name, value string) string {
	return fmt.Sprint(conceal.Of(o.Object).Hide(conceal.Key("metadata.annotations", name), value))
}

// own is a copy that may be changed at the top and in its metadata. What is large and stays as it is, the spec above all, is shared
// with the original.
func own(o *unstructured.Unstructured, id ID) *unstructured.Unstructured {
	if id.Group == "" && id.Kind == "Secret" {
		return o.DeepCopy()
	}
	m := make(map[string]any, len(o.Object))
	for k, v := range o.Object {
		if k == "metadata" || hasNull(v) {
			v = runtime.DeepCopyJSONValue(v)
		}
		m[k] = v
	}
	return &unstructured.Unstructured{Object: m}
}

func hasNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, e := range v {
			if hasNull(e) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, hasNull)
	}
	return false
}

// foldStringData moves the stringData of a Secret into its data, as the API server does.
func foldStringData(u *unstructured.Unstructured, id ID) error {
	plain, ok := u.Object["stringData"].(map[string]any)
	if !ok {
		return nil
	}
	data, ok := u.Object["data"].(map[string]any)
	if !ok {
		data = map[string]any{}
	}
	for _, k := range slices.Sorted(maps.Keys(plain)) {
		text, ok := plain[k].(string)
		if !ok {
			// Not the value: it is secret.
			return &Problem{ID: id, Field: "stringData[" + k + "]", Value: fmt.Sprintf("%T", plain[k]), Message: "is not a text: put it in quotes"}
		}
		data[k] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	delete(u.Object, "stringData")
	u.Object["data"] = data
	return nil
}

// dropNulls removes what is null: for the API server that is not there.
func dropNulls(m map[string]any) {
	for k, v := range m {
		switch v := v.(type) {
		case nil:
			delete(m, k)
		case map[string]any:
			dropNulls(v)
		case []any:
			for _, e := range v {
				if e, ok := e.(map[string]any); ok {
					dropNulls(e)
				}
			}
		}
	}
}

// dropEmpty removes empty maps and lists where the API server stores Go types, which leave them out. Elsewhere they may
// mean something: a volume with emptyDir: {} is one.
func dropEmpty(u *unstructured.Unstructured, id ID) {
	typed := []any{u.Object["metadata"]}
	if id.Group == "" || id.Group == "rbac.authorization.k8s.io" {
		typed = append(typed, u.Object)
	}
	for _, t := range typed {
		m, _ := t.(map[string]any)
		maps.DeleteFunc(m, func(_ string, v any) bool {
			switch v := v.(type) {
			case map[string]any:
				return len(v) == 0
			case []any:
				return len(v) == 0
			}
			return false
		})
	}
}

// Owner is the NAMESPACE/NAME of the Sync that an object is of; empty if it is of none.
func Owner(u *unstructured.Unstructured) string { return u.GetAnnotations()[v1alpha1.AnnotationSync] }

// Digests are those of all objects, for Next to compare commits.
func Digests(rendered []Rendered) map[ID]string {
	out := make(map[ID]string, len(rendered))
	for _, r := range rendered {
		out[r.ID] = r.Digest
	}
	return out
}

// Inventory is what a Sync has applied, as its status keeps it.
func Inventory(objects []Rendered) []v1alpha1.InventoryGroup {
	type key struct{ group, version, kind, namespace string }
	names := map[key][]string{}
	for _, r := range objects {
		version := r.APIVersion
		if _, after, found := strings.Cut(version, "/"); found {
			version = after
		}
		k := key{r.ID.Group, version, r.ID.Kind, r.ID.Namespace}
		names[k] = append(names[k], r.ID.Name)
	}
	var out []v1alpha1.InventoryGroup
	for k, n := range names {
		slices.Sort(n)
		out = append(out, v1alpha1.InventoryGroup{Group: k.group, Version: k.version, Kind: k.kind, Namespace: k.namespace, Names: strings.Join(slices.Compact(n), "\n")})
	}
	slices.SortFunc(out, func(a, b v1alpha1.InventoryGroup) int {
		if c := compareIDs(ID{Group: a.Group, Kind: a.Kind, Namespace: a.Namespace}, ID{Group: b.Group, Kind: b.Kind, Namespace: b.Namespace}); c != 0 {
			return c
		}
		return strings.Compare(a.Version, b.Version)
	})
	return out
}

// Applied lists what an inventory names, each once, with the apiVersion that it was applied in.
func Applied(groups []v1alpha1.InventoryGroup) map[ID]string {
	out := map[ID]string{}
	for _, g := range groups {
		version := g.Version
		if g.Group != "" {
			version = g.Group + "/" + g.Version
		}
		for _, n := range g.List() {
			out[ID{Group: g.Group, Kind: g.Kind, Namespace: g.Namespace, Name: n}] = version
		}
	}
	return out
}
