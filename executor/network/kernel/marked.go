package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// Marked leads packets with a mark (SO_MARK) to a hardware address, whatever address they are for: how the checks of a director
// reach one real server by an address that all of them have. It is for a process in the network namespace that it changes:
//
//	rule 10: no mark          -> goto 30000, so that packets of others meet one rule more, however many marks there are
//	rule 20: mark k           -> table marked+k: default via 169.254.k or fe80::5041:0:0:k, onlink
//	rule 30000: all           -> local; it was rule 0, which would keep addresses that the namespace itself has
//	neighbour of that gateway -> the hardware address
type Marked struct {
	conn     *conn
	link     int
	families []uint8
	now      map[uint16]network.MAC
}

const (
	unmarkedFirst = 10
	markedNext    = 20
	localLast     = 30000
	// Tables of marks are above those that people number by hand.
	markedTables = 1 << 20
)

// OpenMarked prepares a link of the process's network namespace, for the families that it has addresses of.
func OpenMarked(name string, v4, v6 bool) (*Marked, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	m := &Marked{conn: c, now: map[uint16]network.MAC{}}
	if v4 {
		m.families = append(m.families, unix.AF_INET)
	}
	if v6 {
		m.families = append(m.families, unix.AF_INET6)
	}
	if err := m.prepare(name); err != nil {
		c.close()
		return nil, fmt.Errorf("lead marked packets out of %s: %w; it needs CAP_NET_ADMIN in its network namespace", name, err)
	}
	return m, nil
}

func (m *Marked) prepare(name string) error {
	l := getLink(name, 0, func(l link) { m.link = l.index })
	l.what = question(name)
	if err := m.conn.do(l); err != nil {
		return err
	}
	for _, f := range m.families {
		// The rule for local addresses is there twice for a moment, and never not at all.
		if err := m.conn.do(
			newRule(f, localLast, unix.FR_ACT_TO_TBL).u32(unix.FRA_TABLE, unix.RT_TABLE_LOCAL),
			newRule(f, unmarkedFirst, unix.FR_ACT_GOTO).u32(unix.FRA_FWMARK, 0).u32(unix.FRA_FWMASK, ^uint32(0)).u32(unix.FRA_GOTO, localLast),
			delRule(f, 0, unix.FR_ACT_TO_TBL).u32(unix.FRA_TABLE, unix.RT_TABLE_LOCAL),
		); err != nil {
			return err
		}
	}
	return nil
}

// Set leads exactly these marks, none of which is 0. After an error some are, and the same Set again does the rest.
func (m *Marked) Set(marks map[uint16]network.MAC) error {
	for mark, mac := range m.now {
		if _, stays := marks[mark]; stays {
			continue
		}
		if err := m.conn.do(m.requests(mark, mac, false)...); err != nil {
			return fmt.Errorf("mark %d: %w", mark, err)
		}
		delete(m.now, mark)
	}
	for mark, mac := range marks {
		if m.now[mark] == mac {
			continue
		}
		if err := m.conn.do(m.requests(mark, mac, true)...); err != nil {
			return fmt.Errorf("mark %d: %w", mark, err)
		}
		m.now[mark] = mac
	}
	return nil
}

func (m *Marked) requests(mark uint16, mac network.MAC, on bool) (out []*request) {
	for _, f := range m.families {
		table, gateway := markedTables+uint32(mark), markedGateway(f, mark)
		n := network.Neighbour{Address: gateway, MAC: mac}
		h := routeHeader(f, 0, unix.RT_TABLE_UNSPEC, ours, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST, unix.RTNH_F_ONLINK)
		if on {
			out = append(out, addNeighbour(m.link, n),
				newRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, h).u32(unix.RTA_TABLE, table).
					attr(unix.RTA_GATEWAY, gateway.AsSlice()).u32(unix.RTA_OIF, uint32(m.link)),
				newRule(f, markedNext, unix.FR_ACT_TO_TBL).u32(unix.FRA_FWMARK, uint32(mark)).u32(unix.FRA_TABLE, table))
			continue
		}
		route := newRequest(unix.RTM_DELROUTE, 0, routeHeader(f, 0, unix.RT_TABLE_UNSPEC, 0, unix.RT_SCOPE_NOWHERE, unix.RTN_UNICAST, 0)).u32(unix.RTA_TABLE, table)
		route.ignore = []unix.Errno{unix.ESRCH}
		out = append(out, delRule(f, markedNext, unix.FR_ACT_TO_TBL).u32(unix.FRA_FWMARK, uint32(mark)).u32(unix.FRA_TABLE, table),
			route, delNeighbour(m.link, n))
	}
	return out
}

// Close leaves what is there to the end of the namespace.
func (m *Marked) Close() { m.conn.close() }

func markedGateway(family uint8, mark uint16) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte{169, 254, byte(mark >> 8), byte(mark)})
	}
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: 'P', 9: 'A', 14: byte(mark >> 8), 15: byte(mark)})
}

// ruleHeader is a struct fib_rule_hdr.
func ruleHeader(family, action uint8) []byte {
	b := make([]byte, 12)
	b[0], b[7] = family, action
	return b
}

func newRule(family uint8, priority uint32, action uint8) *request {
	r := newRequest(unix.RTM_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ruleHeader(family, action)).u32(unix.FRA_PRIORITY, priority)
	r.ignore = []unix.Errno{unix.EEXIST}
	return r
}

func delRule(family uint8, priority uint32, action uint8) *request {
	r := newRequest(unix.RTM_DELRULE, 0, ruleHeader(family, action)).u32(unix.FRA_PRIORITY, priority)
	r.ignore = []unix.Errno{unix.ENOENT, unix.ESRCH, unix.EAFNOSUPPORT}
	return r
}
