// Package conceal says which fields of an object hold what comes from a Secret, although the object is none, and hides them
// where objects are told of: in statuses, events, logs, plans and the audit log. Pure.
//
// An annotation of the object names the fields. So it is known to whoever sees the object, after a restart, and of what has left
// the repository. A field that is named is hidden with all that was or will be in it, however short: what others put there
// in place of a password may be one.
package conceal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Annotation names the fields of an object that hold what comes from Secrets, as a list in JSON: ["data.dsn"].
const Annotation = "padis.io/secret-fields"

// Hidden stands for what is not told. It is no digest: that of a short password can be guessed.
const Hidden = "(secret)"

// short is how long a text must be to be found within others. Shorter ones are in any text by chance: they are hidden where
// they are quoted alone.
const short = 4

// most is how many fields are named one by one.
const most = 64

// Fields are paths, each of which stands for all below it. A path has keys, and items of lists by their names
// (spec.template.env[name=A].value): items without one are not told apart, and stand for their list.
type Fields map[string]bool

// Of gives the fields that the annotations of some objects name. All are, if an annotation cannot be read.
func Of(objects ...map[string]any) Fields {
	var out Fields
	for _, o := range objects {
		m, _ := o["metadata"].(map[string]any)
		var text any
		switch a := m["annotations"].(type) {
		case map[string]any:
			text = a[Annotation]
		case map[string]string:
			text = a[Annotation]
		}
		s, _ := text.(string)
		if s == "" {
			continue
		}
		var paths []string
		if json.Unmarshal([]byte(s), &paths) != nil || slices.Contains(paths, "") {
			paths = whole(o)
		}
		if out == nil {
			out = Fields{}
		}
		for _, p := range paths {
			out[p] = true
		}
	}
	return out
}

// whole are all fields but those that name the object.
func whole(o map[string]any) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if k != "apiVersion" && k != "kind" && k != "metadata" {
			out = append(out, Key("", k))
		}
	}
	return out
}

// Key is the path of a key below a path.
func Key(path, key string) string {
	simple := key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	switch {
	case !simple:
		return path + "[" + strconv.Quote(key) + "]"
	case path == "":
		return key
	}
	return path + "." + key
}

// Item is the path of an item of the list at a path.
func Item(path string, item any) string {
	if name, ok := nameOf(item); ok {
		return path + "[name=" + strconv.Quote(name) + "]"
	}
	return path
}

func nameOf(item any) (string, bool) {
	m, _ := item.(map[string]any)
	name, ok := m["name"].(string)
	return name, ok
}

// String is the value of the annotation.
func (f Fields) String() string {
	text, err := json.Marshal(slices.Sorted(maps.Keys(f)))
	if err != nil {
		return err.Error() // Lists of texts can be marshalled.
	}
	return string(text)
}

// Moved are the fields at a path as they are called where that is copied to.
func (f Fields) Moved(from, to string) Fields {
	out := Fields{}
	for p := range f {
		if within(p, from) {
			out[to+strings.TrimPrefix(p, from)] = true
		} else if within(from, p) {
			out[to] = true
		}
	}
	return out
}

// Covers tells whether all of what is at a path is hidden.
func (f Fields) Covers(path string) bool {
	for p := range f {
		if within(path, p) {
			return true
		}
	}
	return false
}

// Touches tells whether a part of what is at a path is hidden.
func (f Fields) Touches(path string) bool {
	for p := range f {
		if path == "" || within(p, path) {
			return true
		}
	}
	return false
}

func within(path, of string) bool {
	rest, ok := strings.CutPrefix(path, of)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// Hide gives what may be told of a value at a path. The value itself stays as it is.
func (f Fields) Hide(path string, v any) any {
	return f.replace(path, v, func(any) string { return Hidden })
}

// Replace puts a text in place of each value of an object that is hidden. The object itself stays as it is.
func (f Fields) Replace(o map[string]any, text func(value any) string) map[string]any {
	if len(f) == 0 || o == nil {
		return o
	}
	out, _ := f.replace("", o, text).(map[string]any)
	return out
}

func (f Fields) replace(path string, v any, text func(any) string) any {
	switch {
	case v == nil || len(f) == 0:
		return v
	case path != "" && f.Covers(path):
		return text(v)
	case !f.Touches(path):
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = f.replace(Key(path, k), e, text)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = f.replace(Item(path, e), e, text)
		}
		return out
	}
	return v
}

// Texts are what the hidden fields of an object hold, for Text to find them.
func Texts(o map[string]any) []string {
	var out []string
	Of(o).Replace(o, func(v any) string {
		out = append(out, scalars(v)...)
		return ""
	})
	return out
}

func scalars(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case map[string]any:
		for _, e := range v {
			out = append(out, scalars(e)...)
		}
	case []any:
		for _, e := range v {
			out = append(out, scalars(e)...)
		}
	case nil, bool:
		// They tell nothing.
	default:
		return []string{fmt.Sprint(v)}
	}
	return out
}

// Text takes secrets out of a message that somebody else has written. What is shorter than four bytes is found only where it is
// quoted alone, as the API server quotes values that it refuses.
func Text(message string, secrets []string) string {
	secrets = slices.Clone(secrets)
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, s := range slices.Compact(secrets) {
		if s == "" || s == Hidden {
			continue
		}
		quoted := strconv.Quote(s)
		if len(s) >= short {
			message = strings.ReplaceAll(strings.ReplaceAll(message, s, Hidden), quoted[1:len(quoted)-1], Hidden)
			continue
		}
		message = strings.ReplaceAll(message, quoted, `"`+Hidden+`"`)
	}
	return message
}

// Holds tells whether a text has a secret in it. Shorter ones than four bytes must be all of it.
func Holds(text string, secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool {
		return s != "" && (text == s || len(s) >= short && strings.Contains(text, s))
	})
}

// Differing are the fields in which two renderings of the same object differ: those that hold secrets, if these are what is
// otherwise in the other one. Without the other all fields are, but those that name the object.
func Differing(object, other map[string]any) []string {
	if other == nil {
		return whole(object)
	}
	d := differing{}
	d.walk("", object, other)
	out := slices.Sorted(maps.Keys(d))
	if slices.Contains(out, "") {
		return whole(object)
	}
	return out
}

type differing map[string]bool

func (d differing) walk(path string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			d[path] = true
			return
		}
		for k := range x {
			if _, both := y[k]; !both {
				d[path] = true
				return
			}
		}
		for k, e := range x {
			d.walk(Key(path, k), e, y[k])
		}
		return
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			d[path] = true
			return
		}
		for i := range x {
			n, named := nameOf(x[i])
			if m, _ := nameOf(y[i]); named && n != m {
				d[path] = true
				continue
			}
			d.walk(Item(path, x[i]), x[i], y[i])
		}
		return
	}
	if a != b {
		d[path] = true
	}
}

// Set names fields in the annotation of an object, beside those that it names already. A Secret is hidden anyway, and what names an
// object is shown everywhere.
func Set(o map[string]any, paths []string) {
	secret := o["kind"] == "Secret" && o["apiVersion"] == "v1"
	all := Of(o)
	if all == nil {
		all = Fields{}
	}
	for _, p := range paths {
		switch {
		case p == "apiVersion", p == "kind", p == "metadata.name", p == "metadata.namespace":
		case secret && (within(p, "data") || within(p, "stringData")):
		default:
			all[p] = true
		}
	}
	if len(all) == 0 {
		return
	}
	if len(all) > most {
		top := Fields{}
		for p := range all {
			first := p
			if end := strings.IndexAny(p[1:], ".["); p[0] != '[' && end >= 0 {
				first = p[:end+1]
			}
			top[first] = true
		}
		all = top
	}
	m, ok := o["metadata"].(map[string]any)
	if !ok {
		m = map[string]any{}
		o["metadata"] = m
	}
	a, ok := m["annotations"].(map[string]any)
	if !ok {
		a = map[string]any{}
		m["annotations"] = a
	}
	a[Annotation] = all.String()
}
