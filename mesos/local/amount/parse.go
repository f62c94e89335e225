package amount

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
)

// Parse reads the --resources flag of an agent: "cpus:4;mem:4096;ports:[31000-32000];set:{a,b};cpus(role):2".
func Parse(s string) (List, error) {
	var out List
	for _, part := range split(s) {
		name, value, ok := strings.Cut(part, ":")
		if !ok {
			return nil, fmt.Errorf("resource %q: expecting name:value", part)
		}
		role := "*"
		if base, in, ok := strings.Cut(name, "("); ok {
			if !strings.HasSuffix(in, ")") || len(in) < 2 {
				return nil, fmt.Errorf("resource %q: expecting name(role):value", part)
			}
			name, role = base, in[:len(in)-1]
		}
		r := mesos.Resource{Name: strings.TrimSpace(name), Role: &role}
		v, err := parseValue(strings.TrimSpace(value))
		if err != nil || v.text != "" {
			return nil, fmt.Errorf("resource %q: expecting a number, [a-b] or {a,b}", part)
		}
		switch {
		case v.ranges != nil:
			r.Type, r.Ranges = mesos.RANGES.Enum(), v.ranges
		case v.set != nil:
			r.Type, r.Set = mesos.SET.Enum(), v.set
		default:
			r.Type, r.Scalar = mesos.SCALAR.Enum(), &mesos.Value_Scalar{Value: v.number}
		}
		out = append(out, r)
	}
	if err := Check(out); err != nil {
		return nil, err
	}
	return out, nil
}

// ParseAttributes reads the --attributes flag of an agent: "rack:r1;cores:8.5;slots:[1-4,7-9]".
func ParseAttributes(s string) ([]mesos.Attribute, error) {
	var out []mesos.Attribute
	for _, part := range split(s) {
		name, value, ok := strings.Cut(part, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, fmt.Errorf("attribute %q: expecting name:value", part)
		}
		a := mesos.Attribute{Name: strings.TrimSpace(name)}
		v, err := parseValue(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", part, err)
		}
		switch {
		case v.ranges != nil:
			a.Type, a.Ranges = mesos.RANGES, v.ranges
		case v.set != nil:
			return nil, fmt.Errorf("attribute %q: sets are not allowed", part)
		case v.text != "":
			a.Type, a.Text = mesos.TEXT, &mesos.Value_Text{Value: v.text}
		default:
			a.Type, a.Scalar = mesos.SCALAR, &mesos.Value_Scalar{Value: v.number}
		}
		out = append(out, a)
	}
	return out, nil
}

func split(s string) []string {
	var out []string
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == ';' || r == '\n' }) {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

type value struct {
	number float64
	text   string
	ranges *mesos.Value_Ranges
	set    *mesos.Value_Set
}

func parseValue(s string) (value, error) {
	inner := func(open, end string) (string, bool) {
		if strings.HasPrefix(s, open) && strings.HasSuffix(s, end) && len(s) >= 2 {
			return s[1 : len(s)-1], true
		}
		return "", false
	}
	if in, ok := inner("[", "]"); ok {
		out := &mesos.Value_Ranges{}
		for _, item := range strings.Split(in, ",") {
			from, to, ok := strings.Cut(strings.TrimSpace(item), "-")
			if !ok {
				to = from
			}
			begin, err1 := strconv.ParseUint(strings.TrimSpace(from), 10, 64)
			end, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 64)
			if err1 != nil || err2 != nil || begin > end || end == math.MaxUint64 {
				return value{}, fmt.Errorf("bad range %q", item)
			}
			out.Range = append(out.Range, mesos.Value_Range{Begin: begin, End: end})
		}
		return value{ranges: out}, nil
	}
	if in, ok := inner("{", "}"); ok {
		out := &mesos.Value_Set{}
		for _, item := range strings.Split(in, ",") {
			out.Item = append(out.Item, strings.TrimSpace(item))
		}
		return value{set: out}, nil
	}
	if x, err := strconv.ParseFloat(s, 64); err == nil && !math.IsNaN(x) && !math.IsInf(x, 0) {
		return value{number: x}, nil
	}
	if s == "" {
		return value{}, fmt.Errorf("empty value")
	}
	return value{text: s}, nil
}
