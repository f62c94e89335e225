package conformance

import (
	"net/netip"

	"padis.io/padis/executor/lb"
)

// Ports of the real servers.
const (
	tcpPort     = 80
	echoPort    = 7
	discardPort = 9
)

// listener is a service on both VIPs.
type listener struct {
	protocol  uint8
	first     uint16
	last      uint16 // 0 is first
	scheduler lb.Scheduler
	allow     []netip.Prefix // of both families
	method    string
	max       uint32
}

// usual are those that most trials need.
var usual = []listener{{protocol: lb.TCP, first: tcpPort}, {protocol: lb.UDP, first: echoPort}, {protocol: lb.UDP, first: discardPort}}

// farm is the tables of the real servers, with their history.
type farm struct {
	s        *site
	tcp, udp *lb.Generation
	// four: only the IPv4 addresses of real servers are known.
	four bool
}

// want is a real server's share and state.
type want struct {
	weight uint32
	state  lb.State
}

var serving, draining, suspect = want{1, lb.Serving}, want{1, lb.Draining}, want{1, lb.Suspect}

// change makes the next generations, of the first so many real servers.
func (f *farm) change(wants ...want) {
	f.s.t.Helper()
	var servers []lb.Server
	for i, w := range wants {
		m := f.s.servers[i]
		if w != (want{}) {
			servers = append(servers, lb.Server{ID: m.name, MAC: m.mac, Weight: w.weight, State: w.state})
		}
	}
	for protocol, g := range map[uint8]**lb.Generation{lb.TCP: &f.tcp, lb.UDP: &f.udp} {
		next, err := lb.Next(*g, lb.Service{VIP: vips[0], Protocol: protocol, Ports: lb.Ports{First: 1, Last: 1}, TableSize: 4093, Seed: 7}, servers)
		f.s.must(err)
		*g = next
	}
}

func (f *farm) forwardings(listeners ...listener) []lb.Forwarding {
	f.s.t.Helper()
	return f.forwardingsOf(vips, listeners...)
}

func (f *farm) forwardingsOf(vips []netip.Addr, listeners ...listener) []lb.Forwarding {
	f.s.t.Helper()
	var out []lb.Forwarding
	for _, l := range listeners {
		table := f.tcp
		if l.protocol == lb.UDP {
			table = f.udp
		}
		for _, vip := range vips {
			service := lb.Service{VIP: vip, Protocol: l.protocol, Ports: lb.Ports{First: l.first, Last: max(l.first, l.last)}, Scheduler: l.scheduler}
			for _, p := range l.allow {
				if p.Addr().Is4() == vip.Is4() {
					service.Allow = append(service.Allow, p)
				}
			}
			g, err := table.For(service)
			f.s.must(err)
			addresses := map[string]netip.Addr{}
			for _, m := range f.s.servers {
				a := m.addresses()
				addresses[m.name] = a[0]
				if vip.Is6() && !f.four {
					addresses[m.name] = a[1]
				}
			}
			out = append(out, lb.Forwarding{Generation: g, Addresses: addresses, Method: l.method, MaxConnections: l.max})
		}
	}
	return out
}

// set puts these in force, as the scheduler does: first on the hosts of real servers, then on the directors (none named: all).
func (s *site) set(f []lb.Forwarding, directors ...int) {
	s.t.Helper()
	if s.tellRelays != nil {
		s.must(s.tellRelays(f))
	}
	for i, p := range s.planes {
		if len(directors) == 0 || i == directors[0] {
			s.must(p.Set(f))
		}
	}
}

// open makes the dataplanes of both directors, and the relays.
func (s *site) open() {
	s.t.Helper()
	for _, d := range s.directors {
		d.do(func() error {
			p, err := s.subject.open(d)
			if err == nil {
				s.planes = append(s.planes, p)
				s.t.Cleanup(func() { p.Close() })
			}
			return err
		})
	}
	if s.subject.relays != nil {
		s.tellRelays = s.subject.relays(s)
	}
}
