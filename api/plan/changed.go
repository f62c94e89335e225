package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
)

// Changed says what is not as it was when p was made, by a plan that was made now for the same manifests: parts of the
// world by their names, and objects. Nothing if p still holds.
func (p *Plan) Changed(now *Plan) []string {
	var out []string
	if p.World != now.World {
		names := maps.Clone(p.Parts)
		if names == nil {
			names = map[string]string{}
		}
		maps.Copy(names, now.Parts)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			if p.Parts[name] != now.Parts[name] {
				out = append(out, name)
			}
		}
		if len(out) == 0 {
			out = append(out, "the world")
		}
	}
	was := make(map[[3]string]*Object, len(p.Objects))
	for i := range p.Objects {
		o := &p.Objects[i]
		was[[3]string{o.Kind, o.Namespace, o.Name}] = o
	}
	for i := range now.Objects {
		o := &now.Objects[i]
		key := [3]string{o.Kind, o.Namespace, o.Name}
		if before := was[key]; before == nil || !same(before, o) {
			out = append(out, "what would become of "+o.Kind+" "+o.name())
		}
		delete(was, key)
	}
	for i := range p.Objects {
		o := &p.Objects[i]
		if was[[3]string{o.Kind, o.Namespace, o.Name}] == o {
			out = append(out, "what would become of "+o.Kind+" "+o.name())
		}
	}
	return out
}

// same compares as the JSON form does, in which a plan comes from a file.
func same(a, b *Object) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
