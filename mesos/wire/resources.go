package wire

import (
	"fmt"
	"math"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"

	"padis.io/padis/mesos"
)

// milli turns a wire scalar into thousandths, rounded as Mesos rounds (to nearest, halves away from zero). What is not
// a number, or beyond what thousandths in an int64 can hold, becomes the nearest bound or 0.
func milli(v float64) int64 {
	const bound = math.MaxInt64 / 2
	x := math.Round(v * 1000)
	switch {
	case math.IsNaN(x):
		return 0
	case x > bound:
		return bound
	case x < -bound:
		return -bound
	}
	return int64(x)
}

// scalar is the inverse of milli. The whole and the fractional part are converted each by itself, as Mesos does, so
// that the result is the double that Mesos itself would print.
func scalar(m int64) *mesosgo.Value_Scalar {
	return &mesosgo.Value_Scalar{Value: float64(m/1000) + float64(m%1000)/1000}
}

// Resource converts one wire resource. Whatever the noun does not model is kept in Wire.
func Resource(r *mesosgo.Resource) mesos.Resource {
	out := mesos.Resource{
		Name:        r.Name,
		Milli:       milli(r.GetScalar().GetValue()),
		ReservedTo:  reservedTo(r),
		AllocatedTo: r.GetAllocationInfo().GetRole(),
	}
	for _, g := range r.GetRanges().GetRange() {
		out.Ranges = append(out.Ranges, mesos.Range{Begin: g.Begin, End: g.End})
	}
	if !plain(r) {
		kept := *r
		kept.Scalar, kept.Ranges = nil, nil
		// Marshalling fails only for a required field that is nil. The one there is, type, is not: a message
		// without it does not decode.
		if b, err := kept.Marshal(); err == nil {
			out.Wire = b
		}
	}
	return out
}

// Resources converts a list.
func Resources(rs []mesosgo.Resource) []mesos.Resource {
	if len(rs) == 0 {
		return nil
	}
	out := make([]mesos.Resource, len(rs))
	for i := range rs {
		out[i] = Resource(&rs[i])
	}
	return out
}

// plain tells that name, value and allocation are all there is to a resource.
func plain(r *mesosgo.Resource) bool {
	return r.ProviderID == nil && r.Set == nil && (r.Role == nil || *r.Role == "*") && r.Reservation == nil &&
		len(r.Reservations) == 0 && r.Disk == nil && r.Revocable == nil && r.Shared == nil &&
		(r.Type != nil && (*r.Type == mesosgo.SCALAR || *r.Type == mesosgo.RANGES))
}

// reservedTo reads both formats of reservations: the stack of refined ones, of which the last counts, and the older
// pair of role and reservation, which masters send to frameworks without RESERVATION_REFINEMENT.
func reservedTo(r *mesosgo.Resource) string {
	if n := len(r.Reservations); n > 0 {
		return r.Reservations[n-1].GetRole()
	}
	if r.Role != nil && *r.Role != "*" {
		return *r.Role
	}
	return ""
}

// ToResource is the inverse of Resource. It fails only for a Wire that Resource did not make.
func ToResource(r mesos.Resource) (mesosgo.Resource, error) {
	var out mesosgo.Resource
	if r.Wire != nil {
		if err := Decode(&out, r.Wire); err != nil {
			return mesosgo.Resource{}, fmt.Errorf("resource %s carries a wire form that does not decode: %w", r.Name, err)
		}
	} else if r.ReservedTo != "" {
		out.Role = &r.ReservedTo
	}
	out.Name = r.Name
	if r.AllocatedTo != "" {
		out.AllocationInfo = &mesosgo.Resource_AllocationInfo{Role: &r.AllocatedTo}
	}
	switch {
	case out.Type != nil && *out.Type != mesosgo.SCALAR && *out.Type != mesosgo.RANGES:
	case len(r.Ranges) > 0 || out.Type != nil && *out.Type == mesosgo.RANGES:
		out.Type = mesosgo.RANGES.Enum()
		out.Ranges = &mesosgo.Value_Ranges{}
		for _, g := range r.Ranges {
			out.Ranges.Range = append(out.Ranges.Range, mesosgo.Value_Range{Begin: g.Begin, End: g.End})
		}
	default:
		out.Type = mesosgo.SCALAR.Enum()
		out.Scalar = scalar(r.Milli)
	}
	return out, nil
}

// ToResources converts a list.
func ToResources(rs []mesos.Resource) ([]mesosgo.Resource, error) {
	var out []mesosgo.Resource
	for _, r := range rs {
		w, err := ToResource(r)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return out, nil
}
