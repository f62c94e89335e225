package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"padis.io/padis/mesos/local/words"
)

// DecodeJSON reads a message the way Mesos does: unknown fields and unknown enum values are dropped, numbers may be
// written as strings, and the errors carry the texts of Mesos. what is the name of the message in the error text,
// for example "Call". The message must be a pointer to a generated struct.
func DecodeJSON(body []byte, message any, what string) error {
	tree, err := parse(body)
	if err != nil {
		return words.Errorf("Failed to parse body into JSON: %w", err)
	}
	object, ok := tree.(map[string]any)
	if !ok {
		return words.Errorf("Failed to convert JSON into %s protobuf: Expecting a JSON object", what)
	}
	v := reflect.ValueOf(message).Elem()
	if err := decodeMessage(object, v); err != nil {
		return words.Errorf("Failed to convert JSON into %s protobuf: %w", what, err)
	}
	if absent := missing(object, v.Type(), ""); len(absent) > 0 {
		return words.Errorf("Failed to convert JSON into %s protobuf: Missing required fields: %s", what, strings.Join(absent, ", "))
	}
	return nil
}

// parse reads one JSON document. Its errors have the form of picojson, which Mesos uses.
func parse(body []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var tree any
	err := d.Decode(&tree)
	if err == nil {
		if _, tail := d.Token(); tail == io.EOF {
			return tree, nil
		}
		return nil, near(body, d.InputOffset())
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, near(body, max(0, syntax.Offset-1))
	}
	return nil, near(body, int64(len(body)))
}

func near(body []byte, offset int64) error {
	offset = min(offset, int64(len(body)))
	line := 1 + bytes.Count(body[:offset], []byte{'\n'})
	rest, _, _ := bytes.Cut(body[offset:], []byte{'\n'})
	return fmt.Errorf("syntax error at line %d near: %s", line, rest)
}

func decodeMessage(object map[string]any, v reflect.Value) error {
	l := layoutOf(v.Type())
	for _, key := range slices.Sorted(keys(object)) {
		i, known := l.byName[key]
		if !known || object[key] == nil {
			continue
		}
		f := &l.fields[i]
		if err := decodeField(object[key], v.Field(f.index), f); err != nil {
			return err
		}
	}
	return nil
}

func keys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func decodeField(in any, v reflect.Value, f *field) error {
	switch {
	case f.isMap:
		object, ok := in.(map[string]any)
		if !ok {
			return unexpected(in, f)
		}
		return decodeMap(object, v, f)
	case f.repeated:
		list, ok := in.([]any)
		if !ok {
			list = []any{in}
		}
		out := reflect.MakeSlice(v.Type(), 0, len(list))
		for _, item := range list {
			element := reflect.New(v.Type().Elem()).Elem()
			if set, err := decodeValue(item, element, f); err != nil {
				return err
			} else if set {
				out = reflect.Append(out, element)
			}
		}
		v.Set(out)
		return nil
	}
	if _, ok := in.([]any); ok {
		return unexpected(in, f)
	}
	_, err := decodeValue(in, v, f)
	return err
}

func decodeMap(object map[string]any, v reflect.Value, f *field) error {
	if v.Type().Key().Kind() != reflect.String {
		return words.Errorf("Not expecting a JSON object for field '%s'", f.name)
	}
	out := reflect.MakeMapWithSize(v.Type(), len(object))
	for key, in := range object {
		element := reflect.New(v.Type().Elem()).Elem()
		if set, err := decodeValue(in, element, f); err != nil {
			return err
		} else if set {
			out.SetMapIndex(reflect.ValueOf(key), element)
		}
	}
	v.Set(out)
	return nil
}

// decodeValue stores one value. set is false if there was none: null or an unknown enum name.
func decodeValue(in any, v reflect.Value, f *field) (set bool, err error) {
	if in == nil {
		return false, nil
	}
	if v.Kind() == reflect.Pointer {
		target := reflect.New(v.Type().Elem())
		set, err := decodeValue(in, target.Elem(), f)
		if set {
			v.Set(target)
		}
		return set, err
	}
	if f.enum != nil {
		return decodeEnum(in, v, f)
	}
	switch v.Kind() {
	case reflect.Struct:
		object, ok := in.(map[string]any)
		if !ok {
			return false, unexpected(in, f)
		}
		return true, decodeMessage(object, v)
	case reflect.String:
		s, ok := in.(string)
		if !ok {
			return false, unexpected(in, f)
		}
		v.SetString(s)
	case reflect.Slice:
		s, ok := in.(string)
		if !ok {
			return false, unexpected(in, f)
		}
		b, err := decodeBase64(s)
		if err != nil {
			return false, words.Errorf("Failed to base64 decode bytes field '%s': %w", f.name, err)
		}
		v.SetBytes(b)
	case reflect.Bool:
		b, ok := in.(bool)
		if !ok {
			return false, unexpected(in, f)
		}
		v.SetBool(b)
	default:
		return true, decodeNumber(in, v, f)
	}
	return true, nil
}

func decodeEnum(in any, v reflect.Value, f *field) (bool, error) {
	switch x := in.(type) {
	case string:
		n, known := f.enum[x]
		if !known {
			return false, nil
		}
		v.SetInt(int64(n))
		return true, nil
	case json.Number:
		n, err := x.Int64()
		if err != nil {
			return false, nil
		}
		for _, known := range f.enum {
			if int64(known) == n {
				v.SetInt(n)
				return true, nil
			}
		}
		return false, nil
	}
	return false, unexpected(in, f)
}

func decodeNumber(in any, v reflect.Value, f *field) error {
	text := ""
	switch x := in.(type) {
	case json.Number:
		text = x.String()
	case string:
		tree, err := parse([]byte(x))
		if err != nil {
			return words.Errorf("Failed to parse '%s' as a JSON number for field '%s': %w", x, f.name, err)
		}
		n, ok := tree.(json.Number)
		if !ok {
			return words.Errorf("Failed to parse '%s' as a JSON number for field '%s': not a number", x, f.name)
		}
		text = n.String()
	default:
		return unexpected(in, f)
	}
	bad := words.Errorf("Failed to parse '%s' as a JSON number for field '%s': out of range", text, f.name)
	switch v.Kind() {
	case reflect.Float64, reflect.Float32:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return bad
		}
		v.SetFloat(x)
	case reflect.Int32, reflect.Int64:
		x, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			y, ferr := strconv.ParseFloat(text, 64)
			if ferr != nil || y >= 9.2e18 || y <= -9.2e18 || v.OverflowInt(int64(y)) {
				return bad
			}
			x = int64(y)
		}
		v.SetInt(x)
	case reflect.Uint32, reflect.Uint64:
		x, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			y, ferr := strconv.ParseFloat(text, 64)
			if ferr != nil || y < 0 || y >= 1.8e19 || v.OverflowUint(uint64(y)) {
				return bad
			}
			x = uint64(y)
		}
		v.SetUint(x)
	default:
		return unexpected(in, f)
	}
	return nil
}

func unexpected(in any, f *field) error {
	kind := "object"
	switch in.(type) {
	case string:
		kind = "string"
	case json.Number:
		kind = "number"
	case bool:
		kind = "boolean"
	case []any:
		kind = "array"
	}
	return words.Errorf("Not expecting a JSON %s for field '%s'", kind, f.name)
}

func decodeBase64(s string) ([]byte, error) {
	for _, r := range s {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '+', r == '/', r == '=', r == '\n', r == '\r':
		default:
			return nil, words.Errorf("Invalid character '%c'", r)
		}
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		if b, err = base64.RawStdEncoding.DecodeString(s); err != nil {
			return nil, words.Errorf("Invalid length or padding")
		}
	}
	if b == nil {
		b = []byte{}
	}
	return b, nil
}

// missing lists the paths of required fields that are absent, in the order of protobuf's own check: those of the
// message itself first, then those of its parts.
func missing(object map[string]any, t reflect.Type, prefix string) []string {
	l := layoutOf(t)
	var out []string
	for i := range l.fields {
		f := &l.fields[i]
		if !f.required {
			continue
		}
		in := object[f.name]
		if s, isString := in.(string); in == nil || (f.enum != nil && isString && !has(f.enum, s)) {
			out = append(out, prefix+f.name)
		}
	}
	for i := range l.fields {
		f := &l.fields[i]
		part := t.Field(f.index).Type
		for part.Kind() == reflect.Pointer || part.Kind() == reflect.Map || (part.Kind() == reflect.Slice && part.Elem().Kind() != reflect.Uint8) {
			part = part.Elem()
		}
		if part.Kind() != reflect.Struct {
			continue
		}
		switch in := object[f.name].(type) {
		case map[string]any:
			if f.isMap {
				for _, key := range slices.Sorted(keys(in)) {
					if sub, ok := in[key].(map[string]any); ok {
						out = append(out, missing(sub, part, prefix+f.name+"["+key+"].")...)
					}
				}
				continue
			}
			out = append(out, missing(in, part, prefix+f.name+".")...)
		case []any:
			for n, item := range in {
				if sub, ok := item.(map[string]any); ok {
					out = append(out, missing(sub, part, prefix+f.name+"["+strconv.Itoa(n)+"].")...)
				}
			}
		}
	}
	return out
}

func has(m map[string]int32, key string) bool { _, ok := m[key]; return ok }
