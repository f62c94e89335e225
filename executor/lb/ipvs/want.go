package ipvs

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/lb"
	"padis.io/padis/executor/network"
)

// Flags of services in linux/ip_vs.h.
const (
	onePacket = 0x4  // IP_VS_SVC_F_ONEPACKET: no entry for a flow, each datagram is placed anew
	mhPort    = 0x10 // IP_VS_SVC_F_SCHED_MH_PORT: ports are hashed, too
	ownFlags  = 0x1 | onePacket | 0x8 | mhPort | 0x20
)

// mostPorts is how many services a range of ports may become: IPVS has no ranges.
const mostPorts = 64

// key names a service of IPVS: a protocol at an address and port, or packets of a family that have a mark.
type key struct {
	protocol uint8
	at       netip.AddrPort
	mark     uint32
	family   uint8
}

// String is how ipvsadm is told of it.
func (k key) String() string {
	switch {
	case k.mark != 0 && k.family == unix.AF_INET6:
		return fmt.Sprintf("-f %d -6", k.mark)
	case k.mark != 0:
		return fmt.Sprintf("-f %d", k.mark)
	case k.protocol == lb.UDP:
		return "-u " + k.at.String()
	}
	return "-t " + k.at.String()
}

func (k key) compare(o key) int {
	return cmp.Or(k.at.Compare(o.at), cmp.Compare(k.protocol, o.protocol), cmp.Compare(k.mark, o.mark), cmp.Compare(k.family, o.family))
}

// service is one of IPVS with its real servers, as the kernel lists them: who was added last is the first.
type service struct {
	key
	scheduler string
	flags     uint32
	dests     []dest
}

func (s service) String() string {
	flags := ""
	if s.flags&mhPort != 0 {
		flags += " -b mh-port"
	}
	if s.flags&onePacket != 0 {
		flags += " --ops"
	}
	return fmt.Sprintf("%s -s %s%s", s.key, s.scheduler, flags)
}

// dest is a real server of a service, by direct routing.
type dest struct {
	at     netip.AddrPort
	weight uint32
	// most connections; 0 is without a limit.
	most uint32
}

func (d dest) String() string { return fmt.Sprintf("-r %s -g -w %d -x %d", d.at, d.weight, d.most) }

// wanted are the services of IPVS that these forwardings and the marks of checks need, sorted, and the addresses that stand for
// hardware addresses in them.
func wanted(forwardings []lb.Forwarding, marks map[uint32]netip.Addr) ([]service, map[netip.Addr]network.MAC, error) {
	var out []service
	peers := map[netip.Addr]network.MAC{}
	macs := map[netip.Addr]lb.MAC{}
	gs := make([]*lb.Generation, 0, len(forwardings))
	for _, f := range forwardings {
		if f.Generation == nil {
			return nil, nil, errors.New("a forwarding without a generation: give each its table")
		}
		gs = append(gs, f.Generation)
		some, err := servicesOf(f, peers)
		if err != nil {
			return nil, nil, fmt.Errorf("service %s: %w", f.Service, err)
		}
		out = append(out, some...)
		for _, s := range f.Servers {
			macs[f.Addresses[s.ID]] = s.MAC
		}
	}
	if _, err := lb.NewTables(gs...); err != nil {
		return nil, nil, err
	}
	for mark, a := range marks {
		if mark == 0 || !a.IsValid() {
			return nil, nil, fmt.Errorf("mark %d of the real server %q: give a number that is not 0 and an address", mark, a)
		}
		out = append(out, checked(mark, a))
		if mac, known := macs[a]; known && a.Is4() {
			out = append(out, checked(mark, standIn(mac, peers)))
		}
	}
	slices.SortFunc(out, func(a, b service) int { return a.key.compare(b.key) })
	return out, peers, nil
}

// checked is the service of the packets with a mark.
func checked(mark uint32, a netip.Addr) service {
	k := key{mark: mark, family: unix.AF_INET}
	if a.Is6() {
		k.family = unix.AF_INET6
	}
	return service{key: k, scheduler: "rr", dests: []dest{{at: netip.AddrPortFrom(a, 0), weight: 1}}}
}

// standIn is an IPv6 address for a hardware address, in a network that nobody else has (RFC 4193): IPVS forwards to neighbours by
// their addresses of the VIP's family.
func standIn(mac lb.MAC, peers map[netip.Addr]network.MAC) netip.Addr {
	a := netip.AddrFrom16([16]byte{0xfd, 'P', 'A', 'D', 'I', 'S', 10: mac[0], 11: mac[1], 12: mac[2], 13: mac[3], 14: mac[4], 15: mac[5]})
	peers[a] = network.MAC(mac)
	return a
}

// servicesOf is one for each port.
func servicesOf(f lb.Forwarding, peers map[netip.Addr]network.MAC) ([]service, error) {
	s := service{scheduler: f.Method, key: key{protocol: f.Service.Protocol, family: unix.AF_INET}}
	if f.Service.VIP.Is6() {
		s.family = unix.AF_INET6
	}
	switch f.Method {
	case "rr", "wrr", "wlc":
	case "":
		// sh is mh without ports, too: the kernel's sh has 256 slots only, of which nearly all move when servers change.
		s.scheduler = "mh"
		if f.Service.Scheduler == lb.Maglev {
			s.flags |= mhPort
		}
		// Nothing is to be kept of datagrams: the table places each, on all directors alike, and a server that does not answer
		// gets no more of them at once. But who is to be counted needs an entry.
		if f.Service.Protocol == lb.UDP && f.MaxConnections == 0 {
			s.flags |= onePacket
		}
	default:
		return nil, fmt.Errorf("method %q: give rr, wrr, wlc or none", f.Method)
	}
	ports := f.Service.Ports
	if n := int(ports.Last) - int(ports.First) + 1; n > mostPorts {
		return nil, fmt.Errorf("ports %s are %d, of which IPVS needs a service each: give at most %d, or choose the dataplane tcx", ports, n, mostPorts)
	}
	dests, err := destsOf(f, peers)
	if err != nil {
		return nil, err
	}
	var out []service
	for port := int(ports.First); port <= int(ports.Last); port++ {
		one := s
		one.at = netip.AddrPortFrom(f.Service.VIP, uint16(port))
		one.dests = slices.Clone(dests)
		for i := range one.dests {
			one.dests[i].at = netip.AddrPortFrom(one.dests[i].at.Addr(), uint16(port))
		}
		out = append(out, one)
	}
	return out, nil
}

// destsOf lists who serves as the kernel shall list them, the greatest address first, and behind them who gets no new flows. The
// table of mh depends on the order, so it must follow from the servers alone.
func destsOf(f lb.Forwarding, peers map[netip.Addr]network.MAC) ([]dest, error) {
	weights := weights(f.Servers)
	var out []dest
	names := map[netip.Addr]string{}
	for i, s := range f.Servers {
		a := f.Addresses[s.ID]
		if f.Service.VIP.Is6() && !a.Is6() {
			a = standIn(s.MAC, peers)
		}
		if !a.IsValid() || a.Is6() != f.Service.VIP.Is6() {
			return nil, fmt.Errorf("address %q of real server %s: give its IPv4 address in the directors' network", a, s.ID)
		}
		if other, twice := names[a]; twice {
			return nil, fmt.Errorf("address %s is that of real servers %s and %s: give each its own", a, other, s.ID)
		}
		names[a] = s.ID
		out = append(out, dest{at: netip.AddrPortFrom(a, 0), weight: weights[i], most: f.MaxConnections})
	}
	slices.SortFunc(out, func(a, b dest) int {
		if (a.weight > 0) != (b.weight > 0) {
			return cmp.Compare(b.weight, a.weight)
		}
		return b.at.Compare(a.at)
	})
	return out, nil
}

// weights of servers: those that serve have theirs. If nobody serves, those that leave do, else those that are suspect.
func weights(servers []lb.Server) []uint32 {
	out := make([]uint32, len(servers))
	for _, get := range []func(lb.Server) bool{
		func(s lb.Server) bool { return s.State == lb.Serving && s.Weight > 0 },
		func(s lb.Server) bool { return s.State == lb.Serving || s.State == lb.Draining },
		func(s lb.Server) bool { return s.State == lb.Suspect },
	} {
		some := false
		for i, s := range servers {
			if get(s) {
				out[i], some = max(s.Weight, 1), true
			}
		}
		if some {
			break
		}
	}
	return out
}
