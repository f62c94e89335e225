// Package intern has equal parts of custom resources be the same part. The API server keeps each object as a tree of maps, and of
// each that has changed lately the versions before: what managers own takes more room than what they own, and it is the same
// for thousands of objects; a status that changes leaves the spec what it was; and names of fields are strings of their own in
// each object. Pure but for its tables.
package intern

import (
	"hash/maphash"
	"reflect"
	"sync"
)

const (
	// generation is how many parts are remembered at least since they were seen last, and half of how many at most.
	generation = 16384
	// longest string that is looked for: longer ones are rarely equal.
	longest = 256
)

// Parts are parts of trees that were seen lately. The zero value is not ready: see New. Safe for concurrent use.
type Parts struct {
	seed maphash.Seed
	mu   sync.Mutex
	// now are those that were seen since it was begun, before those of the time before. That way, what is not seen any more goes.
	now, before map[uint64]any
}

// New makes an empty table.
func New() *Parts { return &Parts{seed: maphash.MakeSeed(), now: map[uint64]any{}} }

// Share has an object be made of parts that were seen before, where there are equal ones. What it leaves is equal to what it was
// given, which it changes for that. None of it must be changed any more.
func (p *Parts) Share(object map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, v := range object {
		switch k {
		case "metadata", "status":
			// As a whole, no two are equal.
			p.parts(v)
		default:
			v, _ = p.share(v)
		}
		object[p.key(k)] = v
	}
}

// parts shares what is in v, but not v itself.
func (p *Parts) parts(v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if k == "managedFields" {
				p.parts(e)
			} else {
				e, _ = p.share(e)
			}
			v[p.key(k)] = e
		}
	case []any:
		for i, e := range v {
			v[i], _ = p.share(e)
		}
	}
}

// share gives the part that is equal to v, and its hash, which is the same for equal ones in whatever order maps are gone through.
func (p *Parts) share(v any) (any, uint64) {
	var h uint64
	switch v := v.(type) {
	case map[string]any:
		sum := uint64(len(v))
		for k, e := range v {
			e, of := p.share(e)
			sum += maphash.Comparable(p.seed, [2]uint64{maphash.String(p.seed, k), of})
			// A key that is there already is replaced by one that is equal.
			v[p.key(k)] = e
		}
		h = maphash.Comparable(p.seed, sum)
	case []any:
		h = uint64(len(v))
		for i, e := range v {
			e, of := p.share(e)
			h = maphash.Comparable(p.seed, [2]uint64{h, of})
			v[i] = e
		}
	case string:
		h = maphash.String(p.seed, v)
		if len(v) > longest {
			return v, h
		}
	default:
		// Numbers and truth values take next to nothing.
		return v, maphash.Comparable(p.seed, v)
	}
	return p.same(h, v), h
}

// key gives the string that is equal to the name of a field.
func (p *Parts) key(k string) string {
	if s, ok := p.same(maphash.String(p.seed, k), k).(string); ok {
		return s
	}
	return k
}

// same gives the part with that hash that is equal to v, v itself if none was seen before. Parts of v were shared already.
func (p *Parts) same(h uint64, v any) any {
	known, ok := p.now[h]
	if ok {
		if !equal(known, v) {
			return v
		}
		return known
	}
	if known, ok = p.before[h]; !ok {
		known = v
	} else if !equal(known, v) {
		return v
	}
	if len(p.now) >= generation {
		p.now, p.before = make(map[uint64]any, generation), p.now
	}
	p.now[h] = known
	return known
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
			return false
		}
		if reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() {
			return true
		}
		for k, x := range a {
			if y, ok := b[k]; !ok || !equal(x, y) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
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
