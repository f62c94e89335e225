package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

// route is an entry of a routing table as the kernel tells it.
type route struct {
	destination netip.Prefix
	table       int
	kind        uint8
	hops        []hop
	// raw is the message, with which the route can be made again.
	raw []byte
}

type hop struct {
	gateway netip.Addr
	link    int
	onlink  bool
}

// routeHeader is a struct rtmsg.
func routeHeader(family, bits, table, protocol, scope, kind uint8, flags uint32) []byte {
	b := make([]byte, unix.SizeofRtMsg)
	b[0], b[1], b[4], b[5], b[6], b[7] = family, bits, table, protocol, scope, kind
	binary.NativeEndian.PutUint32(b[8:], flags)
	return b
}

func (r *request) route(x network.Route, link int) *request {
	if x.Destination.Bits() > 0 {
		r.attr(unix.RTA_DST, x.Destination.Masked().Addr().AsSlice())
	}
	if x.Gateway.IsValid() {
		r.attr(unix.RTA_GATEWAY, x.Gateway.AsSlice())
	}
	return r.u32(unix.RTA_OIF, uint32(link))
}

func addRoute(x network.Route, link int) *request {
	scope, flags := uint8(unix.RT_SCOPE_UNIVERSE), uint32(0)
	if !x.Gateway.IsValid() && x.Destination.Addr().Is4() {
		scope = unix.RT_SCOPE_LINK
	}
	if x.Onlink {
		flags = unix.RTNH_F_ONLINK
	}
	h := routeHeader(family(x.Destination.Addr()), uint8(x.Destination.Bits()), unix.RT_TABLE_MAIN, ours, scope, unix.RTN_UNICAST, flags)
	return newRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, h).route(x, link)
}

func delRoute(x network.Route, link int) *request {
	h := routeHeader(family(x.Destination.Addr()), uint8(x.Destination.Bits()), unix.RT_TABLE_MAIN, 0, unix.RT_SCOPE_NOWHERE, unix.RTN_UNICAST, 0)
	r := newRequest(unix.RTM_DELROUTE, 0, h).route(x, link)
	r.ignore = []unix.Errno{unix.ESRCH}
	return r
}

// routes lists the unicast routes of a table (0: of all but the kernel's own of local addresses) that lead through a link
// (0: through any).
func (c *conn) routes(table uint8, link int) ([]route, error) {
	var out []route
	for _, f := range []uint8{unix.AF_INET, unix.AF_INET6} {
		r := newRequest(unix.RTM_GETROUTE, 0, routeHeader(f, 0, table, 0, 0, 0, 0))
		if link != 0 {
			r.u32(unix.RTA_OIF, uint32(link))
		}
		r.ignore = []unix.Errno{unix.ENOENT} // a namespace without any route has no table
		part, err := list(c, r, parseRoute)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, x := range part {
			if x.kind != unix.RTN_UNICAST || x.table == unix.RT_TABLE_LOCAL || (table != 0 && x.table != int(table)) {
				continue
			}
			if link == 0 || x.through(link) {
				out = append(out, x)
			}
		}
	}
	return out, nil
}

func (x route) through(link int) bool {
	for _, h := range x.hops {
		if h.link == link {
			return true
		}
	}
	return false
}

func parseRoute(body []byte) (route, bool) {
	if len(body) < unix.SizeofRtMsg {
		return route{}, false
	}
	const cached = 0x200 // RTM_F_CLONED
	flags := number32(body[8:])
	if flags&cached != 0 {
		return route{}, false
	}
	x := route{table: int(body[4]), kind: body[7], raw: append([]byte(nil), body...)}
	to := netip.IPv4Unspecified()
	if body[0] == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	one := hop{onlink: flags&unix.RTNH_F_ONLINK != 0}
	for kind, v := range attributes(body[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			to, _ = netip.AddrFromSlice(v)
		case unix.RTA_TABLE:
			x.table = int(number32(v))
		case unix.RTA_MULTIPATH:
			x.hops = parseHops(v)
		default:
			one.attribute(kind, v)
		}
	}
	if x.hops == nil {
		x.hops = []hop{one}
	}
	x.destination = netip.PrefixFrom(to, int(body[1]))
	return x, x.destination.IsValid()
}

func (h *hop) attribute(kind int, v []byte) {
	switch kind {
	case unix.RTA_OIF:
		h.link = int(number32(v))
	case unix.RTA_GATEWAY:
		h.gateway, _ = netip.AddrFromSlice(v)
	case unix.RTA_VIA: // a gateway of the other family: its family, then the address
		if len(v) > 2 {
			h.gateway, _ = netip.AddrFromSlice(v[2:])
		}
	}
}

// parseHops reads the struct rtnexthops of a route with several next hops.
func parseHops(b []byte) []hop {
	var out []hop
	for len(b) >= unix.SizeofRtNexthop {
		length := int(number16(b))
		if length < unix.SizeofRtNexthop || length > len(b) {
			break
		}
		h := hop{onlink: b[2]&unix.RTNH_F_ONLINK != 0, link: int(number32(b[4:]))}
		for kind, v := range attributes(b[unix.SizeofRtNexthop:length]) {
			if kind != unix.RTA_OIF {
				h.attribute(kind, v)
			}
		}
		out = append(out, h)
		b = b[min(align(length), len(b)):]
	}
	return out
}

// lookup asks which entry an address would take; ok is false if none.
func (c *conn) lookup(a netip.Addr) (x route, ok bool, err error) {
	const matched = 0x2000 // RTM_F_FIB_MATCH: the entry, not what becomes of it
	h := routeHeader(family(a), uint8(a.BitLen()), 0, 0, 0, 0, matched)
	r := newRequest(unix.RTM_GETROUTE, 0, h).attr(unix.RTA_DST, a.AsSlice())
	r.ignore = []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH}
	r.reply = func(body []byte) { x, ok = parseRoute(body) }
	if err := c.do(r); err != nil {
		return route{}, false, fmt.Errorf("look up the route to %s: %w", a, err)
	}
	return x, ok, nil
}
