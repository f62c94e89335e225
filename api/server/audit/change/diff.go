package change

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"padis.io/padis/api/conceal"
)

const (
	// maxFields, maxValue, maxPath and maxTotal bound what a line keeps: fields, bytes of one value and of one path, and of all.
	maxFields = 64
	maxValue  = 256
	maxPath   = 256
	maxTotal  = 8 << 10
)

// lastApplied repeats the whole object, Secrets' contents included.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Rules say what of an object may be told.
type Rules struct {
	Kind string
	// Status has status compared, too.
	Status bool
	// Digest stands for what must not be read: equal contents have equal digests.
	Digest func([]byte) string
}

// Diff lists the fields in which two objects differ, by path, and how many it left out. Either may be nil. Values of
// Secrets, of their annotations, of fields that hold what comes from one, and of binary data are replaced by digests; what the server keeps in metadata is left out.
func Diff(before, after map[string]any, r Rules) ([]Field, int) {
	d := differ{rules: r}
	secret, digest := conceal.Of(before, after), func(v any) string { return d.digestOf(encode(value{v, true})) }
	before, after = secret.Replace(before, digest), secret.Replace(after, digest)
	d.maps(nil, before, after)
	return d.fields, d.omitted
}

type differ struct {
	rules   Rules
	fields  []Field
	total   int
	omitted int
}

// value is one side of a field; there is false where there is none.
type value struct {
	of    any
	there bool
}

func (d *differ) maps(path []string, a, b map[string]any) {
	keys := make([]string, 0, max(len(a), len(b)))
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		at := append(path[:len(path):len(path)], name(k, len(path) == 0))
		if d.hidden(path, k) {
			continue
		}
		av, aOK := a[k]
		bv, bOK := b[k]
		d.values(at, value{av, aOK}, value{bv, bOK}, d.sealed(path))
	}
}

// hidden tells what no line says: what names the object, what the server keeps for itself, and copies.
func (d *differ) hidden(path []string, key string) bool {
	switch {
	case len(path) == 0:
		return key == "apiVersion" || key == "kind" || key == "status" && !d.rules.Status
	case len(path) == 1 && path[0] == "metadata":
		switch key {
		case "managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink", "name", "namespace":
			return true
		}
	}
	return key == lastApplied
}

// sealed tells whether the values below a path must not be read.
func (d *differ) sealed(path []string) bool {
	switch strings.Join(path, "") {
	case "data", "stringData", "metadata.annotations":
		return d.rules.Kind == "Secret"
	case "binaryData":
		return d.rules.Kind == "Secret" || d.rules.Kind == "ConfigMap"
	}
	return false
}

func (d *differ) values(path []string, a, b value, sealed bool) {
	if sealed {
		d.add(path, d.digest(a), d.digest(b))
		return
	}
	am, aMap := a.of.(map[string]any)
	bm, bMap := b.of.(map[string]any)
	// What is near the root is told in its parts also where one side is missing: some of them are hidden or sealed.
	if (aMap || !a.there) && (bMap || !b.there) && len(am)+len(bm) > 0 &&
		(aMap && bMap || len(path) < 2 || d.sealed(path) || len(encode(a))+len(encode(b)) > maxValue) {
		d.maps(path, am, bm)
		return
	}
	if d.rules.Kind == "Secret" && len(path) < 3 && (aMap || bMap) {
		// No Secret that is valid gets here.
		d.add(path, d.digest(a), d.digest(b))
		return
	}
	al, aList := a.of.([]any)
	bl, bList := b.of.([]any)
	if aList && bList && d.lists(path, al, bl) {
		return
	}
	d.add(path, encode(a), encode(b))
}

// lists compares element by element: by name where all have one, else by place. It gives false where neither says which
// belong together.
func (d *differ) lists(path []string, a, b []any) bool {
	an, aNamed := named(a)
	bn, bNamed := named(b)
	if aNamed && bNamed {
		for _, n := range slices.Sorted(maps.Keys(union(an, bn))) {
			av, aOK := an[n]
			bv, bOK := bn[n]
			d.values(append(path[:len(path):len(path)], "[name="+quote(n)+"]"), value{av, aOK}, value{bv, bOK}, false)
		}
		return true
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		d.values(append(path[:len(path):len(path)], "["+strconv.Itoa(i)+"]"), value{a[i], true}, value{b[i], true}, false)
	}
	return true
}

func union(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

func named(list []any) (map[string]any, bool) {
	out := map[string]any{}
	for _, e := range list {
		m, _ := e.(map[string]any)
		n, ok := m["name"].(string)
		if _, twice := out[n]; !ok || twice {
			return nil, false
		}
		out[n] = e
	}
	return out, true
}

func (d *differ) digest(v value) json.RawMessage {
	if !v.there {
		return nil
	}
	b, _ := json.Marshal(d.digestOf(encode(v)))
	return b
}

func (d *differ) digestOf(b []byte) string { return "digest:" + d.rules.Digest(b) }

// encode gives nothing for what is not there. The objects come out of JSON, so that they go back into it.
func encode(v value) json.RawMessage {
	if !v.there {
		return nil
	}
	b, err := json.Marshal(v.of)
	if err != nil {
		b, _ = json.Marshal(fmt.Sprintf("(%T)", v.of))
	}
	return b
}

func (d *differ) add(path []string, a, b json.RawMessage) {
	if bytes.Equal(a, b) {
		return
	}
	f := Field{Path: cut(strings.Join(path, ""), maxPath), Before: bound(a), After: bound(b)}
	size := len(f.Path) + len(f.Before) + len(f.After)
	if len(d.fields) >= maxFields || d.total+size > maxTotal {
		d.omitted++
		return
	}
	d.total += size
	d.fields = append(d.fields, f)
}

// bound replaces what is too long by its beginning, as a string.
func bound(b json.RawMessage) json.RawMessage {
	if len(b) <= maxValue {
		return b
	}
	text := string(b)
	var s string
	if json.Unmarshal(b, &s) == nil {
		text = s
	}
	out, _ := json.Marshal(fmt.Sprintf("%s... (%d bytes)", cut(text, maxValue/2), len(b)))
	return out
}

// cut shortens to whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// name is a key as a part of a path.
func name(key string, first bool) string {
	for _, c := range key {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return "[" + strconv.Quote(key) + "]"
		}
	}
	if first {
		return key
	}
	return "." + key
}

func quote(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || strings.ContainsAny(s, "] ") {
		return q
	}
	return s
}
