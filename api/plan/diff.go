package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"padis.io/padis/api/conceal"
)

// Field is one that differs.
type Field struct {
	// Path, for example spec.template.env[A].value. Entries of lists are named if all have different names, and numbered
	// otherwise; names with dots or brackets are quoted.
	Path string `json:"path"`
	// Before and After are JSON; absent if the field is.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// served are the fields of metadata that are the server's own, or that repeat the rest.
var served = []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"}

// lastApplied holds the whole object once more: of a Secret, too.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Diff compares two states of an object, and leaves out status and what the server keeps for itself. Contents of a Secret
// are shown as digests only, and fields that hold what comes from one not at all: they may be shorter, and so be guessed. Nothing is
// mutated.
func Diff(before, after map[string]any) []Field {
	secret := kindOf(before) == "Secret" || kindOf(after) == "Secret"
	d := differ{}
	hidden := conceal.Of(before, after)
	d.maps("", declared(hidden.Replace(before, marked), secret), declared(hidden.Replace(after, marked), secret))
	for i := range d.fields {
		d.fields[i].Before, d.fields[i].After = unmarked(d.fields[i].Before), unmarked(d.fields[i].After)
	}
	slices.SortStableFunc(d.fields, func(a, b Field) int { return strings.Compare(a.Path, b.Path) })
	return d.fields
}

func kindOf(o map[string]any) string { k, _ := o["kind"].(string); return k }

// declared is the part of an object that somebody declares.
func declared(o map[string]any, secret bool) map[string]any {
	out := maps.Clone(o)
	delete(out, "status")
	if m, ok := out["metadata"].(map[string]any); ok {
		m = maps.Clone(m)
		for _, name := range served {
			delete(m, name)
		}
		if a, ok := m["annotations"].(map[string]any); ok {
			a = maps.Clone(a)
			delete(a, lastApplied)
			m["annotations"] = a
			if len(a) == 0 {
				delete(m, "annotations")
			}
		}
		out["metadata"] = m
	}
	if !secret {
		return out
	}
	contents := map[string]any{}
	if data, ok := out["data"].(map[string]any); ok {
		for k, v := range data {
			contents[k] = digest(v, true)
		}
	}
	if data, ok := out["stringData"].(map[string]any); ok {
		for k, v := range data {
			contents[k] = digest(v, false)
		}
	}
	delete(out, "stringData")
	delete(out, "data")
	if len(contents) > 0 {
		out["data"] = contents
	}
	return out
}

// digest tells two contents apart, and nothing else.
func digest(v any, encoded bool) string {
	text, ok := v.(string)
	if !ok {
		text = fmt.Sprint(v)
	}
	data := []byte(text)
	if encoded {
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil {
			data = raw
		}
	}
	sum := sha256.Sum256(append([]byte("padis plan: "), data...))
	return "digest " + hex.EncodeToString(sum[:4])
}

// marked stands for what is hidden while it is compared: equal values have equal marks.
func marked(v any) string {
	sum := sha256.Sum256(encode(v))
	return mark + hex.EncodeToString(sum[:])
}

const mark = "padis hidden "

var markings = regexp.MustCompile(mark + "[0-9a-f]{64}")

func unmarked(b json.RawMessage) json.RawMessage {
	return markings.ReplaceAllLiteral(b, []byte(conceal.Hidden))
}

type differ struct{ fields []Field }

func (d *differ) add(path string, before, after any, had, has bool) {
	f := Field{Path: path}
	if had {
		f.Before = encode(before)
	}
	if has {
		f.After = encode(after)
	}
	d.fields = append(d.fields, f)
}

// encode gives compact JSON. What comes from JSON can be encoded.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return json.RawMessage(strconv.Quote(err.Error()))
	}
	return bytes.TrimSpace(b.Bytes())
}

func (d *differ) maps(path string, before, after map[string]any) {
	for k, was := range before {
		if is, ok := after[k]; ok {
			d.values(join(path, k), was, is)
		} else {
			d.add(join(path, k), was, nil, true, false)
		}
	}
	for k, is := range after {
		if _, ok := before[k]; !ok {
			d.add(join(path, k), nil, is, false, true)
		}
	}
}

func (d *differ) values(path string, before, after any) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			d.maps(path, b, a)
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			d.lists(path, b, a)
			return
		}
	}
	if !bytes.Equal(encode(before), encode(after)) {
		d.add(path, before, after, true, true)
	}
}

func (d *differ) lists(path string, before, after []any) {
	if bytes.Equal(encode(before), encode(after)) {
		return
	}
	was, ok1 := named(before)
	is, ok2 := named(after)
	if ok1 && ok2 && len(before) > 0 && len(after) > 0 {
		n := len(d.fields)
		for name, v := range was {
			if w, ok := is[name]; ok {
				d.values(entry(path, name), v, w)
			} else {
				d.add(entry(path, name), v, nil, true, false)
			}
		}
		for name, v := range is {
			if _, ok := was[name]; !ok {
				d.add(entry(path, name), nil, v, false, true)
			}
		}
		if len(d.fields) == n { // Only their order differs.
			d.add(path, before, after, true, true)
		}
		return
	}
	for i := range max(len(before), len(after)) {
		at := entry(path, strconv.Itoa(i))
		switch {
		case i >= len(after):
			d.add(at, before[i], nil, true, false)
		case i >= len(before):
			d.add(at, nil, after[i], false, true)
		default:
			d.values(at, before[i], after[i])
		}
	}
}

// named gives the entries of a list by name, if each has one of its own.
func named(list []any) (map[string]any, bool) {
	out := make(map[string]any, len(list))
	for _, v := range list {
		m, _ := v.(map[string]any)
		name, ok := m["name"].(string)
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = v
	}
	return out, true
}

func join(path, key string) string {
	if strings.ContainsAny(key, ".[]\"") || key == "" {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func entry(path, name string) string {
	if strings.ContainsAny(name, ".[]\"") || name == "" {
		name = strconv.Quote(name)
	}
	return path + "[" + name + "]"
}
