package lb

import (
	"fmt"
	"net/netip"
	"slices"
)

// Protocols that a service can have: IP's numbers.
const (
	TCP = 6
	UDP = 17
)

// Scheduler says what of a flow its slot depends on.
type Scheduler uint8

// Maglev places by all of the flow, SourceHash (`sh`) by the client's address only. rr, wrr and wlc need state that directors
// do not share; they exist with the dataplane ipvs only.
const (
	Maglev Scheduler = iota
	SourceHash
)

func (s Scheduler) String() string { return [...]string{"maglev", "sh"}[s&1] }

// Ports is a range of ports, both ends included. A single port is a range of one.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string {
	if p.First == p.Last {
		return fmt.Sprint(p.First)
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

// Service is one listener of a load balancer on one VIP.
type Service struct {
	VIP       netip.Addr
	Protocol  uint8
	Ports     Ports
	Scheduler Scheduler
	// TableSize is the number of slots, a prime of at most MaxTableSize; a hundred or more for each server keep the shares even.
	// It and Seed place every flow, so they stay while the service lives.
	TableSize uint32
	// Seed enters the hash of each flow and the table. A secret one keeps clients from choosing their real server.
	Seed uint64
	// Allow are the clients that may use it; none means all. Prefixes have no bits behind their length.
	Allow []netip.Prefix
}

func (s Service) String() string {
	return fmt.Sprintf("%s %s", netip.AddrPortFrom(s.VIP, s.Ports.First), map[uint8]string{TCP: "tcp", UDP: "udp"}[s.Protocol])
}

// Slot is the slot of a flow in the service's table.
func (s *Service) Slot(t Tuple) uint32 {
	if s.Scheduler == SourceHash {
		t = BySource(t)
	}
	return Slot(Hash(s.Seed, t), s.TableSize)
}

func (s *Service) same(o *Service) bool {
	return s.VIP == o.VIP && s.Protocol == o.Protocol && s.Ports == o.Ports && s.Scheduler == o.Scheduler && s.TableSize == o.TableSize &&
		s.Seed == o.Seed && slices.Equal(s.Allow, o.Allow)
}

func (s *Service) allows(client netip.Addr) bool {
	for _, p := range s.Allow {
		if p.Contains(client) {
			return true
		}
	}
	return len(s.Allow) == 0
}

// What bounds a service. 655373 is the larger of the two sizes that the Maglev paper measures.
const (
	DefaultTableSize = 65537
	MaxTableSize     = 655373
	MaxServers       = 10000
	MaxWeight        = 65535
	MaxAllow         = 4096
)

func (s *Service) validate() error {
	switch {
	case !s.VIP.IsValid() || s.VIP.Is4In6() || s.VIP.Zone() != "":
		return fmt.Errorf("vip %q: give an IPv4 or IPv6 address without zone", s.VIP)
	case s.Protocol != TCP && s.Protocol != UDP:
		return fmt.Errorf("protocol %d of %s: give 6 (TCP) or 17 (UDP)", s.Protocol, s.VIP)
	case s.Ports.First == 0 || s.Ports.Last < s.Ports.First:
		return fmt.Errorf("ports %d-%d of %s: give ports from 1 to 65535, the lower first", s.Ports.First, s.Ports.Last, s.VIP)
	case s.Scheduler > SourceHash:
		return fmt.Errorf("scheduler %d of %s: give 0 (maglev) or 1 (sh)", s.Scheduler, s.VIP)
	case s.TableSize > MaxTableSize || !prime(s.TableSize):
		return fmt.Errorf("tableSize %d of %s: give a prime of at most %d, such as %d", s.TableSize, s.VIP, MaxTableSize, DefaultTableSize)
	case len(s.Allow) > MaxAllow:
		return fmt.Errorf("allow of %s has %d prefixes: at most %d, join some", s.VIP, len(s.Allow), MaxAllow)
	}
	for _, p := range s.Allow {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4() != s.VIP.Is4() || p.Addr().Is4In6() {
			return fmt.Errorf("allow %q of %s: give prefixes of the VIP's family without bits behind their length", p, s.VIP)
		}
	}
	return nil
}

func prime(n uint32) bool {
	for d := uint32(2); uint64(d)*uint64(d) <= uint64(n); d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// State is what may be expected of a real server.
type State uint8

// The states of real servers, and what each does:
//
//	           owns slots       stays in histories
//	Serving    by its weight    yes
//	Draining   no               yes: its flows go on until the drain is over
//	Suspect    no               yes, behind all others: its health check fails, or nobody hears of its host.
//	                            Packets for live servers do not go through it; its own flows find it if it comes back
//	Dead       no               no: its sockets are certainly gone. Not to be listed is the same
const (
	Serving State = iota
	Draining
	Suspect
	Dead
)

func (s State) String() string { return [...]string{"serving", "draining", "suspect", "dead"}[s&3] }

// Server is a real server: an instance that has the VIP on its loopback.
type Server struct {
	// ID names it for good: its share of the table depends on it.
	ID string
	// MAC is where directors and relays send its packets. No two servers of a service have the same.
	MAC MAC
	// Weight is its share among the serving ones, at most MaxWeight. 0 owns no slots.
	Weight uint32
	State  State
}

func (s *Server) serves() bool { return s.State == Serving && s.Weight > 0 }

// validateServers wants them sorted by ID.
func validateServers(servers []Server) error {
	if len(servers) > MaxServers {
		return fmt.Errorf("%d real servers: a service has at most %d", len(servers), MaxServers)
	}
	macs := make(map[MAC]string, len(servers))
	for i, s := range servers {
		switch other, twice := macs[s.MAC]; {
		case s.ID == "" || len(s.ID) > 255:
			return fmt.Errorf("id %q of the real server with MAC %s: give 1 to 255 bytes", s.ID, s.MAC)
		case i > 0 && s.ID <= servers[i-1].ID:
			return fmt.Errorf("real server %q is listed twice or out of order: list each once", s.ID)
		case s.MAC == MAC{} || s.MAC[0]&1 == 1 || s.MAC[0] == stampPrefix:
			return fmt.Errorf("mac %s of real server %q: give a unicast address that does not begin with %02x", s.MAC, s.ID, stampPrefix)
		case twice:
			return fmt.Errorf("mac %s is that of real servers %q and %q: give each its own", s.MAC, other, s.ID)
		case s.Weight > MaxWeight:
			return fmt.Errorf("weight %d of real server %q: at most %d", s.Weight, s.ID, MaxWeight)
		case s.State > Dead:
			return fmt.Errorf("state %d of real server %q: give 0 (serving), 1 (draining), 2 (suspect) or 3 (dead)", s.State, s.ID)
		}
		macs[s.MAC] = s.ID
	}
	return nil
}
