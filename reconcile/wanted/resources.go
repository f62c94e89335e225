package wanted

import (
	"fmt"
	"math"
	"strings"

	"padis.io/padis/api/v1alpha1"
	padisv1 "padis.io/padis/proto/padis/v1"

	"k8s.io/apimachinery/pkg/api/resource"
)

// What an instance takes where neither its App nor its Tenant says anything.
const (
	defaultCPUMilli  = 100
	defaultMemoryMiB = 32
)

// most is the largest amount that is taken for a thought-out wish, in the smallest unit of each resource.
const most = 1 << 50

// resources gives what an instance takes: what the App says, or else its Tenant, or else the defaults.
func resources(in, tenant *v1alpha1.Resources, container bool) (*padisv1.Resources, error) {
	out := &padisv1.Resources{CpuMilli: defaultCPUMilli, MemoryMib: defaultMemoryMiB}
	for _, q := range []struct {
		field       string
		app, tenant *resource.Quantity
		scale       resource.Scale
		divide      int64
		to          *int64
	}{
		{"cpu", in.CPU, tenant.CPU, resource.Milli, 1, &out.CpuMilli},
		{"memory", in.Memory, tenant.Memory, 0, 1 << 20, &out.MemoryMib},
		{"disk", in.Disk, tenant.Disk, 0, 1 << 20, &out.DiskMib},
	} {
		at, from := "spec.template.resources."+q.field, q.app
		if from == nil {
			at, from = "spec.defaultResources."+q.field+" of the Tenant", q.tenant
		}
		if from == nil {
			continue
		}
		var err error
		if *q.to, err = amount(at, *from, q.scale, q.divide); err != nil {
			return nil, err
		}
	}
	switch {
	case !container:
	case in.Pids != nil:
		out.Pids = *in.Pids
	case tenant.Pids != nil:
		out.Pids = *tenant.Pids
	}
	return out, nil
}

// amount gives a quantity at a scale, divided, rounded up.
func amount(field string, q resource.Quantity, scale resource.Scale, divide int64) (int64, error) {
	if q.Sign() < 0 {
		return 0, fmt.Errorf("%s: %s is negative", field, strings.TrimSpace(q.String()))
	}
	// Out of range, ScaledValue wraps; compare as quantities first.
	if q.Cmp(*resource.NewScaledQuantity(most, scale)) > 0 {
		return 0, fmt.Errorf("%s: %s is more than any host has", field, q.String())
	}
	n := q.ScaledValue(scale)
	if n > math.MaxInt64-divide {
		return 0, fmt.Errorf("%s: %s is more than any host has", field, q.String())
	}
	return (n + divide - 1) / divide, nil
}
