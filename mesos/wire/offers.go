package wire

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"

	"padis.io/padis/mesos"
)

// HostPort joins a host and a port; an IPv6 address is put in brackets.
func HostPort(host string, port int) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

// Attributes renders attributes as text, as Mesos prints them: 8.5, [1-4, 7-9], {a, b}. The first of several with the
// same name wins.
func Attributes(as []mesosgo.Attribute) map[string]string {
	if len(as) == 0 {
		return nil
	}
	out := make(map[string]string, len(as))
	for i := range as {
		a := &as[i]
		if _, dup := out[a.Name]; dup {
			continue
		}
		switch a.Type {
		case mesosgo.TEXT:
			out[a.Name] = a.GetText().GetValue()
		case mesosgo.SCALAR:
			out[a.Name] = strconv.FormatFloat(a.GetScalar().GetValue(), 'f', -1, 64)
		case mesosgo.RANGES:
			var parts []string
			for _, r := range a.GetRanges().GetRange() {
				parts = append(parts, fmt.Sprintf("%d-%d", r.Begin, r.End))
			}
			out[a.Name] = "[" + strings.Join(parts, ", ") + "]"
		case mesosgo.SET:
			out[a.Name] = "{" + strings.Join(a.GetSet().GetItem(), ", ") + "}"
		}
	}
	return out
}

// ToAttributes gives every attribute as a text.
func ToAttributes(m map[string]string) []mesosgo.Attribute {
	var out []mesosgo.Attribute
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, mesosgo.Attribute{Name: k, Type: mesosgo.TEXT, Text: &mesosgo.Value_Text{Value: m[k]}})
	}
	return out
}

// Offer converts an offer.
func Offer(o *mesosgo.Offer) mesos.Offer {
	out := mesos.Offer{
		ID:         o.ID.Value,
		AgentID:    o.AgentID.Value,
		Hostname:   o.Hostname,
		URL:        agentURL(o.URL),
		Role:       o.GetAllocationInfo().GetRole(),
		Resources:  Resources(o.Resources),
		Attributes: Attributes(o.Attributes),
	}
	for _, e := range o.ExecutorIDs {
		out.ExecutorIDs = append(out.ExecutorIDs, e.Value)
	}
	if o.Unavailability != nil {
		out.UnavailableFrom = nanos(o.Unavailability.Start.Nanoseconds)
	}
	return out
}

// agentURL leaves out the path: it names the libprocess actor, and the operator API is at the root.
func agentURL(u *mesosgo.URL) string {
	if u == nil {
		return ""
	}
	host := u.Address.GetIP()
	if host == "" {
		host = u.Address.GetHostname()
	}
	return u.Scheme + "://" + HostPort(host, int(u.Address.Port))
}

// ToOffer is the inverse of Offer.
func ToOffer(o mesos.Offer, frameworkID string) (mesosgo.Offer, error) {
	rs, err := ToResources(o.Resources)
	if err != nil {
		return mesosgo.Offer{}, err
	}
	out := mesosgo.Offer{
		ID:          mesosgo.OfferID{Value: o.ID},
		FrameworkID: mesosgo.FrameworkID{Value: frameworkID},
		AgentID:     mesosgo.AgentID{Value: o.AgentID},
		Hostname:    o.Hostname,
		Resources:   rs,
		Attributes:  ToAttributes(o.Attributes),
	}
	if o.Role != "" {
		out.AllocationInfo = &mesosgo.Resource_AllocationInfo{Role: &o.Role}
	}
	for _, e := range o.ExecutorIDs {
		out.ExecutorIDs = append(out.ExecutorIDs, mesosgo.ExecutorID{Value: e})
	}
	if !o.UnavailableFrom.IsZero() {
		out.Unavailability = &mesosgo.Unavailability{Start: mesosgo.TimeInfo{Nanoseconds: o.UnavailableFrom.UnixNano()}}
	}
	if scheme, addr, ok := strings.Cut(o.URL, "://"); ok {
		i := strings.LastIndexByte(addr, ':')
		port, err := strconv.ParseUint(addr[i+1:], 10, 16)
		if i < 0 || err != nil {
			return mesosgo.Offer{}, fmt.Errorf("offer %s: agent URL %q has no port", o.ID, o.URL)
		}
		ip := strings.Trim(addr[:i], "[]")
		out.URL = &mesosgo.URL{Scheme: scheme, Address: mesosgo.Address{Hostname: &o.Hostname, IP: &ip, Port: int32(port)}}
	}
	return out, nil
}

// InverseOffer converts an announcement of maintenance.
func InverseOffer(o *mesosgo.InverseOffer) mesos.InverseOffer {
	return mesos.InverseOffer{
		ID: o.OfferID.Value, AgentID: o.GetAgentID().GetValue(), Start: nanos(o.Unavailability.Start.Nanoseconds),
	}
}

// filters asks for no offer like this one for the given time. It is always written: Mesos reads an absent or negative
// value as five seconds, 0 as "offer again at the next allocation".
func filters(refuse time.Duration) *mesosgo.Filters {
	s := max(refuse, 0).Seconds()
	return &mesosgo.Filters{RefuseSeconds: &s}
}
