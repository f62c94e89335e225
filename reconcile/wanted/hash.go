package wanted

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"math"
	"slices"

	padisv1 "padis.io/padis/proto/padis/v1"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// hashLength is in hexadecimal digits: short enough to read, and only the revisions of one App have to differ.
const hashLength = 10

// hashOf writes a message into a hash. The result must never change for the same content, or all instances restart when Padis is upgraded. So
// it does not rest on protobuf's encoding, whose order of fields is promised to nobody, but on an encoding of its own:
// fields that are set, by number; entries of maps by key. A field that a later version adds changes nothing while it is
// not set.
func hashOf(m protoreflect.Message, h hash.Hash) {
	fields := m.Descriptor().Fields()
	var set []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		if f := fields.Get(i); m.Has(f) {
			set = append(set, f)
		}
	}
	slices.SortFunc(set, func(a, b protoreflect.FieldDescriptor) int { return cmp.Compare(a.Number(), b.Number()) })
	number(h, uint64(len(set)))
	for _, f := range set {
		number(h, uint64(f.Number()))
		switch v := m.Get(f); {
		case f.IsMap():
			entries(f, v.Map(), h)
		case f.IsList():
			number(h, uint64(v.List().Len()))
			for i := range v.List().Len() {
				scalar(f, v.List().Get(i), h)
			}
		default:
			scalar(f, v, h)
		}
	}
}

func entries(f protoreflect.FieldDescriptor, m protoreflect.Map, h hash.Hash) {
	var keys []protoreflect.MapKey
	m.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k)
		return true
	})
	slices.SortFunc(keys, func(a, b protoreflect.MapKey) int { return cmp.Compare(a.String(), b.String()) })
	number(h, uint64(len(keys)))
	for _, k := range keys {
		text(h, k.String())
		scalar(f.MapValue(), m.Get(k), h)
	}
}

func scalar(f protoreflect.FieldDescriptor, v protoreflect.Value, h hash.Hash) {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		hashOf(v.Message(), h)
	case protoreflect.StringKind:
		text(h, v.String())
	case protoreflect.BytesKind:
		text(h, string(v.Bytes()))
	case protoreflect.BoolKind:
		n := uint64(0)
		if v.Bool() {
			n = 1
		}
		number(h, n)
	case protoreflect.EnumKind:
		number(h, uint64(v.Enum()))
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		number(h, math.Float64bits(v.Float()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind, protoreflect.Fixed32Kind, protoreflect.Fixed64Kind:
		number(h, v.Uint())
	default:
		number(h, uint64(v.Int()))
	}
}

func number(h hash.Hash, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

func text(h hash.Hash, s string) {
	number(h, uint64(len(s)))
	h.Write([]byte(s))
}

// name is the hash of a revision's template, and of the pools and networks that it is on.
func name(r *padisv1.Revision) string {
	named := &padisv1.Revision{Template: r.Template}
	for _, w := range r.Networks {
		named.Networks = append(named.Networks, &padisv1.NetworkWish{Pool: w.Pool, Network: w.Network})
	}
	h := sha256.New()
	hashOf(named.ProtoReflect(), h)
	return hex.EncodeToString(h.Sum(nil))[:hashLength]
}
