package wire

import (
	"fmt"
	"net/netip"
	"time"

	mesosgo "github.com/mesos/mesos-go/api/v1/lib"
	"github.com/mesos/mesos-go/api/v1/lib/scheduler"

	"padis.io/padis/mesos"
)

// Event converts an event of the scheduler API. It gives nil for those that carry nothing: heartbeats, events about
// operations and inverse offers that were taken back (we make no operations, and hold no inverse offer), types
// that are unknown, and types whose body is missing.
func Event(e *scheduler.Event) mesos.Event {
	switch e.Type {
	case scheduler.Event_SUBSCRIBED:
		if e.Subscribed == nil {
			return nil
		}
		return mesos.Subscribed{
			FrameworkID: e.Subscribed.GetFrameworkID().GetValue(),
			Master:      Master(e.Subscribed.MasterInfo),
			Heartbeat:   heartbeat(e.Subscribed.GetHeartbeatIntervalSeconds()),
		}
	case scheduler.Event_OFFERS:
		if e.Offers == nil {
			return nil
		}
		out := mesos.Offers{Offers: make([]mesos.Offer, len(e.Offers.Offers))}
		for i := range e.Offers.Offers {
			out.Offers[i] = Offer(&e.Offers.Offers[i])
		}
		return out
	case scheduler.Event_INVERSE_OFFERS:
		if e.InverseOffers == nil {
			return nil
		}
		out := mesos.InverseOffers{Offers: make([]mesos.InverseOffer, len(e.InverseOffers.InverseOffers))}
		for i := range e.InverseOffers.InverseOffers {
			out.Offers[i] = InverseOffer(&e.InverseOffers.InverseOffers[i])
		}
		return out
	case scheduler.Event_RESCIND:
		if e.Rescind == nil {
			return nil
		}
		return mesos.Rescind{OfferID: e.Rescind.OfferID.Value}
	case scheduler.Event_UPDATE:
		if e.Update == nil {
			return nil
		}
		return mesos.Update{Status: Status(&e.Update.Status)}
	case scheduler.Event_MESSAGE:
		if e.Message == nil {
			return nil
		}
		return mesos.FromExecutor{AgentID: e.Message.AgentID.Value, ExecutorID: e.Message.ExecutorID.Value, Data: e.Message.Data}
	case scheduler.Event_FAILURE:
		if e.Failure == nil {
			return nil
		}
		return mesos.Failure{
			AgentID: e.Failure.GetAgentID().GetValue(), ExecutorID: e.Failure.GetExecutorID().GetValue(), Status: e.Failure.Status,
		}
	case scheduler.Event_ERROR:
		if e.Error == nil {
			return nil
		}
		return mesos.Failed{Message: e.Error.Message}
	}
	return nil
}

// heartbeat is at least a millisecond and at most a day, so that a watchdog built on it makes sense; 0 if unknown.
func heartbeat(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(max(s, 0.001), 86400) * float64(time.Second))
}

// Master names a master as host:port, preferably by its address.
func Master(m *mesosgo.MasterInfo) string {
	if m == nil {
		return ""
	}
	if a := m.Address; a != nil {
		if a.GetIP() != "" {
			return HostPort(a.GetIP(), int(a.Port))
		}
		return HostPort(a.GetHostname(), int(a.Port))
	}
	if m.GetHostname() != "" {
		return HostPort(m.GetHostname(), int(m.GetPort()))
	}
	// The oldest form: an IPv4 address as a number in the byte order of the network, read as little-endian.
	ip := m.IP
	return HostPort(netip.AddrFrom4([4]byte{byte(ip), byte(ip >> 8), byte(ip >> 16), byte(ip >> 24)}).String(), int(m.GetPort()))
}

// ToEvent is the inverse of Event, for whoever plays the master. Disconnected and AgentsSeen are not on the wire.
func ToEvent(e mesos.Event, frameworkID string) (*scheduler.Event, error) {
	switch e := e.(type) {
	case mesos.Subscribed:
		s := &scheduler.Event_Subscribed{FrameworkID: &mesosgo.FrameworkID{Value: e.FrameworkID}}
		if e.Heartbeat > 0 {
			seconds := e.Heartbeat.Seconds()
			s.HeartbeatIntervalSeconds = &seconds
		}
		if addr, err := netip.ParseAddrPort(e.Master); err == nil {
			ip := addr.Addr().String()
			port := uint32(addr.Port())
			s.MasterInfo = &mesosgo.MasterInfo{Port: &port, Address: &mesosgo.Address{IP: &ip, Port: int32(port)}}
		}
		return &scheduler.Event{Type: scheduler.Event_SUBSCRIBED, Subscribed: s}, nil
	case mesos.Offers:
		out := &scheduler.Event_Offers{}
		for _, o := range e.Offers {
			w, err := ToOffer(o, frameworkID)
			if err != nil {
				return nil, err
			}
			out.Offers = append(out.Offers, w)
		}
		return &scheduler.Event{Type: scheduler.Event_OFFERS, Offers: out}, nil
	case mesos.InverseOffers:
		out := &scheduler.Event_InverseOffers{}
		for _, o := range e.Offers {
			out.InverseOffers = append(out.InverseOffers, mesosgo.InverseOffer{
				OfferID: mesosgo.OfferID{Value: o.ID}, FrameworkID: mesosgo.FrameworkID{Value: frameworkID},
				AgentID:        &mesosgo.AgentID{Value: o.AgentID},
				Unavailability: mesosgo.Unavailability{Start: mesosgo.TimeInfo{Nanoseconds: o.Start.UnixNano()}},
			})
		}
		return &scheduler.Event{Type: scheduler.Event_INVERSE_OFFERS, InverseOffers: out}, nil
	case mesos.Rescind:
		return &scheduler.Event{Type: scheduler.Event_RESCIND,
			Rescind: &scheduler.Event_Rescind{OfferID: mesosgo.OfferID{Value: e.OfferID}}}, nil
	case mesos.Update:
		st, err := ToStatus(e.Status)
		if err != nil {
			return nil, err
		}
		return &scheduler.Event{Type: scheduler.Event_UPDATE, Update: &scheduler.Event_Update{Status: st}}, nil
	case mesos.FromExecutor:
		return &scheduler.Event{Type: scheduler.Event_MESSAGE, Message: &scheduler.Event_Message{
			AgentID: mesosgo.AgentID{Value: e.AgentID}, ExecutorID: mesosgo.ExecutorID{Value: e.ExecutorID}, Data: notNil(e.Data)}}, nil
	case mesos.Failure:
		f := &scheduler.Event_Failure{Status: e.Status, AgentID: &mesosgo.AgentID{Value: e.AgentID}}
		if e.ExecutorID != "" {
			f.ExecutorID = &mesosgo.ExecutorID{Value: e.ExecutorID}
		}
		return &scheduler.Event{Type: scheduler.Event_FAILURE, Failure: f}, nil
	case mesos.Failed:
		return &scheduler.Event{Type: scheduler.Event_ERROR, Error: &scheduler.Event_Error{Message: e.Message}}, nil
	}
	return nil, fmt.Errorf("event %T is not on the wire", e)
}

// notNil keeps a required bytes field from being absent.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
