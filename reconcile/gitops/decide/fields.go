package decide

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"padis.io/padis/api/conceal"
	"padis.io/padis/api/v1alpha1"
)

// maxText bounds how much of a value a report quotes.
const maxText = 200

// FieldChange is a field that is not as it is wanted.
type FieldChange struct {
	// Path as people write it: spec.networks[pool=blue].addresses[0].
	Path string
	// Want is what the repository says, Is what is there; nil is nothing. Values of Secrets are hidden.
	Want, Is any
	// By is the field manager that has set it, and At when; empty if nobody says.
	By string
	At time.Time

	steps  []any
	live   any
	others owner
}

// Report is the change as a status lists it.
func (c FieldChange) Report(id ID) v1alpha1.FieldReport {
	r := v1alpha1.FieldReport{Object: id.String(), Path: c.Path, Want: text(c.Want), Is: text(c.Is), By: c.By}
	if !c.At.IsZero() {
		at := metav1.NewTime(c.At)
		r.At = &at
	}
	return r
}

func text(v any) string {
	s, ok := v.(string)
	if !ok && v != nil {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		s = string(b)
	}
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > maxText {
		return string(r[:maxText]) + "..."
	}
	return s
}

// owner tells who but the Sync has a field: by server-side apply, or by an ordinary write.
type owner int

const (
	nobody owner = iota
	byUpdate
	byApply
)

// tree are the fields of a manager, as FieldsV1 has them: f:NAME, k:KEYS and v:VALUE lead to what is below. An empty tree is
// the field itself with all that is in it; nil is none of it.
type tree map[string]any

// parseFields reads the fields of a manager.
func parseFields(raw []byte) (tree, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var t tree
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("managed fields: %w", err)
	}
	if len(t) == 0 {
		return nil, nil
	}
	return t, nil
}

// below is what of a tree is under a step.
func (t tree) below(step string) tree {
	if len(t) == 0 {
		return t
	}
	sub, ok := t[step].(map[string]any)
	if !ok {
		return nil
	}
	return sub
}

// manager is who has set fields of an object.
type manager struct {
	name    string
	ours    bool
	applies bool
	// undo: padis rollback has written it.
	undo bool
	at   time.Time
}

// managersOf reads who has set which fields. Entries that cannot be read are of a later Kubernetes: they own nothing here. mine:
// the object is the Sync's, and so is what was undone in it.
func managersOf(entries []metav1.ManagedFieldsEntry, mine bool) ([]manager, []tree) {
	var (
		out   []manager
		trees []tree
	)
	for _, e := range entries {
		if e.Subresource == "status" || e.FieldsV1 == nil {
			continue
		}
		t, err := parseFields(e.FieldsV1.GetRawBytes())
		if err != nil || t == nil {
			continue
		}
		m := manager{name: e.Manager, applies: e.Operation == metav1.ManagedFieldsOperationApply}
		m.undo = mine && undoes(e)
		m.ours = m.undo || m.applies && e.Manager == Manager
		if e.Time != nil {
			m.at = e.Time.Time
		}
		out, trees = append(out, m), append(trees, t)
	}
	return out, trees
}

// undoes tells whether an entry is of padis rollback.
func undoes(e metav1.ManagedFieldsEntry) bool {
	return e.Manager == v1alpha1.UndoManager && e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == ""
}

// comparison walks through what is wanted and what is there.
type comparison struct {
	managers []manager
	changes  []FieldChange
	// adopts: a field has the wanted value, but somebody else has set it.
	adopts bool
	want   *unstructured.Unstructured
	// secret are the fields whose values are not told.
	secret conceal.Fields
}

// compareFields finds the fields of want that live has not, those that the Sync has set and wants no more, and whether
// all others are the Sync's own. mine: the object is the Sync's.
func compareFields(want, live *unstructured.Unstructured, entries []metav1.ManagedFieldsEntry, mine bool) ([]FieldChange, bool) {
	managers, trees := managersOf(entries, mine)
	id := IDOf(want)
	c := &comparison{managers: managers, want: want, secret: conceal.Of(want.Object, live.Object)}
	if id.Group == "" && id.Kind == "Secret" {
		if c.secret == nil {
			c.secret = conceal.Fields{}
		}
		c.secret["data"] = true
	}
	for _, k := range slices.Sorted(maps.Keys(want.Object)) {
		if k == "apiVersion" || k == "kind" {
			continue
		}
		if k != "metadata" {
			c.walk(want.Object[k], live.Object[k], k, []any{k}, descend(trees, "f:"+k))
			continue
		}
		m, _ := want.Object[k].(map[string]any)
		have, _ := live.Object[k].(map[string]any)
		under := descend(trees, "f:metadata")
		for _, f := range slices.Sorted(maps.Keys(m)) {
			if f != "name" && f != "namespace" {
				c.walk(m[f], have[f], "metadata."+f, []any{k, f}, descend(under, "f:"+f))
			}
		}
	}
	for i, m := range managers {
		if m.ours {
			c.removed(want.Object, live.Object, "", "", trees[i])
		}
	}
	return c.changes, c.adopts
}

func descend(trees []tree, step string) []tree {
	out := make([]tree, len(trees))
	for i, t := range trees {
		out[i] = t.below(step)
	}
	return out
}

// walk compares one field and what is in it. What is empty is as good as absent: server-side apply stores now the one and
// now the other for the same declaration, depending on what was there before.
func (c *comparison) walk(want, is any, path string, steps []any, trees []tree) {
	switch want := want.(type) {
	case map[string]any:
		have, ok := is.(map[string]any)
		if !ok && (is != nil || len(want) > 0) {
			c.differs(want, is, path, steps, trees)
			return
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			c.walk(want[k], have[k], path+"."+k, with(steps, k), descend(trees, "f:"+k))
		}
	case []any:
		have, ok := is.([]any)
		if !ok && (is != nil || len(want) > 0) {
			c.differs(want, is, path, steps, trees)
			return
		}
		c.list(want, have, path, steps, trees)
	default:
		if !equal(want, is) {
			c.differs(want, is, path, steps, trees)
			return
		}
		c.owned(trees)
	}
}

// list compares lists by what the managers say of them: whether their items have keys, or are a set, or are one thing.
func (c *comparison) list(want, is []any, path string, steps []any, trees []tree) {
	elements := elementsOf(trees)
	if len(elements) == 0 {
		if len(want) != len(is) || c.mixed(want, is, steps) {
			c.differs(want, is, path, steps, trees)
			return
		}
		for i := range want {
			c.walk(want[i], is[i], fmt.Sprintf("%s[%d]", path, i), with(steps, i), trees)
		}
		return
	}
	for i, item := range want {
		at := fmt.Sprintf("%s[%d]", path, i)
		var (
			have  any
			under = make([]tree, len(trees))
		)
		for _, e := range elements {
			if !e.matches(item) {
				continue
			}
			if !c.secret.Covers(c.pathOf(steps)) {
				at = path + e.text()
			}
			under = descend(trees, e.step)
			break
		}
		for _, candidate := range is {
			if sameItem(item, candidate, elements) {
				have = candidate
				break
			}
		}
		c.walk(item, have, at, with(steps, i), under)
	}
}

// mixed tells whether two lists that are compared by place have items of different names in one, and some of them secrets: these
// would be told under another's name.
func (c *comparison) mixed(want, is []any, steps []any) bool {
	if len(c.secret) == 0 {
		return false
	}
	path := c.pathOf(steps)
	for i := range want {
		if conceal.Item(path, want[i]) != conceal.Item(path, is[i]) && c.secret.Touches(path) {
			return true
		}
	}
	return false
}

// sameItem tells whether two items of a list have the same keys, or are the same value.
func sameItem(want, is any, elements []element) bool {
	w, ok := want.(map[string]any)
	h, both := is.(map[string]any)
	if !ok || !both {
		return equal(want, is)
	}
	for _, e := range elements {
		if e.keys == nil {
			continue
		}
		some := false
		for k := range e.keys {
			// A key that is not written has a default.
			if v, set := w[k]; set {
				if !equal(v, h[k]) {
					return false
				}
				some = true
			}
		}
		return some
	}
	return equal(want, is)
}

// element is an item of a list that managers speak of, by its keys or by its value.
type element struct {
	step  string
	keys  map[string]any
	value any
}

func elementsOf(trees []tree) []element {
	seen := map[string]bool{}
	var out []element
	for _, t := range trees {
		for step := range t {
			if seen[step] {
				continue
			}
			if e, ok := parseElement(step); ok {
				seen[step] = true
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b element) int { return strings.Compare(a.step, b.step) })
	return out
}

func parseElement(step string) (element, bool) {
	e := element{step: step}
	switch {
	case strings.HasPrefix(step, "k:"):
		return e, decode(step[2:], &e.keys) == nil && len(e.keys) > 0
	case strings.HasPrefix(step, "v:"):
		return e, decode(step[2:], &e.value) == nil && e.value != nil
	}
	return e, false
}

func decode(s string, into any) error {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	return d.Decode(into)
}

func (e element) matches(item any) bool {
	if e.keys == nil {
		return equal(item, e.value)
	}
	m, ok := item.(map[string]any)
	if !ok {
		return false
	}
	some := false
	for k, v := range e.keys {
		if have, set := m[k]; set {
			if !equal(have, v) {
				return false
			}
			some = true
		}
	}
	return some
}

func (e element) text() string {
	if e.keys == nil {
		return "[" + text(e.value) + "]"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(e.keys)) {
		parts = append(parts, k+"="+text(e.keys[k]))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// removed finds what the Sync has set and the repository says no more. named is the path as conceal.Fields have it.
func (c *comparison) removed(want, is any, path, named string, t tree) {
	for _, step := range slices.Sorted(maps.Keys(t)) {
		if step == "." {
			continue
		}
		var (
			next, have any
			found      bool
			at, below  string
		)
		if name, isField := strings.CutPrefix(step, "f:"); isField {
			at, below = strings.TrimPrefix(path+"."+name, "."), conceal.Key(named, name)
			m, _ := want.(map[string]any)
			h, _ := is.(map[string]any)
			next, found = m[name]
			have = h[name]
		} else if e, ok := parseElement(step); ok {
			next, found = find(want, e)
			have, _ = find(is, e)
			at, below = path+e.text(), conceal.Item(named, have)
			if c.secret.Covers(named) {
				at = path + "[]"
			}
		} else {
			continue
		}
		switch {
		case !found && have != nil:
			c.changes = append(c.changes, FieldChange{Path: at, Is: c.secret.Hide(below, have)})
		case found:
			c.removed(next, have, at, below, t.below(step))
		}
	}
}

func find(list any, e element) (any, bool) {
	items, _ := list.([]any)
	for _, item := range items {
		if e.matches(item) {
			return item, true
		}
	}
	return nil, false
}

func (c *comparison) owned(trees []tree) {
	for i, t := range trees {
		if t != nil && c.managers[i].ours {
			return
		}
	}
	c.adopts = true
}

func (c *comparison) differs(want, is any, path string, steps []any, trees []tree) {
	named := c.pathOf(steps)
	change := FieldChange{Path: path, Want: c.secret.Hide(named, want), Is: c.secret.Hide(named, is), steps: slices.Clone(steps), live: is}
	for i, t := range trees {
		m := c.managers[i]
		if t != nil && m.undo && change.By == "" {
			change.By, change.At = m.name, m.at
		}
		if t == nil || m.ours {
			continue
		}
		kind := byUpdate
		if m.applies {
			kind = byApply
		}
		// Who applies it means it; else the last one counts.
		if kind > change.others || kind == change.others && m.at.After(change.At) {
			change.others, change.By, change.At = kind, m.name, m.at
		}
	}
	c.changes = append(c.changes, change)
}

// pathOf is the path of a field of what is wanted, as conceal.Fields have it.
func (c *comparison) pathOf(steps []any) string {
	if len(c.secret) == 0 {
		return ""
	}
	path, at := "", any(c.want.Object)
	for _, step := range steps {
		switch step := step.(type) {
		case string:
			m, _ := at.(map[string]any)
			path, at = conceal.Key(path, step), m[step]
		case int:
			l, _ := at.([]any)
			if step < len(l) {
				at = l[step]
				path = conceal.Item(path, at)
			}
		}
	}
	return path
}

func with(steps []any, next any) []any { return append(slices.Clip(steps), next) }

// equal compares what JSON and YAML decoders make of the same text: numbers may be of different types.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		m, ok := b.(map[string]any)
		if !ok || len(a) != len(m) {
			return false
		}
		for k, v := range a {
			if w, set := m[k]; !set || !equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		l, ok := b.([]any)
		return ok && slices.EqualFunc(a, l, equal)
	case nil, string, bool:
		return a == b
	}
	x, ok := number(a)
	y, both := number(b)
	return ok && both && x == y
}

// number writes a number in one form: whole numbers with all their digits.
func number(v any) (string, bool) {
	switch v := v.(type) {
	case int:
		return strconv.Itoa(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		if v == float64(int64(v)) && v > -1<<53 && v < 1<<53 {
			return strconv.FormatInt(int64(v), 10), true
		}
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return strconv.FormatInt(n, 10), true
		}
		f, err := v.Float64()
		if err != nil {
			return "", false
		}
		return number(f)
	}
	return "", false
}

// keep gives want with the values of live where others have changed it.
func keep(want *unstructured.Unstructured, changes []FieldChange) *unstructured.Unstructured {
	out := want.DeepCopy()
	// Backwards, so that removing an item of a list moves none that is still to be set.
	for _, c := range slices.Backward(changes) {
		if len(c.steps) > 0 {
			out.Object = set(out.Object, c.steps, c.live).(map[string]any)
		}
	}
	return out
}

func set(in any, steps []any, value any) any {
	switch step := steps[0].(type) {
	case string:
		m, ok := in.(map[string]any)
		if !ok {
			return in
		}
		switch {
		case len(steps) > 1:
			m[step] = set(m[step], steps[1:], value)
		case value == nil:
			delete(m, step)
		default:
			m[step] = value
		}
		return m
	case int:
		l, ok := in.([]any)
		if !ok || step >= len(l) {
			return in
		}
		switch {
		case len(steps) > 1:
			l[step] = set(l[step], steps[1:], value)
		case value == nil:
			return slices.Delete(l, step, step+1)
		default:
			l[step] = value
		}
		return l
	}
	return in
}

// Drift finds the fields of an object that are not as it was applied, and who has changed them when. managers are the managed
// fields of live.
func Drift(applied, live *unstructured.Unstructured, managers []metav1.ManagedFieldsEntry) []FieldChange {
	changes, _ := compareFields(applied, live, managers, true)
	return changes
}
