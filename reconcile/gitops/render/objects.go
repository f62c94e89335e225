package render

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"padis.io/padis/api/conceal"
	"padis.io/padis/reconcile/gitops/render/decode"
	"padis.io/padis/reconcile/gitops/render/kustomize"
	"padis.io/padis/reconcile/gitops/render/sops"
	"padis.io/padis/reconcile/gitops/render/substitute"
)

// Substitute is the annotation that keeps variables of one object as they are: `padis.io/substitute: disabled`.
const Substitute = "padis.io/substitute"

// result is what one file, or one kustomization, comes to.
type result struct {
	objects  []Object
	problems []Problem
}

func (r *result) broken(file string, e *decode.Error) {
	r.problems = append(r.problems, Problem{File: file, Line: e.Line, Field: e.Field, Message: e.Message})
}

func renderFile(in Input, name string, data []byte) (r result) {
	as, whole := strings.CutSuffix(name, ".age")
	if whole {
		var err error
		if data, err = sops.File(data, in.Decrypt); err != nil {
			r.broken(name, &decode.Error{Message: err.Error()})
			return r
		}
	}
	docs, broken := decode.Documents(as, data, in.Options.Limits)
	if broken != nil {
		r.broken(name, broken)
		return r
	}
	var secret func(*yaml.Node) bool
	if whole {
		secret = func(*yaml.Node) bool { return true }
	}
	if slices.ContainsFunc(docs, sops.Of) {
		if !whole {
			secret = encrypted(docs)
		}
		if _, err := sops.Decrypt(docs, in.Decrypt); err != nil {
			r.broken(name, &decode.Error{Message: err.Error()})
			return r
		}
	}
	for _, doc := range docs {
		r.document(in, name, doc.Line, doc, secret)
	}
	return r
}

func renderBuild(in Input, dir string, read func(string) ([]byte, error)) (r result, used []kustomize.Use) {
	later := false
	reader := &kustomize.Reader{Tree: func(name string) ([]byte, error) {
		data, err := read(name)
		later = later || passing(err)
		return data, err
	}, FS: in.FS, Keys: in.Decrypt, Limits: in.Options.Limits, Documents: in.Options.Documents}
	built, err := kustomize.Build(reader, dir)
	switch {
	case reader.Broken != nil:
		r.broken(reader.Broken.File, reader.Broken.Why)
		r.problems[len(r.problems)-1].Passing = later
		return r, reader.Used
	case err != nil:
		r.broken(dir, &decode.Error{Message: err.Error()})
		return r, reader.Used
	}
	secret := holding(reader.Decrypted)
	for _, o := range built {
		file := o.File
		if file == "" {
			file = dir
		}
		r.document(in, file, 0, o.Root, secret)
	}
	return r, reader.Used
}

// document adds a document's object, or the objects of a list. secret tells which scalars were decrypted; nil if none was.
func (r *result) document(in Input, file string, line int, doc *yaml.Node, secret func(*yaml.Node) bool) {
	var replace, otherwise func(string) (string, error)
	used := secret != nil
	if in.Variables != nil && annotation(doc, Substitute) != "disabled" {
		replace = func(s string) (string, error) { return substitute.Text(s, in.Variables) }
		if in.others != nil {
			otherwise = func(s string) (string, error) { return substitute.Text(s, in.others) }
			replace = noticing(replace, otherwise, &used)
		}
	}
	v, e := decode.Value(doc, in.Options.Limits, replace)
	if e != nil {
		if line == 0 {
			e.Line = 0 // of a document that nobody wrote
		}
		r.broken(file, e)
		return
	}
	other := v
	if used {
		if otherwise == nil {
			otherwise = replace
		}
		other = rendered(in, doc, secret, otherwise)
	}
	r.value(in, file, line, doc, v, other, 0)
}

// value adds an object, or the items of a list. n is what v was made of, and other is what would have been made of it with other
// secrets: where the two differ is what must not be told.
func (r *result) value(in Input, file string, line int, n *yaml.Node, v, other any, depth int) {
	m, ok := v.(map[string]any)
	if !ok {
		r.broken(file, &decode.Error{Line: line, Message: "not an object: a manifest is a mapping with apiVersion, kind and metadata"})
		return
	}
	kind, _ := m["kind"].(string)
	items, list := m["items"].([]any)
	if !list || !strings.HasSuffix(kind, "List") {
		secret := secretFields(m, other)
		if e := admit(in, m); e != nil {
			e.Line = line
			r.broken(file, e)
			return
		}
		conceal.Set(m, secret)
		r.object(in, Object{File: file, Line: line, Unstructured: &unstructured.Unstructured{Object: m}})
		return
	}
	if depth > 0 {
		r.broken(file, &decode.Error{Line: line, Field: "items", Message: "a list in a list: write its items one by one"})
		return
	}
	nodes := lookup(n, "items")
	for i, item := range items {
		at, from := line, n
		if nodes != nil && nodes.Kind == yaml.SequenceNode && line > 0 && i < len(nodes.Content) {
			from = nodes.Content[i]
			at = from.Line
		}
		r.value(in, file, at, from, item, itemOf(other, i), depth+1)
	}
}

func (r *result) object(in Input, o Object) {
	gvk := o.GroupVersionKind()
	o.id = id{gvk.Group, gvk.Kind, o.GetNamespace(), o.GetName()}
	if in.Make != nil {
		made, err := in.Make(o.Unstructured)
		if err != nil {
			r.broken(o.File, &decode.Error{Line: o.Line, Message: err.Error()})
			return
		}
		o.Made, o.Unstructured = made, nil
	}
	r.objects = append(r.objects, o)
}

// admit sees to what every object needs, whatever its kind, and puts it into the target namespace.
func admit(in Input, m map[string]any) *decode.Error {
	for _, field := range []string{"apiVersion", "kind"} {
		if s, ok := m[field].(string); !ok || s == "" {
			return &decode.Error{Field: field, Message: "missing, or not a string: a manifest says what it is; what is none belongs into .padisignore"}
		}
	}
	meta, ok := m["metadata"].(map[string]any)
	if !ok {
		return &decode.Error{Field: "metadata", Message: "missing: an object has metadata.name"}
	}
	name, ok := meta["name"].(string)
	switch {
	case !ok && meta["name"] != nil:
		return &decode.Error{Field: "metadata.name", Message: "not a string: quote it"}
	case name == "" && meta["generateName"] != nil:
		return &decode.Error{Field: "metadata.generateName", Message: "would make another object with each sync: use metadata.name"}
	case name == "":
		return &decode.Error{Field: "metadata.name", Message: "missing: objects are told apart by it"}
	case meta["ownerReferences"] != nil:
		return &decode.Error{Field: "metadata.ownerReferences", Message: "names an object by a uid that no commit can know, and the object would be deleted without it: take it out"}
	}
	for _, field := range []string{"labels", "annotations"} {
		if e := texts(meta, field); e != nil {
			return e
		}
	}
	return settle(in, m, meta)
}

// texts sees to it that labels and annotations are texts, which YAML's numbers and booleans are not.
func texts(meta map[string]any, field string) *decode.Error {
	v, ok := meta[field]
	if !ok || v == nil {
		return nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return &decode.Error{Field: "metadata." + field, Message: "not a mapping"}
	}
	bad := ""
	for k, v := range m {
		if _, ok := v.(string); !ok && (bad == "" || k < bad) {
			bad = k
		}
	}
	if bad != "" {
		return &decode.Error{Field: fmt.Sprintf("metadata.%s[%s]", field, bad), Message: "not a string: quote it"}
	}
	return nil
}

func settle(in Input, m, meta map[string]any) *decode.Error {
	namespace, ok := meta["namespace"].(string)
	if !ok && meta["namespace"] != nil {
		return &decode.Error{Field: "metadata.namespace", Message: "not a string: quote it"}
	}
	apiVersion, kind := m["apiVersion"].(string), m["kind"].(string)
	if ClusterScoped(group(apiVersion), kind) {
		if namespace != "" {
			return &decode.Error{Field: "metadata.namespace", Message: fmt.Sprintf("a %s is in no namespace: remove the field", kind)}
		}
		return nil
	}
	unnamed := cmp.Or(in.Namespace, in.Default)
	switch {
	case namespace == "" && unnamed == "":
		return &decode.Error{Field: "metadata.namespace", Message: "missing: set it, or the Sync's targetNamespace"}
	case namespace == "":
		meta["namespace"] = unnamed
	case in.Namespace != "" && namespace != in.Namespace:
		return &decode.Error{Field: "metadata.namespace", Message: fmt.Sprintf("%q is not the Sync's target namespace %q: remove the field, or use a Sync of that namespace", namespace, in.Namespace)}
	}
	return nil
}

func group(apiVersion string) string {
	g, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return g
}

// ClusterScoped tells whether objects of a kind that Padis serves are in no namespace.
func ClusterScoped(group, kind string) bool {
	switch group {
	case "":
		return kind == "Namespace"
	case "padis.io":
		return slices.Contains([]string{"BGPPeer", "ExecutorUpgrade", "IPPool", "Network", "Registry", "Tenant"}, kind)
	case "rbac.authorization.k8s.io":
		return kind == "ClusterRole" || kind == "ClusterRoleBinding"
	case "apiextensions.k8s.io":
		return kind == "CustomResourceDefinition"
	}
	return false
}

func annotation(doc *yaml.Node, key string) string {
	if n := lookup(lookup(lookup(doc, "metadata"), "annotations"), key); n != nil {
		return n.Value
	}
	return ""
}

func lookup(n *yaml.Node, key string) *yaml.Node {
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
