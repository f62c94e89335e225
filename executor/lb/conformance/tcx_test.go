package conformance

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/lb/tcx"
)

const stateless = "directors of eBPF keep nothing of a connection, so they cannot count"

var tcxSubjects = []*subject{tcxSubject("tcx", tcx.DirectorTCX), tcxSubject("xdp-generic", tcx.DirectorXDPGeneric)}

func tcxSubject(name string, mode tcx.Mode) *subject {
	return &subject{
		name: name,
		open: func(d *machine) (lb.Dataplane, error) {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return nil, err
			}
			p, err := tcx.Load(tcx.Options{Mode: mode, MAC: d.mac})
			if err != nil {
				return nil, err
			}
			return eBPF{p}, p.Attach(eth0.Attrs().Index)
		},
		relays: relays,
		lacks:  map[string]string{"methods": stateless, "connection limit": stateless, "marks": "its director's own packets do not pass it: routes lead checks"},
	}
}

// relays hang at the host ends of all real servers.
func relays(s *site) func([]lb.Forwarding) error {
	s.t.Helper()
	r, err := tcx.Load(tcx.Options{Mode: tcx.Relay})
	s.must(err)
	s.t.Cleanup(func() { r.Close() })
	for _, m := range s.servers {
		index := m.port.Attrs().Index
		s.must(r.AttachPort(tcx.Port{Index: index, MAC: m.mac, Netns: m.id, Out: index, Ingress: true}))
	}
	return eBPF{r}.Set
}

// eBPF is a dataplane of executor/lb/tcx as the directors have it.
type eBPF struct{ *tcx.Dataplane }

func (d eBPF) Set(forwardings []lb.Forwarding) error {
	var gs []*lb.Generation
	for _, f := range forwardings {
		if f.Method != "" || f.MaxConnections > 0 {
			return fmt.Errorf("%s: method %q, at most %d connections: choose dataplane ipvs", f.Service, f.Method, f.MaxConnections)
		}
		gs = append(gs, f.Generation)
	}
	return d.Dataplane.Set(gs...)
}

func (d eBPF) Forwarded() (uint64, error) {
	c, err := d.Counters()
	n := uint64(0)
	for _, s := range c.Services {
		n += s.Packets[lb.Placed]
	}
	return n, err
}
