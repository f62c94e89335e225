package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"padis.io/padis/executor/network"
)

const (
	// ours marks the addresses and routes that we made, as a number of its own among the protocols of /etc/iproute2/rt_protos
	// and rt_addrprotos.
	ours = 80

	addressOrigin = 11 // IFA_PROTO, since Linux 5.18; others do not know it and do not mind
)

// address is an address of a link as the kernel tells it.
type address struct {
	netip.Prefix
	link   int
	origin uint8
	// raw is the message, with which the address can be made again.
	raw []byte
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// addAddress configures an address or sets anew how long it is valid. Duplicate address detection is not left to the
// kernel: whoever wants it has probed before, and an address that waits for it does not answer.
func addAddress(link int, p netip.Prefix, valid time.Duration) (*request, error) {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1] = family(p.Addr()), uint8(p.Bits())
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	r := newRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, b)
	raw := p.Addr().AsSlice()
	r.attr(unix.IFA_LOCAL, raw).attr(unix.IFA_ADDRESS, raw).u8(addressOrigin, ours)
	if p.Addr().Is4() {
		if p.Bits() < 31 {
			r.attr(unix.IFA_BROADCAST, broadcast(p))
		}
	} else {
		r.u32(unix.IFA_FLAGS, unix.IFA_F_NODAD)
	}
	seconds := uint32(math.MaxUint32)
	if valid != 0 {
		whole := valid / time.Second
		if whole < 1 || whole >= math.MaxUint32 {
			return nil, fmt.Errorf("%s cannot be valid for %s; a lease takes at least a second", p, valid)
		}
		seconds = uint32(whole)
	}
	// Preferred and valid (struct ifa_cacheinfo); the kernel fills in the rest.
	r.attr(unix.IFA_CACHEINFO, binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, seconds), seconds), 0))
	return r, nil
}

// broadcast is the last address of an IPv4 subnet.
func broadcast(p netip.Prefix) []byte {
	b := p.Addr().As4()
	v := binary.BigEndian.Uint32(b[:]) | math.MaxUint32>>p.Bits()
	return binary.BigEndian.AppendUint32(nil, v)
}

func delAddress(link int, p netip.Prefix) *request {
	b := make([]byte, unix.SizeofIfAddrmsg)
	b[0], b[1] = family(p.Addr()), uint8(p.Bits())
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	r := newRequest(unix.RTM_DELADDR, 0, b).attr(unix.IFA_LOCAL, p.Addr().AsSlice()).attr(unix.IFA_ADDRESS, p.Addr().AsSlice())
	r.ignore = []unix.Errno{unix.EADDRNOTAVAIL}
	return r
}

// addresses lists those of a link, of all links if it is 0.
func (c *conn) addresses(link int) ([]address, error) {
	b := make([]byte, unix.SizeofIfAddrmsg)
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	all, err := list(c, newRequest(unix.RTM_GETADDR, 0, b), parseAddress)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := all[:0]
	for _, a := range all {
		if link == 0 || a.link == link { // kernels before 4.20 do not filter
			out = append(out, a)
		}
	}
	return out, nil
}

func parseAddress(body []byte) (address, bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return address{}, false
	}
	a := address{link: int(number32(body[4:])), raw: append([]byte(nil), body...)}
	var ip, local netip.Addr
	for kind, v := range attributes(body[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_ADDRESS:
			ip, _ = netip.AddrFromSlice(v)
		case unix.IFA_LOCAL: // the own end of a point-to-point link
			local, _ = netip.AddrFromSlice(v)
		case addressOrigin:
			if len(v) > 0 {
				a.origin = v[0]
			}
		}
	}
	if local.IsValid() {
		ip = local
	}
	a.Prefix = netip.PrefixFrom(ip, int(body[1]))
	return a, a.Prefix.IsValid()
}

// addNeighbour makes a permanent entry of a neighbour table.
func addNeighbour(link int, n network.Neighbour) *request {
	r := newRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, neighbourHeader(family(n.Address), link, unix.NUD_PERMANENT, 0))
	return r.attr(unix.NDA_DST, n.Address.AsSlice()).attr(unix.NDA_LLADDR, n.MAC[:])
}

func delNeighbour(link int, n network.Neighbour) *request {
	r := newRequest(unix.RTM_DELNEIGH, 0, neighbourHeader(family(n.Address), link, 0, 0)).attr(unix.NDA_DST, n.Address.AsSlice())
	r.ignore = []unix.Errno{unix.ENOENT}
	return r
}

// addForward makes an entry of a tunnel's table and, for a hardware address, the entry of the bridge that leads to the
// tunnel: without learning nobody else would make it, and a port that unknown frames do not leave by would stay silent.
// What is for all has several ends, one entry each.
func addForward(link int, f network.Forward) *request {
	flags, to := unix.NLM_F_CREATE|unix.NLM_F_REPLACE, uint8(unix.NTF_SELF|unix.NTF_MASTER)
	if f.MAC == (network.MAC{}) {
		flags, to = unix.NLM_F_CREATE|unix.NLM_F_APPEND, unix.NTF_SELF
	}
	// Static (bridge(8)): for the bridge "permanent" would mean itself.
	r := newRequest(unix.RTM_NEWNEIGH, flags, neighbourHeader(unix.AF_BRIDGE, link, unix.NUD_NOARP|unix.NUD_REACHABLE, to))
	r.ignore = []unix.Errno{unix.EEXIST}
	return r.attr(unix.NDA_LLADDR, f.MAC[:]).attr(unix.NDA_DST, f.Endpoint.AsSlice())
}

func delForward(link int, f network.Forward) []*request {
	self := newRequest(unix.RTM_DELNEIGH, 0, neighbourHeader(unix.AF_BRIDGE, link, 0, unix.NTF_SELF))
	self.attr(unix.NDA_LLADDR, f.MAC[:]).attr(unix.NDA_DST, f.Endpoint.AsSlice())
	self.ignore = []unix.Errno{unix.ENOENT}
	if f.MAC == (network.MAC{}) {
		return []*request{self}
	}
	master := newRequest(unix.RTM_DELNEIGH, 0, neighbourHeader(unix.AF_BRIDGE, link, 0, unix.NTF_MASTER)).attr(unix.NDA_LLADDR, f.MAC[:])
	master.ignore = []unix.Errno{unix.ENOENT, unix.EINVAL, unix.EOPNOTSUPP}
	return []*request{self, master}
}

// neighbourHeader is a struct ndmsg.
func neighbourHeader(family uint8, link int, state uint16, flags uint8) []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(link))
	binary.NativeEndian.PutUint16(b[8:], state)
	b[10] = flags
	return b
}

// entry is one of a neighbour or forwarding table.
type entry struct {
	link  int
	state uint16
	flags uint8
	mac   network.MAC
	dst   netip.Addr
}

func parseEntry(body []byte) (entry, bool) {
	if len(body) < unix.SizeofNdMsg {
		return entry{}, false
	}
	e := entry{link: int(number32(body[4:])), state: number16(body[8:]), flags: body[10]}
	for kind, v := range attributes(body[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_LLADDR:
			copy(e.mac[:], v)
		case unix.NDA_DST:
			e.dst, _ = netip.AddrFromSlice(v)
		}
	}
	return e, true
}

// neighbours lists the permanent ones of a link.
func (c *conn) neighbours(link int) ([]network.Neighbour, error) {
	r := newRequest(unix.RTM_GETNEIGH, 0, neighbourHeader(unix.AF_UNSPEC, 0, 0, 0)).u32(unix.NDA_IFINDEX, uint32(link))
	all, err := list(c, r, parseEntry)
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	var out []network.Neighbour
	for _, e := range all {
		if e.link == link && e.state&unix.NUD_PERMANENT != 0 && e.dst.IsValid() {
			out = append(out, network.Neighbour{Address: e.dst, MAC: e.mac})
		}
	}
	return out, nil
}

// forwards lists the static entries of a tunnel. One that the bridge does not lead to the tunnel is not there.
func (c *conn) forwards(l link) ([]network.Forward, error) {
	all, err := list(c, newRequest(unix.RTM_GETNEIGH, 0, neighbourHeader(unix.AF_BRIDGE, l.index, 0, 0)), parseEntry)
	if err != nil {
		return nil, fmt.Errorf("list the forwarding table of %s: %w", l.Name, err)
	}
	led := map[network.MAC]bool{{}: true}
	for _, e := range all {
		if e.link == l.index && e.flags&unix.NTF_SELF == 0 {
			led[e.mac] = true
		}
	}
	var out []network.Forward
	for _, e := range all {
		if e.link == l.index && e.flags&unix.NTF_SELF != 0 && e.state&unix.NUD_NOARP != 0 && e.dst.IsValid() && (led[e.mac] || l.master == 0) {
			out = append(out, network.Forward{MAC: e.mac, Endpoint: e.dst})
		}
	}
	return out, nil
}
