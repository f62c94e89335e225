package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

const (
	// gatewayWait is how long a gateway has to answer on the bridge.
	gatewayWait     = time.Second
	gatewayInterval = 100 * time.Millisecond
)

// moved is what an interface had before its addresses moved to a bridge, in the kernel's own words: all that can be said
// again, also what nobody here knows of.
type moved struct {
	Parent, Bridge string
	// Master is the bridge that the parent was a port of already; empty if none.
	Master            string
	Addresses, Routes [][]byte
}

// move carries out network.MoveAddresses. What it leaves is all or nothing: if it dies in between, the next Open puts
// everything back.
func (n *Network) move(op network.MoveAddresses) error {
	m, err := n.capture(op)
	if err != nil {
		return err
	}
	j, err := n.begin(m)
	if err != nil {
		return err
	}
	defer j.close()
	asked, err := n.reaches(op.Parent, op)
	if err != nil {
		return err
	}
	err = n.forward(m)
	if err == nil && asked {
		var there bool
		if there, err = n.reaches(op.Bridge, op); err == nil && !there {
			err = fmt.Errorf("the gateway %s answers on %s, but did not within %s on %s; all was put back. Look for a switch that accepts one hardware address per port, or use another parent",
				op.Gateway, op.Parent, gatewayWait, op.Bridge)
		}
	}
	if err != nil {
		if failed := n.back(m); failed != nil {
			// The journal stays: the next Open tries again.
			return errors.Join(err, fmt.Errorf("put the addresses of %s back: %w", op.Parent, failed))
		}
		return errors.Join(err, j.end())
	}
	if err := j.end(); err != nil {
		return err
	}
	return n.announceHost(op)
}

// announceHost tells neighbours that the host's addresses have a new hardware address.
func (n *Network) announceHost(op network.MoveAddresses) error {
	b, err := n.host.link(op.Bridge)
	if err != nil {
		return err
	}
	for _, p := range op.Addresses {
		if err := n.announce(b.index, b.MAC, p.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// capture reads what the parent has, which must be what was planned with.
func (n *Network) capture(op network.MoveAddresses) (moved, error) {
	m := moved{Parent: op.Parent, Bridge: op.Bridge}
	l, err := n.host.link(op.Parent)
	if err != nil {
		return m, err
	}
	if l.master != 0 {
		master, err := n.host.linkAt(l.master)
		if err != nil {
			return m, err
		}
		m.Master = master.Name
	}
	addresses, err := n.host.addresses(l.index)
	if err != nil {
		return m, err
	}
	var have []netip.Prefix
	for _, a := range addresses {
		if a.Addr().IsLinkLocalUnicast() {
			continue
		}
		have, m.Addresses = append(have, a.Prefix), append(m.Addresses, a.raw)
	}
	if !sameSet(have, op.Addresses) {
		return m, fmt.Errorf("interface %s has the addresses %v now, but %v when this was planned; try again", op.Parent, have, op.Addresses)
	}
	routes, err := n.host.routes(unix.RT_TABLE_UNSPEC, l.index)
	if err != nil {
		return m, err
	}
	// Gateways must be reachable when the routes through them are made.
	slices.SortStableFunc(routes, func(x, y route) int { return int(flag(x.far())) - int(flag(y.far())) })
	for _, x := range routes {
		if !x.destination.Addr().IsLinkLocalUnicast() && !x.destination.Addr().IsMulticast() {
			m.Routes = append(m.Routes, x.raw)
		}
	}
	return m, nil
}

func (x route) far() bool {
	return slices.ContainsFunc(x.hops, func(h hop) bool { return h.gateway.IsValid() })
}

func sameSet(a, b []netip.Prefix) bool {
	in := func(all []netip.Prefix) func(netip.Prefix) bool {
		return func(p netip.Prefix) bool { return !slices.Contains(all, p) }
	}
	return !slices.ContainsFunc(a, in(b)) && !slices.ContainsFunc(b, in(a))
}

// forward makes the bridge have everything before the parent loses it, so that what others hang on an address (routes
// with a preferred source) stays.
func (n *Network) forward(m moved) error {
	parent, bridge, err := n.ends(m)
	if err != nil {
		return err
	}
	return n.host.do(m.forward(parent, bridge)...)
}

func (m moved) forward(parent, bridge int) []*request {
	out := []*request{setMaster(m.Parent, bridge)}
	for _, raw := range m.Addresses {
		out = append(out, sayAddress(raw, bridge, true))
	}
	for _, raw := range m.Routes {
		out = append(out, sayRoute(unix.RTM_NEWROUTE, raw, parent, bridge))
	}
	for _, raw := range m.Routes {
		out = append(out, sayRoute(unix.RTM_DELROUTE, raw, parent, parent))
	}
	return append(out, takeAway(m.Addresses, parent)...)
}

// back makes the parent have everything again before the bridge loses it.
func (n *Network) back(m moved) error {
	parent, bridge, err := n.ends(m)
	if parent == 0 || (err != nil && !gone(err)) {
		return err
	}
	master := 0
	if m.Master != "" {
		l, err := n.host.link(m.Master)
		if err != nil && !gone(err) {
			return err
		}
		master = l.index
	}
	out := []*request{setMaster(m.Parent, master)}
	for _, raw := range m.Addresses {
		out = append(out, sayAddress(raw, parent, false))
	}
	for _, raw := range m.Routes {
		out = append(out, sayRoute(unix.RTM_NEWROUTE, raw, parent, parent))
	}
	if bridge != 0 {
		for _, raw := range m.Routes {
			out = append(out, sayRoute(unix.RTM_DELROUTE, raw, parent, bridge))
		}
		out = append(out, takeAway(m.Addresses, bridge)...)
	}
	return n.host.do(out...)
}

func (n *Network) ends(m moved) (parent, bridge int, err error) {
	p, err := n.host.link(m.Parent)
	if err != nil {
		return 0, 0, err
	}
	b, err := n.host.link(m.Bridge)
	return p.index, b.index, err
}

func takeAway(addresses [][]byte, link int) []*request {
	var out []*request
	for _, raw := range addresses {
		if a, ok := parseAddress(raw); ok {
			out = append(out, delAddress(link, a.Prefix))
		}
	}
	return out
}

// again makes a request of a message of the kernel: the fixed part of this length, and those attributes that f keeps.
func again(kind uint16, flags int, raw []byte, header int, f func(kind int, v []byte) (keep []byte)) *request {
	r := newRequest(kind, flags, slices.Clone(raw[:header]))
	for kind, v := range attributes(raw[header:]) {
		if v = f(kind, v); v != nil {
			r.attr(kind, v)
		}
	}
	return r
}

// sayAddress makes an address of a link as it was on another, or on the same one. On another it has that one's label and
// stays: whoever renewed it on the first will not do so there.
func sayAddress(raw []byte, link int, other bool) *request {
	const kernels = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED | unix.IFA_F_DEPRECATED | unix.IFA_F_PERMANENT | unix.IFA_F_TEMPORARY | unix.IFA_F_SECONDARY
	r := again(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, raw, unix.SizeofIfAddrmsg, func(kind int, v []byte) []byte {
		switch {
		case other && (kind == unix.IFA_LABEL || kind == unix.IFA_CACHEINFO):
			return nil
		case kind == unix.IFA_FLAGS && len(v) == 4:
			flags := number32(v) &^ kernels
			if other && raw[0] == unix.AF_INET6 {
				flags |= unix.IFA_F_NODAD
			}
			return binary.NativeEndian.AppendUint32(nil, flags)
		}
		return v
	})
	fixed := r.b[unix.NLMSG_HDRLEN:]
	fixed[2] = 0 // its flags are those of the attribute
	binary.NativeEndian.PutUint32(fixed[4:], uint32(link))
	return r
}

// sayRoute makes or removes a route with the link to instead of from.
func sayRoute(kind uint16, raw []byte, from, to int) *request {
	swap := func(v []byte) {
		if int(number32(v)) == from {
			binary.NativeEndian.PutUint32(v, uint32(to))
		}
	}
	flags := 0
	ignore := []unix.Errno{unix.ESRCH, unix.ENOENT}
	if kind == unix.RTM_NEWROUTE {
		flags, ignore = unix.NLM_F_CREATE|unix.NLM_F_APPEND, []unix.Errno{unix.EEXIST}
	}
	r := again(kind, flags, raw, unix.SizeofRtMsg, func(kind int, v []byte) []byte {
		v = slices.Clone(v)
		switch {
		case kind == unix.RTA_CACHEINFO:
			return nil
		case kind == unix.RTA_OIF && len(v) == 4:
			swap(v)
		case kind == unix.RTA_MULTIPATH:
			for b := v; len(b) >= unix.SizeofRtNexthop; {
				length := int(number16(b))
				if length < unix.SizeofRtNexthop || length > len(b) {
					break
				}
				b[2] &= unix.RTNH_F_ONLINK
				swap(b[4:8])
				b = b[min(align(length), len(b)):]
			}
		}
		return v
	})
	fixed := r.b[unix.NLMSG_HDRLEN:]
	binary.NativeEndian.PutUint32(fixed[8:], number32(fixed[8:])&unix.RTNH_F_ONLINK)
	r.ignore = ignore
	return r
}

// reaches tells whether the gateway answers on a link; false, too, if there is none to ask for.
func (n *Network) reaches(name string, op network.MoveAddresses) (bool, error) {
	if !op.Gateway.IsValid() {
		return false, nil
	}
	l, err := n.host.link(name)
	if err != nil {
		return false, err
	}
	a, err := n.ask(l)
	if err != nil {
		return false, err
	}
	defer a.close()
	sender := netip.IPv4Unspecified()
	for _, p := range op.Addresses {
		if p.Contains(op.Gateway) {
			sender = p.Addr()
		}
	}
	frame := arpRequest(l.MAC, l.MAC, sender, op.Gateway)
	if op.Gateway.Is6() {
		frame = solicit(l.MAC, l.MAC, netip.IPv6Unspecified(), op.Gateway)
	}
	for end := time.Now().Add(gatewayWait); time.Now().Before(end); {
		// A link that just came up refuses frames for a moment.
		if err := a.send(frame, l.index); err != nil && !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENOBUFS) {
			return false, fmt.Errorf("ask %s for the gateway %s: %w", name, op.Gateway, err)
		}
		_, ok, err := a.answer(time.Now().Add(gatewayInterval), []netip.Addr{op.Gateway})
		if errors.Is(err, unix.ENETDOWN) {
			err = nil
		}
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

// recover puts back what executors that died left half moved.
func (n *Network) recover() error {
	if n.parts.State == "" {
		return nil
	}
	paths, err := n.journals()
	if err != nil {
		return err
	}
	for _, path := range paths {
		j, m, err := n.resume(path)
		if err != nil {
			return err
		}
		if j == nil {
			continue
		}
		err = n.back(m)
		if gone(err) {
			err = nil // the interface itself is not there any more
		}
		if err == nil {
			err = j.end()
		}
		j.close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("put the addresses of %s back, which an executor that died began to move to %s: %w; do it by hand and remove %s", m.Parent, m.Bridge, err, path)
		}
	}
	return nil
}
