// Package amount reckons with Mesos resources: sums, differences, containment, the text forms of flags and of error
// messages. Pure.
package amount

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	mesos "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/resources"

	"padis.io/padis/mesos/local/words"
)

// List is a list of resources. The functions here do not change their arguments.
type List = []mesos.Resource

// Sum merges entries that can be merged; zero amounts vanish.
func Sum(lists ...List) List {
	var out mesos.Resources
	for _, l := range lists {
		out.Add(l...)
	}
	return out
}

// Minus returns a - b. What b has more than a is ignored.
func Minus(a, b List) List {
	out := mesos.Resources(a).Clone()
	out.Subtract(b...)
	return out
}

// Contains tells whether a is enough for b.
func Contains(a, b List) bool {
	for _, want := range Sum(b) {
		if !resources.ContainsAll(a, List{want}) {
			return false
		}
	}
	return true
}

// Allocated returns a copy with every allocation_info set to the role; entries that have one keep it.
func Allocated(l List, role string) List {
	out := mesos.Resources(l).Clone()
	for i := range out {
		if out[i].AllocationInfo == nil {
			out[i].Allocate(role)
		}
	}
	return out
}

// Unallocated returns a copy without allocation_info and with the role spelled out, as the agent's total has it.
func Unallocated(l List) List {
	out := mesos.Resources(l).Clone()
	for i := range out {
		out[i].AllocationInfo = nil
		if out[i].Role == nil {
			out[i].Role = new("*")
		}
	}
	return out
}

// WithRole returns a copy in which every entry without role has "*".
func WithRole(l List) List {
	out := mesos.Resources(l).Clone()
	for i := range out {
		if out[i].Role == nil {
			out[i].Role = new("*")
		}
	}
	return out
}

// Offerable tells whether an amount is worth an offer: 0.01 cpus or 32 MB, the default of Mesos.
func Offerable(l List) bool {
	for _, r := range l {
		if r.Name == "cpus" && r.GetScalar().GetValue() >= 0.01 || r.Name == "mem" && r.GetScalar().GetValue() >= 32 {
			return true
		}
	}
	return false
}

// Ordered returns the entries in the order of a Mesos offer: ranges and sets first, then scalars, each in the order
// of the agent's total.
func Ordered(l, total List) List {
	out := slices.Clone(l)
	rank := func(r mesos.Resource) int {
		at := slices.IndexFunc(total, func(t mesos.Resource) bool { return t.Name == r.Name && t.GetRole() == r.GetRole() })
		switch r.GetType() {
		case mesos.RANGES:
			return at
		case mesos.SET:
			return at + 1000
		}
		return at + 2000
	}
	slices.SortStableFunc(out, func(a, b mesos.Resource) int { return rank(a) - rank(b) })
	return out
}

// Milli returns the sum of the scalars of a name, in thousandths.
func Milli(l List, name string) int64 {
	var sum int64
	for _, r := range l {
		if r.Name == name && r.GetType() == mesos.SCALAR {
			sum += int64(math.Round(r.GetScalar().GetValue() * 1000))
		}
	}
	return sum
}

// Check finds a resource that Mesos refuses, in its words.
func Check(l List) error {
	for i := range l {
		r := &l[i]
		if r.Name == "" {
			return words.Errorf("Resource '%s' is invalid: Empty resource name", Text(l[i:i+1]))
		}
		switch {
		case r.Type == nil:
			return words.Errorf("Resource '%s' is invalid: Invalid resource type", r.Name)
		case r.GetType() == mesos.SCALAR:
			if r.Scalar == nil || r.Ranges != nil || r.Set != nil {
				return words.Errorf("Resource '%s' is invalid: Invalid scalar resource", r.Name)
			}
			v := r.Scalar.Value
			if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) || v > 1e12 || (v != 0 && math.Abs(v) < 0.0005) {
				return words.Errorf("Resource '%s:%s' is invalid: Invalid scalar resource: value <= 0", r.Name, number(v))
			}
		case r.GetType() == mesos.RANGES:
			if r.Ranges == nil || r.Scalar != nil || r.Set != nil {
				return words.Errorf("Resource '%s' is invalid: Invalid ranges resource", r.Name)
			}
			for _, x := range r.Ranges.Range {
				if x.Begin > x.End {
					return words.Errorf("Resource '%s' is invalid: Invalid ranges resource: begin > end", r.Name)
				}
			}
		case r.GetType() == mesos.SET:
			if r.Set == nil || r.Scalar != nil || r.Ranges != nil {
				return words.Errorf("Resource '%s' is invalid: Invalid set resource", r.Name)
			}
		default:
			return words.Errorf("Resource '%s' is invalid: Unsupported resource type", r.Name)
		}
		if err := mesos.Resources(l[i : i+1])[0].Validate(); err != nil {
			return words.Errorf("Resource '%s' is invalid: %v", Text(l[i:i+1]), err)
		}
	}
	return nil
}

// Text prints resources as Mesos does: "cpus(allocated: *):0.1; ports(allocated: *):[31000-32000]".
func Text(l List) string {
	parts := make([]string, 0, len(l))
	for _, r := range l {
		s := r.Name
		if r.AllocationInfo != nil {
			s += "(allocated: " + r.AllocationInfo.GetRole() + ")"
		}
		if r.GetRole() != "*" && r.Role != nil {
			s += "(reservations: [(STATIC," + *r.Role + ")])"
		}
		parts = append(parts, s+":"+Value(r))
	}
	return strings.Join(parts, "; ")
}

// Value prints the amount alone: "0.1", "[1-2, 4-5]", "{a, b}".
func Value(r mesos.Resource) string {
	switch r.GetType() {
	case mesos.RANGES:
		parts := []string{}
		for _, x := range r.GetRanges().GetRange() {
			parts = append(parts, fmt.Sprintf("%d-%d", x.Begin, x.End))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case mesos.SET:
		return "{" + strings.Join(r.GetSet().GetItem(), ", ") + "}"
	}
	return number(r.GetScalar().GetValue())
}

// number prints a scalar with the three decimals that Mesos keeps.
func number(v float64) string {
	milli := math.Round(v * 1000)
	if math.IsNaN(v) || math.Abs(milli) > 1e15 {
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	if milli == 0 {
		return "0"
	}
	return strconv.FormatFloat(milli/1000, 'f', -1, 64)
}
