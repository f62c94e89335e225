package proposed

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// youngest is when what is new is made: after all that is there.
var youngest = metav1.NewTime(time.Unix(1<<33, 0))

// uidOf makes up a uid. It has no slash, and is another for each object.
func uidOf(o *unstructured.Unstructured) string {
	sum := sha256.Sum256([]byte(o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()))
	return "new-" + hex.EncodeToString(sum[:16])
}

// shallow copies an object as far as its metadata.
func shallow(o *unstructured.Unstructured) *unstructured.Unstructured {
	out := maps.Clone(o.Object)
	if m, ok := out["metadata"].(map[string]any); ok {
		out["metadata"] = maps.Clone(m)
	}
	return &unstructured.Unstructured{Object: out}
}

func sameSpec(a, b *unstructured.Unstructured) bool {
	x, errX := json.Marshal(a.Object["spec"])
	y, errY := json.Marshal(b.Object["spec"])
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// Merge lays a manifest over an object as it is, for who cannot ask the API server for a dry run: what the manifest says
// holds, lists as a whole, and what it does not say stays. An object that does not exist yet is nil. Nothing is mutated.
func Merge(before, manifest *unstructured.Unstructured) *unstructured.Unstructured {
	if before == nil {
		return manifest.DeepCopy()
	}
	return &unstructured.Unstructured{Object: merge(before.Object, manifest.Object)}
}

func merge(under, over map[string]any) map[string]any {
	out := maps.Clone(under)
	for k, v := range over {
		if m, ok := v.(map[string]any); ok {
			if u, ok := out[k].(map[string]any); ok {
				out[k] = merge(u, m)
				continue
			}
		}
		if v == nil { // As apply does: said to be absent.
			delete(out, k)
			continue
		}
		out[k] = runtime.DeepCopyJSONValue(v)
	}
	return out
}
