package balance

import (
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// View is all that people may want to know of one LoadBalancer.
type View struct {
	Wanted *padisv1.WantedBalancer
	Record *padisv1.BalanceRecord
	Tables Tables
	// VIPs in the order of the declaration.
	VIPs      []VIP
	Servers   []Server
	Directors []Director
	Hosts     []HostView
	// Backends that give no real server, by their index.
	Backends []Backend
	// Problem says why the newest declaration is not in force.
	Problem string
}

// VIP is one that is declared.
type VIP struct{ Pool, Address, Reason, Message string }

// HostView is a host of real servers.
type HostView struct {
	Host            string
	Number          int64
	Reason, Message string
}

// Backend is what a backend selects.
type Backend struct {
	Index           int
	Reason, Message string
}

// Shares counts the slots that each server owns, by ID, and all of them.
func (t Tables) Shares() (owned map[string]int32, size int32) {
	g := t.TCP
	if g == nil {
		g = t.UDP
	}
	owned = map[string]int32{}
	if g == nil {
		return owned, 0
	}
	for slot := range g.Service.TableSize {
		if s := g.Owner(slot); s != nil {
			owned[s.ID]++
		}
	}
	return owned, int32(g.Service.TableSize)
}

// Path is the way of one flow.
type Path struct {
	Service    *padisv1.BalanceService
	Slot, Size uint32
	// Chain are the ids of the servers of its slot, the owner first.
	Chain []string
	// Refusal says why nobody takes it; empty if somebody does.
	Refusal string
}

// Trace finds the way of a flow from a client to a VIP. It refuses what is not a flow.
func Trace(rec *padisv1.BalanceRecord, t Tables, client, vip netip.AddrPort, protocol string) (Path, error) {
	g, number := t.TCP, uint8(lb.TCP)
	switch protocol {
	case "tcp":
	case "udp":
		g, number = t.UDP, lb.UDP
	default:
		return Path{}, fmt.Errorf("protocol %q: give tcp or udp", protocol)
	}
	client, vip = netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), netip.AddrPortFrom(vip.Addr().Unmap(), vip.Port())
	if !client.IsValid() || !vip.IsValid() || client.Addr().Is4() != vip.Addr().Is4() {
		return Path{}, fmt.Errorf("client %s and VIP %s: give two addresses of one family", client.Addr(), vip.Addr())
	}
	for _, b := range rec.GetServices() {
		s, err := service(b, rec.GetOrder().GetScheduler())
		if err != nil || g == nil || s.Protocol != number || s.VIP != vip.Addr() || vip.Port() < s.Ports.First || vip.Port() > s.Ports.Last {
			continue
		}
		of, err := g.For(s)
		if err != nil {
			return Path{}, err
		}
		p := Path{Service: b, Size: of.Service.TableSize}
		p.Slot = of.Service.Slot(lb.Tuple{Src: client.Addr(), SrcPort: client.Port(), Dst: vip.Addr(), DstPort: vip.Port(), Protocol: number})
		for _, i := range of.Chain(p.Slot) {
			p.Chain = append(p.Chain, of.Servers[i].ID)
		}
		switch {
		case b.GetNobody() || !allowed(s.Allow, client.Addr()):
			p.Refusal = fmt.Sprintf("%s is in none of the listener's sourceRanges; add its prefix, or use another client", client.Addr())
		case len(p.Chain) == 0:
			p.Refusal = "no real server is in rotation; see why the backends' instances wait"
		}
		return p, nil
	}
	return Path{Refusal: fmt.Sprintf("nothing listens on %s %s; add a listener, or correct the address", vip, protocol)}, nil
}

func allowed(list []netip.Prefix, client netip.Addr) bool {
	for _, p := range list {
		if p.Contains(client) {
			return true
		}
	}
	return len(list) == 0
}

// Same tells whether two views show the same.
func (v *View) Same(o *View) bool {
	return v.Wanted == o.Wanted && v.Record == o.Record && v.Problem == o.Problem && slices.Equal(v.VIPs, o.VIPs) && slices.Equal(v.Hosts, o.Hosts) &&
		slices.Equal(v.Backends, o.Backends) && slices.EqualFunc(v.Servers, o.Servers, sameView) && slices.EqualFunc(v.Directors, o.Directors, sameDirector)
}

func sameView(a, b Server) bool {
	return a.ID == b.ID && a.Instance == b.Instance && a.Host == b.Host && a.Address == b.Address && a.InTable == b.InTable && a.State == b.State && a.Why == b.Why && a.Say == b.Say && a.Declared == b.Declared
}

func sameDirector(a, b Director) bool {
	return a.Task == b.Task && a.Instance == b.Instance && a.Host == b.Host && a.Address == b.Address && a.Phase == b.Phase && a.Ready == b.Ready && proto.Equal(a.State, b.State)
}
