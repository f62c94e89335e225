package wire

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// EncodeJSON writes a message the way Mesos does: field names of the .proto file, enums by name, doubles with a
// decimal point, bytes in base64. A nil list is left out, an empty one that is not nil becomes [].
func EncodeJSON(message any) []byte {
	v := reflect.ValueOf(message)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return appendMessage(make([]byte, 0, 512), v)
}

func appendMessage(out []byte, v reflect.Value) []byte {
	l := layoutOf(v.Type())
	out = append(out, '{')
	first := true
	for i := range l.fields {
		f := &l.fields[i]
		part := v.Field(f.index)
		if absent(part, f) {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(out, '"')
		out = append(out, f.name...)
		out = append(out, '"', ':')
		switch {
		case f.isMap:
			out = appendMap(out, part, f)
		case f.repeated:
			out = append(out, '[')
			for n := range part.Len() {
				if n > 0 {
					out = append(out, ',')
				}
				out = appendValue(out, part.Index(n), f)
			}
			out = append(out, ']')
		default:
			out = appendValue(out, part, f)
		}
	}
	return append(out, '}')
}

// absent tells whether a field is not set. A zero enum stands for "not known here" in the generated types.
func absent(v reflect.Value, f *field) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Interface:
		return v.IsNil()
	case reflect.Slice:
		return v.IsNil() && (f.repeated || !f.required)
	case reflect.Int32:
		return f.enum != nil && !f.required && v.Int() == 0
	}
	return false
}

func appendMap(out []byte, v reflect.Value, f *field) []byte {
	names := make([]string, 0, v.Len())
	for _, k := range v.MapKeys() {
		names = append(names, k.String())
	}
	slices.Sort(names)
	out = append(out, '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendString(out, name)
		out = append(out, ':')
		out = appendValue(out, v.MapIndex(reflect.ValueOf(name)), f)
	}
	return append(out, '}')
}

func appendValue(out []byte, v reflect.Value, f *field) []byte {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if f.enum != nil {
		if s, ok := v.Interface().(fmt.Stringer); ok {
			return appendString(out, s.String())
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		return appendMessage(out, v)
	case reflect.String:
		return appendString(out, v.String())
	case reflect.Bool:
		return strconv.AppendBool(out, v.Bool())
	case reflect.Float32, reflect.Float64:
		return appendFloat(out, v.Float())
	case reflect.Int32, reflect.Int64:
		return strconv.AppendInt(out, v.Int(), 10)
	case reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(out, v.Uint(), 10)
	case reflect.Slice:
		out = append(out, '"')
		out = base64.StdEncoding.AppendEncode(out, v.Bytes())
		return append(out, '"')
	}
	return append(out, "null"...)
}

func appendString(out []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // cannot be: strings always marshal
		return append(out, `""`...)
	}
	return append(out, b...)
}

func appendFloat(out []byte, x float64) []byte {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		x = 0 // JSON has no such number
	}
	s := strconv.FormatFloat(x, 'f', -1, 64)
	if math.Abs(x) >= 1e17 {
		s = strconv.FormatFloat(x, 'g', -1, 64)
	}
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return append(out, s...)
}
