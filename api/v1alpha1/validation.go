package v1alpha1

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateApp finds what the schema cannot say of one App: regular expressions that do not compile, capabilities that
// Linux does not know, volumes too small for anything, addresses that are listed twice, and addresses for the loopback that
// are none. Objects that passed an API server have been through it.
func ValidateApp(a *App) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "placement", "constraints")
	for i, c := range a.Spec.Placement.Constraints {
		if c.Operator != "Like" && c.Operator != "Unlike" {
			continue
		}
		if _, err := regexp.Compile(c.Value); err != nil {
			errs = append(errs, field.Invalid(path.Index(i).Child("value"), c.Value,
				"is not a regular expression: "+strings.TrimPrefix(err.Error(), "error parsing regexp: ")+"; see https://golang.org/s/re2syntax"))
		}
	}
	errs = append(errs, validateCapabilities(a.Spec.Template.Security)...)
	for i, v := range a.Spec.Template.Volumes {
		if e := v.EmptyDir; e != nil && e.Size != nil && e.Size.CmpInt64(1<<20) < 0 {
			errs = append(errs, field.Invalid(field.NewPath("spec", "template", "volumes").Index(i).Child("emptyDir", "size"), e.Size.String(), "must be at least 1Mi"))
		}
	}
	seen := map[netip.Addr]*field.Path{}
	for _, f := range FixedAddresses(a) {
		ip, err := ParseAddress(f.Address)
		if err != nil {
			errs = append(errs, field.Invalid(f.Path, f.Address, wantAddress))
			continue
		}
		if first, ok := seen[ip]; ok {
			errs = append(errs, field.Invalid(f.Path, f.Address, fmt.Sprintf("is already given at %s: each instance needs an address of its own", first)))
			continue
		}
		seen[ip] = f.Path
	}
	return append(errs, validateLoopback(a, seen)...)
}

// validateLoopback judges the addresses for the loopback; fixed are those that instances have anyway.
func validateLoopback(a *App, fixed map[netip.Addr]*field.Path) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "loopbackAddresses")
	if len(a.Spec.LoopbackAddresses) > 0 && HostNetwork(a) != "" {
		errs = append(errs, field.Forbidden(path, "instances with the network of their host would put them on the host's loopback: unset it, or name an IPPool in spec.networks"))
	}
	for i, text := range a.Spec.LoopbackAddresses {
		ip, err := ParseAddress(text)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path.Index(i), text, wantAddress))
		case ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			errs = append(errs, field.Invalid(path.Index(i), text, "is no address that others can send to: write that of the load balancer"))
		case fixed[ip] != nil:
			errs = append(errs, field.Invalid(path.Index(i), text, fmt.Sprintf("is an instance's own address (%s): write that of the load balancer", fixed[ip])))
		}
	}
	return errs
}

// HostNetwork gives the Network whose hosts' own network instances of an App have; empty if they have their own.
func HostNetwork(a *App) string {
	for _, n := range a.Spec.Networks {
		if n.Network != "" {
			return n.Network
		}
	}
	return ""
}

// ValidatePool finds what the schema cannot say of one IPPool: ranges that end before they begin or overlap, and
// pools that can hand out nothing.
func ValidatePool(p *IPPool) field.ErrorList {
	s, errs := parseSubnet(&p.Spec)
	if len(errs) == 0 && s.empty() {
		errs = append(errs, field.Invalid(field.NewPath("spec", "reserved"), len(p.Spec.Reserved),
			"leaves no address to hand out: reserve fewer, or extend spec.ranges"))
	}
	return errs
}

// FixedAddress is an address that an App asks for.
//
// +kubebuilder:object:generate=false
type FixedAddress struct {
	Pool    string
	Address string
	// Slot is the instance that it is for.
	Slot int
	Path *field.Path
}

// FixedAddresses lists the addresses that an App asks for, in the order of its networks and slots.
func FixedAddresses(a *App) []FixedAddress {
	var out []FixedAddress
	path := field.NewPath("spec", "networks")
	for i, n := range a.Spec.Networks {
		for j, s := range n.Addresses {
			out = append(out, FixedAddress{Pool: n.Pool, Address: s, Slot: j, Path: path.Index(i).Child("addresses").Index(j)})
		}
	}
	return out
}

// Problem is a declaration that contradicts another one.
//
// +kubebuilder:object:generate=false
type Problem struct {
	// Object is the later of the two, as KIND/NAME or KIND/NAMESPACE/NAME in lower case.
	Object string
	// Field and Value are what it says.
	Field string
	Value string
	// Reason is one of the Reason constants of padisv1, and Message a sentence that names the other object and the remedy.
	Reason  string
	Message string
}

// String is the problem as one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %q %s", p.Object, p.Field, p.Value, p.Message)
}

// Err is the problem in the form of a schema's error.
func (p Problem) Err() *field.Error {
	return field.Invalid(field.NewPath(p.Field), p.Value, p.Message)
}
