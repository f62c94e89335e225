package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Communities of RFC 1997 that are known by name, and that of RFC 8326, which directors set themselves.
const (
	communityNoExport    = 0xffffff01
	communityNoAdvertise = 0xffffff02
	communityShutdown    = 0xffff0000
)

// ParseCommunity reads a community: "64512:100", "no-export" or "no-advertise".
func ParseCommunity(s string) (uint32, error) {
	const want = "write two numbers up to 65535, for example 64512:100, or no-export or no-advertise"
	switch s {
	case "no-export":
		return communityNoExport, nil
	case "no-advertise":
		return communityNoAdvertise, nil
	case "graceful-shutdown":
		return 0, shutdownIsOurs(s)
	}
	high, low, ok := strings.Cut(s, ":")
	h, err := strconv.ParseUint(high, 10, 16)
	l, err2 := strconv.ParseUint(low, 10, 16)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("%q is no community: %s", s, want)
	}
	c := uint32(h<<16 | l)
	if c == communityShutdown {
		return 0, shutdownIsOurs(s)
	}
	return c, nil
}

func shutdownIsOurs(s string) error {
	return fmt.Errorf("%q asks routers to avoid the route (RFC 8326), which directors say themselves when they end: remove it", s)
}

// ValidateLoadBalancer finds what the schema cannot say of one LoadBalancer: VIPs that are no addresses or listed twice,
// listeners that overlap, shares that exceed the whole, and what is wrong with its directors.
func ValidateLoadBalancer(b *LoadBalancer) field.ErrorList {
	errs := slices.Concat(validateVIPs(b), validateListeners(b), validateBackends(b), validateForwarding(b), validatePathChecks(b), validateAnnouncement(b))
	for _, e := range ValidateApp(DirectorsApp(b)) {
		e.Field = OfDirectors(e.Field)
		errs = append(errs, e)
	}
	path := field.NewPath("spec", "directors", "networks")
	if len(b.Spec.Directors.Networks) == 0 {
		errs = append(errs, field.Required(path, "directors need an address in the segment of the real servers: name an IPPool"))
	}
	for i, n := range b.Spec.Directors.Networks {
		if n.Pool == "" || n.Network != "" {
			errs = append(errs, field.Required(path.Index(i).Child("pool"), "directors need addresses of their own: name an IPPool in pool, and no network"))
		}
	}
	return errs
}

func validateVIPs(b *LoadBalancer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "vips")
	if len(b.Spec.VIPs) == 0 {
		errs = append(errs, field.Required(path, "name the pool of at least one VIP"))
	}
	seen := map[netip.Addr]int{}
	for i, v := range b.Spec.VIPs {
		at := path.Index(i)
		if v.Pool == "" {
			errs = append(errs, field.Required(at.Child("pool"), "name an IPPool of a Network with the driver virtual"))
		}
		if v.Address == "" {
			continue
		}
		a, err := ParseAddress(v.Address)
		first, twice := seen[a]
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at.Child("address"), v.Address, "must be an IP address, for example 198.51.100.10 or 2001:db8::10"))
			continue
		case !reachable(a):
			errs = append(errs, field.Invalid(at.Child("address"), v.Address, "is no address that clients can connect to: choose another"))
		case twice:
			errs = append(errs, field.Invalid(at.Child("address"), v.Address, fmt.Sprintf("is already given at %s: remove one of them", path.Index(first).Child("address"))))
			continue
		}
		seen[a] = i
	}
	return errs
}

// reachable tells whether others can send to an address.
func reachable(a netip.Addr) bool {
	return !a.IsLoopback() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// ProtocolName is the protocol of a listener; TCP when nothing is said.
func (l *Listener) ProtocolName() string {
	if l.Protocol == "" {
		return ProtocolTCP
	}
	return l.Protocol
}

// LastPort is the last port of a listener.
func (l *Listener) LastPort() int32 {
	if l.EndPort == 0 {
		return l.Port
	}
	return l.EndPort
}

// ports prints the ports of a listener: "TCP 80" or "UDP 5000-5099".
func (l *Listener) ports() string {
	if l.LastPort() == l.Port {
		return fmt.Sprintf("%s %d", l.ProtocolName(), l.Port)
	}
	return fmt.Sprintf("%s %d-%d", l.ProtocolName(), l.Port, l.LastPort())
}

func validateListeners(b *LoadBalancer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "listeners")
	if len(b.Spec.Listeners) == 0 {
		errs = append(errs, field.Required(path, "name at least one port"))
	}
	for i := range b.Spec.Listeners {
		l, at := &b.Spec.Listeners[i], path.Index(i)
		switch {
		case l.Port < 1 || l.Port > 65535 || l.LastPort() > 65535:
			errs = append(errs, field.Invalid(at.Child("port"), l.Port, "must be a port from 1 to 65535"))
		case l.LastPort() < l.Port:
			errs = append(errs, field.Invalid(at.Child("endPort"), l.EndPort, fmt.Sprintf("is below port %d: swap the two", l.Port)))
		}
		for k := range b.Spec.Listeners[:i] {
			o := &b.Spec.Listeners[k]
			if o.ProtocolName() == l.ProtocolName() && o.Port <= l.LastPort() && l.Port <= o.LastPort() {
				errs = append(errs, field.Invalid(at.Child("port"), l.Port,
					fmt.Sprintf("%s overlaps %s of listener %s (%s): a port has one listener, divide the ranges", l.ports(), o.ports(), o.Name, path.Index(k))))
				break
			}
		}
		for k, text := range l.SourceRanges {
			p, err := netip.ParsePrefix(text)
			switch {
			case err != nil || p.Addr().Is4In6():
				errs = append(errs, field.Invalid(at.Child("sourceRanges").Index(k), text, "must be a subnet, for example 192.0.2.0/24 or 2001:db8::/32"))
			case p != p.Masked():
				errs = append(errs, field.Invalid(at.Child("sourceRanges").Index(k), text, "has bits set behind the prefix: write "+p.Masked().String()))
			}
		}
	}
	return errs
}

func validateBackends(b *LoadBalancer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "backends")
	if len(b.Spec.Backends) == 0 {
		errs = append(errs, field.Required(path, "name an App, or select Apps by their labels"))
	}
	total := int32(0)
	for i, k := range b.Spec.Backends {
		at := path.Index(i)
		if (k.App != "") == (k.Selector != nil) {
			errs = append(errs, field.Required(at.Child("app"), "set exactly one of app (the name of an App) and selector (labels of Apps)"))
		}
		if k.Selector != nil && len(k.Selector.MatchLabels) == 0 {
			errs = append(errs, field.Required(at.Child("selector", "matchLabels"), "name at least one label"))
		}
		if j := slices.IndexFunc(b.Spec.Backends[:i], func(o Backend) bool { return k.App != "" && o.App == k.App }); j >= 0 {
			errs = append(errs, field.Invalid(at.Child("app"), k.App, fmt.Sprintf("is already selected by %s: remove one of them", path.Index(j))))
		}
		switch {
		case k.Weight != nil && k.Percent != nil:
			errs = append(errs, field.Forbidden(at.Child("percent"), "set weight, of each instance, or percent, of all of them together, but not both"))
		case k.Percent != nil:
			total += *k.Percent
		}
	}
	if total > 100 {
		errs = append(errs, field.Invalid(path, total, "percent of all backends together must be at most 100: lower some of them"))
	}
	return errs
}

func validateForwarding(b *LoadBalancer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if b.Spec.Dataplane == DataplaneIPVS {
		return nil
	}
	switch b.Spec.Scheduler {
	case "", SchedulerMaglev, SchedulerSourceHash:
	default:
		errs = append(errs, field.Invalid(path.Child("scheduler"), b.Spec.Scheduler, "is only had by the dataplane IPVS: set dataplane: IPVS, or choose the scheduler Maglev or SourceHash"))
	}
	if b.Spec.MaxConnections > 0 {
		errs = append(errs, field.Forbidden(path.Child("maxConnections"), "only the dataplane IPVS counts connections: set dataplane: IPVS, or unset maxConnections"))
	}
	return errs
}

func validatePathChecks(b *LoadBalancer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "healthChecks")
	for i, c := range b.Spec.HealthChecks {
		if (c.TCP != nil) == (c.HTTP != nil) {
			errs = append(errs, field.Required(path.Index(i), "set exactly one of tcp and http; for several probes write several health checks"))
		}
		if interval, timeout := c.Times(); timeout > interval {
			errs = append(errs, field.Invalid(path.Index(i).Child("timeout"), timeout.String(), fmt.Sprintf("is longer than interval %s; probes would overlap: raise the interval or lower the timeout", interval)))
		}
	}
	return errs
}

func validateAnnouncement(b *LoadBalancer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec", "bgp")
	if n := b.Spec.BGP.ASN; n < 1 || n > 4294967295 {
		errs = append(errs, field.Invalid(path.Child("asn"), n, "must be an autonomous system from 1 to 4294967295"))
	}
	for i, c := range b.Spec.BGP.Communities {
		if _, err := ParseCommunity(c); err != nil {
			errs = append(errs, field.Invalid(path.Child("communities").Index(i), c, strings.TrimPrefix(err.Error(), strconv.Quote(c)+" ")))
		}
	}
	return errs
}

// ValidateBGPPeer finds what the schema cannot say of one BGPPeer.
func ValidateBGPPeer(p *BGPPeer) field.ErrorList {
	var errs field.ErrorList
	path := field.NewPath("spec")
	if a, err := ParseAddress(p.Spec.Address); err != nil || !reachable(a) {
		errs = append(errs, field.Invalid(path.Child("address"), p.Spec.Address, "must be the IP address of a router, for example 10.44.0.1 or fd00:44::1"))
	}
	if n := p.Spec.ASN; n < 1 || n > 4294967295 {
		errs = append(errs, field.Invalid(path.Child("asn"), n, "must be an autonomous system from 1 to 4294967295"))
	}
	if b := p.Spec.BFD; b != nil {
		if after := b.Every() * time.Duration(b.Missing()); after >= p.Spec.Hold() {
			errs = append(errs, field.Invalid(path.Child("bfd"), after.String(), fmt.Sprintf(
				"is when a silent neighbour is noticed (interval times multiplier), not before the holdTime of %s: lower interval or multiplier, or unset bfd", p.Spec.Hold())))
		}
	}
	return errs
}
