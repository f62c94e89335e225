package wire

import (
	"reflect"
	"strings"
	"sync"

	"github.com/gogo/protobuf/proto"
)

// field is one protobuf field of a generated Go struct, as its struct tag describes it.
type field struct {
	index    int
	name     string // the name in the .proto file, which is also the JSON name
	required bool
	repeated bool
	enum     map[string]int32 // nil unless the field is an enum
	isMap    bool
}

// layout is what the JSON codec knows of a message type.
type layout struct {
	fields []field
	byName map[string]int
}

// layouts caches layout by reflect.Type; the types are a fixed, small set.
var layouts sync.Map

func layoutOf(t reflect.Type) *layout {
	if l, ok := layouts.Load(t); ok {
		return l.(*layout)
	}
	l := &layout{byName: map[string]int{}}
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("protobuf")
		if tag == "" {
			continue
		}
		f := field{index: i, isMap: t.Field(i).Type.Kind() == reflect.Map}
		for _, part := range strings.Split(tag, ",") {
			switch {
			case part == "req":
				f.required = true
			case part == "rep":
				f.repeated = true
			case strings.HasPrefix(part, "name="):
				f.name = part[len("name="):]
			case strings.HasPrefix(part, "enum="):
				f.enum = proto.EnumValueMap(part[len("enum="):])
			}
		}
		l.byName[f.name] = len(l.fields)
		l.fields = append(l.fields, f)
	}
	actual, _ := layouts.LoadOrStore(t, l)
	return actual.(*layout)
}
