// Package plan decides for a director: what it forwards, what it announces and why not, how it reaches a real server to check
// it, and how it leaves. Pure.
package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"padis.io/padis/executor/lb"
	padisv1 "padis.io/padis/proto/padis/v1"
)

// Order is a Balance as a director uses it. It is never changed after it was read.
type Order struct {
	UID, Namespace, Name string
	Number               int64
	// Of the Balance; never nil.
	Asked *padisv1.DirectorOrder
	// What is forwarded, by VIP, protocol and port.
	Forwardings []lb.Forwarding
	// VIPs of which something is forwarded, sorted.
	VIPs []netip.Addr
	// Servers of all tables, sorted by id.
	Servers []Server
	// Left says what is left out, and why.
	Left []string

	tcp, udp []byte
	tables   map[uint8]*lb.Generation
	// Protocols by VIP.
	uses map[netip.Addr][]uint8
}

// Server is a real server.
type Server struct {
	lb.Server
	// Address in the directors' network; invalid if none is known.
	Address netip.Addr
}

// Read reads a Balance. What before (nil: nothing) has and the Balance too keeps its pointers, which spares dataplanes the
// work. Listeners that nobody may use, or that have no table, are left out. It refuses what contradicts itself.
func Read(b *padisv1.Balance, before *Order) (*Order, error) {
	if b.GetDirector() == nil {
		return nil, fmt.Errorf("balance %d of %s/%s has nothing for directors: it is one for hosts of real servers", b.GetNumber(), b.GetNamespace(), b.GetName())
	}
	o := &Order{UID: b.GetUid(), Namespace: b.GetNamespace(), Name: b.GetName(), Number: b.GetNumber(), Asked: b.GetDirector(),
		tcp: b.GetTcp(), udp: b.GetUdp(), tables: map[uint8]*lb.Generation{}, uses: map[netip.Addr][]uint8{}}
	if before == nil {
		before = &Order{}
	}
	for _, t := range []struct {
		protocol  uint8
		name      string
		now, then []byte
	}{{lb.TCP, "tcp", o.tcp, before.tcp}, {lb.UDP, "udp", o.udp, before.udp}} {
		if err := o.table(t.protocol, t.name, t.now, before.tables[t.protocol], bytes.Equal(t.now, t.then)); err != nil {
			return nil, err
		}
	}
	if err := o.servers(b.GetServers()); err != nil {
		return nil, err
	}
	if err := o.services(b.GetServices(), before); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *Order) table(protocol uint8, name string, encoded []byte, before *lb.Generation, same bool) error {
	if len(encoded) == 0 {
		return nil
	}
	if same && before != nil {
		o.tables[protocol] = before
		return nil
	}
	g, err := lb.Decode(encoded)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if g.Service.Protocol != protocol {
		return fmt.Errorf("%s: the table is one of protocol %d: give %d", name, g.Service.Protocol, protocol)
	}
	o.tables[protocol] = g
	return nil
}

func (o *Order) servers(real []*padisv1.RealServer) error {
	addresses := make(map[string]netip.Addr, len(real))
	for _, s := range real {
		if s.GetAddress() == "" {
			continue
		}
		a, err := netip.ParseAddr(s.GetAddress())
		if err != nil {
			return fmt.Errorf("address %q of real server %q: give an IP address", s.GetAddress(), s.GetId())
		}
		addresses[s.GetId()] = a.Unmap()
	}
	seen := map[string]bool{}
	for _, protocol := range []uint8{lb.TCP, lb.UDP} {
		g := o.tables[protocol]
		if g == nil {
			continue
		}
		for _, s := range g.Servers {
			if !seen[s.ID] {
				seen[s.ID] = true
				o.Servers = append(o.Servers, Server{s, addresses[s.ID]})
			}
		}
	}
	slices.SortFunc(o.Servers, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	return nil
}

// Where dataplanes place flows otherwise than by tables.
func method(scheduler string) (string, error) {
	switch scheduler {
	case "", "maglev", "sh":
		return "", nil
	case "rr", "wrr", "wlc":
		return scheduler, nil
	}
	return "", fmt.Errorf("scheduler %q: this director knows maglev, sh, rr, wrr and wlc", scheduler)
}

func (o *Order) services(all []*padisv1.BalanceService, before *Order) error {
	how, err := method(o.Asked.GetScheduler())
	if err != nil {
		return err
	}
	addresses := make(map[string]netip.Addr, len(o.Servers))
	for _, s := range o.Servers {
		if s.Address.IsValid() {
			addresses[s.ID] = s.Address
		}
	}
	known := make(map[key]*lb.Generation, len(before.Forwardings))
	for _, f := range before.Forwardings {
		known[keyOf(&f.Service)] = f.Generation
	}
	generations := make([]*lb.Generation, 0, len(all))
	for _, s := range all {
		service, err := parse(s)
		if err != nil {
			return err
		}
		g := o.tables[service.Protocol]
		switch {
		case s.GetNobody():
			o.Left = append(o.Left, fmt.Sprintf("%s: no source range is of its family, so nobody may use it: add one, or name none", service))
			continue
		case g == nil:
			o.Left = append(o.Left, fmt.Sprintf("%s: it has no table yet", service))
			continue
		}
		service.Scheduler = g.Service.Scheduler
		own, err := g.For(service)
		if err != nil {
			return err
		}
		// The table is the same object as before, and so is the service.
		if old := known[keyOf(&own.Service)]; old != nil && g == before.tables[service.Protocol] && equal(&old.Service, &own.Service) {
			own = old
		}
		generations = append(generations, own)
	}
	if _, err := lb.NewTables(generations...); err != nil {
		return err
	}
	most := uint32(min(max(o.Asked.GetMaxConnections(), 0), math.MaxUint32))
	for _, g := range generations {
		o.Forwardings = append(o.Forwardings, lb.Forwarding{Generation: g, Addresses: addresses, Method: how, MaxConnections: most})
		o.VIPs = append(o.VIPs, g.Service.VIP)
		if used := o.uses[g.Service.VIP]; !slices.Contains(used, g.Service.Protocol) {
			o.uses[g.Service.VIP] = append(used, g.Service.Protocol)
		}
	}
	slices.SortFunc(o.Forwardings, func(a, b lb.Forwarding) int {
		return cmp.Or(a.Service.VIP.Compare(b.Service.VIP), cmp.Compare(a.Service.Protocol, b.Service.Protocol), cmp.Compare(a.Service.Ports.First, b.Service.Ports.First))
	})
	slices.SortFunc(o.VIPs, netip.Addr.Compare)
	o.VIPs = slices.Compact(o.VIPs)
	return nil
}

type key struct {
	vip      netip.Addr
	protocol uint8
	first    uint16
}

func keyOf(s *lb.Service) key { return key{s.VIP, s.Protocol, s.Ports.First} }

func equal(a, b *lb.Service) bool {
	return a.Ports == b.Ports && a.Scheduler == b.Scheduler && a.TableSize == b.TableSize && a.Seed == b.Seed && slices.Equal(a.Allow, b.Allow)
}

func parse(s *padisv1.BalanceService) (lb.Service, error) {
	vip, err := netip.ParseAddr(s.GetVip())
	if err != nil {
		return lb.Service{}, fmt.Errorf("vip %q of a listener: give an IP address", s.GetVip())
	}
	out := lb.Service{VIP: vip.Unmap()}
	switch s.GetProtocol() {
	case "tcp":
		out.Protocol = lb.TCP
	case "udp":
		out.Protocol = lb.UDP
	default:
		return lb.Service{}, fmt.Errorf("protocol %q of a listener of %s: give tcp or udp", s.GetProtocol(), vip)
	}
	for _, p := range []int32{s.GetFirstPort(), s.GetLastPort()} {
		if p < 1 || p > math.MaxUint16 {
			return lb.Service{}, fmt.Errorf("port %d of a listener of %s: give 1 to 65535", p, vip)
		}
	}
	out.Ports = lb.Ports{First: uint16(s.GetFirstPort()), Last: uint16(s.GetLastPort())}
	for _, r := range s.GetSourceRanges() {
		p, err := netip.ParsePrefix(r)
		if err != nil {
			return lb.Service{}, fmt.Errorf("source range %q of %s: give a prefix such as 10.0.0.0/8", r, out)
		}
		out.Allow = append(out.Allow, p)
	}
	return out, nil
}
