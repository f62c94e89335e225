// Package intern has equal parts of custom resources be the same part. The API server keeps each object as a tree of maps, and of
// each that has changed lately the versions before: what managers own takes more room than what they own, and it is the same
// for thousands of objects; and a status that changes leaves the spec what it was. Pure but for its tables.
package intern

import (
	"hash/maphash"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// generation is how many trees of each kind are remembered at least since they were seen last, and half of how many at most.
const generation = 4096

// Trees are trees that were seen lately. The zero value is not ready: see New. Safe for concurrent use.
type Trees struct {
	seed maphash.Seed
	mu   sync.Mutex
	// now are those that were seen since it was begun, before those of the time before. That way, what is not seen any more goes.
	now, before map[uint64]any
}

// New makes an empty table.
func New() *Trees { return &Trees{seed: maphash.MakeSeed(), now: map[uint64]any{}} }

// Same gives a tree of JSON values that is equal to v, v itself if none was seen before. It must not be changed any more.
func (t *Trees) Same(v any) any {
	h := t.hash(v)
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.now[h]
	if !ok {
		known, ok = t.before[h]
	}
	switch {
	case !ok:
		known = v
	case !equal(known, v):
		return v
	}
	if len(t.now) >= generation {
		t.now, t.before = make(map[uint64]any, generation), t.now
	}
	t.now[h] = known
	return known
}

// hash is equal for equal trees, in whatever order maps are gone through.
func (t *Trees) hash(v any) uint64 {
	switch v := v.(type) {
	case map[string]any:
		sum := uint64(len(v))
		for k, e := range v {
			sum += maphash.Comparable(t.seed, [2]uint64{maphash.String(t.seed, k), t.hash(e)})
		}
		return maphash.Comparable(t.seed, sum)
	case []any:
		h := uint64(len(v))
		for _, e := range v {
			h = maphash.Comparable(t.seed, [2]uint64{h, t.hash(e)})
		}
		return h
	}
	// Strings, numbers and truth values.
	return maphash.Comparable(t.seed, v)
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, x := range a {
			if y, ok := b[k]; !ok || !equal(x, y) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case map[string]any, []any:
		return false
	}
	return a == b
}

// Codec reads and writes custom resources of a storage.
type Codec struct {
	runtime.Codec
	fields, specs *Trees
}

// NewCodec makes a codec of another one.
func NewCodec(c runtime.Codec) Codec { return Codec{c, New(), New()} }

// Decode reads an object. Its spec and what managers own must not be changed in place.
func (c Codec) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	o, kind, err := c.Codec.Decode(data, defaults, into)
	if u, ok := o.(*unstructured.Unstructured); ok && err == nil {
		c.share(u.Object)
	}
	return o, kind, err
}

func (c Codec) share(o map[string]any) {
	if spec, ok := o["spec"].(map[string]any); ok {
		o["spec"] = c.specs.Same(spec)
	}
	meta, ok := o["metadata"].(map[string]any)
	if !ok {
		return
	}
	managers, _ := meta["managedFields"].([]any)
	for _, m := range managers {
		if m, ok := m.(map[string]any); ok {
			if fields, ok := m["fieldsV1"].(map[string]any); ok {
				m["fieldsV1"] = c.fields.Same(fields)
			}
		}
	}
}
