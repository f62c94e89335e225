package kernel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Locals has the kernel of one network namespace take packets to addresses for itself, without an interface that has the
// addresses: nobody is told of them, and no socket takes one for its own. Over IPv4 the host can answer by none of them, not even
// that a port is closed. For VIPs of directors whose dataplane works where packets for the host itself come by.
type Locals struct {
	c     *conn
	link  int
	have  map[netip.Addr]bool
	rules map[uint8]bool // by family
	peers map[netip.Addr]network.MAC
}

// LocalsRule is the preference of the rule by which they are found. Rules below it win, such as those for marked packets to
// the same addresses that shall go elsewhere.
const LocalsRule = 31000

// localsTable is the routing table of them.
const localsTable = 946600

// OpenLocals is for the network namespace of the calling thread, and its interface with this name.
func OpenLocals(name string) (*Locals, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	own, err := c.link(name)
	if err == nil {
		err = c.do(setUp("lo"))
	}
	if err != nil {
		c.close()
		return nil, fmt.Errorf("prepare local addresses: %w", err)
	}
	return &Locals{c: c, link: own.index, have: map[netip.Addr]bool{}, rules: map[uint8]bool{}, peers: map[netip.Addr]network.MAC{}}, nil
}

// Set makes exactly these local. What fails is tried by the next Set again.
func (l *Locals) Set(addresses []netip.Addr) error {
	if l.c == nil {
		return errors.New("local addresses are closed: open them again")
	}
	want := map[netip.Addr]bool{}
	var errs []error
	for _, a := range addresses {
		want[a] = true
		if l.have[a] {
			continue
		}
		if err := l.add(a); err != nil {
			errs = append(errs, fmt.Errorf("make %s local: %w", a, err))
			continue
		}
		l.have[a] = true
	}
	for _, a := range slices.SortedFunc(maps.Keys(l.have), netip.Addr.Compare) {
		if want[a] {
			continue
		}
		r := localRoute(unix.RTM_DELROUTE, 0, a)
		r.ignore = []unix.Errno{unix.ESRCH}
		if err := l.c.do(r); err != nil {
			errs = append(errs, fmt.Errorf("make %s no longer local: %w", a, err))
			continue
		}
		delete(l.have, a)
	}
	return errors.Join(errs...)
}

func (l *Locals) add(a netip.Addr) error {
	var requests []*request
	if f := family(a); !l.rules[f] {
		requests = append(requests, newRule(f, LocalsRule, unix.FR_ACT_TO_TBL).u32(unix.FRA_TABLE, localsTable).u8(unix.FRA_PROTOCOL, ours))
	}
	requests = append(requests, localRoute(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, a))
	err := l.c.do(requests...)
	if err == nil {
		l.rules[family(a)] = true
	}
	return err
}

// Peers makes exactly these addresses those of machines in the interface's segment, by their hardware addresses, so that nobody
// is asked for them: for machines of which no address of a family is known.
func (l *Locals) Peers(peers map[netip.Addr]network.MAC) error {
	if l.c == nil {
		return errors.New("local addresses are closed: open them again")
	}
	var errs []error
	for a, mac := range peers {
		if l.peers[a] == mac {
			continue
		}
		n, r := l.peer(a, mac)
		if err := l.c.do(addNeighbour(l.link, n), addRoute(r, l.link)); err != nil {
			errs = append(errs, fmt.Errorf("lead %s to %s: %w", a, mac, err))
			continue
		}
		l.peers[a] = mac
	}
	for a, mac := range l.peers {
		if _, stays := peers[a]; stays {
			continue
		}
		n, r := l.peer(a, mac)
		if err := l.c.do(delRoute(r, l.link), delNeighbour(l.link, n)); err != nil {
			errs = append(errs, fmt.Errorf("lead %s to %s no longer: %w", a, mac, err))
			continue
		}
		delete(l.peers, a)
	}
	return errors.Join(errs...)
}

func (l *Locals) peer(a netip.Addr, mac network.MAC) (network.Neighbour, network.Route) {
	return network.Neighbour{Address: a, MAC: mac}, network.Route{Destination: netip.PrefixFrom(a, a.BitLen())}
}

// Close takes all of it back.
func (l *Locals) Close() error {
	if l.c == nil {
		return nil
	}
	errs := []error{l.Set(nil), l.Peers(nil)}
	for f := range l.rules {
		errs = append(errs, l.c.do(delRule(f, LocalsRule, unix.FR_ACT_TO_TBL).u32(unix.FRA_TABLE, localsTable)))
	}
	l.c.close()
	l.c = nil
	return errors.Join(errs...)
}

func localRoute(kind uint16, flags int, a netip.Addr) *request {
	scope := uint8(unix.RT_SCOPE_UNIVERSE)
	if a.Is4() {
		scope = unix.RT_SCOPE_HOST
	}
	const loopback = 1 // the index of lo in every namespace
	h := routeHeader(family(a), uint8(a.BitLen()), unix.RT_TABLE_UNSPEC, ours, scope, unix.RTN_LOCAL, 0)
	return newRequest(kind, flags, h).attr(unix.RTA_DST, a.AsSlice()).u32(unix.RTA_OIF, loopback).u32(unix.RTA_TABLE, localsTable)
}
