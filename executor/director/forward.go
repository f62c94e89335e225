package director

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"padis.io/padis/executor/director/plan"
	"padis.io/padis/executor/lb"
)

// forwarder keeps the dataplane.
type forwarder struct {
	o     Options
	plane lb.Dataplane
	// asked was ordered, name was chosen.
	asked, name string
	last        uint64
}

// set puts an order in force, in a dataplane that is made if there is none.
func (f *forwarder) set(o *plan.Order) error {
	if f.plane == nil {
		if err := f.open(o.Asked.GetDataplane()); err != nil {
			return err
		}
	}
	if err := f.plane.Set(o.Forwardings); err != nil {
		return fmt.Errorf("dataplane %s: %w", f.name, err)
	}
	return nil
}

func (f *forwarder) open(asked string) error {
	f.asked = asked
	names := []string{asked}
	if asked == "" || asked == "auto" {
		names = f.o.Auto
	}
	var errs []error
	for _, name := range names {
		open := f.o.Dataplanes[name]
		if open == nil {
			errs = append(errs, fmt.Errorf("dataplane %q: this director has %s", name, strings.Join(f.names(), ", ")))
			continue
		}
		plane, err := open()
		if err == nil {
			f.plane, f.name = plane, name
			return nil
		}
		errs = append(errs, fmt.Errorf("dataplane %s does not work on this host: %w", name, err))
	}
	return errors.Join(errs...)
}

func (f *forwarder) names() []string {
	var out []string
	for name := range f.o.Dataplanes {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// count is how many packets were forwarded; what was counted last if that cannot be told.
func (f *forwarder) count() uint64 {
	if f.plane != nil {
		if n, err := f.plane.Forwarded(); err == nil {
			f.last = n
		}
	}
	return f.last
}

func (f *forwarder) close() error {
	if f.plane == nil {
		return nil
	}
	p := f.plane
	f.plane, f.name = nil, ""
	return p.Close()
}
